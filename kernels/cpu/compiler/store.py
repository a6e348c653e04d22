"""Compiled functions on disk, in the user's cache: an installation holds no file that its installer does not know.

    <folder>/0.1.0-cpython-311-4f0c1b7a9d2e8356/    an entry: of one installation and all that its code depends on
        entry.json                                  what the entry is for; its time is that of the last use
        epoch.train.locals.train-9a31...            a compiled function: SHA-256 of what follows, and a pickle

``folder`` is ``$NUMBA_CACHE_DIR/fastnn`` where that is set, as Numba's users expect, else ``kernels`` in the user's
cache. Numba's own cache would lie beside the sources, and numbers its files by an index: two processes that compile
two signatures of a function at the same time can give both one number, and then one's code is taken for the other's.
Here a file is named after what it was compiled from. It is written whole and renamed, read whole, and believed if its
checksum is right, so that an entry may be removed, and a process killed, at any time.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import json
import os
import pickle
import re
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
from numba.core.serialize import dumps

from fastnn import __version__  # the top of the name space, which is there before all that is below it
from fastnn.kernels import user_cache

_ROOT = Path(__file__).resolve().parents[2]
# Backends that no CPU kernel is made from.
_OTHERS = ("cuda", "naive")

_LABEL = "entry.json"
# In the name of a file or an entry that is being made or removed.
_PART = ".part-"
_ENTRY_PART = re.compile(rf"[^/]+-[0-9a-f]{{16}}{re.escape(_PART)}[0-9a-f]{{16}}")
# How often a file is written whose entry others remove meanwhile.
_ATTEMPTS = 20
_DIGEST_BYTES = hashlib.sha256().digest_size

_DAY = 24 * 3600.0
# From this age on a part is one that its process did not live to finish.
_ABANDONED = _DAY
# Entries that stay of one installation and interpreter, the last used: going back and forth between two states of the
# sources, and containers that see different versions at the same place, compile each once.
_KEPT = 3
# An entry whose installation is gone: not at once, it may be another container's, or on a disk that comes back.
_ORPHANED = _DAY
_UNUSED = 60 * _DAY


def source_hash(root: Path = _ROOT) -> str:
    """SHA-256 of every source file that CPU kernels are made from: those under ``root``, less the other backends'."""
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        with suppress(OSError):  # gone meanwhile, or an editor's lock, a link to nothing
            if name.parts[0] not in _OTHERS:
                source = path.read_bytes()
                digest.update(f"{name.as_posix()} {len(source)}\n".encode())
                digest.update(source)
    return digest.hexdigest()


# As of now, when the first of them are loaded.
SOURCES = source_hash()


@dataclass(frozen=True)
class Label:
    """What all code of an entry depends on; the machine stands in the key of each function (``machine.key``)."""

    installation: str
    interpreter: str
    fastnn: str
    numba: str
    llvmlite: str
    sources: str

    @property
    def name(self) -> str:
        """The entry's."""
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        return f"{self.fastnn}-{self.interpreter}-{digest[:16]}"

    @property
    def text(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), indent=1)


