"""Functions of one number y = f(x) and their derivatives dx = dy f'(x), by name: activations and some others.

Those that take a row as a whole are not here.

The place of a name in ``ACTIVATIONS`` is the activation's run-time code, so that one compiled kernel serves them all.
A derivative is a function of y wherever y tells it as well as x does: then nobody needs to keep x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnn.kernels.formulas.arithmetic import Arithmetic


@dataclass(frozen=True)
class Activation:
    """``forward(v, x, *numbers)`` and ``backward(v, dy, s, *numbers)``, where s is what ``needs`` says, "x" or "y".

    ``numbers`` names what the formulas take beside: a slope, a limit. ``flat_at_zero``: the derivative, a function of
    y, is 0 wherever y is, as it is where dropout dropped. ``flat``: the derivative is 0 almost everywhere. One that is
    ``plain`` is a function for users' formulas, which no layer has as its activation.
    """

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    needs: str = "y"
    numbers: tuple[str, ...] = ()
    flat_at_zero: bool = False
    flat: bool = False
    plain: bool = False


# Self-normalising networks (Klambauer et al. 2017): the scale that keeps mean 0 and variance 1 from layer to layer, and
# its product with their alpha, 1.6732632423543772, rounded once.
_SELU_SCALE, _SELU_LOW = 1.0507009873554805, 1.7580993408473768
# Beyond this e^-x is 0 in any format; so large a number times 0 is 0, where infinity times 0 is none.
_LARGE = 1e4
# Where e^x (e^x + 2) is so large that mish's x w / (w + 2) is x, and its square not yet infinite.
_MISH_MOST = 20.0


def _zero(v: Arithmetic) -> Any:
    return v.constant(0.0)


def _neg(v: Arithmetic, x: Any) -> Any:
    return v.sub(v.constant(-0.0), x)


def _kept(v: Arithmetic, x: Any, y: Any) -> Any:
    """y, or x where that is NaN."""
    return v.where("==", x, x, y, x)


def _relu(v: Arithmetic, x: Any) -> Any:
    """max(x, 0); NaN stays."""
    return v.max(x, _zero(v))


def _where_positive(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.where(">", y, _zero(v), dy, _zero(v))


def _relu6(v: Arithmetic, x: Any) -> Any:
    return v.min(v.max(x, _zero(v)), v.constant(6.0))


def _relu6_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.where("<", y, v.constant(6.0), _where_positive(v, dy, y), _zero(v))


def _bounded_relu(v: Arithmetic, x: Any, slope: Any, most: Any, threshold: Any) -> Any:
    below = v.where("==", slope, _zero(v), slope, v.mul(slope, v.sub(x, threshold)))
    return _kept(v, x, v.min(v.where(">=", x, threshold, x, below), most))


def _bounded_relu_backward(v: Arithmetic, dy: Any, x: Any, slope: Any, most: Any, threshold: Any) -> Any:
    between = v.where("<", x, most, dy, _zero(v))
    return v.where(">", x, threshold, between, v.mul(slope, dy))


def _leaky_relu(v: Arithmetic, x: Any, slope: Any) -> Any:
    return v.where(">", x, _zero(v), x, v.mul(slope, x))


def _leaky_relu_backward(v: Arithmetic, dy: Any, y: Any, slope: Any) -> Any:
    return v.where(">", y, _zero(v), dy, v.mul(slope, dy))


def _elu(v: Arithmetic, x: Any, alpha: Any) -> Any:
    return v.where(">", x, _zero(v), x, v.mul(alpha, v.expm1(v.min(x, _zero(v)))))


def _elu_backward(v: Arithmetic, dy: Any, y: Any, alpha: Any) -> Any:
    """Alpha e^x = y + alpha."""
    return v.where(">", y, _zero(v), dy, v.mul(dy, v.add(y, alpha)))


def _celu(v: Arithmetic, x: Any, alpha: Any) -> Any:
    return v.where(">", x, _zero(v), x, v.mul(alpha, v.expm1(v.div(v.min(x, _zero(v)), alpha))))


def _celu_backward(v: Arithmetic, dy: Any, y: Any, alpha: Any) -> Any:
    """e^(x / alpha) = y / alpha + 1."""
    return v.where(">", y, _zero(v), dy, v.mul(dy, v.add(v.div(y, alpha), v.constant(1.0))))


def _selu(v: Arithmetic, x: Any) -> Any:
    low = v.mul(v.constant(_SELU_LOW), v.expm1(v.min(x, _zero(v))))
    return v.where(">", x, _zero(v), v.mul(v.constant(_SELU_SCALE), x), low)


def _selu_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    low = v.add(y, v.constant(_SELU_LOW))
    return v.mul(dy, v.where(">", y, _zero(v), v.constant(_SELU_SCALE), low))


def _sigmoid_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.mul(dy, v.mul(y, v.sub(v.constant(1.0), y)))


def _hard_sigmoid(v: Arithmetic, x: Any) -> Any:
    return v.div(_relu6(v, v.add(x, v.constant(3.0))), v.constant(6.0))


def _hard_sigmoid_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    between = v.where("<", y, v.constant(1.0), v.div(dy, v.constant(6.0)), _zero(v))
    return v.where(">", y, _zero(v), between, _zero(v))


def _softplus(v: Arithmetic, x: Any) -> Any:
    """log(1 + e^x) as max(x, 0) + log(1 + e^-|x|): no overflow."""
    return v.add(v.max(x, _zero(v)), v.log1p(v.exp(_neg(v, v.abs(x)))))


def _softplus_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    """sigmoid(x) = 1 - e^-y."""
    return v.mul(dy, _neg(v, v.expm1(_neg(v, y))))


def _log_sigmoid(v: Arithmetic, x: Any) -> Any:
    """Never above 0, and so -0 where it is too small."""
    return v.sub(v.min(x, v.constant(-0.0)), v.log1p(v.exp(_neg(v, v.abs(x)))))


def _log_sigmoid_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    """sigmoid(-x) = 1 - e^y."""
    return v.mul(dy, _neg(v, v.expm1(y)))


def _tanh_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    one = v.constant(1.0)
    return v.mul(dy, v.mul(v.sub(one, y), v.add(one, y)))


def _hard_tanh(v: Arithmetic, x: Any) -> Any:
    return v.min(v.max(x, v.constant(-1.0)), v.constant(1.0))


def _hard_tanh_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.where("<", v.abs(y), v.constant(1.0), dy, _zero(v))


def _softsign(v: Arithmetic, x: Any) -> Any:
    """x / (1 + |x|), and its limits 1 and -1 where that is infinity by infinity."""
    size = v.abs(x)
    y = v.div(x, v.add(v.constant(1.0), size))
    return v.where("==", size, v.constant(math.inf), v.copysign(v.constant(1.0), x), y)


def _softsign_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    """1 / (1 + |x|)^2 = (1 - |y|)^2."""
    rest = v.sub(v.constant(1.0), v.abs(y))
    return v.mul(dy, v.mul(rest, rest))


def _silu(v: Arithmetic, x: Any) -> Any:
    """x sigmoid(x); the limit at minus infinity is 0."""
    return v.mul(v.max(x, v.constant(-_LARGE)), v.sigmoid(x))


def _silu_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    """s + x s (1 - s), s = sigmoid(x)."""
    s = v.sigmoid(x)
    bounded = v.min(v.max(x, v.constant(-_LARGE)), v.constant(_LARGE))
    return v.mul(dy, v.mul(s, v.fma(bounded, v.sub(v.constant(1.0), s), v.constant(1.0))))


def _hard_silu(v: Arithmetic, x: Any) -> Any:
    return v.mul(v.max(x, v.constant(-_LARGE)), _hard_sigmoid(v, x))


def _hard_silu_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    """0 up to -3, 1 from 3 on, x / 3 + 1 / 2 between."""
    between = v.mul(dy, v.add(v.div(x, v.constant(3.0)), v.constant(0.5)))
    above = v.where(">=", x, v.constant(3.0), dy, between)
    return v.where("<=", x, v.constant(-3.0), _zero(v), above)


def _gelu(v: Arithmetic, x: Any) -> Any:
    """x times the share of the normal distribution below x (Hendrycks and Gimpel 2016)."""
    return v.mul(v.max(x, v.constant(-_LARGE)), v.normal_cdf(x))


def _gelu_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    bounded = v.min(v.max(x, v.constant(-_LARGE)), v.constant(_LARGE))
    return v.mul(dy, v.fma(bounded, v.normal_density(x), v.normal_cdf(x)))


_GELU_CUBIC, _GELU_SCALE = 0.044715, math.sqrt(2 / math.pi)


def _gelu_tanh_argument(v: Arithmetic, x: Any) -> Any:
    """Twice sqrt(2 / pi) (x + 0.044715 x^3)."""
    cubic = v.mul(x, v.fma(v.mul(v.constant(_GELU_CUBIC), x), x, v.constant(1.0)))
    return v.mul(v.constant(2 * _GELU_SCALE), cubic)


def _gelu_tanh(v: Arithmetic, x: Any) -> Any:
    """x (1 + tanh(u)) / 2 = x sigmoid(2 u): no cancellation where tanh is near -1."""
    return v.mul(v.max(x, v.constant(-_LARGE)), v.sigmoid(_gelu_tanh_argument(v, x)))


def _gelu_tanh_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    bounded = v.min(v.max(x, v.constant(-_LARGE)), v.constant(_LARGE))
    s = v.sigmoid(_gelu_tanh_argument(v, bounded))
    inner = v.fma(v.mul(v.constant(3 * _GELU_CUBIC), bounded), bounded, v.constant(1.0))
    slope = v.mul(v.mul(v.constant(2 * _GELU_SCALE), inner), v.sub(v.constant(1.0), s))
    return v.mul(dy, v.mul(s, v.fma(bounded, slope, v.constant(1.0))))


def _mish_parts(v: Arithmetic, x: Any) -> tuple[Any, Any, Any]:
    """(e, w, w + 2), e = e^x, w = e (e + 2): tanh(log(1 + e)) = w / (w + 2)."""
    e = v.exp(v.min(x, v.constant(_MISH_MOST)))
    two = v.constant(2.0)
    w = v.mul(e, v.add(e, two))
    return e, w, v.add(w, two)


def _mish(v: Arithmetic, x: Any) -> Any:
    """x tanh(softplus(x)) (Misra 2019)."""
    _, w, below = _mish_parts(v, x)
    return v.mul(v.max(x, v.constant(-_LARGE)), v.div(w, below))


def _mish_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    """t + x (1 - t^2) sigmoid(x), t = w / (w + 2), 1 - t^2 = 4 (e + 1)^2 / (w + 2)^2, sigmoid(x) = e / (e + 1)."""
    e, w, below = _mish_parts(v, x)
    bounded = v.min(v.max(x, v.constant(-_LARGE)), v.constant(_LARGE))
    bend = v.div(v.mul(v.mul(v.constant(4.0), e), v.add(e, v.constant(1.0))), v.mul(below, below))
    return v.mul(dy, v.fma(bounded, bend, v.div(w, below)))


def _exponential_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.mul(dy, y)


def _threshold(v: Arithmetic, x: Any, threshold: Any, default: Any) -> Any:
    return _kept(v, x, v.where(">", x, threshold, x, default))


def _threshold_backward(v: Arithmetic, dy: Any, x: Any, threshold: Any, default: Any) -> Any:
    return v.where(">", x, threshold, dy, _zero(v))


def _soft_shrink(v: Arithmetic, x: Any, threshold: Any) -> Any:
    below = v.where("<", x, _neg(v, threshold), v.add(x, threshold), _zero(v))
    return _kept(v, x, v.where(">", x, threshold, v.sub(x, threshold), below))


def _hard_shrink(v: Arithmetic, x: Any, threshold: Any) -> Any:
    return _kept(v, x, v.where(">", v.abs(x), threshold, x, _zero(v)))


def _shrink_backward(v: Arithmetic, dy: Any, y: Any, threshold: Any) -> Any:
    return v.where(">", v.abs(y), _zero(v), dy, _zero(v))


def _binary_step(v: Arithmetic, x: Any) -> Any:
    """1 from 0 on (Heaviside's function)."""
    return _kept(v, x, v.where(">=", x, _zero(v), v.constant(1.0), _zero(v)))


def _sign(v: Arithmetic, x: Any) -> Any:
    return v.sign(x)


def _flat(v: Arithmetic, dy: Any, y: Any) -> Any:
    return _zero(v)


def _square_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return v.mul(dy, v.add(x, x))


def _sqrt_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    return v.div(dy, v.add(y, y))


# Below the first, which no format has denormal, x times the second has the same logarithm but for 64 log 2.
_LOG_SMALL, _LOG_SCALE, _LOG_OFFSET = 2.0**-60, 2.0**64, 44.3614195558365


def _log(v: Arithmetic, x: Any) -> Any:
    """Of denormal numbers, 0, infinity and negative numbers, too."""
    small = v.constant(_LOG_SMALL)
    y = v.log(v.where("<", x, small, v.mul(x, v.constant(_LOG_SCALE)), x))
    y = v.where("<", x, small, v.sub(y, v.constant(_LOG_OFFSET)), y)
    finite = v.where("==", v.sub(x, x), _zero(v), y, x)
    none = v.where("==", x, _zero(v), v.div(v.constant(-1.0), v.abs(x)), v.sqrt(x))
    return v.where(">", x, _zero(v), finite, none)


def _log_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return v.div(dy, x)


def _log1p(v: Arithmetic, x: Any) -> Any:
    """Of -1 and less, infinity and zeros, too."""
    least, y = v.constant(-1.0), v.log1p(x)
    above = v.where("==", v.sub(x, x), _zero(v), v.where("==", x, _zero(v), x, y), x)
    none = v.where("==", x, least, v.constant(-math.inf), v.sqrt(x))
    return v.where(">", x, least, above, none)


def _log1p_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return v.div(dy, v.add(v.constant(1.0), x))


def _expm1_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    """e^x = y + 1."""
    return v.fma(dy, y, dy)


def _rsqrt(v: Arithmetic, x: Any) -> Any:
    return v.div(v.constant(1.0), v.sqrt(x))


def _rsqrt_backward(v: Arithmetic, dy: Any, y: Any) -> Any:
    """-1 / (2 x sqrt(x)) = -y^3 / 2."""
    return v.mul(v.mul(dy, y), v.mul(v.constant(-0.5), v.mul(y, y)))


def _erf_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    bell = v.exp(_neg(v, v.mul(x, x)))
    return v.mul(dy, v.mul(v.constant(2.0 / math.sqrt(math.pi)), bell))


def _sin_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return v.mul(dy, v.cos(x))


def _cos_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return _neg(v, v.mul(dy, v.sin(x)))


def _absolute_backward(v: Arithmetic, dy: Any, x: Any) -> Any:
    return v.mul(dy, v.sign(x))


def prelu(v: Arithmetic, x: Any, alpha: Any) -> Any:
    """x where x > 0, else alpha x: the slope is a weight (He et al. 2015)."""
    return _leaky_relu(v, x, alpha)


def prelu_backward(v: Arithmetic, dy: Any, x: Any, alpha: Any) -> tuple[Any, Any]:
    """(dx, a sample's share of dalpha)."""
    return _leaky_relu_backward(v, dy, x, alpha), v.where(">", x, _zero(v), _zero(v), v.mul(dy, x))


ACTIVATIONS: dict[str, Activation] = {
    "identity": Activation(lambda v, x: x, lambda v, dy, y: dy),
    "relu": Activation(_relu, _where_positive, flat_at_zero=True),
    "sigmoid": Activation(lambda v, x: v.sigmoid(x), _sigmoid_backward, flat_at_zero=True),
    "tanh": Activation(lambda v, x: v.tanh(x), _tanh_backward),
    "relu6": Activation(_relu6, _relu6_backward, flat_at_zero=True),
    "bounded_relu": Activation(
        _bounded_relu, _bounded_relu_backward, "x", ("negative_slope", "max_value", "threshold")
    ),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_backward, numbers=("negative_slope",)),
    "elu": Activation(_elu, _elu_backward, numbers=("alpha",)),
    "celu": Activation(_celu, _celu_backward, numbers=("alpha",)),
    "selu": Activation(_selu, _selu_backward),
    "hard_sigmoid": Activation(_hard_sigmoid, _hard_sigmoid_backward, flat_at_zero=True),
    "log_sigmoid": Activation(_log_sigmoid, _log_sigmoid_backward),
    "hard_tanh": Activation(_hard_tanh, _hard_tanh_backward),
    "softplus": Activation(_softplus, _softplus_backward),
    "softsign": Activation(_softsign, _softsign_backward),
    "silu": Activation(_silu, _silu_backward, "x"),
    "hard_silu": Activation(_hard_silu, _hard_silu_backward, "x"),
    "gelu": Activation(_gelu, _gelu_backward, "x"),
    "gelu_tanh": Activation(_gelu_tanh, _gelu_tanh_backward, "x"),
    "mish": Activation(_mish, _mish_backward, "x"),
    "exponential": Activation(lambda v, x: v.exp(x), _exponential_backward, flat_at_zero=True),
    "threshold": Activation(_threshold, _threshold_backward, "x", ("threshold", "default_value")),
    "soft_shrink": Activation(_soft_shrink, _shrink_backward, numbers=("threshold",), flat_at_zero=True),
    "hard_shrink": Activation(_hard_shrink, _shrink_backward, numbers=("threshold",), flat_at_zero=True),
    "binary_step": Activation(_binary_step, _flat, flat=True),
    "sign": Activation(_sign, _flat, flat=True),
    "square": Activation(lambda v, x: v.mul(x, x), _square_backward, "x", plain=True),
    "sqrt": Activation(lambda v, x: v.sqrt(x), _sqrt_backward, plain=True),
    "log": Activation(_log, _log_backward, "x", plain=True),
    "absolute": Activation(lambda v, x: v.abs(x), _absolute_backward, "x", plain=True),
    "rsqrt": Activation(_rsqrt, _rsqrt_backward, plain=True),
    "log1p": Activation(_log1p, _log1p_backward, "x", plain=True),
    "expm1": Activation(lambda v, x: v.expm1(x), _expm1_backward, plain=True),
    "erf": Activation(lambda v, x: v.erf(x), _erf_backward, "x", plain=True),
    "sin": Activation(lambda v, x: v.sin(x), _sin_backward, "x", plain=True),
    "cos": Activation(lambda v, x: v.cos(x), _cos_backward, "x", plain=True),
}

CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
# Numbers that a kernel has room for.
MOST_NUMBERS = max(len(activation.numbers) for activation in ACTIVATIONS.values())
