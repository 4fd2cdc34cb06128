"""Statistics come from the observed cells they are given, survive odd sensors, and can be undone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.scaling import MIN_CELLS, Scaler
from st_pipeline.types import NodeSet

LENGTH, NODES = 200, NodeSet.of("abcd")
TRANSFORMS = {"none": lambda x: x, "sqrt": np.sqrt, "log": np.log1p}


def cells(*, channels: int = 2, seed: int = 0, missing: float = 0.3) -> tuple[torch.Tensor, torch.Tensor]:
    """Values (L, 4, C), each sensor with a level of its own, and what of them is observed."""
    random = np.random.default_rng(seed)
    level = np.array([1.0, 10, 100, 1000])[:, None] * np.arange(1, channels + 1)
    values = level * random.gamma(2.0, size=(LENGTH, 4, channels))
    return torch.tensor(values, dtype=torch.float32), torch.tensor(random.random(values.shape) >= missing)


def fitted(values: torch.Tensor, observed: torch.Tensor, nodes: NodeSet = NODES, **options: Any) -> Scaler:
    return Scaler.fit(values, observed, nodes=nodes, **{"per": "sensor", "transform": "none", **options})


def same(one: Scaler, other: Scaler) -> bool:
    return torch.equal(one.mean, other.mean) and torch.equal(one.scale, other.scale)


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("per", ["network", "sensor"])
def test_statistics_are_those_of_the_observed_cells(per: str, transform: str) -> None:
    values, observed = cells()
    scaler = fitted(values, observed, per=per, transform=transform)
    x, seen = values.double().numpy(), observed.numpy()
    x[..., 0] = TRANSFORMS[transform](x[..., 0])
    for node in range(4):
        own = x[:, node, 0][seen[:, node, 0]] if per == "sensor" else x[..., 0][seen[..., 0]]
        other = x[..., 1][seen[..., 1]]
        np.testing.assert_allclose(scaler.mean[node], [own.mean(), other.mean()], rtol=1e-5)
        np.testing.assert_allclose(scaler.scale[node], [own.std(), other.std()], rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.sampled_from(["network", "sensor"]), st.sampled_from(sorted(TRANSFORMS)))
def test_what_is_not_observed_does_not_enter(seed: int, per: str, transform: str) -> None:
    values, observed = cells(seed=seed % 5)
    absurd = torch.from_numpy(np.random.default_rng(seed).uniform(0, 1e6, values.shape)).float()
    changed = torch.where(observed, values, absurd)
    assert same(*(fitted(given, observed, per=per, transform=transform) for given in (values, changed)))


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("per", ["network", "sensor"])
def test_standardising_can_be_undone(per: str, transform: str) -> None:
    values, observed = cells()
    values[0] = 0
    scaler = fitted(values, observed, per=per, transform=transform)
    restored = scaler.restore(scaler.standardise(values)[..., 0])
    torch.testing.assert_close(restored, values[..., 0], rtol=1e-3, atol=2e-2)
    assert (scaler.restore(torch.full((2, 4), -1e3)) >= 0).all() or transform == "none"
    assert scaler.restore(torch.full((2, 4), 1e3)).isfinite().all()


def test_the_transform_leaves_further_channels_alone() -> None:
    values, observed = cells()
    one, other = (fitted(values, observed, transform=transform) for transform in ("none", "log"))
    assert torch.equal(one.standardise(values)[..., 1], other.standardise(values)[..., 1])
    assert not torch.equal(one.standardise(values)[..., 0], other.standardise(values)[..., 0])


def test_a_sensor_hardly_measured_takes_the_mean_of_the_network_and_the_usual_deviation() -> None:
    values, observed = cells(missing=0)
    observed[MIN_CELLS - 1 :, 1, 0] = False
    observed[:, 3, 0] = False
    scaler = fitted(values, observed)
    network = values[..., 0][observed[..., 0]].mean()
    torch.testing.assert_close(scaler.mean[[1, 3], 0], network.expand(2), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(scaler.scale[[1, 3], 0], scaler.scale[[0, 2], 0].mean().expand(2))
    assert scaler.unsure == {"b", "d"}
    assert fitted(values, observed, enough=MIN_CELLS - 1).unsure == {"d"}


@pytest.mark.parametrize("level", [0.0, 5.0, 30_000.0])
@pytest.mark.parametrize("blip", [0.0, 0.05])
def test_a_sensor_that_hardly_varies_keeps_its_level_and_cannot_explode_later(level: float, blip: float) -> None:
    values, observed = cells(missing=0)
    values[:, 0, 0] = level
    values[7, 0, 0] += blip
    scaler = fitted(values, observed)
    torch.testing.assert_close(scaler.mean[0, 0], values[:, 0, 0].mean())
    torch.testing.assert_close(scaler.scale[0, 0], scaler.scale[1:, 0].mean())
    awake = torch.tensor([level + 2000.0, 0, 0, 0])[:, None].expand(4, 2)
    assert scaler.standardise(awake[None])[0, 0, 0].abs() < 20


def test_a_quiet_sensor_is_no_constant_one() -> None:
    values, observed = cells(missing=0)  # the deviations span three orders of magnitude
    assert fitted(values, observed).unsure == frozenset()


def test_a_network_that_never_varies_is_standardised_to_zero() -> None:
    values, observed = torch.full((LENGTH, 4, 1), 7.0), torch.ones(LENGTH, 4, 1, dtype=torch.bool)
    for per in ("network", "sensor"):
        scaler = fitted(values, observed, per=per)
        assert not scaler.standardise(values).any()
        assert torch.equal(scaler.restore(torch.zeros(4)), torch.full((4,), 7.0))


def test_a_network_without_a_single_reading_has_finite_statistics_of_the_target() -> None:
    values, observed = cells()
    scaler = fitted(values, torch.zeros_like(observed))
    assert scaler.standardise(values).isfinite().all()
    assert scaler.restore(torch.ones(4)).isfinite().all()


@pytest.mark.parametrize("silence", ["missing", "constant"])
def test_a_channel_that_says_nothing_in_training_says_nothing_later(silence: str) -> None:
    values, observed = cells(channels=3)
    if silence == "missing":
        observed[..., 1] = False
    else:
        values[..., 1] = 1013.2
    later = torch.full((5, 4, 3), 950.0)
    standardised = fitted(values, observed).standardise(later)
    assert not standardised[..., 1].any()
    assert standardised[..., [0, 2]].all()


def test_sensors_that_left_are_known_by_id() -> None:
    values, observed = cells()
    first = fitted(values, observed)
    second = fitted(values[:, :2] * 3, observed[:, :2], NodeSet.of("ae"))
    followed = second.following(first)
    assert same(followed, second)
    assert set(followed.others) == set("bcd")
    third = fitted(values[:, :1], observed[:, :1], NodeSet.of("a")).following(followed)
    assert set(third.others) == set("bcde")
    back = third.for_nodes(NodeSet.of("dae"))
    for row, (name, scaler) in enumerate([("d", first), ("a", third), ("e", second)]):
        place = scaler.ids.index(name)
        assert torch.equal(back.mean[row, 0], scaler.mean[place, 0])
        assert torch.equal(back.scale[row, 0], scaler.scale[place, 0])
    assert (back.mean[:, 1] == third.mean[0, 1]).all()  # further channels belong to the network as it is
    assert (back.scale[:, 1] == third.scale[0, 1]).all()


def test_a_sensor_silent_in_training_keeps_its_earlier_statistics() -> None:
    values, observed = cells(missing=0)
    first = fitted(values, observed)
    observed[:, 3, 0] = False
    followed = fitted(values / 2, observed).following(first)
    assert torch.equal(followed.mean[3, 0], first.mean[3, 0])
    assert torch.equal(followed.scale[3, 0], first.scale[3, 0])
    assert torch.equal(followed.mean[:3], fitted(values / 2, observed).mean[:3])


def test_a_sensor_never_met_takes_the_mean_of_all() -> None:
    scaler = fitted(*cells())
    found = scaler.for_nodes(NodeSet.of(["b", "new"]))
    assert torch.equal(found.mean[0], scaler.mean[1])
    assert torch.equal(found.mean[1], scaler.mean.mean(0))
    assert torch.equal(found.scale[1], scaler.scale.mean(0))
    assert scaler.for_nodes(NODES) is scaler


def test_a_scaler_survives_storage() -> None:
    values, observed = cells()
    scaler = fitted(values[:, :2], observed[:, :2], NodeSet.of("xb"), transform="log").following(
        fitted(values, observed)
    )
    again = Scaler.from_state(*scaler.state())
    assert (again.ids, again.transform, set(again.others)) == (("x", "b"), "log", set("acd"))
    wanted = NodeSet.of("dxcb")
    assert same(again.for_nodes(wanted), scaler.for_nodes(wanted))
    assert same(Scaler.from_state(*fitted(values, observed).state()), fitted(values, observed))
