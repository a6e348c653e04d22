"""Streams, devices and memory: work waits for the caller's stream, and the caller for nothing."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops
from tests.cuda_host.places import device_only
from tests.gpu.calls import OPS, bits, copied, drawn, results

pytestmark = device_only

# Some hundredths of a second, by whatever clock.
_CYCLES = 50_000_000

_WAIT = """
extern "C" __global__ void wait(long long cycles) {
    const long long start = clock64();
    while (clock64() - start < cycles);
}
"""


@pytest.fixture
def wait(cupy):
    """Keeps the current stream busy for a while."""
    kernel = cupy.RawKernel(_WAIT, "wait")
    return lambda: kernel((1,), (1,), (np.int64(_CYCLES),))


@pytest.mark.parametrize("op", OPS)
def test_an_op_is_on_the_callers_stream_and_does_not_wait(cupy, op, wait):
    """Operands get their numbers late, on a stream that no other waits for."""
    given = drawn(op)
    expected = bits(results(op, copied(cupy, given)))
    ready = copied(cupy, given)
    late = {name: cupy.zeros_like(value) if hasattr(value, "get") else value for name, value in ready.items()}
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        results(op, {name: value.copy() if hasattr(value, "get") else value for name, value in ready.items()})
        cupy.cuda.runtime.deviceSynchronize()
        wait()
        for name, value in ready.items():
            if hasattr(value, "get"):
                late[name][...] = value
        found = results(op, late)
        waited = stream.done
        stream.synchronize()
    assert not waited, "the call came back when the device was done"
    assert bits(found) == expected


def test_streams_of_two_threads_of_work(cupy, wait):
    """What is asked for on one stream is done while another is busy."""
    x = cupy.asarray(np.linspace(-1, 1, 1000, dtype="float32"))
    expected = ops.tanh(x).get()
    busy, free = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
    with busy:
        wait()
        wait()
    with free:
        found = ops.tanh(x)
        free.synchronize()
    was_busy = not busy.done
    busy.synchronize()
    assert was_busy
    assert np.array_equal(found.get(), expected)


def test_a_second_device(cupy):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    rng = np.random.default_rng(1)
    a, b = (rng.integers(-4, 5, shape).astype("float32") for shape in ((33, 50), (50, 20)))
    for number in (0, 1, 0):
        with cupy.cuda.Device(number):
            product, curve = ops.matmul(cupy.asarray(a), cupy.asarray(b)), ops.relu(cupy.asarray(a))
            assert product.device.id == curve.device.id == number
            assert np.array_equal(product.get(), a @ b)
            assert np.array_equal(curve.get(), np.maximum(a, 0))
            here = cupy.asarray(b)
        with cupy.cuda.Device(1 - number):
            there = cupy.asarray(a)
            with pytest.raises((TypeError, ValueError), match="device"):
                ops.matmul(there, here)


def test_too_little_memory_is_a_memory_error_and_costs_nothing(cupy):
    pool, side = cupy.get_default_memory_pool(), 1 << 13
    column = cupy.asarray(np.arange(side, dtype="float32")[:, None])
    row = cupy.asarray(np.ones((1, side), "float32"))
    pool.free_all_blocks()
    before = pool.get_limit()
    pool.set_limit(size=pool.total_bytes() + (1 << 20))
    try:
        with pytest.raises(MemoryError, match=r"free on CUDA device 0: [\d,]+ of [\d,]+ bytes"):
            ops.matmul(column, row)
        assert np.array_equal(column.get()[:, 0], np.arange(side))
    finally:
        pool.set_limit(size=before)
    assert np.array_equal(ops.matmul(column, row)[:, 5].get(), np.arange(side))


def test_a_program_is_on_the_callers_stream_and_does_not_wait(cupy, wait):
    """Recorded, run for the first time, captured, launched; with a number that is another in each call and turn."""
    rng = np.random.default_rng(0)
    x, w = (cupy.asarray(rng.normal(size=shape)) for shape in ((64, 32), (32, 16)))
    slopes = np.linspace(0.1, 0.8, 8)

    def layer(x, slope):
        return ops.leaky_relu(ops.matmul(x, w), slope)

    program = fastnn.program(copy=True)(layer)
    wanted = [layer(x, slope).get() for slope in slopes]
    stream = cupy.cuda.Stream(non_blocking=True)
    with stream:
        late = cupy.zeros_like(x)
        for _ in range(3):
            program(late, 0.5)
            program.repeat(late, range(64), 8, each={"slope": slopes}, join=True)
        cupy.cuda.runtime.deviceSynchronize()
        wait()
        late[...] = x
        found = [program(late, slope) for slope in slopes]
        turns = program.repeat(late, range(64), 8, each={"slope": slopes}, join=True)
        waited = stream.done
        stream.synchronize()
    assert not waited, "the calls came back when the device was done"
    np.testing.assert_array_equal([each.get() for each in found], wanted)
    parts = [layer(x[8 * turn : 8 * turn + 8], slope).get() for turn, slope in enumerate(slopes)]
    np.testing.assert_array_equal(turns.get(), np.concatenate(parts))
