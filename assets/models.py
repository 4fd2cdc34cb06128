"""Trained parts: one training step a model and period, guarded by the compute resource, in the pool `gpu`."""

from collections.abc import Iterator, Mapping
from statistics import fmean
from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded
from assets.pictures import picture
from resources.compute import ComputeResource
from resources.executors import GPU, QUEUE
from resources.failures import user_errors
from resources.lake import HISTORY, PREVIOUS
from resources.training import training
from st_pipeline.landing.periods import require_over
from st_pipeline.model_config import ModelConfig
from st_pipeline.storage import digest_of, lake
from st_pipeline.versions import VERSIONS

POOL = "gpu"
NETWORK = ("tensor", "adjacency", "node_set")
TEXTS = {
    "backbone": "Weights of the spatio-temporal network after the period, with scaler, history and cost.",
    "lora": "Low-rank adapters of the backbone, one of each period after the first; older ones are frozen.",
    "prompt_pool": "Node prompts P = A B, or a full table, after the period; rows of sensors that left are kept aside.",
    "relearner": "What corrects the forecast after the period: inverse map, smoothing with gates by sensor, output.",
    "seasonal_skip": "Weights of the seasonal lags that are added to the forecast after the period, by step.",
}


def model_asset(of: StreamAssets, model: ModelConfig) -> dg.AssetsDefinition:
    """`<model>/backbone` and the other parts the model has, from one training."""
    version = f"{VERSIONS['model']}-{digest_of(of.stream.config.model_section(model))[:12]}"
    outs = {
        part: dg.AssetOut(
            key=of.key(model.name, part),
            io_manager_key="checkpoints",
            description=f"{TEXTS[part]} Strategy {model.strategy.name}, protocol {model.protocol}.",
            group_name=of.group(model.name),
            owners=[of.stream.config.owner],
            code_version=version,
            kinds={"pytorch", "safetensors"},
            tags={"protocol": model.protocol, "strategy": model.strategy.name},
        )
        for part in model.parts
    }
    periods = {
        name: dg.AssetIn(of.key(name), partition_mapping=of.before(and_current=True), metadata=HISTORY)
        for name in NETWORK
    }
    own = {
        f"previous_{part}": dg.AssetIn(of.key(model.name, part), partition_mapping=of.before(), metadata=PREVIOUS)
        for part in model.parts
    }

    @dg.multi_asset(
        name=of.op(model.name, "train"),
        outs=outs,
        ins={**periods, **own},
        internal_asset_deps={part: _parents(of, model, part) for part in model.parts},
        partitions_def=of.partitions,
        pool=POOL,
        op_tags={QUEUE: GPU},
    )
    def train(context: dg.AssetExecutionContext, compute: ComputeResource, **inputs: Any) -> Iterator[dg.Output[Any]]:
        from st_pipeline.training.checkpoint import CHECKPOINTS, digest_of_seeds
        from st_pipeline.training.updates import update

        previous = {part: inputs[f"previous_{part}"] for part in model.parts if inputs[f"previous_{part}"] is not None}
        with user_errors():
            require_over(of.stream, of.period(context), lake())
            limits = compute.limits()
        with training(context, stream=of.name, model=model.name, every=limits.save_every) as journal:
            parts = update(
                of.stream.config,
                model,
                context.partition_key,
                network={name: inputs[name] for name in NETWORK},
                previous=previous,
                compute=limits,
                log=context.log.info,
                journal=journal,
            )
            for part, by_seed in parts.items():
                version = digest_of_seeds(by_seed)
                metadata = {**_metadata(by_seed), "weights_digest": version}
                yield encoded(by_seed, CHECKPOINTS, metadata, name=part, version=version, check=journal.check)
            journal.clear()

    return train


def _parents(of: StreamAssets, model: ModelConfig, part: str) -> set[dg.AssetKey]:
    """What a part depends on: the network, its own previous period, and the backbone of its own training.

    The backbone also continues the other parts' previous period; Dagster sees that through the shared step, since
    two assets that depend on each other's past would be a cycle to it.
    """
    own = {of.key(model.name, part)}
    return (
        {of.key(name) for name in NETWORK} | own | ({of.key(model.name, "backbone")} if part != "backbone" else set())
    )


def _metadata(by_seed: Mapping[int, Any]) -> Mapping[str, Any]:
    """Numbers that plot over periods, means where there are several seeds, and the loss curve of the first."""
    from st_pipeline.reporting.plots import loss_curve
    from st_pipeline.training.checkpoint import cost_of_seeds

    facts = [checkpoint.facts for checkpoint in by_seed.values()]
    first, cost = facts[0], cost_of_seeds(by_seed)
    numbers: dict[str, Any] = {
        "parameters": first["parameters"],
        "trainable": first["trainable"],
        "nodes": len(first["nodes"]),
        "seeds": ", ".join(map(str, by_seed)),
        "seconds": round(cost["seconds"], 3),
        "epochs": cost["epochs"],
        "peak_mib": round(cost["peak_bytes"] / (1 << 20), 1),
        "milliseconds_per_forecast": round(cost["milliseconds_per_forecast"], 3),
        "device": cost["device"],
    }
    if imported := first.get("imported"):
        numbers["imported"] = f"{imported['kind']} from {imported['file']}, digest {imported['digest']}"
    if cost["notes"]:
        numbers["notes"] = "; ".join(cost["notes"])
    if all(one["validation_error"] for one in facts):
        numbers["best_epoch"] = fmean(one["best_epoch"] for one in facts)
        numbers["validation_error"] = fmean(one["validation_error"][one["best_epoch"] - 1] for one in facts)
        numbers["losses"] = picture(loss_curve(first))
    return numbers
