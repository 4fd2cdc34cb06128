"""A recurrent unit and attention to all its states, for a series on its own and for how it goes on (D2STGNN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from st_pipeline.layers.sequence import TOGETHER, sinusoids
from st_pipeline.layers.transformer import Attention


class RecurrentAttention(nn.Module):
    """drop(attention(drop(h + positions))) with the states h of a GRU; to go on, it reads what it has found last.

    Args:
        width: F, a multiple of `heads`.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(width, width, batch_first=True)
        self.attention = Attention(width, heads=heads)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, *, steps: int) -> tuple[Tensor, Tensor]:
        """(B, N, S, F) -> what is found at every step, (B, N, S, F), and at those to come, (B, N, steps, F).

        The first of the latter is what is found at the last step that is read.
        """
        pieces = [self._series(piece, steps) for piece in x.flatten(0, 1).split(TOGETHER)]
        found, ahead = (torch.cat(parts).unflatten(0, x.shape[:2]) for parts in zip(*pieces, strict=True))
        return found, ahead

    def _series(self, x: Tensor, steps: int) -> tuple[Tensor, Tensor]:
        states, last = self.gru(x)
        placed = self._placed(states)
        found = self.dropout(self.attention(placed))
        ahead = [found[:, -1:]]
        for _ in range(steps - 1):
            state, last = self.gru(ahead[-1], last)
            states = torch.cat([states, state], dim=1)
            placed = self._placed(states)
            ahead.append(self.dropout(self.attention(placed[:, -1:], placed)))
        return found, torch.cat(ahead, dim=1)

    def _placed(self, states: Tensor) -> Tensor:
        out: Tensor = self.dropout(states + sinusoids(states.shape[1], states.shape[2], like=states))
        return out
