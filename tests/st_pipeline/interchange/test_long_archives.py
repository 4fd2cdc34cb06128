"""Text and Parquet archives with times of their own: China's stations, PeMS, taxis, PurpleAir."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

FIRST = datetime(2020, 1, 1)


@pytest.fixture
def china_air(tmp_path: Path, wave: Callable[..., Any]) -> Path:
    """Fifteen days of two stations, the second with three columns: it joins on the eighth day."""
    folder = tmp_path / "air"
    folder.mkdir()
    values = wave(360, 2)
    for day in range(15):
        date = FIRST + timedelta(days=day)
        names = "1001A,1002A" if day >= 7 else "1001A"
        rows = [f"date,hour,type,{names}"]
        for hour in range(24):
            for kind, shift in (("AQI", 9), ("PM2.5", 0), ("PM2.5_24h", 7), ("SO2", 1)):
                cells = [values[24 * day + hour, place] + shift for place in range(names.count("A"))]
                rows.append(f"{date:%Y%m%d},{hour},{kind},{','.join(str(cell) for cell in cells)}")
        rows[2] = f"{date:%Y%m%d},0,PM2.5" + "," * (names.count(",") + 1)
        (folder / f"china_sites_{date:%Y%m%d}.csv").write_text("\n".join(rows))
    lines = (
        "监测点编码,监测点名称,城市,经度,纬度\n1001A,万寿西宫,北京,116.366,39.8673\n1002A,定陵,北京,116.17,40.2865\n"
    )
    (folder / "站点列表-2020.csv").write_text(lines, encoding="utf-8-sig")
    return folder


@pytest.fixture
def pems_station(tmp_path: Path, wave: Callable[..., Any]) -> Path:
    folder = tmp_path / "pems"
    folder.mkdir()
    values = wave(864, 2, day=288)
    for day in range(3):
        rows = []
        for step in range(288):
            time = FIRST + timedelta(days=day, minutes=5 * step)
            for place, (station, kind) in enumerate((("715898", "ML"), ("715899", "ML"), ("715900", "OR"))):
                observed = 0 if (day, step, place) == (1, 3, 0) else 75
                flow = values[288 * day + step, min(place, 1)]
                head = f"{time:%m/%d/%Y %H:%M:%S},{station},7,5,S,{kind},.5,30,{observed},{flow},.05,"
                rows.append(head + ("" if (day, step) == (0, 5) else "65.5") + ",10,20,.05,65,1" * 3)
        text = "\n".join(rows) + "\n"
        with gzip.open(folder / f"d07_text_station_5min_2020_01_0{day + 1}.txt.gz", "wt") as file:
            file.write(text)
    for date, shift in (("2019_11_01", 0.0), ("2020_01_03", 0.01)):
        head = "ID\tFwy\tDir\tDistrict\tLatitude\tLongitude\tName\n"
        rows = f"715898\t5\tS\t7\t{33.88 + shift}\t-118.02\tPHOEBE\n715899\t5\tS\t7\t33.89\t-118.03\tALONDRA\n"
        (folder / f"d07_text_meta_{date}.txt").write_text(head + rows)
    return folder


@pytest.fixture
def nyc_taxi(tmp_path: Path) -> Path:
    folder = tmp_path / "taxi"
    folder.mkdir()
    random = np.random.default_rng(3)
    for month, days in ((1, 31), (2, 28)):
        start = datetime(2019, month, 1)
        seconds = random.integers(0, days * 86400, 9000)
        frame = pl.DataFrame({"tpep_pickup_datetime": [start + timedelta(seconds=int(second)) for second in seconds]})
        frame = frame.with_columns(
            (pl.col("tpep_pickup_datetime") + timedelta(minutes=12)).alias("tpep_dropoff_datetime"),
            pl.Series("PULocationID", random.choice([4, 12, 264], 9000)),
            pl.Series("DOLocationID", random.choice([4, 13], 9000)),
        )
        stray = frame.head(1).with_columns(tpep_pickup_datetime=pl.lit(datetime(2008, 1, 1)))
        pl.concat([frame, stray]).write_parquet(folder / f"yellow_tripdata_2019-0{month}.parquet")
    zones = "LocationID,Borough,Zone,service_zone\n4,Manhattan,Alphabet City,Yellow Zone\n12,Manhattan,Battery Park,Y\n"
    (folder / "taxi_zone_lookup.csv").write_text(zones)
    return folder


@pytest.fixture
def purpleair(tmp_path: Path) -> Path:
    """Three sensors of the old layout every two minutes or so, for six days; and a file of channel B."""
    folder = tmp_path / "purple"
    folder.mkdir()
    random = np.random.default_rng(4)
    for place, name in enumerate(("Alpha", "Beta", "Gamma")):
        times = [FIRST + timedelta(seconds=120 * step + int(random.integers(0, 40))) for step in range(6 * 720)]
        rows = ["created_at,entry_id,PM1.0_CF1_ug/m3,PM2.5_ATM_ug/m3,Temperature_F,Humidity_%"]
        rows += [f"{time:%Y-%m-%d %H:%M:%S} UTC,{i},1,{10 + place + i % 5},70,40" for i, time in enumerate(times)]
        tail = f"(outside) (30.{place} -97.{place}) Primary Real Time 01_01_2020 01_07_2020.csv"
        (folder / f"{name} {tail}").write_text("\n".join(rows))
    (folder / "Alpha B (undefined) (30.0 -97.0) Primary Real Time 01_01_2020 01_07_2020.csv").write_text("x\n1\n")
    return folder


def test_china_air(china_air: Path, bring: Any, network: Any, wave: Any) -> None:
    stream = bring("china_air", china_air)
    assert stream.config.timezone == "Asia/Shanghai"
    found = network(stream)
    assert (found.ids, found.variables) == (("1001A", "1002A"), ("pm25", "so2"))
    expected = wave(360, 2).astype("f4")
    expected[::24] = np.nan
    expected[: 7 * 24, 1] = np.nan
    assert np.array_equal(found.values[:, :, 0], expected, equal_nan=True)
    assert found.positions["longitude"].to_list() == [116.366, 116.17]


def test_pems_station(pems_station: Path, bring: Any, network: Any, wave: Any) -> None:
    found = network(bring("pems_station", pems_station))
    assert found.ids == ("715898", "715899")
    expected = wave(864, 2, day=288).astype("f4")
    expected[291, 0] = np.nan  # nothing observed: PeMS has imputed it
    assert np.array_equal(found.values[:, :, 0], expected, equal_nan=True)
    assert np.isnan(found.values[5, :, 2]).all()
    moved = found.sensors.filter(pl.col("sensor_id") == "715898")
    assert len(found.sensors) == 3 and moved["valid_from"].to_list()[0] is None and len(moved) == 2


def test_pems_station_keeps_what_is_asked_for(pems_station: Path, bring: Any, network: Any) -> None:
    found = network(bring("pems_station", pems_station, "lanes=all", "imputed=keep"))
    assert len(found.ids) == 3 and not np.isnan(found.values[:, :, 0]).any()


def test_nyc_taxi(nyc_taxi: Path, bring: Any, network: Any, stored: Any) -> None:
    stream = bring("nyc_taxi", nyc_taxi)
    found = stored("mine")
    assert found["sensor_id"].unique().cast(pl.String).sort().to_list() == ["12", "13", "4"]
    trips = pl.concat([pl.read_parquet(file) for file in sorted(nyc_taxi.glob("*.parquet"))])
    kept = trips.filter((pl.col("tpep_pickup_datetime").dt.year() == 2019) & (pl.col("PULocationID") != 264))
    assert found["pickups"].sum() == len(kept)
    start, six = datetime(2019, 1, 1), datetime(2019, 1, 1, 6)
    begun = pl.col("tpep_pickup_datetime").is_between(start, six, closed="left")
    one = kept.filter((pl.col("PULocationID") == 4) & begun)
    early = found.filter((pl.col("sensor_id") == "4") & (pl.col("timestamp") < six))
    assert (early["pickups"].sum(), len(early)) == (len(one), 12)
    assert len(found) == 59 * 48 * 3 and found["pickups"].null_count() == 0
    assert network(stream).positions["name"].drop_nulls().to_list() == ["Battery Park", "Alphabet City"]


def test_purpleair(purpleair: Path, bring: Any, stored: Any) -> None:
    stream = bring("purpleair", purpleair)
    assert stream.config.step == timedelta(minutes=2)
    found = stored("mine")
    assert found["sensor_id"].unique().cast(pl.String).sort().to_list() == ["Alpha", "Beta", "Gamma"]
    alpha = found.filter(pl.col("sensor_id") == "Alpha")
    assert alpha["pm25"][:5].to_list() == [10, 11, 12, 13, 14] and len(alpha) == 6 * 720


def test_purpleair_of_the_download_tool(tmp_path: Path, bring: Any, stored: Any) -> None:
    rows = [f"{int(FIRST.timestamp()) + 3600 * hour},{hour % 24},{60},50" for hour in range(400)]
    for name in ("101", "102"):
        text = "\n".join(["time_stamp,pm2.5_atm,temperature,humidity", *rows])
        (tmp_path / f"{name} 2020-01-01 2020-01-17 60-Minute Average.csv").write_text(text)
    (tmp_path / "sensors.csv").write_text("sensor_index,latitude,longitude\n101,30.1,-97.1\n102,30.2,-97.2\n")
    stream = bring("purpleair", tmp_path)
    assert stream.config.step == timedelta(hours=1)
    assert stored("mine")["pm25"].max() == 23


def spoil(folder: Path, what: str) -> None:
    file = sorted(path for path in folder.iterdir() if "meta" not in path.name and "站" not in path.name)[0]
    if what == "gone":
        for path in folder.iterdir():
            path.unlink()
    elif what == "empty":
        file.write_text("")
    elif what.startswith("replace:"):
        old, new = what.removeprefix("replace:").split("->")
        text = (gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()).decode()
        assert old in text
        changed = text.replace(old, new, 1).encode()
        file.write_bytes(gzip.compress(changed) if file.suffix == ".gz" else changed)
    elif what == "short":
        file.write_bytes(gzip.compress(b"01/01/2020 00:00:00,1,2\n"))
    elif what == "columns":
        pl.read_parquet(file).drop("PULocationID").write_parquet(file)
    elif what == "text times":
        pl.read_parquet(file).with_columns(pl.col("tpep_pickup_datetime").cast(pl.String)).write_parquet(file)
    elif what == "month":
        file.rename(file.with_name("yellow_tripdata_january.parquet"))
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:500])


@pytest.mark.parametrize(
    ("form", "what", "expected"),
    [
        ("china_air", "gone", "there is no china_sites_<yyyymmdd>.csv"),
        ("china_air", "empty", "is empty; expected a header and rows"),
        ("china_air", "replace:,0,AQI->,24,AQI", "found date and hour '20200101' and '24'"),
        ("china_air", "replace:1,0,SO2->1,1,SO2", "an hour has a type twice"),
        ("china_air", "replace:0,SO2,->0,SO2,x", "data row 4: 1001A: found 'x"),
        ("pems_station", "gone", "there is no d<NN>_text_station_5min"),
        ("pems_station", "short", "found 3 columns, expected at least the 12"),
        ("pems_station", "replace:01/01/2020 00:00:00->2020-01-01", "data row 1: column_1: found '2020-01-01'"),
        ("pems_station", "replace:,75,->,75,x", "data row 1: column_10: found 'x"),
        ("nyc_taxi", "gone", "there is no *_tripdata_<yyyy-mm>.parquet"),
        ("nyc_taxi", "columns", "there is no column 'PULocationID'"),
        ("nyc_taxi", "damaged", "cannot be read as Parquet"),
        ("purpleair", "gone", "there is no CSV of a sensor"),
        ("purpleair", "replace:PM2.5_ATM_ug/m3->PM", "there is no column of"),
        ("purpleair", "replace:created_at->when", "there is no column 'created_at' nor 'time_stamp'"),
    ],
)
def test_what_cannot_be_used(request: pytest.FixtureRequest, refused: Any, form: str, what: str, expected: str) -> None:
    folder = request.getfixturevalue(form)
    if form == "nyc_taxi" and what != "gone":
        (folder / "taxi_zone_lookup.csv").unlink()
    if form == "purpleair":
        next(folder.glob("Alpha B*")).unlink()
    spoil(folder, what)
    assert expected in refused(form, folder)


def test_months_with_a_gap(nyc_taxi: Path, refused: Any) -> None:
    (nyc_taxi / "yellow_tripdata_2019-02.parquet").rename(nyc_taxi / "yellow_tripdata_2019-04.parquet")
    assert "there is no file of 2019-02" in refused("nyc_taxi", nyc_taxi)


def test_a_taxi_file_without_a_month_or_with_text(nyc_taxi: Path, refused: Any) -> None:
    (nyc_taxi / "taxi_zone_lookup.csv").unlink()
    spoil(nyc_taxi, "text times")
    assert "tpep_pickup_datetime holds String, expected times" in refused("nyc_taxi", nyc_taxi)
    spoil(nyc_taxi, "month")
    assert "there is no month in its name" in refused("nyc_taxi", nyc_taxi)


def test_no_station_of_a_lane_type(pems_station: Path, refused: Any) -> None:
    assert "no station of lane type 'FF'; found ML, OR, or all" in refused("pems_station", pems_station, "lanes=FF")
    assert "option 'imputed'" in refused("pems_station", pems_station, "imputed=maybe")
