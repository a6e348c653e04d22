"""Ops of device arrays but for their numbers: what is taken, refused, remembered; no call waits for the device.

The device is the host, its kernels are not compiled: results hold nothing.
"""

from __future__ import annotations

import sys
import weakref
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import fastnn
from fastnn import backends, ops
from fastnn.errors import BackendError
from fastnn.kernels import cuda
from fastnn.kernels.cases import draw, variant_name
from fastnn.kernels.table import TABLE
from tests.cuda_host.sparse import csr_matrix


@pytest.fixture
def a(device):
    return device.asarray(np.ones((2, 3), "float32"))


@pytest.fixture
def b(device):
    return device.asarray(np.ones((3, 4), "float32"))


# The modules that there are.
MODULES = {path.stem for path in Path(cuda.__file__).parent.glob("*.py")}


def calls():
    for op in [op for op in TABLE.values() if op.module in MODULES]:
        for variant in op.variants:
            yield pytest.param(op, variant, id=f"{op.name}-{variant_name(variant)}")


class Foreign:
    """An array of another library's over a device array's memory, which says so by the CUDA array interface."""

    __module__ = "another.library"

    def __init__(self, array, locked=False):
        self.array, self.locked = array, locked

    @property
    def __cuda_array_interface__(self):
        said = self.array.__cuda_array_interface__
        return {**said, "data": (said["data"][0], self.locked)}


class Exported(Foreign):
    """And by DLPack."""

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()

    def __dlpack__(self, **_):
        return self.array


class OnlyExported:
    """By DLPack alone."""

    __init__ = Foreign.__init__
    __dlpack_device__, __dlpack__ = Exported.__dlpack_device__, Exported.__dlpack__


class OnHost(OnlyExported):
    """An array of another library's in the host's memory."""

    def __dlpack_device__(self):
        return 1, 0


class OfNoDevice(OnlyExported):
    """An array of nothing that DLPack knows."""

    def __dlpack_device__(self):
        raise ValueError("unknown device")


class Kept(Foreign):
    """One that its library does not give away."""

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        raise BufferError("it has a gradient: detach it first")


FOREIGN = (Foreign, Exported, OnlyExported)


@pytest.mark.parametrize(("op", "variant"), list(calls()))
def test_no_call_waits_for_the_device(device, op, variant):
    """Neither the first one nor one that is remembered, whatever stands in the arrays."""
    given = draw(op, op.cases[-1], variant, "float32", np.random.default_rng(0))
    given = {name: device.asarray(each) if isinstance(each, np.ndarray) else each for name, each in given.items()}
    launches = []
    with device.unread():
        for _ in range(2):
            device.launched.clear()
            result = getattr(ops, op.name)(**given)
            launches.append(list(device.launched))
            for each in result if isinstance(result, tuple) else (result,):
                assert each is None or type(each) is device.ndarray
    assert launches[0] == launches[1]


def test_a_test_would_see_a_call_that_waits(device, monkeypatch):
    waits = backends.implementation("cuda", "elementwise", "relu")
    monkeypatch.setattr(f"{waits.__module__}.relu", lambda x, *, out=None: x.get(), raising=False)
    backends.forget()
    with device.unread(), pytest.raises(AssertionError, match="waited for the device"):
        ops.relu(device.asarray(np.ones(3)))
    backends.forget()


def test_calls_alike_are_checked_once(device, a, b, monkeypatch):
    checked = []
    operands = fastnn.checks.operands
    monkeypatch.setattr("fastnn.checks.operands", lambda *given: (checked.append(given), operands(*given)))
    out, index = device.empty((2, 4), "float32"), device.zeros(5, "int64")
    for _ in range(3):
        assert ops.matmul(a, b, out=out) is out
        assert ops.matmul(a, b).shape == (2, 4)
        ops.sgd_step(a, a, learning_rate=0.5)
        ops.gather(a, index)
    assert len(checked) == 4
    ops.matmul(a, device.asarray(np.ones((4, 3), "float32")).T)  # other strides
    with fastnn.use_precision("tf32"):
        ops.matmul(a, b)
    with device.cuda.Device(1):
        ops.matmul(*(device.asarray(each.get()) for each in (a, b)))
    assert len(checked) == 7
    ops.sgd_step(a, a, learning_rate=0.25)  # a rate is hardly the same twice
    assert len(checked) == 7
    with pytest.raises(ValueError, match="learning_rate: got -1"):
        ops.sgd_step(a, a, learning_rate=-1.0)


