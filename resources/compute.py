"""The compute resource: device, threads, determinism and memory of every training step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from st_pipeline.training.compute import Compute


class ComputeResource(dg.ConfigurableResource):
    """Limits that a step must keep; what is not set here comes from the `ST_PIPELINE_*` environment variables."""

    device: str | None = Field(default=None, description="auto, cpu, cuda or cuda:N (ST_PIPELINE_DEVICE)")
    fallback: str | None = Field(
        default=None, description="fail, or cpu: what to do without that device (ST_PIPELINE_FALLBACK)"
    )
    threads: int | None = Field(default=None, description="CPU threads of torch (ST_PIPELINE_THREADS)")
    deterministic: bool = Field(default=True, description="refuse operations without a deterministic implementation")
    memory_gib: float | None = Field(
        default=None, description="upper limit of a step's estimated memory (ST_PIPELINE_MEMORY_GIB)"
    )
    save_every: float | None = Field(
        default=None, description="seconds between two states of a training (ST_PIPELINE_SAVE_EVERY)"
    )
    processes: int | None = Field(
        default=None,
        description="processes that train a model together, each on a GPU of its own if there are GPUs "
        "(ST_PIPELINE_PROCESSES)",
    )

    def limits(self) -> Compute:
        """The limits in force."""
        from dataclasses import replace

        from st_pipeline.training.compute import Compute

        names = ("device", "fallback", "threads", "memory_gib", "save_every", "processes")
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return replace(Compute.from_environment(), deterministic=self.deterministic, **own)
