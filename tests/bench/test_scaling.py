"""Scaling sweeps: what is swept, how it is timed and what is written down."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

import fastnn
from bench.scaling import command, measure, report
from bench.scaling.measure import Curve, Effort, Point, Visit
from bench.scaling.sweeps import NAMES, Setting, Sweep, sweeps
from fastnn import cli
from fastnn.engine import inputs

LEAST = Effort(rounds=2, seconds=0.0)
PEAKS = {1: 1e11, 2: 2e11}


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


def test_threads_are_swept_on_the_documents_networks():
    found = {sweep.name: sweep.fixed for sweep in sweeps(16) if sweep.parameter == "threads"}
    assert all(sweep_of(name, 16).values == (1, 2, 4, 8, 16) for name in found)
    assert found["mnist"].sizes == found["fashion"].sizes == (784, 512, 10)
    assert found["wide"].sizes == (784, 2048, 2048, 10)
    assert found["reuters"].sizes == (10_000, 64, 64, 46)
    assert found["reuters"].batch == 512
    assert found["reuters"].density < found["mnist"].density < found["fashion"].density < 1
    rows = measure._most_rows(10_000)
    assert rows >= measure._LEAST_BATCHES * 512
    assert rows * 10_000 * 4 < 400e6


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
    assert min(abs(value / inputs.SPARSE_BELOW - 0.975) for value in values) < 0.01
    assert min(abs(value / inputs.SPARSE_BELOW - 1.025) for value in values) < 0.01


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


def test_points_are_visited_in_rounds_of_shuffled_order(monkeypatch):
    before = fastnn.get_num_threads()
    sweep = Sweep("tiny", "batch", (8, 16, 32, 64), "", Setting((4,), inputs=6), threads=(2, 1))
    visited, real = [], measure._visit
    monkeypatch.setattr(measure, "_visit", lambda setting, batches: visited.append(setting) or real(setting, batches))
    told = []
    curves = measure.measure(sweep, LEAST, lambda: told.append(len(visited)))
    assert fastnn.get_num_threads() == before
    rounds = [[(one.threads, one.batch) for one in visited[start : start + 8]] for start in (0, 8)]
    assert told == list(range(1, 17))
    assert sorted(rounds[0]) == sorted(rounds[1]) == [(t, b) for t in (1, 2) for b in (8, 16, 32, 64)]
    assert rounds[0] != rounds[1] != sorted(rounds[1])
    assert [curve.threads for curve in curves] == [2, 1]
    for curve in curves:
        assert [point.value for point in curve.points] == [8, 16, 32, 64]
        for point in curve.points:
            assert point.setting == sweep.at(point.value, curve.threads)
            assert len(point.visits) == 2
            assert point.batches >= measure._LEAST_BATCHES


def test_a_peak_is_measured_on_its_threads():
    before = fastnn.get_num_threads()
    with measure._threads(before + 1):
        assert fastnn.get_num_threads() == before + 1
        assert 1e8 < measure.peak(1) < 1e13
        assert fastnn.get_num_threads() == before + 1
    assert fastnn.get_num_threads() == before


# --- what is written down ---------------------------------------------------------------------------------------------


def curve(name, threads, micros, others=(0.0, 0.0, 0.0)):
    """A curve of a sweep, every point visited three times: of which one took a tenth less, one a tenth more."""
    sweep = sweep_of(name)
    points = []
    for value in sweep.values:
        seconds = [1e-6 * micros * factor for factor in (1.0, 0.9, 1.1)]
        visits = tuple(Visit(one, 1e-3, other) for one, other in zip(seconds, others, strict=True))
        points.append(Point(value, sweep.at(value, threads), 5, visits))
    return Curve(sweep, threads, points)


def cells(curves):
    """The table's rows, by sweep, threads and value."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.table(curves, PEAKS).splitlines()]
    assert rows[0] == ["sweep", "threads", "value", "us a sample", "+-", "% of peak", "x one thread"]
    return {tuple(row[:3]): row[3:] for row in rows[2:]}


