"""The forecasts of a period as rows: one a sensor, issue time and step ahead."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import build_adjacency
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.forecasting.alive import alive, declared
from st_pipeline.forecasting.conformal import LEVELS
from st_pipeline.forecasting.ladder import (
    NEIGHBOUR,
    NEW,
    NO_SEASON,
    NONE,
    NOT_FINITE,
    TIERS,
    Ladder,
    climb,
)
from st_pipeline.forecasting.points import Bools, Floats, Steps
from st_pipeline.forecasting.series import Series, join, span_of_test
from st_pipeline.forecasting.served import Served, newest_served
from st_pipeline.forecasting.walk import Truth, quantiles, residuals
from st_pipeline.model_config import ModelConfig
from st_pipeline.training.checkpoint import BySeed
from st_pipeline.types import Graph, NodeSet, Period

TIER = pl.Enum(list(TIERS))
TIME = pl.Datetime("ms", "UTC")
QUANTILES = tuple(f"q{round(100 * level):02d}" for level in LEVELS)
SCHEMA = {
    "sensor_id": pl.String(),
    "issued_at": TIME,
    "target_time": TIME,
    "horizon": pl.Int16(),
    "point": pl.Float32(),
    **dict.fromkeys(QUANTILES, pl.Float32()),
    "tier": TIER,
    "reasons": pl.List(pl.String),
    "model_id": pl.String(),
}
NO_INTERVAL = 8  # beside the bits of `ladder`
KEPT_BITS = 16  # of a number's fraction: what differs beyond is the arithmetic, not the forecast
MOST_CODES = 16  # reasons that are bits


@dataclass(frozen=True, eq=False)
class Sources:
    """What the forecasts of a period are made of.

    Attributes:
        tensors: by period key, of this and earlier periods.
        sensors, edges: the tables of the source; no edges where it gives none.
        before: the node set of the period before; None in the first.
        parts: part -> period key -> seed -> checkpoint, of the model that serves.
        learned: only what is issued at the period's very end, by the model that has learned the period.
    """

    config: StreamConfig
    model: ModelConfig
    period: Period
    tensors: Mapping[str, SeriesTensor]
    sensors: pl.DataFrame
    before: NodeSet | None
    parts: Mapping[str, Mapping[str, BySeed]]
    edges: pl.DataFrame | None = None
    learned: bool = False

    def graph(self, ids: tuple[str, ...], period: Period) -> Graph:
        """The stream's graph of these sensors in a period."""
        return build_adjacency(ids, sensors=self.sensors, edges=self.edges, config=self.config, period=period).graph()

    def served(self) -> Served | None:
        """The model after the newest period before this one, or with `learned` after this one and no other."""
        before = self.period.index + self.learned
        found = newest_served(self.config, self.model, self.parts, self.tensors, before)
        return found if not self.learned or (found and found.through == self.period) else None

    def tested(self, served: Served | None) -> tuple[int, int] | None:
        """The test part of the model's newest period; without a model that of the period before, if there is one."""
        if served:
            return served.tested
        earlier = [key for key in sorted(self.tensors) if key < self.period.key]
        if not earlier:
            return None
        return span_of_test(self.tensors[earlier[-1]], self.config)


