"""`data.npz` and `index.npz`, as STAEformer and HimNet read them, with `adj_mx.pkl` beside them.

Kept: the target, the clock (UTC) as channels, the split, weights. Lost: other variables, ids, dates, positions and
periods.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.interchange.parts.calendar_channels import calendar_channels
from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def himnet(network: Network, folder: Path) -> None:
    """Values (L, N, 3) and windows (W, 3) of the stream's window, horizon and split."""
    values = network.values[:, :, :1].astype(np.float64)
    clock = [
        np.broadcast_to(part[:, None, None], values.shape) for part in calendar_channels(network.times, network.step)
    ]
    np.savez_compressed(folder / "data.npz", data=np.concatenate([values, *clock], axis=2))
    np.savez_compressed(folder / "index.npz", **windows(network))
    rows = {name: row for row, name in enumerate(network.ids)}
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps([list(network.ids), rows, network.weights], protocol=2))


def windows(network: Network) -> dict[str, Any]:
    """Begin of input, begin of target and end of every window, by part; windows follow each other step by step."""
    config = network.config
    first = np.arange(len(network.values) - config.window - config.horizon + 1)
    index = np.stack([first, first + config.window, first + config.window + config.horizon], axis=1)
    train = round(len(index) * config.split.train)
    test = round(len(index) * config.split.test)
    return {"train": index[:train], "val": index[train : len(index) - test], "test": index[len(index) - test :]}
