"""Depthwise convolutions: each channel of the results is a sum of one channel of x, so vectors are channels.

The rows of windows, their phases and the copies with zeros around them are those of ``convolution``. Where a channel
has several kernels, x is copied with each channel repeated as often; the gradient by x adds up what these give. The
gradient by w splits channels over the tasks. Each element is one chain of multiply-adds, in the order of the kernel's
places, or of images, rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numba import from_dtype, types

from fastnn.kernels.cpu import convolution, elementwise, gemm, windows
from fastnn.kernels.cpu._arrays import workspace
from fastnn.kernels.cpu.compiler.machine import NV, caches
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.convolution import IMAGES, PHASE, PRODUCT
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.simd.elementwise import copy_row, forward_bias_row
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.windows import window_products, window_rows
from fastnn.kernels.cpu.teams import threads
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.planned import Planned

# One core's multiply-adds of a nanosecond, roughly: two loads each.
_PER_NS = 10.0


@compiled_in
def _lay_row(x, images, image, row, first, count, times, target):
    """Channels ``first`` to ``first + count``, each repeated, of a row of an image with the zeros around it."""
    source, skipped, begin = row - images.top, max(0, images.left), max(0, -images.left)
    inside = min(images.w - begin, images.columns - skipped)
    if source < 0 or source >= images.h:
        inside = 0
    for j in range(images.columns):
        to, at = address(target, j * images.share + first), j - skipped
        if at < 0 or at >= inside:
            for c in range(count):
                to[c] = 0.0
            continue
        pixel = address(x, ((image * images.h + source) * images.w + begin + at) * images.c)
        if times == 1:
            copy_row(count, address(pixel, first), to)
        else:
            for c in range(count):
                to[c] = pixel[(first + c) // times]


@compiled_in
def _fold(pixels, channels, times, x, y, step):
    """y[i, c] = the sum of x[i, c * times + l] over l < times, for pixels ``step`` numbers apart in y."""
    for i in range(pixels):
        for c in range(channels):
            total = x[(i * channels + c) * times]
            for repeat in range(1, times):
                total += x[(i * channels + c) * times + repeat]
            y[i * step + c] = total


@compiled_in
def _phase_row(image, i, images, product, phase, fold, offsets, places, epilogue, source, w, spare, y):
    """Row i of a phase of an image's outputs; ``source`` is where its windows begin."""
    count = images.share
    step, place = product.column * product.maps, (image * product.h + phase.row + i * product.row) * product.w
    target = address(y, (place + phase.column) * product.maps)
    into, row = target, step
    if fold > 1:
        into, row = spare, count
    window_rows(
        phase.columns, count, phase.taps, source, product.across * count, address(offsets, phase.tap), w,
        address(places, phase.tap), into, row,
    )  # fmt: skip
    if fold > 1:
        _fold(phase.columns, product.maps, fold, spare, target, step)
    if epilogue.code >= 0:
        for j in range(phase.columns):
            z = address(target, j * step)
            forward_bias_row(epilogue.code, count, z, epilogue.bias, epilogue.numbers, z)


def _product_signature(dtype: Any) -> Any:
    images, product, phase = (types.Array(from_dtype(each), 1, "C") for each in (IMAGES, PRODUCT, PHASE))
    size, sizes, numbers = types.int64, flat(types.int64), flat(dtype)
    return types.void(size, size, size, numbers, images, product, phase, sizes, sizes, *[numbers] * 5)


