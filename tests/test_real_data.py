"""The shipped streams of real sensors, against what their source says of them; skipped where the data are not there."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from st_pipeline.cli import main
from st_pipeline.data.adjacency import Adjacency, build_adjacency
from st_pipeline.data.cleaning import clean, flag_counts
from st_pipeline.data.lives import heard_in, node_set
from st_pipeline.data.tensors import SeriesTensor, build_tensor
from st_pipeline.readers import readers
from st_pipeline.readers.base import SourceContext
from st_pipeline.streams import SHIPPED, load_stream
from st_pipeline.types import NodeSet

pytestmark = pytest.mark.real_data
DATA = Path(os.environ.get("ST_PIPELINE_DATA") or Path(__file__).parents[2] / "shared" / "data").resolve()
FOLDERS = {"melbourne": "melbourne_pedestrian", "berlin": "berlin_traffic", "beijing": "beijing_air"}
SENSORS = {  # in the sensor table, and measured in each period
    "melbourne": (39, [18, 18, 18, 32, 34, 33]),
    "berlin": (232, [231, 229, 221, 214, 200, 212, 200]),
    "beijing": (12, [12, 12, 12, 12]),
}
ROWS = {"melbourne": (600_000, 656_821), "berlin": (2_300_000, 2_625_351), "beijing": (420_768, 420_768)}
WARNINGS = {
    "melbourne": ["2013-07: expected at most 50% of a sensor missing"],
    "berlin": ["a position for every sensor; found 15 of 232", "no two sensors at one place; found 2 of 232"],
    "beijing": [],
}


class Walk:
    """Some periods of a stream, from the raw files to the adjacency, as the assets make them."""

    def __init__(self, name: str, scratch: Path) -> None:
        stream = load_stream(SHIPPED / name)
        self.config = stream.config
        reader: Any = readers.build(
            self.config.source.spec(), context=SourceContext(self.config, stream.folder, DATA, scratch)
        )
        self.sensors: pl.DataFrame = reader.sensors()
        self.readings: list[pl.DataFrame] = []
        self.nodes: list[NodeSet] = []
        self.tensors: list[SeriesTensor] = []
        self.graphs: list[Adjacency] = []
        self.periods = self.config.calendar.periods()[:2]
        for period in self.periods:
            frame = clean(reader.readings(period), self.config, period)
            previous = self.nodes[-1] if self.nodes else None
            heard = heard_in(frame, self.config.variable_names[0])
            nodes = node_set(previous, sensors=self.sensors, heard=heard, period=period, lives=self.config.lives)
            self.readings.append(frame)
            self.nodes.append(nodes)
            self.tensors.append(build_tensor(frame, nodes.ids, self.config, period.key))
            self.graphs.append(
                build_adjacency(nodes.ids, sensors=self.sensors, edges=None, config=self.config, period=period)
            )

    def share(self, period: int, variable: str, flag: str) -> float:
        """Share of a variable's rows that have a flag."""
        counts = flag_counts(self.readings[period], self.config.variable_names)
        found = counts.filter((pl.col("variable") == variable) & (pl.col("flag") == flag))["share"]
        return float(found[0]) if len(found) else 0.0


@pytest.fixture(scope="module", params=list(FOLDERS))
def name(request: pytest.FixtureRequest) -> str:
    stream: str = request.param
    if not (DATA / FOLDERS[stream]).is_dir():
        pytest.skip(f"no {FOLDERS[stream]} in {DATA}; set ST_PIPELINE_DATA to the folder of the real data")
    return stream


@pytest.fixture(scope="module")
def walk(name: str, tmp_path_factory: pytest.TempPathFactory) -> Walk:
    return Walk(name, tmp_path_factory.mktemp("scratch"))


