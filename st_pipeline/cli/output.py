"""Printing: one JSON document, or tables a person reads."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import click
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from st_pipeline.errors import InputError

WIDTH = 150  # at least: a table that is too wide for the window is better than one with its numbers cut off
WIDEST = 1000
console = Console(highlight=False, emoji=False, width=max(WIDTH, shutil.get_terminal_size().columns))


def print_json(document: Any) -> None:
    """One JSON document on standard output; what is not a number is null."""
    click.echo(json.dumps(_plain(document), indent=1, ensure_ascii=False, default=str, allow_nan=False))


def _plain(value: Any) -> Any:
    """The same without NaN and infinities, which JSON has not."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_table(title: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], marked: str = "") -> None:
    """Rows as a table; `columns` maps keys to headings, the row whose first cell is `marked` stands out."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for index, heading in enumerate(columns.values()):
        justify = "left" if index == 0 else "right"
        table.add_column(heading, justify=justify, no_wrap=index == 0, overflow="fold")  # type: ignore[arg-type]
    for row in rows:
        cells = [shown(row.get(key)) for key in columns]
        table.add_row(*map(escape, cells), style="bold" if marked and cells[0] == marked else None)
    width = console.width
    console.width = max(width, Measurement.get(console, console.options.update(max_width=WIDEST), table).minimum)
    console.print(table)
    console.width = width


def shown(value: Any) -> str:
    """A cell: numbers to four digits, nothing as a dash."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return "-" if value != value else f"{value:.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


def print_leaderboard(stream: str, rows: Sequence[Mapping[str, Any]], champion: str) -> None:
    """The summary table of a stream."""
    columns = {
        "model": "model",
        "protocol": "protocol",
        "seeds": "seeds",
        "periods": "periods",
        "mae": "MAE",
        "mae_std": "± seeds",
        "mae_last": "MAE last step",
        "rmse": "RMSE",
        "wape": "WAPE %",
        "r2": "R2",
        "skill": "below weekly %",
        "forgetting": "forgetting",
        "backward_transfer": "backward transfer",
    }
    print_table(f"{stream}: mean over periods, best first", rows, columns, marked=champion)


def print_costs(rows: Sequence[Mapping[str, Any]]) -> None:
    """Cost per model, summed or averaged over its periods."""
    columns = {
        "model": "model",
        "seconds": "training seconds",
        "later_seconds": "seconds a later period",
        "trainable": "trained parameters, last period",
        "parameters": "all parameters",
        "peak_mib": "peak MiB",
        "ms_per_forecast": "ms a forecast",
    }
    print_table("cost", rows, columns)


def moment_of(text: str, timezone: str) -> datetime:
    """The time that `--at` names, on the stream's clock unless it has an offset.

    Raises:
        InputError: it is no time.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(f"--at {text!r}: expected a time such as 2014-12-01T08:00 or 2014-12-01T08:00+11:00") from None
    return found if found.tzinfo else found.replace(tzinfo=ZoneInfo(timezone))
