"""Pickles of plain data, read without Python's unpickler: nothing that a pickle names is looked up or called.

The opcodes are those of the standard library's `pickletools`. A small stack machine knows the ones that build text,
bytes, numbers, lists, tuples and dictionaries, and recognises by name the handful of NumPy constructors that arrays are
pickled with; the arrays are then made from their bytes here. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.errors import InputError

MOST_BYTES = 4 << 30
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
ARRAYS = {f"{module}.multiarray" for module in ("numpy.core", "numpy._core")}
NUMERIC = {f"{module}.numeric" for module in ("numpy.core", "numpy._core")}
KNOWN = {
    **{(module, "_reconstruct"): "reconstruct" for module in ARRAYS},
    **{(module, "scalar"): "scalar" for module in ARRAYS},
    **{(module, "_frombuffer"): "frombuffer" for module in NUMERIC},
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): "dtype",
    ("_codecs", "encode"): "encode",
    ("__builtin__", "bytes"): "bytes",
    ("builtins", "bytes"): "bytes",
}
MARK = object()


@dataclass(frozen=True)
class _Name:
    """A constructor of NumPy that the pickle names; it is never looked up."""

    kind: str


@dataclass
class _Blank:
    """An array or a type of numbers whose state comes later."""

    kind: str
    code: str = ""
    value: Any = None


class _Refused(ValueError):
    pass


def load_plain(file: Path) -> Any:
    """The value of a pickle that holds lists, tuples, dictionaries, text, bytes, numbers and arrays of numbers.

    Raises:
        InputError: it holds anything else, or is damaged.
    """
    try:
        if (size := file.stat().st_size) > MOST_BYTES:
            raise InputError(f"{file}: {size:,} bytes; expected at most {MOST_BYTES:,}")
        with file.open("rb") as handle:
            return _Machine().run(handle)
    except InputError:
        raise
    except _Refused as error:
        raise InputError(
            f"{file}: the pickle holds {error}; only lists, dictionaries, text, numbers and arrays of numbers are read"
        ) from None
    except Exception as error:  # a damaged pickle fails in as many ways as there are opcodes
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise InputError(f"{file}: cannot be read as a pickle: {reason[:200]}") from None


class _Machine:
    """The stack and the memo of one pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def run(self, handle: Any) -> Any:
        for opcode, argument, _ in pickletools.genops(handle):
            if opcode.name == "STOP":
                return _finished(self.stack.pop())
            self.step(opcode.name, argument)
        raise _Refused("no end")

    def step(self, name: str, argument: Any) -> None:
        """One opcode."""
        if name in CONSTANTS:
            self.stack.append(CONSTANTS[name])
        elif name in VALUES:
            self.stack.append(argument)
        elif name in EMPTY:
            self.stack.append(EMPTY[name]())
        elif name == "MARK":
            self.stack.append(MARK)
        elif name not in ("PROTO", "FRAME"):
            action = getattr(self, f"do_{name.lower()}", None)
            if action is None:
                raise _Refused(f"the instruction {name}")
            action(argument)

    def above_mark(self) -> list[Any]:
        place = max(index for index, item in enumerate(self.stack) if item is MARK)
        found = self.stack[place + 1 :]
        del self.stack[place:]
        return found

    def do_pop(self, _: Any) -> None:
        self.stack.pop()

    def do_memoize(self, _: Any) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def do_put(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    do_binput = do_long_binput = do_put

    def do_get(self, place: int) -> None:
        self.stack.append(self.memo[place])

    do_binget = do_long_binget = do_get

    def do_append(self, _: Any) -> None:
        item = self.stack.pop()
        _is(self.stack[-1], list).append(item)

    def do_appends(self, _: Any) -> None:
        items = self.above_mark()
        _is(self.stack[-1], list).extend(items)

    def do_list(self, _: Any) -> None:
        self.stack.append(self.above_mark())

    def do_tuple(self, _: Any) -> None:
        self.stack.append(tuple(self.above_mark()))

    def do_tuple1(self, _: Any) -> None:
        self.stack[-1:] = [(self.stack[-1],)]

    def do_tuple2(self, _: Any) -> None:
        self.stack[-2:] = [tuple(self.stack[-2:])]

    def do_tuple3(self, _: Any) -> None:
        self.stack[-3:] = [tuple(self.stack[-3:])]

    def do_setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _is(self.stack[-1], dict)[_key(key)] = value

    def do_setitems(self, _: Any) -> None:
        items = self.above_mark()
        target = _is(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def do_dict(self, _: Any) -> None:
        items = self.above_mark()
        self.stack.append({_key(key): value for key, value in zip(items[::2], items[1::2], strict=True)})

    def do_global(self, argument: str) -> None:
        module, _, name = argument.partition(" ")
        self.stack.append(_named(module, name))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_named(module, name))

    def do_reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, _Name) or not isinstance(arguments, tuple):
            raise _Refused("a call")
        self.stack.append(_made(called.kind, arguments))

    def do_build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, _Blank) or not isinstance(state, tuple):
            raise _Refused("an object with a state of its own")
        _fill(target, state)


