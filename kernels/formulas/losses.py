"""Losses of one prediction and its target, with their derivative by the prediction, by name.

The place of a name in ``LOSSES`` is the loss's run-time code. Losses of a whole row (cross-entropy after softmax) are
not among them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic

# Keras's fuzz factor: probabilities are kept this far from 0 and 1 before the logarithm.
CLIP = 1e-7


def clipped(v: Arithmetic, p: Any) -> Any:
    """A probability kept ``CLIP`` from 0 and 1."""
    return v.min(v.max(p, v.constant(CLIP)), v.constant(1.0 - CLIP))


def _squared(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.mul(d, d), v.add(d, d)


def _half_squared(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.mul(v.mul(d, d), v.constant(0.5)), d


def _absolute(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    return v.abs(d), v.sign(d)


def _bernoulli(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    one = v.constant(1.0)
    q = clipped(v, p)
    other = v.sub(one, q)
    loss = v.fma(t, v.log(q), v.mul(v.sub(one, t), v.log(other)))
    slope = v.div(v.sub(q, t), v.mul(q, other))
    return v.sub(v.constant(0.0), loss), v.where("==", p, q, slope, v.constant(0.0))


def _bernoulli_logit(v: Arithmetic, z: Any, t: Any) -> tuple[Any, Any]:
    e = v.exp(v.sub(v.constant(-0.0), v.abs(z)))
    loss = v.add(v.sub(v.max(z, v.constant(0.0)), v.mul(z, t)), v.log1p(e))
    return loss, v.sub(v.sigmoid(z), t)


def _absolute_percentage(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    d = v.sub(p, t)
    share = v.div(v.constant(100.0), v.max(v.abs(t), v.constant(CLIP)))
    return v.mul(v.abs(d), share), v.mul(v.sign(d), share)


def _squared_logarithmic(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """(log(1 + p) - log(1 + t))^2, of numbers kept ``CLIP`` above 0."""
    least = v.constant(CLIP)
    kept = v.max(p, least)
    d = v.sub(v.log1p(kept), v.log1p(v.max(t, least)))
    slope = v.div(v.add(d, d), v.add(v.constant(1.0), kept))
    return v.mul(d, d), v.where(">", p, least, slope, v.constant(0.0))


def _huber(v: Arithmetic, p: Any, t: Any, delta: Any) -> tuple[Any, Any]:
    """d^2 / 2 up to |d| = delta, beyond it a line (Huber 1964)."""
    d, half = v.sub(p, t), v.constant(0.5)
    size = v.abs(d)
    line = v.mul(delta, v.sub(size, v.mul(half, delta)))
    loss = v.where("<=", size, delta, v.mul(half, v.mul(d, d)), line)
    return loss, v.min(v.max(d, v.sub(v.constant(-0.0), delta)), delta)


# Beyond this log(cosh d) is |d| - log 2.
_COSH_FROM = 20.0


def _log_cosh(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """log(cosh d) = log(1 + 2 sinh(d / 2)^2): no cancellation near 0; sinh = (u + u / (u + 1)) / 2, u = e^(d/2) - 1."""
    d, half = v.sub(p, t), v.constant(0.5)
    size = v.abs(d)
    u = v.expm1(v.mul(half, v.min(size, v.constant(_COSH_FROM))))
    twice = v.add(u, v.div(u, v.add(u, v.constant(1.0))))
    near = v.log1p(v.mul(half, v.mul(twice, twice)))
    far = v.sub(size, v.constant(0.6931471805599453))
    return v.where(">", size, v.constant(_COSH_FROM), far, near), v.tanh(d)


# Smaller numbers have no logarithm here.
_LEAST = 1e-30


def _power(v: Arithmetic, x: Any, exponent: Any) -> tuple[Any, Any]:
    """(x^e, e x^(e - 1)) of x in [0, 1], e >= 0."""
    kept = v.max(x, v.constant(_LEAST))
    power = v.exp(v.mul(exponent, v.log(kept)))
    return power, v.div(v.mul(exponent, power), kept)


def _focal(v: Arithmetic, o: Any, t: Any, gamma: Any, positive: Any, negative: Any) -> tuple[Any, Any]:
    """(factor, its derivative by o) of a Bernoulli loss: w (1 - p_t)^gamma, p_t the probability of what is true."""
    one = v.constant(1.0)
    other = v.sub(one, t)
    wrong = v.fma(t, v.sub(one, o), v.mul(other, o))
    power, slope = _power(v, wrong, gamma)
    weight = v.fma(t, positive, v.mul(other, negative))
    return v.mul(weight, power), v.mul(v.mul(weight, slope), v.sub(other, t))


def _bernoulli_focal(v: Arithmetic, p: Any, t: Any, *numbers: Any) -> tuple[Any, Any]:
    """The Bernoulli loss times what makes easy cases count less (Lin et al. 2017)."""
    loss, slope = _bernoulli(v, p, t)
    factor, bend = _focal(v, p, t, *numbers)
    return v.mul(factor, loss), v.fma(bend, loss, v.mul(factor, slope))


def _bernoulli_logit_focal(v: Arithmetic, z: Any, t: Any, *numbers: Any) -> tuple[Any, Any]:
    o = v.sigmoid(z)
    loss, slope = _bernoulli_logit(v, z, t)
    factor, bend = _focal(v, o, t, *numbers)
    inner = v.mul(v.mul(bend, o), v.sub(v.constant(1.0), o))
    return v.mul(factor, loss), v.fma(inner, loss, v.mul(factor, slope))


def focal(v: Arithmetic, q: Any, t: Any, gamma: Any) -> tuple[Any, Any]:
    """(-t (1 - q)^gamma log q, its derivative by q) of a class's probability q, which is ``clipped``."""
    zero, kept = v.constant(0.0), clipped(v, q)
    power, bend = _power(v, v.sub(v.constant(1.0), kept), gamma)
    logarithm = v.log(kept)
    slope = v.mul(t, v.sub(v.mul(bend, logarithm), v.div(power, kept)))
    return v.sub(zero, v.mul(t, v.mul(power, logarithm))), v.where("==", q, kept, slope, zero)


