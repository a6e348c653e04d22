"""Convolutions of images and sequences, channels last, and their gradients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.kernels.table.elementwise import ACTIVATIONS, FROM_INPUT
from fastnn.kernels.table.gemm import Z_WHERE_NEEDED
from fastnn.kernels.table.row import Choice, Integer, Integers, Option, Padding, Subset, op, product
from fastnn.kernels.table.windows import places_along

_GRADIENTS = ("dx", "dw", "db")

# What the tests run of every case; one of each kind: from y, from z, of rows.
_EPILOGUES = ("linear", "relu", "gelu", "softmax")
_VARIANTS = ({}, {"b": None}, *product(activation=_EPILOGUES[1:]))
_BACKWARD = tuple({**({} if each in FROM_INPUT else {"z": None}), "activation": each} for each in _EPILOGUES)


def _shares(whole: str, named: str) -> Callable[[Mapping[str, Any]], int]:
    """A group's share of a size, ``named`` so in messages."""

    def share(known: Mapping[str, Any]) -> int:
        if known[whole] % known["groups"]:
            raise ValueError(f"groups: got {known['groups']}, wants a divisor of the {known[whole]} {named}")
        return int(known[whole] // known["groups"])

    return share


def _options(axes: int, **more: Option) -> dict[str, Option]:
    """What is chosen of windows that move along so many axes."""
    strides = {"strides": Integers(axes, low=1), "padding": Padding(axes), "dilation": Integers(axes, low=1)}
    return {"activation": Choice(ACTIVATIONS), **strides, **more}


_GROUPS = Integer(low=1, varies=False)
_IN_GROUPS = {"cg": _shares("c", "channels of x"), "fg": _shares("f", "maps of w")}


def _images(**each: tuple[Any, ...]) -> tuple[dict[str, Any], ...]:
    """Cases of images: (n, h, w, c, kh, kw, f) each, and options that go with them."""
    names = ("n", "h", "w", "c", "kh", "kw", "f")
    return tuple(
        {**dict(zip(names, size, strict=True)), **options} for size, *rest in each["sizes"] for options in rest or ({},)
    )


_SAME, _AROUND = {"padding": "same"}, {"padding": ((2, 1), (0, 3))}
_CONV2D = {
    "options": _options(2, groups=_GROUPS),
    "rules": (),
    "derived": {
        **_IN_GROUPS,
        "oh": places_along(0, "h", "kh"),
        "ow": places_along(1, "w", "kw"),
    },
    "flops": lambda n, oh, ow, kh, kw, cg, f, **_: 2 * n * oh * ow * kh * kw * cg * f,
}
_CONV2D_CASES = _images(
    sizes=(
        ((1, 5, 4, 2, 2, 2, 2), {}, {"strides": (2, 1), **_SAME}, {"groups": 2, "dilation": (2, 1), **_AROUND}),
        ((0, 4, 4, 3, 3, 3, 5),),
        ((2, 3, 3, 0, 2, 2, 3),),
        ((2, 4, 4, 3, 2, 3, 0),),
        ((3, 6, 5, 7, 1, 1, 9), {}, {"strides": (3, 2)}, _AROUND),
        ((2, 5, 4, 3, 5, 4, 6),),
        ((2, 9, 10, 1, 5, 5, 20), {}, _SAME, {"strides": (2, 2), "padding": "same"}),
        ((1, 13, 17, 3, 3, 3, 33), {}, {**_SAME, "strides": (2, 3)}, {"dilation": (3, 2), **_SAME}),
        ((2, 8, 31, 16, 3, 3, 17), _SAME, {"strides": (2, 2), **_AROUND}, {"dilation": (2, 2), "strides": (2, 3)}),
        ((1, 7, 7, 12, 3, 2, 8), {"groups": 4}, {"groups": 2, "strides": (1, 2), **_SAME}),
        ((1, 3, 2, 70, 3, 3, 40), _SAME, {"groups": 2, **_SAME}, {"strides": (4, 5), "padding": ((4, 4), (5, 3))}),
        ((2, 6, 5, 4, 3, 3, 6), {**_SAME, "strides": (2, 1)}),
        ((1, 5, 30, 3, 2, 3, 5), {"dilation": (1, 2)}),
    )
)
# A layer amid a network, the second of a small one, and a first one.
_CONV2D_BENCH = _images(
    sizes=(((16, 58, 58, 64, 3, 3, 64),), ((64, 28, 28, 32, 3, 3, 64),), ((128, 28, 28, 1, 5, 5, 20),))
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
    variants=_VARIANTS,
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
    into=_GRADIENTS,
    **{
        **_CONV2D,
        "options": _CONV2D["options"] | {"need": Subset(_GRADIENTS)},
        "rules": (Z_WHERE_NEEDED,),
        "flops": lambda n, oh, ow, kh, kw, cg, f, **_: 4 * n * oh * ow * kh * kw * cg * f,
    },
    cases=_CONV2D_CASES,
    bench=_CONV2D_BENCH,
    variants=_BACKWARD,
    draw={"y": "activation"},
)
def conv2d_backward(
    dy,
    x,
    w,
    y,
    activation="linear",
    z=None,
    need=_GRADIENTS,
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
