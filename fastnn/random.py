"""Random arrays under Keras's names: numbers that follow from a seed alone, the same on every backend.

``seed`` is an integer, which gives the same numbers in every call, a ``SeedGenerator``, which gives others each time,
or None: then one is drawn from the library's generator (``utils.set_random_seed``). Words are those of Philox, as
``ops.random_uniform`` and ``ops.random_normal`` have them, with equal seeds on every backend; arrays are made where the
current backend's live, of float32 where no dtype is said.

In a program the numbers would be those of its recording in every call, so they are refused there: what draws in a
program is ``ops.random_uniform``, ``ops.random_normal`` or ``ops.dropout``, whose ``step`` may be an argument. Training
runs a layer that draws by this module op by op.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import absent, backends, checks, ops
from fastnn.engine import seeds
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.random import DRAWN
from fastnn.numerics import operand
from fastnn.tape import constant

Array = Any

# What all words of a call follow from: a seed, and which of its calls it is.
_Source = tuple[int, int]

# Streams of a truncated distribution: where a number lies beyond, the next stream's is taken; of 2^-36 all do.
_ROUNDS, _CUT = 8, 2.0
# Bits of a uniform number, and so the most whole numbers to choose from: two words' 24 each.
_BITS = 24
_MOST = 1 << (2 * _BITS)


class SeedGenerator:
    """A seed that gives other numbers in every call of this module's functions; the same row of them each time.

    ``seed``: an integer, or None: drawn from the library's generator.
    """

    def __init__(self, seed: int | None = None, name: str | None = None) -> None:
        self.initial_seed = seeds.draw_seed() if seed is None else checks.option("seed", seed, DRAWN["seed"])
        self.name = name
        self._calls = 0

    def next(self) -> _Source:
        """What the next call draws from: the seed, and how many have drawn before."""
        self._calls += 1
        return self.initial_seed, self._calls - 1

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"seed": self.initial_seed, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> SeedGenerator:
        """A generator that begins anew."""
        return cls(**config)


_Seed = int | SeedGenerator | None


def normal(
    shape: Sequence[int] | int, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: _Seed = None
) -> Array:
    """Numbers of a normal distribution."""
    numbers = _option("random_normal", mean=mean, stddev=stddev)
    return _drawn("random_normal", shape, dtype, _source(seed), numbers)


def uniform(
    shape: Sequence[int] | int, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None, seed: _Seed = None
) -> Array:
    """Numbers spread evenly over [minval, maxval), of 24 random bits each."""
    numbers = _option("random_uniform", minval=minval, maxval=maxval)
    if numbers[1] < numbers[0]:
        raise ValueError(f"maxval: got {maxval}, wants no less than minval, {minval}")
    return _drawn("random_uniform", shape, dtype, _source(seed), numbers)


def truncated_normal(
    shape: Sequence[int] | int, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None, seed: _Seed = None
) -> Array:
    """Numbers of a normal distribution; beyond two standard deviations others are drawn in their place."""
    middle, deviation = _option("random_normal", mean=mean, stddev=stddev)
    source = _source(seed)
    y = _drawn("random_normal", shape, dtype, source, (0.0, 1.0))
    for stream in range(1, _ROUNDS):
        beyond = abs(y) > _CUT
        if isinstance(y, np.ndarray) and not beyond.any():
            break
        y = np.where(beyond, _drawn("random_normal", shape, dtype, source, (0.0, 1.0), stream), y)
    return y.clip(-_CUT, _CUT) * y.dtype.type(deviation) + y.dtype.type(middle)


def randint(
    shape: Sequence[int] | int, minval: int, maxval: int, dtype: Any = "int32", seed: _Seed = None
) -> Array:  # fmt: skip
    """Whole numbers in [minval, maxval), all as likely; at most 2^48 to choose from."""
    kind = np.dtype(dtype)
    if kind.kind not in "iu":
        raise ValueError(f"dtype: got {kind}, wants integers")
    info = np.iinfo(kind)
    low = checks.integer("minval", minval, int(info.min), int(info.max))
    high = checks.integer("maxval", maxval, low + 1, min(int(info.max) + 1, low + _MOST))
    return (np.floor(_fine(shape, _source(seed)) * (high - low)).astype("int64") + low).astype(kind)


def categorical(logits: Any, num_samples: int, dtype: Any = "int32", seed: _Seed = None) -> Array:
    """Classes (n, num_samples), as likely as the softmax of a row of logits (n, classes) says; of its value."""
    given, count = operand("logits", logits), checks.integer("num_samples", num_samples, 0)
    given = getattr(given, "value", given)
    if not hasattr(given, "ndim") or given.ndim != 2 or not given.shape[1]:
        raise ValueError(f"logits: got {checks.describe(logits)}, wants rows of logits (n, classes)")
    if np.dtype(dtype).kind not in "iu":
        raise ValueError(f"dtype: got {np.dtype(dtype)}, wants integers")
    source, bounds = _source(seed), np.cumsum(ops.softmax(given.astype("float64")), axis=1)
    places = _fine((given.shape[0], count), source, given) * bounds[:, -1:]
    return np.sum(bounds[:, None, :-1] <= places[:, :, None], axis=2).astype(dtype)


def shuffle(x: Any, axis: int = 0, seed: _Seed = None) -> Array:
    """x in another order along an axis, a new array; a gradient goes back to where a number came from."""
    given = operand("x", x)
    if not getattr(given, "ndim", 0):
        raise TypeError(f"x: got {checks.describe(x)}, wants an array of at least one dimension")
    at = checks.integer("axis", axis, -given.ndim, given.ndim - 1)
    order = np.argsort(_fine((given.shape[at],), _source(seed), given), kind="stable")
    return ops.take(given, order, at)


def dropout(inputs: Any, rate: float, noise_shape: Sequence[int | None] | None = None, seed: _Seed = None) -> Array:
    """``inputs`` with a share ``rate`` of them set to 0 and the others divided by 1 - rate, as ``layers.Dropout`` does.

    ``noise_shape``, where it is given, is that of the mask, None for the size that inputs have: 1 where numbers along
    an axis are dropped together.
    """
    given, share = operand("inputs", inputs), checks.option("rate", rate, TABLE["dropout"].options["rate"])
    if not hasattr(given, "shape"):
        raise TypeError(f"inputs: got {checks.describe(inputs)}, wants an array")
    shape = tuple(given.shape)
    wanted = shape if noise_shape is None else _stretching(noise_shape, shape)
    seed_, step = _source(seed)
    if wanted == shape:
        return ops.dropout(given.reshape(_rows(shape)), share, seed_, step).reshape(shape)
    ones = constant(1.0, given, _rows(wanted))
    return ops.multiply(given, ops.dropout(ones, share, seed_, step).reshape(wanted))


def _stretching(noise_shape: Any, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The sizes of a mask, each 1 or that of what it is for."""
    checks.instance("noise_shape", noise_shape, (list, tuple), "a list or tuple of sizes, or None")
    sizes = tuple(shape[place] if size is None else size for place, size in enumerate(noise_shape[: len(shape)]))
    fits = len(noise_shape) == len(shape) and all(size in (1, own) for size, own in zip(sizes, shape, strict=True))
    if not fits:
        raise ValueError(f"noise_shape: got {noise_shape}, wants one that stretches to the inputs' shape {shape}")
    return sizes


