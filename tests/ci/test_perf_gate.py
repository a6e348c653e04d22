"""What the gate decides, on figures made up; that it catches kernels slowed on purpose is ``.ci/run``'s self-test."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from bench import kernels, training
from ci import baseline, perf_gate
from ci.perf_gate import CERTAIN, CLEAR, FAILS, FLOOR, NO_BASELINE, NOT_JUDGED, OK, SLOW, SLOWER, Line, Outcome
from ci.sides import Attempt, NoBaselineError, SideError, Tree

ABOVE, BELOW = 1.001, 0.999


@pytest.fixture(autouse=True)
def _two_cpus(monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def attempts(*ratios, others=0.0):
    return [Attempt(ours=1e-3, base=ratio * 1e-3, ratios=(ratio,), others=others) for ratio in ratios]


def test_what_must_be_caught_is_as_far_below_the_floor_as_unchanged_code_is_above():
    above, below = 1 / FLOOR, FLOOR * SLOWER
    assert below == pytest.approx(above)
    assert 1 / SLOWER < CERTAIN < FLOOR < CLEAR < 1


@pytest.mark.parametrize(
    ("ratios", "expected"),
    [
        ([CLEAR * ABOVE], OK),
        ([CLEAR * BELOW], None),
        ([0.1], None),
        ([0.1, 0.1], None),
        ([0.1, 1.0], None),
        ([0.1, 1.0, 1.0], OK),
        ([0.1, 0.1, 0.1], SLOW),
        ([1 / SLOWER] * 3, SLOW),
        ([0.9, CERTAIN * BELOW, 0.1], SLOW),
        ([0.9, CERTAIN * ABOVE, 0.1], None),
        ([0.9, CLEAR * ABOVE, 1.0], OK),
        ([0.9, 0.9, 0.9, 1.1], None),
        ([0.9, 0.9, 0.9, 1.1, 1.1], None),
        ([FLOOR * ABOVE] * 6, None),
        ([FLOOR * ABOVE] * 7, OK),
        ([FLOOR * BELOW] * 7, SLOW),
        ([0.1] * 3 + [FLOOR * ABOVE] * 4, OK),
        ([0.1] * 4 + [FLOOR * ABOVE] * 3, SLOW),
    ],
)
def test_verdict_of_the_median_of_the_attempts(ratios, expected):
    assert perf_gate.verdict(attempts(*ratios), threads=1) == expected


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ((1.0, 1.0, 1.0, 1.0, FLOOR * BELOW), OK),
        ((1.0, 1.0, 1.0, FLOOR * BELOW, FLOOR * BELOW), None),
        ((1.2, 1.2, 1.0, FLOOR * ABOVE, FLOOR * ABOVE), OK),
    ],
)
def test_a_first_attempt_whose_blocks_are_at_odds_is_not_enough(blocks, expected):
    at_odds = Attempt(ours=1e-3, base=1e-3, ratios=blocks)
    assert perf_gate.verdict([at_odds], threads=1) == expected
    assert perf_gate.verdict([at_odds, *attempts(1.0, 1.0)], threads=1) == OK


@pytest.mark.parametrize(
    ("ratio", "others", "threads", "expected"),
    [
        (0.5, 0.0, 2, SLOW),
        (0.5, 1.0, 2, NOT_JUDGED),
        (0.5, 1.0, 1, SLOW),
        (0.5, 1.9, 1, SLOW),  # the CPU's time counts on one thread, which others do not take
        (1.0, 1.0, 2, OK),
    ],
)
def test_threads_are_judged_only_where_they_had_their_cores(ratio, others, threads, expected):
    assert perf_gate.verdict(attempts(*[ratio] * 5, others=others), threads) == expected


def test_threads_are_called_slow_after_more_attempts():
    assert perf_gate.verdict(attempts(0.5, 0.5, 0.5), threads=1) == SLOW
    assert perf_gate.verdict(attempts(0.5, 0.5, 0.5), threads=2) is None
    assert perf_gate.verdict(attempts(0.5, 0.5, 0.5, 1.0, 1.0), threads=2) == SLOW
    assert perf_gate.verdict(attempts(0.5, 0.5, 1.0, 1.0, 1.0), threads=2) == OK


def test_a_disturbance_that_passes_does_not_hide_slow_threads():
    found = [*attempts(0.5, 0.5, others=1.0), *attempts(0.5, 0.5, 0.5)]
    assert perf_gate.verdict(found, threads=2) == SLOW


def test_gated_are_all_but_the_largest_and_of_each_op_at_least_one():
    names = [
        "matmul 32x1000x100",
        "matmul 1024x1024x1024",
        "matmul 2048x2048x2048",
        "matmul X.T @ dZ 784x128x512",
        "add 10000000",
        "relu 10000",
        "relu 10000000",
        "softmax 4096x1000",
        "epoch mnist, 784-512-10, batch 128, 6,400 made rows",
    ]
    assert perf_gate.gated(names) == [name for name in names if name not in ("matmul 2048x2048x2048", "relu 10000000")]


def test_of_ops_that_are_emitted_alike_one_is_gated():
    names = [case.name for case in kernels.cases()]
    ops = {name.partition(" ")[0] for name in names}
    gated = {name.partition(" ")[0] for name in perf_gate.gated(names)}
    assert {op for others in perf_gate._STANDS_FOR.values() for op in others} <= ops
    assert set(perf_gate._STANDS_FOR) <= gated == ops - perf_gate._STOOD_FOR
    assert len(perf_gate.gated(names)) <= 92


def test_lines_on_two_threads_show_that_threads_work(monkeypatch, capsys):
    names = ["matmul 1024x1024x1024", "relu 10000", "epoch x"]
    on_two = [Line("matmul 1024x1024x1024", 2), Line("epoch x", 2)]
    on_one = [Line(name, 1) for name in names]
    assert perf_gate.lines(names) == on_one + on_two
    assert [str(line) for line in on_two] == ["matmul 1024x1024x1024, 2 threads", "epoch x, 2 threads"]
    monkeypatch.setattr(os, "cpu_count", lambda: 1)
    assert perf_gate.lines(names) == on_one
    assert "one CPU" in capsys.readouterr().out


def test_the_self_tests_lines_are_gated():
    names = [case.name for case in (*kernels.cases(), *training.cases(quick=True))]
    gated = [line for line in perf_gate.lines(names) if line.threads == 1]
    caught = [line.case.partition(" ")[0] for line in gated if perf_gate._caught(line)]
    assert set(caught) == set(perf_gate._SLOWED)
    controls = [line for line in gated if perf_gate._control(line)]
    assert len(controls) == 5
    assert not any(line.case.partition(" ")[0] in perf_gate._SLOWED for line in controls)


class FakePair:
    """Two sides whose ratios are given: by case, one for each attempt, or the error that measuring it raises."""

    def __init__(self, given, known=None, failed=None, base_failed=None):
        self._ratios = {name: iter(ratios) for name, ratios in given.items()}
        self._lines = ([*given], failed or {})
        self._base_lines = ([*given] if known is None else known, base_failed or {})
        self.starts, self.asked = 0, []

    def __call__(self, ours, base, slowed=()):
        self.starts += 1
        self.trees, self.slowed = (ours, base), slowed
        self.ours = SimpleNamespace(tree=ours, lines=lambda: self._lines)
        self.base = SimpleNamespace(tree=base, lines=lambda: self._base_lines)
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def measure(self, name, threads, place, effort):
        self.asked.append((name, place, effort))
        ratio = next(self._ratios[name])
        if isinstance(ratio, Exception):
            raise ratio
        return Attempt(1e-3, ratio * 1e-3, (ratio,))


BASE = Tree("baseline abc", perf_gate.TREE.folder / "nowhere")


@pytest.fixture
def sides(monkeypatch):
    def make(*given, **options):
        pair = FakePair(*given, **options)
        monkeypatch.setattr(perf_gate, "Pair", pair)
        monkeypatch.setattr(baseline, "tree", lambda: BASE)
        return pair

    return make


def every(line):
    return True


def found(outcomes):
    return {outcome.line.case: (outcome.verdict, len(outcome.attempts)) for outcome in outcomes}


def test_a_line_that_does_not_tell_is_measured_again_in_new_processes_at_other_places(sides):
    pair = sides({"mse": [1.0], "add": [0.9, 1.0, 1.0], "relu": [0.7, 0.7, 0.7]})
    assert found(perf_gate.compare(BASE)) == {"mse": (OK, 1), "add": (OK, 3), "relu": (SLOW, 3)}
    assert pair.starts == 3
    more = perf_gate._MORE
    assert [asked for asked in pair.asked if asked[0] == "add"] == [("add", 0, 1), ("add", 1, more), ("add", 2, more)]


def test_what_the_baseline_cannot_run_is_told_and_no_failure(sides, capsys):
    given = {"mse": [1.0], "new": [], "changed": [NoBaselineError("baseline abc: TypeError: no such option")]}
    sides(given, known=["mse", "changed", "gone"])
    assert perf_gate.gate(every) == 0
    out = capsys.readouterr().out
    assert "lines of baseline abc that the tree has no more: gone\n" in out
    assert "new, 1 thread      no baseline: baseline abc has no such line\n" in out
    assert "changed, 1 thread  no baseline: baseline abc: TypeError: no such option\n" in out
    assert "0 of 3 lines slow or failing, 2 without a baseline" in out


def test_only_the_lines_that_match_are_measured(sides, capsys, monkeypatch):
    pair = sides({"mse 100": [1.0], "mse 10": [1.0], "add": [1.0]})
    monkeypatch.setattr(perf_gate.environment, "prepared", lambda target: dict(os.environ))
    assert perf_gate.main(["--only", "^mse .*, 1 thread$"]) == 0
    assert [asked[0] for asked in pair.asked] == ["mse 100", "mse 10"]
    assert "0 of 2 lines slow" in capsys.readouterr().out


def test_a_pattern_that_no_line_matches_is_an_error(sides, capsys, monkeypatch):
    sides({"mse": [1.0]})
    monkeypatch.setattr(perf_gate.environment, "prepared", lambda target: dict(os.environ))
    assert perf_gate.main(["--only", "nothing"]) == 2
    assert "perf_gate: none of the 1 lines is wanted, such as mse, 1 thread" in capsys.readouterr().err


def test_a_baseline_that_can_run_nothing_fails_the_gate(sides, capsys):
    sides({"mse": []}, known=[], base_failed={"kernels": "ImportError: no peak"})
    assert perf_gate.gate(every) == 1
    out = capsys.readouterr().out
    assert "NOTE: baseline abc cannot run bench.kernels: ImportError: no peak\n" in out
    assert "mse, 1 thread  no baseline: baseline abc has no such line\n" in out
    assert "Nothing could be compared" in out


def test_slow_lines_and_lines_that_the_tree_cannot_run_fail_the_gate_and_are_named(sides, capsys):
    sides({"mse": [0.7] * 3, "add": [1.0], "relu": [SideError("the tree: ValueError: bad")]})
    assert perf_gate.gate(every) == 1
    out = capsys.readouterr().out
    assert (
        "mse, 1 thread     700 us      1 ms   0.70  SLOW after 3 attempts of 0.70 to 0.70, others used 0.0 cores" in out
    )
    assert "add, 1 thread       1 ms      1 ms   1.00  ok\n" in out
    assert "relu, 1 thread  FAILS: the tree: ValueError: bad\n" in out
    assert "SLOW or FAILS: mse, 1 thread; relu, 1 thread\n" in out


def test_a_tree_whose_lines_cannot_be_listed_is_an_error(sides):
    sides({"mse": []}, failed={"training": "ImportError: no models"})
    with pytest.raises(SideError, match=r"the tree cannot run bench\.training: ImportError: no models"):
        perf_gate.gate(every)


def test_unchanged_compares_the_tree_with_itself(sides, capsys):
    pair = sides({"mse": [0.9, 1.0, 1.0], "add": [1.0]})
    assert perf_gate.unchanged(every) == 0
    assert pair.trees == (perf_gate.TREE, perf_gate.TREE)
    assert "0 alarms, 1 of 2 lines measured again" in capsys.readouterr().out
    sides({"mse": [0.7] * 3})
    assert perf_gate.unchanged(every) == 1


SELF_TEST = {"adam_step 1000000": [1 / SLOWER] * 3, "mse 100x100": [1.0]}


@pytest.mark.parametrize(
    ("given", "wrong"),
    [
        (SELF_TEST, ""),
        ({**SELF_TEST, "adam_step 1000000": [1.0]}, "adam_step 1000000, 1 thread: wrong"),
        ({**SELF_TEST, "mse 100x100": [0.7] * 3}, "mse 100x100, 1 thread: wrong"),
        ({**SELF_TEST, "adam_step 1000000": [NoBaselineError("gone")]}, "adam_step 1000000, 1 thread: wrong"),
    ],
)
def test_the_self_test_wants_the_slowed_lines_caught_and_no_other(sides, capsys, given, wrong):
    pair = sides({**given, "tanh 10000": []})
    assert perf_gate.self_test() == bool(wrong)
    assert pair.slowed == perf_gate._SLOWED
    assert pair.trees == (perf_gate.TREE, perf_gate.TREE)
    assert f"self-test: {wrong or 'the slowed lines, and no other, were caught'}" in capsys.readouterr().out


def test_repeated_runs_fail_if_one_does(monkeypatch, sides):
    monkeypatch.setattr(perf_gate.environment, "prepared", lambda target: dict(os.environ))
    monkeypatch.setattr(perf_gate.environment, "facts", lambda with_blas: {})
    pair = sides({"mse": [1.0, 0.7, 0.7, 0.7, 1.0]})
    assert perf_gate.main(["--unchanged", "--repeat", "3"]) == 1
    assert len(pair.asked) == 5


@pytest.mark.parametrize("count", ["0", "-1", "two"])
def test_repeat_wants_a_number(count, capsys):
    with pytest.raises(SystemExit):
        perf_gate.main(["--unchanged", f"--repeat={count}"])
    assert f"--repeat: got '{count}', wants a number of at least 1" in capsys.readouterr().err


def test_a_baseline_that_cannot_be_compiled_ahead_is_left_to_the_gate(sides, capsys):
    sides({})
    assert perf_gate.compile_baseline() == 0
    assert capsys.readouterr().out.startswith("NOTE: baseline abc: imports ")


def test_errors_are_told_and_end_with_status_2(monkeypatch, capsys):
    def missing(to):
        raise baseline.BaselineError(f"no {to}")

    monkeypatch.setattr(baseline, "advance", missing)
    assert perf_gate.main(["--advance"]) == 2
    assert capsys.readouterr().err == "perf_gate: no HEAD\n"
    monkeypatch.setattr(baseline, "advance", lambda to: f"moves to {to}")
    assert perf_gate.main(["--advance", "abc"]) == 0
    assert capsys.readouterr().out == "moves to abc\nNow commit ci/baseline.txt.\n"


def test_an_outcome_with_an_obstacle_needs_no_attempts():
    assert Outcome(Line("mse", 1)).verdict is None
    assert Outcome(Line("mse", 1), [], FAILS, "why").verdict == FAILS
    assert Outcome(Line("mse", 1), [], NO_BASELINE, "why").verdict == NO_BASELINE
