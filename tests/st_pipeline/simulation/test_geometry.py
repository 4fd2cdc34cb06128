"""Lines are as long as their marks say."""

from __future__ import annotations

import numpy as np
import pytest

from st_pipeline.simulation.geometry import VERGE_M, RingLine, bent_line, beside


def length_of(points: np.ndarray) -> float:
    return float(np.hypot(*np.diff(points, axis=0).T).sum())


def test_a_ring_closes_after_its_length() -> None:
    line = RingLine(30_000.0, np.random.default_rng(0))
    points, heading = line.at(np.linspace(0, 30_000, 5001))
    assert length_of(points) == pytest.approx(30_000, rel=1e-4)
    np.testing.assert_allclose(points[0], points[-1], atol=1e-6)
    step = np.diff(points, axis=0)
    np.testing.assert_allclose(np.arctan2(*step.T[::-1]), np.angle(np.exp(1j * heading[:-1])), atol=0.02)


@pytest.mark.parametrize("bend", [0.0, 1e-4, -1e-4])
def test_a_bent_line_keeps_its_length_and_turns_after_its_start(bend: float) -> None:
    marks = np.linspace(-2000, 6000, 2001)
    points, heading = bent_line(np.array([5.0, 7.0]), heading=0.3, bend=bend, marks=marks)
    assert length_of(points) == pytest.approx(8000, rel=1e-5)
    assert heading[-1] - heading[0] == pytest.approx(6000 * bend)
    assert heading[0] == 0.3


def test_carriageways_lie_on_the_right() -> None:
    moved = beside(np.array([[0.0, 0.0]]), np.array([np.pi / 2]))
    np.testing.assert_allclose(moved, [[VERGE_M, 0.0]], atol=1e-9)
