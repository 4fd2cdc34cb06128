"""The Celery application of the workers: `celery -A resources.workers worker -Q cpu,gpu --concurrency 1`."""

from __future__ import annotations

import os
from typing import Any

from celery import Celery, Task
from celery.exceptions import Ignore
from dagster_celery.config import dict_wrapper
from dagster_celery.make_app import make_app
from dagster_celery.tasks import create_task

from resources.executors import BROKER, app_arguments, lost_after
from st_pipeline.errors import InputError

AGAIN = 0.2  # of the time after which a step is given out again: until one that goes on elsewhere is looked at again
PATIENCE = 3.0  # seconds that the other workers have to answer


class Step(Task):
    """One step; one that comes a second time waits while it goes on elsewhere, and goes when it is done."""

    max_retries = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        request = self.request
        if request.retries or (request.delivery_info or {}).get("redelivered"):
            if self.AsyncResult(request.id).ready():
                raise Ignore()
            if goes_on_elsewhere(self.app, request.id, (request.hostname, os.getpid())):
                raise self.retry(countdown=AGAIN * lost_after())
        return super().__call__(*arguments, **named)


def goes_on_elsewhere(app: Celery, task: str, own: tuple[str, int]) -> bool:
    """Whether another process computes a task, as the workers that answer tell.

    Args:
        own: worker and process that ask.
    """
    answers = app.control.inspect(timeout=PATIENCE).active() or {}
    known = {(worker, one["worker_pid"]) for worker, tasks in answers.items() for one in tasks if one["id"] == task}
    return bool(known - {own})


def make_workers() -> Celery:
    """
    Raises:
        InputError: nobody says where Redis is.
    """
    if not (address := os.environ.get(BROKER)):
        raise InputError(f"{BROKER} is not set; workers take their steps from there, e.g. redis://HOST:6379/0")
    settings = dict_wrapper(app_arguments()["config_source"])
    made = make_app({"broker": address, "backend": address, "config_source": settings})
    create_task(made, base=Step)
    return made


app = make_workers()
