"""Seeds say the same in every process and leave the generators of the caller alone."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.training.reproducibility import derive_seed, seeded

NAMES = st.lists(st.text("abc012_-", min_size=1), min_size=1, max_size=4)


@given(st.integers(0, 2**31), NAMES, st.integers(0, 2**31), NAMES)
def test_a_seed_belongs_to_its_names(seed: int, names: list[str], other: int, others: list[str]) -> None:
    same = (seed, names) == (other, others)
    assert (derive_seed(seed, *names) == derive_seed(other, *others)) == same
    assert 0 <= derive_seed(seed, *names) < 2**63


def test_a_seed_is_the_same_in_every_process() -> None:
    assert derive_seed(1, "roadnet", "eac", "2024-01-01") == 71012814522099347


def test_inside_everything_is_drawn_from_the_seed_and_outside_nothing_changed() -> None:
    torch.manual_seed(5)
    expected = [torch.rand(2), torch.rand(2)]
    torch.manual_seed(5)
    found = [torch.rand(2)]
    with seeded(1) as generator:
        inner = torch.rand(3), torch.rand(3, generator=generator)
        with seeded(2):
            torch.rand(9)
        rest = torch.rand(3)
    found.append(torch.rand(2))
    assert all(torch.equal(one, other) for one, other in zip(expected, found, strict=True))
    with seeded(1) as generator:
        assert torch.equal(torch.rand(3), inner[0])
        assert torch.equal(torch.rand(3, generator=generator), inner[1])
        assert torch.equal(torch.rand(3), rest)
