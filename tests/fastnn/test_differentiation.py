"""Gradients by reading ops backwards, against differences of the loops' values in float64."""

from __future__ import annotations

import math

import numpy as np
import pytest

import fastnn
from fastnn import activations, ops
from fastnn.differentiation import pullback
from fastnn.kernels import cases
from fastnn.kernels.table import TABLE

CONSTANT = np.array([0.5, -2.0])
RNG = np.random.default_rng(5)


def drawn(*shape):
    return RNG.standard_normal(shape)


def weighed(y, weights):
    """A number made of all of an array, by ops: half of sum((y + weights)^2)."""
    return ops.half_sse(y, -weights)[0]


def differences(f, arguments, step=1e-6):
    """Gradients by central differences, number by number."""
    found = []
    for place, array in enumerate(arguments):
        slope = np.empty_like(array)
        for at in np.ndindex(array.shape):
            values = []
            for side in (step, -step):
                moved = [np.array(other) for other in arguments]
                moved[place][at] += side
                values.append(f(*moved))
            slope[at] = (values[0] - values[1]) / (2 * step)
        found.append(slope)
    return found


def agree(f, arguments, tolerance=1e-6):
    value, slopes = fastnn.gradients(f, arguments)
    assert value == f(*arguments)
    for slope, expected, argument in zip(slopes, differences(f, arguments), arguments, strict=True):
        assert slope.shape == argument.shape
        assert slope.dtype == argument.dtype
        assert np.allclose(slope, expected, rtol=tolerance, atol=tolerance), abs(slope - expected).max()


def with_derivatives():
    """Ops whose first result gradients can be found of, each with the operands that these are by."""
    for op in TABLE.values():
        backward = TABLE.get(f"{op.name}_backward")
        if backward is not None:
            by = [name for name in op.operands if name in backward.operands or name in ("x", "w", "b", "beta")]
            by = [name for name in by if op.draw.get(name) not in ("row_numbers", "mask") and name != "matrices"]
            by = [name for name in by if not name.startswith("moving_")]
            yield op, by
        elif op.returns and op.returns[0] == "" and len(op.returns) == 2:
            yield op, [next(iter(op.operands))]
        elif op.name in ("matmul", "add", "subtract", "multiply", "divide", "average", "zero_pad2d", "crop2d"):
            yield op, list(op.operands)


OPS = list(with_derivatives())


@pytest.mark.parametrize(("op", "by"), OPS, ids=[op.name for op, _ in OPS])
def test_every_op(op, by):
    """Each variant of an op, by all operands that it has a derivative by, as differences of its values say."""
    for variant in op.variants:
        sizes = [
            sizes
            for sizes in op.cases
            if all(2 <= op.elements(spec, {**sizes, **variant}) <= 250 for spec in op.operands.values())
        ]
        given = cases.draw(op, sizes[0], variant, "float64", np.random.default_rng(3))
        names = [name for name in by if given.get(name) is not None]

        results = getattr(ops, op.name)(**given)
        first = results[0] if isinstance(results, tuple) else results
        weights = drawn(*first.shape) if np.ndim(first) else None

        def f(*arrays, given=given, names=names, weights=weights):
            result = getattr(ops, op.name)(**{**given, **dict(zip(names, arrays, strict=True))})
            first = result[0] if isinstance(result, tuple) else result
            return first if weights is None else weighed(first, weights)

        agree(f, [given[name] for name in names], 1e-5)


def test_all_the_ways_of_a_value_add_up():
    t = drawn(4, 3)

    def f(x, w, b):
        h = ops.linear(x, w, b, activation="tanh")
        again = ops.add(ops.matmul(h, w), h)
        return ops.mse(ops.add(again, b), t)[0] + 0.5 * ops.l1_l2_penalty(w, l1=0.1, l2=0.2)[0]

    agree(f, [drawn(4, 3), drawn(3, 3), drawn(3)])


def test_calculations_with_numbers():
    t = drawn(3, 2)

    def f(x):
        a, b = ops.mse(x, t)[0], ops.mae(ops.tanh(x), t)[0]
        one, two = np.float32(1), np.float64(2)
        return one - (two * a - b / 3) * b / (1 + a) + 4 / (a + two) - -b + (3 - a) + two / b

    agree(f, [drawn(3, 2)])


def test_views_and_broadcasts():
    t = drawn(2, 6)

    def f(x, row, one):
        y = ops.add(ops.add(x, row), one).T
        return ops.mse(y.reshape(2, 6), t)[0] + ops.mae(x.ravel(), t.ravel())[0]

    agree(f, [drawn(4, 3), drawn(3), drawn(1, 1)])


