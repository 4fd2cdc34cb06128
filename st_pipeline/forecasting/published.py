"""What has been published: rows that are never changed or removed, and what is added to them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl
from numpy.typing import NDArray

from st_pipeline.errors import InputError
from st_pipeline.forecasting.issue import QUANTILES, SCHEMA, TIME
from st_pipeline.storage import FRAME, Lake, Place, digest, digest_of, files_at

PUBLISHED = {**SCHEMA, "vintage": pl.Int16(), "knowledge_time": TIME}
FORECAST = ["issued_at", "sensor_id"]  # of one vintage: rows that stand and fall together
ROW = [*FORECAST, "horizon"]
STAMP = "%Y-%m-%dT%H:%MZ"
SAME = 1e-3  # share of a number by which the arithmetic of another machine or batch may move it
NOTHING = 1e-3  # of a number's unit, the same for numbers near 0


@dataclass(frozen=True)
class Published:
    """The forecasts of a period as they were found, and the digest of their file; None if there was none."""

    rows: pl.DataFrame
    path: Place
    digest: str | None

    @classmethod
    def read(cls, lake: Lake, key: tuple[str, ...], period: str) -> Published:
        """Those of an asset `forecast`.

        Raises:
            InputError: the file is damaged, or has other columns.
        """
        path = lake.path(key, period, FRAME.extension)
        found = _digest(path)
        if found is None:
            return cls(pl.DataFrame(schema=PUBLISHED), path, None)
        rows = lake.read(key, period, FRAME)
        if rows.schema != pl.Schema(PUBLISHED):
            raise InputError(
                f"{path}: its columns are {', '.join(rows.columns)}; expected {', '.join(PUBLISHED)} as this version "
                "writes them; move the file away to issue the forecasts anew"
            )
        return cls(rows, path, found)

    def check(self) -> None:
        """
        Raises:
            InputError: another process has written the file since it was read.
        """
        if _digest(self.path) != self.digest:
            raise InputError(
                f"{self.path}: another process has published forecasts since this one read the file; "
                "theirs are kept and nothing is written; run it again"
            )

    def wanted(
        self, issued_at: Sequence[datetime], *, at: datetime | None = None, only_missing: bool = False
    ) -> NDArray[np.bool_]:
        """(S,): which of the due issue times are to be computed: all, those without a row, or (and) the one at `at`.

        Raises:
            InputError: no forecast is due at that time.
        """
        if at is not None and at not in issued_at:
            due = f"from {issued_at[0]:{STAMP}} to {issued_at[-1]:{STAMP}}" if issued_at else "in this period yet"
            raise InputError(f"no forecast is due at {at.astimezone(UTC):{STAMP}}; due are those {due}")
        if at is None and not only_missing:
            return np.ones(len(issued_at), dtype=bool)
        known = set(self.rows["issued_at"].unique().to_list())
        return np.array([one == at or (only_missing and one not in known) for one in issued_at], dtype=bool)

    def holds(self, issued_at: datetime, model_id: str) -> bool:
        """Whether a forecast of that time by that model is published."""
        return not self.rows.filter((pl.col("issued_at") == issued_at) & (pl.col("model_id") == model_id)).is_empty()

    def with_news(self, fresh: pl.DataFrame, now: datetime) -> pl.DataFrame:
        """All rows, with those of `fresh` that say something new as a further vintage, known from `now` on.

        A sensor's forecast of one issue time gets a new vintage if one of its rows is new or differs.

        Args:
            fresh: rows of `SCHEMA`.
        """
        newest = latest(self.rows)
        other = fresh.join(newest, on=ROW, how="left", suffix="_old", maintain_order="left")
        numbers = [_differs(name) for name in ("point", *QUANTILES)]
        words = [pl.col(name).ne_missing(pl.col(f"{name}_old")) for name in ("tier", "reasons", "model_id")]
        news = other.with_columns(
            vintage=(pl.col("vintage").max().over(FORECAST).fill_null(0) + 1),
            differs=pl.any_horizontal(pl.col("vintage").is_null(), *numbers, *words).any().over(FORECAST),
        ).filter("differs")
        if news.is_empty():
            return self.rows
        added = news.with_columns(knowledge_time=pl.lit(now)).select(*PUBLISHED).cast(PUBLISHED)  # type: ignore[arg-type]
        return pl.concat([self.rows, added]).sort(*ROW, "vintage")


def latest(rows: pl.DataFrame) -> pl.DataFrame:
    """The newest vintage of each forecast."""
    return rows.filter(pl.col("vintage") == pl.col("vintage").max().over(FORECAST))


def first(rows: pl.DataFrame) -> pl.DataFrame:
    """The first vintage of each forecast: what was said before anything of the truth could be known."""
    return rows.filter(pl.col("vintage") == 1)


def content(rows: pl.DataFrame) -> str:
    """Digest of all that is said in the rows, but for when it was computed."""
    said = rows.drop("knowledge_time")
    return digest_of([len(said), digest(FRAME.dump(said))])


def _differs(name: str) -> pl.Expr:
    old, new = pl.col(f"{name}_old"), pl.col(name)
    apart = (new - old).abs() > SAME * pl.max_horizontal(old.abs(), new.abs()) + NOTHING
    return apart.fill_null(False) | (old.is_null() != new.is_null())


def _digest(path: Place) -> str | None:
    """Of a file's content; None if there is none.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return digest(files_at(path).read(path))
    except FileNotFoundError:
        return None
