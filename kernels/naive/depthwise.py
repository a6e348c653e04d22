"""Depthwise convolutions: those of as many groups as there are channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.kernels.naive import convolution
from fastnn.kernels.naive._lists import deliver


def _of_groups(w: Any) -> Any:
    """(kh, kw, c, m) as (kh, kw, 1, c m)."""
    return w.reshape(*w.shape[:2], 1, w.shape[2] * w.shape[3])


def depthwise_conv2d(
    x: Any,
    w: Any,
    b: Any = None,
    activation: str = "linear",
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    out: Any = None,
) -> Any:
    """activation(x * w + b), channel by channel."""
    options = strides, padding, dilation, x.shape[3]
    return convolution.conv2d(x, _of_groups(w), b, activation, *options, out=out)


def depthwise_conv2d_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    strides: Any = (1, 1),
    padding: Any = "valid",
    dilation: Any = (1, 1),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """The gradients by x, by the kernels of each channel, by b."""
    options = need, strides, padding, dilation, x.shape[3]
    of_x, of_w, of_b = convolution.conv2d_backward(dy, x, _of_groups(w), y, activation, z, *options, dx=dx, db=db)
    return of_x, None if of_w is None else deliver(of_w, w.shape, x.dtype, dw), of_b
