"""LAPACK and BLAS on one thread, for matrices so small that more of them cost time, and whose bits then stay."""

from __future__ import annotations

from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController


def on_one_thread() -> Any:
    """NumPy's and SciPy's linear algebra inside a ``with`` block; fastnn's own threads are not meant."""
    return _controller().limit(limits=1, user_api="blas")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()
