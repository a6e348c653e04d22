"""The emulated tests: what became of each is kept, and left out the next time; what they start is emulated, too."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ci.arm64 import __main__ as arm64

GUEST = Path(arm64.__file__).with_name("guest")
TESTS = """
import pytest
def test_first():
    pass
def test_second():
    assert 1 == 2
@pytest.mark.skip(reason="not here")
def test_third():
    pass
@pytest.mark.xfail(reason="known")
def test_fourth():
    assert 1 == 2
@pytest.fixture
def broken():
    raise OSError("no fixture")
def test_fifth(broken):
    pass
"""


@pytest.fixture
def run(tmp_path):
    """Run pytest with the plugin on the tests above, until a time; its exit status and the journal."""
    (tmp_path / "test_some.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    journal = tmp_path / "journal.jsonl"

    def run(until, *arguments):
        environment = {**os.environ, "PYTHONPATH": str(GUEST), "FASTNN_GUEST_PYTHON": sys.executable}
        options = ["-p", "journal", "--journal", str(journal), "--until", str(until), *arguments]
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(tmp_path)]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        return done.returncode, arm64.Journal.read(journal)

    return run


def test_what_became_of_each_test_is_kept_and_left_out_the_next_time(run):
    status, journal = run(time.time() - 1)
    assert (status, journal.left, journal.counts) == (2, 4, {"passed": 1})
    status, journal = run(time.time() + 600)
    assert (status, journal.left) == (1, 0)
    assert journal.counts == {"passed": 1, "failed": 2, "skipped": 2}
    lines = str(journal).splitlines()
    assert "skipped 1: not here" in lines
    assert "FAILED test_some.py::test_second" in lines
    assert "no fixture" in journal.ended["test_some.py::test_fifth"]["why"]
    status, again = run(time.time() + 600)
    assert status == 5
    assert again == journal


def test_a_selection_is_counted_alone(run):
    run(time.time() + 600)
    _, journal = run(time.time() + 600, "-k", "first or third")
    assert journal.counts == {"passed": 1, "skipped": 1}


def test_a_journal_that_was_never_begun_is_empty(tmp_path):
    assert arm64.Journal.read(tmp_path / "none") == arm64.Journal([], {})


def test_programs_that_tests_start_are_emulated_too():
    """An interpreter that is told so takes a script for itself, wherever it is asked what to start."""
    environment = {**os.environ, "PYTHONPATH": str(GUEST), "FASTNN_GUEST_PYTHON": "/guest/python"}
    done = subprocess.run(
        [sys.executable, "-c", "import sys; print(sys.executable)"],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "/guest/python\n"


def test_a_part_of_the_guest_is_made_once_and_again_of_something_else(tmp_path):
    guest, made = arm64.Guest(tmp_path, "cortex-a72"), []

    def make(place):
        place.mkdir()
        made.append(place.name)

    def fail(place):
        make(place)
        raise RuntimeError("interrupted")

    guest._once("site", "numpy", make)
    guest._once("site", "numpy", make)
    assert made == ["site"]
    with pytest.raises(RuntimeError, match="interrupted"):
        guest._once("site", "numpy, numba", fail)
    guest._once("site", "numpy", make)
    assert made == ["site"] * 3


def test_outcomes_belong_to_sources_and_cpu(tmp_path, monkeypatch):
    one, other = (arm64.Guest(tmp_path, cpu).journal for cpu in ("cortex-a72", "neoverse-n1"))
    assert one != other
    changed = tmp_path / "changed.py"
    changed.write_text("")
    monkeypatch.setattr(arm64, "ROOT", tmp_path)
    monkeypatch.setattr(arm64, "_files", lambda *under: [changed])
    assert arm64.Guest(tmp_path, "cortex-a72").journal not in (one, other)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setattr(arm64.shutil, "which", lambda name: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(SystemExit, match=r"as root, apt-get install .*qemu-user-static mmdebstrap"):
        arm64._install_tools()
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(SystemExit, match=r"got .* on aarch64, wants Linux on x86_64"):
        arm64.main([])


@pytest.mark.parametrize(
    ("status", "minutes", "ended"),
    [(0, "inf", 0), (1, "inf", 1), (5, "inf", 0), (2, "-1", 3), (2, "60", "pytest ended with 2"), (3, "inf", "with 3")],
)
def test_the_result_is_that_of_all_tests_and_says_how_many_are_left(
    status, minutes, ended, tmp_path, monkeypatch, capsys
):
    tests = {"a": "passed", "b": "failed" if status == 1 else "skipped"}
    written = {name: {"test": name, "outcome": outcome, "seconds": 60, "why": ""} for name, outcome in tests.items()}
    journal = arm64.Journal(["a", "b", "c"][: 3 if ended == 3 else 2], written)
    monkeypatch.setattr(arm64, "_install_tools", lambda: None)
    monkeypatch.setattr(arm64.Guest, "make", lambda guest: None)
    monkeypatch.setattr(arm64.Guest, "run", lambda guest, tests, named, until: status)
    monkeypatch.setattr(arm64.Guest, "facts", lambda guest: "date: today")
    monkeypatch.setattr(arm64.Journal, "read", lambda path: journal)
    monkeypatch.setattr(arm64, "ROOT", tmp_path)
    monkeypatch.setattr(arm64, "RESULT", tmp_path / "results" / "arm64.txt")
    monkeypatch.setattr(arm64.Guest, "journal", None)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    if isinstance(ended, str):
        with pytest.raises(SystemExit, match=ended):
            arm64.main(["--minutes", minutes])
    else:
        assert arm64.main(["--minutes", minutes]) == ended
        told = arm64.RESULT.read_text()
        assert "date: today\n\n" in told
        assert ("1 of 3 are left to run" in told) == (ended == 3)
        arm64.RESULT.unlink()
        assert arm64.main(["-k", "some", "--minutes", minutes]) == ended
    assert not arm64.RESULT.exists()
