"""What a stream file may say: frozen pydantic models that refuse unknown keys."""

from __future__ import annotations

import re
from datetime import timedelta
from functools import cached_property
from typing import Annotated, Any, Self
from zoneinfo import available_timezones

from pydantic import BeforeValidator, Field, field_validator, model_validator

from st_pipeline.data_config import (
    RESERVED,
    AutomationConfig,
    GateConfig,
    GraphConfig,
    LivesConfig,
    PeriodsConfig,
    SourceConfig,
    SplitConfig,
    VariableConfig,
)
from st_pipeline.errors import InputError, closest
from st_pipeline.fields import Duration, Name, Part, Whole, as_spec, as_text, fault
from st_pipeline.forecasts_config import ForecastsConfig
from st_pipeline.model_config import BaselineConfig, CompareConfig, ModelConfig
from st_pipeline.periods import Cadence, Calendar
from st_pipeline.study_config import StudyConfig

NO_PLACES = {"Factory", "localtime"}  # names of the time zone database that say nothing


class StreamConfig(Part):
    """One sensor network: its source, its calendar, its graph and its models."""

    name: Name
    description: str = ""
    owner: str = Field("team:sensor-network", description="`team:NAME` or an e-mail address")
    source: SourceConfig
    timezone: str = "UTC"
    step: Duration
    periods: PeriodsConfig
    target: str = Field("", description="the variable to forecast; the first column if left out")
    variables: dict[str, VariableConfig] = Field(default_factory=dict)
    inputs: tuple[str, ...] = Field((), description="variables the models see, the target first; default the target")
    lives: LivesConfig = LivesConfig()
    gate: GateConfig = GateConfig()
    graph: GraphConfig = Field(default_factory=GraphConfig)
    window: Whole = Field(12, ge=1, le=10_000)
    horizon: Whole = Field(12, ge=1, le=10_000)
    split: SplitConfig = SplitConfig()
    models: tuple[ModelConfig, ...] = ()
    champion: str = Field("", description="the model the report shows; the first one if left out")
    challengers: tuple[str, ...] = Field((), description="models that may be promoted to champion; all if left out")
    baselines: tuple[Annotated[BaselineConfig, BeforeValidator(as_spec)], ...] = ()
    compare: CompareConfig | None = None
    studies: tuple[StudyConfig, ...] = ()
    automation: AutomationConfig = AutomationConfig()
    forecasts: ForecastsConfig = ForecastsConfig()

    @property
    def calendar(self) -> Calendar:
        periods = self.periods
        return Calendar(Cadence.parse(periods.every), periods.start, periods.end, self.timezone, periods.nominal)

    @property
    def shown_model(self) -> str:
        """The model shown in detail: the champion, the first one if none is named, empty if there are none."""
        return self.champion or next((model.name for model in self.models), "")

    @property
    def scored_beside(self) -> tuple[str, ...]:
        """Names of the assets with scores that no model makes: the naive forecasts' and each baseline's."""
        return ("naive", *(baseline.name for baseline in self.baselines))

    @property
    def issue_steps(self) -> int:
        """Steps between two issues of forecasts."""
        return self.forecasts.issue_every(self.step) // self.step

    @property
    def steps_per_day(self) -> int:
        return round(timedelta(days=1) / self.step)

    @property
    def label_lag(self) -> timedelta:
        """How long after the start of its interval a timestamp of the source is."""
        return self.step if self.source.interval == "end" else timedelta(0)

    @property
    def variable_names(self) -> tuple[str, ...]:
        """Variables of the stream, the target first."""
        names = self.source.variables
        target = self.target or names[0]
        return (target, *(name for name in names if name != target))

    @property
    def input_names(self) -> tuple[str, ...]:
        """Variables the models see, the target first."""
        target = self.variable_names[0]
        return (target, *(name for name in self.inputs if name != target))

    def rules(self, variable: str) -> VariableConfig:
        return self.variables.get(variable, VariableConfig())

    def model(self, name: str) -> ModelConfig:
        """The model called `name`.

        Raises:
            InputError: the stream has none.
        """
        for model in self.every_model:
            if model.name == name:
                return model
        known = [model.name for model in self.every_model]
        raise InputError(f"stream {self.name!r} has no model {name!r}; {closest(name, known)}")

    @cached_property
    def compared(self) -> tuple[ModelConfig, ...]:
        """Methods trained for a comparison only; one that the stream has under `models` is that one."""
        own = {model.name for model in self.models}
        return tuple(model for model in (self.compare.models() if self.compare else ()) if model.name not in own)

    @cached_property
    def studied(self) -> dict[str, dict[Any, ModelConfig]]:
        """Study -> value -> the model with that value."""
        return {study.name: study.variants(self._base(study)) for study in self.studies}

    @cached_property
    def every_model(self) -> tuple[ModelConfig, ...]:
        """The stream's models, and those that are trained on request."""
        return (*self.models, *self.compared, *(m for variants in self.studied.values() for m in variants.values()))

    def _base(self, study: StudyConfig) -> ModelConfig:
        for model in (*self.models, *self.compared):
            if model.name == study.of:
                return model
        known = [model.name for model in (*self.models, *self.compared)]
        raise fault(f"study {study.name!r}: there is no model {study.of!r}; {closest(study.of, known)}", "studies")

    def model_section(self, model: ModelConfig) -> list[Any]:
        """Everything in the stream file that the trained parts of a model depend on."""
        fields = {"name", "step", "timezone", "window", "horizon", "split", "target", "inputs"}
        return [self.model_dump(mode="json", include=fields), model.model_dump(mode="json", exclude_none=True)]

    @field_validator("timezone")
    @classmethod
    def _zone(cls, value: str) -> str:
        known = available_timezones() - NO_PLACES
        if value not in known:
            raise ValueError(f"there is no such time zone; {closest(value, known)}")
        return value

    @field_validator("owner")
    @classmethod
    def _owner(cls, value: str) -> str:
        if not re.fullmatch(r"team:[A-Za-z0-9_.-]+|[^@\s]+@[^@\s]+\.[^@\s]+", value):
            raise ValueError("expected 'team:NAME' or an e-mail address")
        return value

    @field_validator("step")
    @classmethod
    def _step(cls, value: timedelta) -> timedelta:
        if timedelta(days=1) % value:
            raise ValueError("expected a step that divides a day, such as 5min, 15min or 1h")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        names = self.source.variables
        targets = [self.target] if self.target else []
        for section, given in (("target", targets), ("variables", self.variables), ("inputs", self.inputs)):
            for name in given:
                if name in RESERVED:
                    raise fault(f"{name!r} names a fact of a sensor or an edge; call the variable otherwise", section)
                if name not in names:
                    raise fault(f"{name!r} is no variable of source.columns; {closest(name, names)}", section)
        studies = [study.name for study in self.studies]
        if twice := {name for name in studies if studies.count(name) > 1}:
            raise fault(f"two studies are called {min(twice)!r}; expected one of each name", "studies")
        baselines = [baseline.name for baseline in self.baselines]
        if twice := {name for name in baselines if baselines.count(name) > 1}:
            raise fault(f"baseline {min(twice)!r} is named twice; expected each once", "baselines")
        models = [model.name for model in self.every_model]
        if twice := {name for name in models if models.count(name) > 1}:
            raise fault(f"two models are called {min(twice)!r}; expected one of each name", "models")
        own = [model.name for model in self.models]
        if self.champion and self.champion not in own:
            raise fault(f"{self.champion!r} is no model of the stream; {closest(self.champion, own)}", "champion")
        for name in self.challengers:
            if name not in own:
                raise fault(f"{name!r} is no model of the stream; {closest(name, own)}", "challengers")
            if name == self.shown_model:
                raise fault(f"{name!r} is the champion; a challenger is another model", "challengers")
        if len(set(self.challengers)) < len(self.challengers):
            raise fault(f"challengers are {list(self.challengers)}; expected each once", "challengers")
        self._check_models()
        self._check_forecasts()
        return self

    def _check_forecasts(self) -> None:
        every = self.forecasts.issue_every(self.step)
        if every % self.step or every > self.calendar.cadence.shortest:
            raise fault(
                f"forecasts.every is {as_text(every)}; expected a multiple of the step ({as_text(self.step)}), "
                f"no longer than a period ({self.periods.every})",
                "forecasts",
            )

    def _check_models(self) -> None:
        for model in self.every_model:
            for lag in model.seasonal:
                if lag % self.step or lag / self.step < self.horizon:
                    raise fault(
                        f"model {model.name!r}: seasonal lag {lag} is shorter than the horizon, "
                        "or no multiple of the step",
                        "models",
                    )
                if lag >= self.calendar.cadence.longest:
                    raise fault(
                        f"model {model.name!r}: seasonal lag {lag} reaches behind the start of every period "
                        f"({self.periods.every}); expected a shorter one",
                        "models",
                    )
            share = model.training.share
            if share is not None and share > self.split.train:
                raise fault(
                    f"model {model.name!r}: training.share {share:g} is more than split.train {self.split.train:g}; "
                    "expected at most that, since the steps behind it are for validation and test",
                    "models",
                )
            lowest = self.rules(self.variable_names[0]).minimum
            if model.scaling.transform != "none" and (lowest is None or lowest < 0):
                raise fault(
                    f"model {model.name!r}: scaling.transform needs a target that is never negative; "
                    f"say so with variables.{self.variable_names[0]}.minimum: 0",
                    "models",
                )
