"""A loss and its gradients are those of the whole batch, whatever pieces it is worked on in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from st_pipeline.data.protocols import PROTOCOLS, Part
from st_pipeline.model_config import TrainingConfig
from st_pipeline.models.base import Forecaster
from st_pipeline.training.objective import Objective, count_targets, make_criterion
from st_pipeline.training.pieces import Workers, workers
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, Window

NODES = 5
ALONE = Workers()
CHOSEN = torch.tensor([True, False, True, True, False])
Build = Callable[..., Objective]


@pytest.fixture
def graph(random_graph) -> Graph:
    return random_graph(NODES)


@pytest.fixture
def batch() -> Tensor:
    return torch.randperm(100, generator=torch.Generator().manual_seed(0))[:50]


@pytest.fixture
def build(make_learner, make_part, graph) -> Build:
    """`build(protocol="sound", part=None, nodes=None, most=None, wrap=None, **settings)`: of a freshly drawn model."""

    def make(protocol: str = "sound", *, part=None, nodes=None, most=None, wrap=None, **changes) -> Objective:
        torch.manual_seed(0)
        forecaster = make_learner().build(NODES)
        settings = replace(Settings.of(PROTOCOLS[protocol], TrainingConfig()), **changes)
        part = part or make_part(protocol=protocol)
        return Objective(wrap(forecaster) if wrap else forecaster, part, graph, settings, nodes, most)

    return make


@pytest.fixture(params=[None, 40, 5], ids=["whole", "pieces", "single windows"])
def split(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int | None:
    """Cells of a piece, where a batch is split."""
    if request.param:
        monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", request.param)
    return request.param


def gradients(objective: Objective) -> dict[str, Tensor | None]:
    """Gradients by parameter, which are then forgotten."""
    found = {name: parameter.grad for name, parameter in objective.forecaster.named_parameters()}
    objective.forecaster.zero_grad(set_to_none=True)
    return found


def whole(objective: Objective, batch: Tensor) -> tuple[Tensor, dict[str, Tensor | None]]:
    """Loss and gradients of the batch in one piece, by torch's own backward pass."""
    part = objective.part
    criterion = make_criterion(part, objective.settings, objective.nodes)
    loss = objective.forecaster.training_loss(*part.windows.gather(batch), objective.graph, criterion)
    loss.backward()
    return loss.detach(), gradients(objective)


def assert_as_the_whole(objective: Objective, batch: Tensor, team: Workers = ALONE) -> None:
    loss, expected = whole(objective, batch)
    found = objective.backward(batch, team)
    assert not found.requires_grad
    torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-6)
    for name, gradient in gradients(objective).items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("nodes", [None, CHOSEN], ids=["all nodes", "some nodes"])
@pytest.mark.parametrize("masked", [True, False], ids=["masked", "unmasked"])
@pytest.mark.parametrize("loss", ["mae", "mse"])
@pytest.mark.parametrize("protocol", ["sound", "paper"])
def test_loss_and_gradients_are_those_of_the_whole_batch(
    build: Build, batch: Tensor, split, protocol: str, loss: str, masked: bool, nodes: Tensor | None
) -> None:
    objective = build(protocol, nodes=nodes, loss=loss, masked_loss=masked)
    assert len(objective.pieces(batch)) == {None: 1, 40: 8, 5: 50}[split]
    assert_as_the_whole(objective, batch)


def test_pieces_weigh_by_what_was_observed_in_them(build: Build, make_part, split) -> None:
    part = make_part(missing=0.5)
    observed = part.windows.target_observed.clone()
    observed[:40] = False
    part = replace(part, windows=replace(part.windows, target_observed=observed))
    assert_as_the_whole(build(part=part), torch.arange(20, 70))


def test_where_nothing_was_observed_nothing_is_learned(build: Build, batch: Tensor, make_part, split) -> None:
    part = make_part()
    silent = torch.zeros_like(part.windows.target_observed)
    objective = build(part=replace(part, windows=replace(part.windows, target_observed=silent)))
    assert objective.backward(batch, ALONE) == 0
    assert not any(gradient.any() for gradient in gradients(objective).values() if gradient is not None)


def test_a_part_without_gaps_is_learned_from_like_any_other(build: Build, batch: Tensor, make_part, split) -> None:
    part = make_part(missing=0)
    assert part.windows.complete
    assert_as_the_whole(build(part=part), batch)


@pytest.mark.parametrize("most", [1, 7, 49, 50])
def test_memory_may_ask_for_smaller_pieces(build: Build, batch: Tensor, most: int) -> None:
    objective = build(most=most)
    assert max(len(piece) for piece in objective.pieces(batch)) <= most
    assert_as_the_whole(objective, batch)


