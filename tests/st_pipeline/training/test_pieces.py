"""Pieces of a batch are cut by its size and by memory alone; a training has the same bits whoever works on them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import PROTOCOLS
from st_pipeline.model_config import TrainingConfig
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.compute import Compute
from st_pipeline.training.fit import FitResult, fit
from st_pipeline.training.learner import Learner
from st_pipeline.training.memory import GIB, Need, Plan
from st_pipeline.training.pieces import PIECE_CELLS, Workers, piece_count, pieces_of, workers
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, SeriesShape, Window

CPU = torch.device("cpu")
STARTS = st.integers(1, 300).map(lambda size: torch.arange(size).flip(0) * 3)
NODES = st.sampled_from([1, 20, 850, 8600, PIECE_CELLS, 3 * PIECE_CELLS]) | st.integers(1, 2 * PIECE_CELLS)
MODELS: dict[str, dict[str, Any]] = {
    "eac": {"strategy": "eac"},
    "calendar": {
        "backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2},
        "seasonal": ["4h", "1d"],
    },
    "paper": {"strategy": "eac", "protocol": "paper"},
}


@given(STARTS, NODES, st.none() | st.integers(1, 300))
def test_pieces_hold_every_start_once_and_in_order(starts: Tensor, nodes: int, most: int | None) -> None:
    pieces = pieces_of(starts, nodes, most=most)
    sizes = [len(piece) for piece in pieces]
    assert torch.equal(torch.cat(pieces), starts)
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    assert most is None or max(sizes) <= most


@given(STARTS, NODES)
def test_pieces_on_a_processor_are_the_smallest_power_of_two_that_fits_a_cache(starts: Tensor, nodes: int) -> None:
    fitting = next(
        2**power for power in count() if len(starts) * nodes <= 2**power * PIECE_CELLS or 2**power >= len(starts)
    )
    assert piece_count(len(starts), nodes) == fitting
    assert len(pieces_of(starts, nodes)) == min(fitting, len(starts))


@given(st.integers(1, 512), NODES, st.integers(1, 8))
@example(100, 2621, 2)
def test_with_memory_to_spare_a_plan_asks_for_no_other_pieces(windows: int, nodes: int, threads: int) -> None:
    plan = Need(0, 1, windows, nodes).plan(1 << 60, threads=threads, gpu=False)
    found = len(pieces_of(torch.arange(windows), nodes, most=plan.windows))
    assert found == min(piece_count(windows, nodes), windows)


def test_a_hundred_windows_of_2621_nodes_are_eight_pieces_with_and_without_a_plan() -> None:
    plan = Need.of(length=500, nodes=2621, channels=1, width=64, span=24, batch=100).plan(1 << 40, threads=2, gpu=False)
    for most in (None, plan.windows):
        assert [len(piece) for piece in pieces_of(torch.arange(100), 2621, most=most)] == [13] * 4 + [12] * 4


@given(STARTS, NODES, st.integers(1, 300))
def test_a_batch_elsewhere_is_one_piece_unless_memory_says_otherwise(starts: Tensor, nodes: int, most: int) -> None:
    there = starts.to("meta")
    assert len(pieces_of(there, nodes)) == 1
    assert len(pieces_of(there, nodes, most=most)) == -(-len(starts) // most)


@pytest.mark.parametrize("most", [None, 1, 7])
def test_a_single_window_is_one_piece(most: int | None) -> None:
    assert [piece.tolist() for piece in pieces_of(torch.tensor([4]), 3 * PIECE_CELLS, most=most)] == [[4]]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_results_come_in_the_order_of_the_items(threads: int) -> None:
    def slow(item: int) -> int:
        time.sleep(0.01 * (5 - item))
        return item

    with workers(CPU, threads) as team:
        assert team.map(slow, range(5)) == [0, 1, 2, 3, 4]
        assert team.map(slow, []) == []


def test_workers_work_side_by_side() -> None:
    meeting = threading.Barrier(3)
    with workers(CPU, 3) as team:
        places = team.map(lambda _: meeting.wait(timeout=60), range(3))
    assert sorted(places) == [0, 1, 2]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_of_a_worker_reaches_the_caller(threads: int) -> None:
    def broken(item: int) -> int:
        if item == 2:
            raise KeyError("broken")
        return item

    with workers(CPU, threads) as team:
        with pytest.raises(KeyError, match="broken"):
            team.map(broken, range(5))
        assert team.map(broken, [0, 1]) == [0, 1]


@pytest.mark.parametrize("fails", [True, False])
def test_each_worker_has_one_thread_of_torch_and_the_caller_gets_its_own_back(fails: bool) -> None:
    torch.set_num_threads(2)
    try:
        with workers(CPU, 3) as team:
            assert team.count == 3
            assert torch.get_num_threads() == 1
            assert team.map(lambda _: (time.sleep(0.01), torch.get_num_threads())[1], range(9)) == [1] * 9
            if fails:
                raise KeyError("broken")
    except KeyError:
        assert fails
    assert torch.get_num_threads() == 2


def test_one_thread_is_one_worker_the_caller() -> None:
    torch.set_num_threads(3)
    with workers(CPU, 1) as team:
        assert team == Workers(None, 1)
        assert set(team.map(lambda _: (threading.get_ident(), torch.get_num_threads()), range(4))) == {
            (threading.get_ident(), 1)
        }
    assert torch.get_num_threads() == 3


@pytest.mark.parametrize("fails", [True, False])
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_where_nothing_is_split_the_caller_has_all_threads_in_each_operation(threads: int, fails: bool) -> None:
    torch.set_num_threads(4)
    try:
        with workers(CPU, threads, splits=False) as team:
            assert team == Workers(None, 1)
            assert torch.get_num_threads() == threads
            assert team.map(lambda _: threading.get_ident(), range(2)) == [threading.get_ident()] * 2
            if fails:
                raise KeyError("broken")
    except KeyError:
        assert fails
    assert torch.get_num_threads() == 4


def test_a_single_item_is_left_to_the_caller() -> None:
    with workers(CPU, 2) as team:
        assert team.map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


@pytest.mark.parametrize("splits", [True, False])
def test_on_a_gpu_the_caller_works_alone_with_the_threads_it_has(splits: bool) -> None:
    torch.set_num_threads(3)
    with workers(torch.device("cuda"), 2, splits=splits) as team:
        assert team == Workers(None, 1)
        assert torch.get_num_threads() == 3


def life(learner: Learner, history: list[PeriodData], **compute: Any) -> list[str]:
    """Digests of every part after every period."""
    parts, found = None, []
    for data in history:
        parts = learner.learn(data, parts, compute=Compute(device="cpu", **compute))
        found += [part.digest for part in parts.values()]
    return found


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_a_life_has_the_same_bits_whatever_the_number_of_threads(
    options, make_learner, make_history, monkeypatch
) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 40)
    assert len(pieces_of(torch.arange(64), 5)) == 8
    learner = make_learner(**options)
    history = list(make_history(learner.stream).values())[:2]
    one, two, three = (life(learner, history, threads=threads) for threads in (1, 2, 3))
    assert one == two == three


@pytest.mark.parametrize(("spare", "expected"), [(0, (1, 1, 1)), (40, (1, 1, 1)), (150, (1, 2, 2))])
def test_a_life_has_the_same_bits_whatever_the_number_of_threads_where_memory_is_tight(
    make_learner, make_history, spare: int, expected: tuple[int, ...]
) -> None:
    learner = make_learner("online")
    data = next(iter(make_history(learner.stream).values()))
    need = learner.need(data)
    budget = need.least + spare * need.per_window
    plans = [need.plan(budget, threads=threads, gpu=False) for threads in (1, 2, 3)]
    assert {plan.windows for plan in plans} == {min(1 + spare, 64)}
    assert tuple(plan.threads for plan in plans) == expected
    one, two, three = (life(learner, [data], threads=threads, memory_gib=budget / GIB) for threads in (1, 2, 3))
    assert one == two == three


Trained = tuple[FitResult, list[Tensor]]


@pytest.fixture
def trained(make_part, random_graph) -> Callable[..., Trained]:
    """`trained(threads, nodes=6, protocol="sound", dropout=None, windows=50)`: a training of a freshly drawn model."""

    def train(threads: int, *, nodes=6, protocol="sound", dropout=None, windows=50) -> Trained:
        torch.manual_seed(0)
        shape = SeriesShape(window=6, horizon=4, channels=1, num_nodes=nodes, steps_per_day=24)
        forecaster: Forecaster = PromptPool(backbones.build({"name": "stgnn"}, shape=shape), rank=3)
        forecaster = forecaster if dropout is None else Dropping(forecaster, dropout)
        parts = {name: make_part(nodes=nodes, protocol=protocol, name=name) for name in ("train", "validation")}
        result = fit(
            forecaster,
            **parts,
            graph=random_graph(nodes, share=0.05),
            strategy=Strategy(),
            selection=Selection(),
            settings=Settings.of(PROTOCOLS[protocol], TrainingConfig(epochs=3, batch=50)),
            generator=torch.Generator().manual_seed(1),
            plan=Plan(windows, threads, 0),
        )
        return result, [parameter.detach() for parameter in forecaster.parameters()]

    return train


class Dropping(Forecaster):
    """A model whose forecasts are dropped out in training."""

    def __init__(self, inner: Forecaster, probability: float) -> None:
        super().__init__()
        self.inner = inner
        self.dropout = nn.Dropout(probability)

    def forward(self, window: Window, graph: Graph) -> Tensor:
        return self.dropout(self.inner(window, graph))


def assert_same_bits(one: Trained, other: Trained) -> None:
    (result, weights), (its_result, its_weights) = one, other
    for epoch, its_epoch in zip(result.epochs, its_result.epochs, strict=True):
        assert (epoch.loss, epoch.validation) == (its_epoch.loss, its_epoch.validation)
    assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, its_weights, strict=True))


@pytest.mark.parametrize("windows", [50, 3], ids=["plenty", "tight"])
@pytest.mark.parametrize("protocol", ["sound", "paper"])
@pytest.mark.parametrize("nodes", [6, 40], ids=["dense", "sparse"])
def test_a_training_has_the_same_bits_whatever_the_number_of_threads(
    protocol: str, nodes: int, windows: int, trained, random_graph, monkeypatch
) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 8 * nodes)
    assert random_graph(nodes, share=0.05).operator().matrix.is_sparse_csr == (nodes == 40)
    one, *others = (trained(threads, nodes=nodes, protocol=protocol, windows=windows) for threads in (1, 2, 3))
    for other in others:
        assert_same_bits(one, other)


def test_a_model_that_draws_random_numbers_trains_to_the_same_bits_every_time(trained, monkeypatch) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 100)
    one, other = (trained(2, dropout=0.5) for _ in range(2))
    assert_same_bits(one, other)
    assert one[0].epochs[0].loss != trained(2, dropout=0.0)[0].epochs[0].loss


def test_a_dropout_that_drops_nothing_is_worked_on_in_pieces_like_none(trained, monkeypatch) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 100)
    assert_same_bits(trained(2, dropout=0.0), trained(2))
