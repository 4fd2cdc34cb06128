"""What a stream file says of its models, and of methods to compare them with."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import BeforeValidator, Field, field_validator, model_validator

from st_pipeline.errors import closest
from st_pipeline.fields import Duration, Name, Number, OpenPart, Part, Rank, Seed, Switch, Whole, as_spec, fault
from st_pipeline.registry import BACKBONES, BASELINES, STRATEGIES, VIEWS

NAIVE_MODELS = ("naive_last", "naive_daily", "naive_weekly", "historical_average")
ASSETS = {
    "raw_files",
    "sensors",
    "edges",
    "raw_readings",
    "readings",
    "node_set",
    "tensor",
    "adjacency",
    "drift",
    "advice",
}
WRAPPERS = ("lora", "prompt_pool", "relearner", "seasonal_skip")
RESULTS = {
    "naive",
    "champion",
    "evaluation",
    "forecast",
    "forecast_scores",
    "leaderboard",
    "report",
    "comparison",
    "study",
}


@cache
def reference_models() -> tuple[str, ...]:
    """Models that are no entries of `models`: the naive forecasts, and every baseline that there is."""
    return (*NAIVE_MODELS, *BASELINES.names())


class BackboneConfig(OpenPart):
    """A backbone by name; further keys are its options."""

    registry = BACKBONES

    name: str


class StrategyConfig(OpenPart):
    """A strategy by name; further keys are its options."""

    registry = STRATEGIES

    name: str


class BaselineConfig(OpenPart):
    """A statistical baseline by name; further keys are its options."""

    registry = BASELINES

    name: str


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


class LabelEncoderConfig(Part):
    """Weights of the losses that labels make in training beside that of the forecast."""

    base: Number = Field(0.5, ge=0, description="of the forecast without correction")
    inverse: Number = Field(0.1, ge=0, description="of the embedding that the inverse map finds for encoded labels")
    residual: Number = Field(0.1, ge=0, description="of the smoothed residual against that of encoded labels")


class RelearnerConfig(Part):
    """A second pass over what the first cannot explain, smoothed over the network and added to the forecast."""

    reads: Literal["residual", "embedding", "stacked"] = Field(
        "residual", description="what the second pass reads: `stacked` is the control of capacity and depth"
    )
    share_core: Switch = Field(True, description="both passes have the same parameters, or the second a copy")
    cores: Whole = Field(0, ge=0, description="of an inverse map that takes common and own features apart; 0: a plain")
    dropout: Number = Field(0.3, ge=0, lt=1, description="of an inverse map with cores")
    layers: Whole = Field(2, ge=0, description="of the smoothing; 0 for none")
    kernels: tuple[Literal["adaptive", "adjacency", "reversed"], ...] = Field(("adaptive",), min_length=1)
    rank: Whole = Field(10, ge=1, description="of the adaptive kernel")
    gate_by: Literal["source", "target"] = "source"
    hidden: Whole = Field(256, ge=1, description="width of the layer that reads the smoothed residual")
    zero_init: Switch = Field(True, description="start as the model without correction")
    label_encoder: LabelEncoderConfig | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len(set(self.kernels)) < len(self.kernels):
            raise fault(f"kernels are {list(self.kernels)}; expected each once", "kernels")
        if self.label_encoder and self.reads == "embedding":
            raise fault("labels teach the inverse map, and `reads: embedding` has none; leave one out", "label_encoder")
        return self


class ScalingConfig(Part):
    """Standardisation of the target in protocol `sound`; statistics come from the training split alone."""

    per: Literal["network", "sensor"] = "sensor"
    transform: Literal["none", "sqrt", "log"] = "none"


class LaterConfig(Part):
    """Settings of the periods after the first, in place of those that hold for all."""

    epochs: Whole | None = Field(None, ge=1)
    learning_rate: Number | None = Field(None, gt=0)
    weight_decay: Number | None = Field(None, ge=0)
    patience: Whole | None = Field(None, ge=0)
    stride: Whole | None = Field(None, ge=1, description="train on every n-th window")
    decay: Literal["none", "cosine", "steps"] | None = None
    milestones: tuple[Whole, ...] | None = Field(None, description="epochs after which `steps` lowers the rate")
    factor: Number | None = Field(None, gt=0, lt=1, description="what `steps` multiplies the rate with, or 0.1")
    clip: Number | None = Field(None, gt=0, description="largest norm of all gradients together")

    @model_validator(mode="after")
    def _steps(self) -> Self:
        if bool(self.milestones) != (self.decay == "steps"):
            raise ValueError("'decay: steps' and 'milestones', epochs in rising order, go together; give both or none")
        if list(self.milestones or ()) != sorted(set(self.milestones or ())) or 0 in (self.milestones or ()):
            raise ValueError(f"milestones are {list(self.milestones or ())}; expected epochs from 1 on, rising")
        if self.factor is not None and not self.milestones:
            raise ValueError("'factor' is that of 'decay: steps'; give its milestones or leave it out")
        return self


class TrainingConfig(LaterConfig):
    """Overrides of the protocol's training settings; a setting left out keeps the protocol's value."""

    batch: Whole | None = Field(None, ge=1)
    loss: Literal["mae", "mse", "huber"] | None = Field(None, description="`huber` turns at one unit of readings")
    later: LaterConfig | None = None
    share: Number | None = Field(None, gt=0, lt=1, description="train on this share of a period, its first steps")


class ModelConfig(Part):
    """Backbone + wrappers + strategy + training settings."""

    name: Name
    backbone: Annotated[BackboneConfig, BeforeValidator(as_spec)]
    lora: LoraConfig | None = None
    prompt_pool: PromptPoolConfig | None = None
    relearner: RelearnerConfig | None = None
    strategy: Annotated[StrategyConfig, BeforeValidator(as_spec)]
    protocol: Literal["sound", "paper"] = "sound"
    seasonal: tuple[Duration, ...] = Field((), description="lags whose values enter the window, e.g. [7d, 14d]")
    seasonal_skip: Switch | None = Field(None, description="a mixture of these is added, and the model learns the rest")
    scaling: ScalingConfig = ScalingConfig()
    training: TrainingConfig = TrainingConfig()
    seed: Seed = 1
    seeds: tuple[Seed, ...] = Field((), max_length=100, description="trained once with each, instead of with `seed`")

    @field_validator("seasonal_skip")
    @classmethod
    def _none_for_false(cls, value: bool | None) -> bool | None:
        return value or None

    @property
    def runs(self) -> tuple[int, ...]:
        """The seeds that the model is trained with."""
        return self.seeds or (self.seed,)

    @property
    def parts(self) -> tuple[str, ...]:
        """Parts that the model really has, the backbone first."""
        return ("backbone", *(name for name in WRAPPERS if getattr(self, name)))

    @property
    def views(self) -> tuple[str, ...]:
        """What there is to show of its insides: views of its backbone and of its other parts, by their names."""
        own = {self.backbone.name, *self.parts}
        return tuple(name for name in VIEWS.names() if name in own)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.name in {*reference_models(), *ASSETS, *RESULTS}:
            raise ValueError(f"a model cannot be called {self.name!r}: the pipeline uses that name itself")
        if self.protocol == "paper" and (self.seasonal or self.scaling != ScalingConfig()):
            raise ValueError("protocol 'paper' has its own scaling and no seasonal inputs; leave both out")
        if self.seasonal_skip and not self.seasonal:
            raise fault("there is no season to mix; give `seasonal` lags, e.g. [7d], or leave it out", "seasonal_skip")
        if self.lora and self.relearner and not self.relearner.share_core:
            raise ValueError("adapters do not reach a second core: leave out 'lora', or 'relearner.share_core: false'")
        if self.seeds and "seed" in self.model_fields_set:
            raise ValueError("both 'seed' and 'seeds' are given; give one of them")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds are {list(self.seeds)}; expected each once")
        return self


@cache
def methods() -> dict[str, dict[str, Any]]:
    """Every method of the field that is shipped, by name, as a model entry: `st_pipeline/methods.yaml`."""
    entries = yaml.safe_load(files("st_pipeline").joinpath("methods.yaml").read_text(encoding="utf-8"))
    return {entry["name"]: entry for entry in entries}


class CompareConfig(Part):
    """Methods of the field that are trained beside the stream's models, when a comparison is asked for.

    `methods` are names of `st_pipeline/methods.yaml`; `training` goes over each one's own settings.
    """

    methods: Literal["all"] | tuple[str, ...] = "all"
    seeds: tuple[Seed, ...] = Field((1,), min_length=1, max_length=100)
    training: TrainingConfig = TrainingConfig()

    @field_validator("methods")
    @classmethod
    def _known(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in () if isinstance(value, str) else value:
            if name not in methods():
                raise ValueError(f"there is no method {name!r}; {closest(name, methods())}")
        return value

    def models(self) -> tuple[ModelConfig, ...]:
        """A model entry for each method."""
        chosen = methods() if self.methods == "all" else {name: methods()[name] for name in self.methods}
        over = self.training.model_dump(mode="json", exclude_unset=True)
        return tuple(
            ModelConfig.model_validate(
                {**entry, "seeds": self.seeds, "training": {**entry.get("training", {}), **over}}
            )
            for entry in chosen.values()
        )
