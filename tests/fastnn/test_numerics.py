"""What is made of ops: sums over axes, powers, other shapes, joining, parts; gradients, programs, what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import ops

RNG = np.random.default_rng(11)
X, W = RNG.standard_normal((3, 4, 5)), RNG.uniform(0.5, 2.0, (4, 5))
POSITIVE = (X > 0).astype("float64")
AXES = (None, 0, 1, 2, -1, (0, 1), (2, 0), [1, 2], (0, 1, 2))


@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("axis", AXES, ids=str)
@pytest.mark.parametrize("name", ["sum", "mean", "max", "min", "var", "std"])
def test_reductions(name, axis, keepdims):
    y = getattr(ops, name)(X, axis, keepdims)
    wanted = getattr(np, name)(X, axis=tuple(axis) if isinstance(axis, list) else axis, keepdims=keepdims)
    assert np.shape(y) == wanted.shape
    assert np.allclose(y, wanted, rtol=1e-12)


def test_what_is_empty_or_a_number():
    nothing = np.empty((0, 3))
    assert ops.sum(nothing) == 0.0
    assert np.array_equal(ops.sum(nothing, axis=0), np.zeros(3))
    assert ops.sum(nothing, axis=1).shape == (0,)
    assert ops.sum(2.5) == ops.mean(2.5) == 2.5
    assert np.array_equal(ops.sum(np.full((2, 3), np.nan), axis=0), np.full(3, np.nan), equal_nan=True)
    with pytest.raises(ValueError, match=r"x: got shape \(0, 3\), wants numbers to take the mean of"):
        ops.mean(nothing)
    with pytest.raises(ValueError, match="wants numbers along axis 0"):
        ops.max(nothing, axis=0)


# Of x (3, 4, 5) and w (4, 5): a number.
FORMULAS = {
    "root of a mean": lambda x, w: ops.sqrt(ops.mean(ops.square(x - w))),
    "quotients": lambda x, w: ops.mean(x / w) + ops.sum(1.0 / w) / ops.sum(w) - ops.mean(w / 3.0),
    "axes": lambda x, w: ops.mean(ops.sum(x / w, axis=1) * ops.mean(x, axis=(0, 2), keepdims=True)[0, 0]),
    "extremes": lambda x, w: ops.sum(ops.log(w)) * ops.max(x) - ops.sum(ops.min(x, axis=-1) * w[0, 0]),
    "parts": lambda x, w: ops.sum(ops.exponential(-0.5 * (ops.square(x[:, 1:3, -1]) + w[..., 2][1:3]))),
    "powers": lambda x, w: ops.sum(x**2 * w**0.5 + x**3) - ops.sum(x**1),
    "further powers": lambda x, w: (
        ops.sum(x**7 * w**-2 + w**1.3) + ops.sum(ops.power(w, x) + 2.0**x) * ops.mean(x) ** 4 - ops.mean(w) ** 0.3
    ),
    "clipped": lambda x, w: ops.mean(ops.absolute(ops.clip(x, -0.5, 0.7)) * ops.maximum(w, 1.0)),
    "shapes": lambda x, w: ops.sum(
        ops.transpose(x, (2, 0, 1))[0] * ops.squeeze(ops.expand_dims(ops.reshape(w, (5, 4)), 0))[1]
    ),
    "normalised": lambda x, w: ops.mean(w * x / ops.sqrt(ops.mean(ops.square(x), axis=-1, keepdims=True) + 1e-3)),
    "spreads": lambda x, w: ops.sum(ops.var(x, axis=1)) + ops.mean(ops.std(w, axis=-1, keepdims=True)) * ops.var(x),
    "logarithms": lambda x, w: ops.sum(ops.logsumexp(x, axis=(0, 2))) - ops.logsumexp(w) + ops.mean(ops.exp(-w)),
    "products": lambda x, w: ops.sum(ops.dot(x, ops.transpose(w)) * 0.5) + ops.dot(w[0], w[1]) + ops.dot(w, w[0])[1],
    "exchanged": lambda x, w: ops.sum(ops.swapaxes(x, 0, 2)[1] * ops.moveaxis(x, -1, 0)[2, :2, :1].reshape(1, 2)[0, 0]),
    "several": lambda x, w: ops.mean(ops.tile(w, (3, 1, 1)) * x) + ops.sum(ops.repeat(w, 2, axis=1)[:, 1] * w[:, 3]),
    "padded": lambda x, w: ops.sum(ops.pad(w, ((1, 0), (0, 2)), constant_values=2.0) * ops.pad(w, ((0, 1), (2, 0)))),
    "chosen": lambda x, w: ops.sum(ops.where(POSITIVE, x, w) * ops.where(POSITIVE, 0.5, x)) + ops.abs(w)[0, 0],
    "constants": lambda x, w: (
        ops.sum(w * ops.zeros((4, 5), "float64") + ops.ones(5, "float64") * w) + ops.sum(ops.power(w, 2))
    ),
    "numbers": lambda x, w: ops.exponential(ops.mean(x)) * ops.sum(x * ops.mean(w)) + ops.maximum(ops.sum(w), 1.0),
}


@pytest.mark.parametrize("name", FORMULAS)
def test_gradients_by_central_differences(name):
    formula, given = FORMULAS[name], (X.copy(), W.copy())
    value, found = fastnn.gradients(formula, given)
    assert value == pytest.approx(formula(*given), rel=1e-13)
    for array, gradient in zip(given, found, strict=True):
        for at in np.ndindex(array.shape):
            kept = array[at]
            array[at] = kept + 1e-6
            above = formula(*given)
            array[at] = kept - 1e-6
            slope = (above - formula(*given)) / 2e-6
            array[at] = kept
            assert gradient[at] == pytest.approx(slope, rel=1e-5, abs=1e-7), at


@pytest.mark.parametrize("name", FORMULAS)
def test_programs_give_what_calls_give(name):
    made = fastnn.program(lambda x, w: fastnn.gradients(FORMULAS[name], (x, w)))
    for _ in range(3):
        given = RNG.standard_normal(X.shape), RNG.uniform(0.5, 2.0, W.shape)
        value, found = made(*given)
        wanted, gradients = fastnn.gradients(FORMULAS[name], given)
        assert value == wanted
        assert all(map(np.array_equal, found, gradients))


def test_arrays():
    assert ops.array([1.0, 2.0]).dtype == np.float32
    assert ops.array([1, 2]).dtype.kind == "i"
    assert ops.array(X) is X
    assert ops.array([1, 2], "float64").dtype == np.float64
    assert ops.cast(np.array([True, False]), "float32").tolist() == [1.0, 0.0]
    assert ops.shape(X) == (3, 4, 5)
    assert (ops.ndim(X), ops.ndim([[1.0]]), ops.ndim(2.0)) == (3, 2, 0)
    assert not np.shares_memory(ops.copy(X), X)
    assert np.array_equal(ops.ones_like(X), np.ones_like(X))
    assert np.array_equal(ops.zeros_like(X), np.zeros_like(X))
    assert np.array_equal(ops.transpose(W), W.T)
    assert ops.expand_dims(W, -1).shape == (4, 5, 1)
    assert ops.squeeze(ops.expand_dims(W, 1), 1).shape == W.shape


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_concatenate(axis, count):
    widths = [(i * 3 + 1) % 4 for i in range(count)]
    shapes = [tuple(width if at == axis % 3 else size for at, size in enumerate((2, 5, 3))) for width in widths]
    arrays = [RNG.standard_normal(shape) for shape in shapes]
    y = ops.concatenate(arrays, axis)
    assert np.array_equal(y, np.concatenate(arrays, axis))
    assert not any(np.shares_memory(y, array) for array in arrays)


def test_permute():
    x = RNG.standard_normal((2, 3, 4, 5)).astype("float32")
    y = ops.permute(x, (3, 1, 0, 2))
    assert y.flags.c_contiguous
    assert np.array_equal(y, x.transpose(3, 1, 0, 2))


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3])
def test_parts_are_views_and_stack_is_their_inverse(axis):
    x = RNG.standard_normal((4, 6, 8))
    for given in (2, [1, 1, 3], [0]):
        parts = ops.split(x, given, axis)
        for part, wanted in zip(parts, np.split(x, given, axis), strict=True):
            assert np.array_equal(part, wanted)
            assert part.size == 0 or np.shares_memory(part, x)
    parts = ops.unstack(x, x.shape[axis], axis)
    assert [part.shape for part in parts] == [x.take(0, axis).shape] * x.shape[axis]
    assert np.array_equal(ops.stack(parts, axis), x)
    assert ops.unstack(np.zeros((0, 3))) == ()
    assert np.array_equal(ops.flip(x, axis), np.flip(x, axis))
    assert np.array_equal(ops.flip(x.astype("float32"), axis), np.flip(x, axis).astype("float32"))


def test_gradients_of_parts():
    """Of some parts, and in a program: those that nothing depends on have zeros."""
    x, t = RNG.standard_normal((3, 4)), RNG.standard_normal((2, 3))
    goal = np.zeros((3, 4))

    def loss(x):
        first, _, _, last = ops.unstack(x, axis=1)
        return ops.mse(ops.flip(ops.stack([first, last]), 1), t)[0]

    goal[:, [0, 3]] = 2 * (np.stack([x[:, 0], x[:, 3]]) - t[:, ::-1]).T / 6
    replayed = fastnn.program(lambda x: fastnn.gradients(loss, [x]))
    for run in (lambda x: fastnn.gradients(loss, [x]), replayed, replayed, replayed):
        _, (dx,) = run(x)
        np.testing.assert_allclose(dx, goal, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_one_hot(dtype):
    index = RNG.integers(0, 7, (3, 4))
    y = ops.one_hot(index, 7, dtype=dtype)
    assert y.dtype == dtype
    assert np.array_equal(y, np.eye(7)[index])
    with pytest.raises(IndexError, match="wants row numbers in"):
        ops.one_hot(np.array([7]), 7)


def test_joining_in_a_program():
    t = RNG.standard_normal((6, 4, 9))

    @fastnn.program
    def step(x, y, index):
        wide = ops.concatenate([x, y, ops.one_hot(index, 4, dtype="float64").reshape(6, 4, 1)], -1)
        turned = ops.permute(wide, (0, 2, 1)).reshape(6, 4, 9)
        return ops.mse(turned, t)[0], ops.tanh(turned)

    for _ in range(3):
        x, y, index = RNG.standard_normal((6, 4, 3)), RNG.standard_normal((6, 4, 5)), RNG.integers(0, 4, 6)
        wide = np.concatenate([x, y, np.eye(4)[index][:, :, None]], -1).transpose(0, 2, 1).reshape(6, 4, 9)
        loss, z = step(x, y, index)
        assert loss == pytest.approx(((wide - t) ** 2).mean())
        np.testing.assert_allclose(z, np.tanh(wide), rtol=1e-12)


def test_arrays_that_are_made():
    for made, wanted in (
        (ops.zeros((2, 3)), np.zeros((2, 3), "float32")),
        (ops.ones(3, "int32"), np.ones(3, "int32")),
        (ops.full((2,), 2.5, "float64"), np.full(2, 2.5)),
        (ops.arange(5), np.arange(5)),
        (ops.arange(0.0, 1.0, 0.25), np.arange(0, 1, 0.25, "float32")),
        (ops.arange(2, 8, 3, "float64"), np.arange(2.0, 8.0, 3.0)),
        (ops.linspace(0, 1, 5), np.linspace(0, 1, 5, dtype="float32")),
        (ops.eye(3, 2, 1), np.eye(3, 2, 1, "float32")),
        (ops.convert_to_tensor([1.0, 2.0]), np.array([1, 2], "float32")),
        (ops.convert_to_numpy(X), X),
        (ops.full_like(W, 2.5), np.full_like(W, 2.5)),
        (ops.full_like(W, 2, "int32"), np.full(W.shape, 2, "int32")),
        (ops.copy(W), W),
        (ops.copy(np.arange(3)), np.arange(3)),
        (ops.where([True, False], [1, 2], 3), np.array([1, 3])),
        (ops.zeros_like(X, "int32"), np.zeros(X.shape, "int32")),
        (ops.ones_like(X, "float32"), np.ones(X.shape, "float32")),
    ):
        assert made.dtype == wanted.dtype
        assert np.array_equal(made, wanted)


def test_shapes_that_are_made():
    assert np.array_equal(ops.ravel(W), W.ravel())
    assert np.array_equal(ops.flip(X), np.flip(X))
    assert np.array_equal(ops.one_hot(np.array([[0, 2]]), 3, axis=1), np.eye(3)[[[0, 2]]].transpose(0, 2, 1))
    for counts in (2, (2, 1), (2, 1, 3), (0, 1), (1, 1, 1, 2)):
        assert np.array_equal(ops.tile(W, counts), np.tile(W, counts))
    for axis in (None, 0, -1):
        assert np.array_equal(ops.repeat(W, 3, axis), np.repeat(W, 3, axis))
    for width in (1, (1, 2), ((0, 1), (2, 0)), 0):
        assert np.array_equal(ops.pad(W, width), np.pad(W, width))
    for one, other in ((0, 1), (0, -1), (2, 2)):
        assert np.array_equal(ops.swapaxes(X, one, other), np.swapaxes(X, one, other))
        assert np.array_equal(ops.moveaxis(X, one, other), np.moveaxis(X, one, other))


def test_a_gradient_stops():
    value, (slope,) = fastnn.gradients(lambda x: ops.sum(x * ops.stop_gradient(x)), [W])
    assert value == pytest.approx((W * W).sum())
    assert np.array_equal(slope, W)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ops.sum(X, axis=3), ValueError, "axis: got 3, wants"),
        (lambda: ops.sum(X, axis=(0, -3)), ValueError, r"axis: got \(0, -3\), wants every axis once"),
        (lambda: ops.max([1.0]), TypeError, "x: got list"),
        (lambda: ops.squeeze(X, 1), ValueError, r"axis: got 1 for the shape \(3, 4, 5\), wants axes of one place"),
        (lambda: ops.expand_dims(X, 5), ValueError, "axis: got 5"),
        (lambda: ops.clip(X, "0", 1), TypeError, "x_min: got"),
        (lambda: ops.dot(3.0, W), ValueError, "x1: got"),
        (lambda: ops.dot(W, X), ValueError, "x2: got"),
        (lambda: ops.swapaxes(X, 0, 3), ValueError, "axis2: got 3"),
        (lambda: ops.moveaxis(X, 3, 0), ValueError, "source: got 3"),
        (lambda: ops.tile(X, -1), ValueError, "repeats: got -1"),
        (lambda: ops.repeat(X, 2, 3), ValueError, "axis: got 3"),
        (lambda: ops.pad(X, ((1, 1), (1, 1))), ValueError, "pad_width: got"),
        (lambda: ops.pad(W, -1), ValueError, "pad_width: got -1"),
        (lambda: ops.pad(W, 1, "reflect"), ValueError, "mode: got 'reflect'"),
        (lambda: fastnn.gradients(lambda x: ops.sum(ops.convert_to_numpy(x)), [X]), TypeError, "numpy.asarray: got"),
        (lambda: fastnn.gradients(lambda x: ops.sum(ops.power(x, "2")), [X]), TypeError, "got the exponent '2'"),
        (lambda: ops.divide([1.0], 2.0), TypeError, "a: got list"),
        (lambda: fastnn.gradients(lambda x: ops.sum(ops.cast(x, "float32")), [X]), TypeError, "dtype: got float32"),
        (lambda: fastnn.gradients(lambda x: ops.sum(x[[0, 1]]), [X]), TypeError, r"\[\.\.\.\]: got an array"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("call", "error", "wanted"),
    [
        (lambda x: ops.concatenate([]), TypeError, "xs: got list"),
        (ops.concatenate, TypeError, "xs: got ndarray"),
        (lambda x: ops.concatenate([x, 3]), TypeError, r"xs\[1\]: got int"),
        (lambda x: ops.concatenate([x, x[:1]], 1), ValueError, r"xs\[1\]: got shape \(1, 3\), wants 2 dimensions, of"),
        (lambda x: ops.concatenate([x, x[0]]), ValueError, r"xs\[1\]: got shape \(3,\)"),
        (lambda x: ops.concatenate([x, x], 2), ValueError, "axis: got 2"),
        (lambda x: ops.concatenate([x, x.astype("f")]), TypeError, "b: got dtype float32, wants float64"),
        (lambda x: ops.split(x, 4), ValueError, "indices_or_sections: got 4, wants a divisor of the size"),
        (lambda x: ops.split(x, [2, 1]), ValueError, r"got \[2, 1\], wants indices that do not fall"),
        (lambda x: ops.split(x, [9]), ValueError, r"indices_or_sections\[0\]: got 9"),
        (lambda x: ops.split([1], 1), TypeError, "x: got list"),
        (lambda x: ops.split(x, 1, 5), ValueError, "axis: got 5"),
        (ops.stack, TypeError, "x: got ndarray"),
        (lambda x: ops.stack([x, x[:1]]), ValueError, r"x\[1\]: got ndarray"),
        (lambda x: ops.unstack(x, 7), ValueError, "num: got 7, wants the size"),
        (lambda x: ops.unstack(3), TypeError, "x: got int"),
        (lambda x: ops.flip(3), TypeError, "x: got int"),
        (lambda x: ops.permute(x, (0, 0)), ValueError, r"axes: got tuple \(0, 0\)"),
        (lambda x: ops.permute(x, 1), ValueError, "axes: got int"),
        (lambda x: ops.one_hot(x, 3), TypeError, "x: got"),
        (lambda x: ops.one_hot([1], 3), TypeError, "x: got list"),
        (lambda x: ops.one_hot(x, 0), ValueError, "num_classes: got 0"),
    ],
)
def test_wrong_arguments_of_joining(call, error, wanted):
    with pytest.raises(error, match=wanted):
        call(np.zeros((2, 3)))


# Shapes of what is multiplied: vectors, matrices, and stacks of such on one side or both.
PRODUCTS = [
    ((3,), (3,)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((2, 4, 3), (3, 5)),
    ((2, 4, 3), (2, 3, 5)),
    ((4, 3), (2, 3, 5)),
    ((2, 2, 4, 3), (2, 2, 3, 5)),
    ((2, 4, 3), (3,)),
    ((3,), (2, 3, 5)),
]
# Sums of products, as letters name their axes, and the operands' shapes.
SUMS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("bqhd,bkhd->bhqk", (2, 3, 4, 5), (2, 6, 4, 5)),
    ("bhqk,bkhd->bqhd", (2, 4, 3, 6), (2, 6, 4, 5)),
    ("btd, dhk -> bthk", (2, 3, 4), (4, 2, 5)),
    ("i,j->ij", (3,), (4,)),
    ("abc,cd", (2, 3, 4), (4, 5)),
    ("ijk,k->ij", (2, 3, 4), (4,)),
    ("ij,kl->i", (2, 3), (4, 5)),
    ("ij,ij->j", (2, 3), (2, 3)),
]


def slopes_of(function, arrays, dy, step=1e-6):
    """dL/d(each array) of L = sum(dy * function(*arrays)), by central differences."""
    found = []
    for array in arrays:
        slope = np.zeros_like(array)
        for place in np.ndindex(array.shape):
            ends = []
            for side in (step, -step):
                moved = [each.copy() if each is array else each for each in arrays]
                next(each for each, one in zip(moved, arrays, strict=True) if one is array)[place] += side
                ends.append((dy * function(*moved)).sum())
            slope[place] = (ends[0] - ends[1]) / (2 * step)
        found.append(slope)
    return found


def compare_with_numpy(ours, numpys, arrays):
    wanted = numpys(*arrays)
    y = ours(*arrays)
    assert y.shape == wanted.shape
    assert y == pytest.approx(wanted, abs=1e-12)
    dy = np.random.default_rng(1).standard_normal(wanted.shape or (1,))
    loss = lambda *given: ops.sum(ops.multiply(ops.reshape(ours(*given), dy.shape), dy))  # noqa: E731
    _, slopes = fastnn.gradients(loss, arrays)
    for slope, expected in zip(slopes, slopes_of(numpys, arrays, dy.reshape(wanted.shape)), strict=True):
        assert slope == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("a", "b"), PRODUCTS)
def test_products_of_any_ranks(a, b):
    rng = np.random.default_rng(7)
    arrays = rng.standard_normal(a), rng.standard_normal(b)
    compare_with_numpy(ops.matmul, np.matmul, arrays)
    _, slopes = fastnn.gradients(lambda a, b: ops.sum(a @ b), arrays)
    assert slopes[0].shape == a


@pytest.mark.parametrize(("subscripts", "a", "b"), SUMS)
def test_sums_of_products_by_letters(subscripts, a, b):
    rng = np.random.default_rng(8)
    arrays = rng.standard_normal(a), rng.standard_normal(b)
    compare_with_numpy(
        lambda *given: ops.einsum(subscripts, *given), lambda *given: np.einsum(subscripts, *given), arrays
    )


@pytest.mark.parametrize("subscripts", ["ijk->kij", "ijk->j", "ijk->", "ijk"])
def test_sums_by_letters(subscripts):
    array = np.random.default_rng(9).standard_normal((2, 3, 4))
    assert ops.einsum(subscripts, array) == pytest.approx(np.einsum(subscripts, array), abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ops.matmul(np.ones((2, 3, 4)), np.ones((2, 3, 5))), r"b: got shape \(2, 3, 5\), wants 4 rows"),
        (lambda: ops.matmul(np.ones((2, 3, 4)), np.ones((3, 4, 5))), r"b: got shape \(3, 4, 5\), wants \(2, 4, 5\)"),
        (lambda: ops.matmul(np.ones((2, 3, 4)), np.ones((4, 5)), out=np.ones((2, 3, 5))), "out: got an array beside"),
        (lambda: ops.matmul(np.ones(()), np.ones((4, 5))), "a: got .* wants an array of 1 dimension or more"),
        (
            lambda: ops.einsum("ij,jk->ik", np.ones((2, 3)), np.ones((4, 5))),
            r"operands\[1\]: got 4 for axis 'j', wants 3",
        ),
        (lambda: ops.einsum("ij,jk->ik", np.ones((2, 3))), "subscripts: got .* for 1 operands"),
        (lambda: ops.einsum("...j,jk->...k", np.ones((2, 3)), np.ones((3, 4))), "subscripts: got .*, wants letters"),
        (lambda: ops.einsum("ii->i", np.ones((2, 2))), r"operands\[0\]: got .* axes 'ii', each once"),
        (lambda: ops.einsum("ij->ik", np.ones((2, 2))), "subscripts: got 'ik' for the result"),
        (lambda: ops.einsum("ijk->i", np.ones((2, 2))), r"operands\[0\]: got .* wants an array of 3 axes"),
    ],
)
def test_products_that_do_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()
