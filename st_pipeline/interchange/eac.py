"""The archives of TrafficStream and EAC: a matrix and an adjacency a period.

Layout, as read by `main.py` and `utils/data_convert.py` of the public code of both methods (AprLie/TrafficStream,
Onedean/EAC): `RawData/<period>.npz` with `x` (L, N), `graph/<period>_adj.npz` with `x` (N, N), and window archives
`FastData/<period>.npz` or `<period>_30day.npz` with `train_x`, `train_y`, `val_x`, ... (windows, 12, N). Column j is
the same sensor in every period; new ones come last.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.fields import as_text
from st_pipeline.interchange.base import Draft
from st_pipeline.interchange.parts.arrays import Array, as_series, npz_array
from st_pipeline.interchange.parts.files import files_of
from st_pipeline.interchange.parts.graphs import adjacency_edges
from st_pipeline.interchange.parts.options import as_start, as_step
from st_pipeline.interchange.parts.windows import series_of_windows
from st_pipeline.periods import LONGEST
from st_pipeline.readers.npz import column_ids, shapes
from st_pipeline.registry import IMPORTERS
from st_pipeline.scaffold import MATRIX_STEP, quoted

GRAPH = "_adj"
START = date(2024, 1, 1)


@dataclass(frozen=True)
class Piece:
    """The files of one period: its readings, whether they are windows, and its adjacency."""

    name: str
    readings: Path
    windows: bool
    adjacency: Path | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Times:
    """The nominal calendar of an archive without dates: step, key of each period, and the calendar as YAML has it."""

    step: timedelta
    keys: tuple[str, ...]
    periods: str


@IMPORTERS.register
def eac(path: Path, *, step: str | None = None, start: str | None = None) -> Draft:
    """Periods that fill years keep their names, others follow each other from `start`; no file has dates."""
    pieces = _pieces(path)
    _check_pieces(pieces, path)
    times = _times(pieces, path, step, start)
    count = pieces[0].shape[2] if len(pieces[0].shape) == 3 else 1
    variables = ["value"] if count == 1 else [f"channel_{place}" for place in range(count)]
    has_graph = pieces[0].adjacency is not None
    called = ", ".join(f"{key} is {piece.name}" for key, piece in zip(times.keys, pieces, strict=True))
    lines = (
        f"description: {quoted(f'{path.name}: period {called}')}",
        "source:",
        "  format: npz",
        '  readings: "raw/{period}.npz"',
        *(['  adjacency: "graph/{period}.npz"'] if has_graph else []),
        f"  columns: {{{', '.join(f'{name}: {name}' for name in variables)}}}",
        f"step: {as_text(times.step)}" + ("" if step else "  # guessed: a matrix has no times"),
        f"periods: {times.periods}  # guessed: the archive names periods, not dates",
        f"target: {variables[0]}  # guessed: the first channel",
        f"graph: {'{recipe: edges}' if has_graph else '{recipe: none}  # guessed: the archive has no adjacency'}",
    )
    return Draft(lines, _files(pieces, times.keys))


def _times(pieces: list[Piece], path: Path, step: str | None, start: str | None) -> Times:
    years = [int(piece.name) for piece in pieces if re.fullmatch("19[0-9]{2}|20[0-9]{2}", piece.name)]
    in_order = bool(years) and start is None and years == list(range(years[0], years[0] + len(pieces)))
    size = as_step(step) if step else _step(pieces, years if in_order else [])
    days = max(-(-piece.shape[0] * size // timedelta(days=1)) for piece in pieces)
    by_year = in_order and days > 183  # a month a year would leave the year nearly empty
    if days > (366 if by_year else LONGEST):
        longest = max(piece.shape[0] for piece in pieces)
        raise InputError(f"{path}: {longest:,} steps of {size} are {days:,} days; expected a smaller --set step=...")
    if by_year:
        cadence = f"{{every: year, start: {years[0]}, end: {years[-1] + 1}, nominal: true}}"
        return Times(size, tuple(map(str, years)), cadence)
    first = as_start(start).date() if start else START
    bounds = [first + timedelta(days=days * count) for count in range(len(pieces) + 1)]
    cadence = f"{{every: {days}d, start: {first}, end: {bounds[-1]}, nominal: true}}"
    return Times(size, tuple(map(str, bounds[:-1])), cadence)


def _pieces(path: Path) -> list[Piece]:
    """The periods of an archive in order; a raw matrix goes before windows of the same period."""
    graphs: dict[str, Path] = {}
    found: dict[str, Piece] = {}
    for file in files_of(path, "*.npz"):
        name = file.stem.removesuffix(GRAPH)
        if file.stem.endswith(GRAPH):
            graphs[name] = file
            continue
        name, held = re.sub(r"_[0-9]+day$", "", file.stem), shapes(file)
        windows = "train_y" in held
        shape = held.get("train_y" if windows else "x")
        if shape is None:
            raise InputError(
                f"{file}: there is no array 'x', nor windows 'train_x', 'train_y', ...; found {sorted(held)}"
            )
        if len(shape) not in ((3,) if windows else (2, 3)) or 0 in shape:
            raise InputError(f"{file}: found shape {shape}, expected steps by sensors with at least one of each")
        if windows:
            steps = sum(held[f"{part}_y"][0] + 2 * shape[1] for part in ("train", "val", "test") if f"{part}_y" in held)
            shape = (steps, shape[2])
        if name not in found or found[name].windows:
            found[name] = Piece(name, file, windows, None, shape)
    if not found:
        raise InputError(f"{path}: there is no <period>.npz with an array 'x'")
    if stray := graphs.keys() - found.keys():
        raise InputError(f"{graphs[min(stray)]}: there are no readings of {min(stray)!r}; expected {min(stray)}.npz")
    ordered = sorted(found, key=lambda name: (not name.isdigit(), int(name) if name.isdigit() else 0, name))
    return [
        Piece(name, found[name].readings, found[name].windows, graphs.get(name), found[name].shape) for name in ordered
    ]


def _check_pieces(pieces: list[Piece], path: Path) -> None:
    for before, piece in pairwise(pieces):
        if piece.shape[1] < before.shape[1]:
            raise InputError(
                f"{piece.readings}: found {piece.shape[1]} sensors, expected at least the {before.shape[1]} of "
                f"{before.name}: column j is the same sensor in every period"
            )
    graphs = [piece.name for piece in pieces if piece.adjacency]
    if absent := [piece.name for piece in pieces if graphs and not piece.adjacency]:
        raise InputError(
            f"{path}: there is no {absent[0]}{GRAPH}.npz, but one of {graphs[0]}; expected one for each period, or none"
        )


def _step(pieces: list[Piece], years: list[int]) -> timedelta:
    """An hour where each period has the hours of its year, give or take what windows leave out; else five minutes."""
    hours = [(date(year + 1, 1, 1) - date(year, 1, 1)).days * 24 for year in years]
    close = [abs(piece.shape[0] - full) <= 24 for piece, full in zip(pieces, hours, strict=False)]
    return timedelta(hours=1) if close and all(close) else MATRIX_STEP


def _files(pieces: list[Piece], keys: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for piece, key in zip(pieces, keys, strict=True):
        values = series_of_windows(piece.readings) if piece.windows else npz_array(piece.readings, "x")
        values = as_series(values, f"{piece.readings}: x")
        if piece.adjacency:
            matrix = npz_array(piece.adjacency, "x")
            adjacency_edges(matrix, column_ids(values.shape[1]), f"{piece.adjacency}: x")
            yield f"graph/{key}.npz", archive_of(matrix)
        yield f"raw/{key}.npz", archive_of(values)


def archive_of(array: Array) -> bytes:
    """An `.npz` archive with the array `x`."""
    buffer = BytesIO()
    np.savez_compressed(buffer, x=array)
    return buffer.getvalue()
