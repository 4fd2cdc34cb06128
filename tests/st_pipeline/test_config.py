"""What a stream file may say: every section refuses what it does not know, and numbers are numbers."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any
from zoneinfo import available_timezones

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from st_pipeline.config import NO_PLACES, StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.fields import parse_duration
from st_pipeline.model_config import PromptPoolConfig

SMALL: dict[str, Any] = {
    "name": "small",
    "source": {"format": "csv", "readings": "r.csv", "columns": {"flow": "q", "speed": "v"}},
    "step": "1h",
    "periods": {"every": "month", "start": "2024-01", "end": "2024-04"},
}
MODEL = {"name": "eac", "backbone": "stgnn", "strategy": "eac"}


def small(**changes: Any) -> StreamConfig:
    return StreamConfig.model_validate({**SMALL, **changes})


def problem(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        small(**changes)
    first = caught.value.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


@given(
    number=st.integers(1, 10**6), unit=st.sampled_from(["s", "min", "m", "h", "d"]), space=st.sampled_from(["", " "])
)
def test_durations(number: int, unit: str, space: str) -> None:
    seconds = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}[unit]
    assert parse_duration(f"{number}{space}{unit}") == timedelta(seconds=number * seconds)


@pytest.mark.parametrize(
    "value", ["0h", "1", 1, 1.5, None, "-1h", "1.5h", "h", "1 hour", "9999999999d", "١h", True, [], "1h30min"]
)
def test_anything_else_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match="expected a duration such as '5min', '1h' or '7d'"):
        parse_duration(value)


@pytest.mark.parametrize("step", ["1s", "5min", "15m", "1h", "6h", "1d"])
def test_a_step_divides_a_day(step: str) -> None:
    assert small(step=step).steps_per_day * small(step=step).step == timedelta(days=1)


@pytest.mark.parametrize("step", ["7min", "5h", "2d", "7d", "86399s"])
def test_a_step_that_does_not_divide_a_day_is_refused(step: str) -> None:
    assert "expected a step that divides a day" in problem(step=step)


def test_the_target_comes_first_among_variables_and_inputs() -> None:
    assert small().variable_names == ("flow", "speed")
    assert small(target="speed").variable_names == ("speed", "flow")
    assert small(target="speed", inputs=["flow"]).input_names == ("speed", "flow")
    assert small().input_names == ("flow",)
    assert small(source={"format": "csv", "readings": "r.csv", "columns": {"sensor_id": "id"}}).variable_names == (
        "value",
    )


def test_days_may_be_short() -> None:
    assert small(periods={"every": "year", "start": 2012, "end": 2014}).periods.start == date(2012, 1, 1)
    assert small(periods={"every": "month", "start": "2012-07"}).periods.start == date(2012, 7, 1)
    assert small(periods={"every": "week", "start": date(2012, 7, 3)}).periods.start == date(2012, 7, 3)


@pytest.mark.parametrize(
    "day", ["2024-02-30", "2024-13", "24-01-01", 20240101, 86400, True, 1.5, "", "today", [2024], "2024-01-01T12:00"]
)
def test_anything_else_is_no_day(day: object) -> None:
    assert "expected a day such as 2024-01-31" in problem(periods={"every": "month", "start": day})


@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        ({"every": "month", "start": "1066-10-14"}, "between the years 1900 and 2199"),
        ({"every": "month", "start": "2024-01-31"}, "does not exist in every month; expected a day up to 28"),
        ({"every": "month", "start": "2024-03", "end": "2024-01"}, "end 2024-01-01 is not after start 2024-03-01"),
        ({"every": "month", "start": "2024-01", "end": "2024-01"}, "is not after start"),
        (
            {"every": "quarter", "start": "2024-01", "end": "2024-03"},
            "expected a period boundary: 2024-01-01 or 2024-04-01",
        ),
        ({"every": "28d", "start": "2024-01-01", "end": "2024-02-01"}, "boundary: 2024-01-29 or 2024-02-26"),
        ({"every": "1d", "start": "1950-01-01"}, "1d from 1950-01-01 to today makes over 5,000 periods"),
        ({"every": "1d", "start": "2000-01-01", "end": "2190-01-01"}, "makes over 5,000 periods"),
        ({"every": "fortnight", "start": "2024-01"}, "is no period length"),
    ],
)
def test_calendars_that_make_no_sense(periods: dict[str, Any], expected: str) -> None:
    assert expected in problem(periods=periods)


def test_every_time_zone_accepted_is_one_that_readings_can_be_in() -> None:
    moment = pl.Series([0]).cast(pl.Datetime("ms"))
    for zone in sorted(available_timezones() - NO_PLACES):
        assert moment.dt.replace_time_zone(zone).dt.convert_time_zone("UTC").null_count() == 0
    for zone in NO_PLACES:
        assert "there is no such time zone" in problem(timezone=zone)


@pytest.mark.parametrize("name", ["S", "1s", "", "s-t", "s t", "../s", "ö", "a" * 64, "s\n", None, 5, True])
def test_names_are_plain(name: object) -> None:
    assert problem(name=name).startswith("name: ")
    assert problem(models=[MODEL | {"name": name}]).startswith("models.0.name: ")


@pytest.mark.parametrize(
    "name", ["report", "tensor", "edges", "naive", "naive_weekly", "leaderboard", "forecast", "arima", "var"]
)
def test_a_model_cannot_take_a_name_that_the_pipeline_uses(name: str) -> None:
    assert "the pipeline uses that name itself" in problem(models=[MODEL | {"name": name}])


def test_baselines_are_named_alone_or_with_options_and_there_are_none_by_default() -> None:
    assert small().baselines == () and small().scored_beside == ("naive",)
    found = small(baselines=["arima", {"name": "var", "lags": 2, "ridge": 0}])
    assert [baseline.spec() for baseline in found.baselines] == [
        {"name": "arima"},
        {"name": "var", "lags": 2, "ridge": 0},
    ]
    assert found.scored_beside == ("naive", "arima", "var")
    assert small(baselines=[{"name": "arima", "order": [2, 1, 0]}]).baselines[0].spec()["order"] == [2, 1, 0]


@pytest.mark.parametrize(
    ("baseline", "sentence"),
    [
        ("varr", "there is no baseline called 'varr'; did you mean 'var'?"),
        ({"name": "var", "lag": 3}, "it has no option 'lag'; did you mean 'lags'?"),
        ({"name": "var", "lags": 0}, "option 'lags': found '0', should be greater than or equal to 1"),
        ({"name": "var", "lags": "3"}, "option 'lags': found '3', should be a valid integer"),
        ({"name": "var", "ridge": -0.1}, "option 'ridge': found '-0.1', should be greater than or equal to 0"),
        ({"name": "var", "ridge": float("nan")}, "option 'ridge': found 'nan', should be a finite number"),
        ({"name": "arima", "order": [3, 0]}, "option 'order': found '[3, 0]'"),
        ({"name": "arima", "order": [3, -1, 1]}, "option 'order.1': found '-1'"),
        ({"name": "arima", "order": [3, 0, True]}, "option 'order.2': found 'True'"),
        ({"name": "arima", "order": "301"}, "option 'order': found '301'"),
    ],
)
def test_a_wrong_baseline_is_told_with_what_it_takes(baseline: object, sentence: str) -> None:
    assert sentence in problem(baselines=["arima" if "var" in str(baseline) else "var", baseline])


def test_a_baseline_is_named_once() -> None:
    assert "baseline 'var' is named twice" in problem(baselines=["var", {"name": "var", "lags": 12}])


@pytest.mark.parametrize("name", ["a/b", "", "2m", "a b", "x" * 64, "../..", 'a"b', "<b>"])
def test_variables_have_plain_names(name: str) -> None:
    assert "cannot be the name of a variable" in problem(source=SMALL["source"] | {"columns": {name: "q"}})


@pytest.mark.parametrize("name", ["step", "copy", "row", "file", "first", "flow_flag", "flow_conflict"])
def test_variables_cannot_be_called_like_columns_that_cleaning_makes(name: str) -> None:
    assert "is a column that the pipeline makes itself" in problem(source=SMALL["source"] | {"columns": {name: "q"}})


@pytest.mark.parametrize(
    "changes",
    [
        {"window": "12"},
        {"window": True},
        {"window": 12.0},
        {"horizon": None},
        {"gate": {"warn_missing": "0.5"}},
        {"variables": {"flow": {"minimum": "0"}}},
        {"variables": {"flow": {"minimum": True}}},
        {"variables": {"flow": {"sentinels": -1}}},
        {"variables": {"flow": {"sentinels": ["-1"]}}},
        {"lives": {"retire_after": 1.5}},
        {"periods": {**SMALL["periods"], "nominal": "yes"}},
        {"models": [MODEL | {"seed": "1"}]},
        {"models": [MODEL | {"seeds": 1}]},
        {"models": [MODEL | {"seeds": ["1"]}]},
        {"models": [MODEL | {"training": {"epochs": "5"}}]},
        {"models": MODEL},
        {"description": 5},
        {"inputs": "flow"},
    ],
)
def test_values_of_another_type_are_not_converted(changes: dict[str, Any]) -> None:
    assert "valid" in problem(**changes)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("key", ["minimum", "maximum", "spike"])
def test_limits_are_finite(key: str, number: float) -> None:
    assert "finite" in problem(variables={"flow": {key: number}})


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"target": "sped"}, "'sped' is no variable of source.columns; did you mean 'speed'?"),
        ({"target": "weight"}, "'weight' names a fact of a sensor or an edge"),
        ({"inputs": ["flow", "density"]}, "'density' is no variable of source.columns"),
        ({"variables": {"flwo": {}}}, "did you mean 'flow'?"),
        ({"variables": {"flow": {"minimum": 5, "maximum": 5}}}, "minimum 5.0 is not below maximum 5.0"),
        ({"champion": "eac"}, "'eac' is no model of the stream; there are none"),
        ({"models": [MODEL], "challengers": ["eca"]}, "'eca' is no model of the stream; did you mean 'eac'?"),
        ({"models": [MODEL], "challengers": ["eac"]}, "'eac' is the champion; a challenger is another model"),
        ({"models": [MODEL, MODEL]}, "two models are called 'eac'"),
        ({"models": [MODEL | {"seed": 1, "seeds": [1]}]}, "both 'seed' and 'seeds' are given"),
        ({"models": [MODEL | {"seeds": [1, 2, 1]}]}, "expected each once"),
        ({"models": [MODEL | {"seasonal": ["6h"]}]}, "seasonal lag 6:00:00 is shorter than the horizon"),
        ({"models": [MODEL | {"seasonal": ["1470min"]}]}, "or no multiple of the step"),
        ({"models": [MODEL | {"scaling": {"transform": "log"}}]}, "variables.flow.minimum: 0"),
        ({"models": [MODEL | {"protocol": "paper", "seasonal": ["1d"]}]}, "protocol 'paper' has its own scaling"),
        (
            {"models": [MODEL | {"training": {"share": 0.61}}]},
            "model 'eac': training.share 0.61 is more than split.train 0.6; expected at most that",
        ),
        ({"split": {"train": 0.7}}, "sum to 1.1, not 1"),
        ({"split": {"train": 1.0, "validation": 0.0, "test": 0.0}}, "less than 1"),
        ({"owner": "somebody"}, "expected 'team:NAME' or an e-mail address"),
    ],
)
def test_sections_agree_with_each_other(changes: dict[str, Any], expected: str) -> None:
    assert expected in problem(**changes)


@pytest.mark.parametrize(
    ("section", "key"), [("source", "format"), ("graph", "recipe"), ("backbone", "name"), ("strategy", "name")]
)
def test_the_option_name_cannot_replace_the_entry(section: str, key: str) -> None:
    """The registry calls an entry's name `name`; a key of that name must not slip in as an option."""
    given_ = {
        "source": {"source": SMALL["source"] | {"name": "parquet"}},
        "graph": {"graph": {"recipe": "gaussian", "name": "none"}},
    }
    if section in given_:
        assert "there is no such key" in problem(**given_[section])
    else:
        config = small(models=[MODEL | {section: {"name": MODEL[section]}}])
        assert getattr(config.models[0], section).spec() == {key: MODEL[section]}


