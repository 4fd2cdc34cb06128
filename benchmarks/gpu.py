"""An epoch at the published size on a GPU, where one is at hand."""

from __future__ import annotations

import time
from dataclasses import fields, replace

import torch

from benchmarks.data import PEMS_NODES, PEMS_STEPS
from benchmarks.figures import Figure, Result, told
from benchmarks.plain import STEPS
from benchmarks.setting import Setting
from benchmarks.training import epoch
from st_pipeline.data.protocols import Part

HIDDEN = 64


def run(num_nodes: int = PEMS_NODES[2017], num_steps: int = PEMS_STEPS) -> Result:
    if not torch.cuda.is_available():
        return Result("GPU", text="There was no CUDA device on this machine; nothing was measured.\n")
    setting = Setting.of(num_nodes, num_steps)
    on_gpu = replace(
        setting, graph=setting.graph.to("cuda"), parts={name: _moved(part) for name, part in setting.parts.items()}
    )
    result = Result(f"GPU: {torch.cuda.get_device_name()}")
    cpu = epoch(setting, setting.model(frozen=False))
    for frozen, what in ((False, "everything trainable"), (True, "backbone frozen")):
        told(f"GPU, {what}")
        epoch(on_gpu, setting.model(frozen=frozen).to("cuda"))
        torch.cuda.synchronize()
        begin = time.perf_counter()
        found = epoch(on_gpu, setting.model(frozen=frozen).to("cuda"))
        torch.cuda.synchronize()
        spent = time.perf_counter() - begin
        windows = len(setting.parts["train"].starts)
        moved = 4 * windows * num_nodes * (10 * HIDDEN + 40 * STEPS) / 1e9
        result.figures.append(
            Figure(f"epoch, {what}", spent, "s", detail=f"about {moved / spent:.0f} GB/s of activations moved")
        )
        if not frozen:
            apart = abs(found.epochs[0].loss / cpu.epochs[0].loss - 1)
            result.figures.append(Figure("its loss against the CPU's, apart by", apart, "relative", at_most=1e-3))
    return result


def _moved(part: Part) -> Part:
    tensors = {
        one.name: value.to("cuda")
        for one in fields(part.windows)
        if isinstance(value := getattr(part.windows, one.name), torch.Tensor)
    }
    return replace(
        part,
        windows=replace(part.windows, **tensors),
        starts=part.starts.to("cuda"),
        truth=part.truth.to("cuda"),
        scored=part.scored.to("cuda"),
        scaler=part.scaler.to("cuda"),
    )


if __name__ == "__main__":
    print(run().to_json())
