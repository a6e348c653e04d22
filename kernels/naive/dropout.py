"""Dropout: one number at a time, each with a random word of its own."""

from __future__ import annotations

from typing import Any

from fastnn.kernels.naive._lists import deliver

_WORD = 0xFFFFFFFF


def philox(counter: tuple[int, ...], key: tuple[int, int]) -> tuple[int, ...]:
    """Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011): four random 32-bit words for a counter of four, a key of two."""
    a, b, c, d = counter
    left, right = key
    for _ in range(10):
        p, q = a * 0xD2511F53, c * 0xCD9E8D57
        a, b, c, d = (q >> 32) ^ b ^ left, q & _WORD, (p >> 32) ^ d ^ right, p & _WORD
        left, right = (left + 0x9E3779B9) & _WORD, (right + 0xBB67AE85) & _WORD
    return a, b, c, d


def dropout(x: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """A counter and a word for each number."""
    key = seed & _WORD, seed >> 32
    y = []
    for i, row in enumerate(x.tolist()):
        for j, value in enumerate(row):
            words = philox((j % 16 + 16 * (j // 64), i, step, stream), key)
            dropped = words[j // 16 % 4] < rate * 2**32
            y.append(0.0 if dropped else value / (1.0 - rate))
    return deliver(y, x.shape, x.dtype, out)


def dropout_backward(dy: Any, rate: Any, seed: Any, step: Any = 0, stream: Any = 0, *, out: Any = None) -> Any:
    """The derivative is the function: it is linear in x."""
    return dropout(dy, rate, seed, step, stream, out=out)
