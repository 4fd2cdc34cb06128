"""`sensors`: the lives of a stream's sensors, and what another sensor table would change."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import polars as pl
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME, JSON, lake
from st_pipeline.streams import Stream, find_stream

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig

NAMED = 4  # sensors shown in a cell
DATA = {"units": "other unit", "joins": "join", "leaves": "leave", "moves": "move"}
EDGES = {"edges_added": "edges added", "edges_removed": "removed", "edges_reweighted": "reweighted"}


@click.command()
@click.argument("stream")
@click.option("--preview", type=click.Path(dir_okay=False), metavar="FILE", help="What this sensor table would change.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def sensors(stream: str, preview: str | None, as_json: bool) -> None:
    """Every sensor of STREAM with its state and the intervals of its life; or what another sensor table changes.

    The preview materialises nothing.
    """
    found = find_stream(stream)
    document = _lives(found.config) if preview is None else _preview(found, Path(preview))
    if as_json:
        print_json(document)
    elif preview is None:
        _show_lives(document)
    else:
        _show_preview(document)


def stored_sensors(config: StreamConfig) -> pl.DataFrame:
    if not lake().exists((config.name, "sensors"), None, FRAME):
        raise InputError(f"stream {config.name!r} has no sensor table yet; run `st-pipeline run {config.name}` first")
    return lake().read((config.name, "sensors"), None, FRAME)


def _lives(config: StreamConfig) -> dict[str, Any]:
    from st_pipeline.data.lives import NODE_SET
    from st_pipeline.data.sensor_states import sensor_lives

    key = (config.name, "node_set")
    node_sets = {period: lake().read(key, period, NODE_SET) for period in lake().periods(key, JSON.extension)}
    lives = sensor_lives(stored_sensors(config), node_sets)
    states = Counter(life.state for life in lives)
    rows = [life.document() for life in lives]
    return {"stream": config.name, "periods": list(node_sets), "states": dict(sorted(states.items())), "sensors": rows}


def _preview(stream: Stream, file: Path) -> dict[str, Any]:
    """
    Raises:
        InputError: the table cannot be read, the gate would refuse it, or nothing is stored to hold it against.
    """
    from checks.gate import ExpectationGate
    from resources.source import open_source
    from st_pipeline.data.sensor_preview import changed_facts, preview
    from st_pipeline.readers.parts.long_table import LongTableReader

    config = stream.config
    reader = open_source(stream)
    if not isinstance(reader, LongTableReader):
        raise InputError(f"stream {stream.name!r}: its source has no sensor table of its own, so none can be changed")
    if not file.is_file():
        raise InputError(f"--preview {file}: there is no such file")
    given = reader.sensor_table(file)
    given = given.sort(given.columns)
    verdict = ExpectationGate().sensors(config, given)
    if verdict.failures:
        raise InputError(f"{file}: {verdict.sentence()}")
    stored, heard = stored_sensors(config), _heard(config)
    rows = preview(config, stored, given, heard, lambda key: stored_edges(config, key))
    facts = changed_facts(stored, given)
    keys = {model.name: (stream.name, model.name, "backbone") for model in config.every_model}
    models = [name for name, key in keys.items() if lake().periods(key, "safetensors")]
    return {"stream": stream.name, "file": str(file), "table": facts, "periods": rows, "models": models}


def _heard(config: StreamConfig) -> dict[str, frozenset[str]]:
    """Sensors with an observed reading, by period."""
    key, flag = (config.name, "readings"), f"{config.variable_names[0]}_flag"
    periods = lake().periods(key, FRAME.extension)
    if not periods:
        raise InputError(f"stream {config.name!r} has no readings yet; run `st-pipeline run {config.name}` first")
    found = {}
    for period in periods:
        rows = lake().scan(key, period).filter(pl.col(flag) == "observed")
        found[period] = frozenset(rows.select(pl.col("sensor_id").cast(pl.String).unique()).collect().to_series())
    return found


def stored_edges(config: StreamConfig, period: str) -> pl.DataFrame | None:
    key = (config.name, "edges")
    return lake().read(key, period, FRAME) if lake().exists(key, period, FRAME) else None


def _show_lives(document: dict[str, Any]) -> None:
    counts = ", ".join(f"{count} {state}" for state, count in document["states"].items())
    console.print(escape(f"{document['stream']}: {len(document['sensors'])} sensors: {counts}"), soft_wrap=True)
    rows = [
        {
            **row,
            "intervals": ", ".join(
                f"{part['state']} {part['from']}" + (f" to {part['to']}" if part["to"] != part["from"] else "")
                for part in row["intervals"]
            ),
            "changes": ", ".join(f"{part['change']} {part['at']}" for part in row["changes"]) or None,
        }
        for row in document["sensors"]
    ]
    print_table("", rows, {"sensor_id": "sensor", "state": "state", "intervals": "life", "changes": "changes"})


def _show_preview(document: dict[str, Any]) -> None:
    table = "; ".join(f"{name} {_names(found) or 'none'}" for name, found in document["table"].items())
    console.print(escape(f"{document['stream']}, sensors of the table: {table}"), soft_wrap=True)
    rows = [
        {**row, **{name: _names(row[name]) for name in DATA}, "models": "made anew" if row["models"] else "as they are"}
        for row in document["periods"]
    ]
    columns = {"period": "period", **DATA, **EDGES, "models": "models, forecasts"}
    print_table("", rows, columns)
    if not any(row["data"] for row in document["periods"]):
        console.print("no period's node set, graph or readings would change")
    elif document["models"]:
        console.print(escape(f"models trained so far: {', '.join(document['models'])}"), soft_wrap=True)
    console.print("the sensor table is on every report, so reports are made anew; nothing was materialised")


def _names(names: list[str]) -> str | None:
    shown = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
    return shown or None
