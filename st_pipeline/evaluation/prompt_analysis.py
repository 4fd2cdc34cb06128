"""What a prompt pool has learned: node deviation, spectrum, and the rank it needs (EAC, ICLR 2025, Section 4).

Shapes: S windows, n nodes, d columns of the embedding that prompts are added to. All in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import polars as pl
import torch
from torch import Tensor

from st_pipeline.errors import InputError
from st_pipeline.evaluation.prompt_spectrum import (
    Projection,
    RankAdvice,
    Spectrum,
    advise_rank,
    pool_size,
    spectrum,
)
from st_pipeline.models.prompt_pool import WATCHED_AT, deviation
from st_pipeline.training.checkpoint import BySeed, Checkpoint
from st_pipeline.types import NodeSet

__all__ = [
    "Projection",
    "PromptEffect",
    "RankAdvice",
    "Spectrum",
    "advise_rank",
    "analyse",
    "analyse_cohorts",
    "average_node_deviation",
    "pool_size",
    "prompt_effect",
    "prompts_of",
    "spectrum",
]
CHUNK = 64  # windows that are worked on at a time
SCHEMA = {
    "period": pl.String,
    "seed": pl.Int64,
    "nodes": pl.Int64,
    "rank": pl.Int64,
    "parameters": pl.Int64,
    "deviation_before": pl.Float64,
    "deviation_after": pl.Float64,
    "closed_form": pl.Float64,
    "gap": pl.Float64,
    "effective_rank": pl.Float64,
    "share_6": pl.Float64,
    "advised_rank": pl.Int64,
}
COHORT_SCHEMA = {
    "period": pl.String,
    "seed": pl.Int64,
    "cohort": pl.String,
    "nodes": pl.Int64,
    "deviation": pl.Float64,
    "offset": pl.Float64,
}
ByPeriod = Mapping[str, Checkpoint | BySeed]


@dataclass(frozen=True)
class PromptEffect:
    """Both sides of Proposition 1, means over windows: after - before = closed_form + gap.

    Attributes:
        before: D(X).
        after: D(X + P).
        closed_form: 2 (mean ||p_i||^2 - ||mean p_i||^2), which is D(P) and never negative.
        gap: 4 (mean x_i . p_i - mean x_i . mean p_i), which the proposition takes to be 0.
    """

    before: float
    after: float
    closed_form: float
    gap: float

    @property
    def measured(self) -> float:
        """D(X + P) - D(X)."""
        return self.after - self.before


def average_node_deviation(x: Tensor) -> float:
    """D(X) = (1 / n^2) sum_ij ||x_i - x_j||^2 of X (n, d); the work grows with n d."""
    return float(deviation(x.detach()))


def prompt_effect(inputs: Tensor, prompts: Tensor) -> PromptEffect:
    """What prompts (n, d) do to the deviation of inputs (S, n, d) or (n, d), averaged over windows.

    Raises:
        InputError: the shapes do not fit, or there is no window.
    """
    windows = (inputs if inputs.dim() == 3 else inputs[None]).detach()
    if not len(windows) or windows.shape[1:] != prompts.shape:
        found = f"inputs are {tuple(inputs.shape)}, prompts {tuple(prompts.shape)}"
        raise InputError(f"{found}; expected (windows, nodes, columns), and prompts for the same nodes and columns")
    added = prompts.detach().to(windows.device, torch.float64)
    before, after, mean = added.new_zeros(()), added.new_zeros(()), torch.zeros_like(added)
    for chunk in windows.split(CHUNK):
        part = chunk.double()
        before += deviation(part).sum() / len(windows)
        after += deviation(part + added).sum() / len(windows)
        mean += part.sum(0) / len(windows)
    cross = ((mean - mean.mean(0)) * (added - added.mean(0))).sum(-1).mean()
    return PromptEffect(float(before), float(after), float(deviation(added)), float(4 * cross))


def prompts_of(checkpoint: Checkpoint) -> Tensor:
    """The prompts (n, d) that a stored pool adds: A B, or its full table.

    Raises:
        InputError: the checkpoint is of another part.
    """
    rows = checkpoint.tensors.get("weights.nodes.rows")
    if rows is None:
        raise InputError(f"the part {checkpoint.facts.get('part')!r} holds no prompts; expected that of 'prompt_pool'")
    basis = checkpoint.tensors.get("weights.basis")
    return rows.double() if basis is None else rows.double() @ basis.double()


def analyse(checkpoints: ByPeriod, inputs: Mapping[str, Tensor] | None = None, *, share: float = 0.9) -> pl.DataFrame:
    """One row per period and seed: size, both sides of Proposition 1, spectrum, advised rank. `rank` is null if full.

    Args:
        checkpoints: of the part `prompt_pool`, by period, of one seed or by seed.
        inputs: embedded windows (S, n, d) by period, nodes as in the checkpoint; what needs them is null without.
        share: target of the advised rank.

    Raises:
        InputError: naming the period, a checkpoint is of another part or does not fit the inputs.
    """
    rows: list[dict[str, Any]] = []
    counts: dict[int, list[int]] = {}
    for period, seed, checkpoint in _runs(checkpoints):
        try:
            rows.append(_row(checkpoint, (inputs or {}).get(period), counts.setdefault(seed, []), share))
        except InputError as error:
            raise InputError(f"period {period}, seed {seed}: {error}") from None
        rows[-1] |= {"period": period, "seed": seed}
    return pl.DataFrame(rows, schema=SCHEMA).fill_nan(None)


def _row(checkpoint: Checkpoint, inputs: Tensor | None, counts: list[int], share: float) -> dict[str, Any]:
    """What `analyse` says of one checkpoint; appends its number of nodes to those of the periods before."""
    prompts = prompts_of(checkpoint)
    nodes, width = prompts.shape
    rank = len(checkpoint.tensors["weights.basis"]) if "weights.basis" in checkpoint.tensors else None
    counts.append(nodes)
    found = spectrum(prompts)
    effect = prompt_effect(inputs, prompts) if inputs is not None else None
    advice = None
    if found.singular_values[0]:
        advice = advise_rank(found.singular_values, num_nodes=counts, width=width, rank=rank, share=share)
    return {
        "nodes": nodes,
        "rank": rank,
        "parameters": pool_size(nodes, width, rank),
        "deviation_before": effect and effect.before,
        "deviation_after": effect and effect.after,
        "closed_form": average_node_deviation(prompts),
        "gap": effect and effect.gap,
        "effective_rank": found.effective_rank,
        "share_6": found.share_at(WATCHED_AT),
        "advised_rank": advice and advice.rank,
    }


def analyse_cohorts(checkpoints: ByPeriod, node_sets: Mapping[str, NodeSet]) -> pl.DataFrame:
    """One row per period, seed and cohort (sensors born in one period): nodes, deviation, offset.

    `deviation` is D of the cohort's own prompts, `offset` the squared distance of their mean from that of all, so
    that D(P) = sum over cohorts of (nodes / n) (deviation + 2 offset).

    Raises:
        InputError: a period has no node set, or one without a sensor of the checkpoint.
    """
    rows: list[dict[str, Any]] = []
    for period, seed, checkpoint in _runs(checkpoints):
        prompts = prompts_of(checkpoint)
        births = node_sets[period].births if period in node_sets else {}
        places: dict[str, list[int]] = {}
        for place, name in enumerate(checkpoint.facts["nodes"]):
            if name not in births:
                raise InputError(f"period {period}: its node set knows no sensor {name!r}; give that of the training")
            places.setdefault(births[name], []).append(place)
        for cohort, own in sorted(places.items()):
            offset = (prompts[own].mean(0) - prompts.mean(0)).square().sum()
            what = {"nodes": len(own), "deviation": average_node_deviation(prompts[own]), "offset": float(offset)}
            rows.append({"period": period, "seed": seed, "cohort": cohort, **what})
    return pl.DataFrame(rows, schema=COHORT_SCHEMA)


def _runs(checkpoints: ByPeriod) -> Iterator[tuple[str, int, Checkpoint]]:
    """(period, seed, checkpoint), periods in order."""
    for period, given in sorted(checkpoints.items(), key=lambda item: item[0]):
        by_seed = {given.facts["seed"]: given} if isinstance(given, Checkpoint) else given
        for seed, checkpoint in by_seed.items():
            yield period, seed, checkpoint
