"""The report: one page that works offline, shows what it must, and trusts no text that comes from data."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import numpy as np
import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import Adjacency
from st_pipeline.data.drift import drift_table
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.scoring import SCHEMA
from st_pipeline.readers.base import SENSOR_SCHEMA
from st_pipeline.reporting.report import ReportData, render
from st_pipeline.types import NodeSet

KEYS = ("2024-01-01", "2024-01-08")
HOSTILE = "<script>alert('x')</script>&\"'"


def stream(**changes: object) -> StreamConfig:
    document: dict[str, object] = {
        "name": "town",
        "source": {"format": "csv", "readings": "r.csv", "columns": {"flow": "flow"}},
        "step": "1h",
        "periods": {"every": "week", "start": "2024-01-01", "end": "2024-01-15"},
        "models": [{"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}],
    }
    return StreamConfig.model_validate({**document, **changes})


def scores(model: str, key: str, error: float) -> pl.DataFrame:
    """Tidy rows of a model after period `key` on this and earlier periods."""
    rows = []
    for period in KEYS[: KEYS.index(key) + 1]:
        names = {
            "stream": "town",
            "model": model,
            "protocol": "sound",
            "seed": 1,
            "trained_through": key,
            "period": period,
        }
        for cohort in ("all", KEYS[0]):
            for metric in ("mae", "rmse", "mape", "wape", "r2"):
                horizons = [*(f"at:{h}" for h in range(1, 13)), "upto:12", "published_average"]
                rows += [{**names, "cohort": cohort, "metric": metric, "horizon": h, "value": error} for h in horizons]
    return pl.DataFrame(rows, schema=SCHEMA)


def make_data(ids: tuple[str, ...] = ("a", "b", "c"), config: StreamConfig | None = None) -> ReportData:
    config = config or stream()
    count = len(ids)
    rng = np.random.default_rng(0)
    first, second = (NodeSet.of(ids[:-1], KEYS[0]), replace(NodeSet.of(ids, KEYS[1]), added=ids[-1:]))
    second = replace(second, births={**dict.fromkeys(ids[:-1], KEYS[0]), ids[-1]: KEYS[1]})
    tensor = SeriesTensor(
        KEYS[1],
        ids,
        ("flow",),
        "UTC",
        rng.uniform(0, 9, (168, count, 1)).astype(np.float32),
        np.zeros((168, count, 1), np.uint8),
        1704672000 + 3600 * np.arange(168),
    )
    places = {name: pl.Series([None] * count, dtype=kind) for name, kind in SENSOR_SCHEMA.items()}
    sensors = pl.DataFrame({**places, "sensor_id": list(ids), "x": np.arange(count) * 100.0, "y": np.zeros(count)})
    trace = {"rank": "best", "sensor_id": ids[0], "wape": 9.0, "times": [1704672000 + 3600 * i for i in range(24)]}
    trace |= {name: [1.0, None, *([2.0] * 22)] for name in ("truth", "forecast_first", "forecast_last")}
    cost = {"seconds": 1.0, "epochs": 3, "trainable": 5, "parameters": 9, "peak_bytes": 1 << 20}
    cost |= {"milliseconds_per_forecast": 0.5, "device": "cpu", "best_epoch": 2, "notes": []}
    document = {
        "period": KEYS[1],
        "horizon": 12,
        "sensors": [{"sensor_id": name, "mae": 1.0, "wape": 10.0, "cells": 99} for name in ids],
        "traces": [trace],
        "cost": cost,
    }
    return ReportData(
        config=config,
        period=config.calendar.find(KEYS[1]),
        scores={
            "naive": {
                key: pl.concat([scores("naive_weekly", key, 5.0), scores("naive_last", key, 9.0)]) for key in KEYS
            },
            **{model.name: {key: scores(model.name, key, 4.0) for key in KEYS} for model in config.models},
        },
        diagnostics={"naive": {KEYS[1]: {}}, **{model.name: dict.fromkeys(KEYS, document) for model in config.models}},
        node_sets={KEYS[0]: first, KEYS[1]: second},
        sensors=sensors,
        tensor=tensor,
        adjacency=Adjacency(KEYS[1], ids, {"name": "knn"}, np.array([0, 1]), np.array([1, 0]), np.ones(2, np.float32)),
        drift=drift_table(tensor, tensor),
    )


@cache
def usual_page() -> str:
    return render(make_data())


class Page(HTMLParser):
    """What a browser would load from a page, its scripts, and its visible text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "xlink:href", "data")]
        assert not [name for name, _ in attrs if name.startswith("on")], "an event handler"

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_page_loads_nothing_and_runs_nothing() -> None:
    text = usual_page()
    page = Page(text)
    assert not page.tags & {"script", "iframe", "link", "object", "embed", "img"}
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in page.addresses)
    assert not re.search(r"url\((?!#|'#|\"#)|@import", text)