def test_a_model_is_found_by_name_or_the_closest_is_named() -> None:
    config = small(models=[MODEL])
    assert config.model("eac").parts == ("backbone",)
    with pytest.raises(InputError, match="stream 'small' has no model 'eca'; did you mean 'eac'"):
        config.model("eca")


def test_a_model_runs_with_one_seed_or_with_several() -> None:
    changes: list[dict[str, Any]] = [{}, {"seed": 7}, {"seeds": [3, 1]}]
    runs = [small(models=[MODEL | change]).models[0].runs for change in changes]
    assert runs == [(1,), (7,), (3, 1)]


def test_the_section_of_a_model_changes_with_what_it_depends_on_alone() -> None:
    first, second = MODEL, MODEL | {"name": "other"}
    config = small(models=[first, second])
    section = config.model_section(config.models[0])
    described = small(models=[first, second | {"seed": 5}], description="new", champion="eac")
    assert described.model_section(described.models[0]) == section
    for change in ({"window": 24}, {"models": [first | {"seed": 5}, second]}, {"split": {"train": 0.5, "test": 0.3}}):
        changed = small(**{"models": [first, second], **change})
        assert changed.model_section(changed.models[0]) != section


@pytest.mark.parametrize(
    ("given_", "rank", "factors"), [({}, 6, 6), ({"rank": 1}, 1, 1), ({"rank": "full"}, "full", None)]
)
def test_prompts_have_a_rank_or_are_a_full_table(given_: dict[str, Any], rank: object, factors: int | None) -> None:
    pool = small(models=[MODEL | {"prompt_pool": given_}]).models[0].prompt_pool
    assert pool is not None
    assert (pool.rank, pool.factors) == (rank, factors)
    assert PromptPoolConfig.model_validate_json(pool.model_dump_json()) == pool


