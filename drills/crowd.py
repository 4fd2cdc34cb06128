"""Many runs at a time on one home, with a forecast every minute, and what that does to the databases and the memory.

python -m drills.crowd --runs 8 --minutes 30             the long one, with a server beside it
python -m drills.crowd --runs 2 --minutes 1 --no-server  a short one

Each run is `st-pipeline run` on a small stream of its own. When it ends, its stream gets another seed, so that all is
trained anew, and it starts again. Forecasts take turns through the streams, whatever goes on there.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from drills.ledger import faults_of
from drills.memory import Memory
from drills.place import STREAM, Place, kill, verdict
from drills.server import Server

MODEL: dict[str, Any] = {"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 2}}
PATIENCE = 1800.0  # seconds for one command
EACH = 768  # MiB of a process, on average at the worst moment
PROCESSES = 6  # of a server


@dataclass
class Crowd:
    """A home with a stream for every run, and what came of them.

    Attributes:
        claimed: `ASSET of PERIOD` -> how often a run said that it made it.
        seconds: command -> how long each took.
    """

    place: Place
    runs: int
    stream: dict[str, Any] = field(default_factory=lambda: STREAM)
    claimed: Counter[str] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: {"run": [], "forecast": []})
    faults: list[str] = field(default_factory=list)
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def write(self, number: int, seed: int) -> str:
        """Write a stream whose models have a seed; returns its name."""
        name = f"crowd{number}"
        self.place.write({**self.stream, "name": name, "models": [{**MODEL, "seeds": [seed]}]})
        return name

    def keep_running(self, number: int, deadline: float) -> None:
        """Run a stream again and again, at least once."""
        seed = 1
        while seed == 1 or time.monotonic() < deadline:
            answer = self._command("run", self.write(number, seed))
            made = answer["materialised"] if answer else []
            with self._guard:
                self.claimed.update(made)
                if answer and not any("/online/backbone" in name for name in made):
                    self.faults.append(f"run of crowd{number} with seed {seed} trained nothing")
            seed += 1

    def keep_forecasting(self, every: float, deadline: float) -> None:
        """Ask for a forecast every so many seconds, at least once."""
        count, due = 0, time.monotonic() + every
        while count == 0 or due < deadline:
            time.sleep(max(0.0, due - time.monotonic()))
            if self._command("forecast", f"crowd{count % self.runs}") == []:
                self.faults.append(f"forecast {count} has no rows")
            count, due = count + 1, max(due + every, time.monotonic())

    def _command(self, command: str, stream: str) -> Any:
        """The document that a command prints; None where it failed."""
        begin, answer = time.monotonic(), self.place.folder / f"{command}-{threading.get_ident()}.json"
        process = self.place.start(command, stream, "--json", answer=answer)
        code = process.wait(PATIENCE)
        text = answer.read_text()
        with self._guard:
            self.seconds[command].append(time.monotonic() - begin)
            if code:
                self.faults.append(f"{command} {stream} ended with {code}: {text[-600:] or 'see the log'}")
        return None if code else json.loads(text)


def drill(
    folder: Path,
    *,
    runs: int,
    seconds: float,
    every: float,
    server: bool,
    stream: dict[str, Any] = STREAM,
    told: Callable[[str], object] = print,
) -> Crowd:
    """Let so many runs go on for so long; `faults` of what comes back is empty if all is well."""
    crowd = Crowd(place := Place(folder), runs, stream)
    for number in range(runs):
        crowd.write(number, 1)
    beside = Server.start(place) if server else None
    deadline = time.monotonic() + seconds
    workers = [threading.Thread(target=crowd.keep_running, args=(number, deadline)) for number in range(runs)]
    workers.append(threading.Thread(target=crowd.keep_forecasting, args=(every, deadline)))
    try:
        with Memory() as memory:
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
    finally:
        if beside:
            kill(beside.process)
    most = EACH * (runs + 1 + PROCESSES * server)
    if memory.peak_mib > most:
        crowd.faults.append(f"{memory.peak_mib:.0f} MiB of memory; expected at most {most}")
    with place.instance() as instance:
        records, found = faults_of(instance, place, crowd.claimed)
    crowd.faults += found
    told(f"memory: {memory}; bound {most} MiB")
    told(f"{records} materialisations in the event log, {crowd.claimed.total()} claimed by runs")
    for command, times in crowd.seconds.items():
        told(f"{command}: {len(times)}, {min(times):.0f} to {max(times):.0f} s each")
    return crowd


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=8, help="how many at a time")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between two forecasts")
    parser.add_argument("--no-server", action="store_true", help="without `st-pipeline ui` beside them")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crowd_"))
    seconds = 60 * asked.minutes
    crowd = drill(folder, runs=asked.runs, seconds=seconds, every=asked.every, server=not asked.no_server)
    return verdict(folder, crowd.faults, "no fault")


if __name__ == "__main__":
    sys.exit(main())
