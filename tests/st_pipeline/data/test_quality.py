"""Quality rules: one flag a cell, the first that applies; a true zero stays a zero."""

from __future__ import annotations

import warnings
from datetime import timedelta
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.quality import CHUNK, FLAGS, flag_cells, flag_sensors, run_lengths, spikes
from st_pipeline.data_config import VariableConfig

HOUR = timedelta(hours=1)
NAN, INF = float("nan"), float("inf")
LETTERS = dict(zip("om-dxsp/", FLAGS, strict=True))


def flagged(values: list[float], *, conflict: tuple[int, ...] = (), step: timedelta = HOUR, **rules: Any) -> str:
    """Flags of one sensor's cells: o(bserved), m(issing), - (sentinel), d(uplicate), x (out of range), s(tuck), p."""
    clash = np.isin(np.arange(len(values)), conflict)[None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flags = flag_cells(np.array([values], dtype=float), clash, VariableConfig.model_validate(rules), step)
    return "".join(list(LETTERS)[flag] for flag in flags[0])


@pytest.mark.parametrize(
    ("values", "rules", "expected"),
    [
        ([0, 1, NAN, -1], {}, "oomo"),
        ([0, -1, 255, NAN], {"sentinels": [-1, 255]}, "o--m"),
        ([float(np.float32(-999.9)), -999.9, -999.0], {"sentinels": [-999.9]}, "--o"),
        ([0, -0.1, 10, 10.1], {"minimum": 0, "maximum": 10}, "oxox"),
        ([-1e9, 1e9, INF, -INF, 1e39], {}, "ooxxx"),
        ([-1, -2], {"sentinels": [-1], "minimum": 0}, "-x"),
        ([5, 5, 5, 4, 4, 0, 0, 0], {"stuck": "3h"}, "sssooooo"),
        ([5, 5, 5, 4, 4, 0, 0, 0], {"stuck_at_zero": "3h"}, "ooooosss"),
        ([5, 5, 0, 0], {"stuck": "2h", "stuck_at_zero": "2h"}, "ssss"),
        ([5, 5, 4, 4, 4], {"stuck": "150min"}, "oosss"),
        ([5, 4, 4], {"stuck": "5min"}, "oss"),
        ([5, 5, NAN, 5, 5], {"stuck": "3h"}, "oomoo"),
        ([5, 5, -1, 5, 5], {"stuck": "3h", "sentinels": [-1]}, "oo-oo"),
        ([9, 9, 9, 9], {"stuck": "2h", "maximum": 8}, "xxxx"),
        ([-1, -1, -1], {"stuck": "2h", "stuck_at_zero": "2h", "sentinels": [-1]}, "---"),
    ],
)
def test_the_first_rule_that_applies_wins(values: list[float], rules: dict[str, Any], expected: str) -> None:
    assert flagged(values, **rules) == expected


def test_contradicting_copies_are_no_measurement() -> None:
    assert flagged([5, 5, 5, -1], conflict=(1, 3), stuck="2h", sentinels=[-1]) == "odod"


def test_durations_count_in_steps() -> None:
    assert flagged([5] * 3, step=timedelta(minutes=5), stuck="15min") == "sss"
    assert flagged([5] * 3, step=timedelta(minutes=5), stuck="20min") == "ooo"


@given(st.lists(st.lists(st.sampled_from([0.0, 1.0, NAN]), min_size=7, max_size=7), min_size=1, max_size=4))
def test_run_lengths_are_those_of_groups(rows: list[list[float]]) -> None:
    expected = []
    for row in rows:
        keys = [(number, value) if value != value else value for number, value in enumerate(row)]
        groups = [len(list(group)) for _, group in groupby(keys, str)]
        expected.append([length for length in groups for _ in range(length)])
    assert run_lengths(np.array(rows)).tolist() == expected


def test_no_sensors_have_no_runs() -> None:
    assert run_lengths(np.zeros((0, 5))).shape == (0, 5)


def wave(sensors: int = 3, length: int = 240) -> np.ndarray:
    random = np.random.default_rng(0)
    scale = np.arange(1, sensors + 1)[:, None]
    return scale * (100 + 40 * np.sin(np.arange(length) / 12) + random.normal(0, 2, (sensors, length)))


def test_a_lone_far_value_is_a_spike_and_a_level_that_stays_is_none() -> None:
    values = wave()
    values[0, 50] = 400
    values[1, 60] = 0
    values[2, 70:80] += 400
    found = spikes(values, 12)
    assert np.argwhere(found[:2]).tolist() == [[0, 50], [1, 60]]
    assert not found[2, 72:78].any()


def test_spikes_are_those_of_the_formula() -> None:
    values = wave(sensors=2)
    values[0, ::7] = NAN
    values[1, 5] = 1000
    padded = np.pad(values, ((0, 0), (2, 2)), constant_values=NAN)
    around = np.stack([padded[:, shift : shift + values.shape[1]] for shift in range(5)])
    distance = np.abs(values - np.nanmedian(around, axis=0))
    spread = 1.4826 * np.nanmedian(np.where(distance > 0, distance, NAN), axis=1, keepdims=True)
    for limit in (1.0, 3.0, 12.0):
        assert np.array_equal(spikes(values, limit), distance > limit * spread)


@given(st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_spikes_do_not_depend_on_the_unit(scale: float, shift: float) -> None:
    values = np.round(wave(), 3)
    values[0, 50] = 400
    found = spikes(values * scale + shift, 12)
    assert found[0, 50]
    assert found.sum() == 1


def test_sensors_are_judged_by_themselves_whatever_their_number() -> None:
    values = np.tile(wave(), (CHUNK // 2, 1))
    values[-1, 9] = 4000
    assert np.argwhere(spikes(values, 12)).tolist() == [[len(values) - 1, 9]]


@pytest.mark.parametrize("width", [np.float32, np.float64])
@pytest.mark.parametrize("sensors", [0, 1, CHUNK, CHUNK + 1, 2 * CHUNK + 7])
@given(st.integers(0, 2**32 - 1))
def test_any_number_of_sensors_is_flagged_as_the_whole_grid_is(width: Any, sensors: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([NAN, INF, -1.0, 0.0, 0.1, 3.0, 3.0, 3.0, 50.0, 1e9], size=(sensors, 24)).astype(width)
    conflict = random.random(values.shape) < 0.05
    rules = {"sentinels": [-1, 0.1], "minimum": 0, "maximum": 100, "stuck": "2h", "stuck_at_zero": "3h", "spike": 5}
    model = VariableConfig.model_validate(rules)
    found = flag_sensors(values, conflict, model, HOUR)
    assert found.dtype == np.uint8
    assert np.array_equal(found, flag_cells(values.astype(np.float64), conflict, model, HOUR))


@pytest.mark.parametrize("row", [[7.0] * 9, [NAN] * 9, [0.0, NAN] * 4 + [0.0]])
def test_a_sensor_that_never_varies_has_no_spikes(row: list[float]) -> None:
    assert flagged(row, spike=3).replace("m", "o") == "o" * 9


@given(st.integers(0, 2**32 - 1))
def test_rules_never_edit_values(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice([NAN, INF, -1.0, 0.0, 3.0, 3.0, 1e9], size=(3, 30))
    before = values.copy()
    rules = VariableConfig.model_validate(
        {"sentinels": [-1], "minimum": 0, "maximum": 100, "stuck": "2h", "stuck_at_zero": "9h", "spike": 5}
    )
    flags = flag_cells(values, np.zeros(values.shape, dtype=bool), rules, HOUR)
    assert np.array_equal(values, before, equal_nan=True)
    assert np.array_equal(flags == FLAGS.index("missing"), np.isnan(values))
    assert set(np.unique(values[flags == FLAGS.index("observed")])) <= {0.0, 3.0}
