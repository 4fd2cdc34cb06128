"""Finding and loading stream folders; a broken one never takes the others down."""

from __future__ import annotations

import os
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from st_pipeline.config import StreamConfig
from st_pipeline.errors import InputError, closest
from st_pipeline.fields import NAME
from st_pipeline.storage import home

SHIPPED = Path(__file__).resolve().parents[1] / "streams"
FILE = "stream.yaml"
MAX_BYTES = 1_000_000
MAX_DEPTH = 30
Location = tuple[str | int, ...]
EXPECTED = {
    "model_type": "expected a section of `key: value` lines",
    "dict_type": "expected a section of `key: value` lines",
    "tuple_type": "expected a list such as [a, b]",
    "string_type": "expected text",
    "int_type": "expected a whole number",
    "float_type": "expected a number",
    "finite_number": "expected a finite number",
    "bool_type": "expected true or false",
}


@dataclass(frozen=True)
class Stream:
    """A valid stream file and the folder it lies in."""

    config: StreamConfig
    folder: Path

    @property
    def name(self) -> str:
        return self.config.name


@dataclass(frozen=True)
class StreamFault:
    """A stream folder that cannot be used, and why."""

    name: str
    file: Path
    message: str


def stream_folders() -> list[Path]:
    """Folders of stream folders: the shipped one, `streams/` here, those of `ST_PIPELINE_STREAMS`, the home's own."""
    extra = [Path(part) for part in os.environ.get("ST_PIPELINE_STREAMS", "").split(os.pathsep) if part]
    candidates = [SHIPPED, Path.cwd() / "streams", *extra, home() / "streams"]
    return list(dict.fromkeys(folder.resolve() for folder in candidates if folder.is_dir()))


def load_streams(folders: Iterable[Path] | None = None) -> tuple[list[Stream], list[StreamFault]]:
    """Every stream found, and every stream file that is broken."""
    streams: dict[str, Stream] = {}
    faults: list[StreamFault] = []
    for parent in stream_folders() if folders is None else folders:
        for folder in sorted(
            path for path in parent.iterdir() if path.is_dir() and not path.name.startswith((".", "_"))
        ):
            try:
                stream = load_stream(folder)
                if other := streams.get(stream.name):
                    raise InputError(
                        f"{folder / FILE}: a stream called {stream.name!r} exists already in {other.folder}"
                    )
                streams[stream.name] = stream
            except InputError as error:
                faults.append(StreamFault(folder.name, folder / FILE, str(error)))
    return list(streams.values()), faults


def find_stream(name: str) -> Stream:
    """The stream called `name`.

    Raises:
        InputError: there is none, or its file is broken.
    """
    streams, faults = load_streams()
    for stream in streams:
        if stream.name == name:
            return stream
    for fault in faults:
        if fault.name == name:
            raise InputError(fault.message)
    known = [stream.name for stream in streams]
    looked = ", ".join(str(folder) for folder in stream_folders())
    raise InputError(f"there is no stream {name!r} in {looked}; {closest(name, known)}")


def load_stream(folder: Path) -> Stream:
    """Read and check `stream.yaml` of one folder.

    Raises:
        InputError: with file, line, field, what was found and the closest match.
    """
    file = folder / FILE
    root = _compose(file)
    try:
        config = StreamConfig.model_validate(_plain(root, file))
    except ValidationError as error:
        raise InputError(_sentence(error, root, file)) from None
    if config.name != folder.name:
        raise InputError(
            f"{file}:{_line(root, ('name',))}: name: found {config.name!r}, expected {folder.name!r}, "
            "the name of its folder"
        )
    return Stream(config, folder)


