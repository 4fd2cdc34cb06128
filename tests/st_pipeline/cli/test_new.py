"""`new`: a folder that `check` accepts as it is, from tables of many kinds; or nothing at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import Result

from st_pipeline.streams import load_stream

Invoke = Callable[..., Result]


def table(
    days: int = 70,
    *,
    first: datetime = datetime(2024, 1, 1),
    step: timedelta = timedelta(hours=1),
    names: Sequence[str] = ("station", "time", "flow"),
) -> pl.DataFrame:
    """Readings of three sensors, whose ids have leading zeros."""
    times = pl.datetime_range(first, first + timedelta(days=days), step, closed="left", eager=True)
    frames = [
        pl.DataFrame({names[0]: [f"0{sensor}"] * len(times), names[1]: times})
        .with_row_index("turn")
        .with_columns((pl.col("turn") % 24 + sensor).cast(pl.Float64).alias(name) for name in names[2:])
        .drop("turn")
        for sensor in range(3)
    ]
    return pl.concat(frames)


def sensors(axes: Sequence[str] = ("lat", "lon")) -> pl.DataFrame:
    return pl.DataFrame({"station": ["00", "01", "02"], axes[0]: [52.5, 52.51, 52.52], axes[1]: [13.4, 13.4, 13.41]})


def write(frame: pl.DataFrame, file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        frame.write_parquet(file)
    else:
        frame.write_csv(file, separator="\t" if file.suffix == ".tsv" else ";" if file.suffix == ".txt" else ",")
    return file


def checked(invoke: Invoke, name: str) -> dict[str, Any]:
    result = invoke("check", name, "--json")
    assert result.exit_code == 0, result.stderr
    document: dict[str, Any] = json.loads(result.stdout)
    return document


@pytest.mark.parametrize("extension", ["csv", "parquet", "tsv", "txt"])
def test_check_accepts_what_new_makes(workspace: Any, invoke: Invoke, extension: str) -> None:
    readings = write(table(), workspace.folder / f"readings.{extension}")
    facts = write(sensors(), workspace.folder / f"sensors.{extension}")
    result = invoke("new", "mine", "--readings", str(readings), "--sensors", str(facts))
    assert result.exit_code == 0, result.output
    assert "streams/mine/stream.yaml" in result.stdout
    document = checked(invoke, "mine")
    assert (document["sensors"], document["step"], document["target"]) == (3, "1:00:00", "flow")
    assert len(document["periods"]) >= 2 and all(row["edges"] is not None for row in document["periods"])


@pytest.mark.parametrize(("shape", "channels"), [((900, 4), 1), ((900, 4, 2), 2)])
def test_a_matrix(workspace: Any, invoke: Invoke, shape: tuple[int, ...], channels: int) -> None:
    np.savez(workspace.folder / "2011.npz", data=np.random.default_rng(1).random(shape), small=np.ones((2, 2)))
    assert invoke("new", "mine", "--readings", "2011.npz").exit_code == 0
    document = checked(invoke, "mine")
    assert document["sensors"] == 4
    assert len(load_stream(workspace.streams / "mine").config.variable_names) == channels


@pytest.mark.parametrize(
    ("names", "target"),
    [
        (("id", "timestamp", "Flow [1/h]"), "flow_1_h"),
        (("ID", "Date_Time", "no"), "no"),
        (("id", "time", "x"), "x_value"),
        (("id", "time", "distance", "weight"), "distance_value"),
        (("id", "time", "2nd: \"q\" 'r' #1"), "value_2nd_q_r_1"),
        (("id", "time", "Größe", "größe"), "größe"),
        (("id", "time", "q [m]", "q (m)"), "q_m"),
    ],
)
def test_columns_of_any_name(workspace: Any, invoke: Invoke, names: tuple[str, ...], target: str) -> None:
    write(table(names=names), workspace.folder / "r.csv")
    result = invoke("new", "mine", "--readings", "r.csv")
    assert result.exit_code == 0, result.output
    config = load_stream(workspace.streams / "mine").config
    assert config.variable_names[0] == target
    assert len(config.variable_names) == len(names) - 2
    assert checked(invoke, "mine")["errors"] == []


@pytest.mark.parametrize("name", ["no", "null", "true", "on", "y"])
@pytest.mark.parametrize("file", ["r [1].csv", "yes.csv", "a*b?.csv"])
def test_names_that_yaml_or_patterns_read_otherwise(workspace: Any, invoke: Invoke, name: str, file: str) -> None:
    write(table(21), workspace.folder / file)
    result = invoke("new", name, "--readings", file)
    assert result.exit_code == 0, result.output
    assert load_stream(workspace.streams / name).name == name


@pytest.mark.parametrize("first", [datetime(2024, 1, 31), datetime(2024, 1, 3), datetime(2023, 12, 15)])
@pytest.mark.parametrize("days", [61, 92, 100])
def test_periods_hold_enough_of_the_data(workspace: Any, invoke: Invoke, first: datetime, days: int) -> None:
    write(table(days, first=first), workspace.folder / "r.parquet")
    assert invoke("new", "mine", "--readings", "r.parquet").exit_code == 0
    assert all(row["missing"] <= 60 for row in checked(invoke, "mine")["periods"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["Mine", "--readings", "r.csv"], "'Mine' cannot be the name of a stream"),
        (["mine", "--readings", "none.csv"], "none.csv: there is no such file"),
        (["mine", "--readings", "none.npz"], "none.npz: there is no such file"),
        (["mine", "--readings", "r.xlsx"], "r.xlsx: expected a .csv or .parquet table"),
        (["mine", "--readings", "r.csv", "--sensors", "other/r.csv"], "both tables are called 'r.csv'"),
        (["mine", "--readings", "x.npz", "--sensors", "s.csv"], "s.csv: the columns of a matrix have no ids"),
        (["mine", "--readings", "x.npz"], "x.npz: there is no array of time by sensor"),
        (["mine", "--readings", "uneven.csv"], "mostly 0:07:00; expected one that divides a day"),
        (["mine", "--readings", "s.csv"], "s.csv: no column looks like a time"),
        (["mine", "--readings", "words.csv"], "words.csv: no column of numbers"),
        (["mine", "--readings", "once.csv"], "once.csv: no sensor has two different times"),
        (["mine", "--readings", "r.csv", "--into", "r.csv"], "cannot be written"),
    ],
)
def test_what_cannot_be_guessed_leaves_nothing(
    workspace: Any, invoke: Invoke, arguments: list[str], expected: str
) -> None:
    folder = workspace.folder
    for file in ("r.csv", "other/r.csv", "r.xlsx"):
        write(table(3), folder / file)
    write(sensors(), folder / "s.csv")
    write(table(1, step=timedelta(minutes=7)), folder / "uneven.csv")
    (folder / "words.csv").write_text("id,time,q\na,2024-01-01,x\na,2024-01-02,y\n")
    (folder / "once.csv").write_text("id,time,q\na,2024-01-01,1\nb,2024-01-01,2\n")
    np.savez(folder / "x.npz", x=np.ones(5))
    before = sorted(folder.rglob("*"))
    result = invoke("new", *arguments)
    assert result.exit_code == 2
    assert expected in result.stderr and result.stderr.count("\n") == 1
    assert sorted(folder.rglob("*")) == before
