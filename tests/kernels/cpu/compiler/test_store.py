"""Compiled functions on disk: found again by what they were compiled from only, whole or not at all, not for ever."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numba
import pytest

from fastnn.kernels.cpu.compiler import store

DAY = 24 * 3600.0


@pytest.fixture
def site(tmp_path):
    """The sources of an installation."""
    folder = tmp_path / "site"
    (folder / "cpu").mkdir(parents=True)
    (folder / "cpu" / "a.py").write_text("x = 1\n")
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache" / "kernels"


def label(site, **others):
    given = {"installation": str(site), "interpreter": "cpython-311", "fastnn": "1.2", "numba": "0.61"}
    return store.Label(**{**given, "llvmlite": "0.44", "sources": store.source_hash(site), **others})


def entry_of(folder, site, age=0.0, **others):
    """An entry with one function, last used ``age`` seconds ago."""
    entry = store.Entry(folder, label(site, **others))
    entry.make()
    (entry.path / f"m.f-{'0' * 32}").write_bytes(b"")
    used(entry, age)
    return entry


def used(entry, age):
    then = time.time() - age
    os.utime(entry.path / "entry.json", (then, then))


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- what is found ---------------------------------------------------------------------------------------------------


def test_what_was_saved_is_found_by_name_and_key(folder, site):
    store.Entry(folder, label(site)).save("m.f", "key", (1, b"code"))
    entry = store.Entry(folder, label(site))
    assert entry.load("m.f", "key") == (1, b"code")
    assert entry.load("m.f", "other") is None
    assert entry.load("m.g", "key") is None
    entry.save("m.f", "key", 2)
    assert entry.load("m.f", "key") == 2
    assert [path.name.partition("-")[0] for path in entry.files()] == ["m.f"]


def test_nothing_is_made_by_looking(folder, site):
    entry = store.Entry(folder, label(site))
    assert entry.load("m.f", "key") is None
    assert entry.files() == []
    assert not folder.exists()


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(store.Label)])
def test_an_entry_is_of_one_installation_and_all_that_its_code_depends_on(folder, site, field):
    mine = label(site)
    entry = store.Entry(folder, mine)
    entry.save("m.f", "key", 1)
    other = store.Entry(folder, dataclasses.replace(mine, **{field: "another"}))
    assert other.path != entry.path
    assert other.load("m.f", "key") is None


def test_the_entry_of_this_process():
    mine = store.entry().label
    assert mine.installation == str(Path(store.__file__).resolve().parents[2])
    assert mine.interpreter.startswith(f"{sys.implementation.name}-{sys.version_info[0]}{sys.version_info[1]}")
    assert mine.numba == numba.__version__
    assert mine.sources == store.source_hash()


def test_the_hash_covers_every_source_of_the_kernels_at_any_depth(site):
    def changed(path, text):
        before = store.source_hash(site)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return store.source_hash(site) != before

    assert changed(site / "cpu" / "a.py", "x = 2\n")
    assert changed(site / "cpu" / "deep" / "deeper" / "b.py", "y = 1\n")
    assert changed(site / "cpu" / "deep" / "deeper" / "b.py", "y = 2\n")
    assert changed(site / "table.py", "z = 1\n")
    assert not changed(site / "naive" / "c.py", "")
    assert not changed(site / "cuda" / "c.py", "")
    assert not changed(site / "cpu" / "notes.txt", "")
    before = store.source_hash(site)
    (site / "cpu" / ".#a.py").symlink_to("an editor's lock")
    assert store.source_hash(site) == before
    (site / "cpu" / "a.py").rename(site / "cpu" / "c.py")
    assert store.source_hash(site) != before


def test_code_of_sources_that_changed_since_they_were_loaded_is_not_kept(folder, site):
    entry = store.Entry(folder, label(site))
    (site / "cpu" / "a.py").write_text("x = 2\n")
    entry.save("m.f", "key", 1)
    assert entry.load("m.f", "key") is None
    assert not folder.exists()


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b[:20], lambda b: b[:-1], lambda b: b[:-3] + b"abc"])
def test_a_damaged_file_is_none_and_is_replaced(folder, site, damage):
    entry = store.Entry(folder, label(site))
    entry.save("m.f", "key", list(range(100)))
    (path,) = entry.files()
    path.write_bytes(damage(path.read_bytes()))
    assert entry.load("m.f", "key") is None
    entry.save("m.f", "key", 3)
    assert entry.load("m.f", "key") == 3


# --- where it is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbas", "expected", "variable"),
    [
        ("", "ours/kernels", "FASTNN_CACHE"),
        ("numbas", "numbas/fastnn", "NUMBA_CACHE_DIR"),
    ],
)
def test_folder_and_what_moves_it(monkeypatch, tmp_path, numbas, expected, variable):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTNN_CACHE", "ours")
    monkeypatch.setattr(numba.config, "CACHE_DIR", numbas)
    assert store._folder() == tmp_path / expected
    assert store.variable() == variable


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_what_goes_wrong_costs_one_warning(monkeypatch):
    monkeypatch.setattr(store, "_reported", False)
    message = r"compiles its kernels anew.*PermissionError: no.*; set \w+ to a folder"
    with pytest.warns(RuntimeWarning, match=message), store.reporting():
        raise PermissionError("no")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with store.reporting():
            raise PermissionError("again")
    with pytest.raises(KeyboardInterrupt), store.reporting():
        raise KeyboardInterrupt


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_what_was_there(folder, site, monkeypatch, error):
    entry = store.Entry(folder, label(site))
    entry.save("m.f", "key", 1)
    before = names(entry.path)

    def fail(*_):
        raise error

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(type(error)):
        entry.save("m.f", "key", 2)
    assert names(entry.path) == before
    assert entry.load("m.f", "key") == 1


def test_a_file_is_never_seen_half_written(folder, site, monkeypatch):
    entry = store.Entry(folder, label(site))
    entry.save("m.f", "key", 1)
    real, seen = os.replace, []

    def look(source, target):
        seen.append((entry.load("m.f", "key"), len(entry.files())))
        real(source, target)

    monkeypatch.setattr(os, "replace", look)
    entry.save("m.f", "key", 2)
    assert seen == [(1, 1)]
    assert entry.load("m.f", "key") == 2


def test_parts_of_killed_processes_are_removed_once_they_are_old(folder, site):
    entry = entry_of(folder, site)
    entry.save("m.f", "key", 1)
    (path,) = (path for path in entry.files() if path.stat().st_size)
    old, young = (path.with_name(f"{path.name}.part-{digit * 16}") for digit in "ab")
    other = path.with_name(f"other{old.name}")
    for part in (old, young, other):
        part.write_bytes(b"half")
    for part in (old, other):
        os.utime(part, (0, time.time() - 2 * DAY))
    assert {path.name for path in entry.files()} == {path.name, f"m.f-{'0' * 32}"}
    entry.save("m.f", "key", 2)
    assert not old.exists()
    assert young.exists()
    assert other.exists()


def test_an_entry_removed_meanwhile_is_made_again(folder, site, monkeypatch):
    entry = store.Entry(folder, label(site))
    entry.save("m.f", "key", 1)
    real = store._write

    def removed_first(path, data):
        monkeypatch.setattr(store, "_write", real)
        store._remove(entry.path, time.time())
        assert not entry.path.exists()
        real(path, data)

    monkeypatch.setattr(store, "_write", removed_first)
    entry.save("m.f", "key", 2)
    assert entry.load("m.f", "key") == 2
    assert (entry.path / "entry.json").is_file()


def test_of_two_processes_that_make_an_entry_the_second_takes_the_first_ones(folder, site, monkeypatch):
    entry, first = (store.Entry(folder, label(site)) for _ in range(2))
    real = Path.mkdir

    def overtaken(path, *args, **kwargs):
        real(path, *args, **kwargs)
        if ".part-" in path.name:
            monkeypatch.setattr(Path, "mkdir", real)
            first.save("m.f", "key", 1)

    monkeypatch.setattr(Path, "mkdir", overtaken)
    entry.save("m.g", "key", 2)
    assert entry.load("m.f", "key") == 1
    assert entry.load("m.g", "key") == 2
    assert names(folder) == [entry.path.name]


def test_a_folder_that_cannot_be_made_says_so(tmp_path, site):
    (tmp_path / "file").write_text("")
    entry = store.Entry(tmp_path / "file" / "kernels", label(site))
    assert entry.load("m.f", "key") is None
    for write in (entry.check, lambda: entry.save("m.f", "key", 1)):
        with pytest.raises(OSError, match="file"):
            write()


HAMMER = """
import sys
from pathlib import Path
from fastnn.kernels.cpu.compiler import store
folder, site, number = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
hits = 0
for turn in range(60):
    sources = store.source_hash(site)
    entry = store.Entry(folder, store.Label(str(site), "cpython-311", "1", str(turn % 5), "1", sources))
    entry.save("m.f", "key", [number] * 20_000)
    found = entry.load("m.f", "key")
    assert found is None or (len(found) == 20_000 and len(set(found)) == 1), found
    hits += found is not None
    store.prune(folder)
