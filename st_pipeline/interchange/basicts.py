"""BasicTS: a memory-mapped array and its description.

Layout (GestaltCogTeam/BasicTS, `tutorial/dataset_design.md`): `data.dat` is `numpy.memmap` of float32, shape (L, N, C)
with the value first, then optionally time of day, day of week and more; `desc.json` has `shape`, `frequency (minutes)`,
`feature_description` and `regular_settings` with the split; `adj_mx.pkl` is (N, N) or DCRNN's list. No ids, no dates.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array, as_series
from st_pipeline.interchange.parts.calendar_channels import MONDAY, calendar_of
from st_pipeline.interchange.parts.files import one_file, read_json
from st_pipeline.interchange.parts.graphs import find_graph
from st_pipeline.interchange.parts.long_draft import Facts, Grid, as_datetime, long_draft, regular_times
from st_pipeline.interchange.parts.options import as_start
from st_pipeline.readers.npz import column_ids
from st_pipeline.registry import IMPORTERS

MINUTES = "frequency (minutes)"
CLOCK = {"time of day", "day of week", "day of month", "day of year"}


@IMPORTERS.register
def basicts(path: Path, *, start: str | None = None) -> Draft:
    """The channels that are no calendar, by row number of the sensor."""
    folder = path if path.is_dir() else path.parent
    file = one_file(folder, "desc.json", what="description")
    desc = read_json(file, ("shape", MINUTES))
    values = as_series(_values(folder, file, desc["shape"]), str(folder / "data.dat"))
    step = _step(file, desc[MINUTES])
    names, places = _channels(file, desc, values.shape[2])
    first = as_start(start) if start else _first(values, desc, step, str(folder / "data.dat"))
    times = regular_times(first, step, len(values))
    ids = column_ids(values.shape[1])
    edges, graph = find_graph(folder, ids)
    missing = (desc.get("regular_settings") or {}).get("NULL_VAL")
    rule = {"sentinels": [0]} if missing == 0 and not isinstance(missing, bool) else {}
    guessed = {"timezone": "guessed: the clock of the calendar channels"}
    facts = Facts(
        f"{str(desc.get('name') or folder.name)[:60]}: {values.shape[1]} series of BasicTS",
        dict.fromkeys(names, rule),
        first,
        as_datetime(times[-1]),
        step,
        guessed=guessed | ({} if start else {"start": "a date with the weekday of the archive, which has no dates"}),
        split=_split(file, desc),
    )
    grid = Grid(values[:, :, places], tuple(ids), names, times)
    return long_draft(facts, grid.frames(), edges=edges, graph=graph)


def _values(folder: Path, desc: Path, shape: Any) -> Array:
    """(L, N, C) of the memory map.

    Raises:
        InputError: it is not there, or its size is not that of the shape.
    """
    file = one_file(folder, "data.dat", what="memory map")
    if (
        not isinstance(shape, list)
        or len(shape) not in (2, 3)
        or not all(type(size) is int and size > 0 for size in shape)
    ):
        raise InputError(f"{desc}: shape: found {shape!r}, expected [steps, series, channels], all above 0")
    expected = 4 * int(np.prod(shape, dtype=object))
    if (size := file.stat().st_size) != expected:
        raise InputError(
            f"{file}: found {size:,} bytes, expected {expected:,} for the shape {shape} of {desc.name} in float32"
        )
    return np.memmap(file, dtype=np.float32, mode="r", shape=tuple(shape))


def _step(file: Path, minutes: Any) -> timedelta:
    if isinstance(minutes, bool) or not isinstance(minutes, int | float) or not 0 < minutes <= 1440:
        raise InputError(f"{file}: {MINUTES}: found {minutes!r}, expected minutes above 0, up to a day")
    return timedelta(minutes=minutes)


def _described(desc: dict[str, Any]) -> list[str]:
    found = desc.get("feature_description")
    return [str(name).strip() for name in found] if isinstance(found, list) else []


def _channels(file: Path, desc: dict[str, Any], count: int) -> tuple[tuple[str, ...], list[int]]:
    """Names and places of the channels that are no calendar."""
    told = _described(desc)
    if told and len(told) != count:
        raise InputError(f"{file}: feature_description: found {len(told)} names, expected {count} as in the shape")
    places = [place for place in range(count) if (told[place].lower() not in CLOCK if told else place == 0)]
    if not places:
        raise InputError(f"{file}: feature_description: found only the calendar, expected a value")
    names: list[str] = []
    for place in places:
        name = re.sub(r"\W+", "_", told[place].lower()).strip("_")[:40] if told else "value"
        name = name if name and not name[0].isdigit() else f"value_{name}".rstrip("_")
        names.append(name if name not in names else f"{name}_{place}")
    return tuple(names), places


def _first(values: Array, desc: dict[str, Any], step: timedelta, where: str) -> datetime:
    """A first time that fits the calendar channels, the weekday being a share too; a Monday without them."""
    told = [name.lower() for name in _described(desc)]
    if "time of day" not in told:
        return MONDAY
    week = np.asarray(values[:, 0, told.index("day of week")]) if "day of week" in told else None
    if week is not None and week.max(initial=0) < 1:
        week = np.round(week * 7)
    first, found = calendar_of(np.asarray(values[:, 0, told.index("time of day")]), week, where)
    if found != step:
        raise InputError(
            f"{where}: the time of day goes on by {found} a step, {MINUTES} of the description says {step}"
        )
    return first


def _split(file: Path, desc: dict[str, Any]) -> tuple[float, float, float] | None:
    ratio = (desc.get("regular_settings") or {}).get("TRAIN_VAL_TEST_RATIO")
    if ratio is None:
        return None
    numbers = isinstance(ratio, list) and all(isinstance(part, int | float) and 0 < part < 1 for part in ratio)
    if not numbers or len(ratio) != 3 or abs(sum(ratio) - 1) > 1e-6:
        raise InputError(f"{file}: TRAIN_VAL_TEST_RATIO: found {ratio!r}, expected three shares above 0 that sum to 1")
    return ratio[0], ratio[1], ratio[2]
