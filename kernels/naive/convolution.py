"""Convolutions as loops over every output, every number of its window."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from fastnn.kernels.naive import elementwise, softmax
from fastnn.kernels.naive._lists import deliver
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.windows import margins, places, spread

Numbers = list[float]


def _terms(
    x_shape: tuple[int, ...], w_shape: tuple[int, ...], strides: Any, padding: Any, dilation: Any, groups: int
) -> Iterator[tuple[int, int, int]]:
    """(place in y, place in x, place in w) of every product x * w that a convolution adds to y, in flat arrays."""
    (n, h, wide, c), (kh, kw, cg, f) = x_shape, w_shape
    oh = places(h, kh, strides[0], padding, 0, dilation[0])
    ow = places(wide, kw, strides[1], padding, 1, dilation[1])
    top, _ = margins(h, kh, strides[0], padding, 0, dilation[0])
    left, _ = margins(wide, kw, strides[1], padding, 1, dilation[1])
    for image in range(n):
        for i in range(oh):
            for j in range(ow):
                for map_ in range(f):
                    at_y = ((image * oh + i) * ow + j) * f + map_
                    first = map_ // (f // groups) * cg
                    for k in range(kh):
                        row = i * strides[0] + k * dilation[0] - top
                        for m in range(kw):
                            column = j * strides[1] + m * dilation[1] - left
                            if not (0 <= row < h and 0 <= column < wide):
                                continue
                            for channel in range(cg):
                                at_x = ((image * h + row) * wide + column) * c + first + channel
                                yield at_y, at_x, ((k * kw + m) * cg + channel) * f + map_


def _y_shape(x_shape: Any, w_shape: Any, strides: Any, padding: Any, dilation: Any) -> tuple[int, ...]:
    along = (places(x_shape[1 + a], w_shape[a], strides[a], padding, a, dilation[a]) for a in range(2))
    return (x_shape[0], *along, w_shape[3])


def _activated(z: Numbers, f: int, bias: Any, activation: str) -> Numbers:
    """activation(z + bias), for z in rows of f numbers."""
    if bias is not None:
        z = [value + bias[place % f] for place, value in enumerate(z)]
    if activation in ELEMENTWISE_ACTIVATIONS:
        return elementwise.forward(ELEMENTWISE_ACTIVATIONS[activation], z)
    return [value for at in range(0, len(z), f or 1) for value in softmax.FORWARD[activation](z[at : at + f])]


def _slopes(dy: Any, y: Any, activation: str, z: Any) -> Numbers:
    """dz = dy * activation'(z), flat."""
    f, flat = dy.shape[-1], [each.ravel().tolist() for each in (dy, y if z is None else z, y)]
    if activation in ELEMENTWISE_ACTIVATIONS:
        return elementwise.backward(ELEMENTWISE_ACTIVATIONS[activation], *flat)
    dy, _, y = flat
    rows: Callable[..., Numbers] = softmax.BACKWARD[activation]
    return [value for at in range(0, len(dy), f or 1) for value in rows(dy[at : at + f], y[at : at + f])]


def conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    groups: int = 1,
    *,
    out: Any = None,
) -> Any:
    """activation(x * w + b)."""
    shape = _y_shape(x.shape, w.shape, strides, padding, dilation)
    y, numbers, weights = [0.0] * int(np.prod(shape)), x.ravel().tolist(), w.ravel().tolist()
    for at_y, at_x, at_w in _terms(x.shape, w.shape, strides, padding, dilation, groups):
        y[at_y] += numbers[at_x] * weights[at_w]
    bias = None if b is None else b.tolist()
    return deliver(_activated(y, shape[-1], bias, activation), shape, x.dtype, out)


