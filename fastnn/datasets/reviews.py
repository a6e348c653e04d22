"""Reviews, made: lists of word ranks, favourable ones with more of some words and fewer of others."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks
from fastnn.datasets import _split

# Ranks count from the first behind those for padding, start and unknown words, as IMDB's do.
_FIRST = 4
# Words that tell, by rank; every other one of them is said of what was liked.
_TELLING = np.arange(60, 360)
# Share of words that tell, and of these of words that tell the truth.
_SAID, _TRUE = 0.15, 0.8


def load_data(
    n: int = 4000, num_words: int = 10_000, maxlen: int = 200, test_split: float = 0.2, seed: int | None = 113
) -> tuple[_split.Split, _split.Split]:
    """Return ``(x_train, y_train), (x_test, y_test)``: object arrays (n,) of lists of ints, int64 labels (n,), 0 or 1.

    They have the form of ``imdb.load_data``'s. Ranks follow Zipf's law: a word is as frequent as its rank is low.

    Parameters
    ----------
    n
        How many reviews in all; every other one is favourable.
    num_words
        Indices are below this, at least 400.
    maxlen
        Reviews have from a tenth of this to this many words; at least 10.
    test_split
        The share of each class that becomes test reviews, in [0, 1).
    seed
        Of the words and the shuffle; None gives different reviews each time.
    """
    n = checks.positive_int("n", n)
    num_words = checks.integer("num_words", num_words, int(_TELLING[-1]) + 41)
    maxlen = checks.integer("maxlen", maxlen, 10)
    generator = _split.generator(seed)
    labels = np.arange(n) % 2
    lengths = generator.randint(maxlen // 10, maxlen + 1, n)
    texts = np.empty(n, dtype=object)
    texts[:] = [
        _review(generator, label, length, num_words)
        for label, length in zip(labels.tolist(), lengths.tolist(), strict=True)
    ]
    return _split.stratified(texts, labels, test_split, seed)


def _review(generator: np.random.RandomState, label: int, length: int, num_words: int) -> list[int]:
    """The words of one review behind IMDB's mark of a start."""
    ranks: NDArray[Any] = _FIRST + np.exp(generator.uniform(0, np.log(num_words - _FIRST), length)).astype(np.int64) - 1
    tells, true = generator.uniform(size=length) < _SAID, generator.uniform(size=length) < _TRUE
    telling = generator.choice(_TELLING // 2, length) * 2 + (label == true)
    return [1, *np.where(tells, telling, ranks).tolist()]
