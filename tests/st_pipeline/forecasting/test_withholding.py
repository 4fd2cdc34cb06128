"""Withholding a sensor's readings moves the errors of those that read them, and nobody's truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from st_pipeline.forecasting.cold_start import unheard
from st_pipeline.forecasting.issue import Issue
from st_pipeline.forecasting.withholding import withheld
from st_pipeline.types import Graph


@pytest.fixture(scope="module")
def issue(town: Any) -> Issue:
    return Issue.of(town.sources(town.keys[2]))


def test_others_are_listed_by_harm_with_their_counts(issue: Issue) -> None:
    assert issue.served is not None
    rows = withheld(issue.served, issue.series, issue.issued[-40:], "c", issue.sources.graph)
    there = {
        name for name in issue.served.ids if issue.series.tensor.observed[-60:, issue.series.ids.index(name)].any()
    }
    assert {row["sensor_id"] for row in rows} == there - {"c"}
    assert [row["percent"] for row in rows] == sorted((row["percent"] for row in rows), reverse=True)
    assert any(row["percent"] != 0 for row in rows)
    for row in rows:
        assert row["percent"] == pytest.approx(100 * (row["mae_without"] / row["mae"] - 1))
        assert 0 < row["forecasts"] <= 40 and row["cells"] <= 40 * issue.series.config.horizon


def test_a_sensor_that_nobody_reads_hurts_nobody(issue: Issue) -> None:
    def alone(ids: tuple[str, ...], period: Any) -> Graph:
        nothing = np.zeros(0, dtype=np.int64)
        return Graph.from_edges(nothing, nothing, np.zeros(0), num_nodes=len(ids))

    assert issue.served is not None
    rows = withheld(issue.served, issue.series, issue.issued[-10:], "c", alone)
    assert rows and all(row["percent"] == pytest.approx(0, abs=1e-3) and row["weight"] == 0 for row in rows)


def test_a_silent_sensor_changes_nothing(issue: Issue) -> None:
    assert issue.served is not None
    silent = unheard(issue.series, {"c"})
    rows = withheld(issue.served, silent, issue.issued[-10:], "c", issue.sources.graph)
    assert rows and all(row["percent"] == 0 for row in rows)
