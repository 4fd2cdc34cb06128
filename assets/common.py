"""What every asset needs: keys, partitions, outputs with content versions, errors as one sentence."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from itertools import count, takewhile
from typing import Any

import dagster as dg
import polars as pl

from resources.lake import Encoded
from st_pipeline.alerts.review import forecast_cadence
from st_pipeline.errors import InputError
from st_pipeline.periods import Period
from st_pipeline.storage import Codec, digest, digest_of
from st_pipeline.streams import Stream
from st_pipeline.versions import VERSIONS

SHOWN_ROWS = 30
DIGITS = 5  # significant ones of a number in the UI
AHEAD = timedelta(days=400)  # an open-ended N-day calendar is laid out this far; reloading the code moves it on
LAG = timedelta(minutes=1)  # after which a new period of an open-ended N-day calendar appears
FRESH = ("readings", "forecast", "report")  # what somebody waits for
SPARE_PERIODS = 24  # new periods that an open-ended stream's history may gain before the code is reloaded


@dataclass(frozen=True)
class StreamAssets:
    """Names, partitions and common arguments of one stream's assets."""

    stream: Stream

    @property
    def name(self) -> str:
        return self.stream.name

    def key(self, *parts: str) -> dg.AssetKey:
        return dg.AssetKey([self.name, *parts])

    def op(self, *parts: str) -> str:
        """Name of a step; names that hold the separator themselves get a digest, so that no two steps share one."""
        names = (self.name, *parts)
        joined = "__".join(names)
        plain = all("__" not in name and not name.endswith("_") for name in names)
        return joined if plain else f"{joined}_{digest_of(names)[:8]}"

    @cached_property
    def partitions(self) -> dg.TimeWindowPartitionsDefinition:
        """One partition per period that has begun, the key being its start, as the stream's own calendar has them.

        Of a stream with an end, those to come are partitions too.
        """
        calendar = self.stream.config.calendar
        midnight = datetime.min.time()
        exclusions: list[str | datetime] = [*self._days_without_start(), *self._ticks_after_end()]
        cron, offset, now = calendar.cadence.cron(calendar.first), 1, datetime.now(UTC)
        if calendar.end:
            offset = sum(period.end > now for period in calendar.periods())
        elif exclusions:  # a tick a minute after midnight ends the window of a start
            cron, offset, now = cron.replace("0 0", "0,1 0", 1), 0, now - LAG
            exclusions.append("1 0 * * *")
        if calendar.end is None and calendar.period(0).start > now:  # Dagster would have the first period already
            offset -= 1
        found = dg.TimeWindowPartitionsDefinition(
            cron_schedule=cron,
            start=datetime.combine(calendar.first, midnight),
            end=datetime.combine(calendar.end, midnight) if calendar.end else None,
            fmt=calendar.cadence.key_format(calendar.first),
            timezone=calendar.timezone,
            end_offset=offset,
            exclusions=exclusions or None,
        )
        keys = [period.key for period in calendar.begun(now)]
        if (made := found.get_partition_keys()) != keys:
            raise InputError(f"stream {self.name!r}: its calendar has periods {keys}, its partitions {made}")
        return found

    def _days_without_start(self) -> list[datetime]:
        """Of an N-day cadence, the ticks of its cron expression at which no period starts."""
        calendar = self.stream.config.calendar
        days, tick = calendar.cadence.days, calendar.cadence.tick
        if days in (0, tick):
            return []
        last = calendar.end or (datetime.now(UTC) + AHEAD).date()
        return [_midnight(calendar.first, day) for day in range(0, (last - calendar.first).days, tick) if day % days]

    def _ticks_after_end(self) -> list[datetime]:
        """Ticks after the end of a stream that has ended: the UI's plots go back from today and would find nothing."""
        calendar = self.stream.config.calendar
        if calendar.end is None or calendar.end >= datetime.now(UTC).date():
            return []
        cadence = calendar.cadence
        cadence = replace(cadence, days=cadence.tick) if cadence.days else cadence
        horizon = date(datetime.now(UTC).year + 2, 1, 1)
        ticks = (cadence.start_of(calendar.end, index) for index in count(1))
        return [_midnight(day) for day in takewhile(lambda day: day < horizon, ticks)]

    def period(self, context: dg.AssetExecutionContext) -> Period:
        return self.stream.config.calendar.find(context.partition_key)

    def before(self, *, and_current: bool = False) -> dg.TimeWindowPartitionMapping:
        """The previous period, or the previous and the current one."""
        return dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=0 if and_current else -1)

    @cached_property
    def through(self) -> dg.TimeWindowPartitionMapping:
        """All periods up to and including the current one."""
        return dg.TimeWindowPartitionMapping(start_offset=-self._reach, end_offset=0)

    @cached_property
    def earlier(self) -> dg.TimeWindowPartitionMapping:
        """All periods before the current one."""
        return dg.TimeWindowPartitionMapping(start_offset=-self._reach, end_offset=-1)

    @property
    def _reach(self) -> int:
        """Periods that a history goes back."""
        known = len(self.stream.config.calendar.periods())
        return known if self.stream.config.periods.end else known + SPARE_PERIODS

    @property
    def on_request(self) -> str:
        """Group of what neither the schedule nor `run` makes unless it is asked for."""
        return f"{self.name}_on_request"

    @property
    def names_on_request(self) -> list[str]:
        """Models that are trained on request only."""
        own = {model.name for model in self.stream.config.models}
        return [model.name for model in self.stream.config.every_model if model.name not in own]

    def group(self, model: str) -> str:
        """The stream's group; that beside it for a model that is trained on request only."""
        own = {*self.stream.config.scored_beside, *(known.name for known in self.stream.config.models)}
        return self.name if model in own else self.on_request

    def common(self, asset: str, section: Any, *, group: str | None = None) -> dict[str, Any]:
        """Group (the stream's if left out), owner and code version.

        Args:
            section: the configuration that the asset's output depends on.
        """
        version = f"{VERSIONS[asset]}-{digest_of(section)[:12]}"
        common = {"group_name": group or self.name, "owners": [self.stream.config.owner], "code_version": version}
        return {**common, "freshness_policy": policy} if (policy := self.freshness(asset)) else common

    def freshness(self, asset: str) -> dg.FreshnessPolicy | None:
        """Of an open-ended stream, when an asset is late: after one missed period, or issue time of a forecast."""
        if asset not in FRESH or self.stream.config.calendar.end:
            return None
        every = self.stream.config.calendar.cadence.longest
        if asset == "forecast":
            every = forecast_cadence(self.stream) or every
        return dg.FreshnessPolicy.time_window(fail_window=2 * every, warn_window=1.25 * every)

    def config(self, *fields: str) -> dict[str, Any]:
        """Named parts of the stream file, as JSON; a stream without baselines has no such part."""
        found = self.stream.config.model_dump(mode="json", include=set(fields))
        return {name: part for name, part in found.items() if part or name != "baselines"}


