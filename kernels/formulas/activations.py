"""Activations y = f(x) and their derivatives dx = dy f'(x), by name; softmax, which takes a row as a whole, is not one.

The place of a name in ``ACTIVATIONS`` is the activation's run-time code, so that one compiled kernel serves them all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


@dataclass(frozen=True)
class Activation:
    """``forward(v, x)`` and ``backward(v, dy, y)``.

    ``flat_at_zero``: the derivative is 0 wherever the output is, as it is where dropout dropped.
    """

    forward: Callable[[Arithmetic, Any], Any]
    backward: Callable[[Arithmetic, Any, Any], Any]
    flat_at_zero: bool = False


def _relu(v: Arithmetic, x: Any) -> Any:
    """max(x, 0); NaN stays."""
    return v.max(x, v.constant(0.0))


def _relu_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    zero = v.constant(0.0)
    return v.where(">", y, zero, dy, zero)


def _sigmoid_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.mul(dy, v.mul(y, v.sub(v.constant(1.0), y)))


def _tanh_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    one = v.constant(1.0)
    return v.mul(dy, v.mul(v.sub(one, y), v.add(one, y)))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda v, x: x, lambda v, dy, y: dy),
    "relu": Activation(_relu, _relu_backward, flat_at_zero=True),
    "sigmoid": Activation(lambda v, x: v.sigmoid(x), _sigmoid_backward, flat_at_zero=True),
    "tanh": Activation(lambda v, x: v.tanh(x), _tanh_backward),
}

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
