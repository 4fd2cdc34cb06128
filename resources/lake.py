"""The IO manager: it owns the paths of the lake, writes atomically and reads what is asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import dagster as dg

from resources.failures import user_errors
from st_pipeline.errors import InputError
from st_pipeline.progress import WRITTEN, tell
from st_pipeline.storage import FRAME as FRAME_CODEC
from st_pipeline.storage import HTML, JSON, Codec, lake

T = TypeVar("T")

PREVIOUS = {"load": "previous"}  # the value of the one earlier period, None in the first
HISTORY = {"load": "history"}  # a mapping of periods, read when asked for; every file must be there
AVAILABLE = {"load": "available"}  # the same, without the periods whose file is not there


@dataclass(frozen=True)
class Encoded(Generic[T]):
    """A value with the bytes it is stored as, so that it is encoded once.

    `check` is called before it is written, and raises where this process may no longer do so.
    """

    value: T
    payload: bytes
    check: Callable[[], object] = bool


class History(Mapping[str, T]):
    """Values of an asset by period, oldest first, read from the lake when asked for."""

    def __init__(self, key: tuple[str, ...], periods: list[str], codec: Codec[T]) -> None:
        self.key, self.periods, self.codec = key, sorted(periods), codec

    def __getitem__(self, period: str) -> T:
        if period not in self.periods:
            raise KeyError(period)
        return lake().read(self.key, period, self.codec)

    def __iter__(self) -> Iterator[str]:
        return iter(self.periods)

    def __len__(self) -> int:
        return len(self.periods)


class LakeIOManager(dg.IOManager):
    """Files at `lake/<stream>/[<model>/]<asset>/<period>.<ext>`, one codec each."""

    def __init__(self, codec: Codec[Any]) -> None:
        self.codec = codec

    def handle_output(self, context: dg.OutputContext, obj: Encoded[Any]) -> None:
        key = tuple(context.asset_key.path)
        period = context.partition_key if context.has_asset_partitions else None
        with user_errors():
            obj.check()
            described = self.codec.describe(obj.value) if self.codec.describe else b""
            path = lake().write(key, period, self.codec, obj.payload, description=described)
        tell("/".join(key) + (f" of {period}" if period else ""), WRITTEN)
        stored = lake().stat(key, period, self.codec)
        context.add_output_metadata({"path": dg.MetadataValue.path(str(path)), "bytes": stored[0] if stored else 0})

    def load_input(self, context: dg.InputContext) -> Any:
        with user_errors():
            return self._load(context)

    def _load(self, context: dg.InputContext) -> Any:
        key = tuple(context.asset_key.path)
        load = (context.definition_metadata or {}).get("load")
        if not context.has_asset_partitions:
            return lake().read(key, None, self.codec)
        periods = list(context.asset_partition_keys)
        if load == "available":
            return History(key, [period for period in periods if lake().exists(key, period, self.codec)], self.codec)
        if load == "history":
            return History(key, periods, self.codec)
        if load == "previous" and not periods:
            return None
        if len(periods) != 1:
            raise InputError(f"{'/'.join(key)}: expected one period, found {len(periods)}; run one period at a time")
        return lake().read(key, periods[0], self.codec)


def io_managers() -> dict[str, dg.IOManager]:
    """One IO manager per kind of file; those of tensors and weights load their codec when they are used."""
    return {
        "frames": LakeIOManager(FRAME_CODEC),
        "documents": LakeIOManager(JSON),
        "pages": LakeIOManager(HTML),
        "tensors": LazyLakeIOManager("st_pipeline.data.tensors", "TENSOR"),
        "graphs": LazyLakeIOManager("st_pipeline.data.adjacency", "ADJACENCY"),
        "checkpoints": LazyLakeIOManager("st_pipeline.training.checkpoint", "CHECKPOINTS"),
        "node_sets": LazyLakeIOManager("st_pipeline.data.lives", "NODE_SET"),
    }


class LazyLakeIOManager(LakeIOManager):
    """An IO manager whose codec's module (torch, safetensors) is imported on first use."""

    def __init__(self, module: str, name: str) -> None:
        self._where = (module, name)

    @property
    def codec(self) -> Codec[Any]:  # type: ignore[override]
        from importlib import import_module

        found: Codec[Any] = getattr(import_module(self._where[0]), self._where[1])
        return found
