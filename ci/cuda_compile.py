"""Compile every CUDA module for every architecture, without a device: registers, shared memory, and no spills.

    python -m ci.cuda_compile            compare with bench/results/cuda_registers.txt
    python -m ci.cuda_compile --all      and compile what is as it was, too (minutes)
    python -m ci.cuda_compile --write    write that table
    python -m ci.cuda_compile --only products --arch 90

Through CuPy's binding of NVRTC, which needs no driver. A module whose text is the one that the table was made of, by
the same NVRTC, is not compiled again, but for the first of each room. The exit status is 1 where a module does not
compile, a kernel spills registers, or takes more than the table says by an eighth and more than 8 registers, or more
shared memory. With another NVRTC than the table's only the first two count. Without NVRTC it says so, and is 2.
"""

from __future__ import annotations

import argparse
import hashlib
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


class Task(NamedTuple):
    """A module of a room for an architecture; ``first`` says whether the room has none before it."""

    name: str
    text: str
    digest: str
    architecture: int
    first: bool


class Table(NamedTuple):
    """What is known: NVRTC's version, the digests of modules, and what their kernels take."""

    nvrtc: str
    digests: dict[str, str]
    usages: Usages

    def is_of(self, task: Task) -> bool:
        """Whether the table was made of this module as it is."""
        return self.digests.get(task.name) == task.digest


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


def tasks(rooms: Sequence[str], architectures: Sequence[int]) -> Iterator[Task]:
    """All that there is to compile."""
    from fastnn.kernels.cuda import launch

    for room in rooms:
        for place, module in enumerate(importlib.import_module(f"fastnn.kernels.cuda.{room}").modules()):
            digest = hashlib.sha256("\n".join((*launch.OPTIONS, module.text)).encode()).hexdigest()[:12]
            for architecture in architectures:
                if architecture >= module.least:
                    yield Task(f"{room}: {module.name}", module.text, digest, architecture, place == 0)


def measure(tasks: Sequence[Task]) -> tuple[Usages, list[str]]:
    """What all kernels take, and what did not compile."""
    found: Usages = {}
    faults = []
    texts, architectures = [task.text for task in tasks], [task.architecture for task in tasks]
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        each = pool.map(compiled, texts, architectures, chunksize=4)
        for task, (kernels, fault) in zip(tasks, each, strict=True):
            found |= {(f"{task.name}: {entry}", task.architecture): usage for entry, usage in kernels.items()}
            if fault or not kernels:
                faults.append(f"{task.name}, sm_{task.architecture}: {fault or 'no kernel in what ptxas says'}")
    return found, faults


def module_of(kernel: str) -> str:
    """The name of a kernel's module."""
    return kernel.rpartition(": ")[0]


def room_of(name: str) -> str:
    """The room of a kernel or of a module."""
    return name.partition(":")[0]


def renewed(known: Table, whole: Sequence[Task], found: Usages) -> Table:
    """The table with all modules of some rooms: as they were found, or as before where they were not compiled."""
    digests = {task.name: task.digest for task in whole}
    rooms, compiled = set(map(room_of, digests)), {(module_of(name), architecture) for name, architecture in found}
    others = {name: digest for name, digest in known.digests.items() if room_of(name) not in rooms}
    kept = {
        (name, architecture): usage
        for (name, architecture), usage in known.usages.items()
        if module_of(name) in {**others, **digests} and (module_of(name), architecture) not in compiled
    }
    return Table(known.nvrtc, others | digests, kept | found)


def written(table: Table) -> str:
    """Registers by architecture and the most shared memory, a line a kernel."""
    columns = " ".join(f"{f'sm_{architecture}':>6}" for architecture in ARCHITECTURES)
    lines = [
        f"# Registers of each CUDA kernel, and bytes of shared memory; NVRTC {table.nvrtc}",
        f"# kernel | digest of its module | shared | {columns}",
    ]
    for name in sorted({name for name, _ in table.usages}):
        each = [table.usages.get((name, architecture)) for architecture in ARCHITECTURES]
        shared = max(usage.shared for usage in each if usage)
        registers = " ".join(f"{usage.registers if usage else '-':>6}" for usage in each)
        lines.append(f"{name} | {table.digests[module_of(name)]} | {shared} | {registers}")
    return "\n".join(lines) + "\n"


def read(text: str) -> Table:
    """The table that was written; no kernel in it spills."""
    first, *lines = text.splitlines()
    table = Table(first.rpartition(" ")[2], {}, {})
    for line in lines:
        if not line.startswith("#"):
            name, digest, shared, registers = line.split(" | ")
            table.digests[module_of(name)] = digest
            for architecture, count in zip(ARCHITECTURES, registers.split(), strict=True):
                if count != "-":
                    table.usages[name, architecture] = Usage(int(count), int(shared), 0)
    return table


def jumps(found: Usages, known: Usages) -> Iterator[str]:
    """Kernels that take more than they did, and those that the table lacks."""
    for (name, architecture), usage in found.items():
        where = f"{name}, sm_{architecture}"
        if (name, architecture) not in known:
            yield f"{where}: not in the table (--write)"
            continue
        registers, shared, _ = known[name, architecture]
        if usage.registers - registers > max(_MORE, registers * _SHARE):
            yield f"{where}: {usage.registers} registers, {registers} before"
        if usage.shared > shared:
            yield f"{where}: {usage.shared} bytes of shared memory, {shared} before"


def leftovers(known: Table, whole: Sequence[Task]) -> Iterator[str]:
    """Modules of the table that there are no more in these rooms."""
    names = {task.name for task in whole}
    rooms = set(map(room_of, names))
    for name in known.digests:
        if room_of(name) in rooms and name not in names:
            yield f"{name}: in the table, and no module (--write)"


def main() -> int:
    """Compile, print what was compiled, and say what is wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--only", choices=ROOMS, action="append", help="compile the kernels of a room")
    parser.add_argument("--arch", type=int, choices=ARCHITECTURES, action="append", help="for an architecture")
    parser.add_argument("--all", action="store_true", help="compile what is as it was in the table, too")
    parser.add_argument("--write", action="store_true", help="write the table that later runs compare with")
    given = parser.parse_args()
    if given.write and given.arch:
        parser.error("--write: got --arch, wants every architecture in the table")
    try:
        nvrtc = version()
    except ImportError as error:
        print(f"no NVRTC: {error}")
        return 2
    known = read(TABLE.read_text(encoding="utf-8"))
    comparable = known.nvrtc == nvrtc
    whole = list(tasks(given.only or ROOMS, given.arch or ARCHITECTURES))
    wanted = [task for task in whole if given.all or task.first or not (comparable and known.is_of(task))]
    found, faults = measure(wanted)
    faults += [
        f"{name}, sm_{each}: {usage.spills} bytes spilled" for (name, each), usage in found.items() if usage.spills
    ]
    print(written(renewed(Table(nvrtc, {}, {}), whole, found)), end="")
    if given.write and not faults:
        before = known if comparable else Table(nvrtc, {}, {})
        TABLE.write_text(written(renewed(before, whole, found)), encoding="utf-8")
    elif comparable:
        faults += [*jumps(found, known.usages), *leftovers(known, whole)]
    elif not given.write:
        print(f"not compared: the table is NVRTC {known.nvrtc}'s")
    print("\n".join(faults) or f"{len(wanted)} of {len(whole)} modules compiled, the others are as they were; no spill")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
