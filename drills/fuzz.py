"""Malformed and hostile inputs by the thousand: `python -m drills.fuzz --count 5000`.

Every input goes through the command line, in this process. It must end well or with exit code 2 and one line that
helps; nothing may be written, inside the home or outside.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from drills.damage import TOKENS, Damage, cell, cut, damaged, delete, insert, lines, overwrite, repeat
from drills.inputs import AS_PARQUET, CSV, MATRICES, NAME, NPZ, PARQUET, STREAM, parquet, readings
from st_pipeline.cli import main as command
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME, JSON, Lake

HOSTILE = (
    "../../x",
    "/etc/passwd",
    "..",
    ".",
    "C:\\x",
    "x" * 10_000,
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'; DROP TABLE event_logs; --",
    "{{ 7 * 7 }}",
    "${HOME}",
    "%s%n",
    "a|b",
    "[x](javascript:alert(1))",
    "=1+1",
    "-rf",
    "\u202ex",
    "a\tb",
    "NULL",
    "\N{SNOWMAN}",
)
Files = Mapping[str, str | bytes]


@dataclass(frozen=True)
class Input:
    """Files of the stream `small`, and what is called with them."""

    files: Files
    call: tuple[str, ...] = ("check", NAME)


def damage(chance: random.Random, *, text: bool) -> list[Damage]:
    """One to three changes."""
    token = chance.choice([*(one.encode() for one in (*TOKENS, *HOSTILE)), chance.randbytes(chance.randint(1, 4))])
    kinds: list[Callable[[float], Damage]] = [
        lambda place: overwrite(place, token),
        lambda place: insert(place, token),
        lambda place: delete(place, chance.randint(1, 80)),
        lambda place: repeat(place, chance.randint(1, 80)),
        cut,
    ]
    if text:
        kinds.append(lambda place: lines(place, chance.random(), chance.choice(["delete", "repeat", "swap"])))
        kinds.append(lambda place: cell(place, chance.randint(0, 3), token))
    return [chance.choice(kinds)(chance.random() * 0.999) for _ in range(chance.randint(1, 3))]


def _spoilt(files: Mapping[str, Any], name: str, chance: random.Random, stream: str) -> Input:
    content = files[name] if isinstance(files[name], bytes) else files[name].encode()
    bad = damaged(content, damage(chance, text=name.endswith(".csv")))
    return Input({**files, name: bad, "stream.yaml": stream})


def _replaced(text: str, edits: Mapping[str, str]) -> str:
    for right, wrong in edits.items():
        text = text.replace(right, wrong, 1)
    return text


def _table(chance: random.Random) -> Input:
    return _spoilt(CSV, chance.choice(list(CSV)), chance, STREAM)


def _parquet(chance: random.Random) -> Input:
    return _spoilt(PARQUET, "readings.parquet", chance, _replaced(STREAM, AS_PARQUET))


def _npz(chance: random.Random) -> Input:
    return _spoilt(NPZ, chance.choice(list(NPZ)), chance, MATRICES)


def _yaml(chance: random.Random) -> Input:
    text, files = chance.choice([(STREAM, CSV), (MATRICES, NPZ)])
    if chance.random() < 0.5:
        return Input({**files, "stream.yaml": damaged(text.encode(), damage(chance, text=True))})
    words = [word.strip("{},") for word in text.split() if not word.endswith(":")]
    bad = repr(chance.choice(HOSTILE)) if chance.random() < 0.7 else chance.choice(["{}", "[]", "-1", "1e999", "!!x y"])
    return Input({**files, "stream.yaml": text.replace(chance.choice(words), bad, 1)})


def _ids(chance: random.Random) -> Input:
    """A hostile id in all files at once: the stream is good, its sensor has a strange name."""
    name = '"' + chance.choice(HOSTILE).replace('"', '""') + '"'
    files: dict[str, str | bytes] = {}
    for file, content in CSV.items():
        files[file] = content.replace("\na,", f"\n{name},").replace(",a,", f",{name},")
    if chance.random() < 0.5:
        return Input({**files, "stream.yaml": STREAM})
    whole = parquet(readings().replace("\na,", f"\n{name},"))
    return Input({**files, "readings.parquet": whole, "stream.yaml": _replaced(STREAM, AS_PARQUET)})


def _call(chance: random.Random) -> Input:
    bad = chance.choice(HOSTILE)
    calls = [
        ("check", bad),
        ("run", bad),
        ("report", bad),
        ("leaderboard", bad),
        ("explain", NAME, bad),
        ("explain", NAME, "a", "--at", bad),
        ("report", NAME, "--period", bad),
        ("run", NAME, "--periods", bad),
        ("run", NAME, "--models", bad),
        ("run", NAME, "--data", f"{bad}/nowhere"),
        ("new", bad, "--readings", "readings.csv"),
        ("new", "other", "--readings", bad),
        ("restore", bad),
        (bad,),
    ]
    return Input({**CSV, "stream.yaml": STREAM}, chance.choice(calls))


KINDS = {"csv": _table, "parquet": _parquet, "npz": _npz, "yaml": _yaml, "ids": _ids, "calls": _call}


@contextmanager
def surroundings(folder: Path) -> Iterator[None]:
    """An environment in which only the drill's own stream is found."""
    from st_pipeline import streams

    own = {"ST_PIPELINE_HOME": folder / "home", "ST_PIPELINE_STREAMS": folder / "streams", "ST_PIPELINE_DATA": folder}
    kept, shipped, place = dict(os.environ), streams.SHIPPED, Path.cwd()
    os.environ.update({name: str(path) for name, path in own.items()})
    streams.SHIPPED = folder / "none"
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(place)
        streams.SHIPPED = shipped
        os.environ.clear()
        os.environ.update(kept)


