"""What the functional API refuses: each with its exception, and a message that says what it got and what it wants.

Nothing may be written before a call is refused.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.errors import BackendError

F = np.float32
A, B = np.ones((2, 3), F), np.ones((3, 4), F)
ROWS = np.full((2, 3), 1 / 3, F)
LOCKED = np.ones((2, 3), F)
LOCKED.flags.writeable = False

CASES = {
    "list": (lambda: ops.matmul([[1.0]], B), TypeError, r"a: got list .*, wants a NumPy or CuPy array"),
    "string": (lambda: ops.relu("x"), TypeError, r"x: got str 'x', wants a NumPy or CuPy array"),
    "none": (lambda: ops.matmul(None, B), TypeError, r"a: got NoneType None, wants a NumPy or CuPy array"),
    "masked": (lambda: ops.relu(np.ma.ones(3)), TypeError, r"x: got MaskedArray"),
    "integers": (lambda: ops.relu(np.ones(3, int)), TypeError, r"x: .*int64, wants dtype float32 or float64; cast"),
    "complex": (lambda: ops.relu(np.ones(3, complex)), TypeError, r"x: .*complex128, wants dtype float32 or float64"),
    "objects": (lambda: ops.relu(np.ones(3, object)), TypeError, r"x: .*object, wants dtype float32 or float64"),
    "half": (lambda: ops.relu(np.ones(3, np.float16)), TypeError, r"x: .*float16, wants dtype float32 or float64"),
    "strings": (lambda: ops.relu(np.array(["a"])), TypeError, r"x: .*wants dtype float32 or float64"),
    "swapped": (lambda: ops.relu(np.ones(3, ">f4")), TypeError, r"x: .*>f4, wants dtype float32 or float64"),
    "mixed dtypes": (lambda: ops.matmul(A, B.astype(float)), TypeError, r"b: got dtype float64, wants float32.* of a"),
    "inner size": (lambda: ops.matmul(A, A), ValueError, r"b: got shape \(2, 3\), wants shape \(3, m\) to match a of"),
    "dimensions": (lambda: ops.matmul(A, B[0]), ValueError, r"b: got shape \(4,\), wants 3 rows: a has shape \(2, 3\)"),
    "three dimensions": (lambda: ops.linear(np.ones((1, 2, 3), F), B), ValueError, r"x: got shape \(1, 2, 3\), wants"),
    "bias size": (
        lambda: ops.linear(A, B, np.ones(3, F)),
        ValueError,
        r"b: got shape \(3,\), wants shape \(4,\) to match",
    ),
    "broadcast": (lambda: ops.add(A, B), ValueError, r"a, b: got .*wants shapes that broadcast together"),
    "backward shape": (lambda: ops.relu_backward(A, A, B), ValueError, r"y: got shape \(3, 4\), wants shape \(2, 3\)"),
    "activation": (lambda: ops.linear(A, B, activation="rleu"), ValueError, r"activation: got 'rleu'.*mean 'relu'\?"),
    "activation type": (lambda: ops.linear(A, B, activation=3), TypeError, r"activation: got int 3, wants one of"),
    "missing": (lambda: ops.matmul(A), TypeError, r"missing 1 required positional argument: 'b'"),
    "unknown": (lambda: ops.matmul(A, B, c=1), TypeError, r"unexpected keyword argument 'c'"),
    "too many": (lambda: ops.matmul(A, B, A), TypeError, r"takes 2 positional arguments but 3 were given"),
    "twice": (lambda: ops.relu(A, x=A), TypeError, r"multiple values for argument 'x'"),
    "out shape": (lambda: ops.relu(A, out=np.ones((3, 2), F)), ValueError, r"out: .*wants an array of shape \(2, 3\)"),
    "out dtype": (lambda: ops.relu(A, out=np.ones((2, 3))), TypeError, r"out: .*wants .*dtype float32"),
    "out locked": (lambda: ops.relu(A, out=LOCKED), ValueError, r"out: got a read-only array"),
    "out broadcast": (
        lambda: ops.relu(A, out=np.lib.stride_tricks.as_strided(np.ones(3, F), (2, 3), (0, 4))),
        ValueError,
        r"out: got a broadcast array whose elements share memory",
    ),
    "label high": (lambda: ops.softmax_cross_entropy(A, np.array([0, 3])), ValueError, r"the label 3, .*in \[0, 3\)"),
    "label low": (lambda: ops.softmax_cross_entropy(A, np.array([-1, 0])), ValueError, r"the label -1, .*in \[0, 3\)"),
    "label count": (
        lambda: ops.softmax_cross_entropy(A, np.array([0])),
        ValueError,
        r"targets: got ndarray of shape \(1,\) and dtype int64, wants class indices, integers of shape \(2,\), or prob",
    ),
    "labels not whole": (
        lambda: ops.softmax_cross_entropy(A, np.ones(2)),
        TypeError,
        r"targets: got ndarray of shape \(2,\) and dtype float64, wants class indices, integers of shape \(2,\), or",
    ),
    "one-hot integers": (
        lambda: ops.softmax_cross_entropy(A, np.eye(2, 3, dtype=int)),
        ValueError,
        r"targets: got ndarray of shape \(2, 3\) and dtype int64, wants .*, floating-point numbers of shape \(2, 3\)",
    ),
    "labels from 1": (
        lambda: ops.softmax_cross_entropy(A, np.array([1, 3])),
        ValueError,
        r"targets: got the label 3, wants class indices in \[0, 3\); of labels that begin at 1 subtract 1$",
    ),
    "rows sum": (lambda: ops.softmax_cross_entropy(A, A), ValueError, r"targets: row 0 sums to 3, wants"),
    "rows negative": (lambda: ops.softmax_cross_entropy(A, -ROWS), ValueError, r"targets: got the entry -0\.333"),
    "rows nan": (lambda: ops.softmax_cross_entropy(A, ROWS * np.nan), ValueError, r"targets: .*no NaN"),
    "weights": (
        lambda: ops.mse(A, A, np.ones(3, F)),
        ValueError,
        r"sample_weight: got shape \(3,\), wants shape \(2,\)",
    ),
    "bits": (lambda: ops.binary_cross_entropy(ROWS, 2 * A), ValueError, r"target: got numbers from 2 to 2, .*\[0, 1\]"),
    "flag": (
        lambda: ops.binary_cross_entropy(ROWS, A, from_logits=1),
        TypeError,
        r"from_logits: got int 1, wants True or",
    ),
    "rate": (lambda: ops.sgd_step(A, A, learning_rate=-1), ValueError, r"learning_rate: got -1\.0, .*at least 0"),
    "rate nan": (
        lambda: ops.sgd_step(A, A, learning_rate=np.nan),
        ValueError,
        r"learning_rate: got nan, wants a finite",
    ),
    "rate text": (
        lambda: ops.sgd_step(A, A, learning_rate="1"),
        TypeError,
        r"learning_rate: got str '1', wants a finite",
    ),
    "momentum": (lambda: ops.sgd_step(A, A, A, momentum=1.5), ValueError, r"momentum: got 1\.5, .*at most 1"),
    "velocity": (lambda: ops.sgd_step(A, A, momentum=0.5), ValueError, r"velocity: got NoneType None, wants it given"),
    "step": (lambda: ops.adam_step(A, A, A, A, 0), ValueError, r"step: got 0, wants an integer of at least 1"),
    "step type": (lambda: ops.adam_step(A, A, A, A, 1.5), TypeError, r"step: got float 1\.5, wants an integer"),
    "beta": (lambda: ops.adam_step(A, A, A, A, 1, beta_1=1.0), ValueError, r"beta_1: got 1\.0, .*below 1"),
    "epsilon": (lambda: ops.rmsprop_step(A, A, A, epsilon=0), ValueError, r"epsilon: got 0\.0, .*above 0"),
    "weights locked": (lambda: ops.sgd_step(LOCKED, A), ValueError, r"w: got a read-only array"),
    "list beside": (
        lambda: ops.sgd_step([A, A], A),
        TypeError,
        r"^dw: got ndarray of shape .*, wants a list of 2 arrays, as many as w has",
    ),
    "list beside array": (lambda: ops.sgd_step(A, [A]), TypeError, r"(?s)^dw: got list .*, wants a NumPy or"),
    "list of fewer": (
        lambda: ops.sgd_step([A, A], (A,)),
        ValueError,
        r"^dw: got a tuple of 1, wants a list of 2 arrays, as many as w has",
    ),
    "list element": (
        lambda: ops.sgd_step([A, B, A], [A, B, B]),
        ValueError,
        r"^dw\[2\]: got shape \(3, 4\), wants shape \(2, 3\) to match w of shape",
    ),
    "list of mixed dtypes": (
        lambda: ops.sgd_step([A, A.astype(float)], [A, A.astype(float)]),
        TypeError,
        r"^w\[1\]: got dtype float64, wants float32, the dtype of w\[0\]",
    ),
    "list of states": (
        lambda: ops.sgd_step([A, B], [A, B], [A, None], momentum=0.5),
        TypeError,
        r"^velocity\[1\]: got NoneType None, wants a NumPy or CuPy array",
    ),
    "list without states": (
        lambda: ops.rmsprop_step([A], [A], None),
        TypeError,
        r"^mean_square: got NoneType None, wants a list of 1 arrays",
    ),
    "list and velocity": (
        lambda: ops.sgd_step([A], [A], [A]),
        ValueError,
        r"(?s)^velocity: got list .*, wants it given",
    ),
    "list locked": (lambda: ops.sgd_step([B, LOCKED], [B, A]), ValueError, r"^w\[1\]: got a read-only array"),
    "list rate": (
        lambda: ops.sgd_step([A], [A], learning_rate=-1),
        ValueError,
        r"^learning_rate: got -1\.0, .*at least 0",
    ),
    "penalty": (lambda: ops.l1_l2_penalty(A, l2=-0.1), ValueError, r"l2: got -0\.1, .*at least 0"),
    "dropout all": (lambda: ops.dropout(A, 1.0, 1), ValueError, r"rate: got 1\.0, wants .*at least 0 and below 1"),
    "dropout negative": (lambda: ops.dropout(A, -0.1, 1), ValueError, r"rate: got -0\.1, wants .*at least 0"),
    "dropout nan": (lambda: ops.dropout(A, np.nan, 1), ValueError, r"rate: got nan, wants a finite number"),
    "dropout text": (lambda: ops.dropout_backward(A, "0.5", 1), TypeError, r"rate: got str '0.5', wants a finite"),
    "dropout seed": (lambda: ops.dropout(A, 0.5, -1), ValueError, r"seed: got -1, wants an integer of at least 0"),
    "dropout seed type": (lambda: ops.dropout(A, 0.5, 1.5), TypeError, r"seed: got float 1\.5, wants an integer"),
    "dropout large seed": (lambda: ops.dropout(A, 0.5, 2**63), ValueError, r"seed: got 9223372036854775808, .*at most"),
    "dropout step": (lambda: ops.dropout(A, 0.5, 1, 2**32), ValueError, r"step: got 4294967296, wants .*at most"),
    "dropout shape": (lambda: ops.dropout(A[0], 0.5, 1), ValueError, r"x: got shape \(3,\), wants shape \(n, c\)"),
    "backend": (lambda: fastnn.set_backend("gpu"), ValueError, r"backend: got 'gpu', wants one of"),
    "backend case": (lambda: fastnn.set_backend("CPU"), ValueError, r"mean 'cpu'\?"),
    "backend type": (lambda: fastnn.set_backend(None), TypeError, r"backend: got NoneType None, wants one of"),
}


@pytest.mark.parametrize("case", CASES)
def test_refused_before_anything_is_written(case):
    call, error, message = CASES[case]
    with pytest.raises(error, match=message):
        call()
    for array in (A, B, LOCKED):
        assert (array == 1).all()


def test_an_unavailable_backend_says_why_and_what_there_is(monkeypatch):
    gone = backends.BackendState("cuda", False, "no CUDA driver is installed")
    monkeypatch.setattr(
        backends, "state", lambda name: gone if name == "cuda" else backends.BackendState(name, True, "")
    )
    for choose in (fastnn.set_backend, backends.resolve, lambda name: fastnn.use_backend(name).__enter__()):
        with pytest.raises(BackendError, match=r"'cuda' is unavailable: no CUDA driver.*Available: 'cpu', 'naive'"):
            choose("cuda")
    assert backends.current() == "cpu"
    assert backends.resolve("auto") == "cpu"


def test_auto_says_once_that_only_loops_are_left(monkeypatch):
    monkeypatch.setattr(backends, "state", lambda name: backends.BackendState(name, name == "naive", f"no {name}"))
    backends._warn_of_loops.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"plain Python loops.*: the CPU backend is unavailable \(no cpu\)$"):
        assert backends.resolve("auto") == "naive"
    assert backends.resolve("auto") == "naive"
    backends._warn_of_loops.cache_clear()


def test_every_backend_has_a_state_and_a_reason():
    states = fastnn.available_backends()
    assert set(states) == {"cuda", "cpu", "naive"}
    assert states["cpu"].available
    assert states["naive"].available
    for state in states.values():
        assert state.reason
        assert state.name in str(state)


def test_a_probe_that_fails_is_a_reason_not_an_abort(monkeypatch):
    def broken():
        raise RuntimeError("the driver is older than the runtime")

    monkeypatch.setitem(backends._PROBES, "cuda", broken)
    state = backends.state.__wrapped__("cuda")
    assert (state.available, state.reason) == (False, "the driver is older than the runtime")


def test_a_system_without_what_kernels_need_has_no_cpu_backend():
    """It says so when it is asked, and every op says so: no op fails at its import."""
    program = """
