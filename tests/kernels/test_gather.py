"""Rows by their numbers: of floats, bytes and CSR matrices, against NumPy's and SciPy's own indexing."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.table import DTYPES

scipy_sparse = pytest.importorskip("scipy.sparse")

BACKENDS = ("naive", "cpu")
KINDS = ("csr_matrix", "csr_array")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64", "uint64")


@pytest.fixture(autouse=True, params=BACKENDS)
def backend(request):
    with fastnn.use_backend(request.param):
        yield request.param


def table(shape=(40, 7), dtype="float32"):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def bytes_of(shape=(40, 67)):
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


def csr(kind="csr_array", dtype="float32", rows=40):
    dense = table((rows, 33), dtype)
    dense[abs(dense) < 1] = 0
    dense[[3, 7]] = 0
    return getattr(scipy_sparse, kind)(dense)


INDEX = np.array([5, 3, 3, 39, 0, 7, 21])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(40,), (40, 1), (40, 7), (40, 3, 5), (40, 300)])
def test_rows_are_numpys_bit_for_bit(shape, dtype):
    data = table(shape, dtype)
    data[3].fill(np.nan)
    for index in (INDEX, INDEX[::-1], INDEX[:0], np.arange(40)):
        for _ in range(2):
            assert ops.gather(data, index).tobytes() == data[index].tobytes()


@pytest.mark.parametrize("dtype", INTEGERS)
def test_numbers_of_rows_are_any_integers(dtype):
    data = table()
    assert np.array_equal(ops.gather(data, INDEX.astype(dtype)), data[INDEX])


@pytest.mark.parametrize("numbers", [(), (1.0,), (1 / 127.5, -1.0), (1e-3, 1e3)])
@pytest.mark.parametrize("shape", [(40,), (40, 67), (40, 4, 4, 1)])
def test_bytes_are_rescaled(shape, numbers):
    data = bytes_of(shape)
    scale, offset = (*numbers, *(1 / 255, 0.0)[len(numbers) :])
    for _ in range(2):
        found = ops.gather(data, INDEX, *numbers)
        assert found.dtype == np.float32
        expected = oracle.WIDE(scale) * data[INDEX] + oracle.WIDE(offset)
        atol = 2 * np.finfo("float32").eps * (255 * abs(scale) + abs(offset))
        np.testing.assert_allclose(oracle.wide(found), expected, rtol=0, atol=atol)


def views(data):
    wide = np.zeros((*data.shape, 2), data.dtype)
    wide[..., 1] = data
    locked = data.copy()
    locked.flags.writeable = False
    shifted = np.zeros(data.nbytes + 1, np.uint8)[1:].view(data.dtype).reshape(data.shape)
    shifted[...] = data
    return [np.asfortranarray(data), wide[..., 1], np.flip(np.flip(data).copy()), locked, shifted]


@pytest.mark.parametrize("data", [table(), bytes_of()], ids=["floats", "bytes"])
def test_data_may_lie_in_any_way(data):
    expected = ops.gather(data, INDEX)
    for view in views(data):
        for out in (None, np.empty_like(expected), np.empty_like(expected, order="F")):
            for index in (INDEX, INDEX.astype("int32"), np.repeat(INDEX, 2)[::2]):
                found = ops.gather(view, index, out=out)
                assert out is None or found is out
                assert np.array_equal(found, expected)


@pytest.mark.parametrize("data", [table(), bytes_of()], ids=["floats", "bytes"])
@pytest.mark.parametrize("wrong", [-1, 40, 2**40, -(2**63)])
def test_rows_that_are_not_there_are_refused_and_nothing_is_written(data, wrong):
    out = np.full((7, data.shape[1]), 7, "float32")
    index = INDEX.copy()
    ops.gather(data, index, out=out.copy())
    index[4] = wrong
    for given in (data, np.asfortranarray(data), data[:0]):
        for _ in range(2):
            with pytest.raises(IndexError, match=r"^index\[\d\]: got -?\d+, wants row numbers in \[0, (40|0)\)"):
                ops.gather(given, index, out=out)
    with pytest.raises(IndexError, match=rf"^index\[4\]: got {wrong}, wants"):
        ops.gather(data, index)
    assert (out == 7).all()


def test_numbers_beyond_int64_are_no_rows():
    index = np.array([0, 2**64 - 1], np.uint64)
    for data in (table(), csr()):
        with pytest.raises(IndexError, match=r"^index\[1\]: got 18446744073709551615, wants"):
            ops.gather(data, index)


@pytest.mark.parametrize("integers", ["int32", "int64"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_csr_are_scipys(kind, dtype, integers):
    data = csr(kind, dtype)
    data.indices, data.indptr = data.indices.astype(integers), data.indptr.astype(integers)
    for index in (INDEX, INDEX[:0], np.arange(40)[::-1]):
        found, expected = ops.gather(data, index), data[index]
        assert type(found) is type(data)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        for part in ("indptr", "indices", "data"):
            assert np.array_equal(getattr(found, part), getattr(expected, part)), part
        found.check_format(full_check=True)
    with pytest.raises(IndexError, match=r"^index\[1\]: got 40, wants row numbers in \[0, 40\)"):
        ops.gather(data, np.array([0, 40]))


def test_csr_is_left_as_it_is():
    """Order and duplicates of its columns too; arrays that nobody may write to are read."""
    data = scipy_sparse.csr_array((np.arange(4, dtype="f"), [2, 0, 1, 1], [0, 2, 4]), shape=(2, 3))
    for part in (data.data, data.indices, data.indptr):
        part.flags.writeable = False
    found = ops.gather(data, np.array([1, 0]))
    assert found.indices.tolist() == [1, 1, 2, 0]
    assert found.data.tolist() == [2, 3, 0, 1]


WRONG = {
    "no matrix": (lambda: ops.gather([[1.0]], INDEX), TypeError, r"^data: got list .*, or a CSR matrix of SciPy's"),
    "column-wise": (lambda: ops.gather(csr().tocsc(), INDEX), TypeError, r"^data: got csc_array .*, or a CSR matrix"),
    "integers": (lambda: ops.gather(table().astype(int), INDEX), TypeError, r"^data: .*int64, wants dtype float32 or"),
    "CSR of bytes": (lambda: ops.gather(csr().astype("u1"), INDEX), TypeError, r"^data: .*uint8, wants dtype float32"),
    "number": (lambda: ops.gather(np.zeros((), "f"), INDEX), ValueError, r"^data: got shape \(\), wants"),
    "float index": (lambda: ops.gather(table(), INDEX / 1), TypeError, r"^index: got .*float64, wants an array of int"),
    "mask": (lambda: ops.gather(table(), INDEX > 3), TypeError, r"^index: got .*bool, wants an array of integers"),
    "list": (lambda: ops.gather(table(), [1, 2]), TypeError, r"^index: got list \[1, 2\], wants a NumPy or CuPy array"),
    "two dimensions": (lambda: ops.gather(table(), INDEX[None]), ValueError, r"^index: got shape \(1, 7\), wants"),
    "scale": (lambda: ops.gather(table(), INDEX, 1.0), ValueError, r"^scale: got float 1\.0, wants it left out where"),
    "offset": (lambda: ops.gather(csr(), INDEX, offset=1), ValueError, r"^offset: got float 1\.0, wants it left out"),
    "scale of bytes": (lambda: ops.gather(bytes_of(), INDEX, np.inf), ValueError, r"^scale: got inf, wants a finite"),
    "out": (lambda: ops.gather(table(), INDEX, out=table((7, 6))), ValueError, r"^out: .*wants .* shape \(7, 7\)"),
    "out of bytes": (
        lambda: ops.gather(bytes_of(), INDEX, out=np.zeros((7, 67))),
        TypeError,
        r"^out: .*float64, wants an array of shape \(7, 67\) and dtype float32",
    ),
    "out beside CSR": (
        lambda: ops.gather(csr(), INDEX, out=table((7, 33))),
        ValueError,
        r"^out: got .*, wants it left out beside CSR data",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused(case):
    call, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        call()


def test_malformed_csr_is_refused(backend):
    """Nothing beyond its arrays is read."""
    if backend == "naive":
        pytest.skip("slices of Python's end where the list does")
    for place, wrong in ((1, 10**6), (3, -5), (4, 0)):
        data = csr()
        data.indptr[place] = wrong
        with pytest.raises(ValueError, match=r"^data: got a malformed CSR matrix"):
            ops.gather(data, np.arange(40))


def test_results_do_not_depend_on_threads(backend):
    if backend == "naive":
        pytest.skip("the plain loops have no threads")
    index = np.random.default_rng(2).integers(0, 40, 2000)
    for data in (table((40, 301)), bytes_of((40, 301)), csr()):
        results = []
        for threads in (1, 2, 3):
            with use_num_threads(threads):
                found = ops.gather(data, index)
            results.append(found.toarray() if hasattr(found, "toarray") else found)
        assert np.array_equal(results[0], results[1])
        assert np.array_equal(results[0], results[2])
