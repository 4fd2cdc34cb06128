"""At the very end of a period the model that has learned it speaks; before, the one that had not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.due import due
from st_pipeline.forecasting.issue import SCHEMA, Sources
from st_pipeline.forecasting.published import PUBLISHED, Published, latest

NOW = datetime(2024, 9, 1, tzinfo=UTC)
NOTHING = Published(pl.DataFrame(schema=PUBLISHED), Path("nowhere"), None)


@pytest.fixture(scope="module")
def sources(town: Any) -> Sources:
    """The second period, which the model has not learned."""
    return town.sources(town.keys[1])


@pytest.fixture(scope="module")
def learned(town: Any, sources: Sources) -> Sources:
    """The same once it has."""
    known = town.keys[:2]
    parts = {part: {key: found[key] for key in known} for part, found in town.parts.items()}
    return replace(sources, parts=parts)


def of_model(rows: pl.DataFrame) -> dict[datetime, set[str]]:
    """Issue time -> the periods that the models behind its rows have learned."""
    found = rows.drop_nulls("model_id").with_columns(through=pl.col("model_id").str.extract("@(.*)#"))
    return {key[0]: set(own["through"]) for key, own in found.group_by("issued_at")}  # type: ignore[misc]


def test_the_updated_model_speaks_at_the_end_and_nowhere_else(town: Any, sources: Sources, learned: Sources) -> None:
    first, second, _ = town.keys
    before, after = (due(one, NOTHING, at=None, only_missing=False) for one in (sources, learned))
    assert before.schema == after.schema == pl.Schema(SCHEMA)
    end = sources.period.end
    assert set(map(frozenset, of_model(before).values())) == {frozenset({first})}
    by_time = of_model(after)
    assert by_time.pop(end) == {second} and set(map(frozenset, by_time.values())) == {frozenset({first})}
    published = replace(NOTHING, rows=NOTHING.with_news(before, NOW))
    assert published.with_news(after.filter(pl.col("issued_at") < end), NOW).equals(published.rows)
    final = after.filter(pl.col("issued_at") == end, pl.col("tier") == "model")
    assert final["q05"].null_count() == 0 and final["reasons"].list.len().sum() == 0


def test_it_is_a_new_vintage_once(sources: Sources, learned: Sources) -> None:
    rows = NOTHING.with_news(due(sources, NOTHING, at=None, only_missing=False), NOW)
    published = replace(NOTHING, rows=rows)
    both = published.with_news(due(learned, published, at=None, only_missing=True), NOW)
    added = both.filter(pl.col("vintage") == 2)
    assert set(added["issued_at"]) == {sources.period.end} and len(both) == len(rows) + len(added)
    assert latest(both).filter(pl.col("issued_at") == sources.period.end)["vintage"].max() == 2
    for only_missing in (True, False):
        again = replace(NOTHING, rows=both)
        assert again.with_news(due(learned, again, at=None, only_missing=only_missing), NOW).equals(both)


def test_one_time_alone(sources: Sources, learned: Sources) -> None:
    end = sources.period.end.astimezone(UTC)
    assert set(due(learned, NOTHING, at=end, only_missing=False)["issued_at"]) == {end}
    with pytest.raises(InputError, match="no forecast is due"):
        due(learned, NOTHING, at=NOW, only_missing=False)
