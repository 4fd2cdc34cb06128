"""Scores are means over the cells whose truth has arrived, of what was said first."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from st_pipeline.evaluation.forecast_means import ALL, FIRST_MONTH, headline, pooled
from st_pipeline.forecasting.issue import Issue
from st_pipeline.forecasting.published import PUBLISHED, Published
from st_pipeline.forecasting.scores import SCHEMA, score

NOW = datetime(2024, 6, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def issued(town: Any) -> pl.DataFrame:
    """Of the second period."""
    fresh = Issue.of(town.sources(town.keys[1])).rows()
    return Published(pl.DataFrame(schema=PUBLISHED), None, None).with_news(fresh, NOW)  # type: ignore[arg-type]


def scored(town: Any, rows: pl.DataFrame, key: str | None = None) -> pl.DataFrame:
    key = key or town.keys[1]
    stream = town.learner.stream
    return score(stream, stream.calendar.find(key), {town.keys[1]: rows}, town.tensors, town.nodes[key])


def truth_of(town: Any, rows: pl.DataFrame) -> list[float | None]:
    """The reading that each row forecasts, if there is one."""
    cells: dict[tuple[str, int], float] = {}
    for tensor in town.tensors.values():
        for row, name in enumerate(tensor.sensor_ids):
            for step in tensor.observed[:, row, 0].nonzero()[0].tolist():
                cells[name, int(tensor.times[step])] = float(tensor.values[step, row, 0])
    seconds = rows["target_time"].dt.epoch("s")
    return [cells.get(key) for key in zip(rows["sensor_id"], seconds, strict=True)]


def test_numbers_are_those_of_the_cells(town: Any, issued: pl.DataFrame) -> None:
    end = town.learner.stream.calendar.find(town.keys[1]).end
    rows = issued.with_columns(truth=pl.Series(truth_of(town, issued), dtype=pl.Float64))
    rows = rows.filter(pl.col("truth").is_not_null() & pl.col("point").is_not_null() & (pl.col("target_time") < end))
    found = scored(town, issued)
    assert found.schema == pl.Schema(SCHEMA)
    known = found.filter(pl.col("cohort") == ALL)
    total = pooled(known).row(0, named=True)
    assert total["cells"] == len(rows)
    error = (rows["point"].cast(pl.Float64) - rows["truth"]).abs()
    assert total["mae"] == pytest.approx(error.mean())
    with_interval = rows.filter(pl.col("q05").is_not_null())
    assert total["interval_cells"] == len(with_interval)
    inside = with_interval["truth"].is_between(with_interval["q05"], with_interval["q95"])
    assert total["coverage_90"] == pytest.approx(inside.mean(), abs=1e-6)
    by_step = {row["horizon"]: row for row in pooled(known, "horizon").to_dicts()}
    own = rows.filter(pl.col("horizon") == 3)
    assert by_step[3]["cells"] == len(own)
    assert by_step[3]["mae"] == pytest.approx((own["point"].cast(pl.Float64) - own["truth"]).abs().mean())


def test_a_forecast_that_is_the_truth_has_no_error(town: Any, issued: pl.DataFrame) -> None:
    truth = pl.Series(truth_of(town, issued), dtype=pl.Float32)
    perfect = issued.with_columns(point=pl.coalesce(truth, "point"), q05=truth - 1, q95=truth + 1)
    total = headline(scored(town, perfect))
    assert total["mae"] == pytest.approx(0, abs=1e-5)
    assert (total["coverage_90"], total["width_90"]) == (1.0, pytest.approx(2, abs=1e-4))
    assert total["naive_weekly_mae"] > 1


def test_a_later_vintage_does_not_count(town: Any, issued: pl.DataFrame) -> None:
    truth = pl.Series(truth_of(town, issued), dtype=pl.Float32)
    wiser = issued.with_columns(point=truth, vintage=pl.lit(2, dtype=pl.Int16))
    assert scored(town, pl.concat([issued, wiser])).equals(scored(town, issued))


def test_the_last_forecasts_of_a_period_are_scored_in_the_next(town: Any, issued: pl.DataFrame) -> None:
    end = town.learner.stream.calendar.find(town.keys[1]).end
    later = scored(town, issued, town.keys[2])
    beyond = issued.filter(pl.col("target_time") >= end)
    assert 0 < later.filter(pl.col("cohort") == ALL)["cells"].sum() <= len(beyond)
    assert later["day"].unique().to_list() == [end.date()]


def test_a_sensor_is_young_for_a_month_after_it_was_first_heard(town: Any, issued: pl.DataFrame) -> None:
    found = scored(town, issued)
    young = found.filter(pl.col("cohort") == FIRST_MONTH)
    newcomers = issued.filter(pl.col("sensor_id").is_in(["f", "g"]))
    assert young["cells"].sum() == scored(town, newcomers).filter(pl.col("cohort") == ALL)["cells"].sum()
    assert "first_month_coverage_90" in headline(found)
    old = issued.filter(~pl.col("sensor_id").is_in(["f", "g"]))
    assert "first_month_mae" not in headline(scored(town, old))


def test_without_truth_there_are_no_scores(town: Any, issued: pl.DataFrame) -> None:
    empty = scored(town, issued.clear())
    assert empty.schema == pl.Schema(SCHEMA) and empty.is_empty()
    assert headline(empty) == {"cells": 0, "interval_cells": 0}
    tensor = town.tensors[town.keys[1]]
    deaf = replace(tensor, flags=tensor.flags * 0 + 1)
    stream, key = town.learner.stream, town.keys[1]
    none = score(stream, stream.calendar.find(key), {key: issued}, {**town.tensors, key: deaf}, town.nodes[key])
    assert none.is_empty()


def test_means_weigh_cells() -> None:
    day = datetime(2024, 1, 1, tzinfo=UTC).date()
    row = {"horizon": 1, "tier": "model", "cohort": ALL, "naive_weekly_mae": 2.0}
    frame = pl.DataFrame(
        [
            {**row, "day": day, "cells": 1, "interval_cells": 1, "mae": 4.0, "coverage_90": 0.0},
            {**row, "day": day + timedelta(days=1), "cells": 3, "interval_cells": 0, "mae": 8.0, "coverage_90": None},
        ],
        schema=SCHEMA,
    )
    found = pooled(frame).row(0, named=True)
    assert (found["cells"], found["interval_cells"]) == (4, 1)
    assert (found["mae"], found["coverage_90"]) == (7.0, 0.0)