import ctypes, platform
import numba, numpy as np
def missing(name):
    raise OSError(f"no library {name}")
ctypes.WinDLL = missing
platform.system = lambda: "Windows"
import fastnn
from fastnn.errors import BackendError
state = fastnn.available_backends()["cpu"]
assert not state.available, state
assert state.reason == "what the kernels need cannot be had (OSError: no library kernel32)", state
try:
    fastnn.ops.relu(np.ones(3))
except BackendError as error:
    assert state.reason in str(error) and "'naive'" in str(error), error
else:
    raise AssertionError("an op ran")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


NO_COMPILER = """
import warnings
import numpy as np
import fastnn
{before}
from fastnn import layers, models, ops
from fastnn.errors import BackendError
state = fastnn.available_backends()["cpu"]
assert not state.available and "NUMBA_DISABLE_JIT" in state.reason, state
for call in (lambda: ops.relu(np.ones(3)), fastnn.warmup, lambda: fastnn.set_backend("cpu")):
    try:
        call()
    except BackendError as error:
        assert state.reason in str(error) and "Available: 'naive'" in str(error), error
    else:
        raise AssertionError("it ran")
with fastnn.use_backend("naive"):
    assert (ops.relu(np.array([-1.0, 2.0])) == [0, 2]).all()
model = models.Sequential([layers.Input((2,)), layers.Dense(1)])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    model.compile("sgd", "mse")
    model.fit(np.ones((8, 2)), np.ones((8, 1)), verbose=0)
assert ["by plain Python loops" in str(one.message) for one in caught] == [True], caught
model.compile("sgd", "mse", backend="naive")
large = np.ones((2, 1_000_000), "float32")
assert fastnn.engine.data.input_source("x", large, large.dtype).rows == 2
"""