@pytest.mark.parametrize("rank", [0, -1, True, 2.0, 1.5, "6", "Full", "none", "", None, [6], {"rank": 6}, float("nan")])
def test_any_other_rank_is_refused(rank: object) -> None:
    found = problem(models=[MODEL | {"prompt_pool": {"rank": rank}}])
    assert found == "models.0.prompt_pool.rank: Value error, expected a whole number of at least 1, or full"


def test_the_section_of_a_model_tells_a_full_table_from_every_rank() -> None:
    pools = [None, {"rank": 6}, {"rank": 12}, {"rank": "full"}]
    configs = [small(models=[MODEL | {"prompt_pool": pool}]) for pool in pools]
    sections = [str(config.model_section(config.models[0])) for config in configs]
    assert len(set(sections)) == len(pools)


@pytest.mark.parametrize(
    ("given_", "expected"), [({}, (6, "weights")), ({"rank": 1}, (1, "weights")), ({"place": "hidden"}, (6, "hidden"))]
)
def test_adapters_have_a_rank_and_a_place(given_: dict[str, Any], expected: tuple[int, str]) -> None:
    lora = small(models=[MODEL | {"lora": given_}]).models[0].lora
    assert lora is not None
    assert (lora.rank, lora.place) == expected


@pytest.mark.parametrize("given_", [{"rank": 0}, {"rank": 6.0}, {"rank": "full"}, {"place": "bias"}, {"alpha": 1}, 6])
def test_any_other_adapters_are_refused(given_: object) -> None:
    assert problem(models=[MODEL | {"lora": given_}]).startswith("models.0.lora")


