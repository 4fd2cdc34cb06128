"""`coldstart`: what a sensor that is not there yet would be forecast, and how fast a new one becomes good."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table, shown
from st_pipeline.cli.sensors import stored_edges, stored_sensors
from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.forecasting.serving import chosen_model
from st_pipeline.storage import lake
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.forecasting.issue import Sources
    from st_pipeline.forecasting.site import Site
    from st_pipeline.model_config import ModelConfig

DPI = 110
HURT = 10  # sensors shown
CURVE = {
    "days": "days of readings",
    "mae": "MAE",
    "times_weekly": "times weekly naive's",
    "middle": "half of the sensors",
    "times_known": "times known sensors'",
    "coverage": "in 90 % intervals",
    "sensors": "sensors",
    "forecasts": "forecasts",
}


@click.command()
@click.argument("stream")
@click.option("--latitude", type=float, help="Of the place, in degrees.")
@click.option("--longitude", type=float, help="Of the place, in degrees.")
@click.option("--x", type=float, help="Of the place, in metres, where sensors have x and y.")
@click.option("--y", type=float, help="Of the place, in metres.")
@click.option("--sensor", metavar="ID", help="The place of this sensor, as if it had never been heard.")
@click.option("--drop", "dropped", metavar="ID", help="Whom it hurts if this sensor goes.")
@click.option("--model", metavar="NAME", help="Of the stream; by default the one that serves.")
@click.option("--picture", type=click.Path(dir_okay=False), help="Write the curve here, as PNG.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def coldstart(
    stream: str,
    sensor: str | None,
    dropped: str | None,
    model: str | None,
    picture: str | None,
    as_json: bool,
    **place: float | None,
) -> None:
    """The forecast that a new sensor of STREAM would get now, and how fast new sensors become good.

    The forecast is for a place or a sensor that is hidden; the curve is estimated by hiding sensors on the newest
    period's test part. Nothing is written or trained.
    """
    from st_pipeline.forecasting.cold_start_document import cold_start, drop
    from st_pipeline.forecasting.issue import Issue

    given = {axis: value for axis, value in place.items() if value is not None}
    _only_one(given, sensor, dropped, picture)
    config = find_stream(stream).config
    chosen = chosen_model(config, model)
    if dropped is not None:
        found = drop(Issue.of(_sources(config, chosen)), dropped)
    else:
        sources, site = _placed(_sources(config, chosen), given, sensor)
        found = cold_start(Issue.of(sources), site)
    if picture:
        _draw(found, Path(picture))
    if as_json:
        print_json(found)
    elif dropped is not None:
        _show_drop(found)
    else:
        _show(found, ZoneInfo(config.timezone))


def _only_one(given: dict[str, float], sensor: str | None, dropped: str | None, picture: str | None) -> None:
    """
    Raises:
        InputError: options that do not go together.
    """
    chosen = [name for name, used in (("coordinates", given), ("--sensor", sensor), ("--drop", dropped)) if used]
    if len(chosen) > 1:
        raise InputError(f"found {' and '.join(chosen)}; expected one of them")
    if dropped is not None and picture:
        raise InputError("--picture draws the curve, which --drop has not; leave one of them out")


def _sources(config: StreamConfig, model: ModelConfig) -> Sources:
    """What forecasts of the newest period are made of.

    Raises:
        InputError: nothing is stored.
    """
    from st_pipeline.data.lives import NODE_SET
    from st_pipeline.data.tensors import TENSOR
    from st_pipeline.forecasting.issue import Sources
    from st_pipeline.forecasting.stored import learned_periods
    from st_pipeline.training.checkpoint import CHECKPOINTS

    name = config.name
    learned_periods(config, model)
    keys = lake().periods((name, "tensor"), TENSOR.extension)
    if not keys:
        raise InputError(f"stream {name!r} has no tensor yet; run `st-pipeline run {name}` first")
    newest = config.calendar.find(keys[-1])
    before = config.calendar.period(newest.index - 1).key if newest.index else None

    def parts(part: str) -> dict[str, Any]:
        key = (name, model.name, part)
        stored = lake().periods(key, CHECKPOINTS.extension)
        return {period: lake().read(key, period, CHECKPOINTS) for period in stored if period < newest.key}

    return Sources(
        config=config,
        model=model,
        period=newest,
        tensors={key: lake().read((name, "tensor"), key, TENSOR) for key in keys},
        sensors=stored_sensors(config),
        before=lake().read((name, "node_set"), before, NODE_SET) if before else None,
        parts={part: parts(part) for part in model.parts},
        edges=stored_edges(config, newest.key),
    )


def _placed(sources: Sources, given: dict[str, float], sensor: str | None) -> tuple[Sources, Site | None]:
    """The same with the place among the sensors, and the place; None if none is asked for."""
    from dataclasses import replace

    from st_pipeline.forecasting.site import known_site, new_site

    name, sensors, edges = sources.config.name, sources.sensors, sources.edges
    if sensor is not None:
        site = known_site(name, sensor, sensors, edges)
    elif given:
        site = new_site(name, given, sensors, edges, sources.period.last_day)
    else:
        return sources, None
    return replace(sources, sensors=site.sensors, edges=site.edges), site


def _draw(found: dict[str, Any], file: Path) -> None:
    from st_pipeline.reporting.cold_start_plot import cold_start_plot

    buffer = BytesIO()
    cold_start_plot(found).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    write_atomic(file, buffer.getvalue())


def _show(found: dict[str, Any], zone: ZoneInfo) -> None:
    def say(text: str) -> None:
        console.print(escape(text), soft_wrap=True)

    unit = f" in {found['unit']}" if found["unit"] else ""
    say(f"{found['stream']}: {found['target']}{unit}, {found['model_id']}, {found['known_sensors']} known sensors")
    if "forecast" in found:
        issued = f"{found['issued_at'].astimezone(zone):%Y-%m-%d %H:%M %z}"
        if found["neighbours"]:
            columns = {"sensor_id": "neighbour", "metres": "metres away", "weight": "weight", "share": "share"}
            print_table("", found["neighbours"], columns)
        if found["note"]:
            say(found["note"])
        if found["forecast"][0]["point"] is not None:
            rows = [
                {**row, "time": f"{row['target_time'].astimezone(zone):%H:%M}", "interval": _interval(row)}
                for row in found["forecast"]
            ]
            columns = {"horizon": "step", "time": "begins", "point": "forecast", "interval": "90 %"}
            known = {"known": "with its own readings"} if "known" in rows[0] else {}
            say(f"\n{found['sensor']}, without any reading, issued {issued}")
            print_table("", rows, {**columns, **known})
            if found["cold_coverage"] is not None:
                say(f"such intervals held {_percent(found['cold_coverage'])} of the truths of hidden sensors")
    if not found["curve"]:
        return say("no known sensor was heard often enough to be hidden, so there is no curve")
    rows = [{**row, "middle": _middle(row), "coverage": _percent(row["coverage"])} for row in found["curve"]]
    say(f"\n{len(found['hidden'])} known sensors hidden on {found['days_tried']} days of {found['period']}'s test part")
    print_table("", rows, CURVE)
    for text in found["expectation"]:
        say(text)
    return None


def _show_drop(found: dict[str, Any]) -> None:
    text = (
        f"{found['stream']}, without the readings of {found['sensor']}: the others' MAE {shown(found['mae'])} -> "
        f"{shown(found['mae_without'])} ({found['percent']:+.2f} %), {found['issue_times']} issue times of "
        f"{found['period']}'s test part, {found['model_id']}"
    )
    console.print(escape(text), soft_wrap=True)
    columns = {"sensor_id": "sensor", "percent": "change of MAE, %", "mae": "MAE", "mae_without": "without it"}
    rows = found["others"][:HURT]
    print_table(
        f"hurt most, {len(rows)} of {len(found['others'])}",
        rows,
        {**columns, "weight": "weight of its edge", "forecasts": "forecasts"},
    )


def _interval(row: dict[str, Any]) -> str | None:
    return None if row["q05"] is None else f"{shown(row['q05'])} to {shown(row['q95'])}"


def _middle(row: dict[str, Any]) -> str | None:
    return None if row["low"] is None else f"{row['low']:.2f} to {row['high']:.2f}"


def _percent(share: float | None) -> str | None:
    return None if share is None else f"{100 * share:.1f} %"
