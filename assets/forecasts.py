"""Forecasts that are issued and never taken back, and what they were worth once the truth has arrived."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, table
from assets.pictures import picture
from assets.raw import has_edges
from resources.failures import user_errors
from resources.lake import AVAILABLE, HISTORY, PREVIOUS
from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError
from st_pipeline.forecasting.serving import serving, serving_model
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import FRAME, lake

SECTIONS = ("window", "horizon", "split", "target", "inputs", "step", "timezone", "variables", "graph", "forecasts")


class ForecastRun(dg.Config):
    """Which forecasts a run computes; all that are due if nothing is said.

    Attributes:
        issued_at: the one issued then, e.g. 2014-12-01T08:00+11:00.
        only_missing: those that were never published.
    """

    issued_at: str = ""
    only_missing: bool = False

    @property
    def at(self) -> datetime | None:
        """
        Raises:
            InputError: it is no time with an offset.
        """
        try:
            found = datetime.fromisoformat(self.issued_at) if self.issued_at else None
        except ValueError:
            found = datetime.min
        if found and found.tzinfo is None:
            raise InputError(f"issued_at {self.issued_at!r}: expected a time with its offset: 2014-12-01T08:00+11:00")
        return found.astimezone(UTC) if found else None


def forecast_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`forecast` and `forecast_scores`, and the same of every shadow under its name; none where there is no model."""
    config = of.stream.config
    if not config.models:
        return []
    made = [_forecast_asset(of, serving_model(config)), _scores_asset(of)]
    for name in serving(config).shadows:
        made += [_forecast_asset(of, config.model(name), name), _scores_asset(of, name)]
    return made


def _forecast_asset(of: StreamAssets, model: ModelConfig, *shadow: str) -> dg.AssetsDefinition:
    config = of.stream.config
    parts = {
        part: dg.AssetIn(of.key(model.name, part), partition_mapping=of.through, metadata=AVAILABLE)
        for part in model.parts
    }

    @dg.asset(
        key=of.key(*shadow, "forecast"),
        ins={
            "sensors": dg.AssetIn(of.key("sensors")),
            "tensor": dg.AssetIn(of.key("tensor"), partition_mapping=of.through, metadata=HISTORY),
            "before": dg.AssetIn(of.key("node_set"), partition_mapping=of.before(), metadata=PREVIOUS),
            **({"edges": dg.AssetIn(of.key("edges"))} if has_edges(of) else {}),
            **parts,
        },
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"pytorch", "parquet"},
        description=f"Forecasts of {model.name} with intervals: a row a sensor, issue time and step; only added to.",
        **of.common("forecast", [of.config(*SECTIONS), config.model_section(model)]),
    )
    def forecast(context: dg.AssetExecutionContext, config: ForecastRun, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.forecasting.due import due
        from st_pipeline.forecasting.issue import Sources
        from st_pipeline.forecasting.published import Published, content

        with user_errors():
            at = config.at
            published = Published.read(lake(), (of.name, *shadow, "forecast"), context.partition_key)
            sources = Sources(
                config=of.stream.config,
                model=model,
                period=of.period(context),
                tensors=inputs["tensor"],
                sensors=inputs["sensors"],
                before=inputs["before"],
                parts={part: inputs[part] for part in model.parts},
                edges=inputs.get("edges"),
            )
            fresh = due(sources, published, at=at, only_missing=config.only_missing)
            rows = published.with_news(fresh, datetime.now(UTC))
        metadata = _forecast_metadata(rows, added=len(rows) - len(published.rows))
        return encoded(rows, FRAME, metadata, version=content(rows), check=published.check)

    return forecast


def _forecast_metadata(rows: Any, *, added: int) -> dict[str, Any]:
    """Counts, shares of the tiers, and the newest forecasts as a table."""
    newest = rows.filter(rows["issued_at"] == rows["issued_at"].max())
    shares = {f"share_{tier}": count / len(rows) for tier, count in rows["tier"].value_counts().iter_rows()}
    numbers = {
        "added_rows": added,
        "issue_times": rows["issued_at"].n_unique(),
        "vintages": rows["vintage"].max() or 0,
        "newest": str(rows["issued_at"].max() or "none"),
    }
    return {**frame_metadata(rows), **numbers, **shares, "newest_forecasts": table(newest)}


def _scores_asset(of: StreamAssets, *shadow: str) -> dg.AssetsDefinition:
    config = of.stream.config

    @dg.asset(
        key=of.key(*shadow, "forecast_scores"),
        ins={
            "forecast": dg.AssetIn(
                of.key(*shadow, "forecast"), partition_mapping=of.before(and_current=True), metadata=AVAILABLE
            ),
            "tensor": dg.AssetIn(of.key("tensor"), partition_mapping=of.through, metadata=HISTORY),
            "node_set": dg.AssetIn(of.key("node_set")),
        },
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="Published forecasts against the truth of this period: error beside the weekly naive, coverage.",
        **of.common("forecast_scores", of.config("window", "horizon", "target", "step", "timezone", "forecasts")),
    )
    def forecast_scores(context: dg.AssetExecutionContext, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.forecasting.scores import score

        period = of.period(context)
        with user_errors():
            forecasts = {key: inputs["forecast"][key] for key in inputs["forecast"]}
            scores = score(config, period, forecasts, inputs["tensor"], inputs["node_set"])
        shown = _scores_metadata(config, scores, forecasts.get(period.key), inputs["tensor"][period.key])
        return encoded(scores, FRAME, {**frame_metadata(scores), **shown})

    return forecast_scores


def _scores_metadata(config: StreamConfig, scores: Any, rows: Any, tensor: Any) -> Mapping[str, Any]:
    """Numbers that plot over periods, a table by step and one by tier, and the pictures."""
    from st_pipeline.evaluation.forecast_means import ALL, headline, pooled
    from st_pipeline.reporting.forecast_plots import coverage_plot, error_plot, fan_plot

    known = scores.filter(scores["cohort"] == ALL)
    pictures = {
        "rolling_error": picture(error_plot(known)),
        "rolling_coverage": picture(coverage_plot(known)),
    }
    if rows is not None and (fan := fan_plot(rows, tensor, unit=config.rules(config.variable_names[0]).unit)):
        pictures["fan"] = picture(fan)
    tables = {f"by_{name}": table(pooled(known, name).sort(name), rows=config.horizon) for name in ("horizon", "tier")}
    return {**headline(scores), **tables, **pictures}
