"""Figures know whether they reached what was asked, and survive the way from one process to the next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import Figure, Result, best, table

numbers = st.floats(allow_nan=False)
figures = st.builds(
    Figure, st.text(), numbers, st.text(), at_least=st.none() | numbers, at_most=st.none() | numbers, detail=st.text()
)


@pytest.mark.parametrize(
    ("asked", "values"),
    [
        ({}, {0.9: None, 1.0: None, 1.1: None}),
        ({"at_least": 1.0}, {0.9: False, 1.0: True, 1.1: True, float("nan"): False}),
        ({"at_most": 1.0}, {0.9: True, 1.0: True, 1.1: False, float("nan"): False}),
        ({"at_most": 0.0}, {0.0: True, 0.1: False}),
    ],
)
def test_a_figure_is_reached_where_it_is_what_was_asked(
    asked: dict[str, float], values: dict[float, bool | None]
) -> None:
    assert {value: Figure("speed", value, "times", **asked).reached for value in values} == values


@given(st.text(), st.lists(figures, max_size=3), st.text())
def test_a_result_is_the_same_after_json(title: str, found: list[Figure], text: str) -> None:
    result = Result(title, found, text)
    document = result.to_json()
    assert "\n" not in document
    assert Result.from_json(document) == result


def test_a_table_is_markdown_with_three_digits_of_a_number() -> None:
    assert table(["", "s", "sensors"], [["ours", 0.123456, 8600], ["theirs", 12.0, 871]]).splitlines() == [
        "|  | s | sensors |",
        "| --- | --- | --- |",
        "| ours | 0.123 | 8600 |",
        "| theirs | 12 | 871 |",
    ]
    assert table(["a"], []) == "| a |\n| --- |\n"


def test_the_best_of_some_runs_is_no_longer_than_their_median() -> None:
    runs: list[int] = []
    least, median = best(lambda: runs.append(1), 5)
    assert len(runs) == 5
    assert 0 <= least <= median
