"""Parameters out of a pool: what each kind of query gives, against the sums written out."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.pooled_params import PooledLinear

BATCH, STEPS, NODES, QUERY = 3, 4, 5, 6
QUERIES = {"node": (NODES, QUERY), "window": (BATCH, 1, QUERY), "both": (BATCH, NODES, QUERY)}


@pytest.fixture(params=QUERIES.values(), ids=QUERIES.keys())
def query(request: pytest.FixtureRequest) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(request.param, dtype=torch.float64, requires_grad=True)


@pytest.fixture(params=[(2, 7), (7, 2)], ids=["wider", "narrower"])
def layer(request: pytest.FixtureRequest) -> PooledLinear:
    torch.manual_seed(0)
    return PooledLinear(*request.param, query=QUERY).double()


def inputs(layer: PooledLinear, *, steps: bool) -> Tensor:
    size = (BATCH, STEPS, NODES) if steps else (BATCH, NODES)
    return torch.randn(*size, layer.weight.shape[1], dtype=torch.float64, requires_grad=True)


def written_out(layer: PooledLinear, x: Tensor, query: Tensor) -> Tensor:
    """Every node of every window with its own matrix, made entry by entry of the pool."""
    rows = query.expand(BATCH, NODES, QUERY)
    out = []
    for batch in range(BATCH):
        for node in range(NODES):
            weight = sum(rows[batch, node, d] * layer.weight[d] for d in range(QUERY))
            bias = 0 if layer.bias is None else sum(rows[batch, node, d] * layer.bias[d] for d in range(QUERY))
            out.append(x[batch, ..., node, :] @ weight + bias)
    return torch.stack(out).unflatten(0, (BATCH, NODES)).movedim(1, -2)


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_every_query_gives_its_own_linear_map_in_value_and_gradients(layer, query, steps: bool, bias: bool) -> None:
    if not bias:
        layer.bias = None
    x = inputs(layer, steps=steps)
    of = [x, query, *layer.parameters()]
    found, expected = layer(x, query), written_out(layer, x, query)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    for mine, theirs in zip(*(torch.autograd.grad((out * weight).sum(), of) for out in (found, expected)), strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradients_are_those_of_finite_differences(layer, query) -> None:
    def apply(x: Tensor, query: Tensor, *parameters: Tensor) -> Tensor:
        names = dict(zip(("weight", "bias"), parameters, strict=True))
        return torch.func.functional_call(layer, names, (x, query))

    assert torch.autograd.gradcheck(apply, (inputs(layer, steps=False), query, *layer.parameters()))


def test_the_memory_order_of_the_inputs_does_not_matter(layer, query) -> None:
    x = inputs(layer, steps=True).detach()
    nodes_first = x.movedim(-2, 0).contiguous().movedim(0, -2)
    torch.testing.assert_close(layer(nodes_first, query), layer(x, query))


def test_a_node_or_a_window_has_one_weight_whatever_the_number_of_steps(layer) -> None:
    """What is kept for the backward pass grows with the steps by their own inputs and no more."""

    def kept(query: Tensor, steps: int) -> int:
        sizes: dict[int, int] = {}

        def note(saved: Tensor) -> Tensor:
            sizes[saved.untyped_storage().data_ptr()] = saved.untyped_storage().nbytes() // 8
            return saved

        with torch.autograd.graph.saved_tensors_hooks(note, lambda saved: saved):
            bound = layer.bind(query)
            series = [torch.randn(BATCH, NODES, layer.weight.shape[1], dtype=torch.float64) for _ in range(steps)]
            out = [bound(x) for x in series]
        assert len(out) == steps
        return sum(sizes.values())

    for name in ("node", "window", "both"):
        query = torch.randn(QUERIES[name], dtype=torch.float64, requires_grad=True)
        growth = (kept(query, 9) - kept(query, 5)) / 4
        assert growth <= BATCH * NODES * layer.weight.shape[1] * 1.01, name


def test_one_node_is_the_same_for_a_window_as_for_the_node_of_a_window(layer) -> None:
    query = torch.randn(BATCH, 2, QUERY, dtype=torch.float64)
    x = torch.randn(BATCH, 2, layer.weight.shape[1], dtype=torch.float64)
    torch.testing.assert_close(layer(x[:, :1], query[:, :1]), layer(x, query)[:, :1])


def test_a_pool_is_drawn_as_xavier_has_it(layer) -> None:
    torch.manual_seed(0)
    large = PooledLinear(20, 30, query=10)
    query, inputs_, outputs = large.weight.shape
    assert float(large.weight.detach().std()) == pytest.approx((2 / ((query + inputs_) * outputs)) ** 0.5, rel=0.05)
    assert float(large.bias.detach().std()) == pytest.approx((2 / (query + outputs)) ** 0.5, rel=0.15)
