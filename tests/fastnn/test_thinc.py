"""``fastnn.thinc`` where thinc is not installed; the rest is tests/peers/test_thinc.py."""

from __future__ import annotations

import subprocess
import sys

from fastnn.errors import installing


def test_it_says_what_is_missing():
    program = """
import sys
sys.modules["thinc"] = None  # as if it were not installed
import fastnn
print(fastnn.thinc.__all__)
for name in ("FastnnOps", "Adam"):
    try:
        getattr(fastnn.thinc, name)
    except ImportError as error:
        print(error)
try:
    fastnn.thinc.FastOps
except AttributeError as error:
    print(error)
"""
    lines = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    names, *missing, nonsense = lines.splitlines()
    assert names == "['SGD', 'Adam', 'FastnnOps', 'Optimizer']"
    assert missing == [
        f"fastnn.thinc.{name} needs thinc, which is not installed: {installing('thinc')}"
        for name in ("FastnnOps", "Adam")
    ]
    assert "did you mean 'FastnnOps'?" in nonsense
