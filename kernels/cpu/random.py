"""Random numbers: they come from counters, so a row needs nothing but its own number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import types

from fastnn.kernels.cpu._arrays import finish, placing
from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.jit import kernel, matrix
from fastnn.kernels.cpu.simd.kernel import address
from fastnn.kernels.cpu.simd.random import DISTRIBUTIONS, random_row
from fastnn.kernels.planned import Planned
from fastnn.kernels.table.random import NUMBERS
from fastnn.kernels.table.row import implements

CODES = {name: code for code, name in enumerate(DISTRIBUTIONS)}

# Nanoseconds a number on one core, roughly.
_NS_PER_NUMBER = {"random_uniform": 0.4, "random_normal": 2.0}


def nanoseconds(name: str, size: int) -> float:
    """One core's work for so many numbers."""
    return size * _NS_PER_NUMBER[name]


@compiled_in
def random_share(t, tasks, n, c, code, seed, stream, step, low, scale, y):
    """What task t has of n rows of c numbers: rows."""
    for i in range(t * n // tasks, (t + 1) * n // tasks):
        random_row(code, seed, stream, step, i, c, low, scale, address(y, i * c))


def _signature(dtype: Any) -> Any:
    size = types.int64
    return types.void(size, dtype, dtype, size, size, size, matrix(dtype))


@kernel(_signature)
def _random(MR: int, NR: int) -> Any:
    def random(code, low, scale, seed, step, stream, y, words, t, tasks):
        n, c = y.shape
        random_share(t, tasks, n, c, code, seed, stream, step, low, scale, address(y, 0))

    return random


def _op(name: str) -> Planned:
    """One row after the other."""

    def plan(
        like: Any, seed: int, step: int = 0, stream: int = 0, *numbers: float, out: Any = None
    ) -> Callable[..., Any]:
        place = placing(out, like.shape, like.dtype, elementwise=True)
        leading = CODES[name], *map(like.dtype.type, NUMBERS[name](*numbers))
        compute = _random.planned(like.dtype, nanoseconds(name, like.size), *leading)

        def run(like: Any, seed: int, step: int = 0, stream: int = 0, *numbers: float, out: Any = None) -> Any:
            y = place(out)
            compute(seed, step, stream, y)
            return finish(y, out)

        return run

    return Planned(implements(name, plan))


random_uniform, random_normal = _op("random_uniform"), _op("random_normal")
