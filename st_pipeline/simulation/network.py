"""The simulated city: a motorway ring, radials that cross it, interchanges and ramps, cut into cells.

The ring has eight cells between two radials; a radial has eight cells outside the ring and three inside. Every road
has two carriageways. At a crossing a carriageway first lets vehicles leave for the two directions of the other road,
then takes vehicles from them, over one-cell connectors. Between crossings lie off-ramps and on-ramps. Ramp meters
let the ring keep most of a contested entry: a ring that yields to its ramps fills up until nothing moves.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import polars as pl

from st_pipeline.simulation.geometry import RingLine, bent_line, beside
from st_pipeline.simulation.plan import CELL_M, LANE_CAPACITY, Plan
from st_pipeline.simulation.traffic import Floats, Ints, Roads

RING_SPEED, RADIAL_SPEED = 100.0, 107.0  # km/h
SEGMENT = 8  # cells of the ring between two radials
OUTSIDE, INSIDE = 8, 3  # cells of a radial on either side of the ring
CONNECTORS = 8  # of one crossing
OFF_SHARE, TURN_SHARE = (0.10, 0.16), (0.10, 0.16)  # of the vehicles that pass, drawn per ramp and per turn
LOAD = {"inbound": 0.88, "outbound": 0.86, "local": 0.20}  # demand of the busiest hour, of the road's capacity
RING_PRIORITY, RADIAL_PRIORITY = 0.9, 0.72  # of the main road where vehicles join
CENTRE_EXIT = (0.88, 1.0)  # what the streets of the centre take, of the radial's capacity

Boundary = tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where vehicles start: at a radial's outer end, in the centre, or on a local on-ramp."""

    cell: int
    kind: str  # inbound, outbound or local
    peak: float  # veh/h in the busiest hour of a plain day
    radial: int = -1  # of inbound and outbound origins


@dataclass(frozen=True, kw_only=True)
class City:
    """Roads with their names, places and demand; rows of `cells` are in the order of `roads`."""

    roads: Roads
    cells: pl.DataFrame  # cell, road, direction, kind, x_m, y_m, length_m
    origins: tuple[Origin, ...]

    @property
    def measurable(self) -> Ints:
        """Cells in which a detector can lie."""
        return self.cells.filter(pl.col("kind").is_in(["mainline", "connector"]))["cell"].to_numpy()


def measurable_cells(radials: int) -> int:
    """Number of cells of a city in which a detector can lie."""
    return radials * (2 * SEGMENT + 2 * (OUTSIDE + INSIDE) + CONNECTORS)


def build_city(radials: int, rng: np.random.Generator) -> City:
    """Draw a city of at least three radials; more radials make the ring longer, not denser."""
    drawing = _Drawing(rng=rng, radials=radials)
    crossings = drawing.ring()
    for number, (place, heading, exits, entries) in enumerate(crossings):
        drawing.radial(number, place=place, heading=heading, exits=exits, entries=entries)
    rows = [
        {"cell": index, "road": cell.road, "direction": cell.direction, "kind": cell.kind}
        | {"x_m": round(cell.x, 1), "y_m": round(cell.y, 1), "length_m": cell.length}
        for index, cell in enumerate(drawing.plan.cells)
    ]
    return City(roads=drawing.plan.roads(), cells=pl.DataFrame(rows), origins=tuple(drawing.origins))


def _marks(first: int, end: int) -> Floats:
    """Middles of the cells `first` to before `end` along a line, in metres."""
    return np.arange(first + 0.5, end, dtype=np.float64) * CELL_M


