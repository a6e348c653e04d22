"""PTX and what stands in for it on the host: fragments where the PTX ISA's tables have them, copies that are late."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn.kernels.cuda.arguments import Field, Structure
from tests.cuda_host import build
from tests.cuda_host.places import host_only

GIVEN = Structure("Given", Field("a", "const real*"), Field("b", "real*"))

# Words of A (4) and of B (2) of each lane, then C's four numbers.
MULTIPLY = """
extern "C" __global__ void multiply(const Given given) {
    const unsigned* words = reinterpret_cast<const unsigned*>(given.a) + 6 * threadIdx.x;
    float c[4];
    for (int place = 0; place < 4; place++) c[place] = given.b[4 * threadIdx.x + place];
    FORMAT::multiply(c, {words[0], words[1], words[2], words[3]}, words[4], words[5]);
    for (int place = 0; place < 4; place++) given.b[4 * threadIdx.x + place] = c[place];
}
"""

ROUND = """
extern "C" __global__ void rounded(const Given given) {
    float numbers[FORMAT::PER_WORD] = {};
    numbers[0] = given.a[threadIdx.x];
    reinterpret_cast<unsigned*>(given.b)[threadIdx.x] = FORMAT::word(numbers);
}
"""

# Every thread reverses its 16 bytes by way of shared memory.
COPY = """
extern "C" __global__ void copy(const Given given) {
    SHARED(uint4, held, [32]);
    copy_later(&held[threadIdx.x], reinterpret_cast<const uint4*>(given.a) + threadIdx.x);
    end_group();
    end_group();
    wait_for_groups<1>();
    __syncthreads();
    reinterpret_cast<uint4*>(given.b)[threadIdx.x] = held[31 - threadIdx.x];
}
"""


def run(cupy, kernel, name, a, b, form="Tf32", shift=0):
    """B (n,) after one warp's run; ``shift`` is how many numbers of A are left out."""
    from fastnn.kernels.cuda import launch, tiles

    if tiles.lacking(0):
        pytest.skip("PTX of a later architecture")
    before = f"{launch.header('prelude.cuh')}{GIVEN.source}{launch.header('ptx.cuh')}"
    text = f"typedef float real;\n{before}#define FORMAT {form}\n{kernel}"
    record, a, b = GIVEN.record("float32"), cupy.asarray(a), cupy.asarray(b)
    record[0] = a.data.ptr + shift * a.itemsize, b.data.ptr
    cupy.RawModule(code=text, options=launch.OPTIONS).get_function(name)((1,), (32,), (record,))
    return b.get()


# By the tables for .tf32 m16n8k8 and .bf16 m16n8k16: (row, column) in A and in B of a lane's registers in order, and of
# the two halves of each for bf16. G is the lane's group, T its number in the group.
TABLES = {
    "Tf32": (
        lambda G, T: [(G, T), (G + 8, T), (G, T + 4), (G + 8, T + 4)],
        lambda G, T: [(T, G), (T + 4, G)],
    ),
    "Bf16": (
        lambda G, T: [(row, 2 * T + i % 2 + (8 if i >= 4 else 0)) for i, row in enumerate([G, G, G + 8, G + 8] * 2)],
        lambda G, T: [(2 * T + i % 2 + (8 if i >= 2 else 0), G) for i in range(4)],
    ),
}


def registers(form, numbers):
    """Words of float32 numbers that the format holds exactly."""
    bits = np.asarray(numbers, "float32").view("uint32")
    return bits if form == "Tf32" else bits[0::2] >> 16 | bits[1::2]


@pytest.mark.parametrize("form", TABLES)
def test_fragments_lie_where_the_isa_says(cupy, form):
    depth = {"Tf32": 8, "Bf16": 16}[form]
    rng, (of_a, of_b) = np.random.default_rng(1), TABLES[form]
    a, b = (rng.integers(-9, 10, shape).astype("float32") for shape in ((16, depth), (depth, 8)))
    c = rng.integers(-9, 10, (16, 8)).astype("float32")
    words, held = np.empty((32, 6), "uint32"), np.empty((32, 4), "float32")
    for lane in range(32):
        G, T = lane // 4, lane % 4
        words[lane, :4] = registers(form, [a[at] for at in of_a(G, T)])
        words[lane, 4:] = registers(form, [b[at] for at in of_b(G, T)])
        held[lane] = c[G, 2 * T], c[G, 2 * T + 1], c[G + 8, 2 * T], c[G + 8, 2 * T + 1]
    held = run(cupy, MULTIPLY, "multiply", words, held, form)
    expected = a @ b + c
    for lane in range(32):
        G, T = lane // 4, lane % 4
        wanted = expected[G, 2 * T], expected[G, 2 * T + 1], expected[G + 8, 2 * T], expected[G + 8, 2 * T + 1]
        assert tuple(held[lane]) == wanted, lane


# A float's bits, and those of the nearest number of the format: ties, carries, the largest, infinity, zeros.
ROUNDED = {
    "Tf32": {
        0x3F800FFF: 0x3F800000,
        0x3F801000: 0x3F802000,
        0x3F803000: 0x3F804000,
        0xBFFFF000: 0xC0000000,
        0x7F7FFFFF: 0x7F800000,
        0x7F800000: 0x7F800000,
        0x80000000: 0x80000000,
    },
    "Bf16": {
        0x3F807FFF: 0x3F80,
        0x3F808000: 0x3F80,
        0x3F818000: 0x3F82,
        0xBFFF8000: 0xC000,
        0x7F7FFFFF: 0x7F80,
        0x7F800000: 0x7F80,
        0x80000000: 0x8000,
    },
}


@pytest.mark.parametrize("form", ROUNDED)
def test_rounding(cupy, form):
    bits = np.resize(np.array([*ROUNDED[form], 0x7FC00000], "uint32"), 32)
    found = run(cupy, ROUND, "rounded", bits.view("float32"), np.zeros(32, "uint32"), form)
    for before, after in zip(bits.tolist(), found.tolist(), strict=True):
        if before == 0x7FC00000:
            after = after if form == "Tf32" else after << 16  # noqa: PLW2901
            assert np.isnan(np.uint32(after).view("float32"))
        else:
            assert after == ROUNDED[form][before], hex(before)


def test_copies_are_there_once_waited_for(cupy):
    a = np.arange(128, dtype="float32")
    expected = a.reshape(32, 4)[::-1].ravel()
    np.testing.assert_array_equal(run(cupy, COPY, "copy", a, np.zeros(128, "float32")), expected)


@host_only
def test_copies_are_not_there_before(cupy):
    late = COPY.replace("wait_for_groups<1>", "wait_for_groups<2>")
    assert np.isnan(run(cupy, late, "copy", np.zeros(128, "float32"), np.zeros(128, "float32"))).all()


@host_only
def test_a_copy_that_is_not_aligned_is_an_error(cupy):
    with pytest.raises(build.LaunchError, match="not aligned"):
        run(cupy, COPY, "copy", np.zeros(132, "float32"), np.zeros(128, "float32"), shift=1)
