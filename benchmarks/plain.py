"""The published method in its plain published form: the other side of every ratio.

Written from the specification (EAC, ICLR 2025, Appendix D, and what its public code does): a dense adjacency matrix,
`Conv1d` along the hidden axis, windows that are stored one by one and collated by a loader, AdamW, mean squared error
of raw readings, metrics from whole arrays. Nothing outside this folder uses it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

STEPS = 12


class PlainConv(nn.Module):
    """Dense row-normalised adjacency times features, neighbours and own node with weights of their own."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.neighbour = nn.Linear(inputs, outputs)
        self.own = nn.Linear(inputs, outputs, bias=False)

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        return self.neighbour(torch.matmul(adjacency, x)) + self.own(x)


class PlainEAC(nn.Module):
    """Backbone and prompts: 3,308 + rank * (N + 12) parameters."""

    def __init__(self, num_nodes: int, rank: int = 6, hidden: int = 64) -> None:
        super().__init__()
        self.gcn1 = PlainConv(STEPS, hidden)
        self.tcn = nn.Conv1d(1, 1, 3, padding=1)
        self.gcn2 = PlainConv(hidden, STEPS)
        self.fc = nn.Linear(STEPS, STEPS)
        self.rows = nn.Parameter(torch.empty(num_nodes, rank).uniform_(-0.1, 0.1))
        self.basis = nn.Parameter(torch.empty(rank, STEPS).uniform_(-0.1, 0.1))

    def forward(self, x: Tensor, adjacency: Tensor) -> Tensor:
        """(B, N, 12) -> (B, N, 12)."""
        batch, nodes, _ = x.shape
        hidden = torch.relu(self.gcn1(x + self.rows @ self.basis, adjacency))
        hidden = self.tcn(hidden.reshape(batch * nodes, 1, -1)).reshape(batch, nodes, -1)
        return self.fc(nn.functional.gelu(self.gcn2(hidden, adjacency) + x))

    def freeze(self) -> None:
        """Only the prompts learn, as in every period after the first."""
        self.requires_grad_(False)
        self.rows.requires_grad_()
        self.basis.requires_grad_()


class Samples(Dataset[tuple[Tensor, Tensor]]):
    """Windows cut and stored beforehand, as the published files hold them: x (S, 12, N) standardised, y (S, 12, N)."""

    def __init__(self, readings: NDArray[np.float32], steps: range) -> None:
        starts = np.arange(steps.start, steps.stop - 2 * STEPS)
        self.x = np.stack([readings[start : start + STEPS] for start in starts])
        self.y = np.stack([readings[start + STEPS : start + 2 * STEPS] for start in starts])
        total = self.x.astype(np.float64)
        self.x = ((self.x - total.mean()) / total.std()).astype(np.float32)

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, place: int) -> tuple[Tensor, Tensor]:
        return torch.from_numpy(self.x[place].T.copy()), torch.from_numpy(self.y[place].T.copy())


def batches(samples: Samples, size: int, order: Sequence[int] | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """(B, N, 12) inputs and targets, sample by sample through a loader."""
    yield from DataLoader(samples, batch_size=size, sampler=order)


def train_epoch(
    model: PlainEAC, adjacency: Tensor, samples: Samples, order: Sequence[int], size: int, rate: float = 0.03
) -> list[float]:
    """Loss of every batch of one epoch."""
    optimiser = torch.optim.AdamW([part for part in model.parameters() if part.requires_grad], lr=rate)
    losses = []
    for x, y in batches(samples, size, order):
        optimiser.zero_grad()
        loss = nn.functional.mse_loss(model(x, adjacency), y)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def validate(model: PlainEAC, adjacency: Tensor, samples: Samples, size: int) -> float:
    """Masked mean absolute error, batches weighing the same."""
    errors = []
    with torch.no_grad():
        for x, y in batches(samples, size):
            mask = y != 0
            errors.append(float((model(x, adjacency) - y).abs()[mask].mean()))
    return float(np.mean(errors))


def test(model: PlainEAC, adjacency: Tensor, samples: Samples, size: int) -> dict[str, list[float]]:
    """MAE, RMSE and MAPE over steps 1..h for every h, each from all forecasts kept in memory, zeros masked."""
    found, truth = [], []
    with torch.no_grad():
        for x, y in batches(samples, size):
            found.append(model(x, adjacency).numpy())
            truth.append(y.numpy())
    forecast, target = np.concatenate(found), np.concatenate(truth)
    scores: dict[str, list[float]] = {"mae": [], "rmse": [], "mape": []}
    for horizon in range(1, STEPS + 1):
        f, t = forecast[..., :horizon], target[..., :horizon]
        mask = (t != 0).astype(np.float32)
        mask /= mask.mean()
        with np.errstate(divide="ignore", invalid="ignore"):
            scores["mae"].append(float(np.nan_to_num(np.abs(f - t) * mask).mean(dtype=np.float64)))
            scores["rmse"].append(float(np.sqrt(np.nan_to_num((f - t) ** 2 * mask).mean(dtype=np.float64))))
            scores["mape"].append(float(np.nan_to_num(np.abs((f - t) / t) * mask).mean(dtype=np.float64)) * 100)
    return scores
