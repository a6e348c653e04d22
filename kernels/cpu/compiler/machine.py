"""The CPU that Numba targets: instruction set, register tile, caches.

Tiles follow from the target (``NUMBA_CPU_NAME``, ``NUMBA_CPU_FEATURES``), not from the host, so that one machine can
run every path. Cache sizes are the host's.
"""

from __future__ import annotations

import ctypes
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from struct import Struct


@dataclass(frozen=True)
class Isa:
    """An instruction-set level: what it needs, its vector registers, and whether multiply-add is one instruction.

    ``cpus`` are LLVM's names of CPUs that imply the level when no feature list is given.
    """

    name: str
    needs: tuple[str, ...]
    vector_bytes: int
    registers: int
    fused: bool
    cpus: tuple[str, ...] = ()


# Best first. The last x86 level is the baseline of x86-64 and needs nothing.
_X86 = (
    Isa("avx512", ("avx512f",), 64, 32, True, ("x86-64-v4", "skylake-avx512", "icelake-server", "znver4", "znver5")),
    Isa("avx2", ("avx2", "fma"), 32, 16, True, ("x86-64-v3", "haswell", "skylake", "znver1", "znver2", "znver3")),
    Isa("sse2", (), 16, 16, False),
)
_ARM = (Isa("neon", (), 16, 32, True),)
_OTHER = (Isa("generic", (), 16, 16, False),)

# Vectors in a row of the tile: two need the fewest loads for a height that keeps both multiply-add pipes busy.
NV = 2

# Bytes of the widest vector, and of a cache line; the lines of Apple's CPUs are two of these.
LINE = 64

# Bytes between addresses that all map to one set of L1.
ALIASED = 4096

# Rows beyond which a taller tile saves no loads that anything waits for.
_MOST_ROWS = 12


@dataclass(frozen=True)
class Tile:
    """A register tile: MR rows of NV vectors of VL numbers; NR = NV * VL columns."""

    MR: int
    NV: int
    VL: int

    @property
    def NR(self) -> int:  # noqa: D102 - the field's name for the tile's width
        return self.NV * self.VL

    def __str__(self) -> str:
        return f"{self.MR}x{self.NR}"


@dataclass(frozen=True)
class Caches:
    """Bytes of the data caches that one core sees, of which L3 is shared, and the ways of L1: the lines of a set."""

    l1: int
    l2: int
    l3: int
    l1_ways: int


def _target() -> tuple[str, str, str]:
    """(architecture, CPU name, feature string) that Numba compiles for."""
    from numba.core.registry import cpu_target

    codegen = cpu_target.target_context.codegen()
    architecture = codegen.target_data and codegen._llvm_module.triple.split("-")[0]
    return str(architecture), codegen._get_host_cpu_name(), codegen._get_host_cpu_features()


@cache
def isa() -> Isa:
    """The best level whose needs the targeted CPU meets."""
    architecture, cpu, features = _target()
    if architecture in ("x86_64", "i386", "i686", "amd64"):
        enabled = set(re.findall(r"\+([\w.-]+)", features))
        for level in _X86:
            implied = not features and cpu in level.cpus
            if implied or enabled.issuperset(level.needs):
                return level
    return (_ARM if architecture in ("aarch64", "arm64") else _OTHER)[0]


# LLVM's names of CPUs that multiply pairs of bfloat16 numbers, for when no feature list is given.
_BFLOAT16_CPUS = ("cooperlake", "sapphirerapids", "emeraldrapids", "graniterapids", "znver4", "znver5")


@cache
def bfloat16_pairs() -> bool:
    """Whether the targeted CPU has AVX512-BF16: products of pairs of bfloat16 numbers with float32 sums."""
    _, cpu, features = _target()
    named = not features and cpu in _BFLOAT16_CPUS
    return isa().name == "avx512" and (named or "+avx512bf16" in features.split(","))


