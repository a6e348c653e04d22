"""What rows of the table say of their ops beside signatures and shapes: the bytes that a call moves."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import ops, use_backend
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE


@pytest.mark.parametrize(
    ("name", "arrays"), [("relu", 2), ("relu_backward", 3), ("gelu_backward", 3), ("sgd_step", 3), ("adam_step", 7)]
)
def test_bytes_are_those_that_a_call_must_move(name, arrays):
    """The derivative of an activation reads x or y; a step of Adam's reads four arrays and writes three."""
    assert TABLE[name].bytes({"...": (10, 100)}, 4) == 4000 * arrays


def test_bytes_of_rows():
    assert TABLE["softmax_backward"].bytes({"n": 10, "c": 100}, 4) == 3 * 4000
    assert TABLE["gather"].bytes({"rows": 10**6, "n": 10, "...": (100,)}, 4) == 2 * 4000 + 40
    assert TABLE["gather_backward"].bytes({"rows": 1000, "n": 10, "...": (100,)}, 4) == 4000 + 40 + 400_000


@pytest.mark.parametrize("backend", ["naive", "cpu"])
@pytest.mark.parametrize("name", [name for name, op in TABLE.items() if op.unread])
def test_numbers_that_are_unread_do_not_count(name, backend):
    op = TABLE[name]
    given = draw(op, op.cases[-1], op.variants[0], "float64", np.random.default_rng(0))
    with use_backend(backend):
        wanted = getattr(ops, name)(**given)
        for unread in op.unread:
            given[unread] = np.full_like(given[unread], np.nan)
        got = getattr(ops, name)(**given)
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (got, wanted)), strict=True):
        np.testing.assert_array_equal(one, other)
