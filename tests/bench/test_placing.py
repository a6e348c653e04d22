"""Operands at chosen places of a page, equal to those they are copies of."""

from __future__ import annotations

import numpy as np
import pytest

from bench import kernels, placing
from bench.suite import FASTNN


def offset(array):
    return array.ctypes.data % 4096


def test_operands_stay_where_they_are_outside():
    given = {"a": np.ones(3), "step": 1}
    placed = placing.place(given)
    assert placed["a"] is given["a"]
    assert placed["step"] == 1


@pytest.mark.parametrize("first", [0, 5, 60])
def test_each_operand_begins_at_a_line_of_its_own(first):
    rng = np.random.default_rng(1)
    given = {"a": rng.random((5, 7)), "b": rng.random((7, 3)).astype(np.float32).T, "step": 1, "out": rng.random(4000)}
    with placing.spread(first):
        placed = placing.place(given)
    assert list(placed) == list(given)
    for position, (name, array) in enumerate(given.items()):
        if name != "step":
            np.testing.assert_array_equal(placed[name], array)
            assert placed[name].strides == array.strides
            assert placed[name].dtype == array.dtype
            assert offset(placed[name]) == (first + 13 * position) * 64 % 4096
    assert placed["step"] == 1
    assert placing.place(given)["a"] is given["a"]


def test_all_operands_begin_at_one_place():
    given = {"a": np.arange(12.0).reshape(3, 4), "step": 1, "out": np.ones((3, 5), np.float32)}
    with placing.together(16):
        placed = placing.place(given)
        with placing.spread(0):
            assert offset(placing.place(given)["out"]) == 26 * 64
    assert [offset(array) for name, array in placed.items() if name != "step"] == [16, 16]
    np.testing.assert_array_equal(placed["a"], given["a"])


def test_no_two_operands_of_a_call_share_a_place():
    with placing.spread(7):
        placed = placing.place({str(i): np.ones(1) for i in range(64)})
    assert len({offset(array) for array in placed.values()}) == 64


@pytest.mark.parametrize(
    "name", ["matmul dZ @ W.T 128x512x784", "linear, packed weights 128x784x512", "sgd_step 1000000"]
)
def test_the_kernels_operands_are_placed(monkeypatch, name):
    placed = []
    real = placing._copied_to
    monkeypatch.setattr(placing, "_copied_to", lambda *arguments: placed.append(1) or real(*arguments))
    case = next(case for case in kernels.cases() if case.name == name)
    with placing.spread(0):
        workload = case.make()
    assert placed
    count = len(placed)
    workload.contenders[FASTNN].run()
    assert len(placed) == count
