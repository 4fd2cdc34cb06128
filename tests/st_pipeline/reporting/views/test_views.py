"""Every view, through its interface: rows of all sensors in their order, and pictures drawn from rows alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from st_pipeline.data.positions import Positions
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.models.relearner import ReLearner
from st_pipeline.reporting.images import svg_text
from st_pipeline.reporting.views import views
from st_pipeline.reporting.views.base import DAY, PAIR, SENSOR, TIME, Picture, View, of_kind
from st_pipeline.types import Graph, NodeSet, SeriesShape

SHAPE = SeriesShape(window=4, horizon=3, channels=1, num_nodes=5, steps_per_day=24)
BACKBONES: dict[str, dict[str, Any]] = {
    "himnet": {"hidden": 4, "spatial": 3, "mixed": 3, "day": 2, "week": 2},
    "st_trans": {"hidden": 8, "heads": 2, "layers": 1, "encoder": 0, "feedforward": 8, "keep": 3, "near": 2},
}


def build(view: str, shape: SeriesShape = SHAPE, **options: Any) -> Forecaster:
    """A small model that has something to show there; options are those of the backbone, or of the ReLearner."""
    torch.manual_seed(0)
    if view == "relearner":
        return ReLearner(backbones.build("stgnn", shape=shape), **options)
    return backbones.build({"name": view, **BACKBONES[view], **options}, shape=shape)


@pytest.fixture
def rows_of(random_window, random_graph):
    """`rows_of(view, nodes=5, **options)`: what a view makes of a model of so many sensors, a, b, ..."""

    def make(name: str, *, nodes: int = 5, **options: Any) -> pl.DataFrame:
        shape = replace(SHAPE, num_nodes=nodes)
        none = np.zeros(0, np.int64)
        graph = random_graph(nodes) if nodes > 1 else Graph.from_edges(none, none, np.zeros(0), num_nodes=1)
        model, ids = build(name, shape, **options), NodeSet.of("abcdefgh"[:nodes])
        model.expand(ids)
        view: View = views.build(name)
        with as_in_evaluation(model), torch.no_grad():
            return view.rows(model, [random_window(shape, batch=1, seed=seed) for seed in range(2)], graph, ids)

    return make


def somewhere(count: int, *, known: int | None = None) -> Positions:
    plane = np.random.default_rng(0).uniform([144, -38], [145, -37], (count, 2))
    plane[count if known is None else known :] = np.nan
    return Positions(plane, geographic=True)


def draw(name: str, rows: pl.DataFrame, places: Positions) -> dict[str, Picture]:
    view: View = views.build(name)
    return view.pictures(rows, places)


def sentences(picture: Picture) -> list[str]:
    return [text.get_text() for text in picture.figure.axes[0].texts]


@pytest.mark.parametrize("name", views.names())
def test_a_view_is_called_like_a_backbone_or_a_part_of_a_model(name: str) -> None:
    assert name in backbones.names() or name in ModelConfig.model_fields


@pytest.mark.parametrize("name", views.names())
def test_every_sensor_has_a_row_in_its_place(name: str, rows_of) -> None:
    rows = rows_of(name)
    assert of_kind(rows, SENSOR)["sensor_id"].to_list() == list("abcde")
    assert not rows["kind"].null_count()
    numbers = rows.select(pl.selectors.float()).to_numpy()
    assert np.isfinite(numbers[~np.isnan(numbers)]).all()


@pytest.mark.parametrize("name", views.names())
@pytest.mark.parametrize(("nodes", "known"), [(5, 5), (5, 3), (5, 0), (1, 1), (1, 0)])
def test_pictures_are_drawn_wherever_sensors_are(name: str, nodes: int, known: int, rows_of) -> None:
    found = draw(name, rows_of(name, nodes=nodes), somewhere(nodes, known=known))
    assert found
    for key, picture in found.items():
        assert "nan" not in svg_text(picture.figure, key).lower()
        assert picture.text.endswith(".") and key.replace("_", "").isalpha()


def test_no_two_views_call_a_picture_alike(rows_of) -> None:
    names = [key for name in views.names() for key in draw(name, rows_of(name), somewhere(5))]
    assert len(names) == len(set(names))


def test_himnet_rows_are_its_embeddings(rows_of) -> None:
    rows, model = rows_of("himnet"), build("himnet")
    tables = {
        SENSOR: model.spatial_embedding.table(),
        TIME: model.temporal_embedding.time_of_day,
        DAY: model.temporal_embedding.day_of_week,
    }
    assert rows["kind"].unique().sort().to_list() == sorted(tables)
    for kind, table in tables.items():
        own = of_kind(rows, kind)
        np.testing.assert_allclose(own["embedding"].to_list(), table.detach().numpy(), rtol=1e-6)
        assert kind == SENSOR or own["slot"].to_list() == list(range(len(table)))


@pytest.mark.parametrize("pool", ["ones", "none"])
def test_himnet_without_temporal_embeddings_says_so(pool: str, rows_of) -> None:
    rows = rows_of("himnet", temporal_pool=pool)
    found = draw("himnet", rows, somewhere(5))
    assert sentences(found["temporal_embedding"]) == ["no time of day has an embedding"]


def test_himnet_without_any_embedding_still_has_its_sensors(rows_of) -> None:
    rows = rows_of("himnet", temporal_pool="ones", spatial_pool="ones")
    assert rows["sensor_id"].to_list() == list("abcde")
    found = draw("himnet", rows.select("kind", "sensor_id"), somewhere(5))
    for name in ("spatial_embedding", "spatial_map"):
        assert sentences(found[name]) == ["no sensor has an embedding"]


def test_a_relearner_has_a_map_for_each_gate(rows_of) -> None:
    rows = rows_of("relearner", kernels=("adaptive", "reversed"))
    found = draw("relearner", rows, somewhere(5))
    assert list(found) == ["residual", "gates", "gate_map", "weight_map_adaptive", "weight_map_reversed"]


def test_a_relearner_without_smoothing_has_no_gates(rows_of) -> None:
    rows = rows_of("relearner", layers=0)
    assert rows.columns == ["kind", "sensor_id", "before", "after"]
    found = draw("relearner", rows, somewhere(5))
    assert list(found) == ["residual", "gates"]
    assert sentences(found["gates"]) == ["no sensor has gates"]


def test_st_trans_rows_are_sensors_and_pairs_of_them(rows_of) -> None:
    rows = rows_of("st_trans")
    sensors, pairs = of_kind(rows, SENSOR), of_kind(rows, PAIR)
    assert (sensors["own"] + sensors["others"]).to_list() == pytest.approx([1.0] * 5)
    by_sensor = dict(pairs.group_by("sensor_id").agg(pl.col("share").sum()).iter_rows())
    assert [by_sensor.get(name, 0.0) for name in "abcde"] == pytest.approx(sensors["others"].to_list())


def test_st_trans_without_a_search_says_that_nothing_is_read(rows_of) -> None:
    rows = rows_of("st_trans", search="none")
    found = draw("st_trans", rows, somewhere(5))
    assert sentences(found["attention"]) == ["no forecast reads another sensor"]
