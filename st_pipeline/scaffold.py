"""A first stream file from somebody's tables, every guess marked."""

from __future__ import annotations

import glob
import json
import re
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import yaml

from st_pipeline.data_config import RESERVED
from st_pipeline.errors import InputError
from st_pipeline.fields import as_text, check_variable
from st_pipeline.guesses import Guess, guess_matrix, guess_positions, guess_readings
from st_pipeline.periods import Cadence

CADENCES = {"year": 365, "half-year": 182, "quarter": 91, "month": 30, "week": 7}  # days
MATRIX_STEP, MATRIX_START = timedelta(minutes=5), date(2024, 1, 1)
MODELS = (
    "window: 12",
    "horizon: 12",
    "models:",
    "  - {name: eac, backbone: stgnn, prompt_pool: {rank: 6}, strategy: eac}",
    "  - {name: retrain, backbone: stgnn, strategy: retrain}",
)
LEAST_STEPS = 400  # a period should have at least this many steps


def scaffold(name: str, readings: Path, sensors: Path | None) -> str:
    """The text of a stream file for tables that will lie beside it.

    Raises:
        InputError: a table cannot be read, or has no column that could be an id, a time or a value.
    """
    if readings.suffix.lower() == ".npz":
        if sensors is not None:
            raise InputError(f"{sensors}: the columns of a matrix have no ids; leave the sensors out")
        return _of_matrix(name, readings)
    guess = guess_readings(readings)
    variables = _variables(guess.values)
    columns = {"sensor_id": guess.sensor_id, "timestamp": guess.timestamp, **variables}
    graph = "{recipe: none}  # guessed: no positions"
    if sensors is not None:
        positions = guess_positions(sensors, guess.sensor_id)
        columns |= positions
        if positions.keys() - {"sensor_id"}:
            graph = "{recipe: gaussian, threshold: 0.5}"
    shown = ", ".join(
        f"{quoted(ours)}: {quoted(theirs)}"
        for ours, theirs in columns.items()
        if ours != theirs or ours not in ("sensor_id", "timestamp")
    )
    every, start, end = fitting_periods(guess.first, guess.last, guess.step)
    target = next(iter(variables))
    lines = [
        f"name: {quoted(name)}",
        'description: ""',
        "source:",
        f"  format: {'parquet' if readings.suffix.lower() in ('.parquet', '.pq') else 'csv'}",
        f"  readings: {quoted(glob.escape(readings.name))}",
        *([f"  delimiter: {json.dumps(guess.delimiter)}"] if guess.delimiter != "," else []),
        *([f"  sensors: {quoted(glob.escape(sensors.name))}"] if sensors else []),
        f"  columns: {{{shown}}}  # guessed: every other column is left out",
        "  interval: start  # guessed: a timestamp is the start of its interval; else end",
        f"timezone: UTC  # {'the clock people use' if guess.zoned else 'guessed: the clock of the timestamps'}",
        f"step: {as_text(guess.step)}  # guessed from the gaps between timestamps",
        f"periods: {{every: {every}, start: {start}, end: {end}}}  # guessed; without end it goes on as time passes",
        f"target: {quoted(target)}  # guessed: the first column of numbers",
        "variables:",
        f"  {quoted(target)}: {{}}  # e.g. {{unit: cars/h, minimum: 0, maximum: 8000, sentinels: [-1], stuck: 6h}}",
        f"graph: {graph}",
        *MODELS,
        "  - name: eac_calendar",
        "    backbone: {name: stgnn, calendar: true, context: 8}",
        "    prompt_pool: {rank: 8}",
        "    strategy: eac",
        f"    seasonal: {_seasons(guess)}",
        "    training: {learning_rate: 0.003}",
        "champion: eac_calendar",
    ]
    return "\n".join(lines) + "\n"


def _of_matrix(name: str, file: Path) -> str:
    """The text of a stream file for one matrix, time by sensor, whose calendar and step are not known."""
    array, shape = guess_matrix(file)
    count = shape[2] if len(shape) == 3 else 1
    variables = [f"channel_{index}" for index in range(count)] if count > 1 else ["value"]
    days = -(-shape[0] * MATRIX_STEP // timedelta(days=1))
    end = MATRIX_START + timedelta(days=days)
    lines = [
        f"name: {quoted(name)}",
        'description: ""',
        "source:",
        "  format: npz",
        f"  readings: {quoted(glob.escape(file.name))}  # with more files, write {{period}} for the period's key",
        f"  array: {quoted(array)}  # guessed: the largest",
        f"  columns: {{{', '.join(f'{variable}: {variable}' for variable in variables)}}}",
        f"step: {as_text(MATRIX_STEP)}  # guessed: a matrix has no times",
        f"periods: {{every: {days}d, start: {MATRIX_START}, end: {end}, nominal: true}}  # guessed",
        f"target: {variables[0]}  # guessed: the first channel",
        "graph: {recipe: none}  # for an adjacency, set source.adjacency and {recipe: edges}",
        *MODELS,
        "champion: eac",
    ]
    return "\n".join(lines) + "\n"


def fitting_periods(first: date, last: date, step: timedelta) -> tuple[str, date, date]:
    """The longest cadence that gives at least three periods of enough steps, and the boundaries around the data."""
    days = (last - first).days + 1
    fitting = [
        name for name, length in CADENCES.items() if days >= 3 * length and timedelta(days=length) / step >= LEAST_STEPS
    ]
    every = fitting[0] if fitting else f"{max(1, days // 3)}d"
    cadence = Cadence.parse(every)
    months = cadence.months
    start = date(first.year, (first.month - 1) // months * months + 1, 1) if months else first
    bounds = [start]
    while bounds[-1] <= last:
        bounds.append(cadence.start_of(start, len(bounds)))
    if len(bounds) > 2 and _is_sparse(bounds[0], bounds[1], first, last):
        del bounds[0]
    if len(bounds) > 2 and _is_sparse(bounds[-2], bounds[-1], first, last):
        del bounds[-1]
    return every, bounds[0], bounds[-1]


def _is_sparse(start: date, end: date, first: date, last: date) -> bool:
    """Whether data from the first to the last day cover less than half of a period."""
    covered = min(end, last + timedelta(days=1)) - max(start, first)
    return covered < (end - start) / 2


def _seasons(guess: Guess) -> str:
    """Lags of a day and a week, as far as the data reach back."""
    days = (guess.last - guess.first).days
    lags = [
        lag
        for lag, needed in (("1d", 6), ("7d", 42), ("14d", 84))
        if days >= needed and timedelta(days=1) / guess.step >= 12
    ]
    return f"[{', '.join(lags)}]"


def _variables(columns: Sequence[str]) -> dict[str, str]:
    """Names that a variable may have -> the file's columns."""
    found: dict[str, str] = {}
    for column in columns:
        name = re.sub(r"\W+", "_", column.lower()).strip("_")[:40]
        try:
            name = name if check_variable(name) not in {*RESERVED, *found} else f"{name}_value"
        except ValueError:
            name = f"value_{name}".strip("_")
        found[name if name not in found else f"{name}_{len(found) + 1}"] = column
    return found


def quoted(text: str) -> str:
    """Text as YAML reads it back."""
    if re.fullmatch(r"[A-Za-z][\w.-]*", text) and yaml.safe_load(text) == text:
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())
