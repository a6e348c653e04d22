"""thinc's operations, by fastnn's kernels where ``SERVED`` says so and as ``NumpyOps`` has them where it does not.

The kernels take NumPy arrays of float32 or float64 that go together. Whatever else thinc's methods are given, shapes
and dtypes that do not go together among it, is for ``NumpyOps`` to compute, or to refuse with the errors that thinc's
users know.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from thinc.backends import NumpyOps
from thinc.config import registry

from fastnn import ops

# The methods (X, inplace) and (dY, X, inplace) that are an op of the table each, and what they compute.
_ELEMENTWISE = {
    "backprop_gelu": ("gelu_backward", "Derivative of gelu."),
    "backprop_gelu_approx": ("gelu_tanh_backward", "Derivative of gelu_approx."),
    "backprop_hard_swish_mobilenet": ("hard_silu_backward", "Derivative of hard_swish_mobilenet."),
    "backprop_hard_tanh": (
        "hard_tanh_backward",
        "Derivative of hard_tanh: dY strictly between the bounds, which X and Y tell alike.",
    ),
    "gelu": ("gelu", "Y = X * P(X), P the standard normal distribution."),
    "gelu_approx": ("gelu_tanh", "gelu by a hyperbolic tangent."),
    "hard_swish_mobilenet": ("hard_silu", "Y = X * min(max(X + 3, 0), 6) / 6."),
    "hard_tanh": ("hard_tanh", "Y = min(max(X, -1), 1)."),
    "relu": ("relu", "Y = max(X, 0)."),
    "swish": ("silu", "Y = X * sigmoid(X)."),
}

# The methods that kernels serve, and the ops of the table that do. What is not here is NumpyOps' own: there is no op of
# the same numbers (hard_sigmoid and hard_swish with a slope of 1/5, dish, windows, sums and maxima of ragged sequences,
# maxout, gather_add), or only one of another layout (lstm), or no number is computed (hash, ngrams, padding, lists).
SERVED = {
    **{method: (op,) for method, (op, _) in _ELEMENTWISE.items()},
    "adam": ("adam_step",),
    "affine": ("linear",),
    "backprop_mish": ("mish_backward",),
    "backprop_relu": ("relu_backward",),
    "backprop_relu_k": ("bounded_relu_backward",),
    "backprop_sigmoid": ("sigmoid_backward",),
    "backprop_softmax": ("softmax_backward",),
    "backprop_swish": ("silu_backward",),
    "gemm": ("matmul",),
    "get_dropout_mask": ("dropout",),
    "mish": ("mish",),
    "relu_k": ("bounded_relu",),
    "sigmoid": ("sigmoid",),
    "softmax": ("softmax",),
    "update_averages": ("subtract", "sgd_step"),
}

_DTYPES = frozenset(map(np.dtype, ("float32", "float64")))

# From here on mish(x) is x to the last bit, and the threshold from which thinc makes it so changes nothing.
_MISH_IS_LINEAR = 20.0

# Of fewer numbers NumPy's three passes for an average cost less than two calls, in L2.
_FEWEST_AVERAGED = 1 << 15

# A step of Adam's so late that its corrections of both moments are 1: those are in the rate that thinc hands over.
_SETTLED = 2**62

# The bound of dropout's seeds.
_SEEDS = 2**63 - 1


def served(first: Any, *others: Any) -> bool:
    """Whether kernels take these arrays: NumPy's, of one shape and of one of their dtypes."""
    return _is_served(first) and all(_is_alike(other, first) and other.shape == first.shape for other in others)


def _is_served(array: Any) -> bool:
    return type(array) is np.ndarray and array.dtype in _DTYPES


def _is_alike(array: Any, first: Any) -> bool:
    return type(array) is np.ndarray and array.dtype == first.dtype


