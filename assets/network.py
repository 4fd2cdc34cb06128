"""From raw readings to what a model sees: clean readings behind the gate, node set, tensor, adjacency, drift."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import polars as pl

from assets.common import StreamAssets, encoded, frame_metadata, table
from assets.gate import check_results, gate_checks, refuse
from assets.pictures import picture
from assets.raw import has_edges
from resources.failures import user_errors
from resources.lake import HISTORY, PREVIOUS
from st_pipeline.data.verdict import Gate
from st_pipeline.storage import FRAME

SHOWN = 5  # sensors named in a warning


def network_assets(of: StreamAssets) -> list[dg.AssetsDefinition]:
    """`readings`, `node_set`, `tensor`, `adjacency`, `drift`."""
    config = of.stream.config

    @dg.asset(
        key=of.key("readings"),
        ins={"raw_readings": dg.AssetIn(of.key("raw_readings")), "sensors": dg.AssetIn(of.key("sensors"))},
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        check_specs=gate_checks(of, "readings"),
        description="Tidy readings with a quality flag per cell. The gate: a failed critical expectation stops here.",
        **of.common("readings", of.config("source", "timezone", "step", "periods", "target", "variables", "gate")),
    )
    def readings(
        context: dg.AssetExecutionContext, raw_readings: Any, sensors: Any, gate: dg.ResourceParam[Gate]
    ) -> Iterator[Any]:
        from st_pipeline.data.cleaning import clean, flag_counts
        from st_pipeline.data.summaries import network_summary, sensor_summary, until_landed

        with user_errors():
            frame = clean(raw_readings, config, of.period(context), sensors)
        judged = until_landed(frame, config) if of.period(context).is_running() else frame
        verdict = gate.readings(config, network_summary(judged, config), sensor_summary(judged, sensors, config))
        yield from check_results(verdict, of.key("readings"))
        refuse(verdict)
        flags = flag_counts(frame, config.variable_names)
        shares = {
            f"share_{row['flag']}": row["share"]
            for row in flags.iter_rows(named=True)
            if row["variable"] == config.variable_names[0]
        }
        yield encoded(frame, FRAME, {**frame_metadata(frame), **shares, "flags": table(flags)})

    @dg.asset(
        key=of.key("node_set"),
        ins={
            "sensors": dg.AssetIn(of.key("sensors")),
            "readings": dg.AssetIn(of.key("readings")),
            "previous": dg.AssetIn(of.key("node_set"), partition_mapping=of.before(), metadata=PREVIOUS),
        },
        partitions_def=of.partitions,
        io_manager_key="node_sets",
        kinds={"json"},
        description="Ordered sensors of the period: retained in place, added behind; silent, returned, moved, retired.",
        **of.common("node_set", of.config("lives", "target")),
    )
    def node_set(context: dg.AssetExecutionContext, sensors: Any, readings: Any, previous: Any) -> dg.Output[Any]:
        from st_pipeline.data.lives import NODE_SET, heard_in
        from st_pipeline.data.lives import node_set as next_node_set

        with user_errors():
            heard = heard_in(readings, config.variable_names[0])
            nodes = next_node_set(previous, sensors=sensors, heard=heard, period=of.period(context), lives=config.lives)
        groups = ("added", "returned", "silent", "moved", "retired")
        counts = {
            "nodes": len(nodes),
            "retained": len(nodes.retained),
            **{name: len(getattr(nodes, name)) for name in groups},
        }
        names = {f"{name}_sensors": ", ".join(getattr(nodes, name)[:50]) or "none" for name in groups}
        return encoded(nodes, NODE_SET, {**counts, **names})

    @dg.asset(
        key=of.key("tensor"),
        ins={"readings": dg.AssetIn(of.key("readings")), "node_set": dg.AssetIn(of.key("node_set"))},
        partitions_def=of.partitions,
        io_manager_key="tensors",
        kinds={"numpy", "safetensors"},
        description="Values and quality flags of every step, node and input variable, with sensor ids and timestamps.",
        **of.common("tensor", of.config("source", "step", "timezone", "target", "inputs")),
    )
    def tensor(context: dg.AssetExecutionContext, readings: Any, node_set: Any) -> dg.Output[Any]:
        from st_pipeline.data.tensors import TENSOR, build_tensor

        with user_errors():
            built = build_tensor(readings, node_set.ids, config, context.partition_key)
        steps, nodes, channels = built.values.shape
        numbers = {
            "steps": steps,
            "nodes": nodes,
            "channels": channels,
            "observed_share": float(built.observed[..., 0].mean()),
        }
        return encoded(built, TENSOR, {**numbers, "variables": ", ".join(built.variables)})

    @dg.asset(
        key=of.key("adjacency"),
        ins={
            "sensors": dg.AssetIn(of.key("sensors")),
            "node_sets": dg.AssetIn(
                of.key("node_set"), partition_mapping=of.before(and_current=True), metadata=HISTORY
            ),
            **({"edges": dg.AssetIn(of.key("edges"))} if has_edges(of) else {}),
        },
        partitions_def=of.partitions,
        io_manager_key="graphs",
        kinds={"scipy", "safetensors"},
        description="Sparse adjacency of the node set, raw weights, and its difference to the previous period.",
        **of.common("adjacency", of.config("graph")),
    )
    def adjacency(context: dg.AssetExecutionContext, sensors: Any, node_sets: Any, **given: Any) -> dg.Output[Any]:
        from st_pipeline.data.adjacency import ADJACENCY, build_adjacency, graph_statistics
        from st_pipeline.data.positions import positions_at
        from st_pipeline.reporting.plots import network_plot

        built = {}
        with user_errors():
            for key in node_sets:
                period = config.calendar.find(key)
                built[key] = build_adjacency(
                    node_sets[key].ids, sensors=sensors, edges=given.get("edges"), config=config, period=period
                )
        current, nodes = built.pop(context.partition_key), node_sets[context.partition_key]
        statistics = graph_statistics(current, next(iter(built.values()), None))
        places = positions_at(sensors, nodes.ids, of.period(context).last_day)
        figure = network_plot(places, current, new=nodes.index_of((*nodes.added, *nodes.returned)))
        return encoded(current, ADJACENCY, {**statistics, "network": picture(figure)})

    @dg.asset(
        key=of.key("drift"),
        ins={"tensors": dg.AssetIn(of.key("tensor"), partition_mapping=of.before(and_current=True), metadata=HISTORY)},
        partitions_def=of.partitions,
        io_manager_key="frames",
        kinds={"polars", "parquet"},
        check_specs=[
            dg.AssetCheckSpec(
                "same_units",
                asset=of.key("drift"),
                description="No sensor's level has changed by a factor between known units.",
                partitions_def=of.partitions,
            )
        ],
        description="How each sensor's readings differ from the period before: stability index, Wasserstein distance.",
        **of.common("drift", of.config("target")),
    )
    def drift(context: dg.AssetExecutionContext, tensors: Any) -> Iterator[Any]:
        from st_pipeline.data.drift import NOTABLE, drift_table, unit_suspects

        earlier = [key for key in tensors if key != context.partition_key]
        with user_errors():
            current, previous = tensors[context.partition_key], tensors[earlier[0]] if earlier else None
            frame = drift_table(current, previous)
            suspects = unit_suspects(current, previous)
        numbers = {"shifted_sensors": int((frame["psi"] > NOTABLE).sum()), "median_psi": frame["psi"].median()}
        known = {name: value for name, value in numbers.items() if value is not None}
        yield _same_units(of.key("drift"), suspects)
        yield encoded(
            frame,
            FRAME,
            {
                **frame_metadata(frame),
                **known,
                "most_shifted": table(frame.sort("psi", descending=True, nulls_last=True)),
            },
        )

    return [readings, node_set, tensor, adjacency, drift]


def _same_units(key: dg.AssetKey, suspects: pl.DataFrame) -> dg.AssetCheckResult:
    """A warning for sensors that may measure in another unit since this period."""
    told = [
        f"{row['sensor_id']} times {row['ratio']:.4g}, as between {row['between']}"
        for row in suspects.head(SHOWN).iter_rows(named=True)
    ]
    more = f" and {len(suspects) - SHOWN} more" if len(suspects) > SHOWN else ""
    hint = "; if a unit was changed, say so with unit_factor and valid_from in the sensor table"
    return dg.AssetCheckResult(
        check_name="same_units",
        asset_key=key,
        passed=suspects.is_empty(),
        severity=dg.AssetCheckSeverity.WARN,
        description="; ".join(told) + more + hint if told else "no level has changed so",
        metadata={"suspects": len(suspects), "table": table(suspects)},
    )
