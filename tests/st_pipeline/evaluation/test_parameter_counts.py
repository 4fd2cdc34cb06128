"""Models built here have the published numbers of parameters."""

from __future__ import annotations

import pytest
import torch

from st_pipeline.evaluation.parameter_counts import Counted, counted, counted_backbones
from st_pipeline.evaluation.published import published_backbones, published_parameters

PEMS = {655: 7310, 715: 7670, 786: 8096, 822: 8312, 834: 8384, 850: 8480, 871: 8606}


@pytest.fixture(scope="module")
def counts() -> list[Counted]:
    return counted()


def test_ours_are_the_published_ones(counts: list[Counted]) -> None:
    assert [one for one in counts if one.difference] == []


def test_every_known_number_is_counted(counts: list[Counted]) -> None:
    known = [(entry, value) for entry in published_parameters() for value in entry.values if value is not None]
    assert [(one.entry, one.published) for one in counts] == known


def test_they_follow_from_the_sizes_of_the_layers(counts: list[Counted]) -> None:
    """gcn1 1,600, tcn 4, gcn2 1,548, fc 156, and rank 6 prompts of 12 steps."""
    backbone = 1600 + 4 + 1548 + 156
    found = {(one.entry.stream, one.entry.counts, one.nodes): one.ours for one in counts if one.entry.name == "EAC"}
    assert {nodes: found["PEMS-Stream", "all", nodes] for nodes in PEMS} == PEMS
    for (_, what, nodes), ours in found.items():
        assert ours == 6 * (nodes + 12) + (backbone if what == "all" else 0)
    by_name = {one.entry.name: one.ours for one in counts if one.entry.counts == "backbone"}
    assert by_name["STKEC"] == backbone + 24 * 12
    assert by_name["STGNN"] == by_name["spatial, convolution"] == backbone
    assert by_name["spatial, recurrence"] == backbone - 4 + 33_280
    assert by_name["spatial, attention"] == backbone - 4 + 16_640


def test_backbones_alone_have_the_published_sizes() -> None:
    found = counted_backbones()
    assert [one.entry for one in found] == list(published_backbones())
    assert [one for one in found if one.difference] == []
    assert {one.entry.name: one.ours for one in found}["STID"] == 117_868
    assert len({one.entry.name for one in found}) == 10


def test_counting_draws_no_random_numbers_of_others() -> None:
    before = torch.random.get_rng_state()
    counted()
    counted_backbones()
    assert torch.equal(before, torch.random.get_rng_state())
