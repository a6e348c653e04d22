"""Random operands on the device: drawn small, as the table says, and repeated there to their size."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bench.kernels import DTYPE, SEED, asked
from fastnn.kernels.cases import draw
from fastnn.kernels.table import Op, Sizes, shape_of

# Numbers of an operand that are drawn, at most; a prime, so that rows of matrices differ.
_SIDE = 1021
_DRAWN = _SIDE * _SIDE

ITEM = np.dtype(DTYPE).itemsize

# An operand is in memory, not in L2, if all sets together are so much larger.
_BEYOND = 4
_MOST_SETS = 16


def random_array(cupy: Any, shape: tuple[int, ...]) -> Any:
    """Normal float32 numbers."""
    numbers = np.random.default_rng(SEED).standard_normal(min(_DRAWN, math.prod(shape)), np.float32)
    return repeated(cupy, numbers, shape)


def repeated(cupy: Any, numbers: Any, shape: tuple[int, ...]) -> Any:
    """A device array of a shape filled with an array's numbers over and over."""
    made = cupy.empty(shape, numbers.dtype)
    if made.size:
        flat, known = made.reshape(-1), min(numbers.size, made.size)
        flat[:known] = cupy.asarray(numbers.reshape(-1)[:known])
        while known < made.size:
            more = min(known, made.size - known)
            flat[known : known + more] = flat[:more]
            known += more
    return made


def smaller(op: Op, sizes: Sizes) -> dict[str, Any]:
    """Sizes of what is drawn: whole rows, and of products as much as tells."""
    if op.flops is not None:
        return {name: size if name in op.options else min(size, _SIDE) for name, size in sizes.items()}
    small = dict(sizes)
    first = growing(op, sizes)
    most = max(op.elements(spec, sizes) for spec in (*op.operands.values(), *op.returns))
    share = max(1, most // _DRAWN)
    small[first] = _divided(sizes[first], share)
    return small


def touched(op: Op) -> list[str]:
    """The shapes of what an op reads or writes as a whole."""
    return [*(spec for name, spec in op.operands.items() if name not in (*op.sampled, *op.unread)), *op.returns]


def growing(op: Op, sizes: Sizes) -> str:
    """The size by which an op's work grows: the first of the largest array that it touches."""
    return max(touched(op), key=lambda spec: op.elements(spec, sizes)).split()[0]


def _divided(size: Any, share: int) -> Any:
    if isinstance(size, tuple):
        return (max(1, size[0] // share), *size[1:]) if size else size
    return max(1, size // share)


def grown(op: Op, sizes: Sizes, numbers: int) -> dict[str, Any]:
    """Sizes at which the largest of what is touched has at least so many numbers."""
    most = max(op.elements(spec, sizes) for spec in touched(op))
    first, factor = growing(op, sizes), max(1, -(-numbers // most))
    size = sizes[first]
    return {**sizes, first: (size[0] * factor, *size[1:]) if isinstance(size, tuple) else size * factor}


def drawn(cupy: Any, op: Op, sizes: Sizes) -> dict[str, Any]:
    """Arguments of one call on the device, with an output where the op takes one."""
    given = draw(op, smaller(op, sizes), asked(op), DTYPE, np.random.default_rng(SEED))
    sizes = op.whole(sizes, asked(op))
    made = {
        name: repeated(cupy, value, shape_of(op.operands[name], sizes)) if isinstance(value, np.ndarray) else value
        for name, value in given.items()
        if value is not None
    }
    if "out" in op.signature.parameters:
        made["out"] = cupy.empty(shape_of(op.returns[-1], sizes), DTYPE)
    return made


def sets(cupy: Any, op: Op, sizes: Sizes, l2: int, room: int) -> list[dict[str, Any]]:
    """Arguments of calls that do not find their operands in L2, unless one call's fit there many times."""
    size = max(1, op.bytes(sizes, ITEM))
    first = drawn(cupy, op, sizes)
    if size < l2 / _BEYOND:
        return [first]
    wanted = 1 + math.ceil(_BEYOND * l2 / size)
    count = max(1, min(_MOST_SETS, wanted, room // size))
    return [first, *(copied(cupy, first) for _ in range(count - 1))]


def copied(cupy: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """The same arguments with arrays of their own."""

    def copy(value: Any) -> Any:
        made = cupy.empty(value.shape, value.dtype)
        made[...] = value
        return made

    return {name: copy(value) if hasattr(value, "__cuda_array_interface__") else value for name, value in given.items()}


def passed(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the arguments that a function takes."""
    taken = inspect.signature(function).parameters
    return {name: value for name, value in given.items() if name in taken}
