"""What the lake holds of the models of one or several streams, as numbers for a page or a program."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from st_pipeline.benches import BARE, CONTROL, RELEARNER, VARIANTS, model_name
from st_pipeline.config import StreamConfig
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.positions import Positions, positions_at
from st_pipeline.data.protocols import SOUND
from st_pipeline.errors import InputError
from st_pipeline.evaluation.cost_ledger import costs_by_model, ledger
from st_pipeline.evaluation.counterfactual import Counterfactual, counterfactual, retrained_model
from st_pipeline.evaluation.drill import DRILL_SCHEMA, drill_summary
from st_pipeline.evaluation.leaderboard import summary
from st_pipeline.evaluation.losses import incomparable, mean_over_seeds, newest
from st_pipeline.evaluation.period_matrix import PeriodMatrix
from st_pipeline.evaluation.rows import PUBLISHED
from st_pipeline.evaluation.significance import friedman, nemenyi_difference
from st_pipeline.evaluation.transfer import BASELINE, horizon_labels, transfer_table
from st_pipeline.evaluation.universality import UNIVERSALITY, universality_table
from st_pipeline.reporting.insight import insight_means
from st_pipeline.storage import FRAME, JSON, lake

REPEATS = 500  # of the bootstrap: enough for a standard error to some 3 %
COMPARED = ("relative", "relative_low", "relative_high", "mark")


@dataclass(frozen=True)
class Inside:
    """What a model had learned after a period: rows of its `insight`, and where the period's sensors were."""

    period: str
    rows: pl.DataFrame
    places: Positions


@dataclass(frozen=True)
class StreamResults:
    """Results of one stream; `rows` hold the champion's protocol first, each protocol's best model first."""

    config: StreamConfig
    rows: list[dict[str, Any]]
    ledger: pl.DataFrame
    counterfactual: Counterfactual | None
    transfer: pl.DataFrame  # of the champion
    studies: dict[str, pl.DataFrame]
    drill: pl.DataFrame
    notes: tuple[str, ...]
    inside: Inside | None = None  # of the champion, after the newest period that is stored

    @property
    def name(self) -> str:
        return self.config.name

    @property
    def periods(self) -> int:
        """Scored periods, of the model that has most."""
        return max(row["periods"] for row in self.rows)

    def document(self) -> dict[str, Any]:
        """Everything as JSON can hold it."""
        found = self.counterfactual
        return {
            "stream": self.name,
            "champion": self.config.shown_model,
            "rows": self.rows,
            "ledger": self.ledger.to_dicts(),
            "counterfactual": found and {**vars(found), "saved": found.saved, "sentence": found.sentence},
            "transfer": self.transfer.to_dicts(),
            "studies": {name: frame.to_dicts() for name, frame in self.studies.items()},
            "drill": self.drill.to_dicts(),
            "inside": self.inside and {"period": self.inside.period, **insight_means(self.inside.rows)},
            "notes": self.notes,
        }


@dataclass(frozen=True)
class Ranks:
    """Mean ranks of models over streams by error, the Friedman test, and Nemenyi's critical difference at 5 %."""

    streams: int
    mean_ranks: dict[str, float]
    statistic: float
    p_value: float
    difference: float


def has_results(config: StreamConfig) -> bool:
    """Whether the lake has a leaderboard of the stream."""
    return lake().exists((config.name, "leaderboard"), None, FRAME)


def read_results(config: StreamConfig) -> StreamResults:
    """Everything that the lake holds of a stream's models; variants of a study that is stored are in it alone.

    Raises:
        InputError: there is no leaderboard, or a file is damaged.
    """
    name = config.name
    if not has_results(config) or not len(scores := _frame(name, "leaderboard")):
        raise InputError(f"stream {name!r} has no results yet; run `st-pipeline run {name}` first")
    studies = {study.name: frame for study in config.studies if len(frame := _frame(name, "study", study.name))}
    variants = [model.name for study in studies for model in config.studied[study].values()]
    scores = scores.filter(~pl.col("model").is_in(variants))
    book = ledger(_diagnostics(config), scores)
    rows, unmarked = _rows(config, scores, book)
    against, unheld = _counterfactual(config, book)
    transfer, unsure = _transfer(config, scores)
    notes = (*unmarked, *unheld, *unsure)
    return StreamResults(config, rows, book, against, transfer, studies, _drill(config), notes, _inside(config))