@pytest.mark.parametrize("by", ["environment", "config"])
def test_without_numbas_compiler_there_is_no_cpu_backend(by):
    before = "import numba; numba.config.DISABLE_JIT = True" if by == "config" else ""
    variables = {**os.environ, **({"NUMBA_DISABLE_JIT": "1"} if by == "environment" else {})}
    program = [sys.executable, "-c", NO_COMPILER.format(before=before)]
    done = subprocess.run(program, capture_output=True, text=True, check=False, env=variables)
    assert done.returncode == 0, done.stderr


def test_a_kernel_is_not_run_uncompiled(monkeypatch):
    """What is compiled already goes on to run when Numba's compiler is switched off later."""
    from fastnn.kernels.cpu import elementwise, jit

    monkeypatch.setattr("numba.config.DISABLE_JIT", True)
    fresh = jit.Kernel(elementwise._pair.factory, elementwise._pair.signature)
    with pytest.raises(RuntimeError, match="Numba's compiler is switched off, by NUMBA_DISABLE_JIT"):
        fresh.compiled(np.dtype("float32"))


class Device:
    """Looks like a device array."""

    __cuda_array_interface__ = None
    shape, dtype = (2, 3), np.dtype("float32")


def test_arrays_in_two_places():
    message = r"b: got an array of \w+'s on a CUDA device beside the NumPy array a, wants all arrays in one place"
    with pytest.raises(TypeError, match=message):
        ops.matmul(A, Device())


