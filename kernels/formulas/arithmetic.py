"""What formulas are written in: the arithmetic that a backend offers."""

from __future__ import annotations

from typing import Any, Protocol


class Arithmetic(Protocol):
    """Operations on a backend's values: vectors of LLVM's, expressions of C++. All take and give values of one dtype.

    Comparisons with NaN are false, but for "!=" which formulas must not apply to numbers that may be NaN.
    """

    def constant(self, value: float) -> Any:
        """The number as a value."""
        ...

    def add(self, a: Any, b: Any) -> Any:
        """a + b."""
        ...

    def sub(self, a: Any, b: Any) -> Any:
        """a - b."""
        ...

    def mul(self, a: Any, b: Any) -> Any:
        """a * b."""
        ...

    def div(self, a: Any, b: Any) -> Any:
        """a / b."""
        ...

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        """a * b + c, rounded once where the target fuses."""
        ...

    def sqrt(self, x: Any) -> Any:
        """Square root, correctly rounded."""
        ...

    def rsqrt(self, x: Any) -> Any:
        """1 / sqrt(x) of positive normal numbers, to an ULP or two."""
        ...

    def abs(self, x: Any) -> Any:
        """The number without its sign."""
        ...

    def copysign(self, x: Any, sign: Any) -> Any:
        """The magnitude of x with the sign of ``sign``."""
        ...

    def where(self, op: str, a: Any, b: Any, yes: Any, no: Any) -> Any:
        """``yes`` where a ``op`` b holds, else ``no``; op is one of == != < <= > >=."""
        ...

    def max(self, a: Any, b: Any) -> Any:
        """The larger; NaN in a stays."""
        ...

    def min(self, a: Any, b: Any) -> Any:
        """The smaller; NaN in a stays."""
        ...

    def sign(self, x: Any) -> Any:
        """1, -1, or x itself where x is 0 or NaN."""
        ...

    def flush(self, x: Any) -> Any:
        """x, or 0 where it is a denormal number."""
        ...

    def exp(self, x: Any) -> Any:
        """e^x; overflow gives inf, underflow a denormal or 0."""
        ...

    def expm1(self, x: Any) -> Any:
        """e^x - 1, of full accuracy near 0; overflow gives inf."""
        ...

    def log(self, x: Any) -> Any:
        """Natural logarithm of normal positive numbers."""
        ...

    def log1p(self, x: Any) -> Any:
        """log(1 + x) for x > -1."""
        ...

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + e^-x)."""
        ...

    def tanh(self, x: Any) -> Any:
        """Hyperbolic tangent."""
        ...

    def normal_density(self, x: Any) -> Any:
        """The density of the standard normal distribution at x."""
        ...

    def normal_cdf(self, x: Any) -> Any:
        """The share of the standard normal distribution below x: (1 + erf(x / sqrt 2)) / 2, small results accurate."""
        ...

    def erf(self, x: Any) -> Any:
        """The error function 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x, small results accurate."""
        ...

    def sin(self, x: Any) -> Any:
        """Sine of x in radians, of numbers of any size."""
        ...

    def cos(self, x: Any) -> Any:
        """Cosine of x in radians, of numbers of any size."""
        ...
