"""Error over training time: the models of one protocol, and the best forecast that is free."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from matplotlib.text import Text

from st_pipeline.reporting.cost_plot import cost_plot


def row(model: str, mae: float | None, protocol: str = "sound") -> dict[str, Any]:
    return {"model": model, "protocol": protocol, "mae": mae}


ROWS = [
    row("eac", 4.0),
    row("naive_weekly", 5.0),
    row("naive_last", 9.0),
    row("unscored", None),
    row("other", 3.0, "paper"),
]
SECONDS = {"eac": 2.0, "unscored": 1.0, "other": 1.0}


def texts(figure: Figure | None) -> set[str]:
    assert figure is not None
    return {text.get_text() for text in figure.findobj(Text)}


def test_scored_models_of_the_protocol_and_the_best_naive_forecast_are_shown() -> None:
    shown = texts(cost_plot(ROWS, SECONDS, protocol="sound", cost="seconds of a night"))
    assert {"eac", "naive_weekly (free)", "seconds of a night"} <= shown
    assert not [text for text in shown if any(name in text for name in ("unscored", "other", "naive_last"))]
    assert "other" in texts(cost_plot(ROWS, SECONDS, protocol="paper", cost="s"))


def test_without_a_trained_model_there_is_no_picture() -> None:
    assert cost_plot(ROWS, {}, protocol="sound", cost="s") is None
    assert cost_plot(ROWS, {"eac": None}, protocol="sound", cost="s") is None
    assert cost_plot([], SECONDS, protocol="sound", cost="s") is None
