"""The benchmarks of a device: their Python, on the host that stands in for one, and events that count calls.

What they would measure there is nothing; what they do before and after is the same.
"""

from __future__ import annotations

import ctypes
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from bench import report, suite, timing
from bench.cuda import command, kernels, limits, operands, training
from bench.cuda.peers import cupy_ops
from bench.cuda.stopwatch import EVENTS, WALL, Calls, Stopwatch
from bench.measure import Line
from bench.peers.fastnn_mlp import FastnnMLP
from bench.suite import CUBLAS, CUPY, FASTNN, FASTNN_CUDA, PYTORCH
from fastnn import models
from fastnn.kernels.table import TABLE
from tests.cuda_host import cupy as host
from tests.cuda_host.places import compiles_for_host, host_only
from tests.cuda_host.places import cupy as cupy  # noqa: PLC0414 - a fixture

LEAST = kernels.Effort(blocks=2, block_seconds=0.0, matrix=16)
NAMES = [job.name for job in kernels.jobs(quick=False)]


class Event:
    """Between two there is a millisecond, or one for each of the calls that counted."""

    calls = 0

    def record(self):
        self.at = Event.calls

    def synchronize(self):
        pass


def gemm_ex(handle, ta, tb, m, n, k, one, a, of_a, lda, b, of_b, ldb, zero, c, of_c, ldc, compute, algorithm):
    """CuBLAS's: columns lie side by side."""
    assert (ta, tb, lda, ldb, ldc, of_c) == (0, 0, m, k, m, 0)

    def matrix(address, kind, rows, columns):
        """The transpose of what is stored by columns."""
        count = rows * columns
        if kind == limits._FLOAT32:
            return np.ctypeslib.as_array((ctypes.c_float * count).from_address(address)).reshape(columns, rows)
        assert kind == limits._BFLOAT16
        halves = np.ctypeslib.as_array((ctypes.c_uint16 * count).from_address(address))
        return (halves.astype("uint32") << 16).view("float32").reshape(columns, rows)

    matrix(c, of_c, m, n)[...] = matrix(b, of_b, k, n) @ matrix(a, of_a, m, k)


@pytest.fixture
def bench(cupy, monkeypatch):
    """What stands in for CuPy, with what the benchmarks use of it beside."""
    properties = {"name": b"a host", "multiProcessorCount": 3, "totalGlobalMem": 1 << 30, "l2CacheSize": 1 << 14}
    runtime = {
        "getDeviceProperties": lambda device: properties,
        "memGetInfo": lambda: (1 << 28, 1 << 30),
        "deviceSynchronize": lambda: None,
        "driverGetVersion": lambda: 12040,
        "runtimeGetVersion": lambda: 13000,
    }
    for name, function in runtime.items():
        monkeypatch.setattr(cupy.cuda.runtime, name, function, raising=False)
    of_cuda = {
        "Event": Event,
        "get_elapsed_time": lambda start, stop: float(max(1, stop.at - start.at)),
        "cublas": SimpleNamespace(gemmEx=gemm_ex, getVersion=lambda handle: 120803),
        "nvrtc": SimpleNamespace(getVersion=lambda: (12, 9)),
        "device": SimpleNamespace(get_cublas_handle=lambda: 0),
    }
    for name, value in of_cuda.items():
        monkeypatch.setattr(cupy.cuda, name, value, raising=False)
    monkeypatch.setattr(cupy, "__version__", "none", raising=False)
    pool = SimpleNamespace(free_all_blocks=lambda: None)
    monkeypatch.setattr(cupy, "get_default_memory_pool", lambda: pool, raising=False)
    monkeypatch.setattr(kernels, "_LARGE", 1 << 12)
    monkeypatch.setattr(kernels, "_LARGEST", 48)
    monkeypatch.setattr(operands, "_SIDE", 31)
    monkeypatch.setattr(operands, "_DRAWN", 31 * 31)
    monkeypatch.setattr(kernels, "_PEERS", {CUPY: numpy_peer, PYTORCH: pytorch_peer})
    return cupy


def numpy_peer(cupy):
    """CuPy's functions over NumPy, on what the arrays hold."""
    return kernels._Peer(cupy_ops.table(np), lambda array: array._host, EVENTS, lambda _: None, np.asarray)


def pytorch_peer(cupy):
    if not suite.installed(PYTORCH):
        return None
    import torch

    from bench.cuda.peers import pytorch_ops

    def tensor(array):
        return torch.from_numpy(array._host)

    return kernels._Peer(pytorch_ops.PYTORCH, tensor, WALL, lambda _: None, lambda each: each.numpy())


@pytest.fixture
def device(bench):
    return kernels.prepared(bench, LEAST)


# --- what is listed ---------------------------------------------------------------------------------------------------


