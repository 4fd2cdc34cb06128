"""Asset checks on graphs and scores: they warn and never stop anything."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import polars as pl
import pytest

from checks.results import ISOLATED, result_checks
from st_pipeline.config import StreamConfig
from st_pipeline.streams import Stream

MODELS = [{"name": name, "backbone": "stgnn", "strategy": "online"} for name in ("one", "two")]


@pytest.fixture
def checks(make_stream: Callable[..., StreamConfig]) -> list[dg.AssetChecksDefinition]:
    return result_checks(Stream(make_stream(models=MODELS), Path("nowhere")))


def adjacency(edges: list[tuple[int, int]], nodes: int) -> Any:
    row, column = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    return SimpleNamespace(row=row, column=column, sensor_ids=tuple("abcdefgh"[:nodes]))


def scores(*rows: tuple[str, str, float | None], **changes: str) -> pl.DataFrame:
    """Headline rows of a model on a period, trained through 2024-02."""
    schema = {"model": pl.String, "period": pl.String, "value": pl.Float64}
    plain = {"metric": "mae", "horizon": "published_average", "cohort": "all", "trained_through": "2024-02", **changes}
    return pl.DataFrame(list(rows), schema=schema, orient="row").with_columns(
        pl.lit(value).alias(name) for name, value in plain.items()
    )


def naive(weekly: float | None) -> pl.DataFrame:
    return scores(("naive_last", "2024-02", 0.1), ("naive_weekly", "2024-02", weekly))


def test_one_check_of_the_graph_and_one_of_each_model(checks: list[dg.AssetChecksDefinition]) -> None:
    keys = [key.to_user_string() for check in checks for key in check.check_keys]
    assert keys == [
        "small/adjacency:few_isolated",
        "small/one/evaluation:beats_weekly",
        "small/two/evaluation:beats_weekly",
    ]


@pytest.mark.parametrize(
    ("edges", "nodes", "share"),
    [
        ([(0, 1), (1, 2), (2, 3)], 4, 0),
        ([(0, 1), (2, 1)], 4, ISOLATED),
        ([(0, 1)], 3, 1 / 3),
        ([], 5, 1),
    ],
)
def test_a_graph_with_many_isolated_nodes_is_worth_a_look(
    checks: list[dg.AssetChecksDefinition], edges: list[tuple[int, int]], nodes: int, share: float
) -> None:
    result: Any = checks[0](adjacency(edges, nodes))
    assert result.passed == (share <= ISOLATED)
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert result.metadata["isolated_share"].value == pytest.approx(share, abs=1e-4)


@pytest.mark.parametrize(("own", "weekly", "passed"), [(1.0, 2.0, True), (2.0, 2.0, False), (3.0, 2.0, False)])
def test_a_model_should_beat_the_weekly_forecast_on_the_newest_period(
    checks: list[dg.AssetChecksDefinition], own: float, weekly: float, passed: bool
) -> None:
    noise = [
        scores(("one", "2024-01", 99.0)),
        *(scores(("one", "2024-02", 99.0), **{name: "other"}) for name in ("metric", "horizon", "cohort")),
    ]
    result: Any = checks[1](pl.concat([*noise, scores(("one", "2024-02", own))]), naive(weekly))
    assert result.passed == passed
    assert result.severity == dg.AssetCheckSeverity.WARN
    assert {name: number.value for name, number in result.metadata.items()} == {"mae": own, "naive_weekly": weekly}


@pytest.mark.parametrize(("own", "weekly"), [(None, 2.0), (1.0, None), (None, None)])
def test_nothing_to_compare_is_no_failure(
    checks: list[dg.AssetChecksDefinition], own: float | None, weekly: float | None
) -> None:
    empty = scores()
    for frames in (
        (scores(("one", "2024-02", own)), naive(weekly)),
        (empty if own is None else scores(("one", "2024-02", own)), empty if weekly is None else naive(weekly)),
    ):
        result: Any = checks[1](*frames)
        assert result.passed
        assert "nothing to compare" in result.description
