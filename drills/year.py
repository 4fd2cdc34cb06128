"""A year of operation in accelerated time: time moves by the data, period by period.

python -m drills.year                           12 periods of four weeks
python -m drills.year --periods 3 --days 7      a short one

The stream's files are dropped one period after the other. In between things happen to them (`EVENTS`), the process that
does the work is killed in the middle, and `st-pipeline gc` keeps nothing longer than it must. What the daemon would do
is done by `drills.daemon`, with the stream's own sensors.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from drills.deliveries import Deliveries
from drills.landing import LANDED
from drills.ledger import faults_of
from drills.place import NAME, ROOT, Place, kill, verdict
from st_pipeline.alerts.book import Book
from st_pipeline.landing.periods import LANDED as LANDED_ASSETS  # read again by `run` after a new file
from st_pipeline.simulation import Scenario
from st_pipeline.storage import FRAME, lake

START = date(2024, 1, 1)
PATIENCE = 1800.0  # seconds for one period
SHORT = ("--runs", "0", "--logs", "0", "--states", "0")
MIB = 1 << 20
MOST = {"dagster": 6.0, "lake": 4.0}  # MiB that a period may add to the instance and to the lake, after gc
EXPLAINED = ("below_naive",)  # critical alerts that two epochs of training on a few sensors explain
DAEMON = "import sys; from drills.daemon import work; sys.exit(work())"


@dataclass
class Year:
    """A home that lives through a year.

    Attributes:
        kills: how often the process that does the work was killed.
        sizes: a row for every period: seconds, and MiB of instance and lake after gc (None where there was none).
        open: keys of the critical alerts that were open at any period's end.
    """

    place: Place
    deliveries: Deliveries
    chance: random.Random
    kills: int = 0
    sizes: list[dict[str, Any]] = field(default_factory=list)
    open: set[str] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def live(self, *, kill_in: set[int], tidy_every: int, told: Callable[[str], object]) -> None:
        """Let all periods arrive, with what happens to their files."""
        for number, period in enumerate(self.deliveries.periods):
            begin, events = time.monotonic(), self.deliveries.arrive(number)
            self.work(kills=int(number in kill_in))
            row: dict[str, Any] = {"period": period, "events": events, "seconds": time.monotonic() - begin}
            if (number + 1) % tidy_every == 0 or number + 1 == len(self.deliveries.periods):
                self.command("gc", *SHORT)
                row |= {name: size_of(self.place.home / name) for name in MOST}
            self.open |= {str(alert["key"]) for alert in self.alerts()}
            self.sizes.append(row)
            told(_told(row))

    def work(self, kills: int) -> None:
        """Let the daemon do what is in line, killed so many times at a random instant."""
        while True:
            process = self._daemon()
            if kills and self._killed(process):
                self.kills, kills = self.kills + 1, kills - 1
                continue
            if code := process.wait(PATIENCE):
                self.faults.append(f"{self.deliveries.periods[len(self.sizes)]}: the daemon ended with {code}")
            return

    def _killed(self, process: subprocess.Popen[bytes]) -> bool:
        """Kill it a moment after a run has begun; False if it ended before."""
        while process.poll() is None:
            if self.place.workers():
                time.sleep(self.chance.uniform(0, 4))
                kill(process)
                return process.returncode < 0
            time.sleep(0.5)
        return False

    def _daemon(self) -> subprocess.Popen[bytes]:
        with (self.place.folder / "log").open("ab") as log:
            command = [sys.executable, "-c", DAEMON]
            return subprocess.Popen(
                command, env=self.place.environment, stdout=log, stderr=log, cwd=ROOT, start_new_session=True
            )

    def command(self, *arguments: str) -> Any:
        """The document that a command prints.

        Raises:
            RuntimeError: it failed.
        """
        answer = self.place.folder / "answer.json"
        if code := self.place.start(*arguments, "--json", answer=answer).wait(PATIENCE):
            raise RuntimeError(
                f"`st-pipeline {' '.join(arguments)}` ended with {code}; see {self.place.folder / 'log'}"
            )
        return json.loads(answer.read_text())

    def alerts(self) -> list[dict[str, Any]]:
        """Critical alerts that are open."""
        return [alert for alert in Book([], self.place.home / "alerts").open() if alert["severity"] == "critical"]

    def check(self) -> list[str]:
        """What is not as it must be at the end."""
        found = [*self.faults, *self._missing(), *_growth(self.sizes, len(self.deliveries.periods))]
        found += [f"open: {alert['message']}" for alert in self.alerts() if alert["rule"] not in EXPLAINED]
        first, second = (self.command("run", NAME)["materialised"] for _ in range(2))
        again = [name for name in first if name.split(" ")[0].removeprefix(f"{NAME}/") not in LANDED_ASSETS]
        found += [f"run: {name} was made again" for name in again] + [f"second run: {name}" for name in second]
        with self.place.instance() as instance:
            records, wrong = faults_of(instance, self.place, {}, dead=self.kills, tidied=True)
        return [*found, *wrong, *([] if records else ["no materialisation is recorded"])]

    def _missing(self) -> list[str]:
        """Periods without a report, forecasts, or scores of forecasts."""
        from dataclasses import replace

        store, found = replace(lake(), root=self.place.home / "lake"), []
        for period in self.deliveries.periods:
            if not store.path((NAME, "report"), period, "html").is_file():
                found.append(f"{period}: no report")
            for name in ("forecast", "forecast_scores"):
                if not store.exists((NAME, name), period, FRAME):
                    found.append(f"{period}: no {name}")
                elif not len(store.read((NAME, name), period, FRAME)):
                    found.append(f"{period}: no row in {name}")
        return found


def size_of(folder: Path) -> float:
    """MiB of all files in a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()) / MIB


