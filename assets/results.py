"""What people read: the report of each period and the leaderboard of the stream."""

from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, headline_metadata
from resources.failures import user_errors
from resources.lake import AVAILABLE, HISTORY
from st_pipeline.storage import FRAME, HTML


def result_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`report` and `leaderboard`."""
    config = of.stream.config
    models = ["naive", *(model.name for model in config.models)]

    @dg.asset(
        key=of.key("report"),
        ins={
            **{
                f"{name}_evaluation": dg.AssetIn(
                    of.key(name, "evaluation"), partition_mapping=of.through, metadata=HISTORY
                )
                for name in models
            },
            **{
                f"{name}_diagnostics": dg.AssetIn(
                    of.key(name, "diagnostics"), partition_mapping=of.through, metadata=HISTORY
                )
                for name in models
            },
            **{
                name: dg.AssetIn(of.key(name), partition_mapping=of.through, metadata=HISTORY) for name in ("node_set",)
            },
            **{name: dg.AssetIn(of.key(name)) for name in ("sensors", "tensor", "adjacency", "drift")},
        },
        partitions_def=of.partitions,
        io_manager_key="pages",
        kinds={"html"},
        description="One self-contained page: network, scores, period matrix, cost, example forecasts, data quality.",
        **of.common("report", of.config("name", "description", "models", "champion", "horizon", "variables")),
    )
    def report(context: dg.AssetExecutionContext, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.reporting.report import ReportData, render

        with user_errors():
            data = ReportData(
                config=config,
                period=of.period(context),
                scores={name: inputs[f"{name}_evaluation"] for name in models},
                diagnostics={name: inputs[f"{name}_diagnostics"] for name in models},
                node_sets=inputs["node_set"],
                **{name: inputs[name] for name in ("sensors", "tensor", "adjacency", "drift")},
            )
            page = render(data)
        return encoded(page, HTML, {"kilobytes": len(page.encode()) / 1000})

    @dg.asset(
        key=of.key("leaderboard"),
        ins={name: dg.AssetIn(of.key(name, "evaluation"), metadata=AVAILABLE) for name in models},
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="All scores of all models and periods in tidy rows, and a summary, best model first.",
        **of.common("leaderboard", of.config("models", "horizon")),
    )
    def leaderboard(**evaluations: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.leaderboard import collect, summary

        rows = collect(frame for name in models for frame in evaluations[name].values())
        headline = headline_metadata(summary(rows, config.horizon))
        return encoded(rows, FRAME, {**frame_metadata(rows), **headline})

    return [report, leaderboard]
