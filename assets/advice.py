"""What a period asks for before anything is trained on it."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded
from assets.evaluations import SECTIONS
from assets.models import NETWORK
from assets.pictures import picture
from assets.results import made_so_far
from resources.compute import ComputeResource
from resources.failures import user_errors
from resources.lake import AVAILABLE, HISTORY
from st_pipeline.evaluation.advice_rule import DEFAULT
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import FRAME, JSON, Codec, digest_of

KINDS: dict[str, Codec[Any]] = {"evaluation": FRAME, "diagnostics": JSON}


def advice_asset(of: StreamAssets) -> dg.AssetsDefinition:
    """`advice`: sensors, shifts, graph, the frozen champion's error, costs, and what they recommend.

    It depends on the champion as earlier periods left it, and on none of what this period trains.
    """
    model = of.stream.config.model(of.stream.config.shown_model)
    network = {
        name: dg.AssetIn(of.key(name), partition_mapping=of.before(and_current=True), metadata=HISTORY)
        for name in NETWORK
    }
    parts = {
        part: dg.AssetIn(of.key(model.name, part), partition_mapping=of.before(), metadata=AVAILABLE)
        for part in model.parts
    }
    results = {
        f"{name}_{kind}": dg.AssetIn(of.key(name, kind), partition_mapping=of.earlier, metadata=AVAILABLE)
        for name in (model.name, "naive")
        for kind in KINDS
    }

    @dg.asset(
        key=of.key("advice"),
        ins={
            **network,
            **parts,
            **results,
            "previous": dg.AssetIn(of.key("advice"), partition_mapping=of.before(), metadata=AVAILABLE),
        },
        partitions_def=of.partitions,
        io_manager_key="documents",
        kinds={"json"},
        description="Before training: who came and went, what shifted, what the frozen champion makes of it, what each "
        "action will cost, and which of nothing, prompts only and retrain is advised.",
        **of.common("advice", [of.config(*SECTIONS, "champion"), asdict(DEFAULT)]),
    )
    def advice(context: dg.AssetExecutionContext, compute: ComputeResource, **inputs: Any) -> dg.Output[Any]:
        from st_pipeline.evaluation.advice import Arrival, advise

        period, last = context.partition_key, [*inputs["previous"].values()]
        with user_errors():
            arrival = Arrival(
                config=of.stream.config,
                model=model,
                period=period,
                network={name: inputs[name] for name in NETWORK},
                parts=_newest({part: inputs[part] for part in model.parts}),
                outcomes=_outcomes(of, model, inputs),
                probes=last[0]["probes"] if last else {},
            )
            found = advise(arrival, compute=compute.limits())
        content = {name: value for name, value in found.items() if name != "costs"}  # seconds differ between equal runs
        return encoded(found, JSON, _metadata(found), version=digest_of(content))

    return advice


def _newest(parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Each part after the period before; none if one of them is not there."""
    found = {part: value for part, by_period in parts.items() for value in by_period.values()}
    return found if len(found) == len(parts) else {}


def _outcomes(of: StreamAssets, model: ModelConfig, inputs: Mapping[str, Any]) -> Any:
    """What earlier periods showed, of the twin as far as it has been trained."""
    from st_pipeline.evaluation.actions import Outcomes, retrained_twin
    from st_pipeline.evaluation.leaderboard import collect

    twin = retrained_twin(of.stream.config, model)
    stored = {
        kind: {
            **{name: inputs[f"{name}_{kind}"] for name in (model.name, "naive")},
            **({twin.name: made_so_far(of, twin.name, kind, codec)} if twin else {}),
        }
        for kind, codec in KINDS.items()
    }
    scores = collect(frame for by_period in stored["evaluation"].values() for frame in by_period.values())
    return Outcomes.of(model, scores, stored["diagnostics"], twin)


def _metadata(found: Mapping[str, Any]) -> dict[str, Any]:
    """The recommendation, numbers that plot over periods, the page and a picture."""
    from st_pipeline.reporting.advice_page import page
    from st_pipeline.reporting.advice_plots import advice_plot

    signals, forecast = found["signals"], found["forecast"]
    numbers = {
        "new_sensors": signals["new"],
        "shifted_sensors": signals["shifted"],
        "profile_shift": signals["profile"],
        "spectral_distance": found["graph"]["spectral_distance"],
        "frozen_error": forecast["error"],
        "frozen_change_percent": forecast["change"],
    }
    known = {name: value for name, value in numbers.items() if value is not None}
    return {
        "recommendation": found["action"],
        **known,
        "page": dg.MetadataValue.md(page(found)),
        "shifts": picture(advice_plot(found)),
    }
