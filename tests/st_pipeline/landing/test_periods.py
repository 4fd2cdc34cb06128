"""Models are trained on periods that are over."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.landing.periods import require_over
from st_pipeline.storage import FRAME, Lake, dump_frame
from st_pipeline.streams import Stream

YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)


def endless(make_stream: Any, start: date, **sections: Any) -> Stream:
    config = make_stream(periods={"every": "7d", "start": str(start)}, **sections)
    return Stream(config=config, folder=Path("nowhere"))


def test_a_period_that_runs_is_refused_until_its_rows_reach_the_end(make_stream: Any, tmp_path: Path) -> None:
    stream, lake = endless(make_stream, YESTERDAY), Lake(tmp_path)
    (running,) = stream.config.calendar.begun()
    with pytest.raises(InputError, match=f"period {YESTERDAY} runs until .* trained when it is over"):
        require_over(stream, running, lake)
    rows = pl.DataFrame({"timestamp": [running.end - stream.config.step]})
    lake.write((stream.name, "raw_readings"), running.key, FRAME, dump_frame(rows))
    require_over(stream, running, lake)


def test_the_stream_file_may_allow_it(make_stream: Any, tmp_path: Path) -> None:
    stream = endless(make_stream, YESTERDAY, automation={"train_incomplete": True})
    require_over(stream, stream.config.calendar.begun()[0], Lake(tmp_path))


def test_a_period_that_is_over_is_trained_whatever_its_rows(make_stream: Any, tmp_path: Path) -> None:
    stream = endless(make_stream, YESTERDAY - timedelta(days=7))
    require_over(stream, stream.config.calendar.periods()[0], Lake(tmp_path))
