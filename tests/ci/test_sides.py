"""Two processes asked by turns: what each imports, how a line's ratio comes about, what becomes of their failures."""

from __future__ import annotations

import os

import pytest

from bench import environment
from ci import sides
from ci.sides import NoBaselineError, Pair, Side, SideError, Tree

TREE = Tree("the tree", environment.ROOT)


@pytest.fixture
def made(tmp_path):
    """A tree whose fastnn does what the source says when it is imported."""

    def make(source, cache=None):
        package = tmp_path / "tree" / "fastnn" / "kernels"
        package.mkdir(parents=True)
        (package.parent / "__init__.py").write_text(source)
        (package / "__init__.py").write_text("")
        return Tree("other", tmp_path / "tree", cache)

    return make


@pytest.fixture
def start():
    """Sides that are ended after the test."""
    running = []

    def begin(tree):
        running.append(Side(tree))
        return running[-1]

    yield begin
    for side in running:
        side.close()


def test_both_sides_of_a_pair_import_their_own_tree(made):
    with Pair(TREE, made("")) as pair:
        assert pair.ours.ask("files")[0] == str(environment.ROOT / "fastnn" / "__init__.py")
        assert pair.base.ask("files")[0] == str(pair.base.tree.folder / "fastnn" / "__init__.py")
        assert pair.base.cpu_seconds > 0


def test_a_side_that_finds_another_trees_fastnn_is_an_error(tmp_path):
    with (
        pytest.raises(SideError, match=f"other: imports .*, wants it from {tmp_path}"),
        Pair(TREE, Tree("other", tmp_path)),
    ):
        pytest.fail("the pair was made")


def test_kernels_are_compiled_to_the_trees_own_cache(made, start, tmp_path):
    tree = made("import os\nraise ValueError(os.environ['NUMBA_CACHE_DIR'])", cache=tmp_path / "compiled")
    with pytest.raises(SideError, match=f"other: ValueError: {tmp_path / 'compiled'}"):
        start(tree).check()


def test_what_lines_would_compile_is_compiled_ahead(made, start, tmp_path):
    source = (
        "import os, pathlib\ndef warmup(dtypes):\n    pathlib.Path(os.environ['NUMBA_CACHE_DIR']).write_text(*dtypes)"
    )
    start(made(source, cache=tmp_path / "compiled")).ask("compile")
    assert (tmp_path / "compiled").read_text() == "float32"


def test_what_a_tree_lacks_is_not_found_in_another_one(made, start):
    names, failed = start(made("")).lines()
    assert names == []
    assert set(failed) == {"kernels", "training"}
    assert failed["training"].startswith("ModuleNotFoundError: No module named 'fastnn.utils'")


def test_a_process_that_ends_is_started_again(made, start):
    side = start(made("import os\nos._exit(3)"))
    for _ in range(2):
        with pytest.raises(SideError, match="other: its process ended with status 3"):
            side.check()


def test_a_process_that_never_answers_is_ended(made, start, monkeypatch):
    monkeypatch.setattr(sides, "_ANSWER_SECONDS", 0.1)
    side = start(made("import time\ntime.sleep(1000)"))
    with pytest.raises(SideError, match="other: its process ended with status -9"):
        side.check()


class FakeSide:
    """A side whose blocks take the seconds that are given, in turn."""

    def __init__(self, name, seconds, log):
        self.tree, self.cpu_seconds = Tree(name, environment.ROOT), 0.0
        self._name, self._seconds, self._log = name, iter(seconds), log

    def ask(self, method, *arguments):
        self._log.append((self._name, method, *arguments))
        if method == "take":
            return 1e-3
        seconds = next(self._seconds)
        if isinstance(seconds, Exception):
            raise seconds
        return seconds


def pair(monkeypatch, ours, base, log):
    made = iter([FakeSide("ours", ours, log), FakeSide("base", base, log)])
    monkeypatch.setattr(sides, "Side", lambda *arguments: next(made))
    return Pair(TREE, TREE)


def test_a_lines_ratio_is_the_median_of_neighbours_in_turns(monkeypatch):
    log = []
    monkeypatch.setattr(sides, "_BLOCKS", 5)
    both = pair(monkeypatch, [1.0, 2.0, 4.0, 8.0, 16.0], [1.1, 2.0, 4.8, 24.0, 1.6], log)
    found = both.measure("mse", 1, 7)
    assert (found.ours, found.base) == (4.0, 2.0)
    assert found.ratio == pytest.approx(1.1)
    assert log[:2] == [("ours", "take", "mse", 1, 7), ("base", "take", "mse", 1, 7)]
    assert "".join(name[0] for name, *_ in log[2:]) == "obboobboob"


@pytest.mark.parametrize(("seconds", "effort", "blocks"), [(1e-3, 1, 10), (1e-3, 3, 30), (1.0, 1, 5), (1.0, 3, 15)])
def test_blocks_by_effort_and_length_of_a_call(monkeypatch, seconds, effort, blocks):
    log = []
    both = pair(monkeypatch, [1.0] * blocks, [1.0] * blocks, log)
    monkeypatch.setattr(both.ours, "ask", lambda method, *_, ask=both.ours.ask: (ask(method), seconds)[1])
    both.measure("mse", 1, 0, effort)
    assert len(log) == 2 * (1 + blocks)


def test_a_failure_of_the_base_is_no_failure_of_the_tree(monkeypatch):
    both = pair(monkeypatch, [1.0] * 9, [1.0, SideError("base: gone")], [])
    with pytest.raises(NoBaselineError, match="base: gone"):
        both.measure("mse", 1, 0)
    both = pair(monkeypatch, [1.0, SideError("ours: gone")], [1.0] * 9, [])
    with pytest.raises(SideError, match="ours: gone"):
        both.measure("mse", 1, 0)


def test_a_user_path_comes_behind_the_tree(made, start, monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "users"))
    tree = made("import os\nraise ValueError(os.environ['PYTHONPATH'])")
    path = os.pathsep.join(map(str, (tree.folder, environment.ROOT, tmp_path / "users")))
    with pytest.raises(SideError, match=path):
        start(tree).check()
