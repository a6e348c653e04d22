"""What a release says of itself at the top level: one version, one day, links and paths that lead somewhere."""

import re
import tomllib
from datetime import date
from pathlib import Path

import pytest

import fastnn

ROOT = Path(__file__).parents[1]
PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


def releases():
    """The changelog's versions and their days, as they stand in it."""
    return re.findall(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d)$", read("CHANGELOG.md"), re.MULTILINE)


def test_the_changelog_goes_from_the_newest_version_to_the_first():
    found = releases()
    headings = re.findall(r"^## (.*)$", read("CHANGELOG.md"), re.MULTILINE)
    assert headings == ["[Unreleased]", *(f"[{version}] - {day}" for version, day in found)]
    order = [(tuple(map(int, version.split("."))), date.fromisoformat(day)) for version, day in found]
    assert order == sorted(order, reverse=True)
    assert len(order) >= 2


def test_the_changelogs_parts_are_of_the_known_kinds_and_say_something():
    parts = re.split(r"^#{2,3} ", read("CHANGELOG.md"), flags=re.MULTILINE)[1:]
    for part in parts:
        title, _, body = part.partition("\n")
        if not title.startswith("["):
            assert title in KINDS
            assert re.match(r"\n*- \S", body), title


def test_every_place_has_the_version_that_the_package_has():
    version, day = releases()[0]
    citation = read("CITATION.cff")
    assert version == fastnn.__version__
    assert re.findall(r"^version: (.*)$", citation, re.MULTILINE) == [version]
    assert re.findall(r"^date-released: (.*)$", citation, re.MULTILINE) == [day]
    assert f"| {version.rpartition('.')[0]}.x | yes |" in read("SECURITY.md")
    assert "version" not in tomllib.loads(read("pyproject.toml"))["project"]  # dynamic: read from the package


def test_the_citation_is_what_its_form_wants():
    yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")
    project = tomllib.loads(read("pyproject.toml"))["project"]
    citation = yaml.safe_load(read("CITATION.cff"))
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys()
    assert all(author.get("name") or author.get("family-names") for author in citation["authors"])
    assert citation["type"] == "software"
    assert citation["license"] == project["license"]
    assert citation["keywords"] == project["keywords"]
    assert isinstance(citation["date-released"], date)


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    for target in re.findall(r"\]\(([^)]+)\)", read(name)):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_paths_that_contributors_are_sent_to_exist():
    named = re.findall(r"`([\w.]+/[\w./]*)`", read("CONTRIBUTING.md"))
    assert {"kernels/table/", "tests/golden/", ".ci/run"} <= set(named)
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_modules_that_contributors_run_exist():
    named = re.findall(r"python -m (ci\.\w+)", read("CONTRIBUTING.md"))
    assert "ci.perf_gate" in named
    assert [each for each in named if not (ROOT / f"{each.replace('.', '/')}.py").is_file()] == []