def _hinge(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """max(1 - t p, 0), t being 1 or -1."""
    zero = v.constant(0.0)
    margin = v.sub(v.constant(1.0), v.mul(t, p))
    return v.max(margin, zero), v.where(">", margin, zero, v.sub(v.constant(-0.0), t), zero)


def _squared_hinge(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    margin = v.max(v.sub(v.constant(1.0), v.mul(t, p)), v.constant(0.0))
    return v.mul(margin, margin), v.mul(v.mul(v.constant(-2.0), t), margin)


def _divergence(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """t log(t / p), both kept in [``CLIP``, 1] (Kullback and Leibler 1951)."""
    least, one, zero = v.constant(CLIP), v.constant(1.0), v.constant(0.0)
    q, share = v.min(v.max(p, least), one), v.min(v.max(t, least), one)
    slope = v.sub(zero, v.div(share, q))
    return v.mul(share, v.log(v.div(share, q))), v.where("==", p, q, slope, zero)


def _poisson(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """p - t log p, with ``CLIP`` added to p; NaN below 0."""
    q = v.add(p, v.constant(CLIP))
    logarithm = v.where(">", q, v.constant(0.0), v.log(v.max(q, v.constant(_LEAST))), v.constant(math.nan))
    return v.sub(p, v.mul(t, logarithm)), v.sub(v.constant(1.0), v.div(t, q))


def _half_poisson_deviance(v: Arithmetic, z: Any, t: Any) -> tuple[Any, Any]:
    """e^z - t z + t log t - t; NaN for t < 0."""
    zero, rate = v.constant(0.0), v.exp(z)
    logarithm = v.where(">", t, zero, v.log(v.max(t, v.constant(_LEAST))), zero)
    best = v.where(">=", t, zero, v.sub(v.mul(t, logarithm), t), v.constant(math.nan))
    return v.add(v.sub(rate, v.mul(t, z)), best), v.sub(rate, t)


def _likelihood(v: Arithmetic, p: Any, t: Any) -> tuple[Any, Any]:
    """-t p, p being the logarithm of a probability."""
    minus = v.sub(v.constant(-0.0), t)
    return v.mul(minus, p), minus


@dataclass(frozen=True)
class Loss:
    """``formula(v, prediction, target, *numbers)`` gives the loss and its derivative by the prediction."""

    formula: Callable[..., tuple[Any, Any]]
    numbers: tuple[str, ...] = ()


_FOCAL_NUMBERS = ("gamma", "positive", "negative")
LOSSES: dict[str, Loss] = {
    "squared": Loss(_squared),
    "half_squared": Loss(_half_squared),
    "absolute": Loss(_absolute),
    "bernoulli": Loss(_bernoulli),
    "bernoulli_logit": Loss(_bernoulli_logit),
    "absolute_percentage": Loss(_absolute_percentage),
    "squared_logarithmic": Loss(_squared_logarithmic),
    "huber": Loss(_huber, ("delta",)),
    "log_cosh": Loss(_log_cosh),
    "bernoulli_focal": Loss(_bernoulli_focal, _FOCAL_NUMBERS),
    "bernoulli_logit_focal": Loss(_bernoulli_logit_focal, _FOCAL_NUMBERS),
    "hinge": Loss(_hinge),
    "squared_hinge": Loss(_squared_hinge),
    "divergence": Loss(_divergence),
    "poisson": Loss(_poisson),
    "likelihood": Loss(_likelihood),
    "half_poisson_deviance": Loss(_half_poisson_deviance),
}

LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
# Numbers that a kernel has room for.
MOST_NUMBERS = max(len(loss.numbers) for loss in LOSSES.values())
