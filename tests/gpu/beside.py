"""Kernels that no op of the table runs by itself: of programs, of clipping, of accuracies, of CSR matrices."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import fastnn
from fastnn import ops

ROWS, FEATURES, UNITS, BATCH = 24, 15, 7, 3


@contextmanager
def sources_noted() -> Iterator[set[str]]:
    """Inside a ``with`` block, the names of the files whose kernels are asked for."""
    from fastnn.kernels.cuda import launch

    seen, plain = set[str](), launch.kernel
    launch.kernel = lambda source, *given: seen.add(source) or plain(source, *given)
    try:
        yield seen
    finally:
        launch.kernel = plain


def sources() -> set[str]:
    """Those of all kernels."""
    from fastnn.kernels import cuda

    return {path.name for path in Path(cuda.__file__).parent.glob("*.cu")}


def run(cupy: Any) -> None:
    """Ask for all of them; a device is waited for, so that what has gone wrong is said here."""
    for call in (
        _rows_that_wait,
        _losses_that_go_on,
        _steps_of_many_products,
        _steps_by_norms,
        _rows_of_csr,
        _clipping,
        _hits,
    ):
        call(cupy)
        cupy.cuda.runtime.deviceSynchronize()


def _drawn(cupy: Any, *shapes: Any) -> list[Any]:
    rng = np.random.default_rng(len(shapes))
    return [cupy.asarray(rng.random(shape, np.float32)) for shape in shapes]


def _csr(cupy: Any) -> tuple[Any, Any, Any]:
    """Values, columns and where rows begin of a matrix of two non-zeros a row, in a few of its columns."""
    columns = np.arange(2 * ROWS, dtype=np.int32) % 5 * 3
    return *_drawn(cupy, 2 * ROWS), cupy.asarray(columns), cupy.asarray(np.arange(0, 2 * ROWS + 1, 2, dtype=np.int32))


def _rows_that_wait(cupy: Any) -> None:
    """Batches of CSR rows, by whose gradient the weights are stepped of features that they have."""
    from fastnn.kernels.cuda import csr

    x = csr.bounded(*_csr(cupy), (ROWS, FEATURES), 2)
    t, w, square = _drawn(cupy, (ROWS, UNITS), (FEATURES, UNITS), (FEATURES, UNITS))

    def step(x: Any, t: Any) -> Any:
        y = ops.linear(x, w)
        loss, dy = ops.mse(y, t)
        ops.rmsprop_step(w, ops.linear_backward(dy, x, w, y, need=("dw",))[1], square, learning_rate=0.1)
        return loss

    fastnn.program(step).repeat((x, t), np.arange(ROWS), BATCH)


def _losses_that_go_on(cupy: Any) -> None:
    """Back through activations of single numbers, and forwards, too, through those of rows."""
    x, w, b = _drawn(cupy, (ROWS, FEATURES), (FEATURES, UNITS), (UNITS,))
    labels = cupy.asarray(np.arange(ROWS) % UNITS)

    def step(x: Any, labels: Any, activation: str) -> Any:
        y = ops.linear(x, w, b, activation)
        loss, dy = ops.multiclass_hinge(y, labels)
        _, dw, db = ops.linear_backward(dy, x, w, y, activation, need=("dw", "db"))
        ops.sgd_step([w, b], [dw, db], learning_rate=0.1)
        return loss

    for activation in ("tanh", "softmax"):
        program = fastnn.program(partial(step, activation=activation))
        for _ in range(3):
            program(x, labels)


def _steps_of_many_products(cupy: Any) -> None:
    x, t, w1, w2, b = _drawn(cupy, (ROWS, FEATURES), (ROWS, UNITS), (FEATURES, 40), (40, UNITS), (40,))

    def step(x: Any, t: Any) -> Any:
        hidden = ops.linear(x, w1, b, "relu")
        y = ops.linear(hidden, w2)
        loss, dy = ops.mse(y, t)
        back, dw2, _ = ops.linear_backward(dy, hidden, w2, y, need=("dx", "dw"))
        _, dw1, db = ops.linear_backward(back, x, w1, hidden, "relu", need=("dw", "db"))
        ops.sgd_step([w1, w2, b], [dw1, dw2, db], learning_rate=0.1)
        return loss

    program = fastnn.program(step)
    for _ in range(3):
        program(x, t)


def _steps_by_norms(cupy: Any) -> None:
    from fastnn.kernels.cuda import norm_steps

    parameters = [_drawn(cupy, shape, shape) for shape in ((5000,), (FEATURES, UNITS), (UNITS,))]
    squares = cupy.asarray(np.arange(1.0, 7.0))
    for together in (False, True):
        norm_steps.step("sgd", parameters, squares, [0, 3, 5, 6], 0.5, [0.1], together=together)


def _rows_of_csr(cupy: Any) -> None:
    from fastnn.kernels.cuda import csr

    x = csr.bounded(*_csr(cupy), (ROWS, FEATURES), 2)
    csr.gather(x, cupy.asarray(np.arange(ROWS)[::-1].copy()))


def _clipping(cupy: Any) -> None:
    from fastnn.kernels.cuda.clip import CLIPS

    for clip in CLIPS.values():
        clip(_drawn(cupy, (5000,), (3, 5), (17,)), 0.5)


def _hits(cupy: Any) -> None:
    from fastnn.kernels.cuda.hits import hits

    (scores,), labels = _drawn(cupy, (ROWS, UNITS)), cupy.asarray(np.arange(ROWS) % UNITS)
    for kind in ("accuracy", "top_k"):
        hits(kind, 2, scores, labels, cupy.asarray(np.arange(ROWS)))
    hits("binary_accuracy", 0.5, scores, *_drawn(cupy, (ROWS, UNITS)), cupy.asarray(np.arange(ROWS)))
