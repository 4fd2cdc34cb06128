"""Keys, partitions, descriptions and IO managers of a stream's assets."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.partitions.context import partition_loading_context

from assets.common import StreamAssets
from assets.stream import assets_or_fault, fault_assets, stream_assets
from resources.lake import LakeIOManager, io_managers
from st_pipeline.config import StreamConfig
from st_pipeline.periods import Cadence
from st_pipeline.streams import Stream, StreamFault

CADENCES = ["year", "half-year", "quarter", "month", "week", "7d", "1d", "3d", "10d", "28d"]
ZONES = ["UTC", "Australia/Melbourne", "America/Santiago"]  # the last has midnights that do not exist


STUDY = {"name": "rank", "of": "eac", "vary": {"prompt_pool.rank": [1]}}


def stream_of(**changes: Any) -> Stream:
    plain = {
        "name": "net",
        "source": {"format": "csv", "readings": "r.csv", "sensors": "s.csv", "edges": "e.csv"},
        "step": "1h",
        "periods": {"every": "month", "start": "2024-01-01", "end": "2024-07-01"},
        "models": [
            {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"},
            {"name": "online", "backbone": "stgnn", "strategy": "online"},
        ],
    }
    return Stream(StreamConfig.model_validate({**plain, **changes}), Path("/nowhere/net"))


def by_key(stream: Stream) -> dict[str, dg.AssetSpec]:
    return {"/".join(spec.key.path): spec for made in stream_assets(stream) for spec in made.specs}


def test_keys_are_those_of_the_architecture() -> None:
    network = ["raw_files", "sensors", "raw_readings", "edges", "readings", "node_set", "tensor", "adjacency", "drift"]
    network.append("advice")
    models = ["eac/backbone", "eac/prompt_pool", "eac/prompt_analysis", "eac/drill", "online/backbone", "online/drill"]
    kinds = ("evaluation", "losses", "diagnostics")
    scores = [f"{name}/{part}" for name in ("eac", "online", "naive") for part in kinds]
    results = ["forecast", "forecast_scores", "report", "leaderboard", "champion"]
    expected = {f"net/{name}" for name in (*network, *models, *scores, *results)}
    assert set(by_key(stream_of())) == expected


@pytest.mark.parametrize(
    "sections",
    [
        ["lora"],
        ["prompt_pool"],
        ["lora", "prompt_pool"],
        ["relearner"],
        ["prompt_pool", "relearner"],
        ["seasonal_skip"],
    ],
)
def test_a_model_has_an_asset_for_each_of_its_parts_and_no_other(sections: list[str]) -> None:
    model = {"name": "one", "backbone": "stgnn", "strategy": "online", **{name: {} for name in sections}}
    if "seasonal_skip" in sections:
        model |= {"seasonal_skip": True, "seasonal": ["7d"]}
    specs = by_key(stream_of(models=[model]))
    parts = {"backbone", "lora", "prompt_pool", "relearner", "seasonal_skip"}
    assert {part for part in parts if f"net/one/{part}" in specs} == {"backbone", *sections}
    for part in sections:
        parents = {"/".join(dep.asset_key.path) for dep in specs[f"net/one/{part}"].deps}
        assert parents >= {"net/one/backbone", f"net/one/{part}", "net/tensor"}
        assert f"net/one/{part}" in {"/".join(dep.asset_key.path) for dep in specs["net/one/evaluation"].deps}


def test_forecasts_need_data_and_the_champion_and_there_are_none_without_a_model() -> None:
    specs = by_key(stream_of(champion="online"))
    parents = {"/".join(dep.asset_key.path) for dep in specs["net/forecast"].deps}
    assert parents == {"net/sensors", "net/tensor", "net/node_set", "net/edges", "net/online/backbone"}
    assert "net/forecast_scores" in {"/".join(dep.asset_key.path) for dep in specs["net/report"].deps}
    assert not {"net/forecast", "net/forecast_scores"} & set(by_key(stream_of(models=[])))


def test_how_often_forecasts_are_issued_is_in_their_versions_alone() -> None:
    before, after = by_key(stream_of()), by_key(stream_of(forecasts={"every": "6h"}))
    changed = {key for key in before if before[key].code_version != after[key].code_version}
    assert changed == {"net/forecast", "net/forecast_scores"}


def test_a_source_without_edges_has_no_edges() -> None:
    plain = stream_of(source={"format": "csv", "readings": "r.csv", "sensors": "s.csv"})
    assert "net/edges" not in by_key(plain)


def test_a_baseline_has_the_assets_of_the_naive_forecasts_and_moves_no_other_version() -> None:
    before = by_key(stream_of(compare={"methods": ["stkec"]}))
    after = by_key(stream_of(compare={"methods": ["stkec"]}, baselines=["arima", {"name": "var", "lags": 2}]))
    kinds = ("evaluation", "losses", "diagnostics")
    assert set(after) - set(before) == {f"net/{name}/{kind}" for name in ("arima", "var") for kind in kinds}
    changed = {key for key in before if before[key].code_version != after[key].code_version}
    assert changed == {"net/report", "net/leaderboard", "net/comparison"}
    for name in ("arima", "var"):
        own, naive = after[f"net/{name}/evaluation"], after["net/naive/evaluation"]
        assert own.group_name == naive.group_name == "net"
        assert {dep.asset_key for dep in own.deps} == {dep.asset_key for dep in naive.deps}
        for table in changed:
            assert own.key in {dep.asset_key for dep in after[table].deps}


def test_options_of_a_baseline_are_in_its_version_alone() -> None:
    before, after = (by_key(stream_of(baselines=["arima", {"name": "var", "lags": lags}])) for lags in (2, 3))
    changed = {key for key in before if before[key].code_version != after[key].code_version}
    scores = {f"net/var/{kind}" for kind in ("evaluation", "losses", "diagnostics")}
    assert changed == {*scores, "net/report", "net/leaderboard"}


def test_every_asset_says_what_it_is() -> None:
    config = {"compare": {"methods": ["stkec"]}, "studies": [STUDY], "baselines": ["arima"]}
    for key, spec in by_key(stream_of(owner="team:roads", **config)).items():
        assert spec.group_name in ("net", "net_on_request"), key
        assert list(spec.owners) == ["team:roads"], key
        assert spec.description and len(spec.description) > 20, key
        assert spec.kinds, key
        assert spec.code_version, key


def test_every_output_has_an_io_manager_of_ours() -> None:
    ours = io_managers()
    assert all(isinstance(manager, LakeIOManager) for manager in ours.values())
    for made in stream_assets(stream_of(compare={"methods": ["stkec"]}, studies=[STUDY])):
        for name in made.node_def.output_dict:
            output = made.node_def.output_dict[name]
            if name in made.keys_by_output_name:
                assert output.io_manager_key in ours, (made, name)


def test_code_version_follows_the_part_of_the_file_an_asset_depends_on() -> None:
    before = by_key(stream_of())
    models = [model.model_dump(mode="json", exclude_none=True) for model in stream_of().config.models]
    models[1]["training"] = {"learning_rate": 0.5}
    after = by_key(stream_of(models=models))
    changed = {key for key in before if before[key].code_version != after[key].code_version}
    assert changed == {"net/online/backbone", "net/report", "net/leaderboard"}  # forecasts are those of eac
    assert by_key(stream_of(description="Another text"))["net/tensor"].code_version == before["net/tensor"].code_version
    moved = by_key(stream_of(graph={"recipe": "gaussian", "threshold": 0.9}))
    changed = {key for key in before if before[key].code_version != moved[key].code_version}
    assert changed == {"net/adjacency", "net/forecast"}


def test_training_takes_a_place_in_the_pool() -> None:
    pools = {made.node_def.name: made.op.pool for made in stream_assets(stream_of())}
    assert {name for name, pool in pools.items() if pool == "gpu"} == {"net__eac__train", "net__online__train"}


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", CADENCES)
@pytest.mark.parametrize("start", ["2024-01-01", "2026-03-04"])
def test_partitions_are_the_periods(every: str, start: str, zone: str) -> None:
    """Closed calendars, also when they end in the future, and open-ended ones."""
    far = Cadence.parse(every).start_of(date.fromisoformat(start), 13)
    for end in (str(far), None):
        stream = stream_of(periods={"every": every, "start": start, **({"end": end} if end else {})}, timezone=zone)
        keys = StreamAssets(stream).partitions.get_partition_keys()
        wanted = [period.key for period in stream.config.calendar.begun()]
        assert keys == wanted


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("every", ["1d", "3d", "10d", "28d", "7d", "month"])
def test_a_new_period_appears_when_it_begins(every: str, zone: str) -> None:
    stream = stream_of(periods={"every": every, "start": "2024-03-01"}, timezone=zone)
    of = StreamAssets(stream)
    partitions, calendar = of.partitions, stream.config.calendar
    for index in (1, 3):
        start = calendar.period(index).start.astimezone(UTC)
        for moment, count in ((start - timedelta(minutes=5), index), (start + timedelta(minutes=5), index + 1)):
            with partition_loading_context(effective_dt=moment):
                keys = partitions.get_partition_keys()
                assert keys == [period.key for period in calendar.begun(moment)] and len(keys) == count
                assert partitions.get_num_partitions() == count
                assert sorted(partitions.subset_with_all_partitions().get_partition_keys()) == keys


@pytest.mark.parametrize("every", ["1d", "3d", "7d", "month"])
def test_a_stream_that_begins_in_the_future_has_no_partitions(every: str) -> None:
    of = StreamAssets(stream_of(periods={"every": every, "start": f"{datetime.now(UTC).year + 1}-03-01"}))
    assert of.partitions.get_partition_keys() == of.stream.config.calendar.begun() == []


@pytest.mark.parametrize("every", ["10d", "month"])
def test_a_period_sees_the_one_before_and_all_before(every: str) -> None:
    of = StreamAssets(stream_of(periods={"every": every, "start": "2026-01-01"}))
    keys = of.partitions.get_partition_keys()

    def upstream(mapping: dg.TimeWindowPartitionMapping, key: str) -> list[str]:
        subset = of.partitions.empty_subset().with_partition_keys([key])
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, of.partitions, of.partitions)
        return list(found.partitions_subset.get_partition_keys())

    assert upstream(of.before(), keys[0]) == []
    assert upstream(of.before(), keys[4]) == [keys[3]]
    assert upstream(of.before(and_current=True), keys[4]) == keys[3:5]
    assert upstream(of.through, keys[4]) == keys[:5]
    assert upstream(of.through, keys[-1]) == keys


def test_names_that_dagster_joins_alike_do_not_clash() -> None:
    """Op names are the parts joined with two underscores; names may hold two underscores themselves."""
    plain = {"backbone": "stgnn", "strategy": "online"}
    studies = [{"name": name, "of": "b", "vary": {"seed": [2]}} for name in ("c", "tensor", "c__study")]
    models = [{"name": name, **plain} for name in ("b", "b__c", "b__evaluation", "b__drill")]
    one = stream_of(models=models, studies=studies, compare={"methods": ["eac"]})
    two = stream_of(name="net__b", models=[{"name": "c", **plain}])
    three = stream_of(name="net__study", models=[{"name": "c", **plain}])
    made = [asset for stream in (one, two, three) for asset in stream_assets(stream)]
    definitions = dg.Definitions(assets=made, resources=_resources())
    assert definitions.resolve_implicit_global_asset_job_def()


def _resources() -> dict[str, Any]:
    from checks.gate import ExpectationGate
    from resources.compute import ComputeResource
    from resources.source import SourceResource

    own = {"source": SourceResource(), "compute": ComputeResource(), "gate": ExpectationGate()}
    return {**io_managers(), **own}


def test_faults_have_names_that_dagster_takes_and_that_differ() -> None:
    names = ["mine", "mine", "b-b", "b_b", "straße", "two words", "x.y"]
    faults = [StreamFault(name, Path(f"/{i}/{name}/stream.yaml"), f"sentence {i}") for i, name in enumerate(names)]
    made = fault_assets(faults)
    assert len({next(iter(asset.keys)) for asset in made}) == len(names)
    assert all(asset.get_asset_spec().group_name == "broken_streams" for asset in made)
    texts = [asset.get_asset_spec().description or "" for asset in made]
    assert all(f"sentence {i}" in text for i, text in enumerate(texts))
    assert dg.Definitions(assets=made).resolve_asset_graph()


def test_what_dagster_refuses_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Cadence, "cron", lambda self, first: "not a cron line")
    found = assets_or_fault(stream_of())
    assert isinstance(found, StreamFault) and found.name == "net"
    assert "\n" not in found.message


def test_numbers_in_metadata_are_short() -> None:
    from assets.common import encoded
    from st_pipeline.storage import JSON

    output = encoded({"a": 1}, JSON, {"share": 0.123456789, "count": 123456789, "large": 1234567.891})
    values = {name: value.value for name, value in (output.metadata or {}).items()}
    assert values == {"share": 0.12346, "count": 123456789, "large": 1234600.0}


def test_the_data_version_is_that_of_the_content() -> None:
    from assets.common import encoded
    from st_pipeline.storage import JSON

    versions = [encoded({"a": value}, JSON, {"took": took}).data_version for value, took in ((1, 3), (1, 4), (2, 3))]
    assert versions[0] == versions[1] != versions[2]


def test_tables_hold_what_the_ui_can_show() -> None:
    import polars as pl

    from assets.common import table

    frame = pl.DataFrame({"a": [0.123456789, float("nan"), None], "b": [date(2024, 1, 1)] * 3, "c": [True] * 3})
    shown = table(frame, rows=2)
    assert [record.data for record in shown.records] == [
        {"a": 0.1235, "b": "2024-01-01", "c": True},
        {"a": None, "b": "2024-01-01", "c": True},
    ]
    assert [column.type for column in shown.schema.columns][:2] == ["float64", "string"]


def test_clock_of_these_tests() -> None:
    """The calendars above reach beyond the day on which the tests run."""
    assert datetime.now(UTC) > datetime(2024, 7, 1, tzinfo=UTC)


@pytest.mark.parametrize("every", CADENCES)
def test_plots_of_a_stream_that_ended_go_back_to_its_periods(every: str) -> None:
    """The UI asks for the newest periods in pages that go back from today."""
    first, cadence = date(2012, 1, 1), Cadence.parse(every)
    end = cadence.start_of(first, 4)
    found = StreamAssets(stream_of(periods={"every": every, "start": str(first), "end": str(end)})).partitions
    assert isinstance(found, dg.TimeWindowPartitionsDefinition)
    with partition_loading_context() as context:
        page = found.get_paginated_partition_keys(context, limit=120, ascending=False)
    assert set(found.get_partition_keys()) <= set(page.results)
    assert len(page.results) <= len(found.get_partition_keys()) + 1
