"""Ops of CSR matrices: up to rounding what they are of the same matrix with its zeros, bit for bit by any threads."""

from __future__ import annotations

import zlib

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cases import draw, sizes_name
from fastnn.kernels.table import ACTIVATIONS, DTYPES, TABLE

scipy_sparse = pytest.importorskip("scipy.sparse")

BACKENDS = ("naive", "cpu")
PRODUCTS = {name: TABLE[name].sparse[0] for name in ("matmul", "linear", "linear_backward")}


def calls():
    for name in PRODUCTS:
        sizes = [each for each in TABLE[name].cases if np.prod(list(each.values())) <= 40_000]
        yield from (pytest.param(name, each, id=f"{name}-{sizes_name(each)}") for each in sizes)


def thinned(given, name, density=0.3):
    """The operand with zeros in it; it has a row and a column of nothing else where there is room."""
    rng = np.random.default_rng(zlib.crc32(repr(given[name].shape).encode()))
    given[name] *= rng.random(given[name].shape) < density
    given[name][1:2], given[name][:, 2:3] = 0, 0
    return given


def drawn(name, sizes, variant=None, dtype="float64"):
    rng = np.random.default_rng(zlib.crc32(repr((name, sizes)).encode()))
    return thinned(draw(TABLE[name], sizes, variant or TABLE[name].variants[0], dtype, rng), PRODUCTS[name])


def as_csr(given, name, kind="csr_array"):
    return given | {PRODUCTS[name]: getattr(scipy_sparse, kind)(given[PRODUCTS[name]])}


def results(name, given):
    found = getattr(ops, name)(**given)
    return found if isinstance(found, tuple) else (found,)


def assert_close(name, given, found):
    """As many roundings as the longest sum has terms."""
    expected, magnitude = (
        oracle.call(TABLE[name], {k: of(v) if isinstance(v, np.ndarray) else v for k, v in given.items()})
        for of in (np.asarray, abs)
    )
    eps, terms = np.finfo(given["w" if "w" in given else "b"].dtype).eps, 2 + sum(given[PRODUCTS[name]].shape)
    for key, result in enumerate(found):
        assert result.shape == expected[key].shape
        assert result.dtype == given[PRODUCTS[name]].dtype
        allowed = 2 * terms * eps * max(1.0, float(abs(magnitude[key]).max(initial=0)))
        np.testing.assert_allclose(oracle.wide(result), expected[key], rtol=0, atol=allowed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "sizes"), list(calls()))
def test_matches_the_oracle_of_dense_matrices(name, sizes, dtype, backend):
    given = drawn(name, sizes, dtype=dtype)
    with fastnn.use_backend(backend):
        for kind in ("csr_matrix", "csr_array", "csr_array"):  # the last call as the one before was planned
            assert_close(name, given, results(name, as_csr(given, name, kind)))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("bias", [True, False])
