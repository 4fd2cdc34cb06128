"""What a stream file may say: frozen pydantic models that refuse unknown keys."""

from __future__ import annotations

import re
from datetime import date, timedelta
from typing import Annotated, Any, Literal, Self
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from st_pipeline.errors import InputError, closest
from st_pipeline.periods import Cadence, Calendar
from st_pipeline.registry import BACKBONES, GRAPHS, READERS, STRATEGIES, Registry

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
VARIABLE = re.compile(r"[^\W\d]\w{0,62}")
UNITS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86400}
READING_COLUMNS = ("sensor_id", "timestamp", "received")
SENSOR_COLUMNS = ("sensor_id", "latitude", "longitude", "x", "y", "installed", "retired", "valid_from", "name")
EDGE_COLUMNS = ("source", "target", "distance", "weight")
RESERVED = {*READING_COLUMNS, *SENSOR_COLUMNS, *EDGE_COLUMNS}
MADE = {"after", "before", "copy", "file", "first", "level", "near", "row", "second", "skipped", "step", "turn"}
NAIVE_MODELS = ("naive_last", "naive_daily", "naive_weekly", "historical_average")
ASSETS = {"raw_files", "sensors", "edges", "raw_readings", "readings", "node_set", "tensor", "adjacency", "drift"}
RESULTS = {"naive", "evaluation", "forecast", "leaderboard", "report"}
MOST_PERIODS = 5_000
YEARS = range(1900, 2200)
NO_PLACES = {"Factory", "localtime"}  # names of the time zone database that say nothing


def parse_duration(value: Any) -> timedelta:
    """`5min`, `1h`, `7d` or `30s` as a timedelta."""
    if isinstance(value, timedelta):
        return value
    match = re.fullmatch(r"([0-9]{1,9})\s*(s|min|m|h|d)", value.strip()) if isinstance(value, str) else None
    if not match or int(match[1]) == 0:
        raise ValueError("expected a duration such as '5min', '1h' or '7d'")
    return timedelta(seconds=int(match[1]) * UNITS[match[2]])


def parse_rank(value: Any) -> Any:
    """The rank of node prompts as it is given."""
    if value == "full" or (type(value) is int and value >= 1):
        return value
    raise ValueError("expected a whole number of at least 1, or full")


def check_name(value: str) -> str:
    if not NAME.fullmatch(value):
        raise ValueError("expected lower-case letters, digits and underscores, starting with a letter, at most 63")
    return value


def as_spec(value: Any) -> Any:
    """`stgnn` as `{name: stgnn}`."""
    return {"name": value} if isinstance(value, str) else value


def check_variable(value: str) -> str:
    if not VARIABLE.fullmatch(value):
        raise ValueError(f"{value[:40]!r} cannot be the name of a variable; expected letters, digits and underscores")
    if value in MADE or value.endswith(("_flag", "_conflict", "_level")):
        raise ValueError(f"{value!r} is a column that the pipeline makes itself; choose another name for the variable")
    return value


def fault(message: str, field: str | None) -> PydanticCustomError:
    """A validation error about one key of the section that is being checked."""
    return PydanticCustomError("fault", "{message}", {"message": message, "field": field})


Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Whole = Annotated[int, Field(strict=True)]
Seed = Annotated[int, Field(strict=True, ge=0, lt=2**63)]
Rank = Annotated[int | Literal["full"], BeforeValidator(parse_rank)]
Switch = Annotated[bool, Field(strict=True)]
Name = Annotated[
    str, Field(strict=True), BeforeValidator(lambda value: check_name(value) if isinstance(value, str) else value)
]


class Part(BaseModel):
    """Base of every section: unknown keys are errors, values cannot be changed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class OpenPart(BaseModel):
    """A section whose further keys are the options of a registered entry, checked against that entry."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def spec(self) -> dict[str, Any]:
        """The entry's name and options, as `Registry.build` takes them."""
        raise NotImplementedError

    def _check(self, registry: Registry[Any]) -> Self:
        if "name" in (self.model_extra or {}):
            raise fault("there is no such key", "name")
        try:
            registry.validate(self.spec())
        except InputError as error:
            raise fault(str(error), error.field) from None
        return self


