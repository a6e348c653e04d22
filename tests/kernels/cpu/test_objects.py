"""What compiled code reads of array objects, against what NumPy says of them."""

from __future__ import annotations

import numba
import numpy as np
import pytest

from fastnn.kernels.cpu import objects


@numba.njit
def look_up(table, flags, kinds, shapes, layout):
    return objects.addresses(table, flags, kinds, shapes, layout)


def found(arrays, like, flags):
    """Addresses of arrays if they are like others, all with some flags; else None."""
    table = np.array([*map(id, arrays)], np.int64)
    alike = look_up(table, np.array(flags), *objects.likeness(like), objects.LAYOUT)
    return table.tolist() if alike else None


def test_the_fields_are_where_they_are_looked_for():
    assert objects.are_known()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_addresses_are_those_that_arrays_give(dtype):
    like = [np.zeros(shape, dtype) for shape in ((), (0,), (3,), (2, 5), (1, 2, 3, 4))]
    arrays = [array for one in like for array in (one, one.copy())]
    expected = [array.__array_interface__["data"][0] for array in arrays]
    assert found(arrays, like, [objects.WRITTEN, objects.READ]) == expected


def locked():
    array = np.zeros((2, 3), "float32")
    array.flags.writeable = False
    return array


OTHERS = {
    "shape": np.zeros((3, 2), "float32"),
    "dimensions": np.zeros(6, "float32"),
    "more dimensions": np.zeros((1, 2, 3), "float32"),
    "dtype": np.zeros((2, 3), "int32"),
    "swapped": np.zeros((2, 3), ">f4"),
    "order": np.zeros((3, 2), "float32").T,
    "step": np.zeros((2, 6), "float32")[:, ::2],
    "unaligned": np.zeros(25, "uint8")[1:].view("float32").reshape(2, 3),
    "locked": locked(),
    "subclass": np.zeros((2, 3), "float32").view(np.ma.MaskedArray),
    "nothing": None,
    "number": 3,
    "list": [np.zeros((2, 3), "float32")],
    "type": np.ndarray,
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_not_alike_is_told(name):
    like = np.zeros((2, 3), "float32")
    assert found([like, like.copy()], [like], [objects.WRITTEN, objects.WRITTEN])
    assert found([like, OTHERS[name]], [like], [objects.WRITTEN, objects.WRITTEN]) is None
    if name == "locked":
        assert found([like, OTHERS[name]], [like], [objects.WRITTEN, objects.READ])
