"""The gated residual, element by element."""

from __future__ import annotations

import math

import torch

from st_pipeline.layers.gated_fusion import GatedFusion

WIDTH = 3


@torch.no_grad()
def test_the_gate_weighs_what_is_added_before_the_normalisation() -> None:
    torch.manual_seed(0)
    layer, state, found = GatedFusion(WIDTH, dropout=0.5).eval(), torch.randn(WIDTH), torch.randn(WIDTH)
    layer.norm.weight.copy_(torch.randn(WIDTH))
    both = [*state.tolist(), *found.tolist()]

    def linear(part: torch.nn.Linear, place: int) -> float:
        return sum(w * x for w, x in zip(part.weight[place].tolist(), both, strict=True)) + float(part.bias[place])

    total = []
    for place in range(WIDTH):
        x = linear(layer.fuse, place)
        taken = x * 0.5 * (1 + math.erf(x / math.sqrt(2)))
        total.append(float(state[place]) + taken / (1 + math.exp(-linear(layer.gate, place))))
    mean = sum(total) / WIDTH
    deviation = math.sqrt(sum((x - mean) ** 2 for x in total) / WIDTH + 1e-5)
    expected = torch.tensor([(x - mean) / deviation for x in total]) * layer.norm.weight
    torch.testing.assert_close(layer(state, found), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_shut_gate_leaves_the_state() -> None:
    layer, state = GatedFusion(WIDTH, dropout=0.0), torch.randn(4, WIDTH)
    layer.gate.weight.zero_()
    layer.gate.bias.fill_(-100.0)
    torch.testing.assert_close(layer(state, torch.randn(4, WIDTH)), layer.norm(state))
