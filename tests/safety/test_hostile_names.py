"""Sensors, streams, models and periods with names that are markup, paths, or far too long."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from drills.fuzz import HOSTILE
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME, lake
from st_pipeline.streams import find_stream, load_stream

SECRETS = {
    "ST_PIPELINE_WEBHOOK": "https://hooks.example/hunter2-webhook",
    "SMTP_PASSWORD": "hunter2-password",
    "AWS_SECRET_ACCESS_KEY": "hunter2-key",
}
SCRIPT = "<script>alert(1)</script>"
IMAGE = '"><img src=x onerror=alert(1)>'
NAMES = {"S0": SCRIPT, "S1": IMAGE, "S2": "../../x", "S3": "'; DROP TABLE event_logs; --", "S4": "a|b](javascript:1)"}


@pytest.mark.parametrize("part", [name for name in HOSTILE if name not in ("NULL",)] + ["", "a/b", "a\0", "a\n"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_no_key_leaves_the_lake(workspace: Any, part: str, place: int) -> None:
    key = ["stream", "model", "asset"]
    key[place] = part
    with pytest.raises(InputError, match="cannot be part of a path"):
        lake().path(tuple(key), "2024-01-01", "parquet")


@pytest.mark.parametrize("period", ["../../x", "/x", "..", "a/b", "a\0"])
def test_no_period_leaves_the_lake(workspace: Any, period: str) -> None:
    with pytest.raises(InputError, match="cannot be part of a path"):
        lake().write(("s", "a"), period, FRAME, b"x")
    assert not workspace.home.exists()


@pytest.mark.parametrize("name", HOSTILE)
def test_names_of_streams_and_models(workspace: Any, name: str) -> None:
    file = workspace.stream("s")
    file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), "name": name}))
    with pytest.raises(InputError, match="expected lower-case letters"):
        load_stream(file.parent)
    model = {"name": name, "backbone": "stgnn", "strategy": "online"}
    with pytest.raises(InputError, match="expected lower-case letters"):
        load_stream(workspace.stream("s", models=[model]).parent)


@pytest.mark.parametrize("glob", ["../*.parquet", "/etc/*", "a/../../x.parquet", "~/x.parquet"])
def test_globs_stay_in_the_folder(workspace: Any, glob: str) -> None:
    from resources.source import open_source

    workspace.landed_stream("s")
    outside = workspace.streams / "outside.parquet"
    outside.write_bytes(workspace.raw("s", "2024-01-01").read_bytes())
    file = workspace.streams / "s" / "stream.yaml"
    file.write_text(file.read_text().replace("raw/readings/*.parquet", glob))
    with pytest.raises(InputError, match=r"leaves the stream|no file matches"):
        open_source(find_stream("s")).files()


class Tags(HTMLParser):
    """What a browser takes for markup: elements, and attributes that run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        handlers = [name for name, _ in attrs if name.startswith("on")]
        links = [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        if tag in ("script", "iframe", "object", "embed") or handlers or any("javascript:" in one for one in links):
            self.found.append(f"{tag} {attrs}"[:200])


def dangerous(page: str) -> list[str]:
    parser = Tags()
    parser.feed(page)
    return parser.found


def test_the_parser_finds_what_is_dangerous() -> None:
    assert len(dangerous(f"<p>{SCRIPT}</p>")) == 1 == len(dangerous(f'<p title="{IMAGE}</p>'))
    assert dangerous("<p>&lt;script&gt;alert(1)&lt;/script&gt;</p>") == []


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Any]:
    """A small stream whose sensors have hostile names, run whole, with secrets in the environment."""
    from st_pipeline import streams

    folder = tmp_path_factory.mktemp("hostile") / "space"  # what lies beside it is looked at too
    folder.mkdir()
    space = make_workspace(folder)
    model = {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}
    space.landed_stream(
        "hostile",
        models=[{**model, "training": {"epochs": 1}}],
        periods={"every": "7d", "start": "2024-01-01", "end": "2024-01-15"},
        description=f"Roads {SCRIPT}",
    )
    _rename(space.streams / "hostile" / "raw")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**space.environment, **SECRETS}.items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(streams, "SHIPPED", space.folder / "none")
        patch.chdir(space.folder)
        before = set(space.folder.glob("*"))
        _run("hostile")
        space.new = set(space.folder.glob("*")) - before
        yield space


