"""Sensor lives: nodes keep their rows, new ones come behind, leavers are named, and nobody is forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.data.cleaning import FLAG
from st_pipeline.data.lives import NODE_SET, heard_in, node_set
from st_pipeline.data_config import LivesConfig
from st_pipeline.periods import Cadence, Calendar
from st_pipeline.readers.base import SENSOR_SCHEMA
from st_pipeline.types import NodeSet

MakeSensors = Callable[..., pl.DataFrame]
MONTHS = Calendar(Cadence(months=1), date(2024, 1, 1), None, "Europe/Berlin")
NOTHING = pl.DataFrame(schema=SENSOR_SCHEMA)


def history(*heard: Iterable[str], sensors: pl.DataFrame = NOTHING, retire_after: int | None = None) -> list[NodeSet]:
    """Node sets of months from January 2024 on, in each of which the named sensors are heard."""
    found: list[NodeSet] = []
    for index, names in enumerate(heard):
        found.append(
            node_set(
                found[-1] if found else None,
                sensors=sensors,
                heard=frozenset(names),
                period=MONTHS.period(index),
                lives=LivesConfig(retire_after=retire_after),
            )
        )
    return found


def test_the_first_readings_make_nodes_in_the_order_of_their_ids() -> None:
    (first,) = history("cab")
    assert first.ids == first.added == ("a", "b", "c")
    assert first.births == dict.fromkeys("abc", "2024-01")
    assert not (first.returned or first.silent or first.moved or first.retired or first.silence)


def test_retained_sensors_stay_in_place_and_new_ones_come_behind() -> None:
    _, second, third = history("bd", "abd", "abcd")
    assert (second.ids, second.added, second.retained) == (("b", "d", "a"), ("a",), ("b", "d"))
    assert (third.ids, third.added) == (("b", "d", "a", "c"), ("c",))
    assert third.births == {"a": "2024-02", "b": "2024-01", "c": "2024-03", "d": "2024-01"}


def test_silent_sensors_stay_unless_the_stream_retires_them() -> None:
    last = history("ab", "a", "a", "a")[-1]
    assert (last.ids, last.silent, last.silence) == (("a", "b"), ("b",), {"b": 3})


def test_silence_retires_after_so_many_whole_periods() -> None:
    _, second, third, fourth = history("ab", "a", "a", "a", retire_after=2)
    assert (second.ids, second.silent, second.retired) == (("a", "b"), ("b",), ())
    assert (third.ids, third.silent, third.retired) == (("a",), (), ("b",))
    assert (fourth.ids, fourth.retired, fourth.births) == (("a",), (), {"a": "2024-01", "b": "2024-01"})


def test_a_reading_ends_the_silence() -> None:
    last = history("ab", "a", "ab", "a", retire_after=2)[-1]
    assert (last.ids, last.silence) == (("a", "b"), {"b": 1})


def test_a_retired_sensor_that_is_heard_again_returns_as_the_last_node() -> None:
    last = history("abc", "bc", "abcd", retire_after=1)[-1]
    assert last.ids == ("b", "c", "d", "a")
    assert (last.added, last.returned, last.silence) == (("d",), ("a",), {})
    assert last.births["a"] == "2024-01"


def test_a_declared_retirement_counts_from_the_period_that_begins_on_or_after_it(make_sensors: MakeSensors) -> None:
    retired = {"b": date(2024, 2, 1), "c": date(2024, 2, 2), "d": None}
    sensors = make_sensors(*({"sensor_id": name, "retired": day} for name, day in retired.items()))
    _, second, third = history("abcd", "abcd", "abcd", sensors=sensors)
    assert (second.ids, second.retired) == (("a", "c", "d"), ("b",))
    assert (third.ids, third.retired) == (("a", "d"), ("c",))


def test_a_row_that_is_not_valid_any_more_retires_nobody(make_sensors: MakeSensors) -> None:
    rows = [
        {"sensor_id": "a", "x": 0.0, "y": 0.0, "retired": date(2024, 1, 20)},
        {"sensor_id": "a", "x": 9.0, "y": 0.0, "valid_from": date(2024, 3, 10)},
        {"sensor_id": "b", "x": 5.0, "y": 0.0},
    ]
    for sensors in (make_sensors(*rows), make_sensors(*reversed(rows))):
        first, second, third, fourth = history("ab", "ab", "ab", "ab", sensors=sensors)
        assert first.ids == ("a", "b")
        assert (second.ids, second.retired) == (("b",), ("a",))
        assert (third.ids, third.returned) == (("b", "a"), ("a",))
        assert fourth.ids == ("b", "a")


@pytest.mark.parametrize(("axes", "away"), [(("longitude", "latitude"), 1e-4), (("x", "y"), 1.0)])
def test_a_sensor_moves_in_the_period_in_which_its_place_changes(
    make_sensors: MakeSensors, axes: tuple[str, str], away: float
) -> None:
    x, y = axes
    place = {x: 13.4, y: 52.5} if x == "longitude" else {x: 400_000.0, y: 5_800_000.0}
    sensors = make_sensors(
        {"sensor_id": "a", **place},
        {"sensor_id": "a", **place, y: place[y] + away, "valid_from": date(2024, 2, 1)},
        {"sensor_id": "b", **place},
        {"sensor_id": "b", **place, x: place[x] + away, "valid_from": date(2024, 2, 29)},
        {"sensor_id": "c", **place},
        {"sensor_id": "c", **place, "valid_from": date(2024, 2, 10)},
        {"sensor_id": "d"},
        {"sensor_id": "d", **place, "valid_from": date(2024, 2, 10)},
        {"sensor_id": "e"},
    )
    assert [nodes.moved for nodes in history("abcdef", "abcdef", "abcdef", sensors=sensors)] == [
        (),
        ("a", "b", "d"),
        (),
    ]


@given(
    heard=st.lists(st.sets(st.sampled_from("abcdef")), min_size=1, max_size=7),
    retire_after=st.one_of(st.none(), st.integers(1, 3)),
    retired=st.dictionaries(st.sampled_from("abc"), st.integers(0, 200)),
)
def test_every_change_of_the_network_is_named(
    make_sensors: MakeSensors, heard: list[set[str]], retire_after: int | None, retired: dict[str, int]
) -> None:
    rows = [{"sensor_id": name, "retired": MONTHS.first + timedelta(days=day)} for name, day in retired.items()]
    sensors = make_sensors(*rows)
    before = NodeSet("", ())
    for names, nodes in zip(heard, history(*heard, sensors=sensors, retire_after=retire_after), strict=True):
        gone, new = set(nodes.retired), {*nodes.added, *nodes.returned}
        assert nodes.ids == (*(name for name in before.ids if name not in gone), *nodes.added, *nodes.returned)
        assert len(set(nodes.ids)) == len(nodes.ids)
        assert set(nodes.ids) == (set(before.ids) - gone) | new
        assert not new & set(before.ids)
        assert set(nodes.added).isdisjoint(before.births)
        assert set(nodes.returned) <= before.births.keys()
        assert set(nodes.silent) == set(nodes.ids) - names
        assert nodes.births == {**before.births, **dict.fromkeys(nodes.added, nodes.period)}
        assert NODE_SET.load(NODE_SET.dump(nodes)) == nodes
        before = nodes


def test_a_sensor_is_heard_by_an_observed_reading_of_the_target() -> None:
    flags = {"a": "observed", "b": "missing", "c": "stuck", "d": "duplicate"}
    readings = pl.DataFrame(
        {"sensor_id": [*flags, "b"], "flow": [0.0] * 5, "flow_flag": [*flags.values(), "observed"]},
        schema_overrides={"flow_flag": FLAG},
    )
    assert heard_in(readings, "flow") == {"a", "b"}
    assert heard_in(readings.head(0), "flow") == frozenset()
