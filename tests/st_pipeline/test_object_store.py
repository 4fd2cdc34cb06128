"""A lake at a URL, against a real server: the bytes of a folder, nothing remembered, complaints in one sentence."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from st_pipeline.errors import InputError
from st_pipeline.forecasting.published import Published
from st_pipeline.forecasting.serving import lock_file
from st_pipeline.landing.periods import landed_from
from st_pipeline.storage import FRAME, HTML, JSON, Lake, dump_frame, home, lake
from st_pipeline.streams import find_stream

KEY = ("net", "model", "table")
TABLE = pl.DataFrame({"file": ["raw/a.csv", "raw/b.csv"], "number": [1, 2]})


def other_machine(code: str) -> str:
    """What another process prints, which has the same lake."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ, check=True)
    return done.stdout.strip()


@pytest.mark.parametrize(("codec", "value"), [(FRAME, TABLE), (JSON, {"a": [1, None]}), (HTML, "<p>\u00fc</p>")])
def test_an_object_has_the_bytes_of_the_file(bucket: str, codec: Any, value: Any) -> None:
    folder, payload, described = Lake(home() / "folder"), codec.dump(value), b"{}" if codec is not JSON else b""
    here = folder.write(KEY, "2024", codec, payload, description=described)
    there = lake().write(KEY, "2024", codec, payload, description=described)
    assert str(there) == f"{bucket}/net/model/table/2024.{codec.extension}"
    assert lake().files.below(lake().root).keys() == folder.files.below(folder.root).keys()
    assert lake().files.read(there) == Path(str(here)).read_bytes()
    assert lake().payload(KEY, "2024", codec) == payload
    found = lake().read(KEY, "2024", codec)
    assert found.equals(value) if codec is FRAME else found == value


def test_what_is_there_and_since_when(bucket: str) -> None:
    assert lake().periods(KEY, "parquet") == [] and lake().stat(KEY, "b", FRAME) is None
    assert not lake().exists(("net",), None, JSON)
    for period in ("b", "a"):
        lake().write(KEY, period, FRAME, dump_frame(TABLE), description=b"{}")
    assert lake().periods(KEY, "parquet") == ["a", "b"]
    size, changed = lake().stat(KEY, "a", FRAME) or (0, 0)
    assert size == len(lake().files.read(lake().path(KEY, "a", "parquet")))
    assert abs(changed / 1e9 - time.time()) < 60
    assert not lake().exists(("net", "model"), None, JSON), "a folder is no file"
    assert lake().scan(KEY, "a").select(pl.col("number").sum()).collect().item() == 3
    with pytest.raises(InputError, match=r"s3://.*c\.parquet: not there; materialise net/model/table of c first"):
        lake().read(KEY, "c", FRAME)


def test_what_another_machine_writes_is_seen_at_once(bucket: str) -> None:
    assert lake().periods(KEY, "json") == []
    write = "from st_pipeline.storage import *; lake().write(('net','model','table'), {!r}, JSON, {!r})"
    other_machine(write.format("a", b"[1]"))
    assert lake().periods(KEY, "json") == ["a"] and lake().read(KEY, "a", JSON) == [1]
    before = lake().stat(KEY, "a", JSON)
    other_machine(write.format("a", b"[1, 2]"))
    assert lake().read(KEY, "a", JSON) == [1, 2] and lake().stat(KEY, "a", JSON) != before


def test_a_client_does_not_cross_a_fork(bucket: str) -> None:
    code = """
import os
from st_pipeline.storage import JSON, lake
lake().write(("net", "x"), None, JSON, b"[1]")
child = os.fork()
if not child:
    lake().write(("net", "x"), None, JSON, b"[2]")
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(lake().read(("net", "x"), None, JSON))
"""
    assert other_machine(code) == "[2]"


def test_a_damaged_object_is_one_sentence(bucket: str) -> None:
    lake().write(KEY, "a", FRAME, b"PAR1 no such thing")
    with pytest.raises(InputError, match=rf"^{bucket}/net/model/table/a\.parquet: damaged .*materialise it again$"):
        lake().read(KEY, "a", FRAME)


