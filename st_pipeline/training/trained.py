"""A trained model with what belongs to it, and how it is stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from st_pipeline.data.protocols import Part
from st_pipeline.data.scaling import Scaler
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.strategies.base import Strategy
from st_pipeline.training.checkpoint import Checkpoint, prefixed
from st_pipeline.training.fit import FitResult

BACKBONE = "backbone"


@dataclass
class Trained:
    """A forecaster with its strategy's memory, its scaling and, if it has just been trained, how that went."""

    forecaster: Forecaster
    strategy: Strategy
    scaler: Scaler
    validation: Part | None = None
    result: FitResult | None = None

    def checkpoints(self, facts: dict[str, Any], cost: dict[str, Any]) -> dict[str, Checkpoint]:
        """What is stored of every part; the backbone's has the scaler's and the strategy's state as well.

        Args:
            facts: where the training belongs.
            cost: what it took beside its own time.
        """
        tensors, scaling = self.scaler.state()
        facts = {**facts, "scaler": scaling, **self._training()}
        result = self.result
        cost = {
            "seconds": result.seconds if result else 0.0,
            "epochs": len(result.epochs) if result else 0,
            **cost,
        }
        state = prefixed("scaler", tensors) | prefixed("strategy", self.strategy.state())
        checkpoints: dict[str, Checkpoint] = {}
        for name, module in self.forecaster.parts().items():
            stored = prefixed("weights", module.state_dict()) | (state if name == BACKBONE else {})
            stored = {key: value.detach().cpu().clone() for key, value in stored.items()}
            cold = {table: list(part.cold_ids) for table, part in node_tables(module).items()}
            checkpoints[name] = Checkpoint(stored, {**facts, "part": name, "cold": cold}, cost)
        return checkpoints

    def _training(self) -> dict[str, Any]:
        result = self.result
        return {
            "parameters": count_parameters(self.forecaster),
            "trainable": count_parameters(self.forecaster, trainable=True) if result else 0,
            "best_epoch": result.best if result else 0,
            "train_loss": [epoch.loss for epoch in result.epochs] if result else [],
            "validation_error": [epoch.validation for epoch in result.epochs] if result else [],
            **({"watched": result.watched} if result and result.watched else {}),
        }
