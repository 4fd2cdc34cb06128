"""Rows of parameters that belong to sensors: the only parameters with a node axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from st_pipeline.types import NodeSet


class NodeTable(nn.Module):
    """(N, width) parameters, one row per sensor, that grow and shrink with the network.

    The rows of the leading sensors that `expand` finds already here, which in a node set are the retained ones, and
    the rows behind them are separate parameters, so that either can be frozen. The row of a sensor that leaves is
    kept aside and restored, bit for bit, when the sensor returns.

    Args:
        num_nodes: rows at first; the ids come with the first `expand`, which draws new rows if they are not as many.
        width: columns.
        bound: new rows are uniform in [-bound, bound].
    """

    cold: Tensor

    def __init__(self, num_nodes: int, width: int, *, bound: float = 0.1) -> None:
        super().__init__()
        self.width = width
        self.bound = bound
        self.ids: tuple[str, ...] = ()
        self.shown: Tensor | None = None
        self.cold_ids: tuple[str, ...] = ()
        self.retained = nn.Parameter(torch.empty(0, width))
        self.appended = nn.Parameter(torch.empty(num_nodes, width))
        self.register_buffer("cold", torch.empty(0, width))
        self.reset_parameters()

    def forward(self) -> Tensor:
        """(N, width), in the order of the node set; inside `restricted`, only the rows of its nodes."""
        table = self.table()
        return table if self.shown is None else table[self.shown]

    def table(self) -> Tensor:
        """(N, width), all rows."""
        return torch.cat([self.retained, self.appended])

    def reset_parameters(self) -> None:
        """All rows drawn anew; rows kept aside are dropped."""
        for rows in (self.retained, self.appended):
            nn.init.uniform_(rows, -self.bound, self.bound)
        self.cold, self.cold_ids = self.cold[:0], ()

    def expand(self, nodes: NodeSet) -> None:
        """Rows for exactly these nodes: known ones keep theirs, new ones are drawn, those that left are kept aside."""
        if not self.ids and len(self.appended) == len(nodes):
            self.ids = nodes.ids  # the rows made at construction are those of the first node set
            return
        known = dict(zip(self.ids, self.table().detach(), strict=False)) | dict(
            zip(self.cold_ids, self.cold, strict=True)
        )
        present, wanted = set(self.ids), set(nodes.ids)
        leading = next((place for place, name in enumerate(nodes.ids) if name not in present), len(nodes))
        fresh = self.cold.new_empty(len(nodes), self.width).uniform_(-self.bound, self.bound)
        rows = [known.get(name, fresh[place]) for place, name in enumerate(nodes.ids)]
        table = torch.stack(rows) if rows else fresh
        left = [name for name in known if name not in wanted]
        self.cold = torch.stack([known[name] for name in left]) if left else self.cold[:0]
        self.ids, self.cold_ids = nodes.ids, tuple(left)
        self.retained = nn.Parameter(table[:leading].clone())
        self.appended = nn.Parameter(table[leading:].clone())

    def adopt(self, ids: Sequence[str], cold_ids: Sequence[str]) -> None:
        """Make room for a saved table of these sensors; the rows come with `load_state_dict`."""
        like = self.cold
        self.ids, self.cold_ids = tuple(ids), tuple(cold_ids)
        self.retained = nn.Parameter(like.new_empty(len(ids), self.width))
        self.appended = nn.Parameter(like.new_empty(0, self.width))
        self.cold = like.new_empty(len(cold_ids), self.width)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        rows = self.table()
        destination[f"{prefix}rows"] = rows if keep_vars else rows.detach()
        destination[f"{prefix}cold"] = self.cold

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: Any,
        strict: bool,
        missing: list[str],
        unexpected: list[str],
        errors: list[str],
    ) -> None:
        rows, cold = state_dict.get(f"{prefix}rows"), state_dict.get(f"{prefix}cold")
        if rows is None or cold is None:
            missing += [f"{prefix}rows", f"{prefix}cold"]
            return
        for name, saved, own in (("rows", rows, self.table()), ("cold", cold, self.cold)):
            if saved.shape != own.shape:
                errors.append(f"{prefix}{name} is {tuple(saved.shape)}, expected {tuple(own.shape)}")
        if errors:
            return
        with torch.no_grad():
            self.retained.copy_(rows[: len(self.retained)])
            self.appended.copy_(rows[len(self.retained) :])
            self.cold.copy_(cold)


@contextmanager
def restricted(module: nn.Module, rows: Tensor | None) -> Iterator[None]:
    """Inside, a module works on these nodes (M,) alone, as if its node tables had no other rows; None: on all."""
    tables = node_tables(module).values() if rows is not None else ()
    for table in tables:
        table.shown = rows
    try:
        yield
    finally:
        for table in tables:
            table.shown = None


def node_tables(module: nn.Module) -> dict[str, NodeTable]:
    """Every node table inside a module, by its dotted name."""
    return {name: part for name, part in module.named_modules() if isinstance(part, NodeTable)}
