"""The disk cache: hit in the next process, never stale, and no more than a warning where it cannot be used."""

from __future__ import annotations

import ctypes
import gc
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numba
import pytest
from numba import types

import fastnn
import fastnn.kernels
from fastnn.kernels.cpu import jit

PROGRAM = """
import numpy as np
from fastnn import ops
from fastnn.kernels.cpu import elementwise, jit
{before}
x = np.linspace(-1, 1, 100).astype("f")
assert np.allclose(ops.tanh(x), np.tanh(x))
stats = elementwise._forward.compiled(x.dtype, False).stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def run(cache, before=""):
    """(hits, misses, what was written to stderr) of a process that uses one kernel."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(before=before)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    hits, misses = map(int, done.stdout.split())
    return hits, misses, done.stderr


def test_second_process_loads_from_disk(tmp_path):
    assert run(tmp_path)[:2] == (0, 1)
    assert run(tmp_path)[:2] == (1, 0)


def test_changed_sources_are_compiled_anew(tmp_path):
    """The hash of all sources is part of the key, so an edited helper in another file cannot run stale."""
    run(tmp_path)
    assert run(tmp_path, "jit.source_hash = lambda: 12345")[:2] == (0, 1)
    assert run(tmp_path)[:2] == (1, 0)


def test_hash_covers_every_source(monkeypatch, tmp_path):
    before = jit.source_hash.__wrapped__()
    assert before == jit.source_hash.__wrapped__()
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("x = 1\n")
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "a.py"))
    other = jit.source_hash.__wrapped__()
    (tmp_path / "b.py").write_text("x = 2\n")
    assert len({before, other, jit.source_hash.__wrapped__()}) == 3


@pytest.mark.parametrize("suffix", [".nbi", ".nbc"])
def test_truncated_cache_file_costs_a_warning(tmp_path, suffix):
    run(tmp_path)
    for path in tmp_path.rglob(f"*{suffix}"):
        path.write_bytes(path.read_bytes()[:40])
    _, _, errors = run(tmp_path)
    assert errors.count("compiles its kernels anew") == 1


def test_unwritable_cache_costs_one_warning(monkeypatch):
    """Numba raises where no folder of its search can be written to: kernels compile all the same."""
    real = numba.njit

    def njit(*args, cache=False, **options):
        if cache:
            raise RuntimeError("cannot cache function: no locator available")
        return real(*args, **options)

    monkeypatch.setattr(numba, "njit", njit)
    monkeypatch.setattr(jit, "_warned", set())
    with pytest.warns(RuntimeWarning, match=r"no locator available.*set NUMBA_CACHE_DIR"):
        compiled = jit._njit(types.int64(types.int64), lambda x: -x, False)
    assert compiled(3) == -3
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert jit._njit(types.int64(types.int64), lambda x: x, False)(3) == 3


READ_ONLY = """
import os, sys
import numpy as np
import fastnn
from fastnn import _environment, ops
site, *folders = sys.argv[1:]
assert fastnn.__file__.startswith(site), fastnn.__file__
x = np.linspace(-1, 1, 100).astype("f")
assert np.allclose(ops.tanh(x), np.tanh(x))
assert np.allclose(ops.add(x, x), 2 * x)
print(any(os.access(folder, os.W_OK) for folder in folders))
print(_environment._kernel_cache())
"""
# prctl(2): no process started from here on overrides the permissions of files, not even root's.
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE = 24, 1


def heed_permissions():
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, 0, 0, 0)


@pytest.fixture
def read_only(tmp_path):
    """An installed fastnn, a home and a cache folder, none of which can be written to."""
    site, home, cache = tmp_path / "site", tmp_path / "home", tmp_path / "cache"
    no_caches = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(fastnn.__file__).parent, site / "fastnn", ignore=no_caches)
    shutil.copytree(Path(fastnn.kernels.__file__).parent, site / "fastnn" / "kernels", ignore=no_caches)
    home.mkdir()
    cache.mkdir()
    folders = [path for path in (site, *site.rglob("*"), home, cache) if path.is_dir()]
    for folder in folders:
        folder.chmod(0o555)
    yield site, home, cache
    for folder in folders:
        folder.chmod(0o755)


@pytest.mark.skipif(sys.platform != "linux", reason="drops root's right to write everywhere as Linux does")
@pytest.mark.parametrize("configured", [False, True], ids=["home", "NUMBA_CACHE_DIR"])
def test_read_only_folders_cost_one_warning(read_only, configured):
    site, home, cache = read_only
    unset = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment.update(HOME=str(home), PYTHONPATH=str(site), PYTHONDONTWRITEBYTECODE="1")
    if configured:
        environment["NUMBA_CACHE_DIR"] = str(cache)
    done = subprocess.run(
        [sys.executable, "-c", READ_ONLY, str(site), str(site / "fastnn" / "kernels" / "cpu"), str(home), str(cache)],
        env=environment,
        cwd=home,
        preexec_fn=heed_permissions,
        capture_output=True,
        text=True,
        check=True,
    )
    writable, info = done.stdout.splitlines()
    if writable == "True":
        pytest.skip("this user may write everywhere")
    assert done.stderr.count("Warning") == 1, done.stderr
    assert "compiles its kernels anew in this process" in done.stderr
    assert "set NUMBA_CACHE_DIR to a folder that can be written to" in done.stderr
    assert info.startswith("none of its folders can be written to")
    assert not any(path.suffix in (".nbi", ".nbc") for path in site.parent.rglob("*"))


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