def _source(seed: Any) -> _Source:
    """The seed and the call that words follow from; TypeError in a program, which would have them always."""
    if backends.recorder() is not None:
        wants = "ops.random_uniform, ops.random_normal or ops.dropout with a step that is an argument of the program"
        raise TypeError(
            f"seed: got {checks.describe(seed)} in a program, which would draw the same again; wants {wants}"
        )
    if isinstance(seed, SeedGenerator):
        return seed.next()
    if seed is not None and not isinstance(seed, (int, np.integer)):
        raise TypeError(f"seed: got {checks.describe(seed)}, wants an integer, a SeedGenerator or None")
    return (seeds.draw_seed() if seed is None else checks.option("seed", seed, DRAWN["seed"])), 0


def _option(op: str, **numbers: float) -> tuple[float, ...]:
    """The options of an op that tell how its numbers lie, checked."""
    return tuple(checks.option(name, number, TABLE[op].options[name]) for name, number in numbers.items())


def _sizes(shape: Any) -> tuple[int, ...]:
    given = shape if isinstance(shape, (list, tuple)) else [shape]
    return tuple(checks.integer(f"shape[{place}]", size, 0) for place, size in enumerate(given))


def _rows(shape: Sequence[int]) -> tuple[int, int]:
    """The rows in which an array is drawn: its own first axis, one of a vector or a number."""
    return (shape[0], math.prod(shape[1:])) if len(shape) > 1 else (1, math.prod(shape))


def _drawn(
    op: str, shape: Any, dtype: Any, source: _Source, numbers: Sequence[float], stream: int = 0, beside: Any = None
) -> Array:
    """What an op draws, in a shape: where the array ``beside`` lives, else where the current backend's do."""
    sizes, kind = _sizes(shape), checks.float_dtype("dtype", dtype) or "float32"
    on_device = backends.current() == "cuda" if beside is None else checks.is_on_device(beside)
    like = backends.arrays_of("cuda" if on_device else "cpu").empty(_rows(sizes), kind)
    return getattr(ops, op)(like, *source, stream, *numbers).reshape(sizes)


def _fine(shape: Any, source: _Source, beside: Any = None) -> Array:
    """Numbers of [0, 1) in float64, of 48 random bits."""
    high, low = (_drawn("random_uniform", shape, "float64", source, (0.0, 1.0), each, beside) for each in (0, 1))
    return high + low * 2.0**-_BITS


__all__ = [
    "SeedGenerator",
    "categorical",
    "dropout",
    "normal",
    "randint",
    "shuffle",
    "truncated_normal",
    "uniform",
]
absent.explain(__name__)
