"""A loaded HimNet forecasts as its formulas say, written out plainly (models, sections 2.1 and 2.2)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.interop import himnet, load_himnet
from st_pipeline.interop.himnet import DATASETS, Published
from st_pipeline.models.base import count_parameters
from st_pipeline.types import SeriesShape, Window

NODES = 5
TINY = Published(NODES, hidden=4, day=3, week=2, spatial=3, mixed=2)
COUNTS = {  # models, section 2.2
    "METRLA": 1_250_937,
    "PEMSBAY": 1_252_825,
    "PEMS03": 1_253_353,
    "PEMS04": 1_253_661,
    "PEMS07": 1_261_753,
    "PEMS08": 2_069_573,
}


def published(size: Published, random: Any) -> dict[str, Tensor]:
    """A state with the names and shapes of the public code."""
    state = {
        "node_embedding": random(size.sensors, size.spatial),
        "tod_embedding.weight": random(288, size.day),
        "dow_embedding.weight": random(7, size.week),
        "st_proj.weight": random(size.mixed, size.hidden),
        "st_proj.bias": random(size.mixed),
        "out_proj.weight": random(1, size.hidden),
        "out_proj.bias": random(1),
    }
    queries = {"encoder_s": size.spatial, "encoder_t": size.day + size.week, "decoder": size.mixed}
    for stack, query in queries.items():
        for kind, outputs in (("gate", 2 * size.hidden), ("update", size.hidden)):
            name = f"{stack}.cells.0.{kind}"
            state[f"{name}.weights_pool"] = random(query, 2 * (3 + size.hidden), outputs)
            state[f"{name}.bias_pool"] = random(query, outputs)
    return state


def plain_forecast(state: dict[str, Tensor], x: Tensor, future: Tensor, slot: Tensor, day: Tensor) -> Tensor:
    """Section 2.1: x (B, T, N, 3), the calendar of the forecast (B, H, 2), slot and day of the last input (B,)."""
    state = {name: value.double() for name, value in state.items()}
    batch, _, nodes, _ = x.shape
    place = state["node_embedding"]
    time = torch.cat([state["tod_embedding.weight"][slot], state["dow_embedding.weight"][day]], -1)  # (B, d)

    def cell(stack: str, graph: Tensor, query: Tensor, x: Tensor, h: Tensor) -> Tensor:
        """One step; graph (B, N, N), query (B, N, d)."""

        def convolution(kind: str, both: Tensor) -> Tensor:
            terms = torch.cat([both, graph @ both], -1)  # T_0 x and T_1 x
            weight = torch.einsum("bnd,dio->bnio", query, state[f"{stack}.cells.0.{kind}.weights_pool"])
            bias = query @ state[f"{stack}.cells.0.{kind}.bias_pool"]
            return torch.einsum("bni,bnio->bno", terms, weight) + bias

        z, r = convolution("gate", torch.cat([x, h], -1)).sigmoid().chunk(2, -1)
        candidate = convolution("update", torch.cat([x, z * h], -1)).tanh()
        return r * h + (1 - r) * candidate

    encoded = (place @ place.T).relu().softmax(-1).expand(batch, nodes, nodes)
    queries = {"encoder_s": place.expand(batch, -1, -1), "encoder_t": time[:, None].expand(-1, nodes, -1)}
    total = torch.zeros(batch, nodes, state["st_proj.weight"].shape[1], dtype=torch.float64)
    for stack, query in queries.items():
        h = torch.zeros_like(total)
        for step in x.unbind(1):
            h = cell(stack, encoded, query, step, h)
        total = total + h
    mixed = total @ state["st_proj.weight"].T + state["st_proj.bias"]
    graph, h, read, out = (mixed @ mixed.mT).relu().softmax(-1), total, torch.zeros(batch, nodes, 1).double(), []
    for when in future.unbind(1):
        h = cell("decoder", graph, mixed, torch.cat([read, when[:, None].expand(-1, nodes, -1)], -1), h)
        read = h @ state["out_proj.weight"].T + state["out_proj.bias"]
        out.append(read[..., 0])
    return torch.stack(out, 1)


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A data set of five sensors."""
    monkeypatch.setitem(himnet.DATASETS, "TINY", TINY)


def inputs(window: Window) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The window as the public code reads it: x (B, T, N, 3), (B, H, 2), slot and day of the last input."""
    calendar = torch.stack([window.time_of_day / 288, window.day_of_week.double()], -1).double()
    when = calendar[:, :12, None].expand(-1, -1, NODES, -1)
    x = torch.cat([window.values.double(), when], -1)
    return x, calendar[:, 12:], window.time_of_day[:, 11], window.day_of_week[:, 11]


def test_the_forecast_is_that_of_the_formulas(
    tiny: None, random: Any, save: Any, random_window: Any, random_graph: Any
) -> None:
    state = published(TINY, random)
    model = load_himnet(save(state, plain=True), "TINY")
    window = random_window(SeriesShape(12, 12, channels=1, num_nodes=NODES, steps_per_day=288))
    with torch.no_grad():
        found = model(window, random_graph(NODES))
    torch.testing.assert_close(found.double(), plain_forecast(state, *inputs(window)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dataset", DATASETS)
def test_sizes_are_the_published_ones(dataset: str, random: Any, save: Any) -> None:
    state = published(DATASETS[dataset], lambda *shape: torch.zeros(*shape))
    assert sum(value.numel() for value in state.values()) == COUNTS[dataset]
    model = load_himnet(save(state), dataset)
    assert count_parameters(model) == COUNTS[dataset]


def test_what_is_not_the_data_sets_is_refused(tiny: None, random: Any, save: Any) -> None:
    state = published(TINY, random)
    with pytest.raises(InputError, match=r"no data set 'METR-LA'; did you mean 'METRLA'\?"):
        load_himnet(save(state), "METR-LA")
    with pytest.raises(InputError, match=r"tod_embedding.weight is 288 x 3, expected 288 x 8"):
        load_himnet(save(state), "METRLA")
    with pytest.raises(InputError, match=r"holds 1 tensors that HimNet of TINY has not, e.g. 'more'"):
        load_himnet(save({**state, "more": torch.zeros(1)}), "TINY")
    two = {name.replace("cells.0", "cells.1"): value for name, value in state.items() if name.startswith("decoder")}
    with pytest.raises(InputError, match="decoder has 2 convolutions called 'gate', expected one"):
        load_himnet(save({**state, **two}), "TINY")
