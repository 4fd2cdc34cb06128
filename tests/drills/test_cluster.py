"""Two workers with Postgres, Redis and an S3 lake; one dies while it trains, and nobody can tell from the weights."""

from pathlib import Path

import pytest

from drills import cluster, services
from drills.place import PERIODS


def test_a_dead_worker_changes_nothing(object_store: dict[str, str], tmp_path: Path) -> None:
    try:
        services.require()
    except services.Missing as missing:
        pytest.skip(f"no workers: {missing}")
    found = cluster.drill(tmp_path / "cluster", object_store)
    said = "".join(path.read_text()[-3000:] for path in (tmp_path / "cluster").glob("log*"))
    assert found["ok"], said
    assert sorted(found["weights"]) == list(PERIODS), said
    assert found["weights"] == found["alone"]
    for machine in ("head", "one", "two"):
        assert not (tmp_path / "cluster" / machine / "lake").exists(), "results lie in the bucket"
