"""TFMoE: planted families end in different experts, new sensors go to their family's, and what was known is held."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest
import torch

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import MISSING, OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError
from st_pipeline.models.backbones.tfmoe import SLOTS, Reconstructors, TFMoE, Weeks
from st_pipeline.strategies import strategies
from st_pipeline.strategies.tfmoe import MixtureOfExperts, departure, mixture_of, usual_weeks
from st_pipeline.training.checkpoint import Checkpoint, same_weights
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph, NodeSet

QUICK = {"name": "tfmoe", "pretraining": 60}
MIXTURE = {"name": "tfmoe", "experts": 2, "hidden": 4}
PEAK = {"d": 9, "n": 18}  # hour at which a family's readings are highest, by the first letter of a sensor's id
FIRST = ("d0", "d1", "d2", "d3", "d4", "n0", "n1", "n2", "n3", "n4")
SECOND = ("d0", "d1", "d2", "d3", "n0", "n1", "n2", "n3", "n4", "d5", "n5", "d6")  # d4 leaves


def readings(names: Iterable[str], hours: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """(L, N): a day with one peak, the higher at weekends the higher the sensor's number."""
    columns = []
    for name in names:
        daily = np.cos(2 * np.pi * (hours - PEAK[name[0]]) / 24)
        weekend = 0.02 * int(name[1]) * (hours // 24 % 7 > 4)
        columns.append(50 + 30 * daily * (1 + weekend) + random.normal(0, 3, len(hours)))
    return np.abs(np.stack(columns, axis=1))


@pytest.fixture
def make_period(make_stream) -> Callable[..., PeriodData]:
    """`make_period(index, names, before=(), changed={})`: `changed` sensors read like a sensor of another name."""

    def make(
        index: int, names: tuple[str, ...], before: tuple[str, ...] = (), changed: dict[str, str] | None = None
    ) -> PeriodData:
        stream = make_stream()
        period = stream.calendar.periods()[index]
        hours = np.arange(round(period.days * 24))
        random = np.random.default_rng(index)
        shown = [(changed or {}).get(name, name) for name in names]
        values = readings(shown, hours, random)[..., None].astype(np.float32)
        flags = np.where(random.random(values.shape) < 0.1, MISSING, OBSERVED).astype(np.uint8)
        values[flags == MISSING] = 0
        times = int(period.start.timestamp()) + 3600 * hours.astype(np.int64)
        tensor = SeriesTensor(period.key, names, stream.input_names, stream.timezone, values, flags, times)
        added = tuple(name for name in names if name not in before)
        retired = tuple(name for name in before if name not in names)
        nodes = NodeSet(period.key, names, added, retired=retired, births=dict.fromkeys({*names, *before}, period.key))
        ring = np.arange(len(names))
        graph = Graph.from_edges(ring, (ring + 1) % len(ring), np.full(len(ring), 0.5), num_nodes=len(ring))
        return PeriodData(period, nodes, tensor, graph)

    return make


@pytest.fixture
def learner(make_learner) -> Learner:
    return make_learner(QUICK, backbone=MIXTURE, prompt_pool=None)


@pytest.fixture
def begun(learner, make_period, make_arrival) -> tuple[TFMoE, MixtureOfExperts]:
    """A mixture that was prepared for the first period, and its strategy."""
    torch.manual_seed(0)
    data, strategy = make_period(0, FIRST), strategies.build(QUICK)
    return strategy.prepare(learner.build(len(FIRST)), make_arrival(learner, data), data.nodes), strategy


@pytest.fixture
def proceed(begun, learner, make_period, make_arrival) -> Callable[..., tuple[TFMoE, MixtureOfExperts, Any]]:
    """`proceed(names, changed={}, **options)`: the next period of that model with a strategy of these options."""

    def make(names: tuple[str, ...] = SECOND, changed: dict[str, str] | None = None, **options: Any) -> Any:
        data = make_period(1, names, FIRST, changed)
        arrival, strategy = make_arrival(learner, data), strategies.build({**QUICK, **options})
        model = strategy.prepare(copy.deepcopy(begun[0]), arrival, data.nodes)
        return model, strategy, strategy.select(arrival, data.nodes)

    return make


def expert_of(model: TFMoE) -> dict[str, int]:
    return dict(zip(model.profiles.ids, model.gates().argmax(0).tolist(), strict=True))


def test_families_end_in_different_experts_of_equal_size(begun) -> None:
    model, strategy = begun
    experts = expert_of(model)
    assert {experts[name] for name in FIRST if name[0] == "d"} == {experts["d0"]}
    assert {experts[name] for name in FIRST if name[0] == "n"} == {1 - experts["d0"]}
    assert model.gates().max(0).values.min() > 0.9
    assert strategy.lesson.experts.tolist() == [experts[name] for name in FIRST]
    assert strategy.lesson.experts.bincount().tolist() == [5, 5]
    weeks = model.profiles.weeks()
    found = model.reconstructors.decode(model.reconstructors.encode(weeks)[0])
    error = ((found - weeks.values) ** 2 * weeks.observed).mean(-1)  # (K, N)
    own, other = (error[strategy.lesson.experts.ne(swap).long(), torch.arange(10)] for swap in (0, 1))
    variance = (weeks.values**2 * weeks.observed).mean(-1)
    assert (own < 0.3 * variance).all()
    assert (other > 0.6 * variance).all()


@pytest.mark.parametrize("seed", range(3))
def test_families_that_noise_covers_are_told_apart(seed: int) -> None:
    """A daily swing of half the noise, which no slot shows by itself."""
    torch.manual_seed(seed)
    family = torch.tensor([0, 1]).repeat(20)
    swing = 0.5 * torch.sin(torch.arange(SLOTS) * 2 * torch.pi / 24)
    values = (2 * family[:, None] - 1) * swing + torch.randn(40, SLOTS)
    strategy = strategies.build("tfmoe")
    strategy._begin(Reconstructors(2, 8), Weeks(values, torch.ones_like(values)))
    assert len(set(zip(family.tolist(), strategy.lesson.experts.tolist(), strict=True))) == 2


def test_groups_are_balanced_where_families_are_not(learner, make_period, make_arrival) -> None:
    strategy, data = strategies.build(QUICK), make_period(0, FIRST[:7])
    strategy.prepare(learner.build(7), make_arrival(learner, data), data.nodes)
    assert sorted(strategy.lesson.experts.bincount().tolist()) == [3, 4]


def test_a_new_sensor_goes_to_the_expert_of_its_family(proceed, begun) -> None:
    model, strategy, _ = proceed()
    known = begun[0].reconstructors.state_dict()  # which learn more with the rest of the model alone
    assert all(torch.equal(value, known[name]) for name, value in model.reconstructors.state_dict().items())
    experts = expert_of(model)
    taught = dict(zip(strategy.chosen.tolist(), strategy.lesson.experts.tolist(), strict=True))
    for name in ("d5", "n5", "d6"):
        assert experts[name] == experts[f"{name[0]}0"]
        assert taught[SECOND.index(name)] == experts[name]


def test_training_sees_the_new_sensors_and_the_old_one_that_is_explained_worst(proceed) -> None:
    _, _, selection = proceed()
    assert selection.train
    new = {SECOND.index(name) for name in ("d5", "n5", "d6")}
    assert new < set(selection.rows.tolist())
    assert len(selection.rows) == 4  # 1 % of nine old sensors is one
    assert selection.nodes.nonzero().flatten().tolist() == selection.rows.tolist()
    for changed in ({"n2": "d9"}, {"d3": "n9"}):
        model, strategy, selection = proceed(changed=changed)
        weeks = model.profiles.weeks()
        explained = strategy.previous.log_likelihood(weeks).max(0).values / weeks.observed.sum(1)
        retained = [row for row, name in enumerate(SECOND) if name in FIRST]
        worst = min(retained, key=explained.tolist().__getitem__)
        assert set(selection.rows.tolist()) == {*new, worst}


def test_an_old_sensor_unlike_any_family_is_replayed(proceed, monkeypatch) -> None:
    monkeypatch.setitem(PEAK, "x", 3)
    _, _, selection = proceed(changed={"n3": "x0"})
    assert SECOND.index("n3") in selection.rows.tolist()


@pytest.mark.parametrize(("share", "old"), [(0.0, 0), (0.01, 1), (0.5, 4), (1.0, 9)])
def test_replay_is_a_share_of_the_old_sensors(proceed, share: float, old: int) -> None:
    _, _, selection = proceed(replay=share)
    assert len(selection.rows) == 3 + old


def test_hops_show_the_neighbourhood_whose_targets_do_not_count(proceed) -> None:
    _, _, alone = proceed()
    _, _, selection = proceed(hops=1)
    assert set(alone.rows.tolist()) < set(selection.rows.tolist())
    assert torch.equal(selection.nodes, alone.nodes)


def test_without_a_new_sensor_nothing_is_trained_and_the_weeks_are_up_to_date(proceed, begun) -> None:
    model, _, selection = proceed(names=FIRST[:8])
    assert not selection.train
    assert not torch.equal(model.profiles.weeks().values, begun[0].profiles.weeks().values[:8])


@pytest.mark.parametrize("synthetic", [0, 16])
def test_reconstructors_that_did_not_change_are_not_penalised(proceed, synthetic: int) -> None:
    model, strategy, _ = proceed(reconstruction=0.0, synthetic=synthetic)
    assert strategy.penalty(model) == 0
    for part in (model.reconstructors.posterior, model.reconstructors.decoded):
        changed = copy.deepcopy(part.state_dict())
        with torch.no_grad():
            part.bias[:, :, 0] += 0.3
        assert strategy.penalty(model) > 0
        part.load_state_dict(changed)
    with torch.no_grad():
        model.collapse.weight.add_(1)  # a predictor is free
    assert strategy.penalty(model) == 0


def test_made_up_weeks_hold_experts_that_no_sensor_goes_to(proceed) -> None:
    found = []
    for synthetic in (0, 8):
        model, strategy, _ = proceed(names=(*FIRST, "d5"), reconstruction=0.0, replay=0.0, synthetic=synthetic)
        idle = 1 - expert_of(model)["d5"]
        with torch.no_grad():
            model.reconstructors.decoded.bias[idle] += 0.5
        found.append(float(strategy.penalty(model).detach()))
    assert found[0] == 0
    assert found[1] > 0.01


def test_the_penalty_reaches_the_reconstructors_alone_and_its_weights_scale_it(begun, proceed) -> None:
    model, strategy, _ = proceed()
    strategy.penalty(model).backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("reconstructors"), name
    model, strategy = begun
    strategy.generator.manual_seed(1)
    single = strategy.penalty(model)
    strategy.reconstruction = 3.0
    strategy.generator.manual_seed(1)
    torch.testing.assert_close(strategy.penalty(model), 3 * single)
    assert (single > 0.5 * np.log(2 * np.pi)).item()  # minus the bound of a slot is at least that of a perfect fit


def test_a_departure_is_a_divergence_and_a_distance() -> None:
    torch.manual_seed(0)
    one, other = Reconstructors(2, 3), Reconstructors(2, 3)
    weeks = Weeks(torch.randn(4, SLOTS), torch.ones(4, SLOTS))
    assert (departure(one, other, weeks) > 0).all()
    assert torch.equal(departure(one, copy.deepcopy(one), weeks), torch.zeros(2, 4))
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other.decoded.bias += 2
    torch.testing.assert_close(departure(one, other, weeks), torch.full((2, 4), 0.5 * 4 * SLOTS))


@pytest.mark.parametrize("steps_per_day", [4, 24, 96])
def test_usual_weeks_are_means_of_what_was_measured(make_part, steps_per_day: int) -> None:
    part = make_part(nodes=3, length=900)
    windows = part.windows
    hours = torch.arange(len(windows.values))
    windows.time_of_day[:] = hours % steps_per_day
    windows.day_of_week[:] = hours // steps_per_day % 7
    weeks = usual_weeks(part, steps_per_day=steps_per_day)
    groups: dict[tuple[int, int], list[float]] = {}
    for step, (slot, day) in enumerate(zip(windows.time_of_day.tolist(), windows.day_of_week.tolist(), strict=True)):
        for node in range(3):
            if windows.observed[step, node, 0]:
                place = 24 * day + slot * 24 // steps_per_day
                groups.setdefault((node, place), []).append(float(windows.values[step, node, 0]))
    for node in range(3):
        for place in range(SLOTS):
            found = groups.get((node, place))
            assert bool(weeks.observed[node, place]) == (found is not None)
            assert float(weeks.values[node, place]) == pytest.approx(np.mean(found) if found else 0, abs=1e-5)


def live(learner: Learner, history: Iterable[PeriodData], compute: Any) -> list[dict[str, Checkpoint]]:
    lives: list[dict[str, Checkpoint]] = []
    for data in history:
        lives.append(learner.learn(data, lives[-1] if lives else None, compute=compute))
    return lives


def test_a_restored_model_forecasts_an_earlier_network_with_the_gates_of_its_sensors(
    learner, make_period, compute
) -> None:
    history = [make_period(0, FIRST), make_period(1, SECOND, FIRST)]
    trained = learner.restore(live(learner, history, compute)[-1])
    model = trained.forecaster
    gates = dict(zip(SECOND, model.gates().T, strict=True))
    found = []
    for names in (FIRST, SECOND, FIRST):
        data = make_period(0 if names == FIRST else 1, names)
        model.expand(data.nodes)
        part = learner.arrays(data).part("test", trained.scaler.for_nodes(data.nodes))
        found.append(torch.cat([forecast for forecast, _, _ in forecasts(model, part, data.graph)]))
        for name, gate in zip(names, model.gates().T, strict=True):
            assert name not in gates or torch.equal(gate, gates[name])
    assert torch.equal(found[0], found[2])
    assert model.profiles.weeks().known.all()  # d4's week was kept aside
    model.expand(NodeSet.of((*FIRST, "never met")))
    torch.testing.assert_close(model.gates()[:, -1], torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("model", [{"prompt_pool": None}, {}, {"protocol": "paper"}], ids=["bare", "prompted", "paper"])
def test_a_mixture_lives_through_growth_shrinkage_and_return(
    make_learner, make_stream, make_history, compute, model
) -> None:
    learner = make_learner(QUICK, backbone=MIXTURE, **model)
    history = list(make_history(make_stream()).values())
    lives = live(learner, history, compute)
    for parts, data in zip(lives, history, strict=True):
        backbone = parts["backbone"]
        assert backbone.tensors["weights.profiles.rows"].shape == (len(data.nodes), 2 * SLOTS)
        assert backbone.facts["parameters"] == lives[0]["backbone"].facts["parameters"] or "prompt_pool" in parts
        assert not backbone.under("strategy")
        assert all(value.isfinite().all() for part in parts.values() for value in part.tensors.values())
    again = live(learner, history, compute)
    assert all(same_weights(one["backbone"], two["backbone"]) for one, two in zip(lives, again, strict=True))


def test_a_mixture_whose_weeks_nobody_writes_is_an_ensemble(make_learner, make_period, compute) -> None:
    learner = make_learner("online", backbone=MIXTURE, prompt_pool=None)
    model = learner.restore(learner.learn(make_period(0, FIRST), None, compute=compute)).forecaster
    assert torch.equal(model.gates(), torch.full((2, len(FIRST)), 0.5))


def test_beside_another_backbone_the_strategy_keeps_reconstructors_of_its_own(
    make_learner, make_arrival, make_period, compute
) -> None:
    learner = make_learner(QUICK, prompt_pool=None)
    first, second = make_period(0, FIRST), make_period(1, SECOND, FIRST)
    parts = learner.learn(first, None, compute=compute)
    kept = {name: value.clone() for name, value in parts["backbone"].under("strategy").items()}
    restored = learner.restore(parts)
    state = restored.strategy.state()
    assert state.keys() == kept.keys()
    assert all(torch.equal(value, kept[name]) for name, value in state.items())
    arrival = make_arrival(learner, second)
    forecaster = restored.strategy.prepare(restored.forecaster, arrival, second.nodes)
    assert mixture_of(forecaster) is None
    assert restored.strategy.penalty(forecaster) == 0
    assert len(restored.strategy.select(arrival, second.nodes).rows) == 4
    assert any(not torch.equal(value, kept[name]) for name, value in restored.strategy.state().items())
    assert all(torch.equal(value, kept[name]) for name, value in parts["backbone"].under("strategy").items())


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("replay", 1.5, "replay is 1.5, expected a share"),
        ("replay", -0.1, "replay is -0.1"),
        ("consolidation", -1.0, "consolidation is -1.0, expected 0 or more"),
        ("synthetic", -1, "synthetic is -1"),
        ("hops", -1, "hops is -1"),
        ("shrare", 0.1, "no option 'shrare'"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(option: str, value: float, says: str) -> None:
    with pytest.raises(InputError, match=says):
        strategies.build({"name": "tfmoe", option: value})
