"""The bench's section says what every variant does, counts it, and shows it."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.universality import UNIVERSALITY
from st_pipeline.reporting.universality_page import BenchResults, bench_plot, bench_sections


def row(backbone: str, variant: str, mae: float, **more: Any) -> dict[str, Any]:
    name = backbone if variant == "bare" else f"{backbone}_{variant}"
    known = {"backbone": backbone, "variant": variant, "model": name, "mae": mae, "seeds": 3, "periods": 2}
    return {**dict.fromkeys(UNIVERSALITY), **known, "skill": 100 - mae, **more}


def found(relative: float, mark: str, prefix: str = "") -> dict[str, Any]:
    names = ("relative", "relative_low", "relative_high")
    numbers = zip(names, (relative, relative - 1, relative + 2), strict=True)
    return {f"{prefix}{name}": number for name, number in numbers} | {f"{prefix}mark": mark}


ROWS = [
    row("gru", "bare", 80.0),
    row("gru", "relearner", 76.0, **found(-5.0, "better"), **found(0.5, "level", "control_")),
    row("gru", "control", 75.6, **found(-5.5, "better")),
    row("stid", "bare", 90.0),
    row("stid", "relearner", 99.0, **found(10.0, "worse"), **found(2.0, "worse", "control_")),
]


@pytest.fixture
def bench(make_stream: Any) -> BenchResults:
    config: StreamConfig = make_stream(name="town_universality", description="Universality bench of town")
    return BenchResults(config, pl.DataFrame(ROWS, schema=UNIVERSALITY))


def test_every_row_is_held_to_its_bare_form_and_relearner_to_its_control(bench: BenchResults) -> None:
    page = "\n\n".join(bench_sections(bench, pictured=True))
    assert "## town_universality" in page
    assert "Universality bench of town: 3 seeds, 2 periods." in page
    assert "The best is `gru_control` at 75.6, 24.4 % below the weekly naive forecast." in page
    (line,) = [line for line in page.splitlines() if line.startswith("| `stid` | relearner")]
    assert "worse, +10.0 % (+9.0 to +12.0)" in line
    assert "worse, +2.0 % (+1.0 to +4.0)" in line
    assert "](images/results-town_universality.png)" in page
    assert "](images/" not in "\n".join(bench_sections(bench, pictured=False))


def test_the_verdict_counts_what_helps_and_what_does_not(bench: BenchResults) -> None:
    page = "\n\n".join(bench_sections(bench, pictured=False))
    assert (
        "- `relearner` against its backbone alone, of 2 backbones: better on 1, level on 0, worse on 1; "
        "median change of the error +2.5 %, from -5.0 to +10.0 %." in page
    )
    assert "- `control` against its backbone alone, of 1 backbones: better on 1" in page
    assert "- `relearner` against its control of capacity, of 2 backbones: better on 0, level on 1, worse on 1" in page
    assert "- `prompts`" not in page


def test_the_picture_has_a_row_a_backbone_and_a_colour_a_variant(bench: BenchResults) -> None:
    figure = bench_plot(bench.table)
    assert figure is not None
    (axes,) = figure.axes
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["gru", "stid"]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["relearner", "control"]
    assert bench_plot(bench.table.filter(pl.col("variant") == "bare")) is None
