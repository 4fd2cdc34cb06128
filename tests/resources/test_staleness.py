"""What is stale is what Dagster finds, in every situation, from a number of queries that does not grow with edges.

A small graph of assets whose content the tests choose: `source` -> `landed` -> `state` (with its own previous period)
-> `history` (all periods through the current one) -> `board`.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from resources import staleness
from resources.staleness import Staleness
from st_pipeline.cli.runner import QUIET

PERIODS = ["2021", "2022", "2023"]
PARTITIONS = dg.TimeWindowPartitionsDefinition(cron_schedule="0 0 1 1 *", start="2021", end="2024", fmt="%Y")
EDGES = {
    "source": [],
    "landed": ["source"],
    "state": ["landed", "previous state"],
    "history": ["state", "landed"],
    "board": ["history"],
}
PERIODIC = ["landed", "state", "history"]
MAPPINGS = {
    ("state", "state"): dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1),
    ("history", "state"): dg.TimeWindowPartitionMapping(start_offset=-len(PERIODS), end_offset=0),
}


@dataclass
class World:
    """An instance, and assets with edges, code versions and contents that can be changed."""

    instance: dg.DagsterInstance
    edges: dict[str, list[str]] = field(default_factory=lambda: {name: list(edges) for name, edges in EDGES.items()})
    versions: dict[str, str] = field(default_factory=dict)
    contents: dict[tuple[str, str | None], str] = field(default_factory=dict)

    def asset(self, name: str) -> dg.AssetsDefinition:
        parents = [edge.removeprefix("previous ") for edge in self.edges[name]]
        deps = [dg.AssetDep(parent, partition_mapping=MAPPINGS.get((name, parent))) for parent in parents]
        partitions = PARTITIONS if name in PERIODIC else None

        @dg.asset(name=name, deps=deps, partitions_def=partitions, code_version=self.versions.get(name, "1"))
        def made(context: dg.AssetExecutionContext) -> dg.MaterializeResult[None]:
            period = context.partition_key if context.has_partition_key else None
            version = self.contents.get((name, period), f"{name} of {period}")
            return dg.MaterializeResult(data_version=dg.DataVersion(version))

        return made

    @property
    def definitions(self) -> dg.Definitions:
        return dg.Definitions(assets=[self.asset(name) for name in self.edges], executor=dg.in_process_executor)

    def make(self, *names: str, period: str | None = None) -> None:
        job = self.definitions.resolve_implicit_global_asset_job_def()
        keys = [dg.AssetKey(name) for name in names]
        result = job.execute_in_process(
            instance=self.instance, partition_key=period, asset_selection=keys, run_config=QUIET
        )
        assert result.success

    def change(self, name: str, period: str | None = None, content: str = "other") -> None:
        """Make an asset by hand."""
        self.contents[name, period] = content
        self.make(name, period=period)

    def make_all(self) -> None:
        self.make("source")
        for period in PERIODS:
            self.make(*PERIODIC, period=period)
        self.make("board")

    def staleness(self) -> Staleness:
        return Staleness(self.instance, self.definitions.get_repository_def().asset_graph, PERIODS)

    def stale(self, asked: Staleness | None = None) -> set[str]:
        asked = asked or self.staleness()
        names = dict.fromkeys(PERIODS, PERIODIC) | {None: ["source", "board"]}
        return {
            _name(key.to_user_string(), period)
            for period, periodic in names.items()
            for key in asked.of([dg.AssetKey(name) for name in periodic], period)
        }

    def stale_to_dagster(self) -> set[str]:
        """The same from Dagster alone, asked anew for every asset and period."""
        graph = self.definitions.get_repository_def().asset_graph

        def is_fresh(name: str, period: str | None) -> bool:
            resolver = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
            return resolver.get_status(dg.AssetKey(name), period) == StaleStatus.FRESH

        every = [(name, period) for name in self.edges for period in (PERIODS if name in PERIODIC else [None])]
        return {_name(name, period) for name, period in every if not is_fresh(name, period)}


def _name(name: str, period: str | None) -> str:
    return f"{name} of {period}" if period else name


def of(name: str, *periods: str) -> set[str]:
    return {_name(name, period) for period in periods or PERIODS}


@pytest.fixture
def world() -> Iterator[World]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield World(instance)


@pytest.fixture
def finished(world: World) -> World:
    world.make_all()
    return world


def nothing(_: World) -> None:
    pass


def source_changes(world: World) -> None:
    world.change("source")


def source_is_made_again(world: World) -> None:
    world.make("source")


def period_changes(world: World) -> None:
    world.change("landed", "2022")


def period_is_made_again(world: World) -> None:
    world.make("landed", period="2022")


def period_changes_and_returns(world: World) -> None:
    world.change("landed", "2022")
    world.change("landed", "2022", "landed of 2022")


def past_changes(world: World) -> None:
    world.change("state", "2021")


def change_is_followed_by_one_child(world: World) -> None:
    world.change("landed", "2022")
    world.make("state", period="2022")


def change_is_followed_by_one_child_and_returns(world: World) -> None:
    change_is_followed_by_one_child(world)
    world.change("landed", "2022", "landed of 2022")


def everything_is_made_again(world: World) -> None:
    world.make_all()


def code_changes(world: World) -> None:
    world.versions["history"] = "2"


def dependency_goes(world: World) -> None:
    world.edges["history"].remove("landed")


def dependency_comes(world: World) -> None:
    world.edges["history"].append("source")


def asset_is_wiped(world: World) -> None:
    world.instance.wipe_assets([dg.AssetKey("state")])


def asset_is_wiped_and_begun_again(world: World) -> None:
    world.instance.wipe_assets([dg.AssetKey("state")])
    world.make("state", period="2021")


SITUATIONS: dict[Callable[[World], None], set[str]] = {
    nothing: set(),
    source_changes: of("landed"),
    source_is_made_again: set(),
    period_changes: of("state", "2022") | of("history", "2022"),
    period_is_made_again: set(),
    period_changes_and_returns: set(),
    past_changes: of("state", "2022") | of("history"),
    change_is_followed_by_one_child: of("history", "2022"),
    change_is_followed_by_one_child_and_returns: of("state", "2022"),
    everything_is_made_again: set(),
    code_changes: of("history"),
    dependency_goes: of("history"),
    dependency_comes: of("history"),
    asset_is_wiped: of("state"),
    asset_is_wiped_and_begun_again: of("state", "2022", "2023") | of("history"),
}


@pytest.mark.parametrize("happens", SITUATIONS, ids=lambda happens: happens.__name__)
def test_what_is_stale_is_what_dagster_finds(
    finished: World, happens: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    happens(finished)
    assert finished.stale() == finished.stale_to_dagster() == SITUATIONS[happens]
    for ahead in (1, 2):
        monkeypatch.setattr(staleness, "AHEAD", ahead)
        assert finished.stale() == SITUATIONS[happens], f"records of {ahead} periods are read together"


def test_everything_is_missing_at_first(world: World) -> None:
    every = {"source", "board"}.union(*(of(name) for name in PERIODIC))
    assert world.stale() == world.stale_to_dagster() == every


def test_periods_that_are_still_missing(world: World) -> None:
    world.make("source")
    world.make(*PERIODIC, period="2021")
    missing = {"board"}.union(*(of(name, "2022", "2023") for name in PERIODIC))
    assert world.stale() == world.stale_to_dagster() == missing


def test_an_asset_made_before_what_it_depends_on(world: World) -> None:
    world.make("history", period="2021")
    world.make("landed", "state", period="2021")
    assert world.stale() == world.stale_to_dagster()
    world.change("state", "2021")
    assert world.stale() == world.stale_to_dagster()


def test_periods_that_were_not_announced(finished: World) -> None:
    finished.change("landed", "2022")
    asked = Staleness(finished.instance, finished.definitions.get_repository_def().asset_graph, ["2023"])
    assert finished.stale(asked) == of("state", "2022") | of("history", "2022")


def test_it_is_renewed_when_something_was_written(finished: World) -> None:
    asked = finished.staleness()
    assert finished.stale(asked) == set()
    finished.change("landed", "2022")
    assert finished.stale(asked) == set()
    assert finished.stale(asked.renewed()) == of("state", "2022") | of("history", "2022")


def test_queries_are_counted_by_asset(finished: World, monkeypatch: pytest.MonkeyPatch) -> None:
    counts: Counter[str] = Counter()

    def counted(name: str) -> Any:
        real = getattr(finished.instance, name)

        def count(*arguments: Any, **options: Any) -> Any:
            counts[name] += 1
            return real(*arguments, **options)

        return count

    asked = finished.staleness()
    with monkeypatch.context() as patch:
        for name in ("fetch_materializations", "get_latest_storage_id_by_partition", "get_asset_records"):
            patch.setattr(finished.instance, name, counted(name))
        assert finished.stale(asked) == set()
    one_each = len(PERIODIC)
    assert counts["fetch_materializations"] == counts["get_latest_storage_id_by_partition"] == one_each
    assert counts["get_asset_records"] <= len(EDGES)
