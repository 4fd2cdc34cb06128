"""A bank keeps its patterns in place, lets new ones in, and labels nodes by what they are like."""

from __future__ import annotations

import torch

from st_pipeline.strategies.parts.daily_patterns import Profiles, similarity
from st_pipeline.strategies.parts.pattern_bank import PatternBank

SLOTS = 24


def peak(*hours: float, level: float = 10.0) -> Profiles:
    """A node for each hour at which its day is highest."""
    away = (torch.arange(SLOTS) - torch.tensor(hours).view(-1, 1) + SLOTS / 2) % SLOTS - SLOTS / 2
    values = level * torch.exp(-away.double().square() / 8) + 0.1
    return Profiles(values, torch.ones(values.shape, dtype=torch.bool))


def unseen(some: Profiles, row: int) -> Profiles:
    some.seen[row], some.values[row] = False, 0.0
    return some


def built(*hours: float, size: int = 8) -> PatternBank:
    bank = PatternBank()
    bank.build(peak(*hours), size, torch.Generator().manual_seed(0))
    return bank


def test_a_newcomer_takes_a_free_place_and_moves_nobody() -> None:
    bank = built(2, 10, size=3)
    before = bank.patterns.profiles.values
    comer = peak(18, level=400)
    bank.take_in(comer, 3)
    assert len(bank) == 3
    assert torch.equal(bank.patterns.profiles.values[:2], before)
    torch.testing.assert_close(bank.patterns.profiles.values[2], comer.unit().values[0])


def test_in_a_full_bank_a_newcomer_moves_the_pattern_it_is_most_like_towards_it() -> None:
    bank = built(2, 10, 18, size=3)
    before, comer = bank.patterns.profiles, peak(11)
    nearest = int(similarity(comer, before).argmax())
    bank.take_in(comer, 3)
    after = bank.patterns.profiles
    assert len(bank) == 3
    others = torch.arange(3) != nearest
    assert torch.equal(after.values[others], before.values[others])
    torch.testing.assert_close(after.values[nearest], (before.values[nearest] + comer.unit().values[0]) / 2)
    bank.take_in(comer, 3)
    torch.testing.assert_close(
        bank.patterns.profiles.values[nearest], (before.values[nearest] + 2 * comer.unit().values[0]) / 3
    )


def test_what_was_not_measured_neither_enters_nor_moves_a_pattern() -> None:
    bank = built(2, 10, size=2)
    before = bank.patterns
    bank.take_in(unseen(peak(11), 0), 2)
    assert all(torch.equal(one, other) for one, other in zip(before, bank.patterns, strict=True))
    comer = peak(10)
    comer.seen[0, :6], comer.values[0, :6] = False, 0.0
    bank.take_in(comer, 2)
    nearest = int(similarity(peak(10), before.profiles).argmax())
    assert torch.equal(bank.patterns.number[nearest], before.number[nearest] + (torch.arange(SLOTS) >= 6))
    assert torch.equal(bank.patterns.total[nearest, :6], before.total[nearest, :6])


def test_labels_are_the_similarities_to_the_nearest_patterns() -> None:
    bank, nodes = built(2, 6, 10, 14, 18, 22), peak(7, 19, 12.5, level=300)
    alike = similarity(nodes, bank.patterns.profiles)
    values, known = bank.labels(nodes, 8, keep=3)
    assert values.shape == (3, 8)
    assert values.dtype == torch.float32
    assert known.all()
    for row in range(3):
        best = alike[row].argsort(descending=True)[:3]
        torch.testing.assert_close(values[row, best].double(), alike[row, best])
        assert (values[row] != 0).sum() == 3


def test_there_are_no_more_labels_than_patterns() -> None:
    values, _ = built(2, 10).labels(peak(7), 8, keep=5)
    assert (values != 0).sum() == 2
    assert not values[:, 2:].any()


def test_a_node_that_was_not_measured_has_no_label() -> None:
    values, known = built(2, 10).labels(unseen(peak(2, 10, 6), 1), 8, keep=5)
    assert known.tolist() == [True, False, True]
    assert not values[1].any()


def test_a_network_without_a_measurement_makes_an_empty_bank_that_fills_later() -> None:
    bank = PatternBank()
    bank.build(unseen(peak(2), 0), 4, torch.Generator())
    assert not len(bank)
    assert not bank.labels(peak(2), 4, keep=2).values.any()
    bank.take_in(peak(2, 10), 4)
    assert len(bank) == 2


def test_a_stored_bank_is_the_same_again() -> None:
    bank, other = built(2, 10, 18), PatternBank()
    other.load_state(bank.state() | {"centre.fc.weight": torch.zeros(2)})
    assert all(torch.equal(one, two) for one, two in zip(bank.patterns, other.patterns, strict=True))
    assert PatternBank().state() == {}
    PatternBank().load_state({})
