"""The drill of many streams, short: every stream's periods are run in order, and each file is taken up once."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills import streams
from st_pipeline import streams as known


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the drill sets is as it was afterwards."""
    monkeypatch.setattr(known, "SHIPPED", known.SHIPPED)
    for name in ("ST_PIPELINE_HOME", "ST_PIPELINE_STREAMS", "ST_PIPELINE_DEVICE", "ST_PIPELINE_THREADS"):
        monkeypatch.setenv(name, "")
    for name in ("ST_PIPELINE_SAVE_EVERY", "PYTHONPATH", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "0")


def test_every_stream_has_every_period(tmp_path: Path, restored) -> None:
    told: list[str] = []
    cost = streams.drill(tmp_path, streams=1, sensors=5, periods=2, minutes=60, told=told.append)
    assert cost.failed == []
    assert [row["runs"] for row in cost.periods] == [3, 3]  # its sources, the period, the leaderboard
    assert len(cost.runs) == len(cost.ticks) == 6
    lake = tmp_path / "home" / "lake"
    for name in streams.names(1):
        for asset in ("eac/backbone", "report", "tensor"):
            found = sorted(file.stem for file in (lake / name / asset).glob("20*.json"))
            assert found == ["2024-01", "2024-02"]
    assert told[0].startswith("1 streams, ")
    assert "3.00 runs" in streams.summary(cost)


def test_months_go_on_over_the_year() -> None:
    assert [str(streams.month(number)) for number in (0, 11, 12, 25)] == [
        "2024-01-01",
        "2024-12-01",
        "2025-01-01",
        "2026-02-01",
    ]