def test_activations_are_those_of_the_dense_layer(activation, bias, backend):
    given = drawn("linear", {"n": 5, "in": 33, "out": 71}, {"activation": activation})
    if not bias:
        del given["b"]
    with fastnn.use_backend(backend):
        np.testing.assert_allclose(ops.linear(**as_csr(given, "linear")), ops.linear(**given), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("variant", TABLE["linear_backward"].variants, ids=lambda variant: variant["activation"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_are_those_of_the_dense_layer(variant, backend):
    given = drawn("linear_backward", {"n": 9, "in": 33, "out": 71}, variant)
    sparse = as_csr(given, "linear_backward")
    with fastnn.use_backend(backend):
        for need in (("dx", "dw", "db"), ("dw", "db"), ("dw",), ("dx",), ()):
            found, expected = (ops.linear_backward(**each, need=need) for each in (sparse, given))
            for slope, other, name in zip(found, expected, ("dx", "dw", "db"), strict=True):
                assert (slope is None) == (name not in need)
                if slope is not None:
                    np.testing.assert_allclose(slope, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("m", [1, 5, 31, 64, 65, 128, 200, 512])
@pytest.mark.parametrize("dtype", DTYPES)
def test_products_of_integers_are_exact_and_write_nothing_beside(m, dtype):
    rng = np.random.default_rng(m)
    a, b = rng.integers(-3, 4, (37, 53)) * (rng.random((37, 53)) < 0.4), rng.integers(-4, 5, (53, m))
    guarded = np.full(37 * m + 64, 7, dtype)
    out = guarded[32:-32].reshape(37, m)
    sparse = scipy_sparse.csr_array(a.astype(dtype))
    assert ops.matmul(sparse, b.astype(dtype), out=out) is out
    assert np.array_equal(out, a @ b)
    assert (guarded[:32] == 7).all()
    assert (guarded[-32:] == 7).all()
    dw = ops.linear_backward((a @ b).astype(dtype), sparse, b.astype(dtype), out, need=("dw",))[1]
    assert np.array_equal(dw, a.T @ (a @ b))


@pytest.mark.parametrize("backend", BACKENDS)
def test_order_and_duplicates_of_columns_are_of_no_account(backend):
    parts = np.array([1.0, 2, 3, 4, 5]), np.array([2, 0, 2, 1, 1], "int64"), np.array([0, 3, 5], "int64")
    a, b = scipy_sparse.csr_array(parts, shape=(2, 3)), np.arange(12.0).reshape(3, 4)
    assert not a.has_canonical_format
    with fastnn.use_backend(backend):
        assert np.array_equal(ops.matmul(a, b), np.array([[2, 0, 4], [0, 9, 0]]) @ b)
        dw = ops.linear_backward(np.ones((2, 4)), a, b, np.ones((2, 4)), need=("dw",))[1]
        assert np.array_equal(dw, np.array([[2, 0, 4], [0, 9, 0]]).T @ np.ones((2, 4)))


@pytest.mark.parametrize("name", PRODUCTS)
def test_other_operands_may_lie_in_any_way_and_arrays_be_locked(name):
    given = drawn(name, {"n": 9, "in": 33, "out": 71, "k": 33, "m": 71})
    sparse = as_csr(given, name)
    expected = results(name, sparse)
    turned = {k: np.asfortranarray(v) if isinstance(v, np.ndarray) else v for k, v in sparse.items()}
    matrix = sparse[PRODUCTS[name]]
    for part in (matrix.data, matrix.indices, matrix.indptr):
        part.flags.writeable = False
    for found, other in zip(results(name, turned), expected, strict=True):
        np.testing.assert_allclose(found, other, rtol=1e-13, atol=1e-14)


def test_results_may_go_where_operands_are():
    rng = np.random.default_rng(3)
    dense = rng.standard_normal((16, 16)) * (rng.random((16, 16)) < 0.5)
    b, a = rng.standard_normal((16, 16)), scipy_sparse.csr_array(dense)
    expected = ops.matmul(a, b)
    for order in ("C", "F"):
        out = np.array(b, order=order)
        assert ops.matmul(a, out, out=out) is out
        assert np.array_equal(out, expected)
    whole = scipy_sparse.csr_array(np.ones((4, 4)))
    out = whole.data.reshape(4, 4)
    integers = np.arange(16.0).reshape(4, 4)
    assert np.array_equal(ops.matmul(whole, integers, out=out), np.ones((4, 4)) @ integers)
    dy = rng.standard_normal((16, 16))
    slopes = ops.linear_backward(dy, a, b, dy)
    for names in (("dx", "dw"), ("dw", "dx")):
        held = {"dy": dy.copy(), "w": b.copy()}
        found = ops.linear_backward(held["dy"], a, held["w"], dy, **dict(zip(names, held.values(), strict=True)))
        for one, other in zip(found, slopes, strict=True):
            assert np.array_equal(one, other)


def test_results_do_not_depend_on_threads():
    rng = np.random.default_rng(4)
    dense = (rng.standard_normal((257, 300)) * (rng.random((257, 300)) < 0.2)).astype("f")
    x, w, bias = scipy_sparse.csr_array(dense), rng.standard_normal((300, 130)).astype("f"), np.ones(130, "f")
    found = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            y = ops.linear(x, w, bias, "tanh")
            found.append([y, *ops.linear_backward(y, x, w, y, "tanh")])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            assert np.array_equal(one, other)


def test_gradients_are_followed_past_a_constant_matrix():
    given = drawn("linear", {"n": 5, "in": 7, "out": 3})
    x, sparse = given["x"], as_csr(given, "linear")["x"]

    def loss(x):
        return lambda w, b: ops.softmax_cross_entropy(ops.linear(x, w, b, "relu"), np.array([0, 1, 2, 0, 1]))[0]

    arrays = [given["w"], given["b"]]
    (value, slopes), (expected, others) = (fastnn.gradients(loss(each), arrays) for each in (sparse, x))
    assert value == pytest.approx(expected, rel=1e-14)
    for slope, other in zip(slopes, others, strict=True):
        np.testing.assert_allclose(slope, other, rtol=1e-12, atol=1e-14)


def spoilt(change):
    x = scipy_sparse.csr_array(np.eye(4, dtype="f"))
    change(x)
    return x


MALFORMED = {
    "column": lambda x: x.indices.__setitem__(2, 4),
    "negative column": lambda x: x.indices.__setitem__(2, -1),
    "order": lambda x: x.indptr.__setitem__(1, 3),
    "negative start": lambda x: x.indptr.__setitem__(0, -1),
    "end": lambda x: x.indptr.__setitem__(4, 9),
    "rows": lambda x: setattr(x, "indptr", x.indptr[:-1]),
    "more rows": lambda x: setattr(x, "indptr", np.append(x.indptr, x.indptr[-1])),
    "values": lambda x: setattr(x, "data", x.data[:-1]),
    "columns": lambda x: setattr(x, "indices", x.indices[:-1]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_matrices_are_refused(case):
    """Before and after calls like these; nothing beyond their arrays is read."""
    w = np.ones((4, 4), "f")
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^x: got a malformed CSR matrix"):
            ops.linear(spoilt(MALFORMED[case]), w)
        with pytest.raises(ValueError, match=r"^x: got a malformed CSR matrix"):
            ops.linear_backward(w, spoilt(MALFORMED[case]), w, w, need=("dw",))
        ops.linear(spoilt(id), w)
        ops.linear_backward(w, spoilt(id), w, w, need=("dw",))


SPARSE, W = scipy_sparse.csr_array(np.eye(4, dtype="f")), np.ones((4, 3), "f")
WRONG = {
    "column-wise": (lambda: ops.matmul(SPARSE.tocsc(), W), TypeError, r"^a: got csc_array .*, or a CSR matrix"),
    "on the right": (lambda: ops.matmul(W.T, SPARSE), TypeError, r"^b: got csr_array .*, wants a NumPy or CuPy array$"),
    "weights": (lambda: ops.linear(W.T, SPARSE), TypeError, r"^w: got csr_array .*, wants a NumPy or CuPy array$"),
    "packed": (
        lambda: ops.linear(SPARSE, ops.pack(W)),
        ValueError,
        r"^w: got Panels .*, wants it an array beside a CS",
    ),
    "dtype": (
        lambda: ops.linear(SPARSE, W.astype(float)),
        TypeError,
        r"^w: got dtype float64, wants float32, the dtyp",
    ),
    "integers": (lambda: ops.linear(SPARSE.astype(int), W), TypeError, r"^x: .*int64, wants dtype float32 or float64"),
    "shape": (
        lambda: ops.linear(SPARSE, W.T),
        ValueError,
        r"^w: got shape \(3, 4\), wants shape \(4, out\) to match x",
    ),
    "out": (lambda: ops.matmul(SPARSE, W, out=W.T), ValueError, r"^out: got .*, wants an array of shape \(4, 3\)"),
    "activation": (
        lambda: ops.linear(SPARSE, W, activation="rel"),
        ValueError,
        r"^activation: got 'rel', wants one of",
    ),
    "options": (lambda: ops.linear(SPARSE, W, activation=[]), TypeError, r"^activation: got list \[\], wants one of"),
    "elsewhere": (lambda: ops.relu(SPARSE), TypeError, r"^x: got csr_array .*, wants a NumPy or CuPy array$"),
}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case, backend):
    call, error, message = WRONG[case]
    if case == "packed" and backend == "naive":
        pytest.skip("weights are packed for the cpu alone")
    with fastnn.use_backend(backend):
        for _ in range(2):
            ops.linear(SPARSE, W)
            with pytest.raises(error, match=message):
                call()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", [name for name, op in TABLE.items() if op.module == "linear_steps"])
def test_steps_of_a_layer_are_those_of_the_dense_layer(name, backend):
    op = TABLE[name]
    for variant in op.variants:
        given = thinned(draw(op, {"n": 9, "in": 33, "out": 71}, variant, "float64", np.random.default_rng(5)), "x")
        other = {key: value.copy() if isinstance(value, np.ndarray) else value for key, value in given.items()}
        sparse = other | {"x": scipy_sparse.csr_array(other["x"])}
        with fastnn.use_backend(backend):
            for _ in range(2):  # the last call as the one before was planned
                found, expected = (getattr(ops, name)(**each) for each in (sparse, given))
        assert (found is None) == (expected is None)
        for key in op.inplace:
            if given.get(key) is not None:
                np.testing.assert_allclose(other[key], given[key], rtol=1e-9, atol=1e-11)
