"""The picture of the curve shows its ages, and says where there is none."""

from __future__ import annotations

from typing import Any

from st_pipeline.reporting.cold_start_plot import cold_start_plot


def row(days: int, times: float | None) -> dict[str, Any]:
    ratios = {"times_weekly": times, "times_known": times, "low": times, "high": times}
    return {"days": days, "mae": times, **ratios}


def found(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"stream": "<b>", "period": "2024", "hidden": ["a"], "curve": list(rows)}


def test_every_age_with_an_error_is_a_point() -> None:
    (axes,) = cold_start_plot(found(row(0, None), row(1, 2.0), row(3, 1.0))).axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "3"]
    assert axes.lines[0].get_ydata().tolist() == [2.0, 1.0]


def test_nothing_is_said() -> None:
    (axes,) = cold_start_plot(found()).axes
    assert axes.texts[0].get_text() == "no sensor could be hidden"
