"""`bench`: experiments over many models, resumable, through Dagster."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import click

from st_pipeline.cli.output import print_json, print_table
from st_pipeline.errors import InputError

if TYPE_CHECKING:
    import polars as pl

    from st_pipeline.streams import Stream

COLUMNS = {
    "model": "model",
    "backbone": "backbone",
    "variant": "variant",
    "seeds": "seeds",
    "periods": "periods",
    "mae": "MAE",
    "mae_std": "± seeds",
    "skill": "below weekly %",
    "against": "against the bare one",
    "later_seconds": "seconds a later period",
    "trainable": "trained parameters",
}


@click.group()
def bench() -> None:
    """Experiments over many models; a stopped one resumes where it was."""


@bench.command()
@click.argument("streams", nargs=-1, required=True, metavar="STREAM...")
@click.option("--backbones", metavar="A,B", help="Only these; all fourteen if left out.")
@click.option("--variants", metavar="A,B", help="Of bare, relearner, control, prompts; all if left out.")
@click.option("--seeds", default="1,2,3", show_default=True, metavar="A,B")
@click.option("--epochs", type=click.IntRange(1), help="At most so many in every period, instead of the published 100.")
@click.option("--periods", metavar="A..B", help="Only these periods.")
@click.option("--data", type=click.Path(), help="Folder of raw data, instead of ST_PIPELINE_DATA.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def universality(
    streams: tuple[str, ...],
    backbones: str | None,
    variants: str | None,
    seeds: str,
    epochs: int | None,
    periods: str | None,
    data: str | None,
    as_json: bool,
) -> None:
    """Train backbones on each STREAM, bare, with ReLearner, with its control of capacity, and with EAC's prompts.

    Each becomes a stream of its own, STREAM_universality, under the home: it is trained through Dagster, shown in its
    UI, and only what is missing or stale is computed.
    """
    from st_pipeline.benches import VARIANTS, backbone_entries, bench_models, write_bench
    from st_pipeline.cli.run import execute, print_outcome, take_data_from
    from st_pipeline.cli.runner import scope
    from st_pipeline.streams import find_stream

    take_data_from(data)
    models = bench_models(
        _listed(backbones) or list(backbone_entries()),
        _listed(variants) or list(VARIANTS),
        seeds=_seeds(seeds),
        training={} if epochs is None else {"epochs": epochs},
    )
    documents, failed = [], False
    for stream in [find_stream(name) for name in dict.fromkeys(streams)]:
        begin = time.perf_counter()
        made = write_bench(stream, models)
        _offer_raw_files(stream)
        outcome = execute(made, scope(made, periods, None), quiet=as_json)
        table = _table(made)
        if not as_json:
            _show(stream.name, table)
            print_outcome(made.name, outcome, time.perf_counter() - begin)
        documents.append({"stream": stream.name, "bench": made.name, **vars(outcome), "rows": table.to_dicts()})
        failed |= not outcome.ok
    if as_json:
        print_json(documents)
    if failed:
        raise SystemExit(1)


def _listed(text: str | None) -> list[str]:
    return [part.strip() for part in text.split(",")] if text else []


def _seeds(text: str) -> list[int]:
    """
    Raises:
        InputError: they are no whole numbers.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds {text!r}: expected whole numbers such as 1,2,3") from None


def _offer_raw_files(stream: Stream) -> None:
    """Raw files that lie in the stream's own folder are looked up there for its bench too, from here on."""
    if any(path.name != "stream.yaml" and not path.name.startswith(".") for path in stream.folder.iterdir()):
        os.environ["ST_PIPELINE_DATA"] = str(stream.folder)


def _table(made: Stream) -> pl.DataFrame:
    from st_pipeline.reporting.results import read_universality

    return read_universality(made.config)


def _show(name: str, table: pl.DataFrame) -> None:
    rows: list[dict[str, Any]] = []
    for row in table.to_dicts():
        text = "{mark}, {relative:+.1f} % ({relative_low:+.1f} to {relative_high:+.1f})"
        rows.append({**row, "against": text.format(**row) if row["mark"] else None})
    print_table(f"{name}: backbones by their bare error, mean over periods", rows, COLUMNS)
