"""A new period's file is dropped into the landing folder while only the server runs: nobody gives a command.

python -m drills.landing                two periods that are there, one that is dropped; minutes
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from drills.place import NAME, STREAM, Place, kill
from drills.server import Server
from st_pipeline.simulation import Scenario, write_stream

PERIODS = ("2024-01-01", "2024-01-08", "2024-01-15")
PATIENCE = 1200.0  # seconds for one arrival
LANDED: dict[str, Any] = {
    **STREAM,
    "source": {
        "format": "parquet",
        "readings": "raw/readings/*.parquet",
        "sensors": "raw/sensors.csv",
        "edges": "raw/edges.csv",
        "columns": STREAM["source"]["columns"],
    },
    "periods": {"every": "7d", "start": PERIODS[0], "end": "2024-01-22"},
    "models": [{"name": "online", "backbone": "stgnn", "strategy": "online", "training": {"epochs": 2}}],
    "automation": {"new_data": True, "look_every": "5s"},
}


@dataclass(frozen=True)
class Arrival:
    """A period whose results came by themselves."""

    period: str
    seconds: float


def drill(folder: Path, *, dropped: int = 1, told: Callable[[str], object] = print) -> list[Arrival]:
    """Drop the last periods one after the other and wait for the results of each.

    Raises:
        TimeoutError: they did not come.
    """
    place = Place.make(folder, LANDED)
    raw = folder / "streams" / NAME / "raw"
    write_stream(Scenario(start=date(2024, 1, 1), periods=3, days=7, step_minutes=60, sensors=8, growth=2), raw)
    aside = folder / "aside"
    aside.mkdir()
    there, later = PERIODS[:-dropped], PERIODS[-dropped:]
    for period in later:
        shutil.move(raw / "readings" / f"{period}.parquet", aside)
    server, found = Server.start(place), []
    try:
        for period in (there[-1], *later):
            begin = time.monotonic()
            if period in later:
                shutil.copy(aside / f"{period}.parquet", raw / "readings")
            wait_for(place, period)
            found.append(Arrival(period, time.monotonic() - begin))
            told(f"{period}: model and report after {found[-1].seconds:.0f} s")
    finally:
        kill(server.process)
    return found


def wait_for(place: Place, period: str) -> None:
    """Wait until the model and the report of a period exist, and the forecast where there is such an asset."""
    lake = place.home / "lake" / NAME
    wanted = [lake / "online" / "backbone" / f"{period}.safetensors", lake / "report" / f"{period}.html"]
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        forecast = [lake / "forecast" / f"{period}.parquet"] if (lake / "forecast").is_dir() else []
        if all(file.is_file() for file in (*wanted, *forecast)):
            return
        time.sleep(1)
    missing = [str(file) for file in wanted if not file.is_file()]
    raise TimeoutError(f"{period}: {', '.join(missing)} did not come; see {place.folder / 'log'}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dropped", type=int, default=1, choices=(1, 2), help="how many periods arrive")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="landing_"))
    try:
        drill(folder, dropped=asked.dropped)
    except TimeoutError as error:
        sys.exit(str(error))
    shutil.rmtree(folder)


if __name__ == "__main__":
    main()
