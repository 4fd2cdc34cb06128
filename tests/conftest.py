"""Shared by all tests: one thread for torch, and makers of small graphs, windows and streams."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import pytest
import yaml
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from st_pipeline.config import StreamConfig
    from st_pipeline.data.period_data import PeriodData
    from st_pipeline.data.protocols import Part
    from st_pipeline.strategies.base import Arrival
    from st_pipeline.training.compute import Compute
    from st_pipeline.training.learner import Learner
    from st_pipeline.types import Graph, SeriesShape, Window

settings.register_profile("plain", deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plain")

HOUR = 3600
SENSORS = (("a", "b", "c", "d", "e"), ("a", "c", "d", "e", "f", "g"), ("a", "c", "d", "f", "g", "h", "b"))


LONGEST = (
    "test_ui.py",
    "test_runner.py",
    "test_landing.py",
    "test_malformed_inputs.py",
    "test_end_to_end.py",
    "test_real_data.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: workers that take whole files then end together."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests run beside each other; torch is left alone where nobody imported it."""
    if torch := sys.modules.get("torch"):
        torch.set_num_threads(1)
    yield


@pytest.fixture(autouse=True)
def _own_instance() -> Iterator[None]:
    """Dagster remembers the storage of the instance that was entered last; a test sees none of an earlier test's."""
    if "dagster" not in sys.modules:
        yield
        return
    from dagster._core.storage.defs_state.base import set_defs_state_storage

    with set_defs_state_storage(None):
        yield


