"""Maps from the label side of a forecaster back to the space of its embedding: ReLearner's first module."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.adaptive_graph import UNIT
from st_pipeline.layers.flat_steps import flat, flat_width, unflat
from st_pipeline.layers.node_table import NodeTable

Axes = tuple[int, ...]
EXPANSION = 4  # of the hidden layer


class LabelInverse(nn.Module):
    """Base of maps G from the label side, (B, N, F') or (B, S', N, F'), to the embedding, (B, N, F) or (B, S, N, F).

    Where both sides have the same steps, or both have none, every step is mapped by itself; otherwise all steps of a
    node together.

    Args:
        deep: axes of the label side without windows and nodes, (F',) or (S', F').
        shallow: those of the embedding, (F,) or (S, F).
    """

    inward: nn.Linear

    def __init__(self, deep: Axes, shallow: Axes) -> None:
        super().__init__()
        self.shallow = shallow
        self.together = deep[:-1] != shallow[:-1]
        self.sizes = (flat_width(deep), flat_width(shallow)) if self.together else (deep[-1], shallow[-1])

    @property
    def working_width(self) -> int:
        """Numbers kept of each node of a window in the hidden layer."""
        return self.inward.out_features * (1 if self.together else flat_width(self.shallow[:-1]))


class InverseMap(LabelInverse):
    """Linear, GELU, Linear on the features of a node, with a hidden layer of 4 F' (BiST's form without cores)."""

    def __init__(self, deep: Axes, shallow: Axes) -> None:
        super().__init__(deep, shallow)
        inputs, outputs = self.sizes
        self.inward = nn.Linear(inputs, EXPANSION * deep[-1])
        self.outward = nn.Linear(EXPANSION * deep[-1], outputs)

    def forward(self, deep: Tensor) -> Tensor:
        x = flat(deep) if self.together else deep
        out: Tensor = self.outward(nn.functional.gelu(self.inward(x)))
        return unflat(out, self.shallow) if self.together else out


class CoreInverse(LabelInverse):
    """G that first takes apart what nodes have in common and what is each one's own (BiST's form with c cores).

    S = Q E^T / sqrt(F') scores every core against every node. Softmax over the nodes makes each core an average of
    nodes, softmax over the cores makes each node a mixture of cores: common = softmax_c(S)^T softmax_N(S) V x, step by
    step, at a cost of O(N c F'). Then G x = norm(FFN([x - common, common]) + x), FFN having a hidden layer of 8 F',
    GELU and dropout.

    The public code normalises each channel over the batch, which makes a sensor's forecast depend on the windows and
    sensors beside it; here a layer norm goes over a node's embedding. Where the two sides differ in size, x in the sum
    is a linear map of it.

    Args:
        num_nodes: rows at first.
        deep: as in `LabelInverse`, like `shallow`.
        cores: c.
        dropout: of the hidden layer; with any, batches are not worked on in pieces.
    """

    def __init__(self, num_nodes: int, deep: Axes, shallow: Axes, *, cores: int, dropout: float = 0.3) -> None:
        super().__init__(deep, shallow)
        width, (inputs, outputs) = deep[-1], self.sizes
        self.queries = nn.Parameter(torch.empty(cores, width))
        self.nodes = NodeTable(num_nodes, width, bound=UNIT)
        self.value = nn.Linear(width, width)
        self.inward = nn.Linear(2 * inputs, 2 * EXPANSION * width)
        self.dropout = nn.Dropout(dropout)
        self.outward = nn.Linear(2 * EXPANSION * width, outputs)
        self.skip = nn.Identity() if inputs == outputs else nn.Linear(inputs, outputs, bias=False)
        self.norm = nn.LayerNorm(flat_width(shallow))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Cores are drawn with the variance of the nodes; the layers inside are drawn by themselves."""
        nn.init.uniform_(self.queries, -UNIT, UNIT)

    def forward(self, deep: Tensor) -> Tensor:
        common = self.common(deep)
        both, x = torch.cat([deep - common, common], dim=-1), deep
        if self.together:
            both, x = flat(both), flat(x)
        hidden = nn.functional.gelu(self.inward(both))
        out = self.outward(self.dropout(hidden)) + self.skip(x)
        return unflat(self.norm(out if self.together else flat(out)), self.shallow)

    def common(self, x: Tensor) -> Tensor:
        """What a node has in common with others: (..., N, F') -> (..., N, F')."""
        scores = self.queries @ self.nodes().t() / x.shape[-1] ** 0.5  # (c, N)
        mixed: Tensor = scores.softmax(0).t() @ (scores.softmax(1) @ self.value(x))
        return mixed