def _growth(sizes: list[dict[str, Any]], periods: int) -> list[str]:
    """What grew by more than a period may, between two gc and in all."""
    found, measured = [], [(number, row) for number, row in enumerate(sizes, 1) if "lake" in row]
    for name, most in MOST.items():
        before, size = 0, 0.0
        for number, row in measured:
            if row[name] - size > most * (number - before):
                found.append(f"{name} grew by {row[name] - size:.1f} MiB in {number - before} periods; {most} each")
            before, size = number, row[name]
    return found if len(sizes) == periods else [*found, f"{len(sizes)} of {periods} periods"]


def _told(row: dict[str, Any]) -> str:
    sizes = ", ".join(f"{name} {row[name]:.1f} MiB" for name in MOST if name in row)
    return f"{row['period']}: {row['seconds']:.0f} s{f', {sizes}' if sizes else ''}{'; ' if row['events'] else ''}" + (
        ", ".join(row["events"])
    )


def drill(
    folder: Path, *, periods: int, days: int, tidy_every: int = 3, seed: int = 0, told: Callable[[str], object] = print
) -> Year:
    """A year of so many periods; `faults` of what comes back is empty if it ended green."""
    scenario = Scenario(start=START, periods=periods, days=days, step_minutes=60, sensors=8, growth=1)
    calendar = {"every": f"{days}d", "start": str(START), "end": str(START + timedelta(days=days * periods))}
    automation = {**LANDED["automation"], "corrections": 2}  # files come up to a period late, with rows of another
    place = Place.make(folder, {**LANDED, "periods": calendar, "automation": automation})
    chance = random.Random(seed)
    year = Year(place, Deliveries(scenario, folder / "all", folder / "streams" / NAME / "raw"), chance)
    year.live(kill_in={periods // 2, periods - 1}, tidy_every=tidy_every, told=told)
    year.faults = year.check()
    told(f"{year.kills} kills; critical alerts on the way: {', '.join(sorted(year.open)) or 'none'}")
    return year


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--periods", type=int, default=12)
    parser.add_argument("--days", type=int, default=28, help="of a period")
    parser.add_argument("--tidy-every", type=int, default=3, help="periods between two gc")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="year_"))
    year = drill(folder, periods=asked.periods, days=asked.days, tidy_every=asked.tidy_every, seed=asked.seed)
    return verdict(folder, year.faults, "green")


if __name__ == "__main__":
    sys.exit(main())
