"""The device on the host: what kernels may rely on, and that what they must not do is seen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.cuda_host import build

pytestmark = [pytest.mark.slow, pytest.mark.skipif(build.COMPILER is None, reason="no g++")]

GIVEN = """
struct Given {
    int n;
    const float* x;
    float* y;
};
"""
RECORD = np.dtype([("n", "i4"), ("x", "u8"), ("y", "u8")], align=True)

# y[block] = the sum of a block's 64 numbers: in shared memory, then by the first warp's shuffles.
SUM = """
extern "C" __global__ void sum(const Given given) {
    SHARED(float, part, [64]);
    const int t = threadIdx.x, i = blockIdx.x * 64 + t;
    part[t] = i < given.n ? given.x[i] : 0;
    __syncthreads();
    if (t >= 32) return;
    float total = part[t] + part[t + 32];
    for (int step = 16; step > 0; step /= 2) total += __shfl_xor_sync(0xffffffffu, total, step);
    if (t == 0) given.y[blockIdx.x] = total;
}
"""


def run(source, x, count, blocks, threads=64, seed=0, name="sum"):
    """y (count,) of a kernel on x."""
    y = np.zeros(count, "float32")
    record = np.zeros(1, RECORD)
    record[0] = len(x), x.ctypes.data, y.ctypes.data
    build.Kernel(build.library(GIVEN + source), name).launch((blocks,), (threads,), record, seed=seed)
    return y


@pytest.mark.parametrize("seed", range(4))
def test_blocks_barriers_and_shuffles(seed):
    x = np.arange(1000, dtype="float32")
    expected = np.pad(x, (0, 24)).reshape(16, 64).sum(axis=1)
    np.testing.assert_array_equal(run(SUM, x, 16, 16, seed=seed), expected)


def test_a_missing_barrier_gives_other_results():
    x, faulty = np.ones(256, "float32"), SUM.replace("__syncthreads();", "")
    found = [run(faulty, x, 4, 4, seed=seed) for seed in range(4)]
    assert any(not np.array_equal(each, np.full(4, 64.0)) for each in found)


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("0xffffffffu, total", "0x7fffffffu, total", "not in its"),
        ("if (t >= 32) return;", "if (t >= 16) return;", "have returned|has returned"),
        ("part[t] =", "part[t + 1] =", "shared array part was written to"),
        (
            "    __syncthreads();",
            "    if (t < 32) __syncthreads();\n    else\n        __syncthreads();",
            "barriers of line",
        ),
        ("    if (t >= 32)", "    if (t == 3) while (true) __syncthreads();\n    if (t >= 32)", "line"),
    ],
)
def test_what_is_undefined_is_an_error(right, wrong, message):
    assert right in SUM
    with pytest.raises(build.LaunchError, match=message):
        run(SUM.replace(right, wrong), np.ones(64, "float32"), 1, 1)


def test_lanes_that_never_meet_are_an_error():
    alone = """
    extern "C" __global__ void alone(const Given given) {
        if (threadIdx.x < 31) __syncwarp();
        else __syncthreads();
    }
    """
    with pytest.raises(build.LaunchError, match="lanes wait for others"):
        run(alone, np.ones(1, "float32"), 1, 1, threads=32, name="alone")


def test_lanes_that_have_the_same():
    match = """
    extern "C" __global__ void match(const Given given) {
        const unsigned same = __match_any_sync(0xffffffffu, int(given.x[threadIdx.x]));
        given.y[threadIdx.x] = __popc(same) + 100 * (same >> threadIdx.x & 1);
    }
    """
    x = (np.arange(32) ** 2 % 7).astype("float32")
    counts = [100 + np.count_nonzero(x == each) for each in x]
    np.testing.assert_array_equal(run(match, x, 32, 1, threads=32, seed=2, name="match"), counts)


def test_atomics_of_many_blocks_lose_nothing():
    count = """
    extern "C" __global__ void count(const Given given) {
        if (given.x[threadIdx.x] > 0) atomicAdd(given.y, 1.0f);
    }
    """
    x = np.where(np.arange(96) % 3, 1, -1).astype("float32")
    assert run(count, x, 1, 20, threads=96, seed=3, name="count") == [64 * 20]


def test_shared_memory_is_every_blocks_own_and_not_zero():
    own = """
    extern "C" __global__ void own(const Given given) {
        SHARED(float, one, [32]);
        if (one[threadIdx.x] == one[threadIdx.x]) given.y[0] = 1;
        one[threadIdx.x] = 5;
    }
    """
    assert run(own, np.ones(1, "float32"), 1, 6, threads=32, name="own") == [0]


_SANITIZED = """
import ctypes, sys
import numpy as np
from tests.cuda_host import build
from tests.cuda_host.test_host import GIVEN, RECORD
module, name, blocks, threads = ctypes.CDLL(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
x, y, record = np.ones(256, "float32"), np.zeros(256, "float32"), np.zeros(1, RECORD)
record[0] = 256, x.ctypes.data, y.ctypes.data
build.Kernel(module, name).launch((blocks,), (threads,), record, seed=1)
"""


def sanitized(source, name, blocks=4, threads=64):
    """What ThreadSanitizer says of a kernel."""
    file = build.compiled(GIVEN + source, sanitize=True)
    return build.sanitized(_SANITIZED, str(file), name, str(blocks), str(threads))


BETWEEN = """
extern "C" __global__ void between(const Given given) {
    if (threadIdx.x == 0) given.y[AT] += given.x[blockIdx.x];
}
"""


def test_the_sanitizer_finds_no_race_where_there_is_none():
    assert "data race" not in sanitized(SUM, "sum")
    assert "data race" not in sanitized(BETWEEN.replace("AT", "blockIdx.x"), "between")


def test_the_sanitizer_finds_a_missing_barrier_and_a_race_between_blocks():
    assert "data race" in sanitized(SUM.replace("__syncthreads();", ""), "sum")
    assert "data race" in sanitized(BETWEEN.replace("AT", "0"), "between")
