"""Back-propagation by hand: the sources' worked examples A to E, step by step beside their figures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from fastnn import ops, plotting

# A step: what it is, what the source prints, what is right; the last two differ where the source errs.
Step = tuple[str, Any, Any]

EXACT = 1e-17  # where a difference of 0 is drawn on a logarithmic axis


def run(out: Path, seed: int = 0, quick: bool = False) -> dict[str, float]:
    """Compute them; the figures are the largest difference from the right values, and how many figures err."""
    worst, errors, rows = 0.0, 0, []
    for title, steps in (("A linear 2-2-1", a()), ("B sigmoid 2-2-2", b()), ("C softmax 2-2-3", c()),
                         ("D sigmoid 3-2-2", d()), ("E scalar chain", e())):  # fmt: skip
        print(f"\n{title}")
        for name, source, found in steps:
            printed, computed = np.asarray(source, float), np.asarray(found, float)
            errs = bool((np.abs(printed - computed) > 6e-9 * np.maximum(1, np.abs(computed) * 10)).any())
            errors += errs
            worst = worst if errs else max(worst, float(np.abs(printed - computed).max()))
            print(f"  {name:14} {_written(computed)}" + (f"   the source errs: {_written(printed)}" if errs else ""))
            rows.append((f"{title[0]}: {name}", float(np.abs(printed - computed).max()), errs))
    _draw(out, rows)
    return {"largest difference": worst, "errors of the sources": errors}


def a() -> Iterator[Step]:
    """No bias, no activation; L = (o - y)^2 / 2, rate 0.05."""
    x, y = np.array([[2.0, 3.0]]), np.array([[1.0]])
    w, h = np.array([[0.11, 0.12], [0.21, 0.08]]), np.array([[0.14], [0.15]])
    hidden = ops.linear(x, w)
    yield "hidden", [[0.85, 0.48]], hidden
    o = ops.linear(hidden, h)
    yield "output", [[0.191]], o
    loss, do = ops.half_sse(o, y)
    yield "loss", 0.32724050, loss
    dhidden, dh, _ = ops.linear_backward(do, hidden, h, o)
    _, dw, _ = ops.linear_backward(dhidden, x, w, hidden)
    yield "dL/dW", [[-0.22652, -0.24270], [-0.33978, -0.36405]], dw
    yield "dL/dh", [[-0.68765], [-0.38832]], dh
    ops.sgd_step([w, h], [dw, dh], learning_rate=0.05)
    yield "W after a step", [[0.121326, 0.132135], [0.226989, 0.0982025]], w
    yield "h after a step", [[0.1743825], [0.169416]], h


def b() -> Iterator[Step]:
    """Sigmoid units, one bias a layer, which stays; E = sum (t - o)^2 / 2, rate 0.5."""
    x, t = np.array([[0.05, 0.10]]), np.array([[0.01, 0.99]])
    w1, w2 = np.array([[0.15, 0.25], [0.20, 0.30]]), np.array([[0.40, 0.50], [0.45, 0.55]])
    h, o, error, dw1, _, dw2, _ = _sigmoids(x, t, w1, 0.35, w2, 0.60)
    yield "hidden", [[0.593269992, 0.596884378]], h
    yield "output", [[0.75136507, 0.772928465]], o
    yield "error", 0.298371109, error
    yield "dE/dW2", [[0.082167041, -0.02260254], [0.082667628, -0.022740242]], dw2
    yield "dE/dW1", [[0.000438568, 0.000497713], [0.000877135, 0.000995425]], dw1
    ops.sgd_step([w1, w2], [dw1, dw2], learning_rate=0.5)
    yield "W2 then", [[0.35891648, 0.51130127], [0.408666186, 0.561370121]], w2
    yield "error then", 0.291027774, _sigmoids(x, t, w1, 0.35, w2, 0.60)[2]
    for _ in range(9_999):
        *_, dw1, _, dw2, _ = _sigmoids(x, t, w1, 0.35, w2, 0.60)
        ops.sgd_step([w1, w2], [dw1, dw2], learning_rate=0.5)
    yield "10,000 rounds", [[0.01591362, 0.984064274]], _sigmoids(x, t, w1, 0.35, w2, 0.60)[1]


def c() -> Iterator[Step]:
    """ReLU, softmax and cross-entropy, whose derivative by the logits is p - y."""
    x, w1, b1 = np.array([[1.8, 0.5]]), np.array([[0.1, 0.4], [-0.2, 0.6]]), np.array([0.2, -0.3])
    w2, b2 = np.array([[0.3, 0.2, 0.3], [-0.3, 0.1, -0.2]]), np.array([-0.1, -0.5, -0.4])
    h = ops.linear(x, w1, b1, "relu")
    yield "hidden", [[0.28, 0.72]], h
    logits = ops.linear(h, w2, b2)
    yield "logits", [[-0.232, -0.372, -0.46]], logits
    yield "p", [[0.375166598, 0.326154172, 0.29867923]], ops.softmax(logits)
    loss, dlogits = ops.softmax_cross_entropy(logits, np.array([0]))
    yield "cross-entropy", 0.74, loss  # to base 10, and with the other classes' log(1 - p)
    yield "dL/dlogits", [[-0.624833402, 0.326154172, 0.29867923]], dlogits
    dh, dw2, _ = ops.linear_backward(dlogits, h, w2, logits)
    _, dw1, _ = ops.linear_backward(dh, x, w1, h, "relu")
    printed = [[-0.174953353, -0.091323168, -0.083630184], [-0.449880049, -0.234831004, -0.215049046]]
    yield "dL/dW2", printed, dw2  # the derivative of log(1 - p) lost a sign
    yield "dL/dW1", [[-0.058707751, 0.288593265], [-0.016307709, 0.080164796]], dw1


def d() -> Iterator[Step]:
    """Sigmoid units, biases shared by a layer."""
    x, t = np.array([[1.0, 4.0, 5.0]]), np.array([[0.1, 0.05]])
    w1, w2 = np.array([[0.1, 0.2], [0.3, 0.4], [0.5, 0.6]]), np.array([[0.7, 0.8], [0.9, 0.1]])
    h, o, _, dw1, db1, dw2, db2 = _sigmoids(x, t, w1, 0.5, w2, 0.5)
    yield "hidden", [[0.986613082, 0.995033198]], h
    yield "output", [[0.889550614, 0.800399608]], o
    yield "dE/dW2", [[0.076535128, 0.118279022], [0.077188307, 0.119288458]], dw2
    yield "dE/db2", 0.197457498, db2
    yield "dE/dW1", [[0.001983912, 0.000404289], [0.007935647, 0.001617157], [0.009919559, 0.002021447]], dw1
    yield "dE/db1", 0.0008, db1  # it followed one path only


def e() -> Iterator[Step]:
    """f(x) = w2 s(w1 x + b1) + b2, E = (f - y)^2: the chain rule written out beside the compiled ops."""
    x, y, w1, b1, w2, b2 = 0.7, -0.3, 1.2, -0.4, 0.9, 0.25
    s = 1 / (1 + np.exp(-(w1 * x + b1)))
    f = w2 * s + b2
    h = ops.linear(np.array([[x]]), np.array([[w1]]), np.array([b1]), "sigmoid")
    o = ops.linear(h, np.array([[w2]]), np.array([b2]))
    _, do = ops.mse(o, np.array([[y]]))
    dh, dw2, db2 = ops.linear_backward(do, h, np.array([[w2]]), o)
    _, dw1, db1 = ops.linear_backward(dh, np.array([[x]]), np.array([[w1]]), h, "sigmoid")
    yield "dE/dw2", [[2 * (f - y) * s]], dw2
    yield "dE/db2", [2 * (f - y)], db2
    yield "dE/dw1", [[2 * (f - y) * w2 * s * (1 - s) * x]], dw1
    yield "dE/db1", [2 * (f - y) * w2 * s * (1 - s)], db1


def _sigmoids(x: Any, t: Any, w1: Any, b1: float, w2: Any, b2: float) -> tuple[Any, ...]:
    """Two layers of sigmoid units forwards and backwards: h, o, E, dE/dW1, dE/db1, dE/dW2, dE/db2."""
    h = ops.linear(x, w1, np.full(2, b1), "sigmoid")
    o = ops.linear(h, w2, np.full(2, b2), "sigmoid")
    error, do = ops.half_sse(o, t)
    dh, dw2, db2 = ops.linear_backward(do, h, w2, o, "sigmoid")
    _, dw1, db1 = ops.linear_backward(dh, x, w1, h, "sigmoid")
    return h, o, error, dw1, db1.sum(), dw2, db2.sum()


def _written(values: Any) -> str:
    return np.array2string(values, precision=9, suppress_small=True, floatmode="maxprec").replace("\n", "")


def _draw(out: Path, rows: list[tuple[str, float, bool]]) -> None:
    """How far each figure of the sources is from the right one."""
    figure, (axes,) = plotting.empty_figure(
        1, "Worked examples A to E", "what is computed beside what the sources print", size=(7, 8)
    )
    places = range(len(rows), 0, -1)
    for erring, colour, marker, label in (
        (False, plotting.BLUE, "o", "equal, to the digits that are printed"),
        (True, plotting.ORANGE, "X", "the source errs"),
    ):
        chosen = [(max(row[1], EXACT), place) for place, row in zip(places, rows, strict=True) if row[2] == erring]
        axes.plot(*zip(*chosen, strict=True), marker, color=colour, label=label)
    axes.set_yticks(places, [name for name, *_ in rows], fontsize=8)
    axes.set_xscale("log")
    axes.set_xticks([EXACT, *(10.0**power for power in range(-15, 1, 3))])
    axes.set_xticklabels(["0", *(f"$10^{{{power}}}$" for power in range(-15, 1, 3))])
    axes.set_xlabel("largest difference")
    axes.legend(loc="lower right", edgecolor="none", framealpha=1)
    plotting.tidy(axes)
    plotting.save(figure, out / "backprop-by-hand.png")