def read_universality(config: StreamConfig) -> pl.DataFrame:
    """The table of a universality bench: columns `UNIVERSALITY`; without rows where nothing is scored.

    Raises:
        InputError: rows may not be compared, or a file is damaged.
    """
    if not has_results(config):
        return pl.DataFrame(schema=UNIVERSALITY)
    models = {
        (model.backbone.name, variant): model.name
        for model in config.models
        for variant in VARIANTS
        if model.name == model_name(model.backbone.name, variant)
    }
    scores = _frame(config.name, "leaderboard")
    costs = {row["model"]: row for row in costs_by_model(ledger(_diagnostics(config), scores)).to_dicts()}
    rows = [{**costs.get(row["model"], {}), **row} for row in summary(scores, config.horizon).to_dicts()]
    frames = [newest(frame) for model in models.values() if len(frame := _losses(config, model))]
    losses = pl.concat(frames) if frames else pl.DataFrame()
    return universality_table(
        models, rows, losses, bare=BARE, control=(RELEARNER, CONTROL), day_steps=config.steps_per_day
    )


def rank_over_streams(results: Sequence[StreamResults]) -> Ranks | None:
    """Ranks of the models that have scores of protocol `sound` in all periods of every stream.

    None of fewer than 2 streams or models.
    """
    tables = [
        {
            row["model"]: row["mae"]
            for row in one.rows
            if row["protocol"] == SOUND.name and row["periods"] == one.periods and row["mae"] is not None
        }
        for one in results
    ]
    names = [name for name in (tables or [{}])[0] if all(name in table for table in tables)]
    if min(len(tables), len(names)) < 2:
        return None
    test = friedman([[table[name] for name in names] for table in tables])
    ranks = dict(zip(names, map(float, test.mean_ranks), strict=True))
    difference = nemenyi_difference(len(names), len(tables))
    return Ranks(len(tables), ranks, test.statistic, test.p_value, difference)


def _rows(config: StreamConfig, scores: pl.DataFrame, book: pl.DataFrame) -> tuple[list[dict[str, Any]], list[str]]:
    """A row per model with its cost and its mark against the champion, and what keeps marks away."""
    champion = config.shown_model
    marks, notes = _marks(config)
    costs = {row["model"]: row for row in costs_by_model(book).to_dicts()}
    table = summary(scores, config.horizon).to_dicts()
    protocol = next((row["protocol"] for row in table if row["model"] == champion), SOUND.name)
    rows = []
    for row in sorted(table, key=lambda row: row["protocol"] != protocol):
        name = row["model"]
        matrix = PeriodMatrix.of(scores.filter((pl.col("model") == name) & (pl.col("protocol") == row["protocol"])))
        differs = "protocol" if row["protocol"] != protocol else None
        if marks and name not in {*marks, champion} and differs is None:
            notes.append(_why_unmarked(config, name))
        row |= {"skill": row["skill"] if row["protocol"] == SOUND.name else None, "plasticity": matrix.plasticity}
        row |= {column: costs.get(name, {}).get(column) for column in ("later_seconds", "trainable")}
        row |= {column: marks.get(name, {}).get(column) for column in COMPARED}
        rows.append({**row, "differs": differs})
    return rows, notes


