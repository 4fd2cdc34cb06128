"""What is looked at beside the scores: a model's prompts, how it stands up to faults, what its parts have learned."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, table
from assets.evaluations import SECTIONS
from assets.models import NETWORK
from assets.pictures import picture
from resources.compute import ComputeResource
from resources.failures import user_errors
from resources.lake import HISTORY
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import FRAME

ANALYSED = ("deviation_before", "deviation_after", "effective_rank", "share_6", "advised_rank")
DRILLED = ("survived", "ahead", "skill", "mean_loss")


def prompt_analysis_asset(of: StreamAssets, model: ModelConfig) -> dg.AssetsDefinition:
    """`<model>/prompt_analysis`: what the prompts have learned through the period."""

    @dg.multi_asset(
        name=of.op(model.name, "prompt_analysis"),
        outs=_out(
            of,
            model,
            "prompt_analysis",
            f"Node deviation, spectrum and advised rank of the prompts of {model.name}, by period.",
            group=of.group(model.name),
        ),
        ins={
            name: dg.AssetIn(key, partition_mapping=of.through, metadata=HISTORY)
            for name, key in _trained_on(of, model).items()
        },
        partitions_def=of.partitions,
    )
    def prompt_analysis(context: dg.AssetExecutionContext, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.prompt_history import prompt_history
        from st_pipeline.training.updates import period_data

        network = {name: inputs[name] for name in NETWORK}
        periods = (
            ({part: inputs[part][key] for part in model.parts}, period_data(of.stream.config, key, network))
            for key in inputs["tensor"]
        )
        with user_errors():
            found = prompt_history(of.stream.config, model, periods)
        return encoded(found.rows, FRAME, _prompt_metadata(found, context.partition_key), name="prompt_analysis")

    return prompt_analysis


def _prompt_metadata(found: Any, period: str) -> dict[str, Any]:
    """Figures 3 and 4 of EAC, the advice, and means over the seeds that plot over periods."""
    from st_pipeline.reporting.prompt_plots import epoch_deviation_plot, period_deviation_plot, spectrum_plot

    newest = found.rows.filter(found.rows["period"] == period)
    means = {name: newest[name].mean() for name in ANALYSED}
    pictures = {
        "period_deviation": picture(period_deviation_plot(found.rows)),
        "epoch_deviation": picture(epoch_deviation_plot(found.epochs)),
        "spectrum": picture(spectrum_plot(found.shares)),
    }
    advice = {"advice": found.advice.sentence} if found.advice else {}
    return {**frame_metadata(found.rows), **_known(means), **advice, "table": table(found.rows), **pictures}


def drill_asset(of: StreamAssets, model: ModelConfig) -> dg.AssetsDefinition:
    """`<model>/drill`: the model's errors under faults; only the champion's is made without being asked for."""

    @dg.multi_asset(
        name=of.op(model.name, "drill"),
        outs=_out(
            of,
            model,
            "drill",
            f"Errors of {model.name} when readings of the test part are lost, wrong or late.",
            group=_group(of, model),
        ),
        ins={name: dg.AssetIn(key) for name, key in _trained_on(of, model).items()},
        partitions_def=of.partitions,
    )
    def drill(context: dg.AssetExecutionContext, compute: ComputeResource, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.drill import run_drill

        with user_errors():
            parts, data = _of_period(of, model, context.partition_key, inputs)
            frame = run_drill(of.stream.config, model, parts, data, compute=compute.limits())
        return encoded(frame, FRAME, _drill_metadata(frame), name="drill")

    return drill


def _drill_metadata(frame: Any) -> dict[str, Any]:
    """The summary, its numbers, which plot over periods, and the skill that is kept in every scenario."""
    from st_pipeline.evaluation.drill import drill_summary
    from st_pipeline.reporting.drill_plots import drill_plot

    summary = drill_summary(frame)
    numbers = _known({name: summary[name][0] for name in DRILLED})
    tables = {"summary": table(summary), "table": table(frame, rows=200)}
    return {**frame_metadata(frame), **numbers, **tables, "skill_kept": picture(drill_plot(frame))}


def insight_asset(of: StreamAssets, model: ModelConfig) -> dg.AssetsDefinition:
    """`<model>/insight`: what the parts of a model that has `views` have learned, in rows and pictures."""

    @dg.multi_asset(
        name=of.op(model.name, "insight"),
        outs=_out(
            of,
            model,
            "insight",
            f"What {' and '.join(model.views)} of {model.name} has learned of sensors and times, with pictures.",
            group=_group(of, model),
        ),
        ins={name: dg.AssetIn(key) for name, key in {**_trained_on(of, model), "sensors": of.key("sensors")}.items()},
        partitions_def=of.partitions,
    )
    def insight(context: dg.AssetExecutionContext, compute: ComputeResource, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.data.positions import positions_at
        from st_pipeline.reporting.insight import insight_rows

        with user_errors():
            parts, data = _of_period(of, model, context.partition_key, inputs)
            frame = insight_rows(of.stream.config, model, parts, data, compute=compute.limits())
        places = positions_at(inputs["sensors"], data.nodes.ids, data.period.last_day)
        return encoded(frame, FRAME, _insight_metadata(frame, places), name="insight")

    return insight


def _insight_metadata(frame: Any, places: Any) -> dict[str, Any]:
    """Means over the sensors, which plot over periods, the rows but for pairs of sensors, and the pictures."""
    from st_pipeline.reporting.insight import insight_means, insight_pictures, insight_table

    pictures = {name: picture(*found) for name, found in insight_pictures(frame, places).items()}
    return {**frame_metadata(frame), **insight_means(frame), "table": table(insight_table(frame), rows=200), **pictures}


def _group(of: StreamAssets, model: ModelConfig) -> str:
    """The stream's group for its champion, which is looked at without being asked for."""
    return of.name if model.name == of.stream.config.shown_model else of.on_request


def _out(of: StreamAssets, model: ModelConfig, name: str, description: str, *, group: str) -> dict[str, dg.AssetOut]:
    return {
        name: dg.AssetOut(
            key=of.key(model.name, name),
            io_manager_key="frames",
            description=description,
            kinds={"polars", "parquet"},
            **of.common(name, of.config(*SECTIONS), group=group),
        )
    }


def _trained_on(of: StreamAssets, model: ModelConfig) -> dict[str, dg.AssetKey]:
    """Keys of a model's parts and of the network."""
    return {**{part: of.key(model.name, part) for part in model.parts}, **{name: of.key(name) for name in NETWORK}}


def _of_period(of: StreamAssets, model: ModelConfig, key: str, inputs: Mapping[str, Any]) -> tuple[dict[str, Any], Any]:
    """A model's parts and the data of the period that they were trained on."""
    from st_pipeline.training.updates import period_data

    data = period_data(of.stream.config, key, {name: {key: inputs[name]} for name in NETWORK})
    return {part: inputs[part] for part in model.parts}, data


def _known(numbers: dict[str, Any]) -> dict[str, Any]:
    return {name: number for name, number in numbers.items() if number is not None}
