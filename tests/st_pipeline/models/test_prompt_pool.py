"""The prompt pool is P = A B, added to the embedding and to nothing else."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.models.backbones import backbones
from st_pipeline.models.prompt_pool import BOUND, PromptPool, PromptTable
from st_pipeline.types import NodeSet, SeriesShape

SHAPE = SeriesShape(window=12, horizon=12, channels=1, num_nodes=5, steps_per_day=288)


def test_prompts_are_the_product_of_the_rows_and_the_shared_basis() -> None:
    table = PromptTable(9, rank=2, width=12)
    prompts = table()
    assert prompts.shape == (9, 12)
    assert torch.linalg.matrix_rank(prompts) == 2
    torch.testing.assert_close(prompts, table.nodes() @ table.basis)


def test_both_factors_start_uniform_within_a_tenth() -> None:
    torch.manual_seed(0)
    table = PromptTable(300, rank=40, width=100)
    for factor in (table.nodes(), table.basis):
        assert factor.abs().max() <= BOUND == 0.1
        assert factor.std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_the_basis_is_shared_by_sensors_that_join() -> None:
    table = PromptTable(2, rank=3, width=4)
    table.nodes.expand(NodeSet.of("ab"))
    basis, before = table.basis.detach().clone(), table().detach().clone()
    table.nodes.expand(NodeSet.of("abc"))
    assert torch.equal(table.basis, basis)
    torch.testing.assert_close(table()[:2], before)


def test_a_pool_adds_its_prompts_to_the_embedding_alone(random_window, random_graph) -> None:
    inner = backbones.build({"name": "stgnn"}, shape=SHAPE)
    pool = PromptPool(inner, rank=2)
    window, graph = random_window(SHAPE), random_graph(5)
    hidden = pool.embed(window, graph)
    torch.testing.assert_close(hidden - inner.embed(window, graph), pool.prompts().expand(3, 5, 12))
    assert torch.equal(pool.core(hidden, window, graph), inner.core(hidden, window, graph))
    assert torch.equal(pool.head(hidden), inner.head(hidden))
    assert (pool.width, pool.shape, list(pool.parts())) == (inner.width, SHAPE, ["backbone", "prompt_pool"])


def test_without_prompts_a_pool_is_its_backbone(random_window, random_graph) -> None:
    pool = PromptPool(backbones.build({"name": "stgnn"}, shape=SHAPE), rank=2)
    with torch.no_grad():
        pool.prompts.basis.zero_()
    window, graph = random_window(SHAPE), random_graph(5)
    assert torch.equal(pool(window, graph), pool.inner(window, graph))


@pytest.mark.parametrize("separable", [True, False])
def test_a_pool_is_worked_on_in_pieces_where_its_backbone_may_be(separable: bool) -> None:
    inner = backbones.build({"name": "stgnn"}, shape=SHAPE)
    inner.separable = separable
    assert PromptPool(inner, rank=2).separable == separable
