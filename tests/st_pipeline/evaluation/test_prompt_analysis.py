"""What prompts do to the deviation of their inputs: both sides of Proposition 1, and what lies between them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from st_pipeline.errors import InputError
from st_pipeline.evaluation.prompt_analysis import (
    SCHEMA,
    analyse,
    analyse_cohorts,
    average_node_deviation,
    prompt_effect,
    prompts_of,
    spectrum,
)

TABLES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=7), elements=st.floats(-1e3, 1e3, width=32))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def brute_force(x: torch.Tensor) -> float:
    """The definition, pair by pair and column by column."""
    rows = x.double().tolist()
    squares = [(a - b) ** 2 for one in rows for other in rows for a, b in zip(one, other, strict=True)]
    return sum(squares) / len(rows) ** 2


@given(TABLES)
def test_deviation_is_the_double_sum(x: np.ndarray) -> None:
    assert average_node_deviation(torch.from_numpy(x)) == pytest.approx(brute_force(torch.from_numpy(x)), rel=1e-9)


@given(TABLES, st.floats(-1e3, 1e3), st.floats(-10, 10))
def test_deviation_forgets_a_shift_and_grows_with_the_square(x: np.ndarray, shift: float, factor: float) -> None:
    one = average_node_deviation(torch.from_numpy(x))
    assert one >= 0
    assert average_node_deviation(torch.from_numpy(x + shift)) == pytest.approx(one, rel=1e-6, abs=1e-6)
    assert average_node_deviation(torch.from_numpy(x * factor)) == pytest.approx(one * factor**2, rel=1e-6, abs=1e-6)


def test_deviation_is_precise_far_from_the_origin() -> None:
    x = normal(30, 4).double()
    assert average_node_deviation(x + 1e7) == pytest.approx(average_node_deviation(x), rel=1e-7)
    assert average_node_deviation(x.float() + 1e3) == pytest.approx(brute_force(x.float() + 1e3), rel=1e-9)


@pytest.mark.parametrize("nodes", [1, 5])
def test_equal_nodes_do_not_deviate(nodes: int) -> None:
    assert average_node_deviation(torch.full((nodes, 3), 0.1)) == 0


def formulas(inputs: torch.Tensor, prompts: torch.Tensor) -> tuple[float, float]:
    """Closed form and cross term as the proposition writes them, means over windows."""
    x, p = inputs.double(), prompts.double()
    closed = 2 * (p.square().sum(-1).mean() - p.mean(0).square().sum())
    cross = [4 * ((one * p).sum(-1).mean() - one.mean(0) @ p.mean(0)) for one in x]
    return float(closed), float(torch.stack(cross).mean())


@pytest.mark.parametrize("windows", [1, 3, 130])
def test_what_is_measured_is_the_closed_form_and_the_gap(windows: int) -> None:
    inputs, prompts = normal(windows, 9, 4), normal(9, 4, seed=1)
    found = prompt_effect(inputs, prompts)
    assert found.before == pytest.approx(np.mean([brute_force(one) for one in inputs]))
    assert found.after == pytest.approx(np.mean([brute_force(one.double() + prompts) for one in inputs]))
    assert (found.closed_form, found.gap) == pytest.approx(formulas(inputs, prompts))
    assert found.measured == pytest.approx(found.closed_form + found.gap, rel=1e-12)
    assert found.closed_form > 0


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(1, 8), st.integers(1, 5), st.floats(1e-3, 1e3))
def test_the_two_sides_differ_by_the_gap_alone(seed: int, windows: int, nodes: int, width: int, scale: float) -> None:
    inputs, prompts = normal(windows, nodes, width, seed=seed), scale * normal(nodes, width, seed=seed + 1)
    found = prompt_effect(inputs, prompts)
    assert found.closed_form >= 0
    assert found.measured == pytest.approx(found.closed_form + found.gap, rel=1e-9, abs=1e-9 * max(1, scale))


def test_inputs_that_are_not_correlated_with_the_prompts_leave_no_gap() -> None:
    inputs, prompts = torch.tensor([[1.0, 0], [-1, 0], [1, 0], [-1, 0]]), torch.tensor([[1.0], [1], [-1], [-1]])
    found = prompt_effect(inputs, prompts.expand(4, 2))
    assert found.gap == 0
    assert found.measured == pytest.approx(found.closed_form) == pytest.approx(4)


def test_prompts_against_their_inputs_make_nodes_more_alike() -> None:
    """The proposition needs its assumption: measured, prompts can lower the deviation."""
    inputs = normal(9, 4)
    found = prompt_effect(inputs, -inputs)
    assert found.after == pytest.approx(0)
    assert found.measured < 0 < found.closed_form


def test_one_window_may_come_without_its_axis() -> None:
    inputs, prompts = normal(9, 4), normal(9, 4, seed=1)
    assert prompt_effect(inputs, prompts) == prompt_effect(inputs[None], prompts)


@pytest.mark.parametrize("shape", [(0, 9, 4), (3, 8, 4), (3, 9, 5), (9,), (2, 3, 9, 4)])
def test_inputs_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"prompts \(9, 4\); expected \(windows, nodes, columns\)"):
        prompt_effect(torch.zeros(shape), torch.zeros(9, 4))


@pytest.fixture(scope="module")
def history(make_stream, make_history):
    return make_history(make_stream())


@pytest.fixture(scope="module")
def lives(make_learner, history, compute):
    """period -> checkpoint of the prompt pool, and period -> embedded windows, by rank."""
    found = {}
    for rank in (2, "full"):
        learner = make_learner("eac", prompt_pool={"rank": rank})
        pools, inputs, parts = {}, {}, None
        for key, data in history.items():
            parts = learner.learn(data, parts, compute=compute)
            trained = learner.restore(parts)
            train = learner.arrays(data).part("train", trained.scaler)
            window = train.windows.inputs(train.starts[::40])
            pools[key], inputs[key] = parts["prompt_pool"], trained.forecaster.inner.embed(window, data.graph)
            torch.testing.assert_close(
                prompts_of(parts["prompt_pool"]), trained.forecaster.prompts().double(), rtol=0, atol=1e-6
            )
        found[rank] = pools, inputs
    return found


@pytest.mark.parametrize("rank", [2, "full"])
def test_a_life_is_analysed_period_by_period(lives, history, rank) -> None:
    pools, inputs = lives[rank]
    found = analyse(pools, inputs)
    assert dict(found.schema) == SCHEMA
    assert found["period"].to_list() == list(history)
    assert found["nodes"].to_list() == [len(data.nodes) for data in history.values()]
    assert found["rank"].to_list() == [2 if rank == 2 else None] * 3
    width = next(iter(inputs.values())).shape[-1]
    assert found["parameters"].to_list() == [2 * (n + width) if rank == 2 else n * width for n in found["nodes"]]
    assert found.null_count().drop("rank").row(0) == (0,) * (len(SCHEMA) - 1)
    measured = found["deviation_after"] - found["deviation_before"]
    np.testing.assert_allclose(measured, found["closed_form"] + found["gap"], rtol=1e-9)
    for key, pool in pools.items():
        row = found.row(by_predicate=pl.col("period") == key, named=True)
        assert row["share_6"] == pytest.approx(spectrum(prompts_of(pool)).share_at(6))
        assert 1 <= row["advised_rank"] <= min(row["nodes"], width, rank if rank == 2 else 99)


def test_without_inputs_only_what_needs_them_is_unknown(lives) -> None:
    pools, inputs = lives[2]
    last = max(pools)
    found = analyse(pools, {last: inputs[last]})
    needed = ["deviation_before", "deviation_after", "gap"]
    assert found.select(pl.col(needed).is_null().sum()).row(0) == (2, 2, 2)
    assert found.drop(needed, "rank").null_count().sum_horizontal().item() == 0
    assert found["closed_form"].to_list() == analyse(pools, inputs)["closed_form"].to_list()


def test_every_seed_has_a_row(lives) -> None:
    pools, inputs = lives[2]
    by_seed = {key: {51: pool, 52: pool} for key, pool in reversed(pools.items())}
    found = analyse(by_seed, inputs)
    assert found["period"].to_list() == sorted([*pools, *pools])
    assert found["seed"].to_list() == [51, 52] * 3
    one = analyse(pools, inputs)
    assert found.filter(pl.col("seed") == 51).drop("seed").equals(one.drop("seed"))


def test_prompts_of_nothing_deviate_by_nothing_and_have_no_spectrum(lives) -> None:
    pools, inputs = lives["full"]
    key = min(pools)
    zero = {**pools[key].tensors, "weights.nodes.rows": torch.zeros_like(pools[key].tensors["weights.nodes.rows"])}
    row = analyse({key: replace(pools[key], tensors=zero)}, inputs).row(0, named=True)
    assert (row["closed_form"], row["gap"], row["effective_rank"], row["share_6"], row["advised_rank"]) == (
        0,
        0,
        None,
        None,
        None,
    )
    assert row["deviation_after"] == row["deviation_before"]


def test_another_part_or_other_inputs_are_refused_by_period(lives) -> None:
    pools, inputs = lives[2]
    key = min(pools)
    facts = {**pools[key].facts, "part": "backbone"}
    with pytest.raises(InputError, match=f"period {key}, seed 1: the part 'backbone' holds no prompts"):
        analyse({key: replace(pools[key], tensors={}, facts=facts)})
    with pytest.raises(InputError, match=f"period {key}, seed 1: inputs are"):
        analyse(pools, {key: inputs[key][:, 1:]})


@pytest.mark.parametrize("rank", [2, "full"])
def test_cohorts_and_what_lies_between_them_make_up_the_deviation(lives, history, rank) -> None:
    pools, _ = lives[rank]
    node_sets = {key: data.nodes for key, data in history.items()}
    found = analyse_cohorts(pools, node_sets)
    for key, pool in pools.items():
        own = found.filter(pl.col("period") == key)
        assert dict(own.select("cohort", "nodes").iter_rows()) == {
            cohort: len(rows) for cohort, rows in node_sets[key].cohorts.items()
        }
        share = own["nodes"] / own["nodes"].sum()
        whole = (share * (own["deviation"] + 2 * own["offset"])).sum()
        assert whole == pytest.approx(average_node_deviation(prompts_of(pool)))


def test_a_period_whose_node_set_is_another_is_refused(lives, history) -> None:
    pools, _ = lives[2]
    key = max(pools)
    with pytest.raises(InputError, match=f"period {key}: its node set knows no sensor"):
        analyse_cohorts({key: pools[key]}, {})
