"""The gates of recurrent cells, one unit at a time, from the sums that go into them; and their derivatives.

Derivatives of sigmoid and tanh are those of ``activations``: functions of the results.
"""

from __future__ import annotations

from typing import Any

from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.arithmetic import Arithmetic

_sigmoid_backward, _tanh_backward = ACTIVATIONS["sigmoid"].backward, ACTIVATIONS["tanh"].backward


def lstm(v: Arithmetic, i: Any, f: Any, g: Any, o: Any, before: Any) -> tuple[Any, ...]:
    """(i, f, g, o, c, h) of the sums, with the cell's state ``before``."""
    i, f, g, o = v.sigmoid(i), v.sigmoid(f), v.tanh(g), v.sigmoid(o)
    c = v.fma(f, before, v.mul(i, g))
    return i, f, g, o, c, v.mul(o, v.tanh(c))


def lstm_backward(
    v: Arithmetic, dh: Any, dc: Any, i: Any, f: Any, g: Any, o: Any, before: Any, c: Any
) -> tuple[Any, ...]:
    """Gradients by the sums of i, f, g, o, and by ``before``, from those by h and by the cell's state c."""
    squashed = v.tanh(c)
    dc = v.add(dc, _tanh_backward(v, v.mul(dh, o), squashed))
    return (
        _sigmoid_backward(v, v.mul(dc, g), i),
        _sigmoid_backward(v, v.mul(dc, before), f),
        _tanh_backward(v, v.mul(dc, i), g),
        _sigmoid_backward(v, v.mul(dh, squashed), o),
        v.mul(dc, f),
    )


def gru(v: Arithmetic, z: Any, r: Any, c: Any, hz: Any, hr: Any, hc: Any, before: Any) -> tuple[Any, ...]:
    """(z, r, c, h) of the sums of the inputs and of the state, which is ``before``."""
    z, r = v.sigmoid(v.add(z, hz)), v.sigmoid(v.add(r, hr))
    c = v.tanh(v.fma(r, hc, c))
    return z, r, c, v.fma(z, v.sub(before, c), c)


def gru_backward(v: Arithmetic, dh: Any, z: Any, r: Any, c: Any, hc: Any, before: Any) -> tuple[Any, ...]:
    """Gradients by the sums of z, r and c, by hc, and by ``before`` but for the sums, from that by h."""
    dc = _tanh_backward(v, v.mul(dh, v.sub(v.constant(1.0), z)), c)
    dz = _sigmoid_backward(v, v.mul(dh, v.sub(before, c)), z)
    return dz, _sigmoid_backward(v, v.mul(dc, hc), r), dc, v.mul(dc, r), v.mul(dh, z)
