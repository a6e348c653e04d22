"""Ops of CSR matrices on a device, or the host that stands in: up to rounding those of the same dense matrices."""

from __future__ import annotations

import io
from contextlib import nullcontext

import numpy as np
import pytest
import test_csr as of_csr
from test_csr import calls, drawn, thinned
from test_ops import seeded

import fastnn
from fastnn import backends, ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import DTYPES, TABLE
from tests.cuda_host import build
from tests.cuda_host import sparse as host_sparse
from tests.cuda_host.places import compiles_for_host, host_only

scipy_sparse = pytest.importorskip("scipy.sparse")

STEPS = [name for name, op in TABLE.items() if op.module == "linear_steps"]


@pytest.fixture
def csr(cupy):
    from fastnn.kernels.cuda import csr

    return csr


def csr_matrix(cupy, parts, shape):
    """A CSR matrix on the device, of (values, columns, where rows begin)."""
    if hasattr(cupy, "launched"):  # the stand-in
        made = host_sparse.csr_matrix
    else:
        from cupyx.scipy.sparse import csr_matrix as made
    return made(tuple(map(cupy.asarray, parts)), shape=shape)


def on_device(cupy, given, sparse=None):
    """Arguments on the device, one of them as a CSR matrix."""
    moved = {name: cupy.asarray(value) if isinstance(value, np.ndarray) else value for name, value in given.items()}
    if sparse is not None:
        matrix = scipy_sparse.csr_matrix(given[sparse])
        moved[sparse] = csr_matrix(cupy, (matrix.data, matrix.indices, matrix.indptr), matrix.shape)
    return moved


def results(name, given):
    found = getattr(ops, name)(**given)
    return tuple(None if each is None else each.get() for each in (found if isinstance(found, tuple) else (found,)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "sizes"), list(calls()))
def test_matches_the_oracle_of_dense_matrices(cupy, name, sizes, dtype):
    given = drawn(name, sizes, dtype=dtype)
    of_csr.assert_close(name, given, results(name, on_device(cupy, given, of_csr.PRODUCTS[name])))


@pytest.mark.parametrize("variant", TABLE["linear"].variants, ids=str)
def test_layers_are_those_of_dense_matrices(cupy, variant):
    given = drawn("linear", {"n": 5, "in": 33, "out": 71}, variant)
    of_csr.assert_close("linear", given, results("linear", on_device(cupy, given, "x")))


