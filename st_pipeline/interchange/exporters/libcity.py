"""`<name>.geo`, `<name>.rel`, `<name>.dyna` and `config.json`, as LibCity reads them.

Kept: all variables with their names, ids, times (UTC), latitudes and longitudes, weights. Lost: periods. A missing
value is an empty cell, or 0 if so asked.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def libcity(network: Network, folder: Path) -> None:
    """Atomic files of all periods, entity by entity, as LibCity expects them."""
    name = network.config.name
    places = network.positions
    points = [
        f"[{longitude}, {latitude}]" if longitude is not None and latitude is not None else "[]"
        for longitude, latitude in zip(places["longitude"], places["latitude"], strict=True)
    ]
    geo = {"geo_id": list(network.ids), "type": "Point", "coordinates": points}
    pl.DataFrame(geo).write_csv(folder / f"{name}.geo")
    row, column = np.nonzero(network.weights)
    ids = np.array(network.ids, dtype=object)
    rel = {"type": ["geo"] * len(row), "origin_id": ids[row], "destination_id": ids[column]}
    rel |= {"link_weight": network.weights[row, column].astype(np.float64)}
    schema = {"type": pl.String, "origin_id": pl.String, "destination_id": pl.String, "link_weight": pl.Float64}
    pl.DataFrame(rel, schema=schema).with_row_index("rel_id").write_csv(folder / f"{name}.rel")
    with (folder / f"{name}.dyna").open("wb") as file:
        for place, identity in enumerate(network.ids):
            _states(network, place, identity).write_csv(file, include_header=place == 0)
    info = {
        "data_col": list(network.variables),
        "weight_col": "link_weight",
        "data_files": [name],
        "geo_file": name,
        "rel_file": name,
        "output_dim": 1,
        "time_intervals": int(network.step.total_seconds()),
        "init_weight_inf_or_zero": "zero",
        "set_weight_link_or_dist": "link",
        "calculate_weight_adj": False,
    }
    (folder / "config.json").write_text(json.dumps({"info": info}, indent=1) + "\n", encoding="utf-8")


def _states(network: Network, place: int, identity: str) -> pl.DataFrame:
    """The rows of one entity."""
    values = network.values[:, place].astype(np.float64)
    times = pl.Series("time", network.times).dt.strftime("%Y-%m-%dT%H:%M:%SZ")
    first = place * len(times)
    columns = {name: pl.Series(values[:, channel]).fill_nan(None) for channel, name in enumerate(network.variables)}
    return pl.DataFrame(
        {
            "dyna_id": np.arange(first, first + len(times)),
            "type": ["state"] * len(times),
            "time": times,
            "entity_id": [identity] * len(times),
            **columns,
        }
    )
