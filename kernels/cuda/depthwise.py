"""Depthwise convolutions on the device: those of as many groups as there are channels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn.kernels.cuda import convolution
from fastnn.kernels.planned import Planned


def _moved(x: Any, w: Any, strides: Any, padding: Any, dilation: Any) -> convolution.Moved:
    """Of the kernel (kh, kw, c, m) as (kh, kw, 1, c m)."""
    kernel = (*w.shape[:2], 1, w.shape[2] * w.shape[3])
    return convolution.moved(x, kernel, strides, padding, dilation, max(1, x.shape[3]))


@Planned
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
) -> Callable[..., Any]:
    """The sums, and the activation."""
    how = _moved(x, w, strides, padding, dilation)
    return convolution.layer("forward", how, how.y, activation, (x, w, b), out)


@Planned
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
) -> Callable[..., tuple[Any, Any, Any]]:
    """dz with its columns' sums first."""
    of_x, of_w = convolution.slopes(_moved(x, w, strides, padding, dilation), x.dtype)
    return convolution.gradients(of_x, of_w, need, activation, (x, dy, w, y, z), (dx, dw, db))