@pytest.mark.parametrize("variant", TABLE["linear_backward"].variants, ids=lambda variant: variant["activation"])
def test_gradients_are_those_of_dense_matrices(cupy, variant):
    given = drawn("linear_backward", {"n": 9, "in": 33, "out": 71}, variant)
    for need in (("dx", "dw", "db"), ("dw", "db"), ("dx",), ()):
        found, dense = (results("linear_backward", on_device(cupy, given, x) | {"need": need}) for x in ("x", None))
        for slope, wanted in zip(found, dense, strict=True):
            assert (slope is None) == (wanted is None)
            if slope is not None:
                np.testing.assert_allclose(slope, wanted, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", STEPS)
def test_steps_of_a_layer_are_those_of_the_dense_layer(cupy, name):
    op = TABLE[name]
    for variant in op.variants:
        sizes = {"n": 9, "in": 33, "out": 71}
        given = thinned(draw(op, sizes, variant, "float64", seeded("sparse", name, variant)), "x")
        dense, sparse = on_device(cupy, given), on_device(cupy, given, "x")
        found, wanted = results(name, sparse), results(name, dense)
        assert (found[0] is None) == (wanted[0] is None)
        for key in op.inplace:
            if given.get(key) is not None:
                np.testing.assert_allclose(
                    sparse[key].get(), dense[key].get(), rtol=1e-9, atol=1e-11, err_msg=f"{key} {variant}"
                )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("columns", [1, 2, 4])
def test_integers_are_exact_at_the_edges_of_strips(cupy, csr, monkeypatch, columns, dtype):
    monkeypatch.setattr(csr, "_lane_columns", lambda n, m: columns)
    backends.forget()  # plans of other columns
    for m in (1, 31, 32, 33, 127, 128, 129):
        rng = np.random.default_rng(m)
        a = rng.integers(-3, 4, (37, 53)) * (rng.random((37, 53)) < 0.4)
        b = rng.integers(-4, 5, (53, m))
        given = {"a": a.astype(dtype), "b": b.astype(dtype)}
        np.testing.assert_array_equal(results("matmul", on_device(cupy, given, "a"))[0], a @ b)
        layer = {"x": a.astype(dtype), "w": b.astype(dtype), "dy": (a @ b).astype(dtype)}
        layer |= {"y": layer["dy"], "need": ("dw",)}
        np.testing.assert_array_equal(results("linear_backward", on_device(cupy, layer, "x"))[1], a.T @ (a @ b))


@pytest.mark.parametrize("precision", ["tf32", "bfloat16"])
def test_operands_are_rounded_as_those_of_dense_products(cupy, precision):
    """Which sums products that are exact in float32: the same ones are left, but for the order of their sums."""
    given = {name: each for name, each in random_layer(n=33, k=70, m=40).items() if name != "need"}
    wanted, found = on_device(cupy, given), on_device(cupy, given, "x")
    exact = results("linear", {name: found[name] for name in ("x", "w")})[0]
    with fastnn.use_precision(precision):
        for call in ("linear", "linear_backward"):
            names = ("x", "w") if call == "linear" else ("dy", "x", "w", "y")
            one, other = (results(call, {name: each[name] for name in names}) for each in (wanted, found))
            for dense, sparse in zip(one, other, strict=True):
                np.testing.assert_allclose(sparse, dense, rtol=1e-5, atol=1e-5)
        rounded = results("linear", {name: found[name] for name in ("x", "w")})[0]
    assert abs(rounded - exact).max() > 1e-4
    np.testing.assert_array_equal(results("linear", {name: found[name] for name in ("x", "w")})[0], exact)


def test_numbers_that_are_gathered_backwards_are_summed_as_they_are(cupy):
    dy, data, index = np.full((3, 4), 1 + 2**-20, "float32"), np.zeros((2, 4), "float32"), np.array([1, 1, 0])
    with fastnn.use_precision("bfloat16"):
        found = ops.gather_backward(*map(cupy.asarray, (dy, data, index)))
    np.testing.assert_array_equal(found.get(), [dy[0], 2 * dy[0]])


def random_layer(n=300, k=40, m=33, density=0.4):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((n, k)) * (rng.random((n, k)) < density)
    arrays = {"x": x, "dy": rng.standard_normal((n, m)), "w": rng.standard_normal((k, m))}
    arrays["y"] = arrays["dy"]
    return {name: array.astype("float32") for name, array in arrays.items()} | {"need": ("dw",)}


@host_only
def test_bits_repeat_in_any_order_of_threads_and_for_any_number_of_chunks(cupy, csr, monkeypatch):
    given, found = random_layer(), []
    for seed, least in ((0, 32), (1, 32), (2, 64), (3, 10**6)):
        monkeypatch.setattr(cupy, "seed", seed)
        monkeypatch.setattr(csr, "_LEAST_CHUNK", least)
        found.append(results("linear_backward", on_device(cupy, given, "x"))[1])
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)


@host_only
@pytest.mark.parametrize(("n", "k"), [(60, 700), (300, 5)], ids=["many columns", "columns that meet in a warp"])
def test_columns_are_sorted_stably(cupy, csr, monkeypatch, n, k):
    """More counters than one span has, and more non-zeros than one chunk."""
    from fastnn.kernels.cuda import scan
    from fastnn.kernels.cuda.chain import Chain

    monkeypatch.setattr(scan, "_SPAN", 256)
    monkeypatch.setattr(csr, "_LEAST_CHUNK", 32)
    given = random_layer(n=n, k=k, m=3)
    expected = scipy_sparse.csr_matrix(given["x"]).tocsc()
    chain = Chain((), csr._OTHERS)
    _, others, size, _held = csr._given("x", on_device(cupy, given, "x")["x"])
    assert expected.nnz <= size < 1.25 * expected.nnz
    columns = csr._by_columns(chain, (n, k), np.dtype("float32"), size)
    rooms = {}
    for name in ("empty", "zeros"):
        monkeypatch.setattr(cupy, name, keeping(rooms, name, getattr(cupy, name)))
    chain.made()((), others, b"")

    def numbers(name, dtype, count):
        of_zeros, at = next((of_zeros, at) for room, of_zeros, at in chain._places if room == name)
        room = rooms["zeros" if of_zeros else "empty"].get()
        return room[at : at + count * 4].view(dtype)

    starts = numbers(columns.bounds, "int32", k * columns.step + 1)
    np.testing.assert_array_equal(starts[:: columns.step], expected.indptr)
    np.testing.assert_array_equal(numbers(columns.indices, "int32", expected.nnz), expected.indices)
    np.testing.assert_array_equal(numbers(columns.values, "float32", expected.nnz), expected.data)
    assert numbers(columns.fault, "int32", 1) == 0


