"""Which forecast a sensor gets at an issue time, and why not a better one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from st_pipeline.forecasting.points import (
    Bools,
    Floats,
    GraphOf,
    Past,
    Steps,
    joined_points,
    known_points,
    past,
)
from st_pipeline.forecasting.series import Series
from st_pipeline.forecasting.served import Served

TIERS = ("model", "neighbour", "seasonal", "last", "none")
MODEL, NEIGHBOUR, SEASONAL, LAST, NONE = range(len(TIERS))
ENOUGH = 0.5  # of the window, below which a model is not asked
NEW, NOT_FINITE, NO_SEASON = 1, 2, 4  # reasons that are no numbers, as bits


@dataclass(frozen=True, eq=False)
class Ladder:
    """Forecasts of many issue times (S), of all sensors and steps.

    Attributes:
        points: (S, H, N) of each kind: those of the model, of earlier weeks, and the last value.
        tier: (S, H, N) place in `TIERS`.
        why: (S, H, N) reasons as bits.
        past: of the readings.
        new: (N,) sensors that the model was not trained on.
    """

    points: tuple[Floats, Floats, Floats]
    tier: NDArray[np.int8]
    why: NDArray[np.uint8]
    past: Past
    new: Bools

    @property
    def chosen(self) -> Floats:
        """(S, H, N): the point forecast of the tier; NaN where there is none."""
        model, season, last = self.points
        return np.select(
            [self.tier <= NEIGHBOUR, self.tier == SEASONAL, self.tier == LAST], [model, season, last], np.nan
        )


def climb(series: Series, served: Served | None, issued: Steps, living: Bools, graph_of: GraphOf) -> Ladder:
    """The best forecast there is for every sensor.

    Args:
        served: None where no period before has been learned.
        issued: (S,) last steps that are read.
        living: (S, N) sensors that are to be forecast.
    """
    found = past(series, issued)
    known = np.isin(series.ids, served.ids) if served else np.zeros(len(series.ids), dtype=bool)
    model = np.full(found.season.shape, np.nan, dtype=np.float32)
    enough = found.window >= ENOUGH * series.config.window
    if served:
        model = known_points(served, series, issued, graph_of)
        members = living & ~known & (found.heard >= 0)
        if (members & enough).any():
            joined = joined_points(served, series, issued, members, graph_of, enough=members & enough)
            model = np.where(known, model, joined)
    new = ~known & ~np.isin(series.ids, list(served.aside) if served else [])
    return _ranked(model, found, enough, new, asked=served is not None)


def _ranked(model: Floats, found: Past, enough: Bools, new: Bools, *, asked: bool) -> Ladder:
    last = np.broadcast_to(found.last[:, None], found.season.shape)
    wanted = np.broadcast_to(enough[:, None] & asked, model.shape)
    usable, season, value = wanted & np.isfinite(model), np.isfinite(found.season), np.isfinite(last)
    own = np.where(new, NEIGHBOUR, MODEL)
    tier = np.select([usable, season, value], [np.broadcast_to(own, model.shape), SEASONAL, LAST], NONE).astype(np.int8)
    why = np.where(wanted & ~usable, NOT_FINITE, 0) | np.where((tier == LAST) & ~season, NO_SEASON, 0)
    if asked:
        why = why | np.where(new, NEW, 0)
    return Ladder((model, found.season, last), tier, why.astype(np.uint8), found, new)
