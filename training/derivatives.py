"""Exact derivative graphs: y and Jᵀw, y and J t, as plain traced programs that export to ONNX.

ONNX has no differentiation, and exporting a module that calls torch.func fails in torch 2.13: trace first with
make_fx, decompose the backward operators, then export the traced graph. Tracing merges equal sizes into one symbol,
so the example batch is a prime that is no other size of the network.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._decomp import get_decompositions
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

EXAMPLE_BATCH = 13  # not 7: that is the width of a kernel

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


Function = Callable[..., tuple[Tensor, ...]]


def pull(function: Function, count: int) -> Function:
    """(x₁ … x_count, w₁ …) ↦ (y₁ …, (Jᵀw)₁ … (Jᵀw)_count)."""

    def pulled(*arguments: Tensor) -> tuple[Tensor, ...]:
        values, transpose = torch.func.vjp(function, *arguments[:count])
        return (*values, *transpose(arguments[count:]))

    return pulled


def push(function: Function, count: int) -> Function:
    """(x₁ … x_count, t₁ … t_count) ↦ (y₁ …, (J t)₁ …), as the derivative of w ↦ Jᵀw: a smaller graph than forward mode."""

    def pushed(*arguments: Tensor) -> tuple[Tensor, ...]:
        values, transpose = torch.func.vjp(function, *arguments[:count])

        def transposed(*weights: Tensor) -> tuple[Tensor, ...]:
            pulled: tuple[Tensor, ...] = transpose(weights)
            return pulled

        _, again = torch.func.vjp(transposed, *(torch.zeros_like(value) for value in values))
        return (*values, *again(arguments[count:]))

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


def _adjoint(
    grad: Tensor, lengths: list[int], weight: Tensor, stride: list[int], padding: list[int], dilation: list[int],
    transposed: bool, groups: int,
) -> tuple[Tensor, Tensor, list[int], list[int], list[int], bool, list[int], int]:  # fmt: skip
    """What to convolve with what for the gradient in the input: the transposed flag flipped, lost remainders padded back."""
    if transposed:
        return grad, weight, stride, padding, dilation, False, [0, 0], groups
    kernel = weight.shape[2:]
    if weight.shape[1] == 1 and max(stride) == 1:  # depthwise: plain convolutions are faster than transposed ones
        reach = [d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding, strict=True)]
        return grad, torch.ops.aten.flip(weight, [2, 3]), stride, reach, dilation, False, [0, 0], groups
    lost = [
        n - ((m - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, m, s, p, d, k in zip(lengths, grad.shape[2:], stride, padding, dilation, kernel, strict=True)
    ]
    return grad, weight, stride, padding, dilation, True, lost, groups


class _Convolution(torch.autograd.Function):
    """A convolution whose gradient is again one: torch's own second derivative of grouped ones fixes the batch size."""

    @staticmethod
    def forward(
        field: Tensor, weight: Tensor, stride: list[int], padding: list[int], dilation: list[int], transposed: bool,
        output_padding: list[int], groups: int,
    ) -> Tensor:  # fmt: skip
        return torch.ops.aten.convolution(
            field, weight, None, stride, padding, dilation, transposed, output_padding, groups
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG004
        field, weight, stride, padding, dilation, transposed, _, groups = inputs
        ctx.save_for_backward(weight)
        ctx.rest = list(field.shape[2:]), stride, padding, dilation, transposed, groups

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        lengths, *rest = ctx.rest
        (weight,) = ctx.saved_tensors
        return _Convolution.apply(*_adjoint(grad, lengths, weight, *rest)), *(None,) * 7


Pair = int | tuple[int, ...] | list[int]


def _two(value: Pair) -> list[int]:
    return [value, value] if isinstance(value, int) else list(value)


def _conv2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0, dilation: Pair = 1,  # noqa: A002
    groups: int = 1,
) -> Tensor:  # fmt: skip
    found: Tensor = _Convolution.apply(
        input, weight, _two(stride), _two(padding), _two(dilation), False, [0, 0], groups
    )
    return found if bias is None else found + bias.reshape(1, -1, 1, 1)


def _conv_transpose2d(
    input: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Pair = 1, padding: Pair = 0,  # noqa: A002
    output_padding: Pair = 0, groups: int = 1, dilation: Pair = 1,
) -> Tensor:  # fmt: skip
    found: Tensor = _Convolution.apply(
        input, weight, _two(stride), _two(padding), _two(dilation), True, _two(output_padding), groups
    )
    return found if bias is None else found + bias.reshape(1, -1, 1, 1)


class _ComposableConvolutions(TorchFunctionMode):
    """While active, two-dimensional convolutions are `_Convolution`; weights get no gradient."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        replaced = {torch.conv2d: _conv2d, torch.conv_transpose2d: _conv_transpose2d}.get(function, function)
        return replaced(*args, **(kwargs or {}))


def _convolution_backward(
    grad: Tensor, field: Tensor, weight: Tensor, _bias: list[int] | None, stride: list[int], padding: list[int],
    dilation: list[int], transposed: bool, _output_padding: list[int], groups: int, _mask: list[bool],
) -> tuple[Tensor, None, None]:  # fmt: skip
    """Gradient in the input alone."""
    field_, kernel, *rest = _adjoint(grad, list(field.shape[2:]), weight, stride, padding, dilation, transposed, groups)
    return torch.ops.aten.convolution(field_, kernel, None, *rest), None, None


def trace(function: Callable[..., object], *examples: Tensor) -> nn.Module:
    """A plain graph of `function` with every backward operator decomposed and the batch axis symbolic."""
    table = get_decompositions(_BACKWARD)
    table[torch.ops.aten.slice_backward.default] = _slice_backward
    table[torch.ops.aten.select_backward.default] = _select_backward
    table[torch.ops.aten.convolution_backward.default] = _convolution_backward

    def composable(*fields: Tensor) -> object:
        with _ComposableConvolutions():
            return function(*fields)

    traced: nn.Module = make_fx(
        composable, decomposition_table=table, tracing_mode="symbolic", _allow_non_fake_inputs=True
    )(*examples)
    return traced
