"""Pieces of a batch are cut by its size alone, and a training has the same bits whoever works on them."""

from __future__ import annotations

import threading
import time
from itertools import count
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from st_pipeline.config import TrainingConfig
from st_pipeline.data.protocols import PROTOCOLS
from st_pipeline.models.backbones import backbones
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.compute import Compute
from st_pipeline.training.fit import FitResult, fit
from st_pipeline.training.pieces import PIECE_CELLS, Workers, pieces_of, workers
from st_pipeline.training.settings import Settings
from st_pipeline.types import SeriesShape

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
    fitting = next(2**power for power in count() if len(starts) * nodes <= 2**power * PIECE_CELLS)
    assert len(pieces_of(starts, nodes)) == min(fitting, len(starts))


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

    torch.set_num_threads(threads)
    with workers(CPU) as team:
        assert team.map(slow, range(5)) == [0, 1, 2, 3, 4]
        assert team.map(slow, []) == []


def test_workers_work_side_by_side() -> None:
    meeting = threading.Barrier(3)
    torch.set_num_threads(3)
    with workers(CPU) as team:
        places = team.map(lambda _: meeting.wait(timeout=60), range(3))
    assert sorted(places) == [0, 1, 2]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_an_error_of_a_worker_reaches_the_caller(threads: int) -> None:
    def broken(item: int) -> int:
        if item == 2:
            raise KeyError("broken")
        return item

    torch.set_num_threads(threads)
    with workers(CPU) as team:
        with pytest.raises(KeyError, match="broken"):
            team.map(broken, range(5))
        assert team.map(broken, [0, 1]) == [0, 1]


@pytest.mark.parametrize("fails", [True, False])
def test_threads_of_torch_go_to_the_workers_and_come_back(fails: bool) -> None:
    torch.set_num_threads(3)
    try:
        with workers(CPU) as team:
            assert team.count == 3
            assert torch.get_num_threads() == 1
            assert team.map(lambda _: (time.sleep(0.01), torch.get_num_threads())[1], range(9)) == [1] * 9
            if fails:
                raise KeyError("broken")
    except KeyError:
        assert fails
    assert torch.get_num_threads() == 3


def test_one_thread_of_torch_is_one_worker_the_caller() -> None:
    torch.set_num_threads(1)
    with workers(CPU) as team:
        assert team == Workers(None, 1)
        assert set(team.map(lambda _: threading.get_ident(), range(4))) == {threading.get_ident()}


def test_a_single_item_is_left_to_the_caller() -> None:
    torch.set_num_threads(2)
    with workers(CPU) as team:
        assert team.map(lambda _: threading.get_ident(), [0]) == [threading.get_ident()]


@pytest.mark.parametrize(("most", "expected"), [(None, 3), (1, 1), (2, 2), (9, 3)])
def test_there_are_no_more_workers_than_memory_allows(most: int | None, expected: int) -> None:
    torch.set_num_threads(3)
    with workers(CPU, most=most) as team:
        assert team.count == expected
        used = team.map(lambda _: (time.sleep(0.01), threading.get_ident())[1], range(12))
        assert len(set(used)) <= expected


def test_on_a_gpu_the_caller_works_alone_with_all_its_threads() -> None:
    torch.set_num_threads(3)
    with workers(torch.device("cuda"), most=2) as team:
        assert team == Workers(None, 1)
        assert torch.get_num_threads() == 3


@pytest.mark.parametrize("options", MODELS.values(), ids=MODELS.keys())
def test_a_life_has_the_same_bits_whatever_the_number_of_threads(
    options, make_learner, make_history, monkeypatch
) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 40)
    assert len(pieces_of(torch.arange(64), 5)) == 8
    learner = make_learner(**options)
    history = list(make_history(learner.stream).values())[:2]
    lives = []
    for threads in (1, 2, 3):
        parts, found = None, []
        for data in history:
            parts = learner.learn(data, parts, compute=Compute(device="cpu", threads=threads))
            found += [part.digest for part in parts.values()]
        lives.append(found)
    assert lives[0] == lives[1] == lives[2]


@pytest.mark.parametrize("protocol", ["sound", "paper"])
@pytest.mark.parametrize("nodes", [6, 40], ids=["dense", "sparse"])
def test_a_training_has_the_same_bits_whatever_the_number_of_threads(
    protocol: str, nodes: int, make_part, random_graph, monkeypatch
) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 8 * nodes)
    train, validation = (make_part(nodes=nodes, protocol=protocol, name=name) for name in ("train", "validation"))
    graph = random_graph(nodes, share=0.05)
    assert graph.operator().matrix.is_sparse_csr == (nodes == 40)
    settings = Settings.of(PROTOCOLS[protocol], TrainingConfig(epochs=3, batch=50))

    def trained(threads: int) -> tuple[FitResult, list[Tensor]]:
        torch.manual_seed(0)
        shape = SeriesShape(window=6, horizon=4, channels=1, num_nodes=nodes, steps_per_day=24)
        forecaster = PromptPool(backbones.build({"name": "stgnn"}, shape=shape), rank=3)
        torch.set_num_threads(threads)
        result = fit(
            forecaster,
            train=train,
            validation=validation,
            graph=graph,
            strategy=Strategy(),
            selection=Selection(),
            settings=settings,
            generator=torch.Generator().manual_seed(1),
        )
        return result, [parameter.detach() for parameter in forecaster.parameters()]

    (one, weights), *others = (trained(threads) for threads in (1, 2, 3))
    for other, their_weights in others:
        assert [(epoch.loss, epoch.validation) for epoch in other.epochs] == [
            (epoch.loss, epoch.validation) for epoch in one.epochs
        ]
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(weights, their_weights, strict=True))
