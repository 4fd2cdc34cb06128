"""Servers on loopback that a test or drill starts for itself: Postgres, Redis, S3. Each ends with its context."""

from __future__ import annotations

import logging
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any


class Missing(RuntimeError):
    """A program or package that the drill needs is not installed."""


def require() -> None:
    """
    Raises:
        Missing: something that workers need is not installed.
    """
    for name in ("dagster_celery", "dagster_postgres", "s3fs"):
        if not find_spec(name):
            raise Missing(f"the package {name} is not installed")
    if not shutil.which("redis-server"):
        raise Missing("redis-server is not installed (Debian: apt-get install redis-server)")
    _postgres_programs()


def _postgres_programs() -> Path:
    """The folder of `initdb` and `postgres`, the newest where there are several."""
    if found := sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4])):
        return found[-1].parent
    raise Missing("Postgres is not installed (Debian: apt-get install postgresql)")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def postgres() -> Iterator[str]:
    """A server of its own, its data in a temporary folder; the address of its database."""
    programs, port = _postgres_programs(), free_port()
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to be root
    folder = Path(tempfile.mkdtemp(prefix="st_pipeline_pg_"))
    if user:
        known = pwd.getpwnam(user)
        os.chown(folder, known.pw_uid, known.pw_gid)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        data = str(folder / "data")
        how: dict[str, Any] = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL}
        subprocess.run([programs / "initdb", "-D", data, "-U", "drill", "-A", "trust", "--no-sync"], check=True, **how)
        options = ["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-c", f"unix_socket_directories={folder}"]
        command = [programs / "postgres", "-D", data, "-p", str(port), *options]
        stack.enter_context(_process(command, port, stderr=subprocess.DEVNULL, **how))
        yield f"postgresql://drill@127.0.0.1:{port}/postgres"


@contextmanager
def redis(folder: Path) -> Iterator[str]:
    """A server of its own that keeps nothing; its address."""
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with _process(command, port, stdout=subprocess.DEVNULL):
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _process(command: list[Any], port: int, **how: Any) -> Iterator[None]:
    """A server that answers on a port; it is ended afterwards."""
    process = subprocess.Popen([str(part) for part in command], **how)
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"{command[0]} did not start") from None
                time.sleep(0.1)
        yield
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()


@contextmanager
def object_store() -> Iterator[dict[str, str]]:
    """An S3 server with an empty bucket `lake`; the environment of its clients.

    Raises:
        Missing: moto is not installed.
    """
    try:
        import boto3
        from moto.server import ThreadedMotoServer
    except ImportError as error:
        raise Missing(f"the package {error.name} is not installed") from None

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    names = {"aws_access_key_id": "key", "aws_secret_access_key": "secret"}
    try:
        boto3.client("s3", endpoint_url=url, region_name="us-east-1", **names).create_bucket(Bucket="lake")
        keys = {name.upper(): value for name, value in names.items()}
        yield {**keys, "AWS_DEFAULT_REGION": "us-east-1", "AWS_ENDPOINT_URL": url}
    finally:
        server.stop()
