"""StemGNN's block: what a graph's polynomials make of a series, gated in the frequencies of time."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

GATES = 3


class SpectralBlock(nn.Module):
    """Graph terms -> DFT -> gated layers -> inverse DFT -> graph weights -> (forecast, backcast), node by node.

    y_k = Re iDFT(G(Re DFT(T_k x)) + i G'(Im DFT(T_k x))), z = sum_k y_k W_k, forecast = V sigmoid(U z) and backcast =
    sigmoid(B z - S x) (StemGNN, NeurIPS 2020). G and G' are three gated linear layers each, over all terms
    and frequencies of a node at once; the spectrum they give has `multiple` times as many frequencies as x has steps.

    Args:
        terms: K.
        series: C, the series of a node that x lays side by side.
        steps: T.
        multiple: width of z in steps.
        backcast: whether the block has one; the last of a network does not.
    """

    def __init__(self, *, terms: int, series: int, steps: int, multiple: int, backcast: bool) -> None:
        super().__init__()
        self.terms = terms
        self.steps = steps
        wide = multiple * steps
        self.real, self.imaginary = (_gates(terms * series * steps, terms * wide) for _ in range(2))
        self.weight = nn.Linear(terms * wide, wide, bias=False)
        self.inward, self.forecast = nn.Linear(wide, wide), nn.Linear(wide, steps)
        self.backcast = nn.Linear(wide, steps) if backcast else None
        self.short_cut = nn.Linear(series * steps, steps) if backcast else None

    def forward(self, terms: list[Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
        """T_k x, K times, and x, all (..., C * T) -> forecast (..., T) and backcast (..., T); without one, x again."""
        spectrum = torch.fft.fft(torch.stack(terms, dim=-2).unflatten(-1, (-1, self.steps)))  # (..., K, C, T)
        real, imaginary = self.real(spectrum.real.flatten(-3)), self.imaginary(spectrum.imag.flatten(-3))
        gated = torch.complex(real, imaginary).unflatten(-1, (self.terms, -1))  # (..., K, multiple * T)
        z = self.weight(torch.fft.ifft(gated).real.flatten(-2))
        forecast: Tensor = self.forecast(torch.sigmoid(self.inward(z)))
        if self.backcast is None or self.short_cut is None:
            return forecast, x
        return forecast, torch.sigmoid(self.backcast(z) - self.short_cut(x))


def _gates(inputs: int, outputs: int) -> nn.Sequential:
    """Layers a * sigmoid(b), a and b both linear in what enters."""
    widths = pairwise([inputs] + [outputs] * GATES)
    return nn.Sequential(*(part for before, after in widths for part in (nn.Linear(before, 2 * after), nn.GLU())))


def graph_terms(laplacian: Tensor, x: Tensor, *, identity: bool) -> list[Tensor]:
    """T_k(L) x for k = 0..3, L (B, N, N) or (N, N), x (B, N, F); without `identity` T_0 is zero, also in what follows.

    T_1 = L and T_k = 2 L T_(k-1) - T_(k-2): no product of matrices, only of a matrix and x.
    """
    terms = [x if identity else torch.zeros_like(x), laplacian @ x]
    for _ in range(2):
        terms.append(2 * (laplacian @ terms[-1]) - terms[-2])
    return terms
