"""Forecasts as rows: one for every sensor that is there, made of nothing later, by the best tier there is."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from st_pipeline.data.protocols import PROTOCOLS
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.forecasting import served as serving
from st_pipeline.forecasting.issue import QUANTILES, SCHEMA, Issue
from st_pipeline.forecasts_config import ForecastsConfig
from st_pipeline.training.forecasts import forecasts

HOURS = 21 * 24
Changed = Callable[..., SeriesTensor]


@pytest.fixture(scope="module")
def second(town: Any) -> pl.DataFrame:
    return Issue.of(town.sources(town.keys[1])).rows()


def of(rows: pl.DataFrame, name: str) -> pl.DataFrame:
    return rows.filter(pl.col("sensor_id") == name)


def with_tensor(sources: Any, tensor: SeriesTensor) -> Any:
    return replace(sources, tensors={**sources.tensors, sources.period.key: tensor})


def test_every_sensor_has_each_step_of_every_issue_once(town: Any, second: pl.DataFrame) -> None:
    stream = town.learner.stream
    assert second.schema == pl.Schema(SCHEMA)
    start = stream.calendar.find(town.keys[1]).start
    issued = [start + timedelta(hours=hour) for hour in range(1, HOURS + 1)]
    assert second["issued_at"].unique().sort().to_list() == issued
    counts = second.group_by("issued_at", "sensor_id").agg(pl.col("horizon").sort())
    assert counts["horizon"].to_list() == [[1, 2, 3, 4]] * len(counts)
    there = {*town.nodes[town.keys[0]].ids}
    assert all(there <= {*own["sensor_id"]} for _, own in counts.group_by("issued_at"))
    ahead = second["target_time"] - second["issued_at"]
    assert (ahead == pl.Series([timedelta(hours=1)]).gather([0] * len(second)) * (second["horizon"] - 1)).all()


def test_forecasts_are_issued_as_often_as_the_stream_says(town: Any) -> None:
    sources = town.sources(town.keys[1])
    config = sources.config.model_copy(update={"forecasts": ForecastsConfig(every=timedelta(hours=6))})
    issue = Issue.of(replace(sources, config=config))
    assert len(issue.times) == HOURS // 6
    assert issue.times[0] == sources.period.start + timedelta(hours=6)
    assert issue.served is not None  # how often forecasts are issued is nothing that a model depends on


def test_readings_after_an_issue_change_nothing_that_was_issued(town: Any, second: pl.DataFrame) -> None:
    """Neither points nor intervals, whatever comes: other values, a new sensor, a sensor that falls silent."""
    cut = 300
    tensor = town.tensors[town.keys[1]]
    random = np.random.default_rng(5)
    values, flags = tensor.values.copy(), tensor.flags.copy()
    values[cut:] = random.gamma(2, 50, values[cut:].shape)
    flags[cut:] = np.where(random.random(flags[cut:].shape) < 0.5, 0, 1)
    ids = (*tensor.sensor_ids, "h")
    late = np.zeros((len(values), 1, 1), dtype=np.float32)
    unheard = np.where(np.arange(len(values)) < cut, 1, 0).astype(np.uint8)[:, None, None]
    other = replace(
        tensor, values=np.concatenate([values, late], 1), flags=np.concatenate([flags, unheard], 1), sensor_ids=ids
    )
    found = Issue.of(with_tensor(town.sources(town.keys[1]), other)).rows()
    until = town.learner.stream.calendar.find(town.keys[1]).start + timedelta(hours=cut)
    before, after = (rows.filter(pl.col("issued_at") <= until) for rows in (second, found))
    assert before.drop("point", *QUANTILES).equals(after.drop("point", *QUANTILES))
    for name in ("point", *QUANTILES):
        assert np.allclose(before[name].to_numpy(), after[name].to_numpy(), rtol=1e-4, atol=1e-3, equal_nan=True)
    assert not second.filter(pl.col("issued_at") > until).equals(found.filter(pl.col("issued_at") > until))


def test_a_sensor_that_the_model_knows_gets_the_models_own_forecast(town: Any, second: pl.DataFrame) -> None:
    issue = Issue.of(town.sources(town.keys[1]))
    served, series = issue.served, issue.series
    assert served is not None and served.through.key == town.keys[0]
    at = 200
    arrays = series.arrays(served.ids, PROTOCOLS["sound"], served.learner.lags)
    part = replace(
        arrays.scaled(served.scaler), starts=torch.tensor([int(issue.issued[at]) - series.config.window + 1])
    )
    graph = issue.sources.graph(served.ids, served.through)
    ((own, _, _),) = forecasts(served.forecaster, part, graph)
    rows = second.filter(pl.col("issued_at") == issue.times[at])
    for place, name in enumerate(served.ids):
        found = of(rows, name)
        if (found["tier"] == "model").all():
            expected = own[0, :, place].clamp(min=0)
            torch.testing.assert_close(torch.tensor(found["point"].to_list()), expected, rtol=1e-4, atol=1e-3)
    assert rows.filter(pl.col("tier") == "model")["model_id"].unique().to_list() == [served.model_id]


def test_a_new_sensor_is_forecast_by_its_neighbours_and_says_so(town: Any, second: pl.DataFrame) -> None:
    rows = of(second, "f")
    assert {"neighbour"} == {*rows.filter(pl.col("tier") != "seasonal")["tier"]} - {"last", "none"}
    told = rows.filter(pl.col("tier") == "neighbour")
    assert len(told) > 0.9 * len(rows)
    assert all(words == ["not_in_training"] for words in told["reasons"].to_list())
    settled = told.filter(pl.col("issued_at") > town.sources(town.keys[1]).period.start + timedelta(days=4))
    level = float(town.tensors[town.keys[1]].values[..., 4, 0].mean())
    assert settled["point"].mean() == pytest.approx(level, rel=0.5)


def test_a_sensor_that_returns_gets_its_own_row_back(town: Any) -> None:
    rows = Issue.of(town.sources(town.keys[2])).rows()
    tiers = {name: {*own["tier"]} for (name,), own in rows.group_by("sensor_id")}
    assert "model" in tiers["b"] and "neighbour" not in tiers["b"]
    assert "neighbour" in tiers["h"] and "model" not in tiers["h"]


def test_a_sensor_that_was_never_heard_has_rows_without_a_number(town: Any) -> None:
    rows = of(Issue.of(town.sources(town.keys[2])).rows(), "z")
    assert len(rows) == HOURS * 4
    assert {*rows["tier"]} == {"none"}
    assert rows["point"].null_count() == len(rows) == rows["q05"].null_count()
    assert {tuple(words) for words in rows["reasons"].to_list()} == {("not_in_training", "not_heard")}


def test_a_silent_sensor_goes_down_the_ladder(town: Any, changed: Changed) -> None:
    silent = 100
    tensor = changed(town.tensors[town.keys[1]], "a", slice(silent, None))
    sources = with_tensor(town.sources(town.keys[1]), tensor)
    rows = of(Issue.of(sources).rows(), "a")
    since = tensor.times[np.flatnonzero(tensor.observed[:, 0, 0])[-1]] + 3600
    last = rows.filter(pl.col("issued_at") == sources.period.start + timedelta(hours=silent + 8))
    assert {*last["tier"]} == {"seasonal"}
    stamp = datetime.fromtimestamp(int(since), UTC).strftime("%Y-%m-%dT%H:%MZ")
    assert {tuple(words) for words in last["reasons"].to_list()} == {(f"silent_since={stamp}",)}
    assert last["point"].null_count() == 0 and last["q95"].null_count() == 0
    falling = rows.filter(pl.col("issued_at") == sources.period.start + timedelta(hours=silent + 4))
    assert {word.split("=")[0] for word in falling["reasons"].to_list()[0]} == {"window_observed"}
    end = rows.filter(pl.col("issued_at") == sources.period.end)
    assert {*end["tier"]} <= {"seasonal", "last"}


def test_the_first_period_has_no_model_and_still_a_row_for_everybody(town: Any) -> None:
    rows = Issue.of(town.sources(town.keys[0])).rows()
    assert {*rows["tier"]} <= {"seasonal", "last", "none"}
    assert rows["model_id"].null_count() == len(rows)
    assert all("no_model" in words for words in rows["reasons"].unique().to_list())
    late = rows.filter(pl.col("issued_at") > town.sources(town.keys[0]).period.start + timedelta(days=3))
    assert (late["tier"] == "seasonal").mean() > 0.9  # type: ignore[operator]
    assert late["q50"].null_count() == 0


def test_an_older_model_says_how_old_it_is(town: Any) -> None:
    first, second, third = town.keys
    rows = Issue.of(town.sources(third, untrained=(second,))).rows()
    words = {word for words in rows.filter(pl.col("tier") == "model")["reasons"].to_list() for word in words}
    assert words == {f"model_through={first}"}


def test_a_model_of_another_configuration_does_not_serve(town: Any) -> None:
    sources = town.sources(town.keys[1])
    other = sources.model.model_copy(update={"seed": 7})
    assert Issue.of(replace(sources, model=other)).served is None


def test_what_is_not_finite_is_not_published(town: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sources = town.sources(town.keys[1])
    served = copy.copy(sources.served())
    restore = serving._served

    def spoilt(*arguments: Any) -> Any:
        found = restore(*arguments)
        for weights in found.forecaster.parameters():
            weights.data.fill_(torch.nan)
        return found

    assert served is not None
    monkeypatch.setattr(serving, "_served", spoilt)
    rows = Issue.of(sources).rows()
    assert {*rows["tier"]} <= {"seasonal", "last", "none"}
    assert rows["point"].is_finite().fill_null(True).all()
    told = rows.filter(pl.col("reasons").list.contains("not_finite"))
    assert len(told) > 0.7 * len(rows)


def test_numbers_stay_in_the_range_of_the_variable_and_quantiles_in_order(second: pl.DataFrame) -> None:
    known = second.filter(pl.col("q05").is_not_null())
    assert len(known) > 0.9 * len(second)
    for low, high in pairwise(QUANTILES):
        assert (known[low] <= known[high]).all()
    assert second["point"].min() >= 0 and known["q05"].min() >= 0  # type: ignore[operator]


def test_only_the_wanted_issues_are_made_and_they_are_the_same(town: Any, second: pl.DataFrame) -> None:
    issue = Issue.of(town.sources(town.keys[1]))
    wanted = np.zeros(len(issue.issued), dtype=bool)
    wanted[[50, 220]] = True
    rows = issue.rows(wanted)
    expected = second.filter(pl.col("issued_at").is_in([issue.times[50], issue.times[220]]))
    assert rows.drop("point", *QUANTILES).equals(expected.drop("point", *QUANTILES))
    for name in ("point", *QUANTILES):
        assert np.allclose(rows[name].to_numpy(), expected[name].to_numpy(), rtol=1e-4, atol=1e-3, equal_nan=True)
    assert issue.rows(np.zeros_like(wanted)).is_empty()
