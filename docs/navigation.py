"""The order of the pages: patterns in mkdocs.yml stand for what they match."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any


def expanded(nav: Sequence[Any], pages: Iterable[str]) -> list[Any]:
    """``nav`` of mkdocs.yml with the pages that each pattern matches in its place, in order of their paths.

    A page that a line names is in no pattern's list; a pattern that matches none leaves its line out.
    """
    named = set(_named(nav))
    rest = sorted(set(pages) - named)
    return _expanded(nav, rest)


def _named(nav: Sequence[Any]) -> Iterable[str]:
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else (entry,):
            if isinstance(value, list):
                yield from _named(value)
            else:
                yield value


def _expanded(nav: Sequence[Any], pages: Sequence[str]) -> list[Any]:
    found: list[Any] = []
    for entry in nav:
        if isinstance(entry, str):
            found.extend(_matches(entry, pages))
            continue
        ((title, value),) = entry.items()
        if isinstance(value, list):
            inner = _expanded(value, pages)
        elif "*" in value:
            inner = _matches(value, pages)
        else:
            inner = value
        if inner:
            found.append({title: inner})
    return found


def _matches(entry: str, pages: Sequence[str]) -> list[str]:
    """The pages of the pattern's own folder that it matches, or the one that is named."""
    return [page for page in pages if PurePosixPath("/", page).match(f"/{entry}")] if "*" in entry else [entry]