def fault_of(one: Input, folder: Path) -> str | None:
    """What an input does that it must not; None if it ends as it should."""
    own = folder / "streams" / NAME
    own.mkdir(parents=True, exist_ok=True)
    for old in own.iterdir():
        old.unlink()
    for name, content in one.files.items():
        (own / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    before = _listed(folder)
    done = CliRunner().invoke(command, list(one.call))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        return f"{type(done.exception).__name__}: {done.exception}"[:300]
    said = done.stderr.removesuffix("\n")
    if done.exit_code not in (0, 2) or "Traceback" in done.output:
        return f"exit code {done.exit_code}: {done.output[-300:]}"
    if done.exit_code == 2 and not (said and (said.isprintable() or said.startswith("Usage:"))):
        return f"not one line: {said[:300]!r}"
    return "something was written" if _listed(folder) != before else None


def _listed(folder: Path) -> set[tuple[str, int]]:
    """Everything in the drill's folder and its neighbours, with sizes."""
    found = [*folder.rglob("*"), *folder.parent.glob("*")]
    return {(str(path), path.lstat().st_size if path.is_file() else 0) for path in found}


def stored_fault(chance: random.Random, folder: Path) -> str | None:
    """What a damaged file of the lake does that it must not, when it is read."""
    import polars as pl

    lake, codec = Lake(folder / "lake"), chance.choice([FRAME, JSON])
    value = pl.DataFrame({"a": [1, 2], "b": ["x", None]}) if codec is FRAME else {"a": [1, {"b": None}]}
    lake.write(("s", "a"), "p", codec, damaged(codec.dump(value), damage(chance, text=False)))
    try:
        lake.read(("s", "a"), "p", codec)
    except InputError as error:
        return None if str(error).isprintable() else f"not one line: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"[:300]
    return None


def drill(count: int, seed: int, folder: Path, told: Callable[[str], object] = print) -> tuple[Counter[str], list[str]]:
    """How many inputs of each kind there were, and what went wrong."""
    chance, counts, faults = random.Random(seed), Counter[str](), list[str]()
    work = folder / "drill"
    work.mkdir()
    with surroundings(work):
        for number in range(count):
            kind = chance.choice([*KINDS, "json"])
            state = random.Random(f"{seed} {number}")
            fault = stored_fault(state, folder / "stored") if kind == "json" else fault_of(KINDS[kind](state), work)
            counts[kind] += 1
            if fault:
                faults.append(f"{kind} {seed} {number}: {fault}")
                told(faults[-1])
    return counts, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0)
    asked, begin = parser.parse_args(), time.monotonic()
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        counts, faults = drill(asked.count, asked.seed, Path(folder))
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items()))
    print(f"{sum(counts.values())} inputs ({kinds}) in {time.monotonic() - begin:.0f} s: {len(faults)} faults")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