def keeping(rooms, name, make):
    """``make``, whose first array is kept by this name."""

    def made(*given):
        array = make(*given)
        rooms.setdefault(name, array)
        return array

    return made


@host_only
@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 70_000])
def test_running_sums(cupy, monkeypatch, size):
    from fastnn.kernels.cuda import scan
    from fastnn.kernels.cuda.chain import Chain

    monkeypatch.setattr(scan, "_SPAN", 256)
    numbers = np.random.default_rng(size).integers(-5, 9, size).astype("int32")
    for seed in range(2):
        monkeypatch.setattr(cupy, "seed", seed)
        array = cupy.asarray(numbers)
        chain = Chain(["numbers"])
        scan.add_to(chain, size, "numbers")
        chain.made()([array.data.ptr], [], b"")
        np.testing.assert_array_equal(array.get(), numbers.cumsum())


def matrix(cupy, values, indices, indptr, shape, integers="int32"):
    """A CSR matrix on the device, whatever its parts are."""
    parts = np.array(values, "float32"), np.array(indices, integers), np.array(indptr, integers)
    return csr_matrix(cupy, parts, shape)


@pytest.mark.parametrize("integers", ["int32", "int64"])
def test_order_and_duplicates_of_columns_are_of_no_account(cupy, integers):
    a = matrix(cupy, [1.0, 2, 3, 4, 5], [2, 0, 2, 1, 1], [0, 3, 5], (2, 3), integers)
    b, dense = np.arange(12, dtype="float32").reshape(3, 4), np.array([[2, 0, 4], [0, 9, 0]], "float32")
    np.testing.assert_array_equal(ops.matmul(a, cupy.asarray(b)).get(), dense @ b)
    ones = cupy.asarray(np.ones((2, 4), "float32"))
    dw = ops.linear_backward(ones, a, cupy.asarray(b), ones, need=("dw",))[1]
    np.testing.assert_array_equal(dw.get(), dense.T @ ones.get())


@pytest.mark.parametrize("name", of_csr.PRODUCTS)
def test_other_operands_may_lie_in_any_way(cupy, name):
    given = drawn(name, {"n": 9, "in": 33, "out": 71, "k": 33, "m": 71})
    plain = on_device(cupy, given, of_csr.PRODUCTS[name])
    turned = {
        key: cupy.asarray(np.ascontiguousarray(given[key].T)).T if hasattr(value, "get") and value.ndim == 2 else value
        for key, value in plain.items()
    }
    for found, wanted in zip(results(name, turned), results(name, plain), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-13, atol=1e-14)


def test_results_may_go_where_operands_are(cupy):
    rng = np.random.default_rng(3)
    given = {"a": rng.standard_normal((16, 16)) * (rng.random((16, 16)) < 0.5), "b": rng.standard_normal((16, 16))}
    wanted = results("matmul", on_device(cupy, given, "a"))[0]
    moved = on_device(cupy, given, "a")
    assert ops.matmul(**moved, out=moved["b"]) is moved["b"]
    np.testing.assert_array_equal(moved["b"].get(), wanted)
    whole = on_device(cupy, {**given, "a": np.ones((4, 4)), "b": np.arange(16.0).reshape(4, 4)}, "a")
    out = whole["a"].data.reshape(4, 4)
    ops.matmul(**whole, out=out)
    np.testing.assert_array_equal(out.get(), np.ones((4, 4)) @ np.arange(16.0).reshape(4, 4))


# What is wrong with a matrix of ones on the diagonal, and the rows of a product that are NaN for it.
MALFORMED = {
    "column": ([0, 1, 4, 3], [0, 1, 2, 3, 4], [2]),
    "negative column": ([0, 1, -1, 3], [0, 1, 2, 3, 4], [2]),
    "order": ([0, 1, 2, 3], [0, 3, 2, 3, 4], [1]),
    "negative start": ([0, 1, 2, 3], [-1, 1, 2, 3, 4], [0]),
    "end": ([0, 1, 2, 3], [0, 1, 2, 3, 9], [3]),
}


