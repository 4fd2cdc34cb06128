"""Forecasts from an exported folder. Needs torch and numpy, and nothing of st-pipeline.

    python predict.py readings.csv [--at TIME ...] [--json] [--out FILE]

readings.csv has a row a sensor and time: sensor_id, timestamp, and a column for each variable of model.json (`value`
will do for the first). A timestamp without a UTC offset is on the clock of the model's time zone.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import re
import sys
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import torch
from numpy.typing import NDArray

FORMAT = 1
MOST = 64  # forecasts at a time
COLUMNS = ("sensor_id", "issued_at", "target_time", "horizon", "point", "readings")
MEMBERS = re.compile(  # of an archive; none of these is unpickled when it is loaded
    r"[^/]+/(archive_format|archive_version|byteorder|\.data/(version|serialization_id)|models/model\.json"
    r"|data/(weights/(weight_\d+|model_weights_config\.json)|constants/(tensor_\d+|model_constants_config\.json)"
    r"|sample_inputs/model\.pt))"
)
TARGETS = re.compile(r"torch\.ops\.(aten|higher_order)\.[\w.]+|_operator\.\w+|math\.\w+|torch\.sym_\w+")
SYMBOLS = re.compile(  # sizes, as sympy writes them; it evaluates what it reads
    r"('[su]\d+'|[su]?\d+|Symbol|Integer|Add|Mul|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|torch\.utils\._sympy\."
    r"functions\.|positive|nonnegative|integer|True|False|[-+*/(),= ])+"
)


class Refused(ValueError):
    """Something in the folder or the readings that cannot be used, in one sentence."""


class Grid(NamedTuple):
    """Readings on the model's steps: values (L, N, C) float32 and usable (L, N, C); step 0 begins at `start`."""

    start: int  # UTC seconds
    values: NDArray[np.float32]
    usable: NDArray[np.bool_]


