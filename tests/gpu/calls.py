"""A call of every op that a device serves, with operands of one of its cases."""

from __future__ import annotations

import numpy as np
import pytest
from test_ops import seeded

from fastnn import ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE
from tests.kernels.cuda.test_table import is_served, on_device, on_host_again

OPS = [pytest.param(op, id=op.name) for op in TABLE.values() if is_served(op, op.variants[0])]


def drawn(op, sizes=None):
    """Arguments of one call, its arrays on the host."""
    return draw(op, sizes or op.cases[-2], op.variants[0], "float32", seeded("gpu", op.name))


def copied(cupy, given):
    """The same arguments with arrays of their own on the device."""
    return {name: on_device(cupy, value) for name, value in given.items()}


def results(op, given):
    """What a call returns and updates, on the device still."""
    result = getattr(ops, op.name)(**given)
    returned = result if isinstance(result, tuple) else (result,)
    return [value for value in (*returned, *(given.get(name) for name in op.inplace)) if value is not None]


def bits(values):
    """Results on the host, as bytes."""
    return [np.asarray(on_host_again(value)).tobytes() for value in values]
