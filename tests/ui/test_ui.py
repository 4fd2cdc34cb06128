"""The real thing: `st-pipeline ui`, asset backfills through GraphQL, and what a person sees in a browser.

Two backfills run at once on one server: a good stream, and one whose second period the gate refuses. Dagster's backfill
daemon looks every 30 seconds and no setting changes that, so the server is started with a shorter interval: the order
and the conditions of what it launches stay as they are.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drills.browser import CHROMIUM, FLAGS
from drills.place import QUICK

PERIODS = ["2024-01-01", "2024-01-08", "2024-01-15"]
GOOD = PERIODS[:2]  # of the good stream
PATIENCE = 1800  # seconds for both backfills: on a quiet machine they take three minutes

pytestmark = pytest.mark.ui


@dataclass
class Server:
    """A running `st-pipeline ui`."""

    url: str
    workspace: Any

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        body = json.dumps({"query": query, "variables": variables}).encode()
        request = urllib.request.Request(f"{self.url}/graphql", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                document = json.load(answer)
        except urllib.error.HTTPError as refusal:
            pytest.fail(f"{refusal}: {refusal.read().decode()[:3000]}")
        assert "errors" not in document, document["errors"]
        return document["data"]

    def launch(self, stream: str, *, without: tuple[str, ...] = ()) -> str:
        """Start an asset backfill of a stream: all its assets but those with one of these last names."""
        nodes = self.ask("{assetNodes{assetKey{path} groupName}}")["assetNodes"]
        keys = [node["assetKey"] for node in nodes if node["groupName"] == stream]
        keys = [key for key in keys if key["path"][-1] not in without]
        mutation = """mutation($p: LaunchBackfillParams!) {launchPartitionBackfill(backfillParams: $p) {
            __typename ... on LaunchBackfillSuccess {backfillId} ... on PythonError {message}}}"""
        answer = self.ask(mutation, p={"assetSelection": keys, "allPartitions": True})["launchPartitionBackfill"]
        return str(answer["backfillId"])

    def status(self, backfill: str) -> str:
        query = """query($b: String!) {partitionBackfillOrError(backfillId: $b) {... on PartitionBackfill {status}}}"""
        return str(self.ask(query, b=backfill)["partitionBackfillOrError"]["status"])

    def materialised(self, *path: str) -> list[str]:
        """Periods in the order in which an asset was materialised."""
        query = """query($k: AssetKeyInput!) {assetOrError(assetKey: $k) {
            ... on Asset {assetMaterializations(limit: 100) {partition timestamp}}}}"""
        found = self.ask(query, k={"path": path})["assetOrError"].get("assetMaterializations", [])
        return [event["partition"] for event in sorted(found, key=lambda event: float(event["timestamp"]))]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, make_workspace: Any) -> Iterator[Server]:
    """`st-pipeline ui` on a free port, with a good, a poisoned and a broken stream; ended with its process group."""
    workspace = make_workspace(tmp_path_factory.mktemp("ui"))
    models = [{"name": "eac", "backbone": "stgnn", "prompt_pool": {"rank": 2}, "strategy": "eac"}]
    models[0]["training"] = {"epochs": 3}
    calendar = {"every": "7d", "start": PERIODS[0], "end": PERIODS[2]}
    workspace.stream("good", models=models, periods=calendar, description="Simulated roads, for the tests")
    workspace.landed_stream("poisoned", models=models)
    workspace.poison("poisoned", PERIODS[1])
    workspace.stream("broken", stepp="1h")
    quick = workspace.folder / "quick"
    quick.mkdir()
    (quick / "sitecustomize.py").write_text(QUICK)
    python_path = os.pathsep.join([str(quick), *filter(None, [os.environ.get("PYTHONPATH")])])
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = (workspace.folder / "ui.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-c", "from st_pipeline.cli import main; main()", "ui", "--port", str(port)],
        env={**os.environ, **workspace.environment, "PYTHONPATH": python_path},
        cwd=workspace.folder,
        stdout=log,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    try:
        found = Server(f"http://127.0.0.1:{port}", workspace)
        _wait_until_served(found, process)
        yield found
    finally:
        _end(process)
        log.close()


def _wait_until_served(server: Server, process: subprocess.Popen[bytes]) -> None:
    for _ in range(120):
        assert process.poll() is None, (server.workspace.folder / "ui.log").read_text()[-3000:]
        try:
            if server.ask("{assetNodes{id}}")["assetNodes"]:
                return
        except OSError:
            pass
        time.sleep(1)
    pytest.fail("the UI did not come up: " + (server.workspace.folder / "ui.log").read_text()[-3000:])


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop the server and everything it started: they are one session of processes."""
    for number, patience in ((signal.SIGINT, 20), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, number)
            process.wait(patience)
        except ProcessLookupError:
            break
        except subprocess.TimeoutExpired:
            continue
    try:
        os.killpg(process.pid, signal.SIGKILL)  # what the server may have left behind
    except ProcessLookupError:
        return


