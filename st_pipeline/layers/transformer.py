"""Transformer layers along the last axis but one of (..., L, D), whatever that axis is: `sequence.Along` lays them."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

ALIGNED = 8  # numbers: fused kernels of GPUs need heads whose width is a multiple of it
ACTIVATIONS = {"relu": torch.relu, "gelu": nn.functional.gelu}


class Attention(nn.Module):
    """softmax(Q K^T / sqrt(d)) V in parallel heads of width d (Vaswani et al. 2017), each projection with a bias.

    Args:
        width: D of the output, a multiple of `heads`; also of what asks and of what is asked, where not given.
        queries: width of what asks.
        memory: width of what is asked.
    """

    def __init__(self, width: int, *, heads: int, queries: int | None = None, memory: int | None = None) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(queries or width, width)
        self.key = nn.Linear(memory or width, width)
        self.value = nn.Linear(memory or width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """(..., L, queries) and (..., M, memory) -> (..., L, D); without a memory a sequence asks itself.

        Args:
            mask: what is seen, (L, M) bool, or numbers to add to the scores before the softmax.
            causal: an element sees itself and what stands before it.
        """
        memory = x if memory is None else memory
        parts = (self.query(x), self.key(memory), self.value(memory))
        out: Tensor = self.out(attend(*parts, heads=self.heads, mask=mask, causal=causal))
        return out


class TransformerLayer(nn.Module):
    """Attention and a network of two layers for each element, both with a residual and a normalisation.

    The normalisation is that of the sum (post-norm), or of what enters the attention and the network (pre-norm). The
    arithmetic is that of `nn.TransformerEncoderLayer`, save that only the two outputs are dropped before the sums.

    Args:
        width: D, a multiple of `heads`.
        feedforward: hidden width of the network.
        memory: width of what is asked, D where not given.
        norm_first: pre-norm.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        feedforward: int,
        dropout: float = 0.1,
        memory: int | None = None,
        norm_first: bool = False,
        activation: Literal["relu", "gelu"] = "relu",
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.activation = activation
        self.attention = Attention(width, heads=heads, memory=memory)
        self.inward, self.outward = nn.Linear(width, feedforward), nn.Linear(feedforward, width)
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, memory: Tensor | None = None, *, mask: Tensor | None = None, causal: bool = False
    ) -> Tensor:
        """(..., L, D) and (..., M, memory) -> (..., L, D); the memory is taken as it is, without a normalisation."""
        if self.norm_first:
            x = x + self.dropout(self.attention(self.norm1(x), memory, mask=mask, causal=causal))
            return x + self.dropout(self._network(self.norm2(x)))
        x = self.norm1(x + self.dropout(self.attention(x, memory, mask=mask, causal=causal)))
        out: Tensor = self.norm2(x + self.dropout(self._network(x)))
        return out

    def _network(self, x: Tensor) -> Tensor:
        out: Tensor = self.outward(ACTIVATIONS[self.activation](self.inward(x)))
        return out


def attend(
    query: Tensor, key: Tensor, value: Tensor, *, heads: int, mask: Tensor | None = None, causal: bool = False
) -> Tensor:
    """softmax(Q K^T / sqrt(d)) V in heads of width d: (..., L, D) and twice (..., M, D) -> (..., L, D).

    Args:
        mask: what is seen, (L, M) bool, or numbers to add to the scores before the softmax.
        causal: an element sees itself and what stands before it.
    """
    size = query.shape[-1] // heads
    query_heads, key_heads, value_heads = (_heads(part, heads) for part in (query, key, value))
    found = nn.functional.scaled_dot_product_attention(
        query_heads, key_heads, value_heads, attn_mask=mask, is_causal=causal, scale=size**-0.5
    )
    joined = found[..., :size].transpose(1, 2).flatten(2)  # (S, heads, L, d) -> (S, L, D)
    return joined.view(query.shape)


def _heads(x: Tensor, heads: int) -> Tensor:
    """(..., L, D) -> (S, heads, L, d) for S sequences, d filled up with zeros, which change no product."""
    split = x.reshape(-1, x.shape[-2], heads, x.shape[-1] // heads)
    return nn.functional.pad(split, (0, -split.shape[-1] % ALIGNED)).transpose(1, 2)