class Entry:
    """The compiled functions of one label."""

    def __init__(self, folder: Path, label: Label) -> None:
        self.path, self.label = folder / label.name, label
        self._used = False

    def load(self, name: str, key: str) -> Any:
        """What was saved under this name and key; None if nothing was, or it is damaged."""
        self._use()
        try:
            data = self._file(name, key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        digest, code = data[:_DIGEST_BYTES], data[_DIGEST_BYTES:]
        return pickle.loads(code) if hashlib.sha256(code).digest() == digest else None

    def save(self, name: str, key: str, value: Any) -> None:
        """Keep ``value`` under this name and key, unless the sources are others by now than those it was made from."""
        if source_hash(Path(self.label.installation)) != self.label.sources:
            return
        code = dumps(value)
        data = hashlib.sha256(code).digest() + code
        for attempt in range(_ATTEMPTS):
            self.make()
            try:
                _write(self._file(name, key), data)
                break
            except FileNotFoundError:  # another process removed the entry just now
                if attempt + 1 == _ATTEMPTS:
                    raise

    def files(self) -> list[Path]:
        """The files of compiled functions."""
        with suppress(OSError):
            return [path for path in self.path.iterdir() if path.name != _LABEL and _PART not in path.name]
        return []

    def make(self) -> None:
        """Make the entry, if there is none, whole and at once, and remove what it replaces."""
        if self.path.is_dir():
            return
        folder = self.path.parent
        folder.mkdir(parents=True, exist_ok=True)
        new = _part(self.path)
        try:
            new.mkdir()
            (new / _LABEL).write_text(self.label.text, encoding="utf-8")
            new.rename(self.path)
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            # another process made it meanwhile, and a third may have removed it since
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not self.path.is_dir():
                raise
        else:
            prune(folder, self.path)

    def check(self) -> None:
        """OSError unless files can be written."""
        self.make()
        tempfile.TemporaryFile(dir=self.path).close()

    def _use(self) -> None:
        if not self._used:
            self._used = True
            with suppress(OSError):  # there is none, or it is only to be read
                os.utime(self.path / _LABEL)

    def _file(self, name: str, key: str) -> Path:
        return self.path / f"{name}-{hashlib.sha256(key.encode()).hexdigest()[:32]}"


@cache
def entry() -> Entry:
    """The entry of this process: the variables that say where it is are read once."""
    major, minor, *_ = sys.version_info
    label = Label(
        installation=str(_ROOT),
        interpreter=f"{sys.implementation.name}-{major}{minor}{getattr(sys, 'abiflags', '')}",
        fastnn=__version__,
        numba=numba.__version__,
        llvmlite=llvmlite.__version__,
        sources=SOURCES,
    )
    return Entry(_folder(), label)


def _folder() -> Path:
    chosen = _numbas_folder()
    return Path(chosen).absolute() / "fastnn" if chosen else user_cache.folder("kernels")


def _numbas_folder() -> str:
    chosen: str = numba.config.CACHE_DIR  # type: ignore[attr-defined]
    return chosen


def variable() -> str:
    """The environment variable that moves the entry."""
    return "NUMBA_CACHE_DIR" if _numbas_folder() else "FASTNN_CACHE"


def prune(folder: Path, current: Path | None = None, now: float | None = None) -> None:
    """Remove the entries that are past use, and what processes left that were killed; never ``current``.

    Whoever reads a file of such an entry has read it, or finds none and compiles. Only folders are removed that are
    labelled as entries, none is looked for behind a link, and what cannot be removed stays.
    """
    now = time.time() if now is None else now
    found = Counter[tuple[str, str]]()
    for used, path, label in sorted(_entries(folder, now), key=lambda entry: entry[:2], reverse=True):
        kind = (label.installation, label.interpreter)
        found[kind] += 1
        age = now - used
        past = found[kind] > _KEPT or age > _UNUSED or (age > _ORPHANED and _gone(label.installation))
        if past and path != current:
            _remove(path, used)


def _entries(folder: Path, now: float) -> Iterator[tuple[float, Path, Label]]:
    """Time of the last use, path and label of each entry; abandoned parts of entries are removed on the way."""
    with suppress(OSError):
        for found in list(os.scandir(folder)):
            path = Path(found)
            with suppress(OSError, ValueError, TypeError):  # gone meanwhile, or without a label
                if not found.is_dir(follow_symlinks=False):
                    continue
                if _ENTRY_PART.fullmatch(found.name):
                    if now - found.stat(follow_symlinks=False).st_mtime > _ABANDONED:
                        shutil.rmtree(path, ignore_errors=True)
                    continue
                label = Label(**json.loads((path / _LABEL).read_text(encoding="utf-8")))
                if label.name == path.name:
                    yield (path / _LABEL).stat().st_mtime, path, label


def _gone(installation: str) -> bool:
    try:
        os.stat(installation)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:  # there, or not to be seen
        return False
    return False


def _remove(path: Path, used: float) -> None:
    """Remove an entry at once, for all who look for it, unless it was used after ``used``."""
    with suppress(OSError):
        if (path / _LABEL).stat().st_mtime <= used:
            old = _part(path)
            path.rename(old)
            shutil.rmtree(old, ignore_errors=True)


def _part(path: Path) -> Path:
    """A name beside ``path``, for it while it is being made or removed, that nobody else takes."""
    return path.with_name(f"{path.name}{_PART}{secrets.token_hex(8)}")


def _write(path: Path, data: bytes) -> None:
    """Write a file, whole or not at all; remove the parts of it that killed processes left."""
    for left in path.parent.glob(f"{glob.escape(path.name)}{_PART}*"):
        with suppress(OSError):
            if time.time() - left.stat().st_mtime > _ABANDONED:
                left.unlink()
    part = _part(path)
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            part.unlink()
        raise


_reported = False


@contextmanager
def reporting() -> Iterator[None]:
    """Turn what goes wrong inside the block into a warning, once in a process: what the store holds is replaceable."""
    global _reported  # noqa: PLW0603 - once in a process
    try:
        yield
    except Exception as error:  # unwritable or full folder, foreign files: whatever it is, kernels can be compiled
        if _reported:
            return
        _reported = True
        warnings.warn(
            "fastnn compiles its kernels anew in this process, because its cache cannot be used "
            f"({type(error).__name__}: {error}); set {variable()} to a folder that can be written to",
            RuntimeWarning,
            stacklevel=3,
        )
