"""`deploy/nginx.conf` with a real nginx on loopback, before a read-only UI and a server that says who was reached."""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import pytest

CONF = Path(__file__).parents[2] / "deploy" / "nginx.conf"
NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
OPENSSL = shutil.which("openssl")
PATIENCE = 240
LAUNCH = """mutation($p: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $p) {
    __typename ... on LaunchBackfillSuccess {backfillId} ... on UnauthorizedError {message}}}"""

pytestmark = [
    pytest.mark.ui,
    pytest.mark.skipif(not (NGINX and OPENSSL), reason="needs nginx and openssl: apt-get install nginx-light openssl"),
]


class Answer(NamedTuple):
    status: int
    text: str


class Ports(NamedTuple):
    viewer: int
    operator: int


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [int(probe.getsockname()[1]) for probe in probes]
    finally:
        for probe in probes:
            probe.close()


class _Operators(BaseHTTPRequestHandler):
    """Stands for the operators' UI: says that it was reached, and which password it was shown."""

    def do_GET(self) -> None:
        body = f"operators {self.headers.get('Authorization')}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[int]:
    """Port of `st-pipeline ui --read-only`."""
    space, (port,) = make_workspace(tmp_path_factory.mktemp("viewer")), free_ports(1)
    space.stream("good")
    command = [sys.executable, "-c", "from st_pipeline.cli import main; main()", "ui", "--read-only"]
    log = space.folder / "log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [*command, "--port", str(port)],
            env={**os.environ, **space.environment},
            cwd=space.folder,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    try:
        _wait(f"http://127.0.0.1:{port}/server_info", process, log)
        yield port
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # somebody answers
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"{url} did not come up: {log.read_text()[-3000:]}")


@pytest.fixture(scope="module")
def proxy(viewer: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    """The documented configuration with ports and paths of its own, run by an nginx of its own."""
    folder, (https, operators_https, operators) = tmp_path_factory.mktemp("nginx"), free_ports(3)
    _make_secrets(folder)
    text = CONF.read_text()
    changes = {
        "listen 443 ssl": f"listen 127.0.0.1:{https} ssl",
        "listen 8443 ssl": f"listen 127.0.0.1:{operators_https} ssl",
        "http://127.0.0.1:3001": f"http://127.0.0.1:{viewer}",
        "http://127.0.0.1:3000": f"http://127.0.0.1:{operators}",
        "/etc/nginx/st-pipeline": str(folder),
    }
    for right, own in changes.items():
        assert right in text
        text = text.replace(right, own)
    temporary = " ".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "conf").write_text(
        f"{user} daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}}\n"
        f"http {{ access_log {folder}/access.log; {temporary}\n{text}\n}}\n"
    )
    server = HTTPServer(("127.0.0.1", operators), _Operators)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    assert NGINX
    process = subprocess.Popen([NGINX, "-c", str(folder / "conf"), "-p", str(folder), "-e", str(folder / "error.log")])
    try:
        _wait_for_port(https, process, folder / "error.log")
        yield Ports(https, operators_https)
    finally:
        process.terminate()
        process.wait(20)
        server.shutdown()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        assert process.poll() is None, log.read_text()
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.1)
    pytest.fail(f"nginx did not come up: {log.read_text()}")


def _make_secrets(folder: Path) -> None:
    assert OPENSSL
    key, certificate = str(folder / "key.pem"), str(folder / "cert.pem")
    request = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*request, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for name, password in (("viewers", "look"), ("operators", "work")):
        hashed = subprocess.run([OPENSSL, "passwd", "-apr1", password], check=True, capture_output=True, text=True)
        (folder / name).write_text(f"{name[:-1]}:{hashed.stdout}")


def insecure() -> ssl.SSLContext:
    """Trusts the certificate that was made a moment ago."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def ask(port: int, path: str, *, who: str | None = None, body: dict[str, Any] | None = None) -> Answer:
    headers = {"Content-Type": "application/json"} if body else {}
    if who:
        headers["Authorization"] = "Basic " + base64.b64encode(who.encode()).decode()
    payload = json.dumps(body).encode() if body else None
    request = urllib.request.Request(f"https://127.0.0.1:{port}{path}", payload, headers)
    try:
        with urllib.request.urlopen(request, timeout=60, context=insecure()) as answer:
            return Answer(answer.status, answer.read().decode())
    except urllib.error.HTTPError as refusal:
        return Answer(refusal.code, refusal.read().decode())


@pytest.mark.parametrize("path", ["/", "/graphql", "/server_info", "/assets/good"])
@pytest.mark.parametrize("who", [None, "viewer:wrong", "operator:work", "viewer:"])
def test_without_the_password_nothing(proxy: Ports, path: str, who: str | None) -> None:
    assert ask(proxy.viewer, path, who=who).status == 401


def test_with_it_the_page_and_a_query(proxy: Ports) -> None:
    page = ask(proxy.viewer, "/", who="viewer:look")
    assert page.status == 200 and "<!doctype html>" in page.text.lower()
    found = ask(proxy.viewer, "/graphql", who="viewer:look", body={"query": "{assetNodes{assetKey{path}}}"})
    keys = [node["assetKey"]["path"] for node in json.loads(found.text)["data"]["assetNodes"]]
    assert ["good", "leaderboard"] in keys


def test_a_viewer_starts_nothing(proxy: Ports) -> None:
    asked = {"assetSelection": [{"path": ["good", "leaderboard"]}], "allPartitions": True}
    found = ask(proxy.viewer, "/graphql", who="viewer:look", body={"query": LAUNCH, "variables": {"p": asked}})
    assert json.loads(found.text)["data"]["launchPartitionBackfill"]["__typename"] == "UnauthorizedError"
    reload = {"query": "mutation {reloadWorkspace {__typename}}"}
    found = ask(proxy.viewer, "/graphql", who="viewer:look", body=reload)
    assert json.loads(found.text)["data"]["reloadWorkspace"]["__typename"] == "UnauthorizedError"


def test_subscriptions_pass(proxy: Ports) -> None:
    """The upgrade to a websocket is answered, and the server speaks GraphQL over it."""
    credentials = base64.b64encode(b"viewer:look").decode()
    for password, status in ((credentials, "101"), (base64.b64encode(b"viewer:no").decode(), "401")):
        with socket.create_connection(("127.0.0.1", proxy.viewer), 60) as raw:
            secure = insecure().wrap_socket(raw, server_hostname="localhost")
            secure.sendall(
                f"GET /graphql HTTP/1.1\r\nHost: localhost\r\nAuthorization: Basic {password}\r\n"
                "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: graphql-ws\r\n\r\n".encode()
            )
            head = secure.recv(4096).decode("latin-1")
            assert head.split(" ")[1] == status, head
            if status == "101":
                assert "s3pplmbitxaq9kygzzhzrbk+xoo=" in head.lower()


def test_operators_have_a_port_and_passwords_of_their_own(proxy: Ports) -> None:
    assert ask(proxy.operator, "/", who="operator:work") == Answer(200, "operators None"), "the password stays in nginx"
    assert ask(proxy.operator, "/", who="viewer:look").status == 401
    assert ask(proxy.operator, "/").status == 401


def test_nothing_is_served_in_the_clear(proxy: Ports) -> None:
    with pytest.raises((urllib.error.URLError, OSError)) as caught:
        urllib.request.urlopen(f"http://127.0.0.1:{proxy.viewer}/", timeout=20)
    assert getattr(caught.value, "code", 400) == 400
