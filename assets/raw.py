"""From raw files to raw readings: the inventory of files, the sensor table, the rows of each period as landed."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets.common import StreamAssets, encoded, frame_metadata, table
from assets.gate import check_results, gate_checks, refuse
from resources.failures import user_errors
from resources.source import SourceResource
from st_pipeline.data.inventory import inventory
from st_pipeline.data.summaries import raw_summary
from st_pipeline.data.verdict import Gate
from st_pipeline.storage import FRAME


def raw_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`raw_files`, `sensors`, `raw_readings`, and `edges` where the source gives them."""
    stream = of.stream

    @dg.asset(
        key=of.key("raw_files"),
        io_manager_key="frames",
        kinds={"file"},
        description="Inventory of the raw files: one row per file with its size and the digest of its content.",
        **of.common("raw_files", of.config("source")),
    )
    def raw_files(source: SourceResource) -> dg.Output[Any]:
        with user_errors():
            files = inventory(source.reader(stream).files())
        return encoded(
            files, FRAME, {**frame_metadata(files), "bytes_in_all": int(files["bytes"].sum()), "files": table(files)}
        )

    @dg.asset(
        key=of.key("sensors"),
        deps=[of.key("raw_files")],
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        check_specs=gate_checks(of, "sensors", per_period=False),
        description="Static facts of every sensor: position, installation, retirement. Its suite runs inside.",
        **of.common("sensors", of.config("source")),
    )
    def sensors(source: SourceResource, gate: dg.ResourceParam[Gate]) -> Iterator[Any]:
        with user_errors():
            frame = source.reader(stream).sensors()
            frame = frame.sort(frame.columns)
        verdict = gate.sensors(stream.config, frame)
        yield from check_results(verdict, of.key("sensors"))
        refuse(verdict)
        yield encoded(
            frame, FRAME, {**frame_metadata(frame), "sensors": frame["sensor_id"].n_unique(), "head": table(frame)}
        )

    @dg.asset(
        key=of.key("raw_readings"),
        deps=[of.key("raw_files")],
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        check_specs=gate_checks(of, "raw_readings"),
        description="Rows of the period as landed, with the file and row each came from. Its suite runs inside.",
        **of.common("raw_readings", of.config("source", "timezone", "step", "periods", "target", "gate")),
    )
    def raw_readings(
        context: dg.AssetExecutionContext, source: SourceResource, gate: dg.ResourceParam[Gate]
    ) -> Iterator[Any]:
        period = of.period(context)
        with user_errors():
            rows = source.reader(stream).readings(period)
        summary = raw_summary(rows, stream.config, period)
        verdict = gate.raw_readings(stream.config, summary)
        yield from check_results(verdict, of.key("raw_readings"))
        refuse(verdict)
        counts = {"sensors": rows["sensor_id"].n_unique(), "files": rows["file"].n_unique()}
        yield encoded(rows, FRAME, {**frame_metadata(rows), **counts, "rows_per_sensor": table(summary)})

    return [raw_files, sensors, raw_readings, *([edges_asset(of)] if has_edges(of) else [])]


def has_edges(of: StreamAssets) -> bool:
    """Whether the source gives edges; decided by the stream file alone, no raw file is opened."""
    source = of.stream.config.source
    return source.format == "simulated" or any(key in ("edges", "adjacency") for key in source.spec())


def edges_asset(of: StreamAssets) -> dg.AssetsDefinition:
    @dg.asset(
        key=of.key("edges"),
        deps=[of.key("raw_files")],
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        description="Edges that the source gives for the period: source, target, distance or weight.",
        **of.common("edges", of.config("source")),
    )
    def edges(context: dg.AssetExecutionContext, source: SourceResource) -> dg.Output[Any]:
        with user_errors():
            frame = source.reader(of.stream).edges(of.period(context))
        return encoded(frame, FRAME, {**frame_metadata(frame), "head": table(frame)})

    return edges
