"""The results page: what stands in its cells, what it leaves out, and that no text from data becomes markup."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
from matplotlib.text import Text

from st_pipeline.config import StreamConfig
from st_pipeline.data.positions import Positions
from st_pipeline.evaluation.cost_ledger import LEDGER
from st_pipeline.evaluation.counterfactual import Counterfactual
from st_pipeline.evaluation.drill import SUMMARY_SCHEMA
from st_pipeline.evaluation.studies import STUDY
from st_pipeline.evaluation.transfer import TRANSFER
from st_pipeline.reporting.results import Inside, Ranks, StreamResults
from st_pipeline.reporting.results_page import draw, render

Make = Callable[..., StreamConfig]
NUMBERS = ("mae_std", "rmse", "skill", "forgetting", "backward_transfer", "plasticity", "later_seconds", "trainable")
TESTED = ("relative", "relative_low", "relative_high", "mark", "differs")
RANKS = Ranks(3, {"retrain": 2.0, "eac": 1.25, "naive_weekly": 2.75}, 4.5, 0.105, 1.91)


def row(model: str, mae: float, **changes: Any) -> dict[str, Any]:
    names = {"model": model, "protocol": "sound", "seeds": 1, "periods": 3, "mae": mae}
    return {**names, **dict.fromkeys((*NUMBERS, *TESTED)), **changes}


ROWS = [
    row("eac", 4.0, seeds=3, mae_std=0.25, skill=50.0, forgetting=0.5, later_seconds=2.0, trainable=12345),
    row("retrain", 5.0, mark="worse", relative=25.0, relative_low=20.0, relative_high=30.0, later_seconds=8.0),
    row("naive_weekly", 8.0, mark="level", relative=0.4, relative_low=-1.0, relative_high=1.8),
    row("eac_paper", 3.0, protocol="paper", differs="protocol", later_seconds=1.0),
]


def results(config: StreamConfig, **changes: Any) -> StreamResults:
    plain = {
        "rows": ROWS,
        "ledger": pl.DataFrame(schema=LEDGER),
        "counterfactual": None,
        "transfer": pl.DataFrame(schema=TRANSFER),
        "studies": {},
        "drill": pl.DataFrame(schema=SUMMARY_SCHEMA),
        "notes": (),
    }
    return StreamResults(config, **{**plain, **changes})


@pytest.fixture
def config(make_stream: Make) -> StreamConfig:
    return make_stream(models=[{"name": "eac", "backbone": "stgnn", "strategy": "eac", "prompt_pool": {}}])


def cells(page: str, model: str) -> dict[str, str]:
    """A model's row of the first table, by heading."""
    lines = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in page.splitlines() if line[:1] == "|"]
    (found,) = [line for line in lines if line[0].startswith(f"`{model}`")]
    return dict(zip(lines[0], found, strict=True))


def test_a_row_holds_what_is_known_and_dashes(config: StreamConfig) -> None:
    page = render([results(config)], None)
    own = cells(page, "eac")
    assert (own["MAE"], own["± over seeds"], own["seeds"], own["trained parameters"]) == ("4", "0.25", "3", "12,345")
    assert own["against the champion"] == "champion" and own["below weekly naive, %"] == "50"
    assert own["plasticity"] == "–"
    assert cells(page, "retrain")["against the champion"] == "worse, +25.0 % (+20.0 to +30.0)"
    assert cells(page, "naive_weekly")["against the champion"] == "level, +0.4 % (-1.0 to +1.8)"
    assert cells(page, "eac_paper")["against the champion"] == "not compared: protocol differs"
    assert "## small" in page and "3 periods, steps of 60 min, champion `eac`." in page
    order = [page.index(f"| `{row['model']}`") for row in ROWS]
    assert order == sorted(order)


def test_without_a_comparison_the_column_is_empty_and_the_note_says_why(config: StreamConfig) -> None:
    page = render([results(config, rows=[ROWS[0], row("retrain", 5.0)], notes=("No comparison is stored.",))], None)
    assert cells(page, "retrain")["against the champion"] == "–"
    assert "- No comparison is stored." in page


def test_a_model_with_fewer_periods_is_marked(config: StreamConfig) -> None:
    page = render([results(config, rows=[ROWS[0], row("late", 3.0, periods=2)])], None)
    assert "`late` (2 of 3 periods)" in page and "`eac` |" in page


