"""`forecast` brings what is due up to date, trains nothing, and prints it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import polars as pl
from click.testing import Result

Invoke = Callable[..., Result]
PERIODS = ("2024-01-01", "2024-01-08", "2024-01-15")


def test_from_the_first_data_to_a_late_correction(workspace: Any, invoke: Invoke) -> None:
    """One walk, since each needs what the one before has made."""
    workspace.landed_stream("town", champion="eac", forecasts={"every": "6h"})
    done = workspace.command("run", "town", "--models", "eac", "--periods", "..2024-01-08")
    assert done.returncode == 0, done.stderr
    folder = workspace.home / "lake/town"
    assert sorted(path.stem for path in (folder / "forecast").glob("*.parquet")) == list(PERIODS[:2])
    assert sorted(path.stem for path in (folder / "forecast_scores").glob("*.parquet")) == list(PERIODS[:2])

    result = invoke("forecast", "town", "--json")  # the third period has data and no training yet
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert {row["issued_at"] for row in rows} == {"2024-01-22 00:00:00+00:00"}
    assert {row["horizon"] for row in rows} == {1, 2, 3}
    assert {row["model_id"].split("#")[0] for row in rows if row["tier"] == "model"} == {"eac@2024-01-08"}
    assert sorted(path.stem for path in (folder / "eac/backbone").glob("*.safetensors")) == list(PERIODS[:2])

    file = folder / "forecast" / f"{PERIODS[2]}.parquet"
    before = file.read_bytes()
    table = invoke("forecast", "town", "--at", "2024-01-17T15:00")
    assert table.exit_code == 0, table.stderr
    assert "town: flow, issued 2024-01-17 12:00 +0000" in table.stdout
    assert file.read_bytes() == before

    workspace.change(
        "town",
        PERIODS[2],
        pl.when(pl.col("timestamp") > datetime(2024, 1, 20)).then(pl.col("flow") / 2).otherwise("flow"),
    )
    again = invoke("forecast", "town", "--json")
    assert again.exit_code == 0, again.stderr
    published, old = pl.read_parquet(file), pl.read_parquet(before)
    assert published.filter(pl.col("vintage") == 1).equals(old)
    assert {row["vintage"] for row in json.loads(again.stdout)} == {2}
    news = published.filter(pl.col("vintage") == 2)
    assert news["issued_at"].min() >= datetime(2024, 1, 19, tzinfo=UTC)  # type: ignore[operator]

    wrong = {
        ("--at", "noon"): "expected a time such as",
        ("--at", "2030-01-01"): "has no period at 2030-01-01",
        ("--at", "2024-01-15T01:00"): "no forecast is due in period 2024-01-15 by then; the first is issued at",
    }
    for arguments, sentence in wrong.items():
        failed = invoke("forecast", "town", *arguments)
        assert failed.exit_code == 2 and sentence in failed.stderr, failed.output


def test_a_stream_without_models_is_told_so(workspace: Any, invoke: Invoke) -> None:
    workspace.stream("bare", models=[])
    result = invoke("forecast", "bare")
    assert result.exit_code == 2
    assert "stream 'bare' has no model" in result.stderr
