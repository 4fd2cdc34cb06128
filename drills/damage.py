"""Damage to the bytes of a file: what random and chosen hands may do to it."""

from __future__ import annotations

from collections.abc import Callable

TOKENS = ["", " ", ",", '"', "\n", "\r", "\0", ";", "NaN", "inf", "-1", "1e400", "0x1F", "1,5", "s1", "2024-01-01", "ü"]
Damage = Callable[[bytes], bytes]


def at(content: bytes, place: float) -> int:
    return int(place * len(content))


def overwrite(place: float, new: bytes) -> Damage:
    return lambda content: content[: at(content, place)] + new + content[at(content, place) + len(new) :]


def insert(place: float, new: bytes) -> Damage:
    return lambda content: content[: at(content, place)] + new + content[at(content, place) :]


def delete(place: float, length: int) -> Damage:
    return lambda content: content[: at(content, place)] + content[at(content, place) + length :]


def repeat(place: float, length: int) -> Damage:
    return lambda content: content[: at(content, place) + length] + content[at(content, place) :]


def cut(place: float) -> Damage:
    return lambda content: content[: at(content, place)]


def lines(place: float, other: float, how: str) -> Damage:
    """Delete, repeat or swap whole lines."""

    def change(content: bytes) -> bytes:
        parts = content.split(b"\n")
        one, two = int(place * len(parts)), int(other * len(parts))
        if how == "delete":
            del parts[one]
        elif how == "repeat":
            parts.insert(one, parts[two])
        else:
            parts[one], parts[two] = parts[two], parts[one]
        return b"\n".join(parts)

    return change


def cell(place: float, column: int, new: bytes) -> Damage:
    """Write something else into one cell."""

    def change(content: bytes) -> bytes:
        parts = content.split(b"\n")
        row = int(place * len(parts))
        cells = parts[row].split(b",")
        cells[column % len(cells)] = new
        parts[row] = b",".join(cells)
        return b"\n".join(parts)

    return change


def damaged(content: bytes, damage: list[Damage]) -> bytes:
    for change in damage:
        content = change(content)
    return content
