"""Where alerts go: a webhook, mail; set up by environment variables alone, whose values are never shown."""

from __future__ import annotations

import json
import os
import smtplib
import socket
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.client import HTTPException
from typing import Any
from urllib.parse import unquote, urlsplit

from st_pipeline.errors import InputError

PATIENCE = 10.0  # seconds for one attempt
MAIL_SCHEMES = {"smtp": 25, "smtp+starttls": 587, "smtps": 465}
MARKS = {"opened": "ALERT", "resolved": "RESOLVED", "test": "TEST"}


def headline(note: Mapping[str, Any]) -> str:
    """A note as one line."""
    return f"{MARKS[note['event']]} [{note['severity']}] {note['message']}"


class Channel(ABC):
    """One way to tell people."""

    name: str

    def send(self, note: Mapping[str, Any]) -> str | None:
        """Deliver a note; why that failed, without any secret, or None."""
        try:
            self._send(note)
        except (OSError, HTTPException, smtplib.SMTPException, ValueError) as error:
            return _reason(error)
        return None

    @abstractmethod
    def _send(self, note: Mapping[str, Any]) -> None: ...


@dataclass(frozen=True)
class Webhook(Channel):
    """POST of one JSON document: `text` for chat services, and the fields of the note."""

    url: str = field(repr=False)
    name = "webhook"

    def _send(self, note: Mapping[str, Any]) -> None:
        document = {"text": f"{headline(note)}\n{note['runbook']}", **note}
        headers = {"Content-Type": "application/json", "User-Agent": "st-pipeline"}
        request = urllib.request.Request(self.url, json.dumps(document).encode(), headers, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answer.read(1024)


@dataclass(frozen=True)
class Mail(Channel):
    """One mail a note, by SMTP, with STARTTLS or over TLS."""

    url: str = field(repr=False)
    to: tuple[str, ...]
    sender: str
    name = "mail"

    def _send(self, note: Mapping[str, Any]) -> None:
        message = EmailMessage()
        message["Subject"] = f"st-pipeline: {headline(note)}"[:200]
        message["From"], message["To"] = self.sender, ", ".join(self.to)
        message.set_content("\n".join(f"{name}: {value}" for name, value in note.items()) + "\n")
        parts = urlsplit(self.url)
        host, port = parts.hostname or "", parts.port or MAIL_SCHEMES[parts.scheme]
        kind = smtplib.SMTP_SSL if parts.scheme == "smtps" else smtplib.SMTP
        with kind(host, port, timeout=PATIENCE) as server:
            if parts.scheme == "smtp+starttls":
                server.starttls()
            if parts.username:
                server.login(unquote(parts.username), unquote(parts.password or ""))
            server.send_message(message)


def channels_from_environment() -> list[Channel]:
    """The channels that `ST_PIPELINE_ALERT_*` sets up; none if nothing is set.

    Raises:
        InputError: a variable cannot be used; its value is not shown.
    """
    found: list[Channel] = []
    if url := os.environ.get("ST_PIPELINE_ALERT_WEBHOOK"):
        if not _is_url(url, {"http", "https"}):
            raise InputError("ST_PIPELINE_ALERT_WEBHOOK is no address that begins with https:// or http://")
        found.append(Webhook(url))
    if url := os.environ.get("ST_PIPELINE_ALERT_SMTP_URL"):
        if not _is_url(url, set(MAIL_SCHEMES)):
            expected = "smtp://, smtp+starttls:// or smtps://[USER:PASSWORD@]HOST[:PORT]"
            raise InputError(f"ST_PIPELINE_ALERT_SMTP_URL is no address of the form {expected}")
        to = tuple(part.strip() for part in os.environ.get("ST_PIPELINE_ALERT_MAIL_TO", "").split(",") if part.strip())
        if not to:
            raise InputError("ST_PIPELINE_ALERT_SMTP_URL is set; set ST_PIPELINE_ALERT_MAIL_TO to who gets the mails")
        sender = os.environ.get("ST_PIPELINE_ALERT_MAIL_FROM") or f"st-pipeline@{socket.gethostname()}"
        found.append(Mail(url, to, sender))
    return found


def _is_url(url: str, schemes: set[str]) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in schemes and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        return False


def _reason(error: Exception) -> str:
    """What went wrong, from parts of the error that hold no address and no password."""
    if isinstance(error, urllib.error.HTTPError):
        return f"HTTP status {error.code}"
    if isinstance(error, smtplib.SMTPResponseException):
        return f"SMTP status {error.smtp_code}"
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    known = cause.strerror if isinstance(cause, OSError) else None
    return f"{type(cause).__name__}: {known}" if known else type(cause).__name__
