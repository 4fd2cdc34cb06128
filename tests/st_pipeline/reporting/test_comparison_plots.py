"""Pictures of comparisons: what is joined and what is on the front are facts; the figures name every model."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Text

from st_pipeline.errors import InputError
from st_pipeline.reporting.comparison_plots import critical_difference_plot, joined, non_dominated, pareto_plot
from st_pipeline.reporting.images import svg_text

RANKS = {"retrain": 2.1, "eac": 1.4, "online": 3.0, "pretrain": 5.2, "$odd_name$": 3.3}
COSTS = {"eac": 40.0, "retrain": 300.0, "online": 120.0, "pretrain": 3.0, "naive_last": 0.0}
ERRORS = {"eac": 13.4, "retrain": 14.2, "online": 14.1, "pretrain": 15.3, "naive_last": 17.2}


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_every_model_is_named_with_its_rank() -> None:
    shown = texts(critical_difference_plot(RANKS, 1.8))
    for name, rank in RANKS.items():
        assert any(name in text and f"{rank:.2f}" in text for text in shown)
    assert "critical difference 1.80" in shown


def test_the_best_rank_is_on_the_left() -> None:
    figure = critical_difference_plot(RANKS, 1.8)
    places = {text.get_text().strip(): text.xy[0] for text in figure.axes[0].texts}  # type: ignore[attr-defined]
    assert places["eac  1.40"] == places["retrain  2.10"] < 1 < 5 < places["5.20  pretrain"]


@pytest.mark.parametrize(
    ("ranks", "difference", "expected"),
    [
        ([1.4, 2.1, 3.0, 3.3, 5.2], 1.8, [(0, 2), (1, 3)]),
        ([1.0, 2.0, 3.0], 0.5, []),
        ([1.0, 2.0, 3.0], 2.0, [(0, 2)]),
        ([1.5, 1.5, 3.0], 0.0, [(0, 1)]),
    ],
)
def test_models_closer_than_the_critical_difference_are_joined(
    ranks: list[float], difference: float, expected: list[tuple[int, int]]
) -> None:
    assert joined(ranks, difference) == expected


@given(st.lists(st.floats(1, 10), min_size=2, max_size=8).map(sorted), st.floats(0, 5))
def test_two_models_share_a_bar_if_and_only_if_they_are_close(ranks: list[float], difference: float) -> None:
    bars = joined(ranks, difference)
    for one in range(len(ranks)):
        for other in range(one + 1, len(ranks)):
            shared = any(first <= one and other <= last for first, last in bars)
            assert shared == (ranks[other] - ranks[one] <= difference)


@pytest.mark.parametrize("ranks", [{"eac": 1.0}, {}, {"eac": 1.0, "retrain": float("nan")}, {"eac": 0.2, "b": 2.0}])
def test_ranks_that_say_nothing_are_refused(ranks: dict[str, float]) -> None:
    with pytest.raises(InputError, match="expected"):
        critical_difference_plot(ranks, 1.0)


def test_the_front_is_what_no_other_beats() -> None:
    assert non_dominated(COSTS, ERRORS) == {"eac", "pretrain", "naive_last"}
    assert non_dominated({"a": 1, "b": 1, "c": 1}, {"a": 2, "b": 2, "c": 3}) == {"a", "b"}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=9))
def test_whatever_is_off_the_front_is_beaten_by_the_front(points: list[tuple[int, int]]) -> None:
    costs, errors = ({str(index): float(point[axis]) for index, point in enumerate(points)} for axis in (0, 1))
    front = non_dominated(costs, errors)
    assert front
    for name in errors:
        worse = [
            (costs[one], errors[one]) for one in front if costs[one] <= costs[name] and errors[one] <= errors[name]
        ]
        assert any(point != (costs[name], errors[name]) for point in worse) == (name not in front)


def test_cost_is_on_a_log_axis_and_a_free_model_is_a_line() -> None:
    figure = pareto_plot(COSTS, ERRORS, cost="trainable parameters")
    [axes] = figure.axes
    assert axes.get_xscale() == "log" and axes.get_xlabel() == "trainable parameters"
    [dots] = axes.collections
    assert sorted(map(tuple, dots.get_offsets())) == sorted((COSTS[n], ERRORS[n]) for n in COSTS if COSTS[n])
    assert {*COSTS} - {"naive_last"} | {"naive_last (free)"} <= {*texts(figure)}
    front = axes.lines[-1]
    assert list(zip(*front.get_data(), strict=True)) == [(3.0, 15.3), (40.0, 13.4)]


def boxes(figure: Figure) -> Iterator[tuple[float, float, float, float]]:
    figure.canvas.draw()
    for text in figure.axes[0].texts:
        yield text.get_window_extent().extents


def test_labels_of_close_points_do_not_cover_each_other() -> None:
    names = [f"model_{index}" for index in range(8)]
    figure = pareto_plot(
        {name: 100.0 + index for index, name in enumerate(names)},
        {name: 10 + index % 2 for index, name in enumerate(names)},
    )
    found = list(boxes(figure))
    for index, one in enumerate(found):
        for other in found[:index]:
            apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
            assert apart


def test_free_models_alone_and_one_model_are_drawn() -> None:
    assert "naive_last (free)" in texts(pareto_plot({"naive_last": 0.0}, {"naive_last": 3.0}))
    assert "eac" in texts(pareto_plot({"eac": 5.0}, {"eac": 3.0}))


@pytest.mark.parametrize(
    ("costs", "errors", "what"),
    [
        ({"a": 1.0}, {"a": 1.0, "b": 2.0}, "'b' has a cost or an error but not both"),
        ({"a": -1.0}, {"a": 1.0}, "seconds per later period of model 'a' is -1.0"),
        ({"a": 1.0}, {"a": float("nan")}, "mean absolute error of model 'a' is nan"),
    ],
)
def test_points_that_are_none_are_refused(costs: dict[str, float], errors: dict[str, float], what: str) -> None:
    with pytest.raises(InputError, match=what):
        pareto_plot(costs, errors)


@pytest.mark.parametrize("figure", [critical_difference_plot(RANKS, 1.8), pareto_plot(COSTS, ERRORS)])
def test_figures_become_pictures_for_the_report(figure: Figure) -> None:
    assert svg_text(figure, "comparison").startswith("<svg")
