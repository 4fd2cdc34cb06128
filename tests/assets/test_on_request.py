"""What is made on request lies in a group of its own, which neither the schedule's job nor the report touches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.common import StreamAssets
from assets.jobs import stream_job
from assets.stream import stream_assets
from checks.gate import ExpectationGate
from checks.results import result_checks
from resources.compute import ComputeResource
from resources.lake import io_managers
from resources.source import SourceResource
from st_pipeline.config import StreamConfig
from st_pipeline.streams import Stream

PROMPTED = {"backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}
BARE = {"backbone": "stgnn", "strategy": "online"}
ASKED: dict[str, Any] = {
    "compare": {"methods": ["eac", "retrain", "eac_full"]},
    "studies": [{"name": "rank", "of": "eac", "vary": {"prompt_pool.rank": [1, 4]}}],
}


def stream_of(name: str = "net", **changes: Any) -> Stream:
    plain = {
        "name": name,
        "source": {"format": "csv", "readings": "r.csv", "sensors": "s.csv"},
        "step": "1h",
        "periods": {"every": "month", "start": "2024-01-01", "end": "2024-07-01"},
        "models": [{"name": "online", **BARE}, {"name": "eac", **PROMPTED}],
        "champion": "eac",
    }
    return Stream(StreamConfig.model_validate({**plain, **changes}), Path(f"/nowhere/{name}"))


def groups(stream: Stream) -> dict[str, str | None]:
    """Asset -> group, without the stream's name."""
    return {"/".join(spec.key.path[1:]): spec.group_name for made in stream_assets(stream) for spec in made.specs}


def definitions(*streams: Stream) -> dg.Definitions:
    own = {"source": SourceResource(), "compute": ComputeResource(), "gate": ExpectationGate()}
    return dg.Definitions(
        assets=[asset for stream in streams for asset in stream_assets(stream)],
        asset_checks=[check for stream in streams for check in result_checks(stream)],
        jobs=[stream_job(stream) for stream in streams],
        resources={**io_managers(), **own},
    )


def keys_of_job(found: dg.Definitions, stream: str) -> set[str]:
    return {"/".join(key.path) for key in found.resolve_job_def(f"{stream}_period").asset_layer.selected_asset_keys}


def test_methods_studies_and_their_results_are_on_request() -> None:
    plain, asked = groups(stream_of()), groups(stream_of(**ASKED))
    assert asked.items() >= plain.items()
    more = {name: group for name, group in asked.items() if name not in plain}
    assert set(more.values()) == {"net_on_request"}
    kinds = ("backbone", "evaluation", "losses", "diagnostics", "drill")
    pool = ("prompt_pool", "prompt_analysis")
    expected = {f"retrain/{kind}" for kind in kinds} | {"comparison", "study/rank"}
    expected |= {f"{name}/{kind}" for name in ("eac_full", "eac_rank_1", "eac_rank_4") for kind in (*kinds, *pool)}
    assert set(more) == expected


@pytest.mark.parametrize(("champion", "shown"), [("eac", "eac"), ("online", "online"), ("", "online")])
def test_the_champion_alone_is_drilled_without_being_asked(champion: str, shown: str) -> None:
    drills = {name: group for name, group in groups(stream_of(champion=champion, **ASKED)).items() if "drill" in name}
    assert [name for name, group in drills.items() if group == "net"] == [f"{shown}/drill"]
    assert len(drills) == 6


def test_the_prompts_of_every_model_that_has_some_are_analysed() -> None:
    found = {name: group for name, group in groups(stream_of(**ASKED)).items() if "prompt_analysis" in name}
    assert {name.split("/")[0] for name in found} == {"eac", "eac_full", "eac_rank_1", "eac_rank_4"}
    assert [name for name, group in found.items() if group == "net"] == ["eac/prompt_analysis"]


def test_a_stream_without_models_has_no_drill() -> None:
    assert not [name for name in groups(stream_of(models=[], champion="")) if "drill" in name]


def test_the_job_leaves_out_what_is_on_request() -> None:
    stream = stream_of(**ASKED)
    found = {"/".join(key.split("/")[1:]) for key in keys_of_job(definitions(stream), "net")}
    assert found == {name for name, group in groups(stream).items() if group == "net"}
    assert {"eac/drill", "eac/prompt_analysis", "leaderboard"} <= found
    assert not found & {"online/drill", "comparison", "study/rank", "retrain/backbone"}


def test_a_stream_called_like_the_group_of_another_has_a_job_of_its_own() -> None:
    one, two = stream_of(**ASKED), stream_of("net_on_request", **ASKED)
    found = definitions(one, two)
    assert all(key.startswith("net_on_request/") for key in keys_of_job(found, "net_on_request"))
    assert len(keys_of_job(found, "net")) == len(keys_of_job(found, "net_on_request"))


def test_a_study_needs_its_models_alone_and_the_leaderboard_the_streams_own() -> None:
    stream = stream_of(**ASKED)
    of, graph = StreamAssets(stream), definitions(stream).resolve_asset_graph()

    def parents(*parts: str) -> set[str]:
        return {"/".join(key.path[1:]) for key in graph.get(of.key(*parts)).parent_keys}

    names = ("eac", "eac_rank_1", "eac_rank_4")
    assert parents("study", "rank") == {f"{name}/{kind}" for name in names for kind in ("evaluation", "diagnostics")}
    own = {model.name for model in stream.config.models} | {"naive"}
    assert parents("leaderboard") == {f"{name}/evaluation" for name in own}
    assert not {name for name in parents("report") if name.startswith(("retrain", "eac_rank"))}


def test_the_code_version_of_a_study_follows_its_values() -> None:
    def version(**changes: Any) -> str | None:
        stream = stream_of(studies=[{**ASKED["studies"][0], **changes}])
        specs = {spec.key.path[-1]: spec for made in stream_assets(stream) for spec in made.specs}
        return specs["rank"].code_version

    assert version() == version()
    assert version() != version(vary={"prompt_pool.rank": [1]})
    assert version() != version(vary={"prompt_pool.rank": [4, 1]})
