"""Values of mixed bases: the arithmetic head by head, and that the mixture is the window's own."""

from __future__ import annotations

import torch

from st_pipeline.layers.dynamic_value import DynamicValue

WIDTH, HEADS, BASES = 6, 2, 3


def make(bases: int = BASES) -> DynamicValue:
    torch.manual_seed(0)
    return DynamicValue(WIDTH, heads=HEADS, bases=bases)


@torch.no_grad()
def test_each_head_of_each_window_mixes_its_own_matrix() -> None:
    layer, memory = make(), torch.randn(2, 5, WIDTH)
    found, size = layer(memory), WIDTH // HEADS
    assert layer.mixer is not None
    for window, tokens in enumerate(memory):
        logits = layer.mixer(tokens.mean(0))
        for head in range(HEADS):
            weights = torch.softmax(logits[head * BASES : (head + 1) * BASES], 0)
            columns = slice(head * size, (head + 1) * size)
            matrix = sum(weight * basis[:, columns] for weight, basis in zip(weights, layer.basis, strict=True))
            torch.testing.assert_close(found[window, :, columns], tokens @ matrix)


@torch.no_grad()
def test_one_basis_is_a_static_projection() -> None:
    layer, memory = make(1), torch.randn(2, 5, WIDTH)
    assert [name for name, _ in layer.named_parameters()] == ["basis"]
    torch.testing.assert_close(layer(memory), memory @ layer.basis[0])


@torch.no_grad()
def test_windows_of_another_mean_have_another_matrix_and_those_of_one_mean_the_same() -> None:
    layer, token = make(), torch.randn(WIDTH)
    shift = torch.randn(WIDTH)
    memory = torch.stack([torch.stack([token, -token]), torch.stack([token, shift]), torch.stack([token + 0, -token])])
    found = layer(memory)[:, 0]
    torch.testing.assert_close(found[0], found[2])
    assert not torch.allclose(found[0], found[1], atol=1e-4)


@torch.no_grad()
def test_the_mean_of_the_bases_is_as_large_as_a_linear_layer_at_first() -> None:
    torch.manual_seed(0)
    layer, linear = DynamicValue(64, heads=1, bases=4), torch.nn.Linear(64, 64)
    assert abs(layer.basis.mean(0).std() / linear.weight.std() - 1) < 0.1


def test_gradients() -> None:
    layer = make().double()
    memory = torch.randn(2, 3, WIDTH, dtype=torch.float64, requires_grad=True)
    names = dict(layer.named_parameters())
    assert torch.autograd.gradcheck(
        lambda x, *rows: torch.func.functional_call(layer, dict(zip(names, rows, strict=True)), (x,)),
        (memory, *names.values()),
        fast_mode=True,
    )
