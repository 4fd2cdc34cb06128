"""SDWPF: the cup's rules for abnormal values, day numbers, and the real sample."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.interchange.sdwpf import VARIABLES, by_rules

REAL = Path(os.environ.get("ST_PIPELINE_DATA") or "data") / "sdwpf_two_days"
HEAD = "TurbID,Day,Tmstamp,Wspd,Wdir,Etmp,Itmp,Ndir,Pab1,Pab2,Pab3,Prtv,Patv"


def line(turbine: int, step: int, power: object, **other: object) -> str:
    cells = {
        "Wspd": 2,
        "Wdir": 3,
        "Etmp": 20,
        "Itmp": 30,
        "Ndir": 10,
        "Pab1": 1,
        "Pab2": 1,
        "Pab3": 1,
        "Prtv": 0,
    } | other
    time = f"{step % 144 // 6:02d}:{step % 6 * 10:02d}"
    return f"{turbine},{1 + step // 144},{time},{','.join(str(cell) for cell in cells.values())},{power}"


@pytest.fixture
def archive(tmp_path: Path, wave: Callable[..., Any]) -> Path:
    folder = tmp_path / "sdwpf"
    folder.mkdir()
    values = wave(720, 3, day=144)
    rows = [line(turbine, step, values[step, turbine - 1]) for turbine in (1, 2, 3) for step in range(720)]
    rows[10] = line(1, 10, 0, Wspd=9)
    rows[11] = line(1, 11, 50, Pab2=90)
    rows[12] = line(1, 12, 50, Ndir=-721)
    rows[13] = line(1, 13, 50, Wdir=181)
    rows[14] = line(1, 14, -3)
    rows[15] = line(1, 15, "")
    (folder / "wtbdata_245days.csv").write_text("\n".join([HEAD, *rows]))
    (folder / "sdwpf_baidukddcup2022_turb_location.CSV").write_text("TurbID,x,y\n1,0,0\n2,100,0\n3,900,100\n")
    return folder


def test_the_rules_of_the_cup(archive: Path, bring: Any, network: Any, wave: Any) -> None:
    stream = bring("sdwpf", archive)
    assert "2020-05-01" in (stream.folder / "stream.yaml").read_text()
    found = network(stream)
    expected = wave(720, 3, day=144).astype("f4")
    expected[[10, 11, 12, 13, 15], 0] = np.nan
    expected[14, 0] = 0
    assert np.array_equal(found.values[:, :, 0], expected, equal_nan=True)
    assert (found.weights > 0).any() and found.variables == VARIABLES


def test_the_first_day_can_be_given(archive: Path, bring: Any, network: Any) -> None:
    assert str(network(bring("sdwpf", archive, "start=2021-02-03")).times[0]) == "2021-02-03T00:00:00.000"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("Patv", "Power", "there is no column 'Patv'"),
        ("1,1,00:20", "1,1,24:20", "data row 3: found '1' '24:20', expected a day and a time"),
        ("1,1,00:20", "1,0,00:20", "data row 3: Day: found 0.0, expected a finite number of at least 1"),
        ("1,1,00:20", "1,1,00:10", "is not after the one before it"),
        ("1,1,00:20,2", "1,1,00:20,fast", "data row 3: Wspd: found 'fast', expected a number"),
    ],
)
def test_what_cannot_be_used(archive: Path, refused: Any, old: str, new: str, expected: str) -> None:
    file = archive / "wtbdata_245days.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    assert expected in refused("sdwpf", archive)


def test_no_table_or_two(archive: Path, refused: Any) -> None:
    (archive / "more.csv").write_text("a\n1\n")
    assert "found 2 tables of readings, expected one" in refused("sdwpf", archive)


@pytest.mark.real_data
@pytest.mark.skipif(not REAL.is_dir(), reason="no sdwpf_two_days under ST_PIPELINE_DATA")
def test_the_real_sample_in_the_cups_layout(tmp_path: Path, bring: Any, stored: Any) -> None:
    frame = pl.read_parquet(REAL / "observations.parquet").sort("sensor_id", "timestamp")
    lower = {name.lower(): name for name in frame.columns}
    day = (pl.col("timestamp").dt.date() - frame["timestamp"].min().date()).dt.total_days() + 1
    cells = [pl.col(lower[name.lower()]).alias(name) for name in VARIABLES]
    sample = frame.select(
        pl.col("sensor_id").cast(pl.String).alias("TurbID"),
        day.alias("Day"),
        pl.col("timestamp").dt.strftime("%H:%M").alias("Tmstamp"),
        *cells,
    )
    sample.write_csv(tmp_path / "wtbdata_2days.csv")
    bring("sdwpf", tmp_path)
    found = stored("mine")
    assert (found["sensor_id"].n_unique(), len(found)) == (134, len(sample))
    ruled = by_rules(sample.rename({"TurbID": "sensor_id"}))
    assert found["Patv"].null_count() == ruled["Patv"].null_count() > 0
    assert found["Patv"].min() == 0
