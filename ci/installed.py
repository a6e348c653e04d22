"""Check that an environment holds no file of fastnn's that pip does not know: such a file outlives the installation.

    .venv/bin/python ci/installed.py

Run it with the Python of the environment, from anywhere. A folder that is left over is found before an editable
installation is, and then ``import fastnn`` gives an empty name space.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import metadata, util
from pathlib import Path

DISTRIBUTION, PACKAGE = "fastnn-kernels", "fastnn"


def unknown(site: Path, recorded: Iterable[str]) -> list[str]:
    """Files under the package's folder in ``site`` that are neither recorded nor byte code of a recorded source."""
    known = set(recorded)
    found = (path.relative_to(site).as_posix() for path in sorted((site / PACKAGE).rglob("*")) if not path.is_dir())
    return [name for name in found if name not in known and _source(name) not in known]


def _source(name: str) -> str:
    """The source that a file is the byte code of; the name itself for any other file."""
    try:
        return Path(util.source_from_cache(name)).as_posix()
    except ValueError:
        return name


def main() -> int:
    """Check the environment of this Python; 0 if pip knows all."""
    distribution = metadata.distribution(DISTRIBUTION)
    recorded = [file.as_posix() for file in distribution.files or ()]
    found = unknown(Path(str(distribution.locate_file(""))), recorded)
    print("\n".join(f"unknown to pip: {name}" for name in found) or f"{len(recorded)} files, all known to pip")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
