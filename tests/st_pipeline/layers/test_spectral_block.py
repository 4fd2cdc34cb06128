"""StemGNN's block against sums of cosines and sines, and polynomials of a graph against its eigenvalues."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from st_pipeline.layers.spectral_block import SpectralBlock, graph_terms

TERMS, SERIES, STEPS, MULTIPLE = 4, 2, 3, 2


def make(*, backcast: bool = True, series: int = SERIES) -> SpectralBlock:
    torch.manual_seed(0)
    return SpectralBlock(terms=TERMS, series=series, steps=STEPS, multiple=MULTIPLE, backcast=backcast)


def dft(x: list[float]) -> list[complex]:
    size = len(x)
    return [
        sum(
            value * complex(math.cos(2 * math.pi * k * t / size), -math.sin(2 * math.pi * k * t / size))
            for t, value in enumerate(x)
        )
        for k in range(size)
    ]


def inverse_real(spectrum: list[complex]) -> list[float]:
    size = len(spectrum)
    angles = [[2 * math.pi * k * t / size for k in range(size)] for t in range(size)]
    return [
        sum(s.real * math.cos(a) - s.imag * math.sin(a) for s, a in zip(spectrum, row, strict=True)) / size
        for row in angles
    ]


def gated(weights: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    for layer in (0, 2, 4):
        weight, bias = weights[f"{name}.{layer}.weight"], weights[f"{name}.{layer}.bias"]
        value, gate = (weight @ x + bias).split(len(bias) // 2)
        x = value / (1 + torch.exp(-gate))
    return x


def of_a_node(block: SpectralBlock, terms: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Forecast and backcast of one node: terms (K, C, T), x (C * T,)."""
    weights = block.state_dict()
    spectrum = torch.tensor([dft(series.tolist()) for term in terms for series in term]).flatten()
    real, imaginary = gated(weights, "real", spectrum.real), gated(weights, "imaginary", spectrum.imag)
    wide = MULTIPLE * STEPS
    z = torch.zeros(wide)
    for term in range(TERMS):
        own = slice(term * wide, (term + 1) * wide)
        series = inverse_real(
            [complex(*pair) for pair in zip(real[own].tolist(), imaginary[own].tolist(), strict=True)]
        )
        z += weights["weight.weight"][:, own] @ torch.tensor(series)
    inner = torch.sigmoid(weights["inward.weight"] @ z + weights["inward.bias"])
    forecast = weights["forecast.weight"] @ inner + weights["forecast.bias"]
    left = weights["backcast.weight"] @ z + weights["backcast.bias"]
    return forecast, torch.sigmoid(left - weights["short_cut.weight"] @ x - weights["short_cut.bias"])


@torch.no_grad()
def test_a_block_is_its_formula_node_by_node() -> None:
    block, x = make(), torch.randn(2, 5, SERIES * STEPS)
    terms = [torch.randn_like(x) for _ in range(TERMS)]
    forecast, backcast = block(terms, x)
    for window in range(2):
        for node in range(5):
            own = torch.stack([term[window, node].view(SERIES, STEPS) for term in terms])
            expected = of_a_node(block, own, x[window, node])
            torch.testing.assert_close(forecast[window, node], expected[0], rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(backcast[window, node], expected[1], rtol=1e-4, atol=1e-5)


def test_a_block_without_backcast_has_no_parameters_for_it_and_gives_x_again() -> None:
    block, x = make(backcast=False), torch.randn(2, 5, SERIES * STEPS)
    forecast, left = block([x] * TERMS, x)
    assert left is x
    assert forecast.shape == (2, 5, STEPS)
    names = {name.partition(".")[0] for name, _ in block.named_parameters()}
    assert names == {"real", "imaginary", "weight", "inward", "forecast"}


def test_the_gradients_are_those_of_finite_differences() -> None:
    block = make(series=1).double()
    x = torch.randn(2, STEPS, dtype=torch.float64, requires_grad=True)
    terms = [torch.randn(2, STEPS, dtype=torch.float64, requires_grad=True) for _ in range(TERMS)]
    assert torch.autograd.gradcheck(lambda *given: block(list(given[1:]), given[0]), (x, *terms))


def test_the_terms_are_the_polynomials_of_the_matrix() -> None:
    x, matrix = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 5, 5, dtype=torch.float64)
    matrix = (matrix + matrix.mT) / 12
    values, vectors = torch.linalg.eigh(matrix)
    assert values.abs().max() < 1
    for order, term in enumerate(graph_terms(matrix, x, identity=True)):
        expected = vectors @ torch.diag_embed(torch.cos(order * torch.acos(values))) @ vectors.mT @ x
        torch.testing.assert_close(term, expected)


@pytest.mark.parametrize("batched", [True, False])
def test_published_the_first_polynomial_is_zero_and_the_recursion_starts_from_it(batched: bool) -> None:
    x, matrix = torch.randn(2, 5, 3), torch.randn(2, 5, 5) if batched else torch.randn(5, 5)
    square, cube = matrix @ matrix, matrix @ matrix @ matrix
    expected = [torch.zeros_like(matrix), matrix, 2 * square, 4 * cube - matrix]
    for polynomial, term in zip(expected, graph_terms(matrix, x, identity=False), strict=True):
        torch.testing.assert_close(term, polynomial @ x, rtol=1e-4, atol=1e-4)
