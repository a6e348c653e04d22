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
    "rprop_minus_step": {"...": (3001,)},
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
    sizes = op.cases[-2]
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


@places.host_only
@pytest.mark.parametrize("shift", [0, 1])
def test_16_bytes_are_an_access_where_arrays_begin_at_multiples_of_that(cupy, shift):
    from fastnn.kernels.cuda import elementwise, optim, products

    def given(structure):
        return np.frombuffer(cupy.records[-1][1], structure.record("float32").dtype)[0]

    x, y, z = (cupy.asarray(np.ones(65, "float32"))[shift : shift + 64] for _ in range(3))
    for call in (
        lambda: ops.relu(x, out=y),
        lambda: ops.relu_backward(x, x, y, out=z),
        lambda: ops.add(x, y, out=z),
    ):
        call()
        assert given(elementwise.ELEMENTWISE)["aligned"] == (shift == 0)
    ops.sgd_step(x, y, learning_rate=0.5)
    assert given(optim.STEPS_GIVEN)["aligned"][0] == (shift == 0)
    ops.matmul(x.reshape(8, 8), y.reshape(8, 8), out=cupy.empty((8, 8), "float32"))
    assert [given(products.PRODUCT)[f"{name}_wide"] for name in "abc"] == [shift == 0, shift == 0, True]


def test_a_row_is_a_warps_and_a_wide_one_a_blocks(cupy):
    from fastnn.kernels.cuda import launch

    assert [*map(launch.group, (1, 4, 5, 32, 1024, 1025))] == [4, 4, 8, 32, 32, launch.THREADS]
    for c in (1024, 1025):
        x = np.random.default_rng(c).normal(size=(3, c)).astype("float32")
        found = ops.softmax(cupy.asarray(x)).get()
        wide = np.exp(x.astype("float64"))
        np.testing.assert_allclose(found, wide / wide.sum(axis=1, keepdims=True), rtol=1e-5)


def test_lists_of_arrays_that_share_memory_are_stepped_one_after_the_other(cupy):
    """Although calls before, with arrays alike, were made at once; and gradients that are weights are read before."""
    room, dw = cupy.asarray(np.arange(12, dtype="float32")), cupy.asarray(np.ones(8, "float32"))
    weights = room[:8], cupy.asarray(np.full(8, 2.0, "float32"))
    for _ in range(2):
        ops.sgd_step([*weights], [dw, dw], learning_rate=0.5)
    np.testing.assert_array_equal(room.get(), [*(np.arange(8) - 1), *range(8, 12)])
    for _ in range(2):
        ops.sgd_step([room[:8], room[4:]], [dw, room[:8]], learning_rate=0.5)
    wanted = np.array([*(np.arange(8) - 1), *range(8, 12)], "float32")
    for _ in range(2):
        wanted[:8] -= 0.5
        wanted[4:] -= 0.5 * wanted[:8]
    np.testing.assert_array_equal(room.get(), wanted)


@places.host_only
def test_lists_that_need_more_memory_than_there_is(cupy, monkeypatch):
    """What is not in C order is stepped in a copy, at the first call and where a plan is remembered."""
    w, dw = (on_device(cupy, np.ones((4, 5), "float32").T) for _ in range(2))
    for _ in range(2):
        monkeypatch.setattr(cupy, "most", 7)
        with pytest.raises(
            MemoryError, match=r"Out of memory allocating 80 bytes .*; free on CUDA device 0: [\d,]+ of"
        ):
            ops.sgd_step([w, w], [dw, dw], learning_rate=0.5)
        monkeypatch.undo()
        ops.sgd_step([w, w], [dw, dw], learning_rate=0.5)
