"""How often windows fit along an axis, and what is put around it: counted one by one."""

from __future__ import annotations

from itertools import product

import pytest

from fastnn.kernels.table.windows import margins, places, places_along, reach


def counted(size, window, stride, before, after, dilation):
    """Starts from which the whole window lies inside of what is padded."""
    padded = before + size + after
    starts = range(0, padded, stride)
    return sum(start + (window - 1) * dilation < padded for start in starts)


@pytest.mark.parametrize(("window", "stride", "dilation"), list(product((1, 2, 3, 5), (1, 2, 3), (1, 2))))
def test_places_are_those_that_can_be_counted(window, stride, dilation):
    assert reach(window, dilation) == len(range(0, window * dilation, dilation)) * dilation - dilation + 1
    for size, padding in product(range(reach(window, dilation), 14), ("valid", ((0, 0), (2, 1)))):
        before, after = margins(size, window, stride, padding, 1, dilation)
        assert (before, after) == ((0, 0) if padding == "valid" else (2, 1))
        assert places(size, window, stride, padding, 1, dilation) == counted(
            size, window, stride, before, after, dilation
        )


@pytest.mark.parametrize(("window", "stride", "dilation"), list(product((1, 2, 3, 5), (1, 2, 3), (1, 2))))
def test_same_pads_as_little_as_gives_a_place_for_each_stride(window, stride, dilation):
    for size in range(1, 14):
        before, after = margins(size, window, stride, "same", 0, dilation)
        assert 0 <= after - before <= 1
        assert places(size, window, stride, "same", 0, dilation) == -(-size // stride)
        if before + after:
            assert counted(size, window, stride, before, after - 1, dilation) == -(-size // stride) - 1


def test_a_window_that_does_not_fit_is_refused():
    derive = places_along(1, "w", "kw")
    known = {"w": 4, "kw": 3, "strides": (1, 1), "padding": "valid", "dilation": (1, 2)}
    with pytest.raises(ValueError, match=r"x: got the size 4 along axis 2, wants with its padding at least the 5 that"):
        derive(known)
    assert derive(known | {"padding": ((0, 0), (1, 0))}) == 1
    assert derive(known | {"dilation": (2, 1)}) == 2
