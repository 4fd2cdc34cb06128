"""What people read: the report of each period and the leaderboard of the stream."""

from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, headline_metadata, table
from assets.pictures import picture
from resources.failures import user_errors
from resources.lake import AVAILABLE, HISTORY, History
from st_pipeline.config import StreamConfig
from st_pipeline.storage import FRAME, HTML, Codec, lake


def result_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`report`, `leaderboard` and, where methods are compared, `comparison`."""
    config = of.stream.config
    models = [*config.scored_beside, *(model.name for model in config.models)]
    champion = config.shown_model
    advice = {"advice": dg.AssetIn(of.key("advice"))} if champion else {}
    issued = {"forecast_scores": dg.AssetIn(of.key("forecast_scores"))} if champion else {}
    inside = {"insight": dg.AssetIn(of.key(champion, "insight"))} if champion and config.model(champion).views else {}

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
            **inside,
            **advice,
            **issued,
        },
        partitions_def=of.partitions,
        io_manager_key="pages",
        kinds={"html"},
        description="One self-contained page: network, scores, period matrix, cost, example forecasts, data quality.",
        **of.common(
            "report", of.config("name", "description", "models", "baselines", "champion", "horizon", "variables")
        ),
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
                insight=inputs.get("insight"),
                advice=inputs.get("advice"),
                forecast_scores=inputs.get("forecast_scores"),
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
        **of.common("leaderboard", of.config("models", "baselines", "compare", "studies", "horizon")),
    )
    def leaderboard(**evaluations: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.leaderboard import collect, summary

        found = {**evaluations, **{name: made_so_far(of, name) for name in of.names_on_request}}
        rows = collect(frame for by_period in found.values() for frame in by_period.values())
        headline = headline_metadata(summary(rows, config.horizon))
        return encoded(rows, FRAME, {**frame_metadata(rows), **headline})

    return [report, leaderboard, *([comparison_asset(of)] if config.compare else [])]


def made_so_far(of: StreamAssets, model: str, kind: str = "evaluation", codec: Codec[Any] = FRAME) -> History[Any]:
    """Scores (or another kind of result) of a model that is trained on request, by period, as far as there are any.

    They are no inputs to Dagster, which would ask its database for each of them and period, made or not.
    """
    key = (of.name, model, kind)
    periods = [period.key for period in of.stream.config.calendar.periods()]
    return History(key, [period for period in periods if lake().exists(key, period, codec)], codec)


def comparison_asset(of: StreamAssets) -> dg.AssetsDefinition:
    """`comparison`: every model against the champion, with tests of significance."""
    config = of.stream.config
    names = [*config.scored_beside, *(model.name for model in (*config.models, *config.compared))]
    kinds = ("evaluation", "losses", "diagnostics")

    @dg.asset(
        key=of.key("comparison"),
        ins={f"{name}_{kind}": dg.AssetIn(of.key(name, kind), metadata=AVAILABLE) for name in names for kind in kinds},
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="Every model against the champion: differences with intervals and tests; cost against error.",
        **of.common(
            "comparison", of.config("models", "baselines", "compare", "champion", "horizon"), group=of.on_request
        ),
    )
    def comparison(**inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.comparison import compare_with_champion

        by_kind = {kind: {name: inputs[f"{name}_{kind}"] for name in names} for kind in kinds}
        with user_errors():
            found = compare_with_champion(config, by_kind["losses"])
        pictures = _cost_against_error(config, by_kind["evaluation"], by_kind["diagnostics"])
        return encoded(found, FRAME, {**frame_metadata(found), "table": table(found, rows=200), **pictures})

    return comparison


def _cost_against_error(config: StreamConfig, scores: Any, diagnostics: Any) -> dict[str, Any]:
    """Pareto chart of the champion's protocol, where there are costs."""
    from st_pipeline.evaluation.cost_ledger import costs, costs_by_model
    from st_pipeline.evaluation.leaderboard import collect, summary
    from st_pipeline.reporting.cost_plot import cost_plot

    rows = summary(collect(frame for by_period in scores.values() for frame in by_period.values()), config.horizon)
    seconds = {row["model"]: row["later_seconds"] for row in costs_by_model(costs(diagnostics)).to_dicts()}
    protocol = config.model(config.shown_model).protocol
    figure = cost_plot(rows.to_dicts(), seconds, protocol=protocol, cost="seconds of a later period")
    return {"cost_against_error": picture(figure)} if figure else {}
