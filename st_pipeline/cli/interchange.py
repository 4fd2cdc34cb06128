"""`import` and `export`: the field's data formats into stream folders, and streams into the field's formats."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import click
from rich.markup import escape

from st_pipeline.cli.new import draft_of, free_folder, show_next
from st_pipeline.cli.output import console
from st_pipeline.errors import InputError
from st_pipeline.periods import between
from st_pipeline.registry import EXPORTERS, IMPORTERS
from st_pipeline.streams import find_stream


def _options(given: tuple[str, ...]) -> dict[str, str]:
    """`KEY=VALUE` pairs."""
    pairs = [pair.partition("=") for pair in given]
    if bad := [key for key, mark, value in pairs if not (key and mark and value)]:
        raise InputError(f"--set {bad[0]}: expected KEY=VALUE, such as start=2018-01-01")
    return {key: value for key, _, value in pairs}


@click.command("import")
@click.argument("format_", metavar="FORMAT")
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="Name of the stream.")
@click.option("--into", default="streams", show_default=True, type=click.Path(), help="Folder of stream folders.")
@click.option(
    "--set", "given", multiple=True, metavar="KEY=VALUE", help="An option of the format, e.g. start=2018-01-01."
)
def import_(format_: str, path: Path, name: str, into: str, given: tuple[str, ...]) -> None:
    """Make the stream folder NAME from an archive in FORMAT at PATH; every guess is marked in its stream.yaml."""
    from st_pipeline.interchange.base import write_draft

    spec = IMPORTERS.validate({"name": format_, **_options(given)})
    folder = free_folder(name, into)
    with console.status(f"{path}: reading") if console.is_terminal else nullcontext():
        draft = IMPORTERS.build(spec, path=path)
        with draft_of(folder) as target:
            write_draft(draft, target)
    show_next(folder)


@click.command()
@click.argument("stream")
@click.option("--format", "format_", required=True, help="The layout to write.")
@click.option(
    "--into", required=True, type=click.Path(path_type=Path), help="Folder to write; it must be new or empty."
)
@click.option("--periods", metavar="A..B", help="Only these periods, or one.")
@click.option(
    "--missing",
    type=click.Choice(["nan", "zero"]),
    default="nan",
    show_default=True,
    help="What stands for a missing value; much published code expects zero, which hides true zeros.",
)
def export(stream: str, format_: str, into: Path, periods: str | None, missing: str) -> None:
    """Write STREAM in another layout: the values that its checks let through, and its graph."""
    import numpy as np

    from resources.source import open_source
    from st_pipeline.interchange.parts.network import read_network

    spec = EXPORTERS.validate({"name": format_})
    found = find_stream(stream)
    if into.exists() and (not into.is_dir() or any(into.iterdir())):
        raise InputError(f"{into}: exists and is not empty; choose another folder")
    calendar = found.config.calendar.periods()
    chosen = between([period.key for period in calendar], periods, stream)
    network = read_network(found.config, open_source(found), [p for p in calendar if p.key in set(chosen)])
    draft = into.absolute().with_name(f".{into.absolute().name}.new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        EXPORTERS.build(spec, network=replace(network, missing=np.nan if missing == "nan" else 0.0), folder=draft)
        draft.replace(into.absolute())
    except OSError as error:
        raise InputError(f"{into}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    console.print(f"wrote {escape(str(into))}", soft_wrap=True)
