"""The IO managers: paths, what is loaded, and that nobody ever sees a part of a file."""

import threading
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from assets.common import encoded
from resources.lake import AVAILABLE, HISTORY, PREVIOUS, History, LakeIOManager, io_managers, lake
from st_pipeline.errors import InputError
from st_pipeline.storage import FRAME, JSON

DAYS = dg.DailyPartitionsDefinition(start_date="2024-01-01", end_date="2024-01-04")
KEYS = ["2024-01-01", "2024-01-02", "2024-01-03"]
THROUGH = dg.TimeWindowPartitionMapping(start_offset=-9, end_offset=0)
BEFORE = dg.TimeWindowPartitionMapping(start_offset=-1, end_offset=-1)


@dg.asset(key=["net", "numbers"], partitions_def=DAYS, io_manager_key="documents")
def numbers(context: dg.AssetExecutionContext) -> dg.Output[Any]:
    return encoded({"day": context.partition_key}, JSON, {})


@dg.asset(key=["net", "constants"], io_manager_key="documents")
def constants() -> dg.Output[Any]:
    return encoded({"pi": 3}, JSON, {})


@dg.asset(
    key=["net", "model", "sums"],
    partitions_def=DAYS,
    io_manager_key="documents",
    ins={
        "now": dg.AssetIn(["net", "numbers"]),
        "fixed": dg.AssetIn(["net", "constants"]),
        "own": dg.AssetIn(["net", "model", "sums"], partition_mapping=BEFORE, metadata=PREVIOUS),
    },
)
def sums(now: Any, fixed: Any, own: Any) -> dg.Output[Any]:
    return encoded({"now": now, "fixed": fixed, "own": own}, JSON, {})


@dg.asset(
    key=["net", "story"],
    partitions_def=DAYS,
    io_manager_key="documents",
    ins={"every": dg.AssetIn(["net", "numbers"], partition_mapping=THROUGH, metadata=HISTORY)},
)
def story(every: Any) -> dg.Output[Any]:
    return encoded({key: value["day"] for key, value in every.items()}, JSON, {})


@dg.asset(
    key=["net", "board"],
    io_manager_key="documents",
    ins={"every": dg.AssetIn(["net", "numbers"], metadata=AVAILABLE)},
)
def board(every: Any) -> dg.Output[Any]:
    return encoded(sorted(every), JSON, {})


ASSETS = [numbers, constants, sums, story, board]


def make(asset: dg.AssetsDefinition, period: str | None = None) -> dg.ExecuteInProcessResult:
    return dg.materialize(
        ASSETS, selection=[asset], partition_key=period, resources=io_managers(), raise_on_error=False
    )


def sentence(result: dg.ExecuteInProcessResult) -> str:
    (event,) = result.filter_events(lambda event: event.is_step_failure)
    assert event.step_failure_data.user_failure_data is not None, event.step_failure_data.error
    return str(event.step_failure_data.user_failure_data.description)


def test_paths_are_those_of_the_architecture(workspace: Any) -> None:
    for key in KEYS[:2]:
        assert make(numbers, key).success
    assert make(constants).success
    for key in KEYS[:2]:
        assert make(sums, key).success
    assert workspace.files() == {
        "net/constants.json",
        *(f"net/numbers/{key}.json" for key in KEYS[:2]),
        *(f"net/model/sums/{key}.json" for key in KEYS[:2]),
    }


def test_previous_is_the_value_of_the_period_before(workspace: Any) -> None:
    for key in KEYS[:2]:
        make(numbers, key)
    make(constants)
    for key in KEYS[:2]:
        assert make(sums, key).success
    one, two = (lake().read(("net", "model", "sums"), key, JSON) for key in KEYS[:2])
    assert one == {"now": {"day": KEYS[0]}, "fixed": {"pi": 3}, "own": None}
    assert two["own"] == one


def test_a_missing_predecessor_is_one_sentence(workspace: Any) -> None:
    make(numbers, KEYS[1])
    make(constants)
    result = make(sums, KEYS[1])
    path = workspace.home / "lake/net/model/sums/2024-01-01.json"
    assert sentence(result) == f"{path}: not there; materialise net/model/sums of 2024-01-01 first"


