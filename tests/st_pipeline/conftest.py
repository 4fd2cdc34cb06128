"""Results of made-up models: losses of every window, the scores that follow from them, and a lake that holds both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.evaluation.losses import LOSSES
from st_pipeline.evaluation.rows import PUBLISHED, SCHEMA
from st_pipeline.storage import FRAME, JSON, lake

Errors = Mapping[tuple[str, str], float]
STEPS = 4
NAMES = ["stream", "model", "protocol", "seed", "trained_through", "period"]


@pytest.fixture(scope="session")
def matrix_losses() -> Callable[..., pl.DataFrame]:
    """`matrix_losses(model, {(trained_through, period): error})`: losses around these errors in 96 hourly windows.

    What is hard to forecast in a period is hard for every model; each has its own noise besides.
    """

    def make(model: str, errors: Errors, *, noise: float = 0.3, seeds: tuple[int, ...] = (1,), **facts: Any) -> Any:
        windows = 96
        common = {"stream": "small", "protocol": "sound", "data": "d", "split": "s", "mask": "m", **facts}
        frames = []
        for (through, period), error in errors.items():
            shared = np.random.default_rng([ord(letter) for letter in period])
            cells = shared.integers(6, 12, size=(windows, STEPS))
            nonzero = cells - shared.integers(0, 3, size=cells.shape)
            hard = shared.normal(size=cells.shape)
            for seed in seeds:
                own = np.random.default_rng([seed, *(ord(letter) for letter in f"{model}{through}{period}")])
                level = error + noise * (hard + own.normal(size=cells.shape)).clip(-3, 3)
                sums = {"absolute": level * cells, "square": level**2 * cells, "absolute_nonzero": level * nonzero}
                columns = {**sums, "cells": cells, "cells_nonzero": nonzero}
                steps = {
                    "issued_at": np.repeat(3600 * np.arange(windows), STEPS),
                    "horizon": np.tile(np.arange(1, STEPS + 1), windows),
                }
                flat = pl.DataFrame({**steps, **{name: values.ravel() for name, values in columns.items()}})
                names = {**common, "model": model, "seed": seed, "trained_through": through, "period": period}
                frames.append(flat.with_columns(pl.lit(value).alias(name) for name, value in names.items()))
        schema = pl.Schema({**LOSSES, "trained_through": pl.String})
        return pl.concat(frames).select(list(schema)).cast(schema)

    return make


@pytest.fixture(scope="session")
def scores_of() -> Callable[[pl.DataFrame], pl.DataFrame]:
    """`scores_of(losses)`: the tidy rows of mean absolute and root mean squared error that the losses make."""

    def make(losses: pl.DataFrame) -> pl.DataFrame:
        rows = []
        for names, own in losses.group_by(NAMES, maintain_order=True):
            totals = own.group_by("horizon").agg(
                pl.col("absolute", "square", "cells", "absolute_nonzero", "cells_nonzero").sum()
            )
            steps = {row["horizon"]: row for row in totals.to_dicts()}

            def ratio(above: str, below: str, chosen: range, steps: Mapping[int, Any] = steps) -> float:
                return sum(steps[step][above] for step in chosen) / sum(steps[step][below] for step in chosen)

            values = {("mae", f"at:{step}"): ratio("absolute", "cells", range(step, step + 1)) for step in steps}
            upto = [range(1, step + 1) for step in sorted(steps)]
            values["mae", PUBLISHED] = float(
                np.mean([ratio("absolute_nonzero", "cells_nonzero", chosen) for chosen in upto])
            )
            values["rmse", f"upto:{len(steps)}"] = ratio("square", "cells", upto[-1]) ** 0.5
            rows += [
                {**dict(zip(NAMES, names, strict=True)), "cohort": "all", "metric": m, "horizon": h, "value": value}
                for (m, h), value in values.items()
            ]
        return pl.DataFrame(rows, schema=SCHEMA)

    return make


@pytest.fixture(scope="session")
def cost_document() -> Callable[..., dict[str, Any]]:
    """`cost_document(seconds=2.0, trainable=5, ...)`: diagnostics that hold a cost."""

    def make(seconds: float = 2.0, **changes: Any) -> dict[str, Any]:
        cost = {"seconds": seconds, "epochs": 3, "trainable": 5, "parameters": 9, "peak_bytes": 3 << 20}
        cost |= {"device": "cpu", "milliseconds_per_forecast": 0.5, "notes": [], "best_epoch": 2}
        return {"cost": cost | changes}

    return make


@pytest.fixture
def fill_lake(
    workspace: Any,
    scores_of: Callable[[pl.DataFrame], pl.DataFrame],
    cost_document: Callable[..., dict[str, Any]],
) -> Callable[..., None]:
    """`fill_lake(config, losses, seconds={"eac": 2.0})`: leaderboard, losses and diagnostics of a stream."""

    def fill(config: StreamConfig, losses: pl.DataFrame, *, seconds: Mapping[str, float] | None = None) -> None:
        losses = losses.with_columns(stream=pl.lit(config.name))
        lake().write((config.name, "leaderboard"), None, FRAME, FRAME.dump(scores_of(losses)))
        group = pl.col("model").str.replace("naive_.*", "naive")
        for (name, period), own in losses.group_by(group.alias("group"), "trained_through"):
            name = str(name)
            lake().write((config.name, name, "losses"), str(period), FRAME, FRAME.dump(own))
            document = cost_document((seconds or {}).get(name, 2.0)) if name != "naive" else {}
            lake().write((config.name, name, "diagnostics"), str(period), JSON, JSON.dump(document))

    return fill