@pytest.mark.parametrize(
    ("sections", "parts"),
    [
        ([], ("backbone",)),
        (["lora"], ("backbone", "lora")),
        (["prompt_pool"], ("backbone", "prompt_pool")),
        (["prompt_pool", "lora"], ("backbone", "lora", "prompt_pool")),
        (["relearner"], ("backbone", "relearner")),
        (["relearner", "prompt_pool", "lora"], ("backbone", "lora", "prompt_pool", "relearner")),
    ],
)
def test_a_model_has_the_parts_that_its_sections_name(sections: list[str], parts: tuple[str, ...]) -> None:
    assert small(models=[MODEL | {name: {} for name in sections}]).models[0].parts == parts


@pytest.mark.parametrize(
    ("backbone", "sections", "views"),
    [
        ("stgnn", [], ()),
        ("stgnn", ["prompt_pool", "lora"], ()),
        ("stgnn", ["relearner"], ("relearner",)),
        ("himnet", ["prompt_pool"], ("himnet",)),
        ("himnet", ["relearner"], ("himnet", "relearner")),
        ("st_trans", [], ("st_trans",)),
    ],
)
def test_a_model_has_views_of_its_backbone_and_parts(
    backbone: str, sections: list[str], views: tuple[str, ...]
) -> None:
    model = MODEL | {"backbone": backbone} | {name: {} for name in sections}
    assert small(models=[model]).models[0].views == views


@pytest.mark.parametrize("share", [0.2, 0.6, 1e-9, None])
def test_training_may_use_a_share_of_the_period(share: float | None) -> None:
    assert small(models=[MODEL | {"training": {"share": share}}]).models[0].training.share == share
    assert small(models=[MODEL]).models[0].training.share is None


@pytest.mark.parametrize("share", [0, -0.2, 1, 1.5, "0.2", True, float("nan")])
def test_any_other_share_is_refused(share: object) -> None:
    assert problem(models=[MODEL | {"training": {"share": share}}]).startswith("models.0.training.share: Input should")
