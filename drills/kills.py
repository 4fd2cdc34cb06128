"""Kill -9 at random instants, start again, and compare with a run that nothing disturbed.

python -m drills.kills --kills 200      the long one: hours
python -m drills.kills --kills 10       a short one

Three kinds take turns: `run`, the process of `st-pipeline run`; `worker`, the process of a run that the daemon started
for a backfill; `server`, the whole group of `dagster dev` with all its children. After a kill of `run` or `server` the
same command is started again; nothing else is done by hand.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drills.place import NAME, Place, kill
from drills.server import PATIENCE, Server

FREQUENT = 0.3  # chance of a kill each time that a run is seen to go on


@dataclass(frozen=True)
class Drill:
    """What came of one home that was killed some times."""

    kind: str
    kills: int
    seconds: float
    faults: list[str]


def by_run(place: Place, chance: random.Random, most: int, usual: float) -> int:
    """Kill `st-pipeline run` up to `most` times, and let it end; returns the number of kills."""
    kills = 0
    while True:
        process = place.start("run", NAME)
        if kills < most:
            try:
                process.wait(chance.uniform(0, usual / 2))
            except subprocess.TimeoutExpired:  # it is still going on
                kill(process)
                kills += 1
                continue
        if process.wait(PATIENCE):
            raise RuntimeError(f"`st-pipeline run` ended with {process.returncode}; see {place.folder / 'log'}")
        return kills


def by_backfill(place: Place, chance: random.Random, most: int, *, server_too: bool) -> int:
    """Kill a backfill's run workers, or the whole server, up to `most` times, and let it end."""
    server = Server.start(place)
    try:
        backfill, kills, deadline = server.launch(), 0, time.monotonic() + PATIENCE
        while (status := server.status(backfill)) in ("REQUESTED", "IN_PROGRESS"):
            if time.monotonic() > deadline:
                raise TimeoutError(f"the backfill is still {status}; see {place.folder / 'log'}")
            time.sleep(0.5)
            if kills < most and place.workers() and chance.random() < FREQUENT:
                time.sleep(chance.uniform(0, 2))
                if server_too:
                    kill(server.process)
                    server.again()
                    kills += 1
                else:
                    kills += sum(_killed(pid) for pid in place.workers())
        if status != "COMPLETED_SUCCESS":
            raise RuntimeError(f"the backfill ended as {status}; see {place.folder / 'log'}")
        return kills
    finally:
        kill(server.process)


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def drill(kind: str, folder: Path, wanted: dict[str, str], work: Callable[[Place], int]) -> Drill:
    """Work on a new home, and compare what lies in it at the end."""
    begin, place = time.monotonic(), Place.make(folder)
    try:
        kills, faults = work(place), []
        found = place.weights()
        faults = [f"{name}: other weights" for name in wanted if found.get(name) != wanted[name]]
        faults += place.faults()
    except (RuntimeError, TimeoutError, ValueError) as error:
        kills, faults = 0, [str(error)]
    if not faults:
        shutil.rmtree(folder)
    return Drill(kind, kills, time.monotonic() - begin, faults)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200, help="how many in all")
    parser.add_argument("--each", type=int, default=4, help="how many on one home")
    parser.add_argument("--kinds", default="run,worker,server", help="which, separated by commas")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    chance, kinds = random.Random(asked.seed), asked.kinds.split(",")
    root = Path(tempfile.mkdtemp(prefix="kills_"))
    place, begin = Place.make(root / "undisturbed"), time.monotonic()
    by_run(place, chance, 0, 0.0)
    usual, wanted = time.monotonic() - begin, place.weights()
    print(f"undisturbed: {len(wanted)} trained parts in {usual:.0f} s", flush=True)
    work: dict[str, Callable[[Place, int], int]] = {
        "run": lambda home, most: by_run(home, chance, most, usual),
        "worker": lambda home, most: by_backfill(home, chance, most, server_too=False),
        "server": lambda home, most: by_backfill(home, chance, most, server_too=True),
    }
    drills: list[Drill] = []
    while (left := asked.kills - sum(one.kills for one in drills)) > 0:
        kind = kinds[len(drills) % len(kinds)]
        most = min(asked.each, left)
        done = drill(kind, root / str(len(drills)), wanted, lambda home, k=kind, m=most: work[k](home, m))  # type: ignore[misc]
        drills.append(done)
        print(
            f"{kind}: {done.kills} kills, {done.seconds:.0f} s, {'; '.join(done.faults) or 'as undisturbed'}",
            flush=True,
        )
        if done.faults:
            break
    print(table(drills))
    sys.exit(any(one.faults for one in drills))


def table(drills: list[Drill]) -> str:
    """One row a kind: homes, kills, homes that ended as the undisturbed one, seconds."""
    rows = ["| kind | homes | kills | as undisturbed | seconds |", "|---|---|---|---|---|"]
    for kind in dict.fromkeys(one.kind for one in drills):
        own = [one for one in drills if one.kind == kind]
        right, seconds = sum(not one.faults for one in own), sum(one.seconds for one in own)
        rows.append(f"| {kind} | {len(own)} | {sum(one.kills for one in own)} | {right} | {seconds:.0f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    main()
