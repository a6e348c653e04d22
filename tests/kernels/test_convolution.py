"""Convolutions beyond the table's cases: drawn arguments, exact sums, threads, results over operands, bad input."""

from __future__ import annotations

import numpy as np
import oracle
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cpu import winograd
from fastnn.kernels.table.windows import places


def drawn(rng):
    """Sizes and options of a convolution that has places, small ones most often."""
    while True:
        h, w, kh, kw = (int(rng.integers(1, high)) for high in (12, 40, 5, 5))
        groups = int(rng.choice([1, 1, 1, 2, 3]))
        c, f = (groups * int(rng.choice([1, 2, 3, 5, 16, 17, 33])) for _ in range(2))
        padding = [("valid"), ("same"), tuple(map(tuple, rng.integers(0, 4, (2, 2)).tolist()))][rng.integers(3)]
        options = {
            "strides": tuple(rng.integers(1, 4, 2).tolist()),
            "dilation": tuple(rng.integers(1, 3, 2).tolist()),
            "padding": padding,
            "groups": groups,
        }
        fits = (
            places(size, window, options["strides"][axis], padding, axis, options["dilation"][axis]) > 0
            for axis, (size, window) in enumerate(((h, kh), (w, kw)))
        )
        if all(fits):
            return (int(rng.integers(1, 4)), h, w, c), (kh, kw, c // groups, f), options


@pytest.mark.parametrize("seed", range(60))
def test_drawn_convolutions_of_integers_are_exact(seed):
    """Sums of small integers are exact in any order: one wrong index shows."""
    rng = np.random.default_rng(seed)
    of_x, of_w, options = drawn(rng)
    x, w = (rng.integers(-4, 5, shape).astype("float32") for shape in (of_x, of_w))
    y = ops.conv2d(x, w, **options)
    assert np.array_equal(y, oracle.conv2d(x, w, **options))
    dy = rng.integers(-4, 5, y.shape).astype("float32")
    expected = oracle.conv2d_backward(*map(oracle.wide, (dy, x, w, y)), **options)
    for slope, wanted in zip(ops.conv2d_backward(dy, x, w, y, **options), expected, strict=True):
        assert np.array_equal(slope, wanted)


def by_blocks(of_x, of_y):
    """Whether a convolution and both of its gradients go by blocks of outputs."""
    return all(winograd.Windows(*each, 0, 0).worthwhile for each in ((of_x, of_y), (of_y, of_x)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("padding", ["valid", "same", ((2, 1), (0, 3)), ((4, 0), (1, 5))])
@pytest.mark.parametrize("sizes", [(2, 8, 8, 40, 70), (3, 11, 12, 49, 33), (1, 12, 33, 64, 40), (9, 16, 10, 32, 32)])
def test_blocks_of_integers_are_exact(sizes, padding, dtype):
    """Whole blocks and parts of them, in one chunk or several; their transforms halve integers, no more."""
    rng = np.random.default_rng(2)
    *of_x, f = sizes
    of_w = 3, 3, of_x[3], f
    x, w = (rng.integers(-4, 5, shape).astype(dtype) for shape in (of_x, of_w))
    b = rng.integers(-4, 5, f).astype(dtype)
    y = ops.conv2d(x, w, b, "relu", padding=padding)
    assert by_blocks(x.shape, y.shape)
    assert np.array_equal(y, oracle.conv2d(x, w, b, "relu", padding=padding))
    dy = rng.integers(-4, 5, y.shape).astype(dtype)
    expected = oracle.conv2d_backward(*map(oracle.wide, (dy, x, w, y)), padding=padding)
    for slope, wanted in zip(ops.conv2d_backward(dy, x, w, y, padding=padding), expected, strict=True):
        assert np.array_equal(slope, wanted)


def test_blocks_round_no_more_than_sums_by_taps():
    """Whose chains of multiply-adds are nine times as long: 2.4 units in the last place in the mean, these 1.8."""
    rng = np.random.default_rng(3)
    x, w = (rng.standard_normal(shape).astype("float32") for shape in ((4, 12, 12, 64), (3, 3, 64, 64)))
    exact, squares = (oracle.conv2d(*map(oracle.wide, each), padding="same") for each in ((x, w), (x**2, w**2)))
    off = abs(ops.conv2d(x, w, padding="same") - exact) / np.sqrt(squares)
    assert np.mean(off) < 2 * np.finfo("float32").eps


@pytest.mark.parametrize("size", [((5, 20, 23, 24), (3, 3, 24, 40)), ((3, 9, 50, 1), (5, 5, 1, 20))])
@pytest.mark.parametrize("options", [{}, {"padding": "same"}, {"padding": "same", "strides": (2, 3)}])
def test_results_do_not_depend_on_threads(size, options):
    rng = np.random.default_rng(0)
    x, w = (rng.standard_normal(shape).astype("float32") for shape in size)
    results = []
    for threads in (1, 2, 3, 4):
        with use_num_threads(threads):
            y = ops.conv2d(x, w, w[0, 0, 0], "tanh", **options)
            results.append([y, *ops.conv2d_backward(y, x, w, y, "tanh", **options)])
    for other in results[1:]:
        for one, same in zip(results[0], other, strict=True):
            assert np.array_equal(one, same)


@pytest.mark.parametrize("name", ["conv2d_transpose", "depthwise_conv2d"])
@pytest.mark.parametrize("seed", range(25))
def test_kin_of_drawn_convolutions_are_exact(name, seed):
    rng = np.random.default_rng(seed)
    of_x, (kh, kw, *_), options = drawn(rng)
    del options["groups"]
    of_w = (kh, kw, 5, of_x[3]) if name == "conv2d_transpose" else (kh, kw, of_x[3], int(rng.integers(1, 4)))
    if name == "conv2d_transpose" and not isinstance(options["padding"], str):
        options["padding"] = ((0, 0), (0, min(1, kw - 1)))
    x, w = (rng.integers(-4, 5, shape).astype("float32") for shape in (of_x, of_w))
    expected = getattr(oracle, name)(x, w, **options)
    y = getattr(ops, name)(x, w, **options)
    assert np.array_equal(y, expected)
    dy = rng.integers(-4, 5, y.shape).astype("float32")
    expected = getattr(oracle, f"{name}_backward")(*map(oracle.wide, (dy, x, w, y)), **options)
    for threads in (1, 3):
        with use_num_threads(threads):
            found = getattr(ops, f"{name}_backward")(dy, x, w, y, **options)
        for slope, wanted in zip(found, expected, strict=True):
            assert np.array_equal(slope, wanted)


@pytest.mark.parametrize("kernel", [(3, 3, 8, 8), (1, 1, 8, 8), (6, 5, 8, 8)])
def test_results_may_take_the_place_of_operands(kernel):
    """As a whole or in part; windows of what is not read yet are not written over."""
    rng = np.random.default_rng(1)
    x, w = rng.standard_normal((2, 6, 5, 8)), rng.standard_normal(kernel)
    y = ops.conv2d(x, w, padding="same")
    place = x.copy()
    assert ops.conv2d(place, w, padding="same", out=place) is place
    assert np.array_equal(place, y)
    memory = np.zeros(x.size + 3)
    shifted, beside = memory[3:].reshape(x.shape), memory[:-3].reshape(x.shape)
    shifted[...] = x
    assert np.array_equal(ops.conv2d(shifted, w, padding="same", out=beside), y)
    dy = rng.standard_normal(y.shape)
    dx, dw, db = ops.conv2d_backward(dy, x, w, y, padding="same")
    into, weights = x.copy(), w.copy()
    again = ops.conv2d_backward(dy, into, weights, y, padding="same", dx=into, dw=weights)
    assert again[0] is into
    assert again[1] is weights
    for one, other in zip(again, (dx, dw, db), strict=True):
        assert np.array_equal(one, other)


X, W = np.ones((2, 5, 6, 4), "f"), np.ones((3, 2, 4, 8), "f")


@pytest.mark.parametrize("backend", ["naive", "cpu"])
@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"x": X[0]}, ValueError, r"^x: got shape \(5, 6, 4\), wants shape \(n, h, w, c\)"),
        ({"w": W[0]}, ValueError, r"^w: got shape \(2, 4, 8\), wants shape \(kh, kw, cg, f\)"),
        (
            {"x": X[..., :3]},
            ValueError,
            r"^w: got shape \(3, 2, 4, 8\), wants shape \(3, 2, 3, 8\) to match x of .* with strides=",
        ),
        ({"groups": 2}, ValueError, r"^w: got shape \(3, 2, 4, 8\), wants shape \(3, 2, 2, 8\) to match .*groups=2"),
        ({"groups": 3}, ValueError, r"^groups: got 3, wants a divisor of the 4 channels of x"),
        ({"w": W[..., :1, :7], "groups": 4}, ValueError, r"^groups: got 4, wants a divisor of the 7 maps of w"),
        ({"groups": 0}, ValueError, r"^groups: got 0, wants an integer of at least 1"),
        ({"x": X[:, :2]}, ValueError, r"^x: got the size 2 along axis 1, wants with its padding at least the 3 that"),
        ({"dilation": 3}, ValueError, r"^x: got the size 5 along axis 1, wants with its padding at least the 7 that"),
        ({"w": W[:0]}, ValueError, r"^w: got a window of the size 0 along axis 0, wants at least 1"),
        ({"b": np.ones(4, "f")}, ValueError, r"^b: got shape \(4,\), wants shape \(8,\) to match w of shape"),
        ({"strides": 0}, ValueError, r"^strides: got 0, wants an integer of at least 1"),
        ({"strides": (1, 2, 3)}, ValueError, r"^strides: got tuple \(1, 2, 3\), wants an integer or 2 of them"),
        ({"padding": "full"}, ValueError, r"^padding: got 'full', wants one of 'valid', 'same'"),
        ({"padding": 1.5}, TypeError, r"^padding: got float 1.5, wants an integer of at least 0"),
        ({"w": W.astype(float)}, TypeError, r"^w: got dtype float64, wants float32, the dtype of x"),
        ({"out": np.ones((2, 3, 5, 4), "f")}, ValueError, r"^out: got .*, wants an array of shape \(2, 3, 5, 8\)"),
    ],
)
def test_what_does_not_go_together_is_refused(given, error, message, backend):
    with fastnn.use_backend(backend), pytest.raises(error, match=message):
        ops.conv2d(**{"x": X, "w": W, **given})


def test_gradients_of_another_shape_are_refused():
    y = ops.conv2d(X, W, strides=2)
    wanted = r"^dy: got shape \(2, 3, 5, 8\), wants shape \(2, 2, 3, 8\) to match .*strides=\(2, 2\), padding='valid'"
    with pytest.raises(ValueError, match=wanted):
        ops.conv2d_backward(np.ones((2, 3, 5, 8), "f"), X, W, np.ones((2, 3, 5, 8), "f"), strides=2)
    with pytest.raises(ValueError, match=r"^dw: got .*, wants an array of shape \(3, 2, 4, 8\)"):
        ops.conv2d_backward(y, X, W, y, strides=2, dw=W[0])


def test_a_number_of_a_program_makes_no_shape():
    @fastnn.program
    def step(x, stride):
        return ops.conv2d(x, W, strides=stride)

    with pytest.raises(TypeError, match="strides: got a number of the program's, which may change, and conv2d makes"):
        step(X, 2)
