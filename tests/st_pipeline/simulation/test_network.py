"""The simulated city hangs together."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from st_pipeline.simulation.network import City, build_city, measurable_cells
from st_pipeline.simulation.tables import downstream_cells
from st_pipeline.simulation.timeline import STEP_S


@pytest.fixture(params=[3, 5, 14])
def city(request: pytest.FixtureRequest) -> City:
    return build_city(request.param, np.random.default_rng(1))


def test_each_cell_has_one_boundary_at_each_end(city: City) -> None:
    roads = city.roads
    upstream = np.concatenate([roads.links[:, 0], roads.merges[:, 0], roads.merges[:, 1], roads.diverges[:, 0]])
    downstream = np.concatenate([roads.links[:, 1], roads.merges[:, 2], roads.diverges[:, 1], roads.diverges[:, 2]])
    kinds = city.cells["kind"].to_numpy()
    assert sorted(upstream) == np.flatnonzero(kinds != "destination").tolist()
    assert sorted(downstream) == np.flatnonzero(kinds != "origin").tolist()


def test_every_road_is_used_and_can_be_left(city: City) -> None:
    after = downstream_cells(city)
    seen: set[int] = set()
    ahead = [origin.cell for origin in city.origins]
    while ahead:
        cell = ahead.pop()
        if cell not in seen:
            seen.add(cell)
            ahead += after[cell]
    assert seen == set(range(len(city.cells)))
    ends = set(city.cells.filter(pl.col("kind") == "destination")["cell"])
    assert all(after[cell] for cell in seen - ends)
    assert city.roads.share.min() > 0


def test_neighbouring_cells_are_a_cell_apart_on_the_plane(city: City) -> None:
    places = city.cells.select("x_m", "y_m").to_numpy()
    length = city.cells["length_m"].to_numpy()
    main = set(city.cells.filter(pl.col("kind") == "mainline")["cell"])
    pairs = [(a, b) for a, following in enumerate(downstream_cells(city)) for b in following if {a, b} <= main]
    a, b = np.array(pairs).T
    apart = np.hypot(*(places[a] - places[b]).T) / length[a]
    assert apart.min() > 0.97
    assert apart.max() < 1.03


def test_the_traffic_model_may_take_its_step(city: City) -> None:
    assert city.roads.longest_step() >= STEP_S


def test_measurable_cells_are_counted_right(city: City) -> None:
    radials = sum(origin.kind == "inbound" for origin in city.origins)
    assert len(city.measurable) == measurable_cells(radials)
