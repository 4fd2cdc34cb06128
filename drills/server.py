"""`st-pipeline ui` with a backfill of the drill's stream, asked through GraphQL."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

from drills.place import NAME, PERIODS, Place

PATIENCE = 1800  # seconds for a backfill with its kills
LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
    __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill { status } } }"""
ASSETS = "{ assetNodes { assetKey { path } partitionKeys groupName } }"


@dataclass
class Server:
    """A running server, which may be killed and started again on the same home."""

    place: Place
    port: int
    process: subprocess.Popen[bytes]

    @classmethod
    def start(cls, place: Place) -> Server:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        server = cls(place, port, place.start("ui", "--port", str(port)))
        server.wait()
        return server

    def again(self) -> None:
        """Start it once more, after a kill."""
        self.process = self.place.start("ui", "--port", str(self.port))
        self.wait()

    def wait(self) -> None:
        for _ in range(240):
            try:
                if self.ask(ASSETS)["assetNodes"]:
                    return
            except (OSError, ValueError, KeyError):
                pass  # not up yet
            time.sleep(0.5)
        raise TimeoutError(f"the server is not up; see {self.place.folder / 'log'}")

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        url = f"http://127.0.0.1:{self.port}/graphql"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                data: dict[str, Any] = json.load(answer)["data"]
                return data
        except urllib.error.HTTPError as refusal:
            raise ValueError(refusal.read().decode()[:2000]) from None

    def launch(self) -> str:
        """A backfill of everything in the stream, sources first; returns its id."""
        nodes = [node for node in self.ask(ASSETS)["assetNodes"] if node["assetKey"]["path"][0] == NAME]
        keys = [{"path": node["assetKey"]["path"]} for node in nodes]
        params = {"assetSelection": keys, "partitionNames": list(PERIODS)}
        made = self.ask(LAUNCH, params=params)["launchPartitionBackfill"]
        if made["__typename"] != "LaunchBackfillSuccess":
            raise ValueError(made)
        return str(made["backfillId"])

    def status(self, backfill: str) -> str:
        return str(self.ask(STATUS, id=backfill)["partitionBackfillOrError"]["status"])
