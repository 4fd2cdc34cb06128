"""Where long work tells whoever listens in this process what it is doing, e.g. a progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

WRITTEN = "written"  # what an asset has come to when its file is there
Listener = Callable[[str, str], None]
_listeners: list[Listener] = []


def tell(what: str, text: str) -> None:
    """Tell all listeners that something, e.g. `melbourne/eac of 2012-01`, has come to `text`."""
    for listener in _listeners:
        listener(what, text)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Inside, the listener is told of everything."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)
