"""Products of many matrices at once."""

from __future__ import annotations

from fastnn.kernels.table.row import grid, op


@op(
    "batched",
    a="s n k",
    b="s k m",
    returns=("s n m",),
    flops=lambda s, n, k, m: 2 * s * n * k * m,
    cases=grid(
        s=(0, 1, 2, 3, 5, 2, 1, 4, 7, 2),
        n=(3, 1, 5, 0, 13, 16, 29, 2, 1, 64),
        k=(2, 1, 3, 4, 7, 0, 33, 16, 5, 31),
        m=(4, 1, 2, 3, 17, 3, 65, 16, 1, 32),
    ),
    bench=grid(s=(128, 32), n=(64, 256), k=(64, 64), m=(64, 256)),
)
def batch_matmul(a, b, *, out=None):
    """Matrix products y[i] = a[i] @ b[i], one a sample.

    a is (s, n, k), b is (s, k, m), y is (s, n, m); any strides. With k = 0 the products are zeros.
    """
