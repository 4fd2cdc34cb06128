"""The influence of some nodes on each other one is what gradients node by node give."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies.base import Network
from st_pipeline.strategies.parts.node_influence import DAMPING, TOGETHER, influences
from st_pipeline.types import NodeSet, SeriesShape

NODES = 6


@pytest.fixture
def network(make_part, random_graph) -> Network:
    return Network(NodeSet.of(map(str, range(NODES))), random_graph(NODES), make_part(nodes=NODES, length=80))


@pytest.fixture(params=["bare", "prompted"])
def forecaster(request: pytest.FixtureRequest) -> Forecaster:
    torch.manual_seed(1)
    shape = SeriesShape(window=6, horizon=4, channels=1, num_nodes=NODES, steps_per_day=24)
    bare: Forecaster = backbones.build({"name": "stgnn", "hidden": 8}, shape=shape)
    return bare if request.param == "bare" else PromptPool(bare, rank=2)


def gradient(loss: Tensor, forecaster: Forecaster) -> Tensor:
    parts = [part for part in forecaster.parameters() if part.requires_grad]
    found = torch.autograd.grad(loss, parts, allow_unused=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found]).double()


def exact(forecaster: Forecaster, network: Network, sources: list[int]) -> Tensor:
    """g_i^T H^-1 g with a gradient for every node, over all windows."""

    def error(batch: Tensor, rows: list[int]) -> Tensor:
        window, target = network.train.windows.gather(batch)
        seen = target.observed[..., rows]
        return (forecaster(window, network.graph) - target.values)[..., rows][seen].square().mean()

    starts = network.train.starts
    batches = starts.split(TOGETHER)
    wanted = torch.stack([gradient(error(batch, sources), forecaster) for batch in batches]).mean(0)
    everyone = list(range(NODES))
    fisher = torch.stack([gradient(error(batch, everyone), forecaster).square() for batch in batches]).mean(0)
    direction = wanted / (fisher + DAMPING * fisher.mean())
    return torch.stack([gradient(error(starts, [node]), forecaster) @ direction for node in everyone])


def found(
    forecaster: Forecaster, network: Network, sources: list[int], *, seed: int = 0, windows: int = 10_000
) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return influences(forecaster, network, torch.tensor(sources), generator=random, windows=windows)


@pytest.mark.parametrize("sources", [[0], [4, 5], list(range(NODES))])
def test_influences_are_those_of_gradients_node_by_node(forecaster, network, sources: list[int]) -> None:
    expected = exact(forecaster, network, sources)
    torch.testing.assert_close(
        found(forecaster, network, sources), expected, rtol=0.01, atol=0.01 * float(expected.abs().max())
    )


def test_a_step_that_helps_a_node_helps_it_itself(forecaster, network) -> None:
    for node in range(NODES):
        assert found(forecaster, network, [node])[node] > 0


def test_the_model_is_left_as_it_was(forecaster, network) -> None:
    before = [part.detach().clone() for part in forecaster.parameters()]
    found(forecaster.train(), network, [0])
    assert forecaster.training
    for part, old in zip(forecaster.parameters(), before, strict=True):
        assert torch.equal(part, old)
        assert part.grad is None


def test_frozen_weights_do_not_count(forecaster, network) -> None:
    for name, part in forecaster.named_parameters():
        part.requires_grad_("gcn1" in name)
    expected = exact(forecaster, network, [1])
    torch.testing.assert_close(
        found(forecaster, network, [1]), expected, rtol=0.01, atol=0.01 * float(expected.abs().max())
    )


@pytest.mark.parametrize("silent", [[2], [0, 1]])
def test_a_node_without_a_target_neither_influences_nor_is_influenced(forecaster, network, silent: list[int]) -> None:
    observed = network.train.windows.target_observed.clone()
    observed[:, silent] = False
    windows = replace(network.train.windows, target_observed=observed)
    network = replace(network, train=replace(network.train, windows=windows))
    assert not found(forecaster, network, [3])[silent].any()
    assert not found(forecaster, network, silent).any()


def test_few_windows_are_drawn_by_the_seed(forecaster, network) -> None:
    one, same, other = (found(forecaster, network, [0], seed=seed, windows=8) for seed in (1, 1, 2))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
