"""Raw files that grow, come twice, come late, are wrong or go away: what is put in line, and what waits."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.data.inventory import inventory
from st_pipeline.landing.watch import AGAIN, Watch, look_again
from st_pipeline.readers import readers
from st_pipeline.readers.base import Reader, SourceContext
from st_pipeline.storage import FRAME, HTML, Lake
from st_pipeline.streams import Stream

MONTHS = ["2024-01", "2024-02", "2024-03", "2024-04"]
HEADER = "sensor_id,timestamp,flow\n"


@dataclass
class Landing:
    """A stream of monthly CSV files, its lake, and the state of its watch."""

    folder: Path
    changes: dict[str, object] = field(default_factory=dict)
    watch: Watch = field(default_factory=Watch)

    def __post_init__(self) -> None:
        plain = {
            "name": "small",
            "source": {"format": "csv", "readings": "raw/*", "sensors": "s*.csv", "columns": {"flow": "flow"}},
            "step": "1h",
            "periods": {"every": "month", "start": "2024-01-01", "end": "2024-05-01"},
        }
        self.stream = Stream(StreamConfig.model_validate({**plain, **self.changes}), self.folder)
        self.lake = Lake(self.folder / "lake")
        self.facts("a\n")

    @property
    def reader(self) -> Reader:
        context = SourceContext(self.stream.config, self.folder, self.folder / "data", self.folder / "scratch")
        found: Reader = readers.build(self.stream.config.source.spec(), context=context)
        return found

    def facts(self, ids: str) -> None:
        (self.folder / "sensors.csv").write_text("sensor_id\n" + ids)

    def drop(self, name: str, days: Iterable[str], flow: int = 1) -> Path:
        path = self.folder / "raw" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HEADER + "".join(f"a,{day} 00:00,{flow}\n" for day in days))
        return path

    def month(self, month: str, flow: int = 1) -> Path:
        return self.drop(f"{month}.csv", [f"{month}-{day:02d}" for day in (1, 2, 3)], flow)

    def look(self, now: float | None = None) -> str:
        self.watch, said = look_again(self.stream, self.reader, self.lake, Watch.load(self.watch.dump()), now=now)
        return said

    def settle(self) -> str:
        self.look()
        return self.look()

    def land(self, *periods: str, finished: bool = True) -> None:
        """What runs of these periods would leave in the lake."""
        there = {period.key: period for period in self.stream.config.calendar.periods()}
        files = FRAME.dump(inventory(self.reader.files()))
        self.lake.write(("small", "raw_files"), None, FRAME, files)
        for key in periods:
            self.lake.write(("small", "raw_readings"), key, FRAME, FRAME.dump(self.reader.readings(there[key])))
            if finished:
                self.lake.write(("small", "report"), key, HTML, b"page")
            self.watch = self.watch.done(key)


@pytest.fixture
def landing(tmp_path: Path) -> Landing:
    return Landing(tmp_path)


@pytest.fixture
def finished(landing: Landing) -> Landing:
    """Three months that were run while they were watched."""
    for month in MONTHS[:3]:
        landing.month(month)
    landing.settle()
    landing.land(*MONTHS[:3])
    assert landing.look() == ""
    assert landing.watch.pending == ()
    return landing


def test_everything_is_in_line_in_order_the_first_time(landing: Landing) -> None:
    for month in reversed(MONTHS[:3]):
        landing.month(month)
    assert "waits until" in landing.look()
    assert landing.look() == ""
    assert landing.watch.pending == landing.watch.changed == tuple(MONTHS[:3])


def test_a_file_that_grows_waits_until_two_looks_find_it_alike(finished: Landing) -> None:
    path = finished.month(MONTHS[3])
    for row in range(3):
        assert f"waits until raw/{path.name}" in finished.look()
        with path.open("a") as file:
            file.write(f"a,2024-04-1{row} 00:00,5\n")
    assert finished.watch.pending == ()
    assert finished.settle() == ""
    assert finished.watch.pending == (MONTHS[3],)


@pytest.mark.parametrize("name", ["2024-04.csv.part", "2024-04.CSV.TMP", "2024-04.csv~"])
def test_a_temporary_name_waits_however_long_it_is_still(finished: Landing, name: str) -> None:
    path = finished.drop(name, ["2024-04-01"])
    for _ in range(3):
        assert name in finished.look()
    path.rename(path.with_name("2024-04.csv"))
    assert finished.settle() == ""
    assert finished.watch.pending == (MONTHS[3],)


def test_days_off_are_caught_up_in_order(tmp_path: Path) -> None:
    landing = Landing(tmp_path)
    landing.month(MONTHS[0])
    landing.settle()
    landing.land(MONTHS[0])
    for month in (MONTHS[3], MONTHS[1], MONTHS[2]):
        landing.month(month)
    landing.settle()
    assert landing.watch.pending == tuple(MONTHS[1:])


def test_the_same_content_again_does_nothing(finished: Landing) -> None:
    edition = finished.watch.edition
    path = finished.month(MONTHS[1])
    os.utime(path, (1, 1))
    assert "waits" in finished.look()
    assert finished.look() == ""
    assert (finished.watch.pending, finished.watch.edition) == ((), edition)


def test_a_corrected_row_of_the_newest_period_makes_it_anew(finished: Landing) -> None:
    finished.month(MONTHS[2], flow=9)
    assert finished.settle() == ""
    assert (finished.watch.changed, finished.watch.deferred) == ((MONTHS[2],), {})


def test_a_corrected_row_of_an_early_period_is_noted_and_left(finished: Landing) -> None:
    finished.month(MONTHS[0], flow=9)
    assert finished.settle() == ""
    assert (finished.watch.pending, list(finished.watch.deferred)) == ((), [MONTHS[0]])
    assert (finished.look(), list(finished.watch.deferred)) == ("", [MONTHS[0]])
    finished.month(MONTHS[0])
    finished.settle()
    assert finished.watch.deferred == {}, "the row was set right again"


def test_what_was_left_to_the_user_is_forgotten_when_he_has_run_it(finished: Landing) -> None:
    finished.month(MONTHS[0], flow=9)
    finished.settle()
    finished.land(MONTHS[0])
    assert (finished.look(), finished.watch.deferred) == ("", {})


def test_corrections_reach_as_far_back_as_the_stream_says(tmp_path: Path) -> None:
    landing = Landing(tmp_path, {"automation": {"corrections": 3}})
    for month in MONTHS[:3]:
        landing.month(month)
    landing.settle()
    landing.land(*MONTHS[:3])
    landing.month(MONTHS[0], flow=9)
    landing.settle()
    assert landing.watch.changed == (MONTHS[0],)
    assert landing.watch.pending == tuple(MONTHS[:3]), "later models continue the one that is made anew"


def test_late_rows_in_a_new_file_touch_both_periods(finished: Landing) -> None:
    finished.drop("late.csv", ["2024-03-20", "2024-04-01"])
    finished.settle()
    assert finished.watch.changed == tuple(MONTHS[2:])


def test_a_file_that_is_taken_away_touches_what_came_from_it(finished: Landing) -> None:
    finished.month(MONTHS[2]).unlink()
    finished.drop("other.csv", ["2024-03-20"])
    finished.settle()
    assert finished.watch.changed == (MONTHS[2],)


def test_a_broken_file_is_told_and_tried_again_when_it_changes(finished: Landing) -> None:
    path = finished.drop("2024-04.csv", ["no day"])
    assert "waits" in finished.look()
    assert "2024-04.csv: data row 1: timestamp: found 'no day 00:00'" in finished.look()
    assert finished.watch.pending == () and finished.watch.fault
    assert finished.look() == finished.watch.fault
    finished.month(MONTHS[3])
    assert path.exists()
    assert finished.settle() == ""
    assert (finished.watch.pending, finished.watch.fault) == ((MONTHS[3],), "")


def test_what_could_not_be_read_is_tried_again_later(finished: Landing) -> None:
    finished.drop("2024-04.csv", ["no day"])
    finished.settle()
    since = finished.watch.fault_at
    finished.look(since + AGAIN / 2)
    assert finished.watch.fault_at == since
    finished.look(since + AGAIN + 1)
    assert finished.watch.fault_at == since + AGAIN + 1


def test_no_file_at_all_is_told(landing: Landing) -> None:
    assert "no file matches 'raw/*'" in landing.look()


def test_a_stream_that_was_run_by_hand_has_nothing_in_line(finished: Landing) -> None:
    finished.watch = Watch()
    assert finished.settle() == ""
    assert finished.watch.pending == ()
    finished.watch = Watch()
    finished.month(MONTHS[3])
    finished.settle()
    assert finished.watch.pending == (MONTHS[3],)


def test_a_new_sensor_table_has_the_newest_period_looked_at(finished: Landing) -> None:
    finished.facts("a\nb\n")
    assert finished.settle() == ""
    assert (finished.watch.changed, finished.watch.pending) == ((), (MONTHS[2],))
    assert finished.watch.edition


def test_a_look_that_takes_too_long_goes_on_with_the_next(finished: Landing) -> None:
    finished.month(MONTHS[3])
    finished.look()
    watch, said = look_again(finished.stream, finished.reader, finished.lake, finished.watch, budget=-1)
    assert "still reading" in said
    assert watch.pending == ()
    finished.watch = watch
    assert finished.look() == ""
    assert finished.watch.pending == (MONTHS[3],)


@pytest.mark.parametrize("cursor", [None, "", "{", "[]", '{"seen": 3}', '{"seen": {}, "known": {}, "examine": 0}'])
def test_an_unreadable_cursor_begins_anew(cursor: str | None) -> None:
    assert Watch.load(cursor) == Watch()
