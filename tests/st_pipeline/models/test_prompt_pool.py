"""The prompt pool is P = A B, added to the embedding and to nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from st_pipeline.layers.node_table import restricted
from st_pipeline.models.backbones import backbones
from st_pipeline.models.prompt_pool import BOUND, PromptPool, PromptTable, cumulative_shares, deviation
from st_pipeline.strategies import strategies
from st_pipeline.types import NodeSet, Period, SeriesShape

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


def test_a_full_table_is_a_row_of_prompts_per_sensor_without_factors() -> None:
    torch.manual_seed(0)
    table = PromptTable(300, rank=None, width=40)
    assert table.basis is None
    assert torch.equal(table(), table.nodes())
    assert table().shape == (300, 40)
    assert [name for name, _ in table.named_parameters()] == ["nodes.retained", "nodes.appended"]
    assert sorted(table.state_dict()) == ["nodes.cold", "nodes.rows"]
    assert table().abs().max() <= BOUND
    assert table().std().item() == pytest.approx(0.1 / 3**0.5, rel=0.05)


def test_a_full_table_grows_is_stored_restored_and_drawn_anew() -> None:
    table, other = PromptTable(2, None, 4), PromptTable(9, None, 4)
    table.nodes.expand(NodeSet.of("ab"))
    before = table().detach().clone()
    table.nodes.expand(NodeSet.of("abc"))
    assert torch.equal(table()[:2], before)
    other.nodes.adopt("abc", "")
    other.load_state_dict(table.state_dict())
    assert torch.equal(other(), table())
    for module in table.modules():
        if module is not table and hasattr(module, "reset_parameters"):
            module.reset_parameters()
    table.reset_parameters()
    assert not torch.isclose(table()[:2], before).any()


def test_a_full_pool_forecasts_what_a_pool_of_the_same_prompts_does(random_window, random_graph) -> None:
    inner = backbones.build({"name": "stgnn"}, shape=SHAPE)
    low, full = PromptPool(inner, rank=3), PromptPool(inner, rank=None)
    full.prompts.nodes.appended = torch.nn.Parameter(low.prompts().detach())
    window, graph = random_window(SHAPE), random_graph(5)
    assert torch.equal(low(window, graph), full(window, graph))
    full(window, graph).sum().backward()
    assert full.prompts.nodes.appended.grad.shape == (5, 12)


@pytest.mark.parametrize("train_old_rows", [True, False])
@pytest.mark.parametrize("train_basis", ["always", "first"])
def test_expand_and_compress_tunes_a_full_table(train_old_rows: bool, train_basis: str) -> None:
    strategy = strategies.build({"name": "eac", "train_old_rows": train_old_rows, "train_basis": train_basis})
    pool = PromptPool(backbones.build({"name": "stgnn"}, shape=SHAPE), rank=None)
    for index, names in enumerate(("abcde", "abcdefg")):
        period = Period(str(index), index, None, None)  # type: ignore[arg-type]
        pool = strategy.prepare(pool, period, NodeSet.of(names))
    trained = {name for name, parameter in pool.named_parameters() if parameter.requires_grad}
    assert trained == {"prompts.nodes.appended", *(["prompts.nodes.retained"] if train_old_rows else [])}


@pytest.mark.parametrize("rank", [1, 6, 9, None])
def test_what_is_watched_of_a_pool_is_its_deviation_and_its_spectrum(rank: int | None) -> None:
    torch.manual_seed(0)
    pool = PromptPool(backbones.build({"name": "stgnn"}, shape=replace(SHAPE, num_nodes=30)), rank=rank)
    prompts = pool.prompts().detach().double()
    found = pool.watched()
    pairs = (prompts[:, None] - prompts[None]).square().sum(-1)
    closed_form = 2 * (prompts.square().sum(-1).mean() - prompts.mean(0).square().sum())
    assert found["deviation"] == pytest.approx(pairs.mean().item()) == pytest.approx(closed_form.item())
    singular = np.linalg.svd(prompts.numpy(), compute_uv=False)
    assert found["share_6"] == pytest.approx(singular[:6].sum() / singular.sum())
    assert (found["share_6"] > 1 - 1e-5) == (rank in (1, 6))


def test_a_training_on_some_nodes_still_watches_all_prompts() -> None:
    pool = PromptPool(backbones.build({"name": "stgnn"}, shape=SHAPE), rank=None)
    expected = pool.watched()
    with restricted(pool, torch.tensor([1, 3])):
        assert pool.prompts().shape == (2, 12)
        assert pool.watched() == expected


def test_a_pool_passes_on_what_its_inner_model_watches(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = backbones.build({"name": "stgnn"}, shape=SHAPE)
    assert inner.watched() == {}
    monkeypatch.setattr(inner, "watched", lambda: {"gate": 0.5})
    assert PromptPool(inner, rank=2).watched().keys() == {"gate", "deviation", "share_6"}


def test_watching_changes_nothing_and_asks_for_no_gradient() -> None:
    pool = PromptPool(backbones.build({"name": "stgnn"}, shape=SHAPE), rank=2)
    before, state = {name: value.clone() for name, value in pool.state_dict().items()}, torch.get_rng_state()
    assert all(isinstance(value, float) for value in pool.watched().values())
    assert all(torch.equal(value, before[name]) for name, value in pool.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in pool.parameters())


def test_deviation_is_taken_of_every_table_of_a_batch() -> None:
    x = torch.randn(4, 7, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(deviation(x), torch.stack([deviation(one) for one in x]))
    assert deviation(x).dtype == torch.float64


def test_shares_of_nothing_are_unknown() -> None:
    assert cumulative_shares(torch.zeros(3)).isnan().all()
    torch.testing.assert_close(cumulative_shares(torch.tensor([3.0, 1.0])), torch.tensor([0.75, 1.0]))
