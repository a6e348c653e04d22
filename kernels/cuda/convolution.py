"""Convolutions on the device: a thread for each number of a result, and for each number of a part of the kernel's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cupy

from fastnn.kernels.cuda import elementwise, gemm, launch, softmax
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, finish, in_order, like_new
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES, ELEMENTWISE_ACTIVATIONS
from fastnn.kernels.table.windows import as_image, margins, options_of_images, places, spread

_SIZES = ("n", "h", "w", "c", "kh", "kw", "share", "f", "oh", "ow", "groups")
_MOVES = ("down", "across", "tall", "wide", "top", "left", "chunks")

WINDOWS = Structure(
    "Windows",
    *(Field(name, "int64") for name in (*_SIZES, *_MOVES)),
    Field("x", "const real*"),
    Field("kernel", "const real*"),
    Field("y", "const real*"),
    Field("bias", "const real*"),
    Field("result", "real*"),
)

# Threads that the gradient by a kernel is to have at least, and places that each sums up, so many parts at most.
_ENOUGH, _PLACES, _MOST_PARTS = 1 << 16, 64, 256


def modules() -> Iterator[launch.Module]:
    """The one, of both dtypes."""
    for dtype in DTYPES:
        yield launch.Module(dtype, launch.text("convolution.cu", dtype, (WINDOWS,)))


class Moved(NamedTuple):
    """A convolution: shapes of x, of the kernel (kh, kw, share of channels, maps) and of y, and how windows move."""

    x: tuple[int, ...]
    w: tuple[int, ...]
    y: tuple[int, ...]
    strides: tuple[int, ...]
    padding: Any
    dilation: tuple[int, ...]
    groups: int = 1


def moved(x: Any, w: Sequence[int], strides: Any, padding: Any, dilation: Any, groups: int = 1) -> Moved:
    """Of x and a kernel of this shape."""
    along = (places(x.shape[1 + a], w[a], strides[a], padding, a, dilation[a]) for a in range(2))
    return Moved(x.shape, tuple(w), (x.shape[0], *along, w[3]), strides, padding, dilation, groups)


def _mirrored(x: Any, w: Any, strides: Any, padding: Any, dilation: Any) -> Moved:
    """The convolution of which a transposed one of x is the gradient."""
    along = (spread(x.shape[1 + a], w.shape[a], strides[a], padding, a, dilation[a]) for a in range(2))
    return Moved((x.shape[0], *along, w.shape[2]), w.shape, x.shape, strides, padding, dilation)


def _launch(entry: str, how: Moved, dtype: Any, size: int, chunks: int = 1) -> Callable[..., None]:
    """What runs a kernel of ``size`` numbers: of (x, kernel, y, bias, result), None for what it does not read."""
    if size == 0:
        return lambda *_: None
    record = WINDOWS.record(dtype)
    sizes = (*how.x, *how.w, *how.y[1:3], how.groups)
    around = [margins(how.x[1 + a], how.w[a], how.strides[a], how.padding, a, how.dilation[a])[0] for a in range(2)]
    for name, value in zip((*_SIZES, *_MOVES), (*sizes, *how.strides, *how.dilation, *around, chunks), strict=True):
        record[0][name] = value
    kernel = launch.kernel("convolution.cu", entry, dtype.name, (WINDOWS,))
    launch_ = launch.Launch(kernel, launch.blocks(size), record, "x", 5)

    def run(*arrays: Any) -> None:
        launch_(*(0 if each is None else address(each) for each in arrays))

    return run


def _by_kernel(how: Moved, dtype: Any) -> Callable[..., None]:
    """The gradient by the kernel: of (x, y, result)."""
    size, count = math.prod(how.w), math.prod(how.y[:3])
    chunks = max(1, min(-(-_ENOUGH // max(1, size)), count // _PLACES, _MOST_PARTS))
    sum_parts = _launch("by_kernel", how, dtype, size * chunks, chunks)
    if chunks == 1:
        return lambda x, y, result: sum_parts(x, None, y, None, result)
    total = gemm.ColumnSums(like_new((chunks, size), dtype), like_new((size,), dtype))

    def run(x: Any, y: Any, result: Any) -> None:
        parts = cupy.empty((chunks, size), dtype)
        sum_parts(x, None, y, None, parts)
        total(parts, result.reshape(size))

    return run


def _rows(array: Any) -> Any:
    """An array as rows along its last axis, in C order; None stays."""
    return None if array is None else in_order(array).reshape(math.prod(array.shape[:-1]), array.shape[-1])


def layer(entry: str, how: Moved, shape: tuple[int, ...], activation: str, dtype: Any) -> Callable[..., Any]:
    """What runs calls of a layer's op: the sums with the bias, then the activation of all of them, in place."""
    compute = _launch(entry, how, dtype, math.prod(shape))
    activate = None
    if activation != "linear" and 0 not in shape:
        rows = cupy.empty((math.prod(shape[:3]), shape[3]), dtype)
        name = ELEMENTWISE_ACTIVATIONS.get(activation, activation)
        activate = getattr(elementwise if activation in ELEMENTWISE_ACTIVATIONS else softmax, name).plan(rows, out=rows)

    def run(x: Any, w: Any, b: Any = None, *_: Any, out: Any = None) -> Any:
        y = gemm.placed(out, shape, dtype, x, w, b)
        kept, kernel, bias = in_order(x), in_order(w), None if b is None else in_order(b)
        compute(*((kept, kernel, None) if entry == "forward" else (None, kernel, kept)), bias, y)
        if activate is not None:
            activate(_rows(y), out=_rows(y))
        return finish(y, out)

    return run


