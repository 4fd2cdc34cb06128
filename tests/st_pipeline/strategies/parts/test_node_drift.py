"""Drift of nodes: distances as scipy has them, features that are the model's own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.strategies.base import Network
from st_pipeline.strategies.parts.node_drift import (
    drift_scores,
    feature_blocks,
    histogram_distance,
    latest_readings,
    reading_scores,
)
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window

seeds = st.integers(0, 10**6)
FARTHEST = np.sqrt(np.log(2))


def samples(seed: int, *size: int, level: float = 0.0) -> torch.Tensor:
    random = np.random.default_rng(seed)
    return torch.from_numpy((random.gamma(2, 1, size) + level).astype(np.float32))


def reference(before: np.ndarray, now: np.ndarray, *, bins: int, shared: bool) -> float:
    """One node and one feature, as the definition reads."""
    before, now = before.astype(float), now.astype(float)
    both = (min(before.min(), now.min()), max(before.max(), now.max()))
    histograms = [
        np.histogram(part, bins=bins, range=both if shared else (part.min(), part.max()))[0] for part in (before, now)
    ]
    return float(jensenshannon(*histograms))


@pytest.mark.parametrize("shared", [True, False])
@given(seed=seeds, bins=st.integers(2, 20))
def test_the_distance_of_histograms_is_that_of_scipy(shared: bool, seed: int, bins: int) -> None:
    before, now = samples(seed, 40, 3), samples(seed + 1, 30, 3, level=0.5)
    found = histogram_distance(before, now, bins, shared=shared)
    expected = [reference(before[:, d].numpy(), now[:, d].numpy(), bins=bins, shared=shared) for d in range(3)]
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("nan_is_most", [True, False])
def test_a_nodes_score_is_the_sum_over_its_features(nan_is_most: bool) -> None:
    before, now = samples(1, 50, 600, 3), samples(2, 50, 600, 3)
    found = drift_scores(before, now, nan_is_most=nan_is_most)
    for node in (0, 511, 512, 599):
        expected = sum(
            reference(before[:, node, d].numpy(), now[:, node, d].numpy(), bins=10, shared=not nan_is_most)
            for d in range(3)
        )
        assert found[node].item() == pytest.approx(expected, abs=1e-9)


@given(seed=seeds)
def test_a_distance_is_symmetric_bounded_and_nothing_to_itself(seed: int) -> None:
    before, now = samples(seed, 30, 4), samples(seed + 1, 30, 4)
    there, back = histogram_distance(before, now, shared=True), histogram_distance(now, before, shared=True)
    torch.testing.assert_close(there, back)
    assert (there >= 0).all()
    assert (there <= FARTHEST + 1e-9).all()
    assert not histogram_distance(now, now, shared=True).any()


def test_a_shift_of_the_level_is_seen_where_both_sides_share_their_range() -> None:
    before = samples(1, 100, 1, 1)
    now = before + 100
    assert drift_scores(before, now).item() == pytest.approx(0, abs=1e-6)
    assert drift_scores(before, now, nan_is_most=False).item() == pytest.approx(FARTHEST)


def test_constant_features_are_most_drifted_as_published_and_like_each_other_otherwise() -> None:
    before, now = samples(1, 60, 3, 2), samples(2, 60, 3, 2)
    before[:, 1, 0], now[:, 1, 0] = 5.0, 5.0
    before[:, 1, 1] = now[:, 1, 1]
    now[:, 2, 0] = before[:, 2, 0].mean()
    published = drift_scores(before, now)
    assert published.argsort()[0] == 0
    assert published[1:].tolist() == [torch.inf, torch.inf]
    sound = drift_scores(before, now, nan_is_most=False)
    assert sound[1] == 0
    assert 0 < sound[2] < torch.inf


def test_rounding_is_no_drift() -> None:
    before = torch.full((40, 1, 1), 3.0)
    now = before + 1e-7 * samples(1, 40, 1, 1)
    assert drift_scores(before, now, nan_is_most=False).item() == 0


def test_no_nodes_have_no_scores() -> None:
    assert drift_scores(torch.zeros(5, 0, 2), torch.zeros(5, 0, 2)).shape == (0,)


@given(seed=seeds)
def test_the_divergence_of_readings_is_that_of_scipy_over_what_was_measured(seed: int) -> None:
    before, now = samples(seed, 200, 2), samples(seed + 1, 150, 2, level=0.3)
    random = torch.Generator().manual_seed(seed)
    seen = [torch.rand(part.shape, generator=random) < 0.8 for part in (before, now)]
    found = reading_scores(before, seen[0], now, seen[1])
    for node in range(2):
        old, new = (
            part[there[:, node], node].double().numpy() for part, there in zip((before, now), seen, strict=True)
        )
        both = (min(old.min(), new.min()), max(old.max(), new.max()))
        histograms = [np.histogram(part, bins=10, range=both)[0] for part in (old, new)]
        assert found[node].item() == pytest.approx(entropy(*histograms), abs=1e-9)


def test_a_reading_that_left_a_bin_is_infinitely_far_without_a_floor() -> None:
    before, now, seen = torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [0.0]]), torch.ones(2, 1, dtype=torch.bool)
    assert reading_scores(before, seen, now, seen).item() == torch.inf
    assert 0 < reading_scores(before, seen, now, seen, floor=1e-4).item() < torch.inf
    assert reading_scores(now, seen, now, seen).item() == 0
    assert reading_scores(before, seen, now, seen & False).isnan().all()


class Recorder(Forecaster):
    """Features are the window as it is read; remembers in which mode it was asked."""

    def __init__(self, **facts: Any) -> None:
        super().__init__()
        self.modes: list[bool] = []
        self.batches: list[int] = []
        for name, value in facts.items():
            setattr(self, name, value)

    def embed(self, window: Window, graph: Graph) -> torch.Tensor:
        return window.values.transpose(1, 2).flatten(2)

    def core(self, hidden: torch.Tensor, window: Window, graph: Graph) -> torch.Tensor:
        self.modes.append(self.training)
        self.batches.append(len(hidden))
        return hidden


@pytest.fixture
def network(make_part, random_graph) -> Network:
    part = make_part(nodes=4, length=400)
    return Network(NodeSet.of(part.scaler.ids), random_graph(4), part)


def test_the_features_are_those_of_windows_end_to_end_at_the_end_of_the_training_part(network) -> None:
    windows = network.train.windows
    found = feature_blocks(Recorder(), network, steps_per_day=24, days=2, raw=False)
    end = int(network.train.starts[-1]) + windows.window
    assert found.shape == (2 * 24 // windows.window, 4, windows.window)
    series = windows.values[end - 48 : end, :, 0]
    assert torch.equal(found.transpose(1, 2).reshape(48, 4), series)


def test_raw_features_are_in_the_unit_of_the_readings_with_missing_cells_as_zero(network) -> None:
    found = feature_blocks(Recorder(), network, steps_per_day=24, days=2, raw=True)
    part = network.train
    end = int(part.starts[-1]) + part.windows.window
    seen = part.windows.observed[end - 48 : end, :, 0]
    assert not seen.all()
    assert torch.equal(
        found.transpose(1, 2).reshape(48, 4), torch.where(seen, part.truth[end - 48 : end], torch.zeros(()))
    )


def test_further_channels_are_brought_back_to_their_unit_too(network) -> None:
    part = network.train
    raw = torch.stack([part.truth, part.truth * 3 + 1, part.truth.new_full(part.truth.shape, 7.0)], dim=-1)
    mean = torch.stack([part.scaler.mean[:, 0], torch.full((4,), 2.0), torch.full((4,), 7.0)], dim=-1)
    scale = torch.stack([part.scaler.scale[:, 0], torch.full((4,), 5.0), torch.full((4,), torch.inf)], dim=-1)
    windows = replace(
        part.windows, values=(raw - mean) / scale, observed=torch.ones_like(part.windows.observed).expand(raw.shape)
    )
    many = replace(network, train=replace(part, windows=windows, scaler=replace(part.scaler, mean=mean, scale=scale)))
    found = feature_blocks(Recorder(), many, steps_per_day=24, days=2, raw=True)
    end = int(part.starts[-1]) + windows.window
    torch.testing.assert_close(
        found.unflatten(2, (windows.window, 3)).transpose(1, 2).reshape(48, 4, 3), raw[end - 48 : end]
    )


def test_a_short_training_part_gives_the_windows_it_has(network) -> None:
    windows = network.train.windows
    found = feature_blocks(Recorder(), network, steps_per_day=288, raw=False)
    starts = len(network.train.starts)
    assert len(found) == (starts - 1) // windows.window + 1


def test_a_model_is_asked_in_evaluation_mode_in_pieces_and_left_as_it_was(network, monkeypatch) -> None:
    monkeypatch.setattr("st_pipeline.strategies.parts.node_drift.TOGETHER", 4 * 3)
    for separable, expected in ((True, [3, 3, 2]), (False, [8])):
        model = Recorder(separable=separable).train()
        feature_blocks(model, network, steps_per_day=24, days=2, raw=False)
        assert model.training
        assert not any(model.modes)
        assert model.batches == expected


def test_features_carry_no_gradient_and_are_what_the_head_reads(network) -> None:
    shape = SeriesShape(window=6, horizon=4, channels=1, num_nodes=4, steps_per_day=24)
    model = backbones.build("stgnn", shape=shape)
    found = feature_blocks(model, network, steps_per_day=24, days=1, raw=False)
    assert not found.requires_grad
    last = network.train.windows.inputs(network.train.starts[-1:])
    torch.testing.assert_close(model.head(found[-1:]), model(last, network.graph))


def test_the_latest_readings_are_those_at_the_end_of_the_training_part(network) -> None:
    values, seen = latest_readings(network, steps_per_day=24, days=3)
    assert torch.equal(values, network.train.truth[-72:])
    assert torch.equal(seen, network.train.scored[-72:])


@pytest.mark.parametrize("backbone", ["stgcn", "dcrnn"])
def test_features_with_steps_are_those_of_each_node(
    make_learner, make_history, make_stream, make_arrival, backbone
) -> None:
    data = next(iter(make_history(make_stream()).values()))
    learner = make_learner(prompt_pool=None, backbone=backbone)
    forecaster, network = learner.build(5).eval(), make_arrival(learner, data).network
    found = feature_blocks(forecaster, network, steps_per_day=24, raw=False)
    assert found.shape[1] == 5
    window = network.train.windows.inputs(network.train.starts[-1:])
    deep = forecaster.core(forecaster.embed(window, network.graph), window, network.graph)
    torch.testing.assert_close(found[-1], torch.stack([deep[0, :, node].flatten() for node in range(5)]))
