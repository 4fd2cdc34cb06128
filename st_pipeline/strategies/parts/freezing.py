"""What goes on learning of a part whose shared weights were learned in the first period."""

from __future__ import annotations

from torch import nn

from st_pipeline.layers.node_table import node_tables


def freeze_shared(part: nn.Module) -> None:
    """Rows of sensors and what the part calls `adaptive` stay trainable; all else, the same for every sensor, does not.

    A part without either is frozen as a whole.
    """
    part.requires_grad_(False)
    for own in (*node_tables(part).values(), *getattr(part, "adaptive", ())):
        own.requires_grad_()


def train_new_rows(part: nn.Module) -> None:
    """The rows of sensors that have just arrived are trainable, in every node table of the part."""
    for table in node_tables(part).values():
        for kind, rows in table.named_parameters():
            rows.requires_grad_(rows.requires_grad or kind == "appended")
