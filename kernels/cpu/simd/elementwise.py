"""Element by element: activations and their derivatives, sums, scaling; of rows, and of runs past the caches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Bytes, MicroKernel, Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Total, for_each, mapped, switch_on
from fastnn.kernels.cpu.simd.softmax import softmax, softmax_backward
from fastnn.kernels.cpu.simd.vectors import I64
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES

FORWARD = [activation.forward for activation in ACTIVATIONS.values()]
BACKWARD = [activation.backward for activation in ACTIVATIONS.values()]

# What the micro-kernels of rows know beside the activations: softmax takes a row as a whole.
ROW_CODES = {**CODES, "softmax": len(CODES)}


def row_of(f: Callable[[Vectors, Any], Any]) -> MicroKernel:
    """y = f(x) on ``count`` numbers for a vector function alone, outside the library."""

    def row(v: Vectors, count: Size, x: Pointer, y: Pointer) -> Nothing:
        mapped(v, f, count, [x], y)()

    row.__name__ = f"{f.__name__}_row"
    return MicroKernel(row)


@micro_kernel
def forward_row(v: Vectors, code: Size, count: Size, x: Pointer, y: Pointer) -> Nothing:
    """y = f(x), f by its code in ``ROW_CODES``; y may be x."""
    cases = [mapped(v, f, count, [x], y) for f in FORWARD]
    switch_on(v.builder, code, [*cases, lambda: softmax(v, count, x, y)])


@micro_kernel
def forward_bias_row(v: Vectors, code: Size, count: Size, x: Pointer, bias: Pointer, y: Pointer) -> Nothing:
    """y = f(x + bias), f by its code in ``ROW_CODES``; y may be x."""

    def case(f: Callable[..., Any]) -> Callable[[], None]:
        return lambda: for_each(v, count, lambda at: at.store(f(v, v.add(at.load(x), at.load(bias))), y))

    def row() -> None:
        case(ACTIVATIONS["identity"].forward)()
        softmax(v, count, y, y)

    switch_on(v.builder, code, [*(case(f) for f in FORWARD), row])


@micro_kernel
def backward_row(v: Vectors, code: Size, count: Size, dy: Pointer, y: Pointer, dx: Pointer) -> Nothing:
    """From dL/dy and y = f(x) to dx = dL/dx, f by its code in ``ROW_CODES``; dx may be dy or y."""
    cases = [mapped(v, f, count, [dy, y], dx) for f in BACKWARD]
    switch_on(v.builder, code, [*cases, lambda: softmax_backward(v, count, dy, y, dx)])


@micro_kernel
def add_row(v: Vectors, count: Size, a: Pointer, b: Pointer, y: Pointer) -> Nothing:
    """y = a + b; y may be a or b."""
    mapped(v, Vectors.add, count, [a, b], y)()


# The same past the caches, for results that are larger than these: they need not be read before they are written.


@micro_kernel
def forward_stream(v: Vectors, code: Size, count: Size, x: Pointer, y: Pointer) -> Nothing:
    """y = f(x), f by its code in ``CODES``."""
    switch_on(v.builder, code, [mapped(v, f, count, [x], y, past_caches=True) for f in FORWARD])


@micro_kernel
def backward_stream(v: Vectors, code: Size, count: Size, dy: Pointer, y: Pointer, dx: Pointer) -> Nothing:
    """From dL/dy and y = f(x) to dx = dL/dx, f by its code in ``CODES``."""
    switch_on(v.builder, code, [mapped(v, f, count, [dy, y], dx, past_caches=True) for f in BACKWARD])


@micro_kernel
def add_stream(v: Vectors, count: Size, a: Pointer, b: Pointer, y: Pointer) -> Nothing:
    """y = a + b."""
    mapped(v, Vectors.add, count, [a, b], y, past_caches=True)()


@micro_kernel
def clip_row(v: Vectors, count: Size, x: Pointer, limit: Number) -> Nothing:
    """x = x kept in [-limit, limit]; NaN stays."""
    high = v.splat(limit)
    low = v.sub(v.constant(0.0), high)
    for_each(v, count, lambda at: at.store(v.min(v.max(at.load(x), low), high), x))


@micro_kernel
def squares_row(v: Vectors, count: Size, x: Pointer) -> Number:
    """Sum of x^2."""
    total = Total(v)
    for_each(v, count, lambda at: total.add(at, v.mul(at.load(x), at.load(x))))
    return total.value()


@micro_kernel
def scale_row(v: Vectors, count: Size, x: Pointer, factor: Number) -> Nothing:
    """x *= factor."""
    by = v.splat(factor)
    for_each(v, count, lambda at: at.store(v.mul(at.load(x), by), x))


@micro_kernel
def widen_row(v: Vectors, count: Size, x: Bytes, factor: Number, offset: Number, y: Pointer) -> Nothing:
    """y = factor * x + offset for bytes x."""
    builder, by, shift = v.builder, v.splat(factor), v.splat(offset)
    whole = builder.sdiv(count, I64(v.lanes))
    with cgutils.for_range(builder, whole, intp=I64) as loop:
        j = builder.mul(loop.index, I64(v.lanes))
        kind = ir.VectorType(ir.IntType(8), v.lanes)
        raw = builder.load(builder.bitcast(builder.gep(x, [j]), kind.as_pointer()))
        raw.align = 1
        v.store(v.add(v.mul(builder.uitofp(raw, v.type), by), shift), y, j)
    with cgutils.for_range_slice(builder, builder.mul(whole, I64(v.lanes)), count, I64(1), intp=I64) as (j, _):
        number = builder.uitofp(builder.load(builder.gep(x, [j])), v.format.scalar)
        builder.store(builder.fadd(builder.fmul(number, factor), offset), builder.gep(y, [j]))
