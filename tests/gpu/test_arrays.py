"""Operands of any strides are read and left as they were, and the same call gives the same bits."""

from __future__ import annotations

import numpy as np
import pytest
from test_ops import strided as laid_out
from test_ops import tolerance

from tests.cuda_host.places import strided
from tests.gpu.calls import OPS, bits, copied, drawn, results
from tests.kernels.cuda.test_table import on_host_again


@pytest.mark.parametrize("how", ["fortran", "step", "reversed", "interleaved"])
@pytest.mark.parametrize("op", OPS)
def test_any_strides(cupy, op, how):
    given, sizes = drawn(op), op.cases[-2]
    allowed = 2 * max(tolerance(op, given, sizes, "float32").values())
    odd = {
        name: strided(cupy, laid_out(value, how)) if isinstance(value, np.ndarray) and value.size else value
        for name, value in given.items()
    }
    for found, expected in zip(results(op, odd), results(op, copied(cupy, given)), strict=True):
        np.testing.assert_allclose(on_host_again(found), on_host_again(expected), rtol=0, atol=allowed)


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
