"""How far the sensors of a graph are from each other, without coordinates: lengths of paths, in buckets."""

from __future__ import annotations

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra
from torch import Tensor

from st_pipeline.types import Graph

OCTAVES = 10  # doublings of the distance that the buckets tell apart
DIGITS = 6  # of log2 of a distance: sums of the same lengths in another order are then the same number
ROWS = 512  # sensors whose distances are worked on at a time


class Surroundings(NamedTuple):
    """What a graph says of every pair of sensors.

    The bucket of the sensor itself is 0, that of one that no path reaches is the last. In between they are evenly
    spaced in the logarithm of the distance from 1 to 2^10, the shortest path of edges as long as 1 / |weight| in
    either direction: in a graph of weights 1, the number of hops.

    The near sensors of a sensor, itself the first, are those nearer than the next one would be: of equally far ones
    all or none is near, so that the order of the sensors decides nothing. Where there are fewer, it fills up itself.
    """

    bucket: Tensor  # (N, N) uint8
    near: Tensor  # (N, count) int64


_KEPT: WeakKeyDictionary[Graph, dict[tuple[int, int], Surroundings]] = WeakKeyDictionary()


def surroundings(graph: Graph, *, buckets: int, near: int) -> Surroundings:
    """The buckets and near sensors of a graph; made once for a graph, and kept as long as that is."""
    kept = _KEPT.setdefault(graph, {})
    if (buckets, near) not in kept:
        device = graph.row.device
        count, parts = graph.num_nodes, []
        lengths = _lengths(graph)
        for start in range(0, count, ROWS):
            rows = np.arange(start, min(start + ROWS, count))
            distance = _log_distance(lengths, rows)
            parts.append((_bucket(distance, buckets), _near(distance, rows, near)))
        bucket, found = (np.concatenate(part) for part in zip(*parts, strict=True))
        kept[buckets, near] = Surroundings(torch.from_numpy(bucket).to(device), torch.from_numpy(found).to(device))
    return kept[buckets, near]


def _lengths(graph: Graph) -> coo_array:
    weight = graph.weight.abs().double().cpu().numpy()
    row, column = graph.row.cpu().numpy(), graph.column.cpu().numpy()
    edge = weight > 0
    return coo_array((1 / weight[edge], (row[edge], column[edge])), shape=(graph.num_nodes,) * 2).tocsr()


def _log_distance(lengths: coo_array, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """log2 of the distances from these sensors (R, N): -inf to the sensor itself, inf where no path leads."""
    with np.errstate(divide="ignore"):
        distance: NDArray[np.float64] = np.log2(dijkstra(lengths, directed=False, indices=rows)).round(DIGITS)
    return distance


def _bucket(distance: NDArray[np.float64], buckets: int) -> NDArray[np.uint8]:
    between = buckets - 2
    place = np.clip(np.nan_to_num(distance, posinf=0, neginf=0) * between / OCTAVES, 0, between - 1)
    place = 1 + np.floor(place)
    place[np.isneginf(distance)] = 0
    place[np.isposinf(distance)] = buckets - 1
    return place.astype(np.uint8)


def _near(distance: NDArray[np.float64], rows: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    order = np.argsort(distance, axis=1, kind="stable")
    ranked = np.take_along_axis(distance, order, axis=1)
    beyond = ranked[:, count : count + 1] if ranked.shape[1] > count else np.inf
    chosen = np.where(ranked[:, :count] < beyond, order[:, :count], rows[:, None])
    short = count - chosen.shape[1]
    return np.concatenate([chosen, np.repeat(rows[:, None], max(0, short), axis=1)], axis=1).astype(np.int64)
