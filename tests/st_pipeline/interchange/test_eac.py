"""TrafficStream's and EAC's archives: raw matrices, adjacencies, and windows back into series."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


def windows(series: Any) -> dict[str, Any]:
    """Windows as the public code cuts them: by part, the last first, without the last step, inputs standardised."""
    length = len(series)
    cuts = [0, int(length * 0.6), int(length * 0.8), length]
    found = {}
    for name, first, last in zip(("train", "val", "test"), cuts, cuts[1:], strict=False):
        part = series[first:last]
        ends = range(len(part) - 1, 23, -1)
        inputs = np.stack([part[end - 24 : end - 12] for end in ends])
        found[f"{name}_x"] = (inputs - inputs.mean()) / inputs.std()
        found[f"{name}_y"] = np.stack([part[end - 12 : end] for end in ends])
    return found


@pytest.fixture
def archive(tmp_path: Path, wave: Callable[..., Any], ring: Callable[..., Any]) -> Path:
    """Two years of 300 steps, four sensors and then five."""
    folder = tmp_path / "PEMS"
    for part in ("RawData", "graph", "FastData"):
        (folder / part).mkdir(parents=True)
    for year, count in ((2011, 4), (2012, 5)):
        np.savez(folder / "RawData" / f"{year}.npz", x=wave(300, count, day=288, seed=year))
        np.savez(folder / "graph" / f"{year}_adj.npz", x=ring(count))
    return folder


def test_raw_matrices_and_adjacencies(archive: Path, bring: Any, network: Any, wave: Any, ring: Any) -> None:
    stream = bring("eac", archive)
    text = (stream.folder / "stream.yaml").read_text()
    assert text.count("# guessed") == 3
    found = network(stream)
    assert "2024-01-01 is 2011, 2024-01-03 is 2012" in text
    for snapshot, count, seed in zip(found.snapshots, (4, 5), (2011, 2012), strict=True):
        assert np.array_equal(snapshot.values[:300, :, 0], wave(300, count, day=288, seed=seed).astype(np.float32))
        assert np.array_equal(snapshot.weights, ring(count).astype(np.float32))


def test_windows_become_the_series(archive: Path, bring: Any, network: Any, wave: Any) -> None:
    for year, count in ((2011, 4), (2012, 5)):
        (archive / "RawData" / f"{year}.npz").unlink()
        np.savez(archive / "FastData" / f"{year}_30day.npz", **windows(wave(400, count, day=288, seed=year)))
    found = network(bring("eac", archive))
    for snapshot, count, seed in zip(found.snapshots, (4, 5), (2011, 2012), strict=True):
        series = wave(400, count, day=288, seed=seed)
        lost = [239, 319, 399]  # the last step of each part is in no window
        kept = np.setdiff1d(np.arange(400), lost)
        assert np.isnan(snapshot.values[lost]).all()
        assert np.allclose(snapshot.values[kept, :, 0], series[kept], rtol=1e-6)


def test_a_period_trains(archive: Path, bring: Any, train: Any) -> None:
    assert train(bring("eac", archive)) == 1


def test_export_and_import_again(archive: Path, bring: Any, take_out: Any, network: Any) -> None:
    first = network(bring("eac", archive))
    again = network(bring("eac", take_out("mine", "eac"), name="again"))
    for one, other in zip(first.snapshots, again.snapshots, strict=True):
        assert np.array_equal(one.values, other.values, equal_nan=True)
        assert np.array_equal(one.weights, other.weights)


def test_hours_that_fill_years_keep_their_names(tmp_path: Path, bring: Any, network: Any, wave: Any) -> None:
    for year, hours in ((2016, 8784), (2017, 8760)):
        np.savez(tmp_path / f"{year}.npz", x=wave(hours, 3, seed=year))
    stream = bring("eac", tmp_path)
    assert [period.key for period in stream.config.calendar.periods()] == ["2016", "2017"]
    assert [len(snapshot.values) for snapshot in network(stream).snapshots] == [8784, 8760]


def test_periods_without_years_are_numbered(archive: Path, bring: Any) -> None:
    for old, new in (("2011", "0"), ("2012", "1")):
        for part, tail in (("RawData", ""), ("graph", "_adj")):
            (archive / part / f"{old}{tail}.npz").rename(archive / part / f"{new}{tail}.npz")
    stream = bring("eac", archive, "step=10min", "start=2020-05-01")
    assert [period.key for period in stream.config.calendar.periods()] == ["2020-05-01", "2020-05-04"]


def spoil(folder: Path, what: str) -> None:
    raw, graph = folder / "RawData" / "2012.npz", folder / "graph" / "2012_adj.npz"
    arrays: dict[str, Any] = {
        "shape": np.ones(300),
        "dtype": np.full((300, 5), "a"),
        "object": np.array([[{}] * 5] * 300, dtype=object),
        "empty": np.ones((0, 5)),
        "infinite": np.full((300, 5), np.inf),
        "shrunken": np.ones((300, 3)),
    }
    graphs: dict[str, Any] = {
        "another size": np.ones((4, 4)),
        "negative": -np.ones((5, 5)),
        "nan": np.full((5, 5), np.nan),
        "object graph": np.array([[None]], dtype=object),
    }
    if what in arrays:
        np.savez(raw, x=arrays[what])
    elif what in graphs:
        np.savez(graph, x=graphs[what])
    elif what == "no graph":
        graph.unlink()
    elif what == "name":
        np.savez(raw, y=np.ones((300, 5)))
    elif what == "mixed":
        held = windows(np.arange(2000.0).reshape(400, 5))
        held["val_y"] = held["val_y"][::2]
        held["val_x"] = held["val_x"][::2]
        raw.unlink()
        np.savez(raw, **held)
    elif what == "damaged":
        raw.write_bytes(raw.read_bytes()[:100])
    elif what == "link":
        outside = folder.parent / "outside.npz"
        raw.rename(outside)
        raw.symlink_to(outside)


@pytest.mark.parametrize(
    ("what", "expected"),
    [
        ("shape", "2012.npz: found shape (300,), expected steps by sensors"),
        ("dtype", "2012.npz: x: found type <U1, expected real numbers"),
        ("object", "Object arrays cannot be loaded when allow_pickle=False"),
        ("empty", "2012.npz: found shape (0, 5), expected steps by sensors with at least one of each"),
        ("infinite", "2012.npz: x: found an infinite value"),
        ("shrunken", "2012.npz: found 3 sensors, expected at least the 4 of 2011"),
        ("another size", "2012_adj.npz: x: found an adjacency of shape (4, 4), expected (5, 5)"),
        ("negative", "2012_adj.npz: x: found a weight below 0"),
        ("nan", "2012_adj.npz: x: found a weight that is no finite number"),
        ("object graph", "Object arrays cannot be loaded when allow_pickle=False"),
        ("no graph", "there is no 2012_adj.npz, but one of 2011"),
        ("name", "2012.npz: there is no array 'x', nor windows"),
        ("mixed", "2012.npz: val: the windows do not follow each other"),
        ("damaged", "2012.npz: cannot be read as npz"),
        ("link", "2012.npz: links to a file outside"),
    ],
)
def test_what_cannot_be_used(archive: Path, refused: Any, what: str, expected: str) -> None:
    spoil(archive, what)
    assert expected in refused("eac", archive)


def test_options_are_checked(archive: Path, refused: Any, tmp_path: Path) -> None:
    assert "option 'step': found '7min'" in refused("eac", archive, "step=7min")
    assert "option 'start': found 'soon'" in refused("eac", archive, "start=soon")
    assert "it has no option 'steps'; did you mean 'step'?" in refused("eac", archive, "steps=5min")
    assert "there is no such file or folder" in refused("eac", tmp_path / "none")
    assert "there is no import format called 'ecc'; did you mean 'eac'?" in refused("ecc", archive)