def test_backend_of_a_block_is_that_of_the_thread_and_ends_with_it():
    import threading

    seen = []
    with fastnn.use_backend("naive"):
        assert backends.current() == "naive"
        thread = threading.Thread(target=lambda: seen.append(backends.current()))
        thread.start()
        thread.join()
    assert seen == ["cpu"]
    assert backends.current() == "cpu"
    fastnn.set_backend("naive")
    try:
        assert backends.resolve("auto") == "naive"
    finally:
        fastnn.set_backend("cpu")


def test_a_call_is_checked_after_calls_like_it():
    """Calls are remembered by dtypes and shapes; what differs from them is refused as at first."""
    a, b, out = np.ones((3, 4), "float32"), np.ones((4, 5), "float32"), np.empty((3, 5), "float32")
    for _ in range(3):
        assert ops.matmul(a, b, out=out) is out
    frozen = out.copy()
    frozen.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(5, "float32"), (3, 5), (0, 4))
    for wrong, error in (
        ((a.astype("float64"), b, out), TypeError),
        ((a, b[:3], out), ValueError),
        ((a, b, out[:2]), ValueError),
        ((a, b, frozen), ValueError),
        ((a, b, shared), ValueError),
        ((a.astype(object), b, out), TypeError),
        ((a, "b", out), TypeError),
        ((a, None, out), TypeError),
    ):
        for _ in range(2):
            with pytest.raises(error):
                ops.matmul(*wrong[:2], out=wrong[2])
    for wrong in ({"activation": "rel"}, {"activation": True}, {"activation": None}):
        ops.linear(a, b, activation="relu")
        with pytest.raises((TypeError, ValueError), match="activation"):
            ops.linear(a, b, **wrong)
    with pytest.raises(TypeError):
        ops.matmul(a, b, out)
    assert (ops.matmul(a, b) == 4).all()
    with fastnn.use_backend("naive"):
        assert isinstance(ops.matmul(a, b, out=out), np.ndarray)
        with pytest.raises(ValueError, match="out"):
            ops.matmul(a, b, out=frozen)


