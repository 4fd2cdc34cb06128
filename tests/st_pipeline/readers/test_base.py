"""Raw files are looked up inside the stream's folder or the data folder, and nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from st_pipeline.errors import InputError
from st_pipeline.readers.base import Reader, SourceContext

MakeReader = Callable[..., Reader]
TABLE = "id,time,q\na,2024-01-01 00:00,1\n"


def context(reader: Reader) -> SourceContext:
    found = reader.context  # type: ignore[attr-defined]
    assert isinstance(found, SourceContext)
    return found


def test_the_streams_own_folder_comes_before_the_data_folder(make_reader: MakeReader, tmp_path: Path) -> None:
    reader = make_reader({"format": "csv"}, {"data/readings.csv": TABLE})
    assert reader.files() == [tmp_path / "data" / "readings.csv"]
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream" / "readings.csv").write_text(TABLE)
    assert reader.files() == [tmp_path / "stream" / "readings.csv"]


def test_a_pattern_finds_visible_files_in_order(make_reader: MakeReader, tmp_path: Path) -> None:
    names = ["r/b.csv", "r/a.csv", "r/.hidden.csv", "r/c.txt", "r/deep/d.csv"]
    reader = make_reader({"format": "csv", "readings": "r/*.csv"}, dict.fromkeys(names, TABLE))
    (tmp_path / "stream" / "r" / "folder.csv").mkdir()
    assert [path.name for path in reader.files()] == ["a.csv", "b.csv"]
    assert [path.name for path in context(reader).find("r/**/*.csv", "readings")] == ["a.csv", "b.csv", "d.csv"]


def test_a_missing_file_names_both_places_looked_in(make_reader: MakeReader, tmp_path: Path) -> None:
    reader = make_reader({"format": "csv", "readings": "no/*.csv"}, {})
    with pytest.raises(InputError) as caught:
        reader.files()
    for part in (
        "stream 'stream': source.readings",
        "'no/*.csv'",
        tmp_path / "stream",
        tmp_path / "data",
        "ST_PIPELINE_DATA",
    ):
        assert str(part) in str(caught.value)


@pytest.mark.parametrize("pattern", ["/etc/passwd", "../secret.csv", "a/../../secret.csv", "/", "..", "readings/.."])
def test_a_pattern_cannot_leave_its_folder(make_reader: MakeReader, tmp_path: Path, pattern: str) -> None:
    (tmp_path / "secret.csv").write_text(TABLE)
    with pytest.raises(InputError, match=r"leaves the stream; expected a path relative to it or to ST_PIPELINE_DATA"):
        make_reader({"format": "csv", "readings": pattern}, {"readings.csv": TABLE}).files()


@pytest.mark.parametrize("pattern", ["", ".", "./", "**x", "a\0b*", "x" * 5000, "[", "**", "~/readings.csv"])
def test_a_pattern_that_is_none_is_told(make_reader: MakeReader, pattern: str) -> None:
    with pytest.raises(InputError, match=r"source\.readings: .*(names no file|is no file pattern|no file matches)"):
        make_reader({"format": "csv", "readings": pattern}, {"readings.csv": TABLE}).files()


@pytest.mark.parametrize("folder", [False, True])
def test_a_link_out_of_the_stream_is_not_followed(make_reader: MakeReader, tmp_path: Path, folder: bool) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "readings.csv").write_text(TABLE)
    (tmp_path / "stream").mkdir()
    link = tmp_path / "stream" / ("r" if folder else "readings.csv")
    link.symlink_to(outside if folder else outside / "readings.csv")
    pattern = "r/readings.csv" if folder else "readings.csv"
    with pytest.raises(InputError, match=r"links to a file outside .*; copy the file there instead"):
        make_reader({"format": "csv", "readings": pattern}, {}).files()


def test_a_link_inside_the_stream_and_a_linked_root_are_followed(make_reader: MakeReader, tmp_path: Path) -> None:
    real = tmp_path / "elsewhere"
    real.mkdir()
    (real / "original.csv").write_text(TABLE)
    (real / "readings.csv").symlink_to("original.csv")
    (tmp_path / "stream").symlink_to(real)
    reader = make_reader({"format": "csv"}, {})
    assert reader.files() == [tmp_path / "stream" / "readings.csv"]


def test_a_dangling_link_is_a_missing_file(make_reader: MakeReader, tmp_path: Path) -> None:
    (tmp_path / "stream").mkdir()
    (tmp_path / "stream" / "readings.csv").symlink_to("nothing.csv")
    with pytest.raises(InputError, match=r"no file matches 'readings\.csv'"):
        make_reader({"format": "csv"}, {}).files()


def test_rows_carry_the_path_of_their_file_below_its_root(make_reader: MakeReader) -> None:
    files = {"r/2023/a.csv": TABLE, "r/2024/a.csv": TABLE.replace("a,", "b,")}
    reader = make_reader({"format": "csv", "readings": "r/**/*.csv"}, files)
    period = context(reader).config.calendar.periods()[0]
    assert reader.readings(period)["file"].to_list() == ["r/2023/a.csv", "r/2024/a.csv"]


def test_a_source_without_edges_says_how_to_give_them(make_reader: MakeReader) -> None:
    reader = make_reader({"format": "csv"}, {"readings.csv": TABLE})
    assert not reader.has_edges
    with pytest.raises(InputError, match=r"period 2024-01: .* gives no edges; set source\.edges"):
        reader.edges(context(reader).config.calendar.periods()[0])
