"""A GRU with attention behind it is torch's own cell and attention, step by step, also where it goes on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers import recurrent_attention
from st_pipeline.layers.recurrent_attention import RecurrentAttention

WIDTH, HEADS = 8, 2


def make() -> RecurrentAttention:
    torch.manual_seed(0)
    return RecurrentAttention(WIDTH, heads=HEADS, dropout=0.3).eval()


def plain(layer: RecurrentAttention, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """One series (S, F): found (S, F), ahead (steps, F)."""
    cell = nn.GRUCell(WIDTH, WIDTH)
    cell.load_state_dict({name.removesuffix("_l0"): value for name, value in layer.gru.state_dict().items()})
    attention, own = nn.MultiheadAttention(WIDTH, HEADS), layer.attention
    weights = [part.weight for part in (own.query, own.key, own.value)]
    biases = [part.bias for part in (own.query, own.key, own.value)]
    state = {"in_proj_weight": torch.cat(weights), "in_proj_bias": torch.cat(biases)}
    attention.load_state_dict(state | {f"out_proj.{name}": value for name, value in own.out.state_dict().items()})
    states, state, placed = [], torch.zeros(WIDTH), []

    def read(y: Tensor) -> Tensor:
        nonlocal state
        state = cell(y, state)
        position = [
            (math.sin if i % 2 == 0 else math.cos)(len(states) / 10000 ** (i // 2 * 2 / WIDTH)) for i in range(WIDTH)
        ]
        states.append(state)
        placed.append(state + torch.tensor(position))
        return torch.stack(placed)

    for y in x:
        seen = read(y)
    found = attention(seen, seen, seen)[0]
    ahead = [found[-1]]
    for _ in range(steps - 1):
        seen = read(ahead[-1])
        ahead.append(attention(seen[-1:], seen, seen)[0][0])
    return found, torch.stack(ahead)


@torch.no_grad()
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("together", [100, 4])
def test_series_and_what_follows_are_those_of_torchs_parts(steps: int, together: int, monkeypatch) -> None:
    monkeypatch.setattr(recurrent_attention, "TOGETHER", together)
    layer, x = make(), torch.randn(2, 3, 5, WIDTH)
    found, ahead = layer(x, steps=steps)
    assert (found.shape, ahead.shape) == (x.shape, (2, 3, steps, WIDTH))
    for b in range(2):
        for n in range(3):
            one, other = plain(layer, x[b, n], steps)
            torch.testing.assert_close(found[b, n], one, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(ahead[b, n], other, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_series_is_read_on_its_own() -> None:
    layer, x = make(), torch.randn(2, 3, 5, WIDTH)
    other = x.clone()
    other[1, 2, 0] += 1
    for one, two in zip(layer(x, steps=2), layer(other, steps=2), strict=True):
        assert (one != two).any(-1).any(-1).tolist() == [[False] * 3, [False, False, True]]
