"""Compiled kernels: loaded in the next process, never stale, never beside the sources, and one warning at most."""

from __future__ import annotations

import gc
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numba import types

import fastnn
import fastnn.kernels
from bench import environment
from fastnn.kernels.cpu import jit
from fastnn.kernels.cpu.compiler import compiling, machine, store
from fastnn.kernels.cpu.simd import library

# A kernel of its own, and one micro-kernel: compiled in a moment.
PROGRAM = """
import numpy as np
from numba import types
from fastnn.kernels.cpu.simd import library
from fastnn.kernels.cpu.jit import flat, kernel
library.MICRO_KERNELS = library.MICRO_KERNELS[:1]
built = []
library._build = lambda *args, build=library._build: built.append(1) or build(*args)

@kernel(lambda dtype: types.void(flat(dtype)))
def double(MR, NR):
    def double(x, words, t, tasks):
        x[0] *= 2
    return double

x = np.full(1, 3.0)
double(x.dtype, 0.0, x)
assert x[0] == 6
stats = double.dispatchers[x.dtype.char].stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()) + len(built))
"""
HIT, MISS = (1, 0), (0, 2)  # the kernel and the library of micro-kernels
# What kernels are installed as.
SOURCES = {".py", ".pyc", ".cu", ".cuh"}

PLACES = ("NUMBA_CACHE_DIR", "FASTNN_CACHE", "XDG_CACHE_HOME")


# A process that becomes what its arguments say. prctl(2): from there on nothing overrides the permissions of
# files, not even root's right to (PR_CAPBSET_DROP, CAP_DAC_OVERRIDE).
HEEDING = "import ctypes, os, sys; ctypes.CDLL(None).prctl(24, 1, 0, 0, 0); os.execv(sys.argv[1], sys.argv[1:])"


