"""`results`: all models of one or several streams side by side, as a page."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import click

from st_pipeline.cli.output import print_json
from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.streams import Stream, find_stream, load_streams

DPI = 110


@click.command()
@click.argument("names", nargs=-1, metavar="[STREAM]...")
@click.option("--write", type=click.Path(dir_okay=False), help="Write the page here, its pictures to images/ beside.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def results(names: tuple[str, ...], write: str | None, as_json: bool) -> None:
    """Tables of all models of every STREAM, by default of all that have results, in Markdown."""
    from st_pipeline.benches import is_bench
    from st_pipeline.reporting.results import rank_over_streams, read_results, read_universality
    from st_pipeline.reporting.results_page import draw, render
    from st_pipeline.reporting.universality_page import BenchResults

    streams = [stream.config for stream in _streams(names)]
    found = [read_results(config) for config in streams if not is_bench(config.name)]
    benches = [BenchResults(config, read_universality(config)) for config in streams if is_bench(config.name)]
    ranks = rank_over_streams(found)
    written: list[str] = []
    if write is not None:
        figures = draw(found, ranks, benches)
        page = render(found, ranks, benches=benches, pictures=figures.keys())
        written = _write(Path(write), page, figures)
    if as_json:
        documents = [one.document() for one in found]
        tables = [{"bench": bench.config.name, "rows": bench.table.to_dicts()} for bench in benches]
        print_json({"streams": documents, "ranks": ranks and vars(ranks), "benches": tables, "written": written})
    else:
        click.echo("\n".join(written) if written else render(found, ranks, benches=benches), nl=bool(written))


def _streams(names: tuple[str, ...]) -> list[Stream]:
    """The named streams, each once, or all that have results.

    Raises:
        InputError: there is no such stream, or none has results.
    """
    from st_pipeline.reporting.results import has_results

    if names:
        return [find_stream(name) for name in dict.fromkeys(names)]
    found = [stream for stream in load_streams()[0] if has_results(stream.config)]
    if not found:
        raise InputError("no stream has results yet; run `st-pipeline run STREAM` first, or `st-pipeline demo`")
    return found


def _write(page: Path, text: str, figures: Mapping[str, Any]) -> list[str]:
    """Write the pictures and the page; returns their paths, the page first."""
    from st_pipeline.reporting.results_page import IMAGES

    paths = [page]
    for name, figure in figures.items():
        buffer = BytesIO()
        figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        paths.append(page.parent / IMAGES / f"{name}.png")
        write_atomic(paths[-1], buffer.getvalue())
    write_atomic(page, text.encode())
    return [str(path) for path in paths]
