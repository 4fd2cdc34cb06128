"""`alerts`: what is open, in JSON and as a table; a test that says what failed; variables that cannot be used."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from click.testing import Result

from st_pipeline.alerts.book import Book, Finding

Invoke = Callable[..., Result]


def test_open_alerts_are_listed(workspace: Any, invoke: Invoke) -> None:
    assert "no alert is open" in invoke("alerts").stdout
    Book([]).tell([Finding("disk_low", "home", "critical", "[b]full[/b]")], lambda key: True)
    assert "[b]full[/b]" in invoke("alerts").stdout
    (found,) = json.loads(invoke("alerts", "--json").stdout)["open"]
    assert (found["key"], found["runbook"]) == ("disk_low:home", "docs/operations.md#alert-disk-low")


def test_a_test_tells_which_channel_failed(workspace: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    result = invoke("alerts", "--test", "--json")
    assert (result.exit_code, [one["ok"] for one in json.loads(result.stdout)["test"]]) == (0, [True])
    monkeypatch.setenv("ST_PIPELINE_ALERT_WEBHOOK", "http://127.0.0.1:9/secret")
    result = invoke("alerts", "--test", "--json")
    assert result.exit_code == 1
    sent = {one["channel"]: one for one in json.loads(result.stdout)["test"]}
    assert sent["webhook"]["reason"].endswith("Connection refused") and not sent["webhook"]["ok"]
    assert "secret" not in result.output


def test_a_variable_that_cannot_be_used_is_bad_input(
    workspace: Any, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ST_PIPELINE_ALERT_WEBHOOK", "secret")
    for command in ("alerts", "doctor"):
        result = invoke(command)
        assert result.exit_code == {"alerts": 2, "doctor": 1}[command]
        assert "ST_PIPELINE_ALERT_WEBHOOK is no address" in result.output and "secret" not in result.output


def test_every_rule_has_its_entry_in_the_runbook() -> None:
    """The link of an alert is a heading of the page."""
    import re
    from pathlib import Path

    root = Path(__file__).parents[3]
    page = (root / "docs" / "operations.md").read_text()
    headings = {"alert-" + text.lower().replace(" ", "-") for text in re.findall(r"^### Alert: (.+)$", page, re.M)}
    sources = [*(root / "st_pipeline" / "alerts").glob("*.py"), root / "assets" / "alerts.py"]
    rules = {name for file in sources for name in re.findall(r'Finding\(\s*"([a-z_]+)"', file.read_text())}
    assert len(rules) >= 10
    assert {"alert-" + rule.replace("_", "-") for rule in rules - {"test"}} == headings
