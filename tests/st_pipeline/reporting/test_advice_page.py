"""Pages and pictures of an advice and its replay: what they say, and that ids are text."""

from __future__ import annotations

from copy import deepcopy
from io import BytesIO
from typing import Any

import pytest

from st_pipeline.evaluation.advice_rule import Signals
from st_pipeline.evaluation.replay import Case, replay
from st_pipeline.reporting.advice_page import advice_section, page, replay_page
from st_pipeline.reporting.advice_plots import advice_plot, replay_plot

HOSTILE = "<script>|x"
ADVICE: dict[str, Any] = {
    "stream": "town",
    "period": "2024-02",
    "before": "2024-01",
    "model": "eac",
    "action": "prompts_only",
    "reasons": [{"action": "prompts_only", "text": "2 of 9 sensors are new or back (limit 2%)."}],
    "missing": ["Something is not known."],
    "signals": {"shifted": 1, "compared": 2},
    "limits": {"broken": 0.5},
    "changes": {"added": [HOSTILE, "b"], "returned": [], "retired": ["c"] * 30, "silent": [], "moved": []},
    "graph": {"edges": 12, "spectral_distance": 0.25},
    "forecast": {"error": 8.0, "naive": 10.0, "ratio": 0.8, "usual": 0.5, "change": 60.0, "misses": {"2024-01": 12.0}},
    "costs": {
        "nothing": {"seconds": 0.0, "from": "nothing is trained"},
        "prompts_only": {"seconds": 4.5, "from": "median of 2 earlier tunings"},
        "retrain": {"seconds": None, "from": "no earlier period is known"},
    },
    "probes": {},
    "sensors": [
        {"sensor_id": HOSTILE, "psi": 0.4, "wasserstein": 3.0, "shift": 0.7, "mean": 1.0, "mean_before": 2.0},
        {"sensor_id": "b", "psi": None, "wasserstein": None, "shift": None, "mean": 1.0, "mean_before": None},
    ],
}


def changed(**changes: Any) -> dict[str, Any]:
    return {**deepcopy(ADVICE), **changes}


def test_the_page_says_what_why_and_at_what_cost() -> None:
    text = page(ADVICE)
    assert text.startswith("# town, 2024-02: tune the prompts only\n")
    for part in (
        "- 2 of 9 sensors are new or back (limit 2%).",
        "- Something is not known.",
        "| tune the prompts only | 4.5 | median of 2 earlier tunings |",
        "| train anew | – | no earlier period is known |",
        "8 on the validation part of this period, 0.80 of that of the weekly naive forecast (10); after",
        "after its last update it was 0.50.",
        "in an earlier period it came +12 % to +12 % off",
        "and 10 more",
        "1 of 2 compared sensors changed their distribution.",
        "| spectral distance | 0.25 |",
    ):
        assert part in text
    assert "<script>" not in text and "&lt;script>" in text


def test_what_is_not_known_is_said() -> None:
    unknown = dict.fromkeys(("error", "naive", "ratio", "usual", "change")) | {"misses": {}}
    assert "Its error is not known." in page(changed(forecast=unknown))
    first = page(changed(forecast=ADVICE["forecast"] | {"usual": None, "misses": {}}, missing=[], sensors=[]))
    assert "after its last update" not in first and "no earlier period shows how sure that is" in first
    assert "Not known" not in first and "compared sensors" not in first


def test_the_section_of_the_report() -> None:
    assert advice_section(None) == {}
    section = advice_section(ADVICE)
    assert section["verdict"] == "tune the prompts only" and section["spectral"] == 0.25
    assert [row["seconds"] for row in section["costs"]] == [0.0, 4.5, None]


def replayed(*actions: str) -> dict[str, Any]:
    known = actions or ("nothing", "prompts_only", "retrain")
    errors, seconds = (dict(zip(known, values, strict=False)) for values in ((12.0, 10.0, 11.0), (0.0, 2.0, 9.0)))
    return replay([Case("2024-02", Signals(nodes=9, new=2), errors, seconds)])


def test_the_replay_says_how_often_and_what_is_not_known() -> None:
    text = replay_page("town", "eac", replayed())
    assert "in 1 of 1 periods (95 % interval of the share 21% to 100%)." in text
    assert "| 2024-02 | prompts_only | prompts_only | 12 | 10 | 11 | 2 | 9 | 0 |" in text
    assert "| always retrain | 0 | 0 | 1 | 10 | 9 |" in text
    some = replay_page("town", "eac", replayed("nothing", "prompts_only"))
    assert "not known, since no model with the same inputs does it: train anew." in some
    assert "MAE, train anew" not in some
    assert "No period has an advice whose outcome is known." in replay_page("town", "eac", replay([]))


@pytest.mark.parametrize("sensors", [ADVICE["sensors"], [], ADVICE["sensors"][1:]])
def test_the_picture_of_an_advice_is_drawn(sensors: list[dict[str, Any]]) -> None:
    figure = advice_plot(changed(sensors=sensors))
    figure.savefig(BytesIO(), format="png")
    shown = sum(len(part.get_offsets()) for part in figure.axes[0].collections)
    assert shown == sum(row["psi"] is not None for row in sensors)


@pytest.mark.parametrize("found", [replayed(), replayed("nothing", "prompts_only"), replay([])])
def test_the_picture_of_a_replay_shows_every_known_outcome(found: dict[str, Any]) -> None:
    figure = replay_plot(found, "town $x")
    figure.savefig(BytesIO(), format="png")
    known = sum(row[f"error_{action}"] is not None for row in found["periods"] for action in ("nothing", "retrain"))
    assert len(figure.axes[0].collections) >= known
