"""The simulated road network as a source: written once under the scratch folder, then read like any other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.readers.base import Reader

MakeReader = Callable[..., Reader]
SOURCE = {
    "format": "simulated",
    "sensors": 4,
    "growth": 1,
    "columns": {"flow": "flow", "speed": "speed", "x": "x_m", "y": "y_m", "distance": "distance_m"},
}
PERIODS = {"every": "2d", "start": "2024-01-01", "end": "2024-01-05"}


def of(make_reader: MakeReader, periods: Any = PERIODS, step: str = "15min", **source: Any) -> Reader:
    return make_reader(SOURCE | source, {}, periods=periods, step=step)


def test_it_is_written_once_and_read_by_period(make_reader: MakeReader, tmp_path: Path) -> None:
    reader = of(make_reader)
    assert not (tmp_path / "scratch").exists()
    first, second = (reader.readings(period) for period in reader.context.config.calendar.periods())  # type: ignore[attr-defined]
    assert first.columns == ["sensor_id", "timestamp", "received", "flow", "speed", "file", "row"]
    assert first["timestamp"].max() < second["timestamp"].min()  # type: ignore[operator]
    assert first["sensor_id"].n_unique() == 4
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch").rglob("*")}
    assert of(make_reader).sensors()["sensor_id"].n_unique() == 5
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "scratch").rglob("*")} == times
    assert reader.has_edges
    assert all(path.is_relative_to(tmp_path / "scratch") for path in reader.files())


def test_another_seed_is_another_folder(make_reader: MakeReader, tmp_path: Path) -> None:
    of(make_reader).files()
    of(make_reader, seed=8).files()
    assert len(list((tmp_path / "scratch").iterdir())) == 2


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"periods": {"every": "month", "start": "2024-01"}},
            "periods.every is 'month'; a simulated stream needs days",
        ),
        ({"step": "1s"}, "source: step_minutes is 0; expected a whole number from 5 to 60"),
        ({"step": "6min"}, "source: step_minutes is 6; expected one of 5, 10, 15, 20, 30, 60"),
        ({"sensors": 1}, "source: sensors is 1; expected a whole number from 2 to"),
        ({"demand_growth": 9.0}, "source: demand_growth is 9.0; expected a number from -0.2 to 0.5"),
        ({"periods": {"every": "100d", "start": "2000-01-01", "end": "2013-09-09"}}, "days; expected at most 1500"),
    ],
)
def test_what_cannot_be_simulated_is_told(make_reader: MakeReader, changes: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError) as caught:
        of(make_reader, **changes)
    assert "stream 'stream': " in str(caught.value)
    assert expected in str(caught.value)


def test_a_scratch_folder_that_cannot_be_written_is_told(make_reader: MakeReader, tmp_path: Path) -> None:
    (tmp_path / "scratch").write_text("a file in its place")
    with pytest.raises(InputError, match="the simulated stream cannot be written: "):
        of(make_reader).files()


def test_a_folder_that_holds_something_else_is_left_alone(make_reader: MakeReader) -> None:
    reader = of(make_reader)
    folder = reader.raw  # type: ignore[attr-defined]
    folder.mkdir(parents=True)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds something else"):
        reader.files()
    assert (folder / "notes.txt").read_text() == "mine"