def test_the_table_has_a_row_for_every_point_on_both_numbers_of_threads():
    curves = [curve("batch", 2, 5.0), curve("batch", 1, 8.0)]
    found = cells(curves)
    assert len(found) == 2 * len(sweep_of("batch").values)
    share = Setting().flops / 8e-6 / 1e11
    assert found["batch", "1", "128"] == ["8", "10%", f"{100 * share:.1f}", "1"]
    assert found["batch", "2", "128"] == ["5", "10%", f"{100 * 0.8 * share:.1f}", "1.6"]
    assert len({len(line) for line in report.table(curves, PEAKS).splitlines()}) == 1


def test_threads_are_compared_with_the_first_point():
    sweep = sweep_of("threads")
    points = [
        Point(count, sweep.at(count, 2), 5, (Visit(seconds, 0.0, 0.0),)) for count, seconds in ((1, 8e-6), (2, 5e-6))
    ]
    found = cells([Curve(sweep, 2, points)])
    assert [found["threads", "1", "1"][-1], found["threads", "2", "2"][-1]] == ["1", "1.6"]


def test_products_of_zeros_are_no_work():
    full, sparse = (Point(density, Setting(density=density), 5, (Visit(1e-5, 0, 0),)) for density in (1.0, 0.25))
    assert full.share(1e11) == pytest.approx(Setting().flops / 1e6)
    assert sparse.share(1e11) == pytest.approx((Setting().flops - 0.75 * 4 * 784 * 512) / 1e6)


def test_disturbed_points_are_counted_and_marked(monkeypatch):
    monkeypatch.setattr("bench.attempts.os.cpu_count", lambda: 2)
    quiet, noisy = curve("depth", 2, 5.0, others=(0.0, 1.0, 0.0)), curve("depth", 2, 5.0, others=(1.0, 0.0, 1.0))
    assert report.disturbed([quiet]) == ""
    assert report.disturbed([quiet, noisy]).startswith("Other processes took a core that 8 of the 16 points")
    assert ("depth", "2", "8") in cells([quiet])
    assert ("depth", "2", "8 *") in cells([noisy])


# --- the command ------------------------------------------------------------------------------------------------------


@pytest.fixture
def unmeasured(monkeypatch):
    """Fail the test if anything is measured."""
    monkeypatch.setattr(command, "peak", lambda _: pytest.fail("measured before it looked"))


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
    monkeypatch.setattr("fastnn.plotting.figures.importlib.util.find_spec", lambda _: None)
    with pytest.raises(SystemExit):
        command.main([])
    assert 'pip install ".[plot]"' in capsys.readouterr().err


def test_help_teaches_sweeps_and_files(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", "scaling", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for name in (*NAMES, "table.md", "scaling.json", "<sweep>.png", "--quick", "--output"):
        assert name in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.usefixtures("unmeasured")
def test_bench_hands_its_other_arguments_over(capsys):
    with pytest.raises(SystemExit):
        cli.main(["bench", "scaling", "with"])
    assert "SWEEP: got with, wants" in capsys.readouterr().err


def test_a_run_leaves_table_figures_and_plots(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    tiny = Sweep("narrow", "batch", (8, 16, 32, 64), "rows", Setting((4,), inputs=6), threads=(2, 1))
    peaks = iter((1e11, 1e11, 2e11, 1e10))  # the later ones in a quieter and in a busier moment
    monkeypatch.setattr(command, "sweeps", lambda _: (tiny,))
    monkeypatch.setattr(command, "peak", lambda _: next(peaks))
    monkeypatch.setattr(command, "QUICK", LEAST)
    folder = tmp_path / "results"
    assert command.main(["narrow", "--quick", "--output", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["narrow.png", "narrow.svg", "scaling.json", "table.md"]
    assert (folder / "narrow.png").read_bytes().startswith(b"\x89PNG")
    kept = json.loads((folder / "scaling.json").read_text())
    assert [(one["sweep"], len(one["points"])) for one in kept["curves"]] == [("narrow", 4), ("narrow", 4)]
    assert kept["peaks"] == {"1": 2e11, "2": 1e11}
    table = (folder / "table.md").read_text()
    assert len(table.splitlines()) == 2 + 8
    out = capsys.readouterr().out
    assert table in out
