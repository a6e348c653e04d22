"""Options of ops that are several integers: what they become, what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import checks
from fastnn.kernels.table import Integers, Padding

STRIDES, AROUND = Integers(2, low=1), Padding(2)


@pytest.mark.parametrize("value", [2, np.int64(2), (2, 2), [2, 2]])
def test_integers_become_a_tuple(value):
    assert checks.option("strides", value, STRIDES) == (2, 2)


@pytest.mark.parametrize(
    ("value", "becomes"),
    [
        ("same", "same"),
        ("valid", "valid"),
        (1, ((1, 1), (1, 1))),
        ((1, 2), ((1, 1), (2, 2))),
        ([(0, 1), [2, 3]], ((0, 1), (2, 3))),
        ((0, (1, 2)), ((0, 0), (1, 2))),
    ],
)
def test_padding_becomes_pairs(value, becomes):
    assert checks.option("padding", value, AROUND) == becomes


@pytest.mark.parametrize(
    ("value", "spec", "error", "message"),
    [
        ((1, 2, 3), STRIDES, ValueError, r"^at: got tuple \(1, 2, 3\), wants an integer or 2 of them"),
        (0, STRIDES, ValueError, r"^at: got 0, wants an integer of at least 1"),
        ((1, 0), STRIDES, ValueError, r"^at\[1\]: got 0, wants an integer of at least 1"),
        (1.5, STRIDES, TypeError, r"^at: got float 1.5, wants an integer of at least 1"),
        ((1, "2"), STRIDES, TypeError, r"^at\[1\]: got str '2', wants an integer of at least 1"),
        (True, STRIDES, TypeError, r"^at: got bool True, wants an integer"),
        ("sane", AROUND, ValueError, r"^at: got 'sane', wants one of 'valid', 'same' \(did you mean 'same'\?\)"),
        (-1, AROUND, ValueError, r"^at: got -1, wants an integer of at least 0"),
        (
            (1, 2, 3),
            AROUND,
            ValueError,
            r"^at: got tuple .*, wants 'valid', 'same', an integer, or 2 integers or p",
        ),
        ((1, (0, -1)), AROUND, ValueError, r"^at\[1\]\[1\]: got -1, wants an integer of at least 0"),
        (((1, 2, 3), 1), AROUND, ValueError, r"^at\[0\]: got tuple \(1, 2, 3\), wants an integer or 2 of them"),
        (None, AROUND, TypeError, r"^at: got NoneType None, wants an integer of at least 0"),
    ],
)
def test_others_are_refused(value, spec, error, message):
    with pytest.raises(error, match=message):
        checks.option("at", value, spec)