def test_lines_cover_the_table_and_the_promises():
    assert len(set(NAMES)) == len(NAMES)
    for op in TABLE.values():
        lines = [name for name in NAMES if name.partition(" ")[0] == op.name]
        assert len(lines) >= len(op.bench)
    assert set(kernels._LINEAR_BARS) | set(kernels._LOOPS) <= set(NAMES)
    assert {f"{name}, a loop of calls" for name in kernels._LOOPS} <= set(NAMES)
    assert "matmul 8192x8192x8192, own kernel, bfloat16" in NAMES


def test_what_memory_limits_has_a_line_from_64_mb_up_with_its_promise():
    promised = {job.name.partition(" ")[0] for job in kernels.jobs(quick=False) if job.share_at_least == 0.85}
    assert promised == {op.name for op in TABLE.values() if op.module in kernels._OF_MEMORY and op.bench}
    quick = kernels.jobs(quick=True)
    assert {job.name for job in quick} < set(NAMES)
    assert promised == {job.name.partition(" ")[0] for job in quick if job.share_at_least == 0.85}


LIMITED = [op for op in TABLE.values() if op.bench and op.flops is None]


@pytest.mark.parametrize("op", LIMITED, ids=lambda op: op.name)
def test_large_sizes_are_touched_and_small_ones_drawn(op):
    large = operands.grown(op, op.bench[-1], 1 << 24)
    read = [spec for name, spec in op.operands.items() if name not in (*op.sampled, *op.unread)]
    assert max(op.elements(spec, large) for spec in (*read, *op.returns)) >= 1 << 24
    small, first = operands.smaller(op, large), operands.growing(op, large)
    assert {name for name, size in small.items() if size != large[name]} == {first}
    moved = [spec for spec in (*op.operands.values(), *op.returns) if first in spec.split()]
    assert max(op.elements(spec, small) for spec in moved) <= 2 * operands._DRAWN


# --- how it is measured -----------------------------------------------------------------------------------------------


@compiles_for_host
@host_only
def test_random_arrays_repeat_what_was_drawn(bench):
    numbers = np.arange(7, dtype="float32")
    assert np.array_equal(operands.repeated(bench, numbers, (3, 5)).get(), np.resize(numbers, (3, 5)))
    assert operands.repeated(bench, numbers, (0, 5)).shape == (0, 5)
    assert np.unique(operands.random_array(bench, (31, 31)).get()).size > 900


@host_only
def test_operands_are_in_memory_unless_they_are_small(bench):
    op = TABLE["relu"]
    sets = operands.sets(bench, op, {"...": (4096,)}, l2=1 << 14, room=1 << 28)
    assert len(sets) == 3  # 32 KB a call beside 16 KB
    assert len({given["x"].data.ptr for given in sets}) == 3
    assert all(np.array_equal(given["x"].get(), sets[0]["x"].get()) for given in sets)
    assert len(operands.sets(bench, op, {"...": (100,)}, l2=1 << 14, room=1 << 28)) == 1
    assert len(operands.sets(bench, op, {"...": (4096,)}, l2=1 << 14, room=1 << 16)) == 2


@host_only
def test_events_count_the_calls_between_them(bench):
    """A millisecond each; copies that fill the time before are outside."""
    copies = bench.zeros((8,), "float32"), bench.zeros((8,), "float32")
    stopwatch = Stopwatch(bench, copies)
    ran = []

    def run(which):
        ran.append(which)
        Event.calls += 1

    calls = Calls([lambda: run(0), lambda: run(1)], EVENTS, lambda _: None)
    sample = stopwatch.samples({"a": calls}, blocks=3, block_seconds=1e-4)["a"]
    assert sample == timing.Sample((1e-3, 1e-3, 1e-3))
    assert abs(ran.count(0) - ran.count(1)) <= 8
    waited = []
    by_wall = Calls([lambda: 5], WALL, waited.append)
    assert all(0 <= one < 1 for one in stopwatch.samples({"a": by_wall}, 2, 0.0)["a"].blocks)
    assert set(waited) == {5}


@host_only
@pytest.mark.parametrize("name", ["float32", "tf32", "bfloat16"])
def test_cublas_is_asked_for_the_product(bench, name):
    call = limits.cublas(bench, 5, 7, 3, name)
    a, b = (operands.random_array(bench, shape).get() for shape in ((5, 7), (7, 3)))
    tolerance = 0.2 if name == "bfloat16" else 1e-5
    np.testing.assert_allclose(call().get(), a @ b, atol=tolerance)


@host_only
@pytest.mark.parametrize("op", [op for op in TABLE.values() if op.bench], ids=lambda op: op.name)
def test_contenders_agree(device, op):
    """CuPy's functions, over NumPy, and PyTorch's."""
    sizes = {name: size for name, size in op.bench[0].items() if name not in op.options}
    small = {name: min(size, 40) if isinstance(size, int) else (20,) for name, size in sizes.items()}
    small |= {name: option for name, option in op.bench[0].items() if name in op.options}
    kernels._check(op, small, device)


