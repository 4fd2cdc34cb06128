"""`coldstart` tells of places and sensors, and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
from click.testing import Result

from st_pipeline.data.adjacency import ADJACENCY

Invoke = Callable[..., Result]


def test_places_sensors_and_departures(town: Any, invoke: Invoke) -> None:
    before = {path: path.stat().st_mtime_ns for path in town.home.rglob("*")}
    table = pl.read_parquet(town.home / "lake/town/sensors.parquet").filter(pl.col("x").is_not_null())
    graph = ADJACENCY.load((town.home / "lake/town/adjacency/2024-01-01.safetensors").read_bytes())
    ids = [graph.sensor_ids[row] for row in graph.row]  # of sensors that have a neighbour
    sensor = table.filter(pl.col("sensor_id") == ids[0]).row(0, named=True)
    picture = town.folder / "curve.png"
    near = invoke(
        "coldstart", "town", "--x", str(sensor["x"] + 1), "--y", str(sensor["y"]), "--json", "--picture", str(picture)
    )
    assert near.exit_code == 0, near.stderr
    found = json.loads(near.stdout)
    assert (found["sensor"], found["period"]) == ("new", "2024-01-08")
    assert found["neighbours"][0]["sensor_id"] == ids[0]
    assert len(found["forecast"]) == 3 and found["curve"]
    assert picture.read_bytes()[:4] == b"\x89PNG"

    plain = invoke("coldstart", "town", "--sensor", ids[0]).stdout
    for part in ("neighbour", f"{ids[0]}, without any reading, issued", "with its own readings", "hidden on"):
        assert part in plain
    assert "without any reading, issued" not in invoke("coldstart", "town").stdout
    assert f"without the readings of {ids[0]}" in invoke("coldstart", "town", "--drop", ids[0]).stdout
    assert {path: path.stat().st_mtime_ns for path in town.home.rglob("*")} == before

    wrong = {
        ("--sensor", f"{ids[0]}x"): f"has no sensor '{ids[0]}x'; did you mean",
        ("--drop", "nobody"): "sensor 'nobody' is not known",
        ("--latitude", "1", "--longitude", "2"): "have x and y in metres, found latitude and longitude",
        ("--x", "1"): "found x; give --x and --y",
        ("--x", "nan", "--y", "1"): "--x nan: expected metres",
        ("--sensor", ids[0], "--drop", ids[0]): "found --sensor and --drop; expected one of them",
        ("--drop", ids[0], "--picture", "p.png"): "--picture draws the curve",
        ("--model", "online"): "town/online has learned no period yet; run `st-pipeline run town` first",
        ("--model", "eacc"): "did you mean 'eac'?",
    }
    for arguments, told in wrong.items():
        result = invoke("coldstart", "town", *arguments)
        assert result.exit_code == 2 and told in result.stderr, (arguments, result.stderr)


def test_nothing_trained_and_no_model_are_told(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("bare", models=[])
    workspace.stream("empty")
    for name, told in (("bare", "has no model"), ("empty", "has learned no period yet")):
        result = invoke("coldstart", name)
        assert result.exit_code == 2 and told in result.stderr and result.stderr.count("\n") == 1, result.stderr