class Model:
    """An exported folder.

    Raises:
        Refused: a file is missing, is not the one that was exported, or could do more than compute.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.facts: dict[str, Any] = json.loads((folder / "model.json").read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise Refused(f"{folder / 'model.json'}: cannot be read: {error}") from None
        if self.facts.get("format") != FORMAT:
            raise Refused(f"{folder}: format {self.facts.get('format')}, expected {FORMAT}; export the model again")
        for name, expected in self.facts["digests"]["files"].items():
            if not (folder / name).is_file() or _digest(folder / name) != expected:
                raise Refused(f"{folder / name}: is missing or was changed since the export; export the model again")
        check_archive(folder / "model.pt2")
        scaler = read_safetensors(folder / "scaler.safetensors")
        self.mean, self.scale = scaler["mean"], scaler["scale"]
        self.program = torch.export.load(str(folder / "model.pt2")).module()
        self.zone = ZoneInfo(self.facts["timezone"])
        self.step: int = self.facts["step_seconds"]
        self.window: int = self.facts["window"]
        self.horizon: int = self.facts["horizon"]
        self.sensors: list[str] = self.facts["sensors"]
        self.lags: list[int] = self.facts["lags"]

    def index(self, instant: float) -> tuple[int, float]:
        """The step, counted from the model's anchor, that an instant belongs to, and how many seconds it is off."""
        step = int((instant - self.facts["anchor"] + self.step / 2) // self.step)
        return step, abs(instant - self.facts["anchor"] - step * self.step)

    def forecast(self, grid: Grid, issued: list[int]) -> NDArray[np.float32]:
        """(B, H, N) in the unit of the readings, of forecasts that read up to and with these steps of the grid."""
        inputs = self.inputs(grid, issued)
        size = MOST if self.facts["batch"] == "any" else 1
        parts = [
            self.program(*(torch.from_numpy(part[first : first + size]) for part in inputs)).detach().numpy()
            for first in range(0, len(issued), size)
        ]
        return self.restore(np.concatenate(parts))

    def inputs(self, grid: Grid, issued: list[int]) -> tuple[NDArray[Any], ...]:
        """values and observed (B, T, N, C + 2 lags), time of day and day of week (B, T + H)."""
        z = np.where(grid.usable, (self.forward(grid.values) - self.mean) / self.scale, np.float32(0))
        last = np.array(issued)[:, None]
        past = last + np.arange(1 - self.window, 1)
        values, seen = [_at(z, past)[0]], [_at(grid.usable, past)[0]]
        for ahead in (0, self.window):
            if self.lags:
                lagged, known = self._lagged(z[..., 0], grid.usable[..., 0], past + ahead, last)
                values.append(lagged)
                seen.append(known)
        steps = last + np.arange(1 - self.window, self.horizon + 1)
        slot, day = self.calendar(grid.start + steps * self.step)
        return np.concatenate(values, -1).astype(np.float32), np.concatenate(seen, -1), slot, day

    def _lagged(
        self, z: NDArray[Any], usable: NDArray[np.bool_], steps: NDArray[Any], last: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        """The target one lag before each step, (B, T, N, lags): what is missing is filled with the next lag's."""
        parts, masks = [], []
        for lag in self.lags:
            at = steps - lag
            value, there = _at(z, at)
            mask = _at(usable, at)[0] & (there & (at <= last))[..., None]
            parts.append(np.where(mask, value, 0))
            masks.append(mask)
        values, seen = np.stack(parts, -1), np.stack(masks, -1)
        filled, known = values, seen
        for shift in range(1, len(self.lags)):
            filled = np.where(known, filled, np.roll(values, -shift, -1))
            known = known | np.roll(seen, -shift, -1)
        return filled, seen

    def calendar(self, seconds: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Slot of the local day and day of the week, Monday 0, of steps; the middle of a step decides."""
        middle = (self.step - 1) // 2
        found = {}
        for second in np.unique(seconds).tolist():
            local = datetime.fromtimestamp(second + middle, UTC).astimezone(self.zone)
            found[second] = ((local.hour * 3600 + local.minute * 60 + local.second) // self.step, local.weekday())
        pairs = np.array([found[second] for second in seconds.ravel().tolist()], dtype=np.int64)
        return pairs[:, 0].reshape(seconds.shape), pairs[:, 1].reshape(seconds.shape)

    def forward(self, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """The target's transform before standardising."""
        kind, target = self.facts["transform"], np.maximum(values[..., :1], 0)
        moved = {"sqrt": np.sqrt, "log": np.log1p}[kind](target) if kind != "none" else values[..., :1]
        return np.concatenate([moved, values[..., 1:]], -1)

    def restore(self, forecast: NDArray[np.float32]) -> NDArray[np.float32]:
        """Model units -> the unit of the readings."""
        if self.facts["raw_target"]:
            return forecast
        target = forecast * self.scale[:, 0] + self.mean[:, 0]
        if self.facts["transform"] == "sqrt":
            return np.asarray(np.maximum(target, 0) ** 2)
        return np.expm1(np.clip(target, 0, 30)) if self.facts["transform"] == "log" else target


def _at(array: NDArray[Any], steps: NDArray[Any]) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Rows of an array at steps (B, T), and which of the steps it has; where it has none, 0."""
    there = (steps >= 0) & (steps < len(array))
    rows = array[np.clip(steps, 0, len(array) - 1)]
    return np.where(there.reshape(*there.shape, *(1,) * (array.ndim - 1)), rows, 0).astype(array.dtype), there


def check_archive(path: Path) -> None:
    """Refuse an archive that could do more than compute: `torch.export.load` unpickles some kinds of members, and
    looks up names that a program calls.

    Raises:
        Refused: saying which part.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [info.filename for info in archive.infolist()]
            if strange := [name for name in names if not MEMBERS.fullmatch(name)] or _twice(names):
                raise Refused(f"{path}: {strange[0]!r} is no part of an exported model; nothing was loaded")
            for name in names:
                if name.endswith("sample_inputs/model.pt") and archive.getinfo(name).file_size:
                    raise Refused(f"{path}: it holds sample inputs, which would be unpickled; nothing was loaded")
                if name.endswith(".json"):
                    _check(json.loads(archive.read(name)), f"{path}: {name}")
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise error if isinstance(error, Refused) else Refused(f"{path}: is no archive: {error}") from None


def _twice(names: list[str]) -> list[str]:
    return [name for name in names if names.count(name) > 1]


def _check(part: Any, where: str) -> None:
    """Refuse pickled payloads, operators that are none of torch's own, and symbols that are more than arithmetic."""
    if isinstance(part, list):
        for item in part:
            _check(item, where)
    if not isinstance(part, dict):
        return
    for key, value in part.items():
        if key == "use_pickle" and value:
            raise Refused(f"{where}: a tensor in it is pickled; nothing was loaded")
        if key == "target" and isinstance(value, str) and "inputs" in part and not TARGETS.fullmatch(value):
            raise Refused(f"{where}: it calls {value[:80]!r}; nothing was loaded")
        if key == "expr_str" and not SYMBOLS.fullmatch(str(value)):
            raise Refused(f"{where}: {str(value)[:80]!r} is no size; nothing was loaded")
        _check(value, where)


def read_safetensors(path: Path) -> dict[str, NDArray[np.float32]]:
    """The float32 tensors of a safetensors file."""
    payload = path.read_bytes()
    size = int.from_bytes(payload[:8], "little")
    header = json.loads(payload[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            array = np.frombuffer(payload[8 + size + begin : 8 + size + end], dtype="<f4")
            found[name] = array.reshape(entry["shape"])
    return found


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


class Readings:
    """Rows of a CSV file on the model's steps.

    A cell is not usable where there is no row, no number, one of the variable's sentinels, a number outside its
    range, or two rows that differ; of rows between two steps nothing is used. The rules of the pipeline that need a
    long history (values that are stuck, spikes) are not applied.

    Raises:
        Refused: the file cannot be read, or has no row of the model's sensors.
    """

    def __init__(self, model: Model, path: Path) -> None:
        self.model = model
        self.unknown: set[str] = set()
        self.cells: dict[tuple[int, int], list[list[float | None]]] = {}
        rows = {name: row for row, name in enumerate(model.sensors)}
        seen: dict[tuple[str, str], int] = {}
        for line, sensor, text, values in self._rows(path):
            if sensor not in rows:
                self.unknown.add(sensor)
                continue
            copy = seen[sensor, text] = seen.get((sensor, text), -1) + 1
            instant = self._instant(text, copy, f"{path}: line {line}")
            step, off = model.index(instant - model.facts["label_lag_seconds"])
            if off <= model.facts["tolerance_seconds"]:
                self.cells.setdefault((step, rows[sensor]), []).append(values)
        if not self.cells:
            raise Refused(f"{path}: there is no row of a sensor that the model knows, e.g. {model.sensors[0]!r}")
        self.last = max(step for step, _ in self.cells)

    def grid(self, first: int, last: int) -> Grid:
        """The steps from `first` to `last`, counted from the model's anchor."""
        facts = self.model.facts
        shape = (last - first + 1, len(self.model.sensors), len(facts["variables"]))
        values, usable = np.zeros(shape, np.float32), np.zeros(shape, np.bool_)
        for (step, row), copies in self.cells.items():
            if first <= step <= last:
                for channel, variable in enumerate(facts["variables"]):
                    found = {copy[channel] for copy in copies} - {None}
                    value = found.pop() if len(found) == 1 else None
                    if value is not None and (facts["missing"] == "zero" or _is_good(value, variable)):
                        values[step - first, row, channel] = value
                        usable[step - first, row, channel] = True
        if facts["missing"] == "zero":  # the published convention: a missing reading is a zero
            usable[:] = True
        return Grid(facts["anchor"] + first * facts["step_seconds"], values, usable)

    def heard(self, steps: range) -> list[int]:
        """Of each sensor: at how many of the steps, counted from the model's anchor, it has a row."""
        return [sum((step, row) in self.cells for step in steps) for row in range(len(self.model.sensors))]

    def _rows(self, path: Path) -> Iterator[tuple[int, str, str, list[float | None]]]:
        names = [variable["name"] for variable in self.model.facts["variables"]]
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                table = csv.DictReader(file)
                header = table.fieldnames or []
                own = "value" if names[0] not in header and "value" in header else names[0]
                columns = [own, *names[1:]]
                if missing := [name for name in ("sensor_id", "timestamp", *columns) if name not in header]:
                    raise Refused(f"{path}: has no column {missing[0]!r}; expected sensor_id, timestamp, {names}")
                for row in table:
                    where = f"{path}: line {table.line_num}"
                    values = [_number(row[name], f"{where}: {name}") for name in columns]
                    yield table.line_num, (row["sensor_id"] or "").strip(), row["timestamp"] or "", values
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise Refused(f"{path}: cannot be read: {error}") from None

    def _instant(self, text: str, copy: int, where: str) -> float:
        """A label as UTC seconds; of two equal labels where a clock change repeats an hour, the second is the later."""
        return moment(text, self.model.zone, where, second=copy > 0).timestamp()


def moment(text: str, zone: ZoneInfo, where: str, *, second: bool = False) -> datetime:
    """A time as written in ISO 8601, on the zone's clock if it has no offset.

    Raises:
        Refused: it is none.
    """
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise Refused(f"{where}: found {text[:40]!r}, expected a time such as 2024-01-31T13:00+01:00") from None
    return found if found.tzinfo else found.replace(tzinfo=zone, fold=int(second))


def _number(text: str | None, where: str) -> float | None:
    if text is None or text.strip() in ("", "NA", "NaN", "nan", "null"):
        return None
    try:
        return float(text)
    except ValueError:
        raise Refused(f"{where}: found {text[:40]!r}, expected a number") from None


def _is_good(value: float, variable: dict[str, Any]) -> bool:
    low, high = variable["minimum"], variable["maximum"]
    inside = (low is None or value >= low) and (high is None or value <= high)
    return inside and np.isfinite(value) and value not in variable["sentinels"]


def forecasts(model: Model, readings: Readings, times: list[datetime]) -> list[dict[str, Any]]:
    """A row a sensor and step of the forecasts issued at these times, by default at the end of the last reading.

    Raises:
        Refused: a time is not the end of a step, or there is no reading before it.
    """
    issued = [_issued(model, time) for time in times] or [readings.last]
    first = min(issued) + 1 - model.window - max(model.lags, default=0)
    grid = readings.grid(first, max(issued))
    found = model.forecast(grid, [step - first for step in issued])
    return [row for step, points in zip(issued, found, strict=True) for row in _table(model, readings, step, points)]


def _issued(model: Model, time: datetime) -> int:
    """The last step that a forecast issued then reads."""
    step, off = model.index(time.timestamp())
    if off > model.facts["tolerance_seconds"]:
        raise Refused(f"--at {time.isoformat()}: no step of {model.step} seconds ends then")
    return step - 1


def _table(model: Model, readings: Readings, issued: int, points: NDArray[np.float32]) -> list[dict[str, Any]]:
    """One forecast (H, N) as rows."""
    heard = readings.heard(range(issued + 1 - model.window, issued + 1))
    if not sum(heard):
        raise Refused(
            f"no sensor has a reading in the {model.window} steps before the time of issue; there is nothing to read"
        )
    begin = model.facts["anchor"] + (issued + 1) * model.step
    times = [
        datetime.fromtimestamp(begin + ahead * model.step, UTC).astimezone(model.zone).isoformat()
        for ahead in range(model.horizon)
    ]
    return [
        dict(zip(COLUMNS, (sensor, times[0], time, ahead + 1, float(points[ahead, row]), heard[row]), strict=True))
        for row, sensor in enumerate(model.sensors)
        for ahead, time in enumerate(times)
    ]


def main(arguments: list[str] | None = None) -> int:
    """The command; returns 0, or 2 where something cannot be used."""
    parser = argparse.ArgumentParser(description="Forecasts of the model in this folder from a CSV file of readings.")
    parser.add_argument("readings", type=Path, help="sensor_id, timestamp and the model's variables")
    parser.add_argument(
        "--at", action="append", default=[], help="time of issue; by default the end of the last reading"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document instead of CSV")
    parser.add_argument("--out", type=Path, help="write there instead of to standard output")
    parser.add_argument("--model", type=Path, default=Path(__file__).parent, help="folder of the model")
    given = parser.parse_args(arguments)
    try:
        model = Model(given.model)
        readings = Readings(model, given.readings)
        rows = forecasts(model, readings, [moment(text, model.zone, "--at") for text in given.at])
    except Refused as error:
        print(f"predict.py: {error}", file=sys.stderr)
        return 2
    if readings.unknown:
        names = f"{len(readings.unknown)} sensors that the model does not know, e.g. {min(readings.unknown)!r}"
        print(f"predict.py: left out {names}", file=sys.stderr)
    with given.out.open("w", newline="", encoding="utf-8") if given.out else nullcontext(sys.stdout) as file:
        if given.json:
            json.dump({"model_id": model.facts["model_id"], "forecasts": rows}, file, indent=1)
        else:
            table = csv.DictWriter(file, COLUMNS)
            table.writeheader()
            table.writerows(rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())