@kernel(_product_signature)
def _windows(MR: int, NR: int) -> Any:
    def windows(
        code, times, fold, numbers, images, product, phases, offsets, places, bias, x, w, buffers, y, words, t, team
    ):
        laid, how, epilogue = images[0], product[0], gemm.Epilogue(code, address(bias, 0), address(numbers, 0))
        tasks, rows, size = team, 0, laid.columns * laid.share
        if how.buffer > 0:
            tasks = min(team, buffers.size // how.buffer)
        for s in range(phases.size):
            rows = max(rows, phases[s].rows)
        if t < tasks:
            buffer = address(buffers, t * how.buffer)
            unit, end = t * laid.n * rows // tasks, (t + 1) * laid.n * rows // tasks
            while unit < end:
                image, low = unit // rows, unit % rows
                high = min(rows, low + min(how.at_once, end - unit))
                unit += high - low
                source = address(x, (image * laid.h + low * how.down) * laid.w * laid.c)
                if how.copied:
                    source = buffer
                    for r in range(min(laid.rows - low * how.down, (high - low - 1) * how.down + how.reach)):
                        target = address(buffer, r * size)
                        _lay_row(address(x, 0), laid, image, low * how.down + r, 0, laid.share, times, target)
                spare = address(buffer, how.buffer - how.w * laid.share * (fold > 1))
                for s in range(phases.size):
                    for i in range(low, min(high, phases[s].rows)):
                        first = address(source, (i - low) * how.down * size)
                        _phase_row(
                            image, i, laid, how, phases[s], fold, address(offsets, 0), address(places, 0), epilogue,
                            first, address(w, 0), spare, address(y, 0),
                        )  # fmt: skip

    return windows


@lru_cache(gemm.PLANS)
def _windows_of(
    images: tuple[int, ...], outputs: tuple[int, ...], lines: tuple[windows.Lines, ...], times: int, fold: int,
    kernel_columns: int, itemsize: int,
) -> tuple[tuple[Any, ...], int, float]:  # fmt: skip
    """(tables, numbers of a task's buffer, one core's nanoseconds) of sums of windows over ``images``.

    Of these each channel is repeated ``times``, and of the results ``fold`` are added up.
    """
    down, across = lines
    laid, copied = convolution.laid(images, 1, down, across)
    copied = copied or times > 1
    channels = laid["share"] = images[3] * times
    if copied:
        laid |= {"rows": down.width, "columns": across.width}
    offsets: list[int] = []
    places: list[int] = []
    phases, work = [], 0
    for of_rows in down.phases:
        for of_columns in across.phases:
            taps = [(row, column) for row in of_rows.taps for column in of_columns.taps]
            phases.append({
                "row": of_rows.first, "rows": of_rows.outputs,
                "column": of_columns.first, "columns": of_columns.outputs,
                "tap": len(places), "taps": len(taps),
            })  # fmt: skip
            offsets += [(row.source * laid["columns"] + column.source) * channels for row, column in taps]
            places += [(row.place * kernel_columns + column.place) * channels for row, column in taps]
            work += of_rows.outputs * of_columns.outputs * len(taps)
    reach = max(phase.taps[-1].source + 1 if phase.taps else 1 for phase in down.phases)
    line = laid["columns"] * channels
    at_once = max(1, (caches().l2 // 4 // (line * itemsize) - reach) // down.step + 1)
    most = min(max(phase.outputs for phase in down.phases), at_once)
    buffer = copied * ((most - 1) * down.step + reach) * line + (fold > 1) * outputs[2] * channels
    product = {
        "h": outputs[1], "w": outputs[2], "maps": outputs[3], "row": down.out, "column": across.out, "down": down.step,
        "across": across.step, "reach": reach, "at_once": at_once, "copied": copied, "buffer": buffer,
    }  # fmt: skip
    tables = (
        convolution.table(IMAGES, laid), convolution.table(PRODUCT, product), convolution.table(PHASE, *phases),
        np.array(offsets or [0], np.int64), np.array(places or [0], np.int64),
    )  # fmt: skip
    return tables, buffer, images[0] * work * channels / _PER_NS


def _sums_of_windows(
    dtype: Any, images: tuple[int, ...], outputs: tuple[int, ...], lines: Any, times: int, fold: int,
    kernel_columns: int, activation: str | None,
) -> Callable[..., None]:  # fmt: skip
    """What computes y = f(sums of windows of x times w + bias), as a function of (x, w, bias, y), all in C order."""
    tables, buffer, nanoseconds = _windows_of(
        images, outputs, tuple(lines), times, fold, kernel_columns, dtype.itemsize
    )
    code, numbers = gemm.NO_EPILOGUE, np.zeros(1, dtype)
    if activation is not None:
        code, numbers = CODES[activation], elementwise.numbers_of(activation, dtype)
    compute = _windows.planned(dtype, nanoseconds, code, times, fold, numbers, *tables)

    def run(x: Any, w: Any, bias: Any, y: Any) -> None:
        size = threads.count(nanoseconds) * buffer
        compute(bias, x.reshape(-1), w.reshape(-1), workspace(size, dtype)[:size], y.reshape(-1))

    return run


# ------------------------------------------------------------------------------------------------- the gradient by w


def _gradient_signature(dtype: Any) -> Any:
    images, product = (types.Array(from_dtype(each), 1, "C") for each in (IMAGES, PRODUCT))
    sizes, numbers = flat(types.int64), flat(dtype)
    return types.void(types.int64, images, product, sizes, *[numbers] * 4)


@kernel(_gradient_signature)
def _products(MR: int, NR: int) -> Any:
    VL = NR // NV

    def products(times, images, product, offsets, x, dz, buffer, dw, words, t, team):
        laid, how, taps = images[0], product[0], offsets.size
        channels, vectors = laid.share, (laid.share + VL - 1) // VL
        begin, end = t * vectors // team * VL, min(channels, (t + 1) * vectors // team * VL)
        count = end - begin
        if count > 0:
            for tap in range(taps):
                for c in range(begin, end):
                    dw[tap * channels + c] = 0.0
            for image in range(laid.n):
                for low in range(0, how.h, how.at_once):
                    rows, source = min(how.at_once, how.h - low), address(buffer, 0)
                    if not how.copied:
                        source = address(x, (image * laid.h + low * how.down) * laid.w * laid.c)
                    for r in range(how.copied * ((rows - 1) * how.down + how.reach)):
                        target = address(buffer, r * laid.columns * channels)
                        _lay_row(address(x, 0), laid, image, low * how.down + r, begin, count, times, target)
                    for i in range(rows):
                        window_products(
                            how.w, count, taps, address(source, i * how.down * laid.columns * channels + begin),
                            how.across * channels, address(offsets, 0),
                            address(dz, ((image * how.h + low + i) * how.w) * channels + begin), channels,
                            address(dw, begin), channels,
                        )  # fmt: skip

    return products


def _slope_w(shapes: convolution.Shapes, times: int, dtype: Any) -> Callable[..., Any]:
    """The gradient by w: of (x, dz as rows, dw); each channel of x is repeated ``times``."""
    if shapes.flops == 0:
        return lambda x, dz, dw: dw.fill(0)
    down, across = map(windows.forward, shapes.axes)
    laid, copied = convolution.laid(shapes.x, 1, down, across)
    copied, channels = copied or times > 1, shapes.y[3]
    laid["share"] = channels
    if copied:
        laid |= {"rows": down.width, "columns": across.width}
    (_, oh, ow, _), (kh, kw, _, _) = shapes.y, shapes.w
    line = laid["columns"] * channels
    at_once = max(1, min(oh, (caches().l2 // 2 // (line * dtype.itemsize) - shapes.reach) // down.step + 1))
    product = {
        "h": oh, "w": ow, "down": down.step, "across": across.step, "reach": shapes.reach, "at_once": at_once,
        "copied": copied,
    }  # fmt: skip
    tall, wide = (axis.dilation for axis in shapes.axes)
    offsets = np.array([(k * tall * laid["columns"] + m * wide) * channels for k in range(kh) for m in range(kw)])
    tables = convolution.table(IMAGES, laid), convolution.table(PRODUCT, product), offsets
    compute = _products.planned(dtype, shapes.flops / 2 / _PER_NS, times, *tables)
    size = copied * ((at_once - 1) * down.step + shapes.reach) * line

    def run(x: Any, dz: Any, dw: Any) -> None:
        compute(x.reshape(-1), dz.reshape(-1), workspace(size, dtype)[:size], dw.reshape(-1))

    return run


# ----------------------------------------------------------------------------------------------------------------- ops


def _shapes(x: Any, w: Any, strides: Any, padding: Any, dilation: Any) -> convolution.Shapes:
    """Of the convolution of as many groups as there are channels."""
    axes = tuple(windows.along(x.shape, w.shape, strides, padding, dilation))
    (kh, kw, c, m), places = w.shape, (axis.places for axis in axes)
    return convolution.Shapes(tuple(x.shape), (kh, kw, 1, c * m), (x.shape[0], *places, c * m), axes, c)


@Planned
def depthwise_conv2d(
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
    """Bias and elementwise activation run on each row of pixels; what needs whole rows of channels follows."""
    shapes, dtype = _shapes(x, w, strides, padding, dilation), x.dtype
    if shapes.flops == 0:
        return convolution.layer(lambda *_: None, shapes.y, activation, out, x, w, b, None)
    lines, fused = map(windows.forward, shapes.axes), convolution.fused(activation, b)
    multiply = _sums_of_windows(dtype, shapes.x, shapes.y, lines, w.shape[3], 1, w.shape[1], fused)
    return convolution.layer(multiply, shapes.y, activation, out, x, w, b, np.zeros(shapes.y[3], dtype))


@Planned
def depthwise_conv2d_backward(
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
    """dz first, then sums of its windows, the products of x's with it, and its sums."""
    shapes, dtype, times = _shapes(x, w, strides, padding, dilation), x.dtype, w.shape[3]
    of_x, of_w = _slope_x(shapes, times, dtype), _slope_w(shapes, times, dtype)
    return convolution.gradients(of_x, of_w, need, activation, (dy, x, w, y, z), dx, dw, db)


def _slope_x(shapes: convolution.Shapes, times: int, dtype: Any) -> Callable[..., Any]:
    """The gradient by x: of (dz as rows, w, dx), the sums of ``times`` channels each."""
    if shapes.flops == 0:
        return lambda dz, w, dx: dx.fill(0)
    lines, no_bias = map(windows.backward, shapes.axes), np.empty(0, dtype)
    multiply = _sums_of_windows(dtype, shapes.y, shapes.x, lines, 1, times, shapes.w[1], None)
    return lambda dz, w, dx: multiply(dz, w, no_bias, dx)
