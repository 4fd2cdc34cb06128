"""One process a time for a model's period, and files from which a training that was cut off goes on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from resources.failures import user_errors
from resources.shared_claims import claimed_for_all
from st_pipeline.errors import InputError

if TYPE_CHECKING:
    from st_pipeline.training.resume import Journal


@contextmanager
def training(context: dg.AssetExecutionContext, *, stream: str, model: str, every: float) -> Iterator[Journal]:
    """The journal of the period that is to be trained, for as long as nobody else may train or store it.

    Args:
        every: seconds between two states.

    Raises:
        dagster.Failure: another process is training it or has just done so, or the home cannot be written.
    """
    from st_pipeline.training.claims import claimed
    from st_pipeline.training.resume import Journal, resume_root

    folder = resume_root() / stream / model
    period = context.partition_key
    what = f"{stream}/{model} of {period}"

    def is_over(run: str) -> bool:
        if run == context.run.run_id:  # of a worker that is gone, whose step was given out again
            return True
        known = context.instance.get_run_by_id(run)
        return known is None or known.is_finished

    with user_errors():
        lock, run = folder / f"{period}.lock", context.run.run_id
        with (
            claimed(lock, what=what, run=run, is_over=is_over) as claim,
            claimed_for_all(context.instance, what=what, run=run, is_over=is_over) as check_for_all,
        ):
            _refuse_second(context, what)
            _remove_earlier(folder, period)

            def check() -> None:
                claim.check()
                check_for_all()

            yield Journal(folder / period, every=every, check=check, log=context.log.info)


def _refuse_second(context: dg.AssetExecutionContext, what: str) -> None:
    """Refuse to train what another run has stored since this one began, and waited for its turn.

    Raises:
        InputError: so it is.
    """
    record = context.instance.get_run_record_by_id(context.run.run_id)
    began = record.start_time if record else None
    if began is None:
        return
    last = []
    for key in context.selected_asset_keys:
        request = dg.AssetRecordsFilter(asset_key=key, asset_partitions=[context.partition_key])
        last += context.instance.fetch_materializations(request, limit=1).records
    if len(last) == len(context.selected_asset_keys) and all(
        found.run_id != context.run.run_id and found.timestamp > began for found in last
    ):
        at = datetime.fromtimestamp(last[-1].timestamp, UTC).strftime("%Y-%m-%d %H:%M:%S")
        raise InputError(
            f"{what} was stored by run {last[-1].run_id} at {at} UTC, while this run waited for its turn; that result "
            "stays, and materialising again what needs it goes on from there"
        )


def _remove_earlier(folder: Path, period: str) -> None:
    """Remove what trainings of earlier periods have left; a period is trained when those before it are stored."""
    from st_pipeline.training.claims import claimed

    for left in sorted(folder.iterdir()):
        if left.is_dir() and left.name < period:
            with suppress(InputError), claimed(folder / f"{left.name}.lock", what=left.name, run=""):  # in the writing
                shutil.rmtree(left, ignore_errors=True)
