"""The parametric rectified linear unit, whose slopes are learned."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.table.row import BATCHES, BATCHES_BENCH, op

_PRELU: dict[str, Any] = {"cases": BATCHES, "bench": BATCHES_BENCH}


@op("prelu", x="n ...", alpha="...", returns=("n ...",), **_PRELU)
def prelu(x, alpha, *, out=None):
    """y = x where x > 0, else alpha * x (He et al. 2015); alpha has a sample's shape."""


@op("prelu", dy="n ...", x="n ...", alpha="...", returns=("n ...", "..."), **_PRELU)
def prelu_backward(dy, x, alpha):
    """Gradients of ``prelu``: (dx, dalpha); dx = dy where x > 0, else alpha * dy; dalpha = sum of dy * x where x <= 0.

    The sum is over the samples.
    """
