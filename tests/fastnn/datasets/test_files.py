"""Where files are looked for, in which order, and that nothing whose checksum is wrong gets through."""

from __future__ import annotations

import errno
import gzip
import os
import re
from pathlib import Path

import pytest

from fastnn.datasets import _files
from fastnn.errors import ChecksumError, DataFileError

NAME = "boston_housing/housing.data"
URLS = _files.REGISTRY[NAME].urls
GOOD = b" 1.0 2.0\n"


@pytest.fixture
def pinned(put, tmp_path):
    """Pin GOOD's checksum, with no copy in any place that is searched."""
    put(tmp_path / "elsewhere", NAME, GOOD)


def place(folder: Path, data: bytes) -> Path:
    path = folder / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", ["argument", "environment"])
def test_data_folder_comes_first(how, put, data_dir, cache, monkeypatch):
    put(data_dir, NAME, GOOD)
    place(cache, b"never looked at")
    if how == "environment":
        monkeypatch.setenv("FASTNN_DATA", str(data_dir))
    assert _files.read(NAME, data_dir=data_dir if how == "argument" else None) == GOOD


def test_argument_wins_over_environment(put, data_dir, tmp_path, monkeypatch):
    put(data_dir, NAME, GOOD)
    place(tmp_path / "other", b"of the environment")
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "other"))
    assert _files.read(NAME, data_dir=data_dir) == GOOD


@pytest.mark.usefixtures("pinned")
def test_cache_comes_before_the_network(cache, web, data_dir):
    place(cache, GOOD)
    assert _files.read(NAME, data_dir=data_dir) == GOOD
    assert web.asked == []


@pytest.mark.usefixtures("pinned")
def test_download_fills_the_cache(cache, web):
    web.pages[URLS[0]] = GOOD
    assert _files.read(NAME) == GOOD
    assert (cache / NAME).read_bytes() == GOOD
    assert [path.name for path in (cache / NAME).parent.iterdir()] == ["housing.data"]  # no temporary file left
    assert _files.read(NAME) == GOOD
    assert web.asked == [URLS[0]]


@pytest.mark.usefixtures("pinned")
def test_second_source_serves_when_the_first_fails(web):
    web.pages[URLS[1]] = GOOD
    assert _files.read(NAME) == GOOD
    assert web.asked == [URLS[0]] * 3 + [URLS[1]]


@pytest.mark.usefixtures("pinned")
def test_half_written_cache_file_is_replaced(cache, web):
    place(cache, GOOD[:4])
    web.pages[URLS[0]] = GOOD
    assert _files.read(NAME) == GOOD
    assert (cache / NAME).read_bytes() == GOOD


@pytest.mark.usefixtures("pinned")
def test_half_written_cache_file_without_network_is_refused(cache):
    path = place(cache, GOOD[:4])
    with pytest.raises(ChecksumError, match="is refused") as caught:
        _files.read(NAME)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == GOOD[:4]


@pytest.mark.usefixtures("pinned")
def test_wrong_bytes_in_the_data_folder_are_final(cache, data_dir, web):
    path = place(data_dir, b"something else")
    place(cache, GOOD)
    web.pages[URLS[0]] = GOOD
    with pytest.raises(ChecksumError, match=re.escape(str(path))):
        _files.read(NAME, data_dir=data_dir)
    assert path.read_bytes() == b"something else"


@pytest.mark.usefixtures("pinned")
def test_wrong_bytes_from_every_source_are_refused_and_not_kept(cache, web):
    web.pages = dict.fromkeys(URLS, b"a captive portal's page")
    with pytest.raises(ChecksumError, match="does not match the known hash"):
        _files.read(NAME)
    assert not (cache / NAME).exists()


@pytest.mark.usefixtures("pinned")
def test_what_was_downloaded_is_hashed_as_read(monkeypatch):
    monkeypatch.setattr(_files, "_download", lambda name, url, path: place(path.parents[1], b"exchanged meanwhile"))
    with pytest.raises(ChecksumError, match="is refused"):
        _files.read(NAME)


@pytest.mark.usefixtures("pinned")
def test_nothing_anywhere_names_file_places_and_ways_out(cache, data_dir):
    with pytest.raises(DataFileError) as caught:
        _files.read(NAME, data_dir=data_dir)
    message = str(caught.value)
    assert not isinstance(caught.value, ChecksumError)
    assert message.startswith(NAME)
    for tried in (data_dir / NAME, cache / NAME, *URLS):
        assert str(tried) in message
    assert message.count("name resolution") == len(URLS)
    assert "set FASTNN_DATA to a folder" in message
    assert f"put the file at {cache / NAME}" in message
    assert "connect to the network" in message


@pytest.mark.usefixtures("pinned")
def test_missing_folder_of_the_environment_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path / "gone"))
    with pytest.raises(DataFileError, match=re.escape(f"FASTNN_DATA: no {tmp_path / 'gone' / NAME} (no folder")):
        _files.read(NAME)


@pytest.mark.parametrize("make_it", [lambda path: None, lambda path: path.write_text("")])
def test_data_dir_must_be_a_folder(make_it, tmp_path):
    path = tmp_path / "thing"
    make_it(path)
    with pytest.raises(DataFileError, match=r"data_dir: got '.*thing', which is not a folder"):
        _files.read(NAME, data_dir=path)


