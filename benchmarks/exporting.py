"""Which models `torch.export` follows: every backbone bare, with node prompts, and with ReLearner around those.

    python -m benchmarks.exporting [BACKBONE ...]

Narrow backbones on a sparse ring of 36 sensors, 4 steps to 2. Prints a row a model: whether the program takes any
number of windows, the largest difference of the loaded program relative to the largest forecast, size, seconds.
"""

from __future__ import annotations

import io
import sys
import time
from importlib.resources import files
from typing import Any

import torch
import yaml

from st_pipeline.errors import InputError
from st_pipeline.forecasting.program import export_program
from st_pipeline.models.backbones import backbones
from st_pipeline.models.base import Forecaster
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.models.relearner import ReLearner
from st_pipeline.types import Graph, NodeSet, SeriesShape, Window

NODES = 36  # so few that it is quick, so many that the product with a ring is a sparse one
SHAPE = SeriesShape(4, 2, channels=1, num_nodes=NODES, steps_per_day=24)
VARIANTS = ("bare", "prompts", "prompts and relearner")


def main(names: list[str]) -> None:
    for name in names or backbones.names():
        for variant in VARIANTS:
            begin = time.perf_counter()
            print(f"| {name} | {variant} | {row(name, variant)} | {time.perf_counter() - begin:.0f} |", flush=True)


def row(name: str, variant: str) -> str:
    """What came of one model."""
    model, graph = build(name, variant), ring()
    try:
        program = export_program(model, graph, window(1))
    except InputError as error:
        return f"no | {error} | "
    payload = program.dump()
    loaded = torch.export.load(io.BytesIO(payload)).module()
    apart = 0.0
    for batch in (1, 5) if program.any_batch else (1,):
        with torch.no_grad():
            wanted = model(window(batch), graph)
            apart = max(apart, float((loaded(*window(batch)) - wanted).abs().max() / wanted.abs().max()))
    return f"{'any' if program.any_batch else 'one'} | {apart:.0e} | {len(payload) >> 10}"


def build(name: str, variant: str) -> Forecaster:
    """A model with rows for the ring's sensors."""
    torch.manual_seed(0)
    model: Forecaster = backbones.build(narrow().get(name, {"name": name}), shape=SHAPE)
    if variant != VARIANTS[0]:
        model = PromptPool(model, rank=2)
    if variant == VARIANTS[2]:
        model = ReLearner(model, hidden=8, zero_init=False)
    model.expand(NodeSet.of(f"s{node}" for node in range(NODES)))
    return model.eval()


def narrow() -> dict[str, dict[str, Any]]:
    """Specs of the small bench, by backbone."""
    entries = yaml.safe_load(files("st_pipeline").joinpath("backbones_small.yaml").read_text("utf-8"))
    specs = [entry["backbone"] for entry in entries]
    plain = [{"name": spec} if isinstance(spec, str) else spec for spec in specs]
    return {spec["name"]: spec for spec in plain}


def ring() -> Graph:
    node = torch.arange(NODES)
    row, column = torch.cat([node, node]), torch.cat([(node + 1) % NODES, (node + 2) % NODES])
    return Graph.from_edges(row, column, 0.1 + torch.arange(2 * NODES) % 7, num_nodes=NODES)


def window(batch: int) -> Window:
    random = torch.Generator().manual_seed(batch)
    values = torch.randn(batch, SHAPE.window, NODES, 1, generator=random)
    step = torch.randint(0, 168, (batch, 1), generator=random) + torch.arange(SHAPE.window + SHAPE.horizon)
    return Window(values, torch.ones_like(values, dtype=torch.bool), step % 24, step // 24 % 7)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(sys.argv[1:])