def encoded(
    value: Any,
    codec: Codec[Any],
    metadata: Mapping[str, Any],
    *,
    name: str = "result",
    version: str | None = None,
    check: Callable[[], object] = bool,
) -> dg.Output[Encoded[Any]]:
    """An output whose data version is the digest of its content; numbers in the metadata are made short.

    Args:
        check: raises where this process may no longer write.
    """
    payload = codec.dump(value)
    return dg.Output(
        Encoded(value, payload, check),
        output_name=name,
        metadata={key: _short(number) for key, number in metadata.items()},
        data_version=dg.DataVersion(version or digest(payload)),
    )


def _short(value: Any) -> Any:
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def table(frame: pl.DataFrame, rows: int = SHOWN_ROWS) -> dg.TableMetadataValue:
    """The first rows of a small frame as a table in the UI."""
    shown = frame.head(rows)
    records = [
        dg.TableRecord({name: _plain(value) for name, value in row.items()}) for row in shown.iter_rows(named=True)
    ]
    return dg.MetadataValue.table(records, schema=column_schema(frame).schema)


def headline_metadata(summary: pl.DataFrame) -> dict[str, Any]:
    """The leaderboard's summary as a table, and the headline error of every model as a number that plots."""
    errors = {f"{row['model']}_mae": row["mae"] for row in summary.iter_rows(named=True) if row["mae"] is not None}
    return {**errors, "summary": table(summary)}


def column_schema(frame: pl.DataFrame) -> dg.TableSchemaMetadataValue:
    columns = [dg.TableColumn(name, _kind(dtype)) for name, dtype in frame.schema.items()]
    return dg.MetadataValue.table_schema(dg.TableSchema(columns))


def frame_metadata(frame: pl.DataFrame) -> dict[str, Any]:
    """Row count and column schema under the names the UI knows."""
    return {"dagster/row_count": len(frame), "dagster/column_schema": column_schema(frame)}


def _kind(dtype: pl.DataType) -> str:
    return "string" if dtype in (pl.String, pl.Date) or isinstance(dtype, pl.Enum | pl.Datetime) else str(dtype).lower()


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | str):
        return value
    return (round(value, 4) if value == value else None) if isinstance(value, float) else str(value)


def _midnight(day: date, later: int = 0) -> datetime:
    return datetime.combine(day, datetime.min.time()) + timedelta(days=later)
