"""The errors of the vector functions and activations in units in the last place (ULP), and whether they keep bounds.

    python -m ci.ulp                         all 2^32 float32 numbers, function by function: minutes
    python -m ci.ulp --sample                all signs and exponents, some mantissas, float32 and float64: seconds
    python -m ci.ulp --functions exp,tanh    some of the functions
    python -m ci.ulp --target haswell        on the AVX2 level (nehalem: without fused multiply-add)

The error of a result y is |y - f(x)| / u, u the distance between the format's numbers around f(x); where y is f(x)
rounded right, 1/2 stands for it. The oracle is NumPy in the next wider format; its own error is below 2^-20 ULP of
float32 and 2^-6 ULP of float64. Infinity in place of a number counts as the power of 2 behind the largest one; NaN in
place of a number, a number in place of NaN or infinity and a zero of the wrong sign count as infinitely far. The exit
status is 1 where a bound is not kept. float64 is not measured where a long double is a double (Windows, macOS on ARM),
the normal distribution of float32 not without SciPy. Activations have their default numbers.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, reduce
from typing import Any

import numpy as np
from numba import from_dtype

from bench import environment
from fastnn import checks, get_num_threads
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import elementwise, functions, library
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.table import NUMBERS

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


def _density(x: Array) -> Array:
    wide = x.dtype.type
    return np.exp(-x * x / 2) / np.sqrt(wide(8) * np.arctan(wide(1)))


def _normal(x: Array) -> Array:
    """The share of the standard normal distribution below x: SciPy's, in a long double its series and its fraction."""
    if x.dtype == np.float64:
        from scipy.special import ndtr

        return ndtr(x)
    t = np.minimum(abs(x), 160)  # far enough for 0 in a long double
    bell = np.exp(-t * t / 2) / np.sqrt(8 * np.arctan(np.ones_like(t)))
    near, middle = t < 2, (t >= 2) & (t < 160)
    tail = np.where(np.isnan(t), t, 0)
    tail[near] = 0.5 - bell[near] * _series(t[near])
    tail[middle] = bell[middle] / _fraction(t[middle])
    return np.where(x > 0, 1 - tail, tail)


def _series(t: Array) -> Array:
    """t + t^3 / 3 + t^5 / 15 + ...: how far the distribution is from 1/2, by its density."""
    term = total = t
    for k in range(1, 60):
        term = term * t * t / (2 * k + 1)
        total = total + term
    return total


def _fraction(t: Array) -> Array:
    """t + 1 / (t + 2 / (t + ...)): the density by the distribution's tail."""
    fraction = t
    for k in range(400, 0, -1):
        fraction = t + k / fraction
    return fraction


def _erf(x: Array) -> Array:
    """By its series near 0, else by the normal distribution."""
    near = np.clip(x, -1, 1)
    term = total_ = np.ones_like(x)
    for k in range(1, 40):
        term = term * -near * near / k
        total_ = total_ + term / (2 * k + 1)
    root = np.sqrt(np.arctan(np.ones_like(x)))
    return np.where(abs(x) < 1, near * total_ / root, 2 * _normal(np.sqrt(x.dtype.type(2)) * x) - 1)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-abs(x)))


