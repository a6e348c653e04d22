"""Compile every CUDA module for every architecture, without a device: registers, shared memory, and no spills.

    python -m ci.cuda_compile            compare with bench/results/cuda_registers.txt
    python -m ci.cuda_compile --write    write that table
    python -m ci.cuda_compile --only gemm --arch 90

Through CuPy's binding of NVRTC, which needs no driver. The exit status is 1 where a module does not compile, a kernel
spills registers, or takes more than the table says by an eighth and more than 8 registers, or more shared memory. With
another NVRTC than the table's only the first two count. Without NVRTC it says so, and is 2.
"""

from __future__ import annotations

import argparse
import importlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

TABLE = Path(__file__).parents[1] / "bench" / "results" / "cuda_registers.txt"

ARCHITECTURES = (75, 80, 90, 100, 120)

# The rooms of fastnn.kernels.cuda with kernels are those that launch them: each lists its own as ``modules()``.
_ROOMS = Path(__file__).parents[1] / "kernels" / "cuda"
ROOMS = tuple(path.stem for path in sorted(_ROOMS.glob("*.py")) if "launch.kernel(" in path.read_text(encoding="utf-8"))

# How many registers more than the table's are a jump: more than both.
_MORE, _SHARE = 8, 1 / 8

_ENTRY = re.compile(r"Compiling entry function '(\w+)'")
_SPILLS = re.compile(r"(\d+) bytes spill stores, (\d+) bytes spill loads")
_USED = re.compile(r"Used (\d+) registers(?:.*?(\d+) bytes smem)?")


class Usage(NamedTuple):
    """What a kernel takes on an architecture; ``spills`` in bytes."""

    registers: int
    shared: int
    spills: int


# Usages by the kernel's name and architecture.
Usages = dict[tuple[str, int], Usage]


def usages(log: str) -> dict[str, Usage]:
    """What ptxas says of each kernel of a module."""
    found, entry, spills = {}, "", 0
    for line in log.splitlines():
        if match := _ENTRY.search(line):
            entry, spills = match[1], 0
        elif match := _SPILLS.search(line):
            spills += int(match[1]) + int(match[2])
        elif (match := _USED.search(line)) and entry:
            found[entry] = Usage(int(match[1]), int(match[2] or 0), spills)
    return found


def compiled(text: str, architecture: int) -> tuple[dict[str, Usage], str]:
    """A module's kernels, and what is wrong with it."""
    from cupy_backends.cuda.libs import nvrtc

    from fastnn.kernels.cuda import launch

    program = nvrtc.createProgram(text, "module.cu", (), ())
    try:
        nvrtc.compileProgram(program, (*launch.OPTIONS, f"-arch=sm_{architecture}", "--ptxas-options=-v"))
    except nvrtc.NVRTCError:
        return {}, nvrtc.getProgramLog(program)[:2000]
    log = nvrtc.getProgramLog(program)
    nvrtc.destroyProgram(program)
    return usages(log), ""


def version() -> str:
    """NVRTC's."""
    from cupy_backends.cuda.libs import nvrtc

    return ".".join(map(str, nvrtc.getVersion()))


def tasks(rooms: Sequence[str], architectures: Sequence[int]) -> Iterator[tuple[str, str, int]]:
    """Name, text and architecture of all that is compiled."""
    for room in rooms:
        for module in importlib.import_module(f"fastnn.kernels.cuda.{room}").modules():
            for architecture in architectures:
                if architecture >= module.least:
                    yield f"{room}: {module.name}", module.text, architecture


def measure(rooms: Sequence[str], architectures: Sequence[int]) -> tuple[Usages, list[str]]:
    """What all kernels take, and what did not compile."""
    names, texts, targets = zip(*tasks(rooms, architectures), strict=True)
    found: Usages = {}
    faults = []
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        for name, target, (kernels, fault) in zip(
            names, targets, pool.map(compiled, texts, targets, chunksize=4), strict=True
        ):
            found |= {(f"{name}: {entry}", target): usage for entry, usage in kernels.items()}
            if fault or not kernels:
                faults.append(f"{name}, sm_{target}: {fault or 'no kernel in what ptxas says'}")
    return found, faults


def table(found: Usages, nvrtc: str) -> str:
    """Registers by architecture and the most shared memory, a line a kernel."""
    columns = [f"sm_{architecture}" for architecture in ARCHITECTURES]
    lines = [f"# Registers of each CUDA kernel, and bytes of shared memory; NVRTC {nvrtc}", "# kernel | shared | "]
    lines[1] += " ".join(f"{column:>6}" for column in columns)
    for name in sorted({name for name, _ in found}):
        each = [found.get((name, architecture)) for architecture in ARCHITECTURES]
        shared = max(usage.shared for usage in each if usage)
        lines.append(f"{name} | {shared} | " + " ".join(f"{usage.registers if usage else '-':>6}" for usage in each))
    return "\n".join(lines) + "\n"


def read(text: str) -> tuple[str, dict[tuple[str, int], tuple[int, int]]]:
    """NVRTC's version, and registers and shared memory of the kernels in a table."""
    known = {}
    first, *lines = text.splitlines()
    for line in lines:
        if not line.startswith("#"):
            name, shared, registers = line.split(" | ")
            for architecture, count in zip(ARCHITECTURES, registers.split(), strict=True):
                if count != "-":
                    known[name, architecture] = int(count), int(shared)
    return first.rpartition(" ")[2], known


def jumps(found: Usages, known: dict[tuple[str, int], tuple[int, int]]) -> Iterator[str]:
    """Kernels that take more than they did, and those that the table lacks."""
    for (name, architecture), usage in found.items():
        where = f"{name}, sm_{architecture}"
        if (name, architecture) not in known:
            yield f"{where}: not in the table (--write)"
            continue
        registers, shared = known[name, architecture]
        if usage.registers - registers > max(_MORE, registers * _SHARE):
            yield f"{where}: {usage.registers} registers, {registers} before"
        if usage.shared > shared:
            yield f"{where}: {usage.shared} bytes of shared memory, {shared} before"


def main() -> int:
    """Compile, print the table, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", choices=ROOMS, action="append", help="compile the kernels of a room")
    parser.add_argument("--arch", type=int, choices=ARCHITECTURES, action="append", help="for an architecture")
    parser.add_argument("--write", action="store_true", help="write the table that later runs compare with")
    given = parser.parse_args()
    if given.write and (given.only or given.arch):
        parser.error("--write: got --only or --arch, wants all kernels in the table")
    try:
        nvrtc = version()
    except ImportError as error:
        print(f"no NVRTC: {error}")
        return 2
    found, faults = measure(given.only or ROOMS, given.arch or ARCHITECTURES)
    faults += [
        f"{name}, sm_{each}: {usage.spills} bytes spilled" for (name, each), usage in found.items() if usage.spills
    ]
    text = table(found, nvrtc)
    print(text, end="")
    if given.write:
        TABLE.write_text(text, encoding="utf-8")
    else:
        before, known = read(TABLE.read_text(encoding="utf-8"))
        if before == nvrtc:
            faults += jumps(found, known)
        else:
            print(f"not compared: the table is NVRTC {before}'s")
    print("\n".join(faults) or f"{len(found)} kernels compiled, none spills")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
