"""A copied core starts as the original's, has parameters of its own, and none that it does not use."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.core_copy import CoreCopy, idle_parameters
from st_pipeline.types import NodeSet, SeriesShape

NODES = 5
SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=NODES, steps_per_day=288)
SPECS: list[dict[str, Any]] = [
    {"name": "stgnn"},
    {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2},
    {"name": "stid"},
    {"name": "agcrn", "hidden": 8},
    {"name": "tfmoe"},
    {"name": "stnorm", "hidden": 8},
]


@pytest.fixture(params=SPECS, ids=lambda spec: "-".join(map(str, spec.values())))
def backbone(request: pytest.FixtureRequest) -> Forecaster:
    torch.manual_seed(0)
    made: Forecaster = backbones.build(request.param, shape=SHAPE)
    return made.eval()


def names(count: int) -> NodeSet:
    return NodeSet.of(f"sensor {place}" for place in range(count))


def test_a_copy_starts_equal_and_learns_by_itself(backbone, random_window, random_graph) -> None:
    copied, window, graph = CoreCopy(backbone).eval(), random_window(SHAPE), random_graph(NODES)
    hidden = backbone.embed(window, graph)
    before = backbone.core(hidden, window, graph)
    assert torch.equal(copied(hidden, window, graph), before)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.add_(1.0)
    assert torch.equal(backbone.core(hidden, window, graph), before)
    assert not torch.isclose(copied(hidden, window, graph), before).all()


def test_every_parameter_of_a_copy_is_used_and_no_used_one_is_missing(backbone, random_window, random_graph) -> None:
    copied, window, graph = CoreCopy(backbone), random_window(SHAPE), random_graph(NODES)
    hidden = backbone.embed(window, graph).detach()
    used = []
    for core in (copied, backbone.core):
        of = (copied if core is copied else backbone).named_parameters()
        named = {name.removeprefix("copied."): part for name, part in of}
        gradients = torch.autograd.grad(core(hidden, window, graph).sum(), list(named.values()), allow_unused=True)
        used.append({name for name, gradient in zip(named, gradients, strict=True) if gradient is not None})
        assert core is not copied or used[0] == set(named)
    assert used[0] == used[1]
    assert idle_parameters(backbone) == set(dict(backbone.named_parameters())) - used[1]


def test_a_copy_of_eac_s_network_has_no_output_layer() -> None:
    copied = CoreCopy(backbones.build("stgnn", shape=SHAPE))
    assert count_parameters(copied) == 3308 - 12 * 13
    assert not any("fc" in name for name in copied.state_dict())


def test_looking_for_what_is_idle_changes_nothing(backbone) -> None:
    state = {name: value.clone() for name, value in backbone.state_dict().items()}
    random = torch.get_rng_state()
    with torch.no_grad():
        idle_parameters(backbone.train())
    assert all(part.training for part in backbone.modules())
    assert all(torch.equal(value, state[name]) for name, value in backbone.state_dict().items())
    assert all(part.grad is None for part in backbone.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_tables_of_a_copy_grow_and_are_restored(backbone, random_window, random_graph) -> None:
    copied, other = CoreCopy(backbone), CoreCopy(backbones.build("stgnn", shape=SHAPE))
    assert other.state_dict().keys() == CoreCopy(backbones.build("stgnn", shape=SHAPE)).state_dict().keys()
    for table in node_tables(torch.nn.ModuleList([backbone, copied])).values():
        table.expand(names(NODES))
        table.expand(names(NODES + 2))
    window, graph = random_window(SHAPE), random_graph(NODES + 2)
    window = window._replace(values=torch.randn(3, 12, NODES + 2, 1), observed=torch.ones(3, 12, NODES + 2, 1).bool())
    assert copied.eval()(backbone.embed(window, graph), window, graph).isfinite().all()
    again = CoreCopy(backbone)
    again.load_state_dict(copied.state_dict())
    assert count_parameters(again) == count_parameters(copied)


def test_all_parts_of_a_copy_are_drawn_anew(backbone) -> None:
    copied = CoreCopy(backbone)
    with torch.no_grad():
        for parameter in copied.parameters():
            parameter.fill_(7.0)
    for module in copied.modules():
        if callable(draw := getattr(module, "reset_parameters", None)):
            draw()
    assert not any((parameter == 7.0).any() for parameter in copied.parameters())


def test_data_about_sensors_are_shared_and_statistics_are_not(random_window, random_graph) -> None:
    mixture, norms = (
        backbones.build("tfmoe", shape=SHAPE),
        backbones.build({"name": "stnorm", "hidden": 8}, shape=SHAPE),
    )
    assert CoreCopy(mixture).copied.profiles is mixture.profiles
    copied, window, graph = CoreCopy(norms).train(), random_window(SHAPE), random_graph(NODES)
    before = {name: value.clone() for name, value in norms.state_dict().items()}
    own = {name: value.clone() for name, value in copied.state_dict().items()}
    copied(norms.embed(window, graph), window, graph)
    assert all(torch.equal(value, before[name]) for name, value in norms.state_dict().items())
    assert any(not torch.equal(value, own[name]) for name, value in copied.state_dict().items())


def test_on_no_device_a_copy_is_whole() -> None:
    with torch.device("meta"):
        copied = CoreCopy(backbones.build("stgnn", shape=SHAPE))
    assert count_parameters(copied) == 3308
