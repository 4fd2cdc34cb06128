"""Profiles, their likeness, their distance and their clusters, from what was measured alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cosine
from scipy.stats import wasserstein_distance
from torch import Tensor

from st_pipeline.strategies.parts.daily_patterns import Profiles, cluster, daily_profiles, distances, similarity


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def profiles(rows: int, *, slots: int = 24, seed: int = 0, missing: float = 0.3) -> Profiles:
    random = generator(seed)
    seen = torch.rand(rows, slots, generator=random) >= missing
    return Profiles(torch.rand(rows, slots, generator=random).double() * 50 * seen, seen)


def planted(members: int, *, missing: float = 0.0) -> tuple[Profiles, Tensor]:
    """Three shapes of a day, `members` nodes of each, at any level and with some noise."""
    random, hours = np.random.default_rng(0), np.arange(24)
    shapes = np.stack([np.exp(-(((hours - peak + 12) % 24 - 12) ** 2) / 8) for peak in (3, 11, 19)])
    kinds = np.tile(np.arange(3), members)
    values = shapes[kinds] * random.uniform(1, 1000, (len(kinds), 1)) * random.uniform(0.9, 1.1, (len(kinds), 24))
    seen = random.random(values.shape) >= missing
    return Profiles(torch.from_numpy(values * seen), torch.from_numpy(seen)), torch.from_numpy(kinds)


def test_a_profile_is_the_mean_of_what_was_measured_in_each_slot(make_part) -> None:
    part = make_part(nodes=4, length=300, missing=0.4)
    scored = part.scored.clone()
    scored[:, 2] = False
    scored[part.windows.time_of_day == 7, 1] = False
    part = replace(part, scored=scored)
    found = daily_profiles(part, steps_per_day=24)
    for node in range(4):
        for slot in range(24):
            here = (part.windows.time_of_day == slot) & scored[:, node]
            assert found.seen[node, slot] == here.any()
            expected = part.truth[here, node].double().mean() if here.any() else 0.0
            assert float(found.values[node, slot]) == pytest.approx(float(expected), rel=1e-5)
    assert found.known.tolist() == [True, True, False, True]
    assert not found.seen[1, 7]


def test_likeness_is_the_cosine_over_the_slots_both_have_seen() -> None:
    one, other = profiles(5, seed=1), profiles(3, seed=2)
    found = similarity(one, other)
    for row in range(5):
        for column in range(3):
            both = one.seen[row] & other.seen[column]
            assert float(found[row, column]) == pytest.approx(
                1 - cosine(one.values[row, both], other.values[column, both])
            )


def test_nodes_without_a_common_slot_are_not_alike() -> None:
    seen = torch.tensor([[True, False], [False, True], [False, False]])
    some = Profiles(seen.double() * 3, seen)
    torch.testing.assert_close(similarity(some, some), torch.diag(torch.tensor([1.0, 1.0, 0.0])).double())


def test_likeness_does_not_see_the_level() -> None:
    some = profiles(4, missing=0.0)
    torch.testing.assert_close(similarity(some, Profiles(some.values * 7, some.seen)), similarity(some, some))
    torch.testing.assert_close(similarity(some, some.unit()), similarity(some, some))


def test_the_distance_is_wassersteins_between_the_values_that_were_measured() -> None:
    before, now = profiles(6, seed=1), profiles(6, seed=2)
    expected = [
        wasserstein_distance(before.values[row, before.seen[row]], now.values[row, now.seen[row]]) for row in range(6)
    ]
    torch.testing.assert_close(distances(before, now), torch.tensor(expected, dtype=torch.float64))


def test_the_distance_knows_levels_but_not_times_of_day() -> None:
    some = profiles(3, missing=0.0)
    shifted = Profiles(some.values.roll(5, dims=1), some.seen)
    torch.testing.assert_close(distances(some, shifted), torch.zeros(3, dtype=torch.float64))
    raised = Profiles(some.values - 4, some.seen)
    torch.testing.assert_close(distances(some, raised), torch.full((3,), 4.0, dtype=torch.float64))


@pytest.mark.parametrize("side", [0, 1])
def test_a_node_that_was_not_measured_on_either_side_has_no_distance(side: int) -> None:
    both = [profiles(3, seed=1), profiles(3, seed=2)]
    both[side].seen[1], both[side].values[1] = False, 0.0
    assert distances(*both).isnan().tolist() == [False, True, False]


@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("seed", range(3))
def test_planted_clusters_are_found(missing: float, seed: int) -> None:
    some, kinds = planted(7, missing=missing)
    patterns, labels = cluster(some, 3, generator(seed))
    assert len({(int(kind), int(label)) for kind, label in zip(kinds, labels, strict=True)}) == 3
    assert labels.unique().tolist() == [0, 1, 2]
    assert torch.equal(similarity(some, patterns.profiles).argmax(1), labels)
    for label in range(3):
        members = labels == label
        torch.testing.assert_close(patterns.number[label], some.seen[members].sum(0).double())


def test_a_node_that_was_not_measured_is_in_no_cluster() -> None:
    some, _ = planted(4)
    some.seen[5], some.values[5] = False, 0.0
    _, labels = cluster(some, 3, generator())
    assert (labels == -1).nonzero().flatten().tolist() == [5]


@pytest.mark.parametrize("nodes", [0, 1, 4])
def test_there_are_never_more_clusters_than_nodes(nodes: int) -> None:
    patterns, labels = cluster(profiles(nodes, missing=0.0), 6, generator())
    assert sorted(labels.tolist()) == list(range(nodes))
    assert patterns.total.shape == (nodes, 24)


def test_nodes_that_are_all_the_same_give_finite_patterns() -> None:
    same = Profiles(torch.ones(5, 24, dtype=torch.float64), torch.ones(5, 24, dtype=torch.bool))
    for some in (same, Profiles(same.values * 0, same.seen)):
        patterns, labels = cluster(some, 3, generator())
        assert patterns.profiles.values.isfinite().all()
        assert ((labels >= 0) & (labels < 3)).all()


def test_a_network_without_a_measurement_has_no_cluster() -> None:
    nothing = Profiles(torch.zeros(3, 24, dtype=torch.float64), torch.zeros(3, 24, dtype=torch.bool))
    patterns, labels = cluster(nothing, 3, generator())
    assert labels.tolist() == [-1, -1, -1]
    assert not len(patterns.total)


def test_the_same_seed_gives_the_same_clusters() -> None:
    some = profiles(40)
    one, other, third = (cluster(some, 6, generator(seed))[0].total for seed in (1, 1, 2))
    assert torch.equal(one, other)
    assert not torch.equal(one, third)
