"""Where the steps of a run are computed: in the run's own process, or by workers that Redis feeds (dagster-celery)."""

from __future__ import annotations

import os
from typing import Any

import dagster as dg

from st_pipeline.errors import InputError

BROKER = "ST_PIPELINE_BROKER"  # address of Redis; where it is set, workers compute
LOST_AFTER = "ST_PIPELINE_LOST_AFTER"  # seconds after which a step is given out again whose worker says nothing
DEFAULT_LOST_AFTER = 300
QUEUE = "dagster-celery/queue"  # tag of a step
CPU, GPU = "cpu", "gpu"  # queues


def executor() -> dg.ExecutorDefinition:
    """The executor of all jobs.

    Raises:
        InputError: workers are asked for, and dagster-celery is not installed or a setting is no number.
    """
    if not os.environ.get(BROKER):
        return dg.in_process_executor
    try:
        from dagster_celery import celery_executor
    except ImportError as error:
        raise InputError(
            f"{BROKER} is set, and {error.name} is not installed; install it with `pip install st-pipeline[cluster]`"
        ) from None
    found: dg.ExecutorDefinition = celery_executor.configured(app_arguments())
    return found


def app_arguments() -> dict[str, Any]:
    """How executor and workers make the same Celery application; the address stays in the environment.

    A step is taken off the queue when it is done, not when it is begun: that of a worker which dies comes back.
    """
    transport = {"visibility_timeout": lost_after(), "unacked_restore_interval": 5, "unacked_restore_throttle": 1}
    settings = {
        "task_default_queue": CPU,
        "task_default_priority": 5,
        "task_acks_late": True,
        "worker_prefetch_multiplier": 1,
        "broker_transport_options": transport,
        "broker_connection_retry_on_startup": True,
        "result_expires": 7 * 86400,
    }
    address = {"env": BROKER}
    return {"broker": address, "backend": address, "config_source": settings}


def lost_after() -> int:
    """
    Raises:
        InputError: the setting is no number of seconds, or too small for a worker that is only slow.
    """
    text = os.environ.get(LOST_AFTER) or str(DEFAULT_LOST_AFTER)
    if not text.isdecimal() or int(text) < 10:
        raise InputError(f"{LOST_AFTER} is {text[:40]!r}; expected a whole number of seconds, at least 10")
    return int(text)
