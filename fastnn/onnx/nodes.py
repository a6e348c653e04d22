"""ONNX's operators as layers: a reader of each takes what reads the graph and a node, and gives the node's value."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from fastnn import activations, layers
from fastnn.engine.activations import Activation
from fastnn.engine.protocols import Array
from fastnn.kernels.table.windows import margins, reach, spread
from fastnn.layers.base import Activated
from fastnn.onnx import cells, scans
from fastnn.onnx.graph import LAST, Node
from fastnn.onnx.operators import UnsupportedError
from fastnn.onnx.patterns import scan_kind

if TYPE_CHECKING:
    from fastnn.onnx.reading import Held, _Reader

Reader = Callable[["_Reader", Node], Any]

# Added to 1 it is 1.
_NEXT_TO_NONE = 1e-20

# Activations whose outputs are never below 0, so that zeros around them change no largest number.
_NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential", "softmax")


# --------------------------------------------------------------------------------------------------------- activations


def _activating(find: Callable[[_Reader, Node], Any]) -> Reader:
    """Of an operator that is one of fastnn's activations: in the layer before where that has none, else a layer."""

    def read(reader: _Reader, node: Node) -> Held:
        return _activated(reader, node, activations.get(find(reader, node)))

    return read


def _activated(reader: _Reader, node: Node, activation: Activation) -> Held:
    held = reader.held(node.takes[0])
    layer: Any = held.tensor.node.operation
    weighted = isinstance(layer, Activated) and not isinstance(layer, layers.Activation)
    is_free = weighted and layer.activation.name == "linear" and layer not in reader.shared.values()
    if is_free and reader.is_only_here(held):
        layer.activation = activation
        return held
    return reader.call(node, layers.Activation, held, held.order, activation=activation)


def _named(name: str) -> Reader:
    return _activating(lambda reader, node: name)


def _numbered(function: Any, default: Mapping[str, float]) -> Reader:
    """An activation with a number that the node calls alpha."""
    ((name, value),) = default.items()
    return _activating(lambda reader, node: partial(function, **{name: float(node.attributes.get("alpha", value))}))


def _only(name: str, **wanted: float) -> Reader:
    """An activation, where the node's numbers are those that it has built in."""

    def find(reader: _Reader, node: Node) -> str:
        for label, value in wanted.items():
            if not math.isclose(float(node.attributes.get(label, _DEFAULTS[node.kind][label])), value, rel_tol=1e-5):
                raise UnsupportedError(f"{label} {node.attributes.get(label)}, wants {value:g}")
        return name

    return _activating(find)


_DEFAULTS = {
    "HardSigmoid": {"alpha": 0.2, "beta": 0.5},
    "Selu": {"alpha": 1.67326319217681884765625, "gamma": 1.05070102214813232421875},
}


def _clip(reader: _Reader, node: Node) -> Any:
    bounds = [reader.setting(node, name, place) for place, name in ((1, "min"), (2, "max"))]
    low, high = (None if bound is None else float(np.ravel(bound)[0]) for bound in bounds)
    high = None if high is not None and high >= np.finfo(np.float32).max else high
    if (low, high) == (-1, 1):
        return "hard_tanh"
    if low != 0:
        raise UnsupportedError(f"bounds {low} and {high}, wants 0 and any number, or -1 and 1")
    return "relu6" if high == 6 else partial(activations.relu, max_value=high)


def _gelu(reader: _Reader, node: Node) -> str:
    return "gelu_tanh" if node.attributes.get("approximate", "none") == "tanh" else "gelu"


def _scaled_celu(reader: _Reader, node: Node) -> Any:
    return partial(activations.celu, alpha=float(reader.constants[node.takes[1]].ravel()[0]))


def _numbered_relu(reader: _Reader, node: Node) -> Any:
    given = [float(reader.constants[name].ravel()[0]) for name in node.takes[1:]]
    names = "negative_slope", "threshold", "max_value"
    return partial(activations.relu, **dict(zip(names, given, strict=False)))


def _threshold(reader: _Reader, node: Node) -> Any:
    threshold, other = (float(reader.constants[name].ravel()[0]) for name in node.takes[1:])
    return partial(activations.threshold, threshold=threshold, default_value=other)


def _shrink(reader: _Reader, node: Node) -> Any:
    lambd, bias = node.attributes.get("lambd", 0.5), node.attributes.get("bias", 0.0)
    if bias not in (0, lambd):
        raise UnsupportedError(f"bias {bias}, wants 0 or lambd, {lambd}")
    return partial(activations.soft_shrink if bias else activations.hard_shrink, threshold=lambd)


def _softmax(name: str) -> Reader:
    def read(reader: _Reader, node: Node) -> Held:
        held = reader.held(node.takes[0])
        axis = node.attributes.get("axis", -1 if reader.opset >= 13 else 1) % held.rank
        if reader.opset < 13 and axis != held.rank - 1:
            raise UnsupportedError(f"axis {axis} of {held.rank} in opset {reader.opset}, wants the last one")
        if held.order[axis] == held.rank - 1:
            return _activated(reader, node, Activation(name))
        if name != "softmax":
            held = reader.arranged(held, _last(held, axis))
            return reader.call(node, layers.Activation, held, held.order, activation=name)
        return reader.call(node, layers.Softmax, held, held.order, axis=held.order[axis])

    return read


def _last(held: Held, axis: int) -> tuple[int, ...]:
    """An order in which an axis of the graph is the tensor's last one, all others being as they come."""
    before = [each for each in held.plain if each != axis]
    return tuple(held.rank - 1 if each == axis else before.index(each) for each in held.plain)


