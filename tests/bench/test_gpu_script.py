"""``bench/gpu.sh``: its steps, time limits, logs and exit status, by a Python that only writes down its calls."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[2] / "bench"
SCRIPT = BENCH / "gpu.sh"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a script for Linux")

# Writes its arguments, and fails or waits where one of them says so.
STUB = """#!/bin/bash
echo "$*" >>"$CALLS"
case "$*" in
    *"$FAIL"*) echo "no such luck"; exit 3 ;;
    *"-m venv"*) mkdir -p "${@: -1}/bin" && cp "$0" "${@: -1}/bin/python" ;;
    *purelib*) echo "$TMP_SITE" ;;
    *getsitepackages*) echo /the/machines ;;
esac
"""


@pytest.fixture
def stub(tmp_path):
    """Runs the script with stubs for Python; what it printed, and the commands they got."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "python3").write_text(STUB)
    (folder / "python3").chmod(0o755)
    (tmp_path / "site").mkdir()

    def run(*arguments, fail="nothing", script=SCRIPT):
        variables = {"CALLS": str(tmp_path / "calls"), "FAIL": fail, "TMP_SITE": str(tmp_path / "site")}
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            [script, *map(str, arguments)],
            env={**os.environ, **variables, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        calls = tmp_path / "calls"
        return done, calls.read_text().splitlines() if calls.exists() else []

    run.python = folder / "python3"
    return run


def steps(folder):
    """Each step's name and result."""
    return dict(re.findall(r"^([\w-]+): +(.*), \d+ s$", (folder / "summary.txt").read_text(), re.MULTILINE))


def test_scripts_may_be_run():
    for name in ("gpu.sh", "gpu_wheels.sh"):
        assert (BENCH / name).stat().st_mode & stat.S_IXUSR


def test_all_steps_end_in_ten_minutes():
    text = SCRIPT.read_text()
    limits = {name: int(limit) for name, limit in re.findall(r'step "?([\w-]+?)(?:-\$threads")? (\d+) ', text)}
    assert set(limits) == {
        *("machine", "environment", "install", "device", "tests", "kernels", "training", "calls"),
        "warmup",
        "engine",
        "matmul",
    }
    assert sum(limits.values()) + 4 * limits["matmul"] < 600
    for group in ("kernels", "training"):
        seconds = re.search(rf"bench {group} .*--seconds (\d+)", text)
        assert int(seconds[1]) + 20 <= limits[group]


def test_without_a_device_it_says_why_and_measures_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    folder = tmp_path / "found"
    done = subprocess.run(
        [SCRIPT, "--python", sys.executable, folder], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["device.log", "machine.log", "summary.txt"]
    assert steps(folder) == {"machine": "ok", "device": "FAILED with status 1"}
    assert "backend 'cuda' is unavailable" in done.stdout.splitlines()[-1]
    assert (folder / "summary.txt").read_text() == done.stdout


def test_a_run_of_all_steps(stub, tmp_path):
    done, calls = stub("--python", stub.python, "found")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("nothing failed\n")
    found = steps(tmp_path / "found")
    assert list(found)[:8] == ["machine", "device", "tests", "kernels", "training", "calls", "warmup", "engine"]
    counts = [count for count in (1, 2, 4, 8, 16) if count <= len(os.sched_getaffinity(0))]
    assert list(found)[8:] == [f"matmul-{count}" for count in counts]
    assert set(found.values()) == {"ok"}
    assert all((tmp_path / "found" / f"{name}.log").exists() for name in found)
    joined = "\n".join(calls)
    assert "-m pytest -m gpu" in joined
    assert f"bench kernels --backend cuda --quick --seconds 70 --json {tmp_path}/found/kernels.json" in joined
    assert f"bench training --backend cuda --quick --seconds 50 --json {tmp_path}/found/training.json" in joined
    assert f"--json {tmp_path}/found/calls.json" in joined
    assert "bench scaling threads mnist fashion wide reuters" in joined
    assert f"--threads 1 --json {tmp_path}/found/matmul-1.json" in joined
    assert "pip" not in joined


def test_what_failed_is_said_and_the_others_run(stub, tmp_path):
    done, _ = stub("--python", stub.python, "found", fail="-m pytest")
    assert done.returncode == 1
    assert "FAILED" in done.stdout.splitlines()[-1]
    found = steps(tmp_path / "found")
    assert found["tests"] == "FAILED with status 3"
    assert {result for name, result in found.items() if name != "tests"} == {"ok"}
    assert (tmp_path / "found" / "tests.log").read_text() == "no such luck\n"


def test_wheels_are_installed_without_an_index(stub, tmp_path):
    (tmp_path / "wheels").mkdir()
    done, calls = stub("found", "wheels")
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(steps(tmp_path / "found"))[:3] == ["machine", "environment", "install"]
    assert (tmp_path / "site" / "machine.pth").read_text() == "/the/machines\n"
    (pip,) = [call for call in calls if "pip install" in call]
    assert f"--no-index --find-links {tmp_path}/wheels -e {BENCH.parent}[test,bench,gpu]" in pip
    done, calls = stub("again", fail="import cupy")
    assert "--no-index" not in calls[-1]
    assert re.search(r"\[test,bench,gpu,cuda1[23]\]$", next(call for call in calls[::-1] if "pip install" in call))


@pytest.mark.parametrize("release", [12, 13])
def test_the_wheels_say_which_cupy(stub, tmp_path, release):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / f"cupy_cuda{release}x-14.2.0-any.whl").touch()
    _, calls = stub("found", "wheels", fail="import cupy")
    assert next(call for call in calls if "pip install" in call).endswith(f"[test,bench,gpu,cuda{release}]")


def test_an_installation_that_fails_is_the_end(stub, tmp_path):
    done, calls = stub("found", fail="pip install")
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1] == "no such luck"
    assert "pip install" in calls[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "usage: bench/gpu.sh"),
        (["a", "b", "c"], "usage: bench/gpu.sh"),
        (["--python"], "usage: bench/gpu.sh"),
        (["--python", "no-such-python", "found"], "--python: there is no no-such-python"),
        (["found", "no/wheels"], "no/wheels"),
    ],
)
def test_bad_arguments(stub, arguments, message):
    done, calls = stub(*arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert calls == []


def test_wheels_are_collected_for_the_extras(stub, tmp_path):
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "fastnn_kernels-1-py3-none-any.whl").touch()
    done, calls = stub("wheels", "cuda13", script=BENCH / "gpu_wheels.sh")
    assert done.returncode == 0, done.stderr
    assert f"-w wheels {BENCH.parent}[test,bench,gpu,cuda13] setuptools>=77" in calls[-1]
    assert list((tmp_path / "wheels").iterdir()) == []
    done, _ = stub("wheels", "cuda11", script=BENCH / "gpu_wheels.sh")
    assert done.returncode == 2
    assert "usage" in done.stderr
