"""Ops as functions of tensors that autograd differentiates: what ``torch.nn.functional`` has, and the table's others.

Each has a class of autograd's behind it, whose backward pass calls the op's ``_backward``.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from fastnn import checks, ops
from fastnn.kernels.table import ACTIVATIONS as FUSED
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE
from fastnn.kernels.table.elementwise import FROM_INPUT, NUMBERS
from fastnn.torch import ACTIVATIONS, LOSSES
from fastnn.torch.arrays import array_of, checked, held_array_of, memory, tensor_of, threads

Array = Any
# A linear layer's weight (out, in) and bias.
Parameters = tuple[Tensor, Tensor | None]


class _First(Function):
    """A function with first derivatives only: ``slopes`` are what ``backward`` returns."""

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        """The gradients of all arguments."""
        raise NotImplementedError(cls.__name__)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Any:
        """The same, refused where they are to be differentiated in turn."""
        if torch.is_grad_enabled():
            wanted = "wants backward(create_graph=False): these functions have first derivatives only"
            raise RuntimeError(f"fastnn.torch: got a backward pass whose gradients are to be differentiated, {wanted}")
        with threads():
            return ctx._forward_cls.slopes(ctx, dy)


def _applied(function: type[_First], *arguments: Any) -> Any:
    # what ``Function.apply`` does for transforms of functions takes as long as a small kernel
    plain = not torch._C._are_functorch_transforms_active()
    apply: Any = super(Function, function).apply if plain else function.apply  # type: ignore[misc]
    with threads():
        return apply(*arguments)


def _as_tensors(found: Sequence[Any], like: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(None if each is None else tensor_of(each, like) for each in found)


def _optional(tensor: Tensor | None, of: Callable[[Tensor], Array] = array_of) -> Any:
    return None if tensor is None else of(tensor)


def _wanted(ctx: Any, **places: int) -> tuple[str, ...]:
    """Those of an op's gradients that autograd wants, by the places of the arguments."""
    return tuple(name for name, place in places.items() if ctx.needs_input_grad[place])


# ------------------------------------------------------------------------------------------------------- activations


def _activated(z: Any, activation: str) -> Any:
    return getattr(ops, ELEMENTWISE_ACTIVATIONS.get(activation, activation))(z, out=memory.array(z.shape, z))


def _sloped(dy: Any, z: Any, y: Any, activation: str) -> Any:
    """dz of y = activation(z); z may be None where y tells."""
    if activation == "linear":
        return dy
    derivative = getattr(ops, f"{ELEMENTWISE_ACTIVATIONS.get(activation, activation)}_backward")
    return derivative(dy, y if z is None else z, y, out=memory.array(y.shape, y))


class _Activation(_First):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, numbers: Sequence[float]) -> Tensor:
        given = array_of(x)
        y = tensor_of(getattr(ops, name)(given, *numbers, out=memory.array(given.shape, given)), x)
        ctx.name, ctx.numbers = name, numbers
        ctx.save_for_backward(x if name in FROM_INPUT else y, y)
        return y

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        x, y = map(array_of, ctx.saved_tensors)
        derivative = getattr(ops, f"{ctx.name}_backward")
        return tensor_of(derivative(array_of(dy), x, y, *ctx.numbers, out=memory.array(y.shape, y)), dy), None, None


def _activation(name: str) -> Callable[..., Tensor]:
    """The function of an activation of one number, with the parameters that its op has."""
    row, numbers = TABLE[name], NUMBERS[name]

    def function(x: Tensor, *args: float, **kwargs: float) -> Tensor:
        given = dict(numbers)
        if args or kwargs:
            bound = signature.bind(x, *args, **kwargs)
            given |= {number: bound.arguments.get(number, default) for number, default in numbers.items()}
        result: Tensor = _applied(_Activation, checked("x", x), name, tuple(given.values()))
        return result

    parameters = row.signature.parameters
    signature = inspect.Signature([parameters[each] for each in ("x", *numbers)])
    function.__signature__ = signature  # type: ignore[attr-defined]
    return _named(function, name, row.doc)


def _named(function: Callable[..., Tensor], name: str, doc: str) -> Callable[..., Tensor]:
    function.__name__ = function.__qualname__ = name
    function.__doc__ = doc
    return function


