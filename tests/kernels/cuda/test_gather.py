"""Rows of bytes on a device, or the host that stands in for one: scaled, shifted, of any strides."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops
from tests.cuda_host.places import strided

ROWS, SAMPLE = 40, (3, 7)


def rows_of_bytes():
    """Every byte is among them."""
    return np.random.default_rng(0).permutation(ROWS * 21).astype("uint8").reshape(ROWS, *SAMPLE)


@pytest.mark.parametrize("numbers", [{}, {"scale": 0.5}, {"scale": 1 / 127.5, "offset": -1.0}], ids=str)
@pytest.mark.parametrize("integers", ["int32", "int64", "uint8"])
def test_bytes_become_numbers(cupy, numbers, integers):
    data = rows_of_bytes()
    assert {*data.ravel()} == {*range(256)}
    index = np.array([5, 3, 3, 39, 0, 7, 21] * 20, integers)
    wanted = numbers.get("scale", 1 / 255) * data[index].astype("float64") + numbers.get("offset", 0.0)
    found = ops.gather(cupy.asarray(data), cupy.asarray(index), **numbers)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found.get(), wanted, rtol=2e-7, atol=2e-7)
    out = cupy.empty(wanted.shape, "float32")
    assert ops.gather(cupy.asarray(data), cupy.asarray(index), **numbers, out=out) is out
    np.testing.assert_array_equal(out.get(), found.get())


VIEWS = {
    "backwards": lambda data: data[::-1],
    "turned": lambda data: np.ascontiguousarray(data.transpose(2, 1, 0)).transpose(2, 1, 0),
    "with gaps": lambda data: np.repeat(data, 2, axis=2)[:, :, ::2],
}


@pytest.mark.parametrize("how", VIEWS)
def test_bytes_of_any_strides(cupy, how):
    data, index = VIEWS[how](rows_of_bytes()), np.arange(ROWS)[::-1].copy()
    assert not data.flags.c_contiguous
    found = ops.gather(strided(cupy, data), cupy.asarray(index)).get()
    np.testing.assert_allclose(found, data[index] * np.float32(1 / 255), rtol=2e-7)


def test_rows_of_bytes_that_there_are_not_are_no_numbers(cupy):
    found = ops.gather(cupy.asarray(rows_of_bytes()), cupy.asarray(np.array([0, ROWS, -1, 1]))).get()
    assert np.isnan(found[[1, 2]]).all()
    assert np.isfinite(found[[0, 3]]).all()
