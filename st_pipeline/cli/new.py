"""`new`: a stream folder from somebody's tables."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
from rich.markup import escape

from st_pipeline.cli.output import console
from st_pipeline.errors import InputError
from st_pipeline.fields import check_name
from st_pipeline.files import write_atomic
from st_pipeline.scaffold import scaffold
from st_pipeline.streams import FILE, load_stream


@click.command()
@click.argument("name")
@click.option(
    "--readings",
    type=click.Path(),
    required=True,
    help="Long table: sensor id, time, values; CSV or Parquet. Or a matrix, time by sensor; npz.",
)
@click.option("--sensors", type=click.Path(), help="Table of sensors with positions; CSV or Parquet.")
@click.option("--into", type=click.Path(), default="streams", show_default=True, help="Folder of stream folders.")
def new(name: str, readings: str, sensors: str | None, into: str) -> None:
    """Make the stream folder NAME from your tables; every guess is marked in its stream.yaml."""
    folder = free_folder(name, into)
    tables = [Path(readings), *([Path(sensors)] if sensors else [])]
    if len({table.name for table in tables}) < len(tables):
        raise InputError(f"both tables are called {tables[0].name!r}; rename one of them")
    text = scaffold(name, tables[0], tables[1] if sensors else None)
    with draft_of(folder) as draft:
        write_atomic(draft / FILE, text.encode())
        for table in tables:
            shutil.copyfile(table, draft / table.name)
    show_next(folder)


def free_folder(name: str, into: str) -> Path:
    """The folder of a new stream, which does not exist yet.

    Raises:
        InputError: the name cannot be a stream's, or is taken.
    """
    try:
        check_name(name)
    except ValueError as error:
        raise InputError(f"{name!r} cannot be the name of a stream: {error}") from None
    folder = Path(into) / name
    if folder.exists():
        raise InputError(f"{folder} exists already; choose another name or remove it")
    return folder


@contextmanager
def draft_of(folder: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the stream's if all ends well and its file is valid; else nothing stays."""
    draft = folder.with_name(f".{folder.name}.new") / folder.name
    shutil.rmtree(draft.parent, ignore_errors=True)
    try:
        yield draft
        load_stream(draft)
        draft.replace(folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(draft.parent, ignore_errors=True)


def show_next(folder: Path) -> None:
    """Say where the stream file lies and what to do with it."""
    where = escape(str(folder / FILE))
    console.print(f"wrote {where}; look at the lines marked 'guessed', then:", soft_wrap=True)
    console.print(f"  st-pipeline check {folder.name}\n  st-pipeline run {folder.name}")
