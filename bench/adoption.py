"""What a small call costs on arrays of NumPy's, PyTorch's and JAX's: microseconds, of which the hand-over is a part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np

from bench.suite import JAX, NOT_INSTALLED, NUMPY, PYTORCH, Gauge, installed
from fastnn import ops

# Calls that a reading is the mean of: some milliseconds.
_CALLS = 1000

# Small operands, so that a call is what it costs to make one: by the op, their shapes.
_OPERANDS: dict[str, tuple[tuple[int, ...], ...]] = {"relu": ((4, 4),), "linear": ((4, 4), (4, 4), (4,))}


def _of_pytorch(array: Any) -> Any:
    import torch

    return torch.from_numpy(array)


def _of_jax(array: Any) -> Any:
    from jax import numpy

    return numpy.asarray(array)


# An array of each library's, made from NumPy's.
_KINDS: dict[str, Callable[[Any], Any]] = {NUMPY: lambda array: array, PYTORCH: _of_pytorch, JAX: _of_jax}


def gauges() -> list[Gauge]:
    """Each op on arrays of each kind."""
    return [
        Gauge(
            f"{op}, {len(shapes)} {kind} {'arrays' if len(shapes) > 1 else 'array'}",
            "us",
            _timed(op, shapes, make),
            skip="" if installed(kind) else NOT_INSTALLED,
        )
        for op, shapes in _OPERANDS.items()
        for kind, make in _KINDS.items()
    ]


def _timed(op: str, shapes: Sequence[tuple[int, ...]], make: Callable[[Any], Any]) -> Callable[[int], Sequence[float]]:
    def read(count: int) -> list[float]:
        rng, call = np.random.default_rng(0), getattr(ops, op)
        operands = [make(rng.random(shape, np.float32)) for shape in shapes]
        call(*operands)
        microseconds = []
        for _ in range(count):
            started = perf_counter()
            for _ in range(_CALLS):
                call(*operands)
            microseconds.append((perf_counter() - started) / _CALLS * 1e6)
        return microseconds

    return read