def test_options_that_vary_are_checked_every_time():
    w, dw, m, v = (np.ones(4, "float32") for _ in range(4))
    for step in range(1, 4):
        ops.adam_step(w, dw, m, v, step, learning_rate=0.1 / step)
    kept = w.copy()
    for wrong in ({"step": 0}, {"step": 1.0}, {"step": True}, {"learning_rate": -0.1}, {"learning_rate": math.nan}):
        with pytest.raises((TypeError, ValueError), match=next(iter(wrong))):
            ops.adam_step(w, dw, m, v, **{"step": 4, "learning_rate": 0.1, **wrong})
    for wrong in (math.inf, "0.1", None, True):
        with pytest.raises((TypeError, ValueError), match="learning_rate"):
            ops.adam_step(w, dw, m, v, 4, learning_rate=wrong)
    assert np.array_equal(w, kept)


def test_a_step_follows_the_options_that_vary():
    w, expected = (np.ones(4, "float32") for _ in range(2))
    dw = np.arange(4, dtype="float32")
    for rate in (0.5, 0.5, 0.25, 2, np.float32(0.125), np.float64(0.5)):
        ops.sgd_step(w, dw, learning_rate=rate)
        expected -= np.float32(rate) * dw
        assert np.array_equal(w, expected)


def test_calls_whose_numbers_matter_are_checked_every_time():
    logits, targets = np.zeros((2, 3), "float32"), np.array([0, 2])
    ops.softmax_cross_entropy(logits, targets)
    targets[1] = 3
    with pytest.raises(ValueError, match="label 3"):
        ops.softmax_cross_entropy(logits, targets)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["softmax_cross_entropy", "cross_entropy", "nll", "multiclass_hinge"])
def test_targets_are_looked_at_in_every_call(op, dtype):
    call, outputs = getattr(ops, op), np.full((2, 3), 0.25, dtype)
    rows = np.array([[0.2, 0.3, 0.5], [0, 1, 0]], dtype)
    for _ in range(2):
        call(outputs, rows)
    for row in ([0.2, 0.3, 0.51], [1.5, -0.5, 0], [math.nan, 0, 1]):
        with pytest.raises(ValueError, match="targets: "):
            call(outputs, np.array([rows[0], row], dtype))
    rows[0] *= 1.0005  # still within what rounding may do
    assert math.isfinite(call(outputs, rows)[0])
    for kind in ("int64", "int32", "uint8"):
        for _ in range(2):
            call(outputs, np.array([0, 2], kind))
        for wrong in ([0, 3], [-1 % 256, 0]):
            with pytest.raises(ValueError, match="label"):
                call(outputs, np.array(wrong, kind))
    outputs[0, 0] = math.nan
    assert math.isnan(call(outputs, np.array([0, 2]))[0])


@pytest.mark.parametrize("op", ["binary_cross_entropy", "binary_focal_cross_entropy"])
def test_bits_are_looked_at_in_every_call(op):
    call, pred, bits = getattr(ops, op), np.full(5, 0.25, "float32"), np.array([0, 1, 0.5, 1, 0], "float32")
    for _ in range(2):
        assert math.isfinite(call(pred, bits)[0])
    for wrong in (-0.1, 1.1, math.nan):
        bits[3] = wrong
        with pytest.raises(ValueError, match=r"wants numbers in \[0, 1\]"):
            call(pred, bits)