@host_only
@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_matrices_make_nan_and_nothing_beyond_them_is_read(cupy, case):
    indices, indptr, rows = MALFORMED[case]
    w = cupy.asarray(np.ones((12, 4), "float32"))[4:8]  # with numbers on both sides that nobody may take
    x = matrix(cupy, [1.0] * 4, indices, indptr, (4, 4))
    y = ops.linear(x, w).get()
    assert np.isnan(y[rows]).all()
    others = [row for row in range(4) if row not in rows]
    assert np.isfinite(y[others]).all()
    assert np.isnan(ops.linear_backward(w, x, w, w, need=("dw",))[1].get()).all()


@host_only
@pytest.mark.parametrize(
    ("values", "indptr"), [([1.0] * 4, [0, 1, 2, 3]), ([1.0] * 4, [0, 1, 2, 3, 4, 4])], ids=["fewer rows", "more rows"]
)
def test_matrices_of_another_number_of_rows_are_refused(cupy, values, indptr):
    x, w = matrix(cupy, values, [0, 1, 2, 3], indptr, (4, 4)), cupy.asarray(np.ones((4, 4), "float32"))
    with pytest.raises(ValueError, match=r"^x: got a malformed CSR matrix"):
        ops.linear(x, w)
    with pytest.raises(ValueError, match=r"^a: got a malformed CSR matrix"):
        ops.matmul(x, w)
    with pytest.raises(ValueError, match=r"^x: got a malformed CSR matrix"):
        ops.linear_backward(w, x, w, w, need=("dw",))


@pytest.mark.parametrize("part", ["data", "indices", "indptr"])
def test_gradients_that_lie_over_the_matrix_are_written_last(cupy, part):
    """Although a call before had one beside them, whose arrays are as long."""
    given = random_layer(n=40, k=12)
    apart, x = on_device(cupy, given, "x")["x"], on_device(cupy, given, "x")["x"]
    layer = {name: cupy.asarray(given[name]) for name in ("dy", "w", "y")}
    values, room = getattr(x, part), cupy.empty((400,), "float32")
    assert values.size >= 33
    setattr(x, part, room[: values.size].view(values.dtype))
    getattr(x, part)[...] = values
    _, *wanted = ops.linear_backward(x=apart, **layer, need=("dw", "db"))
    for matrix in (apart, x):
        getattr(x, part)[...] = values
        _, *found = ops.linear_backward(x=matrix, **layer, need=("dw", "db"), dw=layer["w"].copy(), db=room[:33])
        for gradient, expected in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(gradient.get(), expected.get())


def test_rows_of_a_matrix(cupy):
    given = random_layer(n=40, k=33)
    index = np.array([5, 3, 3, 39, 0, 7, 21])
    data = on_device(cupy, given, "x")["x"]
    wanted = scipy_sparse.csr_matrix(given["x"])
    for rows in (index, index[:0], np.arange(40)[::-1].copy(), index.astype("int32")):
        found, expected = ops.gather(data, cupy.asarray(rows)), wanted[rows]
        assert type(found) is type(data)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(found, part).get(), getattr(expected, part))


@host_only
def test_rows_that_are_not_there_or_malformed_are_refused(cupy):
    for number in (4, -1):
        x = matrix(cupy, [1.0] * 4, [0, 1, 2, 3], [0, 1, 2, 3, 4], (4, 4))
        with pytest.raises(IndexError, match=r"^index: got .*, wants row numbers in \[0, 4\)"):
            ops.gather(x, cupy.asarray(np.array([1, number])))
    x = matrix(cupy, [1.0] * 4, [0, 1, 2, 3], [0, 3, 2, 3, 9], (4, 4))
    for number in (1, 3):
        with pytest.raises(ValueError, match=r"^data: got a malformed CSR matrix"):
            ops.gather(x, cupy.asarray(np.array([2, number])))


def test_gradients_of_rows_by_numbers_that_are_none_of_theirs_are_left_out(cupy):
    """Those that an int holds, and those that it would take for others."""
    index = np.array([2, -1, 0, 3, 2**32, 2**32 + 1, -(2**63), 2, 2**62])
    dy, data = np.arange(18, dtype="float32").reshape(9, 2), np.zeros((3, 2), "float32")
    found = ops.gather_backward(*map(cupy.asarray, (dy, data, index)))
    np.testing.assert_array_equal(found.get(), [dy[2], [0, 0], dy[0] + dy[7]])


