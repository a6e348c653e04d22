"""Steps that count and steps that do not: masks, means, largest numbers."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads

BACKENDS = ("naive", "cpu")


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


X = np.array([[[1.0, 2.0], [0.0, 0.0], [3.0, -4.0]], [[0.0, 0.0], [0.0, 5.0], [0.0, 0.0]]])


def test_masks_of_what_is_not_a_value():
    assert ops.step_mask(X).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert ops.step_mask(X, 5.0).tolist() == [[1, 1, 1], [1, 1, 1]]
    assert ops.step_mask(np.full((1, 2, 3), 0.1, "float32"), 0.1).tolist() == [[0, 0]]
    masked = ops.mask_steps(X, np.array([[0.0, 1.0, 1.0], [1.0, 0.0, 1.0]]))
    assert masked.tolist() == [[[0, 0], [0, 0], [3, -4]], [[0, 0], [0, 0], [0, 0]]]


def test_a_masked_step_is_not_looked_at():
    x, mask = X.copy(), np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    x[0, 1] = x[1, 0] = np.nan
    assert ops.sequence_mean(x, mask).tolist() == [[2, -1], [0, 5]]
    assert ops.sequence_max(x, mask).tolist() == [[3, 2], [0, 5]]
    assert np.isnan(ops.sequence_max(x)).all()


def test_no_step_that_counts_gives_zeros():
    none = np.zeros((2, 3))
    dy, y = np.ones((2, 2)), np.zeros((2, 2))
    assert not ops.sequence_mean(X, none).any()
    assert not ops.sequence_max(X, none).any()
    assert not ops.sequence_mean_backward(dy, X, none).any()
    assert not ops.sequence_max_backward(dy, X, y, none).any()


def test_the_first_of_the_largest_gets_the_gradient():
    x = np.array([[[1.0], [7.0], [7.0]]])
    assert ops.sequence_max_backward(np.array([[2.0]]), x, ops.sequence_max(x)).ravel().tolist() == [0, 2, 0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.sequence_mean(X, np.ones((2, 2))), r"mask: got shape \(2, 2\), wants shape \(2, 3\) to match x"),
        (lambda: ops.sequence_mean(X[0]), r"x: got shape \(3, 2\), wants shape \(n, t, f\)"),
        (lambda: ops.mask_steps(X, np.ones((3, 2))), r"mask: got shape \(3, 2\)"),
        (lambda: ops.sequence_max(X, np.ones((2, 3), bool)), "mask: got ndarray .* dtype bool"),
        (lambda: ops.step_mask(X, np.nan), "value: got nan, wants a finite number"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


def test_the_same_bits_by_any_number_of_threads(backend):
    if backend == "naive":
        pytest.skip("the plain loops have no threads")
    rng = np.random.default_rng(0)
    x, mask = rng.standard_normal((300, 40, 70)), rng.integers(0, 2, (300, 40)).astype(float)
    found = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            mean, top = ops.sequence_mean(x, mask), ops.sequence_max(x, mask)
            parts = mean, top, ops.sequence_mean_backward(mean, x, mask), ops.sequence_max_backward(top, x, top, mask)
            found.append(b"".join(part.tobytes() for part in parts))
    assert len(set(found)) == 1
