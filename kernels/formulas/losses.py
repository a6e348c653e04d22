"""Losses of one prediction and its target, with their derivative by the prediction, by name.

The place of a name in ``LOSSES`` is the loss's run-time code. Losses of a whole row (cross-entropy after softmax) are
not among them.
"""

from __future__ import annotations

from collections.abc import Callable
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


# (loss, derivative) from (v, prediction, target).
LOSSES: dict[str, Callable[[Arithmetic, Any, Any], tuple[Any, Any]]] = {
    "squared": _squared,
    "half_squared": _half_squared,
    "absolute": _absolute,
    "bernoulli": _bernoulli,
    "bernoulli_logit": _bernoulli_logit,
}

LOSS_CODES = {name: code for code, name in enumerate(LOSSES)}
