"""Balanced groups: equal sizes, the least cost, and the clusters that are there."""

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
import torch

from st_pipeline.strategies.parts.balanced_groups import balanced_assignment, balanced_groups


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sizes(groups: torch.Tensor, count: int) -> list[int]:
    found = Counter(groups.tolist())
    return sorted(found[group] for group in range(count))


@pytest.mark.parametrize("points", [0, 1, 3, 4, 9, 30, 31])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_sizes_differ_by_one_at_most(points: int, count: int) -> None:
    found = balanced_groups(torch.randn(points, 3, generator=generator()) ** 3, count, generator(1))
    assert found.shape == (points,)
    assert sizes(found, count) == sorted(len(range(group, points, count)) for group in range(count))


@pytest.mark.parametrize(("points", "groups"), [(5, 2), (6, 3), (7, 3), (2, 4)])
def test_an_assignment_is_the_cheapest_of_all_balanced_ones(points: int, groups: int) -> None:
    cost = torch.rand(points, groups, generator=generator(points), dtype=torch.float64)
    rows = torch.arange(points)
    balanced = sorted(len(range(group, points, groups)) for group in range(groups))
    every = [torch.tensor(choice) for choice in product(range(groups), repeat=points)]
    best = min(float(cost[rows, choice].sum()) for choice in every if sizes(choice, groups) == balanced)
    assert float(cost[rows, balanced_assignment(cost)].sum()) == pytest.approx(best)


@pytest.mark.parametrize("seed", range(20))
def test_clusters_of_equal_size_are_found(seed: int) -> None:
    centres = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]])
    points = centres.repeat(8, 1) + torch.randn(24, 2, generator=generator(seed))
    found = balanced_groups(points, 3, generator(seed)).view(8, 3)
    assert (found == found[0]).all()
    assert len(set(found[0].tolist())) == 3


def test_equal_points_are_grouped_all_the_same() -> None:
    assert sizes(balanced_groups(torch.ones(6, 2), 4, generator()), 4) == [1, 1, 2, 2]


def test_the_same_generator_gives_the_same_groups() -> None:
    points = torch.randn(20, 4, generator=generator())
    one, two = (balanced_groups(points, 4, generator(3)) for _ in range(2))
    assert torch.equal(one, two)