def _of_rows(x: Tensor, dim: int, name: str) -> Tensor:
    """An activation of rows along one axis of a tensor of any number of axes."""
    checked("x", x)
    rank = max(1, x.ndim)
    if not -rank <= checks.integer("dim", dim) < rank:
        raise ValueError(f"dim: got {dim}, wants an axis of x of shape {tuple(x.shape)}")
    moved = x.movedim(dim, -1) if x.ndim else x.reshape(1)
    rows = moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])
    y: Tensor = _applied(_Activation, rows, name, ()).reshape(moved.shape)
    return y.movedim(-1, dim) if x.ndim else y.reshape(())


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """exp(x) divided by its sum along the axis ``dim``, without overflow for any finite x."""
    return _of_rows(x, dim, "softmax")


def log_softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Logarithm of ``softmax``."""
    return _of_rows(x, dim, "log_softmax")


# ------------------------------------------------------------------------------------------------------------ layers


class _Stack(_First):
    """Linear layers one behind the other, each with its activation: one step of autograd's for all of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, activations: Sequence[str], *parameters: Any) -> Tensor:
        y, z = array_of(x).reshape(-1, x.shape[-1]), None
        inner: list[tuple[Array | None, Array | None]] = []
        for weight, bias, activation in zip(parameters[::2], parameters[1::2], activations, strict=True):
            inner.append((y, z))
            y, z = _layer(y, held_array_of(weight).T, _optional(bias, held_array_of), activation)
        result = tensor_of(y, x)
        if x.ndim != 2:
            result = result.view(*x.shape[:-1], y.shape[1])
        ctx.save_for_backward(x, result, *parameters)
        # arrays between layers, and what derivatives by the last one need beside its result
        ctx.activations, ctx.inner, ctx.last = activations, inner[1:], z
        return result

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        """The gradient by a weight is formed as that lies, (out, in): autograd takes it without a copy."""
        x, y, *parameters = ctx.saved_tensors
        ends = [array_of(end).reshape(-1, end.shape[-1]) for end in (x, y)]
        rows = [(ends[0], None), *ctx.inner, (ends[1], ctx.last)]
        wanted, found = ctx.needs_input_grad[2:], [None] * len(parameters)
        lowest = -1 if ctx.needs_input_grad[0] else min(i for i, needed in enumerate(wanted) if needed) // 2
        slope = array_of(dy).reshape(rows[-1][0].shape)
        for layer in reversed(range(max(0, lowest), len(ctx.activations))):
            inputs, (outputs, z) = rows[layer][0], rows[layer + 1]
            dz, weight = _sloped(slope, z, outputs, ctx.activations[layer]), 2 * layer
            if wanted[weight]:
                found[weight] = ops.matmul(dz.T, inputs, out=memory.array((dz.shape[1], inputs.shape[1]), dz))
            if wanted[weight + 1]:
                found[weight + 1] = ops.column_sums(dz)
            if layer > lowest:
                slope = ops.matmul(dz, held_array_of(parameters[weight]), out=memory.array(inputs.shape, dz))
        return tensor_of(slope.reshape(x.shape), dy) if lowest < 0 else None, None, *_as_tensors(found, dy)


def _layer(x: Array, w: Array, bias: Array | None, activation: str) -> tuple[Array, Array | None]:
    """Y of a linear layer of rows, and z where the activation's derivative needs that."""
    out = memory.array((x.shape[0], w.shape[1]), x)
    if activation not in FROM_INPUT:
        return ops.linear(x, w, bias, activation, out=out), None
    z = ops.linear(x, w, bias, out=out)
    return _activated(z, activation), z


def stacked(x: Tensor, layers: Sequence[Parameters], activations: Sequence[str]) -> Tensor:
    """What linear layers make of x one behind the other, each with the activation of its place; all of them fit."""
    y: Tensor = _applied(_Stack, x, activations, *(parameter for layer in layers for parameter in layer))
    return y


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "linear") -> Tensor:
    """Linear layer with its bias and activation fused: activation(x @ weight.T + bias).

    x is (..., in), weight (out, in), bias (out,) or None, the result (..., out), as ``torch.nn.functional.linear`` has
    it. ``activation`` is a name that ``fastnn.ops.linear`` knows. TypeError for what is no tensor of float32 or
    float64, or not all of one dtype and device; ValueError for shapes that do not fit.
    """
    checked("x", x)
    checks.one_of("activation", activation, FUSED)
    if checked("weight", weight, x).ndim != 2 or x.ndim < 1 or x.shape[-1] != weight.shape[1]:
        wants = f"(out, {x.shape[-1]}), as many inputs as x of shape {tuple(x.shape)} has" if x.ndim else "x with axes"
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, wants {wants}")
    if bias is not None and checked("bias", bias, x).shape != weight.shape[:1]:
        raise ValueError(f"bias: got shape {tuple(bias.shape)}, wants ({weight.shape[0]},), one number an output")
    return stacked(x, [(weight, bias)], (activation,))


