"""Studies compare what can be compared: the same periods right after learning them, the base beside its variants."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.evaluation.rows import PUBLISHED, SCHEMA
from st_pipeline.evaluation.studies import ERRORS, STUDY, study_errors, study_models, study_table, value_in

PERIODS = ("2024-01-01", "2024-01-22", "2024-02-12")
BASE: dict[str, Any] = {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 6}, "strategy": "eac"}
Scores = dict[str, dict[str, pl.DataFrame]]


@pytest.fixture
def make_config(make_stream) -> Callable[..., StreamConfig]:
    """`make_config(vary={...}, **base)`: a stream with one model and one study of it."""

    def make(vary: dict[str, Any] | None = None, *, cases: dict[str, Any] | None = None, **base: Any) -> StreamConfig:
        study = {"name": "s", "of": "eac", "vary": vary or {}, "cases": cases or {}}
        model = {name: value for name, value in {**BASE, **base}.items() if value is not None}
        return make_stream(models=[model], studies=[study])

    return make


def rows(model: str, period: str, errors: dict[int, float | None], *, before: float = 99.0) -> pl.DataFrame:
    """An evaluation: the diagonal by seed, and beside it what a study must not read."""
    names = {"stream": "small", "model": model, "protocol": "sound", "cohort": "all", "period": period}
    found = []
    for seed, error in errors.items():
        own = {**names, "seed": seed, "trained_through": period}
        found += [
            {**own, "metric": "mae", "horizon": PUBLISHED, "value": error},
            {**own, "metric": "rmse", "horizon": "upto:4", "value": None if error is None else 2 * error},
            {**own, "metric": "mae", "horizon": "upto:4", "value": before},
            {**own, "metric": "mae", "horizon": PUBLISHED, "value": before, "cohort": period},
            {**own, "metric": "mae", "horizon": PUBLISHED, "value": before, "trained_through": "2023-12-11"},
        ]
    return pl.DataFrame(found, schema=SCHEMA)


def cost(seconds: float, trainable: int, parameters: int = 100) -> dict[str, Any]:
    numbers = {"seconds": seconds, "trainable": trainable, "parameters": parameters, "epochs": 2, "peak_bytes": 1}
    return {"cost": {**numbers, "milliseconds_per_forecast": 1.0, "device": "cpu"}}


def scores(**models: list[dict[int, float | None]]) -> Scores:
    return {
        name: {period: rows(name, period, errors) for period, errors in zip(PERIODS, given, strict=False)}
        for name, given in models.items()
    }


def table(config: StreamConfig, given: Scores, costs: dict[str, dict[str, Any]] | None = None) -> list[dict[str, Any]]:
    study = config.studies[0]
    found = study_table(config, study, study_errors(config, study, given), costs or {})
    assert found.schema == pl.Schema(STUDY)
    return found.to_dicts()


def test_errors_are_means_over_periods_and_seeds_right_after_learning(make_config) -> None:
    config = make_config({"prompt_pool.rank": [2]}, seeds=[1, 2])
    given = scores(eac=[{1: 1.0, 2: 3.0}, {1: 3.0, 2: 7.0}], eac_s_2=[{1: 2.0, 2: 2.0}, {1: 2.0, 2: 2.0}])
    base, variant = table(config, given)
    assert (base["value"], base["model"], base["seeds"], base["periods"]) == ("6", "eac", 2, 2)
    assert (base["mae"], base["rmse"]) == (3.5, 7.0)
    assert base["mae_std"] == pytest.approx(((2 - 3.5) ** 2 + (5 - 3.5) ** 2) ** 0.5)
    assert (variant["value"], variant["mae"], variant["mae_std"]) == ("2", 2.0, 0.0)
    assert (variant["study"], variant["key"]) == ("s", "prompt_pool.rank")


def test_one_seed_has_no_deviation(make_config) -> None:
    (base, _) = table(make_config({"seed": [2]}), scores(eac=[{1: 1.0}], eac_s_2=[{2: 2.0}]))
    assert base["mae_std"] is None


def test_only_periods_that_all_scored_models_share_count(make_config) -> None:
    config = make_config({"prompt_pool.rank": [2, 4, 8]})
    given = scores(
        eac=[{1: 1.0}, {1: 5.0}, {1: 9.0}], eac_s_2=[{1: 2.0}, {1: 4.0}], eac_s_4=[{1: 3.0}, {1: None}, {1: 3.0}]
    )
    errors = study_errors(config, config.studies[0], given)
    assert errors.schema == pl.Schema(ERRORS)
    assert errors["period"].unique().to_list() == [PERIODS[0]]
    found = table(config, given)
    assert [row["mae"] for row in found] == [1.0, 2.0, 3.0, None]
    assert [row["periods"] for row in found] == [1, 1, 1, 0]
    assert [row["model"] for row in found] == ["eac", "eac_s_2", "eac_s_4", "eac_s_8"]


def test_costs_are_those_of_later_periods(make_config) -> None:
    config = make_config({"prompt_pool.rank": [2]})
    given = scores(eac=[{1: 1.0}] * 3, eac_s_2=[{1: 1.0}] * 3)
    costs = {"eac": dict(zip(PERIODS, (cost(90, 100), cost(1, 10), cost(3, 30, 60)), strict=True))}
    base, variant = table(config, given, costs)
    assert (base["trainable"], base["seconds"], base["tuned_share"]) == (20.0, 2.0, pytest.approx((0.1 + 0.5) / 2))
    assert (variant["trainable"], variant["seconds"], variant["tuned_share"]) == (None, None, None)


def test_costs_are_of_the_periods_that_are_compared(make_config) -> None:
    config = make_config({"prompt_pool.rank": [2]})
    given = scores(eac=[{1: 1.0}] * 3, eac_s_2=[{1: 1.0}] * 2)
    costs = {"eac": dict(zip(PERIODS, (cost(90, 100), cost(1, 10), cost(3, 30)), strict=True))}
    assert table(config, given, costs)[0]["seconds"] == 1.0


@pytest.mark.parametrize("given", [{}, {"eac": {}}, scores(eac=[{1: None}]), {"online": scores(eac=[{1: 1.0}])["eac"]}])
def test_a_study_without_scores_says_what_to_do(make_config, given: Scores) -> None:
    config = make_config({"prompt_pool.rank": [2]})
    with pytest.raises(InputError, match=r"study 's' of stream 'small': no period has scores.*run small --studies"):
        study_errors(config, config.studies[0], given)


def test_models_without_a_period_in_common_are_not_compared(make_config) -> None:
    config = make_config({"prompt_pool.rank": [2]})
    given = scores(eac=[{1: 1.0}, {1: None}], eac_s_2=[{1: None}, {1: 1.0}])
    with pytest.raises(InputError, match="no period has scores of its models"):
        study_errors(config, config.studies[0], given)


@pytest.mark.parametrize(
    ("vary", "base", "values"),
    [
        ({"prompt_pool.rank": [2, "full"]}, {}, ["6", "2", "full"]),
        ({"prompt_pool.rank": [2]}, {"prompt_pool": None}, ["null", "2"]),
        ({"training.share": [0.2]}, {}, ["0.6", "0.2"]),
        ({"training.share": [0.2]}, {"training": {"share": 0.4}}, ["0.4", "0.2"]),
        ({"training.learning_rate": [0.1]}, {}, ["0.03", "0.1"]),
        ({"training.later.epochs": [3]}, {"training": {"epochs": 9}}, ["9", "3"]),
        ({"training.later.epochs": [3]}, {"training": {"later": {"epochs": 4}}}, ["4", "3"]),
        ({"strategy.first_nodes": [0.5]}, {}, ["1.0", "0.5"]),
        (
            {"strategy.train_old_rows": [False]},
            {"strategy": {"name": "eac", "train_old_rows": True}},
            ["true", "false"],
        ),
        ({"strategy": ["online"]}, {}, ["eac", "online"]),
        ({"backbone.hidden": [8]}, {"backbone": {"name": "stgnn", "hidden": 16}}, ["16", "8"]),
        ({"scaling.transform": ["sqrt"]}, {}, ["none", "sqrt"]),
    ],
)
def test_values_are_written_as_in_the_file_and_the_base_has_its_own(make_config, vary, base, values) -> None:
    config = make_config(vary, **base)
    assert [value for value, _ in study_models(config, config.studies[0])] == values


def test_cases_have_their_names_and_the_base_is_unchanged(make_config) -> None:
    config = make_config(cases={"bare": {"prompt_pool": None, "strategy": "online"}, "mse": {"training.loss": "mse"}})
    found = {value: model.name for value, model in study_models(config, config.studies[0])}
    assert found == {"unchanged": "eac", "bare": "eac_s_bare", "mse": "eac_s_mse"}
    first, *_ = table(config, scores(eac=[{1: 1.0}], eac_s_bare=[{1: 1.0}], eac_s_mse=[{1: 1.0}]))
    assert (first["key"], first["value"]) == ("case", "unchanged")


@pytest.mark.parametrize("key", ["nothing", "nothing.at.all", "training.nothing", "training.later", "strategy.nothing"])
def test_what_a_model_does_not_have_is_none(make_config, key: str) -> None:
    config = make_config({"seed": [2]})
    assert value_in(config, config.models[0], key) is None
