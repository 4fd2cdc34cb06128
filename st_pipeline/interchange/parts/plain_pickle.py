"""Pickles of plain data, read without Python's unpickler: nothing that a pickle names is looked up or called.

The opcodes are those of the standard library's `pickletools`. A small stack machine knows the ones that build text,
bytes, numbers, lists, tuples and dictionaries, and recognises by name the handful of NumPy constructors that arrays are
pickled with; the arrays are then made from their bytes here. Everything else is refused.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from st_pipeline.errors import InputError
from st_pipeline.interchange.parts.pickled_arrays import Blank, Name, Refused, fill, made, named

MOST_BYTES = 4 << 30
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
VALUES = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
MARK = object()


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
    except Refused as error:
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
        raise Refused("no end")

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
                raise Refused(f"the instruction {name}")
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
        self.stack.append(named(module, name))

    def do_stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(named(module, name))

    def do_reduce(self, _: Any) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if not isinstance(called, Name) or not isinstance(arguments, tuple):
            raise Refused("a call")
        self.stack.append(made(called.kind, arguments))

    def do_build(self, _: Any) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, Blank) or not isinstance(state, tuple):
            raise Refused("an object with a state of its own")
        fill(target, state)


def _is(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise Refused(f"a {kind.__name__} that is none")
    return value


def _key(key: Any) -> Any:
    key = _finished(key)
    if not isinstance(key, str | bytes | int | float | tuple | np.generic):
        raise Refused("a dictionary with an unusual key")
    return key


def _finished(value: Any) -> Any:
    """The value with its arrays in place, lists and dictionaries included; texts of Python 2 are text already."""
    done: dict[int, Any] = {}

    def finish(item: Any, depth: int) -> Any:
        if depth > 50:
            raise Refused("lists that are nested too deeply")
        if isinstance(item, Blank):
            if item.kind != "array" or item.value is None:
                raise Refused("an array without content")
            return item.value
        if isinstance(item, Name) or item is MARK:
            raise Refused("a name instead of a value")
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
