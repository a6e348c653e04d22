"""Print a command of the README, so that continuous integration runs what the README says: one place, no copy.

    python ci/readme.py test-command --python python3.12 --venv .venv-ci

A command is the fenced block after the comment ``<!-- NAME -->``. ``--python`` and ``--venv`` stand in for the
README's ``python3`` and ``.venv``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def command(text: str, name: str, python: str = "python3", venv: str = ".venv") -> str:
    """The command called ``name`` in the README's text; ValueError if there is none."""
    block = re.search(rf"<!-- {re.escape(name)} -->\s*```\w*\n(.*?)\n```", text, re.DOTALL)
    if block is None:
        raise ValueError(f"name: got {name!r}, wants a comment <!-- {name} --> in the README before a fenced block")
    spoken = re.sub(r"\bpython3\b(?!\.)", python, block[1])
    return re.sub(r"(?<![\w/.-])\.venv\b", venv, spoken)


def main() -> None:
    """Print the command that the arguments name."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", help="of the comment before the block, as in test-command")
    parser.add_argument("--python", default="python3")
    parser.add_argument("--venv", default=".venv")
    options = parser.parse_args()
    print(command(README.read_text(encoding="utf-8"), options.name, options.python, options.venv))


if __name__ == "__main__":
    main()
