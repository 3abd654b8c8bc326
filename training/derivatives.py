"""Exact derivative graphs: y and Jᵀw, y and J t, as plain traced programs that export to ONNX.

ONNX has no differentiation, and exporting a module that calls torch.func fails in torch 2.13: trace first with
make_fx, decompose the backward operators, then export the traced graph. Tracing merges equal sizes into one symbol,
so the example batch is a prime that is no other size of the network.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx

EXAMPLE_BATCH = 7

_BACKWARD = (
    torch.ops.aten.gelu_backward,
    torch.ops.aten.silu_backward,
    torch.ops.aten.tanh_backward,
    torch.ops.aten.sigmoid_backward,
    torch.ops.aten.threshold_backward,
    torch.ops.aten._softmax_backward_data,
    torch.ops.aten.native_group_norm_backward,
    torch.ops.aten.native_layer_norm_backward,
    torch.ops.aten._new_zeros_with_same_feature_meta,
)


def pull(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(x, w) ↦ (y, Jᵀw)."""

    def pulled(point: Tensor, cotangent: Tensor) -> tuple[Tensor, Tensor]:
        value, transpose = torch.func.vjp(function, point)
        return value, transpose(cotangent)[0]

    return pulled


def push(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """(x, t) ↦ (y, J t), as the derivative of w ↦ Jᵀw: a smaller graph than forward mode gives."""

    def pushed(point: Tensor, tangent: Tensor) -> tuple[Tensor, Tensor]:
        value, transpose = torch.func.vjp(function, point)

        def transposed(cotangent: Tensor) -> Tensor:
            result: Tensor = transpose(cotangent)[0]
            return result

        _, again = torch.func.vjp(transposed, torch.zeros_like(value))
        return value, again(tangent)[0]

    return pushed


def _slice_backward(grad: Tensor, sizes: list[int], dim: int, start: int, end: int, step: int) -> Tensor:
    """Slices of step one go back by padding with zeros; the default decomposition scatters, which is slow."""
    if step != 1:
        raise NotImplementedError("Expected slices of step 1 in a network to be exported.")
    size = sizes[dim]
    stop = min(end if end >= 0 else size + end, size)
    begin = start if start >= 0 else size + start
    axis = dim % grad.dim()
    pads = [0, 0] * (grad.dim() - axis - 1) + [begin, size - stop]
    return torch.ops.aten.constant_pad_nd(grad, pads)


def _select_backward(grad: Tensor, sizes: list[int], dim: int, index: int) -> Tensor:
    axis = dim % len(sizes)
    begin = index % sizes[axis]
    return _slice_backward(grad.unsqueeze(axis), sizes, axis, begin, begin + 1, 1)


def trace(function: Callable[..., object], *examples: Tensor) -> nn.Module:
    """A plain graph of `function` with every backward operator decomposed and the batch axis symbolic."""
    table = get_decompositions(_BACKWARD)
    table[torch.ops.aten.slice_backward.default] = _slice_backward
    table[torch.ops.aten.select_backward.default] = _select_backward
    traced: nn.Module = make_fx(
        function, decomposition_table=table, tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(*examples)
    return traced
