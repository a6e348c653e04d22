"""Launches that a plan has prepared: what their records hold, call after call, and that calls alike prepare nothing."""

from __future__ import annotations

import sys
import threading
from contextlib import nullcontext
from types import ModuleType

import numpy as np
import pytest

from bench.cuda import calls
from fastnn import checks
from fastnn.kernels.contexts import setting
from tests.cuda_host import sparse

# A line of each op and kind of operands; and the one whose calls wait, to hear how many non-zeros a new matrix has.
LINES = {(line.op.name, line.kind): line for line in calls.lines()}
WAITS = LINES["gather", calls.CSR]


class Kernel:
    """Writes down the records that it is given; ``before`` runs in between."""

    def __init__(self, before=lambda: None):
        self.given, self.before = [], before

    def function(self, grid, block, arguments):
        self.before()
        self.given.append((grid, block, arguments[0].tobytes()))

    __call__ = function


@pytest.fixture
def structure(device):
    """One with pointers, an array of them and numbers."""
    from fastnn.kernels.cuda.arguments import Field, Structure

    pointers = Field("a", "real*"), Field("several", "real*", (3,)), Field("b", "real*")
    return Structure("Given", Field("n", "int64"), *pointers, Field("m", "int"), numbers=(Field("rate", "real", (2,)),))


def read(structure, given):
    return np.frombuffer(given, structure.record("float32").dtype)[0]


def test_records_hold_constants_addresses_rooms_and_numbers(device, structure):
    from fastnn.kernels.cuda.chain import COUNTERS, Chain
    from fastnn.kernels.cuda.launch import counters

    kernels = Kernel(), Kernel()
    chain = Chain(("x", "y"), ("stored",))
    room, zeros = chain.room(12), chain.room(8, zeros=True)
    first, second = chain.within(300, 0, 64)
    records = structure.record("float32"), structure.record("float32")
    records[0][0]["n"], records[1][0]["m"], records[1][0]["rate"] = 7, -3, (0.5, 0.25)
    chain.add(kernels[0], 5, records[0], {"a": "y", "several": ["x", "", room], "b": zeros}, ("rate", 8))
    chain.add(kernels[1], 6, records[1], {"a": first, "b": second, "several": ["stored", COUNTERS]}, threads=32)
    launches = chain.made()
    for x, numbers in ((160, (1.0, 2.0)), (320, (3.0, 4.0))):
        launches((x, 4096), (9,), np.array(numbers, "float32").tobytes())
        (grid, block, given), one = kernels[0].given[-1], read(structure, kernels[0].given[-1][2])
        assert (grid, block) == ((5,), (256,))
        assert (one["n"], one["a"], one["several"][0], one["several"][1], one["m"]) == (7, 4096, x, 0, 0)
        assert tuple(one["rate"]) == numbers
        assert one["several"][2] != 0 != one["b"]
        (grid, block, given), other = kernels[1].given[-1], read(structure, kernels[1].given[-1][2])
        assert (grid, block, len(given)) == ((6,), (32,), records[1].nbytes)
        assert (other["m"], other["several"][0], other["several"][1]) == (-3, 9, counters())
        assert tuple(other["rate"]) == (0.5, 0.25)
        assert other["b"] - other["a"] == 64
        assert other["a"] - one["several"][2] == 256  # rooms begin where wide accesses may


def test_rooms_of_zeros_hold_zeros(device, structure):
    from fastnn.kernels.cuda import chain as of_chains

    made = []
    chain = of_chains.Chain(())
    kernel = Kernel()
    chain.add(kernel, 1, structure.record("float32"), {"a": chain.room(40, zeros=True)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device, "zeros", lambda *given, zeros=device.zeros: made.append(zeros(*given)) or made[-1])
        chain.made()((), (), b"")
    assert not made[0].get().any()
    assert read(structure, kernel.given[0][2])["a"] == made[0].data.ptr


def test_a_chain_of_nothing_launches_nothing(device):
    from fastnn.kernels.cuda.chain import Chain

    Chain(("x",)).made()((16,), (), b"")


def test_calls_side_by_side_have_records_of_their_own(device, structure):
    """Each stops between two launches until the other one has written its records."""
    from fastnn.kernels.cuda.chain import Chain

    meeting, kernels, chain = threading.Barrier(2, timeout=10), (Kernel(), Kernel()), Chain(("x",))
    for kernel in kernels:
        chain.add(kernel, 1, structure.record("float32"), {"a": "x"})
    launches = chain.made()
    launches((48,), (), b"")  # leaves a buffer for one of them
    for kernel in kernels:
        kernel.given.clear()
        kernel.before = meeting.wait
    threads = [threading.Thread(target=launches, args=((x,), (), b"")) for x in (16, 32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for kernel in kernels:
        assert sorted(read(structure, given)["a"] for *_, given in kernel.given) == [16, 32]


def test_arrays_that_begin_elsewhere_have_launches_of_their_own(device, structure):
    from fastnn.kernels.cuda.chain import Chains

    built, kernel = [], Kernel()

    def build(chain, kind):
        built.append((kind, chain.is_aligned("x"), chain.is_aligned("y")))
        chain.add(kernel, 1, structure.record("float32"), {"a": "x", "b": "y"})

    launches = Chains(("x", "y"), build)
    for _ in range(2):
        launches((32, 64))
        launches((36, 64))
        launches((32, 64), kind=5)
        launches((52, 64))
        launches((52, 68))
    assert built == [(None, True, True), (None, False, True), (5, True, True), (None, False, False)]
    assert [read(structure, given)["a"] for *_, given in kernel.given] == [32, 36, 32, 52, 52] * 2


def test_those_who_ask_or_take_launches_are_given_them(device, structure):
    from fastnn.kernels.cuda import launch
    from fastnn.kernels.cuda.chain import Chain

    function = Kernel()
    kernel = launch.Numbered(function.function, structure.span("float32"))
    chain, asked, taken = Chain(("x",)), [], []
    chain.add(kernel, 3, structure.record("float32"), {"a": "x"})
    launches = chain.made()
    with setting(launch.asked_for, asked):
        launches((16,), (), b"")
    assert (asked, len(function.given)) == ([kernel], 1)
    with setting(launch.takes_launches, lambda *given: taken.append(given)):
        launches((32,), (), b"")
    ((which, grid, block, record),) = taken
    assert (which, grid, block, len(function.given)) == (kernel, (3,), launch.BLOCK, 1)
    assert read(structure, record.tobytes())["a"] == 32


@pytest.fixture
def matrices(monkeypatch):
    """Where CuPy has them."""
    modules = {name: ModuleType(name) for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.sparse")}
    modules["cupyx.scipy.sparse"].csr_matrix = sparse.csr_matrix
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


@pytest.mark.usefixtures("matrices")
@pytest.mark.parametrize("line", LINES.values(), ids=lambda line: line.name)
def test_calls_alike_are_neither_checked_nor_planned_again(device, monkeypatch, line):
    """Nor is a record described, and nobody waits."""
    from fastnn.kernels.cuda.arguments import Structure

    run = calls.call(device, line)
    run()  # with arrays for results, as no call before

    def refuse(*given, **named):
        raise AssertionError("a call like one before is planned")

    monkeypatch.setattr(checks, "operands", refuse)
    monkeypatch.setattr(Structure, "record", refuse)
    device.launched.clear()
    with nullcontext() if line is WAITS else device.unread():
        run()
    assert device.launched
