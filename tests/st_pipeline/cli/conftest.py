"""The command in this process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from st_pipeline import streams as finding
from st_pipeline.cli import main


@pytest.fixture
def invoke(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`invoke("check", "small")` in a workspace that has its own streams only, whatever an earlier test has loaded."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    monkeypatch.delitem(sys.modules, "st_pipeline.definitions", raising=False)
    return lambda *arguments: CliRunner().invoke(main, arguments)


@pytest.fixture(scope="session")
def town_folder(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Path:
    """The folder of a workspace whose stream `town` has trained its champion on two of three periods; a pattern."""
    space = make_workspace(tmp_path_factory.mktemp("town"))
    space.landed_stream("town", champion="eac")
    done = space.command("run", "town", "--models", "eac", "--periods", "..2024-01-08")
    assert done.returncode == 0, done.stderr
    return Path(space.folder)


@pytest.fixture
def town(workspace: Any, invoke: Callable[..., Result], town_folder: Path) -> Any:
    """A workspace of its own with a copy of that."""
    shutil.copytree(town_folder, workspace.folder, dirs_exist_ok=True)
    return workspace
