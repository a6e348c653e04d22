"""Writing a file: whole or not at all, and in place of nothing but a regular file.

What is written goes to a temporary file beside its place, is flushed to the disk and renamed, so that a failure leaves
what was there before. A file that takes the place of another has its owner, its group and its mode; a symbolic link
stays one, and the file that it leads to is replaced.

A process that is killed leaves its temporary file behind. It holds a lock on the file while it writes, which ends with
it: the next one that writes to the folder removes what nobody holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from fastnn import checks

try:
    import fcntl
except ImportError:  # Windows, where a file that someone has open cannot be removed
    fcntl = None  # type: ignore[assignment]

# A lock tells nothing of another machine's files, nor on a file system without locks: there the age of a file decides.
_ABANDONED_AFTER = 24 * 3600 * 10**9  # ns; a write touches its file all the time
_HOST = re.sub(r"[^A-Za-z0-9._]", "_", platform.node())[:64]
# The host is missing in the names that fastnn 0.1 gave.
_TEMPORARY = re.compile(r"\.fastnn-(?:(?P<host>[A-Za-z0-9._]*)-)?[0-9a-f]{16}\.tmp")
_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device", stat.S_IFSOCK: "a socket"}


def checked_path(argument: str, path: Any) -> Path:
    """``path`` as a Path; TypeError unless a string or a path object, ValueError for an empty one."""
    if not isinstance(path, (str, os.PathLike)) or isinstance(os.fspath(path), bytes):
        raise TypeError(f"{argument}: got {checks.describe(path)}, wants a string or a path")
    if not os.fspath(path):
        raise ValueError(f"{argument}: got '', wants the name of a file")
    return Path(path)


def kind(mode: int) -> str | None:
    """What stands where a file with data should: "a folder", "a FIFO", ...; None for a regular file."""
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "no regular file")


def write(argument: str, path: Path, fill: Callable[[BinaryIO], object]) -> None:
    """Make or replace the file ``path`` by what ``fill`` writes; an OSError names ``argument``, and nothing is changed.

    Refused are a folder, a FIFO, a device (FileExistsError, IsADirectoryError), a file that is read-only, whoever
    asks, or whose owner and group a new file could not be given (PermissionError), and a folder that new files cannot
    be made in, even where the file itself may be written to.
    """
    with _draft(argument, path) as draft:
        _remove_abandoned(draft)
        fill(draft.file)
        draft.file.flush()
        os.fsync(draft.file.fileno())
        if fcntl is None:  # Windows renames no open file; elsewhere the lock is held to the end
            draft.file.close()
        os.replace(draft.path, draft.target)


def check_writable(argument: str, path: Path) -> None:
    """Raise what ``write`` would raise before it has data; the file and its folder stay as they are."""
    with _draft(argument, path):
        pass


def make_folder(argument: str, folder: Path) -> None:
    """Make a folder and those above it, where there is none; an OSError names ``argument``."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise OSError(
            error.errno or errno.EIO, f"{argument}: cannot make the folder ({reason}), wants another place", str(folder)
        ) from error


class _Draft(NamedTuple):
    """The temporary file, open and locked, and the place that it is for."""

    file: BinaryIO
    path: Path
    target: Path


@contextlib.contextmanager
def _draft(argument: str, path: Path) -> Iterator[_Draft]:
    """A new file beside ``path``, of the owner and mode of what it may replace; it is gone unless it was renamed."""
    target, held = _destination(argument, path)
    try:
        file, temporary = _new_file(target.parent, private=held is not None)
        try:
            with file:
                if held is not None:
                    _take_over(file, held)
                yield _Draft(file, temporary, target)
        finally:
            with contextlib.suppress(OSError):  # after the rename there is nothing to remove
                temporary.unlink()
    except OSError as error:
        raise _explained(argument, path, error) from error


def _explained(argument: str, path: Path, error: OSError) -> OSError:
    """The error, of the same type, in words that name the argument and the way out."""
    return OSError(
        error.errno or errno.EIO,
        f"{argument}: cannot write the file ({error.strerror or error}), wants a folder in which a new file can be "
        "made to take its place",
        str(path),
    )


