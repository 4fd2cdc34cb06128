"""The fuzz drill, short: a hundred malformed and hostile inputs, and that it sees what goes wrong."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from drills import fuzz
from drills.inputs import CSV, STREAM


def test_nothing_goes_wrong(tmp_path: Path) -> None:
    counts, faults = fuzz.drill(100, 7, tmp_path)
    assert faults == []
    assert sum(counts.values()) == 100 and set(counts) == {*fuzz.KINDS, "json"}


@pytest.mark.parametrize("kind", ["raises", "writes", "chatters", "fails"])
def test_it_sees_what_goes_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    @click.command()
    @click.argument("words", nargs=-1)
    def bad(words: tuple[str, ...]) -> None:
        if kind == "raises":
            raise KeyError(words)
        if kind == "writes":
            (tmp_path / "elsewhere").write_text("x")
        if kind == "chatters":
            click.echo("one\ntwo", err=True)
            raise SystemExit(2)
        if kind == "fails":
            raise SystemExit(3)

    monkeypatch.setattr(fuzz, "command", bad)
    work = tmp_path / "work"
    work.mkdir()
    said = {"raises": "KeyError", "writes": "written", "chatters": "not one line", "fails": "exit code 3"}
    assert said[kind] in str(fuzz.fault_of(fuzz.Input({**CSV, "stream.yaml": STREAM}), work))
