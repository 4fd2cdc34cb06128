"""PEMS03, PEMS04, PEMS07 and PEMS08 as ASTGCN and STSGCN publish them: an array and a list of distances.

Layout (guoshnBJTU/ASTGCN-r-pytorch, Davidham3/STSGCN): `PEMS0X.npz` has `data` (L, N, 1 or 3), the channels being flow,
occupancy and speed every five minutes; `PEMS0X.csv` has `from`, `to` and `cost` or `distance`; the ids in it are row
numbers, or those of `PEMS0X.txt`, one a line. Nothing says when the series starts.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import as_series, npz_array
from st_pipeline.interchange.parts.files import beside, one_file
from st_pipeline.interchange.parts.graphs import ALONE, distance_edges
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, regular_times
from st_pipeline.interchange.parts.options import as_start, as_step
from st_pipeline.interchange.parts.tables import texts
from st_pipeline.readers.npz import column_ids
from st_pipeline.registry import IMPORTERS
from st_pipeline.scaffold import MATRIX_STEP

CHANNELS = ("flow", "occupancy", "speed")
STARTS = {"pems03": "2018-09-01", "pems04": "2018-01-01", "pems07": "2017-05-01", "pems08": "2016-07-01"}
RULES = {"flow": {"minimum": 0}, "occupancy": {"minimum": 0, "maximum": 1}, "speed": {"minimum": 0}}
KERNEL = "{recipe: distances, threshold: 0.1}  # guessed"


@IMPORTERS.register
def pems(path: Path, *, start: str | None = None, step: str | None = None) -> Draft:
    """Flow, occupancy and speed; the start is the published one where the file's name says which data set it is."""
    file = one_file(path, "*.npz", what="archive of readings")
    values = as_series(npz_array(file, "data"), f"{file}: data")
    length, count, channels = values.shape
    if channels > len(CHANNELS):
        raise InputError(f"{file}: data: found {channels} channels, expected at most {', '.join(CHANNELS)}")
    ids = _ids(path, count)
    first = as_start(start) if start else start_of(file) or datetime(2018, 1, 1)
    size = as_step(step) if step else MATRIX_STEP
    times = regular_times(first, size, length)
    guessed = {"timezone": "guessed: the clock of the timestamps"}
    guessed |= {} if start else {"start": "the first step too: the archive has no times"}
    guessed |= {} if step else {"step": "guessed: the archive has no times"}
    facts = Facts(
        f"{file.stem}: {', '.join(CHANNELS[:channels])} of {count} detectors",
        {channel: RULES[channel] for channel in CHANNELS[:channels]},
        first,
        as_datetime(times[-1]),
        size,
        guessed=guessed,
    )
    distances = beside(path, f"{file.stem.lower()}.csv", "distance*.csv")
    edges = distance_edges(distances, ids) if distances else None
    grid = Grid(values, tuple(ids), CHANNELS[:channels], times)
    return long_draft(facts, grid.frames(), edges=edges, graph=KERNEL if distances else ALONE)


def start_of(file: Path) -> datetime | None:
    """The first day of a published data set, by the name of its file."""
    text = STARTS.get(file.stem.lower().replace("pemsd", "pems0"))
    return datetime.fromisoformat(text) if text else None


def _ids(path: Path, count: int) -> list[str]:
    """Ids of the columns: those of the text file, or their numbers."""
    file = beside(path, "*.txt")
    if file is None:
        return column_ids(count)
    ids = [str(name).strip() for name in texts(file, header=False)["column_1"]]
    if len(ids) != count or len(set(ids)) != count:
        raise InputError(
            f"{file}: found {len(set(ids))} different ids, expected {count}: one for each column of the readings"
        )
    return ids
