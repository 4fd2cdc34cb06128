"""TFMoE's mixture of experts: a sensor's usual week says which experts forecast it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from st_pipeline.layers.node_major import by_node
from st_pipeline.layers.node_record import NodeRecord
from st_pipeline.models.flat_window import FlatWindow
from st_pipeline.models.options import check_least
from st_pipeline.registry import BACKBONES
from st_pipeline.types import Graph, SeriesShape, Window

SLOTS = 7 * 24  # of a week, from Monday's midnight on
KERNEL, STRIDE = 3, 2  # of the convolution along time
HOPS = 2  # powers of the learned graph
SPREAD = 8.0  # log variances stay within +- this


class Weeks(NamedTuple):
    """Usual weeks of M sensors: mean standardised reading by slot, 0 where the slot was never measured."""

    values: Tensor  # (M, slots)
    observed: Tensor  # (M, slots), 1 or 0

    @property
    def known(self) -> Tensor:
        """(M,) bool: sensors with at least one slot."""
        return self.observed.any(-1)

    def of(self, rows: Tensor) -> Weeks:
        """Those of some sensors, by index or mask."""
        return Weeks(self.values[rows], self.observed[rows])


@BACKBONES.register
class TFMoE(FlatWindow):
    """K experts, each a variational reconstructor of a sensor's week and a predictor (arXiv 2406.03140).

    out = sum_k g_k (W_k h_k + b_k) with g = softmax over the experts of the likelihood of the sensor's week. The
    predictor's h_k: a strided convolution along time, one over all that is left of it, and a diffusion convolution
    over a graph that the expert learns between the latent codes of the sensors' weeks; the given graph is not used.
    Nothing has a fixed number of sensors. The weeks are data: the strategy `tfmoe` writes them into `profiles`.
    A sensor whose week is unknown has every expert's forecast in equal parts.

    Args:
        experts: K.
        hidden: width of a predictor.
        latent: width of the code of a week; the reconstructors' hidden layers have four times that.
        adaptive: width of the representations whose products are the learned graph.

    Raises:
        InputError: an option below 1.
    """

    def __init__(
        self, shape: SeriesShape, *, experts: int = 4, hidden: int = 16, latent: int = 8, adaptive: int = 10
    ) -> None:
        super().__init__()
        check_least("tfmoe", experts=experts, hidden=hidden, latent=latent, adaptive=adaptive)
        self.shape = shape
        self.steps = -(-shape.window // STRIDE)
        self.profiles = ProfileTable(shape.num_nodes)
        self.reconstructors = Reconstructors(experts, latent)
        self.source, self.target = ExpertLinear(experts, latent, adaptive), ExpertLinear(experts, latent, adaptive)
        self.convolution = ExpertLinear(experts, shape.channels * KERNEL, hidden)
        self.collapse = ExpertLinear(experts, self.steps * hidden, hidden)
        self.diffusion = ExpertLinear(experts, (HOPS + 1) * hidden, hidden)
        self.out = nn.Linear(experts * (hidden + 1), shape.horizon, bias=False)

    @property
    def working_width(self) -> int:
        return max(self.convolution.outputs * self.steps, self.shape.horizon)

    @property
    def deep(self) -> tuple[int, ...]:
        return (self.out.in_features,)

    def core(self, hidden: Tensor, window: Window, graph: Graph) -> Tensor:
        """(B, N, K * (hidden + 1)): every expert's representation and a 1, times its gate."""
        weeks = self.profiles.weeks()
        codes, _ = self.reconstructors.encode(weeks)
        gates = self.reconstructors.log_likelihood(weeks, codes).softmax(0)
        deep = self.represent(hidden, self.learned_graph(codes))
        gated = nn.functional.pad(deep, (0, 1), value=1.0) * gates[..., None, None]
        return gated.permute(1, 2, 0, 3).flatten(2).transpose(0, 1)  # (K, N, B, F) -> (B, N, K * F)

    def head(self, hidden: Tensor) -> Tensor:
        return by_node(self.out, hidden).transpose(1, 2)  # (B, N, H) -> (B, H, N)

    def gates(self) -> Tensor:
        """(K, N): weights of the experts, of sum 1 for every sensor."""
        return self.reconstructors.log_likelihood(self.profiles.weeks()).softmax(0)

    def learned_graph(self, codes: Tensor) -> Tensor:
        """(K, N, N), rows of sum 1, from the experts' codes of the sensors (K, N, latent)."""
        source, target = torch.tanh(self.source(codes)), torch.tanh(self.target(codes))
        return torch.relu(source @ target.transpose(1, 2)).softmax(-1)

    def represent(self, embedding: Tensor, adjacency: Tensor) -> Tensor:
        """What the predictors make of an embedding (B, N, C * T): (K, N, B, hidden)."""
        batch, nodes, _ = embedding.shape
        series = embedding.transpose(0, 1).reshape(nodes * batch, self.shape.channels, self.shape.window)
        patches = nn.functional.pad(series, (1, 1)).unfold(-1, KERNEL, STRIDE).transpose(1, 2)
        x = self.convolution(patches.reshape(len(series) * self.steps, -1)).relu_()
        x = self.collapse(x.view(len(x), len(series), -1)).relu_()
        reached = [x]
        for _ in range(HOPS):
            reached.append((adjacency @ reached[-1].view(len(x), nodes, -1)).view(x.shape))
        return (x + self.diffusion(torch.cat(reached, -1)).relu_()).view(len(x), nodes, batch, -1)


