"""The commit that the performance gate compares the tree with: named in ``baseline.txt``, checked out beside the tree.

It stays where it is until somebody moves it forward (``advance``), so that many small losses add up to one that is
seen. Move it behind a gain that is to be kept, or a loss that is meant.
"""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ci.sides import Tree

ROOT = Path(__file__).resolve().parents[1]
FILE = Path(__file__).with_name("baseline.txt")

# Where baselines are checked out and their kernels compiled; git, packaging tools and linters pass by "build".
CHECKOUTS = ROOT / "build" / "perf_gate"


class BaselineError(Exception):
    """There is no baseline to compare with, or it cannot be moved."""


def commit() -> str:
    """The full name of the baseline's commit."""
    named = next(iter(FILE.read_text().split()), "")
    if re.fullmatch(r"[0-9a-f]{40}", named) is None:
        raise BaselineError(f"ci/{FILE.name}: got {named!r}, wants the 40 digits of a commit")
    return named


def described() -> str:
    """The baseline's commit and subject, for the reader."""
    return FILE.read_text().strip()


def tree() -> Tree:
    """The baseline as a tree to import from; BaselineError, with what to do, where it cannot be checked out."""
    name = commit()
    folder = CHECKOUTS / name
    if not folder.exists():
        _require(name)
        _check_out(name, folder)
    return Tree(f"baseline {name[:7]}", folder, folder / "compiled")


def advance(to: str = "HEAD") -> str:
    """Name another commit as the baseline; what was done, in words.

    BaselineError unless the commit lies between the present baseline and HEAD, and nothing in the working tree is
    changed: what would be measured is then what the history says.
    """
    if _git("status", "--porcelain", "--untracked-files=no"):
        raise BaselineError("the working tree has changes: commit or stash them, a baseline is a commit")
    new, old = _git("rev-parse", "--verify", f"{to}^{{commit}}"), commit()
    _require(old)
    if not _succeeds("merge-base", "--is-ancestor", new, "HEAD"):
        raise BaselineError(f"{new[:7]} is no ancestor of HEAD, {_git('rev-parse', '--short=7', 'HEAD')}")
    if not _succeeds("merge-base", "--is-ancestor", old, new):
        raise BaselineError(f"{new[:7]} does not come after the baseline, {old[:7]}: a baseline only moves forward")
    FILE.write_text(f"{_git('show', '--no-patch', '--format=%H %s', new)}\n")
    return f"the baseline moves by {_git('rev-list', '--count', f'{old}..{new}')} commits, to {described()}"


def _check_out(name: str, folder: Path) -> None:
    """Lay the packages out as an installation does: in a folder beside it, then renamed."""
    archive = _run("archive", "--format=tar", name, "fastnn", "kernels")
    CHECKOUTS.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CHECKOUTS) as scratch:
        laid_out = Path(scratch) / "tree"
        with tarfile.open(fileobj=io.BytesIO(archive)) as files:
            files.extractall(laid_out, filter="data")
        (laid_out / "kernels").rename(laid_out / "fastnn" / "kernels")
        if not folder.exists():
            laid_out.rename(folder)


def _require(name: str) -> None:
    """Raise BaselineError, with what to do, unless this clone has the commit."""
    shallow = _git("rev-parse", "--is-shallow-repository") == "true"
    if _succeeds("cat-file", "-e", f"{name}^{{commit}}"):
        return
    if shallow:
        raise BaselineError(
            f"the baseline {name[:7]} is not in this clone, which is shallow: git fetch --unshallow "
            "(where a service makes the clone, ask it for the whole history)"
        )
    raise BaselineError(
        f"the baseline {name[:7]} is not in this clone: git fetch; where history was rewritten, name the commit that "
        f"took its place in ci/{FILE.name}"
    )


def _git(*arguments: str) -> str:
    """What git prints; BaselineError, with what it complains of, where it fails."""
    return _run(*arguments).decode().strip()


def _succeeds(*arguments: str) -> bool:
    """Whether git ends with status 0."""
    try:
        _run(*arguments)
    except BaselineError:
        return False
    return True


def _run(*arguments: str) -> bytes:
    try:
        return subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise BaselineError("git is not installed, and the baseline is a commit") from error
    except subprocess.CalledProcessError as error:
        raise BaselineError(f"git {arguments[0]}: {error.stderr.decode().strip()}") from error
