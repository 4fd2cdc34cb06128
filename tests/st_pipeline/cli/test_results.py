"""`results`: the page of what the lake holds, with its pictures beside it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from click.testing import Result

from st_pipeline.streams import find_stream

Invoke = Callable[..., Result]
KEYS = ("2024-01-01", "2024-01-08")


@pytest.fixture
def filled(workspace: Any, invoke: Invoke, matrix_losses: Any, fill_lake: Any) -> Callable[..., None]:
    """`filled("a", "b")`: streams with results of `eac`, `online` and the weekly naive forecast."""

    def fill(*names: str) -> None:
        for name in names:
            workspace.stream(name, horizon=4)
            every = {(key, on): 4.0 for key in KEYS for on in KEYS}
            own = {(key, key): 8.0 for key in KEYS}
            models = (("eac", every), ("online", every), ("naive_weekly", own))
            fill_lake(find_stream(name).config, pl.concat([matrix_losses(model, errors) for model, errors in models]))

    return fill


def test_the_page_is_printed(filled: Any, invoke: Invoke, workspace: Any) -> None:
    filled("town")
    workspace.stream("empty")
    result = invoke("results", "town")
    assert result.exit_code == 0
    assert result.stdout.startswith("# Results\n") and "| `eac` |" in result.stdout and "![" not in result.stdout
    assert invoke("results").stdout == result.stdout, "every stream that has results"
    assert invoke("results", "town", "town").stdout == result.stdout


def test_page_and_pictures_are_written(filled: Any, invoke: Invoke, tmp_path: Path) -> None:
    filled("town", "city")
    page = tmp_path / "docs" / "results.md"
    result = invoke("results", "--write", str(page))
    assert result.exit_code == 0
    pictures = sorted(page.parent.glob("images/*"))
    assert [path.name for path in pictures] == [
        "results-city-pareto.png",
        "results-ranks.png",
        "results-town-pareto.png",
    ]
    assert sorted(result.stdout.split()) == sorted(map(str, [page, *pictures]))
    text = page.read_text()
    assert all(f"(images/{path.name})" in text for path in pictures) and "## Over the streams" in text
    before = {path: path.read_bytes() for path in (page, *pictures)}
    invoke("results", "--write", str(page))
    assert before == {path: path.read_bytes() for path in before}, "the same again for the same results"


def test_json_is_one_document(filled: Any, invoke: Invoke, tmp_path: Path) -> None:
    filled("town", "city")
    document = json.loads(invoke("results", "town", "--json").stdout)
    assert set(document) == {"streams", "ranks", "benches", "written"} and document["ranks"] is None
    (town,) = document["streams"]
    assert (town["stream"], town["champion"]) == ("town", "eac")
    assert {row["model"] for row in town["rows"]} == {"eac", "online", "naive_weekly"}
    assert town["ledger"][0]["seconds_so_far"] == 2.0
    both = json.loads(invoke("results", "--json", "--write", str(tmp_path / "results.md")).stdout)
    assert both["ranks"]["streams"] == 2 and len(both["written"]) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "no stream has results yet; run `st-pipeline run STREAM` first"),
        (("empty",), "stream 'empty' has no results yet; run `st-pipeline run empty` first"),
        (("emty",), "there is no stream 'emty'"),
    ],
)
@pytest.mark.parametrize("option", [(), ("--json",)])
def test_no_results_are_one_sentence(
    workspace: Any, invoke: Invoke, arguments: tuple[str, ...], sentence: str, option: tuple[str, ...]
) -> None:
    workspace.stream("empty")
    result = invoke("results", *arguments, *option)
    assert (result.exit_code, result.stdout) == (2, "")
    assert sentence in result.stderr and result.stderr.count("\n") == 1