@pytest.fixture(scope="module")
def document(name: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """What `check` says."""
    home = tmp_path_factory.mktemp("home")
    environment = {"ST_PIPELINE_DATA": str(DATA), "ST_PIPELINE_HOME": str(home / "state"), "ST_PIPELINE_STREAMS": ""}
    result = CliRunner().invoke(main, ["check", name, "--json"], env=environment)
    assert result.exit_code == 0, result.output
    assert not (home / "state").exists()
    yield json.loads(result.stdout)


def test_check_knows_the_network(name: str, document: dict[str, Any]) -> None:
    table, measured = SENSORS[name]
    periods = document["periods"]
    assert document["errors"] == []
    assert document["sensors"] == table
    assert [row["sensors"] for row in periods] == measured
    assert periods[0]["new"] == measured[0]
    low, high = ROWS[name]
    assert low <= sum(row["rows"] for row in periods) <= high
    assert all(row["edges"] > 0 for row in periods)


def test_check_knows_what_is_missing(name: str, document: dict[str, Any]) -> None:
    missing = [row["missing"] for row in document["periods"]]
    expected = {"melbourne": (0, 25), "berlin": (15, 40), "beijing": (1.5, 2.5)}[name]
    assert all(expected[0] <= share <= expected[1] for share in missing)
    mean = {"melbourne": 6.0, "berlin": 27.4, "beijing": 2.08}[name]
    assert abs(np.mean(missing) - mean) < 0.3
    assert all(row["faulty"] < 1 for row in document["periods"])
    said = " ".join(document["warnings"])
    assert all(warning in said for warning in WARNINGS[name])


def test_positions_lie_where_the_city_does(name: str, walk: Walk) -> None:
    middle = {"melbourne": (-37.81, 144.96), "berlin": (52.51, 13.39), "beijing": (40.0, 116.4)}[name]
    placed = walk.sensors.drop_nulls(["latitude", "longitude"])
    assert len(placed) == len(walk.sensors) - (15 if name == "berlin" else 0)
    assert (placed["latitude"] - middle[0]).abs().max() < 0.5  # type: ignore[operator]
    assert (placed["longitude"] - middle[1]).abs().max() < 0.5  # type: ignore[operator]


def test_time_is_regular_across_clock_changes(name: str, walk: Walk) -> None:
    for period, tensor in zip(walk.periods, walk.tensors, strict=True):
        assert set(np.diff(tensor.times)) == {3600}
        elapsed = period.end.timestamp() - period.start.timestamp()
        assert 0 <= elapsed / 3600 - len(tensor.times) <= 24
        assert period.start.timestamp() <= tensor.times[0] and tensor.times[-1] < period.end.timestamp()
    hours = [(period.end.timestamp() - period.start.timestamp()) / 3600 % 24 for period in walk.periods]
    assert hours == {"melbourne": [1, 23], "berlin": [23, 0], "beijing": [0, 0]}[name]


def test_tensors_hold_the_readings(name: str, walk: Walk) -> None:
    for frame, nodes, tensor in zip(walk.readings, walk.nodes, walk.tensors, strict=True):
        assert tensor.sensor_ids == nodes.ids
        assert tensor.variables == walk.config.input_names
        assert np.isfinite(tensor.values).all() and not tensor.values[~tensor.landed].any()
        target = walk.config.variable_names[0]
        good = frame.filter((pl.col("copy") == 0) & (pl.col(f"{target}_flag") == "observed"))
        assert int(tensor.observed[..., 0].sum()) == len(good)
        total = tensor.values[..., 0][tensor.observed[..., 0]].sum(dtype=np.float64)
        assert total == pytest.approx(good[target].cast(pl.Float64).sum(), rel=1e-6)


def test_graphs_join_near_sensors(name: str, walk: Walk) -> None:
    for nodes, graph in zip(walk.nodes, walk.graphs, strict=True):
        edges = graph.by_name()
        assert graph.sensor_ids == nodes.ids
        assert edges and all(source != target for source, target in edges)
        assert all(edges[target, source] == pytest.approx(weight) for (source, target), weight in edges.items())
        assert graph.weight.min() > 0 and graph.weight.max() <= 1
        if name == "berlin":
            placed = set(walk.sensors.drop_nulls(["latitude"])["sensor_id"])
            degree = np.bincount(graph.row, minlength=len(nodes))
            assert all(degree[row] >= 5 for row, sensor in enumerate(nodes.ids) if sensor in placed)
            assert not any(degree[row] for row, sensor in enumerate(nodes.ids) if sensor not in placed)


def test_a_sentinel_is_no_speed(name: str, walk: Walk) -> None:
    """`speed = -1` stands for an hour without a vehicle."""
    sentinels = [walk.share(period, "speed", "sentinel") for period in (0, 1)] if name == "berlin" else []
    assert all(0 < share < 0.1 for share in sentinels)
    for frame, tensor in zip(walk.readings, walk.tensors, strict=True):
        if sentinels:
            empty = frame.filter(pl.col("speed_flag") == "sentinel")
            assert empty["speed"].unique().to_list() == [-1]
            assert (empty["flow"] == 0).mean() > 0.99  # type: ignore[operator]
        for channel, variable in enumerate(tensor.variables):
            if walk.config.rules(variable).minimum == 0:
                assert tensor.values[..., channel][tensor.observed[..., channel]].min() >= 0


def test_a_node_keeps_its_row_while_it_stays(name: str, walk: Walk) -> None:
    first, second = walk.nodes
    assert len(first) == SENSORS[name][1][0]
    assert first.added == first.ids
    assert set(second.ids) == ({*first.ids} | {*second.added, *second.returned}) - {*second.retired}
    assert second.ids[: len(second.retained)] == second.retained
