"""`bench`: experiments over many models, resumable, through Dagster."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from st_pipeline.benches import PUBLISHED, SIZES
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
@click.option(
    "--size",
    type=click.Choice(list(SIZES)),
    default=PUBLISHED,
    show_default=True,
    help="Of the backbones.",
)
@click.option(
    "--inputs-of", metavar="MODEL", help="Seasonal inputs, scaling and protocol as this model of the STREAM has them."
)
@click.option(
    "--seasonal-skip", is_flag=True, help="A mixture of the seasonal inputs is added to every model's forecast."
)
@click.option("--seeds", default="1,2,3", show_default=True, metavar="A,B")
@click.option("--epochs", type=click.IntRange(1), help="At most so many in every period, instead of those of the size.")
@click.option("--periods", metavar="A..B", help="Only these periods.")
@click.option("--data", type=click.Path(), help="Folder of raw data, instead of ST_PIPELINE_DATA.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def universality(
    streams: tuple[str, ...],
    backbones: str | None,
    variants: str | None,
    size: str,
    inputs_of: str | None,
    seasonal_skip: bool,
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
    from st_pipeline import benches
    from st_pipeline.cli.run import take_data_from
    from st_pipeline.streams import find_stream

    take_data_from(data)
    entries = partial(
        benches.bench_models,
        _listed(backbones) or list(benches.backbone_entries(size)),
        _listed(variants) or list(benches.VARIANTS),
        seeds=_seeds(seeds),
        training={} if epochs is None else {"epochs": epochs},
        size=size,
    )
    found = [find_stream(name) for name in dict.fromkeys(streams)]
    skip = {"seasonal_skip": True} if seasonal_skip else {}
    models = [
        entries(inputs={**(benches.inputs_of(stream, inputs_of) if inputs_of else {}), **skip}) for stream in found
    ]
    documents = []
    for stream, own in zip(found, models, strict=True):
        made = benches.write_bench(stream, own, size=size)
        _offer_raw_files(stream)
        documents.append({"stream": stream.name, **_execute(made, stream.name, periods, quiet=as_json)})
    if as_json:
        print_json(documents)
    if any(document["failed"] or document["blocked"] for document in documents):
        raise SystemExit(1)


def _execute(made: Stream, name: str, periods: str | None, *, quiet: bool) -> dict[str, Any]:
    """Bring the bench of a stream of this name up to date; its outcome and table, which is printed unless `quiet`."""
    from st_pipeline.cli.run import execute, print_outcome
    from st_pipeline.cli.runner import scope

    begin = time.perf_counter()
    outcome = execute(made, scope(made, periods, None), quiet=quiet)
    table = _table(made)
    if not quiet:
        _show(name, table)
        print_outcome(made.name, outcome, time.perf_counter() - begin)
    return {"bench": made.name, **vars(outcome), "rows": table.to_dicts()}


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
