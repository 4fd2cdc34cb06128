"""Real servers on loopback: a webhook, an SMTP server; and what is said when they fail."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from st_pipeline.alerts.book import Book, Finding
from st_pipeline.alerts.channels import Mail, Webhook, channels_from_environment
from st_pipeline.errors import InputError

NOTE = {"event": "opened", "key": "k", "severity": "critical", "message": "small: bad.", "runbook": "docs#x", "at": "t"}
SECRET = "very-secret-part"


@contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]  # type: ignore[index]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


class Hook(BaseHTTPRequestHandler):
    """Keeps what it is sent; answers with the status it is told to."""

    status = 200
    got: list[tuple[str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append((self.path, json.loads(body)))
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Smtp(socketserver.StreamRequestHandler):
    """As much of SMTP as a mail needs; every password is wrong."""

    got: list[dict[str, Any]]

    def handle(self) -> None:
        mail: dict[str, Any] = {"to": [], "data": ""}
        self.say("220 here")
        while line := self.rfile.readline().decode().strip():
            word = line.split()[0].upper()
            if word == "EHLO":
                self.say("250-here\r\n250 AUTH PLAIN")
            elif word == "AUTH":
                self.say(f"535 {line} is wrong")
            elif word == "RCPT":
                mail["to"].append(line.partition("<")[2].rstrip(">"))
                self.say("250 ok")
            elif word == "DATA":
                self.say("354 go on")
                while (text := self.rfile.readline().decode()) != ".\r\n":
                    mail["data"] += text
                type(self).got.append(mail)
                self.say("250 taken")
            else:
                self.say("221 bye" if word == "QUIT" else "250 ok")

    def say(self, text: str) -> None:
        self.wfile.write(f"{text}\r\n".encode())


@pytest.fixture
def hook() -> Iterator[tuple[type[Hook], str]]:
    kind = type("Kept", (Hook,), {"got": [], "status": 200})
    with serving(HTTPServer(("127.0.0.1", 0), kind)) as port:
        yield kind, f"http://127.0.0.1:{port}/services/{SECRET}"


@pytest.fixture
def smtp() -> Iterator[tuple[type[Smtp], int]]:
    kind = type("Kept", (Smtp,), {"got": []})
    with serving(socketserver.ThreadingTCPServer(("127.0.0.1", 0), kind)) as port:
        yield kind, port


def test_a_webhook_gets_text_and_fields(hook: tuple[type[Hook], str]) -> None:
    server, url = hook
    assert Webhook(url).send(NOTE) is None
    ((path, document),) = server.got
    assert path == f"/services/{SECRET}"
    assert document["text"] == "ALERT [critical] small: bad.\ndocs#x"
    assert document["key"] == "k" and document["severity"] == "critical"


def test_a_mail_arrives_at_everyone(smtp: tuple[type[Smtp], int]) -> None:
    server, port = smtp
    assert Mail(f"smtp://127.0.0.1:{port}", ("a@x.org", "b@x.org"), "me@x.org").send(NOTE) is None
    (mail,) = server.got
    assert mail["to"] == ["a@x.org", "b@x.org"]
    assert "Subject: st-pipeline: ALERT [critical] small: bad." in mail["data"]
    assert "runbook: docs#x" in mail["data"]


def test_failures_are_told_without_secrets(hook: tuple[type[Hook], str], smtp: tuple[type[Smtp], int]) -> None:
    server, url = hook
    server.status = 403
    mail = Mail(f"smtp://user:{SECRET}@127.0.0.1:{smtp[1]}", ("a@x.org",), "me@x.org")
    found = [
        Webhook(url).send(NOTE),
        Webhook(f"http://127.0.0.1:9/{SECRET}").send(NOTE),
        mail.send(NOTE),
        Mail(f"smtp://user:{SECRET}@127.0.0.1:9", ("a@x.org",), "me@x.org").send(NOTE),
    ]
    assert found[0] == "HTTP status 403"
    assert found[2] == "SMTP status 535"
    assert all(found) and not any(SECRET in str(reason) for reason in found)
    assert SECRET not in repr([Webhook(url), mail])


def test_a_note_goes_through_the_book_to_the_server_and_no_secret_to_the_files(hook, tmp_path) -> None:
    server, url = hook
    server.status = 500
    book = Book([Webhook(url)], tmp_path)
    book.tell([Finding("disk_low", "home", "critical", "full.")], lambda key: True, 0.0)
    assert book.deliver(1000.0) == 1
    server.status = 200
    assert book.deliver(2000.0) == 0
    assert [document["event"] for _, document in server.got] == ["opened", "opened"]
    assert all(SECRET not in file.read_text() for file in tmp_path.iterdir())


def test_the_environment_sets_channels_up(monkeypatch: pytest.MonkeyPatch) -> None:
    assert channels_from_environment() == []
    monkeypatch.setenv("ST_PIPELINE_ALERT_WEBHOOK", "https://hooks.example/x")
    monkeypatch.setenv("ST_PIPELINE_ALERT_SMTP_URL", "smtps://u:p@mail.example")
    monkeypatch.setenv("ST_PIPELINE_ALERT_MAIL_TO", "a@x.org, b@x.org")
    assert [channel.name for channel in channels_from_environment()] == ["webhook", "mail"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ST_PIPELINE_ALERT_WEBHOOK", f"file:///etc/{SECRET}"),
        ("ST_PIPELINE_ALERT_WEBHOOK", SECRET),
        ("ST_PIPELINE_ALERT_SMTP_URL", f"http://{SECRET}"),
        ("ST_PIPELINE_ALERT_SMTP_URL", f"smtp://{SECRET}:99999999"),
        ("ST_PIPELINE_ALERT_SMTP_URL", f"smtp://{SECRET}.example"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_without_its_value(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="ST_PIPELINE_ALERT_") as caught:
        channels_from_environment()
    assert SECRET not in str(caught.value)
