"""Our numbers stand beside the published ones of the same run, or an empty cell says why there is none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from statistics import fmean
from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.published import Row, published_tables, rows_of
from st_pipeline.evaluation.reproduction import Compared, Results, compare, models_of
from st_pipeline.model_config import methods

Tidy = Callable[..., pl.DataFrame]
KEYS = ("2024-01-01", "2024-01-22", "2024-02-12")


@pytest.fixture
def pems(make_stream: Callable[..., StreamConfig]) -> Callable[..., StreamConfig]:
    """`pems({**entry}, ...)`: a stream called `pems_stream` in the published setting with these models."""
    return lambda *models, **changes: make_stream(
        **{"name": "pems_stream", "window": 12, "horizon": 12, "models": list(models), **changes}
    )


def paper(method: str, **changes: Any) -> dict[str, Any]:
    return {**methods()[method], "protocol": "paper", **changes}


def own(*errors: float) -> dict[tuple[str, str], float]:
    return {(key, key): error for key, error in zip(KEYS, errors, strict=False)}


def beside(
    table: str, config: StreamConfig, *frames: pl.DataFrame, seconds: Mapping[str, float] | None = None
) -> dict[tuple[str, str, str], Compared]:
    """(name, metric, horizon) -> comparison, of the rows on PEMS-Stream."""
    results = {config.name: Results(config, pl.concat(frames) if frames else None, seconds or {})}
    found = compare([row for row in rows_of(table) if row.stream == "PEMS-Stream"], results)
    return {(one.row.name, one.row.metric, one.row.horizon): one for one in found}


def eac(found: Mapping[tuple[str, str, str], Compared], metric: str = "mae") -> Compared:
    return found["EAC", metric, "published_average"]


def test_without_streams_every_cell_is_empty_and_says_why() -> None:
    for table in published_tables().values():
        for one in compare(table.rows):
            assert one.ours is one.difference is one.model is one.seeds is None
            assert "methods.yaml has no entry" in one.reason or "is not public in a repository" in one.reason
            assert one.row.value is not None or "is not on hand" in one.reason


def test_ours_is_the_mean_over_seeds_and_periods_right_after_learning(pems: Any, tidy: Tidy) -> None:
    first, second = own(10.0, 12.0, 17.0), own(12.0, 14.0, 19.0)
    later = tidy("eac", {(KEYS[2], KEYS[0]): 99.0}, protocol="paper")  # forgetting does not count
    cohort = tidy("eac", own(99.0), protocol="paper", cohort="2024")
    frames = [tidy("eac", first, protocol="paper"), tidy("eac", second, protocol="paper"), later, cohort]
    frames[1] = frames[1].with_columns(seed=pl.lit(2, pl.Int64))
    one = eac(beside("1", pems(paper("eac", seeds=[1, 2])), *frames))
    assert one.ours == pytest.approx(fmean([11.0, 13.0, 18.0]))
    assert one.difference == pytest.approx(14.0 - 13.53)
    assert (one.model, one.seeds, one.reason) == ("eac", 2, "3 of 7 periods")


def test_each_metric_is_compared_with_its_own(pems: Any, tidy: Tidy) -> None:
    rows = [
        tidy("eac", own(*[error] * 3), metric=name, protocol="paper") for name, error in (("mae", 14), ("rmse", 20))
    ]
    found = beside("1", pems(paper("eac")), *rows)
    assert eac(found).difference == pytest.approx(14 - 13.53)
    assert eac(found, "rmse").difference == pytest.approx(20 - 21.77)


def test_protocol_sound_is_never_shown(pems: Any, tidy: Tidy) -> None:
    config = pems({**methods()["eac"], "name": "eac"})
    one = eac(beside("1", config, tidy("eac", own(10.0))))
    assert one.ours is None
    assert one.reason == ("the stream pems_stream has no row of eac under protocol paper; add such a model to its file")
    (tfmoe,) = {
        found.reason for (name, *_), found in beside("2", config, tidy("eac", own(10.0))).items() if name == "TFMoE"
    }
    assert "has no row of tfmoe under protocol paper" in tfmoe and tfmoe.endswith("no public code")


def test_a_model_that_has_not_run_is_made_with_run(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac"), paper("online"))
    assert eac(beside("1", config)).reason.endswith("add --run")
    found = beside("1", config, tidy("eac", own(10.0), protocol="paper"))
    assert eac(found).ours == 10.0
    assert found["Online-ST-AN", "mae", "published_average"].reason.endswith(
        "of online under protocol paper; add --run"
    )


def test_the_same_settings_count_whatever_the_name(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac", training={"epochs": 2}), paper("eac", name="mine", training={"epochs": 100}))
    frames = [tidy(name, own(error), protocol="paper") for name, error in (("eac", 10.0), ("mine", 11.0))]
    one = eac(beside("1", config, *frames))
    assert (one.model, one.ours) == ("mine", 11.0)  # 100 epochs are those of the protocol
    assert "other settings" not in one.reason


@pytest.mark.parametrize("name", ["eac", "eac_paper"])
def test_other_settings_under_the_name_are_shown_and_told(pems: Any, tidy: Tidy, name: str) -> None:
    config = pems(paper("eac", name=name, training={"epochs": 2}, prompt_pool={"rank": 2}), horizon=6)
    one = eac(beside("1", config, tidy(name, own(10.0), protocol="paper")))
    assert one.ours == 10.0
    assert "other settings than the published run: horizon, prompt_pool, training" in one.reason


def test_a_row_about_a_setting_takes_no_other(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac"), paper("eac", name="eight", prompt_pool={"rank": 8}))
    frames = [tidy(name, own(error), protocol="paper") for name, error in (("eac", 10.0), ("eight", 11.0))]
    found = {name: one for (name, *_), one in beside("ranks", config, *frames).items()}
    assert [one.ours for one in found.values()] == [None, None, 10.0, 11.0, None, None]
    assert "has no row of eac with prompt_pool.rank 12 under protocol paper" in found["EAC, k = 12"].reason


def test_a_row_of_one_period_takes_that_period(pems: Any, tidy: Tidy) -> None:
    found = beside("periods", pems(paper("eac")), tidy("eac", own(10.0, 11.0, 12.0), protocol="paper"))
    years = {name: one for (name, _, horizon), one in found.items() if horizon == "published_average"}
    assert [one.ours for one in years.values()] == [10.0, 11.0, 12.0, None, None, None, None, 11.0]
    assert years["EAC, 2012"].difference == pytest.approx(11.0 - 13.02) and years["EAC, 2012"].reason == ""
    assert years["EAC, 2015"].reason == "eac has no mae published_average of period 5"


def test_twelve_steps_and_seconds(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac"), paper("lora_published"))
    rows = [
        tidy("eac", own(*[error] * 3), metric=m, horizon="upto:12", protocol="paper")
        for m, error in (("mae", 15.0), ("rmse", 25.0), ("mape", 20.0))
    ]
    found = {key[:2]: one for key, one in beside("4", config, *rows, seconds={"eac": 100.0}).items()}
    assert [found["EAC", m].ours for m in ("mae", "rmse", "mape", "seconds")] == [15.0, 25.0, 20.0, 100.0]
    assert "ours counts targets of zero" in found["EAC", "mae"].reason
    assert "ours counts targets of zero" not in found["EAC", "mape"].reason
    assert "another machine" in found["EAC", "seconds"].reason
    without = beside("4", config, *rows)["EAC", "seconds", "upto:12"]
    assert without.ours is None and without.reason == "eac has no seconds"


def test_rows_of_a_model_that_the_file_has_lost_are_told(pems: Any, tidy: Tidy) -> None:
    one = eac(beside("1", pems(paper("online")), tidy("eac", own(10.0), protocol="paper")))
    assert one.ours == 10.0 and one.reason.startswith("eac is not in the stream's file any more")


def test_unknown_values_leave_the_cell_empty(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac"))
    rows = tidy("eac", own(10.0), protocol="paper").with_columns(value=pl.lit(None, pl.Float64))
    one = eac(beside("1", config, rows))
    assert one.ours is None and one.reason == "eac has no mae published_average"


def test_a_broken_stream_is_the_reason(pems: Any) -> None:
    found = compare(rows_of("4"), faults={"pems_stream": "stream.yaml:3: step: found '7min'"})
    assert {one.reason for one in found} == {"stream.yaml:3: step: found '7min'"}


def test_an_unknown_published_number_has_ours_and_no_difference(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac_spatial_attention", prompt_pool={"rank": 12}))
    rows = tidy("eac_spatial_attention", own(1.0, 2.0, 3.0), metric="rmse", protocol="paper")
    one = beside("3", config, rows)["spatial, attention + EAC", "rmse", "published_average"]
    assert (one.ours, one.difference) == (2.0, None)
    assert one.reason.endswith("the published number is not on hand")


def test_models_of_a_table_are_those_under_protocol_paper(pems: Any) -> None:
    config = pems(
        paper("eac", name="eac_paper"),
        paper("retrain"),
        {**methods()["online"]},
        paper("eac", name="twelve", prompt_pool={"rank": 12}),
        compare={"methods": ["stkec_published"]},
    )
    assert models_of(rows_of("1"), config) == ("retrain", "eac_paper")
    assert models_of(rows_of("3"), config) == ("twelve",)
    assert models_of(rows_of("2"), config) == ("eac_paper",)
    other = config.model_copy(update={"name": "elsewhere"})
    assert models_of(rows_of("1"), other) == ()


def test_methods_only_compared_with_are_models_of_a_table(pems: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = {**methods()["retrain"], "protocol": "paper"}
    monkeypatch.setitem(methods(), "retrain", entry)
    config = pems(paper("eac"), compare={"methods": ["retrain"]})
    assert models_of(rows_of("1"), config) == ("retrain", "eac")


def test_rows_hold_their_own_stream_only(pems: Any, tidy: Tidy) -> None:
    config = pems(paper("eac"))
    results = {config.name: Results(config, tidy("eac", own(10.0), protocol="paper"))}
    found: list[Compared] = compare(rows_of("1"), results)
    shown: list[Row] = [one.row for one in found if one.ours is not None]
    assert [(row.name, row.stream, row.metric) for row in shown] == [("EAC", "PEMS-Stream", "mae")]
