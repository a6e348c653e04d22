"""Writing files: what is replaced and what is refused, owner and mode, and what killed processes leave."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys
import threading

import pytest

from fastnn import files

fcntl = pytest.importorskip("fcntl")
superuser = pytest.mark.skipif(os.geteuid() != 0, reason="only the superuser can be somebody else")
NOBODY = 65534
DAY = 24 * 3600


def put(path, data=b"new"):
    files.write("path", path, lambda file: file.write(data))


@contextlib.contextmanager
def somebody_else():
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def shared(tmp_path):
    """A folder that somebody else can reach."""
    reach = stat.S_IXGRP | stat.S_IXOTH
    opened = [folder for folder in (tmp_path, *tmp_path.parents) if folder.stat().st_mode & reach != reach]
    modes = [stat.S_IMODE(folder.stat().st_mode) for folder in opened]
    for folder, mode in zip(opened, modes, strict=True):
        folder.chmod(mode | reach)
    yield tmp_path
    for folder, mode in zip(opened, modes, strict=True):
        folder.chmod(mode)


# ------------------------------------------------------------------------------------------- what may be replaced


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777])
def test_the_mode_stays(tmp_path, mode):
    path = tmp_path / "m"
    path.write_text("old")
    path.chmod(mode)
    put(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path, umask, mode):
    kept = os.umask(umask)
    try:
        put(tmp_path / "m")
    finally:
        os.umask(kept)
    assert stat.S_IMODE((tmp_path / "m").stat().st_mode) == mode


def test_a_private_file_is_private_while_it_is_written(tmp_path):
    path, seen = tmp_path / "m", []
    path.write_text("old")
    path.chmod(0o600)
    files.write("path", path, lambda file: seen.append(stat.S_IMODE(os.fstat(file.fileno()).st_mode)))
    assert seen == [0o600]


@superuser
def test_owner_and_group_stay(tmp_path):
    path = tmp_path / "m"
    path.write_text("old")
    path.chmod(0o640)
    os.chown(path, NOBODY, NOBODY - 1)
    put(path)
    found = path.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (NOBODY, NOBODY - 1, 0o640)


@superuser
def test_a_file_whose_owner_cannot_be_kept_is_refused(shared):
    path = shared / "m"
    path.write_text("old")
    path.chmod(0o666)
    shared.chmod(0o777)
    with somebody_else(), pytest.raises(PermissionError, match="owner and group of the file there now cannot be kept"):
        put(path)
    assert path.read_text() == "old"
    assert os.listdir(shared) == ["m"]


@superuser
@pytest.mark.parametrize("act", [put, lambda path: files.check_writable("path", path)])
def test_a_file_that_may_not_be_written_is_refused(shared, act):
    path = shared / "m"
    path.write_text("old")
    path.chmod(0o644)
    shared.chmod(0o777)
    wanted = r"path: got a file that cannot be opened for writing \(Permission denied\)"
    with somebody_else(), pytest.raises(PermissionError, match=wanted):
        act(path)
    assert path.read_text() == "old"


@superuser
def test_a_folder_that_may_not_be_written_is_named_as_the_reason(shared):
    path = shared / "m"
    path.write_text("old")
    os.chown(path, NOBODY, NOBODY)
    shared.chmod(0o755)
    with somebody_else(), pytest.raises(PermissionError, match=r"Permission denied\), wants a folder"):
        put(path)
    assert path.read_text() == "old"


@pytest.mark.parametrize("act", [put, lambda path: files.check_writable("path", path)])
def test_a_read_only_file_is_refused(tmp_path, act):
    """The superuser could write to it, but somebody has protected it."""
    path = tmp_path / "m"
    path.write_text("old")
    path.chmod(0o444)
    with pytest.raises(PermissionError, match=r"path: got a read-only file \(mode 444\), wants one"):
        act(path)
    assert path.read_text() == "old"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert os.listdir(tmp_path) == ["m"]


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))


def make_device(path):
    try:
        os.mknod(path, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    except (OSError, AttributeError):
        pytest.skip("devices cannot be made here")


@pytest.mark.parametrize("act", [put, lambda path: files.check_writable("path", path)])
@pytest.mark.parametrize(
    ("make", "kind", "error"),
    [
        (os.mkfifo, "a FIFO", FileExistsError),
        (make_socket, "a socket", FileExistsError),
        (make_device, "a device", FileExistsError),
        (os.mkdir, "a folder", IsADirectoryError),
    ],
)
def test_what_is_no_regular_file_is_refused(tmp_path, monkeypatch, act, make, kind, error):
    monkeypatch.chdir(tmp_path)  # the name of a socket must be short
    path = type(tmp_path)("m")
    make(path)
    before = os.stat(path)
    with pytest.raises(error, match=f"path: got {kind}, wants the name of a file"):
        act(path)
    assert os.stat(path).st_mode == before.st_mode
    assert os.listdir() == ["m"]


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real", tmp_path / "link"
    real.write_text("old")
    real.chmod(0o600)
    link.symlink_to("there/real")
    put(link)
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert stat.S_IMODE(real.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["link", "there"]


def test_a_link_to_nothing_yet(tmp_path):
    (tmp_path / "link").symlink_to("real")
    put(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"
    (tmp_path / "astray").symlink_to("no/such/folder/m")
    with pytest.raises(FileNotFoundError, match="path: cannot write the file"):
        put(tmp_path / "astray")


def test_a_link_to_a_fifo_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("fifo")
    with pytest.raises(FileExistsError, match="path: got a FIFO"):
        put(tmp_path / "link")


def test_a_circle_of_links(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="path: cannot write the file"):
        put(tmp_path / "a")
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_checking_leaves_nothing_behind(tmp_path):
    path = tmp_path / "m"
    files.check_writable("path", path)
    assert os.listdir(tmp_path) == []
    path.write_text("old")
    before = path.stat()
    files.check_writable("path", path)
    after = path.stat()
    assert (before.st_ino, before.st_mtime_ns, before.st_mode) == (after.st_ino, after.st_mtime_ns, after.st_mode)
    assert os.listdir(tmp_path) == ["m"]
    with pytest.raises(FileNotFoundError, match="path: cannot write the file"):
        files.check_writable("path", tmp_path / "no" / "m")


# ------------------------------------------------------------------------------------------- what was left behind

KILLED = """
import os, signal, sys
from pathlib import Path
from fastnn import files

