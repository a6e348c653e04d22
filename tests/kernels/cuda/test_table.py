"""Every op of the table on a device, or the host that stands in for one: against the oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import oracle
import pytest
from test_ops import calls, expected_and_allowed, in_case, named, seeded

from fastnn import ops
from fastnn.kernels.cases import draw

SOURCES = Path(__file__).parents[3] / "kernels" / "cuda"
MODULES = {path.stem for path in SOURCES.glob("*.py")}


def is_served(op, variant):
    """Whether there are the kernels that a call needs: of its op, and of an activation that takes whole rows."""
    of_rows = variant.get("activation") in ("softmax", "log_softmax")
    return op.module in MODULES and (not of_rows or "softmax" in MODULES)


def on_device(cupy, value):
    return cupy.asarray(value) if isinstance(value, np.ndarray) else value


def on_host_again(value):
    if isinstance(value, tuple):
        return tuple(map(on_host_again, value))
    return value.get() if hasattr(value, "get") else value


def run(cupy, op, given):
    """Results of the public op in the shape of ``oracle.call``."""
    given = {name: on_device(cupy, value) for name, value in given.items()}
    result = on_host_again(getattr(ops, op.name)(**given))
    return named(op, result, {name: on_host_again(value) for name, value in given.items()})


@pytest.mark.parametrize(("op", "variant", "dtype"), [call for call in calls() if is_served(*call.values[:2])])
def test_matches_oracle(cupy, op, variant, dtype):
    for sizes in op.cases:
        given = draw(op, sizes, variant, dtype, seeded(op.name, variant, sizes))
        with in_case(sizes):
            assert_near(op, run(cupy, op, given), *expected_and_allowed(op, given, sizes, dtype), dtype)


def assert_near(op, results, expected, allowed, dtype):
    assert results.keys() == expected.keys()
    for key, result in results.items():
        is_loss = isinstance(key, int) and op.returns[key] == ""
        assert result.dtype == ("float64" if is_loss else dtype), key
        assert result.shape == np.shape(expected[key]), key
        np.testing.assert_allclose(oracle.wide(result), expected[key], rtol=0, atol=allowed[key], err_msg=str(key))
