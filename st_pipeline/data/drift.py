"""How the readings of each sensor differ from the period before, and changes of level that look like another unit."""

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
QUANTILES = (0.25, 0.5, 0.75, 0.95)
ALIKE = 0.15  # by which the ratios of the quantiles may differ from their median: another unit scales them all alike
NEAR = 0.08  # by which that median may differ from a known factor
KNOWN = {
    1.609344: "miles and kilometres",
    3.280840: "metres and feet",
    3.6: "metres per second and kilometres per hour",
    2.204623: "kilograms and pounds",
    4.0: "15 minutes and an hour",
    12.0: "5 minutes and an hour",
    60.0: "a minute and an hour",
    10.0: "a power of ten",
    100.0: "a power of ten",
    1000.0: "a power of ten",
}
SUSPECT_SCHEMA = {"sensor_id": pl.String, "ratio": pl.Float64, "factor": pl.Float64, "between": pl.String}


def drift_table(current: SeriesTensor, previous: SeriesTensor | None) -> pl.DataFrame:
    """One row per sensor: cells, mean, deviation and zeros of the target, and its distance to the previous period.

    `psi` is the population stability index over the deciles of the previous period, `wasserstein` the distance of the
    distributions in the target's unit; both are null without enough observed cells in both periods.
    """
    before = {} if previous is None else observed_target(previous)
    rows = []
    for name, values in observed_target(current).items():
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


def unit_suspects(current: SeriesTensor, previous: SeriesTensor | None) -> pl.DataFrame:
    """Sensors whose readings are those of the period before times a factor between known units: `SUSPECT_SCHEMA`.

    Every quantile has to have changed by about the same ratio; one of a sensor without enough readings is not judged.
    """
    before = {} if previous is None else observed_target(previous)
    rows = []
    for name, values in observed_target(current).items():
        old = before.get(name, np.zeros(0))
        if min(len(values), len(old)) < MIN_CELLS:
            continue
        now, then = (np.quantile(part.astype(np.float64), QUANTILES) for part in (values, old))
        if (then <= 0).any() or (now <= 0).any():
            continue
        ratio = float(np.median(now / then))
        if np.abs(now / then / ratio - 1).max() > ALIKE:
            continue
        away, factor, between = min(
            (abs(ratio / factor - 1), factor, text) for known, text in KNOWN.items() for factor in (known, 1 / known)
        )
        if away <= NEAR:
            rows.append({"sensor_id": name, "ratio": ratio, "factor": factor, "between": between})
    return pl.DataFrame(rows, schema=SUSPECT_SCHEMA).sort("sensor_id")


def observed_target(tensor: SeriesTensor) -> dict[str, NDArray[np.float32]]:
    """Sensor -> observed readings of the target."""
    seen = tensor.observed[..., 0]
    return {name: tensor.values[seen[:, node], node, 0] for node, name in enumerate(tensor.sensor_ids)}
