"""Sums, activations and other functions: number by number.

An activation has two rows, of the function and of its derivative, entered by a line each in the list below. Its formula
is that of ``formulas.activations``, where ``numbers`` are named; their defaults and bounds are the public ones.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

from fastnn.kernels.formulas import activations as formulas
from fastnn.kernels.table.row import ELEMENTWISE_BENCH, TABLE, Op, Option, Real, op, shapes

# Sizes around vector lengths, zero, one, a prime.
_CASES = shapes((), (0,), (1,), (17,), (3, 5), (1021,))


_PAIR: dict[str, Any] = {
    "cases": ({"*": ()}, {"*": (0,)}, {"*": (17,)}, {"*": (3, 5)}, {"*": (2, 3, 7)}, {"*": (1021,)}),
    "bench": ({"*": (10_000,)}, {"*": (10_000_000,)}),
}


@op("elementwise", a="*", b="*", returns=("*",), cases=_PAIR["cases"], bench=({"*": (10_000_000,)},))
def add(a, b, *, out=None):
    """Elementwise sum y = a + b; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **_PAIR)
def subtract(a, b, *, out=None):
    """Elementwise difference y = a - b; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **_PAIR)
def multiply(a, b, *, out=None):
    """Elementwise product y = a * b; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **{**_PAIR, "draw": {"b": "positive"}})
def divide(a, b, *, out=None):
    """Elementwise quotient y = a / b; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **_PAIR)
def average(a, b, *, out=None):
    """Elementwise mean y = (a + b) / 2; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **_PAIR)
def maximum(a, b, *, out=None):
    """The larger of each pair; NaN where either is; shapes broadcast as in NumPy."""


@op("elementwise", a="*", b="*", returns=("*",), **_PAIR)
def minimum(a, b, *, out=None):
    """The smaller of each pair; NaN where either is; shapes broadcast as in NumPy."""


@op("elementwise", dy="*", a="*", b="*", returns=("*", "*"), **_PAIR)
def maximum_backward(dy, a, b):
    """Gradients of ``maximum`` in the shape of dy: (da, db); da = dy where a >= b, else 0, db = dy where it is not."""


@op("elementwise", dy="*", a="*", b="*", returns=("*", "*"), **_PAIR)
def minimum_backward(dy, a, b):
    """Gradients of ``minimum`` in the shape of dy: (da, db); da = dy where a <= b, else 0, db = dy where it is not."""


# An activation's number: its default, what it may be, and another one that tests take.
_Number = tuple[float, Option, float]


def _row(
    name: str,
    doc: str,
    operands: tuple[str, ...],
    numbers: dict[str, _Number],
    draw: dict[str, str],
    unread: tuple[str, ...] = (),
) -> Op:
    """Enter an op of operands of one shape, an activation's numbers, and ``out``."""

    def stub() -> None:
        pass

    positional, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    stub.__name__, stub.__doc__ = name, doc
    stub.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [
            *(inspect.Parameter(operand, positional) for operand in operands),
            *(inspect.Parameter(number, positional, default=default) for number, (default, *_) in numbers.items()),
            inspect.Parameter("out", keyword, default=None),
        ]
    )
    shapes_of: dict[str, Any] = dict.fromkeys(operands, "...")
    return op(
        "elementwise",
        returns=("...",),
        options={number: option for number, (_, option, _) in numbers.items()},
        cases=_CASES,
        bench=ELEMENTWISE_BENCH,
        variants=({}, {number: other for number, (*_, other) in numbers.items()}) if numbers else ({},),
        draw=draw,
        unread=unread,
        **shapes_of,
    )(stub)


def _activation(name: str, y: str, dx: str, drawn: str = "", **numbers: _Number) -> None:
    """Enter the rows of an activation, y = f(x), and of its derivative; ``drawn`` says what x is like in tests."""
    if tuple(numbers) != formulas.ACTIVATIONS[name].numbers:
        raise ValueError(f"{name}: the row has {tuple(numbers)}, the formula {formulas.ACTIVATIONS[name].numbers}")
    draw = {"x": drawn} if drawn else {}
    _row(name, y, ("x",), numbers, draw)
    unread = "y" if formulas.ACTIVATIONS[name].needs == "x" else "x"
    _row(
        f"{name}_backward",
        f"Derivative of {name}: dx = {dx}.",
        ("dy", "x", "y"),
        numbers,
        {**draw, "y": "forward"},
        (unread,),
    )


_SLOPE = Real(low=0.0)
_ABOVE_0 = Real(low=0.0, open_low=True)

