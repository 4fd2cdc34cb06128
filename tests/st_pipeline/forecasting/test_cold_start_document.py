"""What `coldstart` tells of a place, of a hidden sensor, and of one that goes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.cold_start_document import cold_start, drop
from st_pipeline.forecasting.issue import Issue
from st_pipeline.forecasting.site import known_site, new_site


def placed(town: Any, key: str, *, x: float | None = None, sensor: str = "") -> tuple[Issue, Any]:
    sources = town.sources(key)
    if sensor:
        site = known_site("small", sensor, sources.sensors, None)
    else:
        site = new_site("small", {"x": x or 0.0, "y": 0.0}, sources.sensors, None, sources.period.last_day)
    return Issue.of(replace(sources, sensors=site.sensors)), site


@pytest.fixture(scope="module")
def hidden(town: Any) -> dict[str, Any]:
    return cold_start(*placed(town, town.keys[2], sensor="c"))


def test_a_hidden_sensor_has_forecast_neighbours_and_curve(town: Any, hidden: dict[str, Any]) -> None:
    assert (hidden["sensor"], hidden["period"], hidden["note"]) == ("c", town.keys[2], "")
    assert sum(row["share"] for row in hidden["neighbours"]) == pytest.approx(1)
    assert {row["sensor_id"] for row in hidden["neighbours"]} <= set(town.nodes[town.keys[1]].ids) - {"c"}
    assert [row["metres"] for row in hidden["neighbours"]] == sorted(row["metres"] for row in hidden["neighbours"])
    assert [row["horizon"] for row in hidden["forecast"]] == [1, 2, 3, 4]
    for row in hidden["forecast"]:
        assert 0 <= row["q05"] <= row["q50"] <= row["q95"] and row["known"] is not None
        assert row["target_time"] >= hidden["issued_at"]
    assert [row["days"] for row in hidden["curve"]] == [0, 1, 3, 7, 14, 28]
    assert set(hidden["hidden"]) <= set(town.nodes[town.keys[1]].ids)
    assert [text.split(" expect")[0] for text in hidden["expectation"]] == [
        "without any reading",
        "after 3 days of readings",
    ]
    assert 0 < hidden["cold_coverage"] <= 1


def test_more_readings_of_sensors_with_levels_of_their_own_help(hidden: dict[str, Any]) -> None:
    errors = {row["days"]: row["mae"] for row in hidden["curve"]}
    assert errors[7] < errors[0] and errors[7] < errors[1]


def test_a_place_on_top_of_a_sensor_is_its_neighbour_and_one_far_away_has_none(town: Any) -> None:
    found = cold_start(*placed(town, town.keys[2], x=200.0))
    assert found["neighbours"][0]["sensor_id"] == "c" and found["neighbours"][0]["metres"] == 0
    assert found["neighbours"][0]["weight"] == pytest.approx(1)
    assert "known" not in found["forecast"][0]
    far = cold_start(*placed(town, town.keys[2], x=5e6))
    assert far["neighbours"] == []
    assert "no sensor that the model knows is its neighbour" in far["note"] and "g, is 5e+03 km away" in far["note"]
    assert all(row["point"] is None and row["q05"] is None for row in far["forecast"])


def test_a_sensor_that_goes_hurts_those_that_read_it(town: Any) -> None:
    found = drop(Issue.of(town.sources(town.keys[2])), "c")
    cells = sum(row["cells"] for row in found["others"])
    assert found["mae"] == pytest.approx(sum(row["mae"] * row["cells"] for row in found["others"]) / cells)
    assert found["percent"] == pytest.approx(100 * (found["mae_without"] / found["mae"] - 1))
    issue = Issue.of(town.sources(town.keys[2]))
    with pytest.raises(InputError, match="sensor 'h' joined after the model was trained, so that no other forecast"):
        drop(issue, "h")
    with pytest.raises(InputError, match="sensor 'nobody' is not known"):
        drop(issue, "nobody")


def test_without_a_model_there_is_one_sentence(town: Any) -> None:
    issue = Issue.of(town.sources(town.keys[0]))
    for ask in (lambda: cold_start(issue, None), lambda: drop(issue, "c")):
        with pytest.raises(InputError, match="has learned no period before 2024-01-01, so nothing can be forecast"):
            ask()
