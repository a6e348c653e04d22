"""The errors of the vector functions in units in the last place (ULP), and whether they keep their bounds.

    python -m ci.ulp                         all 2^32 float32 numbers, function by function: minutes
    python -m ci.ulp --sample                all signs and exponents, some mantissas, float32 and float64: seconds
    python -m ci.ulp --functions exp,tanh    some of the functions
    python -m ci.ulp --target haswell        on the AVX2 level (nehalem: without fused multiply-add)

The error of a result y is |y - f(x)| / u, u the distance between the format's numbers around f(x). The oracle is NumPy
in the next wider format; its own error is below 2^-27 ULP of float32 and 2^-10 ULP of float64. NaN in place of a number
or a number in place of NaN, infinity short of overflow, and a zero of the wrong sign count as infinitely far. The exit
status is 1 where a bound is not kept. float64 is not measured where a long double is a double (Windows, macOS on ARM).
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, reduce
from typing import Any

import numpy as np
from numba import from_dtype

from bench import environment
from fastnn import checks, get_num_threads
from fastnn.kernels.cpu import machine
from fastnn.kernels.cpu.simd import elementwise, functions, library

Array = Any

# Numbers compared at once: an array of their float64 is small enough for the allocator to reuse, not give back. And
# bit patterns that a thread takes at once.
_BLOCK = 1 << 13
_SHARE = 1 << 24
# Mantissas of each sign and exponent that a sample takes, besides the corners.
_MANTISSAS = {"float32": 1 << 11, "float64": 1 << 8}


def _sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), for negative x as e^x / (1 + e^x): small results keep their digits."""
    e = np.exp(-abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


@dataclass(frozen=True)
class Function:
    """A function of ``simd.functions``: its oracle and its bounds in ULP by dtype.

    ``least`` names the smallest number that it takes, as ``numpy.finfo`` does; None where it takes them all.
    """

    oracle: Callable[[Array], Array]
    bounds: Mapping[str, float]
    least: str | None = None

    def patterns(self, dtype: str) -> tuple[int, int]:
        """The bit patterns of its arguments: the first, and the one behind the last."""
        if self.least is None:
            return 0, 1 << _bits(dtype)
        info = np.finfo(dtype)
        least, greatest = np.array([getattr(info, self.least), info.max], dtype).view(_unsigned(dtype))
        return int(least), int(greatest) + 1


_BOUNDS = {"float32": 2.0, "float64": 4.0}
FUNCTIONS = {
    "exp": Function(np.exp, _BOUNDS),
    "sigmoid": Function(_sigmoid, _BOUNDS),
    "tanh": Function(np.tanh, _BOUNDS),
    "log": Function(np.log, _BOUNDS, "smallest_normal"),
    "log1p": Function(np.log1p, {"float32": 3.0, "float64": 6.0}, "smallest_subnormal"),
}


@dataclass(frozen=True)
class Tally:
    """What was found among ``numbers`` arguments: the worst error and where, results beyond half an ULP and one."""

    numbers: int = 0
    worst: float = 0.0
    at: float = math.nan
    beyond_half: int = 0
    beyond_one: int = 0

    def __add__(self, other: Tally) -> Tally:
        larger = self if self.worst >= other.worst else other
        return Tally(
            self.numbers + other.numbers,
            larger.worst,
            larger.at,
            self.beyond_half + other.beyond_half,
            self.beyond_one + other.beyond_one,
        )


def _bits(dtype: str) -> int:
    return 8 * np.dtype(dtype).itemsize


def _unsigned(dtype: str) -> np.dtype[Any]:
    return np.dtype(f"u{np.dtype(dtype).itemsize}")


def wider(dtype: str) -> Any:
    """The format of the oracle of a format's functions; None where NumPy has none with more bits."""
    found = np.float64 if dtype == "float32" else np.longdouble
    return found if np.finfo(found).nmant > np.finfo(dtype).nmant else None


def error(got: Array, exact: Array) -> Array:
    """|got - exact| in ULP of ``got``'s format; ``exact`` is in a wider one."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        _, exponent = np.frexp(np.maximum(abs(exact), info.smallest_subnormal))
        unit = np.ldexp(exact.dtype.type(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
        distance = abs(got - exact) / unit
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    wrong_zero = (got == 0) & (rounded == 0) & (np.signbit(got) != np.signbit(rounded))
    return np.where(wrong_zero, np.inf, np.where(np.isfinite(distance), distance, np.where(same, 0.0, np.inf)))


@cache
def vector_function(name: str, dtype: str) -> Callable[[Array], Array]:
    """``simd.functions.<name>`` as a function of contiguous arrays."""
    call = library.function(elementwise.row_of(getattr(functions, name)), from_dtype(np.dtype(dtype)))

    def function(x: Array) -> Array:
        y = np.empty_like(x)
        call(x.size, x.ctypes.data, y.ctypes.data)
        return y

    return function


def tally(name: str, x: Array) -> Tally:
    """The errors of a function at ``x``."""
    with np.errstate(all="ignore"):
        exact = FUNCTIONS[name].oracle(x.astype(wider(x.dtype.name)))
    errors = error(vector_function(name, x.dtype.name)(x), exact)
    worst = errors.argmax()
    beyond = (int(np.count_nonzero(errors > limit)) for limit in (0.5, 1.0))
    return Tally(x.size, float(errors[worst]), float(x[worst]), *beyond)


def every(name: str, dtype: str) -> Iterator[range]:
    """All bit patterns of a function's arguments, in shares."""
    first, last = FUNCTIONS[name].patterns(dtype)
    for start in range(first, last, _SHARE):
        yield range(start, min(start + _SHARE, last))


def sample(name: str, dtype: str) -> Array:
    """Arguments of all signs and exponents: corners (zero, infinity, NaN, ends of the denormals), spread mantissas."""
    unsigned, mantissa = _unsigned(dtype), np.finfo(dtype).nmant
    exponents = np.arange(1 << (_bits(dtype) - mantissa), dtype=unsigned)[:, np.newaxis] << mantissa
    corners = np.array([0, 1, 2, (1 << mantissa) - 2, (1 << mantissa) - 1], unsigned)
    count = _MANTISSAS[dtype]
    # multiples of the golden section are spread evenly, and differ from one exponent to the next
    spread = np.arange(exponents.size * count, dtype=np.float64) * ((math.sqrt(5) - 1) / 2) % 1 * (1 << mantissa)
    patterns = np.concatenate([(exponents | corners).ravel(), spread.astype(unsigned) | exponents.repeat(count)])
    first, last = FUNCTIONS[name].patterns(dtype)
    return patterns[(patterns >= first) & (patterns <= last - 1)].view(dtype)


def tally_every(name: str, dtype: str, threads: int) -> Tally:
    """The errors of a function at all its arguments."""

    def share(patterns: range) -> Tally:
        blocks = (np.arange(b, min(b + _BLOCK, patterns.stop), dtype=_unsigned(dtype)) for b in patterns[::_BLOCK])
        return total(tally(name, block.view(dtype)) for block in blocks)

    vector_function(name, dtype)
    with ThreadPoolExecutor(threads) as pool:
        return total(pool.map(share, every(name, dtype)))


def total(tallies: Iterable[Tally]) -> Tally:
    """What was found in all parts."""
    return reduce(Tally.__add__, tallies, Tally())


def _names(text: str) -> tuple[str, ...]:
    try:
        return tuple(checks.one_of("--functions", name, FUNCTIONS) for name in text.split(","))
    except ValueError as error_:
        raise argparse.ArgumentTypeError(str(error_).partition(": ")[2]) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what the arguments ask for and print a line each; 1 where a bound is not kept."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sample", action="store_true", help="a stratified sample, float32 and float64, in seconds")
    parser.add_argument("--functions", type=_names, default=tuple(FUNCTIONS), metavar="NAME[,NAME...]", help="of all")
    parser.add_argument("--target", choices=environment.TARGETS, default="host", help="as in fastnn bench")
    options = parser.parse_args(arguments)
    if environment.prepared(options.target) != dict(os.environ):
        return environment.run_prepared("ci.ulp", sys.argv[1:] if arguments is None else arguments, options.target)

    print(machine.describe())
    print(f"{'':18}{'numbers':>14}{'worst ULP':>11}{'at':>15}{'> 1/2 ULP':>14}{'> 1 ULP':>14}{'bound':>7}")
    kept = True
    for name in options.functions:
        for dtype, bound in FUNCTIONS[name].bounds.items():
            if wider(dtype) is None:
                print(f"{name:10}{dtype:8} not measured: a long double has no more bits here")
                continue
            if options.sample:
                found = tally(name, sample(name, dtype))
            elif dtype == "float32":
                found = tally_every(name, dtype, get_num_threads())
            else:
                continue
            kept &= found.worst <= bound
            counts = f"{found.beyond_half:14,}{found.beyond_one:14,}"
            line = f"{name:10}{dtype:8}{found.numbers:14,}{found.worst:11.4f}{found.at:15.7g}{counts}{bound:7g}"
            print(line, "" if found.worst <= bound else "NOT KEPT", flush=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
