"""`backup` and `restore`: the whole home in one archive, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from st_pipeline.cli.output import console, print_json
from st_pipeline.errors import InputError
from st_pipeline.storage import home, lake

MIB = 1 << 20


@click.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def backup(target: Path, as_json: bool) -> None:
    """Save the home in TARGET (.tar.zst or .tar.gz); servers and runs may go on meanwhile."""
    from resources.backup import back_up

    _require_whole()
    manifest = back_up(home(), target, busy=_busy())
    document = _document(manifest, target)
    if as_json:
        print_json(document)
        return
    _print(f"{target}: {target.stat().st_size / MIB:.1f} MiB", document)
    if document["busy"]:
        console.print(f"{document['busy']}: what was stored meanwhile is made again after a restore", soft_wrap=True)


@click.command()
@click.argument("archive", metavar="FILE", type=click.Path(path_type=Path))
@click.option("--into", type=click.Path(path_type=Path), help="The folder to restore, instead of ST_PIPELINE_HOME.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def restore(archive: Path, into: Path | None, as_json: bool) -> None:
    """Bring a home back from FILE; it must be empty, and everything is verified first."""
    from resources.backup import restore as bring_back

    folder = into.absolute() if into else home()
    document = _document(bring_back(archive, folder), folder)
    if as_json:
        print_json(document)
    else:
        _print(str(folder), document)


def _require_whole() -> None:
    """
    Raises:
        InputError: results, or Dagster's records, do not lie in the home.
    """
    if (root := lake().root) != home() / "lake":
        raise InputError(
            f"a backup holds the home, and the results lie at {root}; save that with the means of the store "
            "(versions, a copy of the bucket), and the database with pg_dump"
        )
    file = home() / "dagster" / "dagster.yaml"
    if file.exists() and "postgres" in file.read_text(encoding="utf-8"):
        raise InputError(
            f"a backup holds the home, and Dagster's records lie in Postgres ({file}); save that with pg_dump"
        )


def _busy() -> str | None:
    from resources.housekeeping import in_use
    from resources.instance import open_instance

    if not (home() / "dagster" / "dagster.yaml").exists():
        return None
    with open_instance() as instance:
        return in_use(instance)


def _document(manifest: dict[str, Any], path: Path) -> dict[str, Any]:
    """The manifest without its files, of which number and bytes are told."""
    files = manifest["files"].values()
    rest = {name: value for name, value in manifest.items() if name != "files"}
    return {"path": str(path), **rest, "files": len(files), "bytes": sum(one["bytes"] for one in files)}


def _print(what: str, document: dict[str, Any]) -> None:
    size = f"{document['files']} files, {document['bytes'] / MIB:.1f} MiB"
    console.print(
        f"{what}, of {size}, made {document['made']} by st-pipeline {document['st-pipeline']}", soft_wrap=True
    )
