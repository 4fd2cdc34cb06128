"""Two graph convolutions with what lies between them, as one step of the automatic differentiation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from st_pipeline.types import Graph, Operator


def graph_block(
    x: Tensor,
    first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor],
    graph: Graph,
    *,
    addition: Tensor | None = None,
    prompt: Tensor | None = None,
) -> Tensor:
    """Graph convolution, sum, ReLU, graph convolution: (B, N, F) -> (B, N, O).

    out = A_hat h W_n + h W_s + b_2 with h = ReLU(A_hat u V_n + u V_s + b_1 + addition) and u = x + prompt, which is
    what the layers one by one give. Here the hidden width is written once and read once: neighbour and own weights
    are one product, the second convolution multiplies by its weights before it gathers, a prompt is the same for all
    windows and so is what the first convolution makes of it, and only gradients that somebody asked for are computed.

    Args:
        x: (B, N, F), fastest where nodes come first in memory (`windows.cut`).
        first: weights [V_n, V_s] (D, 2 F) and bias (D,).
        second: weights [W_n; W_s] (2 O, D) and biases (2 O,), those of the neighbours' half being gathered too.
        addition: (B, N, D).
        prompt: (N, F).
    """
    nodes_first = x.transpose(0, 1).contiguous()
    more = None if addition is None else addition.transpose(0, 1)
    out: Tensor = _Block.apply(nodes_first, prompt, more, *first, *second, graph.operator())
    return out.transpose(0, 1)


class _Block(torch.autograd.Function):
    """The block on (N, B, F)."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        prompt: Tensor | None,
        addition: Tensor | None,
        weight_1: Tensor,
        bias_1: Tensor,
        weight_2: Tensor,
        bias_2: Tensor,
        operator: Operator,
    ) -> Tensor:
        nodes, batch, features = x.shape
        prompted = x if prompt is None else x + prompt[:, None]
        both = x.new_empty(nodes, batch, 2 * features + 1)  # gathered, own, and a one that the bias is multiplied by
        both[..., :features] = (operator.matrix @ prompted.view(nodes, -1)).view(x.shape)
        both[..., features:-1] = prompted
        both[..., -1] = 1
        both = both.view(nodes * batch, -1)
        hidden = both @ torch.cat([weight_1, bias_1[:, None]], dim=1).t()
        if addition is not None:
            hidden.view(nodes, batch, -1).add_(addition)
        hidden.relu_()
        mixed = torch.addmm(bias_2, hidden, weight_2.t()).view(nodes, batch, 2, -1)
        out = (operator.matrix @ mixed[:, :, 0].reshape(nodes, -1)).view(nodes, batch, -1).add_(mixed[:, :, 1])
        learns = ctx.needs_input_grad[3] or ctx.needs_input_grad[4]
        ctx.save_for_backward(both if learns else None, hidden, weight_1, weight_2)
        ctx.operator = operator
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        both, hidden, weight_1, weight_2 = ctx.saved_tensors
        of_x, of_prompt, of_addition, *of_first, of_weight_2, of_bias_2, _ = ctx.needs_input_grad
        nodes, batch, width = gradient.shape
        gradient = gradient.contiguous()
        gathered = (ctx.operator.transpose @ gradient.view(nodes, -1)).view(gradient.shape)
        at_mixed = torch.cat([gathered, gradient], dim=-1).view(-1, 2 * width)
        second = at_mixed.t() @ hidden if of_weight_2 else None, at_mixed.sum(0) if of_bias_2 else None
        if not (of_x or of_prompt or of_addition or any(of_first)):
            return None, None, None, None, None, *second, None
        at_hidden = at_mixed @ weight_2
        torch.ops.aten.threshold_backward.grad_input(at_hidden, hidden, 0, grad_input=at_hidden)
        first: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(of_first):
            weight_and_bias = at_hidden.t() @ both
            first = weight_and_bias[:, :-1], weight_and_bias[:, -1]
        by_node = at_hidden.view(nodes, batch, -1)
        d_x = _at_input(by_node, weight_1, ctx.operator) if of_x else None
        d_prompt = _at_input(by_node.sum(1, keepdim=True), weight_1, ctx.operator)[:, 0] if of_prompt else None
        return d_x, d_prompt, by_node if of_addition else None, *first, *second, None


def _at_input(at_hidden: Tensor, weight: Tensor, operator: Operator) -> Tensor:
    """Gradient (N, M, F) at the input of the first convolution, of that before the ReLU (N, M, D)."""
    nodes, columns, _ = at_hidden.shape
    gathered, own = (at_hidden @ weight).chunk(2, dim=-1)
    return (operator.transpose @ gathered.reshape(nodes, -1)).view(nodes, columns, -1).add_(own)
