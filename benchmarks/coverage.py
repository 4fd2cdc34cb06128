"""Coverage and width of the intervals across period changes, on a stream that was trained before.

ST_PIPELINE_HOME=HOME python -m benchmarks.coverage STREAM [EVERY]

For every period after the first: calibrated on the test part of the period before with the model trained through it,
then all of the period is walked through with that same model, a forecast every EVERY steps (3), learning each truth
when it arrives. First seed of the champion; nothing is written.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.figures import table, told
from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.protocols import Part
from st_pipeline.data.quality import MISSING
from st_pipeline.data.tensors import TENSOR
from st_pipeline.evaluation.interval_scores import coverage, pinball
from st_pipeline.evaluation.scoring import prepared
from st_pipeline.forecasting.conformal import LEVELS, Intervals, Residuals, split_quantiles
from st_pipeline.models.base import Forecaster
from st_pipeline.storage import Codec, lake
from st_pipeline.streams import find_stream
from st_pipeline.training.checkpoint import CHECKPOINTS
from st_pipeline.training.forecasts import forecasts
from st_pipeline.training.learner import Learner
from st_pipeline.training.updates import period_data
from st_pipeline.types import Graph

EVERY = 3
MONTH = 30  # days
CPU = torch.device("cpu")
Arrays = NDArray[np.float64]
METHODS = ("adaptive", "the same without learning", "per sensor, no scale, no learning", "all sensors, no scale")


@dataclass(frozen=True)
class Walk:
    """A period as a service lives through it: what to calibrate on, and its forecasts in order, one every so often."""

    period: str
    before: Residuals
    here: Residuals
    new: NDArray[np.bool_]  # (N,) sensors the model has not met
    first_month: NDArray[np.bool_]  # (S, H, N) of them
    every: int
    slots_per_week: int
    lowest: float


def walks(config: StreamConfig, every: int) -> Iterator[Walk]:
    """Every period after the first."""
    name = config.shown_model
    assert name is not None
    model = config.model(name)
    learner = Learner(config, model, model.runs[0])
    codecs: dict[str, Codec] = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
    keys = lake().periods((config.name, name, "backbone"), CHECKPOINTS.extension)
    network = {
        kind: {key: lake().read((config.name, kind), key, codec) for key in keys} for kind, codec in codecs.items()
    }
    history = {key: period_data(config, key, network) for key in keys}
    minimum = config.variables[config.input_names[0]].minimum
    for earlier, key in pairwise(keys):
        told(f"{config.name} {key}")
        parts = {
            part: lake().read((config.name, name, part), earlier, CHECKPOINTS)[learner.seed] for part in model.parts
        }
        trained = learner.restore(parts)
        known, data = history[earlier], history[key]
        part, graph, forecaster = prepared(learner, trained, known, CPU)
        before = _residuals(part, graph, forecaster, known)
        _, graph, forecaster = prepared(learner, trained, data, CPU)
        joined = _joined(known, data, steps=max(learner.lags, default=0) + config.window, step=config.step.seconds)
        whole = learner.arrays(joined).whole(trained.scaler)
        first = len(joined.tensor.times) - len(data.tensor.times)
        starts = whole.starts[whole.starts + config.window >= first][::every]
        here = _residuals(replace(whole, starts=starts), graph, forecaster, data)
        new = ~np.isin(np.array(data.nodes.ids), np.array(known.nodes.ids))
        begun = here.scored[:, 0].argmax(0) * every  # step of each sensor's first reading
        age = np.arange(len(starts))[:, None] * every - begun
        young = new & (age >= 0) & (age < MONTH * config.steps_per_day)
        month = np.broadcast_to(young[:, None], here.scored.shape)
        yield Walk(
            key, before, here, new, month, every, 7 * config.steps_per_day, -np.inf if minimum is None else minimum
        )


def _residuals(part: Part, graph: Graph, forecaster: Forecaster, data: PeriodData) -> Residuals:
    point, truth, scored = (
        torch.cat(cells).numpy() for cells in zip(*forecasts(forecaster, part, graph, batch=256), strict=True)
    )
    future = part.windows.future(part.starts)
    day = int(part.windows.time_of_day.max()) + 1
    slot = part.windows.day_of_week[future] * day + part.windows.time_of_day[future]
    return Residuals(point, truth, scored, slot.numpy(), data.nodes.ids)


def _joined(earlier: PeriodData, data: PeriodData, *, steps: int, step: int) -> PeriodData:
    """A period with the last steps of the one before in front, as a service would read them."""
    tensor, past = data.tensor, earlier.tensor
    times = tensor.times[0] + step * np.arange(-steps, len(tensor.times))
    values = np.zeros((len(times), *tensor.values.shape[1:]), dtype=np.float32)
    flags = np.full(values.shape, MISSING, dtype=np.uint8)
    values[steps:], flags[steps:] = tensor.values, tensor.flags
    rows = {name: row for row, name in enumerate(past.sensor_ids)}
    pairs = [(row, rows[name]) for row, name in enumerate(tensor.sensor_ids) if name in rows]
    here, there = (np.array(side) for side in zip(*pairs, strict=True))
    at, of = np.flatnonzero(np.isin(times[:steps], past.times)), np.isin(past.times, times[:steps])
    values[at[:, None], here], flags[at[:, None], here] = past.values[of][:, there], past.flags[of][:, there]
    return replace(data, tensor=replace(tensor, values=values, flags=flags, times=times))


def quantiles(walk: Walk) -> dict[str, Arrays]:
    """Method of `METHODS` -> quantiles (S, H, N, Q) of every forecast of a walk."""
    intervals = Intervals.calibrate(walk.before, walk.here.ids, slots_per_week=walk.slots_per_week)
    here = walk.here
    still = np.stack([intervals.quantiles(point, slot) for point, slot in zip(here.point, here.slot, strict=True)])
    levels = np.array(LEVELS)
    error = np.where(walk.before.scored, walk.before.truth - walk.before.point, np.nan).astype(np.float64)
    pooled = split_quantiles(error.transpose(0, 2, 1).reshape(-1, error.shape[1]), levels)[:, None]  # (H, 1, Q)
    rows = {name: row for row, name in enumerate(walk.before.ids)}
    own = np.concatenate([split_quantiles(error, levels), np.full_like(pooled, np.nan)], axis=1)
    own = own[:, [rows.get(name, -1) for name in here.ids]]
    own = np.where(np.isnan(own), pooled, own)
    found = (adaptive(intervals, walk), still, here.point[..., None] + own, here.point[..., None] + pooled)
    return {name: np.maximum(cells, walk.lowest) for name, cells in zip(METHODS, found, strict=True)}


def adaptive(intervals: Intervals, walk: Walk) -> Arrays:
    """Quantiles (S, H, N, Q): before each forecast, all truth that has arrived since the last is learned."""
    here, horizon = walk.here, walk.here.point.shape[1]
    ahead = np.arange(1, horizon + 1)
    found = []
    for now in range(len(here.point)):
        for back in range(-(-horizon // walk.every), 0, -1):
            if now < back:
                continue
            issued, passed = now - back, back * walk.every
            arrived = (ahead <= passed) & (ahead > passed - walk.every)
            intervals.learn(
                here.point[issued], here.slot[issued], here.truth[issued], here.scored[issued] & arrived[:, None]
            )
        found.append(intervals.quantiles(here.point[now], here.slot[now]))
    return np.stack(found)


def rows(walk: Walk, found: dict[str, Arrays]) -> list[list[object]]:
    """One row a method: coverage per horizon and of first months, width, worst sensor, pinball loss."""
    here, old = walk.here, walk.here.scored & ~walk.first_month
    lines: list[list[object]] = []
    for name, cells in found.items():
        low, high = cells[..., 0], cells[..., -1]
        share = 100 * coverage(low, high, here.truth, here.scored, axis=(0, 2))
        of_sensors = 100 * coverage(low, high, here.truth, here.scored, axis=(0, 1))
        month = here.scored & walk.first_month
        of_month = 100 * coverage(low, high, here.truth, month, axis=(0, 2))
        width = np.where(here.scored, high - low, 0.0).sum((0, 2)) / here.scored.sum((0, 2))
        loss = pinball(cells, here.truth, here.scored, LEVELS).mean()
        month_text = f"{of_month.min():.1f} to {of_month.max():.1f}" if month.any() else ""
        lines.append(
            [
                walk.period,
                name,
                f"{share.min():.1f} to {share.max():.1f}",
                month_text,
                f"{np.nanmin(of_sensors):.1f} to {np.nanmax(of_sensors):.1f}",
                100 * float(coverage(low, high, here.truth, old)),
                float(width[0]),
                float(width[-1]),
                float(loss),
            ]
        )
    return lines


HEADER = [
    "period",
    "intervals",
    "horizons, %",
    "horizons in first months, %",
    "sensors, %",
    "others, %",
    "width of the first step",
    "of the last",
    "pinball",
]


def by_horizon(walk: Walk, cells: Arrays) -> list[object]:
    """Coverage and mean width at every horizon."""
    low, high, scored = cells[..., 0], cells[..., -1], walk.here.scored
    share = 100 * coverage(low, high, walk.here.truth, scored, axis=(0, 2))
    width = np.where(scored, high - low, 0.0).sum((0, 2)) / scored.sum((0, 2))
    return [walk.period, *(f"{one:.1f} ({wide:.0f})" for one, wide in zip(share, width, strict=True))]


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    torch.set_num_threads(1)
    config = find_stream(sys.argv[1]).config
    lines, horizons = [], []
    for walk in walks(config, int(sys.argv[2]) if len(sys.argv) == 3 else EVERY):
        found = quantiles(walk)
        lines += rows(walk, found)
        horizons.append(by_horizon(walk, found[METHODS[0]]))
    print(table(HEADER, lines))
    print(table(["adaptive, % (width)", *map(str, range(1, config.horizon + 1))], horizons))


if __name__ == "__main__":
    main()
