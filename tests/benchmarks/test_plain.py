"""The plain published form and the engine are two ways to the same losses, validation errors and scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.data import flows
from benchmarks.evaluation import scores
from benchmarks.plain import Samples, test, train_epoch, validate
from benchmarks.setting import RANK, Setting
from benchmarks.training import batch_losses, epoch
from st_pipeline.models.base import count_parameters
from st_pipeline.training.forecasts import validation_error

test.__test__ = False  # type: ignore[attr-defined]
NODES, STEPS, BATCH = 30, 200, 16
FROZEN = pytest.mark.parametrize("frozen", [False, True], ids=["everything trainable", "backbone frozen"])


@pytest.fixture(scope="module")
def setting() -> Setting:
    """Some days of flows, a twentieth of which is zero, in several batches."""
    readings = flows(NODES, STEPS)
    readings[np.random.default_rng(1).random(readings.shape) < 0.05] = 0
    made = Setting.of(NODES, STEPS, readings=readings)
    return replace(made, settings=replace(made.settings, batch=BATCH))


@pytest.fixture(params=[None, 100], ids=["whole", "pieces"], autouse=True)
def _pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param:
        monkeypatch.setattr("st_pipeline.training.pieces.PIECE_CELLS", request.param)


@FROZEN
def test_both_have_the_same_weights_to_train(setting: Setting, frozen: bool) -> None:
    model = setting.model(frozen=frozen)
    plain = setting.plain(model, frozen=frozen)
    expected = RANK * (NODES + 12) + (0 if frozen else 3308)
    assert count_parameters(model, trainable=True) == count_parameters(plain, trainable=True) == expected


def test_both_cut_the_same_windows_of_every_part(setting: Setting) -> None:
    for name, part in setting.parts.items():
        samples = Samples(setting.readings, getattr(setting.cuts, name))
        assert len(samples) == len(part.starts) > BATCH / 2
        window, target = part.windows.gather(part.starts)
        x, y = (torch.from_numpy(array) for array in (samples.x, samples.y))
        torch.testing.assert_close(target.values, y, rtol=1e-5, atol=1e-3)
        torch.testing.assert_close(window.values[..., 0], x, rtol=1e-5, atol=1e-5)


@FROZEN
def test_every_batch_of_an_epoch_has_the_same_loss(setting: Setting, frozen: bool) -> None:
    plain = setting.plain(setting.model(frozen=frozen), frozen=frozen)
    samples = Samples(setting.readings, setting.cuts.train)
    expected = train_epoch(plain, setting.adjacency, samples, setting.order().tolist(), BATCH)
    assert len(expected) == 6
    assert batch_losses(setting, frozen=frozen) == pytest.approx(expected, rel=1e-5)


@FROZEN
def test_an_epoch_as_the_product_trains_ends_at_the_same_loss_and_validation_error(
    setting: Setting, frozen: bool
) -> None:
    plain = setting.plain(setting.model(frozen=frozen), frozen=frozen)
    samples = Samples(setting.readings, setting.cuts.train)
    losses = train_epoch(plain, setting.adjacency, samples, setting.order().tolist(), BATCH)
    (found,) = epoch(setting, setting.model(frozen=frozen)).epochs
    assert found.loss == pytest.approx(np.mean(losses), rel=1e-5)
    checked = Samples(setting.readings, setting.cuts.validation)
    assert found.validation == pytest.approx(validate(plain, setting.adjacency, checked, BATCH), rel=1e-4)


def test_validation_errors_are_the_same(setting: Setting) -> None:
    model = setting.model(frozen=False)
    samples = Samples(setting.readings, setting.cuts.validation)
    expected = validate(setting.plain(model, frozen=False), setting.adjacency, samples, BATCH)
    found = validation_error(model, setting.parts["validation"], setting.graph, setting.settings)
    assert found == pytest.approx(expected, rel=1e-4)


def test_published_averages_are_the_same(setting: Setting) -> None:
    model = setting.model(frozen=False)
    samples = Samples(setting.readings, setting.cuts.test)
    expected = test(setting.plain(model, frozen=False), setting.adjacency, samples, BATCH)
    found = scores(model, setting, setting.parts["test"])
    for metric, values in expected.items():
        assert found[metric, "published_average"] == pytest.approx(np.mean(values), rel=1e-4), metric
