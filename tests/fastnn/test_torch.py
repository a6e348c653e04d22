"""``fastnn.torch`` where PyTorch is not installed: the package is there, its names say what is missing."""

from __future__ import annotations

import subprocess
import sys

from fastnn.errors import installing

_WITHOUT = """
import sys
sys.modules["torch"] = None
import fastnn.torch
assert "linear" in dir(fastnn.torch) and "relu" in fastnn.torch.__all__
for use in ("fastnn.torch.linear", "fastnn.torch.functions"):
    try:
        eval(use)
    except ImportError as error:
        print(error)
try:
    from fastnn.torch import relu
except ImportError as error:
    print(error)
"""


def test_names_say_what_is_missing():
    told = subprocess.run([sys.executable, "-c", _WITHOUT], capture_output=True, text=True, check=True).stdout
    assert told.splitlines() == [f"fastnn.torch needs PyTorch, which is not installed: {installing('peers')}"] * 3


def test_the_package_loads_without_pytorch():
    program = "import sys, fastnn.torch; print([name for name in ('torch', 'numba') if name in sys.modules])"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"
