"""Shared by all tests: the oracles on the path, one place for compiled kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.browser import CHROMIUM, DRIVER, LACKING, started

for folder in ("kernels", "support"):
    sys.path.insert(0, str(Path(__file__).parent / folder))


# From so many tests on nearly all kernels are needed, and compiled first: that takes a minute a dtype, and a core each.
MANY = 5000


@pytest.fixture(scope="session", autouse=True)
def _compiled_kernels_stay_where_they_are(request):
    """Tests move the user's cache to keep it out of theirs: not the kernels that are compiled in this process."""
    from fastnn.kernels.cpu.compiler import store
    from fastnn.kernels.table import DTYPES

    store.entry()
    if sum(item.get_closest_marker("gpu") is None for item in request.session.items) >= MANY:
        for programs in _warmups(DTYPES):
            processes = [subprocess.Popen([sys.executable, "-c", program]) for program in programs]
            for process in processes:
                process.wait()  # what fails here does so in the tests too


def _warmups(dtypes):
    """Programs to be run one after the other, each several side by side; of two workers each begins with another."""
    programs = [f"import fastnn; fastnn.warmup([{dtype!r}])" for dtype in dtypes]
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker is None:
        return [programs]
    first = int(worker.removeprefix("gw")) % len(programs)
    return [[program] for program in programs[first:] + programs[:first]]


@pytest.fixture
def control_c():
    """Control-C raises KeyboardInterrupt, in a process in the background too, which ignores it else."""
    from fastnn.kernels.interrupts import held

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert held._outermost is None
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def browser():
    """Headless Chromium, driven through its WebDriver; for slow tests, which are skipped where there is none."""
    pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install '.[browser]'")
    if not (DRIVER and CHROMIUM):
        pytest.skip(LACKING)
    made = started()
    yield made
    made.quit()
