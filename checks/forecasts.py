"""Asset checks on forecasts: every sensor has one, its intervals are honest, and it is better than last week."""

from typing import Any

import dagster as dg
import polars as pl

from assets.common import StreamAssets
from checks.warnings import warning
from resources.lake import PREVIOUS
from st_pipeline.evaluation.forecast_means import ALL, HONEST, pooled
from st_pipeline.streams import Stream

NO_TRUTH = "nothing to compare: no truth has arrived yet"


def forecast_checks(stream: Stream) -> list[dg.AssetChecksDefinition]:
    """Checks of one stream's forecasts; none of them stops anything."""
    of = StreamAssets(stream)
    return [_every_sensor_check(of), _coverage_check(of), _skill_check(of)] if stream.config.models else []


def _every_sensor_check(of: StreamAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=of.key("forecast"),
        name="every_sensor",
        partitions_def=of.partitions,
        additional_ins={
            "tensor": dg.AssetIn(of.key("tensor")),
            "sensors": dg.AssetIn(of.key("sensors")),
            "before": dg.AssetIn(of.key("node_set"), partition_mapping=of.before(), metadata=PREVIOUS),
        },
        description="Every sensor that was there has a row for every step of every forecast that is due.",
    )
    def every_sensor(
        context: dg.AssetCheckExecutionContext, forecast: Any, tensor: Any, sensors: Any, before: Any
    ) -> dg.AssetCheckResult:
        from st_pipeline.forecasting.alive import missing_rows

        period = of.stream.config.calendar.find(context.partition_key)
        missing = missing_rows(of.stream.config, period, forecast, tensor, sensors=sensors, before=before)
        return dg.AssetCheckResult(
            passed=missing.is_empty(),
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={
                "missing": len(missing),
                "first": str(missing.row(0)) if len(missing) else "none",
                "mend": "materialise forecast with only_missing: true" if len(missing) else "nothing",
            },
        )

    return every_sensor


def _coverage_check(of: StreamAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=of.key("forecast_scores"),
        name="honest_intervals",
        partitions_def=of.partitions,
        description="Between 85 and 95 % of the truth lies in the 90 % intervals.",
    )
    def honest_intervals(forecast_scores: Any) -> dg.AssetCheckResult:
        found = _headline(forecast_scores)["coverage_90"]
        low, high = HONEST
        return warning(found is None or low <= found <= high, {"coverage_90": found}, missing=NO_TRUTH)

    return honest_intervals


def _skill_check(of: StreamAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=of.key("forecast_scores"),
        name="forecasts_beat_weekly",
        partitions_def=of.partitions,
        description="The error of the forecasts is below that of the weekly naive forecast on the same cells.",
    )
    def forecasts_beat_weekly(forecast_scores: Any) -> dg.AssetCheckResult:
        found = _headline(forecast_scores)
        own, weekly = found["mae"], found["naive_weekly_mae"]
        return warning(
            own is None or weekly is None or own < weekly, {"mae": own, "naive_weekly_mae": weekly}, missing=NO_TRUTH
        )

    return forecasts_beat_weekly


def _headline(scores: pl.DataFrame) -> dict[str, float | None]:
    return pooled(scores.filter(pl.col("cohort") == ALL)).row(0, named=True)
