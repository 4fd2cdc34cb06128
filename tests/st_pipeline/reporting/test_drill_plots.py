"""The picture of a drill shows every model in every scenario, and what broke does not stretch its axis."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.collections import PathCollection
from matplotlib.figure import Figure

from st_pipeline.evaluation.drill import CLEAN, DRILL_SCHEMA
from st_pipeline.evaluation.scenarios import SCENARIOS
from st_pipeline.reporting.drill_plots import drill_plot
from st_pipeline.reporting.images import svg_text

LOSSES = {CLEAN: 0.0, **{name: 3.0 * (index + 1) for index, name in enumerate(SCENARIOS)}}


def rows(model: str = "eac", *, skill: float = 40.0, broken: tuple[str, ...] = (), **names: Any) -> pl.DataFrame:
    usual = {"stream": "town", "model": model, "protocol": "sound", "seed": 1, "period": "2024-01-01", **names}
    return pl.DataFrame(
        [
            {**usual, "scenario": name, "survived": name not in broken, "worst": 9.0, "mae": 6.0}
            | {"weekly_mae": 10 + loss, "skill": -1e9 if name in broken else skill - loss, "skill_loss": loss}
            for name, loss in LOSSES.items()
        ],
        schema=DRILL_SCHEMA,
    )


def scatters(figure: Figure, marker: str) -> list[PathCollection]:
    """Crosses, or everything but crosses: only they are placed at the axes' edge."""
    axes = figure.axes[0]
    edge = axes.get_yaxis_transform()
    found = [part for part in axes.collections if isinstance(part, PathCollection) and len(part.get_offsets())]
    crosses = [part for part in found if part.get_offset_transform() == edge]
    return crosses if marker == "x" else [part for part in found if part not in crosses]


def drawn(figure: Figure) -> Figure:
    figure.savefig(BytesIO(), format="png")
    return figure


def test_scenarios_are_listed_from_the_mildest_and_models_are_named() -> None:
    figure = drawn(drill_plot(pl.concat([rows("eac"), rows("retrain", skill=30)])))
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == [name.replace("_", " ") for name in LOSSES]
    assert axes.get_ylim()[0] > axes.get_ylim()[1], "the first is on top"
    legend = axes.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["eac", "retrain", "weekly naive forecast, same faults"]


def test_dots_are_where_the_skill_is() -> None:
    found = np.concatenate([part.get_offsets() for part in scatters(drawn(drill_plot(rows())), "o")])
    for place, loss in enumerate(LOSSES.values()):
        own = sorted(x for x, y in found if y == place)
        assert own == pytest.approx(sorted([40 - loss, 100 * (1 - (10 + loss) / 10)])), "the model and the naive"


def test_single_runs_are_shown_beside_their_mean() -> None:
    figure = drill_plot(pl.concat([rows(skill=30), rows(skill=50, seed=2)]))
    clean = sorted(x for part in scatters(figure, "o") for x, y in part.get_offsets() if y == 0)
    assert clean == pytest.approx([0, 30, 40, 50])


def test_what_was_not_survived_is_a_cross_that_does_not_stretch_the_axis() -> None:
    figure = drawn(drill_plot(rows(broken=("noise", "stuck"))))
    crosses = scatters(figure, "x")
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert {order[int(part.get_offsets()[0][1])] for part in crosses} == {"noise", "stuck"}
    low, high = figure.axes[0].get_xlim()
    assert -300 < low < high < 100


def test_a_scenario_that_one_seed_survived_has_both() -> None:
    figure = drill_plot(pl.concat([rows(broken=("noise",)), rows(seed=2)]))
    order = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    (cross,) = scatters(figure, "x")
    assert order[int(cross.get_offsets()[0][1])] == "noise"
    dots = [y for part in scatters(figure, "o") for x, y in part.get_offsets() if x == pytest.approx(34)]
    assert [order[int(y)] for y in dots] == ["noise"]


def test_a_model_that_survives_nothing_and_numbers_that_are_not_known() -> None:
    broken = rows(broken=tuple(LOSSES)).with_columns(pl.lit(None, pl.Float64).alias("skill"))
    unknown = [pl.lit(None, pl.Float64).alias(name) for name in ("skill", "skill_loss", "weekly_mae")]
    assert len(scatters(drawn(drill_plot(broken)), "x")) == len(LOSSES)
    drawn(drill_plot(broken.with_columns(unknown)))
    drawn(drill_plot(rows().with_columns(pl.lit(0.0).alias("weekly_mae"))))
    drawn(drill_plot(rows().filter(pl.col("scenario") != CLEAN)))


def test_nothing_drilled_says_so() -> None:
    figure = drawn(drill_plot(pl.DataFrame(schema=DRILL_SCHEMA)))
    assert "no model was drilled" in svg_text(figure, "drill")


def test_the_same_rows_give_the_same_picture() -> None:
    frame = pl.concat([rows(), rows("retrain", skill=-20)])
    assert svg_text(drill_plot(frame), "drill") == svg_text(drill_plot(frame), "drill")
