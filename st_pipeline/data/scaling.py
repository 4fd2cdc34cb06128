"""Standardisation: fitted on one slice of time, applied everywhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor

from st_pipeline.types import NodeSet

MIN_CELLS = 48  # a sensor with fewer training cells takes the network's mean
CONSTANT = 1e-3  # a sensor that varies less than this share of the usual deviation counts as constant
TINY = 1e-6  # a channel that varies less than this share of its mean says nothing

Transform = Literal["none", "sqrt", "log"]


@dataclass(frozen=True)
class Scaler:
    """z = (transform(x) - mean) / scale, per node and channel; the transform applies to the target alone.

    mean, scale: (N, C). Statistics of sensors that have left are kept by id in `others`, so that a model can be
    scored on an earlier network; `unsure` names the sensors whose own statistics this period could not give.
    """

    transform: Transform
    ids: tuple[str, ...]
    mean: Tensor
    scale: Tensor
    others: Mapping[str, tuple[Tensor, Tensor]]
    unsure: frozenset[str] = frozenset()

    @classmethod
    def fit(
        cls,
        values: Tensor,
        observed: Tensor,
        *,
        nodes: NodeSet,
        per: Literal["network", "sensor"],
        transform: Transform,
        enough: int = MIN_CELLS,
    ) -> Self:
        """Statistics of the observed cells of values (L, N, C); pass the training slice and nothing else.

        With `per: sensor` the target is standardised by each sensor's own statistics. A sensor with fewer than
        `enough` cells takes the network's mean, and like one that hardly varies the usual sensor's deviation.
        Further channels are standardised over the network; one that hardly varies has an infinite deviation, so that
        a model that could not learn from it never hears of it.
        """
        x = torch.cat([_forward(values[..., :1], transform), values[..., 1:]], dim=-1).double()
        seen = observed.double()
        middle, spread = _moments(x, seen, dims=(0, 1))  # each (C,)
        varies = spread > TINY * middle.abs()
        silent = torch.full_like(spread, torch.inf)
        silent[0] = 1.0
        network = torch.where(varies, spread, silent)
        mean, scale = (part.expand(values.shape[1:]).clone() for part in (middle, network))
        unsure: frozenset[str] = frozenset()
        if per == "sensor":
            own_mean, own_scale = _moments(x[..., 0], seen[..., 0], dims=(0,))
            known = seen[..., 0].sum(0) >= enough
            usable = known & (own_scale > CONSTANT * (own_scale[known].mean() if known.any() else network[0]))
            mean[:, 0] = torch.where(known, own_mean, mean[:, 0])
            scale[:, 0] = torch.where(usable, own_scale, own_scale[usable].mean() if usable.any() else scale[:, 0])
            unsure = frozenset(name for name, own in zip(nodes.ids, usable.tolist(), strict=True) if not own)
        return cls(transform, nodes.ids, mean.float(), scale.float(), {}, unsure)

    def following(self, previous: Scaler | None) -> Scaler:
        """This scaler, with the target's statistics of an earlier one for sensors that are unsure or have left."""
        if previous is None:
            return self
        known, own = previous.by_id(), self.by_id()
        current = (self.mean[0], self.scale[0])

        def earlier(name: str) -> tuple[Tensor, Tensor]:
            mean, scale = (torch.cat([old[:1], now[1:]]) for old, now in zip(known[name], current, strict=True))
            return mean, scale

        rows = [earlier(name) if name in self.unsure and name in known else own[name] for name in self.ids]
        return replace(
            self,
            mean=torch.stack([mean for mean, _ in rows]),
            scale=torch.stack([scale for _, scale in rows]),
            others={name: earlier(name) for name in known if name not in own},
        )

    def with_target(self, own: Scaler) -> Scaler:
        """This scaler, with the target's statistics that another is sure of for sensors that this one never met."""
        known, found = self.by_id(), own.by_id()
        new = [name for name in own.ids if name not in known and name not in own.unsure]
        rest = (self.mean.mean(0)[1:], self.scale.mean(0)[1:])

        def joined(name: str) -> tuple[Tensor, Tensor]:
            mean, scale = (torch.cat([part[:1], other]) for part, other in zip(found[name], rest, strict=True))
            return mean, scale

        return replace(self, others={**self.others, **{name: joined(name) for name in new}})

    def by_id(self) -> dict[str, tuple[Tensor, Tensor]]:
        own = {name: (self.mean[row], self.scale[row]) for row, name in enumerate(self.ids)}
        return {**self.others, **own}

    def for_nodes(self, nodes: NodeSet) -> Scaler:
        """The statistics in the order of another node set; a sensor never met takes the mean of all."""
        if nodes.ids == self.ids:
            return self
        known = self.by_id()
        usual = (self.mean.mean(0), self.scale.mean(0))
        rows = [known.get(name, usual) for name in nodes.ids]
        return replace(
            self, ids=nodes.ids, mean=torch.stack([row[0] for row in rows]), scale=torch.stack([row[1] for row in rows])
        )

    def of_rows(self, rows: Tensor) -> Scaler:
        """The statistics of some nodes (M,), in their order."""
        ids = tuple(self.ids[row] for row in rows.tolist())
        return replace(self, ids=ids, mean=self.mean[rows], scale=self.scale[rows])

    def standardise(self, values: Tensor) -> Tensor:
        """(..., N, C) -> (..., N, C)."""
        x = torch.cat([_forward(values[..., :1], self.transform), values[..., 1:]], dim=-1)
        return (x - self.mean) / self.scale

    def restore(self, target: Tensor) -> Tensor:
        """Standardised target (..., N) -> the unit of the readings."""
        return _backward(target * self.scale[:, 0] + self.mean[:, 0], self.transform)

    def to(self, device: torch.device | str) -> Scaler:
        others = {name: (mean.to(device), scale.to(device)) for name, (mean, scale) in self.others.items()}
        return replace(self, mean=self.mean.to(device), scale=self.scale.to(device), others=others)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and facts for a checkpoint."""
        names = list(self.others)
        tensors = {"mean": self.mean, "scale": self.scale}
        if names:
            tensors |= {
                "other_mean": torch.stack([self.others[name][0] for name in names]),
                "other_scale": torch.stack([self.others[name][1] for name in names]),
            }
        return tensors, {"transform": self.transform, "ids": list(self.ids), "others": names}

    @classmethod
    def from_state(cls, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> Self:
        others = {
            name: (tensors["other_mean"][row], tensors["other_scale"][row]) for row, name in enumerate(facts["others"])
        }
        return cls(facts["transform"], tuple(facts["ids"]), tensors["mean"], tensors["scale"], others)


def _moments(x: Tensor, seen: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the seen cells, 0 where nothing was seen."""
    count = seen.sum(dims).clamp(min=1)
    mean = (x * seen).sum(dims) / count
    return mean, (((x - mean) ** 2 * seen).sum(dims) / count).sqrt()


def _forward(values: Tensor, transform: Transform) -> Tensor:
    if transform == "sqrt":
        return values.clamp(min=0).sqrt()
    return torch.log1p(values.clamp(min=0)) if transform == "log" else values


def _backward(values: Tensor, transform: Transform) -> Tensor:
    if transform == "sqrt":
        return values.clamp(min=0) ** 2
    return torch.expm1(values.clamp(min=0, max=30)) if transform == "log" else values