@host_only
def test_the_check_sees_a_contender_that_differs(device, monkeypatch):
    functions = dict(device.peers[CUPY].functions)
    device.peers[CUPY].functions["tanh"] = lambda x, out: functions["tanh"](x, out) + 0.01
    with pytest.raises(AssertionError, match="tanh, fastnn against CuPy"):
        kernels._check(TABLE["tanh"], {"...": (50,)}, device)


@host_only
def test_a_line_has_its_rate_share_and_bars(device):
    job = next(job for job in kernels.jobs(quick=False) if job.name == "relu 10000")
    assert job.has_limit  # of the size that is large here
    line = job.measured(device, LEAST)
    assert line.ours == FASTNN_CUDA
    assert CUPY in line.samples
    assert line.rates[FASTNN_CUDA] == pytest.approx(8e4 / line.seconds[FASTNN_CUDA] / 1e9)
    assert line.share == pytest.approx(line.rates[FASTNN_CUDA] * 1e9 / device.bandwidth)
    (bar,) = line.bars()
    assert bar.asked == "at least 85% of the limit"
    assert Line.from_json(json.loads(json.dumps(line.as_json()))) == line
    header, first = report.table([line]).splitlines()
    assert "of limit" in header
    assert f"x {CUPY}" in header
    assert f"x {FASTNN_CUDA}" not in header
    assert "%" in first


@host_only
@pytest.mark.parametrize("precision", ["float32", "tf32", "bfloat16"])
def test_our_own_products_beside_cublas(device, precision):
    line = kernels._own(precision, 48).measured(device, LEAST)
    assert set(line.samples) == {FASTNN_CUDA, CUBLAS}
    assert line.limit == pytest.approx(device.rates[precision] / 1e12)


