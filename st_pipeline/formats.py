"""The version of the layout of stored files, in every file, beside its content.

It is put in when a file is written and looked at when it is read, so that content and its digest know nothing of it.
Files without one are of before there were versions, and are read as version 0.
"""

from __future__ import annotations

import re

from st_pipeline.errors import InputError

FORMAT = 1
NAME = "st_pipeline_format"
MARK = re.compile(rb"st_pipeline_format=(\d{6})\Z")  # the last bytes of a Parquet file before its footer
PAGE = re.compile(rb"<!-- st_pipeline_format=(\d+) -->\n\Z")
DOCUMENT = re.compile(rb'\s*\{\s*"st_pipeline_format"\s*:\s*(\d+)\s*,')  # also where a tool has set it otherwise
HEADER = b'{"__metadata__":{'
TENSORS = re.compile(rb'\{"__metadata__":\{"st_pipeline_format":"(\d+)",')


def stamp(payload: bytes, extension: str) -> bytes:
    """The bytes of a file of this version; what has no place for it stays as it is (a JSON list)."""
    if extension == "parquet" and (footer := _footer(payload)):
        return payload[:footer] + b"%s=%06d" % (NAME.encode(), FORMAT) + payload[footer:]
    if extension == "safetensors":
        return _stamp_tensors(payload)
    if extension == "json" and payload.startswith(b"{\n "):
        return b'{\n "%s": %d,' % (NAME.encode(), FORMAT) + payload[1:]
    if extension == "html":
        return payload + b"<!-- %s=%d -->\n" % (NAME.encode(), FORMAT)
    return payload


def content(payload: bytes, extension: str) -> bytes:
    """The bytes of a file without its version, as they were before `stamp`; of tensors, ones that load the same.

    Raises:
        InputError: the version is newer than this code knows.
    """
    if extension == "parquet" and (footer := _footer(payload)):
        if found := MARK.search(payload, max(0, footer - 40), footer):
            _check(found)
            return payload[: found.start()] + payload[footer:]
    elif extension == "safetensors":
        if found := TENSORS.match(payload, 8):
            _check(found)
    elif extension == "json":
        if found := DOCUMENT.match(payload):
            _check(found)
            return b"{" + payload[found.end() :]
    elif extension == "html" and (found := PAGE.search(payload, max(0, len(payload) - 80))):
        _check(found)
        return payload[: found.start()]
    return payload


def _check(found: re.Match[bytes]) -> None:
    if (number := int(found[1])) > FORMAT:
        raise InputError(
            f"is of format {number}, and this st-pipeline knows formats up to {FORMAT}: a newer one wrote it; "
            "install that one, or materialise it again"
        )


def _footer(payload: bytes) -> int:
    """Where the footer of a Parquet file begins; 0 if it is none."""
    start = len(payload) - 8 - int.from_bytes(payload[-8:-4], "little")
    return start if payload[-4:] == b"PAR1" and start >= 4 else 0


def _stamp_tensors(payload: bytes) -> bytes:
    """A safetensors file with one entry more in its header, which is filled up with spaces to eight bytes."""
    length = int.from_bytes(payload[:8], "little")
    header = payload[8 : 8 + length].rstrip(b" ")
    if not header.startswith(HEADER):
        return payload
    header = HEADER + b'"%s":"%d",' % (NAME.encode(), FORMAT) + header[len(HEADER) :]
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + payload[8 + length :]
