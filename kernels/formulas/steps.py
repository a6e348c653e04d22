"""Optimizer steps: what becomes of a weight and its state, by name.

The place of a name in ``STEPS`` is the step's run-time code.

A part of the state that shrinks while there is no gradient (of a unit that is never active, say) becomes 0 where it
would be a denormal number. It would stay one for ever, since 9/10 of the smallest four of them are rounded up again,
and a vector with one of them takes a CPU some ten times as long.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


@dataclass(frozen=True)
class Step:
    """An optimizer's update of one weight: (w, *state) from (h, w, g, *state), h its hyper-parameters in order.

    It is what the table's ``op`` does with these states and ``flags``. Hyper-parameters are options of the op, or
    ``derived`` from them.

    Where it is ``lazy``, a weight without a gradient stays as it is, and of the state, if there is any, only the first
    part changes: it is multiplied by the option rho, where there is one. Where it is ``direct``, the update of sparse
    inputs makes the step as it forms the gradient: what every network's compilation pays for, so only for some.
    """

    op: str
    states: tuple[str, ...]
    hyper: tuple[str, ...]
    update: Callable[..., Sequence[Any]]
    derived: Callable[[Mapping[str, Any]], Mapping[str, Any]] = lambda options: {}
    flags: Mapping[str, bool] = field(default_factory=dict)
    lazy: bool = False
    direct: bool = False

    def numbers(self, options: Mapping[str, Any]) -> list[Any]:
        """The hyper-parameters in order; arrays where options, such as the step's number, are arrays."""
        given = {**options, **self.derived(options)}
        return [given[name] for name in self.hyper]


def _sgd(v: Arithmetic, h: Sequence[Any], w: Any, g: Any) -> Sequence[Any]:
    (rate,) = h
    return (v.sub(w, v.mul(rate, g)),)


