"""Weights packed beforehand: the same results to the last bit, for any shape, and what they are refused for."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.kernels.table import ACTIVATIONS

SHAPES = [
    (1, 1, 1),
    (5, 3, 7),
    (33, 100, 31),
    (64, 17, 32),
    (130, 70, 97),
    (2, 0, 5),
    (0, 4, 5),
    (3, 4, 0),
    (7, 5000, 40),
]


def made(shape, dtype, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
def test_packed_weights_give_the_same_bits(shape, dtype):
    n, k, m = shape
    x, w, b = made((n, k), dtype), made((k, m), dtype, 1), made((m,), dtype, 2)
    for weights in (w, np.asfortranarray(w), np.repeat(w, 2, axis=1)[:, ::2]):
        panels = ops.pack(weights)
        assert (panels.shape, panels.dtype) == ((k, m), np.dtype(dtype))
        for _ in range(2):  # the second call is one that is remembered
            assert np.array_equal(ops.matmul(x, panels), ops.matmul(x, w))
        for activation in ACTIVATIONS if m else ("relu",):
            assert np.array_equal(ops.linear(x, panels, b, activation), ops.linear(x, w, b, activation))
    out = np.empty((n, m), dtype)
    assert ops.linear(x, ops.pack(w), out=out) is out


# How a product is shared and where it reads B follow from its shape and strides: in place by panels and by rows, B's
# last panel packed or not; panels packed here, alone and in pairs, a block of KC and more; rows of B 4096 and 8192
# bytes apart.
SHARED = [
    (100, 200, 300),
    (300, 200, 64),
    (512, 64, 100),
    (300, 600, 1000),
    (97, 1024, 1024),
    (13, 512, 1024),
    (25, 2048, 2048),
    (40, 5000, 50),
]


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("shape", SHARED)
def test_products_however_shared_and_packed_are_those_of_higher_precision(shape, threads):
    n, k, m = shape
    a, b = made((n, k), "float32"), made((k, m), "float32", 1)
    exact = a.astype("float64") @ b
    # each product's rounding is small beside its terms' Euclidean norms; one term left out is not
    bound = 8 * np.finfo("float32").eps * np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=0))
    with backends.use_num_threads(threads):
        for weights in (b, np.asfortranarray(b), np.repeat(b, 2, axis=1)[:, ::2], ops.pack(b)):
            out = np.full((n, m + 1), np.nan, "float32")
            ops.matmul(a, weights, out=out[:, :m])
            assert (abs(out[:, :m] - exact) <= bound).all()
            assert np.isnan(out[:, m]).all()


def test_packed_weights_are_a_copy():
    x, w = made((3, 4), "float32"), made((4, 5), "float32", 1)
    panels, expected = ops.pack(w), ops.matmul(x, w)
    w[:] = 0
    assert np.array_equal(ops.matmul(x, panels), expected)


def test_packed_weights_stand_for_weights_only():
    x, w = made((3, 4), "float32"), made((4, 5), "float32", 1)
    panels = ops.pack(w)
    with pytest.raises(TypeError, match="a: got Panels"):
        ops.matmul(panels, w)
    with pytest.raises(ValueError, match=r"b: got shape \(4, 5\), wants shape \(3, m\)"):
        ops.matmul(x[:, :3], panels)
    with pytest.raises(TypeError, match="b: got dtype float32"):
        ops.matmul(x.astype("float64"), panels)
    with pytest.raises(TypeError, match="w: got Panels"):
        ops.linear_backward(x @ w, x, panels, x @ w)
    with fastnn.use_backend("naive"), pytest.raises(TypeError, match="while the backend is 'naive'"):
        ops.matmul(x, panels)


@pytest.mark.parametrize(
    ("w", "error", "match"),
    [
        (None, TypeError, "wants a NumPy array"),
        ([[1.0]], TypeError, "wants a NumPy array"),
        (np.ones((2, 2), int), TypeError, "wants dtype float32 or float64"),
        (np.ones(2, "float32"), ValueError, "wants two dimensions"),
    ],
)
def test_what_cannot_be_packed(w, error, match):
    with pytest.raises(error, match=f"w: got .*{match}"):
        ops.pack(w)
    with fastnn.use_backend("naive"), pytest.raises(TypeError, match="wants the backend 'cpu'"):
        ops.pack(np.ones((2, 2), "float32"))
