"""Bringing archives in and taking streams out, as a person does it: with the command."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import yaml
from click.testing import CliRunner

from st_pipeline import streams as finding
from st_pipeline.cli import main
from st_pipeline.interchange.parts.network import Network, read_network
from st_pipeline.streams import Stream, find_stream


@pytest.fixture
def bring(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stream]:
    """`bring("metr_la", path, "start=2018-01-01", name="mine")`: the stream that `import` makes and `check` accepts."""
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")

    def make(form: str, path: Path, *options: str, name: str = "mine") -> Stream:
        given = [part for option in options for part in ("--set", option)]
        result = CliRunner().invoke(main, ["import", form, str(path), "--name", name, *given])
        assert result.exit_code == 0, result.output
        checked = CliRunner().invoke(main, ["check", name, "--json"])
        assert checked.exit_code == 0, checked.output
        assert json.loads(checked.stdout)["errors"] == []
        return find_stream(name)

    return make


@pytest.fixture
def refused(workspace: Any) -> Callable[..., str]:
    """`refused("metr_la", path)`: the one sentence with which `import` refuses; nothing is left behind."""

    def ask(form: str, path: Path, *options: str) -> str:
        given = [part for option in options for part in ("--set", option)]
        result = CliRunner().invoke(main, ["import", form, str(path), "--name", "mine", *given])
        assert result.exit_code == 2, result.output
        assert result.stderr.startswith("st-pipeline: ") and result.stderr.count("\n") == 1, result.stderr
        streams = workspace.folder / "streams"
        assert not streams.exists() or not list(streams.iterdir())
        return str(result.stderr)

    return ask


@pytest.fixture
def network() -> Callable[[Stream], Network]:
    """All periods of a stream as exporters see them."""
    from resources.source import open_source

    return lambda stream: read_network(stream.config, open_source(stream), stream.config.calendar.periods())


@pytest.fixture
def take_out(workspace: Any) -> Callable[..., Path]:
    """`take_out("mine", "eac")`: the folder that `export` writes."""

    def make(name: str, form: str, *options: str) -> Path:
        folder = workspace.folder / f"{name}_as_{form}"
        result = CliRunner().invoke(main, ["export", name, "--format", form, "--into", str(folder), *options])
        assert result.exit_code == 0, result.output
        return folder

    return make


@pytest.fixture
def train(compute: Any) -> Callable[[Stream], float]:
    """`train(stream)`: the number of epochs after which a small model was trained on the first period."""
    from resources.source import open_source
    from st_pipeline.interchange.parts.network import read_periods
    from st_pipeline.training.learner import Learner

    def run(stream: Stream) -> float:
        plain = yaml.safe_load((stream.folder / "stream.yaml").read_text())
        model = {
            "name": "m",
            "backbone": {"name": "stgnn", "hidden": 8},
            "strategy": "online",
            "training": {"epochs": 1},
        }
        config = type(stream.config).model_validate({**plain, "models": [model], "champion": "m"})
        data = next(iter(read_periods(config, open_source(stream), config.calendar.period(0))))
        parts = Learner(config, config.models[0], config.models[0].runs[0]).learn(data, None, compute=compute)
        return float(parts["backbone"].cost["epochs"])

    return run


@pytest.fixture(scope="session")
def wave() -> Callable[..., Any]:
    """`wave(steps, sensors, day=24, seed=0)`: (L, N) daily shapes above 0 that any float holds."""

    def make(steps: int, sensors: int, *, day: int = 24, seed: int = 0) -> Any:
        random = np.random.default_rng(seed)
        turn = np.arange(steps)[:, None] / day + np.arange(sensors) / sensors
        values = 40 + 20 * np.sin(2 * np.pi * turn) + random.normal(0, 1, (steps, sensors))
        return np.round(values * 64) / 64

    return make


@pytest.fixture(scope="session")
def ring() -> Callable[..., Any]:
    """`ring(sensors)`: (N, N) weights of a ring, directed."""

    def make(sensors: int) -> Any:
        weights = np.zeros((sensors, sensors))
        weights[np.arange(sensors), (np.arange(sensors) + 1) % sensors] = 0.5
        return weights

    return make


@pytest.fixture
def stored(workspace: Any) -> Callable[..., pl.DataFrame]:
    """`stored("mine")`: the readings that `import` wrote, in order."""

    def read(name: str) -> pl.DataFrame:
        return pl.read_parquet(workspace.streams / name / "readings" / "*.parquet").sort("timestamp", "sensor_id")

    return read
