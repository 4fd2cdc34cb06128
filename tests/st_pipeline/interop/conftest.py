"""Checkpoints with the published names and shapes, of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

State = dict[str, Tensor]


@pytest.fixture
def random() -> Callable[..., Tensor]:
    """`random(3, 4)`: other numbers at each call, the same in each test."""
    generator = torch.Generator().manual_seed(0)
    return lambda *shape: torch.randn(*shape, generator=generator) * 0.3


@pytest.fixture
def skeleton(random: Callable[..., Tensor]) -> State:
    """What EAC, TrafficStream and STKEC share."""
    state = {"tcn1.weight": random(1, 1, 3), "tcn1.bias": random(1), "fc.weight": random(12, 12), "fc.bias": random(12)}
    for name, inputs, outputs in (("gcn1", 12, 64), ("gcn2", 64, 12)):
        state |= {
            f"{name}.weight_neigh.weight": random(outputs, inputs),
            f"{name}.weight_neigh.bias": random(outputs),
            f"{name}.weight_self.weight": random(outputs, inputs),
        }
    return state


@pytest.fixture
def save(tmp_path: Path) -> Callable[..., Path]:
    """`save(state)`: the file that the published codes make of it; `save(object, plain=True)` as it is."""

    def write(state: object, *, plain: bool = False) -> Path:
        path = tmp_path / "published.pkl"
        torch.save(state if plain else {"model_state_dict": state}, path)
        return path

    return write
