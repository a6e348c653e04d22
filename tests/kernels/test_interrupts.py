"""Interrupts that are put off: all of them come, in the end, and nothing stays behind."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest
from interrupting import interrupted_at

from fastnn import checks
from fastnn.kernels import interrupts
from fastnn.kernels.interrupts import held

pytestmark = pytest.mark.usefixtures("control_c")


def test_handlers_run_at_the_end_once_each():
    handled = []
    signal.signal(signal.SIGINT, lambda number, frame: handled.append((number, frame.f_code.co_name)))
    try:
        with held() as waiting:
            assert not waiting.pending
            for _ in range(3):
                signal.raise_signal(signal.SIGINT)
            assert waiting.pending
            assert handled == []
        assert handled == [(signal.SIGINT, "test_handlers_run_at_the_end_once_each")]
        signal.raise_signal(signal.SIGINT)
        assert len(handled) == 2
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def test_what_a_handler_raises_comes_out_at_the_end_of_the_outermost():
    done = []

    def nested():
        with held():
            with held() as inner:
                signal.raise_signal(signal.SIGINT)
                done.append(1)
            assert inner.pending
            done.append(2)
        done.append(3)

    with pytest.raises(KeyboardInterrupt):
        nested()
    assert done == [1, 2]


def test_an_error_and_an_interrupt():
    def fails():
        with held():
            signal.raise_signal(signal.SIGINT)
            raise ValueError("first")

    with pytest.raises(KeyboardInterrupt) as caught:
        fails()
    assert isinstance(caught.value.__context__, ValueError)


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="this system has no SIGUSR1")
class TestSeveralSignals:
    @pytest.fixture(autouse=True)
    def time_limit(self):
        def end(number, frame):
            raise TimeoutError

        before = signal.signal(signal.SIGUSR1, end)
        yield
        assert signal.getsignal(signal.SIGUSR1) is end
        signal.signal(signal.SIGUSR1, before)

    def test_all_are_handled_whatever_one_raises(self):
        def both():
            with held():
                signal.raise_signal(signal.SIGUSR1)
                signal.raise_signal(signal.SIGINT)

        with pytest.raises((KeyboardInterrupt, TimeoutError)) as caught:
            both()
        assert {type(caught.value), type(caught.value.__context__)} == {KeyboardInterrupt, TimeoutError}

    @pytest.mark.parametrize("call", range(1, 5))
    def test_one_comes_while_handlers_are_exchanged(self, call, monkeypatch):
        """The first two exchanges begin what the other two end."""

        class Exchange:
            getsignal, calls = staticmethod(signal.getsignal), 0

            def signal(self, *arguments):
                self.calls += 1
                signal.signal(*arguments)
                if self.calls == call:
                    signal.raise_signal(signal.SIGUSR1 if call < 3 else signal.SIGINT)

        monkeypatch.setattr(interrupts, "_signal", Exchange())
        with pytest.raises((TimeoutError, KeyboardInterrupt)), held():
            pass
        assert held._outermost is None


def test_only_what_python_handles_waits():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with held() as waiting:
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            signal.raise_signal(signal.SIGINT)
            assert not waiting.pending
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_hold_nothing():
    found = []

    def other():
        with held() as waiting:
            found.append((held._outermost is not None, bool(waiting.pending)))

    def run():
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()

    def interrupted():
        with held():
            signal.raise_signal(signal.SIGINT)
            run()

    run()
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert found == [(False, False), (True, False)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_the_child_of_another_thread_holds_nothing():
    program = """
import os, signal, sys, threading, warnings
from fastnn.kernels.interrupts import held
warnings.simplefilter("ignore")  # of forks of processes with threads
signal.signal(signal.SIGINT, signal.default_int_handler)

def child():
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        with held() as mine:
            os._exit(0 if held._outermost is mine and not mine.pending else 2)
    os._exit(1)

def fork():
    pid = os.fork()
    if pid == 0:
        child()
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

codes = []
with held():
    thread = threading.Thread(target=fork)
    thread.start()
    thread.join()
sys.exit(codes[0])
"""
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_nothing_comes_between_what_is_held():
    numbers = [0, 0]

    def step():
        with held():
            for place in range(2):
                numbers[place] += 1

    def steps():
        checks.positive_int("a line of fastnn's before", 1)
        step()
        checks.positive_int("and behind", 1)

    for point in itertools.count(1):
        if not interrupted_at(point, steps, "opcode"):
            break
        assert numbers[0] == numbers[1]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert held._outermost is None
    assert point > 100
