"""METR-LA's files: pandas tables without pandas, pickles without Python's unpickler, distances, positions."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest

from st_pipeline.interchange.parts.hdf import read_table, write_table

IDS = ("773869", "767541", "767542", "717447")
TIMES = np.datetime64("2012-03-01T00:00", "ms") + np.arange(864) * np.timedelta64(5, "m")


@pytest.fixture
def archive(tmp_path: Path, wave: Callable[..., Any], ring: Callable[..., Any]) -> Path:
    """Three days of four sensors, one reading missing as a zero; a pickled graph, distances and positions."""
    folder = tmp_path / "METR-LA"
    folder.mkdir()
    values = wave(864, 4, day=288)
    values[100, 2] = 0
    write_table(folder / "metr-la.h5", values, IDS, TIMES)
    rows = {name: row for row, name in enumerate(IDS)}
    (folder / "adj_mx.pkl").write_bytes(pickle.dumps([list(IDS), rows, ring(4).astype("f4")], protocol=2))
    lines = [f"{IDS[row]},{IDS[(row + 1) % 4]},{100.0 * (row + 1)}" for row in range(4)]
    lines.append(f"{IDS[0]},{IDS[0]},0.0")
    (folder / "distances_la_2012.csv").write_text("\n".join(["from,to,cost", "1,2,5", *lines]) + "\n")
    places = [f"{row},{name},34.1{row},-118.3{row}" for row, name in enumerate(IDS)]
    (folder / "graph_sensor_locations.csv").write_text("\n".join(["index,sensor_id,latitude,longitude", *places]))
    return folder


def test_the_whole_archive(archive: Path, bring: Any, network: Any, wave: Any, ring: Any) -> None:
    stream = bring("metr_la", archive)
    text = (stream.folder / "stream.yaml").read_text()
    assert "speed: {sentinels: [0]}  # guessed" in text and "graph: {recipe: edges}\n" in text
    found = network(stream)
    place = [found.ids.index(name) for name in IDS]
    values = found.values[:, place, 0]
    assert np.isnan(values[100, 2])
    values[100, 2] = wave(864, 4, day=288)[100, 2]
    assert np.array_equal(values, wave(864, 4, day=288).astype("f4"))
    assert np.array_equal(found.weights[np.ix_(place, place)], ring(4).astype("f4"))
    assert np.array_equal(found.times, TIMES)
    assert found.positions["latitude"].null_count() == 0


def test_a_period_trains(archive: Path, bring: Any, train: Any) -> None:
    assert train(bring("metr_la", archive)) == 1


def test_distances_without_an_adjacency(archive: Path, bring: Any, network: Any) -> None:
    (archive / "adj_mx.pkl").unlink()
    stream = bring("metr_la", archive)
    assert "both_ways: false}  # guessed: DCRNN's kernel" in (stream.folder / "stream.yaml").read_text()
    found = network(stream)
    sigma = np.std([0, 100, 200, 300, 400])
    row, column = found.ids.index(IDS[0]), found.ids.index(IDS[1])
    assert np.isclose(found.weights[row, column], np.exp(-((100 / sigma) ** 2)))
    assert found.weights[column, row] == 0


def test_positions_alone_and_without_a_header(archive: Path, bring: Any, network: Any) -> None:
    (archive / "adj_mx.pkl").unlink()
    (archive / "distances_la_2012.csv").unlink()
    places = [f"{name},34.{row // 2},-118.3{row}" for row, name in enumerate(IDS)]
    (archive / "graph_sensor_locations.csv").write_text("\n".join(places))
    assert (network(bring("metr_la", archive)).weights > 0).any()


def test_export_and_import_again(archive: Path, bring: Any, take_out: Any, network: Any) -> None:
    first = network(bring("metr_la", archive))
    folder = take_out("mine", "metr_la")
    again = network(bring("metr_la", folder, name="again"))
    assert first.ids == again.ids and np.array_equal(first.times, again.times)
    assert np.array_equal(first.values, again.values, equal_nan=True)
    assert np.array_equal(first.weights, again.weights)
    assert first.positions.equals(again.positions)
    (folder / "adj_mx.pkl").unlink()
    other = network(bring("metr_la", folder, name="other"))
    assert np.array_equal(first.values, other.values, equal_nan=True)


def test_several_blocks_and_numbers_as_ids(tmp_path: Path) -> None:
    """As pandas writes a table of floats and whole numbers: a block for each."""
    with h5py.File(tmp_path / "t.h5", "w") as handle:
        group = handle.create_group("speed")
        group["axis0"] = np.array([11, 12, 13])
        group["axis1"] = TIMES[:5].astype("datetime64[ns]").astype(np.int64)
        group["axis1"].attrs["kind"] = "datetime64"
        group["block0_items"], group["block0_values"] = np.array([13, 11]), np.array([[3.0, 1.0]] * 5)
        group["block1_items"], group["block1_values"] = np.array([12]), np.array([[2]] * 5)
    table = read_table(tmp_path / "t.h5")
    assert table.columns == ("11", "12", "13")
    assert np.array_equal(table.values, [[1, 2, 3]] * 5) and np.array_equal(table.index, TIMES[:5])


def test_pandas_reads_what_is_written_and_the_other_way_round(tmp_path: Path) -> None:
    pytest.importorskip("tables", reason="PyTables is not installed")
    frame = pd.DataFrame(np.arange(20.0).reshape(5, 4), index=TIMES[:5], columns=list(IDS))
    frame.to_hdf(tmp_path / "theirs.h5", key="df")
    table = read_table(tmp_path / "theirs.h5")
    assert table.columns == IDS and np.array_equal(table.values, frame) and np.array_equal(table.index, TIMES[:5])
    write_table(tmp_path / "ours.h5", frame.to_numpy(), IDS, TIMES[:5])
    assert pd.read_hdf(tmp_path / "ours.h5").equals(frame.set_axis(TIMES[:5].astype("datetime64[ns]")))


class Hostile:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def spoil(folder: Path, what: str) -> None:
    file, graph = folder / "metr-la.h5", folder / "adj_mx.pkl"
    if what == "missing":
        file.unlink()
    elif what == "two":
        write_table(folder / "other.h5", np.ones((3, 4)), IDS, TIMES[:3])
    elif what == "damaged":
        file.write_bytes(file.read_bytes()[:900])
    elif what == "backwards":
        write_table(file, np.ones((864, 4)), IDS, TIMES[::-1])
    elif what == "empty":
        write_table(file, np.ones((0, 4)), IDS, TIMES[:0])
    elif what == "text":
        with h5py.File(file, "a") as handle:
            del handle["df/block0_values"]
            handle["df/block0_values"] = np.full((864, 4), b"x")
    elif what == "shape":
        with h5py.File(file, "a") as handle:
            del handle["df/block0_values"]
            handle["df/block0_values"] = np.ones((4, 864))
    elif what == "pickled axis":
        with h5py.File(file, "a") as handle:
            del handle["df/axis0"]
            handle.create_dataset("df/axis0", (1,), h5py.vlen_dtype("u1"))[0] = np.frombuffer(b"\x80\x04N.", "u1")
    elif what == "external link":
        with h5py.File(file, "a") as handle:
            del handle["df/block0_values"]
            handle["df/block0_values"] = h5py.ExternalLink("/etc/passwd.h5", "/x")
    elif what == "external storage":
        with h5py.File(file, "a") as handle:
            del handle["df/block0_values"]
            outside = [(str(folder.parent / "outside.bin"), 0, 864 * 4 * 8)]
            handle.create_dataset("df/block0_values", (864, 4), "f8", external=outside)
    elif what == "hostile":
        graph.write_bytes(pickle.dumps([list(IDS), {}, Hostile(f"touch {folder.parent / 'trace'}")]))
    elif what == "another size":
        graph.write_bytes(pickle.dumps([list(IDS), {}, np.ones((3, 3))]))
    elif what == "other ids":
        graph.write_bytes(pickle.dumps([["1", *IDS[1:]], {}, np.ones((4, 4))]))
    elif what == "nan":
        graph.write_bytes(pickle.dumps([list(IDS), {}, np.full((4, 4), np.nan)]))
    elif what == "negative distance":
        graph.unlink()
        (folder / "distances_la_2012.csv").write_text(f"from,to,cost\n{IDS[0]},{IDS[1]},-3\n")
    elif what == "no distance":
        graph.unlink()
        (folder / "distances_la_2012.csv").write_text(f"from,to,cost\n{IDS[0]},{IDS[1]},far\n")
    elif what == "strangers":
        graph.unlink()
        (folder / "distances_la_2012.csv").write_text("from,to,cost\n8,9,3\n")


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("missing", "there is no table of readings; expected *.h5"),
        ("two", "expected one table of readings, found metr-la.h5 and other.h5"),
        ("damaged", "metr-la.h5: cannot be read as HDF5"),
        ("backwards", "metr-la.h5: index: time 2 is"),
        ("empty", "metr-la.h5: block0: found shape (0, 4), expected at least one number"),
        ("text", "metr-la.h5: block0: found type |S1, expected real numbers"),
        ("shape", "metr-la.h5: found values of shape (4, 864), expected (864, 4)"),
        ("pickled axis", "metr-la.h5: axis0 holds object, which would be unpickled"),
        ("external link", "metr-la.h5: block0_values is a link"),
        ("external storage", "metr-la.h5: block0_values is stored in another file"),
        ("hostile", "adj_mx.pkl: the pickle holds the name posix.system, which would be run"),
        ("another size", "adj_mx.pkl: found an adjacency of shape (3, 3), expected (4, 4)"),
        ("other ids", "adj_mx.pkl: its sensors are not those of the readings, e.g. '1'"),
        ("nan", "adj_mx.pkl: found a weight that is no finite number"),
        ("negative distance", "data row 1: cost: found -3.0, expected a finite number of at least 0"),
        ("no distance", "data row 1: cost: found 'far', expected a number"),
        ("strangers", "no row is about two of the 4 sensors, e.g. '773869'; found '8'"),
    ],
)
def test_what_cannot_be_used(archive: Path, refused: Any, what: str, expected: str, tmp_path: Path) -> None:
    spoil(archive, what)
    assert expected in refused("metr_la", archive)
    assert not (tmp_path / "trace").exists()