def conv2d_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    groups: int = 1,
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """dz = dy * activation'(z); each product of the convolution hands dz times one factor to the other."""
    dz, numbers, weights = _slopes(dy, y, activation, z), x.ravel().tolist(), w.ravel().tolist()
    of_x, of_w, of_b = ([0.0] * size for size in (x.size, w.size, w.shape[3]))
    for at_y, at_x, at_w in _terms(x.shape, w.shape, strides, padding, dilation, groups):
        of_x[at_x] += dz[at_y] * weights[at_w]
        of_w[at_w] += dz[at_y] * numbers[at_x]
    for place, slope in enumerate(dz):
        of_b[place % w.shape[3]] += slope
    found = {"dx": (of_x, x.shape, dx), "dw": (of_w, w.shape, dw), "db": (of_b, w.shape[3:], db)}
    first, second, third = (
        deliver(slopes, shape, x.dtype, out) if name in need else None for name, (slopes, shape, out) in found.items()
    )
    return first, second, third


def _as_images(options: dict[str, Any]) -> dict[str, Any]:
    """Options of sequences for images of one row."""
    padding = options["padding"]
    return {
        **options,
        "strides": (1, *options["strides"]),
        "dilation": (1, *options["dilation"]),
        "padding": padding if isinstance(padding, str) else ((0, 0), *padding),
    }


def conv1d(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1,),
    padding: Any = "valid",
    dilation: Any = (1,),
    groups: int = 1,
    *,
    out: Any = None,
) -> Any:
    """Of images of one row."""
    options = _as_images({"strides": strides, "padding": padding, "dilation": dilation, "groups": groups})
    y = conv2d(x[:, None], w[None], b, activation, **options)
    return deliver(y, (y.shape[0], *y.shape[2:]), x.dtype, out)


def conv1d_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1,),
    padding: Any = "valid",
    dilation: Any = (1,),
    groups: int = 1,
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """Of images of one row."""
    options = _as_images({"strides": strides, "padding": padding, "dilation": dilation, "groups": groups})
    images = (dy[:, None], x[:, None], w[None], y[:, None])
    found = conv2d_backward(*images, activation, None if z is None else z[:, None], need, **options)
    wanted = zip(found, (x.shape, w.shape, w.shape[2:]), (dx, dw, db), strict=True)
    first, second, third = (None if each is None else deliver(each, shape, x.dtype, out) for each, shape, out in wanted)
    return first, second, third


def conv2d_transpose(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    out: Any = None,
) -> Any:
    """Each product of a convolution from y to x, the other way round."""
    along = (spread(x.shape[1 + a], w.shape[a], strides[a], padding, a, dilation[a]) for a in range(2))
    shape = (x.shape[0], *along, w.shape[2])
    y, numbers, weights = [0.0] * int(np.prod(shape)), x.ravel().tolist(), w.ravel().tolist()
    for at_x, at_y, at_w in _terms(shape, w.shape, strides, padding, dilation, 1):
        y[at_y] += numbers[at_x] * weights[at_w]
    bias = None if b is None else b.tolist()
    return deliver(_activated(y, shape[-1], bias, activation), shape, x.dtype, out)


def conv2d_transpose_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """dz = dy * activation'(z); each product hands dz times one factor to the other."""
    dz, numbers, weights = _slopes(dy, y, activation, z), x.ravel().tolist(), w.ravel().tolist()
    of_x, of_w, of_b = ([0.0] * size for size in (x.size, w.size, w.shape[2]))
    for at_x, at_y, at_w in _terms(dy.shape, w.shape, strides, padding, dilation, 1):
        of_x[at_x] += dz[at_y] * weights[at_w]
        of_w[at_w] += dz[at_y] * numbers[at_x]
    for place, slope in enumerate(dz):
        of_b[place % w.shape[2]] += slope
    found = {"dx": (of_x, x.shape, dx), "dw": (of_w, w.shape, dw), "db": (of_b, w.shape[2:3], db)}
    first, second, third = (
        deliver(slopes, shape, x.dtype, out) if name in need else None for name, (slopes, shape, out) in found.items()
    )
    return first, second, third
