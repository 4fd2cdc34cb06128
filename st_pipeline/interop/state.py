"""Reading a published checkpoint: tensors by name, and nothing that could run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st_pipeline.errors import InputError, closest

STATE = "model_state_dict"  # under which the published code of EAC, TrafficStream and STKEC saves
PARALLEL = "module."  # prefix of what was saved from a data-parallel model


@dataclass(frozen=True)
class PublishedState:
    """The tensors of a checkpoint, float32 on the CPU."""

    path: Path
    tensors: Mapping[str, Tensor]

    def take(self, name: str, *shape: int | None) -> Tensor:
        """A tensor of this shape, of which None may be any number.

        Raises:
            InputError: there is none of that name, or it has another shape.
        """
        if name not in self.tensors:
            raise InputError(f"{self.path}: has no tensor {name!r}; {closest(name, self.tensors)}")
        found = self.tensors[name]
        if len(shape) != found.dim() or any(
            own != size for own, size in zip(found.shape, shape, strict=True) if size is not None
        ):
            expected = " x ".join("any" if size is None else str(size) for size in shape)
            raise InputError(f"{self.path}: {name} is {' x '.join(map(str, found.shape))}, expected {expected}")
        return found

    def matching(self, pattern: str) -> dict[str, re.Match[str]]:
        """Names that a pattern fits wholly."""
        return {name: found for name in self.tensors if (found := re.fullmatch(pattern, name))}

    def refuse_rest(self, used: set[str], what: str) -> None:
        """
        Raises:
            InputError: there are tensors beside the used ones.
        """
        if rest := sorted(set(self.tensors) - used):
            raise InputError(
                f"{self.path}: holds {len(rest)} tensors that {what} has not, e.g. {rest[0]!r}; is it of another model?"
            )


def read_state(path: Path | str) -> PublishedState:
    """The model state of a file that `torch.save` wrote: a dictionary of tensors, or one under `model_state_dict`.

    Nothing but tensors and plain containers is unpickled.

    Raises:
        InputError: the file cannot be read, holds anything else, or a tensor has a value that is no finite number.
    """
    path = Path(path)
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception as error:  # any decoder's complaint means the same to the user
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else ""
        raise InputError(
            f"{path}: is no checkpoint of tensors alone ({type(error).__name__}: {reason}); nothing in it was run; "
            "expected what torch.save makes of a state dictionary"
        ) from None
    state = found.get(STATE, found) if isinstance(found, Mapping) else None
    if not isinstance(state, Mapping) or not state or not all(isinstance(part, Tensor) for part in state.values()):
        raise InputError(f"{path}: expected a dictionary of tensors, or one under {STATE!r}, found something else")
    tensors = {}
    for name, value in state.items():
        if not value.is_floating_point() or not value.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are no finite numbers; expected trained weights")
        tensors[str(name).removeprefix(PARALLEL)] = value.detach().float()
    return PublishedState(path, tensors)


def fill(parameter: Tensor, value: Tensor) -> None:
    """Give a parameter its published value; the shapes are the same."""
    with torch.no_grad():
        parameter.copy_(value)


def fill_linear(layer: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    fill(layer.weight, weight)
    if bias is not None:
        fill(layer.bias, bias)