@dataclass
class Workspace:
    """Stream folders and a home of their own, found through the environment."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def streams(self) -> Path:
        return self.folder / "streams"

    @property
    def environment(self) -> dict[str, str]:
        return {
            "ST_PIPELINE_HOME": str(self.home),
            "ST_PIPELINE_STREAMS": str(self.streams),
            "ST_PIPELINE_DATA": str(self.folder / "data"),
            "ST_PIPELINE_DEVICE": "cpu",
            "ST_PIPELINE_THREADS": "1",
        }

    def stream(self, name: str, **changes: Any) -> Path:
        """Write a stream file: hourly simulated readings of 8 sensors, three weeks, one week a period."""
        plain = {
            "name": name,
            "source": {
                "format": "simulated",
                "sensors": 8,
                "growth": 2,
                "columns": {"flow": "flow", "speed": "speed", "x": "x_m", "y": "y_m", "distance": "distance_m"},
            },
            "timezone": "UTC",
            "step": "1h",
            "periods": {"every": "7d", "start": "2024-01-01", "end": "2024-01-22"},
            "target": "flow",
            "variables": {"flow": {"minimum": 0, "maximum": 9000}, "speed": {"sentinels": [-1]}},
            "graph": {"recipe": "distances"},
            "window": 6,
            "horizon": 3,
            "models": [eac_model(), {**eac_model(), "name": "online", "strategy": "online"}],
        }
        del plain["models"][1]["prompt_pool"]
        file = self.streams / name / "stream.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(yaml.safe_dump({**plain, **changes}, sort_keys=False))
        return file

    def landed_stream(self, name: str, **changes: Any) -> Path:
        """The same with its raw files in the stream's folder, so that a test can spoil them."""
        from st_pipeline.simulation import Scenario, write_stream

        scenario = Scenario(start=date(2024, 1, 1), periods=3, days=7, step_minutes=60, sensors=8, growth=2)
        write_stream(scenario, self.streams / name / "raw")
        source = {
            "format": "parquet",
            "readings": "raw/readings/*.parquet",
            "sensors": "raw/sensors.csv",
            "edges": "raw/edges.csv",
            "columns": {"flow": "flow", "speed": "speed", "x": "x_m", "y": "y_m", "distance": "distance_m"},
        }
        return self.stream(name, source=source, **changes)

    def raw(self, name: str, period: str) -> Path:
        """The raw file of a period of a landed stream."""
        return self.streams / name / "raw" / "readings" / f"{period}.parquet"

    def poison(self, name: str, period: str) -> bytes:
        """Make a period's flow negative, which the gate must not let through; returns the file as it was."""
        return self.change(name, period, -1 - pl.col("flow"))

    def change(self, name: str, period: str, flow: pl.Expr) -> bytes:
        """Give a period's rows another flow; late rows of earlier periods in its file stay. Returns the file before."""
        file = self.raw(name, period)
        before = file.read_bytes()
        table = pl.read_parquet(file)
        own = pl.col("timestamp") >= pl.lit(period).str.to_datetime().cast(table.schema["timestamp"])
        table.with_columns(flow=pl.when(own).then(flow).otherwise("flow")).write_parquet(file)
        return before

    def command(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `st-pipeline` in a process of its own."""
        return subprocess.run(
            [sys.executable, "-c", "from st_pipeline.cli import main; main()", *arguments],
            env={**os.environ, **self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=900,
            cwd=self.folder,
        )

    def files(self, home: Path | None = None) -> set[str]:
        """Paths in the lake, relative to it."""
        lake = (home or self.home) / "lake"
        return {str(file.relative_to(lake)) for file in lake.rglob("*") if file.is_file()}


def eac_model() -> dict[str, Any]:
    """A model that trains in a moment."""
    return {
        "name": "eac",
        "backbone": "stgnn",
        "prompt_pool": {"rank": 2},
        "strategy": "eac",
        "training": {"epochs": 2},
    }


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """An empty workspace that this process's environment names."""
    space = Workspace(tmp_path)
    space.streams.mkdir()
    for name, value in space.environment.items():
        monkeypatch.setenv(name, value)
    for name in ("DAGSTER_HOME", "ST_PIPELINE_LAKE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return space


@pytest.fixture(scope="session")
def object_store() -> Iterator[dict[str, str]]:
    """The environment of clients of a real S3 server on loopback, with a bucket `lake`."""
    from drills import services

    with ExitStack() as stack:
        try:
            environment = stack.enter_context(services.object_store())
        except services.Missing as missing:
            pytest.skip(f"no S3 server: {missing}")
        yield environment


@pytest.fixture
def bucket(object_store: dict[str, str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> str:
    """A workspace's lake in the object store, at a prefix of its own; its URL."""
    url = f"s3://lake/{workspace.folder.name}"
    for name, value in {**object_store, "ST_PIPELINE_LAKE": url}.items():
        monkeypatch.setenv(name, value)
    return url


@pytest.fixture(scope="session")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a workspace whose stream `small`, two periods and one model, has been run; not to be changed."""
    from st_pipeline import streams

    space = Workspace(tmp_path_factory.mktemp("finished_small"))
    online = {"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 2}}
    space.landed_stream("small", models=[online], periods={"every": "7d", "start": "2024-01-01", "end": "2024-01-15"})
    with pytest.MonkeyPatch.context() as patch:
        for name, value in space.environment.items():
            patch.setenv(name, value)
        patch.delenv("DAGSTER_HOME", raising=False)
        patch.setattr(streams, "SHIPPED", space.folder / "none")
        patch.chdir(space.folder)
        assert run_small().ok
    return space.folder


@pytest.fixture
def lived_in(workspace: Workspace, finished_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A workspace of its own with a copy of that."""
    from st_pipeline import streams

    monkeypatch.setattr(streams, "SHIPPED", workspace.folder / "none")
    shutil.copytree(finished_folder, workspace.folder, dirs_exist_ok=True)
    return workspace


def run_small() -> Any:
    """Bring `small` up to date in this process."""
    from resources.instance import open_instance
    from st_pipeline.cli.runner import Runner, scope
    from st_pipeline.definitions import build
    from st_pipeline.streams import find_stream

    stream = find_stream("small")
    with open_instance() as instance:
        return Runner(stream, instance, build()).run(scope(stream, None, None))


@pytest.fixture(name="run_small")
def run_small_fixture() -> Callable[[], Any]:
    """`run_small()`: what a run of `small` in the current workspace did."""
    return run_small


@pytest.fixture(scope="session")
def make_workspace() -> type[Workspace]:
    """`make_workspace(folder)`, for fixtures that outlive a test; the caller passes its `environment` on."""
    return Workspace


@pytest.fixture(scope="session")
def random_graph() -> Callable[..., Graph]:
    """`random_graph(nodes, seed=0, share=0.4)`: weights in (0, 1), directed, without self loops."""
    from st_pipeline.types import Graph

    def make(nodes: int, *, seed: int = 0, share: float = 0.4) -> Graph:
        random = np.random.default_rng(seed)
        row, column = np.nonzero((random.random((nodes, nodes)) < share) & ~np.eye(nodes, dtype=bool))
        return Graph.from_edges(row, column, random.uniform(0.1, 1, len(row)), num_nodes=nodes)

    return make


@pytest.fixture(scope="session")
def random_window() -> Callable[..., Window]:
    """`random_window(shape, batch=3, seed=0, missing=0.2)`: standard normal values, missing cells filled with 0."""
    import torch

    from st_pipeline.types import Window

    def make(shape: SeriesShape, *, batch: int = 3, seed: int = 0, missing: float = 0.2) -> Window:
        random = torch.Generator().manual_seed(seed)
        size = (batch, shape.window, shape.num_nodes, shape.channels)
        observed = torch.rand(size, generator=random) >= missing
        step = torch.randint(0, 7 * shape.steps_per_day, (batch, 1), generator=random)
        step = step + torch.arange(shape.window + shape.horizon)
        return Window(
            torch.randn(size, generator=random) * observed,
            observed,
            step % shape.steps_per_day,
            step // shape.steps_per_day % 7,
        )

    return make


@pytest.fixture(scope="session")
def make_stream() -> Callable[..., StreamConfig]:
    """`make_stream(models=[...], **changes)`: hourly readings in periods of 21 days, forecast 4 steps from 6."""
    from st_pipeline.config import StreamConfig

    def make(**changes: Any) -> StreamConfig:
        plain = {
            "name": "small",
            "source": {"format": "parquet", "readings": "r.parquet", "sensors": "s.parquet", "columns": {"flow": "q"}},
            "step": "1h",
            "periods": {"every": "21d", "start": "2024-01-01", "end": "2024-03-04"},
            "variables": {"flow": {"minimum": 0}},
            "window": 6,
            "horizon": 4,
        }
        return StreamConfig.model_validate({**plain, **changes})

    return make


@pytest.fixture(scope="session")
def make_history() -> Callable[..., dict[str, PeriodData]]:
    """`make_history(stream, seed=0, missing=0.1)`: three periods in which sensors come, leave and return.

    The target has a daily shape of its own for each sensor; a tenth of the cells is missing.
    """
    from st_pipeline.data.period_data import PeriodData
    from st_pipeline.data.quality import MISSING, OBSERVED
    from st_pipeline.data.tensors import SeriesTensor
    from st_pipeline.types import Graph, NodeSet

    def make(stream: StreamConfig, *, seed: int = 0, missing: float = 0.1) -> dict[str, PeriodData]:
        births: dict[str, str] = {}
        history = {}
        for period, ids in zip(stream.calendar.periods(), SENSORS, strict=True):
            random = np.random.default_rng([seed, period.index])
            added = tuple(name for name in ids if name not in births)
            before = SENSORS[period.index - 1] if period.index else ()
            returned = tuple(name for name in ids if name in births and name not in before)
            births |= dict.fromkeys(added, period.key)
            retired = tuple(name for name in before if name not in ids)
            nodes = NodeSet(period.key, ids, added, returned, retired=retired, births=dict(births))
            length = round(period.days * 24)
            hours = np.arange(length)[:, None]
            level = np.array([ord(name) - ord("a") + 1 for name in ids])
            daily = 20 * level * (1.2 + np.sin(2 * np.pi * (hours + level) / 24)) + random.normal(
                0, 2, (length, len(ids))
            )
            channels = len(stream.input_names)
            values = np.stack([np.abs(daily) + channel for channel in range(channels)], axis=-1).astype(np.float32)
            flags = np.where(random.random(values.shape) < missing, MISSING, OBSERVED).astype(np.uint8)
            values[flags == MISSING] = 0
            times = int(period.start.timestamp()) + HOUR * np.arange(length, dtype=np.int64)
            tensor = SeriesTensor(period.key, ids, stream.input_names, stream.timezone, values, flags, times)
            ring = np.arange(len(ids))
            graph = Graph.from_edges(ring, (ring + 1) % len(ids), np.full(len(ids), 0.5), num_nodes=len(ids))
            history[period.key] = PeriodData(period, nodes, tensor, graph)
        return history

    return make


@pytest.fixture(scope="session")
def make_part(make_stream: Callable[..., StreamConfig]) -> Callable[..., Part]:
    """`make_part(nodes=5, length=200, protocol="sound", name="train", ...)`: one part of a period of random readings.

    A tenth of the readings is zero, `missing` of the cells is missing.
    """
    from st_pipeline.data.protocols import PROTOCOLS, PeriodArrays
    from st_pipeline.data.quality import MISSING, OBSERVED
    from st_pipeline.data.tensors import SeriesTensor
    from st_pipeline.model_config import ScalingConfig
    from st_pipeline.types import NodeSet

    def make(
        *,
        nodes: int = 5,
        length: int = 200,
        protocol: str = "sound",
        name: Any = "train",
        seed: int = 0,
        missing: float = 0.2,
        lags: tuple[int, ...] = (),
    ) -> Part:
        random = np.random.default_rng(seed)
        size = (length, nodes, 1)
        flags = np.where(random.random(size) < missing, MISSING, OBSERVED).astype(np.uint8)
        readings = random.gamma(4, 5 * np.arange(1, nodes + 1)[:, None], size) * (random.random(size) >= 0.1)
        values = np.where(flags == MISSING, 0, readings).astype(np.float32)
        ids = tuple(f"s{row:03d}" for row in range(nodes))
        times = HOUR * np.arange(length, dtype=np.int64)
        tensor = SeriesTensor("1", ids, ("flow",), "UTC", values, flags, times)
        arrays = PeriodArrays.of(tensor, NodeSet.of(ids), make_stream(), protocol=PROTOCOLS[protocol], lags=lags)
        return arrays.part(name, arrays.fit_scaler(ScalingConfig()))

    return make


@pytest.fixture(scope="session")
def make_learner(make_stream: Callable[..., StreamConfig]) -> Callable[..., Learner]:
    """`make_learner(strategy, stream={...}, **model)`: a small prompted network that trains for two epochs."""
    from st_pipeline.training.learner import Learner

    def make(strategy: Any = "online", *, stream: dict[str, Any] | None = None, **model: Any) -> Learner:
        plain = {
            "name": "model",
            "backbone": {"name": "stgnn", "hidden": 8},
            "prompt_pool": {"rank": 2},
            "strategy": strategy,
            "training": {"epochs": 2, "batch": 64},
        }
        config = make_stream(models=[{**plain, **model}], **(stream or {}))
        return Learner(config, config.models[0], config.models[0].runs[0])

    return make


@pytest.fixture(scope="session")
def make_arrival() -> Callable[..., Arrival]:
    """`make_arrival(learner, data, earlier=None)`: a period with what it brings, as the learner hands it on."""
    from st_pipeline.strategies.base import Network
    from st_pipeline.training.arrivals import arrive
    from st_pipeline.training.memory import Plan

    def make(learner: Learner, data: PeriodData, earlier: PeriodData | None = None, *, seed: int = 1) -> Arrival:
        scaler = None

        def load(past: PeriodData) -> Network:
            nonlocal scaler
            arrays = learner.arrays(past)
            scaler = scaler or arrays.fit_scaler(learner.model.scaling)
            return Network(past.nodes, past.graph, arrays.part("train", scaler))

        return arrive(
            data.period,
            partial(load, data),
            partial(load, earlier) if earlier else None,
            steps_per_day=learner.stream.steps_per_day,
            settings=learner.settings,
            plan=Plan(learner.settings.batch, 1, 0),
            seed=seed,
        )

    return make


@pytest.fixture(scope="session")
def compute() -> Compute:
    """The CPU with one thread."""
    from st_pipeline.training.compute import Compute

    return Compute(device="cpu", threads=1)


@pytest.fixture(scope="session")
def made_losses() -> Callable[..., pl.DataFrame]:
    """`made_losses("eac", "2024-01-01", shift=0.0)`: 240 windows of 3 steps; models share what is hard to forecast."""

    def make(model: str, period: str, *, shift: float = 0.0, protocol: str = "sound", **facts: Any) -> pl.DataFrame:
        windows, steps = 240, 3
        shared = 5 + np.abs(np.random.default_rng([1, *period.encode()]).normal(size=windows * steps))
        own = np.random.default_rng([2, *model.encode(), *period.encode()]).normal(size=windows * steps)
        error = 10 * (shared + shift + 0.2 * own)
        columns = {
            "issued_at": np.repeat(HOUR * np.arange(windows), steps),
            "horizon": np.tile(np.arange(1, steps + 1), windows),
            **dict.fromkeys(("absolute", "square", "absolute_nonzero"), error),
            **dict.fromkeys(("cells", "cells_nonzero"), np.full(windows * steps, 10)),
        }
        named = {"stream": "small", "model": model, "protocol": protocol, "seed": 1, "period": period}
        named |= {"trained_through": period, "data": "d", "split": "s", "mask": "m", **facts}
        return pl.DataFrame(columns).with_columns(
            *(
                pl.lit(value, dtype=pl.Int64 if name == "seed" else pl.String).alias(name)
                for name, value in named.items()
            )
        )

    return make


@pytest.fixture(scope="session")
def made_drill() -> Callable[..., pl.DataFrame]:
    """`made_drill("eac", "2024-01-01", losses={"noise": 10.0}, failed=("noise",))`: a drill of one seed."""
    from st_pipeline.evaluation.drill import CLEAN, DRILL_SCHEMA

    def make(model: str, period: str, losses: dict[str, float | None], *, failed: tuple[str, ...] = ()) -> pl.DataFrame:
        names = {"stream": "small", "model": model, "protocol": "sound", "seed": 1, "period": period}
        rows = [
            {**names, "scenario": name, "survived": name not in failed, "mae": 1.0, "weekly_mae": 2.0, "skill": 50.0}
            | {"worst": 9.0, "skill_loss": loss}
            for name, loss in {CLEAN: 0.0, **losses}.items()
        ]
        return pl.DataFrame(rows, schema=DRILL_SCHEMA)

    return make


@pytest.fixture
def fill_losses(workspace: Workspace, made_losses: Callable[..., pl.DataFrame]) -> Callable[..., None]:
    """`fill_losses("small", {"eac": 0.0, "online": (-1.0, 0.5)})`: losses in the lake, one period a week."""
    from st_pipeline.storage import FRAME, lake

    def fill(stream: str, shifts: dict[str, float | tuple[float, ...]]) -> None:
        for model, shift in shifts.items():
            by_period = shift if isinstance(shift, tuple) else (shift, shift, shift)
            for place, value in enumerate(by_period):
                key = date(2024, 1, 1 + 7 * place).isoformat()
                frame = made_losses(model, key, shift=value, stream=stream)
                lake().write((stream, model, "losses"), key, FRAME, FRAME.dump(frame))

    return fill
