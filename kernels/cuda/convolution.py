"""Convolutions on the device: a thread for each number of a result, and for each number of a part of the kernel's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import cupy

from fastnn.kernels.cuda import elementwise, gemm, launch, softmax
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import Like, finish, in_order, like_new, placing_apart
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.columns import ColumnSums
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


# What adds a kernel to a chain, of arrays by the names of its pointers.
Adds = Callable[..., None]


def _adding(entry: str, how: Moved, dtype: Any, size: int, chunks: int = 1) -> Adds:
    """That of a kernel of ``size`` numbers: x, kernel, y, bias, result; no name for what it does not read."""

    def add(chain: Chain, **pointers: str) -> None:
        if size == 0:
            return
        record = WINDOWS.record(dtype)
        sizes = (*how.x, *how.w, *how.y[1:3], how.groups)
        around = [margins(how.x[1 + a], how.w[a], how.strides[a], how.padding, a, how.dilation[a])[0] for a in range(2)]
        moves = *how.strides, *how.dilation, *around, chunks
        for name, value in zip((*_SIZES, *_MOVES), (*sizes, *moves), strict=True):
            record[0][name] = value
        kernel = launch.kernel("convolution.cu", entry, dtype.name, (WINDOWS,))
        chain.add(kernel, launch.blocks(size), record, pointers)

    return add


def _by_kernel(how: Moved, dtype: Any) -> Adds:
    """That of the gradient by the kernel: x, y, result."""
    size, count = math.prod(how.w), math.prod(how.y[:3])
    chunks = max(1, min(-(-_ENOUGH // max(1, size)), count // _PLACES, _MOST_PARTS))
    sum_parts = _adding("by_kernel", how, dtype, size * chunks, chunks)
    if chunks == 1:
        return sum_parts
    total = ColumnSums(like_new((chunks, size), dtype), like_new((size,), dtype))

    def add(chain: Chain, x: str, y: str, result: str) -> None:
        parts = chain.room(chunks * size * dtype.itemsize)
        sum_parts(chain, x=x, y=y, result=parts)
        total.add(chain, parts, result)

    return add


def _rows(shape: Sequence[int], dtype: Any) -> Like:
    """What an array of this shape is like as rows along its last axis, in C order."""
    return like_new((math.prod(shape[:-1]), shape[-1]), dtype)


def layer(
    entry: str, how: Moved, shape: tuple[int, ...], activation: str, sources: Sequence[Any], out: Any
) -> Callable[..., Any]:
    """What runs calls of a layer's op: the sums with the bias, then the activation of all of them, in place.

    The sources are x, w and b.
    """
    dtype, there = sources[0].dtype, [each for each in sources if each is not None]
    compute, rows = _adding(entry, how, dtype, math.prod(shape)), _rows(shape, dtype)
    read, bias = ("x", "y")[entry != "forward"], ["b"][: len(there) - 2]
    place = placing_apart(out, shape, dtype, *there)

    def build(chain: Chain, _: Any) -> None:
        compute(chain, **{read: "x"}, kernel="w", bias="".join(bias), result="y")
        if activation not in ELEMENTWISE_ACTIVATIONS:
            softmax.add_to(chain, "forward", activation, rows, "y", "y", "y")
        elif activation != "linear":
            elementwise.add_to(chain, ELEMENTWISE_ACTIVATIONS[activation], math.prod(shape), dtype, "y", "y")

    launches = Chains(("x", "w", *bias, "y"), build)

    def run(x: Any, w: Any, b: Any = None, *_: Any, out: Any = None) -> Any:
        there = (x, w) if b is None else (x, w, b)
        y, kept = place(out, *there), [*map(in_order, there)]
        launches(tuple([array.data.ptr for array in (*kept, y)]))
        return finish(y, out)

    return run


def gradients(
    of_x: Adds, of_w: Adds, need: Sequence[str], activation: str, sources: Sequence[Any], outs: Sequence[Any]
) -> Callable[..., tuple[Any, Any, Any]]:
    """What runs calls of a backward op, by what adds ``of_x(dz, w, dx)`` and ``of_w(x, dz, dw)`` to a chain.

    The sources are x, dy, w, y, z, outs are dx, dw, db.
    """
    x, dy, w, _, z = sources
    shapes, dtype = {"dx": x.shape, "dw": w.shape, "db": dy.shape[-1:]}, x.dtype
    wanted, count = [shape if name in need else None for name, shape in shapes.items()], 5 - (z is None)
    places = gemm.placing_each(gemm.DENSE, outs, wanted, dtype, *sources[:count])
    rows, told_by_y = _rows(dy.shape, dtype), activation not in ELEMENTWISE_ACTIVATIONS
    derivative = gemm.Derivative(rows, rows, activation)

    def build(chain: Chain, _: Any) -> None:
        dz = derivative.add(chain, "db" if "db" in need else "")
        if "dx" in need:
            of_x(chain, dz, "w", "dx")
        if "dw" in need:
            of_w(chain, "x", dz, "dw")

    launches = Chains(("dy", "s", "x", "w", *(name for name in shapes if name in need)), build)

    def run(
        dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, *_: Any,
        dx: Any = None, dw: Any = None, db: Any = None,
    ) -> tuple[Any, Any, Any]:  # fmt: skip
        if dx is dw is db is None:
            made = [shape and cupy.empty(shape, dtype) for shape in wanted]
        else:
            made = places((dx, dw, db), (x.data.ptr,), *(x, dy, w, y, z)[:count])
        read = [*map(in_order, (dy, y if told_by_y or z is None else z, x, w))]
        launches(tuple([array.data.ptr for array in (*read, *made) if array is not None]))
        made_x, made_w, made_b = made
        return finish(made_x, dx), finish(made_w, dw), finish(made_b, db)

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
    return layer("forward", how, how.y, activation, (x, w, b), out)


def slopes(how: Moved, dtype: Any) -> tuple[Adds, Adds]:
    """A convolution's gradients: by x, of (dz, w, dx), and by the kernel, of (x, dz, dw)."""
    of_x, by_kernel = _adding("by_x", how, dtype, math.prod(how.x)), _by_kernel(how, dtype)
    return (
        lambda chain, dz, w, dx: of_x(chain, kernel=w, y=dz, result=dx),
        lambda chain, x, dz, dw: by_kernel(chain, x=x, y=dz, result=dw),
    )


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
    return gradients(of_x, of_w, need, activation, (x, dy, w, y, z), (dx, dw, db))


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
    return layer("by_x", how, how.x, activation, (x, w, b), out)


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
    convolve, by_kernel = _adding("forward", how, x.dtype, math.prod(how.y)), _by_kernel(how, x.dtype)

    def of_x(chain: Chain, dz: str, w: str, dx: str) -> None:
        convolve(chain, x=dz, kernel=w, result=dx)

    def of_w(chain: Chain, x: str, dz: str, dw: str) -> None:
        by_kernel(chain, x=dz, y=x, result=dw)

    return gradients(of_x, of_w, need, activation, (x, dy, w, y, z), (dx, dw, db))


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
    how = moved(as_image(x), (1, *w.shape), *options_of_images(strides, padding, dilation), groups)
    return layer("forward", how, (how.y[0], *how.y[2:]), activation, (x, w, b), out)


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
    how = moved(as_image(x), (1, *w.shape), *options_of_images(strides, padding, dilation), groups)
    return gradients(*slopes(how, x.dtype), need, activation, (x, dy, w, y, z), (dx, dw, db))
