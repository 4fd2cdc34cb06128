"""`explain`: one forecast of one sensor, back to the rows it was made of."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.markup import escape

from st_pipeline.cli.output import console, moment_of, print_json, print_table, shown
from st_pipeline.errors import InputError
from st_pipeline.forecasting.serving import chosen_model
from st_pipeline.storage import FRAME, lake
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.forecasting.explanation import Explanation
    from st_pipeline.model_config import ModelConfig

MOVING = 10  # sensors shown


@click.command()
@click.argument("stream")
@click.argument("sensor")
@click.option(
    "--at", metavar="TIME", help="When the forecast is issued, e.g. 2014-12-01T08:00; the stream's own clock."
)
@click.option("--model", metavar="NAME", help="Of the stream; by default the one that serves.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def explain(stream: str, sensor: str, at: str | None, model: str | None, as_json: bool) -> None:
    """A forecast of SENSOR: the readings it was made of with their files and rows, other sensors, prompt and model.

    It is made again from what is stored, by the model as it was after the period that TIME lies in: by default the
    last one of the newest period.
    """
    config = find_stream(stream).config
    chosen = chosen_model(config, model)
    moment = None if at is None else moment_of(at, config.timezone)
    explanation = _explained(config, chosen, sensor, moment)
    if as_json:
        print_json(explanation.document())
    else:
        _show(explanation, ZoneInfo(config.timezone))


def _explained(config: StreamConfig, model: ModelConfig, sensor: str, at: datetime | None) -> Explanation:
    """
    Raises:
        InputError: the model has not learned the period, or something of it is not stored.
    """
    from st_pipeline.forecasting.explanation import explain
    from st_pipeline.forecasting.stored import stored_network, stored_parts

    period = _period(config, model, at)
    before = config.calendar.find(period).index - 1
    return explain(
        config,
        model,
        stored_network(config, period),
        stored_parts(config, model, period),
        sensor,
        raw=lake().read((config.name, "raw_readings"), period, FRAME),
        before=stored_parts(config, model, config.calendar.period(before).key) if before >= 0 else None,
        at=at,
    )


def _period(config: StreamConfig, model: ModelConfig, at: datetime | None) -> str:
    """The period that a forecast issued then was made of; by default the newest that the model has learned.

    Raises:
        InputError: the model has learned none, or not that one.
    """
    from st_pipeline.forecasting.stored import learned_period, learned_periods

    if at is None:
        return learned_period(config, model, None)
    learned = learned_periods(config, model)
    read = at - config.step
    for period in config.calendar.periods():
        if period.start <= read < period.end:
            return learned_period(config, model, period.key)
    raise InputError(f"{config.name}: {at.isoformat()} is in no period; known are {', '.join(learned)}")


def _show(found: Explanation, zone: ZoneInfo) -> None:
    def local(time: datetime) -> str:
        return time.astimezone(zone).strftime("%Y-%m-%d %H:%M %z")

    unit = {"step": "step", "time": "begins", "forecast": "forecast", "naive_weekly": "a week ago", "truth": "truth"}
    rows = [{**row, "time": local(row["time"])} for row in found.forecast.to_dicts()]
    title = f"{found.stream}, sensor {found.sensor}: {found.model}, issued {local(found.issued_at)}"
    console.print(f"[bold]{escape(title)}, in the {found.part} part of {escape(found.period)}[/bold]", soft_wrap=True)
    print_table("", rows, unit)
    inputs = [{**row, "time": local(row["time"])} for row in found.inputs.to_dicts()]
    cells = {"time": "begins", "variable": "variable", "value": "value", "flag": "flag", "rows": "landed in"}
    print_table("\nread in the window", [row for row in inputs if row["lag"] is None], cells)
    if seasonal := [row for row in inputs if row["lag"] is not None]:
        print_table("\nread of earlier seasons", seasonal, {"lag": "earlier by", **cells})
    moving = found.sensors.head(MOVING).to_dicts()
    columns = {"sensor_id": "sensor", "weight": "weight of its edge", "moves": "moves the forecast by"}
    print_table(f"\nsensors that move the forecast most, {len(moving)} of {len(found.sensors)}", moving, columns)
    console.print()
    if found.prompt:
        near = ", ".join(f"{name} ({shown(apart)})" for name, apart in found.prompt["nearest"].items())
        length = f"length {shown(found.prompt['length'])}, of all sensors {shown(found.prompt['mean_length'])}"
        console.print(escape(f"prompt: {found.prompt['told']}; {length}; nearest: {near or 'none'}"), soft_wrap=True)
    facts: dict[str, Any] = {**found.facts, "parts": ", ".join(found.facts["parts"])}
    console.print(escape("model: " + "; ".join(f"{name} {value}" for name, value in facts.items())), soft_wrap=True)
