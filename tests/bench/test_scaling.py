"""Scaling sweeps: what is swept, how it is timed, where knees are found and what is said to be there."""

from __future__ import annotations

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from bench.scaling import command, knees, limits, measure, report
from bench.scaling.curves import Curve
from bench.scaling.limits import Kind
from bench.scaling.measure import Effort, Parts, Point
from bench.scaling.sweeps import NAMES, Setting, Sweep, sweeps
from fastnn import cli
from fastnn.engine import inputs, session
from fastnn.kernels.cpu import machine, threads

LEAST = Effort(rounds=2, seconds=0.0)
# Figures of no machine, easy to calculate with: a sample of 1 us, a step of 5 us, 1 ns a weight.
PARTS = Parts(
    peak=1e11, update=(1e-9, 2e-9, 3e-9), sample=1e-6, sparse_sample=5e-7, entry=1e-9, sparse_peak=5e10, step=5e-6
)
CACHES = machine.Caches(l1=32 << 10, l2=1 << 20, l3=16 << 20, l1_ways=8)
TILE = machine.Tile(MR=12, NV=2, VL=16)


@pytest.fixture
def skylake(monkeypatch):
    """Caches and a register tile that do not depend on the host."""
    monkeypatch.setattr(machine, "caches", lambda: CACHES)
    monkeypatch.setattr(limits.machine, "tile", lambda _: TILE)
    limits.footprint.cache_clear()
    yield
    limits.footprint.cache_clear()


def sweep_of(name, count=2):
    return next(sweep for sweep in sweeps(count) if sweep.name == name)


# --- what is swept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "first", "last"),
    [("width", 16, 4096), ("batch", 1, 4096), ("narrow", 1, 4096), ("depth", 1, 8), ("density", 0.001, 1)],
)
def test_ranges(name, first, last):
    sweep = sweep_of(name)
    assert list(sweep.values) == sorted(set(sweep.values))
    assert (sweep.values[0], sweep.values[-1], sweep.threads) == (first, last, (2, 1))
    quick = sweep.quick()
    assert (quick.values[0], quick.values[-1], len(quick.values)) == (first, last, 5)
    assert set(quick.values) <= set(sweep.values)


@pytest.mark.parametrize(("count", "values"), [(1, (1,)), (2, (1, 2)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))])
def test_threads_double_up_to_all(count, values):
    assert sweep_of("threads", count).values == values
    assert sweep_of("batch", count).threads == ((count, 1) if count > 1 else (1,))


def test_a_sweep_varies_its_parameter_alone():
    for sweep in sweeps(2):
        low, high = (sweep.at(value, 2) for value in (sweep.values[0], sweep.values[-1]))
        field = {"width": "hidden", "depth": "hidden"}.get(sweep.parameter, sweep.parameter)
        assert getattr(low, field) != getattr(high, field)
        assert replace(low, **{field: getattr(high, field)}) == high
    assert sweep_of("width").at(96, 1).sizes == (784, 96, 96, 10)
    assert sweep_of("depth").at(3, 1).sizes == (784, 512, 512, 512, 10)


def test_density_has_points_on_both_sides_of_the_switch():
    values = sweep_of("density").values
    below, above = max(v for v in values if v < inputs.SPARSE_BELOW), min(v for v in values if v > inputs.SPARSE_BELOW)
    assert above in sweep_of("density").values
    assert sweep_of("density").at(below, 1).sparse
    assert not sweep_of("density").at(above, 1).sparse


@pytest.mark.parametrize("hidden", [(512,), (64, 64), (24, 16, 8)])
def test_flops_are_those_of_the_plan(hidden):
    setting = Setting(hidden)
    assert setting.flops == measure._model(setting).plan().flop_per_sample
    # zeros save the first layer's outputs and its weights' gradient
    assert setting.useful_flops == setting.flops
    assert replace(setting, density=0.25).useful_flops == setting.flops - 0.75 * 4 * 784 * hidden[0]


# --- how it is timed --------------------------------------------------------------------------------------------------


