"""Stream folders: each fault is told with file, line and field, and takes no other stream down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from st_pipeline.errors import InputError
from st_pipeline.streams import SHIPPED, find_stream, load_stream, load_streams

GOOD = """\
name: good
source:
  format: csv
  readings: readings.csv
  columns: {flow: q}
step: 1h
periods: {every: month, start: 2024-01-01, end: 2024-03-01}
variables:
  flow: {minimum: 0}
graph: {recipe: knn, k: 3}
models:
  - {name: eac, backbone: stgnn, prompt_pool: {rank: 6}, strategy: eac}
  - name: second
    backbone: {name: stgnn, calendar: true}
    strategy: retrain
    training: {epochs: 5}
"""
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a stream file into the folder of its name, or of another."""

    def into(text: str | bytes, folder: str = "good") -> Path:
        path = tmp_path / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "stream.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    return into


def sentence(folder: Path) -> str:
    """What is said of a broken stream, from the line on."""
    with pytest.raises(InputError) as caught:
        load_stream(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value).replace(f"{folder}/stream.yaml:", "").strip()


@pytest.mark.parametrize(
    "folder", sorted(path for path in SHIPPED.iterdir() if path.is_dir()), ids=lambda path: path.name
)
def test_every_shipped_stream_loads(folder: Path) -> None:
    stream = load_stream(folder)
    assert stream.name == folder.name
    assert stream.config.models
    assert stream.config.description
    periods = stream.config.calendar.periods()
    assert len({period.key for period in periods}) == len(periods) > 0


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("step: 1h", "stp: 1h", "6: stp: there is no such key; did you mean 'step'?"),
        ("step: 1h", "step: 1h\n'win dow': 5", "7: win dow: there is no such key; did you mean 'window'?"),
        ("format: csv", "fromat: csv", "2: source.format: is missing; ... found 'fromat', did you mean"),
        ("readings: r", "readngs: r", "4: source.readngs: ... no option 'readngs'; did you mean 'readings'?"),
        ("every:", "evry:", "7: periods.evry: there is no such key; did you mean 'every'?"),
        ("minimum:", "minimun:", "9: variables.flow.minimun: there is no such key; did you mean 'minimum'?"),
        ("k: 3", "kk: 3", "10: graph.kk: graph recipe 'knn': it has no option 'kk'; did you mean 'k'?"),
        ("rank:", "rnk:", "12: models.0.prompt_pool.rnk: there is no such key; did you mean 'rank'?"),
        ("calendar:", "calender:", "14: models.1.backbone.calender: ... did you mean 'calendar'?"),
        ("strategy: retrain", "stratgy: x", "15: models.1.stratgy: ... did you mean 'strategy'?"),
        ("epochs:", "epoch:", "16: models.1.training.epoch: there is no such key; did you mean 'epochs'?"),
        ("format: csv", "format: cvs", "2: source: there is no source format called 'cvs'; ... 'csv'"),
        ("recipe: knn", "recipe: kmn", "10: graph: there is no graph recipe called 'kmn'; ... 'knn'"),
        ("backbone: stgnn", "backbone: stgmn", "12: models.0.backbone: there is no backbone called 'stgmn'"),
        ("strategy: retrain", "strategy: retain", "15: models.1.strategy: ... did you mean 'retrain'?"),
        ("strategy: eac", "strategy: {name: eac, freeze: maybe}", "12: models.0.strategy.freeze: "),
        ("step: 1h\n", "", "1: step: is missing; expected the time between two readings, e.g. 5min"),
        ("    strategy: retrain\n", "", "13: models.1.strategy: is missing; expected what happens"),
    ],
)
def test_a_misspelt_or_missing_key_is_told_with_its_line(write: Write, right: str, wrong: str, expected: str) -> None:
    assert right in GOOD
    said = sentence(write(GOOD.replace(right, wrong, 1)))
    first, *rest = expected.split(" ... ")
    assert said.startswith(first)
    assert all(part in said for part in rest)


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        ("step: 1h", "step: 1h\nwindow: '12'", "7: window: found '12'; expected a whole number"),
        ("step: 1h", "step: 1h\nwindow:", "7: window: found nothing; expected a whole number"),
        ("step: 1h", "step: 1h\nwindow: 0", "7: window: found '0'; should be greater than or equal to 1"),
        ("step: 1h", "step: fast", "6: step: found 'fast'; expected a duration such as '5min', '1h' or '7d'"),
        ("step: 1h", "step: 9999999999999999999999d", "expected a duration such as '5min', '1h' or '7d'"),
        ("start: 2024-01-01", "start: 2024-02-30", "7: '2024-02-30' cannot be read: day is out of range"),
        ("start: 2024-01-01", "start: soon", "7: periods.start: found 'soon'; expected a day such as"),
        ("end: 2024-03-01", "end: 2024-03-15", "7: periods: end 2024-03-15 is inside a period; expected"),
        ("minimum: 0", "minimum: low", "9: variables.flow.minimum: found 'low'; expected a number"),
        ("minimum: 0", "sentinels: -1", "9: variables.flow.sentinels: found '-1'; expected a list such as"),
        ("  flow: {minimum: 0}", "  - flow", "8: variables: found a list; expected a section of"),
        ("columns: {flow: q}", "columns: {flow: 5}", "5: source.columns.flow: found '5'; expected text"),
        ("columns: {flow: q}", "columns: {flow: q, row: z}", "5: source.columns.row: 'row' is a column that"),
        ("k: 3", "k: three", "10: graph.k: graph recipe 'knn': option 'k': found 'three', should be a valid"),
        ("name: second", "name: eac", "11: models: two models are called 'eac'; expected one of each name"),
        ("name: second", "name: report", "13: models.1: a model cannot be called 'report'"),
        ("rank: 6", "rank: 6, rank: 7", "12: rank: given twice; keep one"),
        ("step: 1h", "step: 1h\nstep: 2h", "7: step: given twice; keep one"),
        ("step: 1h", "step: &fast 1h\ntimezone: *fast", "7: *fast: aliases are not read; write the values out"),
        ("step: 1h", "\tstep: 1h", "6: not valid YAML: found character '\\t' that cannot start any token; indent"),
        ("step: 1h", "step: 1h\n12: 5", "7: the key 12 is no text; quote it"),
        ("step: 1h", "step: 1h\nno: 5", "7: the key False is no text; quote it"),
        ("step: 1h", "step: !!python/object:os.system x", "6: 'x' cannot be read: could not determine"),
        ("step: 1h", "step: [1h", "7: not valid YAML: "),
        ("step: 1h", "step: 1h\n<<: {window: 5}", "7: '<<' cannot be read"),
        ("step: 1h", "step: " + "9" * 5000, "6: '999999"),
        ("name: good", "name: bad", "1: name: found 'bad', expected 'good', the name of its folder"),
        ("name: good", "name: no", "1: name: found 'False'; expected text"),
    ],
)
def test_a_wrong_value_is_told_with_its_line(write: Write, right: str, wrong: str, expected: str) -> None:
    assert right in GOOD
    assert expected in sentence(write(GOOD.replace(right, wrong, 1)))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected `key: value` lines, found nothing"),
        (b"# only a comment\n", "found nothing"),
        (b"- a\n- b\n", "found a list"),
        (b"readings.csv\n", "found 'readings.csv'"),
        (b"a: 1\n---\nb: 2\n", "2: not valid YAML: but found another document"),
        (b"name: good\nowner: M\xfcller\n", "2: byte 0xfc is not UTF-8; save the file as UTF-8"),
        ("name: good\n".encode("utf-16"), "1: byte 0xff is not UTF-8"),
        (b"name: good\nowner: a\x07b\n", "2: character 0x7 cannot stand in a stream file"),
        (b"name: \x00\n", "1: character 0x0 cannot stand"),
        (b"[" * 500_000, "1: nested too deeply to be a stream file"),
        (b"{a: " * 100, "nested too deeply"),
        (b"x" * 1_000_001, "1,000,001 bytes; expected a stream file of at most 1,000,000"),
    ],
    ids=lambda value: None if isinstance(value, bytes) else value[:40],
)
def test_a_file_that_is_no_stream_file(write: Write, content: bytes, expected: str) -> None:
    assert expected in sentence(write(content))


