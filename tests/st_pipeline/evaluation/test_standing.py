"""A challenger must be better by the margin in each of the last periods, and by more than chance in all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.evaluation.standing import MARGIN, PERIODS, standing

KEYS = ("2024-01-01", "2024-01-08", "2024-01-15")
NAMES = ("eac", "online")
Made = Callable[..., pl.DataFrame]


def frames(made_losses: Made, model: str, shifts: tuple[float, ...], **facts: Any) -> dict[str, pl.DataFrame]:
    return {key: made_losses(model, key, shift=shift, **facts) for key, shift in zip(KEYS, shifts, strict=False)}


def held(made_losses: Made, shifts: tuple[float, ...], **facts: Any) -> Any:
    champion = frames(made_losses, "eac", (0.0,) * len(KEYS))
    return standing(champion, frames(made_losses, "online", shifts, **facts), names=NAMES, day_steps=24)


def test_better_in_the_last_periods_meets_the_rule(made_losses: Made) -> None:
    found = held(made_losses, (2.0, -1.0, -1.0))
    assert found.refusal == ""
    assert found.last == KEYS[-PERIODS:]
    assert found.relative["2024-01-01"] > 0 > -MARGIN > max(found.relative[key] for key in found.last)
    assert found.tested["mark"] == "better" and found.tested["relative"] < -MARGIN
    assert found.document()["rule"] == {"margin_percent": MARGIN, "periods": PERIODS, "level": 0.95}


def test_the_relative_error_is_that_of_the_mean_losses(made_losses: Made) -> None:
    one, other = (made_losses(name, KEYS[0], shift=shift) for name, shift in zip(NAMES, (0.0, -1.0), strict=True))
    expected = 100 * (other["absolute"].mean() / one["absolute"].mean() - 1)
    assert held(made_losses, (-1.0, 0.0, 0.0)).relative[KEYS[0]] == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("shifts", [(-3.0, -3.0, 0.0), (-3.0, 0.0, -3.0)])
def test_one_of_the_last_periods_without_the_margin_is_a_refusal_with_the_numbers(
    made_losses: Made, shifts: tuple[float, ...]
) -> None:
    found = held(made_losses, shifts)
    assert "online is not at least 1 % below the champion eac in each of the last 2 periods" in found.refusal
    for key in KEYS[-PERIODS:]:
        assert f"{key} {found.relative[key]:+.2f} %" in found.refusal


def test_a_period_that_the_challenger_has_not_learned_is_a_refusal(made_losses: Made) -> None:
    assert "online has no losses of 2024-01-15" in held(made_losses, (-1.0, -1.0)).refusal


def test_a_champion_of_one_period_cannot_be_replaced_by_the_rule(made_losses: Made) -> None:
    one = {KEYS[0]: made_losses("eac", KEYS[0])}
    found = standing(one, frames(made_losses, "online", (-1.0,)), names=NAMES, day_steps=24)
    assert found.refusal == "online: a promotion needs 2 scored periods of the champion eac, found 2024-01-01"
    assert found.tested is None


def test_what_may_be_chance_is_a_refusal(made_losses: Made) -> None:
    """Two windows that carry the whole difference are no evidence."""
    champion = {key: made_losses("eac", key) for key in KEYS}
    lucky = pl.when(pl.col("issued_at") < 3600 * 2).then(0.0).otherwise(pl.col("absolute") * 0.9999)
    challenger = {
        key: frame.with_columns(
            pl.lit("online").alias("model"), lucky.alias("absolute"), lucky.alias("absolute_nonzero")
        )
        for key, frame in champion.items()
    }
    champion = {
        key: frame.with_columns(
            pl.when(pl.col("issued_at") < 7200).then(pl.col(name) * 5).otherwise(pl.col(name)).alias(name)
            for name in ("absolute", "absolute_nonzero")
        )
        for key, frame in champion.items()
    }
    found = standing(champion, challenger, names=NAMES, day_steps=24)
    assert max(found.relative[key] for key in found.last) < -MARGIN
    assert "it could be chance" in found.refusal and found.tested["p_holm"] > 0.05


def test_models_of_another_protocol_are_not_compared(made_losses: Made) -> None:
    with pytest.raises(InputError, match="protocol"):
        held(made_losses, (-1.0, -1.0, -1.0), protocol="paper")
