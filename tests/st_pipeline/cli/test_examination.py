"""What `doctor` finds in a home: settings that are missing, locks, disk use, folders that cannot be written."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from click.testing import Result

from resources.instance import TEMPLATE
from st_pipeline.cli import examination
from st_pipeline.training.claims import claimed

Invoke = Callable[..., Result]


def test_a_home_in_use(lived_in: Any, invoke: Invoke) -> None:
    found = json.loads(invoke("doctor", "--json").stdout)
    assert found["problems"] == []
    assert found["settings"] == {"dagster.yaml": "as it should be"}
    assert found["dagster"]["last heartbeat"] == "never" and found["trainings"] == {"held": 0}
    assert float(found["disk"]["results"].split()[0]) > 0.1 and set(found["disk"]) == {"results", *examination.KINDS}
    assert found["machine"]["zones"] == "there" and found["machine"]["open files"] > 0


def test_settings_that_are_missing(lived_in: Any) -> None:
    file = lived_in.home / "dagster/dagster.yaml"
    own = yaml.safe_load(TEMPLATE.read_text())
    del own["run_launcher"], own["concurrency"]["pools"]["granularity"]
    own["run_retries"]["max_retries"] = 2
    file.write_text(yaml.safe_dump(own))
    problems: list[str] = []
    examination.settings(problems)
    (problem,) = problems
    assert "lacks run_launcher, concurrency.pools.granularity; copy those from" in problem


@pytest.mark.parametrize("text", ["{", "- a", "concurrency: 5"])
def test_settings_that_cannot_be_read(lived_in: Any, text: str) -> None:
    (lived_in.home / "dagster/dagster.yaml").write_text(text)
    problems: list[str] = []
    examination.settings(problems)
    assert len(problems) == 1 and problems[0].isprintable()


def test_a_lock_that_is_held(workspace: Any) -> None:
    lock = workspace.home / "resume/s/m/2024-01-01.lock"
    with claimed(lock, what="m", run="r"):
        assert examination.locks([]) == {"held": 1, "by": "s/m/2024-01-01"}
    assert examination.locks([]) == {"held": 0}


def test_few_open_files_and_a_wrong_clock(lived_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))
    monkeypatch.setattr(examination, "_newest", lambda: examination.time.time() + 500)
    problems: list[str] = []
    examination.machine(problems)
    assert "may open 100 files" in problems[0] and "behind the newest file" in problems[1]


def test_folders_that_cannot_be_written(lived_in: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problems: list[str] = []
    examination.writable(problems)
    assert problems == []
    monkeypatch.setattr(examination, "_read_only", lambda folder: folder.name == "lake")
    examination.writable(problems)
    assert len(problems) == 1 and "lake cannot be written" in problems[0]
