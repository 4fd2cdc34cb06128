"""A model's life: built once, updated from its own previous period, stored, restored."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch

from st_pipeline.config import ModelConfig, StreamConfig
from st_pipeline.data.protocols import PROTOCOLS, Part, PeriodArrays
from st_pipeline.data.scaling import Scaler
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import node_tables
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.storage import digest_of
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.checkpoint import Checkpoint, prefixed
from st_pipeline.training.compute import Compute, Usage
from st_pipeline.training.fit import Epoch, FitResult, fit
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.memory import Need, Plan
from st_pipeline.training.reproducibility import derive_seed, seeded
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, NodeSet, Period, SeriesShape

BACKBONE = "backbone"
Parts = Mapping[str, Checkpoint]
Progress = Callable[[Epoch], None]


@dataclass(frozen=True)
class PeriodData:
    """Everything one period offers a model."""

    period: Period
    nodes: NodeSet
    tensor: SeriesTensor
    graph: Graph

    @property
    def digest(self) -> str:
        graph = [part.tolist() for part in (self.graph.row, self.graph.column, self.graph.weight)]
        return digest_of([self.tensor.digest, graph, self.nodes.to_json()])


@dataclass(frozen=True)
class Learner:
    """One entry of a stream's `models:` list, trained with one of its seeds."""

    stream: StreamConfig
    model: ModelConfig
    seed: int

    @property
    def digest(self) -> str:
        """Digest of everything in the stream file that a trained part depends on."""
        return digest_of(self.stream.model_section(self.model))

    @property
    def lags(self) -> tuple[int, ...]:
        """Seasonal lags in steps."""
        return tuple(lag // self.stream.step for lag in self.model.seasonal)

    def shape(self, num_nodes: int) -> SeriesShape:
        return SeriesShape(
            window=self.stream.window,
            horizon=self.stream.horizon,
            channels=len(self.stream.input_names) + 2 * len(self.lags),
            num_nodes=num_nodes,
            steps_per_day=self.stream.steps_per_day,
            lags=len(self.lags),
        )

    def build(self, num_nodes: int) -> Forecaster:
        """A forecaster with freshly drawn parameters."""
        forecaster: Forecaster = backbones.build(self.model.backbone.spec(), shape=self.shape(num_nodes))
        if self.model.prompt_pool:
            forecaster = PromptPool(forecaster, rank=self.model.prompt_pool.rank)
        return forecaster

    def arrays(self, data: PeriodData, device: torch.device | str = "cpu") -> PeriodArrays:
        """The period's arrays as the model's protocol sees them."""
        protocol = PROTOCOLS[self.model.protocol]
        return PeriodArrays.of(data.tensor, data.nodes, self.stream, protocol=protocol, lags=self.lags, device=device)

    def learn(
        self,
        data: PeriodData,
        previous: Parts | None,
        *,
        compute: Compute,
        progress: Progress | None = None,
        log: Callable[[str], object] = len,
    ) -> dict[str, Checkpoint]:
        """Update the model with a period; returns the checkpoint of every part.

        Args:
            previous: the parts after the previous period; None in the first.
            log: told before the training what memory it will take.

        Raises:
            InputError: the predecessor does not fit, the data are too short, the device is missing or too full.
        """
        need = self.need(data)
        with compute.guard(need.least, f"{self.stream.name}/{self.model.name} of {data.period.key}") as usage:
            plan = need.plan(usage.allowed_bytes, threads=compute.threads, gpu=usage.device.type != "cpu")
            log(f"memory on {usage.device}: {plan}")
            trained = self._update(data, previous, usage, plan, progress)
            latency = _latency(trained, data.graph.to(usage.device))
        return self._checkpoints(trained, data, previous, usage, plan, latency)

    def need(self, data: PeriodData) -> Need:
        """Memory a training needs."""
        length, nodes, _ = data.tensor.values.shape
        settings = Settings.of(PROTOCOLS[self.model.protocol], self.model.training)
        shape = self.shape(nodes)
        with torch.device("meta"):  # takes no memory
            backbone: Forecaster = backbones.build(self.model.backbone.spec(), shape=shape)
        return Need.of(
            length=length,
            nodes=nodes,
            channels=shape.channels,
            width=backbone.working_width,
            span=shape.window + shape.horizon,
            batch=settings.batch,
            divisible=backbone.divisible,
        )

    def verify(self, previous: Parts, *, expected_period: str, data_digest: str | None) -> None:
        """Refuse a predecessor that is not this model's own last period.

        Args:
            data_digest: digest of what that period's data are now, or None to leave that unchecked.

        Raises:
            InputError: a part is missing, of another configuration, another period or another training, or was
                trained on data that have changed since.
        """
        name = f"{self.stream.name}/{self.model.name}"
        for part in self.model.parts:
            facts = previous[part].facts if part in previous else {}
            if not facts:
                problem = "is missing"
            elif facts["configuration"] != self.digest or facts["seed"] != self.seed:
                problem = "was trained with another configuration"
            elif facts["period"] != expected_period:
                problem = f"is of period {facts['period']}"
            elif data_digest is not None and facts["data"] != data_digest:
                problem = "was trained on data that have changed since"
            elif facts["sibling"] != previous[BACKBONE].facts["sibling"]:
                problem = "is from another training than its backbone"
            else:
                continue
            raise InputError(
                f"{name}/{part} of {expected_period} {problem}; materialise {name} of {expected_period} first"
            )

    def restore(self, parts: Parts) -> Trained:
        """The model as it was stored.

        Raises:
            InputError: the checkpoints do not fit the configuration.
        """
        backbone = parts[BACKBONE]
        with seeded(0):
            forecaster = self.build(len(backbone.facts["nodes"]))
        modules = forecaster.parts()
        try:
            for name, module in modules.items():
                for table_name, table in node_tables(module).items():
                    facts = parts[name].facts
                    table.adopt(facts["nodes"], facts["cold"][table_name])
                module.load_state_dict(parts[name].under("weights"))
        except (KeyError, RuntimeError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{self.stream.name}/{self.model.name}: the stored weights do not fit the model: {reason}"
            ) from None
        strategy: Strategy = strategies.build(self.model.strategy.spec())
        strategy.load_state(backbone.under("strategy"))
        scaler = Scaler.from_state(backbone.under("scaler"), backbone.facts["scaler"])
        return Trained(forecaster, strategy, scaler)

    def _update(
        self, data: PeriodData, previous: Parts | None, usage: Usage, plan: Plan, progress: Progress | None
    ) -> Trained:
        seed = derive_seed(self.seed, self.stream.name, self.model.name, data.period.key)
        arrays = self.arrays(data, usage.device)
        with seeded(seed) as generator:
            old = self.restore(previous) if previous else None
            forecaster = old.forecaster if old else self.build(len(data.nodes))
            strategy = old.strategy if old else strategies.build(self.model.strategy.spec())
            forecaster = strategy.prepare(forecaster.to(usage.device), data.period, data.nodes)
            selection = strategy.select(data.period, data.nodes)
            scaler = arrays.fit_scaler(self.model.scaling).following(old.scaler.to(usage.device) if old else None)
            validation = arrays.part("validation", scaler)
            trained = Trained(forecaster, strategy, scaler, validation=validation)
            if selection.train and count_parameters(forecaster, trainable=True):
                graph = data.graph.to(usage.device)
                trained.result = self._fit(trained, arrays, graph, selection, generator, plan, progress)
                strategy.consolidate(forecaster, data.period)
        return trained

    def _fit(
        self,
        trained: Trained,
        arrays: PeriodArrays,
        graph: Graph,
        selection: Selection,
        generator: torch.Generator,
        plan: Plan,
        progress: Progress | None,
    ) -> FitResult:
        assert trained.validation is not None
        for name in ("train", "validation"):
            arrays.require_targets(name)
        return fit(
            trained.forecaster,
            train=arrays.part("train", trained.scaler),
            validation=trained.validation,
            graph=graph,
            strategy=trained.strategy,
            selection=selection,
            settings=Settings.of(PROTOCOLS[self.model.protocol], self.model.training),
            generator=generator,
            progress=progress,
            plan=plan,
        )

    def _checkpoints(
        self, trained: Trained, data: PeriodData, previous: Parts | None, usage: Usage, plan: Plan, latency: float
    ) -> dict[str, Checkpoint]:
        result = trained.result
        scaler_tensors, scaler_facts = trained.scaler.state()
        parent = {name: checkpoint.digest for name, checkpoint in (previous or {}).items()}
        trainable = count_parameters(trained.forecaster, trainable=True) if result else 0
        facts: dict[str, Any] = {
            "stream": self.stream.name,
            "model": self.model.name,
            "protocol": self.model.protocol,
            "period": data.period.key,
            "index": data.period.index,
            "seed": self.seed,
            "configuration": self.digest,
            "data": data.digest,
            "parent": parent,
            "sibling": digest_of([self.digest, data.digest, parent]),
            "nodes": list(data.nodes.ids),
            "scaler": scaler_facts,
            "parameters": count_parameters(trained.forecaster),
            "trainable": trainable,
            "best_epoch": result.best if result else 0,
            "train_loss": [epoch.loss for epoch in result.epochs] if result else [],
            "validation_error": [epoch.validation for epoch in result.epochs] if result else [],
        }
        cost = {
            "seconds": result.seconds if result else 0.0,
            "epochs": len(result.epochs) if result else 0,
            "peak_bytes": usage.peak_bytes,
            "estimated_bytes": plan.bytes,
            "milliseconds_per_forecast": latency,
            "device": str(usage.device),
            "notes": usage.notes,
        }
        checkpoints: dict[str, Checkpoint] = {}
        for name, module in trained.forecaster.parts().items():
            tensors = prefixed("weights", module.state_dict())
            if name == BACKBONE:
                tensors |= prefixed("scaler", scaler_tensors) | prefixed("strategy", trained.strategy.state())
            cold = {table: list(part.cold_ids) for table, part in node_tables(module).items()}
            tensors = {key: value.detach().cpu().clone() for key, value in tensors.items()}
            checkpoints[name] = Checkpoint(tensors, {**facts, "part": name, "cold": cold}, cost)
        return checkpoints


@dataclass
class Trained:
    """A forecaster with what belongs to it."""

    forecaster: Forecaster
    strategy: Strategy
    scaler: Scaler
    validation: Part | None = None
    result: FitResult | None = None


def _latency(trained: Trained, graph: Graph, repeats: int = 5) -> float:
    """Median milliseconds of one forecast of all nodes from one window."""
    assert trained.validation is not None
    part = trained.validation
    single = replace(part, starts=part.starts[:1])
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        for forecast, _, _ in forecasts(trained.forecaster, single, graph):
            float(forecast.sum())  # waits for the device
        times.append(time.perf_counter() - begin)
    return sorted(times)[repeats // 2] * 1000
