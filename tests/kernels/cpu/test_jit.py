"""The disk cache: hit in the next process, never stale, and no more than a warning where it cannot be used."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings

import numba
import pytest
from numba import types

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
