"""Seconds of a training epoch by one process and by two, each with one thread, and with two threads in one process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

from benchmarks.figures import Figure, Result, table, told
from benchmarks.setting import Setting
from st_pipeline.strategies.base import Selection, Strategy
from st_pipeline.training.compute import Compute
from st_pipeline.training.fit import fit
from st_pipeline.training.memory import Plan
from st_pipeline.training.ranks import joined

SENSORS, STEPS, EPOCHS = 871, 1116, 6
ROOT = Path(__file__).resolve().parent.parent
KINDS = {"one process": (1, 1), "two processes": (2, 1), "one process, two threads": (1, 2)}  # processes, threads each
ROUNDS = 2


def run() -> Result:
    found: dict[str, list[float]] = {name: [] for name in KINDS}
    losses: dict[str, list[float]] = {}
    busy: dict[str, float] = {}
    for _ in range(ROUNDS):  # in turns, since the machine may be busy for a while
        for name, (processes, threads) in KINDS.items():
            spent, losses[name], busy[name] = _measured(processes, threads)
            found[name] += spent
            told(f"{name}: {', '.join(f'{one:.2f}' for one in spent)} s")
    middle = {name: median(spent) for name, spent in found.items()}
    alone = middle["one process"]
    apart = max(abs(a / b - 1) for a, b in zip(losses["one process"], losses["two processes"], strict=True))
    result = Result(f"Training by several processes, N = {SENSORS}, L = {STEPS}")
    detail = f"median of {len(found['one process'])} epochs; {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}"
    result.figures = [
        Figure(
            "epoch by two processes, one thread each", alone / middle["two processes"], "times faster", detail=detail
        ),
        Figure("losses of two processes apart from those of one by", apart, "relative", at_most=1e-6),
    ]
    rows: list[list[object]] = [
        [name, spent, alone / spent, min(found[name]), busy[name]] for name, spent in middle.items()
    ]
    header = ["", "s an epoch, median", "times faster", "least s", "processor s an epoch, first process"]
    result.text = table(header, rows)
    return result


def _measured(processes: int, threads: int) -> tuple[list[float], list[float], float]:
    """Seconds of every epoch but the first, all losses, and processor seconds of an epoch in the first process."""
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        worker = ["-m", "benchmarks.processes", folder, str(threads)]
        subprocess.run([*command, *worker], cwd=ROOT, env=environment, check=True)
        spent, losses, busy = json.loads(Path(folder, "found.json").read_text())
        return spent, losses, busy


def work(folder: Path, threads: int) -> None:
    """What each process does."""
    setting = Setting.of(SENSORS, STEPS, epochs=EPOCHS)
    torch.set_num_threads(1)
    with joined(Compute(device="cpu")) as compute:
        begin = time.process_time()
        result = fit(
            setting.model(frozen=False),
            train=setting.parts["train"],
            validation=setting.parts["validation"],
            graph=setting.graph,
            strategy=Strategy(),
            selection=Selection(),
            settings=replace(setting.settings, patience=EPOCHS),
            generator=torch.Generator().manual_seed(1),
            plan=Plan(setting.settings.batch, threads, 0, ranks=compute.ranks),
        )
        if compute.ranks.first:
            spent = [epoch.seconds for epoch in result.epochs[1:]]
            busy = (time.process_time() - begin) / EPOCHS
            losses = [value for epoch in result.epochs for value in (epoch.loss, epoch.validation)]
            (folder / "found.json").write_text(json.dumps([spent, losses, busy]))


if __name__ == "__main__":
    if sys.argv[1:]:
        work(Path(sys.argv[1]), int(sys.argv[2]))
    else:
        print(run().to_json())
