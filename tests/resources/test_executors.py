"""Which executor jobs have, what workers and executor agree on, and a step that is given out twice."""

import importlib
import sys
from typing import Any

import dagster as dg
import pytest

from resources.executors import BROKER, GPU, LOST_AFTER, QUEUE, app_arguments, executor, lost_after
from st_pipeline.errors import InputError

SECRET = "redis://:secret@127.0.0.1:1/0"


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("dagster_celery", reason="no workers: dagster-celery is not installed")
    monkeypatch.setenv(BROKER, SECRET)
    return importlib.import_module("resources.workers")


def test_runs_compute_themselves_unless_redis_is_named(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BROKER, raising=False)
    assert executor() is dg.in_process_executor


def test_redis_named_makes_workers_compute_and_stays_secret(workers: Any) -> None:
    assert executor().name == "celery"
    assert "secret" not in str(app_arguments()), "Dagster stores and shows the configuration"


def test_a_missing_package_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BROKER, SECRET)
    monkeypatch.setitem(sys.modules, "dagster_celery", None)
    with pytest.raises(
        InputError, match=r"dagster_celery is not installed; install it with `pip install st-pipeline\["
    ):
        executor()


@pytest.mark.parametrize("text", ["soon", "9", "-60", "1.5"])
def test_a_wrong_time_is_one_sentence(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOST_AFTER, text)
    with pytest.raises(InputError, match=f"{LOST_AFTER} is '{text}'; expected a whole number of seconds, at least 10"):
        lost_after()


def test_training_is_for_the_queue_gpu_and_nothing_else_is(workspace: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from st_pipeline import streams
    from st_pipeline.definitions import build

    monkeypatch.setattr(streams, "SHIPPED", workspace.folder / "none")
    workspace.stream("small")
    job = build().resolve_implicit_global_asset_job_def()
    queues = {node.name: node.tags.get(QUEUE) for node in job.graph.nodes}
    assert {name for name, queue in queues.items() if queue == GPU} == {"small__eac__train", "small__online__train"}
    assert set(queues.values()) == {GPU, None}


def test_workers_take_a_step_off_the_queue_when_it_is_done(workers: Any) -> None:
    made = workers.make_workers().conf
    assert made.task_acks_late and made.task_default_queue == "cpu" and made.worker_prefetch_multiplier == 1
    assert made.broker_transport_options["visibility_timeout"] == lost_after()
    assert not made.task_reject_on_worker_lost, "a step that kills its process would be begun for ever"


def test_workers_without_redis_are_one_sentence(workers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BROKER)
    with pytest.raises(InputError, match=f"{BROKER} is not set; workers take their steps from there"):
        workers.make_workers()


@pytest.mark.parametrize(
    ("active", "elsewhere"),
    [
        ({}, False),
        ({"one": [{"id": "step", "worker_pid": 1}]}, False),
        ({"one": [{"id": "step", "worker_pid": 1}, {"id": "step", "worker_pid": 2}]}, True),
        ({"one": [], "two": [{"id": "step", "worker_pid": 1}]}, True),
        ({"two": [{"id": "other", "worker_pid": 1}]}, False),
    ],
)
def test_who_computes_a_step(workers: Any, active: dict[str, Any], elsewhere: bool) -> None:
    class App:
        control = property(lambda self: self)

        def inspect(self, timeout: float) -> Any:
            return self

        def active(self) -> Any:
            return active or None

    assert workers.goes_on_elsewhere(App(), "step", ("one", 1)) is elsewhere


@pytest.mark.parametrize(
    ("redelivered", "elsewhere", "done", "end"),
    [
        (False, True, False, "computed"),
        (True, False, False, "computed"),
        (True, True, False, "Retry"),
        (True, True, True, "Ignore"),
        (True, False, True, "Ignore"),
    ],
)
def test_a_step_given_out_twice_is_computed_once(
    workers: Any, monkeypatch: pytest.MonkeyPatch, redelivered: bool, elsewhere: bool, done: bool, end: str
) -> None:
    from celery import Celery

    app = Celery("test", broker="memory://", backend="cache+memory://")
    monkeypatch.setattr(workers, "goes_on_elsewhere", lambda *_: elsewhere)

    @app.task(base=workers.Step, bind=True, name="step")
    def step(self: Any) -> str:
        return "computed"

    if done:
        app.backend.store_result("id", "computed", "SUCCESS")
    step.push_request(
        id="id",
        args=(),
        kwargs={},
        retries=0,
        hostname="one",
        called_directly=False,
        delivery_info={"redelivered": redelivered},
    )
    try:
        found = step()
    except Exception as left:
        found = type(left).__name__
    assert found == end
