"""Attention of each sensor's forecast steps to the few readings of the network that matter to them."""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from st_pipeline.layers.dynamic_value import DynamicValue
from st_pipeline.layers.relative_position import RelativePosition
from st_pipeline.layers.surroundings import Surroundings

TOGETHER = 1 << 22  # scores at a time: what exceeds it is worked on in parts, each computed anew for its gradient

Search = Literal["exact", "two_stage", "dense", "none"]


class AttentionGraph(NamedTuple):
    """The readings that each forecast is made of, the strongest first; coordinates are relative to the forecast.

    `distance` is the bucket of the sensors' distance, `lag` counts steps from the reading to the forecast.
    """

    node: Tensor  # (B, N, H, K) int
    step: Tensor  # (B, N, H, K) int, of the window: 0..T-1
    distance: Tensor  # (B, N, H, K) int
    lag: Tensor  # (B, N, H, K) int, from 1
    weight: Tensor  # (B, N, H, K), mean over the heads; 0 where fewer than K were chosen


class Alignment(nn.Module):
    """softmax over the chosen tokens of q k / sqrt(d) + b[distance, lag], times dynamic values.

    Chosen are the `keep` tokens with the highest score, mean over the heads, and the `recent` last steps of the near
    sensors. `exact` scores all T * N tokens. `two_stage` first scores whole sensors, mean query by mean key, and only
    then the tokens of the near and of the `nodes` best others. `dense` attends to all. `none` is the plain mean of the
    sensor's own steps, without a score.

    Args:
        width: D, a multiple of `heads`.
        window: T.
        horizon: H.
        together: scores kept at a time.
    """

    def __init__(
        self,
        width: int,
        *,
        heads: int,
        window: int,
        horizon: int,
        search: Search = "exact",
        keep: int = 64,
        recent: int = 8,
        nodes: int = 16,
        buckets: int = 32,
        bases: int = 4,
        learned: bool = True,
        together: int = TOGETHER,
    ) -> None:
        super().__init__()
        self.heads, self.search, self.together = heads, search, together
        self.keep, self.recent, self.nodes = keep, recent, nodes
        self.value = DynamicValue(width, heads=heads, bases=bases)
        self.out = nn.Linear(width, width)
        if search != "none":
            self.query, self.key = nn.Linear(width, width), nn.Linear(width, width)
            self.position = RelativePosition(
                heads=heads, buckets=buckets, window=window, horizon=horizon, learned=learned
            )

    def forward(self, state: Tensor, memory: Tensor, places: Surroundings) -> Tensor:
        """States (B, N, H, D) and tokens (B, N, T, D) -> (B, N, H, D)."""
        value = self.value(memory.flatten(1, 2)).view_as(memory)
        if self.search == "none":
            out: Tensor = self.out(value.mean(2, keepdim=True))
            return out.expand_as(state)
        key, table = self.key(memory), self.position()
        parts = self._parts(self.query(state), places)
        if len(parts) > 1 and torch.is_grad_enabled():
            found = [
                checkpoint(self._found, *part, key, value, table, use_reentrant=False, preserve_rng_state=False)
                for part in parts
            ]
        else:
            found = [self._found(*part, key, value, table) for part in parts]
        joined: Tensor = self.out(torch.cat(found, dim=1))
        return joined

    @torch.no_grad()
    def graph(self, state: Tensor, memory: Tensor, places: Surroundings) -> AttentionGraph:
        """What each forecast is made of; of `dense` the strongest, as many as a sparse search would choose at most.

        Raises:
            ValueError: there are no scores.
        """
        if self.search == "none":
            raise ValueError("an alignment without a search has no attention graph")
        key, table = self.key(memory), self.position()
        found = [self._strongest(*part, key, table) for part in self._parts(self.query(state), places)]
        return AttentionGraph(*(torch.cat(part, dim=1) for part in zip(*found, strict=True)))

    def _parts(self, query: Tensor, places: Surroundings) -> list[tuple[Tensor, Tensor, Tensor]]:
        """Queries, buckets and near sensors of so many sensors that their scores may be kept at a time."""
        windows, nodes, ahead, width = query.shape
        wide = self.heads * ahead  # numbers kept of a pair of a sensor that asks and a token
        if self.search == "two_stage":
            nodes, wide = min(nodes, self.nodes + places.near.shape[1]), max(wide, width)
        size = max(1, self.together // (windows * nodes * self.position.window * wide))
        return list(zip(query.split(size, 1), places.bucket.split(size), places.near.split(size), strict=True))

    def _found(self, query: Tensor, bucket: Tensor, near: Tensor, key: Tensor, value: Tensor, table: Tensor) -> Tensor:
        """(B, n, H, D) for n sensors that ask, of all heads side by side."""
        nodes = self._candidates(query, bucket, near, key, table)
        weights = self._weights(query, bucket, near, key, table, nodes)
        found = weights @ _tokens(value, nodes, self.heads)  # (B, G, h, n / G * H, d)
        split = found.unflatten(3, (-1, query.shape[2])).permute(0, 1, 3, 4, 2, 5)
        return split.reshape(query.shape)

    def _weights(
        self, query: Tensor, bucket: Tensor, near: Tensor, key: Tensor, table: Tensor, nodes: Tensor | None
    ) -> Tensor:
        """(B, G, h, n / G * H, M * T): G groups of askers have M candidates in common, one group or n of them."""
        tokens = _tokens(key, nodes, self.heads)
        groups = tokens.shape[1]
        asked = query.unflatten(1, (groups, -1)).unflatten(-1, (self.heads, -1)).permute(0, 1, 4, 2, 3, 5)
        scores = asked.flatten(3, 4) @ tokens.transpose(-1, -2) * tokens.shape[-1] ** -0.5
        scores = scores + self._bias(_of_pairs(bucket, nodes), table)
        if self.search != "dense":
            is_near = torch.zeros_like(bucket, dtype=torch.bool).scatter_(1, near, value=True)
            scores = scores.masked_fill(~self._chosen(scores.detach(), _of_pairs(is_near, nodes)), -torch.inf)
        return scores.softmax(-1)

    def _bias(self, bucket: Tensor, table: Tensor) -> Tensor:
        """(b, G, h, n / G * H, M * T) for the buckets (b, G, n / G, M) of pairs of sensors."""
        rows = nn.functional.embedding(bucket.long(), table.flatten(1)).unflatten(-1, table.shape[1:])
        return rows.permute(0, 1, 4, 2, 5, 3, 6).flatten(-2).flatten(3, 4)  # from (b, G, n / G, M, h, H, T)

    def _chosen(self, scores: Tensor, near: Tensor) -> Tensor:
        """(B, G, 1, n / G * H, M * T) bool: the best tokens, and the last steps of what is near (b, G, n / G, M)."""
        mean = scores.mean(2)
        best = mean.topk(min(self.keep, mean.shape[-1]), dim=-1, sorted=False).indices
        chosen = torch.zeros_like(mean, dtype=torch.bool).scatter_(-1, best, value=True)
        steps = torch.arange(self.position.window, device=scores.device) >= self.position.window - self.recent
        local = (near[..., None] & steps).flatten(-2).repeat_interleave(self.position.horizon, dim=2)
        return (chosen | local).unsqueeze(2)

    def _candidates(self, query: Tensor, bucket: Tensor, near: Tensor, key: Tensor, table: Tensor) -> Tensor | None:
        """(B, n, M): the near sensors and the best of the others, or None for all."""
        if self.search != "two_stage":
            return None
        with torch.no_grad():
            size = query.shape[-1] // self.heads
            scores = query.mean(2) @ key.mean(2).transpose(1, 2) / (self.heads * size**0.5)
            scores = scores + table.mean((1, 2, 3))[bucket.long()]
            scores = scores.scatter(2, near.expand(len(scores), -1, -1), torch.inf)
            return scores.topk(min(scores.shape[2], self.nodes + near.shape[1]), dim=2).indices

    def _strongest(self, query: Tensor, bucket: Tensor, near: Tensor, key: Tensor, table: Tensor) -> AttentionGraph:
        nodes = self._candidates(query, bucket, near, key, table)
        weights = self._weights(query, bucket, near, key, table, nodes).mean(2)  # (B, G, n / G * H, M * T)
        weights = weights.reshape(*query.shape[:3], -1)
        window, ahead = self.position.window, self.position.horizon
        most = min(weights.shape[-1], self.keep + near.shape[1] * min(self.recent, window))
        weight, place = weights.topk(most, dim=-1)
        step, node = place % window, place // window
        if nodes is not None:
            node = nodes.gather(2, node.flatten(2)).view_as(node)
        distance = bucket.long().expand(len(node), -1, -1).gather(2, node.flatten(2)).view_as(node)
        lag = torch.arange(ahead, device=step.device)[:, None] + window - step
        return AttentionGraph(node, step, distance, lag, weight)


def _tokens(x: Tensor, nodes: Tensor | None, heads: int) -> Tensor:
    """Tokens (B, N, T, D) by head: all, (B, 1, h, N * T, d), or the candidates' (B, n, M), (B, n, h, M * T, d)."""
    if nodes is None:
        tokens = x.unsqueeze(1)
    else:
        windows = torch.arange(len(x), device=x.device) * x.shape[1]
        rows = nn.functional.embedding(nodes + windows[:, None, None], x.flatten(2).flatten(0, 1))
        tokens = rows.unflatten(-1, x.shape[2:])
    return tokens.unflatten(-1, (heads, -1)).permute(0, 1, 4, 2, 3, 5).flatten(3, 4)


def _of_pairs(pairs: Tensor, nodes: Tensor | None) -> Tensor:
    """What is known of n askers and all sensors (n, N), of the candidates: (1, 1, n, N), or (B, n, 1, M)."""
    if nodes is None:
        return pairs[None, None]
    return pairs.expand(len(nodes), -1, -1).gather(2, nodes).unsqueeze(2)