def gradients(
    of_x: Callable[..., None], of_w: Callable[..., None], need: Sequence[str], activation: str, sources: Sequence[Any]
) -> Callable[..., tuple[Any, Any, Any]]:
    """What runs calls of a backward op, by ``of_x(dz, w, dx)`` and ``of_w(x, dz, dw)``; sources are dy, x, w, y, z."""
    dy, x, w, y, z = sources
    shapes, dtype = {"dx": x.shape, "dw": w.shape, "db": dy.shape[-1:]}, x.dtype
    _, derive = gemm.deriving(_rows(dy), _rows(y if z is None else z), _rows(y), activation, "db" in need)

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, *_: Any,
        dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        into = {"dx": dx, "dw": dw, "db": db}
        made = {name: gemm.placed(into[name], shapes[name], dtype, dy, x, w, y, z) for name in need}
        dz = derive(_rows(dy), _rows(y if z is None else z), _rows(y), made.get("db"))
        if "dx" in need:
            of_x(dz, in_order(w), made["dx"])
        if "dw" in need:
            of_w(in_order(x), dz, made["dw"])
        found = {name: finish(array, into[name]) for name, array in made.items()}
        return found.get("dx"), found.get("dw"), found.get("db")

    return run


@Planned
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
) -> Callable[..., Any]:
    """The sums, and the activation."""
    how = moved(x, w.shape, strides, padding, dilation, groups)
    return layer("forward", how, how.y, activation, x.dtype)


def slopes(how: Moved, dtype: Any) -> tuple[Callable[..., None], Callable[..., None]]:
    """A convolution's gradients: by x, of (dz, w, dx), and by the kernel, of (x, dz, dw)."""
    of_x = _launch("by_x", how, dtype, math.prod(how.x))
    return lambda dz, w, dx: of_x(None, w, dz, None, dx), _by_kernel(how, dtype)


@Planned
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
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz with its columns' sums first."""
    of_x, of_w = slopes(moved(x, w.shape, strides, padding, dilation, groups), x.dtype)
    return gradients(of_x, of_w, need, activation, (dy, x, w, y, z))


@Planned
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
) -> Callable[..., Any]:
    """A convolution's gradient by x, with a bias."""
    how = _mirrored(x, w, strides, padding, dilation)
    return layer("by_x", how, how.x, activation, x.dtype)


@Planned
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
) -> Callable[..., tuple[Any, Any, Any]]:
    """The convolution of dz, and the products of its windows with x."""
    how = _mirrored(x, w, strides, padding, dilation)
    convolve, by_kernel = _launch("forward", how, x.dtype, math.prod(how.y)), _by_kernel(how, x.dtype)
    of_x, of_w = lambda dz, w, dx: convolve(dz, w, None, None, dx), lambda x, dz, dw: by_kernel(dz, x, dw)
    return gradients(of_x, of_w, need, activation, (dy, x, w, y, z))


@Planned
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
) -> Callable[..., Any]:
    """Of images of one row."""
    convolve = conv2d.plan(as_image(x), w[None], b, activation, *options_of_images(strides, padding, dilation), groups)

    def run(x: Any, w: Any, b: Any = None, *_: Any, out: Any = None) -> Any:
        y = convolve(as_image(x), w[None], b, out=as_image(out))
        return y[:, 0] if out is None else out

    return run


@Planned
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
) -> Callable[..., tuple[Any, Any, Any]]:
    """Of images of one row."""
    images = as_image(dy), as_image(x), w[None], as_image(y), activation, as_image(z)
    derive = conv2d_backward.plan(*images, need, *options_of_images(strides, padding, dilation), groups)

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, *_: Any,
        dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        into = {"dx": as_image(dx), "dw": None if dw is None else dw[None], "db": db}
        of_x, of_w, of_b = derive(as_image(dy), as_image(x), w[None], as_image(y), activation, as_image(z), **into)
        slope_x = None if of_x is None else of_x[:, 0]
        slope_w = None if of_w is None else of_w[0]
        return slope_x if dx is None else dx, slope_w if dw is None else dw, of_b

    return run