def _compose(file: Path) -> yaml.Node:
    if not NAME.fullmatch(file.parent.name):
        raise InputError(f"{file.parent}: a stream folder's name has lower-case letters, digits and underscores only")
    text = _read(file)
    depth = 0
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            where = f"{file}:{_line_of(event.start_mark)}"
            if isinstance(event, yaml.AliasEvent):
                raise InputError(f"{where}: *{event.anchor}: aliases are not read; write the values out")
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise InputError(f"{where}: nested too deeply to be a stream file")
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{file}:{line}: character {error.character:#x} cannot stand in a stream file") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{_line_of(mark)}" if mark else str(file)
        problem = str(getattr(error, "problem", None) or error)
        hint = "; indent with spaces, not tabs" if "\\t" in problem else ""
        raise InputError(f"{where}: not valid YAML: {problem}{hint}") from None
    if not isinstance(root, yaml.MappingNode):
        raise InputError(f"{file}: expected `key: value` lines, found {_shape(root)}")
    return root


def _read(file: Path) -> str:
    """The text of a stream file."""
    if not file.exists():
        raise InputError(f"{file}: there is no {FILE} in this stream folder; write one with `st-pipeline new`")
    if not file.is_file():
        raise InputError(f"{file}: is no file; expected a stream file")
    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise InputError(f"{file}: {size:,} bytes; expected a stream file of at most {MAX_BYTES:,}")
        raw = file.read_bytes()
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        raise InputError(f"{file}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; save the file as UTF-8") from None


def _plain(node: yaml.Node, file: Path) -> Any:
    """A composed node as plain values; duplicate keys and aliases are errors."""
    if isinstance(node, yaml.MappingNode):
        values: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = _plain(key_node, file)
            line = _line_of(key_node.start_mark)
            if not isinstance(key, str):
                raise InputError(f"{file}:{line}: the key {key!r} is no text; quote it")
            if key in values:
                raise InputError(f"{file}:{line}: {key}: given twice; keep one")
            values[key] = _plain(value_node, file)
        return values
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, file) for item in node.value]
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node)
    except (yaml.YAMLError, ValueError) as error:
        reason = str(getattr(error, "problem", None) or error).split(";")[0]
        found = str(node.value)[:60]
        raise InputError(f"{file}:{_line_of(node.start_mark)}: {found!r} cannot be read: {reason}") from None
    finally:
        loader.dispose()


def _line_of(mark: Any) -> int:
    """Line number of a mark of the YAML reader, from 1."""
    return int(mark.line) + 1


def _shape(root: yaml.Node | None) -> str:
    return "nothing" if root is None else "a list" if isinstance(root, yaml.SequenceNode) else repr(root.value)[:60]


def _sentence(error: ValidationError, root: yaml.Node, file: Path) -> str:
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")  # a typo explains what is missing
    location: Location = tuple(part for part in problem["loc"] if part != "[key]")
    if extra := problem.get("ctx", {}).get("field"):
        location = (*location, extra)
    field = ".".join(str(part) for part in location) or "the file"
    where = f"{file}:{_line(root, location)}: {field}"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    kind, found = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        known = _fields(StreamConfig, location[:-1])
        return f"{where}: there is no such key; {closest(location[-1], known)}{more}"
    if kind == "missing":
        typo = get_close_matches(str(location[-1]), found, n=1) if isinstance(found, dict) else []
        hint = f"; found {typo[0]!r}, did you mean {location[-1]!r}?" if typo else ""
        return f"{where}: is missing; expected {_meaning(location)}{hint}{more}"
    message = EXPECTED.get(kind) or problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
    of_whole_section = kind == "fault" or (kind == "value_error" and isinstance(found, BaseModel | dict))
    shown = "" if of_whole_section else f" found {_found(found)};"
    return f"{where}:{shown} {message[:1].lower() + message[1:]}{more}"


def _found(value: Any) -> str:
    """A value of the file as the sentence shows it."""
    if value is None or isinstance(value, dict | list):
        return {type(None): "nothing", dict: "a section", list: "a list"}[type(value)]
    return repr(str(value)[:80])


def _line(node: yaml.Node | None, location: Location) -> int:
    """Line of the deepest part of the location that the file has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            match = [(key, value) for key, value in node.value if key.value == part]
            if not match:
                break
            line, node = match[0][0].start_mark.line + 1, match[0][1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
    return line


def _fields(model: type[BaseModel], location: Location) -> list[str]:
    """Names a section may hold, found by walking the models along the location."""
    for part in location:
        if isinstance(part, int):
            continue
        field = model.model_fields.get(part)
        inner = _model_in(field.annotation) if field else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if isinstance(annotation, types.UnionType) or typing.get_origin(annotation) is not None:
        for inner in typing.get_args(annotation):
            if found := _model_in(inner):
                return found
    return None


def _meaning(location: Location) -> str:
    meanings = {
        "name": "the stream's name, that of its folder",
        "source": "where the raw files lie, e.g. {format: csv, readings: readings.csv}",
        "format": "the format of the raw files, e.g. csv",
        "step": "the time between two readings, e.g. 5min",
        "periods": "e.g. {every: month, start: 2024-01-01}",
        "every": "the length of a period, e.g. month",
        "start": "the first day of the first period, e.g. 2024-01-01",
        "strategy": "what happens when a period arrives, e.g. eac",
        "backbone": "the network, e.g. stgnn",
    }
    return meanings.get(str(location[-1]), "a value")
