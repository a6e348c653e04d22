"""Patterns in the site's navigation stand for the pages that no other line names."""

from __future__ import annotations

from docs import navigation

PAGES = ["index.md", "a/x.md", "a/y.md", "a/index.md", "b.md"]


def test_patterns_stand_for_the_rest():
    nav = ["index.md", {"First": ["a/index.md", "a/*.md"]}, {"None": "none/*.md"}, {"Named": "b.md"}, "*.md"]
    assert navigation.expanded(nav, PAGES) == [
        "index.md",
        {"First": ["a/index.md", "a/x.md", "a/y.md"]},
        {"Named": "b.md"},
    ]


def test_a_pattern_under_a_title():
    assert navigation.expanded([{"A": "a/*.md"}], PAGES) == [{"A": ["a/index.md", "a/x.md", "a/y.md"]}]


def test_a_page_that_is_missing_stays_to_be_complained_of():
    assert navigation.expanded(["gone.md"], PAGES) == ["gone.md"]
