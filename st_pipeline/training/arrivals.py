"""What a period brings to a strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from st_pipeline.models.base import Forecaster
from st_pipeline.strategies.base import Arrival, Network
from st_pipeline.training.memory import Plan
from st_pipeline.training.objective import Objective, batch_gradients
from st_pipeline.training.settings import Settings
from st_pipeline.types import Period


def arrive(
    period: Period,
    load: Callable[[], Network],
    load_previous: Callable[[], Network] | None,
    *,
    steps_per_day: int,
    settings: Settings,
    plan: Plan,
    seed: int,
) -> Arrival:
    """The period with its data, its gradients and a generator of its own.

    Args:
        load: loads this period's network.
        load_previous: loads that of the period before, where there is one.
        plan: what memory allows at a time.
    """

    def gradients(forecaster: Forecaster) -> Iterator[list[Tensor]]:
        network = arrival.network
        objective = Objective(forecaster, network.train, network.graph, settings, most=plan.windows)
        batches = network.train.starts[:: settings.stride].split(settings.batch)
        return batch_gradients(objective, batches, plan.threads, plan.ranks)

    arrival = Arrival.of(
        period,
        steps_per_day=steps_per_day,
        load=load,
        load_previous=load_previous,
        gradients=gradients,
        generator=torch.Generator().manual_seed(seed),
    )
    return arrival
