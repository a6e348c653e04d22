"""The processes of the start-up lines measure what they say."""

from __future__ import annotations

import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest

from bench import child, environment, startup
from fastnn.models import Sequential
from fastnn.recipes import RECIPES


def test_lines_without_their_data_are_skipped_and_say_so(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    skipped = {gauge.name: gauge.skip for gauge in startup.gauges()}
    assert all((reason == startup._NO_DATA) is ("digits" not in name) for name, reason in skipped.items())
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert not any(gauge.skip for gauge in startup.gauges())


def test_preparation_ends_before_the_first_batch_changes_anything():
    recipe, x, y = child._data("digits")
    model = child._model(recipe)
    before = model.get_weights()
    earlier = time.monotonic()
    seconds = child._before_first_batch(model, recipe, x, y)
    assert 0 < seconds < time.monotonic() - earlier
    assert all(np.array_equal(a, b) for a, b in zip(before, model.get_weights(), strict=True))


def test_preparation_begins_with_the_call_of_fit(monkeypatch):
    fit = Sequential.fit
    monkeypatch.setattr(Sequential, "fit", lambda *args, **kwargs: time.sleep(0.2) or fit(*args, **kwargs))
    assert child.prepare("digits") > 200


def test_the_first_batch_is_trained_when_its_time_is_taken(monkeypatch):
    model = child._model(RECIPES["digits"])
    before = model.get_weights()
    monkeypatch.setattr(child, "_model", lambda recipe: model)
    start = time.monotonic()
    assert 0 < child.first_batch(repr(start - 1), "digits") - 1 < time.monotonic() - start
    assert not np.array_equal(before[0], model.get_weights()[0])
    assert model.optimizer.iterations == 1


def test_a_fit_that_ends_too_early_is_no_measurement():
    from fastnn.callbacks import Callback

    recipe, x, y = child._data("digits")
    with pytest.raises(RuntimeError, match="without reaching its first batch"):
        child._stopped_at(child._model(recipe), recipe, x[:10], y[:10], Callback())


def test_the_cold_start_compiles_into_a_folder_of_its_own(monkeypatch):
    calls = []

    def record(*words, variables=None):
        calls.append((words, variables, os.listdir(variables["NUMBA_CACHE_DIR"]) if variables else None))
        return float(len(calls))

    monkeypatch.setattr(startup, "_child", record)
    assert startup._first_ever("digits", 5) == [1.0]
    assert startup._first_batch("digits", 2) == [3.0, 4.0]
    (words, variables, content), *warm = calls
    assert words[0] == "first_batch"
    assert words[2] == "digits"
    assert content == []
    assert not os.path.exists(variables["NUMBA_CACHE_DIR"])
    assert [given for _, given, _ in warm] == [None] * 3


def test_a_child_process_prints_its_figure():
    start = time.monotonic()
    seconds = startup._child("first_batch", repr(start), "digits")
    assert 0 < seconds < time.monotonic() - start


def test_the_idle_process_loads_the_modules_of_the_one_that_trains():
    trained = startup._child("peak", "digits", "yes")
    idle = startup._child("peak", "digits", "no", given=trained["modules"])
    wanted = {name for name in trained["modules"] if name.partition(".")[0] in ("numba", "llvmlite", "fastnn", "numpy")}
    assert "fastnn.kernels.cpu.epochs.epoch" in wanted
    assert wanted <= set(idle["modules"])
    assert 0 < idle["bytes"] < trained["bytes"]


def test_memory_is_the_difference_of_two_processes_in_megabytes(monkeypatch):
    figures = iter([9e9, 300e6, 180e6, 310e6, 181e6])
    monkeypatch.setattr(startup, "_child", lambda *words, given=(): {"bytes": next(figures), "modules": []})
    assert startup._memory("mnist", 2) == [120.0, 129.0]


def test_resident_peak_counts_what_was_touched_and_given_back():
    program = (
        "from bench.child import resident_peak\nimport numpy\nbefore = resident_peak()\n"
        "numpy.ones(10_000_000)\nprint(resident_peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=environment.ROOT, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == pytest.approx(80e6, rel=0.1)


def test_resident_peak_as_other_systems_tell_it(monkeypatch):
    """macOS in bytes, Windows in a structure, other Unix systems in kilobytes; what does not tell is an error."""

    def tell(process, counters, size):
        found = counters._obj
        assert (process.value, size, found.size) == (2**64 - 1, 72, 72)
        found.peak[0] = told
        return told

    resource = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda who: SimpleNamespace(ru_maxrss=5000))
    libraries = {"kernel32": SimpleNamespace(K32GetProcessMemoryInfo=tell)}
    monkeypatch.setitem(sys.modules, "resource", resource)
    monkeypatch.setattr(ctypes, "WinDLL", libraries.__getitem__, raising=False)
    for system, told in {"Darwin": 5000, "FreeBSD": 5000 * 1024, "Windows": 7000}.items():
        monkeypatch.setattr(platform, "system", lambda: system)  # noqa: B023 - read before the next
        assert child.resident_peak() == told, system
    told = 0
    with pytest.raises(OSError, match="K32GetProcessMemoryInfo"):
        child.resident_peak()


def test_rows_without_copies_are_the_images(monkeypatch):
    images = np.arange(2 * 784, dtype=np.uint8).reshape(2, 28, 28)
    recipe = type("", (), {"load": staticmethod(lambda folder: ((images, [3, 4]), None)), "inputs": 784})
    monkeypatch.setitem(RECIPES, "mnist", recipe)
    _, x, y, given = child._rows_without_copies("mnist")
    assert given is images
    assert y == [3, 4]
    np.testing.assert_array_equal(x, images.reshape(2, -1).astype(np.float32) / np.float32(255))


def test_output_of_a_process_its_input_and_its_failure(tmp_path):
    (tmp_path / "echo.py").write_text("import os, sys\nprint(os.environ['WORD'], sys.argv[1], sys.stdin.read())\n")
    variables = {"PYTHONPATH": str(tmp_path), "WORD": "a"}
    assert environment.output_of("echo", ["b"], variables, given="c") == "a b c\n"
    with pytest.raises(RuntimeError, match=r"(?s)python -m echo failed:.*IndexError"):
        environment.output_of("echo", [], variables)


def test_a_job_by_its_name():
    assert json.loads(environment.output_of("bench.child", ["prepare", "digits"])) > 0
