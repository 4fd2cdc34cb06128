"""Attention and transformer layers are torch's own in values and gradients, along any axis of any batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from st_pipeline.layers.sequence import Along
from st_pipeline.layers.transformer import Attention, TransformerLayer

VARIANTS: list[dict[str, Any]] = [
    {"norm_first": norm_first, "activation": activation}
    for norm_first in (False, True)
    for activation in ("relu", "gelu")
]


def drawn(layer: nn.Module, seed: int = 0) -> nn.Module:
    """The layer with all parameters at random, biases and normalisations too."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))
    return layer


def torchs_own(layer: TransformerLayer) -> nn.TransformerEncoderLayer:
    """The same weights in torch's encoder layer, in evaluation."""
    width, feedforward = layer.inward.in_features, layer.inward.out_features
    plain = nn.TransformerEncoderLayer(
        width,
        layer.attention.heads,
        feedforward,
        activation=layer.activation,
        batch_first=True,
        norm_first=layer.norm_first,
    ).eval()
    own = layer.attention
    state = {
        "self_attn.in_proj_weight": torch.cat([own.query.weight, own.key.weight, own.value.weight]),
        "self_attn.in_proj_bias": torch.cat([own.query.bias, own.key.bias, own.value.bias]),
    }
    places = {"self_attn.out_proj": own.out, "linear1": layer.inward, "linear2": layer.outward}
    for name, part in {**places, "norm1": layer.norm1, "norm2": layer.norm2}.items():
        state |= {f"{name}.weight": part.weight, f"{name}.bias": part.bias}
    plain.load_state_dict(state)
    return plain


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda it: "-".join(map(str, it.values())))
def test_a_layer_is_torchs_own_in_values_and_gradients(variant: dict[str, Any]) -> None:
    layer = drawn(TransformerLayer(12, heads=4, feedforward=10, dropout=0.0, **variant))
    plain, x = torchs_own(layer), torch.randn(5, 6, 12, requires_grad=True)
    plain.train()  # its fast path has no gradients
    for part in plain.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    plain.self_attn.dropout = 0.0
    out, expected = layer(x), plain(x)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    weight = torch.randn_like(out)
    mine = torch.autograd.grad((out * weight).sum(), [x, layer.attention.query.weight, layer.norm1.weight])
    theirs = torch.autograd.grad((expected * weight).sum(), [x, plain.self_attn.in_proj_weight, plain.norm1.weight])
    for one, other in zip(mine, (theirs[0], theirs[1][:12], theirs[2]), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)


def written_out(layer: Attention, x: Tensor, memory: Tensor, seen: Tensor) -> Tensor:
    """One sequence, head by head and element by element: (L, queries), (M, memory), (L, M) bool -> (L, D)."""
    query, key, value = layer.query(x), layer.key(memory), layer.value(memory)
    size = query.shape[1] // layer.heads
    out = torch.empty_like(query)
    for head in range(layer.heads):
        own = slice(head * size, (head + 1) * size)
        for row in range(len(x)):
            scores = torch.tensor([float(query[row, own] @ other / size**0.5) for other in key[:, own]])
            scores[~seen[row]] = -torch.inf
            out[row, own] = scores.softmax(0) @ value[:, own]
    return layer.out(out)


@torch.no_grad()
def test_another_sequence_may_be_asked_and_parts_of_it_hidden() -> None:
    layer = drawn(Attention(6, heads=2, queries=5, memory=4))
    x, memory = torch.randn(2, 3, 5), torch.randn(2, 7, 4)
    seen = torch.rand(3, 7) < 0.6
    seen[:, 0] = True
    for mask in (seen, torch.ones_like(seen)):
        expected = torch.stack([written_out(layer, *pair, mask) for pair in zip(x, memory, strict=True)])
        torch.testing.assert_close(layer(x, memory, mask=mask), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(layer(x, memory), layer(x, memory, mask=torch.zeros(3, 7)), rtol=1e-4, atol=1e-5)
    own = drawn(Attention(6, heads=3))
    expected = written_out(own, x := torch.randn(4, 6), x, torch.ones(4, 4, dtype=torch.bool).tril())
    torch.testing.assert_close(own(x, causal=True), expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("norm_first", [False, True])
def test_a_layer_asks_its_memory_where_it_has_one(norm_first: bool) -> None:
    layer = drawn(TransformerLayer(6, heads=2, feedforward=8, memory=4, norm_first=norm_first)).eval()
    x, memory = torch.randn(2, 3, 6), torch.randn(2, 7, 4)
    norm1, norm2 = (layer.norm1, layer.norm2) if norm_first else (nn.Identity(), nn.Identity())
    after1, after2 = (nn.Identity(), nn.Identity()) if norm_first else (layer.norm1, layer.norm2)
    h = after1(x + layer.attention(norm1(x), memory))
    expected = after2(h + layer.outward(torch.relu(layer.inward(norm2(h)))))
    torch.testing.assert_close(layer(x, memory), expected)
    assert not torch.allclose(layer(x, memory), layer(x, memory.roll(1, 0)))
    torch.testing.assert_close(layer(x, memory.flip(1)), expected)  # a memory has no order


def test_the_gradients_are_those_of_finite_differences() -> None:
    layer = drawn(TransformerLayer(6, heads=2, feedforward=4, dropout=0.0, memory=5, activation="gelu")).double()
    x, memory = (
        torch.randn(2, size, width, dtype=torch.float64, requires_grad=True) for size, width in ((3, 6), (4, 5))
    )
    assert torch.autograd.gradcheck(lambda *given: layer(*given[:2]), (x, memory, *layer.parameters()))


def test_any_axes_may_lie_before_the_sequence() -> None:
    layer, x = TransformerLayer(8, heads=2, feedforward=4).eval(), torch.randn(2, 3, 4, 5, 8)
    out = layer(x)
    assert out.shape == x.shape
    torch.testing.assert_close(out[1, 2, 3], layer(x[1, 2, 3]), rtol=1e-4, atol=1e-5)
    along = Along(layer, "node")(x[0])
    torch.testing.assert_close(along, layer(x[0]), rtol=1e-4, atol=1e-5)


def test_only_training_drops_and_never_the_sum_itself() -> None:
    torch.manual_seed(0)
    layer, x = TransformerLayer(8, heads=2, feedforward=4, dropout=0.5), torch.randn(50, 3, 8)
    assert not torch.equal(layer(x), layer(x))
    assert (layer(x) != 0).all()
    layer.eval()
    assert torch.equal(layer(x), layer(x))