def _last(x: Tensor) -> Any:
    """Images (n, c, h, w) as an array (n, h, w, c)."""
    return array_of(x).transpose(0, 2, 3, 1)


def _first(images: Any, like: Tensor) -> Tensor:
    """The other way round."""
    return tensor_of(images, like).permute(0, 3, 1, 2)


def _channels_last(name: str, x: Any, like: Tensor | None = None) -> Tensor:
    """Images whose channels lie side by side in memory; a copy where they do not."""
    if checked(name, x, like).ndim != 4:
        raise ValueError(f"{name}: got shape {tuple(x.shape)}, wants images (n, c, h, w)")
    images: Tensor = x.contiguous(memory_format=torch.channels_last)
    return images


class _Convolution(_First):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, activation: str, options: Any) -> Tensor:
        images, w, z = _last(x), array_of(weight).transpose(2, 3, 1, 0), None
        if activation in FROM_INPUT:
            z = ops.conv2d(images, w, _optional(bias), **options)
            y = _activated(z, activation)
        else:
            y = ops.conv2d(images, w, _optional(bias), activation, **options)
        result = _first(y, x)
        ctx.save_for_backward(x, weight, result, None if z is None else _first(z, x))
        ctx.activation, ctx.options = activation, options
        return result

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        x, weight, y, z = ctx.saved_tensors
        need = _wanted(ctx, dx=0, dw=1, db=2)
        dx, dw, db = ops.conv2d_backward(
            _last(dy.contiguous(memory_format=torch.channels_last)),
            _last(x),
            array_of(weight).transpose(2, 3, 1, 0),
            _last(y),
            ctx.activation,
            None if z is None else _last(z),
            need,
            **ctx.options,
        )
        slope_x = None if dx is None else _first(dx, dy)
        slope_w = None if dw is None else tensor_of(dw, dy).permute(3, 2, 0, 1)
        return slope_x, slope_w, None if db is None else tensor_of(db, dy), None, None


def _pair(name: str, value: Any, minimum: int) -> tuple[int, ...]:
    return checks.integers(name, tuple(value) if isinstance(value, list) else value, 2, minimum)


def conv2d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
    activation: str = "linear",
) -> Tensor:
    """Convolution of images with its bias and activation fused, with the arguments of ``torch.nn.functional.conv2d``.

    x is (n, c, h, w), weight (f, c / groups, kh, kw), bias (f,) or None, the result (n, f, oh, ow) with its channels
    side by side in memory (``torch.channels_last``). x that lies so is read in place, another one is copied once.
    Padding is "valid", "same" (of stride 1), or a number around each axis. Errors are those of ``linear``.
    """
    images = _channels_last("x", x)
    checks.one_of("activation", activation, FUSED)
    groups = checks.positive_int("groups", groups)
    if checked("weight", weight, x).ndim != 4 or weight.shape[1] * groups != x.shape[1]:
        wants = f"(f, {x.shape[1]} / {groups}, kh, kw) for x of shape {tuple(x.shape)} and {groups} groups"
        raise ValueError(f"weight: got shape {tuple(weight.shape)}, wants {wants}")
    if bias is not None and checked("bias", bias, x).shape != weight.shape[:1]:
        raise ValueError(f"bias: got shape {tuple(bias.shape)}, wants ({weight.shape[0]},), one number a channel")
    strides = _pair("stride", stride, 1)
    if padding == "same" and strides != (1, 1):
        raise ValueError(f"padding: got 'same' with stride {strides}, wants stride 1 with it, or numbers")
    options = {
        "strides": strides,
        "padding": padding if isinstance(padding, str) else _pair("padding", padding, 0),
        "dilation": _pair("dilation", dilation, 1),
        "groups": groups,
    }
    y: Tensor = _applied(_Convolution, images, weight, bias, activation, options)
    return y


