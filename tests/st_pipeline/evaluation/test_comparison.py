"""Comparisons: differences are those of the leaderboard, marks take both tests, unlike rows are never compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.comparison import COMPARISON, comparable_groups, compare
from st_pipeline.evaluation.losses import LOSSES
from st_pipeline.evaluation.significance import diebold_mariano, holm

STEPS = 3
HORIZONS = (1, "upto:2", "published_average")


def make_losses(
    shifts: Mapping[str, float],
    *,
    windows: int = 150,
    periods: tuple[str, ...] = ("2011", "2012"),
    seeds: tuple[int, ...] = (1,),
    noise: float = 1.0,
    draw: int = 0,
    **facts: Any,
) -> pl.DataFrame:
    """Models whose errors are alike but for a shift and their own noise, and share what is hard to forecast."""
    generator = np.random.default_rng(draw)
    frames = []
    for number, period in enumerate(periods):
        size = (windows, STEPS)
        own = np.random.default_rng([draw, number])
        cells = own.integers(6, 12, size=size)
        nonzero = cells - own.integers(0, 3, size=size)
        shared = 5 + number + np.abs(generator.normal(size=size))
        for model, shift in shifts.items():
            for seed in seeds:
                error = shared + shift + noise * generator.normal(size=size) * 0.5
                frames.append(
                    pl.DataFrame(
                        {
                            "model": model,
                            "seed": seed,
                            "period": period,
                            "issued_at": np.repeat(3600 * np.arange(windows), STEPS),
                            "horizon": np.tile(np.arange(1, STEPS + 1), windows),
                            "absolute": (error * cells).ravel(),
                            "square": (error**2 * cells).ravel(),
                            "cells": cells.ravel(),
                            "absolute_nonzero": (error * nonzero).ravel(),
                            "cells_nonzero": nonzero.ravel(),
                        }
                    )
                )
    common = {"stream": "small", "protocol": "sound", "data": "d", "split": "s", "mask": "m", **facts}
    rows = pl.concat(frames).with_columns(pl.lit(value).alias(name) for name, value in common.items())
    return rows.select(list(LOSSES)).cast(LOSSES)  # type: ignore[arg-type]


def error(losses: pl.DataFrame, model: str, horizon: int | str) -> float:
    """The mean over periods of the error at a horizon, from the rows one by one."""
    own = losses.filter(pl.col("model") == model)
    found = []
    for period in own["period"].unique():
        rows = own.filter(pl.col("period") == period)

        def per_cell(steps: list[int], suffix: str = "", rows: pl.DataFrame = rows) -> float:
            chosen = rows.filter(pl.col("horizon").is_in(steps))
            return float(chosen[f"absolute{suffix}"].sum() / chosen[f"cells{suffix}"].sum())

        if horizon == "published_average":
            found.append(np.mean([per_cell([*range(1, last + 1)], "_nonzero") for last in range(1, STEPS + 1)]))
        else:
            found.append(per_cell([1, 2] if horizon == "upto:2" else [1]))
    return float(np.mean(found))


def test_differences_are_those_of_the_errors_on_the_leaderboard() -> None:
    losses = make_losses({"eac": 0.0, "retrain": 0.2, "online": 0.4}, seeds=(1, 2, 3))
    table = compare(losses, reference="retrain", horizons=HORIZONS, seed=0, repeats=50)
    assert table.schema == COMPARISON
    assert table.select("model", "horizon").rows() == [
        (model, label) for label in ("at:1", "upto:2", "published_average") for model in ("eac", "online")
    ]
    for row in table.iter_rows(named=True):
        horizon = 1 if row["horizon"] == "at:1" else row["horizon"]
        own, other = (error(losses, name, horizon) for name in (row["model"], "retrain"))
        assert row["difference"] == pytest.approx(own - other)
        assert row["relative"] == pytest.approx(100 * (own / other - 1))
        assert row["low"] < row["difference"] < row["high"]
        assert row["relative_low"] < row["relative"] < row["relative_high"]
        assert row["windows"] == 300


@pytest.mark.parametrize(("horizon", "overlap"), [("at:2", 2), ("upto:2", 2), ("published_average", STEPS)])
def test_diebold_mariano_weighs_periods_alike(horizon: str, overlap: int) -> None:
    models = {"a": 0.0, "b": 0.05}
    long, short = (make_losses(models, windows=n, periods=(key,)) for key, n in (("2011", 120), ("2012", 30)))
    series = []
    for rows, n in ((long, 120), (short, 30)):
        kept = ("absolute_nonzero", "cells_nonzero") if overlap == STEPS else ("absolute", "cells")
        a, b = (rows.filter(pl.col("model") == name).select(kept).to_numpy().reshape(n, STEPS, 2) for name in models)
        steps = [[1]] if horizon == "at:2" else [[0, 1]] if horizon == "upto:2" else [[0], [0, 1], [0, 1, 2]]
        ratios = [(b - a)[:, chosen, 0].sum(axis=1) / a[:, chosen, 1].sum(axis=1).mean() for chosen in steps]
        series.append(np.mean(ratios, axis=0) * 150 / (2 * n))
    expected = diebold_mariano(series, horizon=overlap)
    [row] = compare(pl.concat([long, short]), reference="a", horizons=(horizon,), seed=0, repeats=50).to_dicts()
    assert row["difference"] == pytest.approx(expected.mean)
    assert row["p_dm"] == pytest.approx(expected.p_value)
    assert row["blocks"] == pytest.approx(150 / (3 * overlap))


def test_marks_say_which_model_has_the_lower_error() -> None:
    losses = make_losses({"retrain": 0.0, "eac": -0.5, "online": 0.5, "twin": 0.0})
    table = compare(losses, reference="retrain", horizons=(1, 3), seed=0, repeats=200)
    marks = {(model, mark) for model, mark in table.select("model", "mark").iter_rows()}
    assert marks == {("eac", "better"), ("online", "worse"), ("twin", "level")}


def test_holm_adjusts_the_larger_p_value_within_a_horizon() -> None:
    losses = make_losses({"retrain": 0.0, **{f"m{index}": 0.03 * index for index in range(5)}}, draw=3)
    table = compare(losses, reference="retrain", horizons=(1, 2), seed=0, repeats=200)
    for _, rows in table.group_by("horizon"):
        larger = rows.select(pl.max_horizontal("p_bootstrap", "p_dm")).to_series()
        np.testing.assert_allclose(rows["p_holm"], holm(larger))
        assert (rows["mark"] == "level").to_list() == (rows["p_holm"] >= 0.05).to_list()


def test_chosen_pairs_are_compared_in_their_order() -> None:
    losses = make_losses({"a": 0.0, "b": 0.3, "c": 0.6})
    table = compare(losses, reference=[("c", "a"), ("a", "c"), ("b", "b")], horizons=(1,), seed=0, repeats=50)
    assert table.select("model", "reference").rows() == [("c", "a"), ("a", "c"), ("b", "b")]
    there, back, same = table.iter_rows(named=True)
    assert there["difference"] == pytest.approx(-back["difference"]) and there["mark"] == "worse" != back["mark"]
    assert (same["difference"], same["p_bootstrap"], same["p_dm"], same["mark"]) == (0.0, 1.0, 1.0, "level")


def test_rows_in_any_order_give_the_same_table() -> None:
    losses = make_losses({"a": 0.0, "b": 0.3}, seeds=(1, 2))
    options: dict[str, Any] = {"reference": "a", "horizons": HORIZONS, "seed": 4, "repeats": 50}
    assert compare(losses.sample(fraction=1, shuffle=True, seed=0), **options).equals(compare(losses, **options))


def test_a_reference_alone_has_nothing_to_be_compared_with() -> None:
    table = compare(make_losses({"a": 0.0}), reference="a", horizons=(1,), seed=0)
    assert table.is_empty() and table.schema == COMPARISON


def test_a_reference_without_error_has_no_percentage() -> None:
    perfect = make_losses({"a": 0.0}).with_columns(pl.lit(0.0).alias("absolute"), pl.lit("b").alias("model"))
    table = compare(pl.concat([make_losses({"a": 0.0}), perfect]), reference="b", horizons=(1,), seed=0, repeats=50)
    assert table["mark"].to_list() == ["worse"]
    assert table.select("relative", "relative_low", "relative_high").row(0) == (None, None, None)


def test_days_make_blocks_longer() -> None:
    losses = make_losses({"a": 0.0, "b": 0.3})
    options: dict[str, Any] = {"reference": "a", "horizons": (1,), "seed": 4, "repeats": 50}
    assert compare(losses, day_steps=24, **options)["blocks"].to_list() == [300 / 24]
    assert compare(losses, **options)["blocks"].to_list() == [pytest.approx(300 / 7)]


def test_equal_models_are_rarely_marked() -> None:
    names = ["reference", *(f"m{index}" for index in range(10))]
    wrong = []
    for draw in range(25):
        losses = make_losses(dict.fromkeys(names, 0.0), windows=60, draw=draw)
        table = compare(losses, reference="reference", horizons=(2,), seed=draw, repeats=100)
        wrong.append((table["mark"] != "level").any())
    assert sum(wrong) <= 2


@pytest.mark.parametrize("field", ["protocol", "data", "split", "mask"])
def test_rows_scored_otherwise_are_refused_and_grouped_apart(field: str) -> None:
    losses = pl.concat(
        [
            make_losses({"a": 0.0, "b": 0.1}),
            make_losses({"c": 0.0, "d": 0.1}, **{field: "another"}),
            make_losses({"e": 0}),
        ]
    )
    with pytest.raises(InputError, match=rf"'a' cannot be compared: {field} of period 2011 is 'another' and"):
        compare(losses, reference=[("b", "a"), ("c", "a")], horizons=(1,), seed=0)
    assert comparable_groups(losses) == [("a", "b", "e"), ("c", "d")]
    assert len(compare(losses, reference=[("b", "a"), ("c", "d")], horizons=(1,), seed=0, repeats=50)) == 2


def test_models_tested_on_fewer_windows_are_refused_and_grouped_apart() -> None:
    both = make_losses({"a": 0.0, "b": 0.1})
    losses = both.filter((pl.col("model") == "a") | (pl.col("issued_at") > 0))
    with pytest.raises(InputError, match="issued_at in period 2011 has 149 and 150 values, and 'b' lacks 1970-01-01"):
        compare(losses, reference="a", horizons=(1,), seed=0)
    assert comparable_groups(losses) == [("a",), ("b",)]


def test_no_losses_have_no_groups() -> None:
    assert comparable_groups(pl.DataFrame(schema=LOSSES)) == []


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"reference": "retrian"}, "'retrian'; did you mean 'retrain'"),
        ({"reference": [("eac", "retrain"), ("other", "eac")]}, "no losses of model 'other'; known: 'eac', 'retrain'"),
        ({"reference": "eac", "horizons": (4,)}, "'at:4' is not one of forecasts of 3 steps; did you mean 'at:[123]'"),
        ({"reference": "eac", "horizons": ("publishd_average",)}, "did you mean 'published_average'"),
        ({"reference": "eac", "level": 0.05}, r"level is 0\.05"),
    ],
)
def test_what_is_not_there_is_named(options: dict[str, Any], what: str) -> None:
    losses = make_losses({"eac": 0.0, "retrain": 0.1}, windows=20)
    with pytest.raises(InputError, match=what):
        compare(losses, **{"horizons": (1,), "seed": 0, "repeats": 10, **options})


def test_windows_that_lack_steps_are_refused() -> None:
    losses = make_losses({"a": 0.0, "b": 0.1}, windows=20).filter((pl.col("issued_at") > 0) | (pl.col("horizon") != 2))
    with pytest.raises(InputError, match="'a' in period 2011 lack steps of some windows; expected the steps 1 to 3"):
        compare(losses, reference="a", horizons=(1,), seed=0)


def test_one_window_is_no_evidence() -> None:
    losses = make_losses({"a": 0.0, "b": 0.1}, windows=1, periods=("2011",))
    with pytest.raises(InputError, match="none has 2 windows or more"):
        compare(losses, reference="a", horizons=(1,), seed=0)