def start(variables, program=PROGRAM, heeding=False):
    """A process with these variables and none other that says where compiled kernels are; it finds no checkout (-P).

    With ``heeding`` it has no more rights to files than their permissions give.
    """
    kept = {name: value for name, value in os.environ.items() if name not in PLACES}
    command = [sys.executable, "-P", "-c", program]
    return subprocess.Popen(
        [sys.executable, "-c", HEEDING, *command] if heeding else command,
        env={**kept, **{name: str(value) for name, value in variables.items()}},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(process):
    """What a process printed, and wrote to standard error."""
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return out, errors


def run(variables, **how):
    """(hits, misses, what was written to standard error) of a process that uses one kernel."""
    out, errors = finished(start(variables, **how))
    return *map(int, out.split()), errors


def entries(folder):
    return sorted(path.parent for path in folder.rglob("entry.json"))


@pytest.fixture
def installed(tmp_path):
    """Install a copy of fastnn into a new folder of the name given; the variables with which Python finds it."""
    plain = shutil.ignore_patterns("__pycache__", "kernels")

    def _installed(name):
        site = tmp_path / name
        shutil.copytree(Path(fastnn.__file__).parent, site / "fastnn", ignore=plain)
        shutil.copytree(Path(fastnn.kernels.__file__).parent, site / "fastnn" / "kernels", ignore=plain)
        return site, {"PYTHONPATH": site, "FASTNN_CACHE": tmp_path / "cache"}

    return _installed


def test_the_next_process_loads_what_two_compiled_at_the_same_time(tmp_path):
    """Here with what an op runs."""
    program = """
import numpy as np
from fastnn import ops
from fastnn.kernels.cpu import elementwise
from fastnn.kernels.cpu.simd import library
library.MICRO_KERNELS = tuple(k for k in library.MICRO_KERNELS if k.emit.__module__ == library.elementwise.__name__)
x = np.linspace(-1, 1, 100).astype("f")
built = []
library._build = lambda *args, build=library._build: built.append(1) or build(*args)
assert np.allclose(ops.tanh(x), np.tanh(x))
stats = elementwise._forward.dispatchers[x.dtype.char].stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()) + len(built))
"""
    variables = {"FASTNN_CACHE": tmp_path}
    both = [start(variables, program) for _ in range(2)]
    assert all(errors == "" for _, errors in map(finished, both))
    assert run(variables, program=program) == (*HIT, "")
    (entry,) = entries(tmp_path / "kernels")
    assert all(".part-" not in path.name for path in entry.iterdir())


@pytest.mark.slow
def test_another_target_is_compiled_for_anew(tmp_path):
    """CPU and features are part of the key of kernels and of micro-kernels: one entry serves unlike computers."""
    if machine._target()[0] not in ("x86_64", "amd64"):
        pytest.skip("targets x86 levels")
    for target in ("nehalem", "haswell"):
        variables = {"FASTNN_CACHE": tmp_path, **environment.TARGETS[target]}
        assert run(variables) == (*MISS, "")
        assert run(variables) == (*HIT, "")
    assert len(entries(tmp_path)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tile", "caches"])
def test_another_tile_and_other_caches_are_compiled_for_anew(tmp_path, name):
    """They are the host's, and a home may be many hosts'."""
    variables = {"FASTNN_CACHE": tmp_path}
    other = {
        "tile": "machine.tile = lambda itemsize: machine.Tile(2, 2, 2)",
        "caches": "machine.caches = lambda: machine.Caches(1, 2, 3, 4)",
    }
    elsewhere = f"from fastnn.kernels.cpu.compiler import machine\n{other[name]}\n{PROGRAM}"
    assert run(variables) == (*MISS, "")
    assert run(variables, program=elsewhere) == (*MISS, "")
    assert run(variables, program=elsewhere) == (*HIT, "")
    assert run(variables) == (*HIT, "")


@pytest.mark.slow
def test_numbas_own_variable_wins(tmp_path):
    variables = {"NUMBA_CACHE_DIR": tmp_path / "numba", "FASTNN_CACHE": tmp_path / "fastnn", "HOME": tmp_path / "home"}
    assert run(variables) == (*MISS, "")
    assert [path.parent for path in entries(tmp_path)] == [tmp_path / "numba" / "fastnn"]
    assert run(variables) == (*HIT, "")


# Counts with a helper that stands in another file, in a package inside the package of kernels.
COUNTER = """
from numba import types
from fastnn.kernels.cpu.jit import flat, kernel
from fastnn.kernels.cpu.deep.deeper.helper import step

@kernel(lambda dtype: types.void(flat(dtype)))
def count(MR, NR):
    def count(x, words, t, tasks):
        x[0] += step()
    return count
"""
COUNT = """
import numpy as np
from fastnn.kernels.cpu import counter
from fastnn.kernels.cpu.compiler import store
from fastnn.kernels.cpu.simd import library
library.MICRO_KERNELS = ()
x = np.zeros(1)
counter.count(x.dtype, 0.0, x)
print(int(x[0]), sum(counter.count.dispatchers[x.dtype.char].stats.cache_hits.values()))
"""


def test_an_edited_helper_is_never_stale(installed, tmp_path):
    """Numba's own key names neither the functions that a kernel calls nor their files: the sources' hash covers all."""
    site, variables = installed("site")
    kernels = site / "fastnn" / "kernels" / "cpu"
    (kernels / "counter.py").write_text(COUNTER)
    helper = kernels / "deep" / "deeper" / "helper.py"
    helper.parent.mkdir(parents=True)
    text = "from fastnn.kernels.cpu.compiler.parts import inlined\n\n\n@inlined\ndef step():\n    return {}\n"

    def counted(step):
        helper.write_text(text.format(step))
        return tuple(map(int, finished(start(variables, COUNT))[0].split()))

    assert counted(1) == (1, 0)
    assert counted(1) == (1, 1)
    # of another size: Python takes its own byte code for a file of the same size and second
    assert counted(20) == (20, 0)
    assert counted(1) == (1, 1), "the entry of the sources before is kept"
    assert len(entries(tmp_path)) == 2


@pytest.mark.slow
def test_two_installations_share_nothing_and_hold_nothing_but_sources(installed, tmp_path):
    sites = [installed(name) for name in ("one", "two")]
    for number, (_, variables) in enumerate(sites, 1):
        assert run(variables) == (*MISS, "")
        assert len(entries(tmp_path / "cache")) == number
    for site, variables in sites:
        assert run(variables) == (*HIT, "")
        assert {path.suffix for path in (site / "fastnn" / "kernels").rglob("*") if path.is_file()} <= SOURCES


@pytest.mark.slow
def test_a_damaged_file_is_compiled_anew_and_replaced(tmp_path):
    variables = {"FASTNN_CACHE": tmp_path}
    run(variables)
    (entry,) = entries(tmp_path)
    for path in entry.iterdir():
        if path.name != "entry.json":
            path.write_bytes(path.read_bytes()[:100])
    assert run(variables) == (*MISS, "")
    assert run(variables) == (*HIT, "")


@pytest.fixture
def read_only(tmp_path):
    """Make folders, and files in them, that cannot be written to; skip the test where this user may all the same."""
    if sys.platform != "linux":
        pytest.skip("drops root's right to write everywhere as Linux does")
    made = []

    def _read_only(*folders):
        for folder in folders:
            folder.mkdir(exist_ok=True)
            made.extend(path for path in (folder, *folder.rglob("*")) if path.is_dir())
        for path in made:
            path.chmod(0o555)
        program = f"import os; print(any(os.access(path, os.W_OK) for path in {[*map(str, made)]}))"
        if "True" in finished(start({}, program, heeding=True))[0]:
            pytest.skip("this user may write everywhere")

    yield _read_only
    for path in made:
        path.chmod(0o755)


@pytest.mark.parametrize(
    "variable",
    ["FASTNN_CACHE", *(pytest.param(name, marks=pytest.mark.slow) for name in ("NUMBA_CACHE_DIR", "HOME"))],
)
def test_a_cache_that_cannot_be_written_to_costs_one_warning(read_only, tmp_path, variable):
    home, cache = tmp_path / "home", tmp_path / "cache"
    read_only(home, cache)
    variables = {"HOME": home, variable: cache}
    program = f"{PROGRAM}double.compiled(np.dtype('f'))\n"
    hits, misses, errors = run(variables, program=program, heeding=True)
    assert (hits, misses) == MISS
    assert errors.count("Warning") == 1, errors
    assert "compiles its kernels anew in this process" in errors
    named = "NUMBA_CACHE_DIR" if variable == "NUMBA_CACHE_DIR" else "FASTNN_CACHE"
    assert f"set {named} to a folder that can be written to" in errors
    info = "from fastnn import _environment; print(_environment._kernel_cache(), _environment.has_kernels('epoch'))"
    printed, _ = finished(start(variables, info, heeding=True))
    assert "0 files, 0 bytes, cannot be written to (Permission denied)" in printed
    assert f"set {named} to a folder that can" in printed
    assert printed.endswith(" False\n")
    assert not any(path.is_file() for folder in (home, cache) for path in folder.rglob("*"))


@pytest.mark.slow
def test_a_cache_that_can_be_read_only_is_read(read_only, tmp_path):
    """Such as one that was filled while a container's image was built."""
    variables = {"FASTNN_CACHE": tmp_path / "cache"}
    run(variables)
    read_only(tmp_path / "cache")
    assert run(variables, heeding=True) == (*HIT, "")


def test_no_place_for_a_cache_costs_one_warning():
    """A user without a home, as in some containers."""
    program = """
import os
from pathlib import Path
from fastnn import _environment
from fastnn.kernels.cpu.simd import library
def homeless(*_):
    raise RuntimeError("Could not determine home directory.")
Path.expanduser = homeless
library.MICRO_KERNELS = ()
assert not _environment.has_kernels("epoch")
print(_environment._kernel_cache())
import numba
library.load(numba.float32)
library.load(numba.float64)
"""
    out, errors = finished(start({}, program))
    assert out.startswith("none (this user has no home folder, and FASTNN_CACHE names no other place")
    assert errors.count("Warning") == 1, errors


def test_code_with_an_address_of_its_process_is_not_kept(monkeypatch):
    from types import SimpleNamespace

    monkeypatch.setattr(store, "_reported", False)
    overloads = compiling._Overloads(lambda x: x, "")
    compiled = SimpleNamespace(library=SimpleNamespace(has_dynamic_globals=True))
    with pytest.warns(RuntimeWarning, match=r"<lambda> holds an address of this process"):
        overloads.save_overload("int64(int64)", compiled)


@pytest.mark.parametrize("enabled", [True, False])
def test_compiling_leaves_the_collector_as_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with jit._without_collection():
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        with pytest.raises(ZeroDivisionError), jit._without_collection():
            _ = 1 / 0
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()


# ---------------------------------------------------------------------------------------------------------- interrupts


@pytest.mark.usefixtures("control_c")
@pytest.mark.parametrize("called", ["_raw_object_cache_notify", "_raw_object_cache_getbuffer"])
def test_an_interrupt_while_llvm_calls_python(called, tmp_path, monkeypatch):
    """While it hands over code, or asks for what was kept: neither the interrupt nor the code is lost."""
    entry, dtype, seen = store.Entry(tmp_path, store.entry().label), np.dtype("float32"), []
    library.load(types.float32)
    monkeypatch.setattr(store, "entry", lambda: entry)

    def kernel():
        return jit.Kernel(lambda MR, NR: lambda x, words, t, tasks: x + MR, lambda dtype: types.int64(types.int64))

    def interrupt(frame, event, argument):
        if frame.f_code.co_name == called:
            seen.append(frame)
            signal.raise_signal(signal.SIGINT)

    if called == "_raw_object_cache_getbuffer":
        kernel().compiled(dtype)
    factory, before = kernel(), sys.gettrace()
    sys.settrace(interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            factory.compiled(dtype)
    finally:
        sys.settrace(before)
    assert seen
    assert factory(dtype, 0.0, 1) == 1 + machine.tile(4).MR
    assert len(entry.files()) == 1


def test_an_interrupt_while_the_first_kernels_compile(tmp_path):
    """The keys are pressed while LLVM is at work, and Python is not."""
    program = """
import os, signal, sys, threading, time
import numpy as np
from fastnn import ops
from fastnn.kernels.cpu.simd import library
library.MICRO_KERNELS = tuple(k for k in library.MICRO_KERNELS if k.emit.__module__ == library.elementwise.__name__)
signal.signal(signal.SIGINT, signal.default_int_handler)
main, x = threading.get_ident(), np.linspace(-1, 1, 100).astype("f")

def functions(frame):
    while frame is not None:
        yield frame.f_code.co_name
        frame = frame.f_back

def press():
    while "finalize_object" not in functions(sys._current_frames()[main]):
        time.sleep(1e-3)
    os.kill(os.getpid(), signal.SIGINT)

threading.Thread(target=press, daemon=True).start()
try:
    ops.tanh(x)
except KeyboardInterrupt:
    print("interrupted")
assert np.allclose(ops.tanh(x), np.tanh(x))
"""
    assert finished(start({"FASTNN_CACHE": tmp_path}, program)) == ("interrupted\n", "")
