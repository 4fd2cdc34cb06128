"""Archives of one array without ids or dates: PEMS0X, HimNet's and BasicTS'; and LargeST's tables by year."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st_pipeline.interchange.parts.hdf import write_table

STEPS, COUNT = 864, 4
IDS = tuple(f"{row:05d}" for row in range(COUNT))


@pytest.fixture
def values(wave: Callable[..., Any]) -> Any:
    return wave(STEPS, COUNT, day=288)


@pytest.fixture
def pems(tmp_path: Path, values: Any) -> Path:
    folder = tmp_path / "PEMS04"
    folder.mkdir()
    np.savez(folder / "PEMS04.npz", data=np.stack([values, values / 256, values + 1], axis=2))
    (folder / "PEMS04.csv").write_text("from,to,cost\n0,1,10.6\n1,2,330.9\n2,3,680\n")
    return folder


@pytest.fixture
def himnet(tmp_path: Path, values: Any, ring: Callable[..., Any]) -> Path:
    folder = tmp_path / "PEMSX"
    folder.mkdir()
    steps = np.arange(STEPS) + 60  # begins at 05:00 on a Wednesday
    clock = [np.broadcast_to(part[:, None], values.shape) for part in (steps % 288 / 288, (2 + steps // 288) % 7)]
    np.savez(folder / "data.npz", data=np.stack([values, *clock], axis=2))
    index = np.arange(STEPS - 23)[:, None] + [0, 12, 24]
    np.savez(folder / "index.npz", train=index[:504], val=index[504:672], test=index[672:])
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps([list(IDS), {}, ring(COUNT)], protocol=2))
    return folder


@pytest.fixture
def basicts(tmp_path: Path, values: Any, ring: Callable[..., Any]) -> Path:
    folder = tmp_path / "PEMS08"
    folder.mkdir()
    steps = np.arange(STEPS)
    clock = [np.broadcast_to(part[:, None], values.shape) for part in (steps % 288 / 288, steps // 288 % 7 / 7)]
    np.stack([values, *clock], axis=2).astype("<f4").tofile(folder / "data.dat")
    desc = {
        "name": "PEMS08",
        "shape": [STEPS, COUNT, 3],
        "frequency (minutes)": 5,
        "feature_description": ["traffic flow", "time of day", "day of week"],
        "regular_settings": {"TRAIN_VAL_TEST_RATIO": [0.6, 0.2, 0.2], "NULL_VAL": 0.0},
    }
    (folder / "desc.json").write_text(json.dumps(desc))
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps(ring(COUNT), protocol=2))
    return folder


@pytest.fixture
def largest(tmp_path: Path, wave: Callable[..., Any], ring: Callable[..., Any]) -> Path:
    folder = tmp_path / "sd"
    folder.mkdir()
    for year in (2018, 2019):
        times = np.datetime64(f"{year}-01-01", "ms") + np.arange(1460) * np.timedelta64(6, "h")
        write_table(folder / f"sd_his_raw_{year}.h5", wave(1460, COUNT, day=4, seed=year), IDS, times)
    rows = "\n".join(f"{name},32.{row}1,-117.{row}1,SR" for row, name in enumerate(IDS))
    (folder / "sd_meta.csv").write_text(f"ID,Lat,Lng,Fwy\n{rows}\n")
    np.save(folder / "sd_rn_adj.npy", ring(COUNT).astype("f4"))
    return folder


def test_pems(pems: Path, bring: Any, network: Any, values: Any) -> None:
    found = network(bring("pems", pems))
    assert found.variables == ("flow", "occupancy", "speed")
    expected = np.stack([values, values / 256, values + 1], axis=2).astype("f4")
    assert np.array_equal(found.values, expected)
    assert str(found.times[0]) == "2018-01-01T00:00:00.000"
    assert found.weights[0, 1] > 0 and found.weights[0, 3] == 0


def test_pems_ids(pems: Path, bring: Any, network: Any, refused: Any) -> None:
    (pems / "PEMS04.txt").write_text("313344\n313349\n")
    assert "found 2 different ids, expected 4" in refused("pems", pems)
    (pems / "PEMS04.txt").write_text("313344\n313349\n313355\n313360\n")
    (pems / "PEMS04.csv").write_text("from,to,distance\n313344,313349,100\n313349,313355,200\n")
    assert set(network(bring("pems", pems, "start=2020-02-01")).ids) == {"313344", "313349", "313355", "313360"}


def test_himnet(himnet: Path, bring: Any, network: Any, values: Any, ring: Any) -> None:
    stream = bring("himnet", himnet)
    config = stream.config
    assert (config.split.train, config.split.validation, config.split.test) == (0.6, 0.2, 0.2)
    found = network(stream)
    start = int(np.flatnonzero(~np.isnan(found.values[:, 0, 0]))[0])
    covered = STEPS - 60  # the last day, of which five hours are there, belongs to no period
    assert np.array_equal(found.values[start : start + covered, :, 0], values[:covered].astype("f4"))
    first = found.times[start].item()
    assert (first.weekday(), first.hour, first.minute) == (2, 5, 0)
    assert np.array_equal(found.weights, ring(COUNT).astype("f4"))


def test_basicts(basicts: Path, bring: Any, network: Any, values: Any, ring: Any) -> None:
    found = network(bring("basicts", basicts))
    assert found.variables == ("traffic_flow",)
    assert np.array_equal(found.values[:, :, 0], values.astype("f4"))
    assert np.array_equal(found.weights, ring(COUNT).astype("f4"))


def test_largest(largest: Path, bring: Any, network: Any, wave: Any, ring: Any) -> None:
    found = network(bring("largest", largest))
    first = np.flatnonzero(found.times == np.datetime64("2019-01-01"))[0]
    assert np.array_equal(found.values[first : first + 1460, :, 0], wave(1460, COUNT, day=4, seed=2019).astype("f4"))
    assert np.array_equal(found.values[first - 1, :, 0], wave(1460, COUNT, day=4, seed=2018)[-1].astype("f4"))
    assert np.array_equal(found.weights, ring(COUNT).astype("f4"))
    assert found.positions["longitude"].to_list() == [-117.01, -117.11, -117.21, -117.31]


@pytest.mark.parametrize("form", ["pems", "himnet", "basicts"])
def test_export_and_import_again(form: str, pems: Path, bring: Any, take_out: Any, network: Any) -> None:
    with np.load(pems / "PEMS04.npz") as archive:
        holed = archive["data"]
    holed[50:60, 1] = np.nan
    np.savez(pems / "PEMS04.npz", data=holed)
    first = network(bring("pems", pems, "start=2024-01-01"))
    again = network(bring(form, take_out("mine", form), name="again"))
    channels = 1 if form == "himnet" else 3
    assert np.array_equal(first.values[:, :, :channels], again.values, equal_nan=True)
    assert np.isnan(again.values).any()
    if form != "pems":
        assert np.array_equal(first.weights, again.weights) and np.array_equal(first.times, again.times)


def test_missing_values_as_zero(pems: Path, bring: Any, take_out: Any) -> None:
    with np.load(pems / "PEMS04.npz") as archive:
        holed = archive["data"]
    holed[50:60, 1] = np.nan
    np.savez(pems / "PEMS04.npz", data=holed)
    bring("pems", pems)
    with np.load(take_out("mine", "pems", "--missing", "zero") / "mine.npz") as archive:
        assert np.array_equal(archive["data"], np.nan_to_num(holed).astype("f4"))


def spoil(folder: Path, what: str) -> None:
    form = folder.name
    if what == "object":
        file = next(folder.glob("*.npz"))
        np.savez(file, data=np.array([{}], dtype=object))
    elif what == "axes":
        np.savez(next(folder.glob("*.npz")), data=np.ones(5))
    elif what == "text":
        np.savez(next(folder.glob("*.npz")), data=np.full((5, 4, 1), "x"))
    elif what == "channels":
        np.savez(folder / "PEMS04.npz", data=np.ones((5, 4, 7)))
    elif what == "no archive":
        for file in folder.glob("*.npz"):
            file.unlink()
    elif what == "no array":
        np.savez(folder / "PEMS04.npz", x=np.ones((5, 4)))
    elif what == "clock":
        np.savez(folder / "data.npz", data=np.full((50, 4, 3), 0.5))
    elif what == "index":
        np.savez(folder / "index.npz", train=np.ones((4, 2), int), val=np.ones((4, 3), int), test=np.ones((4, 3), int))
    elif what == "beyond":
        index = np.full((4, 3), 9999)
        np.savez(folder / "index.npz", train=index, val=index, test=index)
    elif what == "short":
        (folder / "data.dat").write_bytes(b"\0" * 100)
    elif what in ("shape", "minutes", "ratio", "names"):
        desc = json.loads((folder / "desc.json").read_text())
        desc |= {"shape": [0, 4, 3]} if what == "shape" else {}
        desc |= {"frequency (minutes)": "5"} if what == "minutes" else {}
        desc |= {"regular_settings": {"TRAIN_VAL_TEST_RATIO": [0.6, 0.6, 0.2]}} if what == "ratio" else {}
        desc |= {"feature_description": ["a"]} if what == "names" else {}
        (folder / "desc.json").write_text(json.dumps(desc))
    elif what == "no json":
        (folder / "desc.json").write_text("[1, 2")
    elif what == "overlap":
        times = np.datetime64("2018-01-02", "ms") + np.arange(600) * np.timedelta64(6, "h")
        write_table(folder / "sd_his_raw_2017.h5", np.ones((600, 4)), IDS, times)
    elif what == "adjacency":
        np.save(folder / "sd_rn_adj.npy", np.ones((3, 3)))
    elif what == "pickled adjacency":
        np.save(folder / "sd_rn_adj.npy", np.array([None, 1], dtype=object), allow_pickle=True)
    elif what == "meta":
        (folder / "sd_meta.csv").write_text("ID,Lat\n1,2\n")
    assert form


@pytest.mark.parametrize(
    ("form", "what", "expected"),
    [
        ("pems", "object", "Object arrays cannot be loaded when allow_pickle=False"),
        ("pems", "axes", "data: found shape (5,), expected (steps, sensors)"),
        ("pems", "text", "data: found type <U1, expected real numbers"),
        ("pems", "channels", "data: found 7 channels, expected at most flow, occupancy, speed"),
        ("pems", "no archive", "there is no archive of readings; expected *.npz"),
        ("pems", "no array", "there is no array 'data'; known: 'x'"),
        ("himnet", "clock", "the time of day never rises"),
        ("himnet", "index", "train: found shape (4, 2), expected (windows, 3)"),
        ("himnet", "beyond", "train: found step 9999, expected steps from 0 to 864"),
        ("himnet", "no archive", "there is no archive of readings; expected data.npz"),
        ("basicts", "short", "data.dat: found 100 bytes, expected 41,472 for the shape [864, 4, 3]"),
        ("basicts", "shape", "desc.json: shape: found [0, 4, 3]"),
        ("basicts", "minutes", "frequency (minutes): found '5', expected minutes above 0"),
        ("basicts", "ratio", "TRAIN_VAL_TEST_RATIO: found [0.6, 0.6, 0.2]"),
        ("basicts", "names", "feature_description: found 1 names, expected 3"),
        ("basicts", "no json", "desc.json: cannot be read as JSON"),
        ("largest", "overlap", "begins at 2018-01-02T00:00:00.000, not after the end of sd_his_raw_2018.h5"),
        ("largest", "adjacency", "sd_rn_adj.npy: found an adjacency of shape (3, 3), expected (4, 4)"),
        ("largest", "pickled adjacency", "sd_rn_adj.npy: cannot be read as npy: Object arrays cannot be loaded"),
        ("largest", "meta", "sd_meta.csv: there is no column 'Lng'"),
    ],
)
def test_what_cannot_be_used(request: pytest.FixtureRequest, refused: Any, form: str, what: str, expected: str) -> None:
    folder = request.getfixturevalue(form)
    spoil(folder, what)
    assert expected in refused(form, folder)