def _gated(gate: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """x times ``gate(x)``, which goes to 0 faster than x to minus infinity."""

    def gated(x: Array) -> Array:
        opened = gate(x)
        return np.where(opened == 0, -0.0, x * opened)

    return gated


def _elu(x: Array) -> Array:
    return np.where(x > 0, x, np.expm1(np.where(x > 0, 0, x)))


def _selu(x: Array) -> Array:
    """As Klambauer et al. (2017) derive its numbers."""
    alpha, scale = (x.dtype.type(number) for number in ("1.6732632423543772848", "1.0507009873554804934"))
    return scale * np.where(x > 0, x, alpha * _elu(x))


def _gelu_gate(x: Array) -> Array:
    """By its approximation: sigmoid(2 u) with u = sqrt(2 / pi) (x + 0.044715 x^3)."""
    wide = x.dtype.type
    return _sigmoid(np.sqrt(wide(2) / np.arctan(wide(1))) * x * (1 + wide("0.044715") * x * x))


def _softsign(x: Array) -> Array:
    return np.where(np.isinf(x), np.sign(x), x / (1 + abs(x)))


def _chosen(choose: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """What ``choose`` makes of numbers; NaN stays."""
    return lambda x: np.where(np.isnan(x), x, choose(x))


@dataclass(frozen=True)
class Function:
    """A function of ``simd.functions``, or an activation: its oracle and its bounds in ULP by dtype.

    ``least`` names the smallest number that it takes, as ``numpy.finfo`` does; None where it takes them all.
    ``denormals``: by dtype, how many of the smallest denormals a result may be off beside.
    """

    oracle: Callable[[Array], Array]
    bounds: Mapping[str, float]
    least: str | None = None
    denormals: Mapping[str, int] = field(default_factory=dict)

    def patterns(self, dtype: str) -> tuple[int, int]:
        """The bit patterns of its arguments: the first, and the one behind the last."""
        if self.least is None:
            return 0, 1 << _bits(dtype)
        info = np.finfo(dtype)
        least, greatest = np.array([getattr(info, self.least), info.max], dtype).view(_unsigned(dtype))
        return int(least), int(greatest) + 1

    def obstacle(self, dtype: str) -> str:
        """Why there is no oracle here; "" where there is."""
        if wider(dtype) is None:
            return "a long double has no more bits here"
        normal = self.oracle in (_normal, _erf, FUNCTIONS["gelu"].oracle) and dtype == "float32"
        return "SciPy is not installed" if normal and importlib.util.find_spec("scipy") is None else ""


def _bounds(float32: float, float64: float) -> Mapping[str, float]:
    return {"float32": float32, "float64": float64}


# Of what only chooses, of one rounding, and of what is to be as good as most.
_EXACT, _ROUNDED, _BOUNDS = _bounds(0.0, 0.0), _bounds(0.5, 0.5), _bounds(2.0, 4.0)
# Where x times a gate is no longer 0, though the gate is a denormal, |x| is at most so large.
_EXPONENTIAL_GATE, _NORMAL_GATE, _CUBIC_GATE = (
    {"float32": float32, "float64": float64} for float32, float64 in ((104, 746), (15, 39), (11, 22))
)
FUNCTIONS = {
    "exp": Function(np.exp, _BOUNDS),
    "expm1": Function(np.expm1, _BOUNDS),
    "sigmoid": Function(_sigmoid, _BOUNDS),
    "tanh": Function(np.tanh, _BOUNDS),
    # the exponential's, and the roundings of two products
    "normal_density": Function(_density, _bounds(3.0, 4.0)),
    # a product of three factors of some roundings each
    "normal_cdf": Function(_normal, _bounds(6.0, 5.0)),
    "log": Function(np.log, _BOUNDS, "smallest_normal"),
    "log1p": Function(np.log1p, _bounds(3.0, 6.0)),
    "erf": Function(_erf, _bounds(3.0, 4.0)),
    "sin": Function(np.sin, _BOUNDS),
    "cos": Function(np.cos, _BOUNDS),
    # a root and a quotient
    "rsqrt": Function(_chosen(lambda x: 1 / np.sqrt(x)), _BOUNDS),
    "square": Function(np.square, _ROUNDED),
    "sqrt": Function(_chosen(np.sqrt), _ROUNDED),
    "absolute": Function(np.abs, _EXACT),
    "identity": Function(np.positive, _EXACT),
    "relu": Function(_chosen(lambda x: np.where(x >= 0, x, 0)), _EXACT),
    "relu6": Function(_chosen(lambda x: np.where(x >= 0, np.minimum(x, 6), 0)), _EXACT),
    "bounded_relu": Function(_chosen(lambda x: np.where(x >= 0, x, 0)), _EXACT),
    "leaky_relu": Function(lambda x: np.where(x > 0, x, x / 5), _BOUNDS),
    "elu": Function(_elu, _BOUNDS),
    "celu": Function(_elu, _BOUNDS),
    "selu": Function(_selu, _BOUNDS),
    "hard_sigmoid": Function(_chosen(lambda x: np.clip(x + 3, 0, 6) / 6), _BOUNDS),
    # the errors of log1p, and a sum
    "log_sigmoid": Function(lambda x: -_softplus(-x), _bounds(4.0, 6.0)),
    "softplus": Function(_softplus, _bounds(4.0, 6.0)),
    "hard_tanh": Function(_chosen(lambda x: np.clip(x, -1, 1)), _EXACT),
    "softsign": Function(_softsign, _BOUNDS),
    # the sigmoid's, and the product's
    "silu": Function(_gated(_sigmoid), _bounds(3.0, 4.0), denormals=_EXPONENTIAL_GATE),
    "hard_silu": Function(_gated(_chosen(lambda x: np.clip(x + 3, 0, 6) / 6)), _BOUNDS),
    "gelu": Function(_gated(_normal), _bounds(6.0, 5.0), denormals=_NORMAL_GATE),
    # an ULP of the cubic is up to its size in ULP of the result
    "gelu_tanh": Function(_gated(_gelu_gate), _bounds(300.0, 2000.0), denormals=_CUBIC_GATE),
    # five roundings, and that of e^x
    "mish": Function(_gated(lambda x: np.tanh(_softplus(x))), _bounds(5.0, 5.0), denormals=_EXPONENTIAL_GATE),
    "exponential": Function(np.exp, _BOUNDS),
    "threshold": Function(_chosen(lambda x: np.where(x > 0, x, 0)), _EXACT),
    "soft_shrink": Function(_chosen(lambda x: np.where(abs(x) > 0.5, x - np.copysign(0.5, x), 0)), _ROUNDED),
    "hard_shrink": Function(_chosen(lambda x: np.where(abs(x) > 0.5, x, 0)), _EXACT),
    "binary_step": Function(_chosen(lambda x: np.where(x >= 0, 1, 0)), _EXACT),
    "sign": Function(lambda x: np.where(x == 0, x, np.sign(x)), _EXACT),
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


def error(got: Array, exact: Array, denormals: int = 0) -> Array:
    """|got - exact| in ULP of ``got``'s format, so many of its smallest denormals less; ``exact`` is in a wider one."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        rounded = exact.astype(got.dtype)
        _, exponent = np.frexp(np.maximum(abs(exact), info.smallest_subnormal))
        unit = np.ldexp(exact.dtype.type(1), np.maximum(exponent - 1, info.minexp) - info.nmant)
        behind = np.ldexp(exact.dtype.type(1), info.maxexp)
        value = np.where(np.isinf(got), np.copysign(behind, got), got)
        counted = abs(value - exact) - denormals * info.smallest_subnormal.astype(exact.dtype)
        distance = np.maximum(counted, 0) / unit
    same = (np.isinf(got) & (got == rounded)) | (np.isnan(got) & np.isnan(rounded))
    wrong_zero = (got == 0) & (rounded == 0) & (np.signbit(got) != np.signbit(rounded))
    return np.where(same, 0.0, np.where(wrong_zero | ~np.isfinite(distance), np.inf, distance))


@cache
def vector_function(name: str, dtype: str) -> Callable[[Array], Array]:
    """A function of ``FUNCTIONS`` as one of contiguous arrays."""
    formula = _activation(name) if name in ACTIVATIONS else getattr(functions, name)
    call = library.function(elementwise.row_of(formula), from_dtype(np.dtype(dtype)))

    def function(x: Array) -> Array:
        y = np.empty_like(x)
        call(x.size, x.ctypes.data, y.ctypes.data)
        return y

    return function


def _activation(name: str) -> Callable[[Any, Any], Any]:
    """An activation's formula with its default numbers."""

    def formula(v: Any, x: Any) -> Any:
        return ACTIVATIONS[name].forward(v, x, *map(v.constant, NUMBERS[name].values()))

    formula.__name__ = name
    return formula


def tally(name: str, x: Array) -> Tally:
    """The errors of a function at ``x``: of a result that is rounded right 1/2, or 0 where nothing is rounded away."""
    function, dtype = FUNCTIONS[name], x.dtype.name
    got = vector_function(name, dtype)(x)
    with np.errstate(all="ignore"):
        exact = function.oracle(x.astype(wider(dtype)))
        rounded = exact.astype(dtype)
        # most are right, and of those that are not the errors are dear
        wrong = np.flatnonzero((_patterns(got) != _patterns(rounded)) & ~(np.isnan(got) & np.isnan(rounded)))
        inexact = bool(np.any((rounded != exact) & ~np.isnan(exact)))
    errors = error(got[wrong], exact[wrong], function.denormals.get(dtype, 0))
    beyond = (int(np.count_nonzero(errors > limit)) for limit in (0.5, 1.0))
    worst = errors.argmax() if wrong.size and errors.max() > 0.5 * inexact else None
    found = (0.5 * inexact, math.nan) if worst is None else (float(errors[worst]), float(x[wrong[worst]]))
    return Tally(x.size, *found, *beyond)


def _patterns(x: Array) -> Array:
    return x.view(_unsigned(x.dtype.name))


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
    print(f"{'':23}{'numbers':>14}{'worst ULP':>11}{'at':>15}{'> 1/2 ULP':>14}{'> 1 ULP':>14}{'bound':>7}")
    kept = True
    for name in options.functions:
        for dtype, bound in FUNCTIONS[name].bounds.items():
            if obstacle := FUNCTIONS[name].obstacle(dtype):
                print(f"{name:15}{dtype:8} not measured: {obstacle}")
                continue
            if options.sample:
                found = tally(name, sample(name, dtype))
            elif dtype == "float32":
                found = tally_every(name, dtype, get_num_threads())
            else:
                continue
            kept &= found.worst <= bound
            counts = f"{found.beyond_half:14,}{found.beyond_one:14,}"
            line = f"{name:15}{dtype:8}{found.numbers:14,}{found.worst:11.4f}{found.at:15.7g}{counts}{bound:7g}"
            print(line, "" if found.worst <= bound else "NOT KEPT", flush=True)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
