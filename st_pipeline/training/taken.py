"""Weights from elsewhere that take the place of a training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from st_pipeline.data.scaling import Scaler
from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster


@dataclass(frozen=True)
class Taken:
    """What takes the place of a training: weights from elsewhere.

    Attributes:
        parts: of each part the tensors, and of its node tables the ids of their rows and of those kept aside.
        scaler: that the weights were trained with.
        facts: where they come from; stored as `imported`.
    """

    parts: Mapping[str, tuple[Mapping[str, Tensor], Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]]]
    scaler: Scaler
    facts: Mapping[str, Any]

    def fill(self, forecaster: Forecaster) -> None:
        """
        Raises:
            InputError: the forecaster is another model.
        """
        modules = forecaster.parts()
        if modules.keys() != self.parts.keys():
            raise InputError(f"the model has parts {', '.join(modules)}, the checkpoint {', '.join(self.parts)}")
        for name, (tensors, tables) in self.parts.items():
            for table, (ids, cold) in tables.items():
                node_tables(modules[name])[table].adopt(ids, cold)
            modules[name].load_state_dict(tensors)
