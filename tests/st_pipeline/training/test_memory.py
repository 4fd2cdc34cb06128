"""A plan keeps to the memory there is: fewer threads, then fewer windows, then one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.errors import InputError
from st_pipeline.training.memory import GIB, Need, Plan
from st_pipeline.training.pieces import PIECE_CELLS, pieces_of

NEEDS = st.builds(
    Need,
    resident=st.integers(0, 10**12),
    per_window=st.integers(1, 10**9),
    batch=st.integers(1, 512),
    nodes=st.integers(1, 2 * PIECE_CELLS),
    divisible=st.booleans(),
)
SPARE = st.integers(0, 10**12)  # bytes beyond the least
THREADS = st.integers(1, 64)
SIZES = {"length": 500, "nodes": 30, "channels": 3, "width": 64, "span": 24, "batch": 128}


@given(NEEDS, SPARE, THREADS, st.booleans())
def test_a_plan_takes_what_it_says_and_never_more_than_is_allowed(need: Need, spare: int, threads: int, gpu) -> None:
    allowed = need.least + spare
    plan = need.plan(allowed, threads=threads, gpu=gpu)
    at_once = plan.windows * (plan.threads if need.divisible else 1)
    assert plan.bytes == need.resident + at_once * need.per_window <= allowed
    assert 1 <= plan.windows <= need.batch
    assert 1 <= plan.threads <= threads


@given(NEEDS, SPARE, SPARE, THREADS, st.booleans())
def test_less_memory_never_means_more_work_at_a_time(need: Need, one: int, other: int, threads: int, gpu) -> None:
    less, more = (need.plan(need.least + spare, threads=threads, gpu=gpu) for spare in sorted([one, other]))
    assert less.windows <= more.windows
    assert less.threads <= more.threads


@given(NEEDS, SPARE, st.lists(THREADS, min_size=2, max_size=5), st.booleans())
def test_the_windows_are_the_same_whatever_the_number_of_threads(need: Need, spare: int, several, gpu: bool) -> None:
    plans = [need.plan(need.least + spare, threads=threads, gpu=gpu) for threads in several]
    assert len({plan.windows for plan in plans}) == 1


@given(NEEDS, THREADS, st.data())
def test_threads_are_given_up_before_a_window_is(need: Need, threads: int, data: st.DataObject) -> None:
    need = replace(need, divisible=True)
    usual = need.plan(1 << 60, threads=1, gpu=False).windows
    fitting = data.draw(st.integers(1, threads))
    allowed = need.resident + fitting * usual * need.per_window
    assert need.plan(allowed, threads=threads, gpu=False) == Plan(usual, fitting, allowed)
    if usual > 1:
        fewer = data.draw(st.integers(1, usual - 1))
        allowed = need.resident + fewer * need.per_window
        assert need.plan(allowed, threads=threads, gpu=False) == Plan(fewer, 1, allowed)


@given(NEEDS, THREADS)
def test_with_memory_to_spare_every_thread_has_what_its_cache_holds(need: Need, threads: int) -> None:
    need = replace(need, divisible=True)
    plan = need.plan(1 << 60, threads=threads, gpu=False)
    assert plan.threads == threads
    assert plan.windows == max(len(piece) for piece in pieces_of(torch.arange(need.batch), need.nodes))
    assert plan.windows == 1 or plan.windows * need.nodes <= PIECE_CELLS + need.nodes


@given(NEEDS, SPARE, THREADS)
def test_a_gpu_has_the_whole_batch_or_as_much_of_it_as_fits(need: Need, spare: int, threads: int) -> None:
    need = replace(need, divisible=True)
    plan = need.plan(need.least + spare, threads=threads, gpu=True)
    assert (plan.windows, plan.threads) == (min(need.batch, 1 + spare // need.per_window), 1)


@given(NEEDS, SPARE, THREADS, st.booleans())
def test_a_batch_that_cannot_be_split_has_all_threads(need: Need, spare: int, threads: int, gpu: bool) -> None:
    need = replace(need, divisible=False)
    assert need.least == need.resident + need.batch * need.per_window
    plan = need.plan(need.least + spare, threads=threads, gpu=gpu)
    assert plan == Plan(need.batch, 1 if gpu else threads, need.least, divided=False)


@given(NEEDS, THREADS, st.booleans(), st.data())
def test_too_little_memory_is_one_sentence_with_both_numbers(need: Need, threads: int, gpu: bool, data) -> None:
    allowed = data.draw(st.integers(0, need.least - 1))
    with pytest.raises(InputError) as caught:
        need.plan(allowed, threads=threads, gpu=gpu)
    expected = f"needs about {need.least / GIB:.2f} GiB and there are {allowed / GIB:.2f} GiB to give"
    assert str(caught.value) == expected


@pytest.mark.parametrize("size", ["length", "nodes", "channels", "width", "span"])
def test_more_of_anything_needs_more(size: str) -> None:
    usual, more = Need.of(**SIZES), Need.of(**{**SIZES, size: 2 * SIZES[size]})
    assert more.least > usual.least
    assert (more.resident > usual.resident) == (size in {"length", "nodes", "channels"})
    assert (more.per_window > usual.per_window) == (size != "length")


@pytest.mark.parametrize("divisible", [True, False])
def test_a_larger_batch_needs_more_only_where_it_cannot_be_split(divisible: bool) -> None:
    usual, more = (Need.of(**{**SIZES, "batch": batch}, divisible=divisible) for batch in (128, 256))
    assert usual.divisible == divisible
    assert (more.least > usual.least) == (not divisible)


@given(NEEDS, SPARE, THREADS)
def test_a_plan_says_its_gibibytes_its_windows_and_its_threads(need: Need, spare: int, threads: int) -> None:
    plan = need.plan(need.least + spare, threads=threads, gpu=False)
    assert str(plan).startswith(f"about {plan.bytes / GIB:.2f} GiB, {plan.windows} windows at a time")
    assert str(plan).endswith(
        f"on each of {plan.threads} threads" if plan.divided and plan.threads > 1 else "at a time"
    )


def test_a_plan_reads_as_a_sentence() -> None:
    assert str(Plan(64, 4, 3 * GIB // 2)) == "about 1.50 GiB, 64 windows at a time on each of 4 threads"
    assert str(Plan(128, 1, GIB)) == "about 1.00 GiB, 128 windows at a time"
