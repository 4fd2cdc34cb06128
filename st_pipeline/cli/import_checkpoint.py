"""`import-checkpoint`: published weights as a model's trained parts of a period, stored by a Dagster run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json
from st_pipeline.errors import InputError
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.model_config import ModelConfig

KINDS = ("eac", "trafficstream", "stkec", "himnet")


@click.command(name="import-checkpoint")
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--stream", required=True, metavar="STREAM", help="That has the model.")
@click.option("--model", required=True, metavar="NAME", help="Of the same network; it has not learned the period.")
@click.option("--period", required=True, metavar="P", help="That the weights were trained on.")
@click.option("--sensors", type=click.Path(path_type=Path), help="Ids of the checkpoint's rows in order, one a line.")
@click.option("--mean", type=float, help="That the windows were standardised by; himnet.")
@click.option("--std", type=float, help="Standard deviation beside it; himnet.")
@click.option("--dataset", metavar="NAME", help="METRLA, PEMSBAY, PEMS03, PEMS04, PEMS07 or PEMS08; himnet.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def import_checkpoint(
    kind: str,
    path: Path,
    stream: str,
    model: str,
    period: str,
    sensors: Path | None,
    mean: float | None,
    std: float | None,
    dataset: str | None,
    as_json: bool,
) -> None:
    """Store the weights in PATH, a published checkpoint of KIND, as what a model of STREAM has learned of a period.

    Nothing in PATH is run. Later periods go on from there. What is stored says that it was imported, and from what.
    """
    from st_pipeline.cli.run import execute
    from st_pipeline.cli.runner import scope
    from st_pipeline.forecasting.stored import stored_parts
    from st_pipeline.interop.importing import Given, take_over
    from st_pipeline.training.compute import Compute

    if (mean is None) != (std is None) or (std is not None and not std > 0):
        raise InputError("--mean and --std go together, and --std is above 0")
    found = find_stream(stream)
    config = found.config
    chosen = config.model(model)
    _refuse_learned(config, chosen, period)
    statistics = None if mean is None or std is None else (mean, std)
    given = Given(_ids(sensors) if sensors else None, statistics, dataset)
    data = execute(found, scope(found, period, "naive"), quiet=as_json)
    if not data.ok:
        raise InputError(f"the data of {stream} of {period} cannot be made; see `st-pipeline run {stream}`")
    parts = take_over(config, chosen, period, kind=kind, path=path, given=given, compute=Compute.from_environment())
    outcome = execute(found, scope(found, period, model), quiet=as_json)
    stored = stored_parts(config, chosen, period) if outcome.ok else {}
    if {name: part.digest for name, part in stored.items()} != {name: part.digest for name, part in parts.items()}:
        reason = "; ".join(outcome.failed.values()) or "the run has stored something else"
        raise InputError(f"{stream}/{model} of {period}: the checkpoint was not taken over: {reason}")
    document = {name: {"digest": part.digest, "imported": part.facts["imported"]} for name, part in stored.items()}
    if as_json:
        print_json(document)
        return
    names = ", ".join(f"{stream}/{model}/{name}" for name in document)
    console.print(escape(f"{names} of {period}: imported from {path}"), soft_wrap=True)


def _refuse_learned(config: StreamConfig, model: ModelConfig, period: str) -> None:
    from st_pipeline.storage import lake
    from st_pipeline.training.checkpoint import CHECKPOINTS

    if lake().exists((config.name, model.name, "backbone"), period, CHECKPOINTS):
        raise InputError(
            f"{config.name}/{model.name} has learned {period} already, and that stays; add a model for the checkpoint "
            "to the stream file"
        )


def _ids(file: Path) -> tuple[str, ...]:
    """
    Raises:
        InputError: the file cannot be read or names nobody.
    """
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read: {error}; expected the id of a sensor in each line") from None
    found = tuple(line.strip() for line in lines if line.strip())
    if not found:
        raise InputError(f"{file}: is empty; expected the id of a sensor in each line")
    return found
