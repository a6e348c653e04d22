"""The examples' pages: a run's print and pictures beside its script, kept until the script changes."""

from __future__ import annotations

import pytest

from docs import examples
from fastnn.errors import DataFileError


@pytest.fixture
def ran(tmp_path, monkeypatch):
    """Examples that only write down that they were run."""
    calls = []

    def run(name, out, seed, *, quick):
        calls.append((name, quick))
        out.mkdir(parents=True)
        if name == "reuters":
            raise DataFileError("reuters.npz: no copy of it")
        print(f"figures of {name}")
        (out / f"{name}.png").write_bytes(b"picture")

    monkeypatch.setattr(examples, "_KEPT", tmp_path)
    monkeypatch.setattr(examples.examples, "run", run)
    return calls


def test_pages_of_all(ran):
    texts, pictures = examples.pages(full=False)
    assert set(texts) == {"examples/index.md", *(f"examples/{name}.md" for name in examples.examples.NAMES)}
    assert pictures["examples/xor.png"].read_bytes() == b"picture"
    page = texts["examples/xor.md"]
    assert "```text\nfigures of xor\n```" in page
    assert "](xor.png)" in page
    assert "def perceptron(" in page
    assert "small settings" in texts["examples/index.md"]
    assert all(quick for _, quick in ran)


def test_what_was_run_is_kept_until_its_script_changes(ran, monkeypatch):
    examples.pages(full=False)
    first = len(ran)
    texts, pictures = examples.pages(full=False)
    assert [name for name, _ in ran[first:]] == ["reuters"]  # which has nothing to be kept
    assert "figures of xor" in texts["examples/xor.md"]
    assert "examples/xor.png" in pictures
    monkeypatch.setattr(examples, "_digest", lambda name: "other")
    examples.pages(full=False)
    assert ran.count(("xor", True)) == 2
    examples.pages(full=True)
    assert ran.count(("xor", False)) == 1


def test_a_page_without_its_data_says_so(ran):
    texts, pictures = examples.pages(full=False)
    assert "data set was not there" in texts["examples/reuters.md"]
    assert "examples/reuters.png" not in pictures


def test_a_script_that_changes_is_another(tmp_path, monkeypatch):
    before = examples._digest("xor")
    (tmp_path / "xor.py").write_text("other")
    monkeypatch.setattr(examples, "_SCRIPTS", tmp_path)
    assert examples._digest("xor") != before