def test_page_is_the_same_for_the_same_data() -> None:
    assert render(make_data()) == usual_page()


def test_page_stays_under_three_megabytes_with_a_thousand_sensors() -> None:
    ids = tuple(f"s{i:04d}" for i in range(1000))
    assert len(render(make_data(ids)).encode()) < 3_000_000


def test_page_says_what_a_person_looks_for() -> None:
    text = " ".join(Page(usual_page()).words)
    assert "eac forecasts flow with a mean absolute error of 4, 20 % below the weekly naive forecast (5)" in text
    for phrase in (
        "Scores on this period",
        "The network",
        "Forecasts against truth",
        "forgotten",
        "Cost",
        "Data quality",
    ):
        assert phrase in text
    for name in ("eac", "naive_weekly", "naive_last", "best sensor: a"):
        assert name in text


def retrained(**costs: float) -> ReportData:
    """Two models, of which `eac` is updated and `retrain` is trained anew in each period."""
    models = [
        {"name": "eac", "backbone": "stgnn", "strategy": "eac", "prompt_pool": {"rank": 2}},
        {"name": "retrain", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "retrain"},
    ]
    data = make_data(config=stream(models=models))
    diagnostics = {
        name: {key: {**page, "cost": {**page["cost"], "seconds": costs[name]}} for key, page in periods.items()}
        if name in costs
        else periods
        for name, periods in data.diagnostics.items()
    }
    return replace(data, diagnostics=diagnostics)


def test_cost_comes_with_the_sentence_of_the_ledger_and_a_picture() -> None:
    text = " ".join(Page(render(retrained(eac=1.0, retrain=4.0))).words)
    assert "Tuning instead of retraining (eac against retrain) saved 75 % of the time in the period after" in text
    assert "(1 s instead of 4 s) at +0.0 % MAE." in text
    assert "Error on this period over the time it took" in text and "naive_weekly (free)" in text
    slow = " ".join(Page(render(retrained(eac=5.0, retrain=4.0))).words)
    assert "cost 25 % more time" in slow


def test_without_a_retrained_model_or_a_later_period_there_is_no_sentence() -> None:
    assert "instead of retraining" not in usual_page()
    data = retrained(eac=1.0, retrain=4.0)
    first = {
        name: {key: page for key, page in periods.items() if key == KEYS[1]}
        for name, periods in data.diagnostics.items()
    }
    assert "instead of retraining" not in render(replace(data, diagnostics=first))


def test_each_matrix_has_its_four_measures() -> None:
    data = make_data()
    before = scores("eac", KEYS[0], 9.0).with_columns(period=pl.lit(KEYS[1]))
    later = {**data.scores["eac"], KEYS[1]: pl.concat([data.scores["eac"][KEYS[1]], before])}
    page = render(replace(data, scores={**data.scores, "eac": later}))
    assert "forgetting 0, backward transfer 0, forward transfer 4, plasticity 5</figcaption>" in page


def test_a_model_worse_than_naive_is_said_to_be() -> None:
    data = make_data()
    worse = {**data.scores, "eac": {key: scores("eac", key, 6.0) for key in KEYS}}
    assert "20 % above the weekly naive forecast" in render(replace(data, scores=worse))


