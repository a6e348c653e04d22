"""Means of words' vectors in programs: joined where nobody else wants the vectors, with the bits of the ops."""

from __future__ import annotations

import io

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(4)


def given(dtype, n=9, t=7, rows=20, d=5):
    indices = RNG.integers(0, rows, (n, t))
    indices[3] = 0
    table = RNG.standard_normal((rows, d)).astype(dtype)
    return indices, table, RNG.standard_normal((n, d)).astype(dtype)


def mean_and_gradient(indices, table, dy, masked):
    mask = ops.embedding_mask(indices, table) if masked else None
    x = ops.embedding(indices, table)
    y = ops.sequence_mean(x, mask)
    return y, ops.embedding_backward(ops.sequence_mean_backward(dy, x, mask), indices, table)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_are_those_of_the_ops_by_any_number_of_threads(dtype, masked):
    for sizes in ({}, {"n": 300, "t": 40, "rows": 500, "d": 17}, {"n": 1, "t": 1, "rows": 1, "d": 1}):
        program = fastnn.program(lambda *arrays: mean_and_gradient(*arrays, masked))
        before = fastnn.get_num_threads()
        for threads in (1, 2, 3, 2):
            fastnn.set_num_threads(threads)
            try:
                arrays = given(dtype, **sizes) if sizes.get("n") != 1 else given(dtype, 4, 1, 1, 1)
                wanted = mean_and_gradient(*arrays, masked)
                for _ in range(2):
                    assert all(map(np.array_equal, program(*arrays), wanted))
            finally:
                fastnn.set_num_threads(before)


def plan_of(function, *arrays):
    program, text = fastnn.program(function), io.StringIO()
    for _ in range(2):
        program(*arrays)
    program.plan(file=text)
    return text.getvalue()


def test_only_vectors_that_nobody_else_wants_are_left_out():
    arrays = given("float32")
    joined = plan_of(lambda *arrays: mean_and_gradient(*arrays, True), *arrays)
    assert "mean of rows" in joined
    assert "gradient of rows" in joined
    assert "sequence_mean" not in joined

    def returned(indices, table, dy):
        x = ops.embedding(indices, table)
        return x, ops.sequence_mean(x)

    def used(indices, table, dy):
        x = ops.embedding(indices, table)
        return ops.sequence_mean(x), ops.tanh(x)

    def sent_back_otherwise(indices, table, dy):
        x = ops.embedding(indices, table)
        slope = ops.sequence_mean_backward(dy, x)
        return ops.sequence_mean(x), slope, ops.embedding_backward(slope, indices, table)

    for function in (returned, used, sent_back_otherwise):
        assert "sequence_mean" in plan_of(function, *arrays)
        program = fastnn.program(function)
        for _ in range(3):
            assert all(map(np.array_equal, program(*arrays), function(*arrays)))


def test_words_that_are_none():
    indices, table, dy = given("float32")
    program = fastnn.program(lambda *arrays: mean_and_gradient(*arrays, False))
    for _ in range(2):
        program(indices, table, dy)
    with pytest.raises(IndexError, match="wants row numbers in"):
        program(indices + 20, table, dy)
    y, _ = program(indices, table, dy)
    assert np.array_equal(y, mean_and_gradient(indices, table, dy, False)[0])
