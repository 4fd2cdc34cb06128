"""The epoch loop is plain AdamW over shuffled windows, stops when it should, and keeps the best weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import PAPER, PROTOCOLS, SOUND, Part, PeriodArrays
from st_pipeline.errors import InputError
from st_pipeline.model_config import ScalingConfig, TrainingConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training import fit as module
from st_pipeline.training.fit import Epoch, FitResult, fit
from st_pipeline.training.forecasts import evaluating, forecasts, validation_error
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import make_criterion
from st_pipeline.training.settings import Settings
from st_pipeline.types import Target

SETTINGS = Settings.of(SOUND, TrainingConfig(epochs=3, batch=64, learning_rate=0.01))
Fitted = Callable[..., tuple[FitResult, Forecaster]]


@pytest.fixture(scope="module")
def data(make_stream, make_history) -> PeriodData:
    return next(iter(make_history(make_stream()).values()))


@pytest.fixture(scope="module")
def parts(make_stream, data) -> Callable[..., dict[str, Part]]:
    def make(protocol: str = "sound") -> dict[str, Part]:
        arrays = PeriodArrays.of(data.tensor, data.nodes, make_stream(), protocol=PROTOCOLS[protocol])
        scaler = arrays.fit_scaler(ScalingConfig())
        return {name: arrays.part(name, scaler) for name in ("train", "validation", "test")}

    return make


@pytest.fixture(scope="module")
def model(make_learner) -> Callable[..., Forecaster]:
    def make(seed: int = 0) -> Forecaster:
        torch.manual_seed(seed)
        return make_learner().build(5)

    return make


@pytest.fixture
def fitted(parts, model, data) -> Fitted:
    """`fitted(settings, seed=0, **fit's arguments)`: a training of a freshly drawn model."""

    def make(settings: Settings = SETTINGS, *, seed: int = 0, **changes: Any) -> tuple[FitResult, Forecaster]:
        given = parts("paper" if settings.batch_mean else "sound")
        plain = {
            "train": given["train"],
            "validation": given["validation"],
            "graph": data.graph,
            "strategy": Strategy(),
            "selection": Selection(),
            "generator": torch.Generator().manual_seed(seed),
        }
        forecaster = changes.pop("forecaster", None) or model()
        return fit(forecaster, settings=settings, **{**plain, **changes}), forecaster

    return make


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[float]], None]:
    """Makes the validation errors of the epochs what a test says."""

    def script(errors: list[float]) -> None:
        given: Iterator[float] = iter(errors)
        monkeypatch.setattr(module, "validation_error", lambda *_, **__: next(given))

    return script


def weights(forecaster: Forecaster) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in forecaster.parameters()]).clone()


@pytest.mark.parametrize("protocol", [SOUND, PAPER])
def test_training_is_plain_adamw_over_shuffled_batches(fitted, parts, model, data, protocol) -> None:
    settings = Settings.of(protocol, TrainingConfig(epochs=2, batch=50, weight_decay=0.1, patience=99))
    part, plain, generator = parts(protocol.name)["train"], model(), torch.Generator().manual_seed(3)
    result, forecaster = fitted(settings, generator=torch.Generator().manual_seed(3))
    optimiser = torch.optim.AdamW(plain.parameters(), lr=0.03, weight_decay=0.1)
    scale, history = part.scaler.scale[:, 0], []
    for epoch in range(result.best):
        order = part.starts[torch.randperm(len(part.starts), generator=generator)]
        losses = []
        for start in range(0, len(order), 50):
            window, target = part.windows.gather(order[start : start + 50])
            error = plain(window, data.graph) - target.values
            if protocol is SOUND:
                loss = (error.abs() * scale / scale.mean())[target.observed].mean()
            else:
                loss = (error**2).mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            losses.append(loss.item())
        history.append(sum(losses) / len(losses))
        assert result.epochs[epoch].loss == pytest.approx(history[-1], rel=1e-4)
    torch.testing.assert_close(weights(forecaster), weights(plain), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("patience", "errors", "epochs", "best"),
    [
        (5, [9, 8, 7, *[7.5] * 6, 1], 9, 3),  # the sixth failure in a row stops
        (5, [9, *[9.5] * 5, 8, *[9.5] * 6, 1], 13, 7),  # five do not
        (0, [9, 9.5, 1], 2, 1),
        (2, [9, 9, 9, 9, 9.5, 9, 9.5, 9.5, 9.5], 9, 6),  # as good as the best is no failure
        (1, [3, 2, 1], 3, 3),
    ],
)
def test_training_stops_when_more_than_patience_epochs_fail(
    fitted, scripted, patience: int, errors: list[float], epochs: int, best: int
) -> None:
    scripted(errors)
    snapshots: list[Tensor] = []
    forecaster_of: list[Forecaster] = []

    class Watched(Strategy):
        def penalty(self, forecaster: Forecaster) -> Tensor:
            forecaster_of[:] = [forecaster]
            return super().penalty(forecaster)

    def progress(_: Epoch) -> None:
        snapshots.append(weights(forecaster_of[0]))

    settings = replace(SETTINGS, epochs=len(errors), patience=patience, stride=8)
    result, forecaster = fitted(settings, strategy=Watched(), progress=progress)
    assert (len(result.epochs), result.best) == (epochs, best)
    assert [epoch.validation for epoch in result.epochs] == errors[:epochs]
    assert [epoch.index for epoch in result.epochs] == list(range(1, epochs + 1))
    assert torch.equal(weights(forecaster), snapshots[best - 1])


def test_a_training_is_the_same_whatever_ran_before_it(fitted) -> None:
    first, one = fitted()
    torch.randn(17)
    fitted(seed=5)
    again, other = fitted()
    assert torch.equal(weights(one), weights(other))
    assert [epoch.loss for epoch in first.epochs] == [epoch.loss for epoch in again.epochs]
    assert not torch.equal(weights(one), weights(fitted(seed=1)[1]))


def absurd(part: Part, value: float) -> Part:
    """The part with a value in all targets that were not observed."""
    windows = part.windows
    target = torch.where(windows.target_observed, windows.target, value)
    truth = torch.where(part.scored, part.truth, value)
    return replace(part, windows=replace(windows, target=target), truth=truth)


@pytest.mark.parametrize("value", [0.0, -1e30, math.inf, math.nan])
def test_what_was_not_observed_is_neither_learned_nor_judged(fitted, parts, value: float) -> None:
    given = parts()
    result, forecaster = fitted()
    changed, other = fitted(train=absurd(given["train"], value), validation=absurd(given["validation"], value))
    assert torch.equal(weights(forecaster), weights(other))
    assert [epoch.validation for epoch in result.epochs] == [epoch.validation for epoch in changed.epochs]


@pytest.mark.parametrize("protocol", [SOUND, PAPER])
def test_only_the_targets_of_selected_nodes_count(fitted, parts, protocol) -> None:
    settings, train = Settings.of(protocol, TrainingConfig(epochs=1)), parts(protocol.name)["train"]
    chosen = Selection(nodes=torch.tensor([True, False, True, True, False]))
    target = train.windows.target.clone()
    target[:, ~chosen.nodes] += 1000
    other = replace(train, windows=replace(train.windows, target=target))
    one, two = (fitted(settings, selection=chosen, train=part) for part in (train, other))
    assert torch.equal(weights(one[1]), weights(two[1]))
    assert one[0].epochs[0].loss == two[0].epochs[0].loss
    assert not torch.equal(weights(one[1]), weights(fitted(settings)[1]))


class Recorder(Strategy):
    """Counts the steps."""

    def __init__(self) -> None:
        self.steps = 0

    def penalty(self, forecaster: Forecaster) -> Tensor:
        self.steps += 1
        return 100.0 * sum((parameter**2).sum() for parameter in forecaster.parameters())


def test_the_penalty_joins_the_loss_of_every_step(fitted, parts) -> None:
    recorder = Recorder()
    settings = replace(SETTINGS, epochs=2, patience=99)
    penalised, forecaster = fitted(settings, strategy=recorder)
    plain, other = fitted(settings)
    assert recorder.steps == 2 * math.ceil(len(parts()["train"].starts) / 64)
    assert penalised.epochs[0].loss > plain.epochs[0].loss
    assert weights(forecaster).norm() < weights(other).norm()


@pytest.mark.parametrize("stride", [1, 3, 1000])
def test_a_stride_trains_on_every_nth_window_and_judges_by_all(fitted, parts, monkeypatch, stride: int) -> None:
    train, seen = parts()["train"], []
    inputs = type(train.windows).inputs
    monkeypatch.setattr(type(train.windows), "inputs", lambda self, at: (seen.append(at), inputs(self, at))[1])
    fitted(replace(SETTINGS, epochs=1, stride=stride))
    everything = torch.cat(seen)
    count = math.ceil(len(train.starts) / stride)
    assert torch.equal(everything[:count].sort().values, train.starts[::stride])
    assert torch.equal(everything[count:], parts()["validation"].starts)


def test_selected_windows_alone_are_trained_on(fitted, parts) -> None:
    train = parts()["train"]
    only = replace(train, starts=train.starts[:20])
    one = fitted(selection=Selection(windows=torch.arange(20)))[1]
    assert torch.equal(weights(one), weights(fitted(train=only)[1]))


@pytest.mark.parametrize("stride", [1, 7])
def test_a_selection_without_windows_is_told(fitted, stride: int) -> None:
    with pytest.raises(InputError, match="the strategy chose no window of this period to train on"):
        fitted(replace(SETTINGS, stride=stride), selection=Selection(windows=torch.tensor([], dtype=torch.int64)))


def test_training_and_judging_keep_to_the_windows_that_memory_allows(fitted, model, monkeypatch) -> None:
    forecaster, sizes = model(), []
    inner = forecaster.forward
    monkeypatch.setattr(forecaster, "forward", lambda *given: (sizes.append(len(given[0].values)), inner(*given))[1])
    small, _ = fitted(forecaster=forecaster, plan=Plan(7, 2, 0))
    assert max(sizes) == 7
    usual, _ = fitted()
    for epoch, its_epoch in zip(small.epochs, usual.epochs, strict=True):
        assert epoch.loss == pytest.approx(its_epoch.loss, rel=1e-4)
        assert epoch.validation == pytest.approx(its_epoch.validation, rel=1e-4)


@pytest.mark.parametrize("trained", [True, False])
def test_the_mode_of_the_model_is_restored(fitted, parts, model, data, trained: bool) -> None:
    forecaster = model().train(trained)
    validation_error(forecaster, parts()["validation"], data.graph, SETTINGS)
    assert all(part.training == trained for part in forecaster.modules())
    with pytest.raises(RuntimeError, match="broken"), evaluating(forecaster):
        assert not forecaster.training
        raise RuntimeError("broken")
    assert forecaster.training == trained


def test_forecasting_leaves_the_gradient_mode_to_the_caller(parts, model, data) -> None:
    forecaster = model().train()
    for forecast, _, _ in forecasts(forecaster, parts()["test"], data.graph, batch=8):
        assert torch.is_grad_enabled()
        assert forecaster.training
        assert not forecast.requires_grad


@pytest.mark.parametrize("protocol", ["sound", "paper"])
def test_forecasts_are_in_the_unit_of_the_readings_in_order_and_in_any_batch(parts, model, data, protocol: str) -> None:
    part, forecaster = parts(protocol)["test"], model().eval()
    together = [torch.cat(column) for column in zip(*forecasts(forecaster, part, data.graph), strict=True)]
    apart = [torch.cat(column) for column in zip(*forecasts(forecaster, part, data.graph, batch=7), strict=True)]
    window, _ = part.windows.gather(part.starts)
    torch.testing.assert_close(together[0], part.restore(forecaster(window, data.graph)).detach(), rtol=1e-4, atol=1e-3)
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)
    future = int(part.starts[5]) + 6
    assert torch.equal(together[1][5], part.truth[future : future + 4])
    assert torch.equal(together[2][5], part.scored[future : future + 4])


def test_the_validation_error_is_the_masked_mean_over_all_cells(parts, model, data) -> None:
    part, forecaster = parts()["validation"], model().eval()
    forecast, truth, scored = (torch.cat(c) for c in zip(*forecasts(forecaster, part, data.graph), strict=True))
    expected = (forecast - truth).abs()[scored].double().mean()
    assert validation_error(forecaster, part, data.graph, SETTINGS) == pytest.approx(float(expected), rel=1e-6)


def test_the_published_validation_error_weighs_batches_alike_and_is_rounded(parts, model, data) -> None:
    part, forecaster = parts("paper")["validation"], model().eval()
    part = replace(part, truth=part.truth * (torch.arange(len(part.truth)) % 3 > 0)[:, None])
    settings = Settings.of(PAPER, TrainingConfig(batch=40))
    assert len(part.starts) % 40
    errors = []
    for start in range(0, len(part.starts), 40):
        chunk = part.starts[start : start + 40]
        window, _ = part.windows.gather(chunk)
        future = chunk[:, None] + torch.arange(6, 10)
        truth = part.truth[future]
        counted = part.scored[future] & (truth != 0)
        errors.append((forecaster(window, data.graph) - truth).abs()[counted].mean().item())
    found = validation_error(forecaster, part, data.graph, settings)
    assert found == pytest.approx(sum(errors) / len(errors), abs=1e-4)
    assert found == round(found, 4)


@pytest.mark.parametrize("rate", [1e30, 1e38])
def test_a_loss_that_is_no_number_is_told(fitted, rate: float) -> None:
    with pytest.raises(InputError, match=r"diverged in epoch \d+ .*lower training.learning_rate"):
        fitted(replace(SETTINGS, learning_rate=rate, epochs=20))


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_cosine_decay_falls_from_the_rate_to_a_hundredth(epochs: int) -> None:
    optimiser = torch.optim.AdamW([torch.zeros(1)], lr=1.0)
    settings = replace(SETTINGS, decay="cosine", learning_rate=0.2, epochs=epochs)
    rates = []
    for epoch in range(epochs):
        module._set_rate(optimiser, settings, epoch)
        rates.append(optimiser.param_groups[0]["lr"])
    assert rates[0] == pytest.approx(0.2)
    assert epochs == 1 or rates[-1] == pytest.approx(0.002)
    assert rates == sorted(rates, reverse=True)
    module._set_rate(optimiser, replace(settings, decay="none"), 0)
    assert optimiser.param_groups[0]["lr"] == rates[-1]


def test_the_decay_changes_the_training(fitted) -> None:
    constant, cosine = (fitted(replace(SETTINGS, decay=decay, patience=99))[1] for decay in ("none", "cosine"))
    assert not torch.equal(weights(constant), weights(cosine))


def test_a_models_own_settings_replace_the_protocols() -> None:
    assert Settings.of(PAPER, TrainingConfig()) == Settings(
        epochs=100, batch=128, learning_rate=0.03, weight_decay=0.01, patience=5, loss="mse", decay="none", stride=1,
        masked_loss=False, batch_mean=True,
    )  # fmt: skip
    own = TrainingConfig(epochs=7, patience=0, weight_decay=0, loss="mae", stride=2, decay="cosine")
    assert vars(Settings.of(PAPER, own)).items() >= own.model_dump(exclude_none=True).items()


@pytest.mark.parametrize(("milestones", "factor"), [((1, 3), 0.5), ((2,), 0.1), ((9,), 0.1)])
def test_milestones_lower_the_rate_as_torchs_scheduler_does(milestones: tuple[int, ...], factor: float) -> None:
    optimiser, plain = (torch.optim.AdamW([torch.zeros(1)], lr=0.2) for _ in range(2))
    settings = replace(SETTINGS, decay="steps", milestones=milestones, factor=factor, learning_rate=0.2)
    schedule = torch.optim.lr_scheduler.MultiStepLR(plain, list(milestones), factor)
    for epoch in range(5):
        module._set_rate(optimiser, settings, epoch)
        assert optimiser.param_groups[0]["lr"] == pytest.approx(plain.param_groups[0]["lr"])
        plain.step()
        schedule.step()


def test_the_norm_of_all_gradients_together_is_at_most_the_clip(fitted, monkeypatch) -> None:
    norms: list[float] = []

    class Watched(torch.optim.AdamW):
        def step(self, closure: Any = None) -> None:
            gradients = [part.grad for group in self.param_groups for part in group["params"] if part.grad is not None]
            norms.append(float(torch.cat([part.flatten() for part in gradients]).norm()))
            super().step(closure)

    monkeypatch.setattr(module.torch.optim, "AdamW", Watched)
    _, free = fitted()
    least = min(norms)
    norms.clear()
    _, clipped = fitted(replace(SETTINGS, clip=least / 2))
    assert norms == pytest.approx([least / 2] * len(norms), rel=1e-4)
    assert not torch.equal(weights(free), weights(clipped))


class Normed(Forecaster):
    """The last reading behind a batch normalisation, and a bias."""

    separable = False

    def __init__(self, shape: Any) -> None:
        super().__init__()
        self.shape = shape
        self.norm = nn.BatchNorm1d(1)
        self.bias = nn.Parameter(torch.zeros(1))

    @property
    def width(self) -> int:
        return 1

    def forward(self, window: Any, graph: Any) -> Tensor:
        last = window.values[:, -1, :, :1]
        out = self.norm(last.reshape(-1, 1)).view(*last.shape[:2], 1) + self.bias
        return out.expand(-1, -1, self.shape.horizon).transpose(1, 2)


def test_running_statistics_are_those_of_the_best_epoch(fitted, scripted, make_learner) -> None:
    shape, seen = make_learner().shape(5), []
    forecaster = Normed(shape)
    scripted([5, 4, 6, 7])
    settings = replace(SETTINGS, epochs=4, patience=9)
    result, _ = fitted(
        settings, forecaster=forecaster, progress=lambda _: seen.append(forecaster.norm.running_mean.clone())
    )
    assert result.best == 2
    assert torch.equal(forecaster.norm.running_mean, seen[1])
    assert not torch.equal(seen[1], seen[3])


@pytest.mark.parametrize("frozen", [True, False])
def test_what_is_frozen_keeps_its_running_statistics(fitted, make_learner, frozen: bool) -> None:
    forecaster = Normed(make_learner().shape(5))
    forecaster.norm.requires_grad_(not frozen)
    fitted(forecaster=forecaster)
    assert torch.equal(forecaster.norm.running_mean, torch.zeros(1)) == frozen
    assert (forecaster.norm.num_batches_tracked == 0) == frozen
    assert forecaster.norm.training
    assert forecaster.bias.any()


def test_hubers_loss_turns_at_one_unit_of_the_readings(parts) -> None:
    part = parts()["train"]
    criterion = make_criterion(part, replace(SETTINGS, loss="huber"))
    scale = part.scaler.scale[:, 0]
    forecast, truth = torch.randn(2, 3, 4, 5) / 20
    observed = torch.rand(3, 4, 5) < 0.5
    error = ((forecast - truth) * scale).abs()
    assert (error < 1).any()
    assert (error > 1).any()
    by_hand = torch.where(error < 1, error**2 / 2, error - 0.5) / scale.mean()
    torch.testing.assert_close(criterion(forecast, Target(truth, observed)), by_hand[observed].mean())


@pytest.mark.parametrize("loss", ["mae", "mse"])
def test_the_loss_is_the_masked_error_weighted_by_the_deviation_of_the_sensor(parts, loss: str) -> None:
    part = parts()["train"]
    criterion = make_criterion(part, replace(SETTINGS, loss=loss))
    forecast, truth = torch.randn(2, 3, 4, 5)
    observed = torch.rand(3, 4, 5) < 0.5
    scale = part.scaler.scale[:, 0]
    error = (forecast - truth).abs() * scale / scale.mean() if loss == "mae" else (forecast - truth) ** 2
    torch.testing.assert_close(criterion(forecast, Target(truth, observed)), error[observed].mean())
    assert criterion(forecast, Target(truth, torch.zeros_like(observed))) == 0


def test_the_gradient_of_an_unobserved_cell_is_zero_even_if_its_target_is_no_number(parts) -> None:
    criterion = make_criterion(parts()["train"], SETTINGS)
    forecast = torch.randn(2, 4, 5, requires_grad=True)
    observed = torch.rand(2, 4, 5) < 0.5
    truth = torch.where(observed, torch.randn(2, 4, 5), math.nan)
    criterion(forecast, Target(truth, observed)).backward()
    assert torch.equal(forecast.grad != 0, observed)


def test_training_on_some_nodes_never_reads_the_others(fitted, parts, data) -> None:
    rows = torch.tensor([0, 2, 3])
    selection = Selection(rows=rows, nodes=torch.tensor([True, False, False, True, False]))
    given = parts()

    def with_noise(part: Part) -> Part:
        others = torch.tensor([1, 4])
        windows = part.windows
        values, target = windows.values.clone(), windows.target.clone()
        values[:, others] += 100
        target[:, others] -= 100
        truth = part.truth.clone()
        truth[:, others] += 1000
        return replace(part, truth=truth, windows=replace(windows, values=values, target=target))

    runs = [
        fitted(selection=selection, train=change(given["train"]), validation=change(given["validation"]))
        for change in (lambda part: part, with_noise)
    ]
    (one, first), (other, second) = runs
    assert [epoch.loss for epoch in one.epochs] == [epoch.loss for epoch in other.epochs]
    assert [epoch.validation for epoch in one.epochs] == [epoch.validation for epoch in other.epochs]
    for mine, its in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(mine, its)
    assert first(given["train"].windows.inputs(given["train"].starts[:2]), data.graph).shape[-1] == 5


def test_all_nodes_as_rows_are_the_whole_network(fitted) -> None:
    (one, first), (other, second) = fitted(), fitted(selection=Selection(rows=torch.arange(5)))
    assert [epoch.loss for epoch in one.epochs] == pytest.approx([epoch.loss for epoch in other.epochs], rel=1e-5)
    for mine, its in zip(first.parameters(), second.parameters(), strict=True):
        torch.testing.assert_close(mine, its, rtol=1e-4, atol=1e-5)


def test_only_the_counted_nodes_judge_a_training(fitted, parts, data) -> None:
    counted = torch.tensor([True, False, False, False, False])
    result, forecaster = fitted(selection=Selection(nodes=counted))
    validation = parts()["validation"]
    judged = replace(validation, scored=validation.scored & counted)
    best = min(epoch.validation for epoch in result.epochs)
    assert validation_error(forecaster, judged, data.graph, SETTINGS) == pytest.approx(best, rel=1e-5)


def test_where_the_counted_nodes_have_no_truth_to_be_judged_by_all_of_them_judge(fitted, parts) -> None:
    given = parts()
    scored = given["validation"].scored.clone()
    scored[:, 0] = False
    silent = replace(given["validation"], scored=scored)
    counted = torch.tensor([True, False, False, False, False])
    result, _ = fitted(selection=Selection(nodes=counted), validation=silent)
    assert all(epoch.validation > 0 for epoch in result.epochs)


def test_what_is_watched_is_that_of_the_model_after_each_epoch(fitted, model) -> None:
    forecaster, told = model(), []

    def progress(epoch: Epoch) -> None:
        told.append((epoch.watched, forecaster.watched()))

    result, _ = fitted(forecaster=forecaster, progress=progress)
    assert [recorded for recorded, _ in told] == [now for _, now in told]
    assert result.watched.keys() == {"deviation", "share_6"}
    for name, values in result.watched.items():
        assert values == pytest.approx([recorded[name] for recorded, _ in told], rel=1e-5)
    assert len(set(result.watched["deviation"])) == len(result.epochs) == 3


def test_watching_changes_no_weight(fitted, model, monkeypatch) -> None:
    _, watched = fitted()
    monkeypatch.setattr(type(model()), "watched", lambda self: {})
    result, plain = fitted()
    assert torch.equal(weights(watched), weights(plain))
    assert result.watched == {}


def test_a_model_that_watches_nothing_has_no_record(fitted, model) -> None:
    result, _ = fitted(forecaster=model().inner)
    assert result.watched == {}
    assert all(epoch.watched == {} for epoch in result.epochs)