_activation("identity", "Linear activation y = x (a copy).", "dy")
_activation("relu", "Rectified linear unit y = max(x, 0); NaN stays NaN.", "dy where y > 0, else 0 (0 at x = 0)")
_activation("sigmoid", "Logistic function y = 1 / (1 + exp(-x)), without overflow for any x.", "dy * y * (1 - y)")
_activation("tanh", "Hyperbolic tangent y = tanh(x).", "dy * (1 - y) * (1 + y)")
_activation("relu6", "y = min(max(x, 0), 6).", "dy where 0 < y < 6, else 0")
_activation(
    "bounded_relu",
    "y = max_value where x >= max_value, x from threshold on, negative_slope * (x - threshold) below.",
    "dy where threshold < x < max_value, 0 above, negative_slope * dy below",
    negative_slope=(0.0, _SLOPE, 0.25),
    max_value=(math.inf, Real(low=0.0, infinite=True), 1.5),
    threshold=(0.0, Real(), 0.5),
)
_activation(
    "leaky_relu",
    "y = x where x > 0, else negative_slope * x (Maas et al. 2013).",
    "dy where y > 0, else negative_slope * dy",
    negative_slope=(0.2, _SLOPE, 0.01),
)
_activation(
    "elu",
    "y = x where x > 0, else alpha * (exp(x) - 1) (Clevert et al. 2016).",
    "dy where y > 0, else dy * (y + alpha)",
    alpha=(1.0, _SLOPE, 0.5),
)
_activation(
    "celu",
    "y = x where x > 0, else alpha * (exp(x / alpha) - 1) (Barron 2017).",
    "dy where y > 0, else dy * (y / alpha + 1)",
    alpha=(1.0, _ABOVE_0, 0.5),
)
_activation(
    "selu",
    "y = s * x where x > 0, else s * a * (exp(x) - 1); s = 1.0507, a = 1.6733 (Klambauer et al. 2017).",
    "dy * s where y > 0, else dy * (y + s * a)",
)
_activation("hard_sigmoid", "y = min(max(x + 3, 0), 6) / 6.", "dy / 6 where 0 < y < 1, else 0")
_activation("log_sigmoid", "y = log(1 / (1 + exp(-x))), without overflow for any x.", "dy * (1 - exp(y))")
_activation("hard_tanh", "y = min(max(x, -1), 1).", "dy where -1 < y < 1, else 0")
_activation("softplus", "y = log(1 + exp(x)), without overflow for any x.", "dy * (1 - exp(-y))")
_activation("softsign", "y = x / (1 + |x|).", "dy * (1 - |y|)^2")
_activation(
    "silu",
    "y = x * sigmoid(x), also called swish (Ramachandran et al. 2017).",
    "dy * s * (1 + x * (1 - s)), s = sigmoid(x)",
)
_activation(
    "hard_silu",
    "y = x * min(max(x + 3, 0), 6) / 6 (Howard et al. 2019).",
    "0 where x <= -3, dy where x >= 3, else dy * (x / 3 + 1 / 2)",
)
_activation(
    "gelu",
    "y = x * P(x), P the standard normal distribution (Hendrycks and Gimpel 2016).",
    "dy * (P(x) + x * exp(-x^2 / 2) / sqrt(2 pi))",
)
_activation(
    "gelu_tanh",
    "The approximation y = x * (1 + tanh(u)) / 2 of gelu, u = sqrt(2 / pi) * (x + 0.044715 * x^3).",
    "dy * s * (1 + x * (1 - s) * 2 u'), s = (1 + tanh(u)) / 2",
)
_activation(
    "mish",
    "y = x * tanh(log(1 + exp(x))) (Misra 2019).",
    "dy * (t + x * (1 - t^2) * sigmoid(x)), t = tanh(log(1 + exp(x)))",
)
_activation("exponential", "y = exp(x).", "dy * y")
_activation(
    "threshold",
    "y = x where x > threshold, else default_value.",
    "dy where x > threshold, else 0",
    threshold=(0.0, Real(), 0.5),
    default_value=(0.0, Real(), -1.0),
)
_activation(
    "soft_shrink",
    "y = x - threshold where x > threshold, x + threshold where x < -threshold, else 0.",
    "dy where y is not 0, else 0",
    threshold=(0.5, _SLOPE, 0.25),
)
_activation(
    "hard_shrink",
    "y = x where |x| > threshold, else 0.",
    "dy where y is not 0, else 0",
    threshold=(0.5, _SLOPE, 0.25),
)
_activation("binary_step", "Heaviside's step y = 1 where x >= 0, else 0.", "0")
_activation("sign", "y = 1 where x > 0, -1 where x < 0, 0 at 0.", "0")

# What is no activation but of one number, too.
_activation("square", "y = x^2.", "dy * 2 x")
_activation("sqrt", "Square root y; NaN below 0.", "dy / (2 y)", "positive")
_activation("log", "Natural logarithm y = log(x); -inf at 0, NaN below.", "dy / x", "positive")
_activation("absolute", "y = |x|.", "dy where x > 0, -dy where x < 0, 0 at x = 0")
_activation("rsqrt", "y = 1 / sqrt(x); infinite at 0, NaN below.", "-dy * y^3 / 2", "positive")
_activation("log1p", "y = log(1 + x), small results accurate; -inf at -1, NaN below.", "dy / (1 + x)", "positive")
_activation("expm1", "y = exp(x) - 1, small results accurate.", "dy * (y + 1)")
_activation(
    "erf",
    "Error function y = 2 / sqrt(pi) times the integral of exp(-t^2) from 0 to x, small results accurate.",
    "dy * 2 / sqrt(pi) * exp(-x^2)",
)
_activation("sin", "Sine of x in radians, of numbers of any size; NaN of infinity.", "dy * cos(x)")
_activation("cos", "Cosine of x in radians, of numbers of any size; NaN of infinity.", "-dy * sin(x)")

# The elementwise activations, by the name users give, and the op's; the identity keeps the op name `identity` because
# `linear` is the layer. Softmax and log_softmax work on rows.
ELEMENTWISE_ACTIVATIONS = {
    "linear" if name == "identity" else name: name for name, each in formulas.ACTIVATIONS.items() if not each.plain
}
ACTIVATIONS = (*ELEMENTWISE_ACTIVATIONS, "softmax", "log_softmax")
# Those whose derivative needs x; of all others y tells it.
FROM_INPUT = frozenset(name for name, formula in formulas.ACTIVATIONS.items() if formula.needs == "x")
# The default numbers of an activation that has any, in order, by the op's name.
NUMBERS: dict[str, dict[str, Any]] = {
    name: {number: TABLE[name].signature.parameters[number].default for number in formula.numbers}
    for name, formula in formulas.ACTIVATIONS.items()
}