@pytest.mark.parametrize(("op", "variant"), list(calls()))
def test_what_is_remembered_keeps_no_memory(device, op, variant):
    given = draw(op, op.cases[-1], variant, "float32", np.random.default_rng(0))
    given = {name: device.asarray(each) if isinstance(each, np.ndarray) else each for name, each in given.items()}
    seen = [weakref.ref(each._memory) for each in given.values() if isinstance(each, device.ndarray)]
    for _ in range(2):
        getattr(ops, op.name)(**given)
    given.clear()
    assert [ref() for ref in seen] == [None] * len(seen)


# The most functions of Python's that a call runs which is like an earlier one, CuPy's apart: what it costs, roughly.
CALLS = {
    "relu": (13, lambda a, b: ops.relu(a)),
    "softmax": (17, lambda a, b: ops.softmax(a)),
    "matmul": (13, ops.matmul),
    "mse": (17, lambda a, b: ops.mse(a, a)),
    "sgd_step": (20, lambda a, b: ops.sgd_step(a, a, learning_rate=0.5)),
    "linear_backward": (22, lambda a, b: ops.linear_backward(a, a, b[:, :3], a, "relu")),
    "linear_sgd_step": (41, lambda a, b: ops.linear_sgd_step(a, a, b[:, :3], a, b=b[0, :3], activation="relu")),
}


# The same beside a CSR matrix x (2, 3): a gradient sorts its non-zeros by their columns.
CSR_CALLS = {
    "matmul": (19, lambda x, a, b: ops.matmul(x, b)),
    "linear": (20, lambda x, a, b: ops.linear(x, b, b[0], "relu")),
    "linear_backward": (34, lambda x, a, b: ops.linear_backward(a, x, b[:, :3], a, need=("dw", "db"))),
    "linear_sgd_step": (40, lambda x, a, b: ops.linear_sgd_step(a, x, b[:, :3], a, learning_rate=0.5, need=())),
}


@pytest.mark.parametrize("name", CSR_CALLS)
def test_a_call_with_a_csr_matrix_like_an_earlier_one_runs_little(device, a, b, name):
    """It is known by its shape, however many non-zeros there are; that memory is apart, by where that is."""
    most, call = CSR_CALLS[name]
    more = csr_matrix((device.zeros(5, "float32"), device.zeros(5, "int32"), device.zeros(3, "int32")), (2, 3))
    for x in (csr(device), more):
        call(x, a, b)
    # of several, for what lies where results of before have lain is remembered by that
    seen = min((calls_of(lambda: call(more, a, b)) for _ in range(5)), key=len)
    assert len(seen) <= most, seen


@pytest.mark.parametrize("name", CALLS)
def test_a_call_like_an_earlier_one_runs_little(a, b, name):
    most, call = CALLS[name]
    call(a, b)
    seen = min((calls_of(lambda: call(a, b)) for _ in range(5)), key=len)
    assert len(seen) <= most, seen


def calls_of(call):
    """The functions of ours that it runs."""
    seen = []

    def profile(frame, event, _):
        ours = not frame.f_code.co_filename.endswith("test_device_arrays.py")
        if (
            event == "call"
            and ours
            and ("/kernels/" in frame.f_code.co_filename or "fastnn" in frame.f_code.co_filename)
        ):
            seen.append(f"{frame.f_code.co_filename.rpartition('/')[2]} {frame.f_code.co_name}")

    sys.setprofile(profile)
    try:
        call()
    finally:
        sys.setprofile(None)
    return seen


