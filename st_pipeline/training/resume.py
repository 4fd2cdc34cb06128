"""Files from which a training that was cut off goes on as if it had not been.

`resume/<stream>/<model>/<period>/` under the home holds, for each seed, where its training stands, or what came of it
when it is finished. A file counts only for the same data, configuration, code, predecessor and starting weights.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import digest_of, encode_metadata, home, safetensors_metadata
from st_pipeline.training.checkpoint import Checkpoint
from st_pipeline.training.state import State
from st_pipeline.versions import VERSIONS

FORMAT = 1
SHARE = 0.02  # of the time that writing states may take
WORTH = 1.0  # seconds of training from which on its result is kept until the lake has it
LOOK = 2.0  # seconds between two looks at whether another run has taken over
Saved = tuple[dict[str, Tensor], dict[str, Any]]


def resume_root() -> Path:
    """`ST_PIPELINE_HOME/resume`."""
    return home() / "resume"


@dataclass
class Journal:
    """The files of one period's update of one model.

    Args:
        folder: of this update alone.
        every: seconds between two states; more where writing one takes long.
        check: raises where this process may no longer write.
        log: told in one line what is gone on with, and what is left aside.
        writes: whether this process keeps the files; others of the same training only read them.
    """

    folder: Path
    every: float
    check: Callable[[], object] = bool
    log: Callable[[str], object] = len
    writes: bool = True

    def of(self, seed: int) -> Record:
        """The files of one seed."""
        return Record(self, self.folder / f"{seed}.safetensors", self.folder / f"{seed}.finished.safetensors")

    def clear(self) -> None:
        """Remove everything; to be called when the results are stored.

        Raises:
            InputError: the folder cannot be removed.
        """
        try:
            shutil.rmtree(self.folder, ignore_errors=False)
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{self.folder}: cannot be removed: {error.strerror or error}") from None


@dataclass
class Record:
    """The files of one training.

    Attributes:
        running: its state.
        finished: its result.
        origin: what both belong to; set before anything is read or written.
        start: digest of what the training begins from, which the state belongs to as well.
    """

    journal: Journal
    running: Path
    finished: Path
    origin: Mapping[str, Any] = field(default_factory=dict)
    start: str = ""
    begun: float = field(default_factory=time.monotonic)
    written: float = field(default_factory=time.monotonic)
    looked: float = 0.0
    cost: float = 0.0  # seconds that writing took last

    def belong(self, **origin: Any) -> None:
        """Say what the files must be of, beside this code."""
        self.origin = {"format": FORMAT, "code": VERSIONS["model"], "torch": torch.__version__, **origin}

    def result(self) -> dict[str, Checkpoint] | None:
        """The parts that a finished training came to, if it is there."""
        found = self._read(self.finished)
        if found is None:
            return None
        tensors, document = found
        self.journal.log(f"{self.finished}: this training is finished already; its result is taken")
        return {
            part: Checkpoint(_of_part(part, tensors), one["facts"], one["cost"])
            for part, one in document["parts"].items()
        }

    def keep_result(self, parts: Mapping[str, Checkpoint]) -> None:
        """Keep what a training came to, if it took long enough to be worth it.

        Raises:
            InputError: the file cannot be written, or another run has taken over.
        """
        if not self.journal.writes or time.monotonic() - self.begun < min(WORTH, self.journal.every):
            return
        tensors = {f"{part}/{name}": value for part, one in parts.items() for name, value in one.tensors.items()}
        facts = {part: {"facts": dict(one.facts), "cost": dict(one.cost)} for part, one in parts.items()}
        self._write(self.finished, tensors, {"parts": facts})

    def restore(self, state: State, start: str) -> None:
        """Bring a training to where it stood; leave it at its beginning where nothing fits.

        Args:
            start: digest of what it begins from: weights, what the strategy chose and remembers.
        """
        self.start = start
        if found := self._read(self.running, start=start):
            tensors, document = found
            state.load(tensors, document["state"])
            self.journal.log(f"{self.running}: goes on in {state.place}")
        self.written = time.monotonic()

    def keep(self, state: State) -> None:
        """Write the state if it is time.

        Raises:
            InputError: the file cannot be written, or another run has taken over.
        """
        if not self.journal.writes:
            return
        now = time.monotonic()
        if now - self.looked > LOOK:
            self.looked = now
            self.journal.check()
        if now - self.written >= max(self.journal.every, self.cost / SHARE):
            self._write(self.running, state.tensors(), {"state": state.document()}, start=self.start)
            self.written = time.monotonic()
            self.cost = self.written - now

    def _write(self, path: Path, tensors: Mapping[str, Tensor], document: dict[str, Any], **origin: str) -> None:
        self.journal.check()
        document = {**document, "origin": {**self.origin, **origin}}
        tensors = {name: value.detach().cpu().clone().contiguous() for name, value in tensors.items()}
        content = Checkpoint(tensors, document, {}).digest
        write_atomic(path, save_safetensors(tensors, encode_metadata({**document, "content": content})))

    def _read(self, path: Path, **origin: str) -> Saved | None:
        """Tensors and document of a file; one that is damaged or of something else is removed, with a line of log."""
        try:
            tensors, document = _decoded(path.read_bytes())
        except FileNotFoundError:
            return None
        except Exception as error:  # any decoder's complaint means the same
            self._discard(path, f"damaged ({type(error).__name__})")
            return None
        was, now = document["origin"], {**self.origin, **origin}
        if other := sorted(name for name in was | now if digest_of(was.get(name)) != digest_of(now.get(name))):
            self._discard(path, f"of other {', '.join(other)}")
            return None
        return tensors, document

    def _discard(self, path: Path, reason: str) -> None:
        if not self.journal.writes:
            return
        self.journal.log(f"{path}: {reason}; ignored and removed, the training begins anew")
        with suppress(OSError):  # a folder that cannot be written is told of by the next write
            path.unlink()


def _decoded(payload: bytes) -> Saved:
    """Tensors and document of a file.

    Raises:
        ValueError: they are not what was written.
    """
    document, tensors = safetensors_metadata(payload), load_safetensors(payload)
    content = document.pop("content")
    if Checkpoint(tensors, document, {}).digest != content:
        raise ValueError("content differs from its digest")
    return tensors, document


def _of_part(part: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    start = f"{part}/"
    return {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
