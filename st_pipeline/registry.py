"""Named families of interchangeable parts: one file in a package is one entry.

An entry of the family `backbone` called `stgnn` is the object decorated with `@backbones.register` in
`st_pipeline/models/backbones/stgnn.py`. Names and options are read from the source, so that a configuration can
be checked without importing torch; the module is imported when the entry is built.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model

from st_pipeline.errors import InputError, closest

T = TypeVar("T")
Entry = TypeVar("Entry", bound=Callable[..., Any])

_ANNOTATIONS = {"int": int, "float": float, "bool": bool, "str": str, "list": list, "Literal": Literal, "None": None}
_ANNOTATIONS |= {"Sequence": Sequence, "Annotated": Annotated, "Field": Field}


class Registry(Generic[T]):
    """The entries of one family.

    Args:
        kind: what an entry is called in messages, e.g. `backbone`.
        package: dotted name of the package whose files are the entries; files starting with `_`
            and `base.py` are not.
    """

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self.package = package
        self._entries: dict[str, Callable[..., T]] = {}

    def register(self, entry: Entry) -> Entry:
        """Class or function decorator: the entry takes the name of its file."""
        self._entries[entry.__module__.rpartition(".")[2]] = entry
        return entry

    def names(self) -> list[str]:
        """Sorted names of all entries."""
        spec = find_spec(self.package)
        folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
        files = {file.stem for folder in folders for file in folder.glob("[!_]*.py")} - {"base"}
        return sorted(files | self._entries.keys())

    def options(self, name: str) -> type[BaseModel]:
        """Pydantic model of an entry's keyword-only arguments, read from its source without importing it.

        Raises:
            InputError: no entry has this name.
        """
        return _options(self._file(name), name)

    def validate(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The spec with its options checked against the entry's arguments.

        Raises:
            InputError: unknown name, unknown option or wrong type.
        """
        options = {key: value for key, value in spec.items() if key != "name"}
        model = self.options(spec["name"])
        try:
            checked = model.model_validate(options)
        except ValidationError as error:
            field, problem = _first_problem(error, model)
            raise InputError(f"{self.kind} {spec['name']!r}: {problem}", field=field) from None
        return {"name": spec["name"], **checked.model_dump(exclude_unset=True)}

    def build(self, spec: Mapping[str, Any] | str, **context: Any) -> T:
        """The entry called `spec["name"]`, made with its options and the caller's context."""
        checked = self.validate({"name": spec} if isinstance(spec, str) else spec)
        name = checked.pop("name")
        if name not in self._entries:
            import_module(f"{self.package}.{name}")
        return self._entries[name](**context, **checked)

    def _file(self, name: str) -> Path:
        if name not in self.names():
            raise InputError(f"there is no {self.kind} called {name!r}; {closest(name, self.names())}")
        if name in self._entries:
            module = import_module(self._entries[name].__module__)
            return Path(str(module.__file__))
        spec = find_spec(f"{self.package}.{name}")
        assert spec is not None and spec.origin is not None
        return Path(spec.origin)


def _options(file: Path, name: str) -> type[BaseModel]:
    """Keyword-only arguments of the registered class or function in a source file, as a pydantic model."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and any(map(_registers, node.decorator_list)):
            break
    else:
        raise TypeError(f"{file} registers nothing")
    call: ast.FunctionDef | None = node if isinstance(node, ast.FunctionDef) else None
    if isinstance(node, ast.ClassDef):
        methods = [item for item in node.body if isinstance(item, ast.FunctionDef) and item.name == "__init__"]
        call = methods[0] if methods else None
    fields: dict[str, Any] = {}
    if call is not None:
        for argument, default in zip(call.args.kwonlyargs, call.args.kw_defaults, strict=True):
            kind = _kind(argument.annotation) if argument.annotation else str
            fields[argument.arg] = (kind, ... if default is None else ast.literal_eval(default))
    settings = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
    return create_model(f"{name} options", __config__=settings, **fields)


def _kind(node: ast.expr) -> Any:
    """The type that an annotation names.

    Raises:
        TypeError: it is of a form that options do not have.
    """
    match node:
        case ast.Name(id=name) if name in _ANNOTATIONS:
            return _ANNOTATIONS[name]
        case ast.Constant(value=value):
            return value
        case ast.Tuple(elts=parts):
            return tuple(map(_kind, parts))
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _kind(left) | _kind(right)
        case ast.Subscript(value=value, slice=inner):
            return _kind(value)[_kind(inner)]
        case ast.Call(func=ast.Name(id="Field"), keywords=words):
            return Field(**{str(word.arg): ast.literal_eval(word.value) for word in words})
    raise TypeError(f"an option cannot be of type {ast.unparse(node)}")


def _registers(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Attribute) and decorator.attr == "register"


def _first_problem(error: ValidationError, model: type[BaseModel]) -> tuple[str, str]:
    """The option at fault, and what is wrong with it."""
    problem = min(error.errors(), key=lambda item: item["type"] != "extra_forbidden")  # a typo explains what is missing
    option = str(problem["loc"][0])
    field = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return option, f"it has no option {field!r}; {closest(field, model.model_fields)}"
    if problem["type"] == "missing":
        return option, f"option {field!r} is missing"
    expected = problem["msg"].removeprefix("Input ")
    return option, f"option {field!r}: found {str(problem['input'])[:80]!r}, {expected[:1].lower() + expected[1:]}"


BACKBONES: Registry[Any] = Registry("backbone", "st_pipeline.models.backbones")
STRATEGIES: Registry[Any] = Registry("strategy", "st_pipeline.strategies")
READERS: Registry[Any] = Registry("source format", "st_pipeline.readers")
GRAPHS: Registry[Any] = Registry("graph recipe", "st_pipeline.data.graphs")
BASELINES: Registry[Any] = Registry("baseline", "st_pipeline.evaluation.baselines")
VIEWS: Registry[Any] = Registry("view", "st_pipeline.reporting.views")  # called like the part of a model they look at
IMPORTERS: Registry[Any] = Registry("import format", "st_pipeline.interchange")
EXPORTERS: Registry[Any] = Registry("export format", "st_pipeline.interchange.exporters")
