"""The whole EAC experiment at the published size: seven growing periods, trained to the end and scored."""

from __future__ import annotations

import time

import numpy as np

from benchmarks.data import PEMS_NODES, PEMS_STEPS, flows, network
from benchmarks.figures import Figure, Result, table, told
from st_pipeline.config import StreamConfig
from st_pipeline.data.period_data import PeriodData
from st_pipeline.data.quality import OBSERVED
from st_pipeline.data.tensors import SeriesTensor
from st_pipeline.evaluation.scoring import evaluate_model
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.compute import Compute
from st_pipeline.training.learner import Learner
from st_pipeline.types import Graph, NodeSet

MINUTES = 10.0
STREAM = {
    "name": "pems",
    "source": {"format": "simulated", "columns": {"flow": "flow"}},
    "timezone": "UTC",
    "step": "5min",
    "periods": {"every": "31d", "start": "2011-01-01", "end": "2011-08-06"},
    "target": "flow",
    "graph": {"recipe": "distances"},
    "window": 12,
    "horizon": 12,
    "models": [
        {
            "name": "eac",
            "backbone": "stgnn",
            "prompt_pool": {"rank": 6},
            "strategy": "eac",
            "protocol": "paper",
            "seed": 51,
        }
    ],
}


def history(config: StreamConfig) -> dict[str, PeriodData]:
    """Seven periods; the graphs of the first two are the real ones, later ones grow from the second."""
    found: dict[str, PeriodData] = {}
    births: dict[str, str] = {}
    before: tuple[str, ...] = ()
    for period, (year, num_nodes) in zip(config.calendar.periods(), PEMS_NODES.items(), strict=True):
        ids = tuple(f"{row:05d}" for row in range(num_nodes))
        added = ids[len(before) :]
        births |= dict.fromkeys(added, period.key)
        graph: Graph = network(num_nodes, year=min(year, 2012)).graph
        values = flows(num_nodes, PEMS_STEPS, seed=year)[..., None]
        times = int(period.start.timestamp()) + 300 * np.arange(PEMS_STEPS)
        tensor = SeriesTensor(
            period.key, ids, ("flow",), "UTC", values, np.full(values.shape, OBSERVED, dtype=np.uint8), times
        )
        nodes = NodeSet(period.key, ids, added=added, births=dict(births))
        found[period.key] = PeriodData(period, nodes, tensor, graph)
        before = ids
    return found


def run() -> Result:
    config = StreamConfig.model_validate(STREAM)
    periods = history(config)
    learner, compute = Learner(config, config.models[0], 51), Compute(device="cpu", threads=2)
    begin, parts, rows = time.perf_counter(), None, []
    for number, (key, data) in enumerate(periods.items()):
        parts, spent, scored = _period(learner, compute, periods, key, parts)
        facts = parts["backbone"].facts
        epochs, mae = len(facts["train_loss"]), scored
        training = parts["backbone"].cost["seconds"]
        rows.append([number + 1, len(data.nodes), facts["trainable"], epochs, training, training / epochs, spent, mae])
        told(f"period {number + 1} of {len(periods)}: {epochs} epochs in {training:.0f} s, MAE {mae:.2f}")
    minutes = (time.perf_counter() - begin) / 60
    header = ["period", "sensors", "trained parameters", "epochs", "training, s", "s an epoch", "matrix row, s", "MAE"]
    figure = Figure(
        "the whole EAC experiment with its period matrix", minutes, "minutes", at_most=MINUTES, detail="two threads"
    )
    return Result("The published experiment: seven periods, 8,928 steps each", [figure], table(header, rows))


def _period(
    learner: Learner, compute: Compute, periods: dict[str, PeriodData], key: str, before: dict[str, Checkpoint] | None
) -> tuple[dict[str, Checkpoint], float, float]:
    """One period's checkpoints, the seconds its row of the matrix took, and its published average MAE."""

    def progress(epoch: object) -> None:
        told(f"  {key} {epoch}")

    parts = learner.learn(periods[key], before, compute=compute, progress=progress, log=told)
    begin = time.perf_counter()
    past = {name: data for name, data in periods.items() if name <= key}
    by_seed = {part: {learner.seed: checkpoint} for part, checkpoint in parts.items()}
    scores = evaluate_model(learner.stream, learner.model, by_seed, past, compute=compute).scores
    wanted = {"period": key, "metric": "mae", "horizon": "published_average", "cohort": "all"}
    (value,) = scores.filter(**wanted)["value"]
    return parts, time.perf_counter() - begin, float(value)


if __name__ == "__main__":
    print(run().to_json())
