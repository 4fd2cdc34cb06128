"""`ui`: the Dagster UI and daemon on this machine, with the persistent instance."""

from __future__ import annotations

import os
import signal
import socket
import sys

import click

from st_pipeline.cli.output import console
from st_pipeline.errors import InputError

HOST = "127.0.0.1"


@click.command()
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port on 127.0.0.1.")
@click.option("--read-only", is_flag=True, help="For looking only: nothing can be started, and there is no daemon.")
def ui(port: int, read_only: bool) -> None:
    """Open the Dagster UI and daemon on 127.0.0.1; stop them with Ctrl-C."""
    from resources.instance import make_instance
    from st_pipeline.storage import data_root, home

    folder = make_instance()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); choose another with --port"
            ) from None
    environment = {
        **os.environ,
        "DAGSTER_HOME": str(folder),
        "ST_PIPELINE_HOME": str(home()),
        "ST_PIPELINE_DATA": str(data_root()),
        "GX_ANALYTICS_ENABLED": "false",
    }
    how = "for looking only, " if read_only else ""
    console.print(f"http://{HOST}:{port}  ({how}state: {home()}; stop with Ctrl-C)", soft_wrap=True)
    sys.stdout.flush()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)  # a shell may have started this with signals ignored
    program = ["dagster_webserver", "--read-only"] if read_only else ["dagster", "dev"]
    command = [sys.executable, "-m", *program, "-m", "st_pipeline.definitions", "-h", HOST, "-p", str(port)]
    os.execve(sys.executable, command, environment)
