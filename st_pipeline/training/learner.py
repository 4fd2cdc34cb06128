"""A model's life: built once, updated from its own previous period, stored, restored."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch

from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import PROTOCOLS, PeriodArrays
from st_pipeline.data.scaling import Scaler
from st_pipeline.errors import InputError
from st_pipeline.layers.node_table import node_tables
from st_pipeline.model_config import ModelConfig
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster, count_parameters
from st_pipeline.models.lora import LoRA
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import LabelWeights, ReLearner
from st_pipeline.models.seasonal_skip import SeasonalSkip
from st_pipeline.storage import digest_of
from st_pipeline.strategies import strategies
from st_pipeline.strategies.base import Arrival, Network, Selection, Strategy
from st_pipeline.training.arrivals import arrive
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute, Usage
from st_pipeline.training.fit import FitResult, fit
from st_pipeline.training.forecasts import latency
from st_pipeline.training.memory import Need, Plan
from st_pipeline.training.reproducibility import derive_seed, seeded
from st_pipeline.training.resume import Record
from st_pipeline.training.settings import Settings
from st_pipeline.training.state import Epoch
from st_pipeline.training.taken import Taken
from st_pipeline.training.trained import BACKBONE, Trained
from st_pipeline.types import SeriesShape

Parts = Mapping[str, Checkpoint]
Progress = Callable[[Epoch], None]


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
        if self.model.lora:
            forecaster = LoRA(forecaster, rank=self.model.lora.rank, place=self.model.lora.place)
        if self.model.prompt_pool:
            forecaster = PromptPool(forecaster, rank=self.model.prompt_pool.factors)
        if self.model.relearner:
            options = self.model.relearner.model_dump()
            weights = options.pop("label_encoder")
            forecaster = ReLearner(forecaster, **options, labels=LabelWeights(**weights) if weights else None)
        if self.model.seasonal_skip:
            forecaster = SeasonalSkip(forecaster)
        return forecaster

    def arrays(self, data: PeriodData, device: torch.device | str = "cpu") -> PeriodArrays:
        """The period's arrays as the model's protocol sees them."""
        return PeriodArrays.of(
            data.tensor,
            data.nodes,
            self.stream,
            protocol=PROTOCOLS[self.model.protocol],
            lags=self.lags,
            share=self.settings.share,
            device=device,
        )

    def learn(
        self,
        data: PeriodData,
        previous: Parts | None,
        *,
        compute: Compute,
        earlier: PeriodData | None = None,
        progress: Progress | None = None,
        log: Callable[[str], object] = len,
        record: Record | None = None,
        taken: Taken | None = None,
    ) -> dict[str, Checkpoint]:
        """Update the model with a period; returns the checkpoint of every part.

        Args:
            previous: the parts after the previous period; None in the first.
            earlier: the data of the previous period, for strategies that compare the two.
            log: told before the training what memory it will take.
            record: files from which an update that was cut off goes on.
            taken: weights that take the place of a training.

        Raises:
            InputError: the predecessor does not fit, the data are too short, the device is missing or too full.
        """
        facts = self._facts(data, previous)
        with self.planned(data, compute, f"{self.stream.name}/{self.model.name} of {data.period.key}") as (usage, plan):
            if record:
                record.belong(**facts, device=usage.device.type)
                if not taken and (parts := record.result()):
                    return parts
            log(f"memory on {usage.device}: {plan}")
            trained = self._update(data, previous, earlier, usage, plan, progress, record, taken)
            assert trained.validation is not None
            milliseconds = latency(trained.forecaster, trained.validation, data.graph.to(usage.device))
        cost = {
            "peak_bytes": usage.peak_bytes,
            "estimated_bytes": plan.bytes,
            "milliseconds_per_forecast": milliseconds,
            "device": str(usage.device),
            "notes": [*usage.notes, *compute.ranks.notes],
        }
        facts |= {"imported": dict(taken.facts)} if taken else {}
        parts = trained.checkpoints(facts, cost)
        if record:
            record.keep_result(parts)
        return parts

    def _facts(self, data: PeriodData, previous: Parts | None) -> dict[str, Any]:
        """Where an update belongs."""
        parent = {name: checkpoint.digest for name, checkpoint in (previous or {}).items()}
        return {
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
        }

    @contextmanager
    def planned(self, data: PeriodData, compute: Compute, purpose: str) -> Iterator[tuple[Usage, Plan]]:
        """A guarded step on a period's data, with the work cut so that it fits the memory there is.

        Raises:
            InputError: the device is missing or too full.
        """
        need = self.need(data)
        with compute.guard(need.least, purpose) as usage:
            plan = need.plan(usage.allowed_bytes, threads=compute.threads, gpu=usage.device.type != "cpu")
            yield usage, replace(plan, ranks=compute.ranks)

    @property
    def settings(self) -> Settings:
        """How the model is trained in the first period; what may differ later does not change arrays or memory."""
        return self.settings_of(0)

    def settings_of(self, index: int) -> Settings:
        """How the model is trained in the period with this index."""
        return Settings.of(PROTOCOLS[self.model.protocol], self.model.training, index=index)

    def hops(self, num_nodes: int) -> int | None:
        """How many edges away a sensor may be that a forecast depends on; None is all of them."""
        with torch.device("meta"):
            return self.build(num_nodes).hops

    def need(self, data: PeriodData, *, nodes: int | None = None) -> Need:
        """Memory a training needs, or one of so many of the nodes."""
        length, whole, _ = data.tensor.values.shape
        nodes = nodes or whole
        shape = self.shape(nodes)
        with torch.device("meta"):  # takes no memory
            forecaster = self.build(nodes)
        return Need.of(
            length=length,
            nodes=nodes,
            channels=shape.channels,
            width=forecaster.working_width,
            span=shape.window + shape.horizon,
            batch=self.settings.batch,
            divisible=forecaster.divisible,
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
        self,
        data: PeriodData,
        previous: Parts | None,
        earlier: PeriodData | None,
        usage: Usage,
        plan: Plan,
        progress: Progress | None,
        record: Record | None,
        taken: Taken | None = None,
    ) -> Trained:
        seed = derive_seed(self.seed, self.stream.name, self.model.name, data.period.key)
        arrays = self.arrays(data, usage.device)
        with seeded(seed) as generator:
            old = self.restore(previous) if previous else None
            forecaster = old.forecaster if old else self.build(len(data.nodes))
            strategy = old.strategy if old else strategies.build(self.model.strategy.spec())
            fitted = taken.scaler.to(usage.device) if taken else arrays.fit_scaler(self.model.scaling)
            scaler = fitted.following(old.scaler.to(usage.device) if old else None)
            before = partial(self._before, earlier, old.scaler, usage.device) if earlier and old else None
            load = partial(_network, data, arrays, scaler)
            arrival = arrive(
                data.period,
                load,
                before,
                steps_per_day=self.stream.steps_per_day,
                settings=self.settings,
                plan=plan,
                seed=derive_seed(seed, "strategy"),
            )
            forecaster = strategy.prepare(forecaster.to(usage.device), arrival, data.nodes)
            selection = strategy.select(arrival, data.nodes)
            trained = Trained(forecaster, strategy, scaler, validation=arrays.part("validation", scaler))
            if taken:
                self._take(taken, forecaster)
                strategy.consolidate(forecaster, arrival)
            elif selection.train and count_parameters(forecaster, trainable=True):
                for name in ("train", "validation"):
                    arrays.require_targets(name)
                trained.result = self._fit(trained, arrival, selection, generator, plan, progress, record)
                strategy.consolidate(forecaster, arrival)
        return trained

    def _take(self, taken: Taken, forecaster: Forecaster) -> None:
        try:
            taken.fill(forecaster)
        except (KeyError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise InputError(
                f"{self.stream.name}/{self.model.name}: the weights do not fit the model: {reason}"
            ) from None

    def _before(self, earlier: PeriodData, scaler: Scaler, device: torch.device) -> Network:
        return _network(earlier, self.arrays(earlier, device), scaler)

    def _fit(
        self,
        trained: Trained,
        arrival: Arrival,
        selection: Selection,
        generator: torch.Generator,
        plan: Plan,
        progress: Progress | None,
        record: Record | None,
    ) -> FitResult:
        assert trained.validation is not None
        return fit(
            trained.forecaster,
            train=arrival.network.train,
            validation=trained.validation,
            graph=arrival.network.graph,
            strategy=trained.strategy,
            selection=selection,
            settings=self.settings_of(arrival.index),
            generator=generator,
            progress=progress,
            plan=plan,
            record=record,
            drawn_from={"strategy": arrival.generator},
        )


def _network(data: PeriodData, arrays: PeriodArrays, scaler: Scaler) -> Network:
    return Network(data.nodes, data.graph.to(arrays.values.device), arrays.part("train", scaler))
