"""The published experiment's size: data, model and parts, for our engine and for the plain form."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from benchmarks.data import STEPS_PER_DAY, flows, network
from benchmarks.plain import STEPS, PlainEAC
from st_pipeline.data.protocols import PAPER, Part, PeriodArrays
from st_pipeline.data.splits import Split
from st_pipeline.model_config import ScalingConfig, TrainingConfig
from st_pipeline.models.backbones import backbones
from st_pipeline.models.prompt_pool import PromptPool
from st_pipeline.training.settings import Settings
from st_pipeline.types import Graph, NodeSet, SeriesShape

RANK = 6


@dataclass(frozen=True)
class Setting:
    """One period: readings (L, N), graph, and its parts in protocol `paper`."""

    readings: NDArray[np.float32]
    graph: Graph
    source: str
    nodes: NodeSet
    cuts: Split
    parts: dict[str, Part]
    settings: Settings

    @classmethod
    def of(
        cls, num_nodes: int, num_steps: int, *, epochs: int = 1, readings: NDArray[np.float32] | None = None
    ) -> Setting:
        values = flows(num_nodes, num_steps) if readings is None else readings
        made = network(num_nodes)
        nodes = NodeSet.of(f"{row:05d}" for row in range(num_nodes))
        first, second = int(0.6 * num_steps), int(0.8 * num_steps)
        cuts = Split(range(first), range(first, second), range(second, num_steps))
        cells = torch.from_numpy(values)[..., None]
        step = torch.arange(num_steps)
        everywhere = torch.ones((), dtype=torch.bool).expand(cells.shape)
        arrays = PeriodArrays(
            protocol=PAPER,
            nodes=nodes,
            period="1",
            values=cells,
            usable=everywhere,
            truth=cells[..., 0],
            scored=everywhere[..., 0],
            time_of_day=step % STEPS_PER_DAY,
            day_of_week=step // STEPS_PER_DAY % 7,
            cuts=cuts,
            window=STEPS,
            horizon=STEPS,
            lags=(),
            steps_per_day=STEPS_PER_DAY,
        )
        scaler = arrays.fit_scaler(ScalingConfig())
        parts = {name: arrays.part(name, scaler) for name in ("train", "validation", "test")}
        settings = Settings.of(PAPER, TrainingConfig(epochs=epochs))
        return cls(values, made.graph, made.real, nodes, cuts, parts, settings)

    @property
    def num_nodes(self) -> int:
        return len(self.nodes)

    @property
    def adjacency(self) -> Tensor:
        """What the plain form multiplies by: dense, rows divided by their sum."""
        dense = self.graph.dense()
        return dense / (dense.sum(1, keepdim=True) + 1e-6)

    def model(self, *, frozen: bool, seed: int = 0) -> PromptPool:
        torch.manual_seed(seed)
        shape = SeriesShape(STEPS, STEPS, 1, self.num_nodes, STEPS_PER_DAY)
        model = PromptPool(backbones.build({"name": "stgnn"}, shape=shape), rank=RANK)
        model.expand(self.nodes)
        model.inner.requires_grad_(not frozen)
        return model

    def plain(self, model: PromptPool, *, frozen: bool) -> PlainEAC:
        """The plain form with a model's weights."""
        weights = {name.removeprefix("inner."): value for name, value in model.state_dict().items() if "inner." in name}
        weights |= {"rows": model.prompts.nodes().detach(), "basis": model.prompts.basis.detach()}
        plain = PlainEAC(self.num_nodes, RANK)
        plain.load_state_dict(weights)
        if frozen:
            plain.freeze()
        return plain

    def order(self, seed: int = 1) -> Tensor:
        """The order in which the first epoch of a training with this seed takes the windows."""
        return torch.randperm(len(self.parts["train"].starts), generator=torch.Generator().manual_seed(seed))