@pytest.mark.parametrize("threads", [2, 3])
def test_workers_change_no_bit(build: Build, batch: Tensor, monkeypatch, threads: int) -> None:
    monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", 40)
    objective = build()
    loss, alone = objective.backward(batch, ALONE), gradients(objective)
    with workers(torch.device("cpu"), threads) as team:
        assert torch.equal(objective.backward(batch, team), loss)
    for name, gradient in gradients(objective).items():
        assert torch.equal(gradient, alone[name]), name


def test_gradients_are_added_to_those_already_there(build: Build, batch: Tensor, split) -> None:
    objective = build()
    _, expected = whole(objective, batch)
    for parameter in objective.forecaster.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    objective.backward(batch, ALONE)
    for name, gradient in gradients(objective).items():
        torch.testing.assert_close(gradient, expected[name] + 3, rtol=1e-4, atol=1e-5)


def test_a_parameter_that_plays_no_part_gets_no_gradient(build: Build, batch: Tensor, split) -> None:
    def wrap(forecaster: Forecaster) -> Forecaster:
        forecaster.idle = nn.Parameter(torch.ones(2))
        forecaster.inner.gcn1.own.weight.requires_grad_(False)
        return forecaster

    objective = build(wrap=wrap)
    objective.backward(batch, ALONE)
    without = {name for name, gradient in gradients(objective).items() if gradient is None}
    assert without == {"idle", "inner.gcn1.own.weight"}


def test_gradients_lie_in_memory_as_their_parameters_do(build: Build, batch: Tensor, split) -> None:
    def wrap(forecaster: Forecaster) -> Forecaster:
        for module in list(forecaster.modules()):
            if isinstance(module, nn.Linear):
                module.weight = nn.Parameter(module.weight.detach().t().contiguous().t())
        return forecaster

    objective = build(wrap=wrap)
    objective.backward(batch, ALONE)
    strides = {name: parameter.stride() for name, parameter in objective.forecaster.named_parameters()}
    assert {name: gradient.stride() for name, gradient in gradients(objective).items()} == strides
    assert strides["inner.fc.weight"] == (1, 4)


class Together(Forecaster):
    """A model whose forecasts lack the mean over their batch, so that none is what it would be alone."""

    separable = False

    def __init__(self, inner: Forecaster) -> None:
        super().__init__()
        self.inner = inner
        self.batches: list[int] = []

    def forward(self, window: Window, graph: Graph) -> Tensor:
        self.batches.append(len(window.values))
        forecast = self.inner(window, graph)
        return forecast - forecast.mean(0, keepdim=True)


def test_a_batch_whose_windows_depend_on_each_other_is_never_split(build: Build, batch: Tensor, split) -> None:
    objective = build(wrap=Together, most=3)
    assert not objective.forecaster.divisible
    assert [piece.tolist() for piece in objective.pieces(batch)] == [batch.tolist()]
    with workers(torch.device("cpu"), 2) as team:
        assert_as_the_whole(objective, batch, team)
    assert objective.forecaster.batches == [50, 50]


@pytest.mark.parametrize("layer", [nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout])
@pytest.mark.parametrize("probability", [0.0, 0.1, 1.0])
def test_a_batch_for_which_random_numbers_are_drawn_is_never_split(
    build: Build, batch: Tensor, split, layer: type[nn.Module], probability: float
) -> None:
    def wrap(forecaster: Forecaster) -> Forecaster:
        forecaster.inner.deep = nn.Sequential(layer(probability))
        return forecaster

    objective = build(wrap=wrap, most=7)
    assert objective.forecaster.divisible == (probability == 0)
    sizes = [len(piece) for piece in objective.pieces(batch)]
    assert max(sizes) <= 7 if probability == 0 else sizes == [50]


@given(st.integers(0, 1000), st.sampled_from(["sound", "paper"]), st.booleans(), st.booleans(), st.data())
def test_targets_are_counted_as_a_plain_loop_counts_them(
    make_part, seed: int, protocol: str, masked: bool, some: bool, data: st.DataObject
) -> None:
    part: Part = make_part(seed=seed, protocol=protocol, length=60, missing=0.4)
    settings = replace(Settings.of(PROTOCOLS[protocol], TrainingConfig()), masked_loss=masked)
    nodes = torch.rand(NODES, generator=torch.Generator().manual_seed(seed)) < 0.5 if some else None
    starts = data.draw(st.lists(st.sampled_from(part.starts.tolist()), max_size=12))
    expected = 0
    for start in starts:
        for step in range(start + part.windows.window, start + part.windows.span):
            for node in range(NODES):
                counts = nodes is None or bool(nodes[node])
                expected += counts and (not masked or bool(part.windows.target_observed[step, node]))
    count = count_targets(part, settings, nodes)
    assert int(count(torch.tensor(starts, dtype=torch.int64))) == expected