def test_the_drivers_version(monkeypatch, tmp_path):
    said = tmp_path / "version"
    said.write_text(
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.86.15  Release Build\nGCC version: 12.3\n"
    )
    monkeypatch.setattr(limits, "_DRIVER", str(said))
    assert limits.driver() == "570.86.15"
    monkeypatch.setattr(limits, "_DRIVER", str(tmp_path / "none"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert limits.driver() == "unknown"
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 580.1\necho 580.1\n")
    tool.chmod(0o755)
    assert limits.driver() == "580.1"


# --- the command ------------------------------------------------------------------------------------------------------


@host_only
def test_a_run_prints_tables_and_keeps_json(bench, capsys, tmp_path, monkeypatch):
    chosen = [job for job in kernels.jobs(quick=False) if job.name.startswith(("linear 128", "relu 1", "softmax 128"))]
    missing = next(job for job in chosen if job.name == "softmax 128x10")

    def fail(device):
        raise ModuleNotFoundError("no such kernel")

    chosen[chosen.index(missing)] = kernels.replace(missing, check=fail)
    kept = tmp_path / "cuda.json"
    assert command._run(bench, "kernels", chosen, LEAST, kept, math.inf) == 0
    out, err = capsys.readouterr()
    assert "a host, compute capability 90, 3 multiprocessors" in out
    assert "for CUDA up to 12.4" in out
    assert "CuPy none, NVRTC 12.9, cuBLAS 12.8.3" in out
    assert "copy bandwidth" in out
    assert "relu 10000" in out
    assert "softmax 128x10: not measured: ModuleNotFoundError: no such kernel" in err
    found = json.loads(kept.read_text())
    assert set(found) == {"environment", "lines", "readings", "bars", "unjudged"}
    assert {"device", "driver", "runtime", "software", "commit", "versions"} <= set(found["environment"])
    assert {line["name"] for line in found["lines"]} >= {"linear 128x784x512, a loop of calls", "relu 10000"}
    assert {bar["asked"] for bar in found["bars"]} >= {"at least 1.25x"}


@host_only
def test_an_epoch_beside_the_cpus(bench, device, monkeypatch):
    """Without PyTorch and JAX, which would look for a device of their own."""
    monkeypatch.setattr(training, "_PEERS", {})
    job = next(job for job in training.jobs(quick=True) if job.dataset == "mnist")
    job = kernels.replace(job, widths=(784, 6, 10), rows=40, batch=16)
    line = job.measured(device, LEAST)
    assert set(line.samples) == {FASTNN_CUDA, FASTNN}
    assert line.ours == FASTNN_CUDA
    assert line.work[FASTNN_CUDA] == pytest.approx(40 * 2 * (2 * 784 * 6 + 3 * 6 * 10) / 1e12)
    assert {bar.asked for bar in line.bars()} == {"at least 15x", "at least 2x"}


@host_only
def test_rows_of_a_streamed_epoch_come_piece_by_piece(bench, device, monkeypatch):
    monkeypatch.setattr(training, "_PEERS", {})
    job = next(job for job in training.jobs(quick=True) if job.memory_limit is not None)
    job = kernels.replace(job, widths=(784, 6, 10), rows=200, batch=16, memory_limit=2**18)
    monkeypatch.setattr(host.cuda, "Event", host.Event)  # pieces wait by them
    plans, fit = [], models.Sequential.fit

    def planned(model, x, *given, **options):
        plans.append(model.plan(x).facts.get("samples", ""))
        return fit(model, x, *given, **options)

    monkeypatch.setattr(models.Sequential, "fit", planned)
    assert set(job.measured(device, LEAST).samples) == {FASTNN_CUDA, FASTNN}
    assert any("streamed" in plan for plan in plans)
    assert job.name.endswith("200 made rows, streamed through 262,144 bytes")


@host_only
@pytest.mark.parametrize("timed", [training.PREDICTION, training.FIRST_BATCH])
def test_what_else_is_timed(bench, device, monkeypatch, timed):
    monkeypatch.setattr(training, "_PEERS", {})
    job = next(job for job in training.jobs(quick=True) if job.timed == timed)
    job = kernels.replace(job, widths=(784, 6, 10), rows=40, batch=16)
    line = job.measured(device, LEAST)
    assert set(line.samples) == {FASTNN_CUDA, FASTNN}
    wanted = 1 if timed == training.FIRST_BATCH else 40 * 2 * (784 * 6 + 6 * 10) / 1e12
    assert line.work[FASTNN] == pytest.approx(wanted)
    assert line.unit == timed[1]


def test_lines_of_training_have_names_of_their_own():
    names = [job.name for job in training.jobs(quick=False)]
    assert len(set(names)) == len(names)
    epochs = {job.dataset for job in training.jobs(quick=False) if job.timed == training.EPOCH}
    assert epochs == {"mnist", "fashion_mnist", "reuters", "boston_housing", "wide"}
    assert "first batch mnist, 784-512-10, batch 128, 60,000 made rows" in names


@host_only
def test_an_epoch_that_disagrees_is_seen(bench, device, monkeypatch):
    class Other(FastnnMLP):
        def epoch(self, shuffle=True):
            return 2 * super().epoch(shuffle)

    monkeypatch.setattr(training, "_PEERS", {})
    monkeypatch.setattr(training, "FastnnMLP", lambda *given, backend="cpu": (
        FastnnMLP if backend == "cuda" else Other)(*given, backend=backend))  # fmt: skip
    job = kernels.replace(training.jobs(quick=True)[0], widths=(784, 6, 10), rows=40, batch=16)
    with pytest.raises(AssertionError, match="loss, fastnn against fastnn cpu"):
        job.measured(device, LEAST)


@host_only
def test_what_there_is_no_time_for_is_left_out_and_said(bench, capsys):
    chosen = [job for job in kernels.jobs(quick=False) if job.name.startswith("linear 128")]
    assert command._run(bench, "kernels", chosen, LEAST, None, 0.0) == 0
    out = capsys.readouterr().out
    assert "2 of 2 lines left out: 0 s are over" in out
    assert "no time was left" in out
    assert "0 of 0 bars met" in out


@host_only
def test_a_peer_that_fails_costs_its_column_alone(device, bench):
    def fail(x, out):
        raise ValueError("no\nsuch thing")

    device.peers[CUPY].functions["tanh"] = fail
    job = next(job for job in kernels.jobs(quick=False) if job.name == "tanh 10000")
    assert CUPY not in job.measured(device, LEAST).samples
    assert device.failed == {(CUPY, "tanh"): "ValueError: no"}


def test_without_a_device_one_line_says_why(capsys, monkeypatch):
    from fastnn import backends

    monkeypatch.setitem(backends._PROBES, "cuda", lambda: (_ for _ in ()).throw(RuntimeError("no driver\nat all")))
    backends.state.cache_clear()
    assert report.main(["kernels", "--backend", "cuda"]) == 2
    backends.state.cache_clear()
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert "no driver at all" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backend", "cuda"], "--backend: got cuda, wants the group kernels or training with it"),
        (["kernels", "training", "--backend", "cuda"], "wants the group kernels or training with it"),
        (["kernels", "--backend", "cuda", "--passes", "2"], "--passes: got it beside --backend cuda"),
    ],
)
def test_what_a_device_does_not_take(arguments, message, capsys):
    with pytest.raises(SystemExit):
        report.main(arguments)
    assert message in capsys.readouterr().err


def test_the_list_needs_no_device(capsys):
    assert report.main(["kernels", "--backend", "cuda", "--list"]) == 0
    assert capsys.readouterr().out.splitlines() == NAMES
