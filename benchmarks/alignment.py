"""What the sparse attention of ST-Trans saves: time and memory of one layer's alignment, by how it searches."""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable

import torch

from benchmarks.data import network
from benchmarks.figures import Figure, Result, memory_mib, table, told
from st_pipeline.layers.alignment import TOGETHER, Alignment, Search
from st_pipeline.layers.surroundings import surroundings

WIDTH, HEADS, STEPS, BUCKETS, NEAR, KEPT = 256, 8, 12, 32, 8, 128
SIZES = (50, 100, 207)
SEARCHES: tuple[Search, ...] = ("dense", "exact", "two_stage")
PUBLISHED = 207  # sensors of METR-LA
MMAP_THRESHOLD = -3  # the name of the setting in malloc.h
AT_ONCE = 1 << 40  # scores that are worked on without parts


def work(search: Search, num_nodes: int, *, train: bool = True, together: int = AT_ONCE) -> Callable[[], None]:
    """A layer's alignment of one window, with its gradients in training."""
    torch.manual_seed(0)
    layer = Alignment(WIDTH, heads=HEADS, window=STEPS, horizon=STEPS, search=search, together=together)
    places = surroundings(network(num_nodes).graph, buckets=BUCKETS, near=NEAR)
    state, memory = torch.randn(2, 1, num_nodes, STEPS, WIDTH).requires_grad_(train).unbind()

    def action() -> None:
        with torch.set_grad_enabled(train):
            out = layer(state, memory, places)
            if train:
                torch.autograd.grad(out.square().sum(), [state, memory, *layer.parameters()])

    return action


def sums(num_nodes: int) -> dict[str, Callable[[], object]]:
    """The weighted sum of the values: all tokens with weights that are mostly 0, or the chosen ones gathered."""
    torch.manual_seed(0)
    tokens = num_nodes * STEPS
    values = torch.randn(HEADS, tokens, WIDTH // HEADS)
    place = torch.rand(tokens, tokens).topk(KEPT).indices
    weights = torch.rand(HEADS, tokens, KEPT)
    spread = torch.zeros(HEADS, tokens, tokens).scatter_(2, place.expand(HEADS, -1, -1), weights)
    return {
        "product with all": lambda: spread @ values,
        f"{KEPT} gathered": lambda: torch.einsum("hqk,hqkd->hqd", weights, values[:, place]),
    }


def milliseconds(action: Callable[[], object], repeats: int = 3) -> float:
    """Least processor time of some runs."""
    times = []
    for _ in range(repeats):
        begin = time.process_time()
        action()
        times.append(1e3 * (time.process_time() - begin))
    return min(times)


def mebibytes(action: Callable[[], object]) -> float:
    """Rise of the resident peak; each large tensor has to be mapped by itself, or holes in the heap are counted."""
    before = memory_mib(reset=True)
    action()
    return memory_mib() - before


def map_large_tensors() -> None:
    """From here on, at the cost of slower allocations."""
    ctypes.CDLL("libc.so.6").mallopt(MMAP_THRESHOLD, 1 << 20)


def run() -> Result:
    torch.set_num_threads(1)
    ways: dict[str, dict[str, object]] = {
        "forecast": {"train": False},
        "with gradients": {},
        "the same in parts": {"together": TOGETHER},
    }
    cases = [(num_nodes, search) for num_nodes in SIZES for search in SEARCHES]
    actions = {(case, way): work(case[1], case[0], **how) for case in cases for way, how in ways.items()}  # type: ignore[arg-type]
    added = sums(PUBLISHED)
    found: dict[object, list[float]] = {}
    for key, action in (*actions.items(), *added.items()):
        found[key] = [milliseconds(action)]
        told(f"time of {key}")
    map_large_tensors()
    for key, action in (*actions.items(), *added.items()):
        found[key].append(mebibytes(action))
    rows: list[list[object]] = [[*case, *(number for way in ways for number in found[case, way])] for case in cases]
    header = ["sensors", "search", *(name for way in ways for name in (f"{way}, ms", "MiB"))]
    text = (
        "Processor time on one thread, least of 3; memory is the rise of the resident peak. `exact` scores all pairs "
        f"before it chooses. In parts, {TOGETHER:,} scores are kept at a time and computed anew for their gradient.\n\n"
        f"{table(header, rows)}\nThe weighted sum of the values, {PUBLISHED} sensors:\n\n"
        f"{table(['way', 'ms', 'MiB'], [[name, *found[name]] for name in added])}"
    )
    return Result(
        f"Alignment of ST-Trans: width {WIDTH}, one window of {STEPS} to {STEPS} steps", _figures(found), text
    )


def _figures(found: dict[object, list[float]]) -> list[Figure]:
    way = "with gradients"
    return [
        Figure(
            f"{what} that {search} alignment saves in training, {PUBLISHED} sensors",
            100 * (1 - found[(PUBLISHED, search), way][place] / found[(PUBLISHED, "dense"), way][place]),
            "%",
        )
        for search in SEARCHES[1:]
        for place, what in enumerate(("time", "memory"))
    ]


if __name__ == "__main__":
    print(run().to_json())