def test_what_is_unlike_is_refused_after_calls_that_were_not(device, a, b):
    out = device.empty((2, 4), "float32")
    ops.matmul(a, b, out=out)
    shared = device.broadcast_to(device.zeros(4, "float32"), (2, 4))
    for wrong, error in (
        ((a.astype("float64"), b, out), TypeError),
        ((a, b[:2], out), ValueError),
        ((a, b, out[:1]), ValueError),
        ((a, b, shared), ValueError),
        ((a, "b", out), TypeError),
        ((a, None, out), TypeError),
    ):
        with pytest.raises(error):
            ops.matmul(wrong[0], wrong[1], out=wrong[2])


@pytest.mark.parametrize("kind", FOREIGN)
def test_other_libraries_arrays_are_taken_where_they_lie(device, a, kind, monkeypatch):
    seen = []
    waits = backends.implementation("cuda", "elementwise", "relu")
    monkeypatch.setattr(f"{waits.__module__}.relu", lambda x, *, out=None: seen.append((x, out)) or out)
    backends.forget()
    out = device.empty((2, 3), "float32")
    for _ in range(2):
        ops.relu(kind(a), out=kind(out))
        ops.relu(a, out=kind(out))
    for x, y in seen:
        assert type(x) is type(y) is device.ndarray
        assert (x.data.ptr, y.data.ptr) == (a.data.ptr, out.data.ptr)
    assert len(seen) == 4
    backends.forget()


@pytest.mark.parametrize("kind", FOREIGN)
def test_steps_write_to_other_libraries_arrays_where_they_lie(device, a, kind):
    ops.sgd_step(kind(a), kind(a), learning_rate=0.5)
    ops.sgd_step([kind(a), a], [a, kind(a)], learning_rate=0.5)
    assert device.launched[-1] == "step"


@pytest.mark.parametrize("kind", [Foreign, Exported])
def test_what_is_read_only_is_read_and_not_written_to(device, a, b, kind):
    out = device.empty((2, 4), "float32")
    assert ops.matmul(kind(a, locked=True), kind(b, locked=True)).shape == (2, 4)
    launched = len(device.launched)
    for name, call in (
        ("out", lambda: ops.matmul(a, b, out=kind(out, locked=True))),
        ("w", lambda: ops.sgd_step(kind(a, locked=True), a, learning_rate=0.5)),
        (r"w\[1\]", lambda: ops.sgd_step([a, kind(a, locked=True)], [a, a], learning_rate=0.5)),
    ):
        with pytest.raises(ValueError, match=f"^{name}: got a read-only array, wants one that can be written to"):
            call()
    assert len(device.launched) == launched


MIXED = {
    "NumPy last": lambda a, b: ops.matmul(a, b.get()),
    "NumPy first": lambda a, b: ops.matmul(a.get(), b),
    "another library's": lambda a, b: ops.matmul(a.get(), Exported(b)),
    "out": lambda a, b: ops.relu(a, out=np.zeros((2, 3), "float32")),
    "lists": lambda a, b: ops.sgd_step([a], [a.get()], learning_rate=0.5),
}


@pytest.mark.parametrize("case", MIXED)
def test_arrays_in_two_places_are_refused_before_anything_is_written(device, a, b, case):
    ops.relu(a), ops.matmul(a, b), ops.sgd_step([a], [a], learning_rate=0.5)
    launched = len(device.launched)
    with pytest.raises(
        TypeError, match=r"array of tests's on a CUDA device beside the NumPy array .*wants all arrays in one place"
    ):
        MIXED[case](a, b)
    assert len(device.launched) == launched


def test_lists_in_two_places_are_refused(device, a):
    with pytest.raises(TypeError, match=r"^w: got arrays of NumPy and of CuPy, wants all arrays in one place"):
        ops.sgd_step([a, a.get()], [a, a.get()], learning_rate=0.5)


def test_arrays_of_the_hosts_in_lists_are_not_taken_for_those_of_the_device(device, a):
    """Calls are known by dtypes and shapes, which they share."""
    host = np.ones((2, 3), "float32")
    for _ in range(2):
        ops.sgd_step([a], [a], learning_rate=0.5)
        with fastnn.use_backend("naive"):
            ops.sgd_step([host], [np.ones_like(host)], learning_rate=0.25)
    assert (host == 0.5).all()
    wrong = device.asarray(np.ones((2, 2), "float32"))
    with pytest.raises(ValueError, match=r"^dw\[0\]: got shape \(2, 2\), wants shape \(2, 3\)"):
        ops.sgd_step([a], [wrong], learning_rate=0.5)


