"""The published tables as a section of a Markdown document, between two markers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from st_pipeline.errors import InputError
from st_pipeline.evaluation.parameter_counts import Counted, CountedBackbone, counted, counted_backbones
from st_pipeline.evaluation.published import Row, Table, published_streams, published_tables
from st_pipeline.evaluation.reproduction import Compared, compare

BEGIN = "<!-- published tables: written by `st-pipeline reproduce --write FILE` -->"
END = "<!-- end of published tables -->"
HEADINGS = {"mae": "MAE", "rmse": "RMSE", "mape": "MAPE %", "seconds": "seconds"}


def section() -> str:
    """The section: every published number, and ours where no data are needed; others are empty and say why."""
    tables = published_tables().values()
    return (
        "\n\n".join([_introduction(), *map(_table, tables), _parameters(counted()), _backbones(counted_backbones())])
        + "\n"
    )


def with_section(text: str, file: str) -> str:
    """A document with the section in place of what stands between the markers.

    Raises:
        InputError: it has not exactly one pair of markers.
    """
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise InputError(
            f"{file}: expected one line {BEGIN!r} and behind it one line {END!r}; "
            "put the two where the tables are to stand"
        )
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n\n{section()}\n{END}{rest.split(END)[1]}"


def _introduction() -> str:
    names = ", ".join(f"`{stream.ours}` ({stream.name})" for stream in published_streams().values())
    return f"""## Published tables

    st-pipeline reproduce list
    st-pipeline reproduce 1

What is known here of the numbers in EAC's paper, code and logs (`st_pipeline/evaluation/published.yaml`); `-` is a
number that is not on hand. The archives are not public in a repository. Whoever has one adds it as a stream, called
{names},
with the entries of `st_pipeline/methods.yaml` under `protocol: paper`; the command then shows its results in `ours`,
and with `--run` makes them first. `Avg.` is the published average, see [protocols](protocols.md); ± is the standard
deviation over five runs."""


def _table(table: Table) -> str:
    """A published table; a reason is a number there, and a line below."""
    title = f"Table {table.table}: {table.title}" if table.table.isdigit() else f"`{table.table}`: {table.title}"
    sources = "; ".join(dict.fromkeys(row.source for row in table.rows))
    runs = groupby(compare(table.rows), key=lambda found: (found.row.name, found.row.stream, found.row.horizon))
    lines = [_line(list(group)) for _, group in runs]
    numbers = {reason: f"({index})" for index, reason in enumerate(dict.fromkeys(line[-1] for line in lines), start=1)}
    names = ("as published", "method", "stream", "errors", "published", "ours", "reason")
    grid = _grid(names, [(*line[:-1], numbers[line[-1]]) for line in lines])
    legend = "\\\n".join(f"{number} {reason}" for reason, number in numbers.items())
    return f"### {title}\n\nSource: {sources.removesuffix('.')}.\n\n{grid}\n\n{legend}"


def _line(found: Sequence[Compared]) -> tuple[str, ...]:
    """All numbers of one run on one stream, nothing in `ours`, and the reason, what holds for several said once."""
    row = found[0].row
    reasons = dict.fromkeys(reason for one in found for reason in one.reasons)
    method = f"`{row.method}`" if row.method else ""
    errors = " / ".join(HEADINGS[one.row.metric] for one in found)
    return row.name, method, row.stream, errors, " / ".join(_number(one.row) for one in found), "", "; ".join(reasons)


def _number(row: Row) -> str:
    if row.value is None:
        return "-"
    digits = 0 if row.metric == "seconds" else 2
    return f"{row.value:.{digits}f}" + (f" ± {row.spread:.{digits}f}" if row.spread is not None else "")


def _parameters(counts: Iterable[Counted]) -> str:
    rows = []
    for entry, group in groupby(counts, key=lambda one: one.entry):
        found = list(group)
        columns = [[str(getattr(one, name)) for one in found] for name in ("nodes", "published", "ours", "difference")]
        difference = columns.pop()
        shown = [", ".join(column) for column in (*columns, difference if any(d != "0" for d in difference) else ["0"])]
        rows.append((entry.name, f"`{entry.method}`", entry.stream, entry.counts, *shown))
    names = ("as published", "method", "stream", "parameters", "nodes", "published", "ours", "difference")
    told = "Counted on models built at the published sizes of the networks, one number a period; no data are needed."
    return f"### `parameters`: numbers of parameters\n\n{told}\n\n{_grid(names, rows)}"


def _backbones(counts: Iterable[CountedBackbone]) -> str:
    rows = []
    for one in counts:
        entry, numbers = one.entry, (one.entry.nodes, one.entry.value, one.ours, one.entry.unused, one.difference)
        rows.append((entry.name, entry.network, *(f"{number:,}" for number in numbers)))
    names = ("backbone", "network", "nodes", "published", "ours", "unused", "difference")
    told = (
        "Backbones alone, 12 -> 12 steps of one channel, 288 steps a day. `unused` are layers of the public code that "
        "no forecast depends on: ours does without them, and the difference counts them."
    )
    return f"{told}\n\n{_grid(names, rows)}"


def _grid(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = (f"| {' | '.join(row)} |".replace("|  |", "| |") for row in [names, *rows])
    head, *rest = lines
    return "\n".join([head, "|---" * len(names) + "|", *rest])
