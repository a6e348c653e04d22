"""Layers that make one array of several, and the functions that call them, under Keras's names."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, reduce
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.engine.protocols import Array
from fastnn.layers import symbols
from fastnn.layers.base import Layer
from fastnn.layers.symbols import BatchShape
from fastnn.tape import calculate, constant


def _listed(layer: Layer, input_shape: Any, least: int = 1, most: int | None = None) -> list[BatchShape]:
    """Shapes of several inputs; ValueError where there are fewer, or more."""
    wants = f"a list of {least} inputs" if least == most else f"a list of inputs, {least} or more"
    if not isinstance(input_shape, list):
        raise ValueError(f"{layer.name}: got one input of shape {input_shape}, wants {wants}")
    if len(input_shape) < least or len(input_shape) > (most or len(input_shape)):
        raise ValueError(f"{layer.name}: got {len(input_shape)} inputs, wants {wants}")
    return [tuple(shape) for shape in input_shape]


class Elementwise(Layer):
    """What elementwise layers share: shapes of samples are equal, or broadcast as NumPy's with as many axes."""

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """The shape that the inputs' broadcast to; ValueError where they do not."""
        shapes = _listed(self, input_shape)
        if len({len(shape) for shape in shapes}) > 1:
            raise ValueError(f"{self.name}: got inputs of shapes {_text(shapes)}, wants as many axes in each")
        sizes: list[int | None] = []
        for lengths in zip(*(shape[1:] for shape in shapes), strict=True):
            found = {length for length in lengths if length != 1}
            if len(found) > 1:
                raise ValueError(
                    f"{self.name}: got inputs of shapes {_text(shapes)}, wants equal ones, or ones where they differ"
                )
            sizes.append(found.pop() if found else 1)
        return (None, *sizes)

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """The steps that count in any of the inputs; None where there is one all of whose steps do."""
        masks = mask if isinstance(mask, list) else [mask]
        return None if any(each is None for each in masks) else _any_of(masks)

    def call(self, inputs: Sequence[Any]) -> Any:
        """One after the other, from the left."""
        return reduce(self._pair, inputs)

    def _pair(self, a: Any, b: Any) -> Any:
        raise NotImplementedError


class Add(Elementwise):
    """The sum of a list of inputs."""

    def _pair(self, a: Any, b: Any) -> Any:
        return ops.add(a, b)


class Subtract(Elementwise):
    """The first input minus the second."""

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """The shape that the two broadcast to."""
        return super().compute_output_shape(_listed(self, input_shape, 2, 2))

    def _pair(self, a: Any, b: Any) -> Any:
        return ops.subtract(a, b)


class Multiply(Elementwise):
    """The elementwise product of a list of inputs."""

    def _pair(self, a: Any, b: Any) -> Any:
        return ops.multiply(a, b)


class Average(Elementwise):
    """The elementwise mean of a list of inputs."""

    def call(self, inputs: Sequence[Any]) -> Any:
        """Their sum, divided by their number."""
        return calculate("divided", x=reduce(ops.add, inputs), factor=float(len(inputs)))


class Maximum(Elementwise):
    """The elementwise largest of a list of inputs."""

    def _pair(self, a: Any, b: Any) -> Any:
        return ops.maximum(a, b)


class Minimum(Elementwise):
    """The elementwise smallest of a list of inputs."""

    def _pair(self, a: Any, b: Any) -> Any:
        return ops.minimum(a, b)


class Concatenate(Layer):
    """A list of inputs one behind the other along ``axis`` of a batch; all other sizes are equal."""

    def __init__(self, axis: int = -1, **options: Any) -> None:
        self.axis = checks.integer("axis", axis)
        if self.axis == 0:
            raise ValueError("axis: got 0, the axis of the batch, wants that of a sample's numbers")
        super().__init__(**options)

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """The sizes along the axis add; ValueError where the others differ."""
        shapes = _listed(self, input_shape)
        rank = len(shapes[0])
        if not -rank < self.axis < rank:
            raise ValueError(f"{self.name}: got input shape {shapes[0]}, wants an axis {self.axis} of samples")
        at = self.axis % rank
        if len({(*shape[:at], None, *shape[at + 1 :]) for shape in shapes}) > 1:
            wants = f"equal ones but for axis {self.axis}"
            raise ValueError(f"{self.name}: got inputs of shapes {_text(shapes)}, wants {wants}")
        sizes = [shape[at] for shape in shapes]
        return (*shapes[0][:at], None if None in sizes else sum(size or 0 for size in sizes), *shapes[0][at + 1 :])

    def compute_mask(self, x: Any, mask: Any = None) -> Any:
        """Those of the steps that are joined, or of other axes the steps that count in any of the inputs."""
        masks = mask if isinstance(mask, list) else [mask]
        if all(each is None for each in masks):
            return None
        whole = [
            constant(1.0, array, tuple(array.shape[:2])) if each is None else each
            for array, each in zip(x, masks, strict=True)
        ]
        return ops.concatenate(whole, 1) if self.axis % x[0].ndim == 1 else _any_of(whole)

    def call(self, inputs: Sequence[Any]) -> Any:
        """One behind the other."""
        return ops.concatenate([*inputs], self.axis)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axis": self.axis, **super().get_config()}


