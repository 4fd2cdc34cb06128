"""KnowAir: PM2.5 and weather of 184 Chinese cities every three hours, 2015 to 2018.

Layout (shuowang-ai/PM2.5-GNN): `KnowAir.npy` (L, N, C), the last channel being PM2.5 and the others weather, from
2015-01-01; `city.txt` with number, name, longitude and latitude, separated by blanks. The weather is left out.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import polars as pl

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import as_series, npy_array
from st_pipeline.interchange.parts.files import beside, one_file
from st_pipeline.interchange.parts.graphs import ALONE, POSITIONED
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, regular_times
from st_pipeline.readers.npz import column_ids
from st_pipeline.registry import IMPORTERS

START, STEP = datetime(2015, 1, 1), timedelta(hours=3)


@IMPORTERS.register
def knowair(path: Path) -> Draft:
    """PM2.5 of each city by its row number, with names and positions where `city.txt` lies beside the array."""
    file = one_file(path, "*.npy", what="array of readings")
    values = as_series(npy_array(file), str(file))[:, :, -1:]
    ids = column_ids(values.shape[1])
    cities = beside(path, "city*.txt")
    sensors = _cities(cities, ids) if cities else None
    times = regular_times(START, STEP, len(values))
    guessed = {"timezone": "guessed: as the weather of ERA5", "start": "the published start: the array has no times"}
    guessed |= {"step": "guessed: the published step, the array has no times"}
    rules = {"pm25": {"unit": "ug/m3", "minimum": 0}}
    facts = Facts(f"PM2.5 of {len(ids)} cities of KnowAir", rules, START, as_datetime(times[-1]), STEP, guessed=guessed)
    grid = Grid(values, tuple(ids), ("pm25",), times)
    return long_draft(facts, grid.frames(), sensors=sensors, graph=POSITIONED if sensors is not None else ALONE)


def _cities(file: Path, ids: list[str]) -> pl.DataFrame:
    """Names and positions, a line for each column of the array.

    Raises:
        InputError: a line is none of a city, or there are more or fewer than columns.
    """
    rows = []
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            name, longitude, latitude = " ".join(cells[1:-2]), float(cells[-2]), float(cells[-1])
        except (ValueError, IndexError):
            found = line[:60]
            raise InputError(
                f"{file}: line {number}: found {found!r}, expected number, name, longitude, latitude"
            ) from None
        rows.append({"latitude": latitude, "longitude": longitude, "name": name})
    if len(rows) != len(ids):
        raise InputError(f"{file}: found {len(rows)} cities, expected {len(ids)}: one for each column of the array")
    return pl.DataFrame({"sensor_id": ids}).hstack(pl.DataFrame(rows))
