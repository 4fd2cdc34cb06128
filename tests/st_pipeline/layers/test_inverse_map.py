"""Both inverse maps are their formulas, node by node, and reach the shape of the embedding from any label side."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm

from st_pipeline.layers.inverse_map import CoreInverse, InverseMap, LabelInverse
from st_pipeline.models.base import count_parameters

NODES = 5
AXES = [
    ((6,), (6,)),
    ((6,), (4,)),
    ((3, 6), (3, 4)),
    ((3, 6), (3, 6)),
    ((2, 6), (3, 4)),
    ((6,), (3, 4)),
    ((2, 6), (4,)),
]


def sample(axes: tuple[int, ...], batch: int = 2) -> Tensor:
    return torch.randn(batch, *axes[:-1], NODES, axes[-1])


def vectors(x: Tensor, *, together: bool) -> list[Tensor]:
    """What is mapped at a time: the features of a node of a window, of one step or of all steps in order."""
    if x.dim() == 3:
        return [x[b, n] for b in range(len(x)) for n in range(NODES)]
    if together:
        return [x[b, :, n].flatten() for b in range(len(x)) for n in range(NODES)]
    return [x[b, s, n] for b in range(len(x)) for n in range(NODES) for s in range(x.shape[1])]


@pytest.mark.parametrize(("deep", "shallow"), AXES)
def test_the_plain_map_is_two_layers_on_what_belongs_to_a_node(deep: tuple[int, ...], shallow: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inverse, x = InverseMap(deep, shallow), sample(deep)
    found = inverse(x)
    assert found.shape == (2, *shallow[:-1], NODES, shallow[-1])
    together = deep[:-1] != shallow[:-1]
    sizes = [math.prod(axes) if together else axes[-1] for axes in (deep, shallow)]
    weights = dict(inverse.named_parameters())
    plain = [
        gelu(row @ weights["inward.weight"].T + weights["inward.bias"]) @ weights["outward.weight"].T
        + weights["outward.bias"]
        for row in vectors(x, together=together)
    ]
    torch.testing.assert_close(torch.stack(vectors(found, together=together)), torch.stack(plain))
    assert count_parameters(inverse) == (sizes[0] + 1) * 24 + (24 + 1) * sizes[1]


def plain_cores(inverse: CoreInverse, x: Tensor) -> Tensor:
    """What a node has in common with others, of one step (N, d), with loops over cores and nodes."""
    queries, rows = inverse.queries.detach(), inverse.nodes.table().detach()
    cores, width = queries.shape
    score = [[math.exp(float(queries[c] @ rows[n]) / math.sqrt(width)) for n in range(NODES)] for c in range(cores)]
    value = x @ inverse.value.weight.T + inverse.value.bias
    averages = [sum(score[c][n] / sum(score[c]) * value[n] for n in range(NODES)) for c in range(cores)]
    return torch.stack(
        [
            sum(score[c][n] / sum(score[other][n] for other in range(cores)) * averages[c] for c in range(cores))
            for n in range(NODES)
        ]
    )


@pytest.mark.parametrize(("deep", "shallow"), AXES)
def test_the_map_with_cores_is_its_formula(deep: tuple[int, ...], shallow: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    inverse, x = CoreInverse(NODES, deep, shallow, cores=3).eval(), sample(deep)
    with torch.no_grad():
        inverse.norm.weight.uniform_(0.5, 1.5)
        inverse.norm.bias.uniform_(-1, 1)
    steps = x if len(deep) == 2 else x[:, None]
    common = torch.stack([torch.stack([plain_cores(inverse, step) for step in window]) for window in steps])
    both = torch.cat([steps - common, common], dim=-1)
    if len(deep) == 1:
        both = both[:, 0]
    together = deep[:-1] != shallow[:-1]
    outs = []
    for row, own in zip(vectors(both, together=together), vectors(x, together=together), strict=True):
        skip = own if isinstance(inverse.skip, nn.Identity) else own @ inverse.skip.weight.T
        outs.append(inverse.outward(gelu(inverse.inward(row))) + skip)
    flat = torch.stack(outs).view(2, NODES, math.prod(shallow))
    expected = layer_norm(flat, flat.shape[-1:], inverse.norm.weight, inverse.norm.bias)
    found = inverse(x)
    assert found.shape == (2, *shallow[:-1], NODES, shallow[-1])
    found = found if len(shallow) == 1 else found.transpose(1, 2).flatten(2)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_more_cores_than_nodes_and_a_single_node_are_no_trouble() -> None:
    inverse = CoreInverse(1, (6,), (4,), cores=9).eval()
    x = torch.randn(2, 1, 6)
    assert inverse(x).isfinite().all()
    torch.testing.assert_close(inverse.common(x), inverse.value(x))  # alone, a node has all in common with itself


@pytest.mark.parametrize("cores", [0, 3])
def test_a_window_is_mapped_without_the_others_of_its_batch(cores: int) -> None:
    inverse: LabelInverse = (
        CoreInverse(NODES, (6,), (4,), cores=cores, dropout=0.0) if cores else InverseMap((6,), (4,))
    )
    x = sample((6,), batch=3)
    torch.testing.assert_close(inverse.train()(x)[1:2], inverse(x[1:2]))


def test_the_hidden_layer_of_every_step_is_kept() -> None:
    assert InverseMap((3, 6), (3, 4)).working_width == 3 * 24
    assert InverseMap((2, 6), (3, 4)).working_width == 24
    assert CoreInverse(NODES, (6,), (4,), cores=2).working_width == 48


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    inverse = CoreInverse(3, (2, 2), (3, 2), cores=2, dropout=0.0).double()
    x = torch.randn(1, 2, 3, 2, dtype=torch.float64, requires_grad=True)
    inputs = (x, inverse.queries, inverse.nodes.appended)
    assert torch.autograd.gradcheck(lambda *of: inverse(of[0]), inputs)
