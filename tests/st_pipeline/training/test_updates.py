"""An update needs stored inputs and the model's own last period, and is the same in every process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.errors import InputError
from st_pipeline.progress import listening
from st_pipeline.training.checkpoint import Checkpoint, same_weights
from st_pipeline.training.learner import Learner
from st_pipeline.training.updates import period_data, update

CODECS = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
STREAM: dict[str, Any] = {
    "name": "small",
    "source": {"format": "parquet", "readings": "r", "sensors": "s", "columns": {"flow": "q"}},
    "step": "1h",
    "periods": {"every": "21d", "start": "2024-01-01", "end": "2024-03-04"},
    "window": 6,
    "horizon": 4,
    "models": [
        {
            "name": "model",
            "backbone": {"name": "stgnn", "hidden": 8, "calendar": True, "context": 2},
            "prompt_pool": {"rank": 2},
            "strategy": "eac",
            "seasonal": ["1d"],
            "training": {"epochs": 2, "batch": 64},
            "seeds": [5, 3],
        }
    ],
}
CHILD = """
import json, sys
from pathlib import Path
from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.training.compute import Compute
from st_pipeline.training.updates import update

folder = Path(sys.argv[1])
stream = StreamConfig.model_validate(json.loads((folder / "stream.json").read_text()))
network = {
    name: {path.stem: codec.load(path.read_bytes()) for path in sorted(folder.glob(f"{name}/*"))}
    for name, codec in {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}.items()
}
parts = {}
for key in list(network["tensor"])[:2]:
    compute = Compute(device="cpu", threads=1)
    parts = update(stream, stream.models[0], key, network=network, previous=parts, compute=compute)
print(json.dumps({name: [one.digest for one in part.values()] for name, part in parts.items()}))
"""


@pytest.fixture
def learner() -> Learner:
    stream = StreamConfig.model_validate(STREAM)
    return Learner(stream, stream.models[0], 5)


@pytest.fixture
def network(learner, make_history, stored) -> dict[str, dict[str, Any]]:
    return stored(make_history(learner.stream))


@pytest.fixture
def run(learner, network, compute) -> Callable[..., dict[str, dict[int, Checkpoint]]]:
    def make(key: str, previous: dict[str, Any], **options: Any) -> dict[str, dict[int, Checkpoint]]:
        given = {"network": network, "compute": compute, **options}
        return update(learner.stream, learner.model, key, previous=previous, **given)

    return make


def test_stored_inputs_are_the_data_of_the_period(learner, network, make_history) -> None:
    for key, data in make_history(learner.stream).items():
        found = period_data(learner.stream, key, network)
        assert found.digest == data.digest
        assert (found.period, found.nodes) == (data.period, data.nodes)


def test_an_update_is_the_same_in_every_process(learner, network, run, tmp_path: Path) -> None:
    (tmp_path / "stream.json").write_text(json.dumps(STREAM))
    for name, values in network.items():
        (tmp_path / name).mkdir()
        for key, value in values.items():
            (tmp_path / name / f"{key}.bin").write_bytes(CODECS[name].dump(value))
    environment = {**os.environ, "PYTHONHASHSEED": "7"}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    first = run("2024-01-01", {})
    expected = {name: [one.digest for one in part.values()] for name, part in run("2024-01-22", first).items()}
    assert json.loads(done.stdout) == expected


@pytest.mark.parametrize("previous", [{}, {"backbone": {}, "prompt_pool": {}}])
def test_a_later_period_needs_its_predecessor(run, previous) -> None:
    sentence = "small/model/backbone of 2024-01-01 is missing; materialise small/model of 2024-01-01 first"
    with pytest.raises(InputError, match=sentence):
        run("2024-01-22", previous)


def test_a_predecessor_of_the_wrong_period_is_refused(run) -> None:
    first = run("2024-01-01", {})
    with pytest.raises(InputError, match="of 2024-01-22 is of period 2024-01-01"):
        run("2024-02-12", first)


def test_a_predecessor_trained_on_other_data_is_refused(run, network) -> None:
    first = run("2024-01-01", {})
    tensor = network["tensor"]["2024-01-01"]
    changed = {**network, "tensor": {**network["tensor"], "2024-01-01": replace(tensor, values=tensor.values + 1)}}
    with pytest.raises(InputError, match="trained on data that have changed since"):
        run("2024-01-22", first, network=changed)


def test_every_epoch_is_told_and_some_are_logged(run) -> None:
    told, logged = [], []
    with listening(lambda what, text: told.append((what, text))):
        run("2024-01-01", {}, log=logged.append)
    assert [what for what, _ in told] == ["small/model of 2024-01-01"] * 4
    assert "seed 5, epoch 1: loss" in told[0][1] and "seed 3, epoch 1: loss" in told[2][1]
    assert [line.partition(":")[0] for line in logged] == [
        "memory on cpu",
        "seed 5, epoch 1",
        "memory on cpu",
        "seed 3, epoch 1",
    ]
    assert logged[1::2] == [told[0][1], told[2][1]]


def test_every_seed_is_trained_from_its_own_past_as_if_it_were_alone(learner, network, run, compute) -> None:
    first = run("2024-01-01", {})
    second = run("2024-01-22", first)
    assert {part: list(seeds) for part, seeds in second.items()} == {"backbone": [5, 3], "prompt_pool": [5, 3]}
    assert not same_weights(second["backbone"][5], second["backbone"][3])
    data = period_data(learner.stream, "2024-01-22", network)
    for seed in (5, 3):
        last = {part: seeds[seed] for part, seeds in first.items()}
        alone = Learner(learner.stream, learner.model, seed).learn(data, last, compute=compute)
        assert all(same_weights(alone[part], second[part][seed]) for part in alone)


def test_a_past_of_another_seed_is_refused(run) -> None:
    first = run("2024-01-01", {})
    swapped = {part: {5: seeds[3], 3: seeds[5]} for part, seeds in first.items()}
    with pytest.raises(InputError, match="was trained with another configuration"):
        run("2024-01-22", swapped)
