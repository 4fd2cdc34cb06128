"""`gc`: remove what has been kept for long enough."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from st_pipeline.cli.output import console, print_json, print_table

MIB = 1 << 20
DAYS = click.FloatRange(min=0, max=36500)


@click.command()
@click.option("--dry-run", is_flag=True, help="Print what would go; change nothing.")
@click.option("--runs", type=DAYS, help="Days that runs and their logs are kept; default ST_PIPELINE_KEEP_RUNS or 30.")
@click.option("--logs", type=DAYS, help="Days for what steps printed; default ST_PIPELINE_KEEP_LOGS or 14.")
@click.option("--states", type=DAYS, help="Days for unfinished trainings; default ST_PIPELINE_KEEP_STATES or 30.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def gc(dry_run: bool, as_json: bool, **days: float | None) -> None:
    """Remove old runs, logs and leftovers; never raw files, results or the newest record of anything."""
    from resources.housekeeping import Limits, compact_instance, plan, summary, tidy
    from resources.instance import open_instance
    from st_pipeline.storage import home

    limits = replace(Limits.from_environment(), **{name: value for name, value in days.items() if value is not None})
    instance = open_instance() if (home() / "dagster" / "dagster.yaml").exists() else None
    before, skipped = size_of(home()), None
    items = plan(instance, limits)
    if not dry_run:
        tidy(items)
        skipped = compact_instance(instance) if instance else None
    document: dict[str, Any] = {
        "home": str(home()),
        "days": vars(limits),
        "dry_run": dry_run,
        "kinds": summary(items),
        "bytes_before": before,
        "bytes_after": size_of(home()),
        "not_compacted": skipped,
    }
    print_json(document) if as_json else _print(document)


def size_of(folder: Path) -> int:
    """Bytes of all files in a folder, temporary ones that vanish meanwhile aside."""
    total = 0
    for file in folder.rglob("*"):
        try:
            total += file.lstat().st_size if file.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _print(document: dict[str, Any]) -> None:
    rows = [{**row, "mib": row["bytes"] / MIB} for row in document["kinds"]]
    title = "would go" if document["dry_run"] else "gone"
    print_table(
        f"{title} from {document['home']}", rows, {"kind": "kind", "count": "count", "mib": "MiB", "what": "what"}
    )
    kept = ", ".join(f"{name} {days:g} days" for name, days in document["days"].items())
    console.print(f"kept: {kept}; results, raw files and the newest records always", soft_wrap=True)
    if not document["dry_run"]:
        console.print(f"{document['bytes_before'] / MIB:.1f} MiB before, {document['bytes_after'] / MIB:.1f} after")
    if document["not_compacted"]:
        console.print(f"the databases are not compacted, since {document['not_compacted']}", soft_wrap=True)
