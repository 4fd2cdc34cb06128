"""`predict`: a forecast from a file of readings, without a run; nothing is written."""

from __future__ import annotations

from pathlib import Path
from zoneinfo import ZoneInfo

import click
from rich.markup import escape

from st_pipeline.cli.output import console, moment_of, print_json, print_table
from st_pipeline.streams import find_stream


@click.command()
@click.argument("stream")
@click.option("--readings", metavar="FILE", type=click.Path(path_type=Path), required=True, help="CSV or Parquet.")
@click.option("--at", metavar="TIME", help="When it is issued; by default after the file's last reading.")
@click.option("--model", metavar="NAME", help="Of the stream; by default the champion.")
@click.option("--period", metavar="P", help="The model as it was after this one; by default the newest.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def predict(stream: str, readings: Path, at: str | None, model: str | None, period: str | None, as_json: bool) -> None:
    """Forecast all sensors of STREAM from a file of recent readings, with a stored model."""
    from st_pipeline.forecasting import stored
    from st_pipeline.forecasting.one_off import forecast_once
    from st_pipeline.forecasting.serving import chosen_model

    config = find_stream(stream).config
    chosen = chosen_model(config, model)
    key = stored.learned_period(config, chosen, period)
    found = forecast_once(
        config,
        chosen,
        stored.stored_network(config, key),
        stored.stored_parts(config, chosen, key),
        readings,
        None if at is None else moment_of(at, config.timezone),
    )
    if as_json:
        rows = found.rows.to_dicts()
        times = ("issued_at", "target_time")
        plain = [{**row, **{name: row[name].isoformat() for name in times}} for row in rows]
        print_json({**found.facts, "unknown_sensors": found.unknown, "forecasts": plain})
        return
    zone = ZoneInfo(config.timezone)
    rows = [
        {**row, "target_time": row["target_time"].astimezone(zone).strftime("%Y-%m-%d %H:%M %z")}
        for row in found.rows.to_dicts()
    ]
    issued = found.rows["issued_at"][0].astimezone(zone).isoformat()
    columns = {"sensor_id": "sensor", "target_time": "begins", "horizon": "step", "point": "forecast"}
    more = {"naive_weekly": "a week ago", "readings": "readings in the window"}
    title = f"{found.facts['model']}, trained through {found.facts['trained_through']}, issued {issued}"
    print_table(title, rows, {**columns, **more})
    if found.unknown:
        names = f"left out {len(found.unknown)} sensors that the model does not know, e.g. {found.unknown[0]!r}"
        console.print(escape(names), soft_wrap=True)
