"""Every op of ``fastnn.ops`` that ONNX has operators for, as nodes of a graph.

An emitter takes the graph and the op's own arguments by name: tensors of the graph, arrays for what is constant,
numbers and names for options. It gives a tensor, or a tuple of such where the op has several results.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.engine.activations import Activation
from fastnn.engine.protocols import Array
from fastnn.kernels.table import NUMBERS
from fastnn.kernels.table.attention import FAR_BELOW
from fastnn.kernels.table.windows import margins, places, reach, spread
from fastnn.onnx.graph import LAST, Graph, Shape, Tensor

Emitter = Callable[..., Any]

_INT64 = 7  # of ONNX's element types


class UnsupportedError(ValueError):
    """What ONNX has no operator for; the message says what it is, and in its place."""


# --------------------------------------------------------------------------------------------------------- activations


def _bounded_relu(graph: Graph, x: Tensor, negative_slope: float, max_value: float, threshold: float) -> Tensor:
    if negative_slope == 0 and threshold == 0:
        upper = () if math.isinf(max_value) else (graph.number(max_value),)
        return graph.like(x, "Clip", graph.number(0.0), *upper)
    below = _shifted(graph, x, -threshold)
    if negative_slope != 1:
        below = graph.like(below, "Mul", graph.number(negative_slope))
    (is_above,) = graph.node("GreaterOrEqual", x.name, graph.number(threshold))
    y = graph.put("Where", x.shape, is_above, x.name, below.name, order=x.order)
    return y if math.isinf(max_value) else graph.like(y, "Min", graph.number(max_value))


def _shifted(graph: Graph, x: Tensor, by: float) -> Tensor:
    return graph.like(x, "Add", graph.number(by)) if by else x


def _celu(graph: Graph, x: Tensor, alpha: float) -> Tensor:
    """alpha * elu(x / alpha): ONNX's own has no float64."""
    if alpha == 1:
        return graph.like(x, "Elu", alpha=1.0)
    scaled = graph.like(graph.like(x, "Div", graph.number(alpha)), "Elu", alpha=1.0)
    return graph.like(scaled, "Mul", graph.number(alpha))


def _log_sigmoid(graph: Graph, x: Tensor) -> Tensor:
    return graph.like(graph.like(graph.like(x, "Neg"), "Softplus"), "Neg")


def _silu(graph: Graph, x: Tensor) -> Tensor:
    return graph.like(x, "Mul", graph.like(x, "Sigmoid").name)


def _hard_silu(graph: Graph, x: Tensor) -> Tensor:
    return graph.like(x, "Mul", _hard_sigmoid(graph, x).name)


def _hard_sigmoid(graph: Graph, x: Tensor) -> Tensor:
    return graph.like(x, "HardSigmoid", alpha=1 / 6, beta=0.5)


def _gelu(graph: Graph, x: Tensor) -> Tensor:
    if graph.opset >= 20:
        return graph.like(x, "Gelu")
    share = graph.like(graph.like(x, "Div", graph.number(math.sqrt(2))), "Erf")
    doubled = graph.like(x, "Mul", _shifted(graph, share, 1.0).name)
    return graph.like(doubled, "Mul", graph.number(0.5))


def _gelu_tanh(graph: Graph, x: Tensor) -> Tensor:
    if graph.opset >= 20:
        return graph.like(x, "Gelu", approximate="tanh")
    cube = graph.like(x, "Mul", graph.like(x, "Mul", x.name).name)
    inner = graph.like(x, "Add", graph.like(cube, "Mul", graph.number(0.044715)).name)
    share = graph.like(graph.like(inner, "Mul", graph.number(math.sqrt(2 / math.pi))), "Tanh")
    doubled = graph.like(x, "Mul", _shifted(graph, share, 1.0).name)
    return graph.like(doubled, "Mul", graph.number(0.5))


def _mish(graph: Graph, x: Tensor) -> Tensor:
    if graph.opset >= 18:
        return graph.like(x, "Mish")
    return graph.like(x, "Mul", graph.like(graph.like(x, "Softplus"), "Tanh").name)


