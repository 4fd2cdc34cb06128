"""Streams simulated once for all tests of the simulation."""

from __future__ import annotations

from pathlib import Path

import pytest

from st_pipeline.simulation import Scenario, Simulation, simulate, write_stream

TINY = Scenario(periods=3, days=7, sensors=8, growth=2)


@pytest.fixture(scope="session")
def tiny() -> Simulation:
    return simulate(TINY)


@pytest.fixture(scope="session")
def default() -> Simulation:
    return simulate(Scenario())


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("streams") / "tiny"
    write_stream(TINY, folder)
    return folder
