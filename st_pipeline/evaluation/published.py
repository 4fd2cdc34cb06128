"""Published numbers of EAC and what it is compared with, read from `published.yaml`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Literal

import yaml

from st_pipeline.errors import InputError, closest
from st_pipeline.model_config import ModelConfig, methods

METRICS = ("mae", "rmse", "mape", "seconds")
DETAILS = ("source", "stream", "horizon", "changes")  # what a table says for all of its rows


@dataclass(frozen=True)
class PublishedStream:
    """An archive of the papers: the stream that is it here, where a user has one, and its sensors in each period."""

    name: str
    ours: str
    nodes: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What was run: an entry of `methods.yaml` with the changes of the published run, under protocol `paper`."""

    name: str  # as published
    method: str | None  # None where nothing of ours does the same
    stream: str  # as published
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)

    def config(self) -> ModelConfig:
        """The published run as a model of ours.

        Raises:
            InputError: there is no such method.
        """
        if self.method not in methods():
            raise InputError(
                f"st_pipeline/methods.yaml has no method {self.method!r}; {closest(self.method, methods())}"
            )
        entry = dict(methods()[self.method])
        for key, value in self.changes.items():
            before = entry.get(key)
            entry[key] = {**before, **value} if isinstance(before, dict) and isinstance(value, dict) else value
        return ModelConfig.model_validate({**entry, "protocol": "paper"})


@dataclass(frozen=True, kw_only=True)
class Row(Entry):
    """One published number.

    Attributes:
        metric: `mae`, `rmse` (units of the stream), `mape` (percent) or `seconds` (of training, all periods).
        horizon: as on a leaderboard; what it is of no use for has it too.
        value: None where the paper has the number and it is not on hand here.
        spread: standard deviation (of the population) over the published runs, where it is known.
        period: counted from 0; None for the mean over all periods.
        note: what to know before comparing.
    """

    table: str
    metric: str
    horizon: str
    value: float | None
    spread: float | None = None
    period: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A published table or figure, one row a number."""

    table: str
    title: str
    rows: tuple[Row, ...]

    @property
    def streams(self) -> tuple[str, ...]:
        """Published streams of its rows."""
        return tuple(dict.fromkeys(row.stream for row in self.rows))


@dataclass(frozen=True, kw_only=True)
class Parameters(Entry):
    """Numbers of parameters in the periods of a stream from the first, None where it is not on hand."""

    counts: Literal["backbone", "all", "trained"]
    values: tuple[int | None, ...]


@dataclass(frozen=True, kw_only=True)
class BackboneSize:
    """A number of parameters of one backbone at the size of a network.

    Attributes:
        nodes: sensors of the network.
        backbone: a name, or a mapping with options.
        unused: parameters of the published number that no forecast depends on, and that ours does without.
    """

    name: str  # as published
    network: str
    nodes: int
    backbone: str | Mapping[str, Any]
    value: int
    unused: int = 0
    source: str


def published_tables() -> dict[str, Table]:
    """Every table by its name: `1` to `4` of the paper, and what its figures and public logs say."""
    return {part["table"]: Table(part["table"], part["title"], _rows(part)) for part in _document()["tables"]}


def rows_of(table: str) -> tuple[Row, ...]:
    """The rows of one table.

    Raises:
        InputError: there is no such table.
    """
    tables = published_tables()
    if table not in tables:
        raise InputError(f"there is no published table {table!r}; {closest(table, tables)}")
    return tables[table].rows


def published_streams() -> dict[str, PublishedStream]:
    """The papers' archives by their published names."""
    found = _document()["streams"].items()
    return {name: PublishedStream(name, entry["ours"], tuple(entry["nodes"])) for name, entry in found}


def published_parameters() -> tuple[Parameters, ...]:
    """Every published number of parameters."""
    return tuple(
        Parameters(**{**details, **row, "values": tuple(row["values"])})
        for group in _document()["parameters"]
        for details in [{key: value for key, value in group.items() if key != "rows"}]
        for row in group["rows"]
    )


def published_backbones() -> tuple[BackboneSize, ...]:
    """Every number of parameters of a backbone alone."""
    section = _document()["backbones"]
    return tuple(BackboneSize(**row, nodes=section["networks"][row["network"]]) for row in section["rows"])


def published_setting() -> dict[str, Any]:
    """What a stream's file says in all published runs: `window`, `horizon`, `split`."""
    return dict(_document()["setting"])


def _rows(part: Mapping[str, Any]) -> tuple[Row, ...]:
    """One row for each metric of each entry."""
    shared = {key: part[key] for key in DETAILS if key in part}
    found = []
    for entry in part["rows"]:
        own = {key: value for key, value in entry.items() if key not in METRICS}
        for metric in (name for name in METRICS if name in entry):
            value, spread = entry[metric] if isinstance(entry[metric], list) else (entry[metric], None)
            found.append(Row(**{**shared, **own}, table=part["table"], metric=metric, value=value, spread=spread))
    return tuple(found)


@cache
def _document() -> dict[str, Any]:
    text = files("st_pipeline.evaluation").joinpath("published.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(text)
    return document
