"""The commit that the gate compares with: checked out as an importable tree, moved forward, missed with advice."""

from __future__ import annotations

import subprocess

import pytest

from ci import baseline
from ci.baseline import BaselineError

pytestmark = pytest.mark.usefixtures("repository")


def git(folder, *arguments):
    settings = [
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@b",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "init.defaultBranch=main",
    ]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def commit(folder, version):
    """A commit whose packages say which one it is; its name."""
    for package in ("fastnn", "kernels"):
        (folder / package).mkdir(exist_ok=True)
        (folder / package / "__init__.py").write_text(f"version = {version}\n")
    git(folder, "add", ".")
    git(folder, "commit", "-m", f"Version {version}")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def repository(monkeypatch, tmp_path):
    """A checkout of three commits, the first of which is the baseline."""
    folder = tmp_path / "checkout"
    (folder / "ci").mkdir(parents=True)
    git(folder, "init")
    (folder / ".gitignore").write_text("build/\n")
    first = commit(folder, 1)
    (folder / "ci" / "baseline.txt").write_text(f"{first} Version 1\n")
    commit(folder, 2)
    commit(folder, 3)
    use(monkeypatch, folder)
    return folder


def use(monkeypatch, folder):
    monkeypatch.setattr(baseline, "ROOT", folder)
    monkeypatch.setattr(baseline, "FILE", folder / "ci" / "baseline.txt")
    monkeypatch.setattr(baseline, "CHECKOUTS", folder / "build" / "perf_gate")


def test_the_baseline_in_the_checkout_is_a_commit():
    file = baseline.Path(baseline.__file__).with_name("baseline.txt")
    name, _, subject = file.read_text().strip().partition(" ")
    assert len(name) == 40
    assert int(name, 16)
    assert subject


def test_the_packages_of_the_commit_are_laid_out_as_an_installation_is(repository):
    tree = baseline.tree()
    assert tree.name == f"baseline {baseline.commit()[:7]}"
    files = sorted(str(path.relative_to(tree.folder)) for path in tree.folder.rglob("*.py"))
    assert files == ["fastnn/__init__.py", "fastnn/kernels/__init__.py"]
    assert {path.read_text() for path in tree.folder.rglob("*.py")} == {"version = 1\n"}
    assert tree.cache.is_relative_to(tree.folder)
    assert git(repository, "status", "--porcelain") == ""
    assert list(baseline.CHECKOUTS.iterdir()) == [tree.folder]


def test_a_baseline_checked_out_once_needs_git_no_more(monkeypatch):
    tree = baseline.tree()
    monkeypatch.setenv("PATH", "")
    assert baseline.tree() == tree


def test_without_git(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BaselineError, match="git is not installed"):
        baseline.tree()


def test_outside_a_repository(monkeypatch, repository, tmp_path):
    bare = tmp_path / "unpacked"
    (repository / "ci").rename(bare)
    (bare / "ci").mkdir()
    (bare / "baseline.txt").rename(bare / "ci" / "baseline.txt")
    use(monkeypatch, bare)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(BaselineError, match="not a git repository"):
        baseline.tree()


def test_a_shallow_clone_is_told_how_to_get_the_history(monkeypatch, repository, tmp_path):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "--depth=1", repository.as_uri(), str(clone))
    use(monkeypatch, clone)
    with pytest.raises(BaselineError, match="shallow: git fetch --unshallow"):
        baseline.tree()
    git(clone, "fetch", "--unshallow")
    assert baseline.tree().folder.is_dir()


def test_a_commit_that_no_clone_has(repository):
    (repository / "ci" / "baseline.txt").write_text("0" * 40)
    with pytest.raises(BaselineError, match="0000000 is not in this clone: git fetch; where history was rewritten"):
        baseline.tree()


@pytest.mark.parametrize("text", ["", "HEAD\n", "0123abc Version 1\n"])
def test_a_file_that_names_no_commit(repository, text):
    (repository / "ci" / "baseline.txt").write_text(text)
    with pytest.raises(BaselineError, match=r"ci/baseline.txt: got '.*', wants the 40 digits of a commit"):
        baseline.tree()


def test_a_commit_without_the_packages(repository):
    git(repository, "rm", "-r", "kernels")
    git(repository, "commit", "-m", "Drop the kernels")
    (repository / "ci" / "baseline.txt").write_text(git(repository, "rev-parse", "HEAD"))
    with pytest.raises(BaselineError, match="git archive: fatal: pathspec 'kernels'"):
        baseline.tree()
    assert not list(baseline.CHECKOUTS.glob("*"))


@pytest.mark.parametrize(("to", "count", "subject"), [("HEAD", 2, "Version 3"), ("HEAD~1", 1, "Version 2")])
def test_advance_names_a_later_commit(repository, to, count, subject):
    git(repository, "tag", "aimed", to)
    told = baseline.advance(to)
    assert baseline.commit() == git(repository, "rev-parse", "aimed")
    assert baseline.described().endswith(subject)
    assert told == f"the baseline moves by {count} commits, to {baseline.described()}"
    assert (baseline.tree().folder / "fastnn" / "__init__.py").read_text() == f"version = {4 - (to == 'HEAD~1') - 1}\n"


def test_advance_refuses_a_changed_tree(repository):
    (repository / "fastnn" / "__init__.py").write_text("version = 4\n")
    with pytest.raises(BaselineError, match="the working tree has changes"):
        baseline.advance()


def test_advance_refuses_a_commit_that_the_tree_does_not_come_from(repository):
    git(repository, "checkout", "-b", "other", "HEAD~1")
    side = commit(repository, 5)
    git(repository, "checkout", "main")
    with pytest.raises(BaselineError, match=f"{side[:7]} is no ancestor of HEAD"):
        baseline.advance(side)


def test_advance_refuses_to_go_back(repository):
    before = baseline.commit()
    baseline.advance("HEAD~1")
    git(repository, "commit", "-am", "Move the baseline")
    with pytest.raises(BaselineError, match=f"{before[:7]} does not come after the baseline"):
        baseline.advance(before)


def test_advance_to_what_is_no_commit(repository):
    with pytest.raises(BaselineError, match="git rev-parse: "):
        baseline.advance("nowhere")
