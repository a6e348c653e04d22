"""No test of this folder touches the network, the user's cache or the user's data folder."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests

from fastnn.datasets import _files

_REAL = os.environ.get("FASTNN_DATA")


class FakeWeb:
    """Stands in for pooch's downloader: serves `pages` by URL, is off the network for every other; counts requests."""

    def __init__(self) -> None:
        self.pages: dict[str, bytes | Exception] = {}
        self.asked: list[str] = []

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        self.asked.append(url)
        page = self.pages.get(url, requests.exceptions.ConnectionError("Temporary failure in name resolution"))
        if isinstance(page, Exception):
            raise page
        Path(output_file).write_bytes(page)


@pytest.fixture(autouse=True)
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeWeb:
    fake = FakeWeb()
    monkeypatch.setattr("pooch.HTTPDownloader", lambda **_: fake)
    monkeypatch.setattr("time.sleep", lambda _: None)  # pooch's pauses between attempts
    monkeypatch.setenv("FASTNN_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    return fake


@pytest.fixture
def cache(web: FakeWeb, tmp_path: Path) -> Path:
    return tmp_path / "cache" / "datasets"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder


@pytest.fixture
def put(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, str, bytes], Path]:
    """Write a made file into a folder and pin its checksum in the registry, keeping the published URLs."""

    def _put(folder: Path, name: str, data: bytes) -> Path:
        source = _files.REGISTRY[name]
        pin = _files.Source(hashlib.sha256(data).hexdigest(), source.urls)
        monkeypatch.setitem(_files.REGISTRY, name, pin)
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        return path

    return _put


@pytest.fixture
def real() -> Callable[[str], Path]:
    """Return the folder of real files, or skip the test where it lacks the one named."""

    def _real(name: str) -> Path:
        if _REAL is None or not (Path(_REAL) / name).is_file():
            pytest.skip(f"FASTNN_DATA has no {name}")
        return Path(_REAL)

    return _real


def idx_bytes(array: np.ndarray) -> bytes:
    """Return `array` (uint8) in the IDX format, written with struct rather than with what the loader uses."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def idx_gz(array: np.ndarray) -> bytes:
    return gzip.compress(idx_bytes(array), mtime=0)


def npz_bytes(**arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, allow_pickle=True, **arrays)
    return file.getvalue()


@pytest.fixture
def make() -> Any:
    """Return the makers of file contents."""

    class Makers:
        idx = staticmethod(idx_bytes)
        idx_gz = staticmethod(idx_gz)
        npz = staticmethod(npz_bytes)

    return Makers
