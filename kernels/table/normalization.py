"""Normalisation: of the columns of a batch, by its own figures or by moving ones; of each row by its own."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import Real, Subset, grid, op

# Columns around vectors' lengths; rows around those of a chunk, which is what shares of the sums are made of.
_CASES = grid(n=(0, 1, 2, 5, 7, 33, 64, 1000, 40, 3), c=(3, 1, 4, 16, 17, 31, 32, 3, 70, 1000))
_BENCH = grid(n=(16_384, 128), c=(64, 512))
_GRADIENTS = ("dx", "dgamma", "dbeta")
_EPSILON = Real(low=0.0, open_low=True)
_MOMENTUM = Real(low=0.0, high=1.0)
_NEED = Subset(_GRADIENTS)

# Of all of them; operands that may be left out are so in some.
_ALL: dict[str, Any] = {"cases": _CASES, "bench": _BENCH}


@op(
    "normalization",
    x="n c",
    gamma="c",
    beta="c",
    moving_mean="c",
    moving_variance="c",
    returns=("n c", "c", "c"),
    inplace=("moving_mean", "moving_variance"),
    options={"momentum": _MOMENTUM, "epsilon": _EPSILON},
    variants=(
        {},
        {"gamma": None, "momentum": 0.5, "epsilon": 1e-5},
        {"gamma": None, "beta": None, "moving_mean": None, "moving_variance": None},
    ),
    draw={"moving_variance": "positive"},
    **_ALL,
)
def batch_norm(x, gamma=None, beta=None, moving_mean=None, moving_variance=None, momentum=0.99, epsilon=1e-3):
    """Batch normalisation in training (Ioffe and Szegedy 2015): (y, mean, rstd).

    Of each column of x (n, c): mean (c,), the biased variance var = sum of (x - mean)^2 / n, rstd = 1 / sqrt(var +
    epsilon), and y = gamma * (x - mean) * rstd + beta. Moving figures become momentum * moving + (1 - momentum) * the
    batch's, in place. gamma, beta, moving_mean, moving_variance (c,) may be left out, each by itself. Inputs of more
    axes are taken as x.reshape(-1, c). No rows give means and variances of 0, and leave moving ones as they are.
    """


@op(
    "normalization",
    dy="n c",
    x="n c",
    mean="c",
    rstd="c",
    gamma="c",
    returns=("n c", "c", "c"),
    options={"need": _NEED},
    variants=({}, {"gamma": None}, {"need": ("dgamma", "dbeta")}),
    draw={"rstd": "positive"},
    **_ALL,
)
def batch_norm_backward(dy, x, mean, rstd, gamma=None, need=_GRADIENTS):
    """Gradients of ``batch_norm``: (dx, dgamma, dbeta), from dy = dL/dy and the mean and rstd that it has returned.

    With z = (x - mean) * rstd: dbeta = sum of the rows of dy, dgamma = sum of those of dy * z, dx = gamma * rstd *
    (dy - dbeta / n - z * dgamma / n). What is not in ``need`` is None.
    """


@op(
    "normalization",
    x="n c",
    moving_mean="c",
    moving_variance="c",
    gamma="c",
    beta="c",
    returns=("n c",),
    options={"epsilon": _EPSILON},
    variants=({}, {"gamma": None, "epsilon": 1e-5}, {"beta": None}),
    draw={"moving_variance": "positive"},
    **_ALL,
)
def batch_norm_inference(x, moving_mean, moving_variance, gamma=None, beta=None, epsilon=1e-3, *, out=None):
    """Batch normalisation by moving figures: y = gamma * (x - moving_mean) / sqrt(moving_variance + epsilon) + beta.

    x is (n, c), all others are (c,).
    """


@op(
    "normalization",
    dy="n c",
    x="n c",
    moving_mean="c",
    moving_variance="c",
    gamma="c",
    returns=("n c", "c", "c"),
    options={"epsilon": _EPSILON, "need": _NEED},
    variants=({}, {"gamma": None}, {"need": ("dx",)}),
    draw={"moving_variance": "positive"},
    **_ALL,
)
def batch_norm_inference_backward(dy, x, moving_mean, moving_variance, gamma=None, epsilon=1e-3, need=_GRADIENTS):
    """Gradients of ``batch_norm_inference``: (dx, dgamma, dbeta); what is not in ``need`` is None.

    With rstd = 1 / sqrt(moving_variance + epsilon): dx = gamma * rstd * dy, dgamma = sum of the rows of dy * (x -
    moving_mean) * rstd, dbeta = sum of those of dy.
    """


@op(
    "normalization",
    x="n c",
    gamma="c",
    beta="c",
    returns=("n c",),
    options={"epsilon": _EPSILON},
    variants=({}, {"gamma": None, "beta": None, "epsilon": 1e-5}),
    **_ALL,
)
def layer_norm(x, gamma=None, beta=None, epsilon=1e-3, *, out=None):
    """Layer normalisation (Ba et al. 2016) of each row: y = gamma * (x - mean) / sqrt(variance + epsilon) + beta.

    mean and biased variance are those of a row of x (n, c); gamma and beta are (c,).
    """


@op(
    "normalization",
    dy="n c",
    x="n c",
    gamma="c",
    returns=("n c", "c", "c"),
    options={"epsilon": _EPSILON, "need": _NEED},
    variants=({}, {"gamma": None, "epsilon": 1e-5}, {"need": ("dgamma", "dbeta")}),
    **_ALL,
)
def layer_norm_backward(dy, x, gamma=None, epsilon=1e-3, need=_GRADIENTS):
    """Gradients of ``layer_norm``: (dx, dgamma, dbeta); what is not in ``need`` is None.

    With z = (x - mean) * rstd, rstd = 1 / sqrt(variance + epsilon), and g = gamma * dy: dx = rstd * (g - mean of g - z
    * mean of g * z), means along a row; dgamma = sum of the rows of dy * z, dbeta = sum of those of dy.
    """
