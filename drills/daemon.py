"""What Dagster's daemon does for a stream, without its clocks: ask the sensors, run what they ask for, until all rest.

The sensors are the stream's own; runs go on in this process. A run whose process was killed is run again, as the
daemon's monitoring and its retries do.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import dagster as dg

from drills.place import NAME
from resources.instance import open_instance
from resources.launcher import bury_dead_runs

MOST = 60  # looks at the files
CURSOR = "cursor.json"
PERIOD = "dagster/partition"


def work() -> int:
    """Do everything that is in line; 1 if something failed or waits."""
    from st_pipeline.definitions import defs

    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    with open_instance() as instance:
        daemon = Daemon(instance, defs)
        dead = [instance.get_run_by_id(run) for run in bury_dead_runs(instance)]
        good = [daemon.run(run) for run in dead if run] + [daemon.look()]
        daemon.review()
    return 0 if all(good) else 1


class Daemon:
    """The sensors of the drill's stream, and the one who runs what they ask for."""

    def __init__(self, instance: dg.DagsterInstance, definitions: dg.Definitions) -> None:
        self.instance, self.definitions = instance, definitions
        self.cursor = Path(os.environ["ST_PIPELINE_HOME"]).parent / CURSOR
        self.job = definitions.resolve_job_def(f"{NAME}_period")

    def look(self) -> bool:
        """Ask the sensor of new data until it has nothing to ask for, twice; whether all runs were good."""
        good, resting = True, 0
        sensor = self.definitions.resolve_sensor_def(f"{NAME}_new_data")
        for _ in range(MOST):
            known = self.cursor.read_text() if self.cursor.exists() else None
            context = dg.build_sensor_context(
                instance=self.instance, cursor=known, repository_def=self.definitions.get_repository_def()
            )
            found: Any = sensor(context)
            self.cursor.write_text(found.cursor)
            text = found.skip_reason.skip_message if found.skip_reason else ""
            print(text or [request.run_key for request in found.run_requests], flush=True)
            for request in found.run_requests or ():
                good &= self._execute(request.partition_key, request.asset_selection, request.run_config, request.tags)
            if " waits: " in text:
                return False
            resting = resting + 1 if text.startswith("nothing is new") else 0
            if resting == 2:
                return good
        return False

    def run(self, dead: dg.DagsterRun) -> bool:
        """Run again what a killed process had begun."""
        own = {name: value for name, value in dead.tags.items() if name.startswith("st_pipeline/")}
        print(f"again: {dead.run_id}", flush=True)
        return self._execute(dead.tags.get(PERIOD), sorted(dead.asset_selection or ()), dead.run_config, own)

    def review(self) -> None:
        """Ask the sensor of alerts."""
        context = dg.build_sensor_context(instance=self.instance)
        self.definitions.resolve_sensor_def("alerts")(context)

    def _execute(self, period: str | None, keys: Any, config: Any, tags: Any) -> bool:
        from assets.alerts import of_run, open_book

        result = self.job.execute_in_process(
            partition_key=period,
            asset_selection=list(keys),
            run_config=config,
            tags=dict(tags),
            instance=self.instance,
            raise_on_error=False,
        )
        run = self.instance.get_run_by_id(result.run_id)
        assert run is not None
        found, cleared = of_run(self.instance, run)
        open_book()[0].tell(found, lambda key: key in cleared)
        return result.success
