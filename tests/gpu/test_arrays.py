"""Operands are left as they were, and the same call gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest

from tests.gpu.calls import OPS, bits, copied, drawn, results


@pytest.mark.parametrize("op", OPS)
def test_operands_are_left_as_they_were(cupy, op):
    given = drawn(op)
    held = copied(cupy, given)
    results(op, held)
    for name, value in given.items():
        if isinstance(value, np.ndarray) and name not in op.inplace:
            assert np.array_equal(held[name].get(), value), name


@pytest.mark.parametrize("op", OPS)
def test_bits_repeat(cupy, op, monkeypatch):
    """In any order of the blocks."""
    given, found = drawn(op), []
    for seed in range(3):
        monkeypatch.setattr(cupy, "seed", seed, raising=False)
        found.append(bits(results(op, copied(cupy, given))))
    assert found[0] == found[1] == found[2]
