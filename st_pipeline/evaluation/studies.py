"""Studies: what one setting of a model, or a few changes together, do to its error and its cost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.protocols import PROTOCOLS
from st_pipeline.errors import InputError
from st_pipeline.evaluation.cost_ledger import costs
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.model_config import ModelConfig
from st_pipeline.registry import BACKBONES, STRATEGIES
from st_pipeline.study_config import StudyConfig
from st_pipeline.training.settings import Settings

UNCHANGED = "unchanged"  # the base's value where the variants are named cases
OPTIONS = {"backbone": BACKBONES, "strategy": STRATEGIES}
ERRORS = {
    "value": pl.String,
    "model": pl.String,
    "seed": pl.Int64,
    "period": pl.String,
    "mae": pl.Float64,  # published average, right after learning the period
    "rmse": pl.Float64,  # steps 1..H
}
STUDY = {
    "study": pl.String,
    "key": pl.String,
    "value": pl.String,
    "model": pl.String,
    "seeds": pl.Int64,
    "periods": pl.Int64,
    "mae": pl.Float64,
    "mae_std": pl.Float64,  # standard deviation over the seeds of their means over periods
    "rmse": pl.Float64,
    "trainable": pl.Float64,  # parameters that a later period trains
    "tuned_share": pl.Float64,  # the same over all parameters, from 0 to 1
    "seconds": pl.Float64,  # of a later period's training
}


def study_models(config: StreamConfig, study: StudyConfig) -> list[tuple[str, ModelConfig]]:
    """Value of the varied key, as text, and the model that has it: the base first, then the variants."""
    base = config.model(study.of)
    own = value_in(config, base, study.key) if study.vary else UNCHANGED
    variants = config.studied[study.name].items()
    return [(_text(own), base), *((_text(value), model) for value, model in variants)]


def value_in(config: StreamConfig, model: ModelConfig, key: str) -> Any:
    """What a model has at a dotted key of its entry, or by default where the entry does not say; None without one."""
    section, _, rest = key.partition(".")
    if section in OPTIONS:
        spec = getattr(model, section).spec()
        options = OPTIONS[section].options(spec["name"]).model_fields
        return spec.get(rest or "name", options[rest].default if rest in options else None)
    if section == "training":
        name = rest.removeprefix("later.")
        settings = vars(Settings.of(PROTOCOLS[model.protocol], model.training, index=int(name != rest)))
        whole = config.split.train if name == "share" else None
        return whole if settings.get(name) is None else settings[name]
    found: Any = model.model_dump(mode="json")
    for part in key.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found


def study_errors(
    config: StreamConfig, study: StudyConfig, scores: Mapping[str, Mapping[str, pl.DataFrame]]
) -> pl.DataFrame:
    """One row per model, seed and period right after learning it: columns `ERRORS`, the base first.

    Only periods in which every scored model of the study has scores, so that means over them can be compared.

    Args:
        scores: model -> period -> tidy rows of its evaluation; a model or period may be left out.

    Raises:
        InputError: no period has scores.
    """
    frames = [
        _diagonal(frame, config.horizon).with_columns(value=pl.lit(value))
        for value, model in study_models(config, study)
        for _, frame in sorted(scores.get(model.name, {}).items())
    ]
    rows = pl.concat(frames) if frames else pl.DataFrame(schema=ERRORS)
    models = rows["model"].n_unique()
    shared = rows.group_by("period").agg(pl.col("model").n_unique()).filter(pl.col("model") == models)["period"]
    if not len(shared):
        raise InputError(
            f"study {study.name!r} of stream {config.name!r}: no period has scores of its models; "
            f"run `st-pipeline run {config.name} --studies`"
        )
    return rows.filter(pl.col("period").is_in(shared.implode())).select(*ERRORS)


def study_table(
    config: StreamConfig,
    study: StudyConfig,
    errors: pl.DataFrame,
    diagnostics: Mapping[str, Mapping[str, Mapping[str, Any]]],
) -> pl.DataFrame:
    """One row per model of the study, the base first: columns `STUDY`. Without scores or costs they are null.

    Args:
        errors: of `study_errors`; errors are means over its periods and seeds.
        diagnostics: model -> period -> diagnostics; costs are means over those periods but the stream's first.
    """
    first = config.calendar.period(0).key
    later = (pl.col("period") != first) & pl.col("period").is_in(errors["period"].unique().implode())
    rows = []
    for value, model in study_models(config, study):
        own = errors.filter(pl.col("model") == model.name)
        by_seed = own.group_by("seed").agg(pl.col("mae", "rmse").mean())
        cost = costs({model.name: diagnostics.get(model.name, {})}).filter(later)
        row: dict[str, Any] = {"study": study.name, "key": study.key, "value": value, "model": model.name}
        row |= {"seeds": len(by_seed), "periods": own["period"].n_unique()}
        row |= {"mae": by_seed["mae"].mean(), "mae_std": by_seed["mae"].std(), "rmse": by_seed["rmse"].mean()}
        row |= {"trainable": cost["trainable"].mean(), "seconds": cost["seconds"].mean()}
        rows.append({**row, "tuned_share": (cost["trainable"] / cost["parameters"]).mean()})
    return pl.DataFrame(rows, schema=STUDY)


def _diagonal(scores: pl.DataFrame, horizon: int) -> pl.DataFrame:
    """Errors of one period's evaluation on the period it has just learned, all sensors: a row per seed."""
    newest = scores.filter((pl.col("trained_through") == pl.col("period")) & (pl.col("cohort") == "all"))

    def errors(metric: str, label: str) -> pl.DataFrame:
        chosen = newest.filter((pl.col("metric") == metric) & (pl.col("horizon") == label))
        return chosen.select("model", "seed", "period", pl.col("value").alias(metric))

    rmse = errors("rmse", f"upto:{horizon}")
    both = errors("mae", PUBLISHED).join(rmse, on=["model", "seed", "period"], how="left", maintain_order="left")
    return both.drop_nulls("mae")


def _text(value: Any) -> str:
    """A value as a stream file writes it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)
