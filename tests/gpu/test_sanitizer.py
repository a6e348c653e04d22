"""compute-sanitizer finds nothing in the kernels, and what is planted in them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from tests.cuda_host.places import compiles_for_host, device_only
from tests.gpu import sanitized

_FOUND = 86
_SECONDS = 100


def _status(*command: str) -> tuple[int, str]:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=_SECONDS, cwd=sanitized.ROOT, env=os.environ
    )
    return done.returncode, f"{done.stdout}\n{done.stderr}"[-8000:]


@pytest.fixture
def sanitizer(cupy):
    """Runs the program under a tool; its exit status is 86 where the tool has found something."""
    found = shutil.which("compute-sanitizer")
    if found is None:
        pytest.skip("compute-sanitizer is not on PATH")
    program = (sys.executable, "-m", sanitized.MODULE)
    return lambda tool, *arguments: _status(
        found, "--tool", tool, "--error-exitcode", str(_FOUND), *program, *arguments
    )


@device_only
@pytest.mark.parametrize("tool", ["memcheck", "racecheck"])
def test_the_sanitizer_finds_nothing(sanitizer, tool):
    status, said = sanitizer(tool)
    assert status == 0, said


@device_only
@pytest.mark.parametrize(("tool", "planted"), [("memcheck", "--fault"), ("racecheck", "--race")])
def test_the_sanitizer_finds_what_is_planted(sanitizer, tool, planted):
    status, said = sanitizer(tool, planted)
    assert status == _FOUND, said


@compiles_for_host
def test_the_program_runs_on_the_host():
    status, said = _status(sys.executable, "-m", sanitized.MODULE, "--host")
    assert status == 0, said


@compiles_for_host
def test_the_planted_fault_is_one_on_the_host():
    status, said = _status(sys.executable, "-m", sanitized.MODULE, "--host", "--fault")
    assert status != 0
    assert "memory beside an array was written to" in said