def test_sums_of_arrays_that_broadcast():
    """Each operand in turn; what is added to itself; gradients that are arrays of their own."""
    t = drawn(2, 4, 3)
    shapes = ((3,), (1, 3), (4, 3), (1, 4, 3), (4, 1), (1, 1, 3), (2, 1, 1), (1,), ())
    for shape in shapes:
        agree(lambda x, v: ops.mse(ops.add(v, ops.add(x, v)), t)[0], [drawn(2, 4, 3), drawn(*shape)])
    _, (one, other) = fastnn.gradients(lambda x, y: ops.mse(ops.add(x, y), t)[0], (drawn(2, 4, 3), drawn(2, 4, 3)))
    assert np.array_equal(one, other)
    assert not np.shares_memory(one, other)


@pytest.mark.parametrize("name", ["subtract", "multiply", "average", "maximum", "minimum"])
def test_pairs_that_broadcast(name):
    """Each operand in turn, and one with itself."""
    t = drawn(2, 4, 3)
    pair = getattr(ops, name)
    for shape in ((3,), (4, 3), (4, 1), (2, 1, 1), ()):
        agree(lambda x, v: ops.mse(pair(v, pair(x, v)), t)[0], [drawn(2, 4, 3), drawn(*shape)])
        agree(lambda x, v: ops.mse(pair(x, v), t)[0], [drawn(2, 4, 3), drawn(*shape)])


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_arrays_side_by_side(axis):
    """Of several arrays each has its part; one that comes twice has both."""
    shapes = [tuple(width if at == axis % 3 else size for at, size in enumerate((2, 3, 4))) for width in (1, 2, 3)]
    t = drawn(*np.concatenate([np.empty(shape) for shape in (*shapes, shapes[0])], axis).shape)
    agree(lambda a, b, c: ops.mse(ops.concatenate([a, b, c, a], axis), t)[0], [drawn(*shape) for shape in shapes])


def test_axes_in_another_order():
    t = drawn(4, 2, 3)
    agree(lambda x: ops.mse(ops.permute(ops.tanh(x), (2, 0, 1)), t)[0], [drawn(2, 3, 4)])
    agree(lambda x: ops.mse(ops.add(x.transpose(2, 0, 1), t), t)[0], [drawn(2, 3, 4)])


def test_rows_of_a_table():
    """That meet again, some of them nowhere, through two ways."""
    index, t = np.array([3, 0, 3, 3, 1]), drawn(5, 2)

    def f(table):
        return ops.mse(ops.add(ops.gather(table, index), ops.gather(ops.tanh(table), index[::-1].copy())), t)[0]

    agree(f, [drawn(6, 2)])


def test_python_is_followed_as_it_runs():
    def f(x):
        y = x
        for turn in range(3):
            y = ops.tanh(y) if turn % 2 else ops.softplus(y)
        return weighed(y, 0.5 * np.ones((3, 2)))

    agree(f, [drawn(3, 2)])


def test_other_results_come_back_as_they_are():
    x, t = drawn(3, 2), drawn(3, 2)

    def f(x):
        y = ops.tanh(x)
        return ops.mse(y, t)[0], y, "seen"

    (loss, y, seen), (slope,) = fastnn.gradients(f, [x])
    assert (loss, seen) == (ops.mse(np.tanh(x), t)[0], "seen")
    assert np.allclose(y, np.tanh(x))
    assert slope.shape == x.shape


def test_nothing_depends_on_it():
    x, y = drawn(3), drawn(2).astype("float32")
    loss, (dx, dy) = fastnn.gradients(lambda x, y: ops.mse(x, np.zeros(3))[0], [x, y])
    assert loss == pytest.approx((x * x).mean())
    assert dx.any()
    assert dy.dtype == y.dtype
    assert not dy.any()
    assert fastnn.gradients(lambda x: 3.5, [x])[0] == 3.5
    assert not pullback(lambda x: np.ones(3), x, x).any()


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w: x + w,
        lambda x, w: x - w * x,
        lambda x, w: 2 * x - w,
        lambda x, w: (1 - x) * (w + 1.5) / 7,
        lambda x, w: -x * CONSTANT + CONSTANT * w - CONSTANT,
    ],
)
def test_signs_between_arrays_are_ops(f):
    """Shapes broadcast, numbers stretch; the bits are those of NumPy, in a program as well."""
    x, w = drawn(3, 2), drawn(2)
    agree(lambda x, w: weighed(f(x, w), np.linspace(1, 2, 6).reshape(3, 2)), [x, w])
    followed = fastnn.program(f)
    for _ in range(3):
        assert np.array_equal(followed(x, w), f(x, w))


