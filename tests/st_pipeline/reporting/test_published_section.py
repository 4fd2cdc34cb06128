"""The published tables in the document are those of the data, and nothing else of a document is touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.published import published_tables
from st_pipeline.reporting.published_section import BEGIN, END, section, with_section

DOCUMENT = Path(__file__).parents[3] / "docs" / "reproducibility.md"


@pytest.fixture(scope="module")
def text() -> str:
    return section()


def test_the_document_holds_what_is_rendered() -> None:
    found = DOCUMENT.read_text(encoding="utf-8")
    assert with_section(found, DOCUMENT.name) == found, "run `st-pipeline reproduce --write docs/reproducibility.md`"


def test_every_published_number_is_there(text: str) -> None:
    for table in published_tables().values():
        (part,) = [
            part for part in text.split("\n### ") if part.startswith((f"Table {table.table}:", f"`{table.table}`"))
        ]
        for row in table.rows:
            (line,) = {
                line
                for line in part.splitlines()
                if line.startswith(f"| {row.name} |")
                and f"| {row.stream} |" in line
                and (row.value is None or f"{row.value:.{0 if row.metric == 'seconds' else 2}f}" in line)
            }
            assert row.spread is None or f"± {row.spread:.2f}" in line


def test_every_cell_of_ours_is_empty_and_has_its_reason(text: str) -> None:
    parts = text.split("\n### ")[1:-1]
    assert len(parts) == len(published_tables())
    for part in parts:
        legend = {line.split(" ", 1)[0]: line for line in part.splitlines() if line.startswith("(")}
        rows = [line for line in part.splitlines() if line.startswith("|")][2:]
        cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
        assert rows and all(len(row) == 7 and row[5] == "" for row in cells)
        assert {row[6] for row in cells} == set(legend)
        assert all("public" in reason or "no entry" in reason for reason in legend.values())


def test_what_stands_around_the_markers_stays() -> None:
    document = f"# Before\n\n{BEGIN}\nold\n{END}\n\n## After\n"
    once = with_section(document, "x.md")
    assert once.startswith(f"# Before\n\n{BEGIN}\n") and once.endswith(f"{END}\n\n## After\n")
    assert "old" not in once and section() in once
    assert with_section(once, "x.md") == once


@pytest.mark.parametrize("document", ["", BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_a_document_without_one_pair_of_markers_is_refused(document: str) -> None:
    with pytest.raises(InputError, match=r"^x\.md: expected one line '<!-- published tables"):
        with_section(document, "x.md")
