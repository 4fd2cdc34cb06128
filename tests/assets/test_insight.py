"""The insight of models that have something to show: which those are, what is stored, and what a person sees."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import dagster as dg
import polars as pl
import pytest
from PIL import Image

from assets.stream import stream_assets
from resources.instance import open_instance
from resources.lake import lake
from st_pipeline import streams as finding
from st_pipeline.cli.runner import Outcome, Runner, scope
from st_pipeline.definitions import build
from st_pipeline.storage import FRAME, HTML
from st_pipeline.streams import find_stream

NAME, PERIOD = "tiny", "2024-01-01"
HIMNET = {"name": "himnet", "hidden": 4, "spatial": 3, "mixed": 3, "day": 2, "week": 2}
ST_TRANS = {"name": "st_trans", "hidden": 8, "heads": 2, "layers": 1, "encoder": 0, "feedforward": 8, "keep": 4}
MODELS = [
    {"name": "mixed", "backbone": HIMNET, "relearner": {"hidden": 8}, "strategy": "online"},
    {"name": "attentive", "backbone": ST_TRANS, "seeds": [2, 1], "strategy": "online"},
    {"name": "plain", "backbone": {"name": "stgnn", "hidden": 4}, "strategy": "online"},
]
PERIODS = {"every": "7d", "start": "2024-01-01", "end": "2024-01-15"}
SEEN = {
    "mixed": {"temporal_embedding", "spatial_embedding", "spatial_map", "residual", "gates", "gate_map"}
    | {"weight_map_adaptive"},
    "attentive": {"attention"},
}


class Made(NamedTuple):
    """What a run made, first by default and then of all models that were named."""

    first: Outcome
    named: Outcome


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Made]:
    space = make_workspace(tmp_path_factory.mktemp("insight"))
    write(space)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in space.environment.items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(finding, "SHIPPED", space.folder / "none")
        patch.chdir(space.folder)
        yield Made(run(), run("attentive"))


def write(space: Any, **changes: Any) -> None:
    """The stream, whose models train in a moment."""
    models = [{**model, "training": {"epochs": 1, "stride": 8}} for model in MODELS]
    space.stream(NAME, **{"models": models, "periods": {**PERIODS}, "champion": "mixed", **changes})


def run(models: str | None = None) -> Outcome:
    stream = find_stream(NAME)
    with open_instance() as instance:
        return Runner(stream, instance, build()).run(scope(stream, PERIOD, models))


def metadata(model: str) -> dict[str, Any]:
    """What the UI shows of the newest materialisation."""
    key = dg.AssetKey([NAME, model, "insight"])
    with open_instance() as instance:
        records = instance.fetch_materializations(dg.AssetRecordsFilter(key, asset_partitions=[PERIOD]), limit=1)
    event = records.records[0].asset_materialization
    assert event is not None
    return {name: value.value for name, value in event.metadata.items()}


def image(text: str) -> Image.Image:
    """The picture inside a piece of markdown."""
    found = re.match(r"!\[figure\]\(data:image/png;base64,([^)]+)\)\n\n\S.*\.$", text)
    assert found, text[:80]
    return Image.open(BytesIO(base64.b64decode(found[1])))


def test_models_with_something_to_show_have_an_insight_and_the_champion_s_is_not_on_request(workspace: Any) -> None:
    write(workspace)
    stream = find_stream(NAME)
    specs = {"/".join(spec.key.path[1:]): spec for found in stream_assets(stream) for spec in found.specs}
    groups = {key: spec.group_name for key, spec in specs.items() if key.endswith("insight")}
    assert groups == {"mixed/insight": NAME, "attentive/insight": f"{NAME}_on_request"}
    parents = {"/".join(dep.asset_key.path[1:]) for dep in specs["mixed/insight"].deps}
    assert parents == {"mixed/backbone", "mixed/relearner", "tensor", "adjacency", "node_set", "sensors"}
    assert "himnet and relearner" in (specs["mixed/insight"].description or "")


@pytest.mark.parametrize(("champion", "inside"), [("mixed", True), ("attentive", True), ("plain", False), ("", True)])
def test_the_report_reads_the_champion_s_insight(champion: str, inside: bool, workspace: Any) -> None:
    write(workspace, champion=champion)
    (report,) = [
        spec for found in stream_assets(find_stream(NAME)) for spec in found.specs if spec.key.path[1:] == ["report"]
    ]
    found = [dep.asset_key.path[1] for dep in report.deps if dep.asset_key.path[-1] == "insight"]
    assert found == ([champion or "mixed"] if inside else [])


def test_what_has_something_to_show_is_known_without_torch(workspace: Any) -> None:
    write(workspace)
    code = (
        "import sys\n"
        "from st_pipeline.definitions import defs\n"
        "keys = ['/'.join(key.path) for key in defs.resolve_asset_graph().get_all_asset_keys()]\n"
        "print(sorted(key for key in keys if key.startswith('tiny') and key.endswith('insight')))\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy') if m in sys.modules])"
    )
    root = Path(finding.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=root)
    assert done.stdout.splitlines() == ["['tiny/attentive/insight', 'tiny/mixed/insight']", "[]"], done.stderr


def test_only_the_champion_s_is_made_unless_another_is_asked_for(made: Made) -> None:
    assert made.first.ok and made.named.ok
    first, named = ({name for name in outcome.materialised if "insight" in name} for outcome in made)
    assert first == {f"{NAME}/mixed/insight of {PERIOD}"}
    assert named == {f"{NAME}/attentive/insight of {PERIOD}"}


@pytest.mark.parametrize(("model", "seeds"), [("mixed", 1), ("attentive", 2)])
def test_a_row_of_every_sensor_and_seed_is_stored(model: str, seeds: int, made: Made) -> None:
    rows = lake().read((NAME, model, "insight"), PERIOD, FRAME)
    sensors = rows.filter(pl.col("kind") == "sensor")
    counts = sensors.group_by("view", "seed").agg(pl.col("sensor_id").n_unique(), pl.len().alias("rows"))
    views = {"mixed": {"himnet", "relearner"}, "attentive": {"st_trans"}}[model]
    assert set(counts["view"]) == views and len(counts) == seeds * len(views)
    assert counts["sensor_id"].to_list() == counts["rows"].to_list()


@pytest.mark.parametrize("model", ["mixed", "attentive"])
def test_pictures_are_metadata_and_not_empty(model: str, made: Made) -> None:
    seen = metadata(model)
    pictures = {name: value for name, value in seen.items() if str(value).startswith("![figure]")}
    assert set(pictures) == SEEN[model]
    for name, text in pictures.items():
        found = image(text)
        assert min(found.size) > 150, name
        colours = found.convert("RGB").getcolors(maxcolors=1 << 24)
        assert colours is not None and len(colours) > 20, name
    assert len(seen["table"].records) and seen["dagster/row_count"] >= len(seen["table"].records)


def test_numbers_plot_over_periods(made: Made) -> None:
    assert {"mean_beta", "mean_alpha_adaptive", "mean_before", "mean_after", "mean_heard"} <= metadata("mixed").keys()
    attentive = metadata("attentive")
    assert attentive["mean_own"] + attentive["mean_others"] == pytest.approx(1, abs=1e-4)


def test_the_report_shows_what_the_champion_has_learned(made: Made) -> None:
    page = lake().read((NAME, "report"), PERIOD, HTML)
    assert "<h2>Inside mixed</h2>" in page
    assert all(f'aria-label="insight-{name}"' in page for name in SEEN["mixed"])
    assert "Embeddings of every time of a week" in page


def test_nothing_is_done_twice(made: Made) -> None:
    assert run().materialised == [] and run("attentive").materialised == []
