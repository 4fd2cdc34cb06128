"""Windows are what a plain loop over the arrays gives, and never show what comes after them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.windows import Windows

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
