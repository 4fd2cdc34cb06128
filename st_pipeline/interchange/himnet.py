"""`data.npz` and `index.npz` of STAEformer and HimNet.

Layout (XDZhelheim/STAEformer and XDZhelheim/HimNet, `lib/data_prepare.py`): `data` (L, N, 3) with the value, the time
of day as a share of it and the day of week (Monday 0); `train`, `val` and `test` (windows, 3) with the first step of
the input, of the target and the end. No ids, no dates; a graph may lie beside it as `adj_mx.pkl` or `distances.csv`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array, as_series, npz_array
from st_pipeline.interchange.parts.calendar_channels import MONDAY, calendar_of
from st_pipeline.interchange.parts.files import beside, one_file
from st_pipeline.interchange.parts.graphs import find_graph
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, regular_times
from st_pipeline.interchange.parts.options import as_start, as_step
from st_pipeline.readers.npz import column_ids
from st_pipeline.registry import IMPORTERS
from st_pipeline.scaffold import MATRIX_STEP

PARTS = ("train", "val", "test")


@IMPORTERS.register
def himnet(path: Path, *, start: str | None = None, step: str | None = None) -> Draft:
    """Values by row number; step and weekday are those of the calendar channels, the date is a guess."""
    folder = path if path.is_dir() else path.parent
    file = one_file(path, "data.npz", what="archive of readings")
    values = as_series(npz_array(file, "data"), f"{file}: data")
    first, size = _calendar(values, f"{file}: data", start, step)
    index = beside(folder, "index.npz")
    ids = column_ids(values.shape[1])
    edges, graph = find_graph(folder, ids)
    times = regular_times(first, size, len(values))
    guessed = {"timezone": "guessed: the clock of the calendar channels"}
    guessed |= {} if start else {"start": "a date with the weekday of the archive, which has no dates"}
    facts = Facts(
        f"{values.shape[1]} series from {file.parent.name}/{file.name}",
        {"value": {}},
        first,
        as_datetime(times[-1]),
        size,
        guessed=guessed | ({} if step or values.shape[2] > 1 else {"step": "guessed: the archive has no times"}),
        split=_split(index, len(values)) if index else None,
    )
    grid = Grid(values[:, :, :1], tuple(ids), ("value",), times)
    return long_draft(facts, grid.frames(), edges=edges, graph=graph)


def _calendar(values: Array, where: str, start: str | None, step: str | None) -> tuple[datetime, timedelta]:
    if values.shape[2] == 1:
        return as_start(start) if start else MONDAY, as_step(step) if step else MATRIX_STEP
    week_day = values[:, 0, 2] if values.shape[2] > 2 else None
    first, size = calendar_of(values[:, 0, 1], week_day, where)
    return as_start(start) if start else first, as_step(step) if step else size


def _split(file: Path, length: int) -> tuple[float, float, float]:
    """Shares of training, validation and test windows.

    Raises:
        InputError: the windows are no (windows, 3) within the readings.
    """
    counts = []
    for name in PARTS:
        index = npz_array(file, name)
        if index.ndim != 2 or index.shape[1] != 3:
            raise InputError(f"{file}: {name}: found shape {index.shape}, expected (windows, 3)")
        if index.min() < 0 or index.max() > length:
            raise InputError(
                f"{file}: {name}: found step {index.max()}, expected steps from 0 to {length} as in the data"
            )
        counts.append(len(index))
    train, validation = (round(count / sum(counts), 2) for count in counts[:2])
    return train, validation, round(1 - train - validation, 2)
