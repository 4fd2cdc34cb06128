"""Two processes that train together come to what one comes to, and both to the same bits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from hypothesis import given
from hypothesis import strategies as st

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.errors import InputError
from st_pipeline.training import pieces
from st_pipeline.training.compute import Compute
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import _pack, _unpack
from st_pipeline.training.ranks import Deserted, Ranks, share_of
from st_pipeline.training.updates import update

ROOT = Path(__file__).resolve().parents[3]
CPU = torch.device("cpu")
CODECS = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
SMALL = {"epochs": 2, "batch": 64}
STREAM: dict[str, Any] = {
    "name": "small",
    "source": {"format": "parquet", "readings": "r", "sensors": "s", "columns": {"flow": "q"}},
    "step": "1h",
    "periods": {"every": "21d", "start": "2024-01-01", "end": "2024-03-04"},
    "window": 6,
    "horizon": 4,
}
MODEL = {"name": "m", "backbone": {"name": "stgnn", "hidden": 8}, "prompt_pool": {"rank": 2}, "strategy": "online"}
CASES: dict[str, dict[str, Any]] = {
    "prompts": {"strategy": "eac", "training": {**SMALL, "epochs": 3, "decay": "cosine", "clip": 0.1}},
    "last batch of one window": {"training": {**SMALL, "batch": 42}},
    "frozen backbone": {"strategy": "lora", "lora": {"rank": 2}},
    "elastic weights": {"strategy": "traffic_stream", "prompt_pool": None},
    "a bank of patterns": {"backbone": {"name": "pecpm"}, "strategy": "pecpm", "prompt_pool": None},
    "labels": {"strategy": "eac", "relearner": {}},
    "published conventions": {"strategy": "eac", "protocol": "paper"},
    "dropout": {"backbone": {"name": "stid", "layers": 1}},
}
WHOLE = "prompts", "elastic weights"  # again, with batches of one piece
FEW = 160  # cells of a piece: two of a batch
CHILD = """
import json, sys
from pathlib import Path
import torch
from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.training import pieces
from st_pipeline.training.compute import Compute
from st_pipeline.training.ranks import joined
from st_pipeline.training.updates import update

folder = Path(sys.argv[1])
network = {
    name: {path.stem: codec.load(path.read_bytes()) for path in sorted(folder.glob(f"{name}/*"))}
    for name, codec in {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}.items()
}
found = {}
with joined(Compute(device="cpu", threads=1)) as compute:
    torch.manual_seed(compute.ranks.rank)  # processes have generators of their own
    for name, (config, cells) in json.loads((folder / "cases.json").read_text()).items():
        stream, parts, found[name] = StreamConfig.model_validate(config), {}, {}
        pieces.PIECE_CELLS = cells
        for key in list(network["tensor"])[:2]:
            parts = update(stream, stream.models[0], key, network=network, previous=parts, compute=compute)
            (one,) = parts["backbone"].values()
            found[name] |= {f"{key} {kind}": one.facts[kind] for kind in ("train_loss", "validation_error")}
        digests = {part: [one.digest for one in by_seed.values()] for part, by_seed in parts.items()}
        found[name] = [found[name], digests, one.cost["notes"]]
    (folder / f"{compute.ranks.rank}.json").write_text(json.dumps(found))
"""


def of_case(name: str) -> tuple[dict[str, Any], int]:
    """The stream file, and cells of a piece."""
    model = {**MODEL, "training": SMALL, **CASES[name.removesuffix(" whole")]}
    return {**STREAM, "models": [model]}, pieces.PIECE_CELLS if name.endswith(" whole") else FEW


def all_cases() -> list[str]:
    return [*CASES, *(f"{name} whole" for name in WHOLE)]


@pytest.fixture(scope="module")
def network(make_history, stored) -> dict[str, dict[str, Any]]:
    return stored(make_history(StreamConfig.model_validate(STREAM)))


@pytest.fixture(scope="module")
def together(network, tmp_path_factory) -> list[dict[str, Any]]:
    """What each of two processes that `torchrun` started came to: case -> losses, digests, notes."""
    folder = tmp_path_factory.mktemp("together")
    for name, values in network.items():
        (folder / name).mkdir()
        for key, value in values.items():
            (folder / name / f"{key}.bin").write_bytes(CODECS[name].dump(value))
    (folder / "cases.json").write_text(json.dumps({name: of_case(name) for name in all_cases()}))
    (folder / "child.py").write_text(CHILD)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    given: dict[str, Any] = {"env": environment, "capture_output": True, "text": True, "timeout": 300}
    done = subprocess.run([*command, str(folder / "child.py"), str(folder)], **given)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("name", all_cases())
def test_two_processes_come_to_the_bits_of_one(name: str, network, together, compute, monkeypatch) -> None:
    config, cells = of_case(name)
    stream = StreamConfig.model_validate(config)
    monkeypatch.setattr(pieces, "PIECE_CELLS", cells)
    parts: dict[str, Any] = {}
    losses, digests, notes = together[0][name]
    for key in list(network["tensor"])[:2]:
        parts = update(stream, stream.models[0], key, network=network, previous=parts, compute=compute)
        facts = next(iter(parts["backbone"].values())).facts
        for kind in ("train_loss", "validation_error"):
            assert losses[f"{key} {kind}"] == facts[kind], kind
    assert [losses, digests, notes] == together[1][name]
    assert notes == ["2 processes"]
    assert digests == {part: [one.digest for one in by_seed.values()] for part, by_seed in parts.items()}


@given(st.integers(1, 40), st.integers(1, 7))
def test_every_item_is_somebodys_and_all_do_the_same_number(count: int, size: int) -> None:
    items = list(range(count))
    shares = [Ranks(rank, size).share(items) for rank in range(size)]
    assert {item for share in shares for item in share} == set(items)
    assert {len(share) for share in shares} == {-(-count // size)}


@pytest.fixture
def fellows(monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fellows(size, work)`: what each of so many processes gathers of `work(ranks)`, one after the other."""

    def gathered(size: int, work: Any, count: int) -> list[list[torch.Tensor]]:
        made = [torch.stack(work(Ranks(rank, size))) for rank in range(size)]

        def all_gather(found: list[torch.Tensor], mine: torch.Tensor) -> None:
            for place, other in zip(found, made, strict=True):
                place.copy_(other)

        monkeypatch.setattr(dist, "all_gather", all_gather)
        return [Ranks(rank, size).gather(list(made[rank]), count) for rank in range(size)]

    return gathered


