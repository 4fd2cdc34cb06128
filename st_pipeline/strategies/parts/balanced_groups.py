"""Groups of alike points, each as large as the others."""

from __future__ import annotations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

ROUNDS = 50  # of assigning and averaging, at most
STARTS = 4


def balanced_groups(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Balanced k-means of points (M, D): group (M,) of each, on the CPU; sizes differ by one at most.

    Centres start far apart (k-means++); then every point is assigned and every centre averaged, in turns. Of several
    starts the one counts whose points are nearest to their centres.

    Args:
        generator: on the CPU.
    """
    points = points.detach().cpu().double()
    if not len(points):
        return torch.zeros(0, dtype=torch.int64)
    found = [_settle(points, _far_apart(points, count, generator)) for _ in range(STARTS)]
    return min(found, key=lambda each: each[0])[1]


def _settle(points: Tensor, centres: Tensor) -> tuple[float, Tensor]:
    """The sum of squared distances to the centres when nothing changes any more, and the groups (M,)."""
    rows, groups = torch.arange(len(points)), torch.full((len(points),), -1)
    for _ in range(ROUNDS):
        cost = (points[:, None] - centres).square().sum(-1)
        found = balanced_assignment(cost)
        if torch.equal(found, groups):
            break
        groups = found
        member = torch.nn.functional.one_hot(groups, len(centres)).double()  # (M, groups)
        size = member.sum(0)[:, None]
        centres = torch.where(size > 0, member.T @ points / size.clamp(min=1), centres)
    return float(cost[rows, groups].sum()), groups


def balanced_assignment(cost: Tensor) -> Tensor:
    """The group (M,) of each point: the least sum of costs (M, groups) with sizes that differ by one at most.

    Points are assigned to seats: every group has as many sure ones as all can fill, and one more that may stay empty.
    """
    points, groups = cost.shape
    sure = points // groups
    empty = groups * (sure + 1) - points  # seats that no point takes, among the further ones
    table = np.zeros((points + empty, groups * (sure + 1)))
    table[:points] = np.hstack([np.repeat(cost.numpy(), sure, axis=1), cost.numpy()])
    table[points:, : groups * sure] = np.inf
    seats = np.concatenate([np.repeat(np.arange(groups), sure), np.arange(groups)])
    _, taken = linear_sum_assignment(table)
    return torch.from_numpy(seats[taken[:points]])


def _far_apart(points: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Centres (count, D): a point by chance, then each by chance as the square of its distance to those before it."""
    centres = points[torch.randint(len(points), (1,), generator=generator)]
    while len(centres) < count:
        chance = (points[:, None] - centres).square().sum(-1).min(1).values
        chance = chance if chance.any() else torch.ones_like(chance)
        centres = torch.cat([centres, points[torch.multinomial(chance, 1, generator=generator)]])
    return centres
