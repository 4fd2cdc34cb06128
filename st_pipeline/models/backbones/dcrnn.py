"""DCRNN: a sequence to sequence network whose recurrent units diffuse along a road network."""

from __future__ import annotations

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from st_pipeline.layers.calendar_inputs import with_calendar
from st_pipeline.layers.diffusion_conv import DiffusionConv
from st_pipeline.layers.graph_gru import GraphGRU, stack_steps
from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.scheduled_sampling import Feedback, ScheduledSampling
from st_pipeline.models.options import check_least
from st_pipeline.models.sampled_decoder import SampledDecoder
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

GATES = (1.0, 1.0, 0.0)  # where the biases of reset, update and candidate start


@BACKBONES.register
class DCRNN(SampledDecoder):
    """An encoder reads the window, a decoder writes the forecast step by step (Li et al., ICLR 2018).

    Both are stacks of `GraphGRU` over `DiffusionConv`. The decoder begins in the encoder's last states with a 0 and
    then reads its own last forecast, in training sometimes the label instead. A wrapper that computes its own loss,
    such as a prompt pool, hands no labels on: inside it the decoder reads its own forecasts in training as well.

    Args:
        hidden: D, width of a unit.
        layers: units on top of each other, in the encoder and in the decoder.
        steps: of the diffusion, in each direction.
        tau: of scheduled sampling; 0 for none.

    Raises:
        InputError: an option is too small.
    """

    def __init__(
        self, shape: SeriesShape, *, hidden: int = 64, layers: int = 2, steps: int = 2, tau: int = 2000
    ) -> None:
        super().__init__()
        check_least("dcrnn", hidden=hidden, layers=layers, steps=steps)
        check_least("dcrnn", 0, tau=tau)
        self.shape = shape
        self.hidden, self.steps = hidden, steps
        self.encoder = _stack(self.width, hidden, layers, steps)
        self.decoder = _stack(1, hidden, layers, steps)
        self.out = nn.Linear(hidden, 1)
        self.sampling = ScheduledSampling(tau)

    @property
    def width(self) -> int:
        return self.shape.channels + 1

    @property
    def shallow(self) -> tuple[int, ...]:
        return (self.shape.window, self.width)

    @property
    def working_width(self) -> int:
        """All layers at all steps, each with the terms of two convolutions and five widths of gates and states.

        These are all copies there are, of which the estimate counts ten.
        """
        copies = 2 * (2 * self.steps + 1) + 5
        return self.hidden * len(self.encoder) * (self.shape.window + self.shape.horizon) * copies // 10

    def embed(self, window: Window, graph: Graph) -> Tensor:
        """(B, T, N, C + 1): the values, and the time of day."""
        return with_calendar(window, self.shape, week=False)

    def decoded(self, hidden: Tensor, window: Window, graph: Graph, feedback: Feedback) -> Tensor:
        return self._decode(self._encode(hidden, graph), graph, feedback)

    def _encode(self, hidden: Tensor, graph: Graph) -> list[Tensor]:
        """The last state of every layer, (B, N, D)."""
        states = []
        for unit in self.encoder:
            hidden = unit(hidden, graph)
            states.append(hidden[:, -1])
        return states

    def _decode(self, states: list[Tensor], graph: Graph, feedback: Feedback) -> Tensor:
        units = [cast(GraphGRU, unit).bind(graph) for unit in self.decoder]
        states, deep = list(states), []
        read = torch.zeros_like(states[0][..., 0])  # (B, N)
        for step in range(self.shape.horizon):
            x = read[..., None]
            for place, unit in enumerate(units):
                x = states[place] = unit(x, states[place])
            deep.append(x)
            read = feedback(step, by_node(self.out, x).squeeze(-1))
        return stack_steps(deep)


def _stack(inputs: int, hidden: int, layers: int, steps: int) -> nn.ModuleList:
    layer = partial(DiffusionConv, steps=steps)
    widths = (inputs, *(hidden,) * (layers - 1))
    return nn.ModuleList(
        GraphGRU(layer(width, 3 * hidden, starts=GATES), layer(hidden, 2 * hidden), layer(hidden, hidden))
        for width in widths
    )
