"""The interface of every model: window of readings -> forecast."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn
from torch.nn.modules.dropout import _DropoutNd

from st_pipeline.layers.node_table import node_tables
from st_pipeline.types import Graph, NodeSet, SeriesShape, Target, Window

Criterion = Callable[[Tensor, Target], Tensor]


class Forecaster(nn.Module):
    """Window of readings -> forecast in the units the model is trained in, (B, H, N).

    Knows no labels, no strategy and no optimiser. Wrappers are forecasters that hold a forecaster. A model whose
    forecast for a window depends on the others of its batch says so with `separable = False`; batches of all others
    are worked on in pieces. A backbone with a module between two graph convolutions has it as `temporal`.

    Representations are (B, N, F), or (B, S, N, F) with S steps: nodes are always the last axis but one. A model whose
    forecast depends on the order of its sensors says so with `equivariant = False`. One whose forecast for a sensor
    depends on no sensor more than so many edges away, either way, says so with `hops`; None is all of them. What the
    edges of the last sensors weigh in a symmetric normalisation counts as one edge more.
    """

    shape: SeriesShape
    separable: bool = True
    equivariant: bool = True
    hops: int | None = None

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """Shallow input representation, (B, N, width) or (B, S, N, width); wrappers add to it."""
        raise NotImplementedError

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """Deep, label-side representation of an embedding, (B, N, F') or (B, S', N, F'); the window is un-prompted."""
        raise NotImplementedError

    def head(self, hidden: Tensor) -> Tensor:
        """Forecast (B, H, N) of a label-side representation."""
        raise NotImplementedError

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return self.head(self.core(self.embed(window, graph), window, graph))

    def prompted(self, prompt: Tensor, window: Window, graph: Graph) -> Tensor:
        """The forecast with a prompt (N, width) added to every window's embedding.

        A model may override this where it can do so with less work; the result is the same.
        """
        return self.head(self.core(self.embed(window, graph) + prompt, window, graph))

    def training_loss(self, window: Window, target: Target, graph: Graph, criterion: Criterion) -> Tensor:
        """Scalar loss of one batch; the only place labels enter."""
        return criterion(self(window, graph), target)

    @property
    def width(self) -> int:
        """Size of the last axis of the embedding."""
        raise NotImplementedError

    @property
    def shallow(self) -> tuple[int, ...]:
        """Axes of the embedding without windows and nodes: (width,), or (S, width) with S steps."""
        return (self.width,)

    @property
    def deep(self) -> tuple[int, ...]:
        """Axes of what `core` returns without windows and nodes: (F',), or (S', F') with S' steps."""
        raise NotImplementedError

    @property
    def divisible(self) -> bool:
        """Whether a batch may be worked on in pieces: windows are forecast one by one, and nothing is drawn.

        Threads would draw random numbers in any order.
        """
        return self.separable and not any(isinstance(part, _DropoutNd) and part.p > 0 for part in self.modules())

    @property
    def working_width(self) -> int:
        """Numbers kept of each node of a window at the widest place, for the estimate of memory."""
        return max((part.out_features for part in self.modules() if isinstance(part, nn.Linear)), default=self.width)

    def parts(self) -> dict[str, nn.Module]:
        """What is stored and trained separately, by asset name."""
        return {"backbone": self}

    def watched(self) -> dict[str, float]:
        """What the history of a training records of the model after an epoch; wrappers pass the inner one's on."""
        return {}

    def expand(self, nodes: NodeSet) -> None:
        """New rows in every node table, old rows kept by sensor id."""
        for table in node_tables(self).values():
            table.expand(nodes)

    def reset(self) -> None:
        """All parameters drawn anew, as at construction."""
        for module in self.modules():
            if callable(reset := getattr(module, "reset_parameters", None)):
                reset()


def count_parameters(module: nn.Module, *, trainable: bool = False) -> int:
    """Number of parameters, or of those that training would change."""
    return sum(part.numel() for part in module.parameters() if part.requires_grad or not trainable)
