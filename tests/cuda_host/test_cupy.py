"""The stand-in for CuPy: what is captured is done when its graph is launched, and what CUDA refuses meanwhile."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_host import cupy
from tests.cuda_host.places import compiles_for_host
from tests.cuda_host.test_host import GIVEN, RECORD


@pytest.fixture
def stream():
    pool = cupy.cuda.MemoryPool()
    with cupy.cuda.Stream(non_blocking=True) as stream, cupy.cuda.using_allocator(pool.malloc):
        yield stream


def test_what_is_captured_is_done_when_its_graph_is_launched(stream):
    x = cupy.zeros(3)
    stream.begin_capture()
    assert stream.is_capturing()
    x[...] = 1
    y = x + x
    graph = stream.end_capture()
    assert not stream.is_capturing()
    assert x.get().tolist() == [0, 0, 0]
    for _ in range(2):
        y[...] = 0
        graph.launch()
        assert y.get().tolist() == [2, 2, 2]


@compiles_for_host
def test_a_captured_launch_has_what_it_was_given_then(stream):
    set_to = 'extern "C" __global__ void set_to(const Given given) { given.y[0] = given.n; }'
    kernel = cupy.RawModule(GIVEN + set_to).get_function("set_to")
    y, record = cupy.zeros(1, "float32"), np.zeros(1, RECORD)
    record[0] = 5, 0, y.data.ptr
    stream.begin_capture()
    kernel((1,), (1,), (record,))
    graph = stream.end_capture()
    record["n"] = 6
    graph.launch()
    assert y.get() == 5


@pytest.mark.parametrize(
    "refused",
    [
        lambda stream, x, graph: x.get(),
        lambda stream, x, graph: float(x[0]),
        lambda stream, x, graph: stream.synchronize(),
        lambda stream, x, graph: x.set(np.ones(3)),
        lambda stream, x, graph: graph.launch(),
        lambda stream, x, graph: allocate_elsewhere(),
    ],
)
def test_what_is_refused_ends_a_capture(stream, refused):
    x = cupy.zeros(3)
    stream.begin_capture()
    graph = stream.end_capture()
    stream.begin_capture()
    with pytest.raises(cupy.CUDARuntimeError, match="900"):
        refused(stream, x, graph)
    with pytest.raises(cupy.CUDARuntimeError, match="901"):
        stream.end_capture()
    assert x.get().tolist() == [0, 0, 0]


def test_a_copy_from_the_host_voids_a_capture_without_a_word(stream):
    stream.begin_capture()
    cupy.asarray(np.ones(3))
    with pytest.raises(RuntimeError, match="invalidated"):
        stream.is_capturing()
    with pytest.raises(cupy.CUDARuntimeError, match="901"):
        stream.end_capture()


def allocate_elsewhere():
    with cupy.cuda.using_allocator(None):
        cupy.empty(3)


def test_captures_begin_and_end_in_pairs(stream):
    with pytest.raises(cupy.CUDARuntimeError, match="900"):
        cupy.cuda.Stream(null=True).begin_capture()
    with pytest.raises(cupy.CUDARuntimeError, match="903"):
        stream.end_capture()


def test_a_pool_gives_memory_anew_to_the_stream_that_had_it(stream):
    x = cupy.empty(3)
    at = x.data.ptr
    assert cupy.empty(3).data.ptr != at
    part = x[1:]
    del x
    assert cupy.empty(3).data.ptr != at  # a part of it lives
    del part
    with cupy.cuda.Stream():
        assert cupy.empty(3).data.ptr != at
    assert cupy.empty(3).data.ptr == at


def test_a_pools_memory_ends_when_it_is_freed_and_with_the_pool():
    held = []

    def allocate(size):
        held.append(cupy.cuda.Memory(size))
        return cupy.cuda.MemoryPointer(held[-1], 0)

    for allocator, ends in ((None, True), (allocate, False)):
        pool = cupy.cuda.MemoryPool(allocator)
        with cupy.cuda.using_allocator(pool.malloc):
            x, y = cupy.ones(3), cupy.ones(4)
        host, other = x._host, y._host
        del x
        pool.free_all_blocks()
        assert np.isnan(host).all() == ends
        assert y.get().tolist() == [1, 1, 1, 1]
        del pool
        assert np.isnan(other).all() == ends


@compiles_for_host
def test_a_byte_beside_any_array_is_seen():
    memories = [cupy.cuda.Memory(12) for _ in range(1000)]
    for memory in (memories[0], memories.pop(500), memories[-1]):
        memory.bytes[:] = 0
        assert cupy.is_intact()
        start = memory.ptr - memory.raw.ctypes.data
        for place in (0, start - 1, start + 12, memory.raw.size - 1):
            memory.raw[place] ^= 1
            assert not cupy.is_intact(), place
            memory.raw[place] ^= 1
    memories[7].raw[0] = 0
    assert not cupy.is_intact()
    memories.clear()
    del memory
    assert cupy.is_intact()


@pytest.mark.parametrize("late", ["default", "others", "all"])
def test_work_that_is_put_off_is_done_when_somebody_waits_for_it(late):
    x, y, first = cupy.zeros(3), cupy.zeros(3), cupy.cuda.Event()
    with cupy.late(late):
        with cupy.cuda.Stream(non_blocking=True) as copying:
            x[...] = 1
            first.record()
            x[...] = 2
        assert x._host[0] == (2 if late == "default" else 0)
        cupy.get_current_stream().wait_event(first)
        y[...] = x
        copying.synchronize()
        assert y.get()[0] in (1, 2)
        assert (y.get()[0] == 1) == (late != "default")
        assert x.get()[0] == 2


def test_what_is_left_at_the_end_is_not_done():
    x = cupy.zeros(3)
    with cupy.late("default"):
        x[...] = 1
    assert x.get().tolist() == [0, 0, 0]
