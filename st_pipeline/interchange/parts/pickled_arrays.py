"""NumPy's arrays as pickles hold them: constructors recognised by name, arrays made here from their bytes.

Only arrays of numbers, truth values and text of fixed width are made; nothing that a pickle names is looked up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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


@dataclass(frozen=True)
class Name:
    """A constructor of NumPy that the pickle names; it is never looked up."""

    kind: str


@dataclass
class Blank:
    """An array or a type of numbers whose state comes later."""

    kind: str
    code: str = ""
    value: Any = None


class Refused(ValueError):
    """What a pickle holds that is no plain data."""


def named(module: Any, name: Any) -> Name:
    if kind := KNOWN.get((module, name)):
        return Name(kind)
    raise Refused(f"the name {str(module)[:60]}.{str(name)[:60]}, which would be run")


def made(kind: str, arguments: tuple[Any, ...]) -> Any:
    """What a constructor would make of its arguments."""
    if kind == "reconstruct":
        return Blank("array")
    if kind == "dtype":
        return Blank("dtype", code=_code(arguments[0]))
    if kind == "encode" and arguments[1] == "latin1" and isinstance(arguments[0], str):
        return arguments[0].encode("latin1")
    if kind == "bytes" and not arguments:  # no bytes, in old protocols
        return b""
    if kind == "scalar" and len(arguments) == 2:
        return np.frombuffer(_bytes(arguments[1]), _dtype(arguments[0]))[0]
    if kind == "frombuffer" and len(arguments) == 4:
        content, dtype, shape, order = arguments
        return _array(_bytes(content), _dtype(dtype), shape, fortran=order == "F")
    raise Refused("a call")


def fill(blank: Blank, state: tuple[Any, ...]) -> None:
    """Give an array or a type of numbers its state."""
    if blank.kind == "dtype":
        order = state[1]
        if order not in ("<", ">", "|", "=") or any(part is not None for part in state[2:5]):
            raise Refused("an array of records")
        blank.value = np.dtype(blank.code).newbyteorder(order)
        return
    _, shape, dtype, fortran, content = state
    blank.value = _array(_bytes(content), _dtype(dtype), shape, fortran=fortran is True)


def _code(code: Any) -> str:
    """The name of a type of numbers or of text of fixed width."""
    name = code.decode("ascii") if isinstance(code, bytes) else code
    if not isinstance(name, str) or np.dtype(name).hasobject or np.dtype(name).kind not in "biufSU":
        raise Refused(f"an array of type {code!r}, which would be run")
    return name


def _dtype(found: Any) -> np.dtype[Any]:
    if not isinstance(found, Blank) or found.kind != "dtype":
        raise Refused("an array without a type")
    return found.value if found.value is not None else np.dtype(found.code)


def _bytes(content: Any) -> bytes:
    if isinstance(content, str):
        return content.encode("latin1")  # a pickle of Python 2
    if not isinstance(content, bytes | bytearray):
        raise Refused("an array of objects")
    return bytes(content)


def _array(content: bytes, dtype: np.dtype[Any], shape: Any, *, fortran: bool) -> Any:
    sizes = shape if isinstance(shape, tuple) else (shape,)
    flat = np.frombuffer(content, dtype)
    return flat.reshape([int(size) for size in sizes], order="F" if fortran else "C")