def fill(file):
    file.write(b"half")
    file.flush()
    os.kill(os.getpid(), signal.SIGKILL)

files.write("path", Path(sys.argv[1]), fill)
"""


def left(folder):
    return sorted(name for name in os.listdir(folder) if name.startswith(".fastnn-"))


def test_the_next_write_removes_what_a_killed_process_left(tmp_path):
    path = tmp_path / "m"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(left(tmp_path)) == 1
    put(tmp_path / "other")  # any write to the folder will do
    assert sorted(os.listdir(tmp_path)) == ["m", "other"]


def test_what_is_being_written_is_left_alone(tmp_path):
    started, go_on = threading.Event(), threading.Event()

    def slowly(file):
        file.write(b"slow")
        file.flush()
        started.set()
        assert go_on.wait(60)

    writer = threading.Thread(target=files.write, args=("path", tmp_path / "slow", slowly))
    writer.start()
    try:
        assert started.wait(60)
        (temporary,) = left(tmp_path)
        os.utime(tmp_path / temporary, (0, 0))  # it looks as old as can be
        put(tmp_path / "quick")
        assert left(tmp_path) == [temporary]
    finally:
        go_on.set()
        writer.join()
    assert (tmp_path / "slow").read_bytes() == b"slow"
    assert sorted(os.listdir(tmp_path)) == ["quick", "slow"]


OURS = f".fastnn-{files._HOST}-0123456789abcdef.tmp"
ELSEWHERE = ".fastnn-elsewhere-0123456789abcdef.tmp"
OF_0_1 = ".fastnn-0123456789abcdef.tmp"


@pytest.mark.parametrize(
    ("name", "age", "removed"),
    [
        (OURS, 1, True),
        (OURS, -60, False),  # newer than the write: made meanwhile
        (ELSEWHERE, DAY - 60, False),  # a lock may tell nothing of another machine's processes
        (ELSEWHERE, DAY + 60, True),
        (OF_0_1, DAY - 60, False),
        (OF_0_1, DAY + 60, True),
        (".fastnn-notes.tmp", DAY + 60, False),
        ("m.tmp", DAY + 60, False),
    ],
)
def test_whose_files_are_removed(tmp_path, name, age, removed):
    path = tmp_path / name
    path.write_text("left")
    now = path.stat().st_mtime
    os.utime(path, (now - age, now - age))
    put(tmp_path / "m")
    assert path.exists() is not removed


def test_without_locks_only_age_tells(tmp_path, monkeypatch):
    def no_locks(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for age, remain in ((DAY - 60, [OURS]), (DAY + 60, [])):
        path = tmp_path / OURS
        path.write_text("left")
        now = path.stat().st_mtime
        os.utime(path, (now - age, now - age))
        put(tmp_path / "m")
        assert left(tmp_path) == remain
    assert (tmp_path / "m").read_bytes() == b"new"


def test_a_folder_of_that_name_is_left_alone(tmp_path):
    (tmp_path / OURS).mkdir()
    os.utime(tmp_path / OURS, (0, 0))
    put(tmp_path / "m")
    assert (tmp_path / OURS).is_dir()


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path, monkeypatch):
    """Another process may find it unlocked, and so abandoned, between its making and its locking."""
    lock, taken = fcntl.flock, []

    def late(file, operation):
        if not taken:
            taken.append(file.name)
            os.unlink(file.name)
        lock(file, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    put(tmp_path / "m")
    assert len(taken) == 1
    assert (tmp_path / "m").read_bytes() == b"new"


def test_a_folder_that_cannot_be_listed_is_written_to_all_the_same(tmp_path, monkeypatch):
    def no_list(_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", no_list)
    put(tmp_path / "m")
    assert (tmp_path / "m").read_bytes() == b"new"
