"""One period's update of one model by several processes of this machine, started by torch's elastic launcher.

The launcher is that of `torchrun`. What the processes are told and tell lies in a folder of their own, so that none
can leave a half of it behind: lines of log, sentences of errors, the result.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.progress import listening, tell
from st_pipeline.training.checkpoint import CHECKPOINTS, BySeed
from st_pipeline.training.compute import Compute
from st_pipeline.training.ranks import Deserted, joined, share_of
from st_pipeline.training.resume import Journal

Log = Callable[[str], object]
Update = Callable[[Compute, Log, Journal | None], Mapping[str, BySeed]]
POLL = 0.2  # seconds between two looks at what the processes have told
STAY = 5.0  # seconds that a process waits, whose fellow has gone, for the launcher to see which was the first
UNHANDLED = "SIGUSR2"  # the launcher would take over the signals by which Dagster ends a step


@dataclass(frozen=True)
class Work:
    """What each process is handed."""

    update: Update
    folder: Path
    compute: Compute
    journal: Journal | None
    launcher: int

    def __call__(self) -> None:
        """Do a process's share; the first one writes the result."""
        rank = int(os.environ["RANK"])
        try:
            with joined(self.compute, meeting=f"file://{self.folder / 'meeting'}") as compute:
                self._update(compute)
        except Deserted:
            time.sleep(STAY)
            sys.exit(1)
        except InputError as error:
            write_atomic(self.folder / f"{rank}.error", str(error).encode())
            sys.exit(1)

    def _update(self, compute: Compute) -> None:
        first = compute.ranks.first
        with (self.folder / "told").open("a") if first else Path(os.devnull).open("w") as told:

            def say(what: str, text: str) -> None:
                told.write(json.dumps([what, text]) + "\n")
                told.flush()

            def log(text: str) -> None:
                say("", text)

            journal = self.journal and replace(self.journal, check=self._check, log=log, writes=first)
            with listening(say):
                parts = self.update(compute, log, journal)
        if first:
            for part, by_seed in parts.items():
                write_atomic(self.folder / f"{part}.safetensors", CHECKPOINTS.dump(by_seed))

    def _check(self) -> None:
        """Refuse to go on where nobody waits for the result, or another run has taken over.

        Raises:
            InputError: so it is.
        """
        if os.getppid() != self.launcher:
            raise InputError(f"the process that started this training (pid {self.launcher}) has gone")
        if self.journal:
            self.journal.check()


def train_together(
    update: Update, *, what: str, compute: Compute, log: Log, journal: Journal | None
) -> dict[str, dict[int, Any]]:
    """What `update` comes to in `compute.processes` processes.

    Args:
        update: called in each with its limits, log and journal; it and the journal's `check` must be picklable.
        what: is trained, for people.

    Returns:
        part -> seed -> checkpoint.

    Raises:
        InputError: a process refused, or ended; what it had saved is gone on from next time.
    """
    share_of(compute, local=0, here=compute.processes)
    with TemporaryDirectory(prefix="st_pipeline_") as name:
        folder = Path(name)
        handed = journal and replace(journal, log=len)
        work = Work(update, folder, compute, handed, os.getpid())
        with _replayed(folder / "told", log):
            _launch(work, what)
        return {path.stem: dict(CHECKPOINTS.load(path.read_bytes())) for path in folder.glob("*.safetensors")}


def _launch(work: Work, what: str) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed.elastic").setLevel(logging.ERROR)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=work.compute.processes,
        run_id="training",
        rdzv_backend="c10d",
        rdzv_endpoint=str(work.folder / "rendezvous"),
        rdzv_configs={"store_type": "file"},  # a TCP store would listen to every network
        max_restarts=0,
        local_addr="127.0.0.1",
        signals_to_handle=UNHANDLED,
    )
    try:
        elastic_launch(config, work.__call__)()
    except ChildFailedError as error:
        raise InputError(f"{what}: {_reason(work, error.failures)}") from None


def _reason(work: Work, failures: Mapping[int, Any]) -> str:
    """The first process's sentence, or how the one ended that ended first."""
    for path in sorted(work.folder.glob("*.error")):
        return path.read_text()
    rank, failure = next(iter(failures.items()))
    how = f"was ended by {failure.signal_name()}" if failure.exitcode < 0 else f"ended with code {failure.exitcode}"
    kept = "what was saved of the training is gone on from" if work.journal else "nothing of it is stored"
    text = f"process {rank} of the {work.compute.processes} that train it {how}"
    if failure.exitcode > 0 and failure.message:
        text += f" ({str(failure.message).strip().splitlines()[-1][:300]})"
    return f"{text}; its output is in the step's log; {kept} when this is materialised again"


@contextmanager
def _replayed(path: Path, log: Log) -> Iterator[None]:
    """Meanwhile, and at the end, what the first process has told is told here."""
    over = Event()
    path.touch()

    def follow() -> None:
        with path.open() as file:
            rest, last = "", False
            while not last:
                last = over.wait(POLL)
                *lines, rest = (rest + file.read()).split("\n")
                for line in lines:
                    told, text = json.loads(line)
                    tell(told, text) if told else log(text)

    thread = Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
