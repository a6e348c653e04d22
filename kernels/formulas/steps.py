"""Optimizer steps: what becomes of a weight and its state, by name.

The place of a name in ``STEPS`` is the step's run-time code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


@dataclass(frozen=True)
class Step:
    """An optimizer's update of one weight: (w, *state) from (h, w, g, *state), h its hyper-parameters in order."""

    states: tuple[str, ...]
    hyper: tuple[str, ...]
    update: Callable[..., Sequence[Any]]


def _sgd(v: Arithmetic, h: Sequence[Any], w: Any, g: Any) -> Sequence[Any]:
    (rate,) = h
    return (v.sub(w, v.mul(rate, g)),)


def _momentum(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    velocity = v.sub(v.mul(momentum, velocity), v.mul(rate, g))
    return v.add(w, velocity), velocity


def _nesterov(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    step = v.mul(rate, g)
    velocity = v.sub(v.mul(momentum, velocity), step)
    return v.add(w, v.sub(v.mul(momentum, velocity), step)), velocity


def _decay(v: Arithmetic, old: Any, rho: Any, new: Any) -> Any:
    """rho * old + (1 - rho) * new."""
    return v.fma(v.sub(v.constant(1.0), rho), new, v.mul(rho, old))


def _rmsprop(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square = _decay(v, square, rho, v.mul(g, g))
    minus_rate = v.sub(v.constant(-0.0), rate)
    return v.fma(v.mul(minus_rate, g), v.rsqrt(v.add(square, epsilon)), w), square


def _rmsprop_centered(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any, mean: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square, mean = _decay(v, square, rho, v.mul(g, g)), _decay(v, mean, rho, g)
    variance = v.sub(square, v.mul(mean, mean))
    return v.sub(w, v.div(v.mul(rate, g), v.sqrt(v.add(variance, epsilon)))), square, mean


def _with_velocity(plain: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """An update whose step goes through velocity = momentum * velocity + step; momentum is the last hyper-parameter."""

    def update(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, *states: Any) -> Sequence[Any]:
        *held, velocity = states
        moved, *held = plain(v, h[:-1], v.constant(0.0), g, *held)
        velocity = v.sub(v.mul(h[-1], velocity), moved)
        return v.sub(w, velocity), *held, velocity

    return update


def _moments(v: Arithmetic, h: Sequence[Any], g: Any, m: Any, second: Any) -> tuple[Any, Any]:
    """m and v drawn towards g and g^2 by (1 - beta)."""
    gain_1, gain_2 = h
    return v.fma(gain_1, v.sub(g, m), m), v.fma(gain_2, v.sub(v.mul(g, g), second), second)


def _adam(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(second), epsilon))), m, second


def _amsgrad(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any, top: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    top = v.max(top, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(top), epsilon))), m, second, top


# The optimizers' updates, in the order of their run-time codes.
STEPS = {
    "sgd": Step((), ("learning_rate",), _sgd),
    "momentum": Step(("velocity",), ("learning_rate", "momentum"), _momentum),
    "nesterov": Step(("velocity",), ("learning_rate", "momentum"), _nesterov),
    "rmsprop": Step(("mean_square",), ("learning_rate", "rho", "epsilon"), _rmsprop),
    "rmsprop_centered": Step(("mean_square", "mean"), ("learning_rate", "rho", "epsilon"), _rmsprop_centered),
    "rmsprop_momentum": Step(
        ("mean_square", "velocity"), ("learning_rate", "rho", "epsilon", "momentum"), _with_velocity(_rmsprop)
    ),
    "rmsprop_centered_momentum": Step(
        ("mean_square", "mean", "velocity"),
        ("learning_rate", "rho", "epsilon", "momentum"),
        _with_velocity(_rmsprop_centered),
    ),
    "adam": Step(("m", "v"), ("alpha", "epsilon", "gain_1", "gain_2"), _adam),
    "amsgrad": Step(("m", "v", "v_max"), ("alpha", "epsilon", "gain_1", "gain_2"), _amsgrad),
}
STEP_CODES = {name: code for code, name in enumerate(STEPS)}
STEP_HYPER = max(len(step.hyper) for step in STEPS.values())
