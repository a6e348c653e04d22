"""Images looked at through a transformation of their places: forwards tasks share rows, backwards images."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from fastnn.kernels.cpu._arrays import finish, in_order, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.sampling import FILL_MODES, INTERPOLATIONS

# Nanoseconds a number of the result on one core, roughly.
_NS_PER_NUMBER = 4.0
_CONSTANT, _REFLECT, _WRAP, _NEAREST = range(len(FILL_MODES))
_BILINEAR = INTERPOLATIONS.index("bilinear")


class Given(NamedTuple):
    """Sizes of x and y, and codes of what is between places and beyond edges."""

    n: int
    h: int
    w: int
    c: int
    p: int
    q: int
    interpolation: int
    fill_mode: int


@compiled_in
def _inside(place, size, fill_mode):
    """The place of an image that stands for one beyond its edges; -1 where a number does."""
    if 0 <= place < size:
        return place
    if fill_mode == _NEAREST:
        return 0 if place < 0 else size - 1
    if fill_mode == _WRAP:
        return place % size
    if fill_mode == _REFLECT:
        place = place % (2 * size)
        return place if place < size else 2 * size - 1 - place
    return -1


@compiled_in
def _corner(given, matrices, image, r, s, corner):
    """(place in an image, or -1; its share) of one of the four that a number is made of, of one if it is the nearest.

    Rows and columns are float64 whatever the dtype, as on every backend.
    """
    at = 6 * image
    row = matrices[at] * float(r) + matrices[at + 1] * float(s) + matrices[at + 2]
    column = matrices[at + 3] * float(r) + matrices[at + 4] * float(s) + matrices[at + 5]
    if given.interpolation != _BILINEAR:
        i, j, share = math.floor(row + 0.5), math.floor(column + 0.5), 1.0
    else:
        top, left = math.floor(row), math.floor(column)
        down, across = row - top, column - left
        share = (down if corner >= 2 else 1.0 - down) * (across if corner % 2 else 1.0 - across)
        i, j = int(top) + corner // 2, int(left) + corner % 2
    i, j = _inside(i, given.h, given.fill_mode), _inside(j, given.w, given.fill_mode)
    return (-1 if i < 0 or j < 0 else ((image * given.h + i) * given.w + j) * given.c), share


_GIVEN = types.NamedUniTuple(types.int64, len(Given._fields), Given)


@kernel(lambda dtype: types.void(_GIVEN, dtype, *[flat(dtype)] * 3))
def _sample(MR: int, NR: int) -> Any:
    def sample(given, fill, x, matrices, y, words, t, tasks):
        c, corners = given.c, 4 if given.interpolation == _BILINEAR else 1
        for line in range(t * given.n * given.p // tasks, (t + 1) * given.n * given.p // tasks):
            for s in range(given.q):
                to = (line * given.q + s) * c
                for k in range(c):
                    y[to + k] = 0.0
                for corner in range(corners):
                    at, share = _corner(given, matrices, line // given.p, line % given.p, s, corner)
                    part = x.dtype.type(share)
                    for k in range(c):
                        y[to + k] += part * (x[at + k] if at >= 0 else fill)

    return sample


@kernel(lambda dtype: types.void(_GIVEN, *[flat(dtype)] * 3))
def _spread(MR: int, NR: int) -> Any:
    def spread(given, dy, matrices, dx, words, t, tasks):
        c, corners = given.c, 4 if given.interpolation == _BILINEAR else 1
        for image in range(t * given.n // tasks, (t + 1) * given.n // tasks):
            size = given.h * given.w * c
            for k in range(image * size, (image + 1) * size):
                dx[k] = 0.0
            for place in range(given.p * given.q):
                source = (image * given.p * given.q + place) * c
                for corner in range(corners):
                    at, share = _corner(given, matrices, image, place // given.q, place % given.q, corner)
                    part = dy.dtype.type(share)
                    if at >= 0:
                        for k in range(c):
                            dx[at + k] += part * dy[source + k]

    return spread


def _given(shape: tuple[int, ...], height: int, width: int, interpolation: str, fill_mode: str) -> Given:
    n, h, w, c = shape
    return Given(n, h, w, c, height, width, INTERPOLATIONS.index(interpolation), FILL_MODES.index(fill_mode))


@Planned
def affine_sample2d(
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    """Shares of up to four places each."""
    shape, dtype = (x.shape[0], height, width, x.shape[3]), x.dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, x, matrices)
    given, size = _given(x.shape, height, width, interpolation, fill_mode), math.prod(shape)
    compute = _sample.planned(dtype, size * _NS_PER_NUMBER, given, dtype.type(fill_value))

    def run(x: Any, matrices: Any, *_: Any, out: Any = None, **__: Any) -> Any:
        y = place(out, x, matrices)
        if size:
            compute(in_order(x).reshape(-1), in_order(matrices).reshape(-1), y.reshape(-1))
        return finish(y, out)

    return run


@Planned
def affine_sample2d_backward(
    dy: Any,
    x: Any,
    matrices: Any,
    height: int,
    width: int,
    interpolation: str = "bilinear",
    fill_mode: str = "constant",
    fill_value: float = 0.0,
    *,
    out: Any = None,
) -> Callable[..., Any]:
    """Shares of each derivative, added image by image."""
    shape, dtype = x.shape, dy.dtype
    place = placing(out if out is None or out.flags.c_contiguous else None, shape, dtype, dy, matrices)
    given, size = _given(x.shape, height, width, interpolation, fill_mode), math.prod(shape)
    compute = _spread.planned(dtype, dy.size * _NS_PER_NUMBER, given)

    def run(dy: Any, x: Any, matrices: Any, *_: Any, out: Any = None, **__: Any) -> Any:
        dx = place(out, dy, matrices)
        if size:
            compute(in_order(dy).reshape(-1), in_order(matrices).reshape(-1), dx.reshape(-1))
        return finish(dx, out)

    return run
