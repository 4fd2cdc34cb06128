"""The parts that a ReLearner adds to a forecaster."""

from __future__ import annotations

from torch import Tensor, nn

from st_pipeline.layers.flat_steps import flat, flat_width
from st_pipeline.layers.inverse_map import LabelInverse
from st_pipeline.layers.label_encoder import LabelEncoder
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.residual_smoothing import ResidualSmoothing
from st_pipeline.models.core_copy import CoreCopy


class Correction(nn.Module):
    """All that is added to a forecaster: inverse map, second core, smoothing, output, label encoder.

    A part that an option leaves out is None.
    """

    def __init__(
        self,
        inverse: LabelInverse | None,
        core: CoreCopy | None,
        smoothing: ResidualSmoothing | None,
        output: CorrectionHead,
        labels: LabelEncoder | None,
    ) -> None:
        super().__init__()
        self.inverse = inverse
        self.core = core
        self.smoothing = smoothing
        self.output = output
        self.labels = labels

    @property
    def adaptive(self) -> tuple[nn.Module, ...]:
        """What a later period may tune at little cost beside the rows of sensors: the last layer."""
        return (self.output.last,)

    @property
    def kept_width(self) -> int:
        """Numbers kept of each node of a window in the widest hidden layer."""
        hidden = [self.output.inward.out_features]
        hidden += [] if self.inverse is None else [self.inverse.working_width]
        hidden += [] if self.labels is None else [self.labels.inward.out_features]
        return max(hidden)


class CorrectionHead(nn.Module):
    """P: Linear, GELU, Linear on all features of a node; (B, N, F') or (B, S', N, F') -> (B, H, N)."""

    def __init__(self, deep: tuple[int, ...], hidden: int, horizon: int, *, zero_init: bool) -> None:
        super().__init__()
        self.inward = nn.Linear(flat_width(deep), hidden)
        self.last = ZeroLinear(hidden, horizon) if zero_init else nn.Linear(hidden, horizon)

    def forward(self, deep: Tensor) -> Tensor:
        hidden = nn.functional.gelu(by_node(self.inward, flat(deep)))
        return by_node(self.last, hidden).transpose(1, 2)


class ZeroLinear(nn.Linear):
    """A linear layer that starts at 0."""

    def reset_parameters(self) -> None:
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
