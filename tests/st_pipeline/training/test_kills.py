"""kill -9 of a process in training, at random and in the middle of writing a state, again until it ends."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.storage import Codec

CODECS: dict[str, Codec[Any]] = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
ROOT = Path(__file__).resolve().parents[3]
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
            "backbone": {"name": "stid", "layers": 1},
            "strategy": "online",
            "training": {"epochs": 4, "batch": 12, "patience": 9},
            "seeds": [5, 3],
        }
    ],
}
NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path
from st_pipeline.config import StreamConfig
from st_pipeline.data.adjacency import ADJACENCY
from st_pipeline.data.lives import NODE_SET
from st_pipeline.data.tensors import TENSOR
from st_pipeline.training import resume
from st_pipeline.training.claims import claimed
from st_pipeline.training.compute import Compute
from st_pipeline.training.updates import update

folder, chance = Path(sys.argv[1]), random.Random(1)
stream = StreamConfig.model_validate(json.loads((folder / "stream.json").read_text()))
codecs = {"tensor": TENSOR, "adjacency": ADJACENCY, "node_set": NODE_SET}
network = {name: {"2024-01-01": codec.load((folder / name).read_bytes())} for name, codec in codecs.items()}
resume.SHARE, replace = float("inf"), Path.replace

def train(name, fatal):
    renames = 0

    def dying(self, target):
        nonlocal renames
        renames += str(target).endswith(".safetensors")
        if renames == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(self, target)

    Path.replace = dying if fatal else replace
    log = (folder / f"{name}.log").open("a", buffering=1)
    told = lambda text: print(text, file=log)
    with claimed(folder / name / "1.lock", what="small/model", run=str(os.getpid())) as claim:
        journal = resume.Journal(folder / name / "1", every=0.05, check=claim.check, log=told)
        given = {"network": network, "previous": {}, "compute": Compute("cpu", threads=1), "journal": journal}
        parts = update(stream, stream.models[0], "2024-01-01", **given)
        journal.clear()
    (folder / f"{name}.json").write_text(json.dumps([one.digest for one in parts["backbone"].values()]))

def forked(name, fatal=0, delay=None):
    pid = os.fork()
    if pid == 0:
        train(name, fatal)
        os._exit(0)
    if delay is not None:
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

begin = time.monotonic()
ends = [forked("undisturbed")]
usual = time.monotonic() - begin
ends += [forked("killed", fatal=place) for place in (1, 4, 9)]
ends += [forked("killed", delay=chance.uniform(0, usual / 3)) for _ in range(5)]
ends += [forked("killed")]
print(json.dumps(ends))
"""


def test_killed_until_it_ends_it_gives_the_weights_of_an_undisturbed_run(make_history, stored, tmp_path: Path) -> None:
    network = stored(make_history(StreamConfig.model_validate(STREAM)))
    (tmp_path / "stream.json").write_text(json.dumps(STREAM))
    for name, codec in CODECS.items():
        (tmp_path / name).write_bytes(codec.dump(network[name]["2024-01-01"]))
    command = [sys.executable, "-c", NURSERY, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
    first, *killed, last = json.loads(done.stdout)
    assert (first, last) == (0, 0)
    assert killed[:3] == [-signal.SIGKILL] * 3  # between the file of a state and its name
    assert set(killed[3:]) <= {-signal.SIGKILL, 0}
    log = (tmp_path / "killed.log").read_text()
    assert "goes on in epoch" in log and "damaged" not in log
    assert (tmp_path / "killed.json").read_text() == (tmp_path / "undisturbed.json").read_text()
    assert not (tmp_path / "killed" / "1").exists()