@pytest.mark.parametrize(
    ("f", "wanted"),
    [
        (lambda x: ops.mse(np.exp(x), np.ones((3, 2)))[0], r"numpy\.exp: got an array of shape \(3, 2\)"),
        (lambda x: ops.mse(np.sum(x, 1), np.ones(3))[0], r"numpy\.sum"),
        (lambda x: ops.mse(np.asarray(x), np.ones((3, 2)))[0], r"numpy\.asarray"),
        (lambda x: ops.mse(x**None, np.ones((3, 2)))[0], r"\*\*: got the exponent None"),
        (lambda x: ops.mse(np.ones((3, 2)) ** x, np.ones((3, 2)))[0], r"numpy\.power"),
        (lambda x: ops.mse(np.add(x, 1, where=np.ones((3, 2), bool)), np.ones((3, 2)))[0], r"numpy\.add"),
        (lambda x: float(ops.mse(x, np.ones((3, 2)))[0]), "float: got the number"),
        (lambda x: ops.mse(x, np.ones((3, 2)))[0] + "1", "str beside a number"),
        (ops.tanh, "f: got a function that returns <an array"),
        (lambda x: None, "f: got a function that returns NoneType"),
        (lambda x: ops.mse(np.ones((3, 2)), x)[0], "target: .*mse has none by it"),
        (lambda x: ops.mse(ops.mse(x, np.ones((3, 2)))[1], np.ones((3, 2)))[0], "mse: got its derivative"),
        (lambda x: ops.mse(ops.relu_backward(x, x, x), np.ones((3, 2)))[0], "relu_backward: .*no derivative"),
        (lambda x: ops.mse(ops.tanh(x, out=np.empty((3, 2))), np.ones((3, 2)))[0], "out: got an array to write to"),
        (lambda x: ops.sgd_step(x, np.ones((3, 2))), "w: got an array to write to"),
    ],
)
def test_what_cannot_be_followed_is_named(f, wanted):
    with pytest.raises(TypeError, match=wanted):
        fastnn.gradients(f, [drawn(3, 2)])


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (drawn(3), r"arguments: got ndarray"),
        ([1.0], r"arguments\[0\]: got float 1\.0"),
        ([drawn(3), np.arange(3)], r"arguments\[1\]: .*cast it"),
    ],
)
def test_arguments_that_are_none(arguments, wanted):
    with pytest.raises(TypeError, match=wanted):
        fastnn.gradients(lambda *_: 0.0, arguments)


def test_what_is_no_function():
    with pytest.raises(TypeError, match=r"f: got float 3\.0, wants a function over fastnn.ops that returns a loss"):
        fastnn.gradients(3.0, [drawn(3)])


def test_sums_and_means_as_methods():
    """As people write them; what else NumPy's arrays do is refused by name."""
    x, t = drawn(4, 3), drawn(4)
    for written, meant in (
        (lambda x: ((x.mean(axis=1) - t) ** 2).sum(), lambda x: ops.sum(ops.square(ops.subtract(ops.mean(x, 1), t)))),
        (lambda x: (x / x.sum(1, keepdims=True)).mean(), lambda x: ops.mean(ops.divide(x, ops.sum(x, 1, True)))),
    ):
        loss, (slope,) = fastnn.gradients(written, [x])
        expected, (wanted,) = fastnn.gradients(meant, [x])
        assert loss == expected
        assert (slope == wanted).all()
    with pytest.raises(AttributeError, match=r"^\.cumsum: got an array .* followed for its gradient, wants an op"):
        fastnn.gradients(lambda x: x.cumsum().sum(), [x])
    with pytest.raises(AttributeError, match="'Traced' object has no attribute 'sun'"):
        fastnn.gradients(lambda x: x.sun(), [x])


def test_wrong_shapes_are_refused_as_ever():
    with pytest.raises(ValueError, match="target: got shape"):
        fastnn.gradients(lambda x: ops.mse(x, np.ones(4))[0], [drawn(3)])


def gated(x):
    """As one's own activation: softplus behind tanh."""
    return ops.softplus(ops.add(ops.tanh(x), x))


@pytest.mark.parametrize("f", [gated, lambda x: activations.softmax(activations.leaky_relu(x, 0.3))])
def test_an_activation_of_ones_own(f):
    x, dy = drawn(4, 3), drawn(4, 3)
    expected = differences(lambda x: float((f(x) * dy).sum()), [x])[0]
    assert np.allclose(pullback(f, x, dy), expected, atol=1e-6)


def test_a_loss_that_is_not_a_number():
    loss, (slope,) = fastnn.gradients(lambda x: ops.mse(x, np.zeros(2))[0], [np.array([math.nan, 1.0])])
    assert math.isnan(loss)
    assert math.isnan(slope[0])
