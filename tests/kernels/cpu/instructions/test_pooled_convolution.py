"""Convolutions and the max pools behind them in programs: as the ops one by one, but in one pass."""

import numpy as np
import pytest

import fastnn
from fastnn import ops
from fastnn.backends import use_num_threads
from fastnn.kernels.cpu.instructions.pooled_convolution import POOLED, POOLED_BACKWARD

# Shapes of x and w, the activation, the pool, options of the convolution. Patches of a vector and of several tiles,
# outputs that no window is over, padding, strides; what only the gradient of all outputs serves: groups, dilation,
# windows of two cells.
CASES = (
    ((5, 28, 28, 1), (5, 5, 1, 20), "relu", (2, 2), {}),
    ((19, 9, 8, 1), (3, 3, 1, 33), "linear", (2, 2), {"padding": "same"}),
    ((3, 9, 9, 32), (3, 3, 32, 7), "relu", (2, 2), {"strides": (2, 1)}),
    ((2, 11, 9, 3), (3, 2, 3, 17), "relu", (3, 2), {"padding": ((4, 1), (0, 5)), "strides": (1, 2)}),
    ((2, 9, 9, 4), (3, 3, 2, 6), "relu", (2, 2), {"groups": 2}),
    ((2, 9, 12, 4), (3, 3, 4, 6), "linear", (2, 2), {"dilation": (1, 2)}),
    ((1, 7, 6, 2), (2, 3, 2, 3), "relu", (1, 2), {"padding": ((1, 2), (2, 0))}),
)
NEEDS = (("dw", "db"), ("dx", "dw", "db"), ("dw",), ("dx",), ("db",))


def stepping(activation, pool, options, need):
    """A step: the largest numbers, and the gradients by x, w and b that are needed."""

    def step(x, w, b, dy):
        y = ops.conv2d(x, w, b, activation, **options)
        top = ops.max_pool2d(y, pool, pool)
        slopes = ops.max_pool2d_backward(dy, y, top, pool, pool)
        gradients = ops.conv2d_backward(slopes, x, w, y, activation, need=need, **options)
        return top, *(gradient for gradient in gradients if gradient is not None)

    return step


def whole_numbers(rng, shape, dtype):
    """Few and small: sums of products are exact, and many numbers of a window the same."""
    return rng.integers(-2, 3, shape).astype(dtype)


def drawn(case, dtype, draw=whole_numbers):
    (x, w, activation, pool, options), rng = case, np.random.default_rng(7)
    x, w, b = (draw(rng, shape, dtype) for shape in (x, w, w[3:]))
    top = ops.max_pool2d(ops.conv2d(x, w, b, activation, **options), pool, pool)
    return x, w, b, draw(rng, top.shape, dtype)


def is_joined(program, capsys):
    program.plan()
    return POOLED in capsys.readouterr().out


@pytest.mark.parametrize("need", NEEDS, ids="-".join)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_exact_sums(case, dtype, need, capsys):
    step, given = stepping(*case[2:], need), drawn(case, dtype)
    program = fastnn.program(step)
    for _ in range(2):
        for found, expected in zip(program(*given), step(*given), strict=True):
            np.testing.assert_array_equal(found, expected)
    assert is_joined(program, capsys)


@pytest.mark.parametrize("case", CASES[:3], ids=str)
def test_sums_are_near_those_in_higher_precision(case):
    """A tanh between, whose derivative its largest numbers tell."""
    x, w, _, pool, options = case
    given = drawn((x, w, "tanh", pool, options), "float64", lambda rng, shape, _: rng.standard_normal(shape) / 8)
    step = stepping("tanh", pool, options, ("dx", "dw", "db"))
    expected = step(*given)
    for dtype, tolerance in (("float64", 1e-13), ("float32", 2e-5)):
        for found, wanted in zip(fastnn.program(step)(*(each.astype(dtype) for each in given)), expected, strict=True):
            assert found.dtype == dtype
            np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * np.abs(wanted).max())


@pytest.mark.parametrize("case", CASES, ids=str)
def test_bits_are_those_of_any_number_of_threads(case):
    given = drawn(case, "float32", lambda rng, shape, dtype: rng.standard_normal(shape).astype(dtype))
    results = []
    for threads in (1, 2, 3, 4, 2):
        with use_num_threads(threads):
            results.append(fastnn.program(stepping(*case[2:], ("dx", "dw", "db")))(*given))
    for others in results[1:]:
        assert all(map(np.array_equal, results[0], others))


