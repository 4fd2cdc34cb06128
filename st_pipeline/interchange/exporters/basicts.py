"""`data.dat`, `desc.json` and `adj_mx.pkl`, as BasicTS reads them.

Kept: all variables with their names, the clock (UTC) as channels, the split, weights. Lost: ids, dates, positions,
periods. `NULL_VAL` says what stands for a missing value.
"""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np

from st_pipeline.interchange.parts.calendar_channels import calendar_channels
from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def basicts(network: Network, folder: Path) -> None:
    """float32 (L, N, C + 2): the variables, time of day and day of week, both as shares."""
    share, week_day = calendar_channels(network.times, network.step)
    values = network.values
    clock = [np.broadcast_to(part[:, None, None], (*values.shape[:2], 1)) for part in (share, week_day / 7)]
    data = np.concatenate([values, *clock], axis=2).astype("<f4")
    (folder / "data.dat").write_bytes(data.tobytes())
    config = network.config
    settings = {
        "INPUT_LEN": config.window,
        "OUTPUT_LEN": config.horizon,
        "TRAIN_VAL_TEST_RATIO": [config.split.train, config.split.validation, config.split.test],
        "NORM_EACH_CHANNEL": False,
        "RESCALE": True,
        "METRICS": ["MAE", "RMSE", "MAPE"],
        "NULL_VAL": network.missing,
    }
    description = {
        "name": config.name,
        "domain": "sensor network",
        "shape": list(data.shape),
        "num_time_steps": data.shape[0],
        "num_nodes": data.shape[1],
        "num_features": data.shape[2],
        "feature_description": [*network.variables, "time of day", "day of week"],
        "has_graph": True,
        "frequency (minutes)": int(network.step.total_seconds()) / 60,
        "regular_settings": settings,
    }
    (folder / "desc.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps(network.weights, protocol=2))
