"""Low-rank adapters of a backbone (LoRA, Hu et al. 2021), of which every period appends its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from st_pipeline.errors import InputError
from st_pipeline.layers.graph_conv import LinearMap
from st_pipeline.layers.low_rank import AdaptedLinear, Adapters
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.models.wrapper import Wrapper
from st_pipeline.types import Graph, Target, Window

HIDDEN = "hidden"


class LoRA(Wrapper):
    """A backbone whose linear maps have low-rank increments; without adapters it is the backbone.

    `weights`: every linear layer's W (out, in) becomes W + sum_p (A_p B_p)^T, p counting the periods; this is the
    form of LoRA's authors (Section 4.1), with alpha equal to the rank, which makes the scale 1. `hidden`: hidden
    features x (..., D) become x + s x sum_p A_p B_p behind the first graph convolution's ReLU and again behind the
    convolution that follows, with the same adapters and s = 1 / (D rank), as in EAC's public code.

    Args:
        inner: the backbone; for `hidden` one that has `hidden`, D, and takes an `adapter`.
        rank: of each period's adapter.

    Raises:
        InputError: the backbone has nothing at this place that could be adapted.
    """

    def __init__(self, inner: Forecaster, *, rank: int, place: Literal["weights", "hidden"]) -> None:
        super().__init__(inner)
        self.adapters = _of_weights(inner, rank) if place == "weights" else _of_hidden(inner, rank)

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        return self.inner.training_loss(window, target, graph, criterion)

    def parts(self) -> dict[str, nn.Module]:
        return {**super().parts(), "lora": self.adapters}


@runtime_checkable
class Adaptable(Protocol):
    """A backbone that lets a map act on its hidden features."""

    hidden: int
    adapter: LinearMap | None


@dataclass(frozen=True)
class HiddenMap:
    """The adapters of the hidden features as a linear map; they stay parameters of their own part."""

    adapters: Adapters

    def before(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return self.adapters.before(weight, name=HIDDEN), weight.new_zeros(len(weight))


def _of_weights(inner: Forecaster, rank: int) -> Adapters:
    """Adapters of every linear layer of a backbone, whose layers then read them."""
    linear = {path: part for path, part in inner.named_modules() if isinstance(part, nn.Linear)}
    layers = {f"{path}.weight".replace(".", "/"): layer for path, layer in linear.items()}
    if not layers:
        raise InputError("`lora: {place: weights}` adapts linear layers, and this backbone has none; take another one")
    sizes = {name: (layer.in_features, layer.out_features) for name, layer in layers.items()}
    adapters = Adapters(sizes, rank=rank, scale=1.0)
    for name, layer in layers.items():
        AdaptedLinear.take_over(layer, partial(adapters.increased, name=name))
    return adapters


def _of_hidden(inner: Forecaster, rank: int) -> Adapters:
    """Adapters of the hidden features of a backbone, which then applies them."""
    if not isinstance(inner, Adaptable):
        raise InputError(
            "`lora: {place: hidden}` adapts the hidden features of a backbone that offers them, and this one does not; "
            "take backbone stgnn, or `place: weights`"
        )
    adapters = Adapters({HIDDEN: (inner.hidden, inner.hidden)}, rank=rank, scale=1 / (inner.hidden * rank))
    inner.adapter = HiddenMap(adapters)
    return adapters