def _marks(config: StreamConfig) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Model -> its row of the stored comparison with the champion, and why there is none."""
    champion = config.shown_model
    if not champion:
        return {}, []
    key = (config.name, "comparison")
    if not lake().exists(key, None, FRAME):
        how = f"`st-pipeline run {config.name} --compare` makes one"
        how = how if config.compare else f"with a section `compare` in the stream file, {how}"
        return {}, [f"Differences have no test of significance: no comparison is stored; {how}."]
    stored = _frame(*key).filter(pl.col("horizon") == PUBLISHED)
    if other := sorted({*stored["reference"]} - {champion}):
        again = f"`st-pipeline run {config.name} --compare` makes it anew"
        return {}, [f"Differences have no test of significance: the stored comparison is with {other[0]}; {again}."]
    return {row["model"]: row for row in stored.to_dicts()}, []


def _why_unmarked(config: StreamConfig, model: str) -> str:
    """A model of the champion's protocol that is not in the comparison: what differs, as far as losses tell."""
    champion, other = _losses(config, config.shown_model), _losses(config, model)
    sentence = None
    if len(champion) and len(other):
        sentence = incomparable(mean_over_seeds(newest(champion)), mean_over_seeds(newest(other)))
    return sentence or f"{model} is not in the stored comparison; `st-pipeline run {config.name} --compare` adds it."


def _counterfactual(config: StreamConfig, book: pl.DataFrame) -> tuple[Counterfactual | None, list[str]]:
    """The champion against retraining, and what keeps them apart."""
    other = retrained_model(config, {*book["model"]})
    if other is None:
        return None, []
    losses = [newest(frame) for name in (config.shown_model, other) if len(frame := _losses(config, name))]
    try:
        return counterfactual(config, book, retrained=other, losses=pl.concat(losses) if losses else None), []
    except InputError as error:
        return None, [f"Tuning is not held against retraining: {error}"]


def _transfer(config: StreamConfig, scores: pl.DataFrame) -> tuple[pl.DataFrame, list[str]]:
    """The champion's transfer, and what keeps its intervals away."""
    names = [config.shown_model, BASELINE]
    own = scores.filter(pl.col("model").is_in(names))
    frames = [_losses(config, config.shown_model), _losses(config, "naive")]
    losses = [frame.filter(pl.col("model").is_in(names)) for frame in frames if len(frame)]
    labels = horizon_labels(config.horizon)
    try:
        table = transfer_table(
            own,
            pl.concat(losses) if losses else None,
            horizons=labels,
            day_steps=config.steps_per_day,
            repeats=REPEATS,
        )
    except InputError as error:
        return transfer_table(own, horizons=labels), [f"Transfer has no intervals: {error}"]
    return table, []


def _drill(config: StreamConfig) -> pl.DataFrame:
    """Summary of the drills of all models; without rows where none is stored."""
    frames = [frame for model in config.every_model if len(frame := _frame(config.name, model.name, "drill"))]
    return drill_summary(pl.concat(frames) if frames else pl.DataFrame(schema=DRILL_SCHEMA))


def _inside(config: StreamConfig) -> Inside | None:
    """The champion's newest insight; None where none is stored."""
    key = (config.name, config.shown_model, "insight")
    if not config.shown_model or not (periods := lake().periods(key, FRAME.extension)):
        return None
    newest = periods[-1]
    nodes = lake().read((config.name, "node_set"), newest, NODE_SET)
    places = positions_at(_frame(config.name, "sensors"), nodes.ids, config.calendar.find(newest).last_day)
    return Inside(newest, lake().read(key, newest, FRAME), places)


def _diagnostics(config: StreamConfig) -> dict[str, dict[str, Any]]:
    """Model -> period -> diagnostics."""
    keys = {model.name: (config.name, model.name, "diagnostics") for model in config.every_model}
    return {
        name: {period: lake().read(key, period, JSON) for period in lake().periods(key, JSON.extension)}
        for name, key in keys.items()
    }


def _losses(config: StreamConfig, model: str) -> pl.DataFrame:
    return _frame(config.name, model, "losses") if model else pl.DataFrame()


def _frame(*key: str) -> pl.DataFrame:
    """All rows of an asset, stored whole or by period; empty where it is not stored."""
    store = lake()
    if store.exists(key, None, FRAME):
        return store.read(key, None, FRAME)
    frames = [store.read(key, period, FRAME) for period in store.periods(key, FRAME.extension)]
    return pl.concat(frames) if frames else pl.DataFrame()
