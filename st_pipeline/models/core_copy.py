"""The core of a backbone with parameters of its own."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_table import node_tables, restricted
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.types import Graph, Window


class CoreCopy(nn.Module):
    """A copy of a backbone of which only `core` is used; it starts equal and learns by itself.

    What the core does not use is no parameter of the copy, so that nothing idle is counted, stored or trained. Which
    parameters those are is found with one small window, whose gradients reach the core's alone. A table of data about
    sensors, which has no parameters, is that of the original; the tables of a backbone that normalises by its batch
    hold statistics, and are copied.
    """

    def __init__(self, backbone: Forecaster) -> None:
        super().__init__()
        tables = node_tables(backbone).values() if backbone.separable else ()
        shared: dict[int, Any] = {id(table): table for table in tables if not list(table.parameters())}
        self.copied = copy.deepcopy(backbone, memo=shared)
        if not next(iter(self.copied.parameters()), torch.empty(0)).is_meta:  # on it nothing can be tried out
            _leave_out(self.copied, idle_parameters(self.copied))

    def forward(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """As `Forecaster.core`."""
        return self.copied.core(hidden, window, graph)


def idle_parameters(backbone: Forecaster) -> set[str]:
    """Names of the parameters that `core` does not use."""
    shape, like = backbone.shape, next(backbone.parameters(), torch.empty(0))
    size = (1, shape.window, 1, shape.channels)
    clock = torch.zeros(1, shape.window + shape.horizon, dtype=torch.int64, device=like.device)
    window = Window(like.new_zeros(size), torch.ones(size, dtype=torch.bool, device=like.device), clock, clock)
    nothing = clock.new_empty(0)
    graph = Graph(1, nothing, nothing, like.new_empty(0))
    named = dict(backbone.named_parameters())
    with as_in_evaluation(backbone), torch.enable_grad(), restricted(backbone, clock[0, :1]):
        deep = backbone.core(backbone.embed(window, graph).detach(), window, graph)
        gradients = torch.autograd.grad(deep.sum(), list(named.values()), allow_unused=True)
    return {name for name, gradient in zip(named, gradients, strict=True) if gradient is None}


def _leave_out(module: nn.Module, idle: set[str]) -> None:
    """Node tables without a used row are taken away; other idle parameters become buffers that nobody stores."""
    for name, table in node_tables(module).items():
        own = {f"{name}.{kind}" for kind, _ in table.named_parameters()}
        if own and own <= idle:
            path, _, leaf = name.rpartition(".")
            module.get_submodule(path).register_module(leaf, nn.Identity())
            idle = idle - own
    for name in idle:
        path, _, leaf = name.rpartition(".")
        owner = module.get_submodule(path)
        value = owner.get_parameter(leaf).detach()
        delattr(owner, leaf)
        owner.register_buffer(leaf, value, persistent=False)