def _destination(argument: str, path: Path) -> tuple[Path, os.stat_result | None]:
    """The file to replace, links followed, and what is there now; OSError unless it is a file that may be written."""
    try:
        held = os.stat(path)
    except FileNotFoundError:
        held = None  # a link may lead to nothing yet: what it names is made
    except OSError as error:
        raise _explained(argument, path, error) from error
    target = Path(os.path.realpath(path))
    if held is None:
        return target, None
    found = kind(held.st_mode)
    if found is not None:
        number = errno.EISDIR if stat.S_ISDIR(held.st_mode) else errno.EEXIST
        raise OSError(number, f"{argument}: got {found}, wants the name of a file", str(path))
    reason = _obstacle(target, held)
    if reason is not None:
        raise PermissionError(
            errno.EACCES, f"{argument}: got {reason}, wants one that may be written to, or a new name", str(path)
        )
    return target, held


def _obstacle(target: Path, held: os.stat_result) -> str | None:
    """Why the regular file ``target`` may not be replaced, although its folder might allow it."""
    mode = stat.S_IMODE(held.st_mode)
    if not mode & 0o222:  # the superuser may write to it all the same, but somebody has protected it
        return f"a read-only file (mode {mode:03o})"
    try:
        os.close(os.open(target, os.O_WRONLY | getattr(os, "O_NONBLOCK", 0)))  # it may be a FIFO by now
    except OSError as error:
        return f"a file that cannot be opened for writing ({error.strerror or error})"
    return None


def _new_file(folder: Path, private: bool) -> tuple[BinaryIO, Path]:
    """A new temporary file, open and locked; of the mode that any new file gets, or for the owner alone."""
    mode = 0o600 if private else 0o666
    while True:
        path = folder / f".fastnn-{_HOST}-{secrets.token_hex(8)}.tmp"
        file = open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode))  # noqa: SIM115
        if _locked(file):
            return file, path
        file.close()


def _locked(file: BinaryIO) -> bool:
    """Lock a file just made; False where another process took it for abandoned before that and has removed it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nobody will take it for abandoned before its time
        return True
    return os.fstat(file.fileno()).st_nlink > 0


def _take_over(file: BinaryIO, held: os.stat_result) -> None:
    """Give an empty file the owner, the group and the mode of the one that it is to replace."""
    made = os.fstat(file.fileno())
    if (made.st_uid, made.st_gid) != (held.st_uid, held.st_gid):
        try:
            os.fchown(file.fileno(), held.st_uid, held.st_gid)
        except OSError as error:
            raise OSError(error.errno, "the owner and group of the file there now cannot be kept") from error
        made = os.fstat(file.fileno())
    if stat.S_IMODE(made.st_mode) != stat.S_IMODE(held.st_mode):
        os.fchmod(file.fileno(), stat.S_IMODE(held.st_mode))


def _remove_abandoned(draft: _Draft) -> None:
    """Remove the temporary files that killed processes left in a draft's folder; what cannot be removed stays."""
    now = os.fstat(draft.file.fileno()).st_mtime_ns  # by the clock that stamps the others
    with contextlib.suppress(OSError), os.scandir(draft.target.parent) as entries:
        for entry in entries:
            match = _TEMPORARY.fullmatch(entry.name)
            if match is not None and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    age = now - entry.stat(follow_symlinks=False).st_mtime_ns
                    _remove_if_abandoned(entry.path, match["host"] == _HOST, age)


def _remove_if_abandoned(path: str, ours: bool, age: int) -> None:
    """Remove a temporary file that is not younger than the draft, but ``age`` ns older, and that nobody holds."""
    if fcntl is None or not ours:
        if age > _ABANDONED_AFTER:
            os.unlink(path)
        return
    with open(os.open(path, os.O_RDWR | os.O_NOFOLLOW), "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return
        except OSError:  # a file system without locks
            age -= _ABANDONED_AFTER
        if age >= 0:
            os.unlink(path)
