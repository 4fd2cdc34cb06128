"""`explain` traces a forecast to the rows of the landed files."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
import pytest
from click.testing import Result

Invoke = Callable[..., Result]


def test_a_forecast_goes_back_to_files_and_rows(town: Any, invoke: Invoke) -> None:
    sensor = json.loads((town.home / "lake/town/node_set/2024-01-08.json").read_text())["ids"][0]
    result = invoke("explain", "town", sensor, "--json")
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert (found["model"], found["period"], found["part"]) == ("eac", "2024-01-08", "test")
    assert len(found["forecast"]) == 3
    flows = [row for row in found["inputs"] if row["variable"] == "flow" and row["flag"] == "observed"]
    assert flows
    for row in flows:
        file, _, line = row["rows"].split(", ")[0].rpartition(":")
        (path,) = [path for path in town.streams.glob("town/raw/readings/*") if path.name == file.split("/")[-1]]
        landed = pl.read_parquet(path).row(int(line) - 1, named=True)
        assert str(landed["sensor_id"]) == sensor
        assert landed["flow"] == pytest.approx(row["value"])
    plain = invoke("explain", "town", sensor, "--at", "2024-01-10T08:00").stdout
    for part in ("issued 2024-01-10 08:00 +0000, in the train part of 2024-01-08", "prompt: tuned in 2024-01-08"):
        assert part in plain
    wrong = {
        ("nobody",): "town has no sensor 'nobody' in period 2024-01-08",
        (sensor, "--model", "online"): "town/online has learned no period yet; run `st-pipeline run town` first",
        (sensor, "--model", "eacc"): "did you mean 'eac'?",
        (sensor, "--at", "noon"): "--at 'noon': expected a time such as",
        (
            sensor,
            "--at",
            "2024-01-16T08:00",
        ): "has not learned period 2024-01-15; it has learned 2024-01-01, 2024-01-08",
        (sensor, "--at", "2031-01-16T08:00"): "is in no period",
    }
    for arguments, told in wrong.items():
        result = invoke("explain", "town", *arguments)
        assert result.exit_code == 2 and told in result.stderr, result.stderr
