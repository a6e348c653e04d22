"""Functions of numbers, running sums, products, norms, quantiles: NumPy's values; gradients, programs, refusals."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(21)
X, W = RNG.standard_normal((3, 4, 5)), RNG.uniform(0.5, 2.0, (4, 5))
AXES = (None, 0, 1, -1, (0, 2))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["reciprocal", "log2", "log10", "tan", "sinh", "cosh"])
def test_functions_of_numbers(name, dtype):
    x = np.concatenate([W.ravel(), 1e-6 * W.ravel(), [] if name.startswith("log") else -3 * W.ravel()]).astype(dtype)
    y = getattr(ops, name)(x)
    assert y.dtype == dtype
    np.testing.assert_allclose(y, getattr(np, name)(x.astype("longdouble")), rtol=8 * np.finfo(dtype).eps)


def test_functions_of_a_number():
    assert ops.tan(0.5) == pytest.approx(np.tan(0.5))
    assert ops.log2(8.0) == pytest.approx(3.0)


def test_logaddexp():
    a, b = np.array([0.0, 800.0, -800.0, 5.0, 1e30]), np.array([0.0, -800.0, -799.0, -1e30, 5.0])
    np.testing.assert_allclose(ops.logaddexp(a, b), np.logaddexp(a, b), rtol=1e-15)
    _, (da, db) = fastnn.gradients(lambda a, b: ops.sum(ops.logaddexp(a, b)), (a, b))
    np.testing.assert_allclose(da, [0.5, 1, 1 / (1 + np.e), 1, 1], rtol=1e-15)
    np.testing.assert_allclose(db, [0.5, 0, np.e / (1 + np.e), 0, 0], rtol=1e-15, atol=1e-300)


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["prod", "median"])
def test_reductions(name, axis, keepdims):
    y, wanted = getattr(ops, name)(X, axis, keepdims), getattr(np, name)(X, axis=axis, keepdims=keepdims)
    assert np.shape(y) == wanted.shape
    np.testing.assert_allclose(y, wanted, rtol=1e-13)


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
@pytest.mark.parametrize("name", ["cumsum", "cumprod"])
def test_running(name, axis):
    np.testing.assert_allclose(getattr(ops, name)(X, axis), getattr(np, name)(X, axis), rtol=1e-12)
    one = X[:1, :1, :1]
    y = getattr(ops, name)(one, axis)
    assert np.array_equal(y, getattr(np, name)(one, axis))
    assert not np.shares_memory(y, one)


def test_what_is_not_finite_stays_behind():
    assert np.array_equal(ops.cumsum(np.array([1.0, np.inf, 2.0])), [1.0, np.inf, np.inf])
    assert np.array_equal(ops.cumsum(np.empty((0, 3)), 0), np.empty((0, 3)))
    assert ops.prod(np.empty((2, 0))) == 1.0
    assert np.array_equal(ops.prod(np.empty((2, 0)), 1), [1.0, 1.0])


@pytest.mark.parametrize(
    ("order", "axis"), [(None, None), (None, 1), ("fro", (0, 2)), (2, -1), (1, 0), (np.inf, 2), (-np.inf, 2)]
)
def test_norms(order, axis):
    wanted = np.sqrt((X * X).sum(axis=axis)) if order in (None, 2, "fro") else np.linalg.norm(X, order, axis)
    np.testing.assert_allclose(ops.norm(X, order, axis), wanted, rtol=1e-13)
    assert np.shape(ops.norm(X, order, axis, keepdims=True)) == np.sum(X, axis=axis, keepdims=True).shape


@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("q", [0.0, 0.3, 1.0, [0.25, 0.5, 0.9]], ids=str)
def test_quantiles(q, axis):
    np.testing.assert_allclose(ops.quantile(X, q, axis), np.quantile(X, q, axis=axis), rtol=1e-12)
    kept = ops.quantile(X, q, axis, keepdims=True)
    np.testing.assert_allclose(kept, np.quantile(X, q, axis=axis, keepdims=True), rtol=1e-12)


def test_products_and_distances():
    for axes in (0, 2, ([1, 2], [0, 1]), ([-1], [1])):
        np.testing.assert_allclose(ops.tensordot(X, W, axes), np.tensordot(X, W, axes), rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(ops.tensordot(W, W), np.sum(W * W))
    np.testing.assert_allclose(ops.inner(X, W), np.inner(X, W), rtol=1e-12)
    assert ops.vdot(W, W[::-1].copy()) == pytest.approx(np.vdot(W, W[::-1]))
    wanted = np.linalg.norm(X[:, :, None] - X[:, None], axis=-1)
    np.testing.assert_allclose(ops.cdist(X, X), wanted, rtol=1e-13)
    assert ops.cdist(X, W).shape == (3, 4, 4)
    np.testing.assert_allclose(ops.hypot(X, W), np.hypot(X, W), rtol=1e-14)
    np.testing.assert_allclose(ops.exp2(X), np.exp2(X), rtol=1e-14)


def test_other_names():
    assert np.array_equal(ops.amax(X, 1), X.max(1))
    assert np.array_equal(ops.amin(X, (0, 2), keepdims=True), X.min((0, 2), keepdims=True))
    assert np.array_equal(ops.true_divide(X, W), X / W)


def test_what_is_divided_by_zero():
    a, b = np.array([1.0, 2.0, -3.0]), np.array([0.0, 4.0, -0.0])
    assert ops.divide_no_nan(a, b).tolist() == [0.0, 0.5, 0.0]
    _, (da, db) = fastnn.gradients(lambda a, b: ops.sum(ops.divide_no_nan(a, b)), [a, b])
    assert da.tolist() == [0.0, 0.25, 0.0]
    assert db.tolist() == [0.0, -0.125, 0.0]


def test_roots_of_zero_have_a_gradient():
    x = np.zeros((2, 3))
    for name in ("norm", "cdist", "hypot"):
        value, (dx,) = fastnn.gradients(
            lambda x, name=name: ops.sum(getattr(ops, name)(*([x] if name == "norm" else [x, x]))), [x]
        )
        assert value == 0.0
        assert np.array_equal(dx, x)


def test_others():
    for got, wanted in zip(ops.moments(X, [0, 1]), (X.mean((0, 1)), X.var((0, 1))), strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-12)
    assert np.array_equal(ops.outer(X, W), np.outer(X, W))
    for n in (0, 1, 2, 7):
        for axis in (0, -1):
            np.testing.assert_allclose(ops.diff(X, n, axis), np.diff(X, n, axis), rtol=1e-12)


# Of x (3, 4, 5) and w (4, 5): a number.
FORMULAS = {
    "functions": lambda x, w: ops.sum(ops.tan(w * 0.5) * ops.sinh(x)) + ops.sum(ops.cosh(x) * ops.reciprocal(w)),
    "logarithms": lambda x, w: ops.sum(ops.log2(w) * ops.log10(w)) + ops.sum(ops.logaddexp(x, w)),
    "waves": lambda x, w: ops.sum(ops.sin(x) * ops.cos(w)) + ops.sum(ops.erf(x) * ops.rsqrt(w) * ops.log1p(w)),
    "products": lambda x, w: ops.sum(ops.prod(x, axis=(1, 2))) + ops.prod(w) + ops.sum(ops.cumprod(w, 1) * x),
    "running": lambda x, w: ops.sum(ops.cumsum(x, 1) * w) + ops.sum(ops.square(ops.cumsum(w))),
    "norms": lambda x, w: ops.sum(ops.norm(x, axis=1)) + ops.norm(w) * ops.sum(ops.norm(x, 1, -1)),
    "distances": lambda x, w: (
        ops.sum(ops.cdist(x, w) * 0.5) + ops.tensordot(x[0], w) + ops.sum(ops.inner(x, w)) * ops.vdot(w, w)
    ),
    "roots": lambda x, w: ops.sum(ops.hypot(x, w)) + ops.sum(ops.divide_no_nan(x, w)) + ops.sum(ops.exp2(x)),
    "moments": lambda x, w: ops.sum(ops.moments(x, [0, 2])[1] * ops.moments(w, 1)[0]),
    "differences": lambda x, w: ops.sum(ops.square(ops.diff(x, 2))) + ops.sum(ops.outer(w[0], x[0, 1]) * 0.5),
}
ORDERED = {
    "ordered": lambda x, w: ops.sum(ops.median(x, 1) * 2.0) + ops.quantile(w, 0.3) + ops.sum(ops.quantile(x, 0.6, -1))
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


def test_a_product_with_zeros_has_a_gradient():
    x = np.array([[2.0, 0.0, 3.0], [0.0, 0.0, 4.0]])
    _, (dx,) = fastnn.gradients(lambda x: ops.sum(ops.prod(x, 1)), [x])
    assert np.array_equal(dx, [[0.0, 6.0, 0.0], [0.0, 0.0, 0.0]])


@pytest.mark.parametrize("name", FORMULAS)
def test_programs_give_what_calls_give(name):
    made = fastnn.program(lambda x, w: fastnn.gradients(FORMULAS[name], (x, w)))
    for _ in range(3):
        given = RNG.standard_normal(X.shape), RNG.uniform(0.5, 2.0, W.shape)
        value, found = made(*given)
        wanted, gradients = fastnn.gradients(FORMULAS[name], given)
        assert value == wanted
        assert all(map(np.array_equal, found, gradients))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.prod(X, 3), ValueError, "axis: got 3"),
        (lambda: ops.cumsum(X, 3), ValueError, "axis: got 3"),
        (lambda: ops.cumsum([1.0]), TypeError, "x: got list"),
        (lambda: ops.norm(X, 3), ValueError, "ord: got int 3, wants 1, 2"),
        (lambda: ops.norm(X, 1), ValueError, "ord: got 1 over several axes"),
        (lambda: ops.moments(X, 0, synchronized=True), ValueError, "synchronized: got True"),
        (lambda: ops.quantile(X, 1.5), ValueError, "q: got 1.5"),
        (lambda: ops.quantile(X, [0.5, "a"]), TypeError, r"q\[1\]: got"),
        (lambda: ops.quantile(X, 0.5, method="nearest"), ValueError, "method: got 'nearest'"),
        (lambda: ops.median(np.empty((2, 0)), 1), ValueError, r"x: got shape \(2, 0\), wants numbers along axis 1"),
        (lambda: ops.tensordot(X, W, 3), ValueError, "axes: got 3"),
        (lambda: ops.tensordot(X, W, 1), ValueError, "axes: got"),
        (lambda: ops.cdist(X[0, 0], W), ValueError, "x: got"),
        (lambda: ops.cdist(X, W[:, :3]), ValueError, r"y: got shape \(4, 3\), wants rows of 5 numbers"),
        (lambda: ops.diff(X, -1), ValueError, "n: got -1"),
        (lambda: ops.diff(3.0), TypeError, "a: got float"),
        (lambda: ops.outer(X, [1.0]), TypeError, "x2: got list"),
        (lambda: ops.tan("0"), TypeError, "x: got str"),
        (lambda: fastnn.program(ops.median)(X), TypeError, "numpy.argsort: got an array"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