@pytest.mark.parametrize(("count", "size"), [(1, 1), (1, 3), (2, 3), (4, 3), (6, 3), (7, 2), (8, 4)])
def test_all_get_the_results_in_the_order_of_the_items(count: int, size: int, fellows) -> None:
    found = fellows(size, lambda ranks: [torch.tensor([item, -item]) for item in ranks.share(range(count))], count)
    assert [[row.tolist() for row in rows] for rows in found] == [[[item, -item] for item in range(count)]] * size


def test_a_process_alone_asks_nobody(monkeypatch) -> None:
    monkeypatch.setattr(dist, "all_gather", None)
    one = torch.ones(2)
    assert Ranks().gather([one], 1)[0] is one
    Ranks().agree("anything", "text", CPU)


def test_a_fellow_that_has_gone_is_told(monkeypatch) -> None:
    def all_gather(found: list[torch.Tensor], mine: torch.Tensor) -> None:
        raise RuntimeError("Connection closed by peer\nand much more")

    monkeypatch.setattr(dist, "all_gather", all_gather)
    with pytest.raises(Deserted, match=r"trained with this one has gone: Connection closed by peer$"):
        Ranks(0, 2).gather([torch.ones(1)], 2)


def test_processes_that_begin_from_something_else_are_refused(monkeypatch) -> None:
    def all_gather(found: list[torch.Tensor], mine: torch.Tensor) -> None:
        found[0].copy_(mine)
        found[1].copy_(mine + different)

    monkeypatch.setattr(dist, "all_gather", all_gather)
    different = 0
    Ranks(0, 2).agree("weights", "text", CPU)
    different = 1
    with pytest.raises(
        InputError, match=r"processes 0 and 1 of a training differ in weights; .*ST_PIPELINE_PROCESSES=1"
    ):
        Ranks(0, 2).agree("weights", "text", CPU)


@given(st.lists(st.tuples(st.sampled_from([(), (1,), (3,), (2, 3)]), st.booleans()), max_size=5), st.floats(-9, 9))
def test_gradients_come_back_as_they_were(parts: list[tuple[tuple[int, ...], bool]], loss: float) -> None:
    like = [torch.zeros(shape) for shape, _ in parts]
    gradients = [torch.randn(shape) if there else None for shape, there in parts]
    found, back = _unpack(_pack(torch.tensor(loss), gradients, like), like)
    assert found == torch.tensor(loss)
    for one, other in zip(gradients, back, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_threads_and_memory_of_a_machine_are_shared_out() -> None:
    whole = Compute(device="cpu", threads=5, memory_gib=8.0, processes=2, fallback="cpu")
    own = share_of(whole, local=1, here=2)
    assert (own.device, own.threads, own.memory_gib, own.processes, own.neighbours) == ("cpu", 2, 4.0, 1, 2)
    assert share_of(whole, local=0, here=9).threads == 1
    assert own.choose(0, "x").allowed_bytes == 4 << 30


def test_each_process_has_a_gpu_of_its_own(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    whole = Compute(device="auto", memory_gib=8.0, processes=2)
    assert [share_of(whole, local=local, here=2).device for local in range(2)] == ["cuda:0", "cuda:1"]
    assert share_of(whole, local=0, here=2).memory_gib == 8.0
    with pytest.raises(InputError, match=r"3 processes were asked for and there are 2 CUDA devices here; set .* to 2"):
        share_of(whole, local=0, here=3)


def test_one_device_for_all_is_refused() -> None:
    with pytest.raises(InputError, match="device cuda:1 is one, and 2 processes were asked for; expected auto, cpu or"):
        share_of(Compute(device="cuda:1", processes=2), local=0, here=2)


def test_a_plan_says_how_many_work() -> None:
    assert str(Plan(7, 2, 0, ranks=Ranks(0, 3))).endswith(
        "7 windows at a time on each of 2 threads of each of 3 processes"
    )
