"""What a trained part is stored as: one safetensors file whose header says what it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from st_pipeline.storage import Codec, digest_of, encode_metadata, safetensors_metadata

FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one part of a model after one period.

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


def _dump(checkpoint: Checkpoint) -> bytes:
    document = {"format": FORMAT, "facts": dict(checkpoint.facts), "cost": dict(checkpoint.cost)}
    tensors = {name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()}
    return save_safetensors(tensors, encode_metadata(document))


def _load(payload: bytes) -> Checkpoint:
    document = safetensors_metadata(payload)
    return Checkpoint(load_safetensors(payload), document["facts"], document["cost"])


CHECKPOINT: Codec[Checkpoint] = Codec("safetensors", _dump, _load)


def prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": value for name, value in tensors.items()}


def same_weights(one: Checkpoint, other: Checkpoint) -> bool:
    """Whether two checkpoints hold the same tensors, bit for bit."""
    return one.tensors.keys() == other.tensors.keys() and all(
        torch.equal(value, other.tensors[name]) for name, value in one.tensors.items()
    )
