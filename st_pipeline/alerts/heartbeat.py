"""A sign of life that the daemon leaves: its absence can only be seen from outside."""

from __future__ import annotations

import json
import time
from pathlib import Path

from st_pipeline.alerts.book import Finding
from st_pipeline.files import write_atomic
from st_pipeline.storage import dump_json, home

MOST = 300.0  # seconds without a beat after which the daemon counts as down


def _file() -> Path:
    return home() / "alerts" / "heartbeat.json"


def beat(now: float | None = None) -> None:
    """Leave a sign of life."""
    write_atomic(_file(), dump_json({"at": now or time.time()}))


def silence(now: float | None = None) -> float | None:
    """Seconds since the last beat; None if there never was one that can be read."""
    try:
        return (now or time.time()) - float(json.loads(_file().read_bytes())["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def daemon_down(now: float | None = None) -> list[Finding]:
    """A finding if the daemon has been silent for too long, or never was there."""
    quiet = silence(now)
    if quiet is not None and quiet <= MOST:
        return []
    since = "has never left a sign of life" if quiet is None else f"was last alive {quiet / 60:.0f} minutes ago"
    return [Finding("daemon_down", "daemon", "critical", f"The daemon of {home()} {since}; start `st-pipeline ui`.")]