@pytest.fixture(scope="module")
def backfilled(server: Server) -> dict[str, str]:
    """Both backfills at their end: stream -> status. Meanwhile the same stream is run by the command line."""
    results = (
        "drift",
        "advice",
        "diagnostics",
        "evaluation",
        "losses",
        "prompt_analysis",
        "drill",
        "report",
        "leaderboard",
        "forecast",
        "forecast_scores",
        "champion",
    )
    backfills = {"good": server.launch("good"), "poisoned": server.launch("poisoned", without=results)}
    begin = time.monotonic()
    done = server.workspace.command("run", "good", ST_PIPELINE_HOME=str(server.workspace.folder / "other"))
    assert done.returncode == 0, done.stderr
    statuses = {}
    while time.monotonic() - begin < PATIENCE:
        statuses = {stream: server.status(backfill) for stream, backfill in backfills.items()}
        if not {"REQUESTED", "COMPLETING", "FAILING"} & set(statuses.values()):
            return statuses
        time.sleep(3)
    pytest.fail(f"the backfills did not end within {PATIENCE} s: {statuses}")


def test_backfill_trains_in_period_order(server: Server, backfilled: dict[str, str]) -> None:
    assert backfilled["good"] == "COMPLETED_SUCCESS"
    assert server.materialised("good", "eac", "backbone") == GOOD
    assert server.materialised("good", "eac", "prompt_pool") == GOOD


def test_backfill_and_command_line_give_the_same_bits(server: Server, backfilled: dict[str, str]) -> None:
    from st_pipeline.storage import Lake
    from st_pipeline.training.checkpoint import CHECKPOINTS, same_weights

    lakes = [Lake(server.workspace.folder / home / "lake") for home in ("home", "other")]
    for part in ("backbone", "prompt_pool"):
        for period in GOOD:
            one, other = (lake.read(("good", "eac", part), period, CHECKPOINTS)[1] for lake in lakes)
            assert same_weights(one, other), (part, period)
            assert one.digest == other.digest
    files = {path for path in server.workspace.files() if path.startswith("good/") and "champion" not in path}
    assert files == server.workspace.files(server.workspace.folder / "other")


def test_poisoned_period_stops_what_follows_from_it_and_nothing_else(
    server: Server, backfilled: dict[str, str]
) -> None:
    assert backfilled["poisoned"] == "COMPLETED_FAILED"
    files = server.workspace.files()
    first, second, third = PERIODS

    def made(asset: str, extension: str = "parquet") -> list[str]:
        return [period for period in PERIODS if f"poisoned/{asset}/{period}.{extension}" in files]

    assert made("raw_readings") == PERIODS
    assert made("readings") == [first, third]
    assert made("eac/backbone", "safetensors") == made("eac/prompt_pool", "safetensors") == [first]
    assert made("tensor", "safetensors") == made("adjacency", "safetensors") == [first]
    assert server.materialised("poisoned", "readings").count(second) == 0


