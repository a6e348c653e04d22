"""Normal numbers from two words, once for every backend but the loops (Box and Muller 1958)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic

# Of the series of sin(pi t) / t and cos(pi t) in t^2, for |t| <= 1/2: what is left out is below 2^-55.
_TERMS = 11
_SINE = [(-1) ** k * math.pi ** (2 * k + 1) / math.factorial(2 * k + 1) for k in range(_TERMS)]
_COSINE = [(-1) ** k * math.pi ** (2 * k) / math.factorial(2 * k) for k in range(_TERMS)]


def _series(v: Arithmetic, terms: Sequence[float], x: Any) -> Any:
    """The first term and so many times x as each other one says, from the last on."""
    *others, y = map(v.constant, terms)
    for term in reversed(others):
        y = v.fma(y, x, term)
    return y


def normal_pair(v: Arithmetic, below: Any, above: Any, turn: Any) -> tuple[Any, Any]:
    """sqrt(-2 log u) times the cosine and the sine of a turn in [-1/2, 1/2), for u = below / (below + above).

    -log u = log(1 + above / below), which keeps its digits where u is near 1. Twice half the angle is the angle: then
    the series are over a quarter turn to either side, cos 2a = 1 - 2 sin^2 a and sin 2a = 2 sin a cos a.
    """
    one, twice = v.constant(1.0), v.constant(2.0)
    radius = v.sqrt(v.mul(twice, v.log1p(v.div(above, below))))
    square = v.mul(turn, turn)
    sine, cosine = v.mul(turn, _series(v, _SINE, square)), _series(v, _COSINE, square)
    double = v.mul(twice, sine)
    return v.mul(radius, v.sub(one, v.mul(double, sine))), v.mul(radius, v.mul(double, cosine))