def _prelu(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    slopes = _along(held, reader.constant(node.takes[1], "slopes"))
    shared = [axis for axis in range(1, held.rank) if slopes.shape[axis - 1] == 1 and held.tensor.shape[axis] != 1]
    options = {"shared_axes": shared or None}
    return reader.call(node, layers.PReLU, held, held.order, [slopes], **options)


def _along(held: Held, array: Array) -> Array:
    """A constant that broadcasts over a value, with the axes of a sample of its tensor."""
    whole = array.reshape((1,) * (held.rank - array.ndim) + array.shape)
    moved: Array = whole.transpose([held.order.index(axis) for axis in range(held.rank)])
    if moved.shape[0] != 1:
        raise UnsupportedError(f"a constant of shape {array.shape}, wants one that is the same for all samples")
    sample: Array = moved[0]
    return sample


# ------------------------------------------------------------------------------------------------------------ products


def _gemm(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    settings = {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0} | node.attributes
    if settings["transA"]:
        raise UnsupportedError("transA 1, wants 0")
    kernel = reader.constant(node.takes[1], "a matrix")
    kernel = (kernel.T if settings["transB"] else kernel) * _factor(settings["alpha"], kernel)
    offset = reader.given(node, 2)
    bias = None if offset is None else reader.constant(offset, "a bias")
    return _dense(reader, node, held, kernel, None if bias is None else bias * _factor(settings["beta"], bias))


def _factor(number: float, array: Array) -> Any:
    return array.dtype.type(number)


def _matmul(reader: _Reader, node: Node) -> Held:
    bias = reader.given(node, 2)
    kernel = reader.constant(node.takes[1], "a matrix")
    if kernel.ndim != 2:
        raise UnsupportedError(f"a constant of shape {kernel.shape}, wants a matrix")
    return _dense(reader, node, reader.held(node.takes[0]), kernel, None if bias is None else reader.constants[bias])


def _dense(reader: _Reader, node: Node, held: Held, kernel: Array, bias: Array | None) -> Held:
    if bias is not None and bias.size not in (1, kernel.shape[1]):
        raise UnsupportedError(f"a bias of shape {bias.shape} for {kernel.shape[1]} units, wants one each")
    if held.order[-1] != held.rank - 1:
        held = reader.arranged(held, held.plain)
    weights = [kernel] if bias is None else [kernel, np.broadcast_to(bias.reshape(-1), kernel.shape[1:])]
    options = {"units": kernel.shape[1], "use_bias": bias is not None}
    return reader.call(node, layers.Dense, held, held.order, weights, **options)


# -------------------------------------------------------------------------------------------------------- convolutions


def _images(reader: _Reader, name: str) -> Held:
    """A value with the graph's second axis as the channels, of one or two spatial axes."""
    held = reader.held(name)
    if held.rank not in (3, 4):
        raise UnsupportedError(f"inputs of {held.rank - 2} spatial axes, wants 1 or 2")
    return reader.arranged(held, held.channels_last)


def _spatial(held: Held) -> list[int]:
    return [size or 0 for size in held.tensor.shape[1:-1]]


def _windows(node: Node, axes: int, windows: Sequence[int]) -> tuple[list[int], list[int], list[int]]:
    """(windows, strides, dilations) of a node."""
    given = node.attributes
    return (
        [*given.get("kernel_shape", windows)],
        [*given.get("strides", [1] * axes)],
        [*given.get("dilations", [1] * axes)],
    )


def _around(node: Node, sizes: Sequence[int], windows: Any, strides: Any, dilations: Any) -> list[tuple[int, int]]:
    """The numbers that a node puts around each spatial axis."""
    axes = range(len(sizes))
    auto = node.attributes.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        same = [margins(sizes[i], windows[i], strides[i], "same", i, dilations[i]) for i in axes]
        return same if auto == "SAME_UPPER" else [(after, before) for before, after in same]
    pads = node.attributes.get("pads", [0] * (2 * len(sizes)))
    return [(pads[i], pads[i + len(sizes)]) for i in axes]


def _padding(sizes: Sequence[int], around: Any, windows: Any, strides: Any, dilations: Any) -> str | None:
    """The padding of a layer that puts so much around; None where there is none such."""
    axes = range(len(sizes))
    if not any(map(any, around)):
        return "valid"
    same = [margins(sizes[i], windows[i], strides[i], "same", i, dilations[i]) for i in axes]
    if around == same:
        return "same"
    if len(sizes) == 1 and around == [(reach(windows[0], dilations[0]) - 1, 0)]:
        return "causal"
    return None


def _padded(reader: _Reader, node: Node, held: Held, around: Sequence[tuple[int, int]]) -> Held:
    """Zeros around, by a layer."""
    if any(number < 0 for pair in around for number in pair):
        raise UnsupportedError(f"padding {around}, wants numbers of at least 0")
    kind, padding = (layers.ZeroPadding1D, around[0]) if len(around) == 1 else (layers.ZeroPadding2D, tuple(around))
    return reader.call(reader.beside(node, "pad"), kind, held, held.order, padding=padding)


def _convolution(reader: _Reader, node: Node) -> Held:
    held = _images(reader, node.takes[0])
    kernel, offset = reader.constant(node.takes[1], "a kernel"), reader.given(node, 2)
    axes, sizes, groups = held.rank - 2, _spatial(held), node.attributes.get("group", 1)
    windows, strides, dilations = _windows(node, axes, kernel.shape[2:])
    around = _around(node, sizes, windows, strides, dilations)
    padding = _padding(sizes, around, windows, strides, dilations)
    if padding is None:
        held, padding = _padded(reader, node, held, around), "valid"
    options: dict[str, Any] = {
        "kernel_size": windows, "strides": strides, "dilation_rate": dilations, "padding": padding,
        "use_bias": offset is not None,
    }  # fmt: skip
    maps, channels = kernel.shape[0], held.tensor.shape[-1] or 0
    bias = [] if offset is None else [reader.constant(offset, "a bias")]
    if groups == channels > 1 and padding != "causal":
        own = kernel.reshape(channels, maps // channels, *windows)
        weights = [np.moveaxis(own, (0, 1), (-2, -1)), *bias]
        options["depth_multiplier"] = maps // channels
        kind: Any = layers.DepthwiseConv1D if axes == 1 else layers.DepthwiseConv2D
        return reader.call(node, kind, held, held.order, weights, **options)
    weights = [np.moveaxis(kernel, (0, 1), (-1, -2)), *bias]
    kind = layers.Conv1D if axes == 1 else layers.Conv2D
    return reader.call(node, kind, held, held.order, weights, filters=maps, groups=groups, **options)


# What a transposed convolution becomes, by its spatial axes: the layer, and that which cuts what pads take off.
_TRANSPOSED: Mapping[int, tuple[Any, Any]] = {
    1: (layers.Conv1DTranspose, layers.Cropping1D),
    2: (layers.Conv2DTranspose, layers.Cropping2D),
}


def _transposed_convolution(reader: _Reader, node: Node) -> Held:
    held = _images(reader, node.takes[0])
    kernel, offset = reader.constant(node.takes[1], "a kernel"), reader.given(node, 2)
    if node.attributes.get("group", 1) != 1:
        raise UnsupportedError(f"group {node.attributes['group']}, wants 1")
    if node.attributes.get("auto_pad", "NOTSET") not in ("NOTSET", "VALID") or "output_shape" in node.attributes:
        raise UnsupportedError("auto_pad or output_shape, wants pads")
    sizes = _spatial(held)
    axes = range(len(sizes))
    kind, crop = _TRANSPOSED[len(axes)]
    windows, strides, dilations = _windows(node, len(axes), kernel.shape[2:])
    around = _around(node, sizes, windows, strides, dilations)
    more = node.attributes.get("output_padding", [0] * len(axes))
    covered = [(sizes[i] - 1) * strides[i] + reach(windows[i], dilations[i]) for i in axes]
    found = [covered[i] + more[i] - sum(around[i]) for i in axes]
    padding = _spread_padding(sizes, found, around, windows, strides, dilations)
    cut = [(0, 0) for _ in axes] if padding else [(around[i][0], around[i][1] - more[i]) for i in axes]
    if any(number < 0 for pair in cut for number in pair):
        raise UnsupportedError(f"output_padding {more} with pads {around}, wants it below the pads, or none")
    weights = [np.moveaxis(kernel, (0, 1), (-1, -2))]
    weights += [] if offset is None else [reader.constant(offset, "a bias")]
    made = reader.call(
        node, kind, held, held.order, weights, filters=kernel.shape[1], kernel_size=windows,
        strides=strides, dilation_rate=dilations, padding=padding or "valid", use_bias=offset is not None,
    )  # fmt: skip
    if not any(map(any, cut)):
        return made
    cropping = tuple(cut) if len(cut) > 1 else cut[0]
    return reader.call(reader.beside(node, "crop"), crop, made, made.order, cropping=cropping)


def _spread_padding(sizes: Any, found: Any, around: Any, windows: Any, strides: Any, dilations: Any) -> str | None:
    """The padding of a transposed convolution that gives these sizes and cuts off as much before; None for none."""
    for padding in ("valid", "same"):
        given = [(sizes[i], windows[i], strides[i], padding, i, dilations[i]) for i in range(len(sizes))]
        if [spread(*each) for each in given] != found:
            continue
        beyond = [max(0, reach(windows[i], dilations[i]) - strides[i]) for i in range(len(sizes))]
        before = [0 if padding == "valid" else number // 2 for number in beyond]
        if before == [pair[0] for pair in around]:
            return padding
    return None


# ------------------------------------------------------------------------------------------------------------- pooling


def _pooling(kind: str) -> Reader:
    def read(reader: _Reader, node: Node) -> Held:
        held = _images(reader, node.takes[0])
        axes, sizes = held.rank - 2, _spatial(held)
        windows, strides, dilations = _windows(node, axes, ())
        if max(dilations) > 1:
            raise UnsupportedError(f"dilations {dilations}, wants 1")
        around = _around(node, sizes, windows, strides, dilations)
        _check_ceiling(node, sizes, windows, strides, around)
        counts_zeros = node.attributes.get("count_include_pad", 0) == 1
        padding = _padding(sizes, around, windows, strides, dilations)
        if padding not in ("valid", "same") or (padding == "same" and counts_zeros):
            if not (counts_zeros if kind == "Average" else _is_not_negative(held)):
                raise UnsupportedError(f"pads {around}, wants none, those of SAME_UPPER, or inputs of at least 0")
            held, padding = _padded(reader, node, held, around), "valid"
        layer = getattr(layers, f"{kind}Pooling{axes}D")
        return reader.call(node, layer, held, held.order, pool_size=windows, strides=strides, padding=padding)

    return read


def _check_ceiling(node: Node, sizes: Any, windows: Any, strides: Any, around: Any) -> None:
    """Raise where ceil_mode makes a difference."""
    for size, window, stride, pair in zip(sizes, windows, strides, around, strict=True):
        left = (size + sum(pair) - window) % stride
        if node.attributes.get("ceil_mode", 0) and left:
            raise UnsupportedError("ceil_mode 1 with windows that stand over the edge, wants ceil_mode 0")


def _is_not_negative(held: Held) -> bool:
    return getattr(held.tensor.node.operation, "activation", Activation()).name in _NOT_NEGATIVE


def _global_pooling(kind: str) -> Reader:
    def read(reader: _Reader, node: Node) -> Held:
        held = _images(reader, node.takes[0])
        return reader.call(
            node, getattr(layers, f"Global{kind}Pooling{held.rank - 2}D"), held, held.order, keepdims=True
        )

    return read


def _reducing(kind: str) -> Reader:
    """Over all axes of samples but one."""

    def read(reader: _Reader, node: Node) -> Held:
        held = reader.held(node.takes[0])
        axes = {int(axis) % held.rank for axis in np.ravel(reader.setting(node, "axes", 1, ()))}
        left = [axis for axis in held.plain if axis not in axes and held.order[axis] != 0]
        if len(left) != 1 or held.rank not in (3, 4) or held.order.index(0) in axes:
            raise UnsupportedError(
                f"axes {sorted(axes)} of {held.rank}, wants all of a sample's, which are 2 or 3, but one"
            )
        if held.order[left[0]] != held.rank - 1:
            held = reader.arranged(held, _last(held, left[0]))
        keeps = bool(node.attributes.get("keepdims", 1))
        order = held.order if keeps else ((0, 1) if held.order.index(0) < left[0] else (1, 0))
        return reader.call(node, getattr(layers, f"Global{kind}Pooling{held.rank - 2}D"), held, order, keepdims=keeps)

    return read


# ------------------------------------------------------------------------------------------------------- normalisation


def _batch_normalization(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    if held.order[1] != held.rank - 1:
        held = reader.arranged(held, held.channels_last)
    if node.attributes.get("training_mode", 0):
        raise UnsupportedError("training_mode 1, wants 0")
    weights = [reader.constant(name, "a figure") for name in node.takes[1:5]]
    options = {"epsilon": node.attributes.get("epsilon", 1e-5), "momentum": node.attributes.get("momentum", 0.9)}
    return reader.call(node, layers.BatchNormalization, held, held.order, weights, **options)


def _layer_normalization(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    axes = held.rank - node.attributes.get("axis", -1) % held.rank
    scale, offset = reader.constant(node.takes[1], "a scale"), reader.given(node, 2)
    beta = None if offset is None else reader.constant(offset, "an offset")
    return _normalized(reader, node, held, axes, scale, beta, node.attributes.get("epsilon", 1e-5))


def _spelled_normalization(places: Sequence[str]) -> Reader:
    """Of what a pattern was folded into, which takes epsilon and these."""

    def read(reader: _Reader, node: Node) -> Held:
        held = reader.held(node.takes[0])
        axes = node.attributes.get("axes")
        if axes is None:
            axes = np.ravel(reader.constants[node.attributes["axes_input"]])
        last = sorted(int(axis) % held.rank for axis in axes)
        if last != [*range(held.rank - len(last), held.rank)]:
            raise UnsupportedError(f"means along the axes {last} of {held.rank}, wants the last ones")
        given = {name: reader.constants[each] for name, each in zip(places, node.takes[2:], strict=False)}
        epsilon = float(reader.constants[node.takes[1]].ravel()[0])
        return _normalized(reader, node, held, len(last), given.get("gamma"), given.get("beta"), epsilon)

    return read


def _normalized(
    reader: _Reader, node: Node, held: Held, axes: int, gamma: Array | None, beta: Array | None, epsilon: float
) -> Held:
    held = reader.arranged(held, held.plain)
    sizes = [size or 0 for size in held.tensor.shape[-axes:]]
    weights = [np.broadcast_to(each, sizes) for each in (gamma, beta) if each is not None]
    options = {"axis": [*range(-axes, 0)] if axes > 1 else -1, "epsilon": epsilon}
    options |= {"scale": gamma is not None, "center": beta is not None}
    return reader.call(node, layers.LayerNormalization, held, None, weights, **options)


def _by_figures(invert: bool, power: int) -> Reader:
    """Of what a pattern was folded into: less a mean, over a deviation, or the way back.

    The variance is what the node has to this power.
    """

    def read(reader: _Reader, node: Node) -> Held:
        held = reader.held(node.takes[0])
        mean, figures = (reader.constants[name] for name in node.takes[1:3])
        return _with_figures(reader, node, held, mean, _positive(figures) ** power, invert)

    return read


def _scaled(reader: _Reader, node: Node, held: Held, scale: Array | None, offset: Array | None) -> Held:
    """Times constants, plus constants: a BatchNormalization by figures 0 and 1 that is not trained, unless it is told.

    That has one for each channel; other constants are a Normalization's, which multiplies by numbers above 0 only.
    """
    given = [each for each in (scale, offset) if each is not None]
    shape = np.broadcast_shapes((1,) * held.rank, *(each.shape for each in given))
    varying = [axis for axis, size in enumerate(shape) if size != 1]
    if len(varying) == 1 and held.order[varying[0]] not in (0, held.rank - 1):
        held = reader.arranged(held, _last(held, varying[0]))
    figures = {name: _along(held, each) for name, each in (("scale", scale), ("center", offset)) if each is not None}
    channels = (held.tensor.shape[-1] or 0,)
    if any(each.shape != (1,) * (held.rank - 2) + channels for each in figures.values()):
        spread = np.ones(1, reader.dtype) if scale is None else _positive(scale)
        return _with_figures(reader, node, held, np.zeros_like(spread) if offset is None else offset, spread**2, True)
    zeros, ones = (np.full(channels, number, reader.dtype) for number in (0, 1))
    weights = [*(each.reshape(channels) for each in figures.values()), zeros, ones]
    options = {"scale": scale is not None, "center": offset is not None, "trainable": False, "epsilon": _NEXT_TO_NONE}
    return reader.call(node, layers.BatchNormalization, held, held.order, weights, **options)


def _scaled_and_shifted(reader: _Reader, node: Node) -> Held:
    """Of what a pattern was folded into."""
    scale, offset = (reader.constants[name] for name in node.takes[1:3])
    return _scaled(reader, node, reader.held(node.takes[0]), scale, offset)


def _positive(array: Array) -> Array:
    if (array < 0).any():
        raise UnsupportedError("a constant below 0 to multiply with or to divide by, wants none")
    return array


def _with_figures(reader: _Reader, node: Node, held: Held, mean: Array, variance: Array, invert: bool) -> Held:
    """A Normalization: its figures lie along the last axes, or are one for all."""
    mean, variance = np.broadcast_arrays(mean, variance)
    own = _along(held, mean), _along(held, variance)
    lead = next((axis for axis, size in enumerate(own[0].shape) if size != 1), held.rank - 2)
    axes = held.rank - 1 - lead
    sizes = tuple(size or 0 for size in held.tensor.shape[-axes:])
    if mean.size == 1:
        weights, axis = [figures.reshape(1) for figures in own], None
    elif any(have not in (1, size) for have, size in zip(own[0].shape[lead:], sizes, strict=True)):
        raise UnsupportedError(f"constants of shape {mean.shape}, wants a number, or one for each of the last axes")
    else:
        weights = [np.broadcast_to(figures[(0,) * lead], sizes) for figures in own]
        axis = [*range(-axes, 0)] if axes > 1 else -1
    options = {"axis": axis, "invert": invert}
    return reader.call(node, layers.Normalization, held, held.order, weights, **options)


# --------------------------------------------------------------------------------------------- sums, products, joining


def _merging(kind: Any, constant: Callable[[_Reader, Node, Held, Array, bool], Held] | None = None) -> Reader:
    """Of several values: a layer, or where one is constant what ``constant`` makes of it and of which comes first."""

    def read(reader: _Reader, node: Node) -> Any:
        fixed = [name in reader.constants for name in node.takes]
        if all(fixed):
            return _calculated(reader, node)
        if any(fixed):
            if constant is None or len(fixed) != 2:
                raise UnsupportedError(f"the constant {node.takes[fixed.index(True)]!r}, wants values of the inputs")
            value, array = reader.held(node.takes[fixed.index(False)]), reader.constants[node.takes[fixed.index(True)]]
            return constant(reader, node, value, array, fixed[0])
        if kind is None:
            raise UnsupportedError("two values that depend on the inputs, wants one of them constant")
        if kind in _MERGED_WAYS and scans.are_both_ways(reader, node):
            return scans.both_ways(reader, node, _MERGED_WAYS[kind])
        values = [reader.held(name) for name in node.takes]
        if len({value.rank for value in values}) > 1:
            raise UnsupportedError(f"values of {[value.rank for value in values]} axes, wants as many in each")
        values = [reader.arranged(value, values[0].order) for value in values]
        return values[0] if len(values) == 1 else reader.call(node, kind, values, values[0].order)

    return read


# How Bidirectional calls what joins its ways.
_MERGED_WAYS = {layers.Add: "sum", layers.Multiply: "mul"}

_CALCULATED: Mapping[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": lambda a, b: a // b if a.dtype.kind == "i" else a / b,
    "Max": np.maximum,
    "Min": np.minimum,
}


def _calculated(reader: _Reader, node: Node) -> Array:
    first, *others = (reader.constants[name] for name in node.takes)
    for other in others:
        first = np.asarray(_CALCULATED[node.kind](first, other))
    return first


def _shifted(sign: int) -> Callable[[_Reader, Node, Held, Array, bool], Held]:
    """value + constant, value - constant, or constant - value."""

    def read(reader: _Reader, node: Node, held: Held, array: Array, constant_first: bool) -> Held:
        if array.size == 1:
            scale = -1.0 if constant_first and sign < 0 else 1.0
            offset = float(array.ravel()[0]) * (1 if constant_first else sign)
            return reader.call(node, layers.Rescaling, held, held.order, scale=scale, offset=offset)
        if constant_first and sign < 0:
            raise UnsupportedError(
                f"a constant of shape {array.shape} less a value, wants a number, or the value first"
            )
        return _scaled(reader, node, held, None, array if sign > 0 else -array)

    return read


def _multiplied(reader: _Reader, node: Node, held: Held, array: Array, constant_first: bool) -> Held:
    if array.size == 1:
        return reader.call(node, layers.Rescaling, held, held.order, scale=float(array.ravel()[0]))
    return _scaled(reader, node, held, array, None)


def _divided(reader: _Reader, node: Node, held: Held, array: Array, constant_first: bool) -> Held:
    if constant_first:
        raise UnsupportedError("a constant over a value, wants a value over a constant")
    if array.size == 1:
        return reader.call(node, layers.Rescaling, held, held.order, scale=1 / float(array.ravel()[0]))
    return _with_figures(reader, node, held, np.zeros_like(array), _positive(array) ** 2, invert=False)


def _dot(reader: _Reader, node: Node) -> Held:
    """The sums of products of rows."""
    values = [reader.held(name) for name in node.takes]
    axes = node.attributes.get("axes_input")
    places = np.ravel(node.attributes["axes"] if axes is None else reader.constants[axes])
    if any(value.shape != values[0].shape for value in values) or values[0].rank != 2 or [*places] not in ([1], [-1]):
        raise UnsupportedError("sums of other products than those of rows, wants these")
    if not node.attributes.get("keepdims", 1):
        raise UnsupportedError("keepdims 0, wants 1")
    return reader.call(node, layers.Dot, values, axes=1)


def _affine(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    scale, offset = (float(reader.constants[name].ravel()[0]) for name in node.takes[1:3])
    return reader.call(node, layers.Rescaling, held, held.order, scale=scale, offset=offset)


def _concat(reader: _Reader, node: Node) -> Any:
    if all(name in reader.constants for name in node.takes):
        return np.concatenate([reader.constants[name] for name in node.takes], axis=node.attributes["axis"])
    if scans.are_both_ways(reader, node):
        return scans.both_ways(reader, node, "concat")
    values = [reader.held(name) for name in node.takes]
    values = [reader.arranged(value, values[0].order) for value in values]
    axis = values[0].order[node.attributes["axis"]]
    return values[0] if len(values) == 1 else reader.call(node, layers.Concatenate, values, values[0].order, axis=axis)


# --------------------------------------------------------------------------------------------------------------- shapes


def _as_it_is(reader: _Reader, node: Node) -> Any:
    name = node.takes[0]
    return reader.constants[name] if name in reader.constants else reader.held(name)


def _dropout(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    rate = reader.setting(node, "ratio", 1, 0.5)
    return reader.call(node, layers.Dropout, held, held.order, rate=float(np.ravel(rate)[0]))


def _cast(reader: _Reader, node: Node) -> Any:
    from fastnn.onnx import packages

    name, dtype = node.takes[0], packages.onnx("helper").tensor_dtype_to_np_dtype(node.attributes["to"])
    if name in reader.constants:
        return reader.constants[name].astype(dtype)
    whole = str(reader.held(name).tensor.dtype).startswith(("int", "uint"))
    if str(dtype) != reader.dtype and not (whole and dtype.kind in "iu"):
        raise UnsupportedError(f"the dtype {dtype} in a model of {reader.dtype}, wants that")
    return reader.held(name)


def _transpose(reader: _Reader, node: Node) -> Any:
    if node.takes[0] in reader.constants:
        return reader.constants[node.takes[0]].transpose(node.attributes.get("perm"))
    value = reader.values[node.takes[0]]
    if isinstance(value, (cells.Directed, cells.Turned)):
        rank = len(value.axes) if isinstance(value, cells.Directed) else value.held.rank
        return value.transposed(node.attributes.get("perm", range(rank)[::-1]))
    held = reader.held(node.takes[0])
    axes = node.attributes.get("perm", held.plain[::-1])
    return held._replace(order=tuple(held.order[axis] for axis in axes))


def _flatten(reader: _Reader, node: Node) -> Held:
    held = reader.rows(reader.held(node.takes[0]))
    axis = node.attributes.get("axis", 1)
    if axis not in (1, 1 - held.rank):
        raise UnsupportedError(f"axis {axis}, wants 1")
    return held._replace(order=(0, 1)) if held.rank == 2 else reader.call(node, layers.Flatten, held)


def _reshape(reader: _Reader, node: Node) -> Any:
    wanted = [int(size) for size in np.ravel(reader.constant(node.takes[1], "a shape"))]
    if node.takes[0] in reader.constants:
        return reader.constants[node.takes[0]].reshape(wanted)
    value = reader.values[node.takes[0]]
    if isinstance(value, cells.Directed):
        return value.reshaped(wanted)
    held = reader.held(node.takes[0])
    if not node.attributes.get("allowzero", 0):
        wanted = [held.shape[place] or -1 if size == 0 else size for place, size in enumerate(wanted)]
    return _in_shape(reader, node, held, wanted)


def _in_shape(reader: _Reader, node: Node, held: Held, wanted: Sequence[int]) -> Held:
    """The numbers of samples in another shape; the first of the sizes is that of the batch."""
    total = math.prod(size or 0 for size in held.tensor.shape[1:])
    known = math.prod(size for size in wanted[1:] if size != -1)
    rest = [total // max(1, known) if size == -1 else size for size in wanted[1:]]
    if not wanted or wanted[0] not in (-1, reader.batch) or math.prod(rest) != total:
        raise UnsupportedError(f"the shape {[*wanted]} for samples of {total} numbers, wants the batch first, as it is")
    held = reader.rows(held)
    if [*held.tensor.shape[1:]] == rest:
        return held._replace(order=tuple(range(len(rest) + 1)))
    if len(rest) == 1:
        return reader.call(node, layers.Flatten, held)
    return reader.call(node, layers.Reshape, held, target_shape=rest)


def _squeeze(reader: _Reader, node: Node) -> Any:
    axes = reader.setting(node, "axes", 1)
    if node.takes[0] in reader.constants:
        return np.squeeze(reader.constants[node.takes[0]], None if axes is None else tuple(np.ravel(axes)))
    if axes is None:
        raise UnsupportedError("no axes, wants them named")
    value = reader.values[node.takes[0]]
    if isinstance(value, cells.Directed):
        return value.squeezed([int(axis) for axis in np.ravel(axes)])
    held = reader.held(node.takes[0])
    gone = {int(axis) % held.rank for axis in np.ravel(axes)}
    return _in_shape(reader, node, held, [size or -1 for axis, size in enumerate(held.shape) if axis not in gone])


def _unsqueeze(reader: _Reader, node: Node) -> Any:
    axes = np.ravel(reader.setting(node, "axes", 1))
    if node.takes[0] in reader.constants:
        return np.expand_dims(reader.constants[node.takes[0]], tuple(axes))
    held = reader.held(node.takes[0])
    places = {int(axis) % (held.rank + len(axes)) for axis in axes}
    sizes = iter(held.shape)
    return _in_shape(
        reader, node, held, [1 if place in places else next(sizes) or -1 for place in range(held.rank + len(axes))]
    )


def _expand(reader: _Reader, node: Node) -> Any:
    """A sample's row so many times."""
    shape = [int(size) for size in np.ravel(reader.constant(node.takes[1], "a shape"))]
    if node.takes[0] in reader.constants:  # what is the same for all samples is as if there were one
        return reader.constants[node.takes[0]] * np.ones([abs(size) for size in shape], np.int8)
    held = reader.rows(reader.held(node.takes[0]))
    _, one, features = held.shape if held.rank == 3 else (None, 0, 0)
    if one != 1 or len(shape) != 3 or shape[0] not in (1, -1) or shape[2] not in (1, features):
        raise UnsupportedError(f"the shape {shape} for values of shape {held.shape}, wants rows that are repeated")
    row = reader.call(reader.beside(node, "row"), layers.Flatten, held)
    return reader.call(node, layers.RepeatVector, row, n=shape[1])


def _shape(reader: _Reader, node: Node) -> Array:
    """The sizes, -1 for the batch's."""
    name = node.takes[0]
    sizes = reader.constants[name].shape if name in reader.constants else reader.held(name).shape
    part = slice(node.attributes.get("start", 0), node.attributes.get("end"))
    return np.array([-1 if size is None else size for size in sizes][part], np.int64)


def _filled(reader: _Reader, node: Node) -> Array:
    """A constant; what is the same for all samples is as if there were one."""
    from fastnn.onnx import packages

    value = node.attributes.get("value")
    number = np.zeros(1, np.float32) if value is None else packages.onnx("numpy_helper").to_array(value)
    shape = abs(np.ravel(reader.constant(node.takes[0], "a shape")))
    return np.full(tuple(shape), number.ravel()[0])


def _gather(reader: _Reader, node: Node) -> Any:
    if node.takes[0] in reader.values and node.takes[1] in reader.constants:
        return _picked(reader, node)
    data, axis = reader.constant(node.takes[0], "data"), node.attributes.get("axis", 0)
    if node.takes[1] in reader.constants:
        return np.take(data, reader.constants[node.takes[1]], axis=axis)
    held = reader.held(node.takes[1])
    if data.ndim != 2 or axis != 0:
        raise UnsupportedError(f"axis {axis} of data of shape {data.shape}, wants rows of a matrix")
    options = {"input_dim": data.shape[0], "output_dim": data.shape[1]}
    return reader.call(node, layers.Embedding, held, (*held.order, held.rank), [data], **options)


def _picked(reader: _Reader, node: Node) -> Held:
    """One step of a sequence."""
    held, index = reader.held(node.takes[0]), reader.constants[node.takes[1]]
    axis = node.attributes.get("axis", 0) % held.rank
    if held.rank != 3 or index.ndim or held.order[axis] == 0:
        raise UnsupportedError(f"the axis {axis} of {held.rank}, or several places, wants one step of sequences")
    steps = held.shape[axis] or 0
    place = int(index) % steps
    left = next(each for each in held.plain if each != axis and held.order[each] != 0)
    held = reader.arranged(held, _last(held, left))
    cut = (place, steps - 1 - place)
    step = reader.call(reader.beside(node, "crop"), layers.Cropping1D, held, held.order, cropping=cut)
    return reader.call(node, layers.Flatten, step, (0, 1) if held.order.index(0) < left else (1, 0))


def _slice(reader: _Reader, node: Node) -> Any:
    starts, ends = (np.ravel(reader.setting(node, name, place)) for place, name in ((1, "starts"), (2, "ends")))
    axes = np.ravel(reader.setting(node, "axes", 3, range(len(starts))))
    steps = np.ravel(reader.setting(node, "steps", 4, [1] * len(starts)))
    bounds = [*zip(axes, starts, ends, steps, strict=True)]
    if node.takes[0] in reader.constants:
        array = reader.constants[node.takes[0]]
        parts = [slice(None)] * array.ndim
        for axis, start, end, step in bounds:
            parts[axis] = slice(int(start), int(end), int(step))
        return array[tuple(parts)]
    value = reader.values[node.takes[0]]
    if isinstance(value, cells.Turned):
        return value.sliced([(int(axis), int(start), int(end), int(step)) for axis, start, end, step in bounds])
    held = reader.held(node.takes[0])
    cut = [(0, 0)] * held.rank
    for axis, start, end, step in bounds:
        size = held.shape[axis]
        if step != 1 or size is None:
            raise UnsupportedError(f"steps {steps} along the axes {axes}, wants steps of 1 along axes of samples")
        low, high, _ = slice(int(start), min(int(end), LAST)).indices(size)
        cut[axis] = low, size - high
    return _resized(reader, node, held, cut, "Cropping", "cropping")


def _pad(reader: _Reader, node: Node) -> Held:
    held = reader.held(node.takes[0])
    value = np.ravel(reader.setting(node, "value", 2, 0.0))
    if node.attributes.get("mode", "constant") != "constant" or (value.size and value[0] != 0):
        raise UnsupportedError("another mode or value, wants zeros around")
    pads = [int(number) for number in np.ravel(reader.setting(node, "pads", 1))]
    axes = np.ravel(reader.setting(node, "axes", 3, range(len(pads) // 2)))
    around = [(0, 0)] * held.rank
    for place, axis in enumerate(axes):
        around[int(axis)] = pads[place], pads[place + len(axes)]
    return _resized(reader, node, held, around, "ZeroPadding", "padding")


def _resized(reader: _Reader, node: Node, held: Held, pairs: Sequence[tuple[int, int]], kind: str, option: str) -> Held:
    """What a layer puts around the spatial axes, or cuts off from them, by pairs of numbers for the graph's axes."""
    changed = [axis for axis in held.plain if any(pairs[axis])]
    if not changed:
        return held
    if held.rank not in (3, 4) or min(min(pair) for pair in pairs) < 0:
        raise UnsupportedError(f"{[*pairs]} for {held.rank} axes, wants numbers of at least 0 for images or sequences")
    if any(held.order[axis] in (0, held.rank - 1) for axis in changed):
        free = next((axis for axis in held.plain[:0:-1] if axis not in changed and held.order[axis] != 0), None)
        if free is None or any(held.order[axis] == 0 for axis in changed):
            raise UnsupportedError(f"{[*pairs]} along all axes, or the batch, wants those of images or sequences")
        held = reader.arranged(held, _last(held, free))
    own = [pairs[held.order.index(axis)] for axis in range(1, held.rank - 1)]
    layer = getattr(layers, f"{kind}{held.rank - 2}D")
    options: dict[str, Any] = {option: own[0] if len(own) == 1 else tuple(own)}
    return reader.call(node, layer, held, held.order, **options)


def _resize(reader: _Reader, node: Node) -> Held:
    held = _images(reader, node.takes[0])
    ways = {"mode": "nearest", "coordinate_transformation_mode": "half_pixel", "nearest_mode": "round_prefer_floor"}
    ways |= node.attributes
    exact = ways["coordinate_transformation_mode"] in ("asymmetric", "half_pixel", "pytorch_half_pixel")
    if ways["mode"] != "nearest" or not exact:
        raise UnsupportedError(
            f"mode {ways['mode']} by {ways['coordinate_transformation_mode']}, wants nearest numbers"
        )
    if ways["coordinate_transformation_mode"] == "asymmetric" and ways["nearest_mode"] != "floor":
        raise UnsupportedError(f"nearest_mode {ways['nearest_mode']}, wants floor")
    sizes, name = reader.given(node, 3), reader.given(node, 2)
    if sizes is not None:
        wanted = reader.constant(sizes, "sizes")
        scales = [float(new) / (old or new) for new, old in zip(wanted, held.shape, strict=True)]
    else:
        scales = [float(scale) for scale in np.ravel(reader.constant(name or "", "scales"))]
    if any(scale != int(scale) for scale in scales) or scales[:2] != [1, 1]:
        raise UnsupportedError(f"scales {scales}, wants whole numbers along spatial axes")
    times = [int(scale) for scale in scales[2:]]
    layer = getattr(layers, f"UpSampling{held.rank - 2}D")
    return reader.call(node, layer, held, held.order, size=times[0] if len(times) == 1 else times)


READERS: Mapping[str, Reader] = {
    **{
        kind: _named(name)
        for kind, name in {
            "Relu": "relu", "Sigmoid": "sigmoid", "Tanh": "tanh", "Softplus": "softplus", "Softsign": "softsign",
            "Exp": "exponential", "Sign": "sign", "Mish": "mish", "HardSwish": "hard_silu", "Swish": "silu",
            ":Silu": "silu", ":LogSigmoid": "log_sigmoid", ":Gelu": "gelu", ":Gelu of tanh": "gelu_tanh",
            ":Step": "binary_step", ":Softsign": "softsign",
        }.items()
    },
    "Elu": _numbered(activations.elu, {"alpha": 1.0}),
    "Celu": _numbered(activations.celu, {"alpha": 1.0}),
    ":Celu": _activating(_scaled_celu),
    "LeakyRelu": _numbered(activations.leaky_relu, {"negative_slope": 0.01}),
    "ThresholdedRelu": _numbered(activations.threshold, {"threshold": 1.0}),
    "Selu": _only("selu", **_DEFAULTS["Selu"]),
    "HardSigmoid": _only("hard_sigmoid", alpha=1 / 6, beta=0.5),
    "Gelu": _activating(_gelu),
    "Clip": _activating(_clip),
    "Shrink": _activating(_shrink),
    "Softmax": _softmax("softmax"),
    "LogSoftmax": _softmax("log_softmax"),
    "PRelu": _prelu,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _convolution,
    "ConvTranspose": _transposed_convolution,
    "MaxPool": _pooling("Max"),
    "AveragePool": _pooling("Average"),
    "GlobalMaxPool": _global_pooling("Max"),
    "GlobalAveragePool": _global_pooling("Average"),
    "ReduceMax": _reducing("Max"),
    "ReduceMean": _reducing("Average"),
    "BatchNormalization": _batch_normalization,
    "LayerNormalization": _layer_normalization,
    ":LayerNorm": _spelled_normalization(("gamma", "beta")),
    ":LayerNorm of beta": _spelled_normalization(("beta",)),
    ":Normal": _by_figures(invert=False, power=2),
    ":Inverse": _scaled_and_shifted,
    ":Normal of variance": _by_figures(invert=False, power=1),
    ":Inverse of variance": _by_figures(invert=True, power=1),
    ":Affine": _affine,
    ":Relu": _activating(_numbered_relu),
    ":Threshold": _activating(_threshold),
    ":Dot": _dot,
    "Add": _merging(layers.Add, _shifted(1)),
    "Sub": _merging(layers.Subtract, _shifted(-1)),
    "Mul": _merging(layers.Multiply, _multiplied),
    "Div": _merging(None, _divided),
    "Sum": _merging(layers.Add),
    "Mean": _merging(layers.Average),
    "Max": _merging(layers.Maximum),
    "Min": _merging(layers.Minimum),
    "Concat": _concat,
    "Identity": _as_it_is,
    "Dropout": _dropout,
    "Cast": _cast,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Expand": _expand,
    **dict.fromkeys(("RNN", "LSTM", "GRU"), cells.read),
    **{
        scan_kind(biased, masked): partial(scans.read, biased=biased, masked=masked)
        for biased, masked in product((False, True), repeat=2)
    },
    ":Indices": scans.indices,
    ":Differing": scans.differing,
    ":Masking": scans.masking,
    ":Counts": scans.counts,
    ":Zeros for mask": scans.zeros_for_mask,
    ":Mean of steps": scans.mean_of_steps,
    "Shape": _shape,
    "ConstantOfShape": _filled,
    "Gather": _gather,
    "Slice": _slice,
    "Pad": _pad,
    "Resize": _resize,
}  # fmt: skip