def test_made_inputs_have_their_density_and_no_other_zeros():
    x, labels = measure._rows(Setting(), 500)
    assert x.shape == (500, 784)
    assert x.dtype == np.float32
    assert np.count_nonzero(x) == x.size
    assert set(labels) == set(range(10))
    sparse, _ = measure._rows(Setting(density=0.1), 500)
    assert np.count_nonzero(sparse) / sparse.size == pytest.approx(0.1, abs=0.005)
    assert np.array_equal(sparse[sparse != 0], x[sparse != 0])


def test_a_visit_takes_what_an_epoch_costs_once_from_the_long_one(monkeypatch):
    monkeypatch.setattr(measure, "_epochs", lambda model, setting, batches, timed=3: [7.0 + 2.0 * batches] * timed)
    visit = measure._visit(Setting((4,), batch=8), 20)
    assert visit.seconds == pytest.approx(2.0 / 8)
    assert visit.epoch_seconds == pytest.approx(7.0)


@pytest.mark.parametrize(
    ("a_batch", "once", "expected"),
    [(0.001, 0.0, 80), (0.001, 0.044, 90), (0.1, 0.0, 5), (1e-6, 0.0, 40_960 // 64)],
)
def test_long_epochs_fill_their_time_and_outweigh_what_they_cost_once(monkeypatch, a_batch, once, expected):
    def epochs(model, setting, batches, timed=3):
        return [once + a_batch * batches] * timed

    monkeypatch.setattr(measure, "_epochs", epochs)
    assert measure._batches(Setting((4,), batch=64), 0.08) == pytest.approx(expected, abs=1)


def test_only_epochs_after_the_first_are_timed_and_inside_fit(monkeypatch):
    fitted = []
    model = measure._model(Setting((4,)))
    real = model.fit
    monkeypatch.setattr(model, "fit", lambda *args, **kwargs: fitted.append(kwargs["epochs"]) or real(*args, **kwargs))
    seconds = measure._epochs(model, Setting((4,), batch=16), 3)
    assert fitted == [measure._WARM_EPOCHS + measure._TIMED_EPOCHS]
    assert len(seconds) == measure._TIMED_EPOCHS
    assert all(0 < one < 10 for one in seconds)
    assert measure._epochs(model, Setting((4,), batch=16), 3, timed=1)[0] > 0


def test_points_are_visited_in_rounds_of_shuffled_order():
    before = fastnn.get_num_threads()
    sweep = Sweep("tiny", "batch", (8, 16, 32, 64), "", Setting((4,), inputs=6), threads=(2, 1))
    told = []
    curves = measure.measure(sweep, LEAST, told.append)
    assert fastnn.get_num_threads() == before
    rounds = [[(one.threads, one.batch) for one in told[start : start + 8]] for start in (0, 8)]
    assert len(told) == 16
    assert sorted(rounds[0]) == sorted(rounds[1]) == [(t, b) for t in (1, 2) for b in (8, 16, 32, 64)]
    assert rounds[0] != rounds[1] != sorted(rounds[1])
    assert list(curves) == [2, 1]
    for count, points in curves.items():
        assert [point.value for point in points] == [8, 16, 32, 64]
        for point in points:
            assert point.setting == sweep.at(point.value, count)
            assert point.seconds == pytest.approx(sum(point.visits) / 2)
            assert point.flops == point.setting.flops
            assert point.batches >= measure._LEAST_BATCHES


def test_parts_are_measured_on_their_threads():
    before = fastnn.get_num_threads()
    with measure._threads(before + 1):
        assert fastnn.get_num_threads() == before + 1
        assert 1e8 < measure.peak(measure.DTYPE, 1) < 1e13
        assert all(1e-12 < seconds < 1e-6 for seconds in measure._update_seconds(1))
        assert fastnn.get_num_threads() == before + 1
    assert fastnn.get_num_threads() == before


# --- knees ------------------------------------------------------------------------------------------------------------


def broken(x, corner, before, after):
    return [3.0 * (value / corner) ** (before if value < corner else after) for value in x]


def test_a_broken_power_law_has_its_knee_and_exponents():
    x = [2.0**i for i in range(13)]
    law = knees.fit(x, broken(x, 64, -0.9, 0.2), [0.0] * 13)
    assert law.cuts == (6,)
    assert law.exponents == pytest.approx((-0.9, 0.2), abs=1e-6)
    (knee,) = law.knees
    assert (knee.index, knee.before, knee.after) == (6, *law.exponents)


def test_noise_within_the_tolerance_is_no_knee():
    x = [2.0**i for i in range(13)]
    rng = np.random.default_rng(1)
    found = [knees.fit(x, np.exp(rng.normal(0, knees.TOLERANCE, 13)), [0.0] * 13).knees for _ in range(50)]
    assert sum(map(bool, found)) <= 5


def test_a_bend_smaller_than_the_points_errors_is_no_knee():
    x = [2.0**i for i in range(9)]
    y = broken(x, 16, 0.0, 0.2)
    assert knees.fit(x, y, [0.01] * 9).cuts == (4,)
    assert knees.fit(x, y, [0.5] * 9).knees == []


def test_two_points_are_one_power_law():
    assert knees.fit([1, 2], [4.0, 2.0], [0.0, 0.0]).exponents == pytest.approx((-1.0,))


# --- limits -----------------------------------------------------------------------------------------------------------


def crossing(name, sweep, count=1):
    found = {one.limit.name: one for one in limits.crossings(sweep, count, {1: PARTS, 2: PARTS})}
    return found.get(name)


@pytest.mark.parametrize("hidden", [(512,), (40, 24)])
@pytest.mark.parametrize("density", [1.0, 0.1])
def test_footprint_is_what_the_engine_allocates(monkeypatch, hidden, density):
    sessions = []
    real = session.Session.__init__

    def kept(self, *args):
        sessions.append(self)
        real(self, *args)

    monkeypatch.setattr(session.Session, "__init__", kept)
    setting = Setting(hidden, batch=16, density=density)
    measure._epochs(measure._model(setting), setting, 2, timed=1)
    (made,) = sessions
    assert (made._inputs.indptr.size > 0) is (density < inputs.SPARSE_BELOW)
    found = limits.footprint(setting)
    assert found.weights == made._net.params.nbytes
    assert found.state == made._net.s0.nbytes
    # the inputs' place stays there where they are sparse, but nothing is gathered into it
    gathered = setting.batch * made._layout.leading(784) * 4
    assert found.inputs == (0 if density < 1 else gathered)
    assert found.transposed + found.activations + gathered == made._scratch * 4
    assert found.entries == pytest.approx(0 if density == 1 else 2 * 16 * 78.4 * 8, rel=0.01)


def test_threads_start_where_the_engine_starts_them():
    sweep = sweep_of("narrow")
    found = crossing("threads start", sweep, 2)
    just, before = (sweep.at(value, 2) for value in (found.value, found.value - 1))
    for setting, expected in ((just, 2), (before, 1)):
        assert limits.tasks(setting) == expected
        assert (session.region_nanoseconds(setting.sizes, setting.batch) >= threads.SERIAL_BELOW_NS) is (expected == 2)
    assert found.limit.kind is Kind.RELIEF
    assert crossing("threads start", sweep, 1) is None


def test_the_engine_goes_parallel_by_the_same_estimate(monkeypatch):
    told = []
    real = threads.count
    monkeypatch.setattr(threads, "count", lambda nanoseconds: told.append(nanoseconds) or real(nanoseconds))
    setting = Setting((32,), batch=13)
    measure._epochs(measure._model(setting), setting, 2, timed=1)
    assert session.region_nanoseconds(setting.sizes, 13) in told


@pytest.mark.usefixtures("skylake")
def test_bytes_cross_the_caches_where_they_are_calculated_to():
    batch, width = sweep_of("batch"), sweep_of("width")
    # a row gives a tile of dW 32 columns of dZ and 12 of X, which may straddle a line of 64 bytes
    found = crossing("dW tile, L1", batch)
    assert found.value == math.ceil((32 << 10) / (32 * 4 + 12 * 4 + 64))
    assert found.amount >= found.bound == 32 << 10
    # a unit of dW has 96 rows, which read as many columns of X
    assert crossing("dW unit, L2", batch).value == math.ceil((1 << 20) / (32 * 4 + 96 * 4 + 64))
    # a panel of 32 columns and 12 rows of a layer that is as deep as the one before is wide
    assert crossing("W panel, L1", width).value == math.ceil((32 << 10) / (44 * 4))
    assert crossing("units fill a tile", width).value == 32
    assert crossing("rows fill a tile", batch, 1).value == 12
    assert crossing("rows fill a tile", batch, 2).value == 24
    for name, bound in (("weights, L2", 1 << 20), ("everything, L3", 16 << 20)):
        found = crossing(name, width)
        before = width.at(found.value - 1, 1)
        assert found.bound == bound <= found.amount
        assert found.limit.amount(before, PARTS) < bound
    # 785 * W weights, their state, W * W + 10 * W more, the latter transposed too: about a megabyte
    assert crossing("weights, L2", width).value == pytest.approx(125, abs=5)
    # two cores: each keeps half of the state, and of the first layer where its panels of 32 columns are even in number
    sizes = 785 * 160 * 4, (160 * 160 + 160 * 10) * 4
    assert limits.footprint(width.at(160, 2)).of_a_core(2) == pytest.approx(1.5 * sizes[0] + 2.5 * sizes[1], rel=0.05)
    sizes = 785 * 192 * 4, (192 * 192 + 192 * 10) * 4
    assert limits.footprint(width.at(192, 2)).of_a_core(2) == pytest.approx(sizes[0] + 2.5 * sizes[1], rel=0.05)


@pytest.mark.usefixtures("skylake")
def test_a_limit_crossed_downwards_does_the_reverse():
    up = crossing("rows fill a tile", sweep_of("batch"))
    assert up.kind is Kind.OVERHEAD
    assert up.why.startswith("a task has the rows")
    parts = {1 << i: PARTS for i in range(7)}
    down = next(c for c in limits.crossings(sweep_of("threads", 64), 64, parts) if c.limit is up.limit)
    assert (down.value, down.amount) == (11, 128 / 11)
    assert down.kind is Kind.CAPACITY
    assert down.why.startswith("it is no longer so that a task has the rows")


@pytest.mark.usefixtures("skylake")
def test_times_are_shared_by_the_batch():
    times = limits.times(Setting((512,), batch=10), PARTS)
    weights = 784 * 512 + 512 * 10
    assert times == pytest.approx(
        {"products": Setting((512,)).flops / 1e11, "update": weights * 2e-9 / 10, "sample": 1e-6, "step": 5e-7}
    )
    found = crossing("samples outweigh the step", sweep_of("batch"))
    assert found.value == math.ceil((5e-6 + weights * 2e-9) / (times["products"] + 1e-6))
    dwarfed = crossing("samples dwarf the step", sweep_of("batch"))
    assert dwarfed.value == pytest.approx(10 * found.value, rel=0.05)


def test_zeros_are_skipped_or_multiplied():
    dense, sparse = (limits.times(Setting((512,), density=density), PARTS) for density in (0.5, 0.1))
    first = 4 * 784 * 512
    assert dense["products"] == pytest.approx(Setting((512,)).flops / 1e11)
    assert sparse["products"] == pytest.approx(6 * 512 * 10 / 1e11 + 0.1 * first / 5e10)
    assert sparse["sample"] == pytest.approx(5e-7 + 78.4e-9)


@pytest.mark.usefixtures("skylake")
def test_update_comes_from_the_level_that_holds_it():
    small, large, huge = (limits.times(Setting((width,), batch=1), PARTS)["update"] for width in (64, 512, 4096))
    assert small == pytest.approx(794 * 64 * 1e-9)
    assert large == pytest.approx(794 * 512 * 2e-9)
    assert huge == pytest.approx(794 * 4096 * 3e-9)


def test_limits_of_the_density():
    sweep = sweep_of("density")
    assert crossing("dense first layer", sweep).value == pytest.approx(inputs.SPARSE_BELOW, rel=0.005)
    half = crossing("rows of W touched", sweep).value
    assert 1 - (1 - half) ** 128 == pytest.approx(0.5, abs=0.005)
    assert crossing("sparse products outweigh the rest", sweep).value == pytest.approx(6 * 10 / (4 * 784), rel=0.005)
    for name in ("rows of W touched", "sparse products outweigh the rest"):
        assert crossing(name, sweep_of("width")) is None


# --- knees beside limits ----------------------------------------------------------------------------------------------


def curve(name, cost, count=1, **fields):
    """A curve of a sweep whose cost, seconds of a core for a useful FLOP, is a function of the value."""
    sweep = sweep_of(name)
    points = []
    for value in sweep.values:
        setting = sweep.at(value, count)
        seconds = cost(value) * setting.useful_flops / setting.threads
        points.append(Point(value, setting, seconds, (seconds,), 5, 1e-3, setting.flops, **fields))
    return Curve(sweep, count, points, {1: PARTS, 2: PARTS})


@pytest.mark.usefixtures("skylake")
def test_a_knee_is_explained_by_the_limits_that_lie_there():
    at = curve("batch", lambda value: 1e-11 * max(1.0, (value / 128) ** 0.5))
    (knee,) = at.law.knees
    assert at.points[knee.index].value == 128
    assert [one.limit.name for one in at.near(knee)] == ["dW tile, L1", "activations, L2"]
    assert at.effect(at.near(knee)[0]) == pytest.approx((2 * at.near(knee)[0].value / 128) ** 0.5, rel=0.02)
    text = report._knee(at, knee)
    assert "**batch 128**" in text
    assert "batch^-0.00 up to here, as batch^0.50 from here on" in text
    assert "At 137 the columns of X and dZ" in text
    assert "32.1 KiB against 32 KiB" in text


@pytest.mark.usefixtures("skylake")
def test_a_knee_of_the_sum_of_the_parts_is_foreseen():
    sweep = sweep_of("batch")

    def expected(value):
        setting = sweep.at(value, 1)
        return sum(limits.times(setting, PARTS).values()) / setting.useful_flops

    at = curve("batch", expected)
    assert at.law.knees
    for knee in at.law.knees:
        assert [other.index for other in at.foreseen(knee)] == [knee.index]
        assert f"The sum of the parts measured alone bends at {at.points[knee.index].value}:" in report._knee(at, knee)
    other_way = curve("batch", lambda value: 1e-11 * min(1.0, (16 / value) ** 0.9))
    assert [other_way.foreseen(knee) for knee in other_way.law.knees] == [[]]


@pytest.mark.usefixtures("skylake")
def test_a_knee_without_a_limit_is_said_to_be_one():
    at = curve("width", lambda value: 1e-11 * max(1.0, (value / 2048) ** 0.9))
    (knee,) = at.law.knees
    assert at.points[knee.index].value == 2048
    assert (at.near(knee), at.passed(knee)) == ([], [])
    assert "No limit that this report computes lies here" in report._knee(at, knee)


@pytest.mark.usefixtures("skylake")
def test_where_the_cost_stops_rising_the_limits_behind_it_are_named():
    at = curve("batch", lambda value: 1e-11 * min(max(1.0, value / 128), 8.0))
    up, down = at.law.knees
    assert [at.points[knee.index].value for knee in (up, down)] == [128, 1024]
    assert at.passed(up) == []
    assert {"dW tile, L1", "activations, L2"} <= {one.limit.name for one in at.passed(down)}
    assert "What raised it is behind: at 137 the columns" in report._knee(at, down)


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (-1.0, -0.3, {Kind.OVERHEAD}),
        (-0.5, 0.3, {Kind.OVERHEAD, Kind.CAPACITY}),
        (0.0, 0.3, {Kind.CAPACITY}),
        (0.3, 0.0, {Kind.RELIEF}),
    ],
)
def test_kinds_of_limits_bend_the_cost_in_their_own_way(before, after, kinds):
    assert {kind for kind in Kind if kind.bends(before, after)} == kinds


