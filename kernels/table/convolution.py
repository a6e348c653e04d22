"""Convolutions of images and sequences, channels last, transposed ones, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastnn.kernels.table.elementwise import ACTIVATIONS, FROM_INPUT
from fastnn.kernels.table.gemm import Z_WHERE_NEEDED
from fastnn.kernels.table.row import Choice, Integer, Integers, Option, Padding, Subset, op
from fastnn.kernels.table.windows import places_along, spread_along

GRADIENTS = ("dx", "dw", "db")

# What the tests run of every case; one of each kind: from y, from z, of rows.
EPILOGUES: tuple[dict[str, Any], ...] = ({}, {"b": None, "activation": "relu"}, {"activation": "softmax"})
BACKWARD = tuple(
    {**({} if each in FROM_INPUT else {"z": None}), "activation": each} for each in ("linear", "gelu", "softmax")
)


def _shares(whole: str, named: str) -> Callable[[Mapping[str, Any]], int]:
    """A group's share of a size, ``named`` so in messages."""

    def share(known: Mapping[str, Any]) -> int:
        if known[whole] % known["groups"]:
            raise ValueError(f"groups: got {known['groups']}, wants a divisor of the {known[whole]} {named}")
        return int(known[whole] // known["groups"])

    return share


def window_options(axes: int, **more: Option) -> dict[str, Option]:
    """What is chosen of windows that move along so many axes."""
    moves: dict[str, Option] = {
        "strides": Integers(axes, low=1),
        "padding": Padding(axes),
        "dilation": Integers(axes, low=1),
    }
    return {"activation": Choice(ACTIVATIONS), **moves, **more}


_GROUPS = Integer(low=1, varies=False)
_IN_GROUPS = {"cg": _shares("c", "channels of x"), "fg": _shares("f", "maps of w")}


def images(names: Sequence[str], *each: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Cases of (sizes, options that go with them, others, ...) each."""
    found = []
    for size, *options in each:
        sizes = dict(zip(names, size, strict=True))
        found += [{**sizes, **some} for some in options or [{}]]
    return tuple(found)


_NAMES = ("n", "h", "w", "c", "kh", "kw", "f")
SAME, AROUND = {"padding": "same"}, {"padding": ((2, 1), (0, 3))}
_CONV2D: dict[str, Any] = {
    "options": window_options(2, groups=_GROUPS),
    "rules": (),
    "derived": {
        **_IN_GROUPS,
        "oh": places_along(0, "h", "kh"),
        "ow": places_along(1, "w", "kw"),
    },
    "flops": lambda n, oh, ow, kh, kw, cg, f, **_: 2 * n * oh * ow * kh * kw * cg * f,
}
_CONV2D_CASES = images(
    _NAMES,
    *(
        ((1, 5, 4, 2, 2, 2, 2), {}, {"strides": (2, 1), **SAME}, {"groups": 2, "dilation": (2, 1), **AROUND}),
        ((0, 4, 4, 3, 3, 3, 5),),
        ((2, 3, 3, 0, 2, 2, 3),),
        ((2, 4, 4, 3, 2, 3, 0),),
        ((3, 6, 5, 7, 1, 1, 9), {}, {"strides": (3, 2)}, AROUND),
        ((2, 5, 4, 3, 5, 4, 6),),
        ((2, 9, 10, 1, 5, 5, 20), {}, SAME, {"strides": (2, 2), "padding": "same"}),
        ((1, 13, 17, 3, 3, 3, 33), {}, {**SAME, "strides": (2, 3)}, {"dilation": (3, 2), **SAME}),
        ((2, 8, 31, 16, 3, 3, 17), SAME, {"strides": (2, 2), **AROUND}, {"dilation": (2, 2), "strides": (2, 3)}),
        ((2, 9, 8, 16, 3, 3, 18), {}, AROUND),
        ((1, 7, 7, 12, 3, 2, 8), {"groups": 4}, {"groups": 2, "strides": (1, 2), **SAME}),
        ((1, 3, 2, 70, 3, 3, 40), SAME, {"groups": 2, **SAME}, {"strides": (4, 5), "padding": ((4, 4), (5, 3))}),
        ((2, 6, 5, 4, 3, 3, 6), {**SAME, "strides": (2, 1)}),
        ((1, 5, 30, 3, 2, 3, 5), {"dilation": (1, 2)}),
    ),
)
# A layer amid a network, the second of a small one, and a first one.
_CONV2D_BENCH = images(
    _NAMES, *(((16, 58, 58, 64, 3, 3, 64),), ((64, 28, 28, 32, 3, 3, 64),), ((128, 28, 28, 1, 5, 5, 20),))
)


@op(
    "convolution",
    x="n h w c",
    w="kh kw cg f",
    b="f",
    returns=("n oh ow f",),
    **_CONV2D,
    cases=_CONV2D_CASES,
    bench=_CONV2D_BENCH,
    variants=EPILOGUES,
)
def conv2d(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1), groups=1, *, out=None):
    """Convolution of images with its bias and activation fused, as a layer has it: y = activation(x * w + b).

    y[n, i, j, f] = sum over k, l, c of x[n, i s + k d - p, j s' + l d' - p', c] w[k, l, c, f], + b[f], with strides s,
    dilation d, and x zero where it is padded. x is (n, h, w, c), w is (kh, kw, c / groups, f), b is (f,) or None, y is
    (n, oh, ow, f). Padding "valid" is none; "same" makes oh = ceil(h / s), the odd row or column last; or it is a
    number, one for each axis, or ((top, bottom), (left, right)). Of several groups, each has its share of c and of f.
    """


@op(
    "convolution",
    dy="n oh ow f",
    x="n h w c",
    w="kh kw cg f",
    y="n oh ow f",
    z="n oh ow f",
    returns=("n h w c", "kh kw cg f", "f"),
    into=GRADIENTS,
    **{
        **_CONV2D,
        "options": _CONV2D["options"] | {"need": Subset(GRADIENTS)},
        "rules": (Z_WHERE_NEEDED,),
        "flops": lambda n, oh, ow, kh, kw, cg, f, **_: 4 * n * oh * ow * kh * kw * cg * f,
    },
    cases=_CONV2D_CASES,
    bench=_CONV2D_BENCH,
    variants=BACKWARD,
    draw={"y": "activation"},
)
def conv2d_backward(
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
    groups=1,
    *,
    dx=None,
    dw=None,
    db=None,
):
    """Gradients of ``conv2d``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx is dz * w turned around, dw the products of x's windows with dz, db the sums of dz.
    Where y tells the derivative z is None; gelu, silu, mish and others need it: z = conv2d(x, w, b). What is not in
    ``need`` is not computed, and None. Arrays given as dx, dw, db are written into.
    """


_SEQUENCES = ("n", "w", "c", "kw", "f")
_CONV1D: dict[str, Any] = {
    "options": window_options(1, groups=_GROUPS),
    "derived": {**_IN_GROUPS, "ow": places_along(0, "w", "kw")},
    "cases": images(
        _SEQUENCES,
        ((1, 6, 2, 3, 2), {}, {**SAME, "strides": (2,)}, {"groups": 2, "dilation": (2,), "padding": ((1, 2),)}),
        ((0, 4, 3, 3, 5),),
        ((3, 5, 0, 2, 3),),
        ((7, 50, 1, 5, 33), SAME),
        ((2, 33, 18, 4, 40), {}, {"strides": (3,), **SAME}),
        ((5, 9, 6, 1, 4), {}, {"strides": (2,)}),
        ((2, 19, 6, 3, 8), {"groups": 2}),
        ((3, 11, 5, 3, 7), {"dilation": (2,)}),
    ),
    "bench": images(_SEQUENCES, ((64, 128, 64, 5, 64),)),
}


@op(
    "convolution",
    x="n w c",
    w="kw cg f",
    b="f",
    returns=("n ow f",),
    **_CONV1D,
    flops=lambda n, ow, kw, cg, f, **_: 2 * n * ow * kw * cg * f,
    variants=EPILOGUES,
)
def conv1d(x, w, b=None, activation="linear", strides=(1,), padding="valid", dilation=(1,), groups=1, *, out=None):
    """``conv2d`` of sequences: x is (n, w, c), the kernel (kw, c / groups, f), y is (n, ow, f).

    Padding is "valid", "same", or ((before, after),); ((dilation * (kw - 1), 0),) with stride 1 looks at nothing later.
    """


@op(
    "convolution",
    dy="n ow f",
    x="n w c",
    w="kw cg f",
    y="n ow f",
    z="n ow f",
    returns=("n w c", "kw cg f", "f"),
    into=GRADIENTS,
    **{**_CONV1D, "options": _CONV1D["options"] | {"need": Subset(GRADIENTS)}},
    rules=(Z_WHERE_NEEDED,),
    flops=lambda n, ow, kw, cg, f, **_: 4 * n * ow * kw * cg * f,
    variants=BACKWARD,
    draw={"y": "activation"},
)
def conv1d_backward(
    dy,
    x,
    w,
    y,
    activation="linear",
    z=None,
    need=GRADIENTS,
    strides=(1,),
    padding="valid",
    dilation=(1,),
    groups=1,
    *,
    dx=None,
    dw=None,
    db=None,
):
    """Gradients of ``conv1d``, as ``conv2d_backward`` has them of images."""


_TRANSPOSED: dict[str, Any] = {
    "options": window_options(2),
    "derived": {"oh": spread_along(0, "h", "kh"), "ow": spread_along(1, "w", "kw")},
    "cases": images(
        _NAMES,
        *(
            ((1, 3, 2, 2, 2, 2, 2), {}, {"strides": (2, 3)}, {"strides": (2, 1), **SAME}),
            ((0, 4, 4, 3, 3, 3, 5),),
            ((2, 3, 3, 0, 2, 2, 3),),
            ((2, 4, 4, 3, 2, 3, 0),),
            ((3, 6, 5, 7, 1, 1, 9), {}, {"strides": (3, 2)}),
            ((1, 1, 1, 6, 4, 3, 5),),
            ((2, 5, 6, 17, 3, 3, 33), SAME, {"strides": (2, 2), **SAME}, {"dilation": (2, 3)}),
            ((1, 4, 7, 40, 5, 4, 3), {"strides": (3, 2), "padding": ((1, 0), (2, 1))}, {"strides": (2, 2), **SAME}),
            ((2, 4, 3, 5, 3, 3, 4), {"strides": (2, 2), "dilation": (2, 1)}),
            ((2, 5, 4, 3, 4, 2, 6), {"strides": (1, 2)}),
        ),
    ),
    "bench": images(_NAMES, *(((32, 14, 14, 64, 3, 3, 32),),)),
}


@op(
    "convolution",
    x="n h w c",
    w="kh kw f c",
    b="f",
    returns=("n oh ow f",),
    **_TRANSPOSED,
    flops=lambda n, h, w, c, kh, kw, f, **_: 2 * n * h * w * c * kh * kw * f,
    variants=EPILOGUES,
)
def conv2d_transpose(x, w, b=None, activation="linear", strides=(1, 1), padding="valid", dilation=(1, 1), *, out=None):
    """Transposed convolution of images, with its bias and activation fused: each x spreads the kernel over y.

    The gradient by its input of a convolution with kernel w (kh, kw, f, c), strides, padding and dilation, of which
    x (n, h, w, c) is the gradient by the result; y is activation of that + b. y is (n, oh, ow, f): with padding "same"
    oh = h s, with "valid" h s + max(reach - s, 0), where a window reaches over (kh - 1) d + 1 numbers, and with
    ((top, bottom), (left, right)) (h - 1) s + reach - top - bottom.
    """


@op(
    "convolution",
    dy="n oh ow f",
    x="n h w c",
    w="kh kw f c",
    y="n oh ow f",
    z="n oh ow f",
    returns=("n h w c", "kh kw f c", "f"),
    into=GRADIENTS,
    **{**_TRANSPOSED, "options": _TRANSPOSED["options"] | {"need": Subset(GRADIENTS)}},
    rules=(Z_WHERE_NEEDED,),
    flops=lambda n, h, w, c, kh, kw, f, **_: 4 * n * h * w * c * kh * kw * f,
    variants=BACKWARD,
    draw={"y": "activation"},
)
def conv2d_transpose_backward(
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
    """Gradients of ``conv2d_transpose``: (dx, dw, db) from dy = dL/dy, with y the output of the forward pass.

    dz = dy * activation'(z); dx is the convolution of dz with w, dw the products of dz's windows with x, db the sums of
    dz. z, ``need`` and dx, dw, db as in ``conv2d_backward``.
    """
