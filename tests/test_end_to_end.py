"""The whole path as a person walks it: `st-pipeline run` on a shrunken stream, then again.

The stream is the shipped `melbourne` where its data are at hand, a simulated network otherwise.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from st_pipeline.definitions import build
from st_pipeline.model_config import NAIVE_MODELS
from st_pipeline.streams import SHIPPED, find_stream

DATA = Path(os.environ.get("ST_PIPELINE_DATA") or SHIPPED.parents[1] / "shared" / "data")
NAME = "short"
LOADING = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}


@dataclass(frozen=True)
class Walk:
    """What two runs of the command said, and where they worked."""

    space: Any
    first: dict[str, Any]
    second: dict[str, Any]
    before: dict[str, bytes]
    expected: set[str]
    periods: list[str]


def shrunken(folder: Path) -> dict[str, Any]:
    """The shipped stream file cut to two periods, a sound and a published model, three epochs and at most two seeds."""
    document = yaml.safe_load((folder / "stream.yaml").read_text(encoding="utf-8"))
    models = [model for model in document["models"] if model["name"] in ("eac_calendar", "eac_paper")]
    for model in models:
        model["training"] = {**model.get("training", {}), "epochs": 3}
        model["seeds"] = model.get("seeds", [1])[:2]
    periods = {"every": "half-year", "start": "2012-01-01", "end": "2013-01-01"}
    kept = {key: value for key, value in document.items() if key not in ("baselines", "compare", "studies")}
    return {**kept, "name": NAME, "models": models, "periods": periods, "champion": "eac_calendar"}


def simulated() -> dict[str, Any]:
    """Changes that give the workspace's own stream the same shape."""
    models = [
        {"name": name, "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac", "training": {"epochs": 3}}
        for name in ("eac_calendar", "eac_paper")
    ]
    models[1]["protocol"] = "paper"
    return {"models": models, "periods": {"every": "7d", "start": "2024-01-01", "end": "2024-01-15"}}


def asset_names(periods: list[str]) -> set[str]:
    """Every asset of the stream, those by period once for each."""
    graph = build().resolve_asset_graph()
    keys = [key for key in graph.materializable_asset_keys if key.path[0] == NAME]
    keys = [key for key in keys if graph.get(key).group_name == NAME]  # the rest is made on request
    keys = [key for key in keys if key.path[1] != "champion"]  # made by whoever promotes
    by_period = {key: graph.get(key).is_partitioned for key in keys}
    return {
        "/".join(key.path) + suffix
        for key, partitioned in by_period.items()
        for suffix in ([f" of {period}" for period in periods] if partitioned else [""])
    }


@pytest.fixture(scope="module")
def walk(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Walk]:
    space = make_workspace(tmp_path_factory.mktemp("walk"))
    real = (DATA / "melbourne_pedestrian").is_dir()
    file = space.stream(NAME, **simulated())
    if real:
        file.write_text(yaml.safe_dump(shrunken(SHIPPED / "melbourne"), sort_keys=False))
    environment = {**space.environment, "ST_PIPELINE_DATA": str(DATA if real else space.folder)}
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("DAGSTER_HOME", raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        said, files = [], {}
        for _ in range(2):
            result = space.command("run", NAME, "--json", ST_PIPELINE_DATA=environment["ST_PIPELINE_DATA"])
            assert result.returncode == 0, result.stdout + result.stderr
            said.append(json.loads(result.stdout))
            files = files or {path: (space.home / "lake" / path).read_bytes() for path in space.files()}
        periods = [period.key for period in find_stream(NAME).config.calendar.periods()]
        yield Walk(space, *said, files, asset_names(periods), periods)


class Addresses(HTMLParser):
    """Everything of a page that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(text)
        self.found += re.findall(r"(?:url\(|@import)\s*['\"]?([^'\")\s]+)", text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value or "" for name, value in attrs if name in LOADING and tag != "a"]


def test_every_asset_is_materialised_for_every_period(walk: Walk) -> None:
    assert len(walk.periods) == 2
    assert sorted(walk.first["materialised"]) == sorted(walk.expected)
    assert not walk.first["failed"] and not walk.first["blocked"]
    for name in walk.expected:
        asset, _, period = name.partition(" of ")
        file = f"{asset}/{period}" if period else asset
        assert [path for path in walk.before if path.startswith(f"{file}.")], name


def test_the_leaderboard_has_every_model_and_naive_forecast_with_finite_errors(walk: Walk) -> None:
    rows = walk.first["leaderboard"]
    usual = [row for row in rows if row["trained_through"] == row["period"] and row["cohort"] == "all"]
    for model in ("eac_calendar", "eac_paper", *NAIVE_MODELS):
        own = [row for row in usual if row["model"] == model]
        assert {row["period"] for row in own} == set(walk.periods)
        assert {row["metric"] for row in own} == {"mae", "rmse", "mape", "wape", "r2"}
        assert {row["horizon"] for row in own} >= {"at:1", "upto:3", "published_average"}
        assert all(math.isfinite(row["value"]) for row in own)
        assert all(row["value"] > 0 for row in own if row["metric"] != "r2")
    backwards = {(row["trained_through"], row["period"]) for row in rows if row["model"] == "eac_calendar"}
    ahead = set(zip(walk.periods, walk.periods[1:], strict=False))  # what the model before a period makes of it
    assert backwards == {(after, on) for after in walk.periods for on in walk.periods if on <= after} | ahead


def test_reports_are_small_and_fetch_nothing(walk: Walk) -> None:
    pages = {path: content for path, content in walk.before.items() if path.endswith(".html")}
    assert Path(walk.first["report"]).read_bytes() in pages.values()
    assert len(pages) == len(walk.periods)
    for content in pages.values():
        text = content.decode()
        assert len(content) < 3_000_000
        assert "<script" not in text
        assert all(address.startswith(("#", "data:")) for address in Addresses(text).found)
        assert all(name in text for name in ("eac_calendar", "eac_paper", *NAIVE_MODELS))


def test_a_second_run_does_nothing(walk: Walk) -> None:
    assert walk.second["materialised"] == [] and not walk.second["failed"] and not walk.second["blocked"]
    assert walk.second["leaderboard"] == walk.first["leaderboard"]
    assert {path: (walk.space.home / "lake" / path).read_bytes() for path in walk.space.files()} == walk.before
