"""Instructions of what is done number by number, or row by row by an activation."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from fastnn.kernels.cpu import elementwise, prelu, softmax
from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering, UnfitError, apart, constant
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.graph import Call, Figure, View
from fastnn.kernels.table import NUMBERS

# Activations that look at whole rows.
OF_ROWS = tuple(name for name in ROW_CODES if name not in CODES)


def lower_add(to: Lowering, call: Call) -> None:
    """The sum of two arrays, as an epilogue may have it later."""
    a, b, (y,) = *pair(to, call), call.results
    to.plain(a, b, y)
    apart(y, a, b, same=True)
    plain = elementwise.addends(a, b)
    assert plain is not None
    whole, part = (b, a) if plain.swapped else (a, b)
    work, reads = elementwise.nanoseconds(y.size), {"a": whole, "b": part}
    to.add(Kind.ADD, work, reads=reads, writes={"c": y}, n=y.size, m=plain.period)


def pair(to: Lowering, call: Call) -> tuple[Any, Any]:
    """Both operands in C order: as they are, or where one is stretched as large as the result."""
    a, b = call.given["a"], call.given["b"]
    if not (isinstance(a, View) and isinstance(b, View)):
        raise UnfitError
    if elementwise.addends(a, b) is None:
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = stretched(a, shape), stretched(b, shape)
    return to.in_order(a), to.in_order(b)


def stretched(view: View, shape: tuple[int, ...]) -> View:
    """A view as NumPy broadcasts it to a shape."""
    added = len(shape) - view.ndim
    strides = [0] * added + [
        stride if old == new else 0 for old, new, stride in zip(view.shape, shape[added:], view.strides, strict=True)
    ]
    return replace(view, shape=shape, strides=tuple(strides))


def lower_forward(name: str, to: Lowering, call: Call) -> None:
    """An activation, or a copy in C order."""
    x, (y,) = call.given["x"], call.results
    if name == "identity" and isinstance(x, View) and not x.contiguous and y.contiguous and not y.overlaps(x):
        to.lay_out(x, y)
        return
    x = to.in_order(x)
    to.plain(x, y)
    apart(y, x, same=True)
    if name in OF_ROWS:
        rows(to, name, x, y)
    else:
        numbers = _numbers_of(to, name, call)
        work, code = elementwise.nanoseconds(x.size), CODES[name]
        to.add(Kind.FORWARD, work, reads={"a": x}, writes={"b": y}, code=code, n=x.size, numbers=numbers)


def rows(to: Lowering, name: str, x: View, y: View) -> None:
    """An activation of whole rows."""
    (n, m), work = x.shape, softmax.nanoseconds(x.size)
    to.add(Kind.FORWARD_ROWS, work, reads={"a": x}, writes={"b": y}, code=ROW_CODES[name], n=n, m=m)


def lower_reshape(to: Lowering, call: Call) -> None:
    """The numbers of a view that has to be copied to be of another shape."""
    x, (y,) = call.given["x"], call.results
    to.plain(y)
    apart(y, x)
    to.lay_out(x, y)


def _numbers_of(to: Lowering, name: str, call: Call) -> int:
    """Where an activation's numbers stand."""
    wanted = [call.given.get(option, default) for option, default in NUMBERS[name].items()]
    return to.constants([*map(constant, wanted), 0.0])


def derive(to: Lowering, name: str, dy: View, x: View, y: View, dx: View, numbers: int | None = None) -> None:
    """dx from dy, by an activation's input or output."""
    dy, x, y = (to.in_order(each) for each in (dy, x, y))
    to.plain(dy, dx)
    apart(dx, dy, x, y, same=True)
    if name in OF_ROWS:
        to.plain(y)
        n, m = y.shape
        sizes: dict[str, Any] = {"code": ROW_CODES[name], "n": n, "m": m}
        to.add(Kind.BACKWARD_ROWS, softmax.nanoseconds(y.size), reads={"a": dy, "b": y}, writes={"c": dx}, **sizes)
    else:
        s = x if ACTIVATIONS[name].needs == "x" else y
        to.plain(s)
        at = to.constants([*NUMBERS[name].values(), 0.0]) if numbers is None else numbers
        sizes = {"code": CODES[name], "n": dy.size, "numbers": at}
        to.add(Kind.BACKWARD, elementwise.nanoseconds(dy.size), reads={"a": dy, "b": s}, writes={"c": dx}, **sizes)


def lower_backward(name: str, to: Lowering, call: Call) -> None:
    """An activation's derivative."""
    dy, x, y, (dx,) = call.given["dy"], call.given["x"], call.given["y"], call.results
    derive(to, name, dy, x, y, dx, None if name in OF_ROWS else _numbers_of(to, name, call))


def lower_scaled(code: int, to: Lowering, call: Call) -> None:
    """Numbers times a figure, or divided by it."""
    x, factor, (y,) = to.in_order(call.given["x"]), call.given["factor"], call.results
    to.plain(x, y)
    apart(y, x, same=True)
    if not isinstance(factor, Figure):
        raise UnfitError
    sizes: dict[str, Any] = {"n": x.size, "figure": factor.place, "code": code}
    to.add(
        Kind.SCALE,
        elementwise.nanoseconds(x.size),
        reads={"a": x},
        writes={"b": y},
        takes=[factor.place],
        **sizes,
    )


def lower_zeros(to: Lowering, call: Call) -> None:
    """Nothing but zeros."""
    (y,) = call.results
    to.plain(y)
    zeros, work = to.holding(0.0, y.shape), elementwise.nanoseconds(y.size)
    fields: dict[str, Any] = {"code": CODES["identity"], "n": y.size, "numbers": to.constants([0.0])}
    to.add(Kind.FORWARD, work, reads={"a": zeros}, writes={"b": y}, **fields)


def lower_prelu(to: Lowering, call: Call) -> None:
    """A relu with slopes of its own below zero."""
    x, alpha, (y,) = call.given["x"], call.given["alpha"], call.results
    to.plain(x, alpha, y)
    apart(y, x, same=True)
    apart(y, alpha)
    n, m = prelu.rows_of(x)
    to.add(Kind.PRELU, prelu.nanoseconds(x.size), reads={"a": x, "b": alpha}, writes={"c": y}, n=n, m=m)


def lower_prelu_backward(to: Lowering, call: Call) -> None:
    """Its derivatives by its operand and by its slopes."""
    dy, x, alpha, (dx, dalpha) = (*(call.given[name] for name in ("dy", "x", "alpha")), call.results)
    to.plain(dy, x, alpha, dx, dalpha)
    (n, m), reads, writes = prelu.rows_of(x), {"a": dy, "b": x, "e": alpha}, {"c": dx, "d": dalpha}
    to.add(Kind.PRELU_BACKWARD, prelu.nanoseconds(x.size), reads=reads, writes=writes, n=n, m=m)
