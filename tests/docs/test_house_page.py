"""The page of the house names what there is."""

from __future__ import annotations

import re

import pages

PAGE = pages.PAGES / "house.md"


def named(text):
    """Each file and folder at the beginning of a line or of a clause, with the folder that it is told to be in."""
    top = ""
    for line in text.splitlines():
        if match := re.match(r"^(\w+/)", line):
            top = match[1]
        for word in re.findall(r"(?<![\w/.])\w+\.py\b|(?<![\w/.])\w+/(?=\s)", line.removeprefix(top)):
            yield top, word


def test_what_the_page_names_is_there():
    tree = PAGE.read_text("utf-8").partition("```\n")[2].partition("```")[0]
    found = list(named(tree))
    assert len(found) > 40
    for top, word in found:
        assert [*(pages.ROOT / top).rglob(word)], f"{word} in {top}"
    for folder in ("fastnn", "kernels", "tests", "bench", "ci", "docs"):
        assert f"\n{folder}/" in f"\n{tree}"