def _momentum(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    velocity = v.flush(v.sub(v.mul(momentum, velocity), v.mul(rate, g)))
    return v.add(w, velocity), velocity


def _nesterov(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum = h
    step = v.mul(rate, g)
    velocity = v.flush(v.sub(v.mul(momentum, velocity), step))
    return v.add(w, v.sub(v.mul(momentum, velocity), step)), velocity


def running_mean(v: Arithmetic, old: Any, rho: Any, new: Any) -> Any:
    """rho * old + (1 - rho) * new, never denormal."""
    return v.flush(v.fma(v.sub(v.constant(1.0), rho), new, v.mul(rho, old)))


def _rmsprop(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square = running_mean(v, square, rho, v.mul(g, g))
    minus_rate = v.sub(v.constant(-0.0), rate)
    return v.fma(v.mul(minus_rate, g), v.rsqrt(v.add(square, epsilon)), w), square


def _rmsprop_centered(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any, mean: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square, mean = running_mean(v, square, rho, v.mul(g, g)), running_mean(v, mean, rho, g)
    variance = v.sub(square, v.mul(mean, mean))
    return v.sub(w, v.div(v.mul(rate, g), v.sqrt(v.add(variance, epsilon)))), square, mean


def _with_velocity(plain: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """An update whose step goes through velocity = momentum * velocity + step; momentum is the last hyper-parameter."""

    def update(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, *states: Any) -> Sequence[Any]:
        *held, velocity = states
        moved, *held = plain(v, h[:-1], v.constant(0.0), g, *held)
        velocity = v.flush(v.sub(v.mul(h[-1], velocity), moved))
        return v.sub(w, velocity), *held, velocity

    return update


def _drawn(v: Arithmetic, old: Any, gain: Any, new: Any) -> Any:
    """Old + gain * (new - old), never denormal."""
    return v.flush(v.fma(gain, v.sub(new, old), old))


def _moments(v: Arithmetic, h: Sequence[Any], g: Any, m: Any, second: Any) -> tuple[Any, Any]:
    """m and v drawn towards g and g^2 by (1 - beta)."""
    gain_1, gain_2 = h
    return _drawn(v, m, gain_1, g), _drawn(v, second, gain_2, v.mul(g, g))


def _bias_corrected(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Adam's step size, with the corrections of both moments in it, and what draws these towards the gradient."""
    beta_1, beta_2, step = (options[key] for key in ("beta_1", "beta_2", "step"))
    alpha = options["learning_rate"] * (1.0 - beta_2**step) ** 0.5 / (1.0 - beta_1**step)
    return {"alpha": alpha, "gain_1": 1.0 - beta_1, "gain_2": 1.0 - beta_2}


def _adam(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(second), epsilon))), m, second


def _amsgrad(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any, top: Any) -> Sequence[Any]:
    alpha, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    top = v.max(top, second)
    return v.sub(w, v.div(v.mul(alpha, m), v.add(v.sqrt(top), epsilon))), m, second, top


def _adagrad(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, accumulator: Any) -> Sequence[Any]:
    rate, epsilon = h
    accumulator = v.fma(g, g, accumulator)
    return v.sub(w, v.div(v.mul(rate, g), v.sqrt(v.add(accumulator, epsilon)))), accumulator


def _adadelta(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any, moved: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square = running_mean(v, square, rho, v.mul(g, g))
    step = v.mul(g, v.sqrt(v.div(v.add(moved, epsilon), v.add(square, epsilon))))
    return v.sub(w, v.mul(rate, step)), square, running_mean(v, moved, rho, v.mul(step, step))


def _first_corrected(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Adamax's step size, with the correction of the mean in it, and what draws that towards the gradient."""
    beta_1 = options["beta_1"]
    return {"alpha": options["learning_rate"] / (1.0 - beta_1 ** options["step"]), "gain_1": 1.0 - beta_1}


def _adamax(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, norm: Any) -> Sequence[Any]:
    alpha, epsilon, gain_1, beta_2 = h
    m = _drawn(v, m, gain_1, g)
    norm = v.max(v.flush(v.mul(beta_2, norm)), v.abs(g))
    return v.sub(w, v.div(v.mul(alpha, m), v.add(norm, epsilon))), m, norm


# Nadam's momentum of step t is beta_1 * (1 - _START * _WARMTH^t).
_START, _WARMTH = 0.5, 0.96


def product_of_momenta(beta_1: Any, step: Any) -> Any:
    """Nadam's up to a step: beta_1^step times 1 - _START * _WARMTH^t for t = 1 .. step, by their logarithm's series.

    log(1 - x q^t) = -sum over k of (x q^t)^k / k; what t adds up to in each is a geometric series. x q < 1/2, so that
    60 terms are all that a double has room for.
    """
    total = 0.0
    for k in range(1, 60):
        ratio = _WARMTH**k
        total = total - _START**k / k * ratio * (1.0 - ratio**step) / (1.0 - ratio)
    return beta_1**step * math.e**total


def _nesterov_corrected(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Nadam's shares of mean and gradient in a step, the correction of the mean square, and what draws both means."""
    rate, beta_1, beta_2, step = (options[key] for key in ("learning_rate", "beta_1", "beta_2", "step"))
    now, then = (beta_1 * (1.0 - _START * _WARMTH**count) for count in (step, step + 1))
    product = product_of_momenta(beta_1, step)
    return {
        "of_mean": rate * then / (1.0 - product * then),
        "of_gradient": rate * (1.0 - now) / (1.0 - product),
        "correction": 1.0 / (1.0 - beta_2**step),
        "gain_1": 1.0 - beta_1,
        "gain_2": 1.0 - beta_2,
    }


def _nadam(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any, second: Any) -> Sequence[Any]:
    of_mean, of_gradient, correction, epsilon, *gains = h
    m, second = _moments(v, gains, g, m, second)
    step = v.fma(of_mean, m, v.mul(of_gradient, g))
    return v.sub(w, v.div(step, v.add(v.sqrt(v.mul(correction, second)), epsilon))), m, second


def _lion(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, m: Any) -> Sequence[Any]:
    rate, beta_1, beta_2 = h
    return v.sub(w, v.mul(rate, v.sign(running_mean(v, m, beta_1, g)))), running_mean(v, m, beta_2, g)


def _inverse_rates(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """Ftrl's hyper-parameters, none of which is divided by the rate in the formula."""
    inverse = 1.0 / options["learning_rate"]
    return {
        "inverse_rate": inverse,
        "power": -options["learning_rate_power"],
        "pull": 2.0 * options["l2_regularization_strength"] + options["beta"] * inverse,
        "shrinkage": 2.0 * options["l2_shrinkage_regularization_strength"],
    }


def _ftrl(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, accumulator: Any, linear: Any) -> Sequence[Any]:
    inverse_rate, power, bound, pull, shrinkage = h

    def raised(x: Any) -> Any:
        normal = v.max(x, v.constant(1e-37))  # the logarithm takes normal numbers; 0 to a power is as good as this
        return v.exp(v.mul(power, v.log(normal)))

    grown = v.fma(g, g, accumulator)
    weight = raised(grown)
    sigma = v.mul(v.sub(weight, raised(accumulator)), inverse_rate)
    linear = v.add(linear, v.sub(v.fma(shrinkage, w, g), v.mul(sigma, w)))
    clipped = v.max(v.min(linear, bound), v.sub(v.constant(-0.0), bound))
    return v.div(v.sub(clipped, linear), v.fma(weight, inverse_rate, pull)), grown, linear


def _rprop(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, size: Any, change: Any, before: Any) -> Sequence[Any]:
    eta_minus, eta_plus, least, most = h
    zero = v.constant(0.0)
    turned = v.mul(v.sign(change), g)  # positive where the change before has gone too far
    smaller, larger = v.max(v.mul(size, eta_minus), least), v.min(v.mul(size, eta_plus), most)
    size = v.where("<", turned, zero, larger, v.where(">", turned, zero, smaller, size))
    change = v.where(">", turned, zero, v.sub(zero, change), v.sub(zero, v.mul(v.sign(g), size)))
    return v.add(w, change), size, v.where(">", turned, zero, zero, change), g


def _rest_of_dampening(options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a gradient adds to the velocity."""
    return {"gain": 1.0 - options["dampening"]}


def _heavy_ball(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum, gain = h
    velocity = v.flush(v.fma(gain, g, v.mul(momentum, velocity)))
    return v.sub(w, v.mul(rate, velocity)), velocity


def _heavy_ball_nesterov(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, velocity: Any) -> Sequence[Any]:
    rate, momentum, gain = h
    velocity = v.flush(v.fma(gain, g, v.mul(momentum, velocity)))
    return v.sub(w, v.mul(rate, v.fma(momentum, velocity, g))), velocity


def _root(v: Arithmetic, g: Any, variance: Any, epsilon: Any) -> Any:
    """The gradient over the root of a mean square, to which epsilon is added."""
    return v.div(g, v.add(v.sqrt(variance), epsilon))


def _rmsprop_root(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square = running_mean(v, square, rho, v.mul(g, g))
    return v.sub(w, v.mul(rate, _root(v, g, square, epsilon))), square


def _rmsprop_root_centered(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, square: Any, mean: Any) -> Sequence[Any]:
    rate, rho, epsilon = h
    square, mean = running_mean(v, square, rho, v.mul(g, g)), running_mean(v, mean, rho, g)
    return v.sub(w, v.mul(rate, _root(v, g, v.sub(square, v.mul(mean, mean)), epsilon))), square, mean


def _with_unscaled_velocity(plain: Callable[..., Sequence[Any]]) -> Callable[..., Sequence[Any]]:
    """As ``_with_velocity``, of a velocity that the rate is no part of: w -= rate * velocity."""

    def update(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, *states: Any) -> Sequence[Any]:
        rate, *others, momentum = h
        *held, velocity = states
        moved, *held = plain(v, [v.constant(1.0), *others], v.constant(0.0), g, *held)
        velocity = v.flush(v.sub(v.mul(momentum, velocity), moved))
        return v.sub(w, v.mul(rate, velocity)), *held, velocity

    return update


def _adagrad_root(v: Arithmetic, h: Sequence[Any], w: Any, g: Any, accumulator: Any) -> Sequence[Any]:
    rate, epsilon = h
    accumulator = v.fma(g, g, accumulator)
    return v.sub(w, v.mul(rate, _root(v, g, accumulator, epsilon))), accumulator


# The hyper-parameters of steps that have many.
_HEAVY_BALL = ("learning_rate", "momentum", "gain")
_RMSPROP = ("learning_rate", "rho", "epsilon")
_ADAM = ("alpha", "epsilon", "gain_1", "gain_2")

# The optimizers' updates, in the order of their run-time codes.
STEPS = {
    "sgd": Step("sgd_step", (), ("learning_rate",), _sgd, lazy=True, direct=True),
    "momentum": Step(
        "sgd_step",
        ("velocity",),
        ("learning_rate", "momentum"),
        _momentum,
        flags={"nesterov": False},
        direct=True,
    ),
    "nesterov": Step(
        "sgd_step",
        ("velocity",),
        ("learning_rate", "momentum"),
        _nesterov,
        flags={"nesterov": True},
        direct=True,
    ),
    "rmsprop": Step("rmsprop_step", ("mean_square",), _RMSPROP, _rmsprop, lazy=True, direct=True),
    "rmsprop_centered": Step("rmsprop_step", ("mean_square", "mean"), _RMSPROP, _rmsprop_centered, direct=True),
    "rmsprop_momentum": Step(
        "rmsprop_step", ("mean_square", "velocity"), (*_RMSPROP, "momentum"), _with_velocity(_rmsprop), direct=True
    ),
    "rmsprop_centered_momentum": Step(
        "rmsprop_step",
        ("mean_square", "mean", "velocity"),
        (*_RMSPROP, "momentum"),
        _with_velocity(_rmsprop_centered),
        direct=True,
    ),
    "adam": Step("adam_step", ("m", "v"), _ADAM, _adam, _bias_corrected, direct=True),
    "amsgrad": Step("adam_step", ("m", "v", "v_max"), _ADAM, _amsgrad, _bias_corrected, direct=True),
    "adagrad": Step("adagrad_step", ("accumulator",), ("learning_rate", "epsilon"), _adagrad, lazy=True),
    "adadelta": Step("adadelta_step", ("mean_square", "mean_moved"), _RMSPROP, _adadelta),
    "adamax": Step("adamax_step", ("m", "norm"), ("alpha", "epsilon", "gain_1", "beta_2"), _adamax, _first_corrected),
    "nadam": Step(
        "nadam_step",
        ("m", "v"),
        ("of_mean", "of_gradient", "correction", "epsilon", "gain_1", "gain_2"),
        _nadam,
        _nesterov_corrected,
    ),
    "lion": Step("lion_step", ("m",), ("learning_rate", "beta_1", "beta_2"), _lion),
    "ftrl": Step(
        "ftrl_step",
        ("accumulator", "linear"),
        ("inverse_rate", "power", "l1_regularization_strength", "pull", "shrinkage"),
        _ftrl,
        _inverse_rates,
    ),
    "rprop": Step(
        "rprop_step", ("step_size", "change", "gradient"), ("eta_minus", "eta_plus", "step_min", "step_max"), _rprop
    ),
    "heavy_ball": Step(
        "heavy_ball_step", ("velocity",), _HEAVY_BALL, _heavy_ball, _rest_of_dampening, {"nesterov": False}
    ),
    "heavy_ball_nesterov": Step(
        "heavy_ball_step", ("velocity",), _HEAVY_BALL, _heavy_ball_nesterov, _rest_of_dampening, {"nesterov": True}
    ),
    "rmsprop_root": Step("rmsprop_root_step", ("mean_square",), _RMSPROP, _rmsprop_root),
    "rmsprop_root_centered": Step("rmsprop_root_step", ("mean_square", "mean"), _RMSPROP, _rmsprop_root_centered),
    "rmsprop_root_momentum": Step(
        "rmsprop_root_step",
        ("mean_square", "velocity"),
        (*_RMSPROP, "momentum"),
        _with_unscaled_velocity(_rmsprop_root),
    ),
    "rmsprop_root_centered_momentum": Step(
        "rmsprop_root_step",
        ("mean_square", "mean", "velocity"),
        (*_RMSPROP, "momentum"),
        _with_unscaled_velocity(_rmsprop_root_centered),
    ),
    "adagrad_root": Step("adagrad_root_step", ("accumulator",), ("learning_rate", "epsilon"), _adagrad_root),
}
STEP_CODES = {name: code for code, name in enumerate(STEPS)}


def step_name(op: str, slots: Collection[str], options: Mapping[str, Any]) -> str:
    """The name in ``STEPS`` of what an op does with this state and these options."""
    return next(
        name
        for name, step in STEPS.items()
        if step.op == op
        and set(step.states) == set(slots)
        and all(options[flag] == wanted for flag, wanted in step.flags.items())
    )
