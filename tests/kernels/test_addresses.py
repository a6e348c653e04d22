"""Where arrays lie, as NumPy says it."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels import addresses


@pytest.mark.parametrize("ask", [addresses._read, addresses._asked])
def test_addresses_are_those_of_the_first_numbers(ask):
    whole = np.zeros((4, 6), "float32")
    assert addresses._is_first()
    assert ask(whole[1:]) - ask(whole) == 24
    assert ask(whole[::-1]) - ask(whole) == 72
    for array in (whole, whole.T, np.zeros(0), np.array(3.0), np.ma.array([1, 2]), np.zeros(2, "O")):
        assert ask(array) == array.ctypes.data


def test_what_programs_ask_of_arrays_of_numpys():
    kind, whole = addresses.ON_HOST, np.arange(24.0).reshape(4, 6)
    part = whole[::-1, 1:5:2]
    low, high = kind.bounds(part)
    assert (low, high) == (addresses.address(whole) + 8, addresses.address(whole) + 8 * 22)
    again = kind.at(kind.address(part), part, whole)
    np.testing.assert_array_equal(again, part)
    assert again.base is not None
    again[0, 0] = -1
    assert whole[3, 1] == -1
    assert kind.holds(part)
    assert not kind.holds([1.0])
    assert kind.owner(part[0]) is kind.owner(whole)
    assert not kind.is_lent(kind.owner(part))
    assert kind.is_lent(kind.owner(np.frombuffer(b"12345678")))
    assert kind.is_aligned(part)
    assert not kind.is_aligned(np.zeros(17, np.uint8)[1:].view(np.float64))
    seen = kind.seen(part)
    part[0, 0] = 7
    assert seen != kind.seen(part)
