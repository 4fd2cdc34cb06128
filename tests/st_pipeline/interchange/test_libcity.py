"""LibCity's atomic files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

TIMES = np.datetime64("2012-03-01T00:00", "ms") + np.arange(864) * np.timedelta64(5, "m")


@pytest.fixture
def archive(tmp_path: Path, wave: Callable[..., Any]) -> Path:
    folder = tmp_path / "METR_LA"
    folder.mkdir()
    values = wave(864, 3, day=288)
    (folder / "METR_LA.geo").write_text(
        'geo_id,type,coordinates\n7,Point,"[-118.31, 34.1]"\n8,Point,"[-118.32, 34.2]"\n9,Point,"[-118.33, 34.3]"\n'
    )
    (folder / "METR_LA.rel").write_text("rel_id,type,origin_id,destination_id,cost\n0,geo,7,8,100\n1,geo,8,9,300\n")
    stamps = [f"{time}Z" for time in TIMES.astype("datetime64[s]")]
    rows = {
        "dyna_id": np.arange(864 * 3),
        "type": ["state"] * 864 * 3,
        "time": stamps * 3,
        "entity_id": np.repeat([7, 8, 9], 864),
        "extra": np.ones(864 * 3),
        "traffic_speed": values.T.ravel(),
    }
    frame = pl.DataFrame(rows).with_columns(traffic_speed=pl.when(pl.col("dyna_id") != 5).then("traffic_speed"))
    frame.write_csv(folder / "METR_LA.dyna")
    info = {"data_col": ["traffic_speed"], "weight_col": "cost", "data_files": ["METR_LA"], "geo_file": "METR_LA"}
    info |= {"rel_file": "METR_LA", "time_intervals": 300, "set_weight_link_or_dist": "dist"}
    (folder / "config.json").write_text(json.dumps({"info": info}))
    return folder


def test_the_whole_archive(archive: Path, bring: Any, network: Any, wave: Any) -> None:
    stream = bring("libcity", archive)
    assert "recipe: distances" in (stream.folder / "stream.yaml").read_text()
    found = network(stream)
    assert (found.ids, found.variables) == (("7", "8", "9"), ("traffic_speed", "extra"))
    expected = wave(864, 3, day=288).astype("f4")
    expected[5, 0] = np.nan
    assert np.array_equal(found.values[:, :, 0], expected, equal_nan=True)
    assert np.array_equal(found.times, TIMES)
    assert found.positions["latitude"].to_list() == [34.1, 34.2, 34.3]


def test_without_a_configuration(archive: Path, bring: Any) -> None:
    (archive / "config.json").unlink()
    (archive / "METR_LA.rel").unlink()
    assert bring("libcity", archive).config.variable_names == ("extra", "traffic_speed")


def test_export_and_import_again(archive: Path, bring: Any, take_out: Any, network: Any) -> None:
    first = network(bring("libcity", archive))
    again = network(bring("libcity", take_out("mine", "libcity"), name="again"))
    assert (first.ids, first.variables) == (again.ids, again.variables)
    assert np.array_equal(first.values, again.values, equal_nan=True) and np.isnan(again.values).any()
    assert (
        np.array_equal(first.weights, again.weights)
        and first.weights.any()
        and np.array_equal(first.times, again.times)
    )


@pytest.mark.parametrize(
    ("file", "old", "new", "expected"),
    [
        ("config.json", '"METR_LA"', '"../METR_LA"', "'../METR_LA' leaves the folder"),
        ("config.json", '"traffic_speed"', '"flow"', "data_col: there is no column 'flow'"),
        ("config.json", "{", "[", "config.json: cannot be read as JSON"),
        ("METR_LA.dyna", "2012-03-01T00:10:00Z,7", "2012-02-01T00:10:00Z,7", "of '7' is not after the one before it"),
        ("METR_LA.dyna", "2012-03-01T00:10:00Z,7", "soon,7", "data row 3: time: found 'soon'"),
        ("METR_LA.dyna", "entity_id", "entity", "there is no column 'entity_id'; did you mean"),
        ("METR_LA.dyna", "7,1.0,", "7,1.0,x", "traffic_speed: found 'x"),
        ("METR_LA.rel", "100", "-100", "cost: found -100.0, expected a finite number of at least 0"),
        ("METR_LA.rel", "7,8,100\n1,geo,8,9", "71,72,100\n1,geo,73,74", "no row is about two of the 3 sensors"),
    ],
)
def test_what_cannot_be_used(archive: Path, refused: Any, file: str, old: str, new: str, expected: str) -> None:
    text = (archive / file).read_text()
    assert old in text
    (archive / file).write_text(text.replace(old, new))
    assert expected in refused("libcity", archive)


def test_a_graph_without_edges(archive: Path, bring: Any, network: Any) -> None:
    (archive / "METR_LA.rel").write_text("rel_id,type,origin_id,destination_id,cost\n")
    assert not network(bring("libcity", archive)).weights.any()


def test_no_states_or_nothing_in_them(archive: Path, refused: Any) -> None:
    (archive / "METR_LA.dyna").write_text("dyna_id,type,time,entity_id,traffic_speed\n")
    assert "METR_LA.dyna: has no rows" in refused("libcity", archive)
    (archive / "METR_LA.dyna").unlink()
    assert "there is no .dyna file" in refused("libcity", archive)
