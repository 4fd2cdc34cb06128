"""Results as numbers: what the lake holds, what may be compared, and ranks over streams."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from scipy import stats

from st_pipeline.config import StreamConfig
from st_pipeline.data.lives import NODE_SET
from st_pipeline.errors import InputError
from st_pipeline.evaluation.comparison import compare_with_champion
from st_pipeline.evaluation.drill import DRILL_SCHEMA
from st_pipeline.evaluation.studies import STUDY
from st_pipeline.readers.base import SENSOR_SCHEMA
from st_pipeline.reporting.results import StreamResults, has_results, rank_over_streams, read_results
from st_pipeline.storage import FRAME, lake
from st_pipeline.types import NodeSet

Make = Callable[..., Any]
KEYS = ("2024-01-01", "2024-01-22", "2024-02-12")
MODELS = [
    {"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"},
    {"name": "retrain", "backbone": "stgnn", "strategy": "retrain"},
]


def learned(error: float, *, first: float | None = None, forgets: float = 0.0) -> dict[tuple[str, str], float]:
    """A period matrix: each period's error right after learning it, half a unit more before and `forgets` later."""
    errors = {}
    for through, after in enumerate(KEYS):
        for period, on in enumerate(KEYS[: through + 2]):
            own = first if first is not None and not period else error
            errors[after, on] = own + (0.5 if period > through else forgets * (through - period))
    return errors


def naive(error: float) -> dict[tuple[str, str], float]:
    return {(key, key): error for key in KEYS}


@pytest.fixture
def usual(make_stream: Make) -> StreamConfig:
    config: StreamConfig = make_stream(models=MODELS, compare={"methods": ["retrain"]})
    return config


@pytest.fixture
def losses(matrix_losses: Make) -> pl.DataFrame:
    """`eac` errs by 4 and forgets, `retrain` by 5, the weekly naive forecast by 8, that of the last value by 9."""
    made: pl.DataFrame = pl.concat(
        [
            matrix_losses("eac", learned(4.0, forgets=1.0)),
            matrix_losses("retrain", learned(5.0)),
            matrix_losses("naive_weekly", naive(8.0)),
            matrix_losses("naive_last", naive(9.0)),
        ]
    )
    return made


def write_comparison(config: StreamConfig, losses: pl.DataFrame) -> None:
    own = losses.with_columns(stream=pl.lit(config.name))
    found = compare_with_champion(config, {"any": {"any": own}})
    lake().write((config.name, "comparison"), None, FRAME, FRAME.dump(found))


def row(results: StreamResults, model: str) -> dict[str, Any]:
    (found,) = [row for row in results.rows if row["model"] == model]
    return found


def test_models_are_listed_best_first_with_cost_and_mark(usual, losses, fill_lake: Make) -> None:
    fill_lake(usual, losses, seconds={"eac": 1.0, "retrain": 4.0})
    write_comparison(usual, losses)
    results = read_results(usual)
    assert [row["model"] for row in results.rows] == ["eac", "retrain", "naive_weekly", "naive_last"]
    eac, retrain, weekly = (row(results, name) for name in ("eac", "retrain", "naive_weekly"))
    assert (eac["later_seconds"], retrain["later_seconds"], weekly["later_seconds"]) == (1.0, 4.0, None)
    assert (eac["mark"], retrain["mark"], weekly["mark"]) == (None, "worse", "worse")
    assert retrain["relative_low"] < retrain["relative"] == pytest.approx(25, abs=2)
    assert eac["skill"] == pytest.approx(50, abs=2)
    assert eac["forgetting"] == pytest.approx((2 + 1 - 0 - 0) / 2, abs=0.5)
    assert eac["plasticity"] == pytest.approx(0.5, abs=0.1) and weekly["plasticity"] is None
    assert results.notes == ()
    assert results.counterfactual is not None
    assert "saved 75 % of the time" in results.counterfactual.sentence and results.counterfactual.high < 0
    found = results.transfer.filter(horizon="published_average", cohort="all", measure="forgetting")
    assert found["low"].item() > 0, "the planted forgetting"
    json.dumps(results.document())


def test_a_comparison_that_is_not_stored_or_with_another_model_is_said(usual, losses, fill_lake: Make) -> None:
    fill_lake(usual, losses)
    results = read_results(usual)
    assert [row["mark"] for row in results.rows] == [None] * 4
    assert results.notes == (
        "Differences have no test of significance: no comparison is stored; `st-pipeline run small --compare` makes "
        "one.",
    )
    write_comparison(usual.model_copy(update={"champion": "retrain"}), losses)
    (note,) = read_results(usual).notes
    assert "the stored comparison is with retrain" in note
    (note,) = read_results(usual.model_copy(update={"compare": None, "champion": "eac"})).notes
    assert "with retrain" in note


