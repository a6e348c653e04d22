"""Readings of calls on other libraries' arrays: of each op on each kind, and what is timed is such a call."""

from __future__ import annotations

import numpy as np
import pytest

from bench import adoption, suite
from bench.suite import JAX, NUMPY, PYTORCH
from fastnn import ops


def test_every_op_is_timed_on_arrays_of_each_kind():
    found = adoption.gauges()
    assert len({gauge.name for gauge in found}) == len(found) == len(adoption._OPERANDS) * 3
    suite.leave_out(JAX)
    try:
        assert {gauge.skip for gauge in adoption.gauges() if JAX in gauge.name} == {suite.NOT_INSTALLED}
    finally:
        suite._left_out.discard(JAX)


@pytest.mark.parametrize(("kind", "module"), [(NUMPY, "numpy"), (PYTORCH, "torch"), (JAX, "jax")])
def test_calls_are_made_with_that_kind_of_array(kind, module, monkeypatch):
    pytest.importorskip(module, reason=f"{kind} is not installed: pip install '.[peers]'")
    monkeypatch.setattr(adoption, "_CALLS", 3)
    given = []
    linear = ops.linear

    def spy(*operands):
        given.extend(type(operand).__module__.partition(".")[0].removesuffix("lib") for operand in operands)
        y = linear(*operands)
        assert isinstance(y, np.ndarray)
        return y

    monkeypatch.setattr(ops, "linear", spy)
    (gauge,) = [gauge for gauge in adoption.gauges() if gauge.name.startswith("linear") and kind in gauge.name]
    readings = gauge.read(2)
    assert len(readings) == 2
    assert all(reading > 0 for reading in readings)
    assert given == [module] * 3 * (1 + 2 * 3)