def test_sections_stand_only_where_there_is_something_to_say(config: StreamConfig) -> None:
    bare = render([results(config)], None)
    assert bare.count("## ") == 1 and "Tuning" not in bare and "Drill" not in bare and "![" not in bare
    measured = [
        {"measure": "forgetting", "cohort": "all", "horizon": "at:3", "value": 0.5, "low": 0.25, "high": 0.75},
        {"measure": "plasticity", "cohort": "all", "horizon": "at:3", "value": -1.5},
        {"measure": "forgetting", "cohort": "2024", "horizon": "published_average", "value": 12.3456},
        {"measure": "forgetting", "cohort": "2024", "horizon": "at:3", "value": 99.9},
    ]
    names = {"model": "eac", "protocol": "sound", "low": None, "high": None}
    study = {"study": "prompt_rank", "key": "prompt_pool.rank", "value": "4", "seeds": 2, "mae": 4.5, "trainable": 12.0}
    drill = {"stream": "small", "model": "eac", "scenarios": 7, "survived": 6, "mean_loss": 3.25}
    page = render(
        [
            results(
                config,
                counterfactual=Counterfactual("eac", "retrain", 2, 4.0, 16.0, -20.0, -22.0, -18.0),
                transfer=pl.DataFrame([{**names, **found} for found in measured], schema=TRANSFER),
                studies={"prompt_rank": pl.DataFrame([study], schema=STUDY)},
                drill=pl.DataFrame([drill], schema=SUMMARY_SCHEMA),
            )
        ],
        None,
    )
    assert "Tuning instead of retraining (eac against retrain) saved 75 % of the time" in page
    assert "### What `eac` kept and learned" in page
    assert "| at:3 | all | 0.5 (0.25 to 0.75) | – | – | -1.5 |" in page
    assert "| published average | 2024 | 12.35 | – | – | – |" in page and "99.9" not in page
    assert "### Study: prompt rank" in page and "| `prompt_pool.rank` | seeds |" in page
    assert "| 4 | 2 | – | 4.5 | – | – | – | 12 |" in page
    assert "### Drill" in page and "| eac | 7 | 6 | – | – | 3.25 | – | – |" in page


def test_ranks_come_with_their_test_and_the_number_of_streams(config: StreamConfig) -> None:
    page = render([results(config)] * 3, RANKS)
    assert "chi-square 4.50, p = 0.1" in page and "critical difference at 5 % is 1.91" in page
    assert "3 streams are few for such a test, which is meant for 10 or more" in page
    assert page.index("| `eac` | 1.25 |") < page.index("| `retrain` | 2 |") < page.index("| `naive_weekly` | 2.75 |")
    many = render([results(config)] * 12, Ranks(12, RANKS.mean_ranks, 4.5, 0.1, 1.0))
    assert "few for such a test" not in many


def test_one_stream_is_not_ranked_and_streams_without_common_models_are_said_to_be(config: StreamConfig) -> None:
    assert "Over the streams" not in render([results(config)], None)
    assert "there is nothing to rank" in render([results(config)] * 2, None)


def test_pictures_are_drawn_and_shown_by_name(config: StreamConfig) -> None:
    found = draw([results(config)], RANKS)
    assert list(found) == ["results-small-pareto", "results-ranks"]
    shown = {text.get_text() for text in found["results-small-pareto"].findobj(Text)}
    assert {"eac", "retrain", "naive_weekly (free)"} <= shown and "eac_paper" not in shown
    page = render([results(config)] * 2, RANKS, pictures=found)
    assert page.count("(images/results-small-pareto.png)") == 2 and page.count("(images/results-ranks.png)") == 1


def test_the_champion_s_insides_are_drawn_and_shown(config: StreamConfig) -> None:
    row = {"view": "relearner", "kind": "sensor", "before": 2.0, "after": 1.0, "seed": 1}
    rows = pl.DataFrame([{**row, "sensor_id": name} for name in "ab"])
    inside = Inside("2024-01-22", rows, Positions(np.zeros((2, 2)), geographic=False))
    found = draw([one := results(config, inside=inside)], None)
    assert list(found) == ["results-small-pareto", "results-small-inside-residual", "results-small-inside-gates"]
    page = render([one], None, pictures=found)
    assert "### Inside `eac` after 2024-01-22" in page
    assert "![residual](images/results-small-inside-residual.png)" in page
    assert "Inside" not in render([one], None) and "Inside" not in render([results(config)], None, pictures=found)


def test_naive_forecasts_alone_have_a_table_and_no_picture(make_stream: Make) -> None:
    one = results(make_stream(models=[]), rows=[row("naive_weekly", 8.0)])
    assert draw([one], None) == {}
    page = render([one], None, pictures=draw([one], None))
    assert "no models." in page and cells(page, "naive_weekly")["MAE"] == "8"


@pytest.mark.parametrize(
    ("text", "shown"),
    [("a | b", r"a \| b"), ("<script>x</script>", "&lt;script>x&lt;/script>"), ("two\n# lines", "two # lines")],
)
def test_text_is_no_markup(make_stream: Make, text: str, shown: str) -> None:
    one = results(make_stream(description=text), notes=(text,))
    page = render([one], None)
    assert f"{shown}. 3 periods" in page and f"- {shown}" in page


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346"), (123.456, "123.5"), (0.012341, "0.01234"), (0.0001234, "0.00012"), (0.0, "0")],
)
def test_numbers_are_short_and_without_exponents(config: StreamConfig, value: float, shown: str) -> None:
    page = render([results(config, rows=[row("eac", value), row("b", float("nan")), row("c", -value)])], None)
    assert cells(page, "eac")["MAE"] == shown and cells(page, "b")["MAE"] == "–"
    assert cells(page, "c")["MAE"].lstrip("-") == shown
