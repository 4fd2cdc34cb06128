"""The instance of a new home, opened by several processes at once, and one that cannot be opened."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from resources.instance import DATABASES, LOCK, instance_folder, make_instance, open_instance
from st_pipeline.errors import InputError

ROOT = Path(__file__).parents[2]
OPEN = "import sys; from resources.instance import open_instance; sys.stdin.readline(); open_instance()"


def test_processes_that_open_a_new_home_at_once_leave_databases_of_one_version(workspace: Any) -> None:
    processes = [subprocess.Popen([sys.executable, "-c", OPEN], stdin=subprocess.PIPE, cwd=ROOT) for _ in range(3)]
    threads = [threading.Thread(target=process.communicate, args=(b"go\n",)) for process in processes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.returncode for process in processes] == [0, 0, 0]
    for name in DATABASES:
        with closing(sqlite3.connect(instance_folder() / name)) as database:
            assert database.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)


def test_databases_are_made_where_there_are_none(workspace: Any) -> None:
    folder = make_instance()
    before = {name: (folder / name).stat().st_mtime_ns for name in DATABASES}
    assert make_instance() == folder
    assert {name: (folder / name).stat().st_mtime_ns for name in DATABASES} == before


def test_a_home_that_cannot_be_locked_is_told_in_a_sentence(workspace: Any) -> None:
    (instance_folder() / LOCK).mkdir()
    with pytest.raises(InputError, match="databases cannot be opened: Is a directory; the disk is full or read-only"):
        open_instance()


def test_a_bad_file_of_settings_is_told_with_its_name(workspace: Any) -> None:
    file: Path = instance_folder() / "dagster.yaml"
    file.write_text("concurrency: [3]\n")
    with pytest.raises(InputError, match=r"dagster\.yaml: the Dagster instance cannot be opened"):
        open_instance()
