"""Depthwise convolutions: each channel has kernels of its own."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.convolution import AROUND, BACKWARD, EPILOGUES, GRADIENTS, SAME, images, window_options
from fastnn.kernels.table.gemm import Z_WHERE_NEEDED
from fastnn.kernels.table.row import Subset, op
from fastnn.kernels.table.windows import places_along

_NAMES = ("n", "h", "w", "c", "kh", "kw", "m")
_DEPTHWISE: dict[str, Any] = {
    "options": window_options(2),
    "derived": {
        "cm": lambda known: known["c"] * known["m"],
        "oh": places_along(0, "h", "kh"),
        "ow": places_along(1, "w", "kw"),
    },
    "cases": images(
        _NAMES,
        ((1, 5, 4, 2, 2, 2, 1), {}, {"strides": (2, 1), **SAME}, {"dilation": (2, 1), **AROUND}),
        ((0, 4, 4, 3, 3, 3, 2),),
        ((2, 3, 3, 0, 2, 2, 3),),
        ((2, 4, 4, 3, 2, 3, 0),),
        ((2, 6, 5, 17, 1, 1, 1), {}, {"strides": (3, 2)}),
        ((1, 9, 10, 33, 3, 3, 1), {}, SAME, {"strides": (2, 2), **SAME}),
        ((2, 7, 8, 5, 3, 3, 3), {}, SAME, {"strides": (2, 3), "padding": ((2, 0), (1, 4))}),
        ((1, 8, 7, 16, 2, 3, 4), {"dilation": (3, 2), **SAME}),
        ((2, 6, 5, 4, 3, 3, 2), {**SAME, "strides": (2, 1)}),
        ((1, 5, 30, 3, 2, 3, 1), {"dilation": (1, 2)}),
    ),
    "bench": images(_NAMES, ((32, 30, 30, 64, 3, 3, 1),)),
}


@op(
    "depthwise",
    x="n h w c",
    w="kh kw c m",
    b="cm",
    returns=("n oh ow cm",),
    **_DEPTHWISE,
    flops=lambda n, oh, ow, kh, kw, cm, **_: 2 * n * oh * ow * kh * kw * cm,
    variants=EPILOGUES,
)
def depthwise_conv2d(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1), *, out=None):
    """Convolution of each channel with kernels of its own, with bias and activation fused.

    y[n, i, j, c m + l] = activation(sum over k, k' of x[n, i s + k d - p, j s' + k' d' - p', c] w[k, k', c, l] + b).
    x is (n, h, w, c), w is (kh, kw, c, m), b is (c m,) or None, y is (n, oh, ow, c m). Strides, padding and
    dilation are those of ``conv2d``.
    """


@op(
    "depthwise",
    dy="n oh ow cm",
    x="n h w c",
    w="kh kw c m",
    y="n oh ow cm",
    z="n oh ow cm",
    returns=("n h w c", "kh kw c m", "cm"),
    into=GRADIENTS,
    **{**_DEPTHWISE, "options": _DEPTHWISE["options"] | {"need": Subset(GRADIENTS)}},
    rules=(Z_WHERE_NEEDED,),
    flops=lambda n, oh, ow, kh, kw, cm, **_: 4 * n * oh * ow * kh * kw * cm,
    variants=BACKWARD,
    draw={"y": "activation"},
)
def depthwise_conv2d_backward(
    dy,
    x,
    w,
    y,
    activation="linear",
    z=None,
    need=GRADIENTS,
    strides=(1, 1),
    padding="valid",
    dilation=(1, 1),
    *,
    dx=None,
    dw=None,
    db=None,
):
    """Gradients of ``depthwise_conv2d``: (dx, dw, db), as ``conv2d_backward`` has them."""
