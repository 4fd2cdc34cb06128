"""The spectrum of prompts ends at 1, bends down, and says which rank holds a share of it."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from st_pipeline.errors import InputError
from st_pipeline.evaluation.prompt_spectrum import Spectrum, advise_rank, pool_size, spectrum
from st_pipeline.models.prompt_pool import PromptTable

TABLES = arrays(np.float64, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.floats(-1e3, 1e3, width=32))
VALUES = torch.tensor([6.0, 3.0, 1.0])


def table(nodes: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(nodes, width, generator=torch.Generator().manual_seed(seed))


@given(TABLES.filter(lambda x: np.abs(x).max() > 1e-3))
def test_shares_rise_to_one_ever_more_slowly(x: np.ndarray) -> None:
    found = spectrum(torch.from_numpy(x))
    steps = torch.cat([found.shares[:1], found.shares.diff()])
    assert len(found.shares) == min(x.shape)
    assert found.shares[-1] == 1
    assert (steps >= 0).all()
    assert (steps.diff() <= 1e-12).all()
    assert 1 - 1e-9 <= found.effective_rank <= min(x.shape) + 1e-9


@given(TABLES.filter(lambda x: np.abs(x).max() > 1e-3), st.floats(0.01, 100))
def test_shares_know_no_unit_and_no_order_of_the_nodes(x: np.ndarray, factor: float) -> None:
    prompts = torch.from_numpy(x)
    one, other = spectrum(prompts), spectrum(factor * prompts.flip(0))
    torch.testing.assert_close(one.shares, other.shares, rtol=0, atol=1e-9)
    assert one.effective_rank == pytest.approx(other.effective_rank, abs=1e-6)


def test_singular_values_are_those_of_numpy() -> None:
    prompts = table(20, 7)
    expected = np.linalg.svd(prompts.double().numpy(), compute_uv=False)
    found = spectrum(prompts)
    np.testing.assert_allclose(found.singular_values, expected)
    np.testing.assert_allclose(found.shares, np.cumsum(expected) / expected.sum())
    weights = expected / expected.sum()
    assert found.effective_rank == pytest.approx(math.exp(-(weights * np.log(weights)).sum()))


@pytest.mark.parametrize("rank", [1, 3, 6])
def test_a_product_of_two_factors_has_all_of_its_spectrum_at_its_rank(rank: int) -> None:
    found = spectrum(PromptTable(40, rank, 12)())
    assert found.share_at(rank) == pytest.approx(1, abs=1e-5)
    assert rank == 1 or found.share_at(rank - 1) < 0.999
    assert found.effective_rank <= rank + 1e-3


def test_equal_singular_values_make_the_effective_rank_their_number() -> None:
    assert spectrum(torch.eye(5)).effective_rank == pytest.approx(5)
    assert spectrum(torch.ones(5, 3)).effective_rank == pytest.approx(1)


def test_shares_are_counted_from_one_and_end_with_the_spectrum() -> None:
    found = Spectrum.of(VALUES.flip(0))
    assert [found.share_at(k) for k in (1, 2, 3, 99)] == pytest.approx([0.6, 0.9, 1, 1])
    with pytest.raises(InputError, match="no share at singular value 0"):
        found.share_at(0)


def test_prompts_of_nothing_have_no_shares() -> None:
    found = spectrum(torch.zeros(4, 3))
    assert math.isnan(found.share_at(2))
    assert math.isnan(found.effective_rank)


@pytest.mark.parametrize("bad", [torch.zeros(0, 3), torch.zeros(3), torch.full((2, 2), math.nan), torch.zeros(1, 2, 3)])
def test_what_is_no_table_of_numbers_has_no_spectrum(bad: torch.Tensor) -> None:
    with pytest.raises(InputError, match=r"expected \(nodes, columns\)"):
        spectrum(bad)


@pytest.mark.parametrize("bad", [[], [1.0, -1.0], [1.0, math.inf]])
def test_what_is_no_singular_value_is_refused(bad: list[float]) -> None:
    with pytest.raises(InputError, match="finite numbers of at least 0"):
        Spectrum.of(torch.tensor(bad))


@pytest.mark.parametrize("rank", [1, 6, None])
def test_the_size_of_a_pool_is_what_its_parameters_are(rank: int | None) -> None:
    assert pool_size(9, 12, rank) == sum(part.numel() for part in PromptTable(9, rank, 12).parameters())


@pytest.mark.parametrize(("share", "rank"), [(0.01, 1), (0.6, 1), (0.61, 2), (0.9, 2), (0.91, 3), (1.0, 3)])
def test_the_advised_rank_is_the_smallest_that_reaches_the_share(share: float, rank: int) -> None:
    advice = advise_rank(VALUES, num_nodes=50, width=12, rank=3, share=share)
    assert advice.rank == rank
    assert advice.share >= share - 1e-6
    assert (advice.parameters, advice.parameters_now) == (rank * 62, 3 * 62)


@given(TABLES.filter(lambda x: np.abs(x).max() > 1e-3), st.floats(0.05, 1))
def test_no_smaller_rank_would_do(x: np.ndarray, share: float) -> None:
    prompts = torch.from_numpy(x)
    advice = advise_rank(prompts, num_nodes=len(x), width=x.shape[1], rank=None, share=share)
    found = spectrum(prompts)
    assert 1 <= advice.rank <= min(x.shape)
    assert advice.rank == 1 or found.share_at(advice.rank - 1) < share
    assert advice == advise_rank(found.singular_values, num_nodes=len(x), width=x.shape[1], rank=None, share=share)


def test_a_pool_in_single_precision_never_needs_more_than_its_rank() -> None:
    prompts = PromptTable(200, 6, 12)().detach()
    assert advise_rank(prompts, num_nodes=200, width=12, rank=6, share=1.0).rank == 6


@pytest.mark.parametrize(
    ("nodes", "width", "eps", "bound"),
    [(871, 12, 0.9, 12), (10**6, 500, 0.5, 100), (871, 12, 0.5, 12), (1, 12, 0.5, 1)],
)
def test_the_bound_is_logarithmic_and_at_most_the_width(nodes: int, width: int, eps: float, bound: int) -> None:
    assert advise_rank(VALUES, num_nodes=nodes, width=width, rank=3, eps=eps).bound == bound


def test_growth_goes_on_as_it_has_been_on_average() -> None:
    advice = advise_rank(VALUES, num_nodes=[655, 715, 871], width=12, rank=6, ahead=2)
    assert [coming.nodes for coming in advice.projected] == [979, 1087]
    assert advice.projected[1] == (1087, 6 * 1099, 2 * 1099)
    steady = advise_rank(VALUES, num_nodes=655, width=12, rank=6)
    assert [coming.nodes for coming in steady.projected] == [655] * 3
    shrinking = advise_rank(VALUES, num_nodes=[10, 4], width=12, rank=6)
    assert [coming.nodes for coming in shrinking.projected] == [0, 0, 0]


def test_the_sentence_says_what_to_do_and_what_cannot_be_seen() -> None:
    advice = advise_rank(VALUES, num_nodes=[80, 100], width=12, rank=6, ahead=1)
    assert advice.worthwhile
    assert advice.sentence == (
        "Rank 2 keeps 90 % of the sum of the prompts' singular values: 224 parameters instead of 672, which rank 6 "
        "takes; in 1 period, with 120 nodes, 264 instead of 792."
    )
    keep = advise_rank(VALUES, num_nodes=100, width=12, rank=2, ahead=0).sentence
    assert keep.startswith("Keep rank 2: a smaller one misses 90 %")
    assert keep.endswith("whether a larger one would help cannot be seen from this pool.")
    full = advise_rank(VALUES, num_nodes=3, width=3, rank=None, share=1.0)
    assert full.sentence.startswith("Keep a full table: rank 3, which has 100 %")
    assert not replace(full, parameters=9).worthwhile


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"share": 0.0}, "share is 0.0"),
        ({"share": 1.1}, "share is 1.1"),
        ({"eps": 1.0}, "eps 1.0"),
        ({"num_nodes": 0}, "at least one node"),
        ({"num_nodes": []}, "at least one node"),
        ({"width": 0}, "at least one node and one column"),
        ({"prompts": torch.zeros(3, 2)}, "the prompts are all 0"),
    ],
)
def test_advice_on_nothing_is_refused(changes: dict[str, object], expected: str) -> None:
    usual = {"prompts": VALUES, "num_nodes": 9, "width": 12, "rank": 6}
    with pytest.raises(InputError, match=expected):
        advise_rank(**{**usual, **changes})  # type: ignore[arg-type]