# The ops of CSR matrices, small, with a part of a source in another's place.
_SANITIZED = """
import os, sys
os.environ.pop("LD_PRELOAD")  # not for the compiler
import io
from contextlib import nullcontext

import numpy as np
import fastnn
from fastnn import ops
from tests.cuda_host import sparse
from tests.cuda_host.backend import on_host
file, right, wrong = sys.argv[1:]
with on_host() as cupy:
    from fastnn.kernels.cuda import csr, launch, scan
    cupy.sanitize, read = True, launch._file
    launch._file = lambda name: read(name).replace(right, wrong) if name == file else read(name)
    csr._LEAST_CHUNK, scan._SPAN = 64, 512
    n, k, m = 40, 90, 3
    rows = np.arange(n + 1) * 4, np.arange(4 * n) % 7, np.ones(4 * n)
    parts = [cupy.asarray(each.astype(kind)) for each, kind in zip(rows, ("int32", "int32", "float32"))]
    x = sparse.csr_matrix(tuple(reversed(parts)), (n, k))
    ones = lambda *shape: cupy.asarray(np.ones(shape, "float32"))
    w, dy = ones(k, m), ones(n, m)
    y = ops.linear(x, w, ones(m), "relu")
    ops.linear_sgd_step(dy, x, w, dy, learning_rate=0.5, need=())
    found = ops.gather(x, cupy.asarray(np.arange(n)[::-1].copy()))
    if not file:
        wanted = 1 - 0.5 * np.bincount(rows[1], minlength=k)
        assert (y.get() == 5).all() and (w.get() == wanted[:, None]).all() and (found.data.get() == 1).all()
"""

# A part of a source, and what stands there in its place.
RACES = {
    "none": ("", "", ""),
    "sums read late": ("scan.cu", "    __syncthreads(); // everybody", "    // everybody"),
    "places given late": ("transpose.cu", "            __syncwarp();\n        }", "        }"),
}


@compiles_for_host
@pytest.mark.parametrize("name", RACES)
def test_the_sanitizer_finds_races_and_none_where_there_is_none(name):
    assert ("data race" in build.sanitized(_SANITIZED, *RACES[name])) == (name != "none")


def test_what_is_on_the_host_is_no_operand(cupy):
    given = on_device(cupy, {"a": np.eye(3, dtype="float32"), "b": np.ones((3, 3), "float32")}, "a")
    with pytest.raises(TypeError, match="wants all arrays in one place"):
        ops.matmul(given["a"], np.ones((3, 3), "float32"))
    with pytest.raises(TypeError, match="wants all arrays in one place"):
        ops.matmul(scipy_sparse.csr_matrix(np.eye(3, dtype="float32")), given["b"])


def test_rows_of_a_matrix_with_a_bound_are_gathered_without_a_wait(cupy, csr):
    """Their products are those of the rows, and a program captures them."""
    rng = np.random.default_rng(5)
    dense = np.where(rng.random((30, 17)) < 0.2, rng.normal(size=(30, 17)), 0)
    matrix = scipy_sparse.csr_matrix(dense)
    longest = int(np.diff(matrix.indptr).max())
    parts = [cupy.asarray(part) for part in (matrix.data, matrix.indices, matrix.indptr)]
    held, index = csr.bounded(*parts, matrix.shape, longest), rng.permutation(30)[:11]
    w, dy = cupy.asarray(rng.normal(size=(17, 5))), cupy.asarray(rng.normal(size=(11, 5)))
    with getattr(cupy, "unread", nullcontext)():
        found = csr.gather(held, cupy.asarray(index))
        assert found.bound == held.bound
        y, (_, dw, _) = ops.matmul(found, w), ops.linear_backward(dy, found, w, dy, need=("dw",))
    np.testing.assert_allclose(y.get(), dense[index] @ w.get(), rtol=1e-12)
    np.testing.assert_allclose(dw.get(), dense[index].T @ dy.get(), rtol=1e-12)
    program = fastnn.program(lambda x: ops.matmul(x, w))
    order = rng.permutation(30)
    for _ in range(2):
        joined = program.repeat(held, order, 10, join=True)
        np.testing.assert_allclose(joined.get(), dense[order] @ w.get(), rtol=1e-12)
    program.plan(said := io.StringIO())
    assert "called" not in said.getvalue()