def _threshold(graph: Graph, x: Tensor, threshold: float, default_value: float) -> Tensor:
    (is_above,) = graph.node("Greater", x.name, graph.number(threshold))
    return graph.put("Where", x.shape, is_above, x.name, graph.number(default_value), order=x.order)


def _binary_step(graph: Graph, x: Tensor) -> Tensor:
    (is_above,) = graph.node("GreaterOrEqual", x.name, graph.number(0.0))
    return graph.put("Where", x.shape, is_above, graph.number(1.0), graph.number(0.0), order=x.order)


def _along_last(kind: str) -> Emitter:
    return lambda graph, x: graph.like(x, kind, axis=x.place(-1))


def _same(kind: str) -> Emitter:
    """ONNX has it under a name of its own, with the same numbers."""
    return lambda graph, x, **numbers: graph.like(x, kind, **numbers)


_ACTIVATIONS: dict[str, Emitter] = {
    "identity": lambda graph, x: x,
    "relu": _same("Relu"),
    "sigmoid": _same("Sigmoid"),
    "tanh": _same("Tanh"),
    "relu6": lambda graph, x: graph.like(x, "Clip", graph.number(0.0), graph.number(6.0)),
    "hard_tanh": lambda graph, x: graph.like(x, "Clip", graph.number(-1.0), graph.number(1.0)),
    "bounded_relu": _bounded_relu,
    "leaky_relu": lambda graph, x, negative_slope: graph.like(x, "LeakyRelu", alpha=negative_slope),
    "elu": _same("Elu"),
    "celu": _celu,
    "selu": _same("Selu"),
    "hard_sigmoid": _hard_sigmoid,
    "log_sigmoid": _log_sigmoid,
    "softplus": _same("Softplus"),
    "softsign": _same("Softsign"),
    "silu": _silu,
    "hard_silu": _hard_silu,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "mish": _mish,
    "exponential": _same("Exp"),
    "threshold": _threshold,
    "soft_shrink": lambda graph, x, threshold: graph.like(x, "Shrink", lambd=threshold, bias=threshold),
    "hard_shrink": lambda graph, x, threshold: graph.like(x, "Shrink", lambd=threshold, bias=0.0),
    "binary_step": _binary_step,
    "sign": _same("Sign"),
    "softmax": _along_last("Softmax"),
    "log_softmax": _along_last("LogSoftmax"),
}


def activated(graph: Graph, x: Tensor, activation: Activation) -> Tensor:
    """What one of fastnn's own activations makes of a tensor."""
    numbers = NUMBERS.get(activation.op, {})
    if activation.numbers:
        numbers = dict(zip(numbers, activation.numbers, strict=True))
    y: Tensor = emitter(activation.op)(graph, x, **numbers)
    return y


def _named(graph: Graph, x: Tensor, name: str) -> Tensor:
    return activated(graph, x, Activation(name))


# ------------------------------------------------------------------------------------------------------- of two arrays


def tensor_of(graph: Graph, value: Any, label: str = "constant") -> Tensor:
    """A tensor itself, or one for an array."""
    if isinstance(value, Tensor):
        return value
    array = np.asarray(value)
    return Tensor(graph.constant(label, array, value), array.shape, tuple(range(array.ndim)))


def together(graph: Graph, tensors: Sequence[Tensor]) -> list[Tensor]:
    """Tensors that broadcast, in one order of axes: that of the first where they have as many."""
    same = len({tensor.rank for tensor in tensors}) == 1
    return [graph.ordered(tensor, tensors[0].order if same else tensor.plain) for tensor in tensors]


def broadcast_shape(shapes: Sequence[Shape]) -> Shape:
    """The shape that they broadcast to."""
    rank = max(map(len, shapes))
    columns = zip(*((1,) * (rank - len(shape)) + tuple(shape) for shape in shapes), strict=True)
    return tuple(next((size for size in sizes if size != 1), 1) for sizes in columns)


def pairwise(kind: str) -> Emitter:
    """An operator of two arrays that broadcast as NumPy's do."""

    def emit(graph: Graph, a: Any, b: Any) -> Tensor:
        given = together(graph, [tensor_of(graph, a, "a"), tensor_of(graph, b, "b")])
        shape = broadcast_shape([tensor.shape for tensor in given])
        order = given[0].order if given[0].rank == given[1].rank else None
        return graph.put(kind, shape, *(tensor.name for tensor in given), order=order)

    return emit


