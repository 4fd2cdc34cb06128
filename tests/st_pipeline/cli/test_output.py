"""What is printed: one JSON document, or tables in which every name is shown as it is."""

from __future__ import annotations

import json
import math

import pytest

from st_pipeline.cli.output import print_json, print_leaderboard, print_table, shown


def test_json_has_no_nan_and_keeps_letters(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": math.nan, "b": [math.inf, 1.5, {"ü": -math.inf}], 3: ("x", None, True)})
    printed = capsys.readouterr().out
    assert json.loads(printed) == {"a": None, "b": [None, 1.5, {"ü": None}], "3": ["x", None, True]}
    assert "ü" in printed


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (None, "-"),
        (math.nan, "-"),
        (0, "0"),
        (1234567, "1,234,567"),
        (True, "True"),
        (0.00012345, "0.0001234"),
        (12345.678, "12,346"),
        (-2.0, "-2"),
        ("text", "text"),
    ],
)
def test_cells_are_short(value: object, cell: str) -> None:
    assert shown(value) == cell


@pytest.mark.parametrize(
    "name", ["[red]a[/red]", "[/]", "[bold", "\\[x]", "[link=https://example.org]a[/link]", ":smile:"]
)
def test_markup_in_a_cell_is_text(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_table("", [{"name": name, "value": 1.0}], {"name": "name", "value": "value"})
    assert name in capsys.readouterr().out


def test_a_table_is_never_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"model": "m" * 60, "protocol": "sound", "periods": 12, "mae": 1234.5, "rmse": 0.123456}
    print_leaderboard("small", [row], champion="m" * 60)
    printed = capsys.readouterr().out
    assert all(text in printed for text in ("m" * 60, "1234", "0.1235", "small: mean over periods"))
    assert "…" not in printed
