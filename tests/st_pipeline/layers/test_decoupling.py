"""The gate and the remainder are their formulas."""

from __future__ import annotations

import torch

from st_pipeline.layers.decoupling import EstimationGate, Remainder


@torch.no_grad()
def test_a_gate_reads_the_calendar_and_the_sensor_side_by_side() -> None:
    torch.manual_seed(0)
    gate, when, who = EstimationGate(3, 2, 8), torch.randn(2, 4, 3), torch.randn(5, 2)
    found = gate(when, who)
    assert found.shape == (2, 5, 4, 1)
    for b in range(2):
        for n in range(5):
            for s in range(4):
                hidden = gate.inward.weight @ torch.cat([when[b, s], who[n]]) + gate.inward.bias
                score = gate.outward.weight @ hidden.clamp(min=0) + gate.outward.bias
                torch.testing.assert_close(found[b, n, s], 1 / (1 + (-score).exp()))


def test_gradients_of_the_gate_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    gate = EstimationGate(3, 2, 4).double()
    when, who = (torch.randn(*size, dtype=torch.float64, requires_grad=True) for size in ((2, 2, 3), (3, 2)))
    assert torch.autograd.gradcheck(lambda when, who, *_: gate(when, who), (when, who, *gate.parameters()))


@torch.no_grad()
def test_a_remainder_is_what_is_not_explained_of_the_last_steps() -> None:
    torch.manual_seed(0)
    layer, x, found = Remainder(4), torch.randn(2, 3, 6, 4), torch.randn(2, 3, 5, 4)
    layer.norm.weight.uniform_(0.5, 1.5)
    layer.norm.bias.normal_()
    rest = x[:, :, 1:] - (found @ layer.explained.weight.T + layer.explained.bias).clamp(min=0)
    normal = (rest - rest.mean(-1, keepdim=True)) / (rest.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
    torch.testing.assert_close(layer(x, found), normal * layer.norm.weight + layer.norm.bias, rtol=1e-4, atol=1e-5)
