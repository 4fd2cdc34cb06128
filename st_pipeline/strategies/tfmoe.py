"""TFMoE (arXiv 2406.03140): experts for groups of alike sensors, learning from new sensors and a few old ones."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor

from st_pipeline.data.protocols import Part
from st_pipeline.models.backbones.tfmoe import SLOTS, Reconstructors, TFMoE, Weeks, gaussian_kl
from st_pipeline.models.base import Forecaster
from st_pipeline.registry import STRATEGIES
from st_pipeline.strategies.base import Arrival, Selection, Strategy
from st_pipeline.strategies.parts.balanced_groups import balanced_groups
from st_pipeline.strategies.parts.neighbourhood import train_on
from st_pipeline.strategies.parts.options import check_least, check_shares
from st_pipeline.strategies.parts.sensors import newcomers, rows_of
from st_pipeline.types import NodeSet, Period

EXPERTS, LATENT = 4, 8  # of the reconstructors kept beside a backbone that has none
RATE = 0.01  # learning rate of the reconstructors before the joint training


class Lesson(NamedTuple):
    """What the reconstructors learn in a period: weeks (M, slots) and the expert of each (M,)."""

    weeks: Weeks
    experts: Tensor


@contextmanager
def one_thread() -> Iterator[None]:
    """Small operations wait for threads longer than they take; with one, bits do not depend on the processor either."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@STRATEGIES.register
class MixtureOfExperts(Strategy):
    """Each expert keeps to sensors whose week it reconstructs best (continual-methods, section 4.4).

    Period 1 learns an auto-encoder of the sensors' weeks, cuts its codes into balanced groups, lets the reconstructor
    of each expert learn one group, and then trains everything. Later a new sensor goes to the expert under which its
    week is likeliest, and the model trains on the new sensors and the old ones that are explained worst, and on none
    if nothing is new. Meanwhile the reconstructors learn those sensors' weeks, and are held near what they were on
    them and on weeks that the previous decoders make of noise.

    The backbone `tfmoe` has reconstructors that decide its gates and learn in the joint training. Beside any other
    backbone the strategy keeps some of its own, which learn in `prepare` and choose the old sensors.

    Args:
        replay: share of the old sensors that are trained on, at least one unless it is 0.
        reconstruction: weight of the reconstructors' loss, minus the evidence lower bound a slot.
        consolidation: weight of what holds the reconstructors near the previous ones.
        synthetic: weeks that each previous decoder makes up in a step.
        pretraining: steps of the reconstructors' training in `prepare`.
        hops: how far around the chosen sensors the model sees; at 0 it sees no other one.

    Raises:
        InputError: a share outside 0..1, or a negative weight or number.
    """

    def __init__(
        self,
        *,
        replay: float = 0.01,
        reconstruction: float = 1.0,
        consolidation: float = 1.0,
        synthetic: int = 16,
        pretraining: int = 100,
        hops: int = 0,
    ) -> None:
        check_least("tfmoe", reconstruction=reconstruction, consolidation=consolidation)
        check_least("tfmoe", synthetic=synthetic, pretraining=pretraining, hops=hops)
        check_shares("tfmoe", replay=replay)
        self.replay = replay
        self.reconstruction = reconstruction
        self.consolidation = consolidation
        self.synthetic = synthetic
        self.pretraining = pretraining
        self.hops = hops
        self.own: Reconstructors | None = None
        self.previous: Reconstructors | None = None
        self.lesson = Lesson(Weeks(torch.empty(0, SLOTS), torch.empty(0, SLOTS)), torch.empty(0, dtype=torch.int64))
        self.chosen: Tensor | None = None  # (M,) rows trained on; None: all
        self.generator = torch.Generator()

    @one_thread()
    def prepare(self, forecaster: Forecaster, period: Period, nodes: NodeSet) -> Forecaster:
        assert isinstance(period, Arrival)
        self.generator = period.generator
        forecaster = super().prepare(forecaster, period, nodes)
        weeks = usual_weeks(period.network.train, steps_per_day=period.steps_per_day)
        mixture = mixture_of(forecaster)
        if mixture is not None:
            mixture.profiles.write(weeks)
            reconstructors = mixture.reconstructors
        else:
            reconstructors = self.own = (self.own or Reconstructors(EXPERTS, LATENT)).to(weeks.values.device)
        if period.index == 0:
            self._begin(reconstructors, weeks.of(weeks.known))
        else:
            self._continue(reconstructors, weeks, nodes)
        if period.index == 0 or mixture is None:
            self._learn(reconstructors, self.loss)
        return forecaster

    def select(self, period: Period, nodes: NodeSet) -> Selection:
        if self.chosen is None:
            return Selection()
        assert isinstance(period, Arrival)
        return train_on(self.chosen, period.network.graph, hops=self.hops)

    def penalty(self, forecaster: Forecaster) -> Tensor:
        mixture = mixture_of(forecaster)
        return super().penalty(forecaster) if mixture is None else self.loss(mixture.reconstructors)

    def state(self) -> dict[str, Tensor]:
        return {} if self.own is None else self.own.state_dict()

    def load_state(self, state: dict[str, Tensor]) -> None:
        if state:
            with torch.device("meta"):  # draws nothing
                self.own = Reconstructors(EXPERTS, LATENT)
            self.own.load_state_dict({name: value.clone() for name, value in state.items()}, assign=True)

    def loss(self, reconstructors: Reconstructors) -> Tensor:
        """What the reconstructors' own learning minimises: a scalar, in nats a slot."""
        total = self.reconstruction * self._misfit(reconstructors)
        return total + self.consolidation * self._departure(reconstructors)

    def _begin(self, reconstructors: Reconstructors, weeks: Weeks) -> None:
        """Every sensor is trained on, and each expert's reconstructor learns one of the balanced groups."""
        self.previous, self.chosen = None, None
        shared = Reconstructors(1, reconstructors.latent).to(weeks.values.device)
        everything = Lesson(weeks, torch.zeros_like(weeks.known, dtype=torch.int64))
        self._learn(shared, lambda learner: self._misfit(learner, everything))
        codes = shared.encode(weeks)[0][0]
        groups = balanced_groups(codes, reconstructors.experts, self.generator)
        self.lesson = Lesson(weeks, groups.to(codes.device))

    def _continue(self, reconstructors: Reconstructors, weeks: Weeks, nodes: NodeSet) -> None:
        """The new sensors and a few old ones are trained on, each with the expert that explains it best."""
        self.previous = copy.deepcopy(reconstructors).requires_grad_(False)
        likelihood = self.previous.log_likelihood(weeks)
        new = newcomers(nodes)
        old = rows_of(nodes, nodes.retained)
        explained = likelihood.max(0).values / weeks.observed.sum(1)
        explained = torch.where(weeks.known, explained, torch.inf).cpu()[old]
        count = max(1, round(self.replay * len(old))) if self.replay and len(new) else 0
        replayed = old[explained.argsort(stable=True)[:count]]
        self.chosen = torch.cat([new, replayed]).to(likelihood.device)
        taught = self.chosen[weeks.known[self.chosen]]
        self.lesson = Lesson(weeks.of(taught), likelihood[:, taught].argmax(0))

    def _learn(self, reconstructors: Reconstructors, loss: Callable[[Reconstructors], Tensor]) -> None:
        optimiser = torch.optim.Adam(reconstructors.parameters(), lr=RATE, fused=True)
        for _ in range(self.pretraining):
            optimiser.zero_grad()
            loss(reconstructors).backward()
            optimiser.step()
        reconstructors.zero_grad()

    def _misfit(self, reconstructors: Reconstructors, lesson: Lesson | None = None) -> Tensor:
        """Minus the evidence lower bound of every week under its expert, a slot; 0 without a week."""
        weeks, experts = self.lesson if lesson is None else lesson
        bound = reconstructors.elbo(weeks, self._noise(reconstructors, len(experts)))
        return -bound.gather(0, experts[None]).sum() / weeks.observed.sum().clamp(min=1)

    def _departure(self, reconstructors: Reconstructors) -> Tensor:
        """How far the reconstructors are from the previous ones, a slot: on the period's weeks and on made-up ones."""
        if self.previous is None:
            return torch.zeros((), device=next(reconstructors.parameters()).device)
        weeks, experts = self.lesson
        group = departure(reconstructors, self.previous, weeks).gather(0, experts[None])
        made = self.previous.decode(self._noise(reconstructors, self.synthetic))
        synthetic = departure(reconstructors, self.previous, Weeks(made, torch.ones_like(made)))
        return (group.sum() / max(1, group.numel()) + synthetic.sum() / max(1, synthetic.numel())) / SLOTS

    def _noise(self, reconstructors: Reconstructors, count: int) -> Tensor:
        """Standard normal codes (K, count, latent)."""
        size = (reconstructors.experts, count, reconstructors.latent)
        return torch.randn(size, generator=self.generator).to(next(reconstructors.parameters()).device)