def test_rows_of_another_protocol_come_last_and_are_not_compared(make_stream, matrix_losses, fill_lake: Make) -> None:
    config = make_stream(models=[*MODELS, {**MODELS[0], "name": "eac_paper", "protocol": "paper"}])
    losses = pl.concat(
        [
            matrix_losses("eac", learned(4.0)),
            matrix_losses("eac_paper", learned(1.0), protocol="paper"),
            matrix_losses("naive_weekly", naive(8.0)),
        ]
    )
    fill_lake(config, losses)
    results = read_results(config)
    assert [row["model"] for row in results.rows] == ["eac", "naive_weekly", "eac_paper"]
    paper = results.rows[-1]
    assert paper["differs"] == "protocol" and paper["skill"] is None and paper["mae"] == pytest.approx(1, abs=0.2)
    assert row(results, "eac")["differs"] is None


def test_what_keeps_a_model_out_of_the_comparison_is_told(usual, losses, fill_lake, matrix_losses: Make) -> None:
    write_comparison(usual, losses.filter(pl.col("model") != "retrain"))
    fill_lake(usual, losses)
    (note,) = read_results(usual).notes
    assert note.startswith("retrain is not in the stored comparison; `st-pipeline run small --compare`")
    changed = losses.with_columns(data=pl.when(pl.col("model") == "retrain").then(pl.lit("x")).otherwise("data"))
    fill_lake(usual, changed)
    unmarked, unheld = read_results(usual).notes
    assert unmarked.startswith("'eac' and 'retrain' cannot be compared: data of period 2024-01-01 is 'd' and 'x'")
    assert unheld.startswith("Tuning is not held against retraining: ")
    assert read_results(usual).counterfactual is None


def test_losses_that_are_damaged_in_part_leave_transfer_without_intervals(usual, losses, fill_lake: Make) -> None:
    cut = (pl.col("model") == "eac") & (pl.col("trained_through") == KEYS[2]) & (pl.col("period") == KEYS[0])
    fill_lake(usual, losses)
    own = losses.filter(~cut & (pl.col("model") == "eac") & (pl.col("trained_through") == KEYS[2]))
    lake().write(("small", "eac", "losses"), KEYS[2], FRAME, FRAME.dump(own))
    results = read_results(usual)
    assert [note for note in results.notes if note.startswith("Transfer has no intervals: Of 'eac' trained through")]
    assert len(results.transfer) and results.transfer["low"].null_count() == len(results.transfer)


def test_naive_forecasts_alone_are_results(make_stream, matrix_losses, fill_lake: Make) -> None:
    config = make_stream(models=[])
    fill_lake(config, matrix_losses("naive_weekly", naive(8.0)))
    results = read_results(config)
    assert [row["model"] for row in results.rows] == ["naive_weekly"]
    assert results.counterfactual is None and not len(results.transfer) and not len(results.ledger)
    assert results.notes == () and results.periods == 3
    json.dumps(results.document())


def test_variants_of_a_stored_study_are_in_the_study_alone(make_stream, matrix_losses, fill_lake: Make) -> None:
    study = {"name": "rank", "of": "eac", "vary": {"prompt_pool.rank": [1, 3]}}
    config = make_stream(models=MODELS, studies=[study])
    names = [model.name for model in config.studied["rank"].values()]
    fill_lake(config, pl.concat([matrix_losses(name, learned(4.0)) for name in ("eac", *names)]))
    assert len(read_results(config).rows) == 3
    table = pl.DataFrame([{"key": "prompt_pool.rank", "value": "1", "mae": 4.0}], schema=STUDY)
    lake().write(("small", "study", "rank"), None, FRAME, FRAME.dump(table))
    results = read_results(config)
    assert [row["model"] for row in results.rows] == ["eac"]
    assert results.studies["rank"].equals(table)


def test_drills_are_summed_up(usual, losses, fill_lake: Make) -> None:
    fill_lake(usual, losses)
    assert not len(read_results(usual).drill)
    names = {"stream": "small", "model": "eac", "protocol": "sound", "seed": 1, "period": KEYS[0], "worst": 1.0}
    rows = [
        {**names, "scenario": name, "survived": True, "mae": 4.0, "weekly_mae": 8.0, "skill": skill, "skill_loss": loss}
        for name, skill, loss in (("clean", 50.0, 0.0), ("noise", 40.0, 10.0))
    ]
    lake().write(("small", "eac", "drill"), KEYS[0], FRAME, FRAME.dump(pl.DataFrame(rows, schema=DRILL_SCHEMA)))
    (found,) = read_results(usual).drill.to_dicts()
    assert (found["model"], found["scenarios"], found["survived"], found["worst_loss"]) == ("eac", 1, 1, 10.0)


