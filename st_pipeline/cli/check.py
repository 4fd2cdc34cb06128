"""`check`: everything about a stream's file and raw data that can be said before anything is materialised."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import click
import polars as pl
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table
from st_pipeline.config import StreamConfig
from st_pipeline.data.verdict import Verdict
from st_pipeline.errors import InputError
from st_pipeline.periods import Period
from st_pipeline.readers.base import Reader
from st_pipeline.streams import Stream, find_stream

if TYPE_CHECKING:
    from st_pipeline.types import NodeSet

MIB = 1 << 20


@click.command()
@click.argument("stream")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def check(stream: str, as_json: bool) -> None:
    """Read and judge the file and the raw data of STREAM; nothing is written. Exit code 2 if it cannot be used."""
    from resources.source import open_source

    found = find_stream(stream)
    reader = open_source(found)
    with console.status(f"{stream}: reading") if not as_json else nullcontext():
        document = examine(found, reader)
    if as_json:
        print_json(document)
    else:
        _print(document)
    if document["errors"]:
        raise InputError(f"stream {stream!r} cannot be used: {document['errors'][0]}")


def examine(stream: Stream, reader: Reader) -> dict[str, Any]:
    """Files, sensors, one row per period, errors and warnings."""
    from checks.gate import ExpectationGate

    config, gate = stream.config, ExpectationGate()
    files, sensors = reader.files(), reader.sensors()
    verdicts = [gate.sensors(config, sensors)]
    periods: list[dict[str, Any]] = []
    seen: set[str] = set()
    nodes: NodeSet | None = None
    for period in config.calendar.periods():
        row, found, frame = _examine_period(config, reader, gate, sensors, period)
        verdicts += found
        if frame is not None and not any(verdict.failures for verdict in verdicts):
            nodes, row["edges"] = _examine_network(config, reader, sensors, frame, period, nodes)
        ids = row.pop("ids")
        row["new"] = len(ids - seen)
        seen |= ids
        periods.append(row)
    return {
        "stream": stream.name,
        "file": str(stream.folder / "stream.yaml"),
        "files": len(files),
        "bytes": sum(file.stat().st_size for file in files),
        "sensors": sensors["sensor_id"].n_unique() if len(sensors) else len(seen),
        "step": str(config.step),
        "timezone": config.timezone,
        "target": config.variable_names[0],
        "periods": periods,
        "memory_mib": max((row["memory_mib"] for row in periods), default=0),
        "errors": [verdict.sentence() for verdict in verdicts if verdict.failures],
        "warnings": _warnings(verdicts),
    }


def _examine_period(
    config: StreamConfig, reader: Reader, gate: Any, sensors: pl.DataFrame, period: Period
) -> tuple[dict[str, Any], list[Verdict], pl.DataFrame | None]:
    """A row about the readings of a period, the gate's verdicts, and the clean readings where the raw ones pass."""
    from st_pipeline.data.cleaning import clean
    from st_pipeline.data.summaries import network_summary, raw_summary, sensor_summary

    raw = reader.readings(period)
    raw_verdict = gate.raw_readings(config, raw_summary(raw, config, period))
    row: dict[str, Any] = {
        "period": period.key,
        "rows": len(raw),
        "sensors": 0,
        "missing": None,
        "faulty": None,
        "edges": None,
        "memory_mib": 0,
    }
    row["ids"] = set(raw["sensor_id"].drop_nulls().unique().to_list())
    if raw_verdict.failures:
        return row, [_named(raw_verdict, period.key)], None
    frame = clean(raw, config, period, sensors)
    network = network_summary(frame, config)
    verdict = gate.readings(config, network, sensor_summary(frame, sensors, config))
    whole = network.row(0, named=True)
    cells = len(frame) * len(config.input_names)
    row |= {"sensors": whole["sensors"], "missing": 100 * whole["missing"], "faulty": 100 * whole["faulty"]}
    row["memory_mib"] = cells * 20 / MIB  # values, flags and the standardised copy that training holds
    return row, [_named(raw_verdict, period.key), _named(verdict, period.key)], frame


def _examine_network(
    config: StreamConfig,
    reader: Reader,
    sensors: pl.DataFrame,
    frame: pl.DataFrame,
    period: Period,
    previous: NodeSet | None,
) -> tuple[NodeSet, int]:
    """Node set and number of edges of a period, made as the assets make them: what they refuse is refused here.

    Raises:
        InputError: there is no graph, or too little was measured to train and to score a model.
    """
    from st_pipeline.data.adjacency import build_adjacency
    from st_pipeline.data.lives import heard_in, node_set
    from st_pipeline.data.protocols import PROTOCOLS, PeriodArrays
    from st_pipeline.data.splits import require_windows
    from st_pipeline.data.tensors import build_tensor

    heard = heard_in(frame, config.variable_names[0])
    nodes = node_set(previous, sensors=sensors, heard=heard, period=period, lives=config.lives)
    edges = reader.edges(period) if reader.has_edges else None
    adjacency = build_adjacency(nodes.ids, sensors=sensors, edges=edges, config=config, period=period)
    tensor = build_tensor(frame, nodes.ids, config, period.key)
    for protocol, share in sorted({(model.protocol, model.training.share) for model in config.models}, key=str):
        arrays = PeriodArrays.of(tensor, nodes, config, protocol=PROTOCOLS[protocol], share=share)
        for name, part in arrays.cuts._asdict().items():
            span = config.window + config.horizon
            require_windows(arrays.starts(part), part, name=name, period=period.key, span=span)
        arrays.require_targets("train")
        arrays.require_targets("validation")
    return nodes, len(adjacency.row)


def _named(verdict: Verdict, period: str) -> Verdict:
    return Verdict(f"{verdict.suite} of {period}", verdict.findings)


def _warnings(verdicts: list[Verdict]) -> list[str]:
    return [
        f"{verdict.suite}: expected {item.expectation}; found {item.found}"
        for verdict in verdicts
        for item in verdict.of("warning")
        if not item.passed
    ]


def _print(document: dict[str, Any]) -> None:
    size = document["bytes"] / MIB
    console.print(
        f"{document['stream']}: {document['files']} files, {size:.1f} MiB, {document['sensors']} sensors, "
        f"a step of {document['step']}, {document['timezone']}, target {document['target']}; "
        f"the largest period needs about {document['memory_mib']:.0f} MiB"
    )
    columns = {
        "period": "period",
        "rows": "rows",
        "sensors": "sensors",
        "new": "new",
        "missing": "missing %",
        "faulty": "faulty %",
        "edges": "edges",
    }
    print_table("", document["periods"], columns)
    for warning in document["warnings"]:
        console.print(f"[yellow]warning[/yellow]  {escape(warning)}", soft_wrap=True)
    if not document["errors"]:
        console.print("[green]usable[/green]")