class SourceConfig(OpenPart):
    """Where the raw files lie and how they are written; further keys are options of the format's reader."""

    format: str
    columns: dict[str, str] = Field(default_factory=dict, description="our name -> the file's column")
    interval: Literal["start", "end"] = Field("start", description="which end of its interval a timestamp labels")
    tolerance: Duration | None = Field(None, description="a timestamp this near a step belongs to it")

    @field_validator("columns")
    @classmethod
    def _names(cls, value: dict[str, str]) -> dict[str, str]:
        for name in value.keys() - RESERVED:
            try:
                check_variable(name)
            except ValueError as error:
                raise fault(str(error), name) from None
        return value

    @property
    def variables(self) -> list[str]:
        """Variables that the columns give, in their order; one called `value` if they name none."""
        return [name for name in self.columns if name not in RESERVED] or ["value"]

    def spec(self) -> dict[str, Any]:
        return {"name": self.format, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _options(self) -> Self:
        return self._check(READERS)


class GraphConfig(OpenPart):
    """How the adjacency is made; further keys are options of the recipe."""

    recipe: str = "gaussian"

    def spec(self) -> dict[str, Any]:
        return {"name": self.recipe, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _options(self) -> Self:
        return self._check(GRAPHS)


class BackboneConfig(OpenPart):
    """A backbone by name; further keys are its options."""

    name: str

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _options(self) -> Self:
        return self._check(BACKBONES)


class StrategyConfig(OpenPart):
    """A strategy by name; further keys are its options."""

    name: str

    def spec(self) -> dict[str, Any]:
        return {"name": self.name, **(self.model_extra or {})}

    @model_validator(mode="after")
    def _options(self) -> Self:
        return self._check(STRATEGIES)


class PeriodsConfig(Part):
    """`every`: year, half-year, quarter, month, week or N days (`28d`); without `end` the stream is open-ended."""

    every: str
    start: date
    end: date | None = None
    nominal: Switch = Field(False, description="the source has no dates: timestamps are made from the period starts")

    @field_validator("start", "end", mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        """`2012` and `2012-07` are days too, as in period keys."""
        if value is None or type(value) is date:
            return value
        match = re.fullmatch(r"([0-9]{4})(?:-([0-9]{2}))?(?:-([0-9]{2}))?", str(value))
        try:
            return date(*(int(part or 1) for part in match.groups())) if match else date.fromisoformat("")
        except ValueError:
            raise ValueError("expected a day such as 2024-01-31") from None

    @field_validator("start", "end")
    @classmethod
    def _year(cls, value: date | None) -> date | None:
        if value is not None and value.year not in YEARS:
            raise ValueError(f"expected a day between the years {YEARS[0]} and {YEARS[-1]}")
        return value

    @model_validator(mode="after")
    def _boundaries(self) -> Self:
        try:
            cadence = Cadence.parse(self.every)
        except InputError as error:
            raise ValueError(str(error)) from None
        if cadence.months and self.start.day > 28:
            raise ValueError(f"start {self.start} does not exist in every month; expected a day up to 28")
        last = self.end or date.today()
        if (last - self.start).days > MOST_PERIODS * (cadence.days or 28 * cadence.months):
            found = f"{self.every} from {self.start} to {self.end or 'today'}"
            raise ValueError(f"{found} makes over {MOST_PERIODS:,} periods; expected longer ones or a later start")
        if self.end is None:
            return self
        if self.end <= self.start:
            raise ValueError(f"end {self.end} is not after start {self.start}")
        index = 1
        while cadence.start_of(self.start, index) < self.end:
            index += 1
        if (boundary := cadence.start_of(self.start, index)) != self.end:
            before = cadence.start_of(self.start, index - 1)
            raise ValueError(f"end {self.end} is inside a period; expected a period boundary: {before} or {boundary}")
        return self


class VariableConfig(Part):
    """Quality rules of one variable; a rule left out is not applied."""

    unit: str = ""
    sentinels: tuple[Number, ...] = Field((), description="numbers that stand for no measurement")
    minimum: Number | None = None
    maximum: Number | None = None
    stuck: Duration | None = Field(None, description="the same non-zero value for at least this long is stuck")
    stuck_at_zero: Duration | None = Field(None, description="zeros for at least this long are stuck")
    spike: Number | None = Field(None, gt=0, description="a lone value this many robust deviations away is a spike")

    @model_validator(mode="after")
    def _range(self) -> Self:
        if self.minimum is not None and self.maximum is not None and self.minimum >= self.maximum:
            raise ValueError(f"minimum {self.minimum} is not below maximum {self.maximum}")
        return self


class LivesConfig(Part):
    """When a sensor leaves the network without a retirement date in the sensor table."""

    retire_after: Whole | None = Field(None, ge=1, description="retired after this many whole periods of silence")


class GateConfig(Part):
    """Thresholds of the data-quality gate, as shares of 1."""

    critical_missing: Number = Field(0.95, gt=0, le=1, description="of the network's cells")
    critical_faulty: Number = Field(0.5, gt=0, le=1, description="of the network's landed cells")
    warn_missing: Number = Field(0.5, gt=0, le=1, description="of one sensor's cells")
    warn_faulty: Number = Field(0.1, gt=0, le=1, description="of one sensor's landed cells")


class SplitConfig(Part):
    """Shares of a period's time axis, in this order."""

    train: Number = Field(0.6, gt=0, lt=1)
    validation: Number = Field(0.2, gt=0, lt=1)
    test: Number = Field(0.2, gt=0, lt=1)

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if abs(self.train + self.validation + self.test - 1) > 1e-9:
            raise ValueError(f"train, validation and test sum to {self.train + self.validation + self.test:g}, not 1")
        return self


class PromptPoolConfig(Part):
    """Node prompts P = A B of rank k, or with `full` a table P of its own, without factors."""

    rank: Rank = 6

    @property
    def factors(self) -> int | None:
        """k; None for a full table."""
        return None if self.rank == "full" else self.rank


class LoraConfig(Part):
    """Low-rank adapters of rank r, one for each period after the first."""

    rank: Whole = Field(6, ge=1)
    place: Literal["weights", "hidden"] = Field("weights", description="every linear layer, or the hidden features")


class ScalingConfig(Part):
    """Standardisation of the target in protocol `sound`; statistics come from the training split alone."""

    per: Literal["network", "sensor"] = "sensor"
    transform: Literal["none", "sqrt", "log"] = "none"


class TrainingConfig(Part):
    """Overrides of the protocol's training settings; a setting left out keeps the protocol's value."""

    epochs: Whole | None = Field(None, ge=1)
    batch: Whole | None = Field(None, ge=1)
    learning_rate: Number | None = Field(None, gt=0)
    weight_decay: Number | None = Field(None, ge=0)
    patience: Whole | None = Field(None, ge=0)
    loss: Literal["mae", "mse"] | None = None
    stride: Whole | None = Field(None, ge=1, description="train on every n-th window")
    decay: Literal["none", "cosine"] | None = None
    share: Number | None = Field(None, gt=0, lt=1, description="train on this share of a period, its first steps")


class ModelConfig(Part):
    """Backbone + wrappers + strategy + training settings."""

    name: Name
    backbone: Annotated[BackboneConfig, BeforeValidator(as_spec)]
    lora: LoraConfig | None = None
    prompt_pool: PromptPoolConfig | None = None
    strategy: Annotated[StrategyConfig, BeforeValidator(as_spec)]
    protocol: Literal["sound", "paper"] = "sound"
    seasonal: tuple[Duration, ...] = Field((), description="lags whose values enter the window, e.g. [7d, 14d]")
    scaling: ScalingConfig = ScalingConfig()
    training: TrainingConfig = TrainingConfig()
    seed: Seed = 1
    seeds: tuple[Seed, ...] = Field((), max_length=100, description="trained once with each, instead of with `seed`")

    @property
    def runs(self) -> tuple[int, ...]:
        """The seeds that the model is trained with."""
        return self.seeds or (self.seed,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that the model really has, the backbone first."""
        return ("backbone", *(name for name in ("lora", "prompt_pool") if getattr(self, name)))

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in {*NAIVE_MODELS, *ASSETS, *RESULTS}:
            raise ValueError(f"a model cannot be called {self.name!r}: the pipeline uses that name itself")
        if self.protocol == "paper" and (self.seasonal or self.scaling != ScalingConfig()):
            raise ValueError("protocol 'paper' has its own scaling and no seasonal inputs; leave both out")
        if self.seeds and "seed" in self.model_fields_set:
            raise ValueError("both 'seed' and 'seeds' are given; give one of them")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {list(self.seeds)}; expected each once")
        return self


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

    @property
    def calendar(self) -> Calendar:
        periods = self.periods
        return Calendar(Cadence.parse(periods.every), periods.start, periods.end, self.timezone, periods.nominal)

    @property
    def shown_model(self) -> str:
        """The model shown in detail: the champion, the first one if none is named, empty if there are none."""
        return self.champion or next((model.name for model in self.models), "")

    @property
    def steps_per_day(self) -> int:
        return round(timedelta(days=1) / self.step)

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
        for model in self.models:
            if model.name == name:
                return model
        raise InputError(f"stream {self.name!r} has no model {name!r}; {closest(name, [m.name for m in self.models])}")

    def model_section(self, model: ModelConfig) -> list[Any]:
        """Everything in the stream file that the trained parts of a model depend on."""
        fields = {"name", "step", "timezone", "window", "horizon", "split", "target", "inputs"}
        return [self.model_dump(mode="json", include=fields), model.model_dump(mode="json")]

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
        models = [model.name for model in self.models]
        if twice := {name for name in models if models.count(name) > 1}:
            raise fault(f"two models are called {min(twice)!r}; expected one of each name", "models")
        if self.champion and self.champion not in models:
            raise fault(f"{self.champion!r} is no model of the stream; {closest(self.champion, models)}", "champion")
        self._check_models()
        return self

    def _check_models(self) -> None:
        for model in self.models:
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