@registry.ops("FastnnOps")
class FastnnOps(NumpyOps):
    """thinc's operations on the CPU: ``NumpyOps``, with the methods that ``SERVED`` lists computed by fastnn's kernels.

    ``use_ops("fastnn")`` and ``get_ops("fastnn")`` find it, and models made meanwhile have it. Results are equal to
    NumpyOps' to rounding, with three exceptions. Dropout masks are others: of NumPy's global generator, which
    ``fix_random_seed`` sets, just a seed is drawn. ``gelu`` has no error of its approximation of erf (1e-7), and
    ``sigmoid`` goes on beyond 20 and -20. Kernels run on several threads (``fastnn.set_num_threads``), with the same
    bits on any number of them.
    """

    name = "fastnn"

    # parameters have thinc's annotations, or none

    def gemm(self, x, y, out=None, trans1=False, trans2=False):
        """Matrix product of x (n, k), or (k, n) with ``trans1``, and y (k, m), or (m, k) with ``trans2``: (n, m)."""
        if _is_served(x) and _is_alike(y, x) and x.ndim == y.ndim == 2:
            a, b = x.T if trans1 else x, y.T if trans2 else y
            shape = (a.shape[0], b.shape[1])
            if a.shape[1] == b.shape[0] and (out is None or (_is_alike(out, x) and out.shape == shape)):
                return ops.matmul(a, b, out=out)
        return super().gemm(x, y, out=out, trans1=trans1, trans2=trans2)

    def affine(self, X, W, b):
        """Linear layer Y = X @ W.T + b; X is (n, in), W (out, in), b (out,)."""
        if (
            _is_served(X)
            and _is_alike(W, X)
            and _is_alike(b, X)
            and X.ndim == W.ndim == 2
            and X.shape[1] == W.shape[1]
            and b.shape == W.shape[:1]
        ):
            return ops.linear(X, W.T, b)
        return super().affine(X, W, b)

    # Of what has more parameters than ``_ELEMENTWISE`` says, or others:

    def backprop_relu(self, dY, Y, inplace=False):
        """Derivative of relu."""
        if served(dY, Y):
            return ops.relu_backward(dY, Y, Y, out=dY if inplace else None)
        return super().backprop_relu(dY, Y, inplace)

    def sigmoid(self, X, *, inplace=False):
        """Y = 1 / (1 + exp(-X))."""
        return ops.sigmoid(X, out=X if inplace else None) if served(X) else super().sigmoid(X, inplace=inplace)

    def backprop_sigmoid(self, dY, Y, *, inplace=False):
        """Derivative of sigmoid; what is in place is in Y, as thinc has it."""
        if served(dY, Y):
            return ops.sigmoid_backward(dY, Y, Y, out=Y if inplace else None)
        return super().backprop_sigmoid(dY, Y, inplace=inplace)

    def backprop_swish(self, dY, X, Y, inplace=False):
        """Derivative of swish."""
        if served(dY, X, Y):
            return ops.silu_backward(dY, X, Y, out=dY if inplace else None)
        return super().backprop_swish(dY, X, Y, inplace)

    def relu_k(self, X, n=6.0, inplace=False):
        """Y = min(max(X, 0), n)."""
        if served(X) and n >= 0:
            return ops.bounded_relu(X, 0.0, n, out=X if inplace else None)
        return super().relu_k(X, n, inplace)

    def backprop_relu_k(self, dY, X, n=6.0, inplace=False):
        """Derivative of relu_k: dY where 0 < X < n, else 0."""
        if served(dY, X) and n >= 0:
            return ops.bounded_relu_backward(dY, X, X, 0.0, n, out=dY if inplace else None)
        return super().backprop_relu_k(dY, X, n, inplace)

    def mish(self, X, threshold=20.0, inplace=False):
        """Y = X * tanh(log(1 + exp(X))), X from the threshold on."""
        if served(X) and threshold >= _MISH_IS_LINEAR:
            return ops.mish(X, out=X if inplace else None)
        return super().mish(X, threshold, inplace)

    def backprop_mish(self, dY, X, threshold=20.0, inplace=False):
        """Derivative of mish, dY from the threshold on."""
        if served(dY, X) and threshold >= _MISH_IS_LINEAR:
            return ops.mish_backward(dY, X, X, out=dY if inplace else None)
        return super().backprop_mish(dY, X, threshold, inplace)

    def softmax(self, x, *, inplace=False, axis=-1, temperature=1.0):
        """Softmax of x / temperature along an axis."""
        if not (served(x) and _is_of_rows(x, axis)):
            return super().softmax(x, inplace=inplace, axis=axis, temperature=temperature)
        return ops.softmax(_rows(x if temperature == 1.0 else x / temperature)).reshape(x.shape)

    def backprop_softmax(self, Y, dY, *, axis=-1, temperature=1.0):
        """Derivative of softmax."""
        if not (served(Y, dY) and _is_of_rows(Y, axis)):
            return super().backprop_softmax(Y, dY, axis=axis, temperature=temperature)
        y, dy = _rows(Y), _rows(dY if temperature == 1.0 else dY / temperature)
        return ops.softmax_backward(dy, y, y).reshape(Y.shape)

    def get_dropout_mask(self, shape, drop):
        """Random zeros with probability ``drop``, else 1 / (1 - drop), in float32."""
        if drop is None or not 0.0 < drop < 1.0 or not isinstance(shape, tuple) or not shape:
            return super().get_dropout_mask(shape, drop)
        mask = np.ones(shape, np.float32)
        rows = mask.reshape(math.prod(shape[:-1]), shape[-1])
        ops.dropout(rows, drop, int(np.random.randint(_SEEDS)), out=rows)  # noqa: NPY002 - thinc's generator
        return mask

    def adam(
        self,
        weights,
        gradient,
        mom1,
        mom2,
        beta1,
        beta2,
        eps,
        learn_rate,
        mod_rate=1.0,
    ):
        """One step of Adam, in place, with its corrections in ``learn_rate``; the gradient becomes 0."""
        if (
            served(weights, gradient, mom1, mom2)
            and 0.0 <= beta1 < 1.0
            and 0.0 <= beta2 < 1.0
            and 0.0 < eps < math.inf
            and 0.0 <= learn_rate < math.inf
        ):
            ops.adam_step(weights, gradient, mom1, mom2, _SETTLED, None, learn_rate, beta1, beta2, eps)
            gradient.fill(0)
            return weights, gradient, mom1, mom2
        return super().adam(weights, gradient, mom1, mom2, beta1, beta2, eps, learn_rate, mod_rate)

    def update_averages(self, ema, weights, t, max_decay=0.9999):
        """Running average ema = d * ema + (1 - d) * weights, in place; d = (1 + t) / (10 + t) or ``max_decay``."""
        stays = min((1.0 + t) / (10.0 + t), max_decay)
        if served(ema, weights) and ema.size >= _FEWEST_AVERAGED and 0.0 <= stays <= 1.0:
            ops.sgd_step(ema, ops.subtract(ema, weights), learning_rate=1.0 - stays)
        else:
            super().update_averages(ema, weights, t, max_decay)


def _elementwise(method: str, op: str) -> Callable[..., Any]:
    """A method that calls an op, or NumpyOps' own method."""

    def forward(self, X, inplace=False):
        if served(X):
            return getattr(ops, op)(X, out=X if inplace else None)
        return getattr(super(FastnnOps, self), method)(X, inplace)

    def backward(self, dY, X, inplace=False):
        if served(dY, X):
            return getattr(ops, op)(dY, X, X, out=dY if inplace else None)
        return getattr(super(FastnnOps, self), method)(dY, X, inplace)

    return backward if method.startswith("backprop_") else forward


for _method, (_op, _said) in _ELEMENTWISE.items():
    _made = _elementwise(_method, _op)
    _made.__name__, _made.__qualname__, _made.__doc__ = _method, f"FastnnOps.{_method}", _said
    setattr(FastnnOps, _method, _made)


def _is_of_rows(x: Any, axis: int) -> bool:
    """Whether an axis is the last one, and there is something along it."""
    return x.size > 0 and x.ndim > 0 and axis in (-1, x.ndim - 1)


def _rows(x: Any) -> Any:
    return x if x.ndim == 2 else x.reshape(-1, x.shape[-1])
