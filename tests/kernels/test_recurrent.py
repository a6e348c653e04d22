"""Recurrent layers: masks, directions and states; gradients by everything; the same bits by any number of threads."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}
CELLS = pytest.mark.parametrize("cell", GATES)


def drawn(cell, n=4, t=5, f=3, u=6, dtype="float64", seed=0):
    rng = np.random.default_rng(seed)
    g = GATES[cell] * u
    shapes = {"x": (n, t, f), "kernel": (f, g), "recurrent_kernel": (u, g)}
    shapes["bias"] = (2, g) if cell == "gru" else (g,)
    shapes["h0"] = (n, u)
    if cell == "lstm":
        shapes["c0"] = (n, u)
    given = {name: (0.5 * rng.standard_normal(shape)).astype(dtype) for name, shape in shapes.items()}
    mask = rng.integers(0, 3, (n, t)) > 0
    return {**given, "mask": mask.astype(dtype)}


@CELLS
def test_a_masked_step_is_as_if_it_were_not_there(cell):
    given = drawn(cell, n=1)
    given["mask"] = np.array([[0.0, 1.0, 1.0, 0.0, 1.0]])
    y, h, *_ = getattr(ops, cell)(**given)
    counting = {**given, "x": given["x"][:, [1, 2, 4]], "mask": None}
    shorter, last, *_ = getattr(ops, cell)(**counting)
    assert np.array_equal(h, last)
    assert np.array_equal(y, np.concatenate([given["h0"][:, np.newaxis], shorter], 1)[:, [0, 1, 2, 2, 3]])


@CELLS
def test_backwards_is_forwards_on_reversed_steps(cell):
    given = drawn(cell)
    turned = {**given, "x": given["x"][:, ::-1], "mask": given["mask"][:, ::-1], "go_backwards": True}
    for one, other in zip(getattr(ops, cell)(**given)[:2], getattr(ops, cell)(**turned)[:2], strict=True):
        assert np.array_equal(one, other)


@CELLS
def test_no_state_is_zeros(cell):
    given = drawn(cell)
    states = [name for name in ("h0", "c0") if name in given]
    zeros = {**given, **{name: np.zeros_like(given[name]) for name in states}}
    without = {**given, **dict.fromkeys(states)}
    for one, other in zip(getattr(ops, cell)(**zeros), getattr(ops, cell)(**without), strict=True):
        assert np.array_equal(one, other)


def differences(f, array, step=1e-6):
    slope = np.empty_like(array)
    for at in np.ndindex(array.shape):
        values = []
        for side in (step, -step):
            moved = array.copy()
            moved[at] += side
            values.append(f(moved))
        slope[at] = (values[0] - values[1]) / (2 * step)
    return slope


@CELLS
@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("used", ["y", "h", "c", "all"])
def test_gradients_by_every_operand(cell, backwards, used):
    """Of outputs, of last states, and of all of them together, by central differences."""
    if used == "c" and cell != "lstm":
        pytest.skip("it has no cells")
    given = drawn(cell, n=2, t=3, f=2, u=3, seed=5)
    given["mask"][:] = [[1, 0, 1], [1, 1, 0]]
    names = [name for name in given if name != "mask"]
    places = {"y": [0], "h": [1], "c": [2], "all": [0, 1, 2] if cell == "lstm" else [0, 1]}[used]

    def loss(*arrays):
        results = getattr(ops, cell)(
            **dict(zip(names, arrays, strict=True)), mask=given["mask"], go_backwards=backwards
        )
        total = 0.0
        for place in places:
            goals = np.random.default_rng(place).standard_normal(results[place].shape)
            total = total + ops.half_sse(results[place], goals)[0]
        return total

    arrays = [given[name] for name in names]
    _, slopes = fastnn.gradients(loss, arrays)
    for place, (name, slope) in enumerate(zip(names, slopes, strict=True)):
        expected = differences(lambda a, place=place: loss(*arrays[:place], a, *arrays[place + 1 :]), arrays[place])
        np.testing.assert_allclose(slope, expected, rtol=1e-6, atol=1e-8, err_msg=name)


def test_what_is_kept_for_the_backward_pass_has_no_gradient():
    given = drawn("lstm")
    with pytest.raises(TypeError, match="lstm: got gates, which is kept for its backward pass, to find a gradient of"):
        fastnn.gradients(lambda x: ops.l1_l2_penalty(ops.lstm(**{**given, "x": x})[3], l2=1.0)[0], [given["x"]])


@CELLS
def test_a_program_replays_it(cell):
    given = drawn(cell, dtype="float32")
    names = [name for name in given if name != "mask"]

    def step(mask, *arrays):
        def loss(*arrays):
            y, *_ = getattr(ops, cell)(**dict(zip(names, arrays, strict=True)), mask=mask)
            return ops.l1_l2_penalty(y, l2=1.0)[0]

        return fastnn.gradients(loss, arrays)

    recorded, arrays = fastnn.program(step, copy=True), [given[name] for name in names]
    expected = step(given["mask"], *arrays)
    for _ in range(3):
        value, slopes = recorded(given["mask"], *arrays)
        assert value == expected[0]
        assert all(np.array_equal(one, other) for one, other in zip(slopes, expected[1], strict=True))


@CELLS
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_bits_by_any_number_of_threads(cell, dtype):
    given = drawn(cell, n=67, t=9, f=20, u=40, dtype=dtype)
    results = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            made = getattr(ops, cell)(**given)
            names = {"simple_rnn": "y h", "lstm": "y h c gates cells", "gru": "y h gates candidates"}[cell].split()
            kept = dict(zip(names, made, strict=True))
            taken = {name: kept.pop(name) for name in ("y", "gates", "cells", "candidates") if name in kept}
            others = {name: value for name, value in given.items() if name != "bias"}
            slopes = getattr(ops, f"{cell}_backward")(**others, **taken, dy=made[0], dh=made[1])
            results.append(b"".join(part.tobytes() for part in (*made, *slopes)))
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("cell", "changed", "message"),
    [
        ("lstm", {"kernel": np.ones((2, 24))}, r"kernel: got shape \(2, 24\), wants shape \(3, g\) to match x"),
        (
            "lstm",
            {"recurrent_kernel": np.ones((6, 18))},
            r"recurrent_kernel: got shape \(6, 18\), wants shape \(u, 24\)",
        ),
        (
            "lstm",
            {"recurrent_kernel": np.ones((5, 24)), "h0": None, "c0": None},
            r"kernel: got shape \(3, 24\), wants shape \(3, 20\)",
        ),
        (
            "simple_rnn",
            {"recurrent_kernel": np.ones((5, 6)), "h0": None},
            r"kernel: got shape \(3, 6\), wants shape \(3, 5\)",
        ),
        ("gru", {"bias": np.ones((1, 18))}, r"bias: got shape \(1, 18\), wants shape \(2, 18\)"),
        ("gru", {"bias": np.ones(18)}, r"bias: got shape \(18,\)"),
        ("lstm", {"mask": np.ones((4, 6))}, r"mask: got shape \(4, 6\), wants shape \(4, 5\)"),
        ("gru", {"h0": np.ones((4, 5))}, r"h0: got shape \(4, 5\), wants shape \(4, 6\)"),
        ("lstm", {"x": np.ones((4, 3))}, r"x: got shape \(4, 3\), wants shape \(n, t, f\)"),
        ("lstm", {"c0": np.ones((4, 6), "float32")}, "c0: got dtype float32, wants float64"),
        ("simple_rnn", {"activation": "gelu"}, "activation: got 'gelu', wants one of 'tanh', 'relu'"),
        ("gru", {"go_backwards": 1}, "go_backwards: got int 1, wants True or False"),
    ],
)
def test_what_does_not_fit(cell, changed, message):
    with pytest.raises((TypeError, ValueError), match=message):
        getattr(ops, cell)(**{**drawn(cell), **changed})


def test_a_backward_pass_of_nothing():
    given = drawn("lstm")
    y, _, _, gates, cells = ops.lstm(**given)
    del given["bias"]
    with pytest.raises(ValueError, match="dy: got NoneType None, wants it given where there is no dh or dc"):
        ops.lstm_backward(**given, y=y, gates=gates, cells=cells)
