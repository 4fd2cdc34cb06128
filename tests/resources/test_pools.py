"""A run that waits for its place in a pool sleeps, and begins soon after the place is free."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.test_utils import create_run_for_test

import st_pipeline.definitions  # noqa: F401  what every run's process imports
from resources.instance import open_instance
from resources.pools import MOST

WAIT = 4.0  # seconds that the place is taken


@dg.op(pool="gpu")
def trains() -> None:
    """Needs the one place."""


@dg.job(executor_def=dg.in_process_executor)
def training() -> None:
    trains()


@pytest.fixture
def instance(workspace: Any) -> Iterator[dg.DagsterInstance]:
    with open_instance() as found:
        found.event_log_storage.initialize_concurrency_limit_to_default("gpu")
        yield found


def test_waiting_takes_no_processor_time(instance: dg.DagsterInstance) -> None:
    training.execute_in_process(instance=instance)  # what is loaded once does not count
    holder = create_run_for_test(instance, status=dg.DagsterRunStatus.STARTED)
    assert instance.event_log_storage.claim_concurrency_slot("gpu", holder.run_id, "step").is_claimed
    free = threading.Timer(WAIT, instance.event_log_storage.free_concurrency_slots_for_run, [holder.run_id])
    free.start()
    begin, used = time.monotonic(), time.thread_time()
    result = training.execute_in_process(instance=instance)
    used = time.thread_time() - used
    free.join()
    assert result.success
    assert time.monotonic() - begin >= WAIT
    assert used < WAIT / 4


def test_it_looks_again_when_the_first_waiting_step_may(instance: dg.DagsterInstance) -> None:
    run = create_run_for_test(instance)
    with InstanceConcurrencyContext(instance, run) as places:
        assert places.interval_to_next_pending_claim_check() == 0
        assert places.claim("gpu", "first")
        assert not places.claim("gpu", "second") and not places.claim("gpu", "third")
        assert 0 < places.interval_to_next_pending_claim_check() <= MOST
        places._pending_timeouts["third"] = time.time() + 0.2
        assert 0 < places.interval_to_next_pending_claim_check() <= 0.2
        places._pending_timeouts["second"] = time.time() - 5
        assert places.interval_to_next_pending_claim_check() == 0
