"""NEON: the micro-kernels as assembly for CPUs that this machine is not, through LLVM's own cross-compiler."""

from __future__ import annotations

import re

import llvmlite.binding as llvm
import pytest
from llvmlite import ir
from numba import types

from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.cpu.simd import library

TRIPLE = "aarch64-unknown-linux-gnu"
TARGETS = [
    ("neoverse-n1", types.float32),
    pytest.param("neoverse-n1", types.float64, marks=pytest.mark.slow),
    pytest.param("apple-m1", types.float32, marks=pytest.mark.slow),
]


@pytest.fixture
def assembly(monkeypatch):
    """Compile all micro-kernels of a dtype for a CPU, with the tiles of that CPU."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    try:
        target = llvm.Target.from_triple(TRIPLE)
    except RuntimeError:
        pytest.skip("llvmlite was built without LLVM's AArch64 target")

    def retarget(cpu):
        monkeypatch.setattr(machine, "_target", lambda: ("aarch64", cpu, ""))
        machine.isa.cache_clear()
        machine.tile.cache_clear()

    def compiled(cpu, dtype):
        retarget(cpu)
        target_machine = target.create_target_machine(cpu=cpu, opt=3)
        module = ir.Module("micro-kernels")
        module.triple, module.data_layout = TRIPLE, str(target_machine.target_data)
        for kernel in library.MICRO_KERNELS:
            kernel.define(module, dtype)
        assert "llvm.x86" not in str(module)
        parsed = llvm.parse_assembly(str(module))
        builder = llvm.create_pass_builder(target_machine, llvm.create_pipeline_tuning_options(speed_level=3))
        builder.getModulePassManager().run(parsed, builder)
        return target_machine.emit_assembly(parsed)

    yield compiled
    machine.isa.cache_clear()
    machine.tile.cache_clear()


def function(text, symbol):
    """The assembly of one function."""
    return re.search(rf"^{re.escape(symbol)}:\n(.*?)^\s*\.size\s", text, re.DOTALL | re.MULTILINE)[1]


def loops(body):
    """The blocks that branch back to their own beginning, up to that branch."""
    blocks = re.split(r"^(\.L\w+):", body, flags=re.MULTILINE)
    for label, block in zip(blocks[1::2], blocks[2::2], strict=True):
        found = re.search(rf"(.*?)^\s*b\.\w+\s+{re.escape(label)}$", block, re.DOTALL | re.MULTILINE)
        if found:
            yield found[1]


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "dtype"), TARGETS, ids=str)
def test_micro_kernels_as_assembly(assembly, cpu, dtype):
    """A full tile's loop is one multiply-add an accumulator, and touches no memory but A and B: nothing is spilled."""
    text = assembly(cpu, dtype)
    for kernel in library.MICRO_KERNELS:
        assert function(text, kernel.symbol(dtype)).strip(), kernel.symbol(dtype)
    tile, lane = machine.tile(dtype.bitwidth // 8), "s" if dtype is types.float32 else "d"
    assert tile == machine.Tile(MR=12, NV=2, VL=128 // dtype.bitwidth)
    multiply_add = rf"\bfmla\s+v\d+\.{tile.VL}{lane},"
    found = loops(function(text, f"fastnn.gemm_tile.{dtype}"))
    (full,) = (loop for loop in found if len(re.findall(multiply_add, loop)) == tile.MR * tile.NV)
    assert not re.search(r"\[sp\b", full)
    assert not re.search(r"^\s*st\w+\s", full, re.MULTILINE)
    assert not re.search(r"\bf(mul|add)\b", full)
    vectors = sum(2 if "ldp" in load else 1 for load in re.findall(r"\b(?:ldp|ldr|ldur)\s+q\d+", full))
    assert vectors == tile.NV, full