class _Pooling(_First):
    @staticmethod
    def forward(ctx: Any, x: Tensor, name: str, options: Sequence[Any]) -> Tensor:
        y = _first(getattr(ops, name)(_last(x), *options), x)
        ctx.name, ctx.options = name, options
        ctx.save_for_backward(x, y)
        return y

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        x, y = map(_last, ctx.saved_tensors)
        images = _last(dy.contiguous(memory_format=torch.channels_last))
        given = (images, x, y) if ctx.name == "max_pool2d" else (images, x)
        return _first(getattr(ops, f"{ctx.name}_backward")(*given, *ctx.options), dy), None, None


def _pooled(x: Tensor, name: str, kernel_size: Any, stride: Any, padding: Any) -> Tensor:
    size = _pair("kernel_size", kernel_size, 1)
    around = _pair("padding", padding, 0)
    if any(2 * pad > side for pad, side in zip(around, size, strict=True)):
        raise ValueError(f"padding: got {around}, wants half of kernel_size {size} at most")
    strides = size if stride is None else _pair("stride", stride, 1)
    y: Tensor = _applied(_Pooling, _channels_last("x", x), name, (size, strides, around))
    return y


def max_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """The largest number of each window, with the arguments of ``torch.nn.functional.max_pool2d``; x as in ``conv2d``.

    Of several that are the largest, the first one gets the gradient.
    """
    return _pooled(x, "max_pool2d", kernel_size, stride, padding)


def avg_pool2d(x: Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0) -> Tensor:
    """The mean of each window's numbers of x, x as in ``conv2d``.

    It is ``torch.nn.functional.avg_pool2d`` with ``count_include_pad=False``: padding counts for nothing.
    """
    return _pooled(x, "average_pool2d", kernel_size, stride, padding)


# ------------------------------------------------------------------------------------------------------------ losses


class _Loss(_First):
    """Value and gradient are one pass, in the forward one."""

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, weight: Tensor | None, name: str, options: Any) -> Tensor:
        value, slope = getattr(ops, name)(array_of(pred), array_of(target), _optional(weight), **options)
        ctx.save_for_backward(tensor_of(slope, pred))
        return tensor_of(value, pred)

    @classmethod
    def slopes(cls, ctx: Any, dy: Tensor) -> Any:
        (slope,) = ctx.saved_tensors
        by_itself = not dy.is_cuda and dy.item() == 1  # as where the loss is what is differentiated
        return slope if by_itself else slope * dy, None, None, None, None


def loss_of(name: str, pred: Any, target: Any, weight: Any, options: Mapping[str, Any]) -> Tensor:
    """The loss of this name, of tensors that its op takes."""
    result: Tensor = _applied(_Loss, pred, target, weight, name, options)
    return result


def _loss(name: str) -> Callable[..., Tensor]:
    """The function of a loss, with the parameters that its op has."""
    row = TABLE[name]
    first, second = list(row.operands)[:2]

    def function(*args: Any, **kwargs: Any) -> Tensor:
        plain = len(args) == 2 and not kwargs  # as nearly all calls are
        given = (
            dict(zip((first, second), args, strict=True)) if plain else row.signature.bind(*args, **kwargs).arguments
        )
        pred, target, weight = (given.get(each) for each in (first, second, "sample_weight"))
        checked(first, pred)
        checks.instance(second, target, Tensor, "a tensor")
        for other, tensor in ((second, target), ("sample_weight", weight)):
            if tensor is not None and tensor.requires_grad:
                raise ValueError(f"{other}: got a tensor that requires a gradient, wants one without: detach it first")
        options = {option: given[option] for option in row.options if option in given}
        return loss_of(name, pred, target, weight, options)

    function.__signature__ = row.signature  # type: ignore[attr-defined]
    return _named(function, name, _doc_of_loss(row.doc))


def _doc_of_loss(doc: str) -> str:
    """What the op's docstring says, for a function that returns the loss alone, as autograd has it."""
    return f"{doc}\n\nThe result is the loss, a tensor (); its gradient is autograd's to ask for."


softmax_cross_entropy = _loss("softmax_cross_entropy")
globals().update({name: _loss(name) for name in LOSSES})
globals().update({name: _activation(name) for name in ACTIVATIONS})
