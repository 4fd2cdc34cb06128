"""Where sensors are, and how far apart: geographic or planar positions as of one day."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
import polars as pl
from numpy.typing import NDArray

EARTH_RADIUS = 6_371_008.8  # metres, mean radius of the IUGG
BLOCK = 1024  # rows of the distance matrix at a time


@dataclass(frozen=True)
class Positions:
    """Positions of the nodes of one period; a row of NaN is a sensor whose position is not known.

    `plane` is (N, 2): longitude and latitude in degrees if geographic, else x and y in metres.
    """

    plane: NDArray[np.float64]
    geographic: bool

    @property
    def known(self) -> NDArray[np.int64]:
        return np.flatnonzero(~np.isnan(self.plane).any(axis=1))

    def cartesian(self) -> NDArray[np.float64]:
        """(N, 3) points in metres whose straight-line distance stands for the distance of the sensors."""
        if not self.geographic:
            return np.column_stack([self.plane, np.zeros(len(self.plane))])
        longitude, latitude = np.radians(self.plane).T
        return EARTH_RADIUS * np.column_stack(
            [np.cos(latitude) * np.cos(longitude), np.cos(latitude) * np.sin(longitude), np.sin(latitude)]
        )

    def along_surface(self, straight: NDArray[np.float64]) -> NDArray[np.float64]:
        """Great-circle length of a chord; planar distances are themselves."""
        if not self.geographic:
            return straight
        return 2 * EARTH_RADIUS * np.arcsin(np.clip(straight / (2 * EARTH_RADIUS), 0, 1))

    def straight(self, along: float) -> float:
        """Chord of a great-circle length."""
        return (
            float(2 * EARTH_RADIUS * np.sin(min(along / (2 * EARTH_RADIUS), np.pi / 2))) if self.geographic else along
        )

    def spread(self) -> float:
        """Standard deviation of the distances between all pairs of different sensors, in metres."""
        points = self.cartesian()[self.known]
        if len(points) < 2:
            return 0.0
        total = squares = 0.0
        for first in range(0, len(points), BLOCK):
            block = points[first : first + BLOCK]
            away = self.along_surface(np.linalg.norm(block[:, None] - points[None], axis=2))
            total += away.sum()
            squares += (away**2).sum()
        pairs = len(points) * (len(points) - 1)
        return float(np.sqrt(max(squares / pairs - (total / pairs) ** 2, 0.0)))


def positions_at(sensors: pl.DataFrame, ids: Sequence[str], day: date) -> Positions:
    """Positions of the sensors as of a day: the latest row valid by then, else the earliest there is."""
    geographic = bool(sensors["latitude"].is_not_null().any())
    axes = ["longitude", "latitude"] if geographic else ["x", "y"]
    valid = pl.col("valid_from").fill_null(date.min) <= day
    rows = (
        sensors.with_columns(valid.alias("valid"))
        .sort(
            "sensor_id",
            "valid",
            pl.when("valid").then(pl.col("valid_from")).otherwise(None),
            "valid_from",
            nulls_last=False,
        )
        .with_columns(
            pl.when("valid")
            .then(pl.int_range(pl.len()))
            .otherwise(-pl.int_range(pl.len()) - 1)
            .over("sensor_id")
            .alias("turn")
        )
    )
    best = rows.sort("turn").group_by("sensor_id", maintain_order=True).last().select("sensor_id", *axes)
    frame = pl.DataFrame({"sensor_id": list(ids)}, schema={"sensor_id": pl.String})
    found = frame.join(best, on="sensor_id", how="left", maintain_order="left")
    return Positions(found.select(axes).fill_null(float("nan")).to_numpy().astype(np.float64), geographic)