def test_history_wants_every_period_and_available_takes_what_is_there(workspace: Any) -> None:
    for key in (KEYS[0], KEYS[2]):
        make(numbers, key)
    assert make(board).success
    assert lake().read(("net", "board"), None, JSON) == [KEYS[0], KEYS[2]]
    assert "materialise net/numbers of 2024-01-02 first" in str(make(story, KEYS[2]).all_events)
    make(numbers, KEYS[1])
    assert make(story, KEYS[2]).success
    assert lake().read(("net", "story"), KEYS[2], JSON) == {key: key for key in KEYS}


def test_history_reads_when_asked_and_is_in_order(workspace: Any) -> None:
    lake().write(("net", "numbers"), "b", JSON, b"2")
    history = History(("net", "numbers"), ["b", "a"], JSON)
    assert list(history) == ["a", "b"] and len(history) == 2 and history["b"] == 2
    with pytest.raises(KeyError):
        history["c"]
    with pytest.raises(InputError, match="materialise net/numbers of a first"):
        history["a"]


def test_a_damaged_file_is_one_sentence(workspace: Any) -> None:
    make(numbers, KEYS[0])
    make(constants)
    path = workspace.home / "lake/net/numbers/2024-01-01.json"
    path.write_text('{"day": ')
    found = sentence(make(sums, KEYS[0]))
    assert found.startswith(f"{path}: damaged (") and found.endswith("; materialise it again") and "\n" not in found


@pytest.mark.parametrize("name", ["tensors", "graphs", "checkpoints", "node_sets", "frames", "pages", "documents"])
def test_every_codec_refuses_a_damaged_file_with_one_sentence(workspace: Any, name: str) -> None:
    manager = io_managers()[name]
    assert isinstance(manager, LakeIOManager)
    path = lake().write(("net", "x"), "p", manager.codec, b"\xff\xfe no such thing")
    with pytest.raises(InputError) as error:
        lake().read(("net", "x"), "p", manager.codec)
    assert str(error.value).startswith(f"{path}: damaged (") and "\n" not in str(error.value)


def test_a_failing_write_leaves_the_old_file_and_no_part(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    make(constants)
    path = workspace.home / "lake/net/constants.json"
    before = path.read_bytes()

    def full(self: Path, target: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    found = sentence(make(constants))
    assert "No space left on device; what was there before is intact" in found
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["constants.json"]


def test_a_reader_never_sees_a_part(workspace: Any) -> None:
    """Two contents of different length are written over each other while they are read."""
    texts = [JSON.dump(["a"] * 200_000), JSON.dump(["b"] * 10)]
    lake().write(("net", "x"), None, JSON, texts[0])
    stop = threading.Event()

    def write() -> None:
        for turn in range(60):
            lake().write(("net", "x"), None, JSON, texts[turn % 2])
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not stop.is_set():
        assert set(lake().read(("net", "x"), None, JSON)) in ({"a"}, {"b"})
    writer.join()


@pytest.mark.parametrize("part", ["..", "../x", "a/b", "", ".hidden", "a\0b", "/etc", "x..y", "~"])
def test_keys_cannot_leave_the_lake(workspace: Any, part: str) -> None:
    for key, period in (((part, "x"), None), (("net", part), None), (("net", "x"), part)):
        with pytest.raises(InputError, match="cannot be part of a path"):
            lake().write(key, period, JSON, b"1")
    assert not workspace.home.exists()


def test_an_output_says_where_it_lies_and_how_large_it_is(workspace: Any) -> None:
    result = make(constants)
    (event,) = result.asset_materializations_for_node("net__constants")
    path = workspace.home / "lake/net/constants.json"
    assert event.metadata["path"].value == str(path)
    assert event.metadata["bytes"].value == path.stat().st_size


def test_frames_come_back_as_they_were(workspace: Any) -> None:
    frame = pl.DataFrame({"a": [1.5, None], "b": ["x", "y"]})
    lake().write(("net", "frame"), "p", FRAME, FRAME.dump(frame))
    assert lake().read(("net", "frame"), "p", FRAME).equals(frame)
