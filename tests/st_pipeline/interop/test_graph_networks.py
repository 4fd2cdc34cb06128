"""Loaded checkpoints forecast as their formulas say, written out plainly (continual-methods, sections 2 to 4)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import conv1d, gelu

from st_pipeline.errors import InputError
from st_pipeline.interop import load_eac, load_stkec, load_trafficstream
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.types import Graph, NodeSet, SeriesShape

NODES = 9
SHAPE = SeriesShape(12, 12, channels=1, num_nodes=NODES, steps_per_day=288)


def plain_deep(state: dict[str, Tensor], x: Tensor, graph: Graph, prompt: Tensor | float = 0.0) -> Tensor:
    """Section 2.1, node by node: x (B, N, 12) standardised -> z (B, N, 12)."""
    matrix = graph.dense().double()
    matrix = matrix / (matrix.sum(1, keepdim=True) + 1e-6)

    def convolution(name: str, h: Tensor) -> Tensor:
        rows = []
        for node in range(h.shape[1]):
            gathered = sum(matrix[node, other] * h[:, other] for other in range(h.shape[1]))
            own = h[:, node] @ state[f"{name}.weight_self.weight"].double().T
            near = gathered @ state[f"{name}.weight_neigh.weight"].double().T
            rows.append(near + state[f"{name}.weight_neigh.bias"].double() + own)
        return torch.stack(rows, 1)

    h = convolution("gcn1", x + prompt).relu()
    along = conv1d(h.flatten(0, 1)[:, None], state["tcn1.weight"].double(), state["tcn1.bias"].double(), padding=1)
    return convolution("gcn2", along[:, 0].view(h.shape))


def plain_output(state: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """(B, N, 12) -> (B, 12, N)."""
    return (hidden @ state["fc.weight"].double().T + state["fc.bias"].double()).transpose(1, 2)


@pytest.fixture
def town(random_graph: Any, random_window: Any) -> Any:
    """A graph, a window, and the window as the published codes read it, (B, N, 12)."""
    window = random_window(SHAPE)
    return random_graph(NODES), window, window.values[..., 0].transpose(1, 2).double()


def forecast(model: Forecaster, town: Any) -> Tensor:
    graph, window, _ = town
    with torch.no_grad():
        out: Tensor = model(window, graph)
    return out.double()


def test_eac(skeleton: Any, random: Any, save: Any, town: Any) -> None:
    state = {**skeleton, "U": random(NODES, 6), "V": random(6, 12)}
    model = load_eac(save(state))
    graph, _, x = town
    prompt = state["U"].double() @ state["V"].double()
    wanted = plain_output(state, gelu(plain_deep(state, x, graph, prompt) + x))
    torch.testing.assert_close(forecast(model, town), wanted, rtol=1e-5, atol=1e-5)
    assert count_parameters(model) == 3308 + 6 * (NODES + 12)  # section 3.1


def test_trafficstream(skeleton: Any, save: Any, town: Any) -> None:
    model = load_trafficstream(save(skeleton))
    graph, _, x = town
    wanted = plain_output(skeleton, gelu(plain_deep(skeleton, x, graph) + x))
    torch.testing.assert_close(forecast(model, town), wanted, rtol=1e-5, atol=1e-5)
    assert count_parameters(model) == 3308  # section 2.1


def test_stkec_reads_its_memory_without_softmax(skeleton: Any, random: Any, save: Any, town: Any) -> None:
    state = {**skeleton, "memory": random(24, 12)}
    model = load_stkec(save(state))
    graph, _, x = town
    z, memory = plain_deep(state, x, graph), state["memory"].double()
    wanted = plain_output(state, (z + x + z @ memory.T @ memory).relu())
    torch.testing.assert_close(forecast(model, town), wanted, rtol=1e-5, atol=1e-5)
    assert count_parameters(model) == 3596  # section 4.2


def test_a_state_dictionary_by_itself_and_of_a_parallel_model(skeleton: Any, save: Any, town: Any) -> None:
    wanted = forecast(load_trafficstream(save(skeleton)), town)
    for state in (skeleton, {f"module.{name}": value for name, value in skeleton.items()}):
        assert torch.equal(forecast(load_trafficstream(save(state, plain=True)), town), wanted)


def test_rows_follow_the_ids_of_sensors(skeleton: Any, random: Any, save: Any, town: Any) -> None:
    ids = [f"s{row}" for row in range(NODES)]
    path = save({**skeleton, "U": random(NODES, 2), "V": random(2, 12)})
    before = load_eac(path, sensors=ids)
    after = load_eac(path, sensors=ids)
    turned = list(reversed(ids))
    after.expand(NodeSet.of(turned))
    graph, window, x = town
    order = torch.tensor([ids.index(name) for name in turned])
    flipped = window._replace(values=window.values[:, :, order], observed=window.observed[:, :, order])
    found = forecast(after, (graph.subgraph(order), flipped, x))
    torch.testing.assert_close(found, forecast(before, town)[..., order], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="has rows of 9 sensors, but 3 different ids were given"):
        load_eac(path, sensors=ids[:3])


WRONG: dict[str, tuple[Callable[[Any], Any], str]] = {
    "no prompts": (lambda state: state, "has no tensor 'V'"),
    "ranks that differ": (
        lambda state: {**state, "U": torch.zeros(5, 3), "V": torch.zeros(6, 12)},
        "U is 5 x 3, expected any x 6",
    ),
    "another output": (
        lambda state: {**state, "U": torch.zeros(5, 6), "V": torch.zeros(6, 12), "fc.bias": torch.zeros(3)},
        "fc.bias is 3, expected 12",
    ),
    "a memory too": (
        lambda state: {**state, "U": torch.zeros(5, 6), "V": torch.zeros(6, 12), "memory": torch.zeros(24, 12)},
        "holds 1 tensors that EAC has not, e.g. 'memory'",
    ),
    "no convolution": (
        lambda state: (
            {name: value for name, value in state.items() if "self" not in name}
            | {"U": torch.zeros(5, 6), "V": torch.zeros(6, 12)}
        ),
        "gcn1 has 1 linear layers with bias and 0 without, expected one of each",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_eac_is_refused(case: str, skeleton: Any, save: Callable[..., Path]) -> None:
    change, told = WRONG[case]
    with pytest.raises(InputError, match=told):
        load_eac(save(change(skeleton)))
