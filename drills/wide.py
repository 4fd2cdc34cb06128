"""The UI with many streams and years of monthly periods: how long a person waits, with screenshots.

python -m drills.wide                             20 streams, 60 periods
python -m drills.wide --streams 3 --periods 12    a short one

Every partition of every asset has a materialisation with numbers and a picture, as after years of operation; they are
written to the instance without training anything.
"""

from __future__ import annotations

import argparse
import base64
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg

from drills.browser import CHROMIUM, FLAGS
from drills.place import STREAM, Place, kill
from drills.server import Server

ASKED = 3.0  # seconds that a page may take
REPEATS = 3
PICTURE = 20_000  # bytes of a picture in the metadata
PICTURED = ("evaluation", "adjacency", "report")
LOCATION = "__repository__@st_pipeline.definitions"
PATIENCE_MS = 60_000


@dataclass(frozen=True)
class Page:
    """A page: address under the server's, texts to click on, and the text that a person waits for."""

    name: str
    address: str
    clicks: tuple[str, ...]
    text: str


def names(streams: int) -> list[str]:
    return [f"city{number:02d}" for number in range(streams)]


def pages(streams: int, newest: str) -> list[Page]:
    """What is opened, for the stream in the middle."""
    stream = names(streams)[streams // 2]
    graph = f"/locations/{LOCATION}/asset-groups/{stream}/lineage"
    model = f"/assets/{stream}/eac/backbone"
    return [
        Page("all streams", "/asset-groups", (), stream),
        Page("asset graph of a stream", graph, (), "prompt_pool"),
        Page("partitions of an asset", f"{model}?view=partitions", (), newest),
        Page("plots of an asset", f"{model}?view=overview", ("Plots",), "validation_error"),
        Page("backfill dialog", graph, ("Materialize all…",), "Launch backfill"),
        Page("list of backfills", "/runs?view=backfills", (), "Backfill"),
    ]


def make(folder: Path, streams: int, periods: int) -> Place:
    """A place with so many streams of monthly periods, all of them materialised."""
    end = date(2020 + periods // 12, 1 + periods % 12, 1)
    calendar = {"every": "month", "start": "2020-01-01", "end": str(end)}
    first, *others = [{**STREAM, "name": name, "periods": calendar} for name in names(streams)]
    place = Place.make(folder, first)
    for other in others:
        place.write(other)
    return place


def materialise(place: Place) -> int:
    """Report a materialisation of every partition of every asset; returns how many."""
    os.environ.update(place.environment)
    from resources.instance import open_instance
    from st_pipeline.definitions import build

    own = {path.name for path in (place.folder / "streams").iterdir()}
    chance, count = random.Random(0), 0
    with open_instance() as instance:
        for asset in build().resolve_asset_graph().asset_nodes:
            if asset.key.path[0] not in own:
                continue
            keys = asset.partitions_def.get_partition_keys() if asset.partitions_def else [None]
            for key in keys:
                metadata = dict(_metadata(asset.key.path[-1], chance))
                instance.report_runless_asset_event(
                    dg.AssetMaterialization(asset.key, partition=key, metadata=metadata)
                )
                count += 1
    return count


def _metadata(asset: str, chance: random.Random) -> Iterator[tuple[str, Any]]:
    yield "seconds", chance.uniform(1, 20)
    yield "validation_error", chance.uniform(50, 60)
    yield "dagster/row_count", chance.randrange(10_000)
    if asset in PICTURED:
        content = base64.b64encode(chance.randbytes(PICTURE)).decode()
        yield "picture", dg.MetadataValue.md(f"![picture](data:image/png;base64,{content})")


def measure(server: Server, wanted: list[Page], pictures: Path) -> dict[str, list[float]]:
    """Seconds until the text of each page is seen, several times; the first visit of all is not counted."""
    from playwright.sync_api import sync_playwright

    url, found = f"http://127.0.0.1:{server.port}", {}
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context(viewport={"width": 1500, "height": 1100})
        context.route(
            "**/*",
            lambda route: route.continue_() if route.request.url.startswith((url, "data:")) else route.abort(),
        )
        for page in (wanted[0], *wanted):
            found[page.name] = [_visit(context, url, page, pictures) for _ in range(REPEATS)]
        browser.close()
    return found


def _visit(context: Any, url: str, page: Page, pictures: Path) -> float:
    opened = context.new_page()
    begin = time.perf_counter()
    opened.goto(url + page.address, wait_until="domcontentloaded")
    try:
        for text in page.clicks:
            opened.get_by_text(text, exact=True).first.click(timeout=PATIENCE_MS)
        opened.get_by_text(page.text).first.wait_for(timeout=PATIENCE_MS)
        seconds = time.perf_counter() - begin
        opened.wait_for_timeout(1500)
        return seconds
    finally:
        opened.screenshot(path=pictures / f"{page.name.replace(' ', '_')}.png")
        opened.close()


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m drills.wide", description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=20)
    parser.add_argument("--periods", type=int, default=60)
    parser.add_argument("--into", type=Path, help="folder for the screenshots")
    options = parser.parse_args(arguments)
    folder = Path(tempfile.mkdtemp(prefix="wide"))
    pictures = options.into or folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    place = make(folder, options.streams, options.periods)
    begin = time.perf_counter()
    count = materialise(place)
    size = sum(file.stat().st_size for file in place.home.rglob("*") if file.is_file()) / 2**20
    print(f"{count} materialisations in {time.perf_counter() - begin:.0f} s, instance {size:.0f} MiB", flush=True)
    begin = time.perf_counter()
    server = Server.start(place)
    print(f"server up in {time.perf_counter() - begin:.1f} s", flush=True)
    try:
        server.ask("mutation {setNuxSeen}")
        newest = f"2020-{options.periods:02d}" if options.periods <= 12 else "2020-12"
        seconds = measure(server, pages(options.streams, newest), pictures)
    finally:
        kill(server.process)
    slow = 0
    for name, times in seconds.items():
        middle = sorted(times)[len(times) // 2]
        slow += middle > ASKED
        print(f"{name:<28} {middle:5.1f} s   ({', '.join(f'{one:.1f}' for one in times)})")
    print(f"screenshots: {pictures}")
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main())
