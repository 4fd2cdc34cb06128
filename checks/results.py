"""Asset checks on what was computed: the graph is connected enough, a model beats the weekly naive forecast."""

from typing import Any

import dagster as dg
import polars as pl

from assets.common import StreamAssets
from checks.warnings import warning
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.model_config import ModelConfig
from st_pipeline.streams import Stream

ISOLATED = 0.25  # share of nodes without an edge above which the graph is worth a look


def result_checks(stream: Stream) -> list[dg.AssetChecksDefinition]:
    """Checks of one stream's graph and models; none of them stops anything."""
    of = StreamAssets(stream)
    return [_graph_check(of), *(_skill_check(of, model) for model in stream.config.models)]


def _graph_check(of: StreamAssets) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=of.key("adjacency"),
        name="few_isolated",
        partitions_def=of.partitions,
        description="Under a quarter of the nodes have no edge.",
    )
    def few_isolated(adjacency: Any) -> dg.AssetCheckResult:
        linked = len({*adjacency.row.tolist(), *adjacency.column.tolist()})
        nodes = len(adjacency.sensor_ids)
        share = 1 - linked / max(nodes, 1)
        return dg.AssetCheckResult(
            passed=share <= ISOLATED,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"isolated_share": round(share, 4), "nodes": nodes},
        )

    return few_isolated


def _skill_check(of: StreamAssets, model: ModelConfig) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=of.key(model.name, "evaluation"),
        name="beats_weekly",
        partitions_def=of.partitions,
        additional_ins={"naive": dg.AssetIn(of.key("naive", "evaluation"))},
        description="The error on the newest period is below that of the weekly naive forecast.",
    )
    def beats_weekly(evaluation: Any, naive: Any) -> dg.AssetCheckResult:
        own, weekly = (_headline(frame) for frame in (evaluation, naive.filter(pl.col("model") == "naive_weekly")))
        nothing = "nothing to compare: no reading with one a week before it"
        return warning(
            own is None or weekly is None or own < weekly, {"mae": own, "naive_weekly": weekly}, missing=nothing
        )

    return beats_weekly


def _headline(frame: pl.DataFrame) -> float | None:
    """Published average MAE of all sensors on the newest period, mean over seeds; None if nothing could be scored."""
    chosen = frame.filter(
        (pl.col("metric") == "mae")
        & (pl.col("horizon") == PUBLISHED)
        & (pl.col("cohort") == "all")
        & (pl.col("period") == pl.col("trained_through"))
    )
    return chosen["value"].mean()  # type: ignore[return-value]
