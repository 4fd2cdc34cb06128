"""How much training on some nodes would change the error of every other one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.strategies.base import Network

WINDOWS = 64  # that stand for the period
TOGETHER = 8  # of them in a batch
DAMPING = 0.1  # of the mean Fisher information, so that weights that hardly matter do not decide
STEP = 1e-3  # of the length of all weights


def influences(
    forecaster: Forecaster, network: Network, sources: Tensor, *, generator: torch.Generator, windows: int = WINDOWS
) -> Tensor:
    """g_i^T H^-1 g of every node i, (N,): positive where a step that helps the sources helps the node too.

    The influence function (Koh and Liang, ICML 2017, equation 2) by which STKEC chooses nodes: g_i is the gradient of
    a node's mean squared error, g that of the sources', and H the diagonal of the Fisher information of the whole
    network plus a damping, over windows drawn at random. No gradient of a single node is taken: the errors of all
    nodes are compared after a small step along H^-1 g and one against it.

    Args:
        sources: rows of the nodes to train on.
    """
    starts = network.train.starts
    drawn = torch.randperm(len(starts), generator=generator)[:windows].sort().values
    batches = starts[drawn.to(starts.device)].split(TOGETHER)
    parameters = [part for part in forecaster.parameters() if part.requires_grad]
    with as_in_evaluation(forecaster):
        direction = _direction(forecaster, network, sources.to(starts.device), batches, parameters)
        return _slopes(forecaster, network, direction, batches, parameters)


def _direction(
    forecaster: Forecaster,
    network: Network,
    sources: Tensor,
    batches: Sequence[Tensor],
    parameters: Sequence[nn.Parameter],
) -> Tensor:
    """H^-1 g, all parameters in one vector."""

    def gradient(loss: Tensor) -> Tensor:
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
        return _vector(found)

    of_sources, squares = [], []
    for batch in batches:
        error, cells = _errors(forecaster, network, batch)
        of_sources.append(gradient(error[sources].sum() / cells[sources].sum().clamp(min=1)))
        squares.append(gradient(error.sum() / cells.sum().clamp(min=1)).square())
    fisher = torch.stack(squares).mean(0)
    damped = fisher + DAMPING * fisher.mean()
    return torch.where(damped > 0, torch.stack(of_sources).mean(0) / damped, 0.0)


def _slopes(
    forecaster: Forecaster,
    network: Network,
    direction: Tensor,
    batches: Sequence[Tensor],
    parameters: Sequence[nn.Parameter],
) -> Tensor:
    """Derivative of each node's mean squared error along a direction, (N,); 0 for a node without a target."""
    here = _vector(parameters).detach()
    length = direction.norm()
    step = STEP * here.norm() / torch.where(length > 0, length, 1.0)
    sides = []
    with torch.no_grad():
        for side in (step, -step):
            _move(parameters, here + side * direction)
            errors, cells = zip(*(_errors(forecaster, network, batch) for batch in batches), strict=True)
            sides.append(torch.stack(errors).sum(0) / torch.stack(cells).sum(0).clamp(min=1))
        _move(parameters, here)
    return (sides[0] - sides[1]) / (2 * step)


def _errors(forecaster: Forecaster, network: Network, batch: Tensor) -> tuple[Tensor, Tensor]:
    """Squared errors of each node, summed over the windows' observed targets, and how many those are: each (N,)."""
    window, target = network.train.windows.gather(batch)
    difference = (forecaster(window, network.graph) - target.values).double()
    return (difference.square() * target.observed).sum((0, 1)), target.observed.sum((0, 1))


def _vector(parts: Iterable[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def _move(parameters: Sequence[nn.Parameter], to: Tensor) -> None:
    for part, value in zip(parameters, to.split([part.numel() for part in parameters]), strict=True):
        part.copy_(value.view_as(part))
