"""An explanation makes the very forecast again, and says truly what it was made of."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from st_pipeline.data.quality import MISSING
from st_pipeline.errors import InputError
from st_pipeline.evaluation.scoring import prepared
from st_pipeline.forecasting.explanation import explain
from st_pipeline.training.forecasts import forecasts

LAGS = ["1d", "7d"]
MODELS: dict[str, dict[str, Any]] = {
    "prompted": {"strategy": "eac", "seasonal": LAGS},
    "alone": {"strategy": "online", "backbone": "dlinear", "prompt_pool": None},
    "paper": {"strategy": "online", "protocol": "paper"},
    "whole": {"strategy": "eac", "seasonal": LAGS, "seasonal_skip": True, "relearner": {"hidden": 8}},
}
RAW = pl.DataFrame(
    schema={
        "sensor_id": pl.Categorical,
        "timestamp": pl.Datetime("ms"),
        "flow": pl.Float32,
        "file": pl.Categorical,
        "row": pl.UInt32,
    }
)


@pytest.fixture
def lived(make_learner: Any, make_history: Any, compute: Any) -> Any:
    """`lived("prompted")`: a learner, its two periods, and its parts after each."""

    def live(name: str) -> Any:
        model = dict(MODELS[name])
        learner = make_learner(model.pop("strategy"), **model)
        first, second, _ = make_history(learner.stream).values()
        one = learner.learn(first, None, compute=compute)
        return learner, (first, second), (one, learner.learn(second, one, compute=compute, earlier=first))

    return live


def explained(life: Any, sensor: str, **more: Any) -> Any:
    learner, (_, data), (_, parts) = life
    return explain(learner.stream, learner.model, data, parts, sensor, **{"raw": RAW, **more})


@pytest.mark.parametrize("name", MODELS)
def test_the_last_forecast_is_that_of_the_evaluation(lived: Any, name: str) -> None:
    life = lived(name)
    learner, (_, data), (_, parts) = life
    found = explained(life, data.nodes.ids[1])
    part, graph, forecaster = prepared(learner, learner.restore(parts), data, torch.device("cpu"))
    part = replace(part, starts=torch.tensor([len(part.truth) - part.windows.span]))
    forecast, truth, scored = next(iter(forecasts(forecaster, part, graph)))
    torch.testing.assert_close(torch.tensor(found.forecast["forecast"].to_list()), forecast[0, :, 1])
    shown = [value if known else None for value, known in zip(truth[0, :, 1].tolist(), scored[0, :, 1], strict=True)]
    if name != "paper":
        assert found.forecast["truth"].to_list() == shown
    assert (found.part, found.period) == ("test", data.period.key)
    first = found.forecast["time"][0]
    assert first == found.issued_at == data.period.end - learner.stream.horizon * learner.stream.step


def test_cells_are_those_of_the_tensor_with_their_flags(lived: Any) -> None:
    life = lived("prompted")
    learner, (_, data), _ = life
    stream = learner.stream
    at = data.period.start + timedelta(days=8)
    found = explained(life, data.nodes.ids[0], at=at)
    window = found.inputs.filter(pl.col("lag").is_null())
    assert window["time"].to_list() == [at - step * stream.step for step in range(stream.window, 0, -1)]
    last = 8 * 24
    for place, row in enumerate(window.to_dicts()):
        step = last - stream.window + place
        seen = data.tensor.flags[step, 0, 0] != MISSING
        assert row["flag"] == ("observed" if seen else "missing")
        assert row["value"] == (pytest.approx(float(data.tensor.values[step, 0, 0])) if seen else None)
    week = found.inputs.filter(pl.col("lag") == "7d")
    assert week["time"].to_list() == [time - timedelta(days=7) for time in found.forecast["time"]]
    assert found.part == "train"


def test_a_season_before_the_period_is_said_to_be_outside(lived: Any) -> None:
    life = lived("prompted")
    _, (_, data), _ = life
    found = explained(life, data.nodes.ids[0], at=data.period.start + timedelta(days=2))
    flags = {lag: set(frame["flag"]) for (lag,), frame in found.inputs.group_by("lag")}
    assert flags["7d"] == {"before the period"}
    assert "before the period" not in flags["1d"] | flags[None]
    outside = found.inputs.filter(pl.col("flag") == "before the period")
    assert outside["value"].null_count() == len(outside)


def test_a_model_of_each_sensor_alone_is_moved_by_that_sensor_alone(lived: Any) -> None:
    life = lived("alone")
    _, (_, data), _ = life
    found = explained(life, data.nodes.ids[2])
    moves = dict(zip(found.sensors["sensor_id"], found.sensors["moves"], strict=True))
    assert found.sensors["sensor_id"][0] == data.nodes.ids[2]
    assert moves.pop(data.nodes.ids[2]) > 0
    assert max(moves.values()) < 1e-4
    assert found.prompt is None


def test_neighbours_have_the_weights_of_the_network(lived: Any) -> None:
    life = lived("prompted")
    _, (_, data), _ = life
    found = explained(life, data.nodes.ids[0])
    weights = {name: weight for name, weight, _ in found.sensors.iter_rows() if weight is not None}
    row = data.graph.dense()[0].numpy()
    assert weights == pytest.approx({data.nodes.ids[place]: row[place] for place in np.flatnonzero(row)})
    assert found.sensors["moves"].is_sorted(descending=True)


def test_the_prompt_says_when_its_row_was_last_tuned(lived: Any) -> None:
    life = lived("prompted")
    _, (first, data), (before, parts) = life
    old, new = data.nodes.retained[0], next(name for name in data.nodes.ids if name not in first.nodes.ids)
    assert explained(life, old, before=before).prompt["told"] == f"tuned in {data.period.key}"
    assert explained(life, new, before=before).prompt["told"] == f"first learned in {data.period.key}"
    still = {**before, "prompt_pool": parts["prompt_pool"]}
    assert explained(life, old, before=still).prompt["told"].startswith(f"not tuned in {data.period.key}")
    prompt = explained(life, old).prompt
    assert len(prompt["nearest"]) == 3 and old not in prompt["nearest"]
    assert len(prompt["row"]) == 2


def test_what_cannot_be_explained_is_one_sentence(lived: Any) -> None:
    life = lived("alone")
    _, (_, data), _ = life
    with pytest.raises(InputError, match="small has no sensor 'zz' in period"):
        explained(life, "zz")
    learner, _, (before, _) = life
    with pytest.raises(InputError, match="was trained on other sensors than the period has; materialise small/model"):
        explain(learner.stream, learner.model, data, before, data.nodes.ids[0], raw=RAW)
    for at in (
        data.period.start + timedelta(hours=2),
        data.period.end - timedelta(hours=1),
        datetime(2030, 1, 1, tzinfo=UTC),
    ):
        with pytest.raises(InputError, match=r"no forecast with its truth is issued at .* expected a time from"):
            explained(life, data.nodes.ids[0], at=at)