def test_a_byte_order_mark_is_read_over(write: Write) -> None:
    assert load_stream(write(b"\xef\xbb\xbf" + GOOD.encode())).name == "good"


def test_a_folder_without_a_file_or_with_a_folder_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "there is no stream.yaml in this stream folder" in sentence(tmp_path / "empty")
    (tmp_path / "odd" / "stream.yaml").mkdir(parents=True)
    assert "is no file" in sentence(tmp_path / "odd")


@pytest.mark.parametrize("folder", ["Good", "go od", "1good", "go-od", "ö", "a" * 64])
def test_a_stream_folder_has_a_plain_name(write: Write, folder: str) -> None:
    assert "a stream folder's name has lower-case letters, digits and underscores only" in sentence(write(GOOD, folder))


def test_a_broken_stream_leaves_the_others_loaded(write: Write, tmp_path: Path) -> None:
    write(GOOD)
    write(GOOD.replace("good", "other"), "other")
    for number, text in enumerate([b"", b"\xff", b"name: [", GOOD.replace("step", "stp").encode()]):
        write(text, f"broken{number}")
    (tmp_path / ".git").mkdir()
    (tmp_path / "_notes").mkdir()
    (tmp_path / "readme.txt").write_text("not a folder")
    streams, faults = load_streams([tmp_path])
    assert [stream.name for stream in streams] == ["good", "other"]
    assert [fault.name for fault in faults] == ["broken0", "broken1", "broken2", "broken3"]
    assert all(str(fault.file) in fault.message for fault in faults)


def test_of_two_streams_of_one_name_the_first_stays(write: Write, tmp_path: Path) -> None:
    write(GOOD, "one/good")
    write(GOOD.replace("1h", "2h"), "two/good")
    streams, faults = load_streams([tmp_path / "one", tmp_path / "two"])
    assert [stream.folder for stream in streams] == [tmp_path / "one" / "good"]
    assert f"a stream called 'good' exists already in {tmp_path / 'one' / 'good'}" in faults[0].message


def test_streams_are_found_in_extra_folders_by_name(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(GOOD)
    write(GOOD.replace("1h", "7min"), "broken")
    monkeypatch.setenv("ST_PIPELINE_STREAMS", f"{tmp_path}/nowhere:{tmp_path}")
    assert find_stream("good").folder == tmp_path / "good"
    assert find_stream("roadnet").folder == SHIPPED / "roadnet"
    with pytest.raises(
        InputError, match=r"broken/stream\.yaml:6: step: found '7min'; expected a step that divides a day"
    ):
        find_stream("broken")
    with pytest.raises(InputError, match=r"there is no stream 'goood' in .*; did you mean 'good'\?"):
        find_stream("goood")
    with pytest.raises(InputError, match=r"there is no stream '\.\./good'"):
        find_stream("../good")
