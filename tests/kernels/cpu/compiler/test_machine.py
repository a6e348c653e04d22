"""Instruction sets and tiles, from the targeted CPU; each level run on this machine by targeting it."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path
from struct import pack
from types import SimpleNamespace

import pytest

from fastnn.kernels.cpu.compiler import machine

AVX2 = "+avx,+avx2,+fma,+bmi,+bmi2,+f16c,+sse4.2,+sse4.1,+ssse3,+sse3,+popcnt,+movbe,+lzcnt"
LEVELS = {"avx2": ("haswell", AVX2), "sse2": ("x86-64", "+sse2")}
# Tests of ops that no target has a part in: of plain loops, of tolerances, of arguments and of the arrays they are in.
NO_TARGETS = "naive or tolerances or signatures or read_only or docstring"


def on_x86():
    return machine._target()[0] in ("x86_64", "amd64")


def started(level):
    """The ops' own tests, in a process whose Numba targets a CPU of that level."""
    name, features = LEVELS[level]
    environment = {**os.environ, "NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": features}
    kernels = Path(__file__).parents[2]
    tests = [str(kernels / name) for name in ("test_ops.py", "cpu/test_sparse.py", "cpu/simd")]
    program = f"""
import sys, pytest
from fastnn.kernels.cpu.compiler import machine
assert machine.isa().name == {level!r}, machine.describe()
sys.exit(pytest.main([*{tests!r}, "-q", "-x", "-p", "no:cacheprovider", "-k", "not ({NO_TARGETS})"]))
"""
    command = [sys.executable, "-c", program]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


@pytest.mark.slow
def test_ops_on_lower_levels():
    """On all of them at the same time: most of it is compilation, which takes a core each."""
    if not on_x86():
        pytest.skip("targets x86 levels")
    processes = [started(level) for level in LEVELS]
    for out, process in [(process.communicate()[0], process) for process in processes]:
        assert process.returncode == 0, out[-3000:]
        assert " passed" in out


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
    assert 2 <= caches.l1_ways <= 64


def test_caches_as_linux_tells_them(monkeypatch, tmp_path):
    """Folders of data, instructions and both; of the third level there is none, and a file that says nothing of use."""
    told = (("1", "Data", "32K", "8"), ("1", "Instruction", "64K", "4"), ("2", "Unified", "1M", "?"), ("x", "", "", ""))
    for i, texts in enumerate(told):
        index = tmp_path / f"index{i}"
        index.mkdir()
        for name, text in zip(("level", "type", "size", "ways_of_associativity"), texts, strict=True):
            (index / name).write_text(f"{text}\n")
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    assert machine.caches.__wrapped__() == machine.Caches(32 << 10, 1 << 20, 8 << 20, 8)


def test_caches_as_windows_tells_them(monkeypatch, tmp_path):
    """Records of a core, of two kinds of first-level cache, of the others, of another core's."""
    core, cache_, numa = 0, 2, 1
    unified, instruction, data = range(3)

    def record(relation, level=0, size=0, kind=0, ways=8):
        return pack("<QIIBBHIII", 1, relation, 0, level, ways, 64, size, kind, 0)

    told = b"".join(
        (
            record(core),
            record(numa),
            record(cache_, 1, 32 << 10, instruction),
            record(cache_, 1, 48 << 10, data, ways=12),
            record(cache_, 2, 1 << 20, unified),
            record(cache_, 1, 64 << 10, data),
        )
    )

    def tell(buffer, size):
        enough = size._obj.value >= len(told)
        if enough:
            ctypes.memmove(buffer, told, len(told))
        size._obj.value = len(told)
        return enough

    libraries = {"kernel32": SimpleNamespace(GetLogicalProcessorInformation=tell)}
    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Windows")
    monkeypatch.setattr(ctypes, "WinDLL", libraries.__getitem__, raising=False)
    # of the third level it tells nothing
    assert machine.caches.__wrapped__() == machine.Caches(48 << 10, 1 << 20, 8 << 20, 12)


@pytest.mark.parametrize(
    ("told", "caches"),
    [
        (  # an Apple chip: fast and slow cores, no third level
            {
                b"hw.perflevel0.l1dcachesize": 128 << 10,
                b"hw.perflevel0.l2cachesize": 12 << 20,
                b"hw.l1dcachesize": 64 << 10,
                b"hw.l2cachesize": 4 << 20,
            },
            (128 << 10, 12 << 20, 8 << 20, 8),
        ),
        (
            {b"hw.l1dcachesize": 32 << 10, b"hw.l2cachesize": 256 << 10, b"hw.l3cachesize": 12 << 20},
            (32 << 10, 256 << 10, 12 << 20, 8),
        ),
    ],
)
def test_caches_as_macos_tells_them(monkeypatch, tmp_path, told, caches):
    def sysctlbyname(name, value, size, new, new_size):
        if name not in told:
            return -1
        value._obj.value = told[name]
        return 0

    monkeypatch.setattr(machine, "_CACHES", tmp_path)
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(sysctlbyname=sysctlbyname))
    assert machine.caches.__wrapped__() == machine.Caches(*caches)
