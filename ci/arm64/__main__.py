"""Run the tests of ops, engine and worked examples on ARM64 Linux, emulated program by program (QEMU's user mode).

    python -m ci.arm64                       all that is left to run; the result is kept as ci/results/arm64.txt
    python -m ci.arm64 --minutes 10          for so long; the next call goes on where this one ended
    python -m ci.arm64 tests/golden -k xor   some of them; no result is written

For Debian, x86-64, before a release: it takes hours. Tile and instructions are those of ``--cpu``, a name that LLVM
and QEMU share. What is missing of QEMU and of mmdebstrap is installed by apt, which takes root; Python and its
libraries are Debian's for ARM64, packages the index's. Nothing of it runs outside ``--folder``, and no kernel setting
is needed: what the tests start as ``sys.executable`` is emulated because it names a script that starts the emulator.

The folder keeps what became of each test, for these sources and this CPU: a call leaves out what has ended. Exit status
0 where all have passed, 1 where one has failed, 3 where some are left to run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.environment import ROOT, commit

RESULT = ROOT / "ci" / "results" / "arm64.txt"
SUITES = (
    "tests/kernels/test_ops.py",
    "tests/kernels/test_dropout.py",
    "tests/golden",
    "tests/kernels/cpu",
    "tests/fastnn/engine",
)
# Left out: the plain loops, which are the same Python everywhere, and what compiles all kernels anew for each test, of
# the disk cache, of LLVM's cross-compiler, of other systems' ways to wait: minutes each, and nothing the CPU changes.
_NAMES = "not naive"
_LEFT_OUT = (
    "tests/kernels/cpu/test_jit.py",
    "tests/kernels/cpu/test_neon.py",
    "tests/kernels/cpu/teams/test_team.py::test_training_without_futex_gives_the_same_bits",
)

# Debian's packages: the programs that make the guest, by the command that each brings, and what Python and NumPy load.
_TOOLS = {"qemu-aarch64-static": "qemu-user-static", "mmdebstrap": "mmdebstrap"}
_LIBRARIES = ("python3", "libgomp1", "libstdc++6", "zlib1g")
# Wheels for these versions of the C library run on every Debian since 10.
_PLATFORMS = ("manylinux2014_aarch64", *(f"manylinux_2_{minor}_aarch64" for minor in range(17, 29)))
# What the outcomes rest on: a change of anything else in the checkout leaves them as they are.
_SOURCES = (
    "fastnn",
    "kernels",
    "pyproject.toml",
    "tests/conftest.py",
    "tests/kernels/oracle.py",
    *SUITES,
    "ci/arm64/guest",
)
_VERSIONS = ("numpy", "numba", "llvmlite", "scipy", "safetensors", "pytest")

PASSED, FAILED, UNFINISHED = 0, 1, 3
# pytest's: all passed, some failed, nothing was left to run; stopped by the plugin, or by errors in collecting tests.
_RAN, _STOPPED = (0, 1, 5), 2


def main(argv: Sequence[str] | None = None) -> int:
    """Make the guest where there is none, run what is left, say how it stands."""
    options = _parser().parse_args(argv)
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SystemExit(f"ci.arm64: got {platform.system()} on {platform.machine()}, wants Linux on x86_64")
    _install_tools()
    guest = Guest(options.folder.absolute(), options.cpu)
    guest.make()
    until = time.time() + 60 * options.minutes
    status = guest.run(options.tests or SUITES, options.k or _NAMES, until)
    journal = Journal.read(guest.journal)
    print(journal)
    stopped = status == _STOPPED and time.time() > until
    if status not in _RAN and not stopped:
        raise SystemExit(f"ci.arm64: pytest ended with {status}")
    if not options.tests and not options.k:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text(f"{guest.facts()}\n\n{journal}", encoding="utf-8")
        print(f"written: {RESULT.relative_to(ROOT)}")
    return UNFINISHED if journal.left else FAILED if journal.counts["failed"] else PASSED


def _parser() -> argparse.ArgumentParser:
    summary, _, rest = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m ci.arm64",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("tests", nargs="*", help=f"files or folders of tests, default: {' '.join(SUITES)}")
    parser.add_argument("-k", default="", help=f"as pytest's: tests whose names fit, default: {_NAMES}")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="begin no test after so many minutes")
    parser.add_argument("--cpu", default="neoverse-n1", help="the CPU to compile for and to emulate")
    folder = Path(tempfile.gettempdir()) / "fastnn-arm64"
    parser.add_argument("--folder", type=Path, default=folder, help="where the guest is kept, default: %(default)s")
    return parser


def _install_tools() -> None:
    missing = [package for command, package in _TOOLS.items() if shutil.which(command) is None]
    if not missing:
        return
    if os.geteuid():
        raise SystemExit(f"ci.arm64: as root, apt-get install --no-install-recommends {' '.join(missing)}")
    _call("apt-get", "update", "-qq")
    _call("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing)


def _call(*command: str | Path, **settings: Any) -> None:
    subprocess.run(command, check=True, **settings)


@dataclass(frozen=True)
class Guest:
    """An ARM64 Debian in a folder: its system in ``root``, packages in ``site``, this checkout in ``checkout``."""

    folder: Path
    cpu: str

    def make(self) -> None:
        """Whatever is missing, or was made of something else."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._once("root", " ".join(_LIBRARIES), self._make_root)
        self._once("site", f"{self._python}\n{self._requirements}", self._make_site)
        self._once("checkout", self._sources, self._make_checkout)

    def _once(self, name: str, made_of: str, make: Any) -> None:
        """Make a part of the guest anew, unless it was made, to its end, of the same."""
        stamp, place = self.folder / f"{name}.made", self.folder / name
        if stamp.exists() and stamp.read_text(encoding="utf-8") == made_of:
            return
        stamp.unlink(missing_ok=True)
        shutil.rmtree(place, ignore_errors=True)
        print(f"making {place}", flush=True)
        make(place)
        stamp.write_text(made_of, encoding="utf-8")

    def _make_root(self, root: Path) -> None:
        release = platform.freedesktop_os_release()["VERSION_CODENAME"]
        wanted = f"--include={','.join(_LIBRARIES)}"
        _call("mmdebstrap", "--quiet", "--variant=extract", "--arch=arm64", wanted, release, root)
        for name in ("dev", "tmp"):  # these are the host's: the emulator looks in the root first
            shutil.rmtree(root / name, ignore_errors=True)

    def _make_site(self, site: Path) -> None:
        platforms = [f"--platform={name}" for name in _PLATFORMS]
        version = self._python.name.removeprefix("python")
        _pip("--only-binary=:all:", *platforms, f"--python-version={version}", "--target", site, *self._requirements)

    def _make_checkout(self, checkout: Path) -> None:
        for path in _files():
            copy = checkout / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        _pip("--no-deps", "--target", checkout / "installed", checkout)
        script = f'#!/bin/sh\nexec qemu-aarch64-static -L "{self.folder / "root"}" "{self._python}" "$@"\n'
        (checkout / "python").write_text(script, encoding="utf-8")
        (checkout / "python").chmod(0o755)

    @cached_property
    def _python(self) -> Path:
        """The guest's interpreter, by its name with a version: what wheels are chosen by."""
        return next((self.folder / "root/usr/bin").glob("python3.*[0-9]"))

    @cached_property
    def _requirements(self) -> list[str]:
        project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return [*project["dependencies"], *project["optional-dependencies"]["test"]]

    @cached_property
    def _sources(self) -> str:
        """What tells these sources from others."""
        digest = hashlib.sha256()
        for path in _files(*_SOURCES):
            digest.update(f"{path.relative_to(ROOT)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
        return digest.hexdigest()

    @property
    def journal(self) -> Path:
        """The file of what became of each test: of these sources, on this CPU."""
        return self.folder / f"{self._sources[:16]}-{self.cpu}.jsonl"

    @property
    def _environment(self) -> dict[str, str]:
        checkout = self.folder / "checkout"
        found = (checkout / "ci/arm64/guest", checkout / "installed", self.folder / "site", checkout)
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("NUMBA_")},
            "FASTNN_GUEST_PYTHON": str(checkout / "python"),
            "NUMBA_CACHE_DIR": str(self.folder / "compiled"),
            "NUMBA_CPU_NAME": self.cpu,
            "PYTHONPATH": os.pathsep.join(map(str, found)),
            "PYTHONSAFEPATH": "1",  # the checkout comes last, for bench: it has a folder called fastnn
            "QEMU_CPU": self.cpu,
        }

    def run(self, tests: Sequence[str], named: str, until: float) -> int:
        """Run what is left of these tests, up to a time of ``time.time()``; pytest's exit status."""
        checkout = self.folder / "checkout"
        journal = ["-p", "journal", "--journal", str(self.journal), "--until", str(until)]
        pytest = [str(checkout / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        left_out = [f"--deselect={name}" for name in _LEFT_OUT]
        command = [*pytest, *journal, *left_out, "-k", named, *tests]
        return subprocess.run(command, cwd=checkout, env=self._environment, check=False).returncode

    def facts(self) -> str:
        """What a result must name."""
        checkout = self.folder / "checkout"
        program = (
            "import platform, sys; from importlib.metadata import version;"
            "from fastnn.kernels.cpu.compiler import machine;"
            "print(machine.describe()); print(platform.python_version(), *platform.libc_ver());"
            "print(', '.join(f'{name} {version(name)}' for name in sys.argv[1:]))"
        )
        command = [str(checkout / "python"), "-c", program, *_VERSIONS]
        told = subprocess.run(command, env=self._environment, check=True, capture_output=True, text=True).stdout
        target, python, versions = told.splitlines()
        emulator = subprocess.run(["qemu-aarch64-static", "--version"], check=True, capture_output=True, text=True)
        lines = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": commit(),
            "target": target,
            "emulator": f"{emulator.stdout.splitlines()[0]}, CPU {self.cpu}",
            "python": f"{python}, {platform.freedesktop_os_release()['PRETTY_NAME']}, arm64",
            "versions": versions,
            "data": "real data sets, too" if os.environ.get("FASTNN_DATA") else "what is shipped and made",
        }
        return "\n".join(f"{name + ':':10}{value}" for name, value in lines.items())


def _pip(*arguments: str | Path) -> None:
    _call(sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", *arguments)


def _files(*under: str) -> list[Path]:
    """Files of the checkout as they are now, those that git ignores left out."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *under]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(path for name in listed.split("\0") if name and (path := ROOT / name).is_file())


@dataclass(frozen=True)
class Journal:
    """What became of the tests: those asked for last, and those that have ended."""

    collected: Sequence[str]
    ended: dict[str, dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Journal:
        """The journal that the plugin keeps; empty where it wrote none."""
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        entries = [json.loads(line) for line in lines]
        collected = [entry["collected"] for entry in entries if "collected" in entry]
        wanted = set(collected[-1]) if collected else set()
        return cls(sorted(wanted), {entry["test"]: entry for entry in entries if entry.get("test") in wanted})

    @property
    def left(self) -> int:
        """How many are still to run."""
        return len(self.collected) - len(self.ended)

    @property
    def counts(self) -> Counter[str]:
        """How many passed, failed, were skipped."""
        return Counter(entry["outcome"] for entry in self.ended.values())

    def __str__(self) -> str:
        lines = []
        for suite in (*SUITES, ""):
            found = [entry for name, entry in self.ended.items() if name.startswith(suite)]
            counts, seconds = Counter(entry["outcome"] for entry in found), sum(entry["seconds"] for entry in found)
            told = ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped"))
            lines.append(f"{suite or 'all':32}{told}, {seconds / 60:.0f} min")
        if self.left:
            lines.append(f"{self.left} of {len(self.collected)} are left to run")
        skipped = Counter(entry["why"] for entry in self.ended.values() if entry["outcome"] == "skipped")
        lines += [f"skipped {count}: {why}" for why, count in skipped.most_common()]
        lines += [f"FAILED {name}" for name, entry in self.ended.items() if entry["outcome"] == "failed"]
        return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
