"""The assets of a stream in the order of their runs: what one run finds unchanged spares the next its work."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatch

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph

from resources.staleness import Staleness
from st_pipeline.storage import lake

SOURCES = ("raw_files", "sensors")
LANDED = ("raw_readings", "edges")
FORECASTS = ("forecast", "forecast_scores")
RESULTS = ("report", *FORECASTS)
FINAL = "leaderboard"


def stages(graph: BaseAssetGraph, keys: Sequence[dg.AssetKey]) -> tuple[list[dg.AssetKey], ...]:
    """Assets by period: as landed, what is made of that, and everything of models."""
    periodic = [key for key in keys if graph.get(key).is_partitioned]
    landed = [key for key in periodic if key.path[1] in LANDED]
    results = [key for key in periodic if len(key.path) == 3 or key.path[1] in RESULTS]
    return landed, [key for key in periodic if key not in {*landed, *results}], results


def needed_by(graph: BaseAssetGraph, keys: Iterable[dg.AssetKey]) -> set[dg.AssetKey]:
    """Assets with all data that they are made of; models are none."""
    found = set(keys)
    open_keys = list(found)
    while open_keys:
        parents = {key for key in graph.get(open_keys.pop()).parent_keys if len(key.path) == 2}
        open_keys += parents - found
        found |= parents
    return found


def stale_among(staleness: Staleness, keys: Sequence[dg.AssetKey], period: str | None) -> list[dg.AssetKey]:
    """Those of the keys that are missing or stale, with what follows from them among the keys."""
    graph = staleness.asset_graph
    stale = staleness.of(keys, period)
    chosen: set[dg.AssetKey] = set()
    for key in keys:
        node = graph.get(key)
        if (node.parent_keys - {key}) & chosen or key in stale or not any(True for _ in files_of(graph, key, period)):
            chosen |= set(node.execution_set_asset_keys)
    return [key for key in keys if key in chosen]


def files_of(graph: BaseAssetGraph, key: dg.AssetKey, period: str | None) -> Iterator[str]:
    """Names of the lake's files of an asset; the description beside a trained part is none."""
    store, trained = lake(), len(key.path) == 3 and graph.get(key).pools
    pattern = f"{period or key.path[-1]}.{'safetensors' if trained else '*'}"
    names = store.files.names(store.path(tuple(key.path), period, "x").parent)
    return (name for name in names if fnmatch(name, pattern))


def is_behind(instance: dg.DagsterInstance, graph: BaseAssetGraph, key: dg.AssetKey) -> bool:
    """Whether something that an asset without periods needs has been written since; Dagster looks at no periods."""
    parents = graph.get(key).parent_keys
    records = {record.asset_entry.asset_key: record for record in instance.get_asset_records([key, *parents])}
    last = {name: record.asset_entry.last_materialization_storage_id or 0 for name, record in records.items()}
    return any(last.get(parent, 0) > last.get(key, 0) for parent in parents)


def needed(graph: BaseAssetGraph, key: dg.AssetKey, parent: dg.AssetKey, period: str | None) -> Iterable[str | None]:
    """Periods of a parent that one period of an asset needs."""
    if not graph.get(parent).is_partitioned or period is None:
        return [None]
    mapping = graph.get_partition_mapping(key, parent)
    child, upstream = graph.get(key).partitions_def, graph.get(parent).partitions_def
    assert child is not None and upstream is not None
    subset = child.empty_subset().with_partition_keys([period])
    result = mapping.get_upstream_mapped_partitions_result_for_partitions(subset, child, upstream)
    return list(result.partitions_subset.get_partition_keys())
