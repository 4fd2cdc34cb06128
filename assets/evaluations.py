"""Scores: every model after every period on the test parts of this and all earlier periods, and the naive forecasts."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, headline_metadata
from assets.models import NETWORK
from assets.pictures import picture
from resources.compute import ComputeResource
from resources.failures import user_errors
from resources.lake import HISTORY
from st_pipeline.model_config import BaselineConfig, ModelConfig
from st_pipeline.storage import FRAME, JSON, digest_of
from st_pipeline.versions import VERSIONS

if TYPE_CHECKING:
    from st_pipeline.data.period_data import PeriodData
    from st_pipeline.evaluation.scoring import Evaluation

SECTIONS = ("window", "horizon", "split", "target", "inputs", "step", "timezone")


def evaluation_asset(of: StreamAssets, model: ModelConfig) -> dg.AssetsDefinition:
    """`<model>/evaluation` (tidy scores), `<model>/losses` (each window), `<model>/diagnostics` (sensors, cost)."""
    parts = {
        part: dg.AssetIn(of.key(model.name, part), partition_mapping=of.before(and_current=True), metadata=HISTORY)
        for part in model.parts
    }
    history = {name: dg.AssetIn(of.key(name), partition_mapping=of.through, metadata=HISTORY) for name in NETWORK}

    @dg.multi_asset(
        name=of.op(model.name, "evaluation"),
        outs=_outs(of, model.name, f"Scores of {model.name} on the test parts of this and all earlier periods."),
        ins={**parts, **history},
        partitions_def=of.partitions,
    )
    def evaluate(
        context: dg.AssetExecutionContext, compute: ComputeResource, **inputs: Any
    ) -> Iterator[dg.Output[Any]]:
        from st_pipeline.evaluation.scoring import evaluate_model
        from st_pipeline.training.updates import period_data

        network = {name: inputs[name] for name in NETWORK}
        with user_errors():
            data = {key: period_data(of.stream.config, key, network) for key in network["tensor"]}
            newest, *earlier = (
                {part: inputs[part][key] for part in model.parts} for key in _newest_first(inputs, model)
            )
            before = earlier[0] if earlier else None
            result = evaluate_model(of.stream.config, model, newest, data, before=before, compute=compute.limits())
        yield from _outputs(of, context.partition_key, result)

    return evaluate


def _newest_first(inputs: Mapping[str, Any], model: ModelConfig) -> list[str]:
    """Periods of the model's parts: the current one, and the one before where there is one."""
    return sorted(inputs[model.parts[0]], reverse=True)


def naive_asset(of: StreamAssets) -> dg.AssetsDefinition:
    """The same of the naive forecasts: last value, a day ago, a week ago, the usual value of the hour of the week."""
    text = "Scores of the naive forecasts on the test part of this period."

    def scored(data: "PeriodData") -> "Evaluation":
        from st_pipeline.evaluation.scoring import evaluate_naive

        return evaluate_naive(of.stream.config, data)

    return _asset_beside(of, "naive", _outs(of, "naive", text), scored)


def baseline_asset(of: StreamAssets, baseline: BaselineConfig) -> dg.AssetsDefinition:
    """The same of a statistical baseline; its diagnostics name the sensors that it could not be fitted to."""
    name = baseline.name
    section = [VERSIONS["evaluation"], of.config(*SECTIONS), baseline.spec()]
    text = f"Scores of {name}, fitted on the training part of this period, on its test part."

    def scored(data: "PeriodData") -> "Evaluation":
        from st_pipeline.evaluation.baseline_forecasts import evaluate_baseline

        return evaluate_baseline(of.stream.config, baseline, data)

    outs = _outs(of, name, text, version=("baseline", section), told="Facts of the fit, and sensors not fitted, of")
    return _asset_beside(of, name, outs, scored)


def _asset_beside(
    of: StreamAssets, model: str, outs: Mapping[str, dg.AssetOut], scored: "Callable[[PeriodData], Evaluation]"
) -> dg.AssetsDefinition:
    """Scores of what needs the data of a period, and no model."""

    @dg.multi_asset(
        name=of.op(model, "evaluation"),
        outs=outs,
        ins={
            name: dg.AssetIn(of.key(name), partition_mapping=of.before(and_current=True), metadata=HISTORY)
            for name in NETWORK
        },
        partitions_def=of.partitions,
    )
    def evaluate(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[dg.Output[Any]]:
        from st_pipeline.training.updates import period_data

        with user_errors():
            result = scored(period_data(of.stream.config, context.partition_key, inputs))
        yield from _outputs(of, context.partition_key, result)

    return evaluate


def _outs(
    of: StreamAssets,
    model: str,
    text: str,
    *,
    version: tuple[str, Any] | None = None,
    told: str = "Errors per sensor, example forecasts and cost of",
) -> Mapping[str, dg.AssetOut]:
    """The three outputs.

    Args:
        version: entry of `VERSIONS` and the section that they depend on, if it is not that of all evaluations.
        told: what the diagnostics are, before the model's name.
    """
    kind, section = version or ("evaluation", of.config(*SECTIONS))
    common = of.common(kind, section, group=of.group(model))
    texts = {
        "evaluation": text,
        "losses": f"Losses of {model} in every test window and step, for tests of significance.",
        "diagnostics": f"{told} {model}.",
    }
    managers = {"evaluation": "frames", "losses": "frames", "diagnostics": "documents"}
    return {
        name: dg.AssetOut(
            key=of.key(model, name), io_manager_key=managers[name], description=texts[name], kinds={"polars"}, **common
        )
        for name in managers
    }


def _outputs(of: StreamAssets, period: str, result: Any) -> Iterator[dg.Output[Any]]:
    """Both outputs; what a run took does not enter the data version."""
    from st_pipeline.evaluation.leaderboard import summary
    from st_pipeline.evaluation.rows import over_seeds
    from st_pipeline.reporting.plots import horizon_plot

    scores = result.scores.filter(result.scores["period"] == period)
    headline = headline_metadata(summary(scores, of.stream.config.horizon))
    pictures = {"error_by_horizon": picture(horizon_plot(over_seeds(scores)))}
    yield encoded(
        result.scores,
        FRAME,
        {**frame_metadata(result.scores), **headline, **pictures},
        name="evaluation",
    )
    yield encoded(result.losses, FRAME, frame_metadata(result.losses), name="losses")
    cost = {name: value for name, value in result.diagnostics.get("cost", {}).items() if isinstance(value, int | float)}
    content = {name: value for name, value in result.diagnostics.items() if name != "cost"}
    yield encoded(result.diagnostics, JSON, cost, name="diagnostics", version=digest_of(content))
