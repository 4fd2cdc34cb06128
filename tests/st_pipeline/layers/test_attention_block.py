"""GMAN's attention: the formulas written out for one window, step and sensor, and who sees whom."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers import sequence
from st_pipeline.layers.attention_block import AttentionBlock, PlacedAttention, TransformAttention
from st_pipeline.layers.row_norm import NormedLinear, RowNorm

WIDTH, HEADS = 6, 2
B, T, N = 2, 4, 3


def drawn(layer: nn.Module) -> nn.Module:
    """In evaluation, with all parameters and running statistics at random."""
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 0.5)
        for part in layer.modules():
            if isinstance(part, RowNorm):
                part.running_mean.normal_()
                part.running_var.uniform_(0.5, 1.5)
    return layer.eval()


def normed(layer: NormedLinear, x: Tensor) -> Tensor:
    norm = layer.norm
    y = layer.linear.weight @ x + layer.linear.bias
    return ((y - norm.running_mean) / (norm.running_var + 1e-5).sqrt() * norm.weight + norm.bias).clamp(min=0)


def two(layers: nn.Sequential, x: Tensor) -> Tensor:
    return layers[1].weight @ normed(layers[0], x) + layers[1].bias


def asked(query: Tensor, keys: list[Tensor], values: list[Tensor]) -> Tensor:
    """One query's answer, head by head."""
    size, found = WIDTH // HEADS, []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        scores = torch.stack([query[own] @ key[own] for key in keys]) / size**0.5
        shares = scores.exp() / scores.exp().sum()
        found.append(sum(share * value[own] for share, value in zip(shares, values, strict=True)))
    return torch.cat(found)


def placed(layer: PlacedAttention, both: Tensor, b: int, t: int, n: int) -> Tensor:
    """One element's answer; both (B, T, N, 2 D)."""
    seen = [(t, other) for other in range(N)] if layer.axis == "node" else [(step, n) for step in range(t + 1)]
    parts = {place: normed(layer.inward, both[b, place[0], place[1]]).chunk(3) for place in {(t, n), *seen}}
    found = asked(parts[t, n][0], [parts[place][1] for place in seen], [parts[place][2] for place in seen])
    return two(layer.outward, found)


@torch.no_grad()
def test_a_block_is_the_formulas(monkeypatch) -> None:
    block, x, where = (
        drawn(AttentionBlock(WIDTH, heads=HEADS)),
        torch.randn(B, T, N, WIDTH),
        torch.randn(B, T, N, WIDTH),
    )
    both, expected = torch.cat([x, where], dim=-1), torch.empty_like(x)
    for b, t, n in torch.cartesian_prod(torch.arange(B), torch.arange(T), torch.arange(N)).tolist():
        across, along = (placed(layer, both, b, t, n) for layer in (block.across, block.along))
        gate = block.gate_across.weight @ across + block.gate_along.weight @ along + block.gate_along.bias
        share = 1 / (1 + (-gate).exp())
        expected[b, t, n] = x[b, t, n] + two(block.outward, share * across + (1 - share) * along)
    torch.testing.assert_close(block(x, where), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(sequence, "TOGETHER", 5)
    torch.testing.assert_close(block(x, where), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_steps_to_come_ask_the_window(monkeypatch) -> None:
    layer, horizon = drawn(TransformAttention(WIDTH, heads=HEADS)), 5
    x, past, future = (torch.randn(B, steps, N, WIDTH) for steps in (T, T, horizon))
    expected = torch.empty(B, horizon, N, WIDTH)
    for b, h, n in torch.cartesian_prod(torch.arange(B), torch.arange(horizon), torch.arange(N)).tolist():
        keys = [normed(layer.key, past[b, t, n]) for t in range(T)]
        values = [normed(layer.value, x[b, t, n]) for t in range(T)]
        expected[b, h, n] = two(layer.outward, asked(normed(layer.query, future[b, h, n]), keys, values))
    torch.testing.assert_close(layer(x, past, future), expected, rtol=1e-4, atol=1e-5)
    monkeypatch.setattr(sequence, "TOGETHER", 4)
    torch.testing.assert_close(layer(x, past, future), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("axis", "seen"),
    [("node", {(1, 0), (1, 1), (1, 2)}), ("time", {(1, 2), (2, 2), (3, 2)})],
)
def test_a_change_is_seen_by_all_sensors_of_its_step_or_by_the_steps_behind_it(axis, seen) -> None:
    layer, both = drawn(PlacedAttention(WIDTH, heads=HEADS, axis=axis)), torch.randn(1, T, N, 2 * WIDTH)
    other = both.clone()
    other[0, 1, 2] += 1
    differs = (layer(other) - layer(both)).abs().amax(-1)[0] > 1e-6
    assert {tuple(place) for place in differs.nonzero().tolist()} == seen


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(1)
    block = AttentionBlock(4, heads=2).double()
    x, where = (torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(block, (x, where))
