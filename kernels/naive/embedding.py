"""Vectors of words, one word after the other."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver


def embedding(indices: Any, table: Any, *, out: Any = None) -> Any:
    """Each word's row behind that of the word before."""
    rows = table.tolist()
    numbers = [v for i in indices.ravel().tolist() for v in rows[i]]
    return deliver(numbers, (*indices.shape, table.shape[1]), table.dtype, out)


def embedding_backward(dy: Any, indices: Any, table: Any, *, out: Any = None) -> Any:
    """Each word's gradient on what its row has got so far."""
    width = table.shape[1]
    total = [0.0] * table.size
    for i, row in zip(indices.ravel().tolist(), dy.reshape(indices.size, width).tolist(), strict=True):
        for j, v in enumerate(row):
            total[i * width + j] += v
    return deliver(total, table.shape, table.dtype, out)


def embedding_mask(indices: Any, table: Any, *, out: Any = None) -> Any:
    """1 for a word, 0 for none."""
    return deliver([1.0 if i != 0 else 0.0 for i in indices.ravel().tolist()], indices.shape, table.dtype, out)
