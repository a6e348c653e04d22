"""The pages for those who come from elsewhere: what they name is here, and what they call missing is not."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re

import pages
import pytest

import fastnn
from ci import keras_names
from docs import coming_from

WRITTEN = [path for path in pages.paths() if path.parent.name == "coming-from"]
MADE = coming_from.pages()[coming_from.PATH]


def cells(path, title):
    """The first cells of the table below a heading of the second level."""
    part = path.read_text("utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return [line.split("|")[1].strip() for line in part.splitlines() if line.startswith("| ")][2:]


def resolved(name):
    """What a dotted name of fastnn's stands for."""
    value = fastnn
    for part in name.split(".")[1:]:
        value = getattr(value, part, None) or importlib.import_module(f"{value.__name__}.{part}")
    return value


@pytest.mark.parametrize("path", WRITTEN, ids=pages.name)
def test_what_a_page_names_is_here(path):
    named = set(re.findall(r"`(fastnn(?:\.\w+)+)", path.read_text("utf-8")))
    assert len(named) >= 3
    for name in named:
        of = name.split(".")[1]  # CI has all that some parts are made for, the README's tests have not
        if of not in ("torch", "thinc") or importlib.util.find_spec(of) is not None:
            assert resolved(name) is not None, name


def test_the_pages():
    assert {path.stem for path in WRITTEN} == {"keras", "scikit-learn", "pytorch", "neuralnet"}
    for path in WRITTEN:
        assert len(cells(path, "Missing")) >= 2, path
        assert len(cells(path, "Different")) >= 4, path


def test_what_keras_users_are_told_is_missing_is():
    rows = {row.keras: row for row in keras_names.rows()}
    named = [name for cell in cells(WRITTEN[0], "Missing") for name in re.findall(r"`(keras\.\w+\.\w+)`", cell)]
    assert len(named) >= 3
    assert [name for name in named if rows[name].ours is not None] == []


def test_what_scikit_learns_users_are_told_holds():
    pytest.importorskip("sklearn")
    (path,) = [path for path in WRITTEN if path.stem == "scikit-learn"]
    from fastnn import sklearn as ours

    pairs = re.findall(r"\| `(sklearn\.\w+)\.(\w+)` \| `fastnn\.sklearn\.(\w+)` \|", path.read_text("utf-8"))
    assert {mine for _, _, mine in pairs} == {name for name in ours.__all__ if not name.endswith("Warning")}
    lacking, others = set(), set()
    for module, name, mine in pairs:
        theirs = inspect.signature(getattr(importlib.import_module(module), name)).parameters
        given = inspect.signature(getattr(ours, mine)).parameters
        lacking |= {(name, each) for each in theirs.keys() - given.keys()}
        others |= {(name, each) for each in theirs.keys() & given if theirs[each].default != given[each].default}
    assert lacking <= {("LogisticRegression", "multi_class")}  # of versions before 1.8
    assert others <= {("LogisticRegression", "solver"), ("LogisticRegression", "penalty")}
    for cell in cells(path, "Missing"):
        for name in re.findall(r"`sklearn\.\w+\.(\w+)`", cell):
            assert name not in ours.__all__


def test_every_name_of_keras_is_on_the_made_page():
    listed = 0
    for module in keras_names.MODULES:
        part = MADE.partition(f"\n## {module}\n")[2].partition("\n## ")[0]
        for row in keras_names.rows():
            if row.keras.rpartition(".")[0] == f"keras.{module}":
                listed += 1
                name = f"`{row.keras.rpartition('.')[2]}`"
                told = (line for line in part.splitlines() if name in (line.split("|")[1] if line[:1] == "|" else line))
                line = next(told)
                missing, different = line.startswith("Missing: "), line.startswith("| ")
                assert (missing, different) == (row.ours is None, bool(row.differing)), row
    assert listed == len(keras_names.saved())


@pytest.mark.parametrize(
    ("difference", "said"),
    [
        ("axis: lacking", "no `axis`"),
        ("params: required here", "`params` is required"),
        ("callbacks: required for None", "`callbacks` is required"),
        ("x1: a", "`x1` is `a`"),
        ("axis: -1 for 0", "`axis` is `-1` by default, not `0`"),
        ("pool_size: 2 for required", "`pool_size` is `2` by default"),
    ],
)
def test_differences_in_words(difference, said):
    assert coming_from._said(difference) == said