def test_a_cost_that_all_threads_share_alike_is_flat():
    for name in ("threads", "batch"):
        assert curve(name, lambda value: 1e-11, count=2).costs == pytest.approx([1e-11] * len(sweep_of(name).values))
    assert curve("threads", lambda value: 1e-11, count=2).points[1].seconds == pytest.approx(8.15e-6, rel=0.01)


def test_shares_of_the_peak():
    at = curve("density", lambda value: (3 - 2 * value) * 1e-11)
    first, last = at.points[0], at.points[-1]
    assert at.useful_share(last) == at.share(last) == pytest.approx(1.0)
    assert at.useful_share(first) == pytest.approx(1 / 2.998)
    assert at.share(first) == pytest.approx(first.flops / first.setting.useful_flops / 2.998)
    assert at.best is last


def test_disturbed_points_are_counted_and_marked():
    quiet, noisy = (curve("depth", lambda value: 1e-11, disturbed=noisy) for noisy in (False, True))
    assert report.disturbed([[quiet]]) == ""
    assert report.disturbed([[quiet], [noisy]]).startswith("Other processes took a core that 8 of the 16 points")
    for name, at, marked in (("quiet", quiet, False), ("noisy", noisy, True)):
        text = report.markdown({}, {1: PARTS}, [[at]])
        assert ("run it again on a quiet machine" in text) is marked, name
        assert ("\n| 8 * |" in text) is marked, name
        assert ("depth *" in report.table([[at]])) is marked, name


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unmeasured(monkeypatch):
    """Fail the test if anything is measured."""
    monkeypatch.setattr(command, "parts", lambda _: pytest.fail("measured before it looked"))


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["with"], "SWEEP: got with, wants width or batch"),
        (["--output", "file"], "--output: file is a file, wants a folder"),
        (["--output", "no/where"], "--output: there is no folder"),
        pytest.param(
            ["--output", "/proc/scaling"],
            "--output: /proc/scaling cannot be written",
            marks=pytest.mark.skipif(sys.platform != "linux", reason="a folder that nobody may write to is Linux's"),
        ),
    ],
)
def test_bad_arguments_are_named_before_anything_is_measured(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(SystemExit) as stopped:
        command.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.usefixtures("unmeasured")
def test_a_missing_matplotlib_is_an_error_before_the_run(monkeypatch, capsys):
    monkeypatch.setattr("fastnn.plotting.importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        command.main([])
    assert 'pip install ".[plot]"' in capsys.readouterr().err


def test_help_teaches_sweeps_and_files(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "scaling", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for name in (*NAMES, "report.md", "scaling.json", "<sweep>.png", "--quick", "--output"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.usefixtures("unmeasured")
def test_bench_hands_its_other_arguments_over(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "scaling", "with"])
    assert "SWEEP: got with, wants" in capsys.readouterr().err


def test_a_run_leaves_report_figures_and_plots(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    tiny = Sweep("narrow", "batch", (8, 16, 32, 64), "rows", Setting((4,), inputs=6), threads=(2, 1))
    monkeypatch.setattr(command, "sweeps", lambda _: (tiny,))
    monkeypatch.setattr(command, "parts", lambda _: PARTS)
    monkeypatch.setattr(command, "peak", lambda *_: 2e11)  # a quieter moment than that of the parts
    monkeypatch.setattr(command, "QUICK", LEAST)
    folder = tmp_path / "results"
    assert command.main(["narrow", "--quick", "--output", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["narrow.png", "narrow.svg", "report.md", "scaling.json"]
    assert (folder / "narrow.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((folder / "scaling.json").read_text())
    assert [(one["sweep"], one["threads"], len(one["points"])) for one in kept["curves"]] == [
        ("narrow", 2, 4),
        ("narrow", 1, 4),
    ]
    assert kept["parts"]["1"]["peak"] == 2e11
    text = (folder / "report.md").read_text()
    for wanted in (
        "## narrow: rows",
        "![narrow](narrow.png)",
        "### 2 threads",
        "### 1 thread",
        "| batch | us a sample",
    ):
        assert wanted in text
    out = capsys.readouterr().out
    assert "1/1 narrow, batch 8 to 64: visit 16 of 16" in out
    assert "us a sample" in out
