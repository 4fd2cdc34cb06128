"""Each variant is held to its own backbone's bare form, by paired tests."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from st_pipeline.evaluation.universality import UNIVERSALITY, universality_table

PERIODS = ("2024-01-01", "2024-01-08")
MODELS = {
    ("stid", "bare"): "stid",
    ("stid", "prompts"): "stid_prompts",
    ("gru", "bare"): "gru",
    ("gru", "prompts"): "gru_prompts",
    ("gru", "control"): "gru_control",
    ("gru", "relearner"): "gru_relearner",
}
ERRORS = {"stid": 8.0, "stid_prompts": 4.0, "gru": 5.0, "gru_prompts": 9.0}


@pytest.fixture
def table(matrix_losses: Any) -> Any:
    """`table(errors)`: of models with these errors, in two periods."""

    def make(errors: dict[str, float] = ERRORS) -> pl.DataFrame:
        losses = pl.concat(
            [
                matrix_losses(name, {(period, period): error for period in PERIODS}, seeds=(1, 2)).drop(
                    "trained_through"
                )
                for name, error in errors.items()
            ]
        )
        rows = [{"model": name, "mae": error, "mae_std": 0.1, "seeds": 2} for name, error in errors.items()]
        return universality_table(MODELS, rows, losses, bare="bare", control=("relearner", "control"), day_steps=24)

    return make


def test_backbones_stand_by_their_bare_error_with_their_variants_behind_them(table: Any) -> None:
    found = table()
    assert found.schema == pl.Schema(UNIVERSALITY)
    assert found["model"].to_list() == ["gru", "gru_prompts", "stid", "stid_prompts"]


def test_a_planted_difference_is_found_in_its_direction(table: Any) -> None:
    rows = {row["model"]: row for row in table().to_dicts()}
    assert rows["stid_prompts"]["mark"] == "better"
    assert rows["stid_prompts"]["relative"] == pytest.approx(-50, abs=5)
    assert (
        rows["stid_prompts"]["relative_low"] < rows["stid_prompts"]["relative"] < rows["stid_prompts"]["relative_high"]
    )
    assert rows["gru_prompts"]["mark"] == "worse"
    assert rows["gru"]["mark"] is None
    assert rows["gru"]["relative"] is None


def test_a_variant_as_good_as_its_backbone_is_level(table: Any) -> None:
    rows = {row["model"]: row for row in table({"gru": 5.0, "gru_prompts": 5.0}).to_dicts()}
    assert rows["gru_prompts"]["mark"] == "level"


def test_a_variant_without_its_bare_form_has_no_mark(table: Any) -> None:
    found = table({"stid_prompts": 4.0, "gru": 5.0})
    assert found["model"].to_list() == ["gru", "stid_prompts"]
    assert found["mark"].to_list() == [None, None]


def test_without_scores_there_are_no_rows() -> None:
    found = universality_table(MODELS, [], pl.DataFrame(), bare="bare", control=("relearner", "control"), day_steps=24)
    assert found.schema == pl.Schema(UNIVERSALITY)
    assert not len(found)


def test_one_variant_is_held_to_the_control_too(table: Any) -> None:
    rows = {row["model"]: row for row in table({**ERRORS, "gru_relearner": 5.0, "gru_control": 10.0}).to_dicts()}
    assert rows["gru_relearner"]["mark"] == "level"
    assert rows["gru_relearner"]["control_mark"] == "better"
    assert rows["gru_relearner"]["control_relative"] == pytest.approx(-50, abs=5)
    assert rows["gru_control"]["mark"] == "worse"
    assert {name: row["control_mark"] for name, row in rows.items() if row["control_mark"]} == {
        "gru_relearner": "better"
    }