def test_the_first_nan_of_a_window_has_the_gradient():
    x, w, dy = np.zeros((1, 4, 4, 1)), np.ones((1, 3, 1, 1)), np.ones((1, 2, 1, 1))
    x[0, 1, 1] = x[0, 2, 3] = np.nan
    step = stepping("linear", (2, 2), {}, ("dx",))
    b = np.zeros(1)
    for found, expected in zip(fastnn.program(step)(x, w, b, dy), step(x, w, b, dy), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_without_gradients_and_bias(capsys):
    x, w, *_ = drawn(CASES[0], "float32")
    program = fastnn.program(lambda x, w: ops.max_pool2d(ops.conv2d(x, w), (2, 2), (2, 2)))
    np.testing.assert_array_equal(program(x, w), ops.max_pool2d(ops.conv2d(x, w), (2, 2), (2, 2)))
    assert is_joined(program, capsys)


POOL = (2, 2)
OF_MANY_CHANNELS = np.ones((2, 12, 12, 64), "float32"), np.ones((3, 3, 64, 64), "float32")
OTHERS = {
    "outputs are results": lambda x, w, b: (y := ops.conv2d(x, w, b), ops.max_pool2d(y, POOL, POOL)),
    "outputs are taken twice": lambda x, w, b: ops.add(
        ops.max_pool2d(y := ops.conv2d(x, w, b), POOL, POOL), ops.average_pool2d(y, POOL, POOL)
    ),
    "two pools": lambda x, w, b: (
        ops.max_pool2d(y := ops.conv2d(x, w, b), POOL, POOL),
        ops.max_pool2d(y, (3, 3), (3, 3)),
    ),
    "windows overlap": lambda x, w, b: ops.max_pool2d(ops.conv2d(x, w, b), (3, 3), (2, 2)),
    "windows reach beyond": lambda x, w, b: ops.max_pool2d(ops.conv2d(x, w, b), (5, 5), (5, 5), "same"),
    "of rows": lambda x, w, b: ops.max_pool2d(ops.conv2d(x, w, b, "softmax"), POOL, POOL),
    "not told by results": lambda x, w, b: ops.max_pool2d(ops.conv2d(x, w, b, "gelu"), POOL, POOL),
    "a plain product": lambda x, w, b: ops.max_pool2d(ops.conv2d(x[:, :1, :1], w[:1, :1], b), (1, 1), (1, 1)),
    "by blocks": lambda x, w, b: ops.max_pool2d(ops.conv2d(*OF_MANY_CHANNELS), POOL, POOL),
    "empty": lambda x, w, b: ops.max_pool2d(ops.conv2d(x[:0], w, b), POOL, POOL),
}


@pytest.mark.parametrize("step", OTHERS.values(), ids=OTHERS)
def test_others_are_left_as_they_are(step, capsys):
    x, w, b, _ = drawn(CASES[0], "float32")
    program = fastnn.program(step)
    found, expected = program(x, w, b), step(x, w, b)
    pairs = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
    assert all(np.array_equal(a, b) for a, b in pairs)
    assert not is_joined(program, capsys)


def test_gradients_that_are_looked_at_are_left_as_they_are(capsys):
    """What the pool sends back is a result; what it sends back is changed on the way."""
    pool, options, given = (2, 2), {}, drawn(CASES[0], "float32")

    def step(x, w, b, dy, half=False):
        y = ops.conv2d(x, w, b, "relu", **options)
        slopes = ops.max_pool2d_backward(dy, y, ops.max_pool2d(y, pool, pool), pool, pool)
        slopes = ops.add(slopes, slopes) if half else slopes
        return slopes, ops.conv2d_backward(slopes, x, w, y, "relu", need=("dw",))[1]

    for changed in (step, lambda *given: step(*given, half=True)[1]):
        program = fastnn.program(changed)
        found, expected = program(*given), changed(*given)
        together = zip(found, expected, strict=True) if isinstance(found, tuple) else [(found, expected)]
        assert all(np.array_equal(a, b) for a, b in together)
        assert not is_joined(program, capsys)


def test_the_plan_names_both_passes(capsys):
    program = fastnn.program(stepping("relu", (2, 2), {}, ("dw", "db")))
    program(*drawn(CASES[0], "float32"))
    program.plan()
    said = capsys.readouterr().out
    assert POOLED in said
    assert POOLED_BACKWARD in said
    assert "called" not in said.split("\n", 1)[1]
