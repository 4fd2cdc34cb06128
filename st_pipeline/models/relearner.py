"""ReLearner: a second pass of a forecaster over what its first pass cannot explain (arXiv 2602.02563)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn

from st_pipeline.layers.flat_steps import flat, flat_width
from st_pipeline.layers.inverse_map import CoreInverse, InverseMap, LabelInverse
from st_pipeline.layers.label_encoder import LabelEncoder
from st_pipeline.layers.residual_smoothing import Kernel, ResidualSmoothing
from st_pipeline.models.base import Criterion, Forecaster
from st_pipeline.models.core_copy import CoreCopy
from st_pipeline.models.correction import Correction, CorrectionHead
from st_pipeline.models.lora import LoRA
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.models.wrapper import Wrapper
from st_pipeline.types import Graph, Target, Window

Reads = Literal["residual", "embedding", "stacked"]


class LabelWeights(NamedTuple):
    """Weights of the losses that labels make beside that of the forecast."""

    base: float = 0.5
    inverse: float = 0.1
    residual: float = 0.1


class Passes(NamedTuple):
    """What a forecast goes through, (B, N, F) or (B, S, N, F) each."""

    shallow: Tensor  # Z_in, the embedding
    deep: Tensor  # Z_la, what the first pass makes of it
    second: Tensor  # Z_R, what the second pass makes of the residual
    smoothed: Tensor  # K^L Z_R


class ReLearner(Wrapper):
    """y = head(Z_la) + P(K^L core'(Z_in - G(Z_la))) with Z_in = embed(x) and Z_la = core(Z_in).

    G maps the label side back to the embedding: what it does not give back of Z_in is the residual, which the core
    sees in a second pass; the outcome is smoothed over the nodes by K and read by P. Labels enter the training loss
    alone. Only the paper's abstract could be read: this follows the public design of its predecessor BiST (PVLDB
    18(6), 2025) and a description by others; see docs/models/relearner.md.

    It goes around prompts, not into them: prompts are part of Z_in, so both passes have them, and G may take them out
    of the residual. The second pass of a model that normalises by its batch runs as in evaluation, with the running
    statistics of the first and without dropout, where it shares the core: its own would spoil those of the first.

    Args:
        inner: any forecaster.
        reads: what the second pass reads: the `residual`; the `embedding` Z_in itself (without the inverse map); or
            G(Z_la), `stacked`: a control with all parameters and the depth, and no subtraction.
        share_core: whether both passes have the same parameters, or the second a copy (BiST's default).
        cores: of an inverse map that takes common and own features apart; 0 for a plain one.
        dropout: of an inverse map with cores.
        layers: of the smoothing, L; 0 for none.
        kernels: graphs of the smoothing, like `rank` and `gate_by`: see `ResidualSmoothing`.
        hidden: width of P's hidden layer.
        zero_init: P's last layer starts at 0, so that the model starts as the inner one; BiST's does not.
        labels: weights of design B's losses; without them, there is no label encoder.
    """

    def __init__(
        self,
        inner: Forecaster,
        *,
        reads: Reads = "residual",
        share_core: bool = True,
        cores: int = 0,
        dropout: float = 0.3,
        layers: int = 2,
        kernels: Sequence[Kernel] = ("adaptive",),
        rank: int = 10,
        gate_by: Literal["source", "target"] = "source",
        hidden: int = 256,
        zero_init: bool = True,
        labels: LabelWeights | None = None,
    ) -> None:
        super().__init__(inner)
        self.hops = None  # what smooths the residuals may be a learned graph of all sensors
        self.reads = reads
        self.weights = labels
        shape, deep, shallow = inner.shape, inner.deep, inner.shallow
        inverse: LabelInverse | None = None
        if reads != "embedding" and cores:
            inverse = CoreInverse(shape.num_nodes, deep, shallow, cores=cores, dropout=dropout)
        elif reads != "embedding":
            inverse = InverseMap(deep, shallow)
        smoothing = None
        if layers:
            smoothing = ResidualSmoothing(shape.num_nodes, layers=layers, kernels=kernels, rank=rank, gate_by=gate_by)
        self.correction = Correction(
            inverse,
            None if share_core else CoreCopy(cast(Forecaster, inner.parts()["backbone"])),
            smoothing,
            CorrectionHead(deep, hidden, shape.horizon, zero_init=zero_init),
            LabelEncoder(shape, deep) if labels else None,
        )

    @property
    def deep(self) -> tuple[int, ...]:
        """Both passes side by side."""
        return (*self.inner.deep[:-1], 2 * self.inner.deep[-1])

    @property
    def working_width(self) -> int:
        """Both passes, and what lies between and behind them."""
        extra = flat_width(self.inner.shallow) + flat_width(self.deep) + 2 * self.correction.kept_width
        return 2 * self.inner.working_width + extra

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """Z_la and K^L Z_R side by side, (B, N, 2 F') or (B, S', N, 2 F')."""
        found = self.passes(hidden, window, graph)
        return torch.cat([found.deep, found.smoothed], dim=-1)

    def head(self, hidden: Tensor) -> Tensor:
        deep, smoothed = hidden.chunk(2, dim=-1)
        return self._forecast(deep, smoothed)

    def forward(self, window: Window, graph: Graph) -> Tensor:
        found = self.passes(self.embed(window, graph), window, graph)
        return self._forecast(found.deep, found.smoothed)

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        found = self.passes(self.embed(window, graph) + prompt, window, graph)
        return self._forecast(found.deep, found.smoothed)

    def passes(self, hidden: Tensor, window: Window, graph: Graph) -> Passes:
        """Everything between an embedding and a forecast."""
        deep = self.inner.core(hidden, window, graph)
        second = self._again(self._read(hidden, deep), window, graph)
        smoothing = self.correction.smoothing
        return Passes(hidden, deep, second, second if smoothing is None else smoothing(second, graph))

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """The forecast's loss; with label weights, design B's losses.

        An inner model with a loss of its own (labels fed to a decoder, further terms) makes it of its own first pass,
        with the correction added to the forecast that it scores. The correction is made without labels, as in
        evaluation; for such models the first pass runs twice.
        """
        found = self.passes(self.embed(window, graph), window, graph)
        correction = self.correction.output(found.smoothed)

        def corrected(base: Tensor, wanted: Target) -> Tensor:
            return criterion(base + correction[:, : base.shape[1]], wanted)

        if has_own_loss(self.inner):
            loss = self.inner.training_loss(window, target, graph, corrected)
        else:
            loss = corrected(self.inner.head(found.deep), target)
        return loss if self.weights is None else loss + self._label_loss(found, window, target, criterion)

    def parts(self) -> dict[str, nn.Module]:
        return {**super().parts(), "relearner": self.correction}

    def _read(self, hidden: Tensor, deep: Tensor) -> Tensor:
        inverse = self.correction.inverse
        if inverse is None:
            return hidden
        found: Tensor = inverse(deep)
        return hidden - found if self.reads == "residual" else found

    def _again(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        if self.correction.core is not None:
            second: Tensor = self.correction.core(hidden, window, graph)
            return second
        normalising = () if self.inner.separable else (self.inner,)  # by its batch: statistics stay the first pass's
        with as_in_evaluation(*normalising):
            return self.inner.core(hidden, window, graph)

    def _forecast(self, deep: Tensor, smoothed: Tensor) -> Tensor:
        correction: Tensor = self.correction.output(smoothed)
        return self.inner.head(deep) + correction

    def _label_loss(self, found: Passes, window: Window, target: Target, criterion: Criterion) -> Tensor:
        """Design B: the base forecast's loss, that of G on labels, and that of the residual; targets are detached."""
        weights, encoder, inverse = self.weights, self.correction.labels, self.correction.inverse
        assert weights is not None and encoder is not None and inverse is not None
        labels = encoder(target, window)
        loss = found.deep.new_zeros(())
        if weights.base:
            loss = loss + weights.base * criterion(self.inner.head(found.deep), target)
        if weights.inverse:
            loss = loss + weights.inverse * apart(inverse(labels), found.shallow.detach(), target, criterion)
        if weights.residual:
            wanted = (labels - found.deep).detach()
            loss = loss + weights.residual * apart(found.smoothed, wanted, target, criterion)
        return loss


def apart(one: Tensor, other: Tensor, target: Target, criterion: Criterion) -> Tensor:
    """Distance of two representations, as a scalar: the mean absolute difference of a node's features is what the
    criterion takes for the error of each of the node's labels, so it counts where, and as much as, a label counts."""
    distance = flat((one - other).abs()).mean(-1)  # (B, N)
    error = distance[:, None].expand(-1, target.values.shape[1], -1)
    return criterion(error, target._replace(values=torch.zeros_like(target.values)))


def has_own_loss(forecaster: Forecaster) -> bool:
    """Whether a model's training loss is more than that of its forecast."""
    while isinstance(forecaster, LoRA):  # hands on the loss of what it adapts
        forecaster = forecaster.inner
    return type(forecaster).training_loss is not Forecaster.training_loss