def mixture_of(forecaster: Forecaster) -> TFMoE | None:
    """The backbone with experts inside a forecaster, if that is what it has."""
    return next((part for part in forecaster.modules() if isinstance(part, TFMoE)), None)


def departure(reconstructors: Reconstructors, previous: Reconstructors, weeks: Weeks) -> Tensor:
    """(K, M): KL(previous posterior || posterior) plus half the squared change of what its mean is decoded to."""
    mean, log_variance = previous.encode(weeks)
    change = reconstructors.decode(mean) - previous.decode(mean)
    distance = 0.5 * (change**2 * weeks.observed).sum(-1)
    return gaussian_kl(mean, log_variance, *reconstructors.encode(weeks)) + distance


def usual_weeks(part: Part, *, steps_per_day: int) -> Weeks:
    """Mean standardised target of each node (N, slots) by slot of the local week, over the whole part."""
    windows = part.windows
    slot = (windows.day_of_week * steps_per_day + windows.time_of_day) * SLOTS // (7 * steps_per_day)
    member = (torch.arange(SLOTS, device=slot.device)[:, None] == slot).to(windows.values.dtype)  # (slots, L)
    seen = windows.observed[..., 0].to(member.dtype)
    count = (member @ seen).T
    total = (member @ (windows.values[..., 0] * seen)).T
    return Weeks(total / count.clamp(min=1), (count > 0).to(member.dtype))
