"""The suites cover the table, and their contenders do the same work."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from bench import environment, kernels, report, timing, training
from bench.measure import Effort, Line, measure
from bench.peers.numpy_ops import NUMPY
from bench.suite import FASTNN, NAIVE, assert_agree
from bench.suite import NUMPY as NUMPY_COLUMN
from bench.timing import Ratio
from fastnn.kernels.table import TABLE

SMALL = Effort(blocks=1, slow_blocks=1, naive_blocks=1, block_seconds=0.0)


def test_every_bench_size_of_the_table_is_a_case():
    names = [case.name for case in kernels.cases()]
    assert len(names) == len(set(names))
    assert len(names) == sum(len(op.bench) for op in TABLE.values()) + 2
    assert {"matmul X.T @ dZ 784x128x512", "matmul dZ @ W.T 128x512x784", kernels.MATMUL_BAR} <= set(names)


def test_no_numpy_expression_is_left_over():
    assert {op.name for op in TABLE.values() if op.bench} >= set(NUMPY)


@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.bench], ids=lambda op: op.name)
def test_contenders_agree_at_sizes_that_plain_python_can_do(op):
    sizes = kernels.naive_sizes(op, op.bench[0])
    workload = kernels._workload(op, sizes, None)
    assert set(workload.contenders) == {FASTNN, NAIVE} | ({NUMPY_COLUMN} if op.name in NUMPY else set())
    workload.check()


@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.bench], ids=lambda op: op.name)
def test_plain_python_gets_little_work(op):
    for sizes in op.bench:
        small = kernels.naive_sizes(op, sizes)
        assert kernels._NAIVE_WORK / 4 < kernels._work(op, small) <= kernels._NAIVE_WORK or small == sizes
        assert all(np.all(np.asarray(small[name]) >= 1) for name in small)


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
    x, labels = training._made_mnist(512)
    assert x.shape == (512, 784)
    assert x.dtype == np.float32
    assert np.count_nonzero(x) / x.size == pytest.approx(0.191, abs=0.005)
    assert set(labels) == set(range(10))
    x, labels = training._made_reuters(512)
    assert np.all(x.sum(axis=1) == 82)
    assert np.count_nonzero(x.any(axis=0)) == pytest.approx(5963, rel=0.05)  # words that 512 newswires touch
    assert labels.max() < 46


@pytest.mark.parametrize("dataset", ["mnist", "reuters"])
def test_training_contenders_have_equal_loss_curves(dataset):
    made = {"mnist": training._made_mnist, "reuters": training._made_reuters}[dataset]
    workload = training._workload(dataset, made, 300)
    workload.check()
    assert {FASTNN, NUMPY_COLUMN, NAIVE} <= set(workload.contenders)
    assert workload.contenders[NAIVE].flops == pytest.approx(workload.contenders[FASTNN].flops / 75)


def test_real_data_only_where_a_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.delenv("FASTNN_DATA", raising=False)
    assert not [case for case in training.cases() if "real" in case.name]
    monkeypatch.setenv("FASTNN_DATA", str(tmp_path))
    assert len([case for case in training.cases() if "real" in case.name]) == 2


def line(name, **fields):
    given = {
        "unit": "GB/s",
        "seconds": {FASTNN: 2e-5, NUMPY_COLUMN: 4e-5},
        "rates": {FASTNN: 20.0, NUMPY_COLUMN: 10.0},
        "ratios": {NUMPY_COLUMN: Ratio(2.0, 1.9, 2.1)},
        "notes": {},
        "at_least": None,
    }
    return Line(name=name, **{**given, **fields})


@pytest.mark.parametrize(
    ("others", "attempts", "marked"), [([0.0], 1, False), ([1.0, 0.0], 2, False), ([1, 1], 2, True)]
)
def test_a_disturbed_line_is_measured_again_and_marked(monkeypatch, others, attempts, marked):
    shares = iter(others)
    rounds = []
    real = timing.interleave
    monkeypatch.setattr(timing, "interleave", lambda *args: rounds.append(1) or real(*args))
    monkeypatch.setattr("bench.load.Watch.others", lambda self: next(shares))
    monkeypatch.setattr("bench.load.os.cpu_count", lambda: 2)
    monkeypatch.setattr("bench.measure.get_num_threads", lambda: 2)
    found = measure(next(case for case in kernels.cases() if case.name == "softmax 128x10"), SMALL)
    assert (len(rounds), found.disturbed) == (attempts, marked)
    assert ("softmax 128x10 *" in report.table([found])) is marked


def test_table_shows_rates_ratios_and_bars():
    missed = line("b", at_least=2.5)
    text = report.table([line("a", at_least=1.5), missed])
    header, first, second = text.splitlines()
    assert header.split() == ["NumPy", "fastnn", "cpu", "a", "call", "x", "NumPy", "bar"]
    assert first.split() == ["a", "GB/s", "10", "20", "20", "us", "2", "[1.9-2.1]", "met:", "1.5"]
    assert second.endswith("MISSED: 2.5")
    assert report.bars([missed, line("c")]) == "0 of 1 bars met. "
    assert report.bars([line("c")]) == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["kernel"], "SUITE: got kernel, wants kernels or training"),
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


def test_prepared_environment_drops_blas_settings():
    given = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_L2_SIZE": "512", "HOME": "here"}
    assert environment.prepared("host", given) == {"HOME": "here"}
    haswell = environment.prepared("haswell", given)
    assert haswell["OPENBLAS_CORETYPE"] == "Haswell"
    assert haswell["NUMBA_CPU_NAME"] == "haswell"
    assert "OPENBLAS_L2_SIZE" not in haswell


def test_blas_settings_cannot_be_dropped_once_numpy_has_read_them(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    with pytest.raises(RuntimeError, match="OPENBLAS_CORETYPE: set, and NumPy is loaded already"):
        environment.drop_blas_settings()


def test_bench_as_a_command(tmp_path):
    """A process of its own, with a variable that slows NumPy down: it is dropped, and results are kept."""
    results = tmp_path / "results.json"
    command = [sys.executable, "-m", "fastnn", "bench", "--quick", "--only", "^mse", "--json", str(results)]
    done = subprocess.run(
        command,
        cwd=environment.ROOT,
        env={**os.environ, "OPENBLAS_CORETYPE": "Nehalem"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "mse 1024x1024" in done.stdout
    kept = json.loads(results.read_text())
    assert "Nehalem" not in kept["environment"]["blas"]
    assert [one["name"] for one in kept["lines"]] == ["mse 1024x1024"]