def _mean_of_two(graph: Graph, a: Any, b: Any) -> Tensor:
    return graph.like(pairwise("Add")(graph, a, b), "Mul", graph.number(0.5))


def concatenated(graph: Graph, tensors: Sequence[Tensor], axis: int) -> Tensor:
    """One behind the other along an axis."""
    first, *_ = given = together(graph, tensors)
    sizes = [tensor.shape[axis] for tensor in given]
    shape = [*first.shape]
    shape[axis] = None if None in sizes else sum(size or 0 for size in sizes)
    names = (tensor.name for tensor in given)
    return graph.put("Concat", tuple(shape), *names, order=first.order, axis=first.place(axis))


def _joined(graph: Graph, a: Any, b: Any) -> Tensor:
    return concatenated(graph, [tensor_of(graph, a, "a"), tensor_of(graph, b, "b")], 1)


# ----------------------------------------------------------------------------------------------- products, convolutions


def _constant(value: Any, name: str) -> Array:
    """An array that must be known when the graph is written."""
    if isinstance(value, Tensor):
        raise UnsupportedError(f"{name} that is calculated from the inputs, wants a weight of the layer")
    return np.asarray(value)


def _matmul(graph: Graph, a: Any, b: Any) -> Tensor:
    left, right = (graph.plain(tensor_of(graph, value, label)) for value, label in ((a, "a"), (b, "b")))
    return graph.put("MatMul", (*left.shape[:-1], right.shape[-1]), left.name, right.name)


def _attention(
    graph: Graph, query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False
) -> Tensor:
    """Products of heads (n, h, t, s), of which those that do not count are far below, and their softmax."""
    q, k, v = (
        permuted(graph, x, axes) for x, axes in ((query, (0, 2, 1, 3)), (key, (0, 2, 3, 1)), (value, (0, 2, 1, 3)))
    )
    scores = graph.like(_matmul(graph, q, k), "Mul", graph.number(scale))
    if mask is not None:
        given = graph.plain(tensor_of(graph, mask, "mask"))
        (left_out,) = graph.node("Equal", given.name, graph.number(0.0))
        (of_heads,) = graph.node("Unsqueeze", left_out, graph.integers(1))
        scores = graph.put("Where", scores.shape, of_heads, graph.number(FAR_BELOW), scores.name)
    if causal:
        t, s = scores.shape[2:]
        if t is None or s is None:
            raise UnsupportedError("causal attention of steps whose number depends on the batch, wants known sizes")
        behind = graph.constant("causal", np.triu(np.ones((t, s), bool), 1))
        scores = graph.put("Where", scores.shape, behind, graph.number(FAR_BELOW), scores.name)
    y = _matmul(graph, graph.like(scores, "Softmax", axis=3), v)
    return permuted(graph, y, (0, 2, 1, 3))


def linear(graph: Graph, x: Any, w: Any, b: Any = None, activation: str = "linear") -> Tensor:
    """x @ w + b along the last axis: a Gemm of matrices, for more axes a MatMul."""
    rows, kernel = graph.plain(tensor_of(graph, x, "x")), tensor_of(graph, w, "kernel")
    shape = (*rows.shape[:-1], kernel.shape[-1])
    if b is not None and rows.rank == 2:
        bias = tensor_of(graph, b, "bias").name
        return _named(graph, graph.put("Gemm", shape, rows.name, kernel.name, bias), activation)
    y = graph.put("MatMul", shape, rows.name, kernel.name)
    return _named(graph, y if b is None else graph.like(y, "Add", tensor_of(graph, b, "bias").name), activation)


