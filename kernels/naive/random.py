"""Random numbers: one at a time, each from words of its own."""

from __future__ import annotations

import math
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


def word(i: int, j: int, seed: int, step: int, stream: int) -> int:
    """The word of row i, column j."""
    words = philox((j % 16 + 16 * (j // 64), i, step, stream), (seed & _WORD, seed >> 32))
    return words[j // 16 % 4]


def random_uniform(
    like: Any, seed: Any, step: Any = 0, stream: Any = 0, minval: Any = 0.0, maxval: Any = 1.0, *, out: Any = None
) -> Any:
    """A word for each number, of which the upper 24 bits count."""
    n, c = like.shape
    y = []
    for i in range(n):
        for j in range(c):
            share = (word(i, j, seed, step, stream) >> 8) / 2**24
            y.append(minval + (maxval - minval) * share)
    return deliver(y, like.shape, like.dtype, out)


def random_normal(
    like: Any, seed: Any, step: Any = 0, stream: Any = 0, mean: Any = 0.0, stddev: Any = 1.0, *, out: Any = None
) -> Any:
    """Two words for each number, which another one shares: a radius, and an angle of which one takes the cosine."""
    n, c = like.shape
    y = []
    for i in range(n):
        for j in range(c):
            first = j - 16 if j // 16 % 2 else j
            u = (word(i, first, seed, step, stream) + 0.5) / 2**32
            angle = 2 * math.pi * word(i, first + 16, seed, step, stream) / 2**32
            y.append(mean + stddev * math.sqrt(-2 * math.log(u)) * (math.cos if first == j else math.sin)(angle))
    return deliver(y, like.shape, like.dtype, out)
