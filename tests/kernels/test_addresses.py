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
