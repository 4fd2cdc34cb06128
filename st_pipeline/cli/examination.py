"""What `doctor` looks at beside versions and devices: the home, the instance, the machine."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from st_pipeline.storage import home, lake

MIB = 1 << 20
LEAST_FILES = 1024  # open at a time: a server with a few runs needs some hundred
PORT = 3000
KINDS = {
    "raw files": "simulated",
    "training states": "resume",
    "events of runs": "dagster/history",
    "what steps printed": "dagster/storage",
}


def disk_use() -> dict[str, str]:
    """MiB by kind of what lies in the home."""
    from st_pipeline.cli.gc import size_of

    found = {kind: f"{size_of(home() / folder) / MIB:.1f} MiB" for kind, folder in KINDS.items()}
    root = lake().root
    return {"results": f"{size_of(root) / MIB:.1f} MiB" if isinstance(root, Path) else f"not measured, {root}", **found}


def locks(problems: list[str]) -> dict[str, Any]:
    """Trainings whose lock somebody holds."""
    held = []
    for path in sorted((home() / "resume").rglob("*.lock")):
        try:
            with path.open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            held.append(str(path.relative_to(home() / "resume").with_suffix("")))
        except OSError as error:
            problems.append(f"{path}: cannot be read: {error.strerror or error}")
    return {"held": len(held), **({"by": ", ".join(held)} if held else {})}


def settings(problems: list[str]) -> dict[str, Any]:
    """How the instance's `dagster.yaml` differs from the one that would be written today."""
    import yaml

    from resources.instance import TEMPLATE

    file = home() / "dagster" / "dagster.yaml"
    if not file.exists():
        return {"dagster.yaml": "none yet"}
    try:
        own = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except (OSError, ValueError, yaml.YAMLError) as error:
        problems.append(f"{file}: cannot be read: {' '.join(str(error).split())[:200]}")
        return {}
    missing = _missing(yaml.safe_load(TEMPLATE.read_text(encoding="utf-8")), own)
    if missing:
        problems.append(f"{file} lacks {', '.join(missing)}; copy those from {TEMPLATE}, or remove the file")
    return {"dagster.yaml": "as it should be" if not missing else f"lacks {len(missing)} settings"}


def _missing(wanted: Any, own: Any, path: str = "") -> list[str]:
    """Dotted names of the settings that are wanted and not there; another value is a choice."""
    if not isinstance(wanted, dict):
        return []
    found = own if isinstance(own, dict) else {}
    names = {f"{path}{key}": key for key in wanted}
    absent = [name for name, key in names.items() if key not in found]
    inner = [_missing(wanted[key], found[key], f"{name}.") for name, key in names.items() if key in found]
    return absent + [name for one in inner for name in one]


def machine(problems: list[str]) -> dict[str, Any]:
    """Files that may be open, zones, the clock, and whether the UI's port is free."""
    import resource

    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if 0 <= files < LEAST_FILES:
        problems.append(
            f"a process may open {files} files, expected at least {LEAST_FILES}; run `ulimit -n {LEAST_FILES}`"
        )
    try:
        zone = datetime.now(ZoneInfo("Europe/Berlin")).utcoffset()
    except ZoneInfoNotFoundError:
        zone = None
        problems.append("there is no time zone data; install the package tzdata")
    ahead = _newest() - time.time()
    if ahead > 60:
        problems.append(f"the clock is {ahead:.0f} s behind the newest file of the home; set it right")
    return {"open files": files, "zones": "there" if zone is not None else "missing", f"port {PORT}": _port()}


def _newest() -> float:
    """When the newest file of the lake's streams was written; an object store has a clock of its own."""
    root = lake().root
    found = root.glob("*/*") if isinstance(root, Path) else ()
    return max((path.stat().st_mtime for path in found if path.exists()), default=0.0)


def _port() -> str:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", PORT))
        except OSError as error:
            return f"in use ({error.strerror})"
    return "free"


def writable(problems: list[str]) -> None:
    """Tell of folders of the home that cannot be written."""
    root = lake().root
    folders = [root] if isinstance(root, Path) else []
    for folder in (*folders, *(home() / name for name in ("resume", "dagster", "simulated"))):
        if folder.is_dir() and (not os.access(folder, os.W_OK) or _read_only(folder)):
            problems.append(f"{folder} cannot be written; give this user the right to, or mount it for writing")


def _read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)