@dataclass(frozen=True, eq=False)
class Issue:
    """All due forecasts of a period, before it is said which of them are wanted as rows."""

    sources: Sources
    series: Series
    served: Served | None
    issued: Steps
    living: Bools

    @classmethod
    def of(cls, sources: Sources) -> Issue:
        """
        Raises:
            InputError: what is stored of the model does not fit the configuration.
        """
        served = sources.served()
        tested = sources.tested(served)
        names = {*declared(sources.sensors), *(sources.before.ids if sources.before else ())}
        series = join(
            sources.config,
            sources.tensors,
            sources.period,
            since=tested[0] if tested else None,
            lags=served.learner.lags if served else (),
            sensors=names | set(served.ids if served else ()),
        )
        issued = series.slots()
        if sources.learned:
            issued = issued[series.ends[issued] == int(sources.period.end.timestamp())]
        living = alive(series, issued, sensors=sources.sensors, before=sources.before)
        return cls(sources, series, served, issued, living)

    @property
    def times(self) -> list[datetime]:
        """(S,) when the forecasts are issued."""
        return [datetime.fromtimestamp(second, UTC) for second in self.series.ends[self.issued].tolist()]

    def rows(self, wanted: Bools | None = None) -> pl.DataFrame:
        """Rows of `SCHEMA` of the wanted issue times (S,), by default all, by issue time, sensor and step."""
        wanted = np.ones(len(self.issued), dtype=bool) if wanted is None else wanted
        if not wanted.any():
            return pl.DataFrame(schema=SCHEMA)
        until = int(np.flatnonzero(wanted)[-1]) + 1
        issued, living, wanted = self.issued[:until], self.living[:until], wanted[:until]
        ladder = climb(self.series, self.served, issued, living, self.sources.graph)
        truth = Truth.of(self.series)
        known = residuals(self.series, self.served, truth, self.sources.tested(self.served), self.sources.graph)
        spread = quantiles(self.series, ladder, issued, wanted, living, calibration=known, truth=truth)
        return self._table(ladder, spread, issued, wanted, living)

    def _table(self, ladder: Ladder, spread: Floats, issued: Steps, wanted: Bools, living: Bools) -> pl.DataFrame:
        """The cells of living sensors as rows."""
        series, steps = self.series, self.series.config.horizon
        slot, row = (np.repeat(part, steps) for part in np.nonzero(living[wanted]))
        ahead = np.tile(np.arange(steps), len(slot) // steps)
        cell = (slot, ahead, row)
        tier = ladder.tier[wanted][cell]
        numbers = np.concatenate([ladder.chosen[wanted][..., None], spread], axis=-1, dtype=np.float32)[cell]
        numbers = _short(within_rules(numbers, series.config))
        last = issued[wanted][slot]
        modelled = tier <= NEIGHBOUR
        columns = {
            "sensor_id": pl.Series(series.ids, dtype=pl.String).gather(row.astype(np.uint32)),
            "issued_at": _times(series.ends[last]),
            "target_time": _times(series.tensor.times[last + ahead + 1]),
            "horizon": ahead + 1,
            **{name: pl.Series(numbers[:, at], nan_to_null=True) for at, name in enumerate(("point", *QUANTILES))},
            "tier": pl.Series(tier.astype(np.uint8)).cat.to(TIER),
            "reasons": self._reasons(ladder, wanted, cell, np.isnan(numbers[:, 1])),
            "model_id": pl.Series([None, self.served.model_id if self.served else None]).gather(
                modelled.astype(np.uint32)
            ),
        }
        return pl.DataFrame(columns).cast(SCHEMA)  # type: ignore[arg-type]

    def _reasons(
        self, ladder: Ladder, wanted: Bools, cell: tuple[Steps, Steps, Steps], no_interval: Bools
    ) -> pl.Series:
        """A list of words for each row; those of a forecast by the model say only what is unusual about it."""
        slot, _, row = cell
        tier, bits = ladder.tier[wanted][cell], ladder.why[wanted][cell].astype(np.int64)
        bits |= np.where(no_interval & (tier != NONE), NO_INTERVAL, 0)
        fallen = tier > NEIGHBOUR
        heard = np.where(fallen, ladder.past.heard[wanted][slot, row], -1)
        seen = np.where(fallen, ladder.past.window[wanted][slot, row], self.series.config.window)
        span = self.series.config.window + 1
        code = ((heard + 1) * span + seen) * MOST_CODES + bits
        code = code * 2 + fallen
        distinct, place = np.unique(code, return_inverse=True)
        lists = [self._words(int(one), span) for one in distinct]
        return pl.Series(lists, dtype=pl.List(pl.String)).gather(place.astype(np.uint32))

    def _words(self, code: int, span: int) -> list[str]:
        code, fallen = divmod(code, 2)
        code, bits = divmod(code, MOST_CODES)
        heard, seen = divmod(code, span)
        words = ["not_in_training"] if bits & NEW else []
        words += self._of_model() + (self._of_window(heard - 1, seen) if fallen else [])
        named = {NOT_FINITE: "not_finite", NO_SEASON: "no_season", NO_INTERVAL: "no_interval"}
        return words + [word for bit, word in named.items() if bits & bit]

    def _of_model(self) -> list[str]:
        if self.served is None:
            return ["no_model"]
        through = self.served.through
        return [] if through.index >= self.sources.period.index - 1 else [f"model_through={through.key}"]

    def _of_window(self, heard: int, seen: int) -> list[str]:
        """What is missing of the readings of a sensor whose last one is of this step."""
        if heard < 0:
            return ["not_heard"]
        if seen:
            return (
                [f"window_observed={seen / self.series.config.window:.2f}"]
                if 2 * seen < self.series.config.window
                else []
            )
        since = datetime.fromtimestamp(int(self.series.ends[heard]), UTC)
        return [f"silent_since={since:%Y-%m-%dT%H:%MZ}"]


def within_rules(numbers: Floats, config: StreamConfig) -> Floats:
    """Forecasts of the target within the least and the most that it can be."""
    rules = config.rules(config.variable_names[0])
    if rules.minimum is None and rules.maximum is None:
        return numbers
    return np.clip(numbers, rules.minimum, rules.maximum)


def _times(seconds: NDArray[np.int64]) -> pl.Series:
    return pl.Series(seconds * 1000).cast(TIME)


def _short(numbers: Floats) -> Floats:
    """Numbers with the last bits of their fraction rounded away."""
    drop = 23 - KEPT_BITS
    bits = numbers.astype(np.float32).view(np.int32)
    rounded = ((bits.astype(np.int64) + (1 << (drop - 1))) >> drop << drop).astype(np.int32)
    return np.where(np.isfinite(numbers), rounded.view(np.float32), numbers)
