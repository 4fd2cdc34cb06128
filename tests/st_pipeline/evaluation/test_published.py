"""The published numbers are those of the papers, and every row names something that is there."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.published import (
    METRICS,
    Row,
    published_parameters,
    published_setting,
    published_streams,
    published_tables,
    rows_of,
)
from st_pipeline.model_config import methods

ROWS = [row for table in published_tables().values() for row in table.rows]
MAIN = """
| Retrain-ST | 21.33/33.77 | 14.24/23.20 | 5.48/5.72 |
| Pretrain-ST | 22.44/36.15 | 15.33/24.04 | 17.05+-6.39/10.93 |
| Online-ST-AN | 21.12/33.28 | 14.08/22.96 | 5.47/5.67 |
| Online-ST-NN | 22.05/33.97 | 16.95/29.05 | 5.50/5.70 |
| TrafficStream | 21.39/33.65 | 14.22/23.16 | 5.57/5.77 |
| STKEC | 22.06/34.61 | 14.14/23.04 | 5.36/5.59 |
| EAC | 20.75+-.20/32.35 | 13.53+-.06/21.77 | 5.10+-.10/5.33 |
"""  # Table 1 as it is printed: Air, PEMS, Energy
SIX = "14.07->13.72 13.23->12.83 14.69->14.64 14.01->13.62 13.73->13.09 14.64->13.69"  # Table 3, Avg. MAE


def values(table: str, metric: str) -> list[float | None]:
    return [row.value for row in rows_of(table) if row.metric == metric]


def test_table_1_is_the_printed_one() -> None:
    found = {(row.name, row.stream, row.metric): (row.value, row.spread) for row in rows_of("1")}
    printed: dict[tuple[str, str, str], tuple[float, float | None]] = {}
    for line in MAIN.strip().splitlines():
        name, *cells = (cell.strip() for cell in line.strip("|").split("|"))
        for stream, cell in zip(("Air-Stream", "PEMS-Stream", "Energy-Stream"), cells, strict=True):
            for metric, text in zip(("mae", "rmse"), cell.split("/"), strict=True):
                value, _, spread = text.partition("+-")
                printed[name, stream, metric] = (float(value), float(spread) if spread else None)
    assert found == printed


def test_tables_2_to_4_are_the_printed_ones() -> None:
    assert [row.value for row in rows_of("2")] == [14.85, 24.62, 14.18, 23.54, 13.53, 21.77]
    assert values("3", "mae") == [float(number) for number in re.findall(r"[0-9.]+", SIX.replace("->", " "))]
    assert [row.value for row in rows_of("4")] == [16.22, 26.81, 22.78, 337, 14.92, 24.17, 20.82, 224]
    assert [row.spread for row in rows_of("4") if row.spread is not None] == [0.13]


def test_what_is_not_on_hand_is_null_and_not_a_number() -> None:
    assert values("3", "rmse") == [None] * 12
    assert all(row.spread is None for row in rows_of("3"))


def test_means_of_the_logged_periods_are_the_logged_means() -> None:
    for stream, mean in (("PEMS-Stream", 13.45), ("Air-Stream", 20.74)):
        own = [row for row in rows_of("periods") if row.stream == stream]
        by_period = [row.value for row in own if row.period is not None and row.value is not None]
        assert len(by_period) == len(published_streams()[stream].nodes)
        assert sum(by_period) / len(by_period) == pytest.approx(mean, abs=0.01)
        assert mean in [row.value for row in own if row.period is None]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.table}-{row.name}-{row.stream}-{row.metric}")
def test_every_row_names_what_there_is(row: Row) -> None:
    assert row.stream in published_streams()
    assert row.metric in METRICS and row.source
    assert re.fullmatch(r"published_average|upto:12", row.horizon)
    assert row.value is None or row.value > 0
    if row.method is None:
        assert row.method not in methods()
    else:
        model = row.config()
        assert model.name == row.method and model.protocol == "paper"


def test_no_number_is_there_twice() -> None:
    keys = [(row.table, row.name, row.stream, row.metric, row.horizon, row.period) for row in ROWS]
    assert len(keys) == len(set(keys))


def test_changes_go_over_the_method_and_leave_the_rest() -> None:
    (row,) = [row for row in rows_of("3") if row.name == "spatial, recurrence + EAC" and row.metric == "mae"]
    model = row.config()
    assert model.prompt_pool is not None and model.prompt_pool.rank == 12
    assert model.backbone.spec() == {"name": "universal", "graph": "spatial", "temporal": "recurrence"}
    few = next(row for row in rows_of("few-shot") if row.method == "traffic_stream_published").config()
    assert few.training.share == 0.2
    assert few.training.later is not None and few.training.later.learning_rate == 0.01


def test_streams_grow_and_have_names_of_their_own() -> None:
    found = published_streams().values()
    assert {stream.ours for stream in found} == {"air_stream", "pems_stream", "energy_stream"}
    assert all(list(stream.nodes) == sorted(stream.nodes) for stream in found)
    assert published_setting()["window"] == published_setting()["horizon"] == 12


def test_parameters_have_at_most_one_number_a_period() -> None:
    for entry in published_parameters():
        assert 0 < len(entry.values) <= len(published_streams()[entry.stream].nodes)
        assert entry.counts in ("backbone", "all", "trained")


def test_an_unknown_table_and_an_unknown_method_are_one_sentence() -> None:
    with pytest.raises(InputError, match=r"there is no published table '5'; known: '1', '2', '3', '4'"):
        rows_of("5")
    with pytest.raises(InputError, match="did you mean 'few-shot'"):
        rows_of("fewshot")
    with pytest.raises(InputError, match="has no method 'eacc'; did you mean 'eac'"):
        replace(ROWS[0], method="eacc").config()
