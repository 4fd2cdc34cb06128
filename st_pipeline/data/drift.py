"""How the readings of each sensor differ from the period before."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from st_pipeline.data.tensors import SeriesTensor

BINS = 10
FLOOR = 1e-4  # share of an empty bin, which keeps the index finite
MIN_CELLS = 48
NOTABLE = 0.25  # a population stability index above this is customarily called a shift


def drift_table(current: SeriesTensor, previous: SeriesTensor | None) -> pl.DataFrame:
    """One row per sensor: cells, mean, deviation and zeros of the target, and its distance to the previous period.

    `psi` is the population stability index over the deciles of the previous period, `wasserstein` the distance of the
    distributions in the target's unit; both are null without enough observed cells in both periods.
    """
    before = {} if previous is None else _observed(previous)
    rows = []
    for name, values in _observed(current).items():
        old = before.get(name, np.zeros(0))
        comparable = min(len(values), len(old)) >= MIN_CELLS
        rows.append(
            {
                "sensor_id": name,
                "cells": len(values),
                "mean": float(values.mean()) if len(values) else None,
                "deviation": float(values.std()) if len(values) else None,
                "zeros": float((values == 0).mean()) if len(values) else None,
                "mean_before": float(old.mean()) if len(old) else None,
                "psi": stability_index(old, values) if comparable else None,
                "wasserstein": float(wasserstein_distance(old, values)) if comparable else None,
            }
        )
    numbers = ["mean", "deviation", "zeros", "mean_before", "psi", "wasserstein"]
    return pl.DataFrame(rows, schema={"sensor_id": pl.String, "cells": pl.Int64} | dict.fromkeys(numbers, pl.Float64))


def stability_index(expected: NDArray[np.floating], actual: NDArray[np.floating]) -> float:
    """Population stability index: sum of (a - e) ln(a / e) over the deciles of `expected`.

    A value that fills a decile, such as the zeros of a quiet sensor, is a bin of its own.
    """
    deciles = np.quantile(expected.astype(np.float64), np.linspace(0, 1, BINS + 1)[1:-1])
    frequent = deciles[1:][np.diff(deciles) == 0]
    edges = np.unique(np.concatenate([deciles, np.nextafter(frequent, np.inf)]))
    shares = [
        np.bincount(np.searchsorted(edges, part, side="right"), minlength=len(edges) + 1) / len(part)
        for part in (expected, actual)
    ]
    e, a = (np.maximum(part, FLOOR) for part in shares)
    return float(((a - e) * np.log(a / e)).sum())


def _observed(tensor: SeriesTensor) -> dict[str, NDArray[np.float32]]:
    seen = tensor.observed[..., 0]
    return {name: tensor.values[seen[:, node], node, 0] for node, name in enumerate(tensor.sensor_ids)}
