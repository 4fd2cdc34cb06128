"""Malformed inputs through the command line: exit code 2, one sentence that helps, nothing written.

A case is a good stream with one thing spoilt: files put in place of the good ones, a line of the stream file, the
environment, the call. What only an asset of `run` would meet must be found by `check`.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from drills.inputs import (
    AS_PARQUET,
    CSV,
    EDGES,
    FIRST,
    FLOW,
    MATRICES,
    NAME,
    NPZ,
    PARQUET,
    PERIODS,
    RING,
    SENSORS,
    STREAM,
    TABLE,
    npz,
    parquet,
    readings,
)
from st_pipeline import streams as finding
from st_pipeline.cli import main

FOLDER = object()  # as content: a folder in the file's place
GONE = None  # as content: no file


def zipped(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


X1, X2, A1, A2 = (f"{kind}_{day}.npz" for kind in "xa" for day in PERIODS)


@dataclass(frozen=True)
class Case:
    """What is spoilt, and the words that the sentence must have."""

    name: str
    says: tuple[str, ...]
    files: Mapping[str, Any] = field(default_factory=dict)
    edits: Mapping[str, str] = field(default_factory=dict)
    text: str | bytes = STREAM
    good: Mapping[str, Any] = field(default_factory=lambda: CSV)
    call: tuple[str, ...] = ("check", NAME)
    environment: Mapping[str, str] = field(default_factory=dict)


def csv(name: str, file: str, content: Any, *says: str, **edits: str) -> Case:
    return Case(name, says, {f"{file}.csv": content})


def table(name: str, content: Any, *says: str) -> Case:
    return Case(name, says, {"readings.parquet": content}, AS_PARQUET, good=PARQUET)


def matrix(name: str, file: str, content: Any, *says: str) -> Case:
    return Case(name, says, {file: content}, text=MATRICES, good=NPZ)


def stream(name: str, right: str, wrong: str, *says: str) -> Case:
    return Case(name, says, edits={right: wrong})


def call(name: str, *arguments: str, says: tuple[str, ...], **environment: str) -> Case:
    return Case(name, says, call=arguments, environment=environment)


def line(*cells: str) -> str:
    """The good readings with one row more: its data row is 73."""
    return readings() + ",".join(cells) + "\n"


FILES = [
    csv("missing", "readings", GONE, "source.readings: no file matches 'readings.csv'", "ST_PIPELINE_DATA"),
    csv("sensors missing", "sensors", GONE, "source.sensors: no file matches 'sensors.csv'"),
    csv("edges missing", "edges", GONE, "source.edges: no file matches 'edges.csv'"),
    csv("empty", "readings", "", "readings.csv: is empty; expected a header and rows"),
    csv("header only", "readings", "id,time,q\n", "2024-03-30: expected rows of at least one sensor; found 0"),
    csv("directory", "readings", FOLDER, "no file matches 'readings.csv'"),
    csv("binary", "readings", bytes(range(256)) * 20, "readings.csv: line 2: byte 0x80 is not UTF-8"),
    csv("parquet called csv", "readings", TABLE, "readings.csv: expected CSV, found a Parquet file"),
    csv(
        "xlsx called csv",
        "readings",
        zipped("xl/workbook.xml", b"<x/>"),
        "readings.csv: expected CSV, found a spreadsheet or a zip archive",
    ),
    csv(
        "delimiter", "readings", readings().replace(",", ";"), "no column 'id' (for sensor_id)", "set source.delimiter"
    ),
    csv("ragged", "readings", line("a", "2024-03-30", "1", "2"), "readings.csv", "line 38: found 4 fields, expected 3"),
    csv("open quote", "readings", line('"a', "2024-03-30", "1"), "line 38: a quotation mark is opened here"),
    csv("html", "readings", "<!DOCTYPE html>\n<html><body>404</body></html>\n", "no column 'id'", "DOCTYPE"),
    table("csv called parquet", readings().encode(), "readings.parquet: cannot be read as Parquet"),
    table("empty parquet", b"", "readings.parquet: cannot be read as Parquet"),
    table("truncated parquet", TABLE[:-50], "readings.parquet: cannot be read as Parquet"),
    table("parquet without head", TABLE[40:], "readings.parquet: cannot be read as Parquet"),
    table("parquet with zeros", TABLE[:60] + bytes(200) + TABLE[260:], "readings.parquet: cannot be read as Parquet"),
    Case("link outside", ("links to a file outside",), {"readings.csv": Path("../../elsewhere.csv")}),
]
COLUMNS = [
    csv("id missing", "readings", "time,q\n2024-03-30,1\n", "readings.csv: there is no column 'id' (for sensor_id)"),
    csv("time renamed", "readings", readings().replace("time", "tme"), "no column 'time'", "did you mean 'tme'?"),
    csv("value missing", "readings", readings().replace(",q", ",v"), "no column 'q' (for flow)", "'v'"),
    csv("column twice", "readings", readings().replace("time,q", "q,q"), "line 1: there are two columns 'q'"),
    csv(
        "words for numbers",
        "readings",
        line("a", "2024-03-30 01:00", "many"),
        "data row 37: flow: found 'many'",
        "a number",
    ),
    csv(
        "decimal comma",
        "readings",
        line("a", "2024-03-30 01:00", '"1,5"'),
        "data row 37: flow: found '1,5', expected a number",
    ),
    csv("unit in the cell", "readings", line("a", "2024-03-30 01:00", "5 km/h"), "data row 37: flow: found '5 km/h'"),
    table(
        "list column",
        parquet(pl.DataFrame({"id": ["a"], "time": [FIRST], "q": [[1.0]]})),
        "column 'q' holds large_list",
        "expected text, numbers",
    ),
    table(
        "time is a number",
        parquet(pl.DataFrame({"id": ["a"], "time": [1711580400], "q": [1.0]})),
        "timestamp: found '1711580400'",
        "source.time_unit",
    ),
    table(
        "value is a date",
        parquet(pl.DataFrame({"id": ["a"], "time": [FIRST], "q": [FIRST]})),
        "data row 1: flow: found '2024-03-30', expected a number",
    ),
    table("parquet column missing", parquet(readings().replace("q", "flow", 1)), "no column 'q' (for flow)"),
]
ENCODINGS = [
    csv(
        "latin-1",
        "readings",
        line("Müller", "2024-03-30", "1").encode("latin-1"),
        "line 38: byte 0xfc is not UTF-8",
        "source.encoding",
    ),
    csv("utf-16", "readings", readings().encode("utf-16"), "line 1: byte 0xff is not UTF-8", "source.encoding"),
    csv(
        "utf-16 without mark",
        "readings",
        readings().encode("utf-16-le"),
        "readings.csv: line 1: found a NUL byte",
        "source.encoding",
    ),
    csv("NUL in an id", "readings", line("a\0", "2024-03-30", "1"), "readings.csv: line 38: found a NUL byte"),
    csv("NUL for a table", "readings", bytes(500), "readings.csv: line 1: found a NUL byte"),
    csv("latin-1 sensors", "sensors", (SENSORS + "ü,52,13\n").encode("latin-1"), "sensors.csv: line 5: byte 0xfc"),
    Case(
        "no such encoding", ("source.encoding: found 'utf-9'",), edits={"format: csv": "format: csv\n  encoding: utf-9"}
    ),
    Case(
        "wrong encoding",
        ("sensors.csv: line 4: is not utf-16; set source.encoding",),
        edits={"format: csv": "format: csv\n  encoding: utf-16"},
    ),
]
TIMES = [
    csv(
        "unparseable",
        "readings",
        line("a", "yesterday", "1"),
        "data row 37: timestamp: found 'yesterday', expected a time",
    ),
    csv(
        "american date",
        "readings",
        line("a", "03/28/2024 06:00", "1"),
        "data row 37: timestamp: found '03/28/2024 06:00'",
        "source.time_format",
    ),
    csv(
        "30 February",
        "readings",
        line("a", "2024-02-30 06:00", "1"),
        "data row 37: timestamp: found '2024-02-30 06:00'",
    ),
    csv(
        "25 o'clock", "readings", line("a", "2024-03-30 25:00", "1"), "data row 37: timestamp: found '2024-03-30 25:00'"
    ),
    csv("blank time", "readings", line("a", "", "1"), "data row 37: timestamp: found nothing, expected a time"),
    csv(
        "mixed zones",
        "readings",
        line("a", "2024-03-30T06:00Z", "1"),
        "data row 37: timestamp: found '2024-03-30T06:00Z'",
        "without a UTC offset",
    ),
    csv("off the grid", "readings", readings(hours=(3, 9, 15, 21)), "small readings of 2024-03-30", "missing"),
    csv("year 1", "readings", readings(days=["0001-01-01"]), "expected rows of at least one sensor; found 0"),
    csv("year 9999", "readings", readings(days=["9999-12-31"]), "expected rows of at least one sensor; found 0"),
    csv(
        "year 10000",
        "readings",
        line("a", "10000-01-01 00:00", "1"),
        "data row 37: timestamp: found '10000-01-01 00:00'",
    ),
    csv("clock change", "readings", "id,time,q\na,2024-03-31 02:00,1\n", "small readings of 2024-03-30", "missing"),
    csv(
        "other years",
        "readings",
        readings().replace("2024", "2023"),
        "2024-03-30: expected rows of at least one sensor; found 0",
    ),
    csv("epoch unsaid", "readings", "id,time,q\na,1711580400,1\n", "timestamp: found '1711580400'", "source.time_unit"),
    Case(
        "epoch out of range",
        ("timestamp",),
        {"readings.csv": "id,time,q\na,1e300,1\n"},
        {"format: csv": "format: csv\n  time_unit: s"},
    ),
]
IDS = [
    csv(
        "blank id of a sensor",
        "sensors",
        SENSORS + ",52,13\n",
        "sensors.csv: data row 4: sensor_id: found nothing, expected an id",
    ),
    csv("id of spaces", "sensors", SENSORS + "  ,52,13\n", "sensors.csv: data row 4: sensor_id: found nothing"),
    csv("sensor twice", "sensors", SENSORS + "a,52,13\n", "small sensors: expected each sensor once", "a"),
    csv(
        "sensor twice but for spaces",
        "sensors",
        SENSORS + " a ,52,13\n",
        "small sensors: expected each sensor once",
        "a",
    ),
    csv("blank ids of all readings", "readings", re.sub("^[abc],", ",", readings(), flags=re.M), "at least one sensor"),
    csv(
        "retired before installed",
        "sensors",
        "id,lat,lon,installed,retired\na,52,13,2020-01-01,2019-01-01\n",
        "retired before it was installed",
        "a",
    ),
    csv(
        "no day",
        "sensors",
        "id,lat,lon,installed\na,52,13,soon\n",
        "sensors.csv: data row 1: installed: found 'soon', expected a date",
    ),
]
COORDINATES = [
    csv("column missing", "sensors", "id,lat\na,52\n", "sensors.csv: there is no column 'lon' (for longitude)"),
    csv(
        "latitude 95",
        "sensors",
        SENSORS + "d,95,13\n",
        "small sensors: expected latitudes between -90 and 90; found 1 of 4: d (95)",
    ),
    csv("swapped", "sensors", "id,lat,lon\na,144.9,-37.8\n", "latitudes between -90 and 90; found 1 of 1: a (144.9)"),
    csv("longitude 200", "sensors", SENSORS + "d,52,200\n", "longitudes between -180 and 180", "d (200)"),
    csv(
        "infinite",
        "sensors",
        SENSORS + "d,inf,13\n",
        "sensors.csv: data row 4: latitude: found inf, expected a finite number",
    ),
    csv(
        "no number",
        "sensors",
        SENSORS + "d,52N,13\n",
        "sensors.csv: data row 4: latitude: found '52N', expected a number",
    ),
    Case(
        "all NaN",
        ("the graph recipe needs positions", "graph.recipe"),
        {"sensors.csv": re.sub(",.*", ",NaN,NaN", SENSORS).replace("id,NaN,NaN", "id,lat,lon")},
        {"edges}": "gaussian}"},
    ),
    Case(
        "nowhere to be found",
        ("the graph recipe needs positions", "source.columns"),
        edits={"edges}": "knn}", ", latitude: lat, longitude: lon": "", "  sensors: sensors.csv\n": ""},
    ),
]
GRAPHS = [
    csv(
        "unknown sensor", "edges", EDGES + "a,z,1\n", "the edges name 1 sensors that the sensor table has not, e.g. 'z'"
    ),
    csv(
        "negative weight", "edges", EDGES + "a,c,-1\n", "edges.csv: data row 3: weight: found -1.0, expected at least 0"
    ),
    csv(
        "infinite weight",
        "edges",
        EDGES + "a,c,inf\n",
        "edges.csv: data row 3: weight: found inf, expected a finite number",
    ),
    csv("all weights NaN", "edges", EDGES.replace("1", "NaN").replace("0.5", "NaN"), "the given edges have no weight"),
    csv("no weights", "edges", "source,target\na,b\n", "the given edges have no weight", "source.columns"),
    csv("no columns", "edges", "from,to\na,b\n", "edges.csv: there is no column 'source'"),
    csv("one end only", "edges", EDGES + "a,,1\n", "edges.csv: data row 3: target: found nothing, expected an id"),
    Case(
        "no edges given",
        ("the graph recipe needs edges with a weight; set source.edges",),
        edits={"  edges: edges.csv\n": ""},
    ),
    Case(
        "threshold",
        ("graph.threshold is 1.5; expected a number between 0 and 1",),
        edits={"recipe: edges": "recipe: gaussian, threshold: 1.5"},
    ),
    Case("no neighbours", ("graph.k is 0; expected at least 1",), edits={"recipe: edges": "recipe: knn, k: 0"}),
    Case(
        "negative distance",
        ("edges.csv: data row 1: distance: found -5.0, expected at least 0",),
        {"edges.csv": "source,target,distance\na,b,-5\n"},
        {"edges}": "distances}"},
    ),
]
MATRIX = [
    matrix("key", X1, npz(FLOW, "data"), X1, "there is no array 'x'", "'data'"),
    matrix(
        "shape", X1, npz(np.zeros((12, 3, 2))), X1, "x: found shape (12, 3, 2), expected (steps, sensors, 1) for flow"
    ),
    matrix("no axis", X1, npz(np.float64(5)), X1, "x: found shape ()"),
    matrix("nothing", X1, npz(np.zeros((0, 3))), X1, "found shape (0, 3, 1), expected at least one step and sensor"),
    matrix(
        "pickle", X1, npz(np.array([[{}]], dtype=object)), X1, "cannot be read as npz: Object arrays cannot be loaded"
    ),
    matrix("text", X1, npz(np.array([["a"]])), X1, "x: found type <U1, expected real numbers"),
    matrix(
        "too long", X1, npz(np.zeros((13, 3))), X1, "13 steps", "do not fit in period 2024-03-30 (12)", "source.steps"
    ),
    matrix(
        "fewer sensors", X2, npz(FLOW[:, :2]), X2, "x: found 2 sensors, expected at least the 3 of period 2024-03-30"
    ),
    matrix("truncated", X1, npz(FLOW)[:-60], X1, "cannot be read as npz"),
    matrix("not npz", X1, b"no archive", X1, "cannot be read as npz"),
    matrix("period missing", X2, GONE, "source.readings: no file matches 'x_2024-04-02.npz'"),
    matrix(
        "NaN weight",
        A1,
        npz(np.where(RING > 0, np.nan, 0)),
        A1,
        "a weight that is no finite number; expected 0 for no edge",
    ),
    matrix("weight below 0", A1, npz(-RING), A1, "found a weight below 0"),
    matrix("not square", A2, npz(RING[:2]), A2, "found shape (2, 3), expected a square adjacency matrix"),
    matrix("other size", A2, npz(np.eye(4)), A2, "found shape (4, 4), expected a row for each of the 3 sensors"),
]
CONFIGURATION = [
    stream("bracket", "step: 6h", "step: [6h", "stream.yaml:10: not valid YAML"),
    stream("tab", "step: 6h", "\tstep: 6h", "stream.yaml:9: not valid YAML", "indent with spaces, not tabs"),
    stream("key twice", "step: 6h", "step: 6h\nstep: 1h", "stream.yaml:10: step: given twice; keep one"),
    stream(
        "unknown key",
        "horizon: 1",
        "horzion: 1",
        "stream.yaml:14: horzion: there is no such key; did you mean 'horizon'?",
    ),
    stream(
        "text for a number", "window: 1", "window: one", "stream.yaml:13: window: found 'one'; expected a whole number"
    ),
    stream("number for text", "name: small", "name: 5", "stream.yaml:1: name: found '5'; expected text"),
    stream("fraction", "window: 1", "window: 1.5", "stream.yaml:13: window: ", "1.5"),
    stream("no cadence", "every: 3d", "every: fortnight", "stream.yaml:10: periods: 'fortnight' is no period length"),
    stream(
        "end before start",
        "end: 2024-04-02",
        "end: 2023-04-02",
        "stream.yaml:10: periods: end 2023-04-02 is not after start 2024-03-30",
    ),
    stream(
        "end inside",
        "end: 2024-04-02",
        "end: 2024-04-01",
        "end 2024-04-01 is inside a period; expected a period boundary",
    ),
    stream("no such day", "start: 2024-03-30", "start: 2024-02-30", "stream.yaml:10: '2024-02-30' cannot be read"),
    stream(
        "strategy",
        "strategy: retrain",
        "strategy: retrian",
        "stream.yaml:17: models.1.strategy: there is no strategy called 'retrian'; did you mean 'retrain'?",
    ),
    stream(
        "backbone",
        "backbone: stgnn, s",
        "backbone: stgn, s",
        "stream.yaml:17: models.1.backbone: there is no backbone called 'stgn'; did you mean 'stgnn'?",
    ),
    stream(
        "backbone option",
        "backbone: stgnn, s",
        "backbone: {name: stgnn, hiden: 8}, s",
        "models.1.backbone.hiden",
        "did you mean 'hidden'?",
    ),
    stream(
        "recipe",
        "recipe: edges",
        "recipe: edge",
        "graph: there is no graph recipe called 'edge'; did you mean 'edges'?",
    ),
    stream("format", "format: csv", "format: xlsx", "source: there is no source format called 'xlsx'", "'csv'"),
    stream(
        "window 0", "window: 1", "window: 0", "stream.yaml:13: window: found '0'; should be greater than or equal to 1"
    ),
    stream(
        "horizon 0",
        "horizon: 1",
        "horizon: 0",
        "stream.yaml:14: horizon: found '0'; should be greater than or equal to 1",
    ),
    stream("window of a period", "window: 1", "window: 9", "period 2024-03-30", "one window needs 10"),
    stream("zone", "Europe/Berlin", "Europe/Belrin", "stream.yaml:8: timezone: ", "did you mean 'Europe/Berlin'?"),
    stream("step", "step: 6h", "step: 7h", "stream.yaml:9: step: found '7h'; expected a step that divides a day"),
    stream(
        "split",
        "step: 6h",
        "step: 6h\nsplit: {train: 0.9, validation: 0.2, test: 0.2}",
        "stream.yaml:10: split: train, validation and test sum to 1.3, not 1",
    ),
    stream(
        "long season",
        "strategy: retrain",
        "strategy: retrain, seasonal: [3d]",
        "seasonal lag 3 days",
        "reaches behind the start of every period (3d)",
    ),
    stream(
        "name of another folder",
        "name: small",
        "name: tiny",
        "stream.yaml:1: name: found 'tiny', expected 'small', the name of its folder",
    ),
    stream(
        "name", "name: small", "name: ../small", "stream.yaml:1: name: found '../small'; expected lower-case letters"
    ),
    stream("model's name", "name: retrain", "name: report", "models.1: a model cannot be called 'report'"),
    stream(
        "model twice", "name: retrain", "name: eac", "models: two models are called 'eac'; expected one of each name"
    ),
    stream(
        "champion", "champion: eac", "champion: eca", "champion: 'eca' is no model of the stream; did you mean 'eac'?"
    ),
    stream("minimum", "minimum: 0", "minimum: 200", "variables.flow: minimum 200.0 is not below maximum 100.0"),
    stream("sentinel", "minimum: 0", "sentinels: -1", "variables.flow.sentinels: found '-1'; expected a list"),
    stream(
        "unknown variable",
        "{flow: {",
        "{flwo: {",
        "variables",
        "'flwo' is no variable of source.columns; did you mean 'flow'?",
    ),
    stream(
        "path upwards",
        "readings: readings.csv",
        "readings: ../small/readings.csv",
        "source.readings: '../small/readings.csv' leaves the stream",
    ),
    stream("alias", "step: 6h", "step: &six 6h\nowner: *six", "aliases are not read"),
    Case("no mapping", ("stream.yaml: expected `key: value` lines, found a list",), text="- a\n"),
    Case("nothing", ("stream.yaml: expected `key: value` lines, found nothing",), text=""),
    Case(
        "latin-1 stream",
        ("stream.yaml:2: byte 0xfc is not UTF-8",),
        text="name: small\nowner: Müller\n".encode("latin-1"),
    ),
]
CALLS = [
    call("stream", "check", "smal", says=("there is no stream 'smal'", "did you mean 'small'?")),
    call("stream of run", "run", "smal", says=("there is no stream 'smal'", "did you mean 'small'?")),
    call("stream of leaderboard", "leaderboard", "smal", says=("there is no stream 'smal'",)),
    call("stream as path", "check", "../small", says=("there is no stream '../small'",)),
    call("command", "chek", NAME, says=("there is no command 'chek'; did you mean 'check'?",)),
    call("model", "run", NAME, "--models", "eca", says=("stream 'small' has no model 'eca'; did you mean 'eac'?",)),
    call(
        "period",
        "run",
        NAME,
        "--periods",
        "2024-03-29",
        says=("has no period '2024-03-29'; did you mean '2024-03-30'?",),
    ),
    Case(
        "periods",
        ("expected A..B with A before B",),
        edits={"end: 2024-04-02": "end: 2024-04-05"},
        call=("run", NAME, "--periods", "2024-04-02..2024-03-30"),
    ),
    call("data", "run", NAME, "--data", "nowhere", says=("--data nowhere: there is no such folder",)),
    call("report", "report", NAME, says=("stream 'small' has no report yet; run `st-pipeline run small` first",)),
    call("report's period", "report", NAME, "--period", "x", says=("has no report of period 'x'",)),
    call("leaderboard", "leaderboard", NAME, says=("leaderboard", "materialise")),
    call("name of new", "new", "Small", "--readings", "r.csv", says=("'Small' cannot be the name of a stream",)),
    call("new without readings", "new", "other", "--readings", "r.csv", says=("r.csv: there is no such file",)),
    call("new over old", "new", NAME, "--readings", "r.csv", says=("small exists already",)),
    call("device", "run", NAME, says=("ST_PIPELINE_DEVICE", "'gpu'", "auto, cpu, cuda"), ST_PIPELINE_DEVICE="gpu"),
    call("absent device", "run", NAME, says=("cuda:99",), ST_PIPELINE_DEVICE="cuda:99"),
    call(
        "threads",
        "run",
        NAME,
        says=("ST_PIPELINE_THREADS is 'two'; expected a whole number",),
        ST_PIPELINE_THREADS="two",
    ),
    call("home is a file", "run", NAME, says=("cannot be written",), ST_PIPELINE_HOME="file"),
]
DATA = Case(
    "data is a file",
    ("no file matches 'readings.csv'", "ST_PIPELINE_DATA"),
    {"readings.csv": GONE},
    environment={"ST_PIPELINE_DATA": "file"},
)
SECTIONS = {
    "file": FILES,
    "column": COLUMNS,
    "encoding": ENCODINGS,
    "time": TIMES,
    "id": IDS,
    "coordinate": COORDINATES,
    "graph": GRAPHS,
    "npz": MATRIX,
    "configuration": CONFIGURATION,
    "call": [*CALLS, DATA],
}
CASES = [
    pytest.param(case, id=f"{section}-{case.name}".replace(" ", "-"))
    for section, cases in SECTIONS.items()
    for case in cases
]


def lay_out(case: Case, folder: Path) -> None:
    """Write the case's stream into its folder."""
    folder.mkdir(parents=True)
    text = case.text
    for right, wrong in case.edits.items():
        assert isinstance(text, str) and right in text
        text = text.replace(right, wrong, 1)
    (folder / "stream.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    for name, content in {**case.good, **case.files}.items():
        if content is FOLDER:
            (folder / name).mkdir()
        elif isinstance(content, Path):
            (folder / content).write_text(readings())
            (folder / name).symlink_to(content)
        elif content is not GONE:
            (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def everything(folder: Path) -> dict[str, bytes]:
    """All files and folders with their bytes."""
    return {str(path): path.read_bytes() if path.is_file() else b"" for path in sorted(folder.rglob("*"))}


@pytest.fixture
def place(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(finding, "SHIPPED", workspace.folder / "none")
    (workspace.folder / "file").write_text("a file where a folder should be")
    return workspace


def is_one_sentence(case: Case, said: str) -> None:
    said = said.removesuffix("\n")
    assert said.startswith("st-pipeline: ")
    assert said.isprintable(), "it is more than a line"
    assert [words for words in case.says if words not in said] == [], said


@pytest.mark.parametrize("case", CASES)
def test_ends_in_one_sentence_and_writes_nothing(case: Case, place: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    lay_out(case, place.streams / NAME)
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    before = everything(place.folder)
    result = CliRunner().invoke(main, case.call)
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2, result.output
    is_one_sentence(case, result.stderr)
    assert everything(place.folder) == before


@pytest.mark.parametrize("case", [FILES[0], GRAPHS[0], CONFIGURATION[3]], ids=lambda case: case.name)
def test_so_it_does_in_a_process_of_its_own(case: Case, place: Any) -> None:
    lay_out(case, place.streams / NAME)
    before = everything(place.folder)
    result = place.command(*case.call)
    assert result.returncode == 2
    is_one_sentence(case, result.stderr)
    assert everything(place.folder) == before


@pytest.mark.parametrize(
    "files",
    [
        {},
        {name: content.replace("\na,", "\n../../a,").replace(",a,", ",../../a,") for name, content in CSV.items()},
        {"readings.csv": line("", "2024-03-30 00:00", "1") + line("a", "2024-03-31 02:00", "inf").partition("\n")[2]},
        {"sensors.csv": SENSORS + "d,,\n"},
    ],
    ids=["nothing", "ids like paths", "a row without id, in a skipped hour, infinite", "a sensor without position"],
)
def test_what_is_odd_but_harmless_is_accepted(files: dict[str, str], place: Any) -> None:
    lay_out(Case("odd", (), files), place.streams / NAME)
    before = everything(place.folder)
    result = CliRunner().invoke(main, ["check", NAME])
    assert result.exit_code == 0, result.output
    assert "usable" in result.stdout
    assert result.stderr == ""
    assert everything(place.folder) == before
