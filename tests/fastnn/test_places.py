"""What is taken, ordered, moved and put together by places: NumPy's values; gradients, programs, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(22)
X, W = RNG.standard_normal((3, 4, 5)), RNG.uniform(0.5, 2.0, (4, 5))
WHOLE = RNG.integers(-9, 9, (3, 4, 5))
ROWS = np.array([[2, 0], [1, 1], [0, 2]])
BOTH = pytest.mark.parametrize("x", [X, X.astype("float32"), WHOLE], ids=["float64", "float32", "integers"])


@BOTH
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take(x, axis):
    for indices in (ROWS, ROWS.tolist(), [-1, 0], -2, 1, np.empty((0, 2), "int64"), []):
        y = ops.take(x, indices, axis)
        wanted = np.take(x, np.asarray(indices, "int64"), axis)
        assert (y.dtype, y.shape) == (x.dtype, wanted.shape)
        assert np.array_equal(y, wanted)


@BOTH
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_take_along_axis(x, axis):
    places = np.argsort(x, axis).reshape(-1 if axis is None else x.shape)
    for indices in (places, places - (x.size if axis is None else x.shape[axis])):
        assert np.array_equal(ops.take_along_axis(x, indices, axis), np.take_along_axis(x, indices, axis))
    best = x.argmax(-1)[..., None]
    assert np.array_equal(ops.take_along_axis(x, best, -1), x.max(-1, keepdims=True))
    assert np.array_equal(ops.take_along_axis(x, [3, 0]), x.ravel()[[3, 0]])


@BOTH
def test_order(x):
    for axis in (0, 1, -1):
        assert np.array_equal(ops.sort(x, axis), np.sort(x, axis))
    for k in (1, 3, 5):
        values, places = ops.top_k(x, k)
        assert np.array_equal(values, -np.sort(-x, -1)[..., :k])
        assert np.array_equal(np.take_along_axis(x, places, -1), values)
        assert places.dtype == np.int32
    assert ops.top_k(np.array([1.0, 2.0, 2.0]), 2)[1].tolist() == [1, 2]
    assert ops.top_k(np.array([200, 3], "uint8"), 1)[0].tolist() == [200]


def test_in_top_k():
    scores = np.array([[0.1, 0.9, 0.8], [0.5, 0.5, 0.1], [np.nan, 0.3, 0.2]])
    assert ops.in_top_k(np.array([2, 1, 0]), scores, 1).tolist() == [False, True, False]
    assert ops.in_top_k([2, 2, 1], scores, 2).tolist() == [True, False, True]


@BOTH
def test_moved(x):
    if x.dtype.kind == "f":  # concatenate takes no other numbers
        for shift, axis in ((1, None), (-2, 0), (7, 1), (0, -1), ((1, 2), (0, 2)), (1, (0, 1))):
            assert np.array_equal(ops.roll(x, shift, axis), np.roll(x, shift, axis))
    for k in (-2, 0, 1, 9):
        for name in ("tril", "triu"):
            assert np.array_equal(getattr(ops, name)(x, k), getattr(np, name)(x, k))


@BOTH
def test_diagonals(x):
    for offset in (-9, -2, 0, 1, 3, 9):
        for axes in ((0, 1), (2, 1), (-1, 0)):
            assert np.array_equal(ops.diagonal(x, offset, *axes), np.diagonal(x, offset, *axes))
        assert np.array_equal(ops.diag(x[0], offset), np.diag(x[0], offset))
        if x.dtype.kind == "f":
            assert np.array_equal(ops.diag(x[0, 0], offset), np.diag(x[0, 0], offset))
            np.testing.assert_allclose(ops.trace(x, offset), np.trace(x, offset), rtol=1e-6)
            assert ops.trace(x[0]) == pytest.approx(np.trace(x[0]), rel=1e-6)


def test_parts():
    y = ops.slice(X, (1, 0, 2), (2, 4, 1))
    assert np.array_equal(y, X[1:3, :, 2:3])
    assert np.shares_memory(y, X)
    wanted = X.copy()
    wanted[1:3, 2:4, :3] = 7.0
    assert np.array_equal(ops.slice_update(X, [1, 2, 0], np.full((2, 2, 3), 7.0)), wanted)
    assert np.array_equal(ops.slice_update(X, np.zeros(3, int), wanted), wanted)


def test_sums_of_segments():
    ids, wanted = np.array([2, 0, 2]), np.stack([X[1], np.zeros((4, 5)), X[0] + X[2], np.zeros((4, 5))])
    assert np.array_equal(ops.segment_sum(X, ids, 4), wanted)
    assert np.array_equal(ops.segment_sum(X, ids.tolist()), wanted[:3])
    assert np.array_equal(ops.segment_sum(X[:, 0, 0], ids, 4, sorted=True), wanted[:, 0, 0])
    assert ops.segment_sum(np.empty((0, 2)), np.empty(0, int)).shape == (0, 2)
    places, values = np.array([[0, 1], [2, 3], [0, 1]]), X[:, 0]
    scattered = np.zeros((3, 4, 5))
    np.add.at(scattered, tuple(places.T), values)
    assert np.array_equal(ops.scatter(places, values, (3, 4, 5)), scattered)
    assert np.array_equal(ops.scatter([[1], [1]], np.array([1.0, 2.0]), (3,)), [0.0, 3.0, 0.0])


def test_scattered_and_hot():
    places, updates = [[0, 1], [2, -1], [0, 1]], RNG.standard_normal((3, 5))
    wanted = X.copy()
    wanted[2, 3], wanted[0, 1] = updates[1], updates[2]
    assert np.array_equal(ops.scatter_update(X, places, updates), wanted)
    assert np.array_equal(ops.scatter_update(X, np.array(places), updates), wanted)
    assert ops.multi_hot(np.array([[0, 2], [1, 1]]), 4).tolist() == [[1, 0, 1, 0], [0, 1, 0, 0]]
    assert ops.multi_hot(np.array([[0, 2], [1, 1]]), 4, 0, "float64").shape == (4, 2)


def test_joined():
    for arrays in ([W, W + 1], [W[0], W[1]], [X, X]):
        for name in ("hstack", "vstack"):
            assert np.array_equal(getattr(ops, name)(arrays), getattr(np, name)(arrays))
    for shape in ((4, 5), (3, 4, 5), (2, 1, 4, 5)):
        assert np.array_equal(ops.broadcast_to(W, shape), np.broadcast_to(W, shape))
    assert np.array_equal(ops.broadcast_to(np.array([[-0.0], [np.inf]]), (2, 3))[1], [np.inf] * 3)


IDS, PLACES = np.array([2, 0, 2]), RNG.integers(0, 5, (4, 2))
# Of x (3, 4, 5) and w (4, 5): a number.
FORMULAS = {
    "taken": lambda x, w: ops.sum(ops.take(x, ROWS, 0)[:, 1] * w) + ops.sum(ops.square(ops.take(w, [1, 0, 1], 1))),
    "along": lambda x, w: ops.sum(ops.square(ops.take_along_axis(w, PLACES, 1)) * ops.take(x, 2, 0)[:, :2]),
    "moved": lambda x, w: ops.sum(ops.roll(x, 1, 1) * w) + ops.sum(ops.roll(w, (1, 2), (0, 1)) * x),
    "triangles": lambda x, w: ops.sum(ops.tril(x) * w) - ops.sum(ops.triu(w, 1) * x),
    "diagonals": lambda x, w: (
        ops.sum(ops.diagonal(x, 1, 1, 2) ** 2) + ops.trace(w) * 2.0 + ops.sum(ops.diag(w[0], 1)[:5, 1:] * x[0, 0])
    ),
    "parts": lambda x, w: (
        ops.sum(ops.slice(x, (1, 0, 1), (1, 4, 4)) ** 2)
        + ops.sum(ops.slice_update(x, (0, 1, 1), ops.reshape(w, (1, 4, 5))[:, :3, :4]) ** 2)
    ),
    "segments": lambda x, w: (
        ops.sum(ops.segment_sum(x, IDS, 4) ** 2) + ops.sum(ops.scatter(IDS[:, None], x, (3, 4, 5)) * w)
    ),
    "updated": lambda x, w: (
        ops.sum(ops.scatter_update(x, [[0, 1], [2, 3]], w[:2]) ** 2)
        + ops.sum(ops.scatter_update(w, [[0], [0]], x[0, :2]) ** 2)
    ),
    "joined": lambda x, w: ops.sum(ops.vstack([w, w * 2.0]) ** 2) + ops.sum(ops.hstack([w, x[0]]) ** 2),
    "stretched": lambda x, w: ops.sum(ops.broadcast_to(w, (3, 4, 5)) * x),
}
ORDERED = {
    "sorted": lambda x, w: ops.sum(ops.sort(x, 1) * w) + ops.sum(ops.square(ops.top_k(w, 2)[0])),
}


@pytest.mark.parametrize("name", [*FORMULAS, *ORDERED])
def test_gradients_by_central_differences(name):
    formula, given = (FORMULAS | ORDERED)[name], (X.copy(), W.copy())
    value, found = fastnn.gradients(formula, given)
    assert value == pytest.approx(formula(*given), rel=1e-13)
    for array, gradient in zip(given, found, strict=True):
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + 1e-6
            above = formula(*given)
            array[at] = kept - 1e-6
            slope = (above - formula(*given)) / 2e-6
            array[at] = kept
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), at


@pytest.mark.parametrize("name", FORMULAS)
def test_programs_give_what_calls_give(name):
    made = fastnn.program(lambda x, w: fastnn.gradients(FORMULAS[name], (x, w)))
    for _ in range(3):
        given = RNG.standard_normal(X.shape), RNG.uniform(0.5, 2.0, W.shape)
        value, found = made(*given)
        wanted, gradients = fastnn.gradients(FORMULAS[name], given)
        assert value == pytest.approx(wanted, rel=1e-14)
        for one, other in zip(found, gradients, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-14)


def test_row_numbers_may_be_arguments_of_a_program():
    @fastnn.program
    def step(x, index, places):
        def loss(x):
            return ops.sum(ops.square(ops.take(x, index, 0)) + ops.segment_sum(x, index, 3)) + ops.sum(
                ops.square(ops.take_along_axis(x, places, 1))
            )

        return fastnn.gradients(loss, [x])

    for _ in range(3):
        x, index, places = RNG.standard_normal((3, 4)), RNG.integers(0, 3, 3), RNG.integers(0, 4, (3, 1))
        value, (dx,) = step(x, index, places)
        chosen = np.zeros((3, 4))
        np.put_along_axis(chosen, places, 1.0, 1)
        assert value == pytest.approx((x[index] ** 2).sum() + x.sum() + (chosen * x**2).sum())
        wanted = 2 * x * np.bincount(index, minlength=3)[:, None] + 1.0 + 2 * chosen * x
        np.testing.assert_allclose(dx, wanted, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.take(X, [3], 0), IndexError, r"indices: got 3 to 3, wants numbers in \[-3, 3\)"),
        (lambda: ops.take(X, 5, 1), ValueError, "indices: got 5, wants an integer"),
        (lambda: ops.take(X, [0.5], 0), TypeError, "indices: got"),
        (lambda: ops.take(X, [[0], [-4]], 0), IndexError, r"indices: got -4 to 0"),
        (lambda: ops.take([1.0], [0], 0), TypeError, "x: got list"),
        (lambda: ops.take(X, [0], 3), ValueError, "axis: got 3"),
        (lambda: ops.take_along_axis(X, ROWS, 1), ValueError, r"indices: got shape \(3, 2\), wants \(3, 'n', 5\)"),
        (lambda: ops.take_along_axis(W, np.full((4, 1), 5), 1), IndexError, "indices: got 5 to 5"),
        (lambda: ops.take_along_axis(WHOLE, np.full((3, 4, 1), 5), 2), IndexError, "indices: got 5 to 5"),
        (lambda: ops.sort(X, 3), (ValueError, np.exceptions.AxisError), "axis"),
        (lambda: ops.top_k(X, 6), ValueError, "k: got 6"),
        (lambda: ops.top_k(X, 0), ValueError, "k: got 0"),
        (lambda: ops.in_top_k(ROWS, W, 2), ValueError, r"targets: got shape \(3, 2\), wants \(4,\)"),
        (lambda: ops.in_top_k([9, 0, 0, 0], W, 2), IndexError, "targets: got 0 to 9"),
        (lambda: ops.in_top_k([0, 0, 0, 0], W, 0), ValueError, "k: got 0"),
        (lambda: ops.roll(X, (1, 2), 0), ValueError, "shift: got 2 numbers"),
        (lambda: ops.roll(X, 0.5, 0), TypeError, "shift: got"),
        (lambda: ops.tril(X[0, 0]), ValueError, r"x: got shape \(5,\), wants at least two"),
        (lambda: ops.triu(X, 0.5), TypeError, "k: got"),
        (lambda: ops.diag(X), ValueError, r"x: got shape \(3, 4, 5\), wants one or two"),
        (lambda: ops.diagonal(X, 0, 1, -2), ValueError, "axis2: got -2, wants another axis"),
        (lambda: ops.slice(X, (0, 0), (1, 1, 1)), ValueError, "start_indices: got 2 numbers"),
        (lambda: ops.slice(X, (0, 0, 3), (1, 1, 3)), ValueError, r"shape\[2\]: got 3"),
        (lambda: ops.slice_update(X, (0, 0, 0), W), ValueError, "updates: got 2 numbers"),
        (lambda: ops.slice_update(X, (0, 2, 0), X), ValueError, r"updates\[1\]: got 4"),
        (lambda: ops.segment_sum(X, [0, 1], 2), ValueError, r"segment_ids: got shape \(2,\)"),
        (lambda: ops.segment_sum(X, [0, 1, 2], 2), IndexError, "wants row numbers in"),
        (lambda: ops.scatter([[0], [9]], X[:2, 0, 0], (3,)), IndexError, "wants row numbers in"),
        (lambda: ops.scatter([[0, 4]], X[:1, 0, 0], (3, 4)), IndexError, r"indices\[..., 1\]: got 4 to 4"),
        (lambda: ops.scatter([[0, 1]], X[:2, 0, 0], (3, 4)), ValueError, r"values: got shape \(2,\), wants \(1,\)"),
        (lambda: ops.scatter_update(X, [0, 1], X), TypeError, "indices: got list"),
        (lambda: ops.scatter_update(X, [[0, 4]], X[0, :1]), IndexError, r"indices\[:, 1\]: got 4 to 4"),
        (lambda: ops.scatter_update(X, [[0, 3]], X[0]), ValueError, r"updates: got shape \(4, 5\), wants \(1, 5\)"),
        (lambda: ops.broadcast_to(W, (4, 4)), ValueError, r"shape: got \(4, 4\), wants one that"),
        (lambda: ops.hstack(W), TypeError, "xs: got ndarray"),
        (lambda: ops.vstack([]), TypeError, "xs: got list"),
        (lambda: ops.vstack([W, 1.0]), TypeError, r"xs\[1\]: got float"),
        (lambda: fastnn.program(ops.sort)(X), TypeError, "numpy.argsort: got an array"),
        (lambda: fastnn.program(lambda x: ops.top_k(x, 1)[0])(X), TypeError, "numpy.argsort: got an array"),
        (lambda: fastnn.program(ops.segment_sum)(X, IDS), TypeError, "num_segments: got None"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
