"""What is made of two numbers, by name: the place of a name in ``PAIRS`` is its run-time code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


def _chosen(v: Arithmetic, op: str, a: Any, b: Any, of_a: Any, of_b: Any) -> Any:
    """What a or b stands for: a where ``op`` holds, or it is NaN, else b."""
    return v.where(op, a, b, of_a, v.where("==", a, a, of_b, of_a))


PAIRS: dict[str, Callable[..., Any]] = {
    "add": lambda v, a, b: v.add(a, b),
    "subtract": lambda v, a, b: v.sub(a, b),
    "multiply": lambda v, a, b: v.mul(a, b),
    "average": lambda v, a, b: v.mul(v.constant(0.5), v.add(a, b)),
    "maximum": lambda v, a, b: _chosen(v, ">=", a, b, a, b),
    "divide": lambda v, a, b: v.div(a, b),
    "minimum": lambda v, a, b: _chosen(v, "<=", a, b, a, b),
}
CODES = {name: code for code, name in enumerate(PAIRS)}

# Those that choose one of two numbers, with the comparison by which the first is chosen: it is where both are equal.
CHOICES = {"maximum": ">=", "minimum": "<="}
CHOICE_CODES = {name: code for code, name in enumerate(CHOICES)}


def slopes(v: Arithmetic, name: str, dy: Any, a: Any, b: Any) -> tuple[Any, Any]:
    """(da, db): dy for the number that is chosen, 0 for the other."""
    zero = v.constant(0.0)
    return _chosen(v, CHOICES[name], a, b, dy, zero), _chosen(v, CHOICES[name], a, b, zero, dy)
