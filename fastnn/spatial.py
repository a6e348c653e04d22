"""Windows over steps or images, by the rank: what ``fastnn.ops`` has for images alone, or for each rank by a name.

They are part of ``fastnn.ops``, under Keras's names where Keras has them. x is (n, steps, c) or (n, h, w, c); sizes are
one number for all axes in the middle, or one for each. Arrays may be followed for gradients, or a program's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn import checks
from fastnn.numerics import OPS, operand

Array = Any

# Ranks of what has one axis of steps, or rows and columns, between samples and channels.
_STEPS, _IMAGES = 3, 4


def max_pool(x: Any, pool_size: Any, strides: Any = None, padding: str = "valid") -> Array:
    """The largest number of each place of a window moved by ``strides``, ``pool_size`` if there are none.

    ``padding`` is "valid" or "same", as in Keras.
    """
    return _pooled("max_pool2d", x, pool_size, strides, padding)


def average_pool(x: Any, pool_size: Any, strides: Any = None, padding: str = "valid") -> Array:
    """The mean of each place of a window, of what lies in x alone; arguments as of ``max_pool``."""
    return _pooled("average_pool2d", x, pool_size, strides, padding)


def upsample(x: Any, size: Any) -> Array:
    """Every step, or every number of an image, ``size`` times along its axes."""
    given, axes = _spatial(x)
    sizes = _each("size", size, axes)
    return _of_image(given, lambda image: OPS["upsample2d"](image, (*sizes, *_ones(axes))))


def zero_pad(x: Any, padding: Any) -> Array:
    """Zeros around the axes in the middle: a number, one for each axis, or a pair (before, behind) for each axis."""
    given, axes = _spatial(x)
    several = [*padding] if isinstance(padding, (list, tuple)) else [padding] * axes
    if len(several) != axes:
        raise ValueError(f"padding: got {padding!r}, wants one number, or {axes} numbers or pairs of such")
    pairs = [each if isinstance(each, (list, tuple)) else (each, each) for each in several]
    return _of_image(given, lambda image: OPS["zero_pad2d"](image, (*pairs, *((0, 0) for _ in _ones(axes)))))


def conv(x: Any, kernel: Any, strides: Any = 1, padding: str = "valid", dilation_rate: Any = 1) -> Array:
    """``conv1d`` or ``conv2d`` with a kernel (kw, c / groups, f) or (kh, kw, c / groups, f), the groups as it says."""
    given, axes = _spatial(x)
    weights = operand("kernel", kernel)
    if weights.ndim != given.ndim:
        raise ValueError(
            f"kernel: got shape {tuple(weights.shape)}, wants {given.ndim} axes, as x {tuple(given.shape)}"
        )
    channels, taken = given.shape[-1], weights.shape[-2]
    if not taken or channels % taken:
        wants = f"a divisor of x's {channels} channels in the last place but one"
        raise ValueError(f"kernel: got shape {tuple(weights.shape)}, wants {wants}")
    return OPS[f"conv{axes}d"](
        given,
        weights,
        strides=_each("strides", strides, axes),
        padding=checks.one_of("padding", padding, ("valid", "same")),
        dilation=_each("dilation_rate", dilation_rate, axes),
        groups=channels // taken,
    )


def _pooled(op: str, x: Any, pool_size: Any, strides: Any, padding: str) -> Array:
    given, axes = _spatial(x)
    window = _each("pool_size", pool_size, axes)
    moved = window if strides is None else _each("strides", strides, axes)
    around = checks.one_of("padding", padding, ("valid", "same"))
    beyond = _ones(axes)
    return _of_image(given, lambda image: OPS[op](image, (*window, *beyond), (*moved, *beyond), around))


def _spatial(x: Any) -> tuple[Any, int]:
    """x, and how many axes lie between its samples and channels."""
    given = operand("x", x)
    if given.ndim not in (_STEPS, _IMAGES):
        raise ValueError(f"x: got shape {tuple(given.shape)}, wants (n, steps, c) or (n, h, w, c)")
    return given, given.ndim - 2


def _each(name: str, value: Any, axes: int) -> tuple[int, ...]:
    several: Sequence[Any] = value if isinstance(value, (list, tuple)) else (value,) * axes
    if len(several) != axes:
        raise ValueError(f"{name}: got {value!r}, wants one number, or one for each of {axes} axes")
    return tuple(checks.positive_int(name, number) for number in several)


def _ones(axes: int) -> tuple[int, ...]:
    """For the axes that images have more."""
    return (1,) * (_IMAGES - 2 - axes)


def _of_image(x: Any, function: Callable[[Any], Any]) -> Array:
    """What a function of images (n, h, w, c) makes of x, whose steps are an image's rows of one column."""
    if x.ndim == _IMAGES:
        return function(x)
    n, steps, c = x.shape
    y = function(x.reshape((n, steps, 1, c)))
    return y.reshape((n, y.shape[1], c))


NAMES = ("average_pool", "conv", "max_pool", "upsample", "zero_pad")