def _convolution(
    graph: Graph,
    x: Tensor,
    kernel: str,
    windows: Sequence[int],
    maps: int,
    b: Any,
    activation: str,
    strides: Sequence[int],
    padding: Any,
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """A convolution by a kernel (maps, channels / groups, *windows)."""
    image, sizes = graph.ordered(x, x.channels_first), _known_sizes(x)
    axes = range(len(sizes))
    around = [margins(sizes[i], windows[i], strides[i], padding, i, dilation[i]) for i in axes]
    found = [places(sizes[i], windows[i], strides[i], padding, i, dilation[i]) for i in axes]
    bias = () if b is None else (tensor_of(graph, b, "bias").name,)
    y = graph.put(
        "Conv", (x.shape[0], *found, maps), image.name, kernel, *bias, order=image.order, kernel_shape=[*windows],
        strides=[*strides], dilations=[*dilation], group=groups, pads=_pads(around),
    )  # fmt: skip
    return _named(graph, y, activation)


def _known_sizes(x: Tensor) -> list[int]:
    sizes = [size for size in x.shape[1:-1] if size is not None]
    if len(sizes) != x.rank - 2:
        raise UnsupportedError(f"an image of shape {x.shape}, wants known sizes")
    return sizes


def _pads(around: Sequence[tuple[int, int]]) -> list[int]:
    return [before for before, _ in around] + [after for _, after in around]


def convolution(
    graph: Graph,
    x: Tensor,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor:
    """By a kernel (*windows, channels / groups, maps)."""
    kernel = _constant(w, "w: got a kernel")
    name = graph.constant("kernel", np.moveaxis(kernel, (-1, -2), (0, 1)), w)
    options = _for_axes(kernel.ndim - 2, strides, padding, dilation)
    return _convolution(graph, x, name, kernel.shape[:-2], kernel.shape[-1], b, activation, *options, groups)


def depthwise(
    graph: Graph,
    x: Tensor,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
) -> Tensor:
    """By a kernel (*windows, channels, maps of each)."""
    kernel = _constant(w, "w: got a kernel")
    *windows, channels, maps = kernel.shape
    first = np.moveaxis(kernel, (-2, -1), (0, 1)).reshape(channels * maps, 1, *windows)
    name = graph.constant("depthwise_kernel", first, w)
    options = _for_axes(len(windows), strides, padding, dilation)
    return _convolution(graph, x, name, windows, channels * maps, b, activation, *options, channels)


def transposed_convolution(
    graph: Graph,
    x: Tensor,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = 1,
    padding: Any = "valid",
    dilation: Any = 1,
) -> Tensor:
    """By a kernel (*windows, maps, channels)."""
    kernel = _constant(w, "w: got a kernel")
    *windows, maps, _ = kernel.shape
    steps, pad, holes = _for_axes(len(windows), strides, padding, dilation)
    image, axes = graph.ordered(x, x.channels_first), range(len(windows))
    sizes = _known_sizes(x)
    found = [spread(sizes[i], windows[i], steps[i], pad, i, holes[i]) for i in axes]
    # numbers that the windows cover beyond the results, which are cut off; below 0 they cover too few
    beyond = [(sizes[i] - 1) * steps[i] + reach(windows[i], holes[i]) - found[i] for i in axes]
    cut = [pad[i] if not isinstance(pad, str) else (max(0, n) // 2, max(0, n) - max(0, n) // 2) for i, n in
           enumerate(beyond)]  # fmt: skip
    bias = () if b is None else (tensor_of(graph, b, "bias").name,)
    y = graph.put(
        "ConvTranspose", (x.shape[0], *found, maps), image.name,
        graph.constant("kernel", np.moveaxis(kernel, (-1, -2), (0, 1)), w), *bias,
        order=image.order, kernel_shape=[*windows], strides=[*steps], dilations=[*holes], pads=_pads(cut),
        output_padding=[max(0, -n) for n in beyond],
    )  # fmt: skip
    return _named(graph, y, activation)


def _for_axes(axes: int, strides: Any, padding: Any, dilation: Any) -> tuple[Any, Any, Any]:
    """Strides and dilation as one number an axis."""
    each = [(value,) * axes if isinstance(value, int) else tuple(value)[:axes] for value in (strides, dilation)]
    return each[0], padding, each[1]


# ---------------------------------------------------------------------------------------------------- pooling, resizing


def _pooling(kind: str) -> Emitter:
    def emit(graph: Graph, x: Tensor, pool_size: Any, strides: Any = None, padding: Any = "valid") -> Tensor:
        image, sizes = graph.ordered(x, x.channels_first), _known_sizes(x)
        axes = range(len(sizes))
        windows, _, _ = _for_axes(len(sizes), pool_size, None, 1)
        steps, _, _ = _for_axes(len(sizes), pool_size if strides is None else strides, None, 1)
        around = [margins(sizes[i], windows[i], steps[i], padding, i) for i in axes]
        found = [places(sizes[i], windows[i], steps[i], padding, i) for i in axes]
        return graph.put(
            kind, (x.shape[0], *found, x.shape[-1]), image.name, order=image.order, kernel_shape=[*windows],
            strides=[*steps], pads=_pads(around),
        )  # fmt: skip

    return emit


def _reducing(kind: str, axis: int) -> Emitter:
    return lambda graph, x: graph.reduced(kind, x, [axis])


def padded(graph: Graph, x: Tensor, padding: Any) -> Tensor:
    """Zeros around the spatial axes."""
    around = [(0, 0), *padding[: x.rank - 2], (0, 0)]
    shape = tuple(None if size is None else size + sum(pair) for size, pair in zip(x.shape, around, strict=True))
    pads = graph.integers(*_pads(x.arranged(around)))
    return graph.put("Pad", shape, x.name, pads, graph.number(0.0), order=x.order)


def cropped(graph: Graph, x: Tensor, cropping: Any) -> Tensor:
    """Without the edges of the spatial axes."""
    cut = [*cropping[: x.rank - 2]]
    axes = [axis for axis in range(1, x.rank - 1) if any(cut[axis - 1])]
    if not axes:
        return x
    shape = [*x.shape]
    for axis in axes:
        size = x.shape[axis]
        shape[axis] = None if size is None else size - sum(cut[axis - 1])
    bounds = [[cut[axis - 1][0] for axis in axes], [-cut[axis - 1][1] or LAST for axis in axes]]
    given = (graph.integers(*each) for each in (*bounds, [x.place(axis) for axis in axes]))
    return graph.put("Slice", tuple(shape), x.name, *given, order=x.order)


def upsampled(graph: Graph, x: Tensor, size: Any) -> Tensor:
    """Every number so many times along the spatial axes."""
    times = (1, *size[: x.rank - 2], 1)
    shape = tuple(None if each is None else each * n for each, n in zip(x.shape, times, strict=True))
    image = graph.ordered(x, x.channels_first)
    scales = graph.constant("scales", np.asarray(image.arranged(times), np.float32))
    options = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    return graph.put("Resize", shape, image.name, "", scales, order=image.order, **options)


def resized(graph: Graph, x: Tensor, height: int, width: int) -> Tensor:
    """Images of other sizes, by shares of the four nearest places, whose centres are at halves."""
    shape = (x.shape[0], height, width, x.shape[3])
    image = graph.ordered(x, x.channels_first)
    (sizes,) = graph.node("Shape", image.name)
    (rows,) = graph.node("Slice", sizes, graph.integers(0), graph.integers(1))
    (wanted,) = graph.node("Concat", rows, graph.integers(*(size or 0 for size in image.arranged(shape)[1:])), axis=0)
    options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return graph.put("Resize", shape, image.name, "", "", wanted, order=image.order, **options)


def picked(graph: Graph, x: Tensor, axis: int, places: Any) -> Tensor:
    """Some places of an axis, one behind the other; the tensor itself where these are all."""
    if list(places) == list(range(x.shape[axis] or 0)):
        return x
    shape = tuple(len(places) if each == axis else size for each, size in enumerate(x.shape))
    return graph.put("Gather", shape, x.name, graph.integers(*places), order=x.order, axis=x.place(axis))


# ----------------------------------------------------------------------------------------------------------- categories


def binned(graph: Graph, x: Tensor, boundaries: Sequence[float]) -> Tensor:
    """How many of the boundaries, which are in order, each number has reached; the smallest of the dtype that have."""
    rounded = np.asarray(boundaries, graph.dtype)
    reached = np.where(rounded < boundaries, np.nextafter(rounded, graph.dtype.type(np.inf)), rounded)
    numbers = graph.put("Unsqueeze", (*x.shape, 1), graph.plain(x).name, graph.integers(x.rank))
    (below,) = graph.node("Less", numbers.name, graph.constant("boundaries", reached))
    counted = graph.put("Where", (*x.shape, len(boundaries)), below, graph.number(0.0), graph.number(1.0))
    count = graph.reduced("ReduceSum", counted, [x.rank])
    return replace(graph.like(count, "Cast", to=_INT64), whole=True)


def encoded(graph: Graph, x: Tensor, size: int, mode: str) -> Tensor:
    """Categories in [0, size) as rows: "one_hot" each by itself, "multi_hot" or "count" those of a sample together."""
    values = graph.constant("off and on", np.asarray([0, 1], graph.dtype), encoded)
    given = graph.plain(x).name, graph.integers(size), values
    rows = graph.put("OneHot", (*x.shape, size), *given, axis=-1)
    if x.rank == 1:
        return rows
    if mode == "one_hot":
        return graph.reshaped(rows, (*x.shape[:-1], size)) if x.shape[-1] == 1 else rows
    return graph.reduced("ReduceMax" if mode == "multi_hot" else "ReduceSum", rows, [x.rank - 1])


# -------------------------------------------------------------------------------------------------------- normalisation


def batch_norm(
    graph: Graph,
    x: Tensor,
    moving_mean: Any,
    moving_variance: Any,
    gamma: Any = None,
    beta: Any = None,
    epsilon: float = 1e-3,
    momentum: float = 0.9,
) -> Tensor:
    """By moving figures, along the last axis."""
    columns, width = graph.ordered(x, x.channels_first), x.shape[-1] or 0
    figures = {"gamma": gamma, "beta": beta, "moving_mean": moving_mean, "moving_variance": moving_variance}
    names = [
        tensor_of(graph, _or_full(graph, value, name == "gamma", width), name).name for name, value in figures.items()
    ]
    return graph.like(columns, "BatchNormalization", *names, epsilon=epsilon, momentum=momentum)


def _or_full(graph: Graph, value: Any, number: float, *shape: int) -> Any:
    return np.full(shape, number, graph.dtype) if value is None else value


def layer_norm(graph: Graph, x: Tensor, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3) -> Tensor:
    """Along the last axes: as many as gamma and beta have."""
    given = next((value for value in (gamma, beta) if value is not None), None)
    return layer_norm_along(graph, x, 1 if given is None else np.ndim(given), gamma, beta, epsilon)


def layer_norm_along(graph: Graph, x: Tensor, axes: int, gamma: Any, beta: Any, epsilon: float) -> Tensor:
    """Along so many of the last axes.

    ONNX has it from opset 17 on, with figures in float32; before that, and for float64, it is what it comes down to.
    """
    rows = graph.plain(x)
    sizes = tuple(size or 0 for size in x.shape[-axes:])
    bias = () if beta is None else (tensor_of(graph, beta, "beta").name,)
    if graph.opset >= 17 and graph.dtype == np.float32:
        scale = tensor_of(graph, _or_full(graph, gamma, 1.0, *sizes), "gamma").name
        return graph.like(rows, "LayerNormalization", scale, *bias, axis=-axes, epsilon=epsilon)
    last = range(x.rank - axes, x.rank)
    centred = graph.like(rows, "Sub", graph.reduced("ReduceMean", rows, last, keepdims=True).name)
    squares = graph.like(centred, "Mul", centred.name)
    variance = _shifted(graph, graph.reduced("ReduceMean", squares, last, keepdims=True), epsilon)
    y = graph.like(centred, "Div", graph.like(variance, "Sqrt").name)
    if gamma is not None:
        y = graph.like(y, "Mul", tensor_of(graph, gamma, "gamma").name)
    return graph.like(y, "Add", *bias) if bias else y


def of_sample(graph: Graph, x: Tensor, array: Array, label: str) -> str:
    """A constant that broadcasts over the last axes of x, whatever order those have in the graph."""
    whole = np.asarray(array).reshape((1,) * (x.rank - np.ndim(array)) + np.shape(array))
    return graph.constant(label if x.order == x.plain else f"{label}_{x.order}", whole.transpose(x.order), array)


def prelu(graph: Graph, x: Tensor, alpha: Any) -> Tensor:
    """Slopes of a sample's shape, or of length 1 along some axes."""
    return graph.like(x, "PRelu", of_sample(graph, x, _constant(alpha, "alpha: got slopes"), "alpha"))


# ---------------------------------------------------------------------------------------------------------- sequences


def embedding(graph: Graph, indices: Any, table: Any) -> Tensor:
    """Rows of a table."""
    rows, numbers = tensor_of(graph, table, "embeddings"), graph.plain(tensor_of(graph, indices, "indices"))
    return graph.put("Gather", (*numbers.shape, *rows.shape[1:]), rows.name, numbers.name, axis=0)


def _gather(graph: Graph, data: Any, index: Any, scale: float = 1.0, offset: float = 0.0) -> Tensor:
    y = embedding(graph, index, data)
    return _shifted(graph, y if scale == 1 else graph.like(y, "Mul", graph.number(scale)), offset)


def sequence_mean(graph: Graph, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Over the steps that count; 0 where none does."""
    if mask is None:
        return graph.reduced("ReduceMean", x, [1])
    steps, counted = graph.plain(x), counts(graph, mask)
    total = graph.reduced("ReduceSum", graph.like(steps, "Mul", counted.name), [1])
    number = graph.like(graph.reduced("ReduceSum", counted, [1]), "Max", graph.number(1.0))
    return graph.like(total, "Div", number.name)


def counts(graph: Graph, mask: Tensor) -> Tensor:
    """A mask (n, t) of True and False as (n, t, 1) of ones and zeros."""
    (numbers,) = graph.node("Where", mask.name, graph.number(1.0), graph.number(0.0))
    return graph.put("Unsqueeze", (*mask.shape, 1), numbers, graph.integers(2))


# --------------------------------------------------------------------------------------------------------- calculations


def permuted(graph: Graph, x: Any, axes: Sequence[int]) -> Tensor:
    """With its axes in another order: no node at all."""
    tensor = tensor_of(graph, x, "x")
    wanted = [axis % tensor.rank for axis in axes]
    return Tensor(
        tensor.name, tuple(tensor.shape[axis] for axis in wanted), tuple(wanted.index(axis) for axis in tensor.order)
    )


def _transposed(graph: Graph, x: Any) -> Tensor:
    return permuted(graph, x, [*range(tensor_of(graph, x, "x").rank)][::-1])


def _repeated_scale(kind: str) -> Emitter:
    return lambda graph, x, factor: graph.like(x, kind, graph.number(factor))


OPERATORS: Mapping[str, Emitter] = {
    **_ACTIVATIONS,
    "add": pairwise("Add"),
    "subtract": pairwise("Sub"),
    "multiply": pairwise("Mul"),
    "average": _mean_of_two,
    "divide": pairwise("Div"),
    "square": lambda graph, x: pairwise("Mul")(graph, x, x),
    "sqrt": _same("Sqrt"),
    "log": _same("Log"),
    "absolute": _same("Abs"),
    "erf": _same("Erf"),
    "sin": _same("Sin"),
    "cos": _same("Cos"),
    "maximum": pairwise("Max"),
    "minimum": pairwise("Min"),
    "join": _joined,
    "matmul": _matmul,
    "batch_matmul": _matmul,
    "attention": _attention,
    "linear": linear,
    "conv1d": convolution,
    "conv2d": convolution,
    "depthwise_conv2d": depthwise,
    "conv2d_transpose": transposed_convolution,
    "max_pool2d": _pooling("MaxPool"),
    "average_pool2d": _pooling("AveragePool"),
    "global_max_pool": _reducing("ReduceMax", 1),
    "global_average_pool": _reducing("ReduceMean", 1),
    "zero_pad2d": padded,
    "crop2d": cropped,
    "upsample2d": upsampled,
    "batch_norm_inference": batch_norm,
    "layer_norm": layer_norm,
    "prelu": prelu,
    "embedding": embedding,
    "gather": _gather,
    "sequence_mean": sequence_mean,
    "permute": permuted,
    "transpose": _transposed,
    "scaled": _repeated_scale("Mul"),
    "divided": _repeated_scale("Div"),
}


def emitter(op: str) -> Emitter:
    """That of an op; ``UnsupportedError`` where there is none."""
    if op not in OPERATORS:
        raise UnsupportedError(f"the op {op}, wants ops that ONNX has operators for: {', '.join(sorted(OPERATORS))}")
    return OPERATORS[op]