def insight(model: str, period: str) -> pl.DataFrame:
    """What `stgnn` with a ReLearner without smoothing has to show."""
    names = {"stream": "small", "model": model, "protocol": "sound", "seed": 1, "period": period}
    rows = [{"view": "relearner", "kind": "sensor", "sensor_id": name, "before": 2.0, "after": 1.0} for name in "ab"]
    return pl.DataFrame([{**names, **row} for row in rows])


def test_the_champion_s_newest_insight_is_read(usual, losses, fill_lake: Make) -> None:
    fill_lake(usual, losses)
    assert read_results(usual).inside is None
    places = [{"sensor_id": "a", "x": 1.0, "y": 2.0}, {"sensor_id": "c", "x": 9.0, "y": 9.0}]
    sensors = pl.DataFrame(places, schema=SENSOR_SCHEMA)
    lake().write(("small", "sensors"), None, FRAME, FRAME.dump(sensors))
    for key in KEYS[:2]:
        lake().write(("small", "node_set"), key, NODE_SET, NODE_SET.dump(NodeSet.of("ab", key)))
        lake().write(("small", "eac", "insight"), key, FRAME, FRAME.dump(insight("eac", key)))
    lake().write(("small", "retrain", "insight"), KEYS[2], FRAME, FRAME.dump(insight("retrain", KEYS[2])))
    results = read_results(usual)
    assert results.inside is not None and results.inside.period == KEYS[1]
    np.testing.assert_array_equal(results.inside.places.plane, [[1.0, 2.0], [np.nan, np.nan]])
    document = json.loads(json.dumps(results.document()))
    assert document["inside"] == {"period": KEYS[1], "mean_before": 2.0, "mean_after": 1.0}


def test_a_stream_without_a_leaderboard_is_one_sentence(usual, workspace: Any) -> None:
    assert not has_results(usual)
    with pytest.raises(InputError, match="stream 'small' has no results yet; run `st-pipeline run small` first"):
        read_results(usual)


def streams(make_stream: Make, fill_lake: Make, matrix_losses: Make, *tables: dict[str, float]) -> list[StreamResults]:
    """Streams in which each model has this error in every period."""
    found = []
    for place, table in enumerate(tables):
        config = make_stream(name=f"s{place}", models=MODELS)
        fill_lake(config, pl.concat([matrix_losses(name, naive(error), noise=0.01) for name, error in table.items()]))
        found.append(read_results(config))
    return found


def test_models_of_all_streams_are_ranked(make_stream, fill_lake, matrix_losses: Make) -> None:
    tables = [
        {"eac": 1.0, "retrain": 2.0, "naive_weekly": 3.0, "only_here": 0.5},
        {"eac": 5.0, "retrain": 4.0, "naive_weekly": 6.0},
        {"eac": 2.0, "retrain": 3.0, "naive_weekly": 9.0},
    ]
    ranks = rank_over_streams(streams(make_stream, fill_lake, matrix_losses, *tables))
    assert ranks is not None and ranks.streams == 3
    assert ranks.mean_ranks == pytest.approx({"eac": 4 / 3, "retrain": 5 / 3, "naive_weekly": 3.0})
    columns = np.array([[table[name] for table in tables] for name in ranks.mean_ranks])
    assert (ranks.statistic, ranks.p_value) == pytest.approx(stats.friedmanchisquare(*columns))
    assert ranks.difference == pytest.approx(2.343 * np.sqrt(3 * 4 / (6 * 3)), abs=1e-3), "Demsar 2006, table 5"


def test_ranks_need_two_streams_and_two_models_with_all_periods(make_stream, fill_lake, matrix_losses: Make) -> None:
    one, two = streams(
        make_stream, fill_lake, matrix_losses, {"eac": 1.0, "naive_weekly": 2.0}, {"eac": 1.0, "retrain": 2.0}
    )
    assert rank_over_streams([]) is None
    assert rank_over_streams([one]) is None
    assert rank_over_streams([one, two]) is None, "only one model is on both"
    assert rank_over_streams([one, one]) is not None
    short = [{**row, "periods": 2} if row["model"] == "eac" else row for row in one.rows]
    paper = [{**row, "protocol": "paper"} if row["model"] == "eac" else row for row in one.rows]
    for rows in (short, paper):
        other = StreamResults(**{**vars(one), "rows": rows})
        assert rank_over_streams([one, other]) is None
