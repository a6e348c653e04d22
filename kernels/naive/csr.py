"""The ops of CSR matrices: as those of dense ones, zeros and all; rows by their numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from fastnn.kernels.naive import gemm, linear_steps
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.row import implements


def matmul(a: Any, b: Any, *, out: Any = None) -> Any:
    """The product of the dense matrix."""
    return gemm.matmul(a.toarray(), b, out=out)


def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
    """That of the dense matrix."""
    return gemm.linear(x.toarray(), w, b, activation, out=out)


def linear_backward(
    dy: Any,
    x: Any,
    w: Any,
    y: Any,
    activation: str = "linear",
    z: Any = None,
    need: Sequence[str] = ("dx", "dw", "db"),
    *,
    dx: Any = None,
    dw: Any = None,
    db: Any = None,
) -> tuple[Any, Any, Any]:
    """Those of the dense matrix."""
    return gemm.linear_backward(dy, x.toarray(), w, y, activation, z, need, dx=dx, dw=dw, db=db)


def _layer_step(op: Op) -> Callable[..., Any]:
    """That of the dense matrix."""
    step, place = getattr(linear_steps, op.name), list(op.signature.parameters).index("x")

    def run(*arguments: Any, dx: Any = None) -> Any:
        return step(*arguments[:place], arguments[place].toarray(), *arguments[place + 1 :], dx=dx)

    return implements(op.name, run)


globals().update({name: _layer_step(op) for name, op in TABLE.items() if op.module == "linear_steps"})


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """The non-zeros of each row behind those of the row before."""
    bounds, columns, values = data.indptr.tolist(), data.indices.tolist(), data.data.tolist()
    ends, kept_columns, kept_values = [0], [], []
    for i in index.tolist():
        kept_columns += columns[bounds[i] : bounds[i + 1]]
        kept_values += values[bounds[i] : bounds[i + 1]]
        ends.append(len(kept_columns))
    parts = np.array(kept_values, data.dtype), np.array(kept_columns, data.indices.dtype), np.array(ends)
    return type(data)(parts, shape=(len(index), data.shape[1]))
