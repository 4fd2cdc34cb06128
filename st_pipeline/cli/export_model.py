"""`export-model`: a trained model as a folder that works without this package."""

from __future__ import annotations

from pathlib import Path

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json
from st_pipeline.streams import find_stream


@click.command(name="export-model")
@click.argument("stream")
@click.option("--model", metavar="NAME", help="Of the stream; by default the champion.")
@click.option("--period", metavar="P", help="Trained through this one; by default the newest.")
@click.option("--into", type=click.Path(path_type=Path), required=True, help="A folder that is empty or not there.")
@click.option("--json", "as_json", is_flag=True, help="Print what the folder says of itself as one JSON document.")
def export_model(stream: str, model: str | None, period: str | None, into: Path, as_json: bool) -> None:
    """Write a trained model of STREAM to a folder that forecasts with torch and numpy alone."""
    from st_pipeline.forecasting import export, stored
    from st_pipeline.forecasting.serving import chosen_model

    config = find_stream(stream).config
    chosen = chosen_model(config, model)
    key = stored.learned_period(config, chosen, period)
    parts = stored.stored_parts(config, chosen, key)
    facts = export.export_model(config, chosen, stored.stored_network(config, key), parts, into)
    if as_json:
        print_json(facts)
        return
    batch = "any number of forecasts at a time" if facts["batch"] == "any" else "one forecast at a time"
    console.print(escape(f"{facts['model_id']}: {len(facts['sensors'])} sensors, {batch}"), soft_wrap=True)
    console.print(escape(f"{into}: python {into / 'predict.py'} readings.csv"), soft_wrap=True)
