"""Formulas as C++: the arithmetic of ``kernels/formulas`` as text that nvcc, NVRTC and any C++ compiler read.

``function("relu", ("x",), ACTIVATIONS["relu"].forward, "float32")`` is the source of a function of that name. Every
operation of the formula becomes one statement, so what a formula uses twice is computed once. Functions of C's library
are called by their names for the type (``expf``, ``exp``): they mean the same on the device and on the host.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

# C++'s name of a dtype, and what ends the names of its functions and its numbers.
_NOT_FINITE = {"inf": "INFINITY", "-inf": "-INFINITY", "nan": "NAN"}
_REALS = {"float32": ("float", "f"), "float64": ("double", "")}
# The smallest normal number of each.
_SMALLEST = {"float32": 2.0**-126, "float64": 2.0**-1022}


class Cpp:
    """Values are the names of C++ variables; each operation appends the statement that makes one."""

    def __init__(self, dtype: str) -> None:
        self.real, self._suffix = _REALS[dtype]
        self._smallest = _SMALLEST[dtype]
        self.statements: list[str] = []

    def _let(self, expression: str) -> str:
        name = f"t{len(self.statements)}"
        self.statements.append(f"const {self.real} {name} = {expression};")
        return name

    def _call(self, function: str, *arguments: str) -> str:
        return self._let(f"{function}{self._suffix}({', '.join(arguments)})")

    def constant(self, value: float) -> str:
        """The number, with all digits that the type can hold."""
        text = _NOT_FINITE.get(repr(float(value)), repr(float(value)))
        return f"({self.real})({text})"

    def add(self, a: str, b: str) -> str:
        """a + b."""
        return self._let(f"{a} + {b}")

    def sub(self, a: str, b: str) -> str:
        """a - b."""
        return self._let(f"{a} - {b}")

    def mul(self, a: str, b: str) -> str:
        """a * b."""
        return self._let(f"{a} * {b}")

    def div(self, a: str, b: str) -> str:
        """a / b."""
        return self._let(f"{a} / {b}")

    def fma(self, a: str, b: str, c: str) -> str:
        """a * b + c, rounded once."""
        return self._call("fma", a, b, c)

    def sqrt(self, x: str) -> str:
        """Square root, correctly rounded."""
        return self._call("sqrt", x)

    def rsqrt(self, x: str) -> str:
        """1 / sqrt(x): C++ on the host has no function for it."""
        return self.div(self.constant(1.0), self.sqrt(x))

    def abs(self, x: str) -> str:
        """The number without its sign."""
        return self._call("fabs", x)

    def copysign(self, x: str, sign: str) -> str:
        """The magnitude of x with the sign of ``sign``."""
        return self._call("copysign", x, sign)

    def where(self, op: str, a: str, b: str, yes: str, no: str) -> str:
        """``yes`` where a ``op`` b holds, else ``no``."""
        return self._let(f"({a} {op} {b}) ? {yes} : {no}")

    def max(self, a: str, b: str) -> str:
        """The larger; NaN in a stays, which ``fmaxf`` would drop."""
        return self.where("<", a, b, b, a)

    def min(self, a: str, b: str) -> str:
        """The smaller; NaN in a stays."""
        return self.where(">", a, b, b, a)

    def sign(self, x: str) -> str:
        """1, -1, or x itself where x is 0 or NaN."""
        zero, one = self.constant(0.0), self.constant(1.0)
        return self.where(">", x, zero, one, self.where("<", x, zero, self.constant(-1.0), x))

    def flush(self, x: str) -> str:
        """x, or 0 where it is a denormal number."""
        return self.where("<", self.abs(x), self.constant(self._smallest), self.constant(0.0), x)

    def exp(self, x: str) -> str:
        """e^x."""
        return self._call("exp", x)

    def expm1(self, x: str) -> str:
        """e^x - 1."""
        return self._call("expm1", x)

    def log(self, x: str) -> str:
        """Natural logarithm."""
        return self._call("log", x)

    def log1p(self, x: str) -> str:
        """log(1 + x)."""
        return self._call("log1p", x)

    def sigmoid(self, x: str) -> str:
        """1 / (1 + e^-x) as e / (1 + e) for negative x, e = exp(-|x|): no overflow."""
        one, zero = self.constant(1.0), self.constant(0.0)
        e = self.exp(self.sub(self.constant(-0.0), self.abs(x)))
        return self.div(self.where("<", x, zero, e, one), self.add(one, e))

    def tanh(self, x: str) -> str:
        """Hyperbolic tangent."""
        return self._call("tanh", x)

    def normal_density(self, x: str) -> str:
        """The density of the standard normal distribution at x."""
        bell = self._call("exp", self.mul(self.mul(self.constant(-0.5), x), x))
        return self.mul(self.constant(1 / math.sqrt(2 * math.pi)), bell)

    def normal_cdf(self, x: str) -> str:
        """The share of the standard normal distribution below x: erfc(-x / sqrt 2) / 2."""
        tail = self._call("erfc", self.mul(self.constant(-math.sqrt(0.5)), x))
        return self.mul(self.constant(0.5), tail)

    def erf(self, x: str) -> str:
        """The error function."""
        return self._call("erf", x)

    def sin(self, x: str) -> str:
        """Sine of x in radians."""
        return self._call("sin", x)

    def cos(self, x: str) -> str:
        """Cosine of x in radians."""
        return self._call("cos", x)


def function(name: str, parameters: Sequence[str], formula: Callable[..., Any], dtype: str) -> str:
    """The source of ``void name(parameters..., result_0, result_1, ...)`` that computes a formula of ``dtype`` numbers.

    ``formula(v, *parameters)`` gives one value or a sequence of them. ``FUNCTION`` stands before the function: what it
    means is the includer's to define (``static inline``, ``__device__ __forceinline__``).
    """
    v = Cpp(dtype)
    computed = formula(v, *parameters)
    values = (computed,) if isinstance(computed, str) else tuple(computed)
    results = [f"result_{i}" for i in range(len(values))]
    given = [f"{v.real} {parameter}" for parameter in parameters] + [f"{v.real}* {result}" for result in results]
    writes = [f"*{result} = {value};" for result, value in zip(results, values, strict=True)]
    body = "\n".join(f"    {line}" for line in (*v.statements, *writes))
    return f"FUNCTION void {name}({', '.join(given)}) {{\n{body}\n}}\n"
