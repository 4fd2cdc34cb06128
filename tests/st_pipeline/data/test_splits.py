"""A period is cut into three parts without gap or overlap, and no window crosses a cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.splits import require_windows, split, window_starts
from st_pipeline.data_config import SplitConfig
from st_pipeline.errors import InputError

SHARES = st.tuples(st.integers(1, 98), st.integers(1, 98)).filter(lambda pair: sum(pair) < 100)


@given(length=st.integers(0, 10_000), shares=SHARES)
def test_the_parts_cover_the_period_in_order(length: int, shares: tuple[int, int]) -> None:
    train, validation = (share / 100 for share in shares)
    parts = split(length, SplitConfig(train=train, validation=validation, test=1 - train - validation))
    assert [step for part in parts for step in part] == list(range(length))
    assert len(parts.train) == int(length * train)
    assert abs(len(parts.validation) - length * validation) <= 1


@pytest.mark.parametrize(
    ("length", "sizes"), [(8928, (5356, 1786, 1786)), (8640, (5184, 1728, 1728)), (10, (6, 2, 2)), (5, (3, 1, 1))]
)
def test_sixty_twenty_twenty_is_cut_as_the_public_code_cuts_it(length: int, sizes: tuple[int, int, int]) -> None:
    assert tuple(map(len, split(length, SplitConfig()))) == sizes
    assert split(length, SplitConfig()).test.start == int(length * 0.8)


@given(length=st.integers(0, 10_000), used=st.integers(1, 60))
def test_a_share_for_training_shortens_the_training_part_alone(length: int, used: int) -> None:
    whole, few = split(length, SplitConfig()), split(length, SplitConfig(), used=used / 100)
    assert few.train == range(int(length * (used / 100)))
    assert len(few.train) <= len(whole.train)
    assert few[1:] == whole[1:]


@pytest.mark.parametrize(("length", "steps"), [(8928, 1785), (8640, 1728), (8577, 1715), (4, 0)])
def test_a_fifth_is_cut_as_the_public_few_shot_code_cuts_it(length: int, steps: int) -> None:
    assert split(length, SplitConfig(), used=0.2).train == range(steps)


@given(start=st.integers(0, 50), size=st.integers(0, 60), span=st.integers(1, 30), drop=st.booleans())
def test_windows_lie_inside_their_part(start: int, size: int, span: int, drop: bool) -> None:
    part = range(start, start + size)
    starts = window_starts(part, span, drop_last=drop)
    inside = [step for step in part if step + span <= part.stop]
    assert list(starts) == (inside[:-1] if drop else inside)


@pytest.mark.parametrize(("steps", "windows"), [(5356, 5332), (1786, 1762)])
def test_the_public_code_leaves_out_the_last_window(steps: int, windows: int) -> None:
    assert len(window_starts(range(steps), 24, drop_last=True)) == windows == steps - 24


def test_a_part_too_short_for_a_window_is_refused_with_the_numbers() -> None:
    part = range(100, 110)
    with pytest.raises(InputError, match=r"2012-07.*validation part has 10 steps.*one window needs 24"):
        require_windows(window_starts(part, 24), part, name="validation", period="2012-07", span=24)
    require_windows(window_starts(range(24), 24), range(24), name="test", period="2012-07", span=24)
