"""A training epoch at the published size, against the plain published form, in one run."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.data import PEMS_NODES, PEMS_STEPS
from benchmarks.figures import Figure, Result, best, seconds, table, told, use_threads
from benchmarks.plain import STEPS, Samples, train_epoch, validate
from benchmarks.setting import Setting
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.fit import FitResult, fit
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import Objective
from st_pipeline.training.pieces import Workers, workers

ASKED = {False: 15.0, True: 20.0}
HIDDEN = 64


def epoch(setting: Setting, model: PromptPool) -> FitResult:
    """One epoch with its validation, as the product trains."""
    return fit(
        model,
        train=setting.parts["train"],
        validation=setting.parts["validation"],
        graph=setting.graph,
        strategy=Strategy(),
        selection=Selection(),
        settings=setting.settings,
        generator=torch.Generator().manual_seed(1),
        plan=Plan(setting.settings.batch, 2, 0),
    )


def batch_losses(setting: Setting, *, frozen: bool) -> list[float]:
    """Loss of every batch of the first epoch, taken from the engine step by step."""
    model = setting.model(frozen=frozen)
    objective = Objective(model, setting.parts["train"], setting.graph, setting.settings)
    learned = [part for part in model.parameters() if part.requires_grad]
    optimiser = torch.optim.AdamW(learned, lr=setting.settings.learning_rate, weight_decay=0.01, fused=True)
    losses = []
    with workers(torch.device("cpu"), 2) as team:
        for batch in setting.parts["train"].starts[setting.order()].split(setting.settings.batch):
            optimiser.zero_grad(set_to_none=True)
            losses.append(float(objective.backward(batch, team)))
            optimiser.step()
    return losses


def run(num_nodes: int = PEMS_NODES[2017], num_steps: int = PEMS_STEPS, repeats: int = 3) -> Result:
    use_threads()
    setting = Setting.of(num_nodes, num_steps)
    result = Result(f"Training, N = {num_nodes}, L = {num_steps}, B = {setting.settings.batch}")
    samples = Samples(setting.readings, setting.cuts.train)
    checked = Samples(setting.readings, setting.cuts.validation)
    size, adjacency, order = setting.settings.batch, setting.adjacency, setting.order().tolist()
    rows: list[list[object]] = []
    for frozen, what in ((False, "everything trainable"), (True, "backbone frozen")):
        told(f"training, {what}")
        ours, usual = best(lambda frozen=frozen: epoch(setting, setting.model(frozen=frozen)), repeats)
        plain = setting.plain(setting.model(frozen=frozen), frozen=frozen)
        losses: list[float] = []
        theirs = seconds(
            lambda plain=plain, losses=losses: losses.extend(train_epoch(plain, adjacency, samples, order, size))
        )
        judging = seconds(lambda plain=plain: validate(plain, adjacency, checked, size))
        mine = batch_losses(setting, frozen=frozen)
        apart = np.abs(np.array(mine) / np.array(losses) - 1)
        detail = f"{theirs + judging:.1f} s against {usual:.2f} s (median of {repeats}; least {ours:.2f} s)"
        drift = f"first batch {apart[0]:.1e}, largest of {len(apart)} batches {apart.max():.1e}"
        mean = abs(float(np.mean(mine) / np.mean(losses)) - 1)
        faster = (theirs + judging) / usual
        result.figures += [
            Figure(f"epoch with validation, {what}", faster, "times faster", ASKED[frozen], detail=detail),
            Figure(f"loss of that epoch, {what}, apart by", mean, "relative", at_most=1e-5, detail=drift),
        ]
        rows.append([what, theirs, judging, ours, usual, theirs / len(losses)])
    header = ["", "plain training, s", "plain validation, s", "ours, least s", "ours, median s", "plain step, s"]
    about = f"Graph: {setting.source}, {setting.graph.num_edges:,} edges; simulated flows.\n\n"
    result.text = about + table(header, rows) + "\n" + _where_time_goes(setting) + "\n" + _limit(setting)
    return result


def _where_time_goes(setting: Setting) -> str:
    """Time by kind of operation, one thread, a few batches."""
    torch.set_num_threads(1)
    parts = []
    for frozen, what in ((False, "everything trainable"), (True, "backbone frozen")):
        model = setting.model(frozen=frozen)
        objective = Objective(model, setting.parts["train"], setting.graph, setting.settings)
        batch = setting.parts["train"].starts[: setting.settings.batch]
        objective.backward(batch, Workers())
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(5):
                objective.backward(batch, Workers())
        kinds: defaultdict[str, float] = defaultdict(float)
        for event in profiler.key_averages():
            kinds[_kind(event.key)] += event.self_cpu_time_total
        whole = sum(kinds.values())
        shares = sorted(kinds.items(), key=lambda item: -item[1])
        parts.append(f"{what}: " + ", ".join(f"{name} {100 * spent / whole:.0f} %" for name, spent in shares))
    use_threads()
    return (
        "Where the time of a step goes (one thread, profiler on):\n\n" + "\n".join(f"- {part}" for part in parts) + "\n"
    )


def _kind(name: str) -> str:
    kinds = {
        "products, dense and sparse": ("mm", "addmm", "bmm", "matmul", "linear"),
        "copies, gathers and concatenations": (
            "copy_",
            "index",
            "cat",
            "clone",
            "contiguous",
            "fill_",
            "zero",
            "empty",
        ),
        "GELU and ReLU, forward and back": ("gelu", "relu", "clamp", "threshold"),
        "sums and losses": ("sum", "mse", "mean"),
        "additions and the like": ("add", "sub", "mul", "div", "where", "pow"),
    }
    plain = name.removeprefix("aten::")
    return next((kind for kind, parts in kinds.items() if any(part in plain for part in parts)), "bookkeeping")


def _limit(setting: Setting) -> str:
    """How far a step is from what the processor's products and memory allow."""
    rows_of = 16 * setting.num_nodes
    a, b = torch.randn(rows_of, 2 * STEPS), torch.randn(2 * STEPS, HIDDEN)
    large = torch.randn(1 << 25)
    speed = 2 * rows_of * 2 * STEPS * HIDDEN / best(lambda: a @ b, 20)[0] / 1e9
    flow = 12 * len(large) / best(lambda: torch.add(large, 1.0), 5)[0] / 1e9
    cells = setting.settings.batch * setting.num_nodes
    lines = []
    for frozen, what in ((False, "everything trainable"), (True, "backbone frozen")):
        products = 3 if frozen else 6  # of N B x 24 x 64: forward two, back one for the data, and the rest for weights
        work = cells * (products * 2 * 2 * STEPS * HIDDEN + (2 if frozen else 3) * 2 * STEPS * STEPS)
        moved = cells * 4 * (10 * HIDDEN + 40 * STEPS)
        model = setting.model(frozen=frozen)
        objective = Objective(model, setting.parts["train"], setting.graph, setting.settings)
        batch = setting.parts["train"].starts[: setting.settings.batch]
        with workers(torch.device("cpu"), 2) as team:
            spent = best(lambda objective=objective, batch=batch, team=team: objective.backward(batch, team), 10)[0]
        least = work / speed / 1e9
        lines.append([what, 1e3 * spent, work / 1e9, 1e3 * least, moved / 1e9, 1e3 * moved / flow / 1e9, spent / least])
    header = [
        "",
        "step, ms",
        "GFLOP",
        "at the measured speed, ms",
        "GB if nothing stays in a cache",
        "at the measured rate, ms",
        "step over arithmetic",
    ]
    said = f"Measured here, two threads: products of this shape {speed:.0f} GFLOP/s, memory {flow:.1f} GB/s.\n\n"
    return said + table(header, lines)


if __name__ == "__main__":
    print(run().to_json())
