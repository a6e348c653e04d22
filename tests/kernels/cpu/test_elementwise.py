"""Results that go past the caches, which only large arrays do by themselves."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from fastnn.backends import use_num_threads
from fastnn.kernels.cpu import elementwise
from fastnn.kernels.cpu.teams import threads


@pytest.fixture
def past_caches(monkeypatch):
    """Everything is larger than a cache of no bytes, and enough work for several threads."""
    monkeypatch.setattr(elementwise, "caches", lambda: SimpleNamespace(l3=0))
    monkeypatch.setattr(threads, "SERIAL_BELOW_NS", 0.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 2048, 5003])
@pytest.mark.parametrize("offset", [0, 7])
@pytest.mark.parametrize("number", [1, 3])
def test_results_past_the_caches_are_the_same(past_caches, number, offset, count, dtype):
    x, s = np.random.default_rng(count).standard_normal((2, count)).astype(dtype)
    calls = [(elementwise.tanh, (x,)), (elementwise.tanh_backward, (x, x, s)), (elementwise.add, (x, s))]
    calls.append((elementwise.add, (np.tile(x, (3, 1)), s)))
    for function, operands in calls:
        shape, size = operands[0].shape, operands[0].size
        guarded = np.full(size + 40, 7, dtype)
        out = guarded[offset + 8 : offset + 8 + size].reshape(shape)
        with use_num_threads(number):
            assert function(*operands, out=out) is out
        wanted = [op.copy() for op in operands]
        function(*wanted, out=wanted[0])  # over an operand, which never goes past the caches
        assert np.array_equal(out, wanted[0])
        assert (guarded[: offset + 8] == 7).all()
        assert (guarded[offset + 8 + size :] == 7).all()
