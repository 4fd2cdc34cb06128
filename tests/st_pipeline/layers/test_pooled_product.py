"""Products with mixed matrices are those with every row's own matrix, of which none is ever made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from st_pipeline.layers import pooled_product as module
from st_pipeline.layers.pooled_product import pooled_product


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that is made inside."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for part in out if isinstance(out, tuple | list) else (out,):
            if isinstance(part, Tensor):
                self.numbers = max(self.numbers, part.numel())
        return out


def draw(rows: tuple[int, ...], *, inputs: int = 5, query: int = 3, outputs: int = 4) -> list[Tensor]:
    random = torch.Generator().manual_seed(0)
    sizes = ((*rows, inputs), (*rows, query), (query, inputs, outputs))
    return [torch.randn(size, generator=random, dtype=torch.float64, requires_grad=True) for size in sizes]


def by_rows(x: Tensor, query: Tensor, pool: Tensor) -> Tensor:
    """With the matrix of every row made."""
    flat = x.flatten(0, -2), query.flatten(0, -2)
    found = [
        row @ sum(share * matrix for share, matrix in zip(q, pool, strict=True)) for row, q in zip(*flat, strict=True)
    ]
    return torch.stack(found).unflatten(0, x.shape[:-1])


@pytest.fixture(params=[1, 31, 1 << 22], ids=["row by row", "blocks", "one block"])
def together(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(module, "TOGETHER", request.param)
    return request.param


@pytest.mark.parametrize("rows", [(7,), (2, 3), (2, 1, 4)])
def test_the_product_is_that_with_each_row_s_own_matrix_in_value_and_gradients(together: int, rows) -> None:
    parts = draw(rows)
    found, expected = pooled_product(*parts), by_rows(*parts)
    torch.testing.assert_close(found, expected)
    weight = torch.randn_like(found)
    mine, theirs = (torch.autograd.grad((out * weight).sum(), parts) for out in (found, expected))
    torch.testing.assert_close(mine, theirs)


def test_the_gradients_are_those_of_differences(together: int) -> None:
    assert torch.autograd.gradcheck(pooled_product, draw((4,)))


def test_rows_in_any_order_of_memory_are_the_same_rows(together: int) -> None:
    x, query, pool = draw((3, 5))
    turned = [part.transpose(0, 1).contiguous().transpose(0, 1) for part in (x, query)]
    assert torch.equal(pooled_product(*turned, pool), pooled_product(x, query, pool))


def test_no_rows_have_a_product(together: int) -> None:
    x, query, pool = draw((0,))
    out = pooled_product(x, query, pool)
    assert out.shape == (0, 4)
    out.sum().backward()
    assert not pool.grad.any()


def test_only_the_arguments_are_kept() -> None:
    parts, kept = draw((50,)), []
    with torch.autograd.graph.saved_tensors_hooks(lambda part: kept.append(part) or part, lambda part: part):
        pooled_product(*parts)
    assert {part.untyped_storage().data_ptr() for part in kept} <= {part.data_ptr() for part in parts}


def test_what_is_made_on_the_way_has_no_more_numbers_than_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOGETHER", 600)
    parts = draw((200,), inputs=10, query=6, outputs=10)
    with Largest() as largest:
        pooled_product(*parts).sum().backward()
    assert largest.numbers == 200 * 10  # x, the outcome and their gradients; the matrices would take 200 * 10 * 10