class Reconstructors(nn.Module):
    """K variational auto-encoders of weeks, p(x | z) = N(decode(z), 1) in the measured slots and p(z) = N(0, 1).

    What is not measured is 0 on the way in and no part of any likelihood.
    """

    def __init__(self, experts: int, latent: int) -> None:
        super().__init__()
        self.experts, self.latent = experts, latent
        self.inward = ExpertLinear(experts, SLOTS, 4 * latent)
        self.posterior = ExpertLinear(experts, 4 * latent, 2 * latent)
        self.outward = ExpertLinear(experts, latent, 4 * latent)
        self.decoded = ExpertLinear(experts, 4 * latent, SLOTS)

    def encode(self, weeks: Weeks) -> tuple[Tensor, Tensor]:
        """Means and log variances of q(z | x), (K, M, latent).

        Args:
            weeks: (M, slots), the same for all experts, or (K, M, slots).
        """
        hidden = torch.tanh(self.inward(weeks.values * weeks.observed))
        mean, log_variance = self.posterior(hidden).chunk(2, dim=-1)
        return mean, log_variance.clamp(-SPREAD, SPREAD)

    def decode(self, codes: Tensor) -> Tensor:
        """(K, M, latent) -> (K, M, slots)."""
        decoded: Tensor = self.decoded(torch.tanh(self.outward(codes)))
        return decoded

    def log_likelihood(self, weeks: Weeks, codes: Tensor | None = None) -> Tensor:
        """(K, M): log p(x | z) at these codes, or at the posterior means; 0 where nothing is measured."""
        found = self.decode(self.encode(weeks)[0] if codes is None else codes)
        return -0.5 * (((weeks.values - found) ** 2 + math.log(2 * math.pi)) * weeks.observed).sum(-1)

    def elbo(self, weeks: Weeks, noise: Tensor) -> Tensor:
        """(K, M): evidence lower bound of every week under every expert, with standard normal noise (K, M, latent)."""
        mean, log_variance = self.encode(weeks)
        likelihood = self.log_likelihood(weeks, mean + noise * torch.exp(0.5 * log_variance))
        return likelihood - gaussian_kl(mean, log_variance, torch.zeros_like(mean), torch.zeros_like(mean))


class ExpertLinear(nn.Module):
    """K linear layers, drawn like `nn.Linear` and applied at once."""

    def __init__(self, experts: int, inputs: int, outputs: int) -> None:
        super().__init__()
        self.outputs = experts * outputs
        self.weight = nn.Parameter(torch.empty(experts, inputs, outputs))
        self.bias = nn.Parameter(torch.empty(experts, 1, outputs))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        bound = self.weight.shape[1] ** -0.5
        for parameter in (self.weight, self.bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        """(M, inputs), the same for all experts, or (K, M, inputs) -> (K, M, outputs)."""
        return torch.baddbmm(self.bias, x.expand(len(self.weight), -1, -1), self.weight)


class ProfileTable(NodeRecord):
    """A sensor's week by its id: data of the sensors, which no training changes. Sensors never met have none."""

    def __init__(self, num_nodes: int) -> None:
        super().__init__(num_nodes, 2 * SLOTS)

    def weeks(self) -> Weeks:
        """Those of all sensors; inside `restricted`, of the ones that are shown."""
        return Weeks(*self().chunk(2, dim=-1))

    def write(self, weeks: Weeks) -> None:
        """New weeks (N, slots); a sensor without a single measured slot keeps the week that it had."""
        rows = torch.cat([weeks.values * weeks.observed, weeks.observed], dim=-1)
        self.record(torch.where(weeks.known[:, None], rows, self()))


def gaussian_kl(mean: Tensor, log_variance: Tensor, other_mean: Tensor, other_log_variance: Tensor) -> Tensor:
    """KL(N(mean, variance) || N(other)) of diagonal Gaussians, summed over the last axis."""
    ratio = torch.exp(log_variance - other_log_variance)
    distance = (mean - other_mean) ** 2 * torch.exp(-other_log_variance)
    return 0.5 * (ratio + distance - 1 - log_variance + other_log_variance).sum(-1)
