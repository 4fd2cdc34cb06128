"""What models that forecast beside the champion would have been worth."""

from __future__ import annotations

from typing import Any

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.forecast_means import ALL, pooled
from st_pipeline.forecasting.serving import Serving
from st_pipeline.storage import FRAME, Lake

ASSET = "forecast_scores"


def shadow_scores(config: StreamConfig, state: Serving, lake: Lake) -> list[dict[str, Any]]:
    """A row per shadow: errors of its published forecasts and of the champion's, on the days that both have.

    Raises:
        InputError: stored scores are damaged.
    """
    own = _scores(lake, (config.name, ASSET))
    return [_row(name, _scores(lake, (config.name, name, ASSET)), own) for name in state.shadows]


def _scores(lake: Lake, key: tuple[str, ...]) -> pl.DataFrame | None:
    """Of the whole network; None where nothing is scored."""
    frames = [lake.read(key, period, FRAME) for period in lake.periods(key, FRAME.extension)]
    return pl.concat(frames).filter(pl.col("cohort") == ALL) if frames else None


def _row(name: str, scores: pl.DataFrame | None, own: pl.DataFrame | None) -> dict[str, Any]:
    nothing = dict.fromkeys(("mae", "champion_mae", "naive_weekly_mae", "coverage_90"))
    if scores is None or own is None:
        return {"model": name, "days": 0, **nothing}
    both = scores.join(own.select("day").unique(), on="day", how="semi")
    found = pooled(both).row(0, named=True)
    champion = pooled(own.join(both.select("day").unique(), on="day", how="semi")).row(0, named=True)
    kept = {key: found[key] for key in ("mae", "naive_weekly_mae", "coverage_90")}
    return {"model": name, "days": both["day"].n_unique(), **nothing, **kept, "champion_mae": champion["mae"]}
