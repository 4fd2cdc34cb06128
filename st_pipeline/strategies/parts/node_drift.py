"""How far a node has drifted: the distribution of its features, or of its readings, against the period before.

After TrafficStream (IJCAI 2021) and its public code (continual-methods, section 4.1).
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from st_pipeline.data.windows import Windows
from st_pipeline.layers.flat_steps import flat
from st_pipeline.models.base import Forecaster
from st_pipeline.models.modes import as_in_evaluation
from st_pipeline.strategies.base import Network

DAYS = 7  # at the end of a training part: what is compared
BINS = 10
CONSTANT = 1e-6  # a feature that varies less than this share of its size is constant
TOGETHER = 1 << 15  # windows x nodes that a model is given at a time
NODES_TOGETHER = 512  # whose histograms are counted at a time


def feature_blocks(
    forecaster: Forecaster, network: Network, *, steps_per_day: int, days: int = DAYS, raw: bool
) -> Tensor:
    """What a model makes of a network's last days, before its head: (S, N, d).

    The windows lie end to end, and the last one ends where the targets of the training part's last window begin; a
    shorter part gives fewer of them.

    Args:
        forecaster: with node tables of this network's sensors.
        raw: read in the unit of the readings with missing cells as 0, as the public code does.
    """
    part = network.train
    windows = _raw(network) if raw else part.windows
    count = max(1, days * steps_per_day // windows.window)
    first, last = int(part.starts[0]), int(part.starts[-1])
    starts = torch.arange(last, first - 1, -windows.window, device=part.starts.device)[:count].flip(0)
    together = max(1, TOGETHER // network.graph.num_nodes) if forecaster.separable else len(starts)
    with as_in_evaluation(forecaster), torch.no_grad():
        return torch.cat([_features(forecaster, network, windows, some) for some in starts.split(together)])


def _features(forecaster: Forecaster, network: Network, windows: Windows, starts: Tensor) -> Tensor:
    window = windows.inputs(starts)
    return flat(forecaster.core(forecaster.embed(window, network.graph), window, network.graph))


def _raw(network: Network) -> Windows:
    part = network.train
    mean, scale = part.scaler.mean[:, 1:], part.scaler.scale[:, 1:]
    others = torch.where(scale.isfinite(), part.windows.values[..., 1:] * scale + mean, mean)
    values = torch.cat([part.truth[..., None], others], dim=-1)
    return replace(part.windows, values=torch.where(part.windows.observed, values, 0.0))


def latest_readings(network: Network, *, steps_per_day: int, days: int = DAYS) -> tuple[Tensor, Tensor]:
    """The target in the last days of the training part, in the unit of the readings, and where it was measured.

    Both (L, N).
    """
    steps = days * steps_per_day
    return network.train.truth[-steps:], network.train.scored[-steps:]


def drift_scores(before: Tensor, now: Tensor, *, bins: int = BINS, nan_is_most: bool = True) -> Tensor:
    """Distance of each node's features from what they were, summed over the features: (N,), in double precision.

    Args:
        before: (S, N, d), of the same nodes in the same order as `now`; S may differ.
        nan_is_most: as the public code has it: each side is scaled to [0, 1] by itself, so that a shift of the level
            is not seen, and a node with a constant feature on either side has drifted most (its 0/0 is sorted last):
            infinitely far. Otherwise both sides are scaled together, and two equal constants are at distance 0.
    """
    pairs = zip(before.split(NODES_TOGETHER, dim=1), now.split(NODES_TOGETHER, dim=1), strict=True)
    distances = [histogram_distance(old, new, bins, shared=not nan_is_most).sum(-1) for old, new in pairs]
    scores = torch.cat(distances)
    return torch.where(scores.isnan(), torch.inf, scores)


def histogram_distance(before: Tensor, now: Tensor, bins: int = BINS, *, shared: bool = False) -> Tensor:
    """Jensen-Shannon distance, in nats, of the histograms of two samples (S, ...): (...).

    It is the root of the divergence: between 0 and sqrt(ln 2).

    Args:
        shared: bins over the range of both samples; without it over the range of each, and NaN where that is a point.
    """
    before, now = before.double(), now.double()
    scaled = _scaled_together(before, now) if shared else (_scaled_alone(before), _scaled_alone(now))
    p, q = (_shares(sample, bins) for sample in scaled)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return divergence.clamp(min=0).sqrt()


def reading_scores(
    before: Tensor, seen_before: Tensor, now: Tensor, seen_now: Tensor, *, bins: int = BINS, floor: float = 0.0
) -> Tensor:
    """Kullback-Leibler divergence, in nats, of the earlier readings' histogram from the later ones': (N,).

    The bins lie over the range of both; a node without a reading on either side is at NaN.

    Args:
        before: readings (L, N), of the same nodes in the same order as `now`; L may differ.
        seen_before: (L, N) bool, where they were measured.
        floor: share of an empty bin of the later readings. With 0, as in the public code, a node whose readings
            left a bin is infinitely far.
    """
    old, new = before.double(), now.double()
    low = torch.minimum(_lowest(old, seen_before), _lowest(new, seen_now))
    high = -torch.minimum(_lowest(-old, seen_before), _lowest(-new, seen_now))
    p = _shares(_scaled(old, low, high), bins, seen_before)
    q = _shares(_scaled(new, low, high), bins, seen_now)
    return _relative_entropy(p, q.clamp(min=floor))


def _lowest(values: Tensor, seen: Tensor) -> Tensor:
    return torch.where(seen, values, torch.inf).amin(0)


def _scaled_alone(sample: Tensor) -> Tensor:
    low, high = sample.amin(0), sample.amax(0)
    return (sample - low) / (high - low)


def _scaled_together(before: Tensor, now: Tensor) -> tuple[Tensor, Tensor]:
    low, high = torch.minimum(before.amin(0), now.amin(0)), torch.maximum(before.amax(0), now.amax(0))
    return _scaled(before, low, high), _scaled(now, low, high)


def _scaled(sample: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """In [0, 1]; 0 where the range is a point but for rounding."""
    constant = high - low <= CONSTANT * torch.maximum(low.abs(), high.abs())
    return torch.where(constant, 0.0, (sample - low) / (high - low))


def _shares(scaled: Tensor, bins: int, seen: Tensor | None = None) -> Tensor:
    """Histogram of a sample in [0, 1]: (S, ...) -> (bins, ...), NaN where the sample is NaN or empty."""
    place = (scaled * bins).floor().clamp(max=bins - 1)
    if seen is not None:
        place = torch.where(seen, place, -1.0)
    counts = torch.stack([(place == slot).sum(0) for slot in range(bins)]).double()
    return counts / counts.sum(0)


def _relative_entropy(p: Tensor, q: Tensor) -> Tensor:
    """sum_i p_i ln(p_i / q_i) over the first axis; an empty bin of p adds nothing."""
    return torch.where(p == 0, 0.0, p * (p / q).log()).sum(0)