print(hits)
"""


def test_processes_that_save_load_and_prune_at_the_same_time(folder, site):
    """Every load is whole or none, no call fails, and nothing is left but entries."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", HAMMER, folder, site, str(number)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for number in range(3)
    ]
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors.decode()
        assert int(out) > 0
    assert all(".part-" not in name for path in (folder, *folder.iterdir()) for name in names(path))


# --- what is removed -------------------------------------------------------------------------------------------------


def left(folder, *entries):
    """Indices of the entries that are still there; an entry is there whole or not at all."""
    there = [index for index, entry in enumerate(entries) if entry.path.exists()]
    assert all(len(entries[index].files()) == 1 for index in there)
    assert len(names(folder)) == len(there)
    return there


def test_entries_of_other_sources_go_but_for_those_used_last(folder, site):
    entries = [entry_of(folder, site, age=100 - number, sources=str(number)) for number in range(5)]
    other = entry_of(folder, site, age=1000, interpreter="cpython-312")
    store.prune(folder)
    assert left(folder, *entries, other) == [2, 3, 4, 5]
    used(entries[2], 0)
    newest = entry_of(folder, site, fastnn="1.3")  # an upgrade prunes as it makes its entry
    assert left(folder, *entries, other, newest) == [2, 4, 5, 6]


