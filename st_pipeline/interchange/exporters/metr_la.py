"""`<name>.h5`, `adj_mx.pkl`, `distances.csv` and `graph_sensor_locations.csv`, as DCRNN's scripts read them.

Kept: the target, ids, times (UTC), latitudes and longitudes, weights. Lost: other variables; the periods (of each pair
the last weight stays); on the way back zeros, which DCRNN takes for missing. `distances.csv` has the cost whose kernel
exp(-cost^2) is the weight.
"""

from __future__ import annotations

import pickle
from pathlib import Path

import polars as pl

from st_pipeline.interchange.parts.hdf import write_table
from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def metr_la(network: Network, folder: Path) -> None:
    """One table of all periods and one graph of all sensors."""
    ids = list(network.ids)
    write_table(folder / f"{network.config.name}.h5", network.values[:, :, 0].astype("float64"), ids, network.times)
    rows = {name: row for row, name in enumerate(ids)}
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps([ids, rows, network.weights], protocol=2))
    row, column, cost = network.costs
    pl.DataFrame({"from": [ids[i] for i in row], "to": [ids[i] for i in column], "cost": cost}).write_csv(
        folder / "distances.csv"
    )
    places = network.positions.select("sensor_id", "latitude", "longitude").drop_nulls()
    if len(places):
        places.with_row_index("index").write_csv(folder / "graph_sensor_locations.csv")
