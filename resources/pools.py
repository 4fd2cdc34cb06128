"""A step that waits for a place in a pool sleeps.

Dagster 1.13 works out how long its executor may sleep until a waiting step asks again, and takes the smaller one of
that and 0: the executor asks itself without a pause, and a waiting run takes a whole processor.
"""

from __future__ import annotations

import time

from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext

MOST = 1.0  # seconds, so that a run that waits can be ended


def wait_asleep() -> None:
    """Let executors of this process sleep while all steps that they could run wait for a place."""
    InstanceConcurrencyContext.interval_to_next_pending_claim_check = _seconds_to_next_look  # type: ignore[method-assign]


def _seconds_to_next_look(self: InstanceConcurrencyContext) -> float:
    """0 to `MOST` seconds until the first of the waiting steps asks for its place again."""
    if not self.has_pending_claims():
        return 0.0
    now = time.time()
    return min([MOST, *(max(0.0, at - now) for at in self._pending_timeouts.values())])
