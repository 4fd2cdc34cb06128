"""The command in this process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from click.testing import CliRunner, Result

from st_pipeline import streams as finding
from st_pipeline.cli import main


@pytest.fixture
def invoke(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """`invoke("check", "small")` in a workspace that has its own streams only."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    return lambda *arguments: CliRunner().invoke(main, arguments)
