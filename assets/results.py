"""What people read: the report of each period and the leaderboard of the stream."""

from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, headline_metadata, table
from resources.failures import user_errors
from resources.lake import AVAILABLE, HISTORY
from st_pipeline.storage import FRAME, HTML


def result_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`report`, `leaderboard` and, where methods are compared, `comparison`."""
    config = of.stream.config
    models = ["naive", *(model.name for model in config.models)]
    every = ["naive", *(model.name for model in config.every_model)]

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
        ins={name: dg.AssetIn(of.key(name, "evaluation"), metadata=AVAILABLE) for name in every},
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="All scores of all models and periods in tidy rows, and a summary, best model first.",
        **of.common("leaderboard", of.config("models", "compare", "studies", "horizon")),
    )
    def leaderboard(**evaluations: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.leaderboard import collect, summary

        rows = collect(frame for name in every for frame in evaluations[name].values())
        headline = headline_metadata(summary(rows, config.horizon))
        return encoded(rows, FRAME, {**frame_metadata(rows), **headline})

    return [report, leaderboard, *([comparison_asset(of)] if config.compare else [])]


def comparison_asset(of: StreamAssets) -> dg.AssetsDefinition:
    """`comparison`: every model against the champion, with tests of significance."""
    config = of.stream.config
    names = ["naive", *(model.name for model in (*config.models, *config.compared))]
    kinds = ("losses", "diagnostics")

    @dg.asset(
        key=of.key("comparison"),
        ins={f"{name}_{kind}": dg.AssetIn(of.key(name, kind), metadata=AVAILABLE) for name in names for kind in kinds},
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="Every model against the champion: differences with intervals and tests; cost against error.",
        **of.common("comparison", of.config("models", "compare", "champion", "horizon"), group=of.on_request),
    )
    def comparison(**inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.comparison import compare_with_champion

        with user_errors():
            found = compare_with_champion(config, {name: inputs[f"{name}_losses"] for name in names})
        return encoded(found, FRAME, {**frame_metadata(found), "table": table(found, rows=200)})

    return comparison
