"""What is missing or stale: Dagster's own answer, from a few queries an asset instead of several for every edge."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.data_version import CachingStaleStatusResolver, DataProvenance, StaleStatus
from dagster._core.definitions.events import AssetKeyPartitionKey
from dagster._core.loader import LoadingContextForTest

AHEAD = 16  # periods whose records are read together; a record holds all that the UI shows of it, pictures too


class Staleness(CachingStaleStatusResolver):
    """Answers for the database as it was when each asset was first asked for; `renewed` once something is written.

    The rules are Dagster's. Overridden is where they look up a record: the newest ones come from one query for many
    periods, and what the newest storage ids decide alone is not looked up.

    Args:
        periods: those that will be asked about, in that order; of others, each is a query of its own.
        settled: assets whose news somebody else has looked at, so that they make nothing stale.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        graph: BaseAssetGraph,
        periods: Sequence[str],
        settled: frozenset[dg.AssetKey] = frozenset(),
    ) -> None:
        super().__init__(instance, graph, LoadingContextForTest(instance))
        self.periods = periods
        self.settled = settled
        self._records: dict[dg.AssetKey, dict[str, dg.EventLogRecord | None]] = {}
        self._updated: dict[tuple[AssetKeyPartitionKey, int | None], bool] = {}

    def renewed(self) -> Staleness:
        """The same for the database as it is from here on."""
        return Staleness(self._instance, self.asset_graph, self.periods, self.settled)

    def of(self, keys: Sequence[dg.AssetKey], period: str | None) -> set[dg.AssetKey]:
        """Those of the assets that are missing, or that their code would make anew from what is there."""
        parents = {parent for key in keys for parent in self.asset_graph.get(key).parent_keys}
        self.instance_queryer.prefetch_asset_records({*keys, *parents})
        return {key for key in keys if self.get_status(key, period) != StaleStatus.FRESH}

    def _get_latest_data_version_record(self, key: AssetKeyPartitionKey) -> dg.EventLogRecord | None:
        """The newest record of a period, read with those of the periods after it."""
        asset, period = key.asset_key, key.partition_key
        if period is None or period not in self.periods:
            return super()._get_latest_data_version_record(key=key)
        if period not in self._records.get(asset, {}):
            begin = self.periods.index(period)
            self._records[asset] = self._read(asset, self.periods[begin : begin + AHEAD])
        return self._records[asset][period]

    def _read(self, asset: dg.AssetKey, periods: Sequence[str]) -> dict[str, dg.EventLogRecord | None]:
        newest = {period: self._newest(AssetKeyPartitionKey(asset, period)) for period in periods}
        ids = [number for number in newest.values() if number]
        wanted = dg.AssetRecordsFilter(asset, storage_ids=ids)
        found = self._instance.fetch_materializations(wanted, limit=len(ids)).records if ids else []
        records = {record.storage_id: record for record in found}
        return {period: records.get(number) for period, number in newest.items()}

    def _newest(self, key: AssetKeyPartitionKey) -> int:
        """Storage id of the newest record, from one query for all periods of the asset; 0 if there is none."""
        return self.instance_queryer.get_latest_materialization_or_observation_storage_id(key) or 0

    def _is_dep_updated(self, provenance: DataProvenance, dep_key: AssetKeyPartitionKey) -> bool:
        """Never if nothing was written since; otherwise by content, the same for all that was made at one time."""
        if dep_key.asset_key in self.settled:
            return False
        cursor = provenance.input_storage_ids[dep_key.asset_key]
        if dep_key.partition_key is None:
            return super()._is_dep_updated(provenance, dep_key)
        if cursor and self._newest(dep_key) <= cursor:
            return False
        if (dep_key, cursor) not in self._updated:
            self._updated[dep_key, cursor] = super()._is_dep_updated(provenance, dep_key)
        return self._updated[dep_key, cursor]
