"""Products of rows with matrices that every row mixes out of a pool, in little memory."""

from __future__ import annotations

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

TOGETHER = 1 << 22  # numbers that are spread over the pool at a time


def pooled_product(x: Tensor, query: Tensor, pool: Tensor) -> Tensor:
    """sum_d q_d x P_d of every row: x (..., inputs), query (..., d), pool (d, inputs, outputs) -> (..., outputs).

    No row's own matrix sum_d q_d P_d is made: rows are spread over the pool, q_d x (d * inputs numbers), a block of
    them at a time, for one product with all of it, and so are the gradients. Only the arguments are kept.
    """
    rows, queries = x.reshape(-1, x.shape[-1]), query.reshape(-1, query.shape[-1])
    return cast(Tensor, _PooledProduct.apply(rows, queries, pool)).view(*x.shape[:-1], pool.shape[2])


class _PooledProduct(torch.autograd.Function):
    """x (M, inputs), query (M, d), pool (d, inputs, outputs) -> (M, outputs)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, query: Tensor, pool: Tensor) -> Tensor:
        ctx.save_for_backward(x, query, pool)
        out = x.new_empty(len(x), pool.shape[2])
        for block in _blocks(x, pool):
            torch.mm(_spread(x[block], query[block]), pool.flatten(0, 1), out=out[block])
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, query, pool = ctx.saved_tensors
        flat = pool.flatten(0, 1)
        of_x, of_query, of_pool = torch.empty_like(x), torch.empty_like(query), torch.zeros_like(flat)
        for block in _blocks(x, pool):
            of_pool.addmm_(_spread(x[block], query[block]).t(), gradient[block])
            back = (gradient[block] @ flat.t()).unflatten(1, pool.shape[:2])  # (M', d, inputs)
            torch.bmm(query[block].unsqueeze(1), back, out=of_x[block].unsqueeze(1))
            torch.bmm(back, x[block].unsqueeze(2), out=of_query[block].unsqueeze(2))
        return of_x, of_query, of_pool.view_as(pool)


def _spread(x: Tensor, query: Tensor) -> Tensor:
    """(M, inputs) and (M, d) -> (M, d * inputs)."""
    return (query.unsqueeze(2) * x.unsqueeze(1)).flatten(1)


def _blocks(x: Tensor, pool: Tensor) -> list[slice]:
    """Rows that are worked on at a time."""
    size = max(1, TOGETHER // (len(pool) * x.shape[1]))
    return [slice(start, start + size) for start in range(0, len(x), size)]
