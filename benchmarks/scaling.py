"""Cost against sensors and steps, and a network of 8,600 sensors within 12 GiB."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.data import PEMS_STEPS
from benchmarks.figures import Figure, Result, best, memory_mib, seconds, table, told, use_threads
from benchmarks.setting import Setting
from benchmarks.training import epoch

SENSORS = (200, 400, 871, 1742, 3484, 8600)
STEPS = (1116, 2232, 4464, 8928, 17856)
PICTURE = Path(__file__).resolve().parent.parent / "docs" / "images" / "benchmarks-scaling.png"
GIB = 12.0


def run() -> Result:
    use_threads()
    nodes = [(count, _epoch(count, 1116)) for count in SENSORS]
    steps = [(count, _epoch(871, count)) for count in STEPS]
    result = Result("Cost against sensors and steps (one epoch, everything trainable)")
    for what, found in (("sensors", nodes), ("steps", steps)):
        sizes, spent = np.array(found, dtype=float).T
        slope, _ = np.polyfit(np.log(sizes), np.log(spent), 1)
        detail = ", ".join(f"{int(size):,}: {cost:.2f} s" for size, cost in found)
        result.figures.append(
            Figure(f"exponent of the cost in {what}", float(slope), "(1 is linear)", at_most=1.1, detail=detail)
        )
    _draw(nodes, steps)
    result.text = "![cost against sensors and steps](images/benchmarks-scaling.png)\n\n" + table(
        ["sensors, 1,116 steps", "s"], [[count, spent] for count, spent in nodes]
    )
    result.figures.append(_large())
    return result


def _epoch(num_nodes: int, num_steps: int) -> float:
    setting = Setting.of(num_nodes, num_steps)
    spent = best(lambda: epoch(setting, setting.model(frozen=False)), 2)[0]
    told(f"{num_nodes} sensors, {num_steps} steps: {spent:.2f} s an epoch")
    return spent


def _large(num_nodes: int = 8600) -> Figure:
    """One epoch of a month of 5-minute steps of 8,600 sensors."""
    told(f"{num_nodes} sensors, {PEMS_STEPS} steps")
    setting = Setting.of(num_nodes, PEMS_STEPS)
    memory_mib(reset=True)
    spent = seconds(lambda: epoch(setting, setting.model(frozen=False)))
    peak = memory_mib() / 1024
    readings = num_nodes * PEMS_STEPS / 1e6
    return Figure(
        f"memory of an epoch with {num_nodes:,} sensors and {readings:.0f} million readings, everything trainable",
        peak,
        "GiB",
        at_most=GIB,
        detail=f"{spent:.0f} s, whole process, the readings included",
    )


def _draw(nodes: list[tuple[int, float]], steps: list[tuple[int, float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for axis, found, what in ((axes[0], nodes, "sensors (1,116 steps)"), (axes[1], steps, "steps (871 sensors)")):
        sizes, spent = np.array(found, dtype=float).T
        axis.loglog(sizes, spent, "o-", label="measured")
        axis.loglog(sizes, spent[-1] * sizes / sizes[-1], ":", color="grey", label="linear")
        axis.set_xlabel(what)
        axis.set_ylabel("seconds an epoch")
        axis.legend()
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    plt.close(figure)


if __name__ == "__main__":
    print(run().to_json())
