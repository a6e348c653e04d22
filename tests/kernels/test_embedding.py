"""Words by their numbers: against NumPy's indexing, in any integers, refused where there is no such row."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads

BACKENDS = ("naive", "cpu")
RNG = np.random.default_rng(4)
TABLE, WORDS = RNG.standard_normal((50, 9)), RNG.integers(0, 50, (7, 13))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "int32", "int64", "uint64"])
def test_any_integers(dtype, backend):
    words = WORDS.astype(dtype)
    with fastnn.use_backend(backend):
        assert np.array_equal(ops.embedding(words, TABLE), TABLE[WORDS])
        assert np.array_equal(ops.embedding_mask(words, TABLE), (WORDS != 0).astype(float))
        dy = np.ones((*WORDS.shape, 9))
        expected = np.broadcast_to(np.bincount(WORDS.ravel(), minlength=50)[:, np.newaxis], (50, 9))
        assert np.array_equal(ops.embedding_backward(dy, words, TABLE), expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("wrong", [-1, 50, 2**40])
@pytest.mark.parametrize("op", ["embedding", "embedding_backward", "embedding_mask"])
def test_rows_that_there_are_not(op, wrong, backend):
    words, dy = WORDS.copy(), np.ones((*WORDS.shape, 9))
    given = {"indices": words, "table": TABLE} | ({"dy": dy} if op == "embedding_backward" else {})
    with fastnn.use_backend(backend):
        getattr(ops, op)(**given)  # remembered
        words[3, 5] = wrong
        if op == "embedding_mask":  # looks at no row
            return
        with pytest.raises(IndexError, match=rf"indices\[3, 5\]: got {wrong}, wants row numbers in \[0, 50\)"):
            getattr(ops, op)(**given)


def test_what_is_no_table_of_words():
    with pytest.raises(TypeError, match=r"indices: got ndarray of shape .* wants an array of integers"):
        ops.embedding(WORDS.astype(float), TABLE)
    with pytest.raises(ValueError, match=r"indices: got shape \(7,\), wants shape \(n, t\)"):
        ops.embedding(WORDS[:, 0], TABLE)
    with pytest.raises(ValueError, match=r"table: got shape \(50,\), wants shape \(rows, d\)"):
        ops.embedding(WORDS, TABLE[:, 0])
    with pytest.raises(TypeError, match=r"table: got ndarray .* wants dtype float32 or float64"):
        ops.embedding(WORDS, WORDS)


def test_the_same_bits_by_any_number_of_threads():
    words, table = RNG.integers(0, 3000, (400, 90)), RNG.standard_normal((3000, 64)).astype("float32")
    dy = RNG.standard_normal((400, 90, 64)).astype("float32")
    results = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            results.append((ops.embedding(words, table).tobytes(), ops.embedding_backward(dy, words, table).tobytes()))
    assert len(set(results)) == 1
