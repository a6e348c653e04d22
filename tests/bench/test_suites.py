"""The suites cover the table, and their contenders do the same work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from bench import (
    addresses,
    environment,
    kernels,
    loops,
    pedantic,
    peers,
    prediction,
    report,
    stacks,
    suite,
    timing,
    training,
)
from bench.measure import Bar, Effort, Line, Reading, measure, read, skipped
from bench.peers.fastnn_mlp import FastnnMLP
from bench.peers.network import Network
from bench.peers.numpy_mlp import NumpyMLP
from bench.peers.numpy_ops import NUMPY
from bench.suite import FASTNN, JAX, NAIVE, NOT_INSTALLED, PYTORCH, Case, Gauge, assert_agree
from bench.suite import NUMPY as NUMPY_COLUMN
from bench.timing import Sample
from fastnn import cli, get_num_threads
from fastnn.engine.cpu import FusedRunner
from fastnn.kernels.cpu.compiler import machine
from fastnn.kernels.table import TABLE
from fastnn.models import Sequential
from fastnn.recipes import RECIPES, Data

SMALL = Effort(blocks=1, slow_blocks=1, naive_blocks=1, block_seconds=0.0)


def test_every_bench_size_of_the_table_is_a_case():
    names = [case.name for case in kernels.cases()]
    assert len(names) == len(set(names))
    more = {"matmul X.T @ dZ 784x128x512", "matmul dZ @ W.T 128x512x784", "linear, packed weights 128x784x512"}
    more.add("linear_rmsprop_step 128x784x512")
    assert len(names) == sum(len(op.bench) for op in TABLE.values()) + len(more)
    assert more | set(kernels._BARS) <= set(names)


def test_no_expression_of_a_peer_is_left_over():
    assert {op.name for op in TABLE.values() if op.bench} >= set(NUMPY)
    if suite.installed(PYTORCH):
        from bench.peers import pytorch_ops

        wanted = {op.name for op in TABLE.values() if op.bench and kernels.has_pytorch(op)}
        assert wanted == set(pytorch_ops.PYTORCH)


@pytest.mark.parametrize("module", ["elementwise", "prelu", "softmax", "losses"])
def test_formulas_have_lines_of_both_sizes_beside_both_peers(module):
    """Of 10^4 and of 10^7 numbers: all activations, derivatives and losses."""
    for op in TABLE.values():
        if op.module == module and op.name not in ("add", "gather", "gather_backward", "l1_l2_penalty", "total"):
            numbers = {np.prod([np.prod(size) for size in sizes.values()]) for sizes in op.bench}
            assert numbers >= {10_000, 10_000_000}, op.name
            assert op.name in NUMPY


@pytest.mark.slow
@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.bench], ids=lambda op: op.name)
def test_contenders_agree_at_sizes_that_plain_python_can_do(op):
    sizes = kernels.naive_sizes(op, op.bench[0])
    workload = kernels._workload(op, sizes, None)
    others = {NUMPY_COLUMN} if op.name in NUMPY else set()
    if kernels.has_pytorch(op) and suite.installed(PYTORCH):
        others |= {PYTORCH}
    assert set(workload.contenders) == {FASTNN, NAIVE} | others
    workload.check()


@pytest.mark.parametrize("peer", [NUMPY_COLUMN, PYTORCH])
def test_the_check_of_an_op_sees_every_contender(peer, monkeypatch):
    if not suite.installed(peer):
        pytest.skip(NOT_INSTALLED)
    real = kernels._run

    def wrong(op, sizes, function, *args, **kwargs):
        run = real(op, sizes, function, *args, **kwargs)
        theirs = function.__module__ == f"bench.peers.{peer.lower()}_ops"
        return lambda: run() + 0.01 if theirs else run()

    monkeypatch.setattr(kernels, "_run", wrong)
    with pytest.raises(AssertionError, match=f"tanh, fastnn against {peer}"):
        kernels._workload(TABLE["tanh"], {"...": (100,)}, None).check()


def test_every_side_keeps_its_output():
    sizes = {"n": 4, "c": 3}
    for function in [NUMPY["softmax_cross_entropy"], NUMPY["softmax"]]:
        run = kernels._run(TABLE[function.__name__], sizes, function)
        first, second = run(), run()
        assert (first[-1] if isinstance(first, tuple) else first) is (
            second[-1] if isinstance(second, tuple) else second
        )


def test_packed_linear():
    (case,) = [case for case in kernels.cases() if "packed" in case.name]
    workload = case.make()
    workload.check()
    assert set(case.at_least) == set(workload.contenders) - {FASTNN}


def test_share_of_the_peak(monkeypatch):
    gauge, *_ = kernels.gauges()
    asked = []
    monkeypatch.setattr(kernels.peak, "measure", lambda dtype, threads: asked.append((dtype, threads)) or 4e12)
    monkeypatch.setattr(timing, "calls", lambda run, seconds: 1)
    monkeypatch.setattr(timing, "block", lambda run, count: 1e-3)
    assert gauge.read(2) == pytest.approx([100 * 2 * 1024**3 / 1e-3 / 4e12] * 2)
    assert asked == [("float32", get_num_threads())] * 2


@pytest.mark.parametrize("place", [2, 3, 4], ids=["forward", "dw", "dx"])
def test_share_of_the_peak_of_a_convolution(place, monkeypatch):
    gauge, calls = kernels.gauges()[place], []
    monkeypatch.setattr(kernels.peak, "measure", lambda dtype, threads: 4e12)
    monkeypatch.setattr(timing, "calls", lambda run, seconds: 1)
    monkeypatch.setattr(timing, "block", lambda run, count: calls.append(run()) or 1e-3)
    assert gauge.read(2) == pytest.approx([100 * 2 * 16 * 56**2 * 9 * 64**2 / 1e-3 / 4e12] * 2)
    assert len(calls) == 2
    assert gauge.at_least == 75


def test_the_step_of_a_layer():
    (case,) = [case for case in kernels.cases() if case.name.startswith("linear_rmsprop_step")]
    workload = case.make()
    workload.check()
    assert workload.contenders.keys() >= {FASTNN, NUMPY_COLUMN}


def test_share_of_the_parts_of_a_layers_step(monkeypatch):
    gauge = kernels.gauges()[1]
    asked = []
    monkeypatch.setattr(timing, "calls", lambda run, seconds: 1)
    monkeypatch.setattr(timing, "block", lambda run, count: asked.append(run()) or len(asked) % 2 + 1)
    assert gauge.read(2) == [200.0, 200.0]
    assert gauge.at_most == 100


@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.bench], ids=lambda op: op.name)
def test_plain_python_gets_little_work(op):
    for sizes in op.bench:
        small = kernels.naive_sizes(op, sizes)
        assert kernels._NAIVE_WORK / 4 < kernels._work(op, small) <= kernels._NAIVE_WORK or small == sizes
        assert all(np.all(np.asarray(small[name]) >= 1) for name in small if name not in op.options)


@pytest.mark.parametrize("transposed", ["a", "b"])
def test_transposed_products_are_views_of_the_other_order(transposed):
    run = kernels._run(TABLE["matmul"], {"n": 5, "k": 3, "m": 4}, lambda **given: given, transposed)
    operand = run()[transposed]
    assert not operand.flags.c_contiguous
    assert operand.T.flags.c_contiguous


def test_assert_agree_sees_a_wrong_number():
    right = (1.0, np.arange(4.0))
    assert_agree("op", (1.0, np.arange(4.0)), right, 1e-6)
    with pytest.raises(AssertionError, match="op"):
        assert_agree("op", (1.0, np.array([0.0, 1, 2, 3.01])), right, 1e-6)
    with pytest.raises(AssertionError):
        assert_agree("op", (1.1, np.arange(4.0)), right, 1e-6)


def test_a_case_measured():
    case = next(case for case in kernels.cases() if case.name == "matmul 32x1000x100")
    line = measure(case, SMALL)
    assert line.unit == "GFLOP/s"
    flops = 2 * 32 * 1000 * 100
    assert line.rates[FASTNN] == pytest.approx(flops / line.seconds[FASTNN] / 1e9)
    assert set(line.ratios) == {NUMPY_COLUMN, NAIVE}
    assert line.ratios[NAIVE].median == pytest.approx(line.rates[FASTNN] / line.rates[NAIVE])
    assert "x" in line.notes[NAIVE]
    assert Line.from_json(json.loads(json.dumps(line.as_json()))) == line


def test_made_data_has_the_shape_and_density_of_the_real():
    x, labels = training.made_mnist(512)
    assert x.shape == (512, 784)
    assert x.dtype == np.float32
    assert np.count_nonzero(x) / x.size == pytest.approx(0.191, abs=0.005)
    pairs = x.reshape(512, -1, 2).any(axis=2)
    assert np.count_nonzero(x) / np.count_nonzero(pairs) == pytest.approx(1.71, abs=0.05)  # MNIST's
    assert set(labels) == set(range(10))
    x, labels = training.made_reuters(512)
    assert np.all(x.sum(axis=1) == 82)
    assert np.count_nonzero(x.any(axis=0)) == pytest.approx(5963, rel=0.05)  # words that 512 newswires touch
    assert labels.max() < 46


def made_rows(job, rows):
    if job.made is not None:
        return job.made(rows)
    recipe, rng = RECIPES[job.dataset], np.random.default_rng(1)
    x = rng.normal(size=(rows, recipe.inputs)).astype(np.float32)
    if recipe.loss == "mse":
        return x, rng.normal(20, 5, rows).astype(np.float32)
    return x, rng.integers(0, recipe.outputs, rows)


RUNNABLE = [job for job in training._JOBS if not job.skip]


@pytest.mark.parametrize("job", RUNNABLE, ids=lambda job: job.name(300, "made"))
def test_training_contenders_have_equal_loss_curves(job):
    peers = {name: path for name, path in job.peers.items() if name in training._ON_MADE_ROWS}
    workload = training._workload(job, peers, lambda: made_rows(job, 300))
    workload.check()
    assert set(workload.contenders) == {FASTNN, NAIVE} | {name for name in peers if suite.installed(name)}
    assert workload.contenders[NAIVE].flops == pytest.approx(workload.contenders[FASTNN].flops / 75)


@pytest.mark.filterwarnings("ignore:.*:DeprecationWarning")  # TensorFlow's own, when it is imported
@pytest.mark.parametrize(
    ("job", "name"),
    [(job, name) for job in RUNNABLE for name in job.peers if name not in training._ON_MADE_ROWS],
    ids=lambda value: value if isinstance(value, str) else value.dataset,
)
def test_the_slow_peers_have_equal_loss_curves_too(job, name):
    if not suite.installed(name):
        pytest.skip(NOT_INSTALLED)
    workload = training._workload(job, {name: job.peers[name]}, lambda: made_rows(job, 4 * job.batch))
    workload.check()
    assert name in workload.contenders


def test_the_check_sees_a_peer_that_trains_otherwise(monkeypatch):
    job = next(job for job in training._JOBS if job.dataset == "mnist")
    workload = training._workload(job, {NUMPY_COLUMN: job.peers[NUMPY_COLUMN]}, lambda: made_rows(job, 300))
    epoch = NumpyMLP.epoch
    monkeypatch.setattr(NumpyMLP, "epoch", lambda self, shuffle=True: epoch(self, shuffle) * 1.01)
    with pytest.raises(AssertionError, match="loss, fastnn against NumPy"):
        workload.check()


def test_an_epoch_of_a_fit_leaves_out_what_the_fit_prepares(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])

    def slower(method, seconds):
        def slow(*args, **kwargs):
            now[0] += seconds
            return method(*args, **kwargs)

        return slow

    monkeypatch.setattr(Sequential, "fit", slower(Sequential.fit, 100))
    monkeypatch.setattr(FusedRunner, "train_epoch", slower(FusedRunner.train_epoch, 1))
    job = next(job for job in training._JOBS if job.dataset == "mnist")
    network = Network(training.initial_weights((784, 512, 10)))
    side = FastnnMLP(network, *made_rows(job, 300), job.batch)
    assert timing._timed(side.epoch) == 1


def test_peers_of_every_job_are_there_and_bars_are_theirs():
    for job in training._JOBS:
        assert set(job.at_least) <= set(job.peers)
        for path in [*job.peers.values(), *peers.DENSE.values(), *peers.SPARSE.values()]:
            module, _, name = path.partition(".")
            assert f"class {name}" in (environment.ROOT / "bench" / "peers" / f"{module}.py").read_text()


def test_accuracy_lost_to_an_option_is_in_points_and_a_mean_of_seeds(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    assert training.gauges() == []
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    (gauge,) = training.gauges()
    assert gauge.name == "test accuracy of fashion_mnist that bfloat16 loses"
    accuracies = {False: [0.9, 0.92, 0.91], True: [0.89, 0.92, 0.90]}
    monkeypatch.setattr(training, "_test_accuracy", lambda job, seed, compiling: accuracies[bool(compiling)][seed])
    assert gauge.read(1) == pytest.approx([1.0])
    assert gauge.read(5) == pytest.approx([100 * 2 / 300])


def test_accuracy_is_that_of_the_test_rows(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(300, 784)).astype(np.float32), rng.integers(0, 10, 300)
    data = Data(train=(x[:250], y[:250]), test=(x[250:], y[250:]))
    monkeypatch.setattr(training, "_data", lambda dataset: data)
    job = next(job for job in training._JOBS if job.dataset == "mnist")
    score = training._test_accuracy(job, 0, {"backend": "cpu"})
    assert 0 <= score <= 1
    assert score * 50 == pytest.approx(round(score * 50))
    assert score == training._test_accuracy(job, 0, {})


def test_real_data_only_where_a_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    assert not [case for case in training.cases() if "real" in case.name]
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    real = [case for case in training.cases() if "real" in case.name]
    assert len(real) == len(training._JOBS)
    assert all(case.at_least for case in real)
    of_stacks = {case.name for case in stacks.cases()}
    assert not any(case.at_least for case in training.cases() if "made" in case.name and case.name not in of_stacks)


def test_a_job_that_this_fastnn_or_this_cpu_cannot_run_is_skipped(monkeypatch):
    job = next(job for job in training._JOBS if job.compiling)
    monkeypatch.setattr(Sequential, "compile", lambda self, optimizer, loss, metrics, backend: None)
    assert job.skip == "compile takes no precision"
    monkeypatch.undo()
    monkeypatch.setattr(machine, "bfloat16_pairs", lambda: True)
    assert job.skip == ""
    monkeypatch.setattr(machine, "bfloat16_pairs", lambda: False)
    assert "this CPU has no AVX512-BF16" in job.skip
    assert not any(job.skip for job in training._JOBS if not job.compiling)


def test_a_workload_is_kept_by_its_case():
    """``pytest bench`` makes a workload once for all of its contenders."""
    calls = []
    workload = suite.Workload({}, lambda: calls.append("checked"))
    case = Case("a", lambda: calls.append("made") or workload, {NUMPY_COLUMN: 1.0})
    assert pedantic._checked(case) is pedantic._checked(case) is workload
    assert calls == ["made", "checked"]


def test_products_at_one_offset_agree_and_lie_there(monkeypatch):
    """The smallest in rows, and each layout made small."""
    monkeypatch.setattr(addresses, "_SIZES", (48,))
    monkeypatch.setattr(addresses, "_LAID_OUT", (40,))
    cases = addresses.cases()
    assert [case.name.partition(",")[0] for case in cases[:3]] == [f"matmul {n}x{n}x{n}" for n in (32, 48, 64)]
    assert len(cases) == 6
    for case in cases:
        workload = case.make()
        workload.check()
        assert set(workload.contenders) == {FASTNN, NUMPY_COLUMN}
    for transposed in (None, "a", "b"):
        operands = addresses._operands(40, transposed)
        assert {array.ctypes.data % 4096 for array in operands.values()} == {16}
        assert all(array.flags.c_contiguous is (name != transposed) for name, array in operands.items())
    (gauge,) = addresses.gauges()
    assert 0 < gauge.read(1)[0] <= 100


def test_the_check_of_products_at_one_offset_sees_other_numbers(monkeypatch):
    monkeypatch.setattr(addresses.ops, "matmul", lambda a, b, out: np.add(a @ b, 0.1, out=out))
    with pytest.raises(AssertionError, match="matmul, fastnn against NumPy"):
        addresses._workload(40, None, packed=False).check()


@pytest.mark.parametrize("case", loops.cases(), ids=lambda case: case.name)
def test_loops_of_ones_own_have_equal_loss_curves(case):
    case.make().check()


def test_loops_check_sees_another_curve(monkeypatch):
    epoch = NumpyMLP.epoch
    monkeypatch.setattr(NumpyMLP, "epoch", lambda self, shuffle=True: epoch(self, shuffle) * 1.001)
    with pytest.raises(AssertionError, match=r"loss, fastnn\.ops against NumPy"):
        loops.cases()[0].make().check()


def test_prediction_contenders_agree():
    (made,) = [case for case in prediction.cases() if "made" in case.name]
    workload = made.make()
    workload.check()
    assert set(workload.contenders) == {FASTNN, NUMPY_COLUMN} | ({PYTORCH} if suite.installed(PYTORCH) else set())


def test_prediction_check_sees_other_probabilities(monkeypatch):
    (made,) = [case for case in prediction.cases() if "made" in case.name]
    predict = NumpyMLP.predict
    monkeypatch.setattr(NumpyMLP, "predict", lambda self: predict(self) + 1e-4)
    with pytest.raises(AssertionError, match="probabilities, fastnn cpu against NumPy"):
        made.make().check()


def line(name, **fields):
    given = {
        "unit": "GB/s",
        "samples": {FASTNN: Sample((2e-5, 2e-5)), NUMPY_COLUMN: Sample((4e-5, 4e-5))},
        "work": {FASTNN: 4e-4, NUMPY_COLUMN: 4e-4},
        "notes": {},
    }
    return Line(name=name, **{**given, **fields})


@pytest.mark.parametrize(
    ("others", "attempts", "marked"), [([0.0], 1, False), ([1.0, 0.0, 0.0], 3, False), ([1.0, 0.0, 1.0], 3, True)]
)
def test_a_disturbed_line_is_measured_again_and_marked(monkeypatch, others, attempts, marked):
    shares = iter(others)
    rounds = []
    real = timing.interleave
    monkeypatch.setattr(timing, "interleave", lambda *args: rounds.append(1) or real(*args))
    monkeypatch.setattr("bench.load.Watch.others", lambda self: next(shares))
    monkeypatch.setattr("bench.attempts.os.cpu_count", lambda: 2)
    monkeypatch.setattr("bench.measure.get_num_threads", lambda: 2)
    found = measure(next(case for case in kernels.cases() if case.name == "softmax 128x10"), SMALL)
    assert (len(rounds), found.others, found.disturbed) == (attempts, tuple(others), marked)
    assert len(found.samples[FASTNN].blocks) == attempts * SMALL.blocks
    assert Line.from_json(json.loads(json.dumps(found.as_json()))) == found
    assert ("softmax 128x10 *" in report.table([found])) is marked
    (bar,) = replace(found, at_least={NUMPY_COLUMN: 1.0}).bars()
    assert bar.job.endswith("*") is marked


def test_table_shows_rates_and_ratios():
    header, first = report.table([line("a")]).splitlines()
    assert header.split() == ["NumPy", "fastnn", "cpu", "a", "call", "x", "NumPy"]
    assert first.split() == ["a", "GB/s", "10", "20", "20", "us", "2", "[2-2]"]


def test_bars_of_lines_met_missed_and_without_their_contender():
    bars = [*line("a", at_least={NUMPY_COLUMN: 2.0}).bars(), *line("b", at_least={NUMPY_COLUMN: 2.5, JAX: 1.0}).bars()]
    assert bars == [
        Bar("a", NUMPY_COLUMN, "2x", "at least 2x", True),
        Bar("b", NUMPY_COLUMN, "2x", "at least 2.5x", False),
        Bar("b", JAX, NOT_INSTALLED, "at least 1x", None),
    ]
    header, *rows = report.bars_table(bars).splitlines()
    assert header.split() == ["against", "found", "asked"]
    assert [row.split()[0] for row in rows] == ["a", "b", "b"]
    assert rows[0].endswith("at least 2x    met")
    assert rows[1].endswith("at least 2.5x  NOT MET")
    assert rows[2].endswith("at least 1x    not measured")
    assert report.bars_met(bars) == "1 of 2 bars met. "
    assert report.bars_met([]) == ""


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({"at_most": 2.5}, [Bar("a", "", "2 ms", "at most 2.5 ms", True)]),
        ({"at_most": 1.5}, [Bar("a", "", "2 ms", "at most 1.5 ms", False)]),
        ({"at_least": 2.5}, [Bar("a", "", "2 ms", "at least 2.5 ms", False)]),
        ({}, []),
    ],
)
def test_a_gauge_is_read_as_often_as_asked_and_its_median_judged(bounds, expected):
    asked = []
    gauge = Gauge("a", "ms", lambda count: asked.append(count) or [5.0, 1.0, 2.0], **bounds)
    reading = read(gauge, Effort(1, 1, 1, 0.0, readings=3))
    assert asked == [3]
    assert str(reading) == "2 [1-5]"
    assert list(reading.bars()) == expected
    assert report.readings_table([reading]) == "a  2 [1-5]  ms"


def test_what_cannot_be_measured_still_names_what_was_asked():
    case = Case("a", pytest.fail, {NUMPY_COLUMN: 2.0}, skip="no such op")
    gauge = Gauge("b", "s", pytest.fail, at_most=1.0, skip="no files")
    assert skipped(case, case.skip) == [Bar("a", NUMPY_COLUMN, "no such op", "at least 2x", None)]
    assert skipped(gauge, gauge.skip) == [Bar("b", "", "no files", "at most 1 s", None)]


def test_a_group_with_lines_gauges_wrong_results_and_skipped_ones(monkeypatch, capsys):
    softmax = next(case for case in kernels.cases() if case.name == "softmax 128x10")

    def failing(error):
        def fail(*_):
            raise error

        return fail

    broken = Case("broken", failing(AssertionError("1 is not 2")), {NUMPY_COLUMN: 1.0})
    items = [
        softmax,
        broken,
        Case("later", pytest.fail, {NUMPY_COLUMN: 1.0}, skip="not yet"),
        Gauge("wait", "ms", lambda count: [3.0], at_most=4.0),
        Gauge("files", "ms", failing(FileNotFoundError("no train.gz\nat all")), at_most=4.0),
        Gauge("child", "ms", failing(RuntimeError("python -m bench.child failed")), at_most=4.0),
    ]
    monkeypatch.setattr("bench.measure.QUICK", SMALL)
    results = report._measured(items, report._parser().parse_args(["--quick"]))
    assert [line.name for line in results.lines] == ["softmax 128x10"]
    assert results.readings == [Reading("wait", "ms", (3.0,), 4.0, None)]
    assert [(bar.job, bar.found, bar.met) for bar in results.bars] == [
        ("wait", "3 ms", True),
        ("later", "not yet", None),
        ("files", "no train.gz", None),
    ]
    assert results.wrong == 2
    err = capsys.readouterr().err
    assert "broken: results disagree, not timed: 1 is not 2" in err
    assert "child: not measured: python -m bench.child failed" in err
    assert "1/6 softmax 128x10\n2/6 broken\n" in err
    assert json.loads(json.dumps(results.as_json())).keys() == {"lines", "readings", "bars", "unjudged"}


@pytest.mark.slow
def test_a_group_measured_in_a_process_of_its_own():
    options = report._parser().parse_args(["--quick", "--only", "^softmax 128x10$", "--threads", "1"])
    found = report._apart("kernels", options, passes=2)
    assert [line.name for line in found.lines] == ["softmax 128x10"]
    blocks = 3 * len(found.lines[0].others)  # of each attempt, at least one in each process
    assert blocks >= 6
    *others, naive = found.lines[0].samples.values()
    assert {len(sample.blocks) for sample in others} == {blocks}
    assert len(naive.blocks) == 2
    assert found.wrong == 0


def test_what_several_processes_find_is_one_line():
    first, second = line("a"), line("a", samples={FASTNN: Sample((1e-5,)), NUMPY_COLUMN: Sample((4e-5,))})
    results = report.Results([first, line("b")], [Reading("wait", "ms", (3.0,), 4.0, None)], wrong=1)
    second = replace(second, others=(2.0, 2.0, 2.0))
    results.pool(report.Results([second], [Reading("wait", "ms", (5.0, 7.0), 4.0, None)]))
    pooled, alone = results.lines
    assert pooled.samples[FASTNN].blocks == (2e-5, 2e-5, 1e-5)
    assert pooled.ratios[NUMPY_COLUMN].median == pytest.approx(2.0)
    assert pooled.others == (0.0, 2.0, 2.0, 2.0)
    assert alone == line("b")
    assert [bar.met for bar in results.bars] == [False]
    assert results.readings[0].values == (3.0, 5.0, 7.0)
    assert results.wrong == 1


def test_a_group_whose_process_fails_is_told(monkeypatch):
    options = report._parser().parse_args([])
    monkeypatch.setattr(report.environment, "run_prepared", lambda *arguments, **options: 3)
    with pytest.raises(RuntimeError, match="ended with status 3 and without results"):
        report._apart("kernels", options, passes=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["kernel"],
            f"GROUP: got kernel, wants {' or '.join(report._GROUPS)}",
        ),
        (["--threads", "0"], "--threads: got '0', wants 1 to"),
        (["--only", "("], "--only: got '(', wants a regular expression"),
        (["--json", "nowhere/results.json"], "--json: there is no folder"),
        (["--target", "pentium"], "--target: invalid choice: 'pentium'"),
    ],
)
def test_bad_arguments_are_named_before_anything_is_measured(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


def test_lines_that_there_are_none_of_are_no_result(monkeypatch, capsys):
    monkeypatch.setattr(report.environment, "prepared", lambda *_, **__: dict(os.environ))
    with pytest.raises(SystemExit) as stopped:
        report.main(["onnx", "--only", "no such line"])
    assert stopped.value.code == 2
    assert "--only: got 'no such line', which finds none of the lines that --list names" in capsys.readouterr().err


def test_a_contender_left_out_is_not_installed(monkeypatch):
    monkeypatch.setattr(suite, "_left_out", set())
    assert suite.installed(NUMPY_COLUMN)
    suite.leave_out(NUMPY_COLUMN)
    assert not suite.installed(NUMPY_COLUMN)
    case = next(case for case in kernels.cases() if case.name == "softmax 128x10")
    assert set(case.make().contenders) - {PYTORCH} == {FASTNN, NAIVE}


def test_a_result_names_the_cpu_by_both_its_names_and_its_caches(monkeypatch):
    monkeypatch.setattr(environment, "cpu_model", lambda: "AMD EPYC")
    monkeypatch.setattr("llvmlite.binding.get_host_cpu_name", lambda: "znver5")
    monkeypatch.setattr(environment.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(machine, "caches", lambda: SimpleNamespace(l1=48 << 10, l2=1 << 20, l3=32 << 20))
    facts = environment.facts(with_blas=False)
    assert facts["cpu"] == "AMD EPYC (znver5), 2 logical CPUs"
    assert facts["caches"] == "L1 48 KiB and L2 1 MiB of a core, L3 32 MiB of all"
    top = environment.heading(facts).splitlines()
    assert top[:2] == [f"cpu:      {facts['cpu']}", f"caches:   {facts['caches']}"]


def test_every_table_and_the_file_name_the_cpu(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("bench.measure.QUICK", SMALL)
    monkeypatch.setattr(environment, "cpu_model", lambda: "AMD EPYC")
    written = tmp_path / "results.json"
    options = report._parser().parse_args(["--quick", "--passes", "1", f"--json={written}"])
    case = next(case for case in kernels.cases() if case.name == "matmul 32x1000x100")
    assert report._run({"kernels": [case]}, options) == 0
    out = capsys.readouterr().out
    assert "\nkernels, on AMD EPYC (" in out
    assert "\npromised, on AMD EPYC (" in out
    assert json.loads(written.read_text())["environment"]["cpu"].startswith("AMD EPYC (")


def test_prepared_environment_drops_blas_settings():
    given = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_L2_SIZE": "512", "HOME": "here"}
    assert environment.prepared("host", given) == {"HOME": "here"}
    limits = {"FASTNN_NUM_THREADS": "2", "OMP_NUM_THREADS": "2", "NPROC": "2"}
    assert environment.prepared("host", {**given, "NPROC": "8"}, threads=2) == {"HOME": "here", **limits}
    haswell = environment.prepared("haswell", given)
    assert haswell["OPENBLAS_CORETYPE"] == "Haswell"
    assert haswell["NUMBA_CPU_NAME"] == "haswell"
    assert "OPENBLAS_L2_SIZE" not in haswell


def test_blas_settings_cannot_be_dropped_once_numpy_has_read_them(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with pytest.raises(RuntimeError, match="OPENBLAS_CORETYPE: set, and NumPy is loaded already"):
        environment.drop_blas_settings()


def test_kernels_of_avx512_are_confirmed():
    assert environment._kernels("SkylakeX") == "SkylakeX kernels (AVX-512)"
    assert environment._kernels("Haswell") == "Haswell kernels"
    assert environment._kernels(None) == "None kernels"


@pytest.mark.slow
def test_bench_as_a_command(tmp_path):
    """A process of its own, with a variable that slows NumPy down: it is dropped, and results are kept."""
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "fastnn", "bench", "--quick", "--only", "^mse 100x", "--json", str(results)]
    done = subprocess.run(
        command,
        cwd=environment.ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Nehalem"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mse 100x100" in done.stdout
    kept = json.loads(results.read_text())
    assert "Nehalem" not in kept["environment"]["blas"]
    assert [one["name"] for one in kept["lines"]] == ["mse 100x100"]


def test_help_lists_every_group_and_every_other_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        report.main(["--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in report._GROUPS)
    assert all(f"fastnn bench {name} " in text for name in cli.bench._BENCHES)
