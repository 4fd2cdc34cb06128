"""`<name>.npz`, `<name>.csv` and `<name>.txt`, as the code of ASTGCN and STSGCN reads PEMS03 to PEMS08.

Kept: all variables, the target first, and ids. Lost: names of the variables, times, positions, periods. `cost` is such
that exp(-cost^2) is the weight.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def pems(network: Network, folder: Path) -> None:
    """One array (L, N, C) and one list of edges by id."""
    name, ids = network.config.name, network.ids
    np.savez_compressed(folder / f"{name}.npz", data=network.values)
    (folder / f"{name}.txt").write_text("\n".join(ids) + "\n", encoding="utf-8")
    row, column, cost = network.costs
    if len(cost):
        edges = {"from": [ids[i] for i in row], "to": [ids[i] for i in column], "cost": cost}
        pl.DataFrame(edges).write_csv(folder / f"{name}.csv")
