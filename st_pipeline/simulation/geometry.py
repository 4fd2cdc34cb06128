"""Lines on the plane: a closed ring and gently bent radials, both marked off by distance along the line."""

from __future__ import annotations

import numpy as np

from st_pipeline.simulation.traffic import Floats

VERGE_M = 12.0  # from the centre line to the middle of a carriageway


class RingLine:
    """A closed, slightly uneven ring round (0, 0), `length` metres long, run through counterclockwise."""

    def __init__(self, length: float, rng: np.random.Generator) -> None:
        angle = np.linspace(0.0, 2 * np.pi, 20_001)
        phase = rng.uniform(0, 2 * np.pi, size=2)
        radius = 1 + 0.06 * np.cos(2 * angle + phase[0]) + 0.02 * np.cos(3 * angle + phase[1])
        line = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
        along = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(line, axis=0).T))])
        self._along = along * (length / along[-1])
        self._line = line * (length / along[-1])
        step = np.gradient(line, axis=0)
        self._heading = np.unwrap(np.arctan2(step[:, 1], step[:, 0]))

    def at(self, marks: Floats) -> tuple[Floats, Floats]:
        """Points (., 2) in metres and headings (.,) in radians at `marks` metres from the start."""
        marks = np.mod(marks, self._along[-1])
        points = np.stack([np.interp(marks, self._along, self._line[:, axis]) for axis in (0, 1)], axis=1)
        return points, np.interp(marks, self._along, self._heading)


def bent_line(start: Floats, *, heading: float, bend: float, marks: Floats) -> tuple[Floats, Floats]:
    """Points (., 2) and headings (.,) at `marks` metres along a line that leaves `start` and turns `bend` rad/m.

    Negative marks lie behind the start, on the straight continuation.
    """
    turned = bend * np.maximum(marks, 0.0)
    middle = heading + turned / 2
    chord = marks * np.sinc(turned / 2 / np.pi)
    return start + chord[:, None] * np.stack([np.cos(middle), np.sin(middle)], axis=1), heading + turned


def beside(points: Floats, heading: Floats) -> Floats:
    """The points moved to the right of the direction of travel, onto their carriageway."""
    return points + VERGE_M * np.stack([np.sin(heading), -np.cos(heading)], axis=1)