@pytest.mark.usefixtures("pinned")
def test_file_that_cannot_be_read(data_dir):
    (data_dir / NAME).mkdir(parents=True)  # a folder where the file should be: unreadable for root too
    with pytest.raises(DataFileError, match=r"housing\.data cannot be read: Is a directory"):
        _files.read(NAME, data_dir=data_dir)


@pytest.mark.usefixtures("pinned")
def test_folder_that_cannot_be_searched(data_dir):
    place(data_dir, GOOD)
    data_dir.chmod(0)
    try:
        if os.access(data_dir, os.X_OK):
            pytest.skip("this user may search any folder")
        with pytest.raises(DataFileError, match="cannot be read: Permission denied"):
            _files.read(NAME, data_dir=data_dir)
    finally:
        data_dir.chmod(0o700)


def test_permission_denied_is_a_data_file_error(data_dir, monkeypatch):
    def denied(path):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(DataFileError, match="cannot be read: Permission denied"):
        _files.read(NAME, data_dir=data_dir)


@pytest.mark.usefixtures("pinned")
def test_cache_that_cannot_be_written(cache, web):
    web.pages[URLS[0]] = GOOD
    cache.parent.mkdir()
    cache.write_text("a file where the cache's folder should be")
    with pytest.raises(DataFileError, match="no copy of it that can be used"):
        _files.read(NAME)


@pytest.mark.usefixtures("pinned")
def test_full_disk_leaves_nothing_half_written(cache, web):
    web.pages = dict.fromkeys(URLS, OSError(errno.ENOSPC, "No space left on device"))
    with pytest.raises(DataFileError, match="No space left on device"):
        _files.read(NAME)
    assert list((cache / NAME).parent.iterdir()) == []


def test_other_known_copies_are_accepted(put, data_dir, monkeypatch):
    path = put(data_dir, NAME, GOOD)
    digest = _files.REGISTRY[NAME].digest
    monkeypatch.setitem(_files.REGISTRY, NAME, _files.Source("0" * 64, also=frozenset({digest})))
    assert _files.read(NAME, data_dir=data_dir) == path.read_bytes()


@pytest.mark.usefixtures("pinned")
def test_read_at_an_absolute_path(tmp_path, web, cache):
    web.pages[URLS[0]] = GOOD
    path = tmp_path / "mine" / "houses.txt"
    assert _files.read_at(NAME, path) == GOOD
    assert path.read_bytes() == GOOD
    assert not cache.exists()


@pytest.mark.usefixtures("pinned")
def test_read_at_a_relative_path_is_in_the_cache(web, cache):
    web.pages[URLS[0]] = GOOD
    assert _files.read_at(NAME, "houses.txt") == GOOD
    assert (cache / "boston_housing" / "houses.txt").read_bytes() == GOOD


def test_shipped_file_with_wrong_checksum_is_refused(monkeypatch):
    monkeypatch.setitem(_files.REGISTRY, "iris.csv", _files.Source("0" * 64))
    with pytest.raises(ChecksumError, match=r"iris\.csv is refused"):
        _files.read_shipped("iris.csv")


def test_shipped_file_that_is_missing(monkeypatch):
    monkeypatch.setitem(_files.REGISTRY, "gone.csv", _files.Source("0" * 64))
    with pytest.raises(DataFileError, match="reinstall fastnn"):
        _files.read_shipped("gone.csv")


@pytest.mark.parametrize(
    "damage", [lambda z: z[:-9], lambda z: z[:5], lambda z: b"text", lambda z: z[:12] + b"\xff" * 9]
)
def test_gunzip_of_damaged_bytes(damage):
    whole = gzip.compress(b"some text" * 9)
    assert _files.gunzip(whole, "x.gz") == b"some text" * 9
    with pytest.raises(DataFileError, match=r"x\.gz is damaged"):
        _files.gunzip(damage(whole), "x.gz")


def test_default_cache_is_the_platforms(monkeypatch):
    import pooch

    monkeypatch.delenv("FASTNN_CACHE")
    assert _files.cache_folder() == Path(pooch.os_cache("fastnn")) / "datasets"


# Published with no other checksum: text, which is parsed as JSON.
MD5_ALONE = {"imdb/imdb_word_index.json"}


def test_a_file_pinned_by_md5_is_refused_where_it_is_another(data_dir, monkeypatch):
    name = "imdb/imdb_word_index.json"
    (data_dir / "imdb").mkdir()
    (data_dir / name).write_bytes(b"{}")
    with pytest.raises(ChecksumError, match="its MD5 is 99914b932bd37a50b983c5e7c90ae93b, that of the published imdb/"):
        _files.read(name, data_dir=data_dir)
    monkeypatch.setitem(_files.REGISTRY, name, _files.Source("99914b932bd37a50b983c5e7c90ae93b"))
    assert _files.read(name, data_dir=data_dir) == b"{}"


def test_every_pin_is_a_digest_and_every_file_but_the_shipped_has_a_source():
    for name, source in _files.REGISTRY.items():
        length = 64 if name not in MD5_ALONE else 32
        assert all(re.fullmatch(f"[0-9a-f]{{{length}}}", digest) for digest in {source.digest, *source.also}), name
        assert bool(source.urls) == ("/" in name), name
        assert all(url.endswith(name.rsplit("/", 1)[-1]) for url in source.urls), name
