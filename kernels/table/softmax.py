"""Softmax, its logarithm, and its fusion with cross-entropy: row by row."""

from __future__ import annotations

from fastnn.kernels.table.row import ROWS, ROWS_BENCH, grid, op

# Beside the others' sizes, batches of outputs: of digits, and of a thousand classes.
_BENCH = (*grid(n=(128, 4096), c=(10, 1000)), *ROWS_BENCH)

# The row of what gives dx from dy and y.
_derivative = op(
    "softmax",
    dy="n c",
    x="n c",
    y="n c",
    returns=("n c",),
    cases=ROWS,
    bench=ROWS_BENCH,
    draw={"y": "forward"},
    unread=("x",),
)


@op("softmax", x="n c", returns=("n c",), cases=ROWS, bench=_BENCH)
def softmax(x, *, out=None):
    """Softmax of each row: y[i, j] = exp(x[i, j] - max(x[i])) / sum over j of the same."""


@_derivative
def softmax_backward(dy, x, y, *, out=None):
    """Derivative of softmax: dx[i, j] = y[i, j] * (dy[i, j] - sum over l of dy[i, l] * y[i, l])."""


@op("softmax", x="n c", returns=("n c",), cases=ROWS, bench=_BENCH)
def log_softmax(x, *, out=None):
    """Logarithm of softmax: y[i, j] = x[i, j] - max(x[i]) - log(sum over l of exp(x[i, l] - max(x[i])))."""


@_derivative
def log_softmax_backward(dy, x, y, *, out=None):
    """Derivative of log_softmax: dx[i, j] = dy[i, j] - exp(y[i, j]) * sum over l of dy[i, l]."""


@op(
    "softmax",
    logits="n c",
    targets="n | n c",
    sample_weight="n",
    returns=("", "n c"),
    cases=ROWS,
    bench=_BENCH,
    variants=({}, {"sample_weight": None}, {"targets": "rows"}, {"targets": "rows", "sample_weight": None}),
    draw={"targets": "labels", "sample_weight": "positive"},
)
def softmax_cross_entropy(logits, targets, sample_weight=None):
    """Softmax and cross-entropy in one: (loss, dlogits).

    targets are class indices (n,) or rows of probabilities (n, c). With p = softmax(logits) and t the target as a row,
    loss = 1/n * sum over i of weight[i] * -sum over j of t[i, j] * log p[i, j], dlogits = weight[i] * (p - t) / n.
    Natural logarithm; stable for any finite logits. No rows give a loss of 0.
    """