def _is(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise _Refused(f"a {kind.__name__} that is none")
    return value


def _key(key: Any) -> Any:
    key = _finished(key)
    if not isinstance(key, str | bytes | int | float | tuple | np.generic):
        raise _Refused("a dictionary with an unusual key")
    return key


def _named(module: Any, name: Any) -> _Name:
    if kind := KNOWN.get((module, name)):
        return _Name(kind)
    raise _Refused(f"the name {str(module)[:60]}.{str(name)[:60]}, which would be run")


def _made(kind: str, arguments: tuple[Any, ...]) -> Any:
    """What a constructor would make of its arguments."""
    if kind == "reconstruct":
        return _Blank("array")
    if kind == "dtype":
        return _Blank("dtype", code=_code(arguments[0]))
    if kind == "encode" and arguments[1] == "latin1" and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if kind == "bytes" and not arguments:  # no bytes, in old protocols
        return b""
    if kind == "scalar" and len(arguments) == 2:
        return np.frombuffer(_bytes(arguments[1]), _dtype(arguments[0]))[0]
    if kind == "frombuffer" and len(arguments) == 4:
        content, dtype, shape, order = arguments
        return _array(_bytes(content), _dtype(dtype), shape, fortran=order == "F")
    raise _Refused("a call")


def _fill(blank: _Blank, state: tuple[Any, ...]) -> None:
    """Give an array or a type of numbers its state."""
    if blank.kind == "dtype":
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise _Refused("an array of records")
        blank.value = np.dtype(blank.code).newbyteorder(order)
        return
    _, shape, dtype, fortran, content = state
    blank.value = _array(_bytes(content), _dtype(dtype), shape, fortran=fortran is True)


def _code(code: Any) -> str:
    """The name of a type of numbers or of text of fixed width."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    if not isinstance(name, str) or np.dtype(name).hasobject or np.dtype(name).kind not in "biufSU":
        raise _Refused(f"an array of type {code!r}, which would be run")
    return name


def _dtype(found: Any) -> np.dtype[Any]:
    if not isinstance(found, _Blank) or found.kind != "dtype":
        raise _Refused("an array without a type")
    return found.value if found.value is not None else np.dtype(found.code)


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("latin1")  # a pickle of Python 2
    if not isinstance(content, bytes | bytearray):
        raise _Refused("an array of objects")
    return bytes(content)


def _array(content: bytes, dtype: np.dtype[Any], shape: Any, *, fortran: bool) -> Any:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    flat = np.frombuffer(content, dtype)
    return flat.reshape([int(size) for size in sizes], order="F" if fortran else "C")


def _finished(value: Any) -> Any:
    """The value with its arrays in place, lists and dictionaries included; texts of Python 2 are text already."""
    done: dict[int, Any] = {}

    def finish(item: Any, depth: int) -> Any:
        if depth > 50:
            raise _Refused("lists that are nested too deeply")
        if isinstance(item, _Blank):
            if item.kind != "array" or item.value is None:
                raise _Refused("an array without content")
            return item.value
        if isinstance(item, _Name) or item is MARK:
            raise _Refused("a name instead of a value")
        if id(item) in done:
            return done[id(item)]
        if isinstance(item, list):
            found: list[Any] = []
            done[id(item)] = found
            found.extend(finish(part, depth + 1) for part in item)
            return found
        if isinstance(item, tuple):
            return tuple(finish(part, depth + 1) for part in item)
        if isinstance(item, dict):
            table: dict[Any, Any] = {}
            done[id(item)] = table
            table.update({key: finish(part, depth + 1) for key, part in item.items()})
            return table
        return item

    return finish(value, 0)