def test_other_libraries_arrays_that_are_refused(device, a, b):
    with pytest.raises(TypeError, match=r"^b: got OnHost .* that cannot be taken"):
        ops.matmul(a, OnHost(b))
    with pytest.raises(TypeError, match=r"^b: got OfNoDevice .*wants a NumPy or CuPy array"):
        ops.matmul(a, OfNoDevice(b))
    message = r"^b: got an array of tests's on a CUDA device that cannot be taken: it has a gradient: detach it first"
    with pytest.raises(TypeError, match=message):
        ops.matmul(a, Kept(b))


def test_arrays_of_another_device(device, a, b):
    with device.cuda.Device(1):
        there = [device.asarray(each.get()) for each in (a, b)]
        assert ops.matmul(*there).data.device_id == 1
    for _ in range(2):
        with pytest.raises(ValueError, match=r"^b: got an array of CUDA device 1 beside a of device 0, wants all"):
            ops.matmul(a, there[1])
        with pytest.raises(ValueError, match=r"^a: got an array of CUDA device 1, wants one of the current device, 0"):
            ops.matmul(*there)
        with pytest.raises(
            ValueError, match=r"^w\[0\]: got an array of CUDA device 1, wants one of the current device"
        ):
            ops.sgd_step([there[0]], [there[0]], learning_rate=0.5)
        ops.sgd_step([a], [a], learning_rate=0.5)
        with device.cuda.Device(1):
            ops.sgd_step([there[0]], [there[0]], learning_rate=0.5)


def csr(device, dtype="float32"):
    """A matrix of zeros (2, 3)."""
    return csr_matrix((device.zeros(2, dtype), device.zeros(2, "int32"), device.zeros(3, "int32")), (2, 3))


def test_csr_matrices_of_the_device(device, a, b, monkeypatch):
    seen, checked = [], []
    kernels = ModuleType("fastnn.kernels.cuda.csr")
    kernels.matmul = lambda a, b, *, out=None: seen.append((a, b)) or out
    monkeypatch.setitem(sys.modules, kernels.__name__, kernels)
    backends.forget()
    operands = fastnn.checks.operands
    monkeypatch.setattr("fastnn.checks.operands", lambda *given: (checked.append(given), operands(*given)))
    with device.unread():
        for _ in range(2):
            ops.matmul(csr(device), b, out=device.empty((2, 4), "float32"))
            ops.matmul(csr(device), Exported(b))
    assert len(seen) == 4
    assert len(checked) == 2  # with out and without
    with pytest.raises(TypeError, match=r"b: got dtype float32, wants float64, the dtype of a"):
        ops.matmul(csr(device, "float64"), b)
    with pytest.raises(
        TypeError, match=r"a: got an array of tests's .* beside the NumPy array b, wants all arrays in one"
    ):
        ops.matmul(csr(device), b.get())
    with pytest.raises(
        TypeError, match=r"b: got an array of tests's .* beside the NumPy array a, wants all arrays in one"
    ):
        ops.matmul(pytest.importorskip("scipy.sparse").csr_array(a.get()), b)
    backends.forget()


def test_memory_that_there_is_not(device, a, b, monkeypatch):
    monkeypatch.setattr(device, "most", 7)
    for _ in range(2):
        with pytest.raises(
            MemoryError, match=r"Out of memory allocating 32 bytes .*; free on CUDA device 0: [\d,]+ of"
        ):
            ops.matmul(a, b)
    monkeypatch.setattr(device, "most", 2**40)
    ops.matmul(a, b)
    monkeypatch.setattr(device, "most", 7)
    with pytest.raises(MemoryError, match=r"Out of memory allocating 32 bytes .*; free on CUDA device 0: [\d,]+ of"):
        ops.matmul(a, b)