def test_publishing_refuses_what_another_process_has_published(bucket: str) -> None:
    found = Published.read(lake(), ("net", "forecast"), "2024")
    found.check()
    lake().write(("net", "forecast"), "2024", FRAME, dump_frame(TABLE))
    with pytest.raises(InputError, match=f"{bucket}/net/forecast/2024.parquet: another process has published"):
        found.check()
    with pytest.raises(InputError, match="its columns are file, number"):
        Published.read(lake(), ("net", "forecast"), "2024")


def test_landed_rows_name_their_files(bucket: str) -> None:
    lake().write(("net", "raw_readings"), "2024", FRAME, dump_frame(TABLE))
    assert landed_from(lake(), "net", ["b.csv"]) == ["2024"] and landed_from(lake(), "net", ["c.csv"]) == []


@pytest.mark.parametrize("url", ["gs://bucket/x", "s3://", "s3://b", "s3://lake/../x", "s3://lake/a b", "http://a/b"])
def test_other_addresses_are_refused(workspace: Any, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_LAKE", url)
    with pytest.raises(InputError, match=r"ST_PIPELINE_LAKE is .*expected a folder, or s3://BUCKET/PREFIX"):
        lake()


def test_a_lake_may_be_another_folder(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_LAKE", str(workspace.folder / "elsewhere"))
    lake().write(KEY, None, JSON, b"[1]")
    assert (workspace.folder / "elsewhere/net/model/table.json").exists() and not (workspace.home / "lake").exists()


@pytest.mark.parametrize("key", [("net", "../x"), ("net", "a/b"), ("net", "")])
def test_keys_cannot_leave_the_prefix(bucket: str, key: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match="cannot be part of a path"):
        lake().write(key, None, JSON, b"1")


def test_a_missing_bucket_and_wrong_keys_are_one_sentence(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ST_PIPELINE_LAKE", "s3://no-such-bucket/x")
    with pytest.raises(InputError, match="there is no such bucket; make it, or set ST_PIPELINE_LAKE otherwise"):
        lake().write(KEY, None, JSON, b"1")


def test_a_store_that_is_away_is_never_an_empty_lake(bucket: str) -> None:
    code = """
import os
os.environ["AWS_ENDPOINT_URL"] = "http://127.0.0.1:9"
os.environ["AWS_MAX_ATTEMPTS"] = "1"
from st_pipeline.errors import InputError
from st_pipeline.storage import JSON, lake
said = 0
for ask in (lambda: lake().exists(("net", "x"), None, JSON), lambda: lake().write(("net", "x"), None, JSON, b"1"),
            lambda: lake().periods(("net", "x"), "json"), lambda: lake().read(("net", "x"), None, JSON)):
    try:
        ask()
    except InputError as error:
        said += "the object store cannot be used: " in str(error) and "AWS_ENDPOINT_URL" in str(error)
print(said)
"""
    assert other_machine(code) == "4"


def test_a_home_whose_lake_moved_to_a_bucket_goes_on(
    lived_in: Any, object_store: dict[str, str], run_small: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from resources.duckdb import DuckDBResource
    from st_pipeline.training.checkpoint import CHECKPOINTS

    local = Lake(lived_in.home / "lake")
    for name, value in {**object_store, "ST_PIPELINE_LAKE": "s3://lake/moved"}.items():
        monkeypatch.setenv(name, value)
    for name in local.files.below(local.root):
        lake().files.write(lake().root / name, local.files.read(Path(str(local.root)) / name))
    assert run_small().materialised == []
    key, period = ("small", "online", "backbone"), local.periods(("small", "online", "backbone"), "safetensors")[-1]
    gone = lake().path(key, period, "safetensors")
    gone.unlink()
    outcome = run_small()
    assert outcome.ok and f"small/online/backbone of {period}" in outcome.materialised
    old, new = (store.read(key, period, CHECKPOINTS) for store in (local, lake()))
    assert [one.digest for one in old.values()] == [one.digest for one in new.values()]
    with DuckDBResource().connect() as connection:
        rows = connection.execute("SELECT DISTINCT file_period FROM small.readings ORDER BY 1").fetchall()
    assert [row[0] for row in rows] == local.periods(("small", "readings"), "parquet")
    assert lock_file(find_stream("small").config).is_relative_to(lived_in.home), "a bucket has no locks"
    refused = lived_in.command("backup", "saved.tar.gz")
    assert refused.returncode == 2 and "the results lie at s3://lake/moved" in refused.stderr
    assert not (lived_in.folder / "saved.tar.gz").exists()