@dataclass
class _Drawing:
    rng: np.random.Generator
    radials: int
    plan: Plan = field(default_factory=Plan)
    origins: list[Origin] = field(default_factory=list)

    def ring(self) -> list[tuple[Floats, float, list[Boundary], list[Boundary]]]:
        """Draw the ring; of every crossing: place, heading outward, boundaries to leave the ring and to join it.

        The boundaries come as two counterclockwise ones and two clockwise ones.
        """
        count = SEGMENT * self.radials
        line = RingLine(count * CELL_M, self.rng)
        points, heading = line.at(_marks(0, count))
        ways = [
            self.plan.carriageway("Ring", name, points=places, lanes=3, speed=RING_SPEED)
            for name, places in (
                ("counterclockwise", beside(points, heading)),
                ("clockwise", beside(points, heading + np.pi)[::-1]),
            )
        ]
        joints = [[self._segment(cells, SEGMENT * k) for k in range(self.radials)] for cells in ways]
        places, tangents = line.at(_marks(0, count)[::SEGMENT] - CELL_M / 2)
        crossings = []
        for k in range(self.radials):
            sides = joints[0][k], joints[1][(self.radials - k) % self.radials]
            exits, entries = sides[0][0] + sides[1][0], sides[0][1] + sides[1][1]
            crossings.append((places[k], float(tangents[k] - np.pi / 2), exits, entries))
        return crossings

    def _segment(self, cells: list[int], first: int) -> tuple[list[Boundary], list[Boundary]]:
        """Join the segment of the ring after the crossing before cell `first`; the crossing's exits and entries."""

        def boundary(offset: int) -> Boundary:
            return cells[(first + offset) % len(cells)], cells[(first + offset + 1) % len(cells)]

        self.plan.links += [boundary(2), boundary(-1)]
        self._off_ramp(boundary(3))
        self._on_ramp(boundary(4))
        return [boundary(-3), boundary(-2)], [boundary(0), boundary(1)]

    def radial(
        self, number: int, *, place: Floats, heading: float, exits: list[Boundary], entries: list[Boundary]
    ) -> None:
        """Draw both carriageways of a radial through its crossing and connect them with the ring."""
        bend = float(self.rng.uniform(-1, 1) * 1.2e-4)
        lanes = 3 if number % 2 == 0 else 2
        points, headings = bent_line(place, heading=heading, bend=bend, marks=_marks(-INSIDE, OUTSIDE))
        inward, outward = (
            self.plan.carriageway(f"A{number + 1}", name, points=places, lanes=lanes, speed=RADIAL_SPEED)
            for name, places in (
                ("inbound", beside(points, headings + np.pi)[::-1]),
                ("outbound", beside(points, headings)),
            )
        )
        into, out = list(pairwise(inward)), list(pairwise(outward))

        self._ends(inward, "inbound", number, exit_capacity=lanes * self.rng.uniform(*CENTRE_EXIT))
        self._ends(outward, "outbound", number, exit_capacity=lanes)
        self.plan.links += [into[0], into[3], into[7], out[2], out[5], out[9]]
        for boundary in (into[1], out[6], out[8]):
            self._off_ramp(boundary)
        for boundary in (into[2], into[4], out[7]):
            self._on_ramp(boundary)
        for source, target in zip(exits, (into[8], out[3], into[9], out[4]), strict=True):
            share = float(self.rng.uniform(*TURN_SHARE))
            self.plan.connect(source, target, share=share, priority=RADIAL_PRIORITY)
        for source, target in zip((into[5], out[0], into[6], out[1]), entries, strict=True):
            share = float(self.rng.uniform(*TURN_SHARE))
            self.plan.connect(source, target, share=share, priority=RING_PRIORITY)

    def _ends(self, cells: list[int], kind: str, radial: int, *, exit_capacity: float) -> None:
        """Put an origin before the first cell and a destination behind the last."""
        source = self._origin(kind, beside=cells[0], radial=radial, lanes=self.plan.cells[cells[0]].lanes)
        target = self.plan.end("destination", beside=cells[-1], lanes=exit_capacity)
        self.plan.links += [(source, cells[0]), (cells[-1], target)]

    def _origin(self, kind: str, *, beside: int, lanes: float, radial: int = -1) -> int:
        cell = self.plan.end("origin", beside=beside, lanes=lanes)
        road_capacity = self.plan.cells[beside].lanes * LANE_CAPACITY
        peak = float(LOAD[kind] * road_capacity * self.rng.uniform(0.85, 1.1))
        self.origins.append(Origin(cell=cell, kind=kind, peak=peak, radial=radial))
        return cell

    def _off_ramp(self, boundary: Boundary) -> None:
        target = self.plan.end("destination", beside=boundary[0], lanes=2)
        self.plan.fork(boundary, side=target, share=float(self.rng.uniform(*OFF_SHARE)))

    def _on_ramp(self, boundary: Boundary) -> None:
        side = self._origin("local", beside=boundary[1], lanes=1)
        ring = self.plan.cells[boundary[0]].road == "Ring"
        self.plan.merge(boundary, side=side, priority=RING_PRIORITY if ring else RADIAL_PRIORITY)
