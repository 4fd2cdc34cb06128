"""A memory answers with what it holds, weighted by attention."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import softmax

from st_pipeline.errors import InputError
from st_pipeline.layers.pattern_memory import GAIN, PatternMemory


@pytest.mark.parametrize("read", ["logits", "softmax"])
def test_attention_and_reading_are_those_of_the_formulas(read: str) -> None:
    memory, x = PatternMemory(5, 4, read=read), torch.randn(3, 7, 4)
    patterns = memory.patterns.detach().numpy()
    expected = np.einsum("bnd,md->bnm", x.numpy(), patterns)
    np.testing.assert_allclose(memory.scores(x).detach(), expected, atol=1e-6)
    if read == "softmax":
        expected = softmax(expected, axis=-1)
    attention, found = memory(x)
    np.testing.assert_allclose(attention.detach(), expected, atol=1e-6)
    np.testing.assert_allclose(found.detach(), np.einsum("bnm,md->bnd", expected, patterns), atol=1e-6)


@pytest.mark.parametrize("read", ["logits", "softmax"])
def test_every_pattern_and_the_representation_get_a_gradient(read: str) -> None:
    memory, x = PatternMemory(5, 4, read=read), torch.randn(3, 7, 4, requires_grad=True)
    memory(x)[1].square().sum().backward()
    assert memory.patterns.grad is not None
    assert memory.patterns.grad.all()
    assert x.grad is not None
    assert x.grad.all()


def test_a_single_pattern_is_all_that_a_softmax_reads() -> None:
    memory = PatternMemory(1, 4, read="softmax")
    torch.testing.assert_close(memory(torch.randn(2, 3, 4))[1], memory.patterns.expand(2, 3, 4))


def test_the_order_in_memory_does_not_matter() -> None:
    memory, x = PatternMemory(5, 4, read="softmax"), torch.randn(3, 7, 4)
    turned = x.transpose(0, 1).contiguous().transpose(0, 1)
    for one, other in zip(memory(x), memory(turned), strict=True):
        assert torch.equal(one, other)


def test_patterns_are_drawn_within_xaviers_bound_and_drawn_anew() -> None:
    torch.manual_seed(0)
    memory = PatternMemory(24, 12, read="logits")
    bound = GAIN * (6 / 36) ** 0.5
    assert 0.95 * bound < memory.patterns.abs().max() <= bound
    before = memory.patterns.detach().clone()
    memory.reset_parameters()
    assert not torch.isclose(memory.patterns, before).all()
    assert len(memory) == 24


@pytest.mark.parametrize("patterns", [0, -2])
def test_a_memory_of_nothing_is_refused(patterns: int) -> None:
    with pytest.raises(InputError, match=rf"memory of {patterns} patterns.*raise `patterns`"):
        PatternMemory(patterns, 4, read="logits")