def _run(name: str) -> None:
    from resources.instance import open_instance
    from st_pipeline.cli.runner import Runner, scope
    from st_pipeline.definitions import build

    stream = find_stream(name)
    with open_instance() as instance:
        outcome = Runner(stream, instance, build()).run(scope(stream, None, None))
    assert outcome.ok, outcome


def _rename(raw: Path) -> None:
    """Give the sensors of all raw files their hostile names."""
    sensors = pl.read_csv(raw / "sensors.csv", infer_schema=False)
    first = pl.read_parquet(raw / "readings" / "2024-01-01.parquet")
    known = sorted(first["sensor_id"].cast(pl.String).unique())
    names = dict(zip(known, NAMES.values(), strict=False))
    sensors.with_columns(pl.col("sensor_id").replace(names)).write_csv(raw / "sensors.csv")
    edges = pl.read_csv(raw / "edges.csv", infer_schema=False)
    edges.with_columns(pl.col("source", "target").replace(names)).write_csv(raw / "edges.csv")
    for file in (raw / "readings").glob("*.parquet"):
        table = pl.read_parquet(file)
        table.with_columns(pl.col("sensor_id").cast(pl.String).replace(names)).write_parquet(file)


def test_reports_have_no_script_of_the_data(hostile: Any) -> None:
    pages = [path.read_text() for path in (hostile.home / "lake").rglob("*.html")]
    assert len(pages) == 2
    assert any("&lt;img src=x" in page for page in pages), "the name of a sensor is shown, as text"
    for page in pages:
        assert SCRIPT not in page and [one for one in dangerous(page) if "alert" in one] == []


def test_metadata_of_the_ui_has_none(hostile: Any) -> None:
    """What the UI renders as Markdown: no raw tag, no link that runs."""
    texts = list(_metadata(hostile, lambda value: type(value).__name__ == "MarkdownMetadataValue"))
    assert texts
    assert not [text for text in texts if SCRIPT in str(text.value) or "<img" in str(text.value)]


def test_nothing_is_written_elsewhere(hostile: Any) -> None:
    assert {path.name for path in hostile.new} <= {"home"}
    assert not list(hostile.folder.parent.rglob("x")), "../../x"
    tables = [FRAME.load(path.read_bytes()) for path in (hostile.home / "lake/hostile/readings").glob("*.parquet")]
    assert {name for table in tables for name in table["sensor_id"].cast(pl.String)} >= {SCRIPT, "../../x"}


def test_secrets_stay_in_the_environment(hostile: Any) -> None:
    from resources.backup import back_up

    back_up(hostile.home, hostile.folder.parent / "hostile.tar.gz")
    files = [path for path in hostile.home.rglob("*") if path.is_file()]
    assert len(files) > 30
    assert not [path for path in files if b"hunter2" in path.read_bytes()]


def _metadata(space: Any, wanted: Callable[[Any], bool]) -> Iterator[Any]:
    from resources.instance import open_instance

    with open_instance() as instance:
        for key in instance.all_asset_keys():
            for record in instance.fetch_materializations(key, limit=100).records:
                assert record.asset_materialization is not None
                yield from (value for value in record.asset_materialization.metadata.values() if wanted(value))


def test_the_results_page_has_no_tag_of_the_data(hostile: Any) -> None:
    from click.testing import CliRunner

    from st_pipeline.cli import main

    page = CliRunner().invoke(main, ["results", "hostile"]).output
    assert page and not re.search(r"<(script|img)\b", page)
