"""Rows that say something of sensors and are no parameters: data, or statistics of a training."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from st_pipeline.layers.node_table import NodeTable
from st_pipeline.types import NodeSet


class NodeRecord(NodeTable):
    """A node table whose rows are buffers, which no optimiser and no count of parameters sees.

    Rows of sensors never met are 0. Rows of known sensors come, leave and return as those of any node table.
    """

    def __init__(self, num_nodes: int, width: int) -> None:
        super().__init__(num_nodes, width, bound=0.0)
        self._keep()

    def record(self, rows: Tensor) -> None:
        """New rows, in place; inside `restricted`, of the nodes that are shown."""
        rows = rows.detach().to(self.cold)
        table = rows if self.shown is None else self.table().index_copy(0, self.shown, rows)
        leading = len(self.retained)
        self.retained.copy_(table[:leading])
        self.appended.copy_(table[leading:])

    def expand(self, nodes: NodeSet) -> None:
        super().expand(nodes)
        self._keep()

    def adopt(self, ids: Sequence[str], cold_ids: Sequence[str]) -> None:
        super().adopt(ids, cold_ids)
        self._keep()

    def _keep(self) -> None:
        for name in ("retained", "appended"):
            rows = getattr(self, name).detach().clone()
            delattr(self, name)
            self.register_buffer(name, rows)
