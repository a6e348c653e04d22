"""The user's cache folder: whatever names it, the path is absolute, and nothing is made."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fastnn.kernels import user_cache

VARIABLES = ("FASTNN_CACHE", "XDG_CACHE_HOME", "HOME")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"FASTNN_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b/kind"),
        ({"FASTNN_CACHE": "~/b", "HOME": "/h"}, "/h/b/kind"),
        ({"FASTNN_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/fastnn/kind"),
        ({"HOME": "/h"}, "/h/.cache/fastnn/kind"),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="names Linux's folders")
def test_folder(monkeypatch, variables, expected):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert user_cache.folder("kind") == Path(expected)


def test_a_relative_folder_is_one_of_the_working_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FASTNN_CACHE", "here")
    assert user_cache.folder("kind") == tmp_path / "here" / "kind"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variables", [{}, {"FASTNN_CACHE": "~/a"}])
def test_without_a_home(monkeypatch, variables):
    def homeless(*_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("FASTNN_CACHE", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(OSError, match="no home folder, and FASTNN_CACHE names no other"):
        user_cache.folder("kind")
