"""Layers along a sequence are torch's own, and run along the axis that they are laid along."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers import sequence
from st_pipeline.layers.sequence import AXES, Along, Recurrence, SelfAttention, TimeConv

MAKERS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: TimeConv(8),
    "recurrence": lambda: Recurrence(8),
    "attention": lambda: SelfAttention(8, heads=4),
}


@pytest.fixture(params=MAKERS.values(), ids=MAKERS.keys())
def layer(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(0)
    return request.param()


def test_the_convolution_is_conv1d_in_values_and_gradients() -> None:
    layer, x = TimeConv(8), torch.randn(5, 6, 8, requires_grad=True)
    out, expected = layer(x), layer.conv(x.transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(out, expected)
    to = [x, layer.conv.weight, layer.conv.bias]
    mine, theirs = (torch.autograd.grad(value.square().sum(), to) for value in (out, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-4)


def test_attention_is_torchs_own_in_values_and_gradients() -> None:
    layer, plain = SelfAttention(8, heads=4), nn.MultiheadAttention(8, 4, batch_first=True)
    state = {"in_proj_weight": "in_weight", "in_proj_bias": "in_bias", "out_proj.weight": "out_weight"}
    state["out_proj.bias"] = "out_bias"
    with torch.no_grad():
        layer.in_bias.normal_()
        layer.out_bias.normal_()
    plain.load_state_dict({theirs: layer.state_dict()[mine] for theirs, mine in state.items()})
    x = torch.randn(5, 6, 8, requires_grad=True)
    out, expected = layer(x), plain(x, x, x)[0]
    torch.testing.assert_close(out, expected)
    (mine,), (theirs,) = (torch.autograd.grad(value.square().sum(), [x]) for value in (out, expected))
    torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)


def test_attention_starts_as_torchs_own_does_and_is_drawn_anew() -> None:
    layer, plain = SelfAttention(64, heads=4), nn.MultiheadAttention(64, 4)
    for _ in range(2):
        assert not layer.in_bias.any()
        assert not layer.out_bias.any()
        for mine, theirs in ((layer.in_weight, plain.in_proj_weight), (layer.out_weight, plain.out_proj.weight)):
            torch.testing.assert_close(mine.std(), theirs.std(), rtol=0.05, atol=0)
            torch.testing.assert_close(mine.abs().max(), theirs.abs().max(), rtol=0.01, atol=0)
        before = layer.in_weight.detach().clone()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.fill_(7)
        layer.reset_parameters()
        assert not (layer.in_weight == before).any()


def test_sequences_do_not_see_each_other(layer: nn.Module) -> None:
    x = torch.randn(5, 6, 8)
    torch.testing.assert_close(torch.cat([layer(one[None]) for one in x]), layer(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", AXES)
def test_a_layer_runs_along_the_named_axis(layer: nn.Module, axis: str) -> None:
    x = torch.randn(3, 4, 5, 8)
    moved = x.movedim(AXES[axis], 2)  # the two other axes, the named one, features
    expected = torch.stack([layer(part) for part in moved]).movedim(2, AXES[axis])
    torch.testing.assert_close(Along(layer, axis)(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("axis", AXES)
def test_only_what_lies_along_the_axis_is_mixed(layer: nn.Module, axis: str) -> None:
    x = torch.randn(3, 4, 5, 8)
    changed: Tensor = x.clone()
    changed[1, 2, 3] += 1
    differs = (Along(layer, axis)(x) - Along(layer, axis)(changed)).abs().amax(-1) > 1e-6
    along = [slice(None) if place == AXES[axis] else at for place, at in enumerate((1, 2, 3))]
    assert differs[1, 2, 3]
    assert differs.sum() == differs[tuple(along)].sum()


def test_many_sequences_are_worked_on_in_groups_with_the_same_result(
    layer: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = torch.randn(3, 4, 5, 8)
    expected = Along(layer, "time")(x)
    monkeypatch.setattr(sequence, "TOGETHER", 4)
    torch.testing.assert_close(Along(layer, "time")(x), expected)


@pytest.mark.parametrize("axis", ["window", "time", "node"])
@pytest.mark.parametrize("together", [100, 4])
def test_several_parts_are_cut_into_the_same_sequences(axis: Any, together: int, monkeypatch) -> None:
    monkeypatch.setattr(sequence, "TOGETHER", together)
    place = sequence.AXES[axis]
    sizes = [2, 3, 4, 5]
    one = torch.randn(*sizes)
    sizes[place] += 2
    other = torch.randn(*sizes)

    def both(x: Tensor, y: Tensor) -> Tensor:
        return x * y.sum(1, keepdim=True)

    torch.testing.assert_close(sequence.along(both, one, other, axis=axis), one * other.sum(place, keepdim=True))


@pytest.mark.parametrize("width", [1, 6, 7])
def test_positions_are_waves_of_falling_rates(width: int) -> None:
    found = sequence.sinusoids(9, width, torch.empty(0, dtype=torch.float64))
    assert found.shape == (9, width)
    for place in range(9):
        for column in range(width):
            angle = place / 10000 ** ((column - column % 2) / width)
            assert float(found[place, column]) == pytest.approx(math.cos(angle) if column % 2 else math.sin(angle))
