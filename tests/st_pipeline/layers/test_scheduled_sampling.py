"""Scheduled sampling: how probable a label is, when it is read, and what counts the batches."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from st_pipeline.layers.scheduled_sampling import ScheduledSampling, own_forecast, sigmoid
from st_pipeline.types import Target

BATCH, HORIZON, NODES = 2, 8, 3


@pytest.fixture
def target() -> Target:
    random = torch.Generator().manual_seed(0)
    observed = torch.rand(BATCH, HORIZON, NODES, generator=random) < 0.7
    values = torch.randn(BATCH, HORIZON, NODES, generator=random)
    return Target(torch.where(observed, values, torch.nan), observed)


def test_the_probability_is_the_published_one() -> None:
    sampling = ScheduledSampling(20)
    for batches in (0, 1, 7, 60, 400):
        sampling.batches.fill_(batches)
        assert sampling.probability() == pytest.approx(20 / (20 + math.exp(batches / 20)), rel=1e-12)


def test_it_begins_near_one_falls_and_ends_at_zero_without_overflow() -> None:
    sampling = ScheduledSampling(2000)
    found = []
    for batches in (0, 2000, 15202, 40_000, 10**9):
        sampling.batches.fill_(batches)
        found.append(sampling.probability())
    assert found == sorted(found, reverse=True)
    assert found[0] == pytest.approx(2000 / 2001)
    assert found[2] == pytest.approx(0.5, abs=1e-3)  # 2000 log 2000 = 15,202
    assert found[-1] == 0
    assert sigmoid(-800.0) == 0
    assert sigmoid(800.0) == 1


def test_a_label_is_read_where_it_is_observed_and_the_forecast_elsewhere(target) -> None:
    read = ScheduledSampling(1e12).feedback(target)  # always labels
    for step in range(HORIZON):
        forecast = torch.randn(BATCH, NODES)
        found = read(step, forecast)
        observed = target.observed[:, step]
        assert torch.equal(found[observed], target.values[:, step][observed])
        assert torch.equal(found[~observed], forecast[~observed])


def test_without_sampling_every_forecast_is_read(target) -> None:
    sampling, forecast = ScheduledSampling(0), torch.randn(BATCH, NODES)
    assert not sampling.active
    assert sampling.probability() == 0
    assert all(sampling.feedback(target)(step, forecast) is forecast for step in range(HORIZON))
    assert own_forecast(3, forecast) is forecast


def test_one_coin_a_step_decides_for_the_whole_batch_at_the_probability() -> None:
    torch.manual_seed(0)
    sampling = ScheduledSampling(100)
    target = Target(torch.ones(4, 50, 5), torch.ones(4, 50, 5, dtype=torch.bool))
    own, coins = torch.zeros(4, 5), []
    for _ in range(40):
        sampling.batches.fill_(round(100 * math.log(100)))  # a half
        read = sampling.feedback(target)
        for step in range(50):
            found = read(step, own)
            assert found.unique().numel() == 1
            coins.append(float(found[0, 0]))
            assert torch.equal(read(step, own), found)
    assert sum(coins) / len(coins) == pytest.approx(0.5, abs=0.05)
    assert 0.4 < sum(one != other for one, other in pairwise(coins)) / len(coins) < 0.6


def test_coins_come_from_torchs_global_generator(target) -> None:
    def drawn(seed: int) -> list[bool]:
        sampling, forecast = ScheduledSampling(5), torch.randn(BATCH, NODES)
        sampling.batches.fill_(8)
        torch.manual_seed(seed)
        read = sampling.feedback(target)
        return [read(step, forecast) is forecast for step in range(HORIZON)]

    assert drawn(1) == drawn(1)
    assert len({tuple(drawn(seed)) for seed in range(8)}) > 1


def test_batches_are_counted_kept_with_the_weights_and_reset(target) -> None:
    sampling, other = ScheduledSampling(10), ScheduledSampling(10)
    for _ in range(3):
        sampling.feedback(target)
    other.load_state_dict(sampling.state_dict())
    assert int(other.batches) == 3
    assert other.probability() == sampling.probability()
    sampling.reset_parameters()
    assert int(sampling.batches) == 0
    assert not list(sampling.parameters())
