"""Window archives back into series: what is in every window is in the series but the last step of each part.

EAC's and TrafficStream's `generate_dataset` cuts windows of 12 + 12 steps from each part of a period, the last first,
leaves out the last step, standardises `*_x` by the part's own mean and deviation and keeps `*_y` as it is.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.arrays import Array, npz_array

PARTS = ("train", "val", "test")


def series_of_windows(file: Path) -> Array:
    """(L, N) of a window archive, NaN at the last step of each part, which no window has.

    Raises:
        InputError: a part is missing, or its windows do not follow each other step by step.
    """
    parts = [_part(npz_array(file, f"{name}_x"), npz_array(file, f"{name}_y"), f"{file}: {name}") for name in PARTS]
    if len(widths := {part.shape[1] for part in parts}) > 1:
        raise InputError(f"{file}: found windows of {sorted(widths)} sensors, expected the same number in all parts")
    return np.concatenate(parts)


def _part(inputs: Array, targets: Array, where: str) -> Array:
    """The series of one part, from its standardised inputs (W, T, N) and raw targets (W, T, N)."""
    if inputs.ndim != 3 or inputs.shape != targets.shape:
        raise InputError(
            f"{where}: found windows of shapes {inputs.shape} and {targets.shape}, "
            "expected (windows, steps, sensors) twice"
        )
    if len(targets) > 1 and np.array_equal(targets[1][1:], targets[0][:-1]):
        inputs, targets = inputs[::-1], targets[::-1]
    steps = targets.shape[1]
    if not np.array_equal(targets[:-1, 1:], targets[1:, :-1], equal_nan=True):
        raise InputError(f"{where}: the windows do not follow each other step by step; a mixed archive has no series")
    later = np.concatenate([targets[0], targets[1:, -1]]).astype(np.float64)  # from step T on
    series = np.full((steps + len(later) + 1, targets.shape[2]), np.nan)
    series[steps:-1] = later
    if len(inputs) > steps:
        series[:steps] = _raw(inputs[0], inputs[steps:], later[: len(inputs) - steps], where)
    return series


def _raw(first: Array, standardised: Array, later: Array, where: str) -> Array:
    """The first window in raw units: later windows begin with steps whose raw values are known."""
    known = standardised[:, 0].ravel()
    raw = later.ravel()
    if not np.isfinite(known).any():
        return np.full(first.shape, np.nan)  # a missing value has spoilt mean and deviation
    low, high = int(np.nanargmin(known)), int(np.nanargmax(known))
    if known[low] == known[high]:
        return np.full(first.shape, raw[low])
    slope = (raw[high] - raw[low]) / (known[high] - known[low])
    offset = raw[low] - slope * known[low]
    if not np.allclose(slope * known + offset, raw, rtol=1e-4, atol=1e-4 * max(1.0, float(np.nanmax(np.abs(raw))))):
        raise InputError(
            f"{where}: the inputs are no standardised copy of the targets; expected TrafficStream's windows"
        )
    return np.asarray(slope * first + offset, dtype=np.float64)
