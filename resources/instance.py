"""The Dagster instance of a home: persistent, without telemetry, with pools and run monitoring."""

from __future__ import annotations

import os
from pathlib import Path

import dagster as dg

from st_pipeline.errors import InputError
from st_pipeline.storage import home, write_atomic

TEMPLATE = Path(__file__).with_name("dagster.yaml")


def instance_folder() -> Path:
    """`<home>/dagster`, with its `dagster.yaml`, made on first use.

    Raises:
        InputError: the home cannot be written.
    """
    folder = home() / "dagster"
    if not (folder / "dagster.yaml").exists():
        write_atomic(folder / "dagster.yaml", TEMPLATE.read_bytes())
    return folder


def open_instance() -> dg.DagsterInstance:
    """The instance; processes started from here find it by `DAGSTER_HOME`."""
    folder = instance_folder()
    os.environ["DAGSTER_HOME"] = str(folder)
    try:
        return dg.DagsterInstance.get()
    except Exception as error:  # Dagster reports a bad dagster.yaml in many ways
        reason = str(error).strip().splitlines()[0]
        if "OperationalError" in reason:
            raise InputError(
                f"{folder}: the databases cannot be opened: {reason}; the disk is full or read-only: "
                "make room, or mount it for writing"
            ) from None
        raise InputError(f"{folder / 'dagster.yaml'}: the Dagster instance cannot be opened: {reason}") from None
