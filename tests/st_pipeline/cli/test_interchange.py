"""`import` and `export`: what is asked for is checked before anything is read, and nothing half-done is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result

from st_pipeline.registry import EXPORTERS, IMPORTERS

Invoke = Callable[..., Result]


@pytest.fixture
def archive(workspace: Any) -> Path:
    folder = workspace.folder / "archive"
    folder.mkdir()
    for year in (2011, 2012):
        np.savez(folder / f"{year}.npz", x=np.random.default_rng(year).random((600, 3)))
    return folder


def test_every_format_has_a_name_and_options() -> None:
    assert len(IMPORTERS.names()) == 14 and len(EXPORTERS.names()) == 6
    for registry in (IMPORTERS, EXPORTERS):
        for name in registry.names():
            assert registry.validate({"name": name}) == {"name": name}


def test_import_and_export(workspace: Any, invoke: Invoke, archive: Path) -> None:
    result = invoke("import", "eac", str(archive), "--name", "mine", "--set", "step=1h")
    assert result.exit_code == 0 and "st-pipeline check mine" in result.stdout
    assert "# guessed" in (workspace.streams / "mine" / "stream.yaml").read_text()
    out = workspace.folder / "out"
    assert invoke("export", "mine", "--format", "eac", "--into", str(out), "--periods", "2024-01-26").exit_code == 0
    assert [file.name for file in sorted(out.rglob("*.npz"))] == ["2024-01-26.npz", "2024-01-26_adj.npz"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["import", "eac", "archive", "--name", "Mine"], "'Mine' cannot be the name of a stream"),
        (["import", "eac", "archive", "--name", "taken"], "streams/taken exists already"),
        (["import", "zip", "archive", "--name", "mine"], "there is no import format called 'zip'"),
        (["import", "eac", "archive", "--name", "mine", "--set", "step"], "--set step: expected KEY=VALUE"),
        (["import", "eac", "archive", "--name", "mine", "--set", "start=x"], "option 'start': found 'x'"),
        (["import", "eac", "archive", "--name", "mine", "--into", "file"], "cannot be written"),
        (["export", "taken", "--format", "csv", "--into", "out"], "there is no export format called 'csv'"),
        (["export", "none", "--format", "eac", "--into", "out"], "there is no stream 'none'"),
        (["export", "taken", "--format", "eac", "--into", "archive"], "archive: exists and is not empty"),
        (["export", "taken", "--format", "eac", "--into", "out", "--periods", "2010"], "has no period '2010'"),
    ],
)
def test_what_cannot_be_done_leaves_nothing(
    workspace: Any, invoke: Invoke, archive: Path, arguments: list[str], expected: str
) -> None:
    workspace.stream("taken")
    (workspace.folder / "file").write_text("")
    before = sorted(workspace.folder.rglob("*"))
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert expected in result.stderr and result.stderr.count("\n") == 1
    assert sorted(workspace.folder.rglob("*")) == before
