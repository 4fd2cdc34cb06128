"""What a trained part is stored as: one safetensors file whose header says what it is, and the header as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from statistics import fmean
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from st_pipeline.storage import Codec, digest_of, dump_json, encode_metadata, safetensors_metadata

FORMAT = 2


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one part of a model after one period, from one seed.

    `facts` describe the result and are the same in every run that gives it: stream, model, part, period, node ids,
    digests of configuration, data and predecessor, seed, history. `cost` is what this run took.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    cost: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Digest of weights and facts; `cost` does not enter."""
        state = blake2b(digest_of(self.facts).encode(), digest_size=16)
        for name in sorted(self.tensors):
            tensor = self.tensors[name].detach().cpu().contiguous()
            state.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            state.update(tensor.numpy().tobytes())
        return state.hexdigest()

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Tensors whose name begins with `prefix.`, without it."""
        start = f"{prefix}."
        return {name.removeprefix(start): value for name, value in self.tensors.items() if name.startswith(start)}


BySeed = Mapping[int, Checkpoint]


def digest_of_seeds(checkpoints: BySeed) -> str:
    """Digest of a part over all its seeds."""
    return digest_of([checkpoint.digest for checkpoint in checkpoints.values()])


def cost_of_seeds(checkpoints: BySeed) -> dict[str, Any]:
    """Means over the seeds of what a training took; memory is their largest, notes are those of all."""
    costs = [checkpoint.cost for checkpoint in checkpoints.values()]
    means = {name: fmean(cost[name] for cost in costs) for name in ("seconds", "epochs", "milliseconds_per_forecast")}
    notes = sorted({note for cost in costs for note in cost["notes"]})
    return {**costs[0], **means, "peak_bytes": max(cost["peak_bytes"] for cost in costs), "notes": notes}


def _document(checkpoints: BySeed) -> dict[str, Any]:
    runs = {str(seed): {"facts": dict(one.facts), "cost": dict(one.cost)} for seed, one in checkpoints.items()}
    return {"format": FORMAT, "seeds": list(checkpoints), "runs": runs}


def _dump(checkpoints: BySeed) -> bytes:
    tensors = {
        f"{seed}/{name}": value.detach().cpu().contiguous()
        for seed, one in checkpoints.items()
        for name, value in one.tensors.items()
    }
    return save_safetensors(tensors, encode_metadata(_document(checkpoints)))


def _describe(checkpoints: BySeed) -> bytes:
    """The header as a document of its own, for people and programs that do not read safetensors."""
    digests = {str(seed): one.digest for seed, one in checkpoints.items()}
    return dump_json({**_document(checkpoints), "digests": digests})


def _load(payload: bytes) -> dict[int, Checkpoint]:
    document = safetensors_metadata(payload)
    if document.get("format") != FORMAT:
        raise ValueError(f"format {document.get('format')}, expected {FORMAT}")
    tensors: dict[str, dict[str, Tensor]] = {str(seed): {} for seed in document["seeds"]}
    for name, value in load_safetensors(payload).items():
        seed, _, inner = name.partition("/")
        tensors[seed][inner] = value
    runs = document["runs"]
    return {
        seed: Checkpoint(tensors[str(seed)], runs[str(seed)]["facts"], runs[str(seed)]["cost"])
        for seed in document["seeds"]
    }


CHECKPOINTS: Codec[BySeed] = Codec("safetensors", _dump, _load, describe=_describe)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same tensors, bit for bit."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in one.tensors.items()
    )
