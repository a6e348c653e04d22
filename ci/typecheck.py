"""Run mypy on the installed package, on bench/, on ci/ and on docs/.

``kernels/`` becomes ``fastnn.kernels`` only by being installed: run this with a Python that has the wheel, not an
editable install. mypy runs in a folder that holds links to these only, so that it cannot pick up the
checkout's ``fastnn/``.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """Check all packages; mypy's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        packages = ["fastnn"]
        for name in ("bench", "ci", "docs"):
            (Path(folder) / name).symlink_to(ROOT / name)
            packages.append(name)
        wanted = [f"--package={name}" for name in packages]
        command = [sys.executable, "-m", "mypy", f"--config-file={ROOT / 'pyproject.toml'}", *wanted]
        return subprocess.run(command, cwd=folder, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
