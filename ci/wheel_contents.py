"""Check what the wheel of ``fastnn-kernels`` holds: one package, ``fastnn``, with the kernels, types and data it needs.

python ci/wheel_contents.py FILE.whl
"""

from __future__ import annotations

import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

# The package, and what pip keeps of the distribution.
_OWN = re.compile(r"fastnn|fastnn_kernels-[^/]+\.dist-info")
_NEEDED = ("fastnn/py.typed", "fastnn/ops.pyi", "fastnn/kernels/table/row.py", "fastnn/kernels/cpu/simd/library.py")

# What kernels are written as.
_ENDINGS = (".py", ".cu", ".cuh")


def faults(names: Sequence[str]) -> list[str]:
    """What is wrong with a wheel of these files; every source file of the checkout's packages must be there."""
    root = Path(__file__).resolve().parents[1]
    sources = {f"fastnn/{path.relative_to(root / 'fastnn')}" for path in (root / "fastnn").rglob("*.py")}
    kernels = [path for ending in _ENDINGS for path in (root / "kernels").rglob(f"*{ending}")]
    sources |= {f"fastnn/kernels/{path.relative_to(root / 'kernels')}" for path in kernels}
    found = [f"missing: {name}" for name in sorted({*_NEEDED, *sources} - set(names))]
    tops = {name.partition("/")[0] for name in names}
    return found + [f"installed beside fastnn: {top}" for top in sorted(tops) if not _OWN.fullmatch(top)]


def main() -> int:
    """Check the wheel that the argument names; 0 if nothing is wrong."""
    with zipfile.ZipFile(sys.argv[1]) as wheel:
        names = wheel.namelist()
    found = faults(names)
    print("\n".join(found) or f"{len(names)} files, all under fastnn")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
