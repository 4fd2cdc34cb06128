"""Which model's forecasts are issued."""

from __future__ import annotations

from st_pipeline.config import StreamConfig
from st_pipeline.model_config import ModelConfig


def serving_model(config: StreamConfig) -> ModelConfig:
    """The model that forecasts are issued with.

    Raises:
        InputError: the stream has no model.
    """
    return config.model(config.shown_model)
