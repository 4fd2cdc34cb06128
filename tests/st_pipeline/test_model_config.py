"""Methods that are compared, studies of one setting, and settings of later periods: what a stream file may say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from st_pipeline.config import StreamConfig
from st_pipeline.model_config import CompareConfig, LaterConfig, ModelConfig, PromptPoolConfig, TrainingConfig, methods

SMALL: dict[str, Any] = {
    "name": "small",
    "source": {"format": "csv", "readings": "r.csv", "columns": {"flow": "q"}},
    "step": "1h",
    "periods": {"every": "month", "start": "2024-01", "end": "2024-04"},
}
EAC: dict[str, Any] = {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 6}, "strategy": "eac"}


def small(**changes: Any) -> StreamConfig:
    return StreamConfig.model_validate({**SMALL, "models": [EAC], **changes})


def problem(**changes: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        small(**changes)
    first = caught.value.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"


def study(**changes: Any) -> dict[str, Any]:
    return {"studies": [{"name": "rank", "of": "eac", "vary": {"prompt_pool.rank": [2, "full"]}, **changes}]}


# Methods to compare with


@pytest.mark.parametrize("name", methods())
def test_every_method_is_a_model_entry(name: str) -> None:
    (model,) = CompareConfig(methods=(name,)).models()
    assert model.name == name
    assert model == ModelConfig.model_validate({**methods()[name], "seeds": [1]})


def test_all_methods_are_compared_unless_some_are_named() -> None:
    assert [model.name for model in small(compare={}).compared] == [name for name in methods() if name != "eac"]
    assert [model.name for model in small(compare={"methods": ["tfmoe", "retrain"]}).compared] == ["tfmoe", "retrain"]
    assert small().compared == ()


def test_a_method_that_the_stream_has_under_models_is_not_made_twice() -> None:
    own = {**EAC, "seed": 7}
    config = small(models=[own], compare={"methods": ["eac", "stkec"]})
    assert [model.name for model in config.every_model] == ["eac", "stkec"]
    assert config.model("eac") is config.models[0]
    assert config.model("eac").seed == 7


def test_every_method_is_trained_with_the_seeds_of_the_comparison() -> None:
    config = small(compare={"methods": ["retrain", "lora"], "seeds": [5, 3]})
    assert [model.runs for model in config.compared] == [(5, 3)] * 2
    assert [model.runs for model in small(compare={"methods": ["lora"]}).compared] == [(1,)]


def test_training_of_the_comparison_goes_over_that_of_a_method() -> None:
    assert methods()["pecpm"]["training"] == {"learning_rate": 0.01}
    plain, faster = (
        small(compare={"methods": ["pecpm"], "training": training}).compared[0].training
        for training in ({"epochs": 3}, {"learning_rate": 0.1})
    )
    assert (plain.epochs, plain.learning_rate) == (3, 0.01)
    assert (faster.epochs, faster.learning_rate) == (None, 0.1)
    (kept,) = small(compare={"methods": ["online_new"], "training": {"epochs": 3}}).compared
    assert kept.training == TrainingConfig(epochs=3, later={"learning_rate": 0.01})


def test_a_champion_is_one_of_the_streams_own_models() -> None:
    assert "'retrain' is no model of the stream" in problem(compare={}, champion="retrain")


@pytest.mark.parametrize(
    ("compare", "expected"),
    [
        ({"methods": ["stkek"]}, "compare.methods: Value error, there is no method 'stkek'; did you mean 'stkec'?"),
        ({"methods": "stkec"}, "compare.methods"),
        ({"method": ["stkec"]}, "compare.method: Extra inputs are not permitted"),
        ({"seeds": []}, "compare.seeds: Tuple should have at least 1 item"),
        ({"seeds": [-1]}, "compare.seeds.0: Input should be greater than or equal to 0"),
        ({"seeds": [1, 1]}, "seeds are [1, 1]; expected each once"),
        ({"training": {"epochs": 0}}, "compare.training.epochs: Input should be greater than or equal to 1"),
        ({"training": {"epoch": 5}}, "compare.training.epoch: Extra inputs are not permitted"),
        ({"training": {"share": 0.7}}, "training.share 0.7 is more than split.train 0.6"),
    ],
)
def test_any_other_comparison_is_refused(compare: dict[str, Any], expected: str) -> None:
    assert expected in problem(compare=compare)


# Studies


def test_variants_differ_from_the_base_in_the_varied_key_alone() -> None:
    config = small(models=[{**EAC, "seeds": [4, 2]}], **study())
    variants = config.studied["rank"]
    assert list(variants) == [2, "full"]
    for value, model in variants.items():
        assert model.prompt_pool is not None and model.prompt_pool.rank == value
        changed = {"name": model.name, "prompt_pool": {"rank": value}}
        assert model == ModelConfig.model_validate({**EAC, "seeds": [4, 2], **changed})


def test_variants_are_called_by_base_study_and_value() -> None:
    names = {model.name for model in small(**study()).studied["rank"].values()}
    assert names == {"eac_rank_2", "eac_rank_full"}
    share = study(name="few", vary={"training.share": [0.2, 0.05]})
    assert [model.name for model in small(**share).every_model] == ["eac", "eac_few_0_2", "eac_few_0_05"]


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("training.share", [0.2, 0.4]),
        ("training.later.epochs", [1, 2]),
        ("strategy.first_nodes", [0.5, 1.0]),
        ("strategy", ["eac", "online"]),
        ("backbone.hidden", [8, 16]),
        ("seed", [1, 2]),
        ("protocol", ["sound", "paper"]),
    ],
)
def test_a_dotted_key_reaches_sections_that_the_base_leaves_out(key: str, values: list[Any]) -> None:
    variants = small(**study(vary={key: values})).studied["rank"]
    for value in values:
        found: Any = {"strategy": variants[value].strategy.spec(), "backbone": variants[value].backbone.spec()}
        found = {**variants[value].model_dump(), **found}
        for part in key.split("."):
            found = found[part]
        assert found in (value, {"name": value})


def test_cases_change_several_keys_together() -> None:
    cases = {"plain": {"prompt_pool": None, "strategy": "online"}, "squares": {"training.loss": "mse"}}
    config = small(**study(vary={}, cases=cases))
    plain, squares = config.studied["rank"].values()
    assert (plain.name, plain.parts, plain.strategy.name) == ("eac_rank_plain", ("backbone",), "online")
    assert (squares.name, squares.parts, squares.training.loss) == (
        "eac_rank_squares",
        ("backbone", "prompt_pool"),
        "mse",
    )
    assert (config.studies[0].key, config.studies[0].values) == ("case", ("plain", "squares"))


@pytest.mark.parametrize("own", [{"seed": 4}, {"seeds": [4, 5]}, {}])
def test_a_study_has_seeds_of_its_own_or_those_of_the_model(own: dict[str, Any]) -> None:
    models = [{**EAC, **own}]
    given = small(models=models, **study(seeds=[7, 8])).studied["rank"]
    assert {model.runs for model in given.values()} == {(7, 8)}
    kept = small(models=models, **study()).studied["rank"]
    assert {model.runs for model in kept.values()} == {ModelConfig.model_validate(models[0]).runs}


def test_a_case_may_change_nothing() -> None:
    (same,) = small(**study(vary={}, cases={"as_shipped": {}})).studied["rank"].values()
    assert same.model_copy(update={"name": "eac"}) == small().model("eac")


def test_a_compared_method_can_be_studied() -> None:
    config = small(compare={"methods": ["stkec"]}, **study(of="stkec", vary={"training.later.learning_rate": [0.1]}))
    (model,) = config.studied["rank"].values()
    assert (model.name, model.backbone.name, model.runs) == ("stkec_rank_0_1", "stkec", (1,))
    assert config.model("stkec_rank_0_1") is model


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"of": "eca"}, "study 'rank': there is no model 'eca'; did you mean 'eac'?"),
        ({"of": "stkec"}, "study 'rank': there is no model 'stkec'"),
        (
            {"vary": {"prompt_pool.rank": [2, 0]}},
            "study 'rank', prompt_pool.rank = 0: prompt_pool.rank: Value error, expected a whole number of at least 1",
        ),
        ({"vary": {"prompt_pool.rnk": [2]}}, "study 'rank', prompt_pool.rnk = 2: prompt_pool.rnk: Extra inputs"),
        ({"vary": {"promt_pool.rank": [2]}}, "study 'rank', promt_pool.rank = 2: promt_pool: Extra inputs"),
        ({"vary": {"training.epochs": ["5"]}}, "study 'rank', training.epochs = '5': training.epochs: Input should"),
        (
            {"vary": {"strategy.frist_nodes": [0.5]}},
            "study 'rank', strategy.frist_nodes = 0.5: strategy: strategy 'eac': it has no option 'frist_nodes'; "
            "did you mean 'first_nodes'?",
        ),
        ({"vary": {"strategy.freeze": [1]}}, "study 'rank', strategy.freeze = 1: strategy: strategy 'eac': option"),
        ({"vary": {"backbone.name": ["x" * 60]}}, f"study 'rank', backbone.name = '{'x' * 60}': name: Value error"),
        ({"vary": {"training.share": [0.7]}}, "model 'eac_rank_0_7': training.share 0.7 is more than split.train"),
        ({"vary": {"prompt_pool.rank": [1], "seed": [1]}}, "studies.0.vary: Dictionary should have at most 1 item"),
        ({"vary": {"seed": 1}}, "studies.0.vary.seed: Input should be a valid tuple"),
        ({"vary": {}}, "studies.0: Value error, expected either 'vary', one key with its values, or 'cases'"),
        ({"cases": {"one": {"seed": 2}}}, "studies.0: Value error, expected either 'vary', one key with its values"),
        ({"vary": {}, "cases": {"One": {"seed": 2}}}, "studies.0.cases.One"),
        ({"vary": {}, "cases": {"one": {"sede": 2}}}, "study 'rank', case = 'one': sede: Extra inputs"),
        ({"name": "a b"}, "studies.0.name: Value error, expected lower-case letters"),
        ({"base": "eac"}, "studies.0.base: Extra inputs are not permitted"),
    ],
)
def test_any_other_study_is_refused(changes: dict[str, Any], expected: str) -> None:
    assert expected in problem(**study(**changes))


def test_the_base_of_a_study_may_have_no_setting_that_rules_the_varied_one_out() -> None:
    both = problem(models=[{**EAC, "seeds": [1, 2]}], **study(vary={"seed": [3]}))
    assert "study 'rank', seed = 3: seed: Value error, both 'seed' and 'seeds' are given" in both


def test_names_of_studies_and_their_models_are_taken_once() -> None:
    assert "two studies are called 'rank'" in problem(studies=study()["studies"] * 2)
    assert "two models are called 'eac_rank_2'" in problem(models=[EAC, {**EAC, "name": "eac_rank_2"}], **study())


# Periods after the first


@pytest.mark.parametrize(
    ("later", "expected"),
    [
        ({"epochs": 0}, "models.0.training.later.epochs: Input should be greater than or equal to 1"),
        ({"epochs": "5"}, "models.0.training.later.epochs: Input should be a valid integer"),
        ({"learning_rate": 0}, "models.0.training.later.learning_rate: Input should be greater than 0"),
        ({"patience": -1}, "models.0.training.later.patience: Input should be greater than or equal to 0"),
        ({"decay": "linear"}, "models.0.training.later.decay: Input should be 'none', 'cosine' or 'steps'"),
        (
            {"decay": "steps"},
            "models.0.training.later: Value error, 'decay: steps' and 'milestones', epochs in rising order",
        ),
        (
            {"milestones": [3]},
            "models.0.training.later: Value error, 'decay: steps' and 'milestones', epochs in rising order",
        ),
        (
            {"decay": "steps", "milestones": [3, 2]},
            "models.0.training.later: Value error, milestones are [3, 2]; expected epochs from 1 on, rising",
        ),
        (
            {"decay": "steps", "milestones": [0]},
            "models.0.training.later: Value error, milestones are [0]; expected epochs from 1 on, rising",
        ),
        ({"factor": 0.5}, "models.0.training.later: Value error, 'factor' is that of 'decay: steps'"),
        ({"clip": 0}, "models.0.training.later.clip: Input should be greater than 0"),
        ({"batch": 8}, "models.0.training.later.batch: Extra inputs are not permitted"),
        ({"share": 0.2}, "models.0.training.later.share: Extra inputs are not permitted"),
        ({"loss": "mse"}, "models.0.training.later.loss: Extra inputs are not permitted"),
        ({"later": {}}, "models.0.training.later.later: Extra inputs are not permitted"),
        (5, "models.0.training.later: Input should be"),
    ],
)
def test_settings_that_cannot_differ_later_are_refused(later: Any, expected: str) -> None:
    assert problem(models=[{**EAC, "training": {"later": later}}]).startswith(expected)


def test_settings_of_later_periods_are_among_what_a_model_depends_on() -> None:
    sections = [
        str(config.model_section(config.models[0]))
        for training in ({}, {"later": {"epochs": 2}}, {"later": {"epochs": 3}}, {"epochs": 2})
        for config in [small(models=[{**EAC, "training": training}])]
    ]
    assert len(set(sections)) == 4


@pytest.mark.parametrize(
    ("vary", "expected"),
    [
        ({"prompt_pool.rank": []}, "study 'rank', prompt_pool.rank: there are no values; give at least one"),
        ({"seasonal": [["1d"]]}, "study 'rank', seasonal: found ['1d'], expected plain values; name it under 'cases'"),
        ({"prompt_pool": [{"rank": 2}]}, "study 'rank', prompt_pool: found {'rank': 2}, expected plain values"),
        ({"prompt_pool.rank": [2, 2]}, "study 'rank', prompt_pool.rank: two values would be called '2'"),
        ({"training.learning_rate": [0.1, "0_1"]}, "two values would be called '0_1'"),
        ({"name": ["one", "two"]}, "study 'rank': a study names its models itself; vary another key than 'name'"),
        ({"seed.of": [1]}, "study 'rank', seed.of = 1: 'seed' of the model has no keys of its own"),
        ({"backbone.name.x": [1]}, "study 'rank', backbone.name.x = 1: 'name' of the model has no keys of its own"),
    ],
)
def test_values_that_make_no_variants_are_refused(vary: dict[str, Any], expected: str) -> None:
    assert expected in problem(models=[{**EAC, "seed": 1}], **study(vary=vary))


def test_a_section_that_the_base_rules_out_can_be_varied() -> None:
    models = [{**EAC, "prompt_pool": None, "training": {"later": None}}]
    config = small(models=models, **study(vary={"training.later.epochs": [2]}))
    assert config.studied["rank"][2].training.later == LaterConfig(epochs=2)
    (pool,) = small(models=models, **study(vary={"prompt_pool.rank": [3]})).studied["rank"].values()
    assert pool.prompt_pool == PromptPoolConfig(rank=3)


# The relearner of a model


def relearner(**options: Any) -> dict[str, Any]:
    return {"models": [{**EAC, "relearner": options}]}


def test_a_relearner_is_the_published_one_unless_said_otherwise() -> None:
    found = small(**relearner()).models[0].relearner
    assert found is not None
    assert found.model_dump(exclude={"label_encoder"}) == {
        "reads": "residual",
        "share_core": True,
        "cores": 0,
        "dropout": 0.3,
        "layers": 2,
        "kernels": ("adaptive",),
        "rank": 10,
        "gate_by": "source",
        "hidden": 256,
        "zero_init": True,
    }
    assert found.label_encoder is None
    labels = small(**relearner(label_encoder={"residual": 0.0})).models[0].relearner.label_encoder
    assert labels.model_dump() == {"base": 0.5, "inverse": 0.1, "residual": 0.0}


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"reads": "labels"}, "reads"),
        ({"share_core": 1}, "share_core"),
        ({"cores": -1}, "cores"),
        ({"layers": 1.5}, "layers"),
        ({"kernels": []}, "kernels"),
        ({"kernels": ["adaptive", "adaptive"]}, ""),
        ({"kernels": ["distance"]}, "kernels.0"),
        ({"dropout": 1.0}, "dropout"),
        ({"label_encoder": {"inverse": -0.1}}, "label_encoder.inverse"),
        ({"label_encoder": {"weight": 1}}, "label_encoder.weight"),
        ({"reads": "embedding", "label_encoder": {}}, ""),
        ({"smoothing": False}, "smoothing"),
    ],
)
def test_any_other_relearner_is_refused(options: dict[str, Any], where: str) -> None:
    assert problem(**relearner(**options)).startswith(f"models.0.relearner{'.' if where else ''}{where}: ")


def test_a_second_core_and_adapters_are_refused_together() -> None:
    model = {**EAC, "lora": {}, "relearner": {"share_core": False}}
    assert "adapters do not reach a second core" in problem(models=[model])
    small(models=[{**EAC, "lora": {}, "relearner": {}}])


def test_the_section_of_a_model_without_a_relearner_does_not_know_of_it() -> None:
    config = small()
    assert "relearner" not in str(config.model_section(config.models[0]))
    sections = [small(**relearner(**options)) for options in ({}, {"layers": 0}, {"label_encoder": {}})]
    assert len({str(config.model_section(config.models[0])) for config in sections}) == 3


def test_a_seasonal_skip_mixes_seasonal_lags_and_needs_them() -> None:
    found = small(models=[{**EAC, "seasonal": ["7d"], "seasonal_skip": True}])
    assert found.models[0].parts == ("backbone", "prompt_pool", "seasonal_skip")
    told = problem(models=[{**EAC, "seasonal_skip": True}])
    assert told.startswith("models.0: there is no season to mix; give `seasonal` lags")


def test_the_section_of_a_model_without_a_skip_does_not_know_of_it() -> None:
    without, with_false = small(models=[EAC]), small(models=[{**EAC, "seasonal_skip": False}])
    section = without.model_section(without.models[0])
    assert "seasonal_skip" not in str(section)
    assert with_false.model_section(with_false.models[0]) == section


def test_a_relearner_can_be_studied() -> None:
    cases = {
        "control": {"relearner.reads": "stacked"},
        "smooth_no_more": {"relearner.layers": 0},
        "bare": {"relearner": None},
    }
    found = small(**relearner(), studies=[{"name": "parts", "of": "eac", "cases": cases}]).studied["parts"]
    assert found["control"].relearner.reads == "stacked"
    assert found["smooth_no_more"].relearner.layers == 0
    assert found["bare"].relearner is None
