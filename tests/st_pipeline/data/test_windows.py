"""Windows are what a plain loop over the arrays gives, and never show what comes after them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from st_pipeline.data.windows import Windows, cut, spaced

SIZES = st.fixed_dictionaries(
    {
        "window": st.integers(1, 9),
        "horizon": st.integers(1, 6),
        "lags": st.lists(st.integers(1, 30), max_size=3, unique=True).map(sorted),
        "channels": st.integers(1, 3),
        "nodes": st.integers(1, 3),
        "seed": st.integers(0, 1000),
    }
)
LENGTH = 40


def random_windows(window: int, horizon: int, lags: list[int], channels: int, nodes: int, seed: int) -> Windows:
    random = np.random.default_rng(seed)
    observed = random.random((LENGTH, nodes, channels)) < 0.6
    values = random.normal(size=observed.shape) * observed
    return Windows(
        values=torch.tensor(values, dtype=torch.float32),
        observed=torch.tensor(observed),
        target=torch.tensor(random.normal(size=(LENGTH, nodes)), dtype=torch.float32),
        target_observed=torch.tensor(random.random((LENGTH, nodes)) < 0.5),
        time_of_day=torch.arange(LENGTH) % 24,
        day_of_week=torch.arange(LENGTH) // 24,
        window=window,
        horizon=horizon,
        lags=tuple(lag for lag in lags if lag >= horizon),
    )


def lagged(arrays: Windows, step: int, lag: int, node: int, issued: int) -> tuple[float, bool]:
    """The target `lag` steps before `step`, and whether it was observed; the other lags in turn fill it."""
    place = arrays.lags.index(lag)
    for other in (*arrays.lags[place:], *arrays.lags[:place]):
        at = step - other
        if 0 <= at <= issued and arrays.observed[at, node, 0]:
            return float(arrays.values[at, node, 0]), other == lag
    return 0.0, False


@given(SIZES)
def test_windows_are_those_of_a_plain_loop(sizes) -> None:
    arrays = random_windows(**sizes)
    starts = list(range(LENGTH - arrays.span + 1))
    window, target = arrays.gather(torch.tensor(starts))
    channels = sizes["channels"]
    assert window.values.shape == (len(starts), arrays.window, sizes["nodes"], channels + 2 * len(arrays.lags))
    for batch in (0, len(starts) // 2, len(starts) - 1):
        past = slice(starts[batch], starts[batch] + arrays.window)
        future = slice(past.stop, past.stop + arrays.horizon)
        assert torch.equal(window.values[batch, ..., :channels], arrays.values[past])
        assert torch.equal(window.observed[batch, ..., :channels], arrays.observed[past])
        assert torch.equal(window.time_of_day[batch], arrays.time_of_day[past.start : future.stop])
        assert torch.equal(window.day_of_week[batch], arrays.day_of_week[past.start : future.stop])
        assert torch.equal(target.values[batch], arrays.target[future])
        assert torch.equal(target.observed[batch], arrays.target_observed[future])
        for block, ahead in enumerate((0, arrays.window)):
            for number, lag in enumerate(arrays.lags):
                channel = channels + block * len(arrays.lags) + number
                for place in range(arrays.window):
                    for node in range(sizes["nodes"]):
                        expected = lagged(arrays, past.start + place + ahead, lag, node, past.stop - 1)
                        cell = (batch, place, node, channel)
                        assert (float(window.values[cell]), bool(window.observed[cell])) == expected


@given(SIZES, st.integers(0, LENGTH - 1))
def test_inputs_never_show_what_comes_after_the_window(sizes, place: int) -> None:
    arrays = random_windows(**sizes)
    start = place % (LENGTH - arrays.span + 1)
    issued = start + arrays.window
    values, observed = arrays.values.clone(), arrays.observed.clone()
    values[issued:], observed[issued:] = 1e6, True
    changed = replace(arrays, values=values, observed=observed, target=arrays.target * 7)
    for one, other in zip(*(made.gather(torch.tensor([start]))[0] for made in (arrays, changed)), strict=True):
        assert torch.equal(one, other)


@given(SIZES)
def test_a_window_does_not_depend_on_its_batch(sizes) -> None:
    arrays = random_windows(**sizes)
    starts = torch.randperm(LENGTH - arrays.span + 1)
    together, _ = arrays.gather(starts)
    alone, _ = arrays.gather(starts[-1:])
    assert all(torch.equal(one[-1:], other) for one, other in zip(together, alone, strict=True))


def random_array(shape: tuple[int, ...], kind: str, *, same_at_every_step: bool = False, seed: int = 0) -> Tensor:
    """Rows (L, N, ...) of numbers or flags; the same at every step as one row that is shown L times."""
    random = torch.Generator().manual_seed(seed)
    drawn = torch.randn((1, *shape[1:]) if same_at_every_step else shape, generator=random)
    array = (drawn > 0 if kind == "bool" else drawn.to(getattr(torch, kind))).expand(shape)
    assert not same_at_every_step or array.stride(0) == 0
    return array


def random_steps(batch: int, steps: int, *, seed: int = 0) -> Tensor:
    return torch.randint(0, LENGTH, (batch, steps), generator=torch.Generator().manual_seed(seed))


COUNT = st.integers(1, 4)


@given(
    st.tuples(COUNT) | st.tuples(COUNT, COUNT),
    st.sampled_from(["float32", "float64", "bool"]),
    st.booleans(),
    st.tuples(COUNT, COUNT),
    st.integers(0, 1000),
)
def test_rows_are_cut_as_by_indexing(axes, kind: str, same_at_every_step: bool, batch, seed: int) -> None:
    array = random_array((LENGTH, *axes), kind, same_at_every_step=same_at_every_step, seed=seed)
    steps = random_steps(*batch, seed=seed)
    found = cut(array, steps)
    assert found.dtype == array.dtype
    assert torch.equal(found, array[steps])


@pytest.mark.parametrize("kind", ["float32", "bool"])
@pytest.mark.parametrize("axes", [(3,), (3, 2)])
def test_what_is_cut_has_nodes_first_in_memory(axes: tuple[int, ...], kind: str) -> None:
    array = random_array((LENGTH, *axes), kind)
    found = cut(array, random_steps(5, 4))
    assert found.movedim((0, 1), (-2, -1)).is_contiguous()
    assert len(axes) > 1 or found.movedim(2, 0).is_contiguous()


def test_what_is_the_same_at_every_step_takes_no_memory() -> None:
    array = random_array((LENGTH, 3, 2), "bool", same_at_every_step=True)
    found = cut(array, random_steps(5, 4))
    assert found.shape == (5, 4, 3, 2)
    assert found.data_ptr() == array.data_ptr()


@given(SIZES)
def test_arrays_that_are_the_same_at_every_step_give_the_same_windows(sizes) -> None:
    arrays = random_windows(**sizes)
    everywhere = torch.ones(1, *arrays.observed.shape[1:], dtype=torch.bool).expand(arrays.observed.shape)
    shown = replace(arrays, observed=everywhere, target_observed=everywhere[..., 0])
    stored = replace(arrays, observed=everywhere.clone(), target_observed=everywhere[..., 0].clone())
    starts = torch.arange(LENGTH - arrays.span + 1)
    for one, other in zip(shown.gather(starts), stored.gather(starts), strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


@given(SIZES)
def test_the_inputs_and_the_steps_of_a_window_are_those_of_its_gathering(sizes) -> None:
    arrays = random_windows(**sizes)
    starts = torch.arange(LENGTH - arrays.span + 1).flip(0)
    window, target = arrays.gather(starts)
    assert all(torch.equal(one, other) for one, other in zip(arrays.inputs(starts), window, strict=True))
    assert torch.equal(target.values, arrays.target[arrays.future(starts)])


def test_a_part_is_complete_if_every_target_is_observed() -> None:
    arrays = random_windows(window=3, horizon=2, lags=[], channels=1, nodes=2, seed=0)
    everything = torch.ones_like(arrays.target_observed)
    assert not arrays.complete
    assert replace(arrays, target_observed=everything).complete
    everything[-1, -1] = False
    assert not replace(arrays, target_observed=everything).complete


@given(st.integers(1, 500), st.integers(1, 40))
def test_spaced_windows_are_as_many_as_there_may_be_and_reach_both_ends(count: int, most: int) -> None:
    starts = torch.arange(7, 7 + count)
    chosen = spaced(starts, most)
    assert len(chosen) == len(chosen.unique()) == min(count, most)
    assert chosen[0] == starts[0]
    gaps = chosen.diff()
    assert not len(gaps) or (chosen[-1] == starts[-1] and gaps.max() - gaps.min() <= 1)