@pytest.mark.parametrize("hostile", [HOSTILE, "../../x", "a" * 10_000, "$x^2$", "naïve µ 站"])
def test_hostile_ids_are_shown_as_text(hostile: str) -> None:
    page = Page(render(make_data((hostile, "b", "c"))))
    assert "script" not in page.tags
    assert hostile[:40] in " ".join(page.words)


def test_hostile_descriptions_are_shown_as_text() -> None:
    page = Page(render(make_data(config=stream(description=HOSTILE))))
    assert "script" not in page.tags
    assert HOSTILE in " ".join(page.words)


def test_a_stream_without_models_still_has_a_report() -> None:
    text = render(make_data(config=stream(models=[])))
    assert "No model has been scored" in text
    assert "naive_weekly" in text


def learned(ids: tuple[str, ...]) -> pl.DataFrame:
    """Rows of a HimNet with a ReLearner, in steps of five minutes."""
    rng = np.random.default_rng(0)
    names = {"seed": 1, "view": "himnet"}
    rows: list[dict[str, object]] = []
    for kind, count in (("time of day", 288), ("day of week", 7), ("sensor", len(ids))):
        labels = ids if kind == "sensor" else (None,) * count
        vectors = rng.normal(size=(count, 8)).tolist()
        rows += [
            {**names, "kind": kind, "sensor_id": label, "embedding": vector}
            for label, vector in zip(labels, vectors, strict=True)
        ]
    gates = ("beta", "alpha_adaptive", "before", "after")
    numbers = [dict(zip(gates, row, strict=True)) for row in rng.uniform(size=(len(ids), 4)).tolist()]
    sensors = [{"seed": 1, "view": "relearner", "kind": "sensor", "sensor_id": name} for name in ids]
    rows += [{**sensor, **row} for sensor, row in zip(sensors, numbers, strict=True)]
    return pl.DataFrame(rows, infer_schema_length=None)


def test_what_the_champion_has_learned_is_shown_where_it_has_an_insight() -> None:
    data = make_data()
    assert "Inside" not in usual_page()
    page = render(replace(data, insight=learned(data.nodes.ids)))
    text = " ".join(Page(page).words)
    assert "Inside eac" in text and "hour of the day" in text and "before smoothing, mean" in text
    assert not Page(page).tags & {"script", "img"}


def test_a_page_with_insides_stays_under_three_megabytes_with_a_thousand_sensors() -> None:
    ids = tuple(f"s{i:04d}" for i in range(1000))
    page = render(replace(make_data(ids), insight=learned(ids)))
    assert len(page.encode()) < 3_000_000


def test_unknown_values_are_dashes() -> None:
    data = make_data()
    empty = {
        key: frame.with_columns(pl.lit(None, dtype=pl.Float64).alias("value"))
        for key, frame in data.scores["eac"].items()
    }
    text = render(replace(data, scores={**data.scores, "eac": empty}))
    assert "nan" not in re.sub(r"<svg.*?</svg>", "", text, flags=re.S).lower().replace("nanosecond", "")


def test_sensors_without_positions_are_no_obstacle() -> None:
    data = make_data()
    nowhere = data.sensors.with_columns(pl.lit(None, dtype=pl.Float64).alias("x"))
    assert "no sensor has a position" in render(replace(data, sensors=nowhere))


def test_what_was_advised_before_training_is_shown_where_it_is_known() -> None:
    assert "Before training" not in usual_page()
    advice = {
        "stream": "town",
        "period": KEYS[1],
        "before": KEYS[0],
        "model": "eac",
        "action": "nothing",
        "reasons": [{"action": "nothing", "text": "1 of 3 sensors are new or back."}],
        "missing": ["The price is not known."],
        "graph": {"spectral_distance": 0.125},
        "forecast": {**dict.fromkeys(("error", "naive", "ratio", "usual", "change")), "misses": {}},
        "costs": {name: {"seconds": 2.5, "from": "a guess"} for name in ("nothing", "prompts_only", "retrain")},
    }
    text = " ".join(" ".join(Page(render(replace(make_data(), advice=advice))).words).split())
    for part in ("Before training", "Advised: do nothing.", "1 of 3 sensors", "The price is not known.", "0.125"):
        assert part in text
