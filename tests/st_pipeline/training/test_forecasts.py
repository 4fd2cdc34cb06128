"""Sums over the forecasts of a part: the same whoever works on them, and the model is left as it was."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from st_pipeline.data.protocols import PROTOCOLS, Part
from st_pipeline.evaluation.metrics import error_sums
from st_pipeline.model_config import TrainingConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.training.forecasts import WAITING, forecasts, sum_over_forecasts, validation_error
from st_pipeline.training.pieces import Workers, workers
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, Window

NODES = 5
ALONE = Workers()
PIECE = 4  # windows


class Watched(Forecaster):
    """A model that remembers what it was shown, and in which modes."""

    def __init__(self, inner: Forecaster) -> None:
        super().__init__()
        self.inner = inner
        self.seen: list[Window] = []
        self.modes: set[tuple[bool, bool]] = set()

    def forward(self, window: Window, graph: Graph) -> Tensor:
        self.seen.append(window)
        self.modes.add((self.training, torch.is_grad_enabled()))
        return self.inner(window, graph)


@pytest.fixture
def model(make_learner) -> Watched:
    torch.manual_seed(0)
    return Watched(make_learner().build(NODES))


@pytest.fixture
def part(make_part) -> Part:
    return make_part(length=700, name="test")


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """More pieces than three workers may be ahead."""
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", PIECE * NODES)


@pytest.fixture
def in_threads(model: Watched, part: Part, graph: Graph) -> Callable[[int], Tensor]:
    """`in_threads(count)`: the errors of all forecasts, summed by so many workers."""

    def add_up(count: int) -> Tensor:
        with workers(torch.device("cpu"), count) as team:
            assert team.count == count
            return sum_over_forecasts(model, part, graph, error_sums, workers=team)

    return add_up


def test_the_sum_is_that_over_the_forecasts_in_order(model, part, graph, small_pieces) -> None:
    pieces = [error_sums(*found) for found in forecasts(model, part, graph)]
    assert len(pieces) == 64 > WAITING * 3
    total = sum_over_forecasts(model, part, graph, error_sums, workers=ALONE)
    assert torch.equal(total, sum(pieces[1:], pieces[0]))
    together = [error_sums(*found) for found in forecasts(model, part, graph, batch=len(part.starts))]
    torch.testing.assert_close(total, together[0], rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("small_pieces")
def test_the_sum_has_the_same_bits_whatever_the_number_of_workers(in_threads) -> None:
    one, two, three = (in_threads(count) for count in (1, 2, 3))
    assert torch.equal(one, two)
    assert torch.equal(one, three)


@pytest.mark.parametrize("protocol", ["sound", "paper"])
def test_the_validation_error_has_the_same_bits_whatever_the_number_of_workers(
    model, make_part, graph, small_pieces, protocol: str
) -> None:
    part, settings = make_part(protocol=protocol), Settings.of(PROTOCOLS[protocol], TrainingConfig(batch=50))
    errors = [validation_error(model, part, graph, settings)]
    for threads in (1, 2, 3):
        with workers(torch.device("cpu"), threads) as team:
            errors.append(validation_error(model, part, graph, settings, workers=team))
    assert len(set(errors)) == 1


@pytest.mark.parametrize("threads", [1, 3])
def test_forecasts_are_made_in_evaluation_mode_without_gradients(model, in_threads, small_pieces, threads: int) -> None:
    assert not in_threads(threads).requires_grad
    assert model.modes == {(False, False)}


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("trained", [True, False])
@pytest.mark.parametrize("threads", [1, 3])
def test_modes_are_restored(model, part, graph, small_pieces, threads: int, trained: bool, fails: bool) -> None:
    def each(forecast: Tensor, truth: Tensor, scored: Tensor) -> Tensor:
        if fails and torch.equal(truth[-1], part.truth[-4:]):
            raise KeyError("broken")
        return forecast.sum()

    model.train(trained)
    with workers(torch.device("cpu"), threads) as team:
        if fails:
            with pytest.raises(KeyError, match="broken"):
                sum_over_forecasts(model, part, graph, each, workers=team)
        else:
            sum_over_forecasts(model, part, graph, each, workers=team)
    assert all(module.training == trained for module in model.modules())
    assert torch.is_grad_enabled()


def test_a_caller_without_gradients_stays_without(model, part, graph) -> None:
    with torch.no_grad():
        sum_over_forecasts(model, part, graph, error_sums, workers=ALONE)
        assert not torch.is_grad_enabled()


def begins(window: Window) -> list[int]:
    """The hour of the week at which each window begins; the part is shorter than a week."""
    return (24 * window.day_of_week + window.time_of_day)[:, 0].tolist()


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 3])
def test_windows_that_depend_on_each_other_are_forecast_together(
    model, part, in_threads, monkeypatch, threads: int
) -> None:
    monkeypatch.setattr("st_pipeline.training.forecasts.TOGETHER", 50)
    model.separable = False
    in_threads(threads)
    together = [begins(part.windows.inputs(starts)) for starts in part.starts.split(50)]
    assert sorted(begins(window) for window in model.seen) == sorted(together)
    assert [len(batch) for batch in together] == [50, 50, 31]


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("threads", [1, 3])
def test_windows_that_do_not_are_forecast_in_pieces_each_of_them_once(model, part, in_threads, threads: int) -> None:
    in_threads(threads)
    assert max(len(window.values) for window in model.seen) <= PIECE
    seen = [begin for window in model.seen for begin in begins(window)]
    assert sorted(seen) == sorted(begins(part.windows.inputs(part.starts)))
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("most", [1, 2, 7, 64, 100, 999])
def test_never_more_windows_are_forecast_at_a_time_than_memory_allows(
    model, part, graph, threads: int, most: int
) -> None:
    with workers(torch.device("cpu"), threads) as team:
        sum_over_forecasts(model, part, graph, error_sums, workers=team, most=most)
    sizes = [len(window.values) for window in model.seen]
    assert sum(sizes) == len(part.starts)
    assert max(sizes) <= most
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("most", [1, 3, 50, None])
@pytest.mark.parametrize("protocol", ["sound", "paper"])
def test_the_validation_error_keeps_to_what_memory_allows(
    model, make_part, graph, protocol: str, most: int | None
) -> None:
    part, settings = make_part(protocol=protocol), Settings.of(PROTOCOLS[protocol], TrainingConfig(batch=50))
    usual = validation_error(model, part, graph, settings)
    model.seen.clear()
    assert validation_error(model, part, graph, settings, most=most) == pytest.approx(usual, rel=1e-4)
    assert most is None or max(len(window.values) for window in model.seen) <= most


def test_a_single_window_is_summed(model, part, graph) -> None:
    single = replace(part, starts=part.starts[:1])
    ((forecast, truth, scored),) = forecasts(model, single, graph)
    total = sum_over_forecasts(model, single, graph, error_sums, workers=ALONE)
    assert torch.equal(total, error_sums(forecast, truth, scored))
