"""Our errors beside the published ones, where a stream of ours has results."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from st_pipeline.config import StreamConfig
from st_pipeline.data.protocols import PAPER
from st_pipeline.evaluation.published import Row, published_setting, published_streams
from st_pipeline.model_config import ModelConfig
from st_pipeline.training.settings import Settings


@dataclass(frozen=True)
class Results:
    """What one of our streams has.

    Attributes:
        scores: its leaderboard; None where it has none.
        seconds: model -> seconds of training over all periods.
    """

    config: StreamConfig
    scores: pl.DataFrame | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Compared:
    """A published number and ours, or why there is none, and what else to know."""

    row: Row
    ours: float | None = None
    model: str | None = None
    seeds: int | None = None
    reasons: tuple[str, ...] = ()

    @property
    def reason(self) -> str:
        """All of them in one line."""
        return "; ".join(self.reasons)

    @property
    def difference(self) -> float | None:
        """Ours minus published."""
        return None if self.ours is None or self.row.value is None else self.ours - self.row.value


def compare(
    rows: Iterable[Row], results: Mapping[str, Results] | None = None, faults: Mapping[str, str] | None = None
) -> list[Compared]:
    """Every row with the number of our stream under protocol `paper`.

    Ours is the mean over the seeds and over the periods, each tested right after it was learned. Where a stream has
    no model with the settings of the published run, the model called as the method, or that with `_paper` behind it,
    is taken, and what differs is said; not so where the row is about such a setting (`changes`).

    Args:
        results: by our name of the stream; those that are loaded.
        faults: what is wrong with streams that cannot be loaded, by their name.
    """
    return [_compared(row, results or {}, faults or {}) for row in rows]


def models_of(rows: Iterable[Row], config: StreamConfig) -> tuple[str, ...]:
    """Models of a stream whose results stand beside the rows, methods it only compares with among them."""
    own = [row for row in rows if published_streams()[row.stream].ours == config.name]
    chosen = (_chosen(row, _configured(config), config) for row in own)
    return tuple(dict.fromkeys(name for name in chosen if name))


def _compared(row: Row, results: Mapping[str, Results], faults: Mapping[str, str]) -> Compared:
    archive = published_streams()[row.stream]
    found = results.get(archive.ours)
    if row.method is None:
        return Compared(row, reasons=_all(row, "st_pipeline/methods.yaml has no entry for it"))
    if archive.ours in faults:
        return Compared(row, reasons=_all(row, faults[archive.ours]))
    if found is None:
        missing = f"no stream called {archive.ours}: the archive {row.stream} is not public in a repository"
        return Compared(row, reasons=_all(row, missing, "see docs/user-guide.md to add it"))
    own = found.scores.filter(pl.col("protocol") == PAPER.name) if found.scores is not None else None
    name = None if own is None else _chosen(row, own["model"].unique(maintain_order=True).to_list(), found.config)
    if own is None or name is None:
        absent = f"the stream {archive.ours} has no row of {_described(row)} under protocol {PAPER.name}"
        hint = "add --run" if _chosen(row, _configured(found.config), found.config) else "add such a model to its file"
        return Compared(row, reasons=_all(row, absent, hint))
    return _beside(row, name, own.filter(pl.col("model") == name), found)


def _beside(row: Row, name: str, scores: pl.DataFrame, found: Results) -> Compared:
    """The number of a model's own rows."""
    means = _by_period(row, scores, found.config)
    mean = sum(means.values()) / len(means) if means else None
    ours = found.seconds.get(name) if row.metric == "seconds" else mean
    if ours is None:
        where = "" if row.metric == "seconds" else f" {row.horizon}"
        when = "" if row.period is None else f" of period {row.period + 1}"
        return Compared(row, model=name, reasons=_all(row, f"{name} has no {row.metric}{where}{when}"))
    notes = _notes(row, name, found.config, len(means))
    return Compared(row, ours, name, scores["seed"].n_unique(), _all(row, *notes))


def _by_period(row: Row, scores: pl.DataFrame, config: StreamConfig) -> dict[str, float]:
    """Period -> mean over the seeds, right after learning it; only the row's own period where it has one."""
    chosen = scores.filter(
        (pl.col("trained_through") == pl.col("period"))
        & (pl.col("cohort") == "all")
        & (pl.col("metric") == ("mae" if row.metric == "seconds" else row.metric))
        & (pl.col("horizon") == row.horizon)
        & pl.col("value").is_not_null()
    )
    if row.period is not None:
        chosen = chosen.filter(pl.col("period") == config.calendar.period(row.period).key)
    return dict(chosen.group_by("period").agg(pl.col("value").mean()).sort("period").iter_rows())


def _notes(row: Row, name: str, config: StreamConfig, periods: int) -> Iterator[str]:
    """What makes the two numbers differ by more than chance."""
    models = {model.name: model for model in config.every_model}
    if name not in models:
        yield f"{name} is not in the stream's file any more"
    setting = published_setting()
    others = [key for key in setting if config.model_dump(include={key})[key] != setting[key]]
    others += _differences(models[name], row.config()) if name in models else []
    if others:
        yield f"other settings than the published run: {', '.join(others)}"
    expected = len(published_streams()[row.stream].nodes)
    if row.period is None and periods != expected:
        yield f"{periods} of {expected} periods"
    if row.metric in ("mae", "rmse") and row.horizon.startswith("upto"):
        yield "ours counts targets of zero, the published number does not"
    if row.metric == "seconds":
        yield "seconds of another machine"


def _configured(config: StreamConfig) -> list[str]:
    """Models of the stream's file under protocol `paper`."""
    return [model.name for model in config.every_model if model.protocol == PAPER.name]


def _chosen(row: Row, names: Sequence[str], config: StreamConfig) -> str | None:
    """Of the named models the one that is the published run."""
    if row.method is None:
        return None
    wanted = row.config()
    models = {model.name: model for model in config.every_model}
    same = [name for name in names if name in models and not _differences(models[name], wanted)]
    alike = [] if row.changes else [name for name in (row.method, f"{row.method}_{PAPER.name}") if name in names]
    return next(iter([*same, *alike]), None)


def _differences(one: ModelConfig, other: ModelConfig) -> list[str]:
    """Sections of two model entries that do not say the same; name and seeds do not count."""
    first, second = _settings(one), _settings(other)
    return [key for key in first if first[key] != second[key]]


def _settings(model: ModelConfig) -> dict[str, Any]:
    document = model.model_dump(mode="json", exclude={"name", "seed", "seeds", "training"})
    training = [Settings.of(PAPER, model.training, index=index) for index in (0, 1)]
    return {**document, "training": training}


def _described(row: Row) -> str:
    """The method, with what the published run changed in it."""
    changed = [f"{section}.{key} {value}" for section, part in row.changes.items() for key, value in part.items()]
    return f"{row.method} with {', '.join(changed)}" if changed else str(row.method)


def _all(row: Row, *reasons: str) -> tuple[str, ...]:
    """The reasons, and what holds for the published number itself."""
    unknown = "the published number is not on hand" if row.value is None else ""
    return tuple(reason for reason in (*reasons, unknown, row.note) if reason)
