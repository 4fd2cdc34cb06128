"""What is published stays as it was; news are added, and known from when they were made."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.issue import QUANTILES, SCHEMA
from st_pipeline.forecasting.published import PUBLISHED, Published, content, first, latest
from st_pipeline.storage import FRAME, Lake

NOON = datetime(2024, 1, 1, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=3)
KEY = ("town", "forecast")
Make = Callable[..., pl.DataFrame]


def rows(points: dict[tuple[int, str], tuple[float, ...]], tier: str = "model") -> pl.DataFrame:
    """Forecasts of two steps by hour after noon and sensor."""
    made = [
        {
            "sensor_id": name,
            "issued_at": NOON + timedelta(hours=hour),
            "target_time": NOON + timedelta(hours=hour + step),
            "horizon": step + 1,
            "point": point,
            **{quantile: point + place for place, quantile in enumerate(QUANTILES)},
            "tier": tier,
            "reasons": [],
            "model_id": "eac@2024",
        }
        for (hour, name), values in points.items()
        for step, point in enumerate(values)
    ]
    return pl.DataFrame(made, schema=SCHEMA)


def nothing(path: Path = Path("forecast.parquet")) -> Published:
    return Published(pl.DataFrame(schema=PUBLISHED), path, None)


def published(frame: pl.DataFrame) -> Published:
    return Published(frame, Path("forecast.parquet"), None)


PLAIN = {(0, "a"): (1.0, 2.0), (0, "b"): (3.0, 4.0), (1, "a"): (5.0, 6.0)}


def test_the_same_again_adds_nothing() -> None:
    once = nothing().with_news(rows(PLAIN), NOON)
    assert once.schema == pl.Schema(PUBLISHED)
    assert {*once["vintage"]} == {1} and {*once["knowledge_time"]} == {NOON}
    twice = published(once).with_news(rows(PLAIN), LATER)
    assert FRAME.dump(twice) == FRAME.dump(once)


def test_a_forecast_that_differs_is_a_further_vintage_and_the_old_one_stays() -> None:
    once = nothing().with_news(rows(PLAIN), NOON)
    twice = published(once).with_news(rows({**PLAIN, (0, "b"): (3.0, 9.0)}), LATER)
    assert twice.filter(pl.col("vintage") == 1).equals(once)
    added = twice.filter(pl.col("vintage") == 2)
    assert added["sensor_id"].to_list() == ["b", "b"] and added["point"].to_list() == [3.0, 9.0]
    assert {*added["knowledge_time"]} == {LATER}
    assert first(twice).equals(once)
    assert latest(twice).filter(pl.col("sensor_id") == "b")["point"].to_list() == [3.0, 9.0]
    back = published(twice).with_news(rows(PLAIN), LATER)
    assert back.filter(pl.col("vintage") == 3)["point"].to_list() == [3.0, 4.0]


@pytest.mark.parametrize(
    "change",
    [
        {"tier": pl.lit("seasonal").cast(SCHEMA["tier"])},
        {"reasons": pl.lit(pl.Series([["no_model"]])).first()},
        {"model_id": pl.lit("eac@2025")},
        {"q90": pl.lit(None, dtype=pl.Float32)},
        {"q05": pl.lit(-50.0, dtype=pl.Float32)},
    ],
)
def test_whatever_a_row_says_can_be_news(change: dict[str, pl.Expr]) -> None:
    once = nothing().with_news(rows({(0, "a"): (1.0, 2.0)}), NOON)
    other = rows({(0, "a"): (1.0, 2.0)}).with_columns(**change)
    assert published(once).with_news(other, LATER)["vintage"].to_list() == [1, 2, 1, 2]


def test_arithmetic_is_no_news() -> None:
    once = nothing().with_news(rows(PLAIN), NOON)
    nearly = rows(PLAIN).with_columns(pl.col("point", *QUANTILES) * 1.0001)
    assert published(once).with_news(nearly, LATER).equals(once)


def test_forecasts_that_are_not_made_again_stay() -> None:
    once = nothing().with_news(rows(PLAIN), NOON)
    more = published(once).with_news(rows({(2, "a"): (7.0, 8.0)}), LATER)
    assert more.filter(pl.col("knowledge_time") == NOON).equals(once)
    assert more["issued_at"].is_sorted()
    assert published(once).with_news(pl.DataFrame(schema=SCHEMA), LATER).equals(once)


def test_the_content_does_not_depend_on_when_it_was_made() -> None:
    one, two = (nothing().with_news(rows(PLAIN), now) for now in (NOON, LATER))
    assert content(one) == content(two)
    assert content(one) != content(nothing().with_news(rows({(0, "a"): (1.0, 2.5)}), NOON))


def test_which_issues_are_wanted() -> None:
    due = [NOON + timedelta(hours=hour) for hour in range(3)]
    found = published(nothing().with_news(rows(PLAIN), NOON))
    assert found.wanted(due).tolist() == [True, True, True]
    assert found.wanted(due, only_missing=True).tolist() == [False, False, True]
    assert found.wanted(due, at=due[0]).tolist() == [True, False, False]
    assert found.wanted(due, at=due[0], only_missing=True).tolist() == [True, False, True]
    with pytest.raises(
        InputError, match="no forecast is due at 2024-01-01T12:30Z; due are those from 2024-01-01T12:00Z"
    ):
        found.wanted(due, at=NOON + timedelta(minutes=30))
    with pytest.raises(InputError, match="in this period yet"):
        found.wanted([], at=NOON)


def test_a_file_that_another_process_has_written_is_left_alone(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    before = Published.read(lake, ("town", "forecast"), "2024")
    assert before.rows.is_empty()
    before.check()
    theirs = FRAME.dump(nothing().with_news(rows(PLAIN), NOON))
    lake.write(KEY, "2024", FRAME, theirs)
    with pytest.raises(InputError, match="another process has published forecasts since"):
        before.check()
    again = Published.read(lake, ("town", "forecast"), "2024")
    again.check()
    assert len(again.rows) == 6
    again.path.unlink()
    with pytest.raises(InputError, match="another process"):
        again.check()


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.write(KEY, "2024", FRAME, FRAME.dump(pl.DataFrame({"sensor": ["a"]})))
    with pytest.raises(InputError, match="its columns are sensor; expected sensor_id, issued_at"):
        Published.read(lake, ("town", "forecast"), "2024")
