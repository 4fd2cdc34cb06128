"""Sparse cross attention: token by token, against torch's own attention, and what each search promises."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.alignment import Alignment
from st_pipeline.layers.surroundings import Surroundings, surroundings

B, N, T, H, D, HEADS, BUCKETS = 2, 6, 4, 3, 8, 2, 32
NEAR, SMALL = 2, {"keep": 3, "recent": 2, "nodes": 2, "bases": 2}


def make(**options: Any) -> Alignment:
    torch.manual_seed(0)
    layer = Alignment(D, heads=HEADS, window=T, horizon=H, **{**SMALL, **options})
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return layer


@pytest.fixture
def places(random_graph) -> Surroundings:
    return surroundings(random_graph(N, share=0.2), buckets=BUCKETS, near=NEAR)


def inputs(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(1)
    return tuple(torch.randn(B, N, steps, D, generator=random, dtype=dtype) for steps in (H, T))


def all_scores(layer: Alignment, state: Tensor, memory: Tensor, places: Surroundings) -> Tensor:
    """(B, h, N, H, N, T): one product and one number of the table for every pair."""
    query, key, size = layer.query(state), layer.key(memory), D // HEADS
    scores = torch.empty(B, HEADS, N, H, N, T)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores[:, head] = torch.einsum("bnhd,bmtd->bnhmt", query[..., part], key[..., part]) / size**0.5
        for n in range(N):
            for m in range(N):
                for ahead in range(H):
                    for step in range(T):
                        scores[:, head, n, ahead, m, step] += layer.position.bias[
                            head, int(places.bucket[n, m]), ahead + T - step - 1
                        ]
    return scores


def two_stage_nodes(layer: Alignment, state: Tensor, memory: Tensor, places: Surroundings) -> list[list[set[int]]]:
    """For each window and sensor, the near sensors and those of the best pooled scores that fill them up."""
    query, key = layer.query(state).mean(2), layer.key(memory).mean(2)
    found = []
    for window in range(B):
        rows = []
        for n in range(N):
            near = set(places.near[n].tolist())
            score = {
                m: float(query[window, n] @ key[window, m]) / (HEADS * (D // HEADS) ** 0.5)
                + float(layer.position.bias[:, int(places.bucket[n, m])][:, LAGS].mean())
                for m in set(range(N)) - near
            }
            rows.append(near | set(sorted(score, key=lambda m: -score[m])[: layer.nodes + NEAR - len(near)]))
        found.append(rows)
    return found


LAGS = torch.tensor([ahead + T - step - 1 for ahead in range(H) for step in range(T)])


def chosen(layer: Alignment, scores: Tensor, places: Surroundings, nodes: list[list[set[int]]] | None) -> Tensor:
    """(B, N, H, N, T) bool, from all scores, one query after the other."""
    mean = scores.mean(1)
    out = torch.zeros(B, N, H, N, T, dtype=torch.bool)
    for window in range(B):
        for n in range(N):
            among = set(range(N)) if nodes is None else nodes[window][n]
            for ahead in range(H):
                tokens = [(float(mean[window, n, ahead, m, t]), m, t) for m in among for t in range(T)]
                for _, m, t in sorted(tokens, reverse=True)[: layer.keep]:
                    out[window, n, ahead, m, t] = True
            for m in places.near[n].tolist():
                out[window, n, :, m, T - layer.recent :] = True
    return out


def attended(layer: Alignment, scores: Tensor, mask: Tensor, memory: Tensor) -> Tensor:
    """(B, N, H, D)."""
    value = layer.value(memory.flatten(1, 2)).unflatten(-1, (HEADS, -1))
    weights = scores.flatten(4).masked_fill(~mask.flatten(3)[:, None], -torch.inf).softmax(-1)
    return layer.out(torch.einsum("bhnas,bshd->bnahd", weights, value).flatten(3))


@torch.no_grad()
@pytest.mark.parametrize("search", ["exact", "two_stage", "dense"])
def test_it_is_attention_to_the_chosen_tokens(search: Any, places) -> None:
    layer, (state, memory) = make(search=search), inputs()
    scores = all_scores(layer, state, memory, places)
    nodes = two_stage_nodes(layer, state, memory, places) if search == "two_stage" else None
    mask = chosen(layer, scores, places, nodes)
    mask = torch.ones_like(mask) if search == "dense" else mask
    torch.testing.assert_close(layer(state, memory, places), attended(layer, scores, mask, memory))


@torch.no_grad()
def test_dense_without_positions_is_the_attention_of_torch(places) -> None:
    layer, (state, memory) = make(search="dense", bases=1), inputs()
    layer.position.bias.zero_()
    plain = torch.nn.MultiheadAttention(D, HEADS, batch_first=True)
    plain.in_proj_weight.copy_(torch.cat([layer.query.weight, layer.key.weight, layer.value.basis[0].T]))
    plain.in_proj_bias.copy_(torch.cat([layer.query.bias, layer.key.bias, torch.zeros(D)]))
    plain.out_proj.load_state_dict(layer.out.state_dict())
    tokens = memory.flatten(1, 2)
    expected = plain(state.flatten(1, 2), tokens, tokens, need_weights=False)[0]
    torch.testing.assert_close(layer(state, memory, places).flatten(1, 2), expected)


@torch.no_grad()
def test_two_stages_that_find_all_sensors_are_exact_and_so_is_keeping_all_tokens(places) -> None:
    state, memory = inputs()
    exact = make()(state, memory, places)
    torch.testing.assert_close(make(search="two_stage", nodes=N)(state, memory, places), exact)
    assert not torch.allclose(make(search="two_stage", nodes=1)(state, memory, places), exact, atol=1e-3)
    dense = make(search="dense")(state, memory, places)
    torch.testing.assert_close(make(keep=N * T)(state, memory, places), dense)
    assert not torch.allclose(dense, exact, atol=1e-3)


@torch.no_grad()
def test_without_a_search_only_the_own_sensor_is_seen_and_all_its_steps_alike(places) -> None:
    layer, (state, memory) = make(search="none", bases=1), inputs()
    found = layer(state, memory, places)
    torch.testing.assert_close(found[:, :, 1], layer.out(memory.mean(2) @ layer.value.basis[0]))
    assert not {"query", "key", "position"} & {name for name, _ in layer.named_children()}
    with pytest.raises(ValueError, match="no attention graph"):
        layer.graph(state, memory, places)


@pytest.mark.parametrize("search", ["exact", "two_stage", "dense"])
def test_parts_change_neither_values_nor_gradients(search: Any, places) -> None:
    found = []
    for together in (1 << 24, 1):
        layer, (state, memory) = make(search=search, together=together), inputs()
        assert len(layer._parts(layer.query(state), places)) == (1 if together > 1 else N)
        state.requires_grad_()
        out = layer(state, memory, places)
        names = dict(layer.named_parameters())
        grads = torch.autograd.grad(out.square().sum(), [state, *names.values()])
        found.append([out, *grads])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_scores_of_parts_are_not_kept_for_the_gradient(places) -> None:
    kept = []
    for together in (1 << 24, 1):
        layer, (state, memory) = make(together=together), inputs()
        sizes: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, s=sizes: s.append(x.numel()) or x, lambda x: x):
            layer(state, memory, places)
        kept.append(max(sizes))
    assert kept[0] == B * HEADS * N * H * N * T
    assert kept[1] <= B * N * T * max(HEADS * T, 2 * D)


@pytest.mark.parametrize("search", ["exact", "two_stage", "dense"])
def test_gradients(search: Any, places) -> None:
    layer, (state, memory) = make(search=search).double(), inputs(torch.float64)
    names = dict(layer.named_parameters())
    assert torch.autograd.gradcheck(
        lambda z, m, *rows: torch.func.functional_call(layer, dict(zip(names, rows, strict=True)), (z, m, places)),
        (state.requires_grad_(), memory.requires_grad_(), *names.values()),
        fast_mode=True,
    )


@torch.no_grad()
@pytest.mark.parametrize("search", ["exact", "two_stage"])
def test_the_attention_graph_names_the_chosen_tokens(search: Any, places) -> None:
    layer, (state, memory) = make(search=search, together=500), inputs()
    found, scores = layer.graph(state, memory, places), all_scores(layer, state, memory, places)
    nodes = two_stage_nodes(layer, state, memory, places) if search == "two_stage" else None
    mask = chosen(layer, scores, places, nodes)
    weights = scores.flatten(4).masked_fill(~mask.flatten(3)[:, None], -torch.inf).softmax(-1).mean(1)
    assert found.weight.shape == (B, N, H, 3 + NEAR * 2)
    torch.testing.assert_close(found.weight.sum(-1), torch.ones(B, N, H))
    assert (found.weight.diff(dim=-1) <= 0).all()
    torch.testing.assert_close(weights.gather(3, found.node * T + found.step), found.weight)
    assert torch.equal((found.weight > 0).sum(-1), mask.flatten(3).sum(-1))
    assert torch.equal(found.lag, torch.arange(H)[:, None] + T - found.step)
    own = torch.arange(N)[None, :, None, None].expand_as(found.node)
    assert torch.equal(found.distance, places.bucket.long()[own, found.node])


@torch.no_grad()
@pytest.mark.parametrize("search", ["exact", "two_stage"])
def test_near_sensors_are_seen_however_they_score_unless_there_is_no_window(search: Any, places, random_graph) -> None:
    layer, (state, memory) = make(keep=1, nodes=1, search=search), inputs()
    layer.position.bias[:, 0] = -30.0  # the own sensor
    found = layer.graph(state, memory, places)
    own = (found.node == torch.arange(N)[:, None, None]) & (found.weight > 0)
    assert (own.sum(-1) == 2).all()
    without = surroundings(random_graph(N, share=0.2), buckets=BUCKETS, near=0)
    alone = layer.graph(state, memory, without)
    assert alone.weight.shape[-1] == 1
    assert (alone.node != torch.arange(N)[:, None, None]).all()
