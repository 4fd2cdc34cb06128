"""What a model has learned, from stored parts: rows of every seed, the latest windows, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.positions import Positions
from st_pipeline.data.quality import MISSING
from st_pipeline.data.windows import spaced
from st_pipeline.errors import InputError
from st_pipeline.evaluation.relearner_analysis import sensor_table
from st_pipeline.evaluation.scoring import latest_windows, prepared
from st_pipeline.reporting import insight as module
from st_pipeline.reporting.insight import INSIGHT, insight_means, insight_pictures, insight_rows, insight_table
from st_pipeline.reporting.views.base import SENSOR, of_kind
from st_pipeline.training.learner import Learner

HIMNET = {"name": "himnet", "hidden": 4, "spatial": 3, "mixed": 3, "day": 2, "week": 2}
ST_TRANS = {"name": "st_trans", "hidden": 8, "heads": 2, "layers": 1, "encoder": 0, "feedforward": 8, "keep": 3}
MODELS: dict[str, dict[str, Any]] = {
    "both": {"backbone": HIMNET, "relearner": {"hidden": 8}, "prompt_pool": None, "seeds": [2, 1]},
    "attentive": {"backbone": ST_TRANS, "prompt_pool": {"rank": 2}},
    "plain": {"backbone": {"name": "stgnn", "hidden": 8}, "relearner": {"layers": 0, "hidden": 8}, "seeds": [3, 1]},
}
TRAINING = {"epochs": 1, "stride": 16}
Trained = tuple[Learner, dict[str, dict[int, Any]], PeriodData]


@pytest.fixture(scope="module")
def trained(make_learner, make_history, compute) -> Callable[[str], Trained]:
    """`trained(name)`: the learner, part -> seed -> checkpoint and data of one of `MODELS` after its first period."""
    made: dict[str, Trained] = {}

    def make(name: str) -> Trained:
        if name not in made:
            learner = make_learner("online", training=TRAINING, **MODELS[name])
            data = next(iter(make_history(learner.stream).values()))
            parts: dict[str, dict[int, Any]] = {}
            for seed in learner.model.runs:
                for part, one in replace(learner, seed=seed).learn(data, None, compute=compute).items():
                    parts.setdefault(part, {})[seed] = one
            made[name] = learner, parts, data
        return made[name]

    return make


@pytest.fixture
def rows_of(trained, compute):
    """`rows_of(name)`: the rows of one of `MODELS`."""

    def make(name: str) -> pl.DataFrame:
        learner, parts, data = trained(name)
        return insight_rows(learner.stream, learner.model, parts, data, compute=compute)

    return make


def places(data: PeriodData) -> Positions:
    return Positions(np.random.default_rng(0).uniform(0, 9, (len(data.nodes), 2)), geographic=False)


@pytest.mark.parametrize(
    ("name", "found"), [("both", ["himnet", "relearner"]), ("attentive", ["st_trans"]), ("plain", ["relearner"])]
)
def test_rows_are_those_of_every_view_and_seed(name: str, found: list[str], rows_of, trained) -> None:
    rows, (learner, _, data) = rows_of(name), trained(name)
    assert dict(list(rows.schema.items())[: len(INSIGHT)]) == INSIGHT
    sensors = of_kind(rows, SENSOR)
    expected = [(seed, view, sensor) for seed in learner.model.runs for view in found for sensor in data.nodes.ids]
    assert sensors.select("seed", "view", "sensor_id").rows() == expected
    assert rows["model"].unique().to_list() == ["model"] and rows["period"].unique().to_list() == [data.period.key]
    assert tuple(found) == learner.model.views


def test_seeds_differ_and_runs_do_not(rows_of) -> None:
    rows = rows_of("plain")
    one, other = (rows.filter(pl.col("seed") == seed)["before"] for seed in (3, 1))
    assert not one.equals(other)
    assert_frame_equal(rows_of("plain"), rows)


def test_a_relearner_is_looked_at_in_the_last_week_of_the_test_part(trained, rows_of, monkeypatch) -> None:
    learner, parts, data = trained("plain")
    own = {part: one[3] for part, one in parts.items()}
    seeded = replace(learner, seed=3)
    part, graph, forecaster = prepared(seeded, seeded.restore(own), data, "cpu")
    starts = latest_windows(part, learner.stream).starts
    assert starts[-1] == part.starts[-1]
    chosen = spaced(starts, module.WINDOWS)
    assert len(chosen) == module.WINDOWS and chosen[0] == starts[0] and chosen[-1] == starts[-1]
    expected = sensor_table(forecaster, [part.windows.inputs(chosen)], graph, data.nodes)
    found = rows_of("plain").filter(pl.col("seed") == 3).select(expected.columns)
    assert_frame_equal(found, expected, rel_tol=1e-4)


def test_a_silent_sensor_has_rows_and_is_said_to_be_silent(trained, compute) -> None:
    learner, parts, data = trained("attentive")
    flags = data.tensor.flags.copy()
    flags[:, 1] = MISSING
    silent = replace(data, tensor=replace(data.tensor, flags=flags))
    rows = insight_rows(learner.stream, learner.model, parts, silent, compute=compute)
    sensors = of_kind(rows, SENSOR)
    assert sensors["heard"][1] == 0 and (sensors["heard"].gather([0, 2, 3, 4]) > 0.5).all()
    assert sensors["own"].is_finite().all()
    (picture,) = insight_pictures(rows, places(data)).values()
    assert [text.get_text() for text in picture.figure.axes[0].get_legend().get_texts()] == ["silent in these windows"]


def test_pictures_are_of_the_first_seed(rows_of, trained) -> None:
    rows, (_, _, data) = rows_of("both"), trained("both")
    found = insight_pictures(rows, places(data))
    names = ["temporal_embedding", "spatial_embedding", "spatial_map", "residual", "gates", "gate_map"]
    assert list(found) == [*names, "weight_map_adaptive"]
    beta = rows.filter((pl.col("view") == "relearner") & (pl.col("seed") == 2))["beta"]
    dots = found["gate_map"].figure.axes[0].collections[0]
    assert dots.get_array().tolist() == beta.to_list()


def test_rows_that_were_stored_make_the_same_pictures(rows_of, trained) -> None:
    from st_pipeline.reporting.images import png_uri
    from st_pipeline.storage import FRAME

    rows, (_, _, data) = rows_of("both"), trained("both")
    one, other = (insight_pictures(frame, places(data)) for frame in (rows, FRAME.load(FRAME.dump(rows))))
    assert [png_uri(picture.figure) for picture in one.values()] == [png_uri(p.figure) for p in other.values()]


def test_means_are_over_sensors_and_seeds(rows_of) -> None:
    rows = rows_of("attentive")
    means = insight_means(rows)
    assert list(means) == ["mean_heard", "mean_own", "mean_others", "mean_read_by"]
    assert means["mean_own"] == pytest.approx(of_kind(rows, SENSOR)["own"].mean())
    assert means["mean_own"] + means["mean_others"] == pytest.approx(1)
    assert insight_means(rows.clear()) == {}


def test_the_table_for_people_leaves_out_pairs_and_what_is_empty(rows_of) -> None:
    table = insight_table(rows_of("attentive"))
    assert table["kind"].unique().to_list() == [SENSOR]
    assert not {"reads", "share"} & set(table.columns)
    embeddings = insight_table(rows_of("both"))["embedding"].drop_nulls().to_list()
    assert all(value == round(value, 2) for row in embeddings for value in row)


def test_a_model_of_other_sensors_is_refused(trained, make_history, compute) -> None:
    learner, parts, _ = trained("plain")
    later = list(make_history(learner.stream).values())[1]
    with pytest.raises(InputError, match="small/model of 2024-01-22 was trained on other sensors than the period has"):
        insight_rows(learner.stream, learner.model, parts, later, compute=compute)
