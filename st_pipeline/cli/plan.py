"""`plan`: what late and corrected rows made stale, and what recomputing costs; nothing is changed."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import click
from rich.markup import escape

from st_pipeline.cli.output import console, print_json, print_table

GROUPS = {"period": "period", "assets": "assets", "models": "models", "forecasts": "forecasts", "why": "why"}
OPTIONS = {"option": "option", "partitions": "partitions", "seconds": "seconds", "what": "what"}


@click.command()
@click.argument("stream")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def plan(stream: str, as_json: bool) -> None:
    """Say which partitions of STREAM are behind its raw files and why, with the cost of three ways to deal with it."""
    with console.status(f"{stream}: comparing") if not as_json else nullcontext():
        document = examine(stream)
    if as_json:
        print_json(document)
        return
    if not document["stale"]:
        console.print(f"{stream}: nothing is behind")
        return
    if document["files"] or document["gone"]:
        console.print(f"changed files: {escape(', '.join([*document['files'], *document['gone']]))}", soft_wrap=True)
    print_table("", by_period(document["stale"]), GROUPS)
    print_table("", document["options"], OPTIONS)
    if any(option["unknown"] for option in document["options"]):
        console.print("[dim]steps that were never run are not in the seconds[/dim]")
    console.print("[dim]an upper bound: what comes out as before stops what follows; issued forecasts stay[/dim]")


def examine(name: str) -> dict[str, Any]:
    """Changed files and rows, every stale partition with its reason, and the options."""
    from resources.instance import open_instance
    from resources.source import open_source
    from st_pipeline.cli.planning import Plan, find_changes
    from st_pipeline.definitions import build
    from st_pipeline.streams import find_stream

    stream = find_stream(name)
    changes = find_changes(stream, open_source(stream))
    found = Plan(stream, open_instance(), build().get_repository_def().asset_graph, changes)
    rows = [
        {"asset": "/".join(key.path[1:]), "period": period, "why": why} for (key, period), why in found.stale.items()
    ]
    options = found.options() if rows else []
    return {"stream": name, "files": changes.files, "gone": changes.gone, "rows": changes.rows, "stale": rows} | {
        "options": options
    }


def by_period(stale: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row a period: how many assets, which models, how many forecasts, and the first reason."""
    rows = []
    for period in dict.fromkeys(row["period"] for row in stale):
        own = [row for row in stale if row["period"] == period]
        names = [row["asset"].split("/") for row in own]
        models = dict.fromkeys(parts[0] for parts in names if len(parts) == 2 and parts[1] == "backbone")
        forecasts = sum(parts[0].startswith("forecast") for parts in names)
        facts = {"assets": len(own), "models": ", ".join(models) or None, "forecasts": forecasts or None}
        rows.append({"period": period or "all", **facts, "why": own[0]["why"]})
    return rows
