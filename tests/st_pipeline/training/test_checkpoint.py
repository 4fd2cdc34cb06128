"""A checkpoint is safetensors and JSON; its digest stands for every weight and fact, and for nothing else."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import safetensors.torch
import torch

from st_pipeline.training.checkpoint import CHECKPOINTS, Checkpoint, digest_of_seeds, prefixed, same_weights


@pytest.fixture
def checkpoint() -> Checkpoint:
    tensors = {
        "weights.fc.bias": torch.tensor([0.1, -2.5]),
        "weights.nodes.rows": torch.arange(6.0).reshape(2, 3),
        "weights.nodes.cold": torch.empty(0, 3),
        "scaler.mean": torch.full((2, 1), 1e-30),
        "weightsandmore.x": torch.tensor(3),
    }
    return Checkpoint(tensors, {"period": "2012", "nodes": ["a", "ü"]}, {"seconds": 1.5})


def test_a_checkpoint_survives_storage_bit_for_bit(checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, tensors={"weights.fc.bias": torch.ones(1)}, facts={"period": "2013"})
    stored = CHECKPOINTS.dump({12: other, 3: checkpoint})
    both = CHECKPOINTS.load(stored)
    again = both[3]
    assert list(both) == [12, 3] and same_weights(both[12], other) and both[12].facts == other.facts
    assert same_weights(checkpoint, again)
    assert all(again.tensors[name].dtype == value.dtype for name, value in checkpoint.tensors.items())
    assert (again.facts, again.cost) == (checkpoint.facts, checkpoint.cost)
    assert again.digest == checkpoint.digest
    assert CHECKPOINTS.dump(both) == stored


def test_a_stored_checkpoint_is_a_safetensors_file_with_a_json_header(checkpoint: Checkpoint) -> None:
    payload = CHECKPOINTS.dump({7: checkpoint})
    assert CHECKPOINTS.extension == "safetensors"
    assert safetensors.torch.load(payload).keys() == {f"7/{name}" for name in checkpoint.tensors}
    header = json.loads(payload[8 : 8 + int.from_bytes(payload[:8], "little")])
    assert "2012" in json.dumps(header["__metadata__"])


def test_the_description_beside_it_says_the_same(checkpoint: Checkpoint) -> None:
    assert CHECKPOINTS.describe
    document = json.loads(CHECKPOINTS.describe({7: checkpoint}))
    assert document["runs"]["7"] == {"facts": dict(checkpoint.facts), "cost": dict(checkpoint.cost)}
    assert document["digests"] == {"7": checkpoint.digest} and document["seeds"] == [7]


def test_a_file_of_another_format_is_refused() -> None:
    payload = safetensors.torch.save({"x": torch.zeros(1)}, {"json": json.dumps({"format": 1})})
    with pytest.raises(ValueError, match="format 1, expected 2"):
        CHECKPOINTS.load(payload)


def test_the_digest_of_all_seeds_reacts_to_each(checkpoint: Checkpoint) -> None:
    other = replace(checkpoint, facts={"period": "2013"})
    digests = {digest_of_seeds(one) for one in ({1: checkpoint}, {1: other}, {1: checkpoint, 2: other})}
    assert len(digests) == 3


def test_the_digest_ignores_what_a_run_took_and_the_order_of_tensors(checkpoint: Checkpoint) -> None:
    assert replace(checkpoint, cost={"seconds": 99.0, "device": "cuda"}).digest == checkpoint.digest
    assert replace(checkpoint, tensors=dict(reversed(checkpoint.tensors.items()))).digest == checkpoint.digest


def test_the_digest_reacts_to_every_bit_of_every_weight(checkpoint: Checkpoint) -> None:
    digests = {checkpoint.digest}
    for name, value in checkpoint.tensors.items():
        for place in range(value.numel()):
            changed = value.clone()
            number = changed.view(-1)[place : place + 1]
            number.copy_(torch.nextafter(number, number + 1) if number.is_floating_point() else number + 1)
            digests.add(replace(checkpoint, tensors={**checkpoint.tensors, name: changed}).digest)
    assert len(digests) == 1 + sum(value.numel() for value in checkpoint.tensors.values())


def test_the_digest_reacts_to_names_shapes_types_and_facts(checkpoint: Checkpoint) -> None:
    tensors = dict(checkpoint.tensors)
    rows = tensors.pop("weights.nodes.rows")
    others = [
        replace(checkpoint, tensors={**tensors, "weights.nodes.other": rows}),
        replace(checkpoint, tensors={**tensors, "weights.nodes.rows": rows.reshape(3, 2)}),
        replace(checkpoint, tensors={**tensors, "weights.nodes.rows": rows.view(torch.int32)}),
        replace(checkpoint, tensors=tensors),
        replace(checkpoint, facts={**checkpoint.facts, "period": "2013"}),
        replace(checkpoint, facts={**checkpoint.facts, "nodes": ["ü", "a"]}),
    ]
    assert len({checkpoint.digest, *(other.digest for other in others)}) == 1 + len(others)


def test_tensors_are_found_by_their_prefix(checkpoint: Checkpoint) -> None:
    assert set(checkpoint.under("weights")) == {"fc.bias", "nodes.rows", "nodes.cold"}
    assert set(checkpoint.under("strategy")) == set()
    assert prefixed("weights", {"fc.bias": 1}) == {"weights.fc.bias": 1}


def test_weights_are_the_same_only_bit_for_bit(checkpoint: Checkpoint) -> None:
    assert same_weights(checkpoint, replace(checkpoint, facts={}))
    tensors = dict(checkpoint.tensors)
    assert not same_weights(checkpoint, replace(checkpoint, tensors={**tensors, "more": torch.zeros(1)}))
    tensors["weights.fc.bias"] = tensors["weights.fc.bias"] + 1e-6
    assert not same_weights(checkpoint, replace(checkpoint, tensors=tensors))