def test_numpy_arrays_where_the_backend_is_cuda(a):
    with fastnn.use_backend("cuda"):
        assert ops.relu(a).shape == (2, 3)
        with pytest.raises(TypeError, match="x: got a NumPy array, wants a CuPy array while the backend is 'cuda'"):
            ops.relu(np.ones(3))


def test_the_trainer_runs_on_it_where_it_is_asked_to(device):
    assert backends.state("cuda").available
    assert backends.resolve("auto") == "cpu"
    assert backends.resolve("cuda") == "cuda"
    with fastnn.use_backend("cuda"):
        assert backends.resolve("auto") == "cuda"


def test_auto_takes_it_for_large_steps_and_says_so_once(device):
    backends._tell_of_device.cache_clear()
    with pytest.warns(
        UserWarning, match=r"backend 'auto' is 'cuda' for steps of 1e\+10 FLOP and more \(the host\)"
    ) as told:
        assert [backends.resolve("auto", 1e10) for _ in range(2)] == ["cuda", "cuda"]
    assert len(told) == 1
    assert backends.resolve("auto", 9.9e9) == "cpu"
    assert backends.resolve("cpu", 1e12) == "cpu"
    with fastnn.use_backend("naive"):
        assert backends.resolve("auto", 1e12) == "naive"


def test_auto_stays_on_the_cpu_where_no_device_can_serve(monkeypatch):
    """And nothing is said."""
    monkeypatch.setattr(backends, "state", lambda name: backends.BackendState(name, name != "cuda", "no driver"))
    assert backends.resolve("auto", 1e12) == "cpu"


def test_small_steps_look_for_no_device(monkeypatch):
    asked = []
    state = backends.state
    monkeypatch.setattr(backends, "state", lambda name: asked.append(name) or state(name))
    backends.resolve("auto", 1.0)
    assert "cuda" not in asked


def test_info_says_what_serves_and_whose_products_are(device, monkeypatch):
    from fastnn import _environment
    from fastnn.kernels.cuda import cublas, tiles

    assert _environment._state(backends.state("cuda")) == (
        "available: the host; 'auto' takes it for steps of 1e+10 FLOP on, unmeasured"
    )
    said = dict(_environment._products_on_device())
    plain = "float32; cuBLAS's from 1,073,741,824 multiply-adds on ({}) where nothing is fused or rounded"
    rounded = "those of rounded operands from 134,217,728 multiply-adds on ({})"
    assert said["products on cuda"].startswith(plain.format("unmeasured"))
    assert said["tensor cores"] == rounded.format("unmeasured")
    for module, name in ((cublas, "MEASURED_ON"), (tiles, "TENSOR_MEASURED_ON")):
        monkeypatch.setattr(module, name, "NVIDIA H200")
    said = dict(_environment._products_on_device())
    assert said["products on cuda"].startswith(plain.format("measured on NVIDIA H200"))
    assert said["tensor cores"] == rounded.format("measured on NVIDIA H200")
    monkeypatch.setattr(tiles, "lacking", lambda device: "it is too old")
    assert dict(_environment._products_on_device())["tensor cores"] == "none: it is too old"


@pytest.mark.parametrize(("n", "by"), [(1023, "product"), (1024, "cupy.matmul")])
def test_large_products_are_cublas_s(device, n, by):
    a, b = device.empty((n, 1024), "float32"), device.empty((1024, 1024), "float32")
    device.launched.clear()
    ops.matmul(a, b)
    with fastnn.use_precision("tf32"):
        ops.matmul(a, b)
    assert device.launched[0] == by
    assert "cupy.matmul" not in device.launched[1:]


def test_precisions():
    assert fastnn.get_precision() == "float32"
    with fastnn.use_precision("bfloat16"):
        with fastnn.use_precision("tf32"):
            assert fastnn.get_precision() == "tf32"
        assert fastnn.get_precision() == "bfloat16"
    fastnn.set_precision("tf32")
    assert fastnn.get_precision() == "tf32"
    fastnn.set_precision("float32")
    for choose in (fastnn.set_precision, fastnn.use_precision):
        with pytest.raises(ValueError, match=r"^precision: got 'bfloat', .*did you mean 'bfloat16'"):
            choose("bfloat")
    assert fastnn.get_precision() == "float32"