def test_failed_gate_is_an_asset_check_with_its_reason(server: Server, backfilled: dict[str, str]) -> None:
    query = """query($k: AssetKeyInput!) {assetNodeOrError(assetKey: $k) {... on AssetNode {assetChecksOrError {
        ... on AssetChecks {checks {name executionForLatestMaterialization {status evaluation {severity description}}
        }}}}}}"""
    node = server.ask(query, k={"path": ["poisoned", "readings"]})["assetNodeOrError"]
    assert {check["name"] for check in node["assetChecksOrError"]["checks"]} == {
        "critical_expectations",
        "warning_expectations",
    }
    query = """query($k: AssetKeyInput!) {assetCheckExecutions(assetKey: $k, checkName: "critical_expectations",
        limit: 20) {status evaluation {severity description partition}}}"""
    found = server.ask(query, k={"path": ["poisoned", "readings"]})["assetCheckExecutions"]
    failed = [execution["evaluation"] for execution in found if execution["status"] == "FAILED"]
    assert failed and {item["severity"] for item in failed} == {"ERROR"}
    assert "out of range" in failed[0]["description"]


def test_broken_stream_is_shown_with_its_sentence(server: Server) -> None:
    nodes = server.ask("{assetNodes{assetKey{path} groupName description}}")["assetNodes"]
    (broken,) = [node for node in nodes if node["groupName"] == "broken_streams"]
    assert broken["assetKey"]["path"] == ["broken_streams", "broken"]
    assert "stepp" in broken["description"] and "did you mean 'step'?" in broken["description"]


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine: apt-get install chromium")
def test_a_person_sees_lineage_plots_checks_and_report(server: Server, backfilled: dict[str, str]) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    server.ask("mutation {setNuxSeen}")
    location = "__repository__@st_pipeline.definitions"
    report = server.workspace.home / "lake" / "good" / "report" / f"{GOOD[-1]}.html"
    pages: dict[str, tuple[str, list[str], list[str]]] = {
        # name: address, texts to click on, texts to see
        "lineage": (f"{server.url}/locations/{location}/asset-groups/good/lineage", [], ["prompt_pool", "report"]),
        "model": (
            f"{server.url}/assets/good/eac/backbone?view=overview",
            [],
            ["spatio-temporal network", "validation_error"],
        ),
        "plots": (f"{server.url}/assets/good/eac/backbone?view=overview", ["Plots"], ["validation_error", "seconds"]),
        "readings": (f"{server.url}/assets/good/readings?view=overview", [], ["share_observed", "The gate"]),
        "evaluation": (f"{server.url}/assets/good/eac/evaluation?view=overview", [], ["eac_mae", "summary"]),
        "checks": (
            f"{server.url}/assets/poisoned/readings?view=checks",
            ["critical_expectations"],
            ["critical_expectations", "Failed"],
        ),
        "partitions": (f"{server.url}/assets/poisoned/readings?view=partitions", [], PERIODS),
        "leaderboard": (f"{server.url}/assets/good/leaderboard?view=overview", [], ["eac_mae"]),
        "broken": (f"{server.url}/assets/broken_streams/broken?view=overview", [], ["did you mean"]),
        "backfills": (f"{server.url}/runs?view=backfills", [], ["Success", "Failure"]),
        "report": (report.as_uri(), [], ["good", "Forgetting", "eac"]),
    }
    missing = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            context = browser.new_context(viewport={"width": 1500, "height": 1100})
            context.route(
                "**/*",
                lambda route: (
                    route.continue_() if route.request.url.startswith((server.url, "file:", "data:")) else route.abort()
                ),
            )
            for name, (address, clicks, texts) in pages.items():
                page = context.new_page()
                page.goto(address, wait_until="domcontentloaded")
                missing += _look(page, name, clicks, texts, server.workspace.folder / f"{name}.png")
                page.close()
        finally:
            browser.close()
    assert not missing, missing


def _look(page: Any, name: str, clicks: list[str], texts: list[str], picture: Path) -> list[str]:
    """What cannot be seen of the texts, and errors that can; takes a screenshot either way."""
    problems = []
    try:
        for text in clicks:
            page.get_by_text(text, exact=True).first.click(timeout=20_000)
        for text in texts:
            try:
                page.get_by_text(text).first.wait_for(timeout=20_000)
            except Exception:
                problems.append(f"{name}: {text!r} is not to be seen")
        page.wait_for_timeout(1500)
        shown = page.inner_text("body")
        banners = ("Unexpected error", "PythonError", "GraphQL error", "Failed to load", "is not found")
        problems += [f"{name}: shows {banner!r}" for banner in banners if banner in shown]
    finally:
        page.screenshot(path=picture, full_page=name == "report")
    return problems
