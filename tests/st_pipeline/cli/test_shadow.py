"""A shadow forecasts beside the champion, and `champion` shows both errors."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import polars as pl
from click.testing import Result

PERIOD = "2024-01-08"


def test_a_shadow_publishes_beside_the_champion(town: Any, invoke: Callable[..., Result]) -> None:
    own = town.home / "lake/town/forecast" / f"{PERIOD}.parquet"
    before = own.read_bytes()
    assert json.loads(invoke("champion", "town", "--json").stdout)["shadow_scores"] == []
    assert invoke("shadow", "town", "online").exit_code == 0
    (row,) = json.loads(invoke("champion", "town", "--json").stdout)["shadow_scores"]
    assert (row["model"], row["days"], row["mae"]) == ("online", 0, None)
    done = town.command("run", "town", "--models", "online", "--periods", f"..{PERIOD}")
    assert done.returncode == 0, done.stderr
    shadow = pl.read_parquet(town.home / "lake/town/online/forecast" / f"{PERIOD}.parquet")
    assert {name.split("@")[0] for name in shadow["model_id"].drop_nulls().unique()} == {"online"}
    assert "model" in shadow["tier"].unique()
    assert own.read_bytes() == before
    (row,) = json.loads(invoke("champion", "town", "--json").stdout)["shadow_scores"]
    assert row["days"] >= 7 and row["mae"] > 0 and row["champion_mae"] > 0 and row["mae"] != row["champion_mae"]
    assert "shadows, their published forecasts" in invoke("champion", "town").stdout
    assert invoke("shadow", "town", "online", "--stop").exit_code == 0
    assert json.loads(invoke("champion", "town", "--json").stdout)["shadow_scores"] == []