# --- where there is no device ---------------------------------------------------------------------------------------


@pytest.fixture
def probed(device, monkeypatch):
    """The device's runtime, to be broken, and what is said then of the backend."""

    def compiled(code, **_):
        return type("Module", (), {"get_function": lambda self, name: answer})()

    def answer(grid, block, arguments):
        arguments[0]._host[...] = 42

    monkeypatch.setattr(device, "RawModule", compiled)
    monkeypatch.setitem(backends._PROBES, "cuda", backends._probe_cuda)
    backends.state.cache_clear()
    yield lambda: backends.state.__wrapped__("cuda")
    backends.state.cache_clear()


def fails(error):
    def call(*_, **__):
        raise error

    return call


def test_what_the_device_is(probed, device, monkeypatch):
    state = probed()
    assert state.available
    assert state.reason == (
        "The host, device 0 of 2, compute capability 9.0, 1024 GiB, "
        "CuPy on the host for CUDA 12.9, driver for CUDA 13.0"
    )


WITHOUT = {
    "driver": ({"driverGetVersion": lambda: 0}, "no CUDA driver is installed"),
    "new driver": (
        {"driverGetVersion": lambda: 11040, "getDeviceCount": lambda: 35},
        "the driver is for CUDA 11.4, and too old for CuPy's, 12.9",
    ),
    "device": ({"getDeviceCount": lambda: 100}, "the driver finds no CUDA device"),
    "any reason": ({"getDeviceCount": lambda: 3}, "an error 3 of the runtime"),
    "tensor cores": (
        {"getDeviceProperties": lambda _: {"name": b"Old", "major": 7, "minor": 0, "totalGlobalMem": 1}},
        "Old has compute capability 7.0, kernels want 7.5 or later",
    ),
}


def test_without_cupy(probed, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    state = probed()
    assert not state.available
    assert state.reason.startswith("CuPy is not installed: pip install")


@pytest.mark.parametrize("case", WITHOUT)
def test_what_there_is_not_is_said(probed, device, monkeypatch, case):
    broken, reason = WITHOUT[case]
    for name, call in broken.items():
        status = call() if name == "getDeviceCount" else None
        error = fails(device.cuda.runtime.CUDARuntimeError(status))
        monkeypatch.setattr(device.cuda.runtime, name, call if status is None else error)
    state = probed()
    assert (state.available, state.reason) == (False, reason)


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "CuPy failed to load libnvrtc.so.12: OSError: no such file\n\nand advice",
            "NVRTC, CUDA's compiler, cannot be loaded: CuPy failed to load libnvrtc.so.12: OSError: no such file",
        ),
        ("no headers\nand advice", "NVRTC compiles no kernel: no headers"),
    ],
)
def test_without_a_compiler(probed, device, monkeypatch, said, reason):
    monkeypatch.setattr(device, "RawModule", fails(RuntimeError(said)))
    assert probed().reason == reason


def test_a_kernel_that_does_nothing(probed, device, monkeypatch):
    nothing = type("Module", (), {"get_function": lambda self, name: lambda *_: None})()
    monkeypatch.setattr(device, "RawModule", lambda **_: nothing)
    assert probed().reason == "a kernel ran and did nothing"


def test_a_call_without_a_device_says_why_in_one_line(probed, device, a, b, monkeypatch):
    monkeypatch.setattr(device.cuda.runtime, "driverGetVersion", lambda: 0)
    backends.forget()
    message = r"^backend 'cuda' is unavailable: no CUDA driver is installed. Available: 'cpu', 'naive'$"
    for call in (
        lambda: ops.matmul(a, b),
        lambda: ops.matmul(Foreign(a), b),
        lambda: ops.sgd_step([a], [a], learning_rate=0.5),
    ):
        with pytest.raises(BackendError, match=message):
            call()
    backends.forget()


def test_the_package_of_the_kernels_needs_no_cupy():
    assert "cupy" not in vars(cuda)