def test_the_current_entry_stays_however_old_it_seems(folder, site):
    mine, other = entry_of(folder, site), entry_of(folder, site, sources="other")
    used(mine, 1000 * DAY)
    store.prune(folder, mine.path)
    assert left(folder, mine, other) == [0, 1]
    store.prune(folder)
    assert left(folder, mine, other) == [1]


def test_entries_of_installations_that_are_gone_go_after_a_day(folder, site, tmp_path):
    gone = tmp_path / "gone"
    entries = [
        entry_of(folder, gone, age=1.1 * DAY),
        entry_of(folder, site / "cpu" / "a.py" / "below", age=1.1 * DAY),
        entry_of(folder, gone, age=0.9 * DAY, interpreter="other"),
        entry_of(folder, site, age=1.1 * DAY),
    ]
    store.prune(folder)
    assert left(folder, *entries) == [2, 3]


def test_an_installation_that_cannot_be_seen_is_not_gone(folder, site, monkeypatch):
    entry = entry_of(folder, site, age=2 * DAY)

    def hidden(path, **_):
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(store.os, "stat", hidden)
    store.prune(folder)
    monkeypatch.undo()
    assert left(folder, entry) == [0]


def test_entries_that_nobody_uses_go(folder, site, tmp_path):
    (tmp_path / "other").mkdir()
    entries = [entry_of(folder, site, age=61 * DAY), entry_of(folder, tmp_path / "other", age=59 * DAY)]
    store.prune(folder)
    assert left(folder, *entries) == [1]


def test_loading_is_use(folder, site):
    entry = entry_of(folder, site, age=100 * DAY)
    entry.load("m.f", "key")
    store.prune(folder)
    assert left(folder, entry) == [0]


def test_an_entry_taken_up_meanwhile_stays(folder, site, monkeypatch):
    entry = entry_of(folder, site, age=100 * DAY)
    real = store._remove

    def used_first(path, then):
        used(entry, 0)
        real(path, then)

    monkeypatch.setattr(store, "_remove", used_first)
    store.prune(folder)
    assert left(folder, entry) == [0]


def test_abandoned_parts_of_entries_go(folder, site):
    entry = entry_of(folder, site)
    old, young, foreign = (folder / f"{entry.path.name}.part-{end}" for end in ("a" * 16, "b" * 16, "foreign"))
    for part in (old, young, foreign):
        part.mkdir()
        (part / "file").write_text("")
        if part is not young:
            os.utime(part, (0, time.time() - 2 * DAY))
    store.prune(folder)
    assert not old.exists()
    assert young.exists()
    assert foreign.exists()


def test_nothing_but_entries_is_removed_and_no_link_is_followed(folder, site, tmp_path):
    """Whatever else lies in the folder stays, and so does what lies outside of it."""
    elsewhere = entry_of(tmp_path / "elsewhere", site, age=100 * DAY)
    folder.mkdir(parents=True)
    linked = folder / elsewhere.path.name
    linked.symlink_to(elsewhere.path)
    linked_part = folder / f"{elsewhere.path.name}.part-{'a' * 16}"
    linked_part.symlink_to(elsewhere.path)
    renamed = entry_of(folder, site, age=100 * DAY, numba="1")
    renamed = renamed.path.rename(folder / "notes")
    (folder / "file").write_text("")
    for name, text in (("no label", None), ("no json", "{"), ("no object", "[]"), ("other keys", '{"a": 1}')):
        (folder / name).mkdir()
        if text is not None:
            (folder / name / "entry.json").write_text(text)
    before = names(folder)
    entry = entry_of(folder, site, age=100 * DAY, numba="2")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_text("")
    (entry.path / "link").symlink_to(tmp_path / "outside")
    os.link(tmp_path / "outside" / "file", entry.path / "hard link")
    store.prune(folder)
    assert names(folder) == before
    assert elsewhere.files()
    assert (tmp_path / "outside" / "file").exists()


def test_pruning_never_fails(folder, site, tmp_path, monkeypatch):
    store.prune(tmp_path / "missing")
    entry = entry_of(folder, site, age=100 * DAY)

    def fail(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "rename", fail)
    store.prune(folder)
    assert entry.files()
    monkeypatch.undo()
    monkeypatch.setattr(os, "scandir", fail)
    store.prune(folder)
    monkeypatch.undo()
    assert entry.files()
