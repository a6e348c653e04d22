"""Input adapters: batches, dtypes, splits, and the finite check at every position."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.engine.data import _CHUNK, _SCAN_FROM, DataSet, check_finite, input_source, numeric_array

F32, F64 = np.dtype("float32"), np.dtype("float64")


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8", "int32", "bool"])
@pytest.mark.parametrize("model", [F32, F64])
def test_batches_have_the_models_dtype_and_are_contiguous(dtype, model):
    x = np.arange(24).reshape(8, 3).astype(dtype)
    source = input_source("x", x, model)
    for rows in (slice(2, 5), np.array([7, 0, 0])):
        batch = source.batch(rows)
        assert batch.dtype == model
        assert batch.flags.c_contiguous
        assert (batch == x[rows]).all()
    assert source.batch(slice(0, 0)).shape == (0, 3)
    assert ("converted" in source.description) == (x.dtype != model)


def test_csr_batches_add_up_duplicates():
    sparse = pytest.importorskip("scipy.sparse")
    matrix = sparse.csr_array((np.array([1.0, 2.0, 5.0]), np.array([1, 1, 0]), np.array([0, 2, 2, 3])), shape=(3, 4))
    source = input_source("x", matrix, F32)
    assert (source.batch(slice(0, 3)) == [[0, 3, 0, 0], [0, 0, 0, 0], [5, 0, 0, 0]]).all()
    assert (source.batch(np.array([2, 0])) == [[5, 0, 0, 0], [0, 3, 0, 0]]).all()
    assert source.density == pytest.approx(3 / 12)
    assert source.sample_shape == (4,)
    assert (matrix.data == [1, 2, 5]).all()  # the user's matrix stays as it is


def test_data_set_batches_and_steps():
    data = DataSet(input_source("x", np.arange(7.0)[:, None], F32), np.arange(7), np.ones(7), np.int64)
    sizes = [(batch.rows, batch.y.tolist()) for batch in data.batches(3)]
    assert sizes == [(3, [0, 1, 2]), (3, [3, 4, 5]), (1, [6])]
    assert data.steps(3) == len(sizes)
    order = np.array([6, 5, 4, 3, 2, 1, 0])
    assert [batch.x[:, 0].tolist() for batch in data.batches(4, order)] == [[6, 5, 4, 3], [2, 1, 0]]
    first, last = data.split(5)
    assert (first.rows, last.rows) == (5, 2)
    assert last.batch(slice(0, 2), 2).y.tolist() == [5, 6]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e39])
@pytest.mark.parametrize("width", [1, 7, _CHUNK + 1])
def test_finite_check_finds_every_position(bad, width):
    rows = max(3, 2 * _CHUNK // width + 3) if width < _CHUNK else 3
    for row in (0, 1, rows // 2, rows - 1):
        for column in (0, width - 1):
            x = np.zeros((rows, width))
            check_finite("x", x, F32)
            x[row, column] = bad
            with pytest.raises(ValueError, match=f"in row {row}, wants finite"):
                check_finite("x", x, F32)


def test_the_rest_of_an_epoch_is_what_its_order_says():
    data = DataSet(input_source("x", np.arange(12.0).reshape(6, 2), F64), np.arange(6))
    rest = data.rest(2)
    assert (rest.rows, rest.steps(3), data.steps(3)) == (6, 2, 2)
    found = [batch.y.tolist() for batch in rest.batches(3, np.array([5, 4, 3, 1]))]
    assert found == [[5, 4, 3], [1]]


def test_large_arrays_are_counted_while_they_are_checked():
    rng = np.random.default_rng(0)
    x = (rng.random((_SCAN_FROM // 4000 + 1, 1000)) < 0.2).astype("float32")
    source = input_source("x", x, F32)
    assert source.density == np.count_nonzero(x) / x.size
    assert (source.part(slice(3, 9)).counts == np.count_nonzero(x[3:9], axis=1)).all()
    assert input_source("x", x[:9], F32).density is None
    x[-1, 999] = np.nan
    with pytest.raises(ValueError, match=f"x: got nan in row {len(x) - 1}, wants finite"):
        input_source("x", x, F32)


def test_finite_check_names_the_first_bad_row():
    x = np.zeros((10, 2))
    x[4, 1], x[7, 0] = np.nan, np.inf
    with pytest.raises(ValueError, match="x: got nan in row 4"):
        check_finite("x", x, F64)


def test_range_is_that_of_the_model():
    x = np.array([[1e300]])
    check_finite("x", x, F64)
    with pytest.raises(ValueError, match="range of float32"):
        check_finite("x", x, F32)


def test_numbers_only():
    assert numeric_array("y", [True, False]).dtype == bool
    with pytest.raises(TypeError, match="y: got ndarray of shape"):
        numeric_array("y", ["a"])
    with pytest.raises(ValueError, match="y: got the single number 3"):
        numeric_array("y", 3)
