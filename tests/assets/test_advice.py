"""`advice` depends on the period's network and on earlier periods of the champion, on nothing that it trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from assets.stream import stream_assets
from st_pipeline.config import StreamConfig
from st_pipeline.streams import Stream

MODELS = [
    {"name": "online", "backbone": "stgnn", "strategy": "online"},
    {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"},
]


def assets_of(**changes: Any) -> dict[str, dg.AssetsDefinition]:
    plain: dict[str, Any] = {
        "name": "net",
        "source": {"format": "csv", "readings": "r.csv", "sensors": "s.csv"},
        "step": "1h",
        "periods": {"every": "month", "start": "2024-01-01", "end": "2024-07-01"},
        "models": MODELS,
        "champion": "eac",
    }
    stream = Stream(StreamConfig.model_validate({**plain, **changes}), Path("/nowhere/net"))
    return {"/".join(key.path[1:]): made for made in stream_assets(stream) for key in made.keys}


def periods_of(asset: dg.AssetsDefinition, parent: str, period: str) -> list[str]:
    """Periods of a parent that one period of an asset reads."""
    mapping = asset.get_partition_mapping(dg.AssetKey(["net", *parent.split("/")]))
    partitions = asset.partitions_def
    assert mapping is not None and partitions is not None
    subset = partitions.empty_subset().with_partition_keys([period])
    found = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, partitions, partitions)
    return sorted(found.partitions_subset.get_partition_keys())


@pytest.mark.parametrize(
    ("parent", "expected"),
    [
        ("tensor", ["2024-02", "2024-03"]),
        ("node_set", ["2024-02", "2024-03"]),
        ("adjacency", ["2024-02", "2024-03"]),
        ("eac/backbone", ["2024-02"]),
        ("eac/prompt_pool", ["2024-02"]),
        ("advice", ["2024-02"]),
        ("eac/evaluation", ["2024-01", "2024-02"]),
        ("eac/diagnostics", ["2024-01", "2024-02"]),
        ("naive/evaluation", ["2024-01", "2024-02"]),
    ],
)
def test_of_models_it_reads_earlier_periods_alone(parent: str, expected: list[str]) -> None:
    advice = assets_of()["advice"]
    assert periods_of(advice, parent, "2024-03") == expected
    assert not any(key.path[1] == "online" for key in advice.keys_by_input_name.values())


def test_the_first_period_reads_no_model() -> None:
    advice = assets_of()["advice"]
    for parent in ("eac/backbone", "eac/evaluation", "naive/evaluation", "advice"):
        assert periods_of(advice, parent, "2024-01") == []


def test_a_stream_without_models_has_no_advice() -> None:
    found = assets_of(models=[], champion="")
    assert "advice" not in found and "report" in found


def test_its_version_follows_the_champion_and_no_other_model() -> None:
    def version(**changes: Any) -> str | None:
        (spec,) = assets_of(**changes)["advice"].specs
        return spec.code_version

    assert version() != version(champion="online")
    assert version() == version(models=[*MODELS, {**MODELS[0], "name": "third"}])
