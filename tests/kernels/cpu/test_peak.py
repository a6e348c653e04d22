"""The peak's loop: it computes what it says, all of it, in registers."""

from __future__ import annotations

import re

import numpy as np
import pytest

from fastnn.kernels.cpu import peak
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import library
from fastnn.kernels.cpu.simd import peak as simd

DTYPES = peak.dtypes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rounds", [1, 2, 1001])
def test_every_round_is_computed(dtype, rounds):
    x = peak.run(dtype, rounds)
    start = np.arange(1, x.size + 1, dtype=x.dtype)
    assert np.array_equal(x, start if dtype == "bfloat16" or rounds % 2 == 0 else 0.5 - start)
    flop = 4 if dtype == "bfloat16" else 2
    assert x.size * flop == peak.round_flop(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_loop_has_a_multiply_add_for_each_chain_and_no_memory(dtype):
    """The code of the loop, unrolled or not, holds whole rounds, and neither loads nor stores vectors."""
    if machine.isa().name not in ("avx512", "avx2"):
        pytest.skip("reads the assembly of CPUs with fused multiply-add and VEX prefixes")
    peak._loop.__wrapped__(dtype)
    blocks = re.split(r"^\.L\w+:", library._libraries[-1].get_asm_str(), flags=re.MULTILINE)
    products = [found for block in blocks if (found := re.findall(r"\bv(?:fmadd|dpbf)\w+\s+(.*)", block))]
    assert products
    tile = machine.tile(4 if dtype == "bfloat16" else np.dtype(dtype).itemsize)
    for operands in products:
        assert len(operands) % (tile.MR * tile.NV) == 0
        assert not any("(" in operand or "[" in operand for operand in operands)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threads", [1, 3])
def test_measure(dtype, threads):
    """No assertion on speed; a number that no CPU can have shows work that was not done."""
    found = peak.measure(dtype, threads)
    assert 1e6 < found < threads * 1e13


@pytest.mark.parametrize("threads", [1, 3])
def test_bandwidth(threads, monkeypatch):
    monkeypatch.setattr(peak, "_MOST_ARRAY_BYTES", 1 << 20)
    assert 1e6 < peak.bandwidth(threads) < 1e14


def test_seconds_are_those_of_the_slowest_thread_in_the_best_run(monkeypatch):
    clock = iter([0.0, 5.0, 10.0, 12.0])
    monkeypatch.setattr(peak, "perf_counter", lambda: next(clock))
    assert peak._seconds(lambda _: None, threads=1, runs=2) == 2.0


def test_the_library_of_every_process_is_without_it():
    assert not {simd.PEAK, simd.PEAK_BFLOAT16} & set(library.MICRO_KERNELS)
