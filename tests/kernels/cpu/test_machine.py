"""Instruction sets and tiles, from the targeted CPU; each level run on this machine by targeting it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fastnn.kernels.cpu import machine

AVX2 = "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+sse4.2,+sse4.1,+ssse3,+sse3,+popcnt,+movbe,+lzcnt"
LEVELS = {"avx2": ("haswell", AVX2), "sse2": ("x86-64", "+sse2")}


def on_x86():
    return machine._target()[0] in ("x86_64", "amd64")


@pytest.mark.parametrize("level", LEVELS)
def test_ops_on_lower_levels(level, tmp_path):
    """The ops' own tests, in a process whose Numba targets a CPU of that level."""
    if not on_x86():
        pytest.skip("targets x86 levels")
    name, features = LEVELS[level]
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    tests = [str(Path(__file__).parents[1] / "test_ops.py"), str(Path(__file__).with_name("test_sparse.py"))]
    program = f"""
import sys, pytest
from fastnn.kernels.cpu import machine
assert machine.isa().name == {level!r}, machine.describe()
sys.exit(pytest.main([*{tests!r}, "-q", "-x", "-p", "no:cacheprovider", "-k", "not naive"]))
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert " passed" in done.stdout


@pytest.mark.parametrize(
    ("architecture", "cpu", "features", "level", "tiles"),
    [
        ("x86_64", "znver5", "+avx512f,+avx2,+fma", "avx512", ("12x32", "12x16")),
        ("x86_64", "haswell", "+avx2,+fma,-avx512f", "avx2", ("6x16", "6x8")),
        ("x86_64", "haswell", "", "avx2", ("6x16", "6x8")),
        ("x86_64", "ivybridge", "+avx,-avx2,-fma", "sse2", ("6x8", "6x4")),
        ("x86_64", "x86-64", "", "sse2", ("6x8", "6x4")),
        ("aarch64", "neoverse-n1", "+neon", "neon", ("12x8", "12x4")),
        ("riscv64", "generic", "", "generic", ("6x8", "6x4")),
    ],
)
def test_level_and_tile_follow_the_target(monkeypatch, architecture, cpu, features, level, tiles):
    monkeypatch.setattr(machine, "_target", lambda: (architecture, cpu, features))
    isa = machine.isa.__wrapped__()
    monkeypatch.setattr(machine, "isa", lambda: isa)
    assert isa.name == level
    assert (str(machine.tile.__wrapped__(4)), str(machine.tile.__wrapped__(8))) == tiles


@pytest.mark.parametrize("itemsize", [4, 8])
def test_tile_fits_the_registers(itemsize):
    tile, isa = machine.tile(itemsize), machine.isa()
    assert tile.MR * tile.NV + tile.NV + 1 + (not isa.fused) <= isa.registers
    assert tile.VL * itemsize == isa.vector_bytes


def test_caches_are_plausible():
    caches = machine.caches()
    assert 8 << 10 <= caches.l1 <= caches.l2 <= 1 << 30
    assert caches.l3 > 0