class Dot(Layer):
    """Sums of products of two inputs along an axis of each, sample by sample: of (n, a, k) and (n, b, k) (n, a, b).

    ``axes`` is an axis of both, or a pair; what is left of a sample's axes comes in its order, of a number (n, 1). With
    ``normalize`` these are cosines: each input is first divided by its norm along its axis.
    """

    def __init__(self, axes: Any, normalize: bool = False, **options: Any) -> None:
        pair = list(axes) if isinstance(axes, (list, tuple)) else [axes, axes]
        if len(pair) != 2:
            raise ValueError(f"axes: got {axes!r}, wants an axis or a pair of axes")
        self._pair = [checks.integer("axes", axis) for axis in pair]
        if 0 in self._pair:
            raise ValueError(f"axes: got {axes!r}, wants axes of a sample: 0 is that of the batch")
        self.axes = list(axes) if isinstance(axes, (list, tuple)) else axes
        self.normalize = checks.instance("normalize", normalize, bool, "True or False")
        super().__init__(**options)

    def compute_output_shape(self, input_shape: Any) -> BatchShape:
        """What is left of the samples' axes; ValueError where they lack the axis, or differ in its size."""
        one, other = _listed(self, input_shape, 2, 2)
        wants = f"equal sizes along axes {tuple(self._pair)} of samples"
        if not all(-len(shape) < axis < len(shape) for shape, axis in zip((one, other), self._pair, strict=True)):
            raise ValueError(f"{self.name}: got inputs of shapes {one}, {other}, wants {wants}")
        first, second = (axis % len(shape) for shape, axis in zip((one, other), self._pair, strict=True))
        if 0 in (first, second) or one[first] != other[second] or one[first] is None:
            raise ValueError(f"{self.name}: got inputs of shapes {one}, {other}, wants {wants}")
        left = (*one[1:first], *one[first + 1 :], *other[1:second], *other[second + 1 :])
        return (None, *(left or (1,)))

    def call(self, inputs: Sequence[Any]) -> Any:
        """The sums of the products."""
        if self.normalize:
            inputs = [ops.normalize(x, axis) for x, axis in zip(inputs, self._pair, strict=True)]
        one, other = (_axis_last(x, axis % x.ndim) for x, axis in zip(inputs, self._pair, strict=True))
        if one.ndim == other.ndim == 2:
            return _summed(ops.multiply(one, other))
        n, size, left = one.shape[0], one.shape[-1], (*one.shape[1:-1], *other.shape[1:-1])
        rows, columns = (math.prod(x.shape[1:-1]) for x in (one, other))
        products = ops.multiply(one.reshape(n, rows, 1, size), other.reshape(n, 1, columns, size))
        return _summed(products.reshape(n * rows * columns, size)).reshape(n, *left)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"axes": self.axes, "normalize": self.normalize, **super().get_config()}


def _any_of(masks: Sequence[Any]) -> Any:
    """The steps that count in any of some masks."""
    different = list({id(mask): mask for mask in masks}.values())
    return reduce(ops.maximum, different)


def _axis_last(x: Any, axis: int) -> Any:
    return x if axis == x.ndim - 1 else ops.moveaxis(x, axis, -1)


def _summed(rows: Any) -> Any:
    """The sum of each row, (n, 1)."""
    return ops.matmul(rows, _ones(rows.shape[1], rows.dtype))


@cache
def _ones(size: int, dtype: Any) -> Array:
    """A column of ones: always the same one, so that programs find it where it was."""
    return np.ones((size, 1), dtype)


def _text(shapes: Sequence[BatchShape]) -> str:
    return ", ".join(map(str, shapes))


def add(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Add`` gives for a list of inputs."""
    return Add(**options)(inputs)


def subtract(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Subtract`` gives for two inputs."""
    return Subtract(**options)(inputs)


def multiply(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Multiply`` gives for a list of inputs."""
    return Multiply(**options)(inputs)


def average(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Average`` gives for a list of inputs."""
    return Average(**options)(inputs)


def maximum(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Maximum`` gives for a list of inputs."""
    return Maximum(**options)(inputs)


def minimum(inputs: Sequence[Any], **options: Any) -> Any:
    """What ``Minimum`` gives for a list of inputs."""
    return Minimum(**options)(inputs)


def concatenate(inputs: Sequence[Any], axis: int = -1, **options: Any) -> Any:
    """What ``Concatenate`` gives for a list of inputs."""
    return Concatenate(axis, **options)(inputs)


def dot(inputs: Sequence[Any], axes: Any = -1, **options: Any) -> Any:
    """What ``Dot`` gives for two inputs."""
    return Dot(axes, **options)(inputs)


_SIGNS: dict[str, Callable[[Sequence[Any]], Array]] = {"__add__": add, "__sub__": subtract, "__mul__": multiply}
symbols.OPERATORS.update(_SIGNS)
