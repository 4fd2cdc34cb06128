"""Where a training stands between two batches: all that changes while it goes on, as tensors and a document."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Epoch:
    """Losses of one pass over the training windows, and what is watched of the model after it."""

    index: int
    loss: float
    validation: float
    seconds: float
    watched: Mapping[str, float] = field(default_factory=dict)


@dataclass
class State:
    """A training in progress.

    Torch's global generators are part of it, those of Python and NumPy are not: nothing here draws from them.

    Attributes:
        kept: trained parameters and buffers, changed in place.
        generators: of the order of the windows, as `shuffle`, and any other that the training draws from.
        losses: of the batches that are done in the epoch at hand.
        drawn: the state of `shuffle` before the epoch's order was drawn; None between epochs.
    """

    kept: Sequence[Tensor]
    optimiser: torch.optim.Optimizer
    generators: Mapping[str, torch.Generator]
    history: list[Epoch] = field(default_factory=list)
    losses: list[Tensor] = field(default_factory=list)
    drawn: Tensor | None = None
    best: int = 0
    best_error: float = math.inf
    best_kept: list[Tensor] = field(default_factory=list)
    begin: float = field(default_factory=time.perf_counter)
    tick: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        self.remember()

    @property
    def epoch(self) -> int:
        """Epochs that are done."""
        return len(self.history)

    @property
    def place(self) -> str:
        return f"epoch {self.epoch + 1} after {len(self.losses)} batches"

    def is_over(self, *, epochs: int, patience: int) -> bool:
        """Whether all epochs are done, or the error has not improved for more than `patience`."""
        return self.epoch >= epochs or self.epoch - self.best > patience

    def order(self, count: int) -> Tensor:
        """The order of the epoch's windows (count,): drawn, or where the epoch has begun already, drawn again."""
        shuffle = self.generators["shuffle"]
        if self.drawn is None:
            self.drawn, self.tick = shuffle.get_state(), time.perf_counter()
        else:
            shuffle.set_state(self.drawn)
        return torch.randperm(count, generator=shuffle)

    def close(self, epoch: Epoch) -> None:
        """End an epoch; the weights are remembered if no earlier error was lower."""
        self.history.append(epoch)
        self.losses, self.drawn = [], None
        if epoch.validation <= self.best_error:
            self.best, self.best_error = epoch.index, epoch.validation
            self.remember()

    def remember(self) -> None:
        self.best_kept = [part.detach().clone() for part in self.kept]

    def take_best(self) -> None:
        """Bring the weights back to those of the best epoch."""
        _copy(self.kept, self.best_kept)

    def tensors(self) -> dict[str, Tensor]:
        found = {f"kept.{place}": part for place, part in enumerate(self.kept)}
        found |= {f"best.{place}": part for place, part in enumerate(self.best_kept)}
        found |= {f"generator.{name}": one.get_state() for name, one in self.generators.items()}
        found["generator.torch"] = torch.get_rng_state()
        if self._device.type == "cuda":
            found["generator.cuda"] = torch.cuda.get_rng_state(self._device)
        if self.drawn is not None:
            found["drawn"] = self.drawn
        if self.losses:
            found["losses"] = torch.stack(self.losses)
        for place, moments in self.optimiser.state_dict()["state"].items():
            found |= {f"optimiser.{place}.{name}": value for name, value in moments.items()}
        return found

    def document(self) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "history": [asdict(epoch) for epoch in self.history],
            "best": self.best,
            "best_error": self.best_error,
            "seconds": now - self.begin,
            "seconds_of_epoch": now - self.tick,
        }

    def load(self, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> None:
        """Bring everything to what `tensors` and `document` said."""
        now = time.perf_counter()
        self.begin, self.tick = now - document["seconds"], now - document["seconds_of_epoch"]
        self.history = [Epoch(**epoch) for epoch in document["history"]]
        self.best, self.best_error = document["best"], document["best_error"]
        self.drawn = tensors.get("drawn")
        self.losses = list(tensors["losses"].to(self._device)) if "losses" in tensors else []
        _copy(self.best_kept, _listed("best", tensors))
        _copy(self.kept, _listed("kept", tensors))
        self._load_moments(tensors)
        for name, generator in self.generators.items():
            generator.set_state(tensors[f"generator.{name}"])
        torch.set_rng_state(tensors["generator.torch"])
        if "generator.cuda" in tensors:
            torch.cuda.set_rng_state(tensors["generator.cuda"], self._device)

    @property
    def _device(self) -> torch.device:
        return self.kept[0].device

    def _load_moments(self, tensors: Mapping[str, Tensor]) -> None:
        """The optimiser's moments, in the layout in memory that it would have given them."""
        owners = [owner for group in self.optimiser.param_groups for owner in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in tensors.items():
            if name.startswith("optimiser."):
                _, place, kind = name.split(".", 2)
                like = owners[int(place)]
                if value.shape == like.shape:
                    value = torch.zeros_like(like, memory_format=torch.preserve_format).copy_(value)
                moments.setdefault(int(place), {})[kind] = value
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": moments})


def _listed(prefix: str, tensors: Mapping[str, Tensor]) -> list[Tensor]:
    count = sum(name.startswith(f"{prefix}.") for name in tensors)
    return [tensors[f"{prefix}.{place}"] for place in range(count)]


def _copy(into: Sequence[Tensor], saved: Sequence[Tensor]) -> None:
    with torch.no_grad():
        for part, value in zip(into, saved, strict=True):
            part.copy_(value)
