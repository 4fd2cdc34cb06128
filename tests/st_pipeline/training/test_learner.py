"""A model's life is the same in every run, is stored whole, and refuses a past that is not its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.errors import InputError
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.checkpoint import CHECKPOINTS, Checkpoint, same_weights
from st_pipeline.training.compute import Compute
from st_pipeline.training.forecasts import validation_error
from st_pipeline.training.learner import Learner
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, NodeSet

Parts = dict[str, Checkpoint]
CALENDAR = {"backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2}, "seasonal": ["1d", "7d"]}
MODELS: dict[str, dict[str, Any]] = {
    "eac": {"strategy": "eac"},
    "calendar": {"strategy": "eac", **CALENDAR},
    "retrain": {"strategy": "retrain"},
    "bare": {"strategy": "online", "prompt_pool": None},
    "sqrt": {"strategy": "online", "scaling": {"transform": "sqrt", "per": "network"}},
    "paper": {"strategy": "eac", "protocol": "paper"},
    "lora": {"strategy": "lora", "lora": {"rank": 2}},
    "relearner": {"strategy": "eac", "relearner": {"hidden": 8, "cores": 2, "dropout": 0.1}},
    "second_core": {"strategy": "prompt_tuning", "prompt_pool": None, "relearner": {"hidden": 8, "share_core": False}},
    "skip": {"strategy": "eac", "seasonal": ["1d"], "seasonal_skip": True, "relearner": {"hidden": 8}},
    "few_shot": {"strategy": "eac", "training": {"epochs": 2, "batch": 64, "share": 0.2}},
}
FEW: dict[str, dict[str, Any]] = {  # models that learn from a fifth of a period
    name: {**MODELS[name], "training": {"epochs": 2, "batch": 64, "share": 0.2}}
    for name in ("eac", "calendar", "paper")
}


@pytest.fixture
def history(make_stream, make_history) -> list[PeriodData]:
    return list(make_history(make_stream()).values())


@pytest.fixture
def live(compute) -> Callable[..., list[Parts]]:
    def make(learner: Learner, periods: list[PeriodData]) -> list[Parts]:
        lives: list[Parts] = []
        for data in periods:
            lives.append(learner.learn(data, lives[-1] if lives else None, compute=compute))
        return lives

    return make


def digests(parts: Parts) -> dict[str, str]:
    return {name: checkpoint.digest for name, checkpoint in parts.items()}


def changed(data: PeriodData, steps: slice, *, seed: int = 0) -> PeriodData:
    """The period with other readings in some of its steps."""
    values = data.tensor.values.copy()
    values[steps] = np.random.default_rng(seed).uniform(0, 1e4, values[steps].shape) * (values[steps] > 0)
    return replace(data, tensor=replace(data.tensor, values=values))


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_a_life_is_the_same_in_every_run(make_learner, history, live, compute, options) -> None:
    learner = make_learner(**options)
    first = live(learner, history[:2])
    torch.rand(5)
    again = learner.learn(history[0], None, compute=compute)
    stored = {name: CHECKPOINTS.load(CHECKPOINTS.dump({1: part}))[1] for name, part in again.items()}
    later = learner.learn(history[1], stored, compute=compute)
    assert digests(again) == digests(first[0])
    assert digests(later) == digests(first[1])
    assert tuple(later) == learner.model.parts


def test_another_seed_gives_another_model(make_learner, history, live) -> None:
    one, other = (live(make_learner("eac", seed=seed), history[:1])[0] for seed in (1, 2))
    assert not same_weights(one["backbone"], other["backbone"])
    assert not same_weights(one["prompt_pool"], other["prompt_pool"])


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_a_restored_model_forecasts_as_the_trained_one_did(make_learner, history, live, options) -> None:
    learner = make_learner(**options)
    for parts, data in zip(live(learner, history), history, strict=True):
        trained = learner.restore(parts)
        part = learner.arrays(data).part("validation", trained.scaler)
        settings = Settings.of(learner.arrays(data).protocol, learner.model.training)
        facts = parts["backbone"].facts
        best = facts["validation_error"][facts["best_epoch"] - 1]
        error = validation_error(trained.forecaster, part, data.graph, settings)
        assert error == pytest.approx(best, rel=1e-6)  # torch adds frozen layers up in another order


def test_the_test_part_does_not_enter(make_learner, history, live) -> None:
    for options in MODELS.values():
        learner = make_learner(**options)
        test = slice(int(0.8 * len(history[0].tensor.times)), None)
        one, other = (live(learner, [data])[0] for data in (history[0], changed(history[0], test)))
        for name, part in one.items():
            assert same_weights(part, other[name])
            assert part.facts["data"] != other[name].facts["data"]


@pytest.mark.parametrize("options", FEW.values(), ids=FEW.keys())
def test_nothing_behind_its_share_is_read_in_training(make_learner, history, live, options) -> None:
    learner = make_learner(**options)
    length = len(history[0].tensor.times)
    behind, before = slice(int(0.2 * length), int(0.6 * length) - 7 * 24), slice(int(0.2 * length) - 1, None)
    one, other, more = (
        live(learner, [data, history[1]])
        for data in (history[0], changed(history[0], behind), changed(history[0], before))
    )
    for mine, same, different in zip(one, other, more, strict=True):
        assert all(same_weights(part, same[name]) for name, part in mine.items())
        for kind in ("train_loss", "validation_error"):
            assert mine["backbone"].facts[kind] == same["backbone"].facts[kind]
        assert not same_weights(mine["backbone"], different["backbone"])


def test_a_strategy_sees_no_more_of_a_period_than_the_share(make_learner, history, compute, monkeypatch) -> None:
    seen = []
    monkeypatch.setattr(Strategy, "select", lambda self, period, nodes: seen.append(period) or Selection())
    learner = make_learner("online", training={"epochs": 1, "share": 0.2})
    first = learner.learn(history[0], None, compute=compute)
    learner.learn(history[1], first, earlier=history[0], compute=compute)
    networks = [seen[0].network, seen[1].network, seen[1].previous]
    steps = [len(data.tensor.times) // 5 for data in (*history[:2], history[0])]
    assert [len(network.train.truth) for network in networks] == steps
    assert [len(network.train.starts) for network in networks] == [length - 6 - 4 + 1 for length in steps]


def test_validation_data_only_choose_the_epoch(make_learner, history, live) -> None:
    learner = make_learner("online", training={"epochs": 2, "patience": 99})
    length = len(history[0].tensor.times)
    validation = slice(int(0.6 * length), int(0.8 * length))
    one, other = (live(learner, [data])[0]["backbone"] for data in (history[0], changed(history[0], validation)))
    assert one.facts["train_loss"] == other.facts["train_loss"]
    assert one.facts["validation_error"] != other.facts["validation_error"]
    for name, value in one.under("scaler").items():
        assert torch.equal(value, other.under("scaler")[name])


def test_facts_say_what_a_part_is_and_cost_what_it_took(make_learner, history, live) -> None:
    learner = make_learner("eac")
    first, second, _ = live(learner, history)
    facts = second["prompt_pool"].facts
    assert facts["nodes"] == list(history[1].nodes.ids)
    assert facts["cold"] == {"nodes": ["b"]}
    assert facts["parent"] == digests(first)
    assert facts["sibling"] == second["backbone"].facts["sibling"]
    assert (facts["part"], facts["period"], facts["index"]) == ("prompt_pool", "2024-01-22", 1)
    assert facts["trainable"] == 2 * (len(history[1].nodes) + 6) < facts["parameters"]
    assert first["backbone"].facts["trainable"] == first["backbone"].facts["parameters"]
    cost = second["backbone"].cost
    assert cost["epochs"] == len(facts["train_loss"]) == 2
    assert cost["device"] == "cpu"
    assert min(cost["seconds"], cost["peak_bytes"], cost["milliseconds_per_forecast"]) > 0


def test_facts_hold_what_was_watched_of_prompts_alone(make_learner, history, live) -> None:
    for parts in live(make_learner("eac"), history[:2]):
        for part in parts.values():
            assert part.facts["watched"].keys() == {"deviation", "share_6"}
            assert all(len(values) == len(part.facts["train_loss"]) for values in part.facts["watched"].values())
    (bare,) = live(make_learner("online", prompt_pool=None), history[:1])
    assert "watched" not in bare["backbone"].facts
    (untrained,) = live(make_learner("pretrain"), history[:2])[1:]
    assert "watched" not in untrained["backbone"].facts


def test_periods_after_the_first_are_trained_as_their_own_settings_say(make_learner, history, live) -> None:
    training = {"epochs": 2, "batch": 64, "patience": 99}
    plain, later = (
        live(make_learner("online", training=given), history)
        for given in (training, {**training, "later": {"epochs": 1, "learning_rate": 0.001}})
    )
    assert same_weights(plain[0]["backbone"], later[0]["backbone"])
    assert [len(parts["backbone"].facts["train_loss"]) for parts in later] == [2, 1, 1]
    assert not same_weights(plain[1]["backbone"], later[1]["backbone"])


def test_progress_is_told_epoch_by_epoch(make_learner, history, compute) -> None:
    told = []
    make_learner("online").learn(history[0], None, compute=compute, progress=told.append)
    assert [epoch.index for epoch in told] == [1, 2]


def test_sensors_that_left_are_stored_and_found_again(make_learner, history, live) -> None:
    learner = make_learner("eac", scaling={"per": "sensor"})
    first, second, third = live(learner, history)
    rows = dict(zip("abcde", first["prompt_pool"].tensors["weights.nodes.rows"], strict=True))
    assert torch.equal(second["prompt_pool"].tensors["weights.nodes.cold"][0], rows["b"])
    trained = learner.restore(second)
    before = learner.restore(first).scaler
    assert set(trained.scaler.others) == {"b"}
    assert torch.equal(trained.scaler.others["b"][0], before.mean[1])
    assert torch.equal(trained.scaler.others["b"][1], before.scale[1])
    trained.forecaster.expand(history[0].nodes)
    assert torch.equal(trained.forecaster.prompts.nodes()[1], rows["b"])
    assert third["prompt_pool"].facts["cold"] == {"nodes": ["e"]}


def test_without_anything_to_tune_nothing_is_trained(make_learner, history, live) -> None:
    learner = make_learner({"name": "eac", "train_old_rows": False, "train_basis": "first"})
    fewer = NodeSet(history[1].period.key, ("a", "c"), retired=("b", "d", "e"), births=dict.fromkeys("abcde", "1"))
    graph = Graph.from_edges([0], [1], [1.0], num_nodes=2)
    tensor = replace(history[1].tensor, sensor_ids=fewer.ids)
    tensor = replace(tensor, values=tensor.values[:, :2], flags=tensor.flags[:, :2])
    shrunk = PeriodData(history[1].period, fewer, tensor, graph)
    first, second = live(learner, [history[0], shrunk])
    assert second["backbone"].facts["train_loss"] == []
    assert second["backbone"].cost["epochs"] == 0
    rows = first["prompt_pool"].tensors["weights.nodes.rows"]
    assert torch.equal(second["prompt_pool"].tensors["weights.nodes.rows"], rows[[0, 2]])


@pytest.mark.parametrize("part", ["train", "validation"])
def test_a_part_without_readings_is_told_before_training(make_learner, history, live, part: str) -> None:
    data = history[0]
    cuts = {"train": slice(0, 302), "validation": slice(302, 403)}
    data.tensor.flags[cuts[part]] = MISSING
    with pytest.raises(InputError, match=f"no reading of the target is usable in its {part} part"):
        live(make_learner("online"), [data])


def test_a_network_of_odd_sensors_trains_to_finite_forecasts(make_learner, make_stream, make_history, live) -> None:
    columns = {"flow": "q", "wind": "w", "rain": "x"}
    source = {"format": "parquet", "readings": "r", "sensors": "s", "columns": columns}
    stream = {"source": source, "target": "flow", "inputs": list(columns)}
    learner = make_learner("eac", stream=stream, **CALENDAR)
    history = list(make_history(learner.stream).values())
    for data in history:
        values, flags = data.tensor.values, data.tensor.flags
        values[:, 0, 0], flags[:, 0, 0] = 0.0, OBSERVED  # never anything but zero
        flags[:400, 1, 0] = MISSING  # comes late in the period
        flags[:, 2, 0] = MISSING  # is never heard
        flags[:300, :, 1] = MISSING  # a channel that begins after training
        values[:, :, 1] *= 1000
        values[:302, :, 2], values[302:, :, 2] = 0.0, 500.0  # a channel that wakes up after training
        flags[:, :, 2] = OBSERVED
    for parts, data in zip(live(learner, history), history, strict=True):
        trained = learner.restore(parts)
        part = learner.arrays(data).part("test", trained.scaler)
        window, _ = part.windows.gather(part.starts)
        forecast = part.restore(trained.forecaster(window, data.graph))
        assert forecast.isfinite().all()
        assert forecast.abs().max() < 10 * data.tensor.values[..., 0].max()


# The past of a model


def test_its_own_last_period_is_accepted(make_learner, history, live) -> None:
    learner = make_learner("eac")
    parts = live(learner, history[:1])[0]
    learner.verify(parts, expected_period="2024-01-01", data_digest=history[0].digest)
    learner.verify(parts, expected_period="2024-01-01", data_digest=None)


@pytest.mark.parametrize(
    ("case", "problem"),
    [
        ("configuration", "small/model/backbone of 2024-01-01 was trained with another configuration"),
        ("period", "small/model/backbone of 2024-01-22 is of period 2024-01-01"),
        ("data", "small/model/backbone of 2024-01-01 was trained on data that have changed since"),
        ("sibling", "small/model/prompt_pool of 2024-01-01 is from another training than its backbone"),
        ("missing", "small/model/prompt_pool of 2024-01-01 is missing"),
        ("nothing", "small/model/backbone of 2024-01-01 is missing"),
    ],
)
def test_a_past_that_is_not_its_own_is_refused(make_learner, history, live, case: str, problem: str) -> None:
    learner = make_learner("eac")
    parts = live(learner, history[:1])[0]
    period, digest = "2024-01-01", history[0].digest
    if case == "configuration":
        learner = make_learner("eac", training={"epochs": 3})
    elif case == "period":
        period = "2024-01-22"
    elif case == "data":
        digest = changed(history[0], slice(5, 6)).digest
    elif case == "sibling":
        other = live(learner, [changed(history[0], slice(5, 6))])[0]
        facts = {**other["prompt_pool"].facts, "data": digest}
        parts = {**parts, "prompt_pool": replace(other["prompt_pool"], facts=facts)}
    elif case == "missing":
        parts = {"backbone": parts["backbone"]}
    elif case == "nothing":
        parts = {}
    with pytest.raises(InputError) as caught:
        learner.verify(parts, expected_period=period, data_digest=digest)
    assert str(caught.value) == f"{problem}; materialise small/model of {period} first"


@pytest.mark.parametrize(
    "change",
    [
        lambda data: changed(data, slice(3, 4)),
        lambda data: replace(
            data, tensor=replace(data.tensor, flags=np.where(data.tensor.flags, 0, 1).astype(np.uint8))
        ),
        lambda data: replace(data, graph=Graph(5, data.graph.row, data.graph.column, data.graph.weight + 0.1)),
        lambda data: replace(data, nodes=replace(data.nodes, ids=data.nodes.ids[::-1])),
        lambda data: replace(data, tensor=replace(data.tensor, times=data.tensor.times + 3600)),
    ],
    ids=["values", "flags", "graph", "nodes", "times"],
)
def test_the_digest_of_a_period_stands_for_all_its_data(history, make_stream, make_history, change) -> None:
    assert change(history[0]).digest != history[0].digest
    assert next(iter(make_history(make_stream()).values())).digest == history[0].digest


@pytest.mark.parametrize(
    "options",
    [
        {"backbone": {"name": "stgnn", "hidden": 9}},
        {"backbone": {"name": "stgnn", "hidden": 8, "calendar": True}},
        {"prompt_pool": {"rank": 3}},
    ],
)
def test_weights_of_another_architecture_are_refused_in_one_sentence(make_learner, history, live, options) -> None:
    parts = live(make_learner("online"), history[:1])[0]
    with pytest.raises(InputError, match="small/model: the stored weights do not fit the model") as caught:
        make_learner("online", **options).restore(parts)
    assert "\n" not in str(caught.value)


def test_a_model_too_large_for_the_budget_is_never_built(make_learner, history, monkeypatch) -> None:
    built, build = [], Learner.build

    def spied(self: Learner, num_nodes: int) -> Any:
        built.append(torch.get_default_device().type)
        return build(self, num_nodes)

    monkeypatch.setattr(Learner, "build", spied)
    learner = make_learner("online")
    compute = Compute(device="cpu", threads=1, memory_gib=learner.need(history[0]).least / 2 / (1 << 30))
    with pytest.raises(InputError, match="small/model of 2024-01-01: needs about"):
        learner.learn(history[0], None, compute=compute)
    assert set(built) == {"meta"}  # where nothing takes memory


def test_the_estimate_grows_with_the_network_and_the_batch(make_learner, history) -> None:
    def bytes_of(batch: int, data: PeriodData) -> int:
        need = make_learner("online", training={"batch": batch}).need(data)
        return need.plan(1 << 40, threads=1, gpu=False).bytes

    assert 0 < bytes_of(8, history[0]) < bytes_of(512, history[0])
    assert bytes_of(8, history[0]) < bytes_of(8, history[2])


def test_a_small_budget_trains_the_same_model_in_smaller_pieces(make_learner, history) -> None:
    learner, told = make_learner("online"), []
    need = learner.need(history[0])
    budget = (need.least + 20 * need.per_window) / (1 << 30)
    plenty, little = (Compute(device="cpu", threads=1, memory_gib=limit) for limit in (None, budget))
    usual, small = (learner.learn(history[0], None, compute=compute, log=told.append) for compute in (plenty, little))
    assert [line.split(", ")[1] for line in told] == ["64 windows at a time", "21 windows at a time"]
    assert small["backbone"].cost["estimated_bytes"] < usual["backbone"].cost["estimated_bytes"]
    for kind in ("train_loss", "validation_error"):
        assert small["backbone"].facts[kind] == pytest.approx(usual["backbone"].facts[kind], rel=1e-5)


def test_the_estimate_counts_both_passes_of_a_relearner(make_learner, history) -> None:
    bare, wrapped, second = (
        make_learner("online", relearner=options).need(history[0])
        for options in (None, {"hidden": 8}, {"hidden": 8, "share_core": False})
    )
    assert wrapped.per_window > 1.5 * bare.per_window
    assert second == wrapped
    assert not make_learner("online", relearner={"cores": 2}).need(history[0]).divisible
