"""Low-rank increments of matrices (LoRA, Hu et al. 2021), of which every period appends one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn


class Adapter(nn.Module):
    """A (inputs, r) and B (r, outputs) of one matrix."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.down = nn.Parameter(torch.empty(inputs, rank))
        self.up = nn.Parameter(torch.empty(rank, outputs))

    def reset_parameters(self) -> None:
        """A after Xavier, B zero: a new adapter changes nothing until it is trained."""
        nn.init.xavier_uniform_(self.down)
        nn.init.zeros_(self.up)


class Adapters(nn.Module):
    """Increments s * sum_p A_p B_p of some matrices, p counting the periods that have appended one.

    Args:
        sizes: inputs and outputs of every matrix, by its name.
        rank: of each adapter.
        scale: s.
    """

    like: Tensor

    def __init__(self, sizes: Mapping[str, tuple[int, int]], *, rank: int, scale: float) -> None:
        super().__init__()
        self.sizes = dict(sizes)
        self.rank = rank
        self.scale = scale
        self.periods = nn.ModuleList()
        self.register_buffer("like", torch.empty(0), persistent=False)  # lies where new adapters belong

    def __len__(self) -> int:
        return len(self.periods)

    def append(self) -> None:
        """An adapter for the period that begins; those of earlier periods are frozen."""
        self.requires_grad_(False)
        period = self._period()
        for adapter in period.values():
            cast(Adapter, adapter).reset_parameters()
        self.periods.append(period.to(self.like.device))

    def increased(self, weight: Tensor, *, name: str) -> Tensor:
        """W (outputs, inputs) with its increment, W itself where there are no adapters."""
        if not len(self):
            return weight
        down, up = self._factors(name)
        return weight + self.scale * (down @ up).t()

    def before(self, weight: Tensor, *, name: str) -> Tensor:
        """Weight (M, D) of the linear map that equals x + s x sum_p A_p B_p followed by `weight` (M, D)."""
        if not len(self):
            return weight
        down, up = self._factors(name)
        return weight + self.scale * (weight @ up.t()) @ down.t()

    def reset_parameters(self) -> None:
        """No adapters, as at first."""
        self.periods = nn.ModuleList()

    def _factors(self, name: str) -> tuple[Tensor, Tensor]:
        """All periods' A side by side (inputs, periods * r), and their B (periods * r, outputs)."""
        found = [cast(Adapter, cast(nn.ModuleDict, period)[name]) for period in self.periods]
        return torch.cat([adapter.down for adapter in found], dim=1), torch.cat([adapter.up for adapter in found])

    def _period(self) -> nn.ModuleDict:
        return nn.ModuleDict({name: Adapter(*size, self.rank) for name, size in self.sizes.items()})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Makes room for as many adapters as are stored; they are loaded as children of this module."""
        start = f"{prefix}periods."
        stored = {name.removeprefix(start).partition(".")[0] for name in state_dict if name.startswith(start)}
        self.periods = nn.ModuleList(self._period() for _ in stored).to(self.like.device)
        super()._load_from_state_dict(state_dict, prefix, *args)


class AdaptedLinear(nn.Linear):
    """A linear layer whose `weight` is read with its increment; its parameters stay its own, under their names.

    `torch.nn.utils.parametrize` would rename them, and could not draw them anew.
    """

    increased: Callable[[Tensor], Tensor]

    @staticmethod
    def take_over(layer: nn.Linear, increased: Callable[[Tensor], Tensor]) -> None:
        """Make a layer one whose weight is read as `increased` gives it."""
        layer.__class__ = AdaptedLinear
        cast(AdaptedLinear, layer).increased = increased

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # only read, as all code does that calls a layer
        own = self._parameters["weight"]
        assert own is not None
        return self.increased(own)

    def reset_parameters(self) -> None:
        fresh = nn.Linear(self.in_features, self.out_features, bias=self.bias is not None)
        self.load_state_dict(fresh.state_dict())
