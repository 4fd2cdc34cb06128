"""Backup and restore: the drill, archives that must not be restored, and writing while the backup is taken."""

from __future__ import annotations

import io
import json
import shutil
import sqlite3
import tarfile
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from click.testing import CliRunner

from resources.backup import MANIFEST, back_up, restore, verify
from st_pipeline.cli import main
from st_pipeline.errors import InputError
from st_pipeline.files import write_atomic
from st_pipeline.storage import FRAME

RunSmall = Callable[[], Any]
Edit = Callable[[tarfile.TarInfo, bytes], tuple[tarfile.TarInfo, bytes] | None]


def lake(home: Path) -> dict[str, bytes]:
    return {str(file.relative_to(home)): file.read_bytes() for file in (home / "lake").rglob("*") if file.is_file()}


def call(*arguments: str) -> Any:
    done = CliRunner().invoke(main, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


@pytest.fixture
def plain(workspace: Any) -> Any:
    """A home with two files and a database."""
    for name, text in (("lake/s/a.json", "1"), ("dagster/dagster.yaml", "telemetry: {enabled: false}")):
        write_atomic(workspace.home / name, text.encode())
    with closing(sqlite3.connect(workspace.home / "dagster/runs.db")) as database, database:
        database.execute("CREATE TABLE runs (id INTEGER)")
    return workspace


def rewritten(source: Path, target: Path, edit: Edit, extra: list[tuple[tarfile.TarInfo, bytes]] | None = None) -> Path:
    """A copy of an archive whose members went through `edit`."""
    with (
        pa.CompressedInputStream(str(source), "gzip") as stream,
        tarfile.open(fileobj=stream, mode="r|") as old,
        tarfile.open(target, "w:gz") as new,
    ):
        for member in old:
            file = old.extractfile(member)
            assert file is not None
            if changed := edit(member, file.read()):
                changed[0].size = len(changed[1])
                new.addfile(changed[0], io.BytesIO(changed[1]))
        for member, payload in extra or []:
            member.size = len(payload) if member.isreg() else 0
            new.addfile(member, io.BytesIO(payload))
    return target


@pytest.mark.parametrize("ending", ["tar.zst", "tar.gz"])
def test_the_drill(lived_in: Any, run_small: RunSmall, ending: str) -> None:
    """Run, back up, destroy, restore: nothing to do, and the leaderboard's bytes are those of before."""
    target, home = lived_in.folder / f"saved.{ending}", lived_in.home
    write_atomic(home / "simulated/x/readings.parquet", b"raw")
    before = lake(home)
    told = call("backup", str(target))
    assert told["files"] > 20 and told["busy"] is None and target.stat().st_mode & 0o077 == 0
    shutil.rmtree(home)
    assert call("restore", str(target))["files"] == told["files"]
    assert lake(home) == before
    assert (home / "simulated/x/readings.parquet").read_bytes() == b"raw"
    if ending == "tar.zst":
        assert run_small().materialised == []
        assert lake(home) == before


def test_into_another_folder(plain: Any) -> None:
    target = plain.folder / "saved.tar.gz"
    back_up(plain.home, target)
    call("restore", str(target), "--into", str(plain.folder / "elsewhere"))
    assert lake(plain.folder / "elsewhere") == lake(plain.home)
    assert not [path for path in plain.folder.iterdir() if path.name.endswith(".tmp")]


def test_drafts_locks_and_what_lies_beside_databases_are_left_out(plain: Any) -> None:
    for name in ("lake/.a.json.1.tmp", "resume/s/m/p.lock", "resume/s/m/p.owner.json", "dagster/x.db-wal"):
        path = plain.home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    (plain.home / "lake/link").symlink_to("/etc/passwd")
    found = back_up(plain.home, plain.folder / "saved.tar.gz")["files"]
    assert set(found) == {"lake/s/a.json", "dagster/dagster.yaml", "dagster/runs.db"}


def test_secrets_of_the_environment_are_not_in_it(plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_WEBHOOK", "https://hooks.example/hunter2-secret")
    target = plain.folder / "saved.tar.gz"
    back_up(plain.home, target)
    with tarfile.open(target) as archive:
        contents = [file.read() for member in archive if (file := archive.extractfile(member))]
    assert len(contents) == 4 and not [content for content in contents if b"hunter2" in content]


def test_while_somebody_writes(plain: Any) -> None:
    """Databases and files change all the time: the archive's are whole, and its database is no newer than its files."""
    home, stop = plain.home, threading.Event()
    database = home / "dagster/history/runs/index.db"
    database.parent.mkdir(parents=True)
    with closing(sqlite3.connect(database)) as index, index:
        index.execute("PRAGMA journal_mode=WAL")
        index.execute("CREATE TABLE events (number INTEGER, filler TEXT)")

    def write() -> None:
        number = 0
        with closing(sqlite3.connect(database, timeout=30)) as index:
            while not stop.is_set():
                number += 1
                write_atomic(home / "lake/s/table.parquet", FRAME.dump(_table(number)))
                with index:
                    index.execute("INSERT INTO events VALUES (?, ?)", (number, "x" * 2000))

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for turn in range(8):
            target, again = plain.folder / f"{turn}.tar.gz", plain.folder / f"again{turn}"
            back_up(home, target)
            restore(target, again)
            with closing(sqlite3.connect(again / "dagster/history/runs/index.db")) as index:
                assert index.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                (count, last) = index.execute("SELECT count(*), coalesce(max(number), 0) FROM events").fetchone()
            assert count == last
            if (again / "lake/s/table.parquet").exists():
                assert FRAME.load((again / "lake/s/table.parquet").read_bytes())["a"][0] >= last
    finally:
        stop.set()
        writer.join()


def _table(number: int) -> Any:
    import polars as pl

    return pl.DataFrame({"a": [number] * 50})


def test_a_home_that_is_not_empty_is_left_alone(plain: Any) -> None:
    target = plain.folder / "saved.tar.gz"
    back_up(plain.home, target)
    before = lake(plain.home)
    done = CliRunner().invoke(main, ["restore", str(target)])
    assert done.exit_code == 2 and "is not empty" in done.output and "mv " in done.output and "--into" in done.output
    assert lake(plain.home) == before


def _link(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


HOSTILE = [
    tarfile.TarInfo("home/../../x"),
    tarfile.TarInfo("../x"),
    tarfile.TarInfo("/etc/x"),
    tarfile.TarInfo("home//etc/x"),
    tarfile.TarInfo("home/./x"),
    tarfile.TarInfo("home/"),
    tarfile.TarInfo("other"),
    _link("home/link", tarfile.SYMTYPE, "/etc/passwd"),
    _link("home/hard", tarfile.LNKTYPE, "home/lake/s/a.json"),
    _link("home/device", tarfile.CHRTYPE),
    _link("home/pipe", tarfile.FIFOTYPE),
    _link("home/folder", tarfile.DIRTYPE),
    tarfile.TarInfo("home/lake/s/a.json"),
]


@pytest.mark.parametrize("member", HOSTILE, ids=lambda member: repr(member.name))
def test_hostile_members(plain: Any, member: tarfile.TarInfo) -> None:
    target, evil = plain.folder / "saved.tar.gz", plain.folder / "evil.tar.gz"
    back_up(plain.home, target)
    rewritten(target, evil, lambda member, payload: (member, payload), [(member, b"evil")])
    before = set(plain.folder.rglob("*"))
    with pytest.raises(InputError, match=r"no plain file of a home|twice|differ from the manifest"):
        restore(evil, plain.folder / "deep" / "er" / "home")
    assert set(plain.folder.rglob("*")) == before, "nothing is written"


def _manifest_with(**changes: Any) -> Edit:
    def edit(member: tarfile.TarInfo, payload: bytes) -> tuple[tarfile.TarInfo, bytes]:
        return member, json.dumps({**json.loads(payload), **changes}).encode() if member.name == MANIFEST else payload

    return edit


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (_manifest_with(format=2), "is newer than this one .* install that one"),
        (_manifest_with(dagster="99.1"), "is newer than this one"),
        (_manifest_with(files=[]), "manifest differs from its digest"),
        (_manifest_with(format="x"), "manifest cannot be read"),
        (lambda member, payload: None if member.name == MANIFEST else (member, payload), "has no manifest"),
        (lambda member, payload: (member, b"[]") if member.name == MANIFEST else (member, payload), "cannot be read"),
        (lambda member, payload: (member, payload + b" ") if "a.json" in member.name else (member, payload), "1 files"),
        (lambda member, payload: None if "a.json" in member.name else (member, payload), r"1 files .*lake/s/a\.json"),
    ],
)
def test_archives_that_are_not_restored(plain: Any, edit: Edit, sentence: str) -> None:
    target, other = plain.folder / "saved.tar.gz", plain.folder / "other.tar.gz"
    back_up(plain.home, target)
    rewritten(target, other, edit)
    with pytest.raises(InputError, match=sentence):
        restore(other, plain.folder / "new")
    assert not (plain.folder / "new").exists()


@pytest.mark.parametrize("ending", ["tar.zst", "tar.gz"])
def test_every_cut_and_every_flipped_bit_is_told(plain: Any, ending: str) -> None:
    target, broken = plain.folder / f"saved.{ending}", plain.folder / f"broken.{ending}"
    back_up(plain.home, target)
    payload, whole = target.read_bytes(), verify(target)
    for place in range(0, len(payload), max(1, len(payload) // 40)):
        flipped = bytearray(payload)
        flipped[place] ^= 0x10
        for content in (payload[:place], bytes(flipped)):
            broken.write_bytes(content)
            try:
                assert verify(broken)["files"] == whole["files"]  # a bit that nothing reads, such as a time
            except InputError as error:
                assert str(broken) in str(error)


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("saved.zip", r"expected a name that ends in \.tar\.zst or \.tar\.gz"),
        ("home/saved.tar.gz", "lies in the home"),
        ("there.tar.gz", "is there already"),
        ("file/saved.tar.gz", "cannot be written"),
    ],
)
def test_places_that_are_no_target(plain: Any, target: str, sentence: str) -> None:
    (plain.folder / "there.tar.gz").write_bytes(b"x")
    (plain.folder / "file").write_bytes(b"x")
    with pytest.raises(InputError, match=sentence):
        back_up(plain.home, plain.folder / target)
    assert not list(plain.folder.rglob("*.tmp"))


def test_nothing_to_save_and_nothing_to_restore(workspace: Any) -> None:
    with pytest.raises(InputError, match="nothing to back up"):
        back_up(workspace.home, workspace.folder / "saved.tar.gz")
    with pytest.raises(InputError, match="no such file"):
        restore(workspace.folder / "saved.tar.gz", workspace.home)
