"""A drawing board for road networks: cells are appended, then joined, then read out as `Roads`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from st_pipeline.simulation.traffic import Floats, Roads

CELL_M = 750.0
LANE_CAPACITY = 2000.0  # veh/h
LANE_JAM = 0.135  # veh/m
OPEN_SPEED = 100.0  # km/h out of an origin


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell, or an origin or destination where vehicles wait or are counted."""

    road: str
    direction: str
    kind: str  # mainline, connector, origin or destination
    x: float  # m
    y: float  # m
    lanes: float
    speed: float  # km/h
    length: float = CELL_M


@dataclass
class Plan:
    """A network being drawn. A boundary is a pair of neighbouring cells (upstream, downstream)."""

    cells: list[Cell] = field(default_factory=list)
    links: list[tuple[int, int]] = field(default_factory=list)
    merges: list[tuple[int, int, int]] = field(default_factory=list)
    priority: list[float] = field(default_factory=list)
    diverges: list[tuple[int, int, int]] = field(default_factory=list)
    share: list[float] = field(default_factory=list)

    def add(self, cell: Cell) -> int:
        """Append a cell and return its number."""
        self.cells.append(cell)
        return len(self.cells) - 1

    def carriageway(self, road: str, direction: str, *, points: Floats, lanes: int, speed: float) -> list[int]:
        """Append the cells of one carriageway in the direction of travel, not yet joined."""
        return [
            self.add(Cell(road=road, direction=direction, kind="mainline", x=x, y=y, lanes=lanes, speed=speed))
            for x, y in points.tolist()
        ]

    def end(self, kind: str, *, beside: int, lanes: float) -> int:
        """Append an origin or a destination at the place of a cell."""
        near = self.cells[beside]
        return self.add(replace(near, kind=kind, lanes=lanes, speed=OPEN_SPEED, length=CELL_M))

    def merge(self, boundary: tuple[int, int], *, side: int, priority: float) -> None:
        """Let `side` join the road at a boundary, where the road keeps `priority` of a contested entry."""
        self.merges.append((boundary[0], side, boundary[1]))
        self.priority.append(priority)

    def fork(self, boundary: tuple[int, int], *, side: int, share: float) -> None:
        """Let a share of the vehicles leave the road for `side` at a boundary."""
        self.diverges.append((*boundary, side))
        self.share.append(share)

    def connect(self, source: tuple[int, int], target: tuple[int, int], *, share: float, priority: float) -> None:
        """Lead a share of the vehicles at one boundary over a new connector to the boundary of another road."""
        begin, end = self._middle(source), self._middle(target)
        length = max(CELL_M, float(np.ceil(1.1 * np.hypot(*(end - begin)))))
        road, direction = self.cells[target[0]].road, self.cells[target[0]].direction
        x, y = ((begin + end) / 2).tolist()
        name = f"{self.cells[source[0]].road}-{road}"
        ramp = Cell(road=name, direction=direction, kind="connector", x=x, y=y, lanes=1, speed=60.0, length=length)
        side = self.add(ramp)
        self.fork(source, side=side, share=share)
        self.merge(target, side=side, priority=priority)

    def roads(self) -> Roads:
        """The network as the arrays of the traffic model."""
        lanes = np.array([cell.lanes for cell in self.cells])
        open_ended = np.array([cell.kind in ("origin", "destination") for cell in self.cells])
        return Roads(
            length=np.array([cell.length for cell in self.cells]),
            free_speed=np.array([cell.speed for cell in self.cells]) / 3.6,
            capacity=lanes * LANE_CAPACITY / 3600,
            jam=np.where(open_ended, np.inf, lanes * LANE_JAM),
            links=np.array(self.links, dtype=np.int64).reshape(-1, 2),
            merges=np.array(self.merges, dtype=np.int64).reshape(-1, 3),
            priority=np.array(self.priority),
            diverges=np.array(self.diverges, dtype=np.int64).reshape(-1, 3),
            share=np.array(self.share),
        )

    def _middle(self, boundary: tuple[int, int]) -> Floats:
        first, second = (self.cells[cell] for cell in boundary)
        return np.array([(first.x + second.x) / 2, (first.y + second.y) / 2])
