"""Parts of a page in Markdown: tables, numbers, text that is no markup of its own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def grid(rows: Iterable[Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """A Markdown table; `columns` maps keys to headings, numbers stand on the right."""
    cells = [[row.get(key) for key in columns] for row in rows]
    numbers = [
        all(isinstance(row[place], int | float | None) for row in cells)
        and any(row[place] is not None for row in cells)
        for place in range(len(columns))
    ]
    lines = [list(columns.values()), ["--:" if number else "---" for number in numbers]]
    lines += [[number(cell) if isinstance(cell, float) else _cell(cell) for cell in row] for row in cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else plain(str(value))


def number(value: float) -> str:
    """Four digits, without exponents."""
    if value != value:
        return "–"
    size = abs(value)
    if size >= 10_000:
        return f"{value:,.0f}"
    return f"{value:.4g}" if size >= 1e-3 or not value else f"{value:.2g}" if size >= 1e-4 else f"{value:.6f}"


def plain(text: str) -> str:
    """Text that is no markup of its own: one line, no cell's end, no tag."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def changed(row: Mapping[str, Any], *, prefix: str = "") -> str | None:
    """The cell of a tested change in percent with its interval; None where nothing is known.

    Args:
        prefix: of the columns `mark`, `relative`, `relative_low`, `relative_high`.
    """
    mark, change = row[f"{prefix}mark"], row[f"{prefix}relative"]
    if mark is None or change is None:
        return None if mark is None else str(mark)
    return f"{mark}, {change:+.1f} % ({row[f'{prefix}relative_low']:+.1f} to {row[f'{prefix}relative_high']:+.1f})"
