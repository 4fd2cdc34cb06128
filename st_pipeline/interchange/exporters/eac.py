"""`RawData/<period>.npz` and `graph/<period>_adj.npz`, as the public code of TrafficStream and EAC reads them.

Kept: the target, the periods, the sensors' order. Lost: other variables, ids, positions, dates. A sensor that has left
keeps its column, without numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from st_pipeline.interchange.parts.network import Network
from st_pipeline.registry import EXPORTERS


@EXPORTERS.register
def eac(network: Network, folder: Path) -> None:
    """One matrix (L, N) and one adjacency (N, N) a period, both as `x`."""
    for part in ("RawData", "graph"):
        (folder / part).mkdir()
    for snapshot in network.snapshots:
        values, weights = network.placed(snapshot, network.seen_until(snapshot))
        np.savez_compressed(folder / "RawData" / f"{snapshot.period.key}.npz", x=values[:, :, 0])
        np.savez_compressed(folder / "graph" / f"{snapshot.period.key}_adj.npz", x=weights)
