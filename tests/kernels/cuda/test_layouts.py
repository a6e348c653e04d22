"""Ops on a device, or the host that stands in: any strides, results over operands, more numbers than a block has."""

from __future__ import annotations

import numpy as np
import oracle
import pytest
from test_ops import named, seeded, strided, tolerance

from fastnn import ops
from fastnn.kernels.cases import draw
from fastnn.kernels.table import TABLE
from tests.cuda_host import places

# More than a warp or a block, a unit or a chunk of sums, and a grid have at a time: sizes by the op.
BLOCK_WIDE = {"n": 9, "c": 1500, "...": (1200,)}
LARGE = {
    **{name: {"...": (30_001,), "*": (30_001,)} for name in ("add", "relu", "relu_backward", "sgd_step", "adam_step")},
    **{name: BLOCK_WIDE for name, op in TABLE.items() if op.module in ("softmax", "losses", "random", "dropout")},
    **{name: {"n": 700, "...": (3,)} for name in ("prelu", "prelu_backward")},
    **{name: {"rows": 300, "n": 500, "...": (67,)} for name in ("gather", "gather_backward")},
    "column_sums": {"n": 9000, "m": 5},
    **{name: {"n": 1300, "c": 5} for name in ("batch_norm", "batch_norm_backward", "batch_norm_inference")},
    **{name: {"n": 150, "c": 1500} for name in ("layer_norm", "layer_norm_backward")},
    **{name: {"*": (3, 10_001)} for name in ("subtract", "maximum", "maximum_backward")},
    **{name: TABLE[name].bench[0] | {"n": 5} for name in ("max_pool2d_backward", "average_pool2d", "upsample2d")},
    "join": {"n": 400, "a": 70, "b": 31},
}


def on_device(cupy, value):
    return places.strided(cupy, value) if isinstance(value, np.ndarray) else value


def on_host_again(value):
    if isinstance(value, tuple):
        return tuple(map(on_host_again, value))
    return value.get() if hasattr(value, "get") else value


def run(cupy, op, given):
    """Results of the public op in the shape of ``oracle.call``."""
    moved = {name: on_device(cupy, value) for name, value in given.items()}
    result = on_host_again(getattr(ops, op.name)(**moved))
    return named(op, result, {name: on_host_again(value) for name, value in moved.items()})


def assert_close(op, given, sizes, results):
    allowed = tolerance(op, given, sizes, "float32")
    for key, expected in oracle.call(op, given).items():
        np.testing.assert_allclose(oracle.wide(results[key]), expected, rtol=0, atol=allowed[key], err_msg=str(key))


@pytest.mark.parametrize("name", LARGE)
def test_more_numbers_than_a_block_has(cupy, name):
    op, sizes = TABLE[name], LARGE[name]
    given = draw(op, sizes, op.variants[0], "float32", seeded("large", name))
    results = run(cupy, op, given)
    for key, expected in oracle.call(op, given).items():
        # so many roundings as there are in sums by many threads: those of the table's cases would let a warp be lost
        allowed = 64 * np.finfo("float32").eps * np.abs(expected).max()
        np.testing.assert_allclose(oracle.wide(results[key]), expected, rtol=0, atol=allowed, err_msg=str(key))


# Of each kind of kernel some: of arrays that are read in order all others are alike.
STRIDED = [name for name, op in TABLE.items() if op.module not in ("elementwise", "optim", "losses", "linear_steps")]
STRIDED += ["add", "gelu_backward", "adam_step", "mse", "kl_divergence", "l1_l2_penalty", "linear_adam_step"]


@pytest.mark.parametrize("how", ["fortran", "step", "reversed", "interleaved"])
@pytest.mark.parametrize("name", STRIDED)
def test_any_strides(cupy, name, how):
    op = TABLE[name]
    sizes = op.cases[-2] if op.module != "linear_steps" else op.cases[0]
    given = draw(op, sizes, op.variants[0], "float32", seeded("strides", name))
    arrays = {key: value for key, value in given.items() if isinstance(value, np.ndarray) and value.size}
    odd = given | {key: strided(value, how) for key, value in arrays.items()}
    assert_close(op, given, sizes, run(cupy, op, odd))


@pytest.mark.parametrize("name", [name for name in STRIDED if "out" in TABLE[name].into])
def test_results_over_operands(cupy, name):
    """At the same place, and one number further on."""
    op = TABLE[name]
    given = draw(op, op.cases[-2], op.variants[0], "float32", seeded("over", name))
    wanted = run(cupy, op, given)[0]
    for key in op.operands:
        array = given.get(key)
        if array is None or array.dtype != wanted.dtype or array.size < wanted.size:
            continue
        for further in (0, 1):
            memory = cupy.empty((array.size + 1,), "float32")
            operand = memory[: array.size].reshape(array.shape)
            operand[...] = cupy.asarray(array)
            out = memory[further : further + wanted.size].reshape(wanted.shape)
            moved = {other: on_device(cupy, value) for other, value in given.items()} | {key: operand}
            assert getattr(ops, name)(**moved, out=out) is out
            np.testing.assert_array_equal(out.get(), wanted, err_msg=f"{key} {further}")