@cache
def tile(itemsize: int) -> Tile:
    """The register tile for numbers of ``itemsize`` bytes.

    MR * NV accumulators + NV vectors of B + 1 broadcast of A (+ 1 product where multiply-add is two instructions) must
    not exceed the registers.
    """
    level = isa()
    spare = level.registers - NV - 1 - (not level.fused)
    return Tile(MR=min(spare // NV, _MOST_ROWS), NV=NV, VL=level.vector_bytes // itemsize)


# Where Linux tells of them.
_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")

# What is typical of each level, where the operating system does not tell: bytes, ways.
_TYPICAL = {1: (32 << 10, 8), 2: (512 << 10, 8), 3: (8 << 20, 16)}


@cache
def caches() -> Caches:
    """The host's data caches, from the operating system; typical sizes and ways where it does not tell."""
    (l1, ways), (l2, _), (l3, _) = (
        tuple(told or typical for told, typical in zip(_cache(level), _TYPICAL[level], strict=True))
        for level in _TYPICAL
    )
    return Caches(l1, l2, l3, ways)


def _cache(level: int) -> tuple[int, int]:
    """Bytes and ways of a level, 0 for what is not told."""
    for index in sorted(_CACHES.glob("index*")):
        if _told(index / "level") == str(level) and _told(index / "type") in ("Data", "Unified"):
            return _number(_told(index / "size")), _number(_told(index / "ways_of_associativity"))
    elsewhere = {"Darwin": _macos_cache, "Windows": _windows_cache}.get(platform.system())
    return elsewhere(level) if elsewhere else (0, 0)


def _told(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _number(text: str) -> int:
    """12 of "12", 49152 of "48K", 0 of what is no number."""
    found = re.fullmatch(r"(\d+)([KMG]?)", text)
    return int(found[1]) << {"": 0, "K": 10, "M": 20, "G": 30}[found[2]] if found else 0


def _macos_cache(level: int) -> tuple[int, int]:
    """Of the fast cores, where there are two kinds; it tells no ways."""
    name = {1: "l1dcachesize", 2: "l2cachesize", 3: "l3cachesize"}[level]
    for of in ("hw.perflevel0", "hw"):
        value, size = ctypes.c_uint64(0), ctypes.c_size_t(8)
        place = ctypes.byref(value), ctypes.byref(size)
        if not ctypes.CDLL(None).sysctlbyname(f"{of}.{name}".encode(), *place, None, 0) and value.value:
            return value.value, 0
    return 0, 0


# SYSTEM_LOGICAL_PROCESSOR_INFORMATION: the relation (a cache, or else), and of a cache its level, ways, size and kind.
_WINDOWS_RECORD = Struct("=8xI4xBB2xII4x")
_WINDOWS_CACHE, _WINDOWS_DATA = 2, (0, 2)  # unified, data


def _windows_cache(level: int) -> tuple[int, int]:
    tell = ctypes.WinDLL("kernel32").GetLogicalProcessorInformation  # type: ignore[attr-defined]
    size = ctypes.c_uint32(0)
    tell(None, ctypes.byref(size))  # fails, and says how much there is to tell
    told = ctypes.create_string_buffer(size.value)
    if tell(told, ctypes.byref(size)):
        for relation, of, ways, count, kind in _WINDOWS_RECORD.iter_unpack(told.raw):
            if relation == _WINDOWS_CACHE and of == level and kind in _WINDOWS_DATA:
                return int(count), int(ways)
    return 0, 0


def cpu_name() -> str:
    """The CPU that Numba compiles for, as LLVM names it."""
    return _target()[1]


def describe() -> str:
    """One line: CPU, instruction set, tiles."""
    return f"{cpu_name()}, {isa().name}, tiles {tile(4)} float32, {tile(8)} float64"


def key() -> str:
    """All of this machine that compiled code depends on: the targeted CPU and its features, the tiles, the caches."""
    from numba.core.registry import cpu_target

    return f"{cpu_target.target_context.codegen().magic_tuple()} {tile(4)} {tile(8)} {caches()}"
