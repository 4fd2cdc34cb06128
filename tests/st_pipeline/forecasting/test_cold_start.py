"""Sensors that are hidden are forecast from what a new one would have, and from nothing else."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st_pipeline.data.quality import OBSERVED
from st_pipeline.forecasting.cold_start import (
    ISSUES,
    MOST_DAYS,
    borrowed_points,
    candidates,
    groups,
    heard_enough,
    hide,
    issue_days,
    unheard,
    weights_of,
    without,
    young_points,
)
from st_pipeline.forecasting.issue import Issue
from st_pipeline.forecasting.ladder import climb
from st_pipeline.forecasting.points import known_points
from st_pipeline.forecasting.series import span_of_test
from st_pipeline.layers.node_table import node_tables
from st_pipeline.types import Graph, NodeSet

HIDDEN = "c"


@pytest.fixture(scope="module")
def issue(town: Any) -> Issue:
    return Issue.of(town.sources(town.keys[2]))


@pytest.fixture(scope="module")
def days(issue: Issue) -> list[Any]:
    sources = issue.sources
    return issue_days(issue.series, span_of_test(sources.tensors[sources.period.key], sources.config))


def only_edge(one: str, other: str) -> Any:
    """A graph of any sensors in which two are neighbours and nobody else is."""

    def graph_of(ids: tuple[str, ...], period: Any) -> Graph:
        ends = [ids.index(one), ids.index(other)] if {one, other} <= set(ids) else []
        return Graph.from_edges(np.array(ends), np.array(ends[::-1]), np.full(len(ends), 0.7), num_nodes=len(ids))

    return graph_of


def changed(series: Any, name: str, steps: slice, by: float = 3.0) -> Any:
    """The same with other readings of a sensor in some steps."""
    values, flags = series.tensor.values.copy(), series.tensor.flags.copy()
    row = series.ids.index(name)
    values[steps, row] = by * values[steps, row] + 7
    flags[steps, row] = OBSERVED
    return replace(series, tensor=replace(series.tensor, values=values, flags=flags))


def test_a_hidden_sensor_is_forecast_like_its_only_neighbour(issue: Issue) -> None:
    assert issue.served is not None
    graph_of, series, issued = only_edge(HIDDEN, "a"), issue.series, issue.issued[-3:]
    less = without(issue.served, {HIDDEN})
    weights = weights_of(less, (HIDDEN,), series, graph_of)
    assert [series.ids[row] for row in np.flatnonzero(weights[0])] == ["a"]
    found = borrowed_points(less, unheard(series, {HIDDEN}), issued, weights, graph_of)[..., 0]
    known = np.broadcast_to(np.isin(series.ids, less.ids), (3, len(series.ids)))
    neighbour = climb(series, less, issued, known, graph_of).chosen[..., series.ids.index("a")]
    np.testing.assert_allclose(found, neighbour, rtol=1e-6)
    assert np.isfinite(found).all()


def test_a_sensor_of_identical_readings_joins_with_its_neighbours_forecast(issue: Issue) -> None:
    """The same readings, the same row, the same level and mirrored edges give the same forecast."""
    assert issue.served is not None
    series, graph_of = issue.series, only_edge(HIDDEN, "a")
    cut = {name: getattr(series.tensor, name).copy() for name in ("values", "flags")}
    for part in cut.values():
        part[:, series.ids.index(HIDDEN)] = part[:, series.ids.index("a")]
    twins = replace(series, tensor=replace(series.tensor, **cut))
    less = without(issue.served, {HIDDEN})
    same = replace(less, scaler=replace(less.scaler, others={HIDDEN: less.scaler.by_id()["a"]}))
    issued = issue.issued[-4:]
    found = young_points(same, twins, issued, (HIDDEN,), graph_of, days=14)[..., 0]
    forecaster = without(issue.served, set()).forecaster
    for table in node_tables(forecaster).values():
        rows = table.table().detach().clone()
        rows[issue.served.ids.index(HIDDEN)] = rows[issue.served.ids.index("a")]
        table.load_state_dict({"rows": rows, "cold": table.cold})
    own = {name: same.scaler.by_id()[name] for name in issue.served.ids}
    scaler = replace(
        issue.served.scaler,
        ids=issue.served.ids,
        mean=torch.stack([mean for mean, _ in own.values()]),
        scale=torch.stack([scale for _, scale in own.values()]),
    )
    both = known_points(replace(issue.served, forecaster=forecaster, scaler=scaler), twins, issued, graph_of)
    seen = np.isfinite(found)
    assert seen.any()
    np.testing.assert_allclose(found[seen], both[..., series.ids.index("a")][seen], rtol=1e-3, atol=1e-2)


def test_without_neighbours_nothing_is_borrowed(issue: Issue) -> None:
    assert issue.served is not None
    graph_of = only_edge("a", "d")
    less = without(issue.served, {HIDDEN})
    weights = weights_of(less, (HIDDEN,), issue.series, graph_of)
    assert not weights.any()
    assert np.isnan(borrowed_points(less, issue.series, issue.issued[-2:], weights, graph_of)).all()


@settings(max_examples=8)
@given(weights=st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_what_is_borrowed_lies_among_the_neighbours_forecasts(issue: Issue, weights: list[float]) -> None:
    assert issue.served is not None
    series, issued, graph_of = issue.series, issue.issued[-1:], issue.sources.graph
    less = without(issue.served, {HIDDEN})
    own = np.zeros((1, len(series.ids)), dtype=np.float32)
    own[0, series.rows(less.ids)] = weights
    found = borrowed_points(less, series, issued, own, graph_of)[0, :, 0]
    known = np.broadcast_to(np.isin(series.ids, less.ids), (1, len(series.ids)))
    near = climb(series, less, issued, known, graph_of).chosen[0][:, series.rows(less.ids)]
    assert (found >= near.min(1) - 1e-3).all() and (found <= near.max(1) + 1e-3).all()


def test_a_young_sensor_is_forecast_from_readings_since_its_birth_and_before_the_issue(
    issue: Issue, days: list[Any]
) -> None:
    assert issue.served is not None
    series, steps, age = issue.series, days[0], 3
    less = without(issue.served, {HIDDEN})

    def made(changed_series: Any) -> Any:
        return young_points(less, changed_series, steps[:1], (HIDDEN,), issue.sources.graph, days=age)

    birth = int(steps[0]) + 1 - age * series.config.steps_per_day
    plain = made(series)
    assert np.isfinite(plain).all()
    for outside in (slice(0, birth), slice(int(steps[0]) + 1, None)):
        np.testing.assert_array_equal(made(changed(series, HIDDEN, outside)), plain)
    assert not np.allclose(made(changed(series, HIDDEN, slice(birth, int(steps[0]) + 1))), plain)


def test_a_sensor_without_readings_leaves_no_trace_in_what_is_borrowed(issue: Issue, days: list[Any]) -> None:
    """Neither its readings nor its rows nor its statistics."""
    assert issue.served is not None
    served, graph_of = issue.served, issue.sources.graph
    other = without(served, set())
    for table in node_tables(other.forecaster).values():
        rows = table.table().detach().clone()
        rows[served.ids.index(HIDDEN)] += 5
        table.load_state_dict({"rows": rows, "cold": table.cold})
    mean = served.scaler.for_nodes(NodeSet.of(served.ids)).mean.clone()
    mean[served.ids.index(HIDDEN)] += 100
    scaler = replace(served.scaler.for_nodes(NodeSet.of(served.ids)), mean=mean)
    other = replace(other, scaler=scaler)
    readings = changed(issue.series, HIDDEN, slice(0, int(days[0][0]) - 23))
    one = hide(served, issue.series, days[:1], [(HIDDEN,)], graph_of, ages=(0, 1))
    two = hide(other, readings, days[:1], [(HIDDEN,)], graph_of, ages=(0, 1))
    np.testing.assert_allclose(one.points, two.points, rtol=1e-4, atol=1e-3)
    assert not np.allclose(one.known, two.known)


def test_hidden_sensors_are_compared_at_the_same_times(issue: Issue, days: list[Any]) -> None:
    assert issue.served is not None
    served, series, graph_of = issue.served, issue.series, issue.sources.graph
    names = candidates(served, series, days)
    hidden = groups(served, names, graph_of(served.ids, served.through))
    trial = hide(served, series, days[:2], hidden, graph_of, ages=(0, 2))
    count = sum(len(steps) for steps in days[:2])
    assert trial.points.shape == (2, count, series.config.horizon, len(names))
    assert trial.known.shape == trial.weekly.shape == trial.truth.shape == trial.points.shape[1:]
    assert sorted(trial.ids) == sorted(names)
    issued = np.concatenate(days[:2])
    truth = series.tensor.values[series.future(issued).numpy(), :, 0][..., series.rows(trial.ids)]
    seen = np.isfinite(trial.truth)
    np.testing.assert_array_equal(trial.truth[seen], truth[seen])
    known = known_points(served, series, issued, graph_of)[:, :, series.rows(trial.ids)]
    enough = np.broadcast_to(heard_enough(series, issued)[:, None, series.rows(trial.ids)], known.shape)
    np.testing.assert_array_equal(trial.known[enough], known[enough])
    cut = trial.of_sensors([1])
    assert cut.ids == trial.ids[1:2]
    np.testing.assert_array_equal(cut.points[..., 0], trial.points[..., 1])


def test_a_model_forgets_who_is_taken_out_and_keeps_the_others(issue: Issue) -> None:
    assert issue.served is not None
    served = issue.served
    less = without(served, {HIDDEN})
    assert HIDDEN in served.ids and set(less.ids) == set(served.ids) - {HIDDEN}
    assert HIDDEN not in less.scaler.by_id()
    for name, table in node_tables(less.forecaster).items():
        before = node_tables(served.forecaster)[name]
        rows = dict(zip(before.ids, before.table(), strict=True))
        for one, row in zip(table.ids, table.table(), strict=True):
            torch.testing.assert_close(row, rows[one], rtol=0, atol=0)


def test_issue_times_lie_in_the_test_part_and_so_do_their_targets(issue: Issue, days: list[Any]) -> None:
    sources, series = issue.sources, issue.series
    first, last = np.searchsorted(
        series.tensor.times, span_of_test(sources.tensors[sources.period.key], sources.config)
    )
    steps = np.concatenate(days)
    assert 0 < len(days) <= MOST_DAYS and all(len(own) <= ISSUES for own in days)
    assert steps.min() - series.config.window + 1 >= first and steps.max() + series.config.horizon <= last
    assert len(set(steps.tolist())) == len(steps)
    assert all(np.ptp(own) < series.config.steps_per_day for own in days)


@given(ends=st.sets(st.tuples(st.integers(0, 15), st.integers(0, 15)), max_size=40))
def test_sensors_hidden_together_are_no_neighbours(issue: Issue, ends: set[tuple[int, int]]) -> None:
    assert issue.served is not None
    ids = tuple(f"s{row:02d}" for row in range(16))
    row, column = (np.array([pair[side] for pair in sorted(ends)], dtype=np.int64) for side in (0, 1))
    graph = Graph.from_edges(row, column, np.ones(len(row)), num_nodes=len(ids))
    found = groups(replace(issue.served, ids=ids), ids, graph)
    assert sorted(name for own in found for name in own) == list(ids)
    joined = {frozenset((ids[one], ids[other])) for one, other in ends}
    assert all(len(own) <= 2 for own in found)
    assert not any(frozenset(pair) in joined for own in found for pair in combinations(own, 2))


def test_a_sensor_that_was_seldom_heard_is_not_hidden(issue: Issue, days: list[Any]) -> None:
    assert issue.served is not None
    assert HIDDEN in candidates(issue.served, issue.series, days)
    assert HIDDEN not in candidates(issue.served, unheard(issue.series, {HIDDEN}), days)
    assert candidates(replace(issue.served, ids=("a",)), issue.series, days) == ()
    assert candidates(issue.served, issue.series, []) == ()
