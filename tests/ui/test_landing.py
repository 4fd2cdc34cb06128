"""A file is dropped while only the server runs; the short form of `python -m drills.landing`."""

from __future__ import annotations

from pathlib import Path

import pytest

from drills.landing import PERIODS, drill

pytestmark = pytest.mark.ui


def test_a_dropped_period_becomes_a_model_and_a_report_without_a_command(tmp_path: Path) -> None:
    found = drill(tmp_path / "landing", told=lambda _: None)
    assert [arrival.period for arrival in found] == list(PERIODS[1:])
