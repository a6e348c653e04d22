"""Recurrent layers over whole sequences, in Keras's layout of weights, and back-propagation through time.

All take x (n, t, f), kernel (f, g), recurrent_kernel (u, g), of which g is u for each gate. A step whose mask (n, t) is
0 leaves the state as it was, gives the output of the step before, and keeps zeros beside. The first state is h0 (n, u),
or zeros. Going backwards the last step of x comes first, and outputs are in the order in which they are made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn.kernels.table.row import Choice, Flag, Rule, Subset, op

_SHAPES = (
    (0, 3, 2, 1),
    (2, 0, 3, 2),
    (1, 1, 1, 1),
    (2, 3, 0, 2),
    (3, 2, 3, 2),
    (5, 4, 2, 9),
    (2, 5, 3, 17),
    (17, 6, 5, 33),
)
_BENCH = ((128, 100, 16, 32),)

# The results of the forward ops, in their order.
RESULTS = {
    "simple_rnn": ("y", "h"),
    "lstm": ("y", "h", "c", "gates", "cells"),
    "gru": ("y", "h", "gates", "candidates"),
}


def _sizes(shapes: tuple[tuple[int, int, int, int], ...]) -> tuple[dict[str, int], ...]:
    return tuple({"n": n, "t": t, "f": f, "u": u} for n, t, f, u in shapes)


def _some_slope(*names: str) -> Rule:
    def holds(given: Mapping[str, Any]) -> bool:
        return any(given[name] is not None for name in names)

    return Rule(names[0], f"given where there is no {' or '.join(names[1:])}", holds)


def _flops(gates: int, passes: int) -> Callable[..., float]:
    return lambda n, t, f, u, **_: 2.0 * passes * gates * n * t * u * (f + u)


def _row(times: int, passes: int, /, **given: str) -> dict[str, Any]:
    variants: list[dict[str, Any]] = [{}, {"mask": None}, {"go_backwards": True}]
    optional = [name for name in ("bias", "h0", "c0") if name in given]
    variants.append({"mask": None, "go_backwards": True, **dict.fromkeys(optional)})
    if "dh" in given:
        variants += [{"dy": None}, dict.fromkeys([name for name in ("dh", "dc") if name in given])]
    draws: dict[str, str] = {name: "small" for name in ("kernel", "recurrent_kernel") if name in given}
    draws |= {"mask": "mask"} | {name: "unit" for name in ("gates", "y") if name in given}
    return {
        **given,
        "cases": _sizes(_SHAPES),
        "bench": _sizes(_BENCH),
        "flops": _flops(times, passes),
        "variants": tuple(variants),
        "draw": draws,
        "derived": {"g": lambda sizes: times * int(sizes["u"]), "two": lambda _: 2},
    }


_WEIGHTS = {"x": "n t f", "kernel": "f g", "recurrent_kernel": "u g"}
_GIVEN = {"mask": "n t", "h0": "n u"}
_GRADIENTS = ("dx", "dkernel", "drecurrent_kernel", "dbias", "dh0")
_OF_STATES = (*_GRADIENTS, "dc0")
# The results of the backward ops, by the forward ones' names.
GRADIENTS = {"simple_rnn": _GRADIENTS, "lstm": _OF_STATES, "gru": _GRADIENTS}
_BACKWARDS = {"go_backwards": Flag()}
# Those whose derivative follows from their results, and that take no numbers.
ACTIVATIONS = ("tanh", "relu", "sigmoid", "linear")


@op(
    "recurrent",
    **_row(1, 1, **_WEIGHTS, bias="g", **_GIVEN),
    returns=("n t u", "n u"),
    options={"activation": Choice(ACTIVATIONS), **_BACKWARDS},
)
def simple_rnn(x, kernel, recurrent_kernel, bias=None, mask=None, h0=None, activation="tanh", go_backwards=False):
    """Elman's network: h = activation(x kernel + h recurrent_kernel + bias), step by step: (y, h).

    y (n, t, u) are all outputs, h (n, u) is the last state. x (n, t, f), kernel (f, u), recurrent_kernel (u, u), bias
    (u,). Steps whose mask (n, t) is 0 leave h as it was; at first it is h0, or zeros.
    """


@op(
    "recurrent",
    **_row(1, 2, **_WEIGHTS, y="n t u", dy="n t u", dh="n u", **_GIVEN),
    returns=("n t f", "f g", "u g", "g", "n u"),
    options={"activation": Choice(ACTIVATIONS), **_BACKWARDS, "need": Subset(_GRADIENTS)},
    rules=(_some_slope("dy", "dh"),),
)
def simple_rnn_backward(
    x,
    kernel,
    recurrent_kernel,
    y,
    dy=None,
    dh=None,
    mask=None,
    h0=None,
    activation="tanh",
    go_backwards=False,
    need=_GRADIENTS,
):
    """Gradients of ``simple_rnn`` from dL/dy (n, t, u) and dL/dh (n, u), one of which may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0); what is not in ``need`` is None. y is the result of the forward pass.
    """


@op(
    "recurrent",
    **_row(4, 1, **_WEIGHTS, bias="g", **_GIVEN, c0="n u"),
    returns=("n t u", "n u", "n u", "n t g", "n t u"),
    options=_BACKWARDS,
)
def lstm(x, kernel, recurrent_kernel, bias=None, mask=None, h0=None, c0=None, go_backwards=False):
    """Long short-term memory (Hochreiter and Schmidhuber 1997) with a forget gate: (y, h, c, gates, cells).

    i, f, o = sigmoid and g = tanh of x kernel + h recurrent_kernel + bias, each with its u columns in Keras's order i,
    f, g, o; c = f c + i g, h = o tanh(c), step by step. y (n, t, u) are all outputs, h and c (n, u) the last states;
    gates (n, t, 4 u), in the order of x's steps, and cells (n, t, u), in that of y's, are for ``lstm_backward``. x
    (n, t, f), kernel (f, 4 u), recurrent_kernel (u, 4 u), bias (4 u,). Steps whose mask (n, t) is 0 leave h and c as
    they were; at first they are h0 and c0, or zeros.
    """


@op(
    "recurrent",
    **_row(
        4, 2, **_WEIGHTS, y="n t u", gates="n t g", cells="n t u", dy="n t u", dh="n u", dc="n u", **_GIVEN, c0="n u"
    ),
    returns=("n t f", "f g", "u g", "g", "n u", "n u"),
    options={**_BACKWARDS, "need": Subset(_OF_STATES)},
    rules=(_some_slope("dy", "dh", "dc"),),
)
def lstm_backward(
    x,
    kernel,
    recurrent_kernel,
    y,
    gates,
    cells,
    dy=None,
    dh=None,
    dc=None,
    mask=None,
    h0=None,
    c0=None,
    go_backwards=False,
    need=_OF_STATES,
):
    """Gradients of ``lstm`` from dL/dy (n, t, u), dL/dh and dL/dc (n, u), of which some may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0, dc0); what is not in ``need`` is None. y, gates and cells are results
    of the forward pass.
    """


@op(
    "recurrent",
    **_row(3, 1, **_WEIGHTS, bias="two g", **_GIVEN),
    returns=("n t u", "n u", "n t g", "n t u"),
    options=_BACKWARDS,
)
def gru(x, kernel, recurrent_kernel, bias=None, mask=None, h0=None, go_backwards=False):
    """Gated recurrent unit (Cho et al. 2014) that resets after the product: (y, h, gates, candidates).

    With a = x kernel + bias[0] and b = h recurrent_kernel + bias[1], each with u columns for z, r, c, Keras's order:
    z = sigmoid(a + b), r = sigmoid(a + b), c = tanh(a + r b), h = z h + (1 - z) c, step by step. y (n, t, u) are all
    outputs, h (n, u) is the last state; gates (n, t, 3 u), in the order of x's steps, and candidates (n, t, u), b's
    columns for c in the order of y's, are for ``gru_backward``. x (n, t, f), kernel (f, 3 u), recurrent_kernel
    (u, 3 u), bias (2, 3 u). Steps whose mask (n, t) is 0 leave h as it was; at first it is h0, or zeros.
    """


@op(
    "recurrent",
    **_row(3, 2, **_WEIGHTS, y="n t u", gates="n t g", candidates="n t u", dy="n t u", dh="n u", **_GIVEN),
    returns=("n t f", "f g", "u g", "two g", "n u"),
    options={**_BACKWARDS, "need": Subset(_GRADIENTS)},
    rules=(_some_slope("dy", "dh"),),
)
def gru_backward(
    x,
    kernel,
    recurrent_kernel,
    y,
    gates,
    candidates,
    dy=None,
    dh=None,
    mask=None,
    h0=None,
    go_backwards=False,
    need=_GRADIENTS,
):
    """Gradients of ``gru`` from dL/dy (n, t, u) and dL/dh (n, u), one of which may be None.

    (dx, dkernel, drecurrent_kernel, dbias, dh0); what is not in ``need`` is None. y, gates and candidates are results
    of the forward pass.
    """
