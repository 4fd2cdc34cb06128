"""`champion`, `promote`, `rollback`, `shadow`, `freeze`, `unfreeze`: which model serves, changed through Dagster."""

from __future__ import annotations

import getpass
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table
from st_pipeline.errors import InputError
from st_pipeline.forecasting.serving import Serving, serving
from st_pipeline.forecasting.shadows import shadow_scores
from st_pipeline.storage import lake
from st_pipeline.streams import find_stream

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.evaluation.standing import Standing

AS_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
REASON = click.option("--reason", default="", metavar="TEXT", help="Why; kept in the history.")


@click.command()
@click.argument("stream")
@AS_JSON
def champion(stream: str, as_json: bool) -> None:
    """Which model of STREAM serves, what was done so far, and how its challengers stand against it."""
    config = find_stream(stream).config
    state = serving(config)
    rows, beside = _standings(config, state), shadow_scores(config, state, lake())
    if as_json:
        print_json({**_document(stream, state), "challengers": rows, "shadow_scores": beside})
        return
    _say(stream, state)
    if state.history:
        columns = {"when": "when", "action": "action", "model": "model", "before": "served before", "by": "by"}
        columns |= {"reason": "reason", "evidence": "evidence"}
        print_table("\nhistory, newest first", [event.row() for event in reversed(state.history)], columns)
    columns = {"model": "challenger", "relative": "error, % of the champion's", "p": "p", "eligible": "may be promoted"}
    print_table("\nchallengers, over the last periods", rows, columns)
    for row in rows:
        if row["why"]:
            console.print(f"[dim]{escape(row['why'])}[/dim]", soft_wrap=True)
    columns = {"model": "shadow", "days": "days", "mae": "error", "champion_mae": "champion's"}
    columns |= {"naive_weekly_mae": "weekly naive", "coverage_90": "in 90 % intervals"}
    if beside:
        print_table("\nshadows, their published forecasts on the days that both have", beside, columns)


@click.command()
@click.argument("stream")
@click.argument("model")
@click.option("--require-drill", is_flag=True, help="Only if its robustness drill is there and passed.")
@click.option("--force", is_flag=True, help="Whatever the evidence says; needs --reason.")
@REASON
@AS_JSON
def promote(stream: str, model: str, require_drill: bool, force: bool, reason: str, as_json: bool) -> None:
    """Let MODEL serve, if it was better than the champion long enough (docs/operations.md)."""
    _act(
        stream, action="promote", model=model, require_drill=require_drill, force=force, reason=reason, as_json=as_json
    )


@click.command()
@click.argument("stream")
@REASON
@AS_JSON
def rollback(stream: str, reason: str, as_json: bool) -> None:
    """Let the model serve that did before the last promotion; nothing is trained."""
    _act(stream, action="rollback", reason=reason, as_json=as_json)


@click.command()
@click.argument("stream")
@click.argument("model")
@click.option("--stop", is_flag=True, help="No longer.")
@REASON
@AS_JSON
def shadow(stream: str, model: str, stop: bool, reason: str, as_json: bool) -> None:
    """Let MODEL forecast beside the champion; what it publishes serves nobody and is scored."""
    _act(stream, action="unshadow" if stop else "shadow", model=model, reason=reason, as_json=as_json)


@click.command()
@click.argument("stream")
@REASON
@AS_JSON
def freeze(stream: str, reason: str, as_json: bool) -> None:
    """Keep serving, stop learning: the schedule of STREAM trains nothing."""
    _act(stream, action="freeze", reason=reason, as_json=as_json)


@click.command()
@click.argument("stream")
@REASON
@AS_JSON
def unfreeze(stream: str, reason: str, as_json: bool) -> None:
    """Let the schedule of STREAM train again."""
    _act(stream, action="unfreeze", reason=reason, as_json=as_json)


def _act(name: str, *, as_json: bool, **asked: Any) -> None:
    """Materialise the stream's champion with an action, and say what came of it.

    Raises:
        InputError: the action was refused; nothing is changed.
    """
    import logging

    import dagster as dg

    from assets.champion import champion_asset
    from assets.common import StreamAssets
    from resources.failures import sentence
    from resources.instance import open_instance
    from resources.lake import io_managers
    from st_pipeline.cli.runner import QUIET

    stream = find_stream(name)
    before = serving(stream.config)
    made = champion_asset(StreamAssets(stream))
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    result = dg.materialize(
        [made],
        instance=open_instance(),
        resources=io_managers(),
        run_config={**QUIET, "ops": {made.op.name: {"config": {**asked, "by": _user()}}}},
        raise_on_error=False,
    )
    for event in result.filter_events(lambda event: event.is_step_failure):
        raise InputError(sentence(event))
    after = serving(stream.config)
    if as_json:
        print_json(_document(name, after))
        return
    if len(after.history) == len(before.history):
        click.echo(f"{name}: it is so already, nothing was changed")
    _say(name, after)


def _user() -> str:
    """Who is logged in, as far as the system knows."""
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a process without a user name
        return ""


def _document(stream: str, state: Serving) -> dict[str, Any]:
    return {"stream": stream, **vars(state), "history": [event.model_dump(mode="json") for event in state.history]}


def _say(stream: str, state: Serving) -> None:
    beside = f"; shadows: {', '.join(state.shadows)}" if state.shadows else ""
    frozen = "; frozen: it serves and learns nothing" if state.frozen else ""
    note = f" ({state.note})" if state.note else ""
    console.print(escape(f"{stream}: {state.champion or 'no model'} serves{note}{beside}{frozen}"), soft_wrap=True)


def _standings(config: StreamConfig, state: Serving) -> list[dict[str, Any]]:
    """A row per challenger."""
    from st_pipeline.forecasting.promotion import eligible, standing_of

    rows = []
    for model in eligible(config):
        if model == state.champion:
            continue
        try:
            rows.append(_row(standing_of(config, state.champion, model)))
        except InputError as error:
            nothing = dict.fromkeys(("relative", "p", "periods", "by_period"))
            rows.append({"model": model, **nothing, "eligible": False, "why": str(error)})
    return rows


def _row(found: Standing) -> dict[str, Any]:
    tested = found.tested or {}
    return {
        "model": found.model,
        "relative": tested.get("relative"),
        "p": tested.get("p_holm"),
        "periods": found.last,
        "by_period": found.relative,
        "eligible": not found.refusal,
        "why": found.refusal,
    }
