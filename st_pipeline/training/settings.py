"""How a model is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from st_pipeline.data.protocols import Protocol
from st_pipeline.model_config import TrainingConfig


@dataclass(frozen=True)
class Settings:
    """How a model is trained: the protocol's values with the model's own in their place.

    `share` of a period's steps, the first, are trained on; None for the whole training part of its split. With
    `decay` = steps the rate is multiplied by `factor` after each epoch of `milestones`. `clip` is the largest norm of
    the gradients of all parameters together; None leaves them alone.
    """

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    loss: str
    decay: str
    stride: int
    masked_loss: bool
    batch_mean: bool
    share: float | None = None
    milestones: tuple[int, ...] = ()
    factor: float = 0.1
    clip: float | None = None

    @classmethod
    def of(cls, protocol: Protocol, training: TrainingConfig, *, index: int = 0) -> Settings:
        """In the period with this index: those after the first may have settings of their own."""
        own = training.model_dump(exclude_none=True)
        later = own.pop("later", {}) if index else {}
        given: dict[str, Any] = {**vars(protocol), "stride": 1, "share": None, **own, **later}
        return cls(**{name: given[name] for name in cls.__dataclass_fields__ if name in given})
