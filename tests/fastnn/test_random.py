"""Random arrays: what they follow from, how they are spread, gradients, training, what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import fastnn
from fastnn import layers, models, ops, random, utils

SHAPES = [(), (7,), 5, (3, 4), (2, 3, 5), (0, 3), (4, 0)]
DRAWS = {
    "normal": lambda shape, seed: random.normal(shape, 1.0, 2.0, seed=seed),
    "uniform": lambda shape, seed: random.uniform(shape, -1.0, 3.0, seed=seed),
    "truncated_normal": lambda shape, seed: random.truncated_normal(shape, 1.0, 2.0, seed=seed),
    "randint": lambda shape, seed: random.randint(shape, -3, 9, seed=seed),
}
each_draw = pytest.mark.parametrize("name", DRAWS)


@each_draw
def test_shapes_and_dtypes(name):
    for shape in SHAPES:
        y = DRAWS[name](shape, 3)
        assert y.shape == (shape if isinstance(shape, tuple) else (shape,))
        assert y.dtype == ("int32" if name == "randint" else "float32")
    if name != "randint":
        assert getattr(random, name)((2,), dtype="float64", seed=1).dtype == np.float64
    assert random.randint((3,), 0, 200, "uint8", seed=1).dtype == np.uint8


@each_draw
def test_what_they_follow_from(name):
    draw, shape = DRAWS[name], (20, 6)
    assert np.array_equal(draw(shape, 5), draw(shape, 5))
    assert not np.array_equal(draw(shape, 5), draw(shape, 6))
    drawn = []
    for _ in range(2):
        utils.set_random_seed(4)
        generator = random.SeedGenerator(7)
        drawn.append([draw(shape, None), draw(shape, None), draw(shape, generator), draw(shape, generator)])
    assert all(map(np.array_equal, *drawn))
    assert len({each.tobytes() for each in drawn[0]}) == 4
    assert np.array_equal(drawn[0][2], draw(shape, 7))
    with fastnn.use_backend("naive"):
        naive = draw(shape, 5)
    np.testing.assert_allclose(naive, draw(shape, 5), rtol=1e-5, atol=1e-6)


def test_they_are_those_of_the_ops():
    like = np.empty((3, 8), "float32")
    assert np.array_equal(random.normal((3, 2, 4), seed=9).reshape(3, 8), ops.random_normal(like, 9))
    assert np.array_equal(random.uniform((3, 8), seed=9), ops.random_uniform(like, 9))


def test_how_they_are_spread():
    n = 200_000
    for found, wanted in (
        (random.normal((n,), 1.0, 2.0, "float64", 1), stats.norm(1.0, 2.0)),
        (random.uniform((n,), -1.0, 3.0, "float64", 2), stats.uniform(-1.0, 4.0)),
        (random.truncated_normal((n,), 1.0, 2.0, "float64", 3), stats.truncnorm(-2.0, 2.0, 1.0, 2.0)),
    ):
        assert stats.kstest(found, wanted.cdf).pvalue > 1e-3
    counts = np.bincount(random.randint((n,), 0, 7, seed=4))
    assert stats.chisquare(counts).pvalue > 1e-3
    wide = random.randint((n,), -(2**40), 2**40, "int64", seed=5)
    assert stats.kstest(wide / 2.0**40, stats.uniform(-1.0, 2.0).cdf).pvalue > 1e-3
    assert len(np.unique(wide)) > n - 10
    assert (random.randint((50,), 5, 6, seed=1) == 5).all()


def test_classes_are_as_likely_as_their_logits_say():
    logits = np.log([[0.1, 0.2, 0.7], [0.5, 0.5, 1e-30]]).astype("float32") + 3.0
    y = random.categorical(logits, 50_000, seed=6)
    assert (y.shape, y.dtype) == ((2, 50_000), np.int32)
    assert stats.chisquare(np.bincount(y[0]), [5000, 10_000, 35_000]).pvalue > 1e-3
    assert stats.chisquare(np.bincount(y[1]), [25_000, 25_000]).pvalue > 1e-3
    assert random.categorical(logits, 0, "int64", 1).shape == (2, 0)
    assert not np.array_equal(y[0], y[1])


def test_shuffling():
    x = np.arange(60.0).reshape(3, 20)
    for axis in (0, 1, -1):
        y = random.shuffle(x, axis, seed=8)
        assert np.array_equal(np.sort(y, axis), x)
        assert np.array_equal(y, random.shuffle(x, axis, seed=8))
    assert not np.array_equal(random.shuffle(x, 1, seed=8), x)
    assert sorted(random.shuffle(np.arange(9), seed=1).tolist()) == list(range(9))
    _, (dx,) = fastnn.gradients(lambda x: ops.sum(random.shuffle(x, 1, seed=8)[:, :5]), [x])
    assert np.array_equal(dx, np.isin(x, random.shuffle(x, 1, seed=8)[:, :5]))
    firsts = [random.shuffle(np.arange(4), seed=seed)[0] for seed in range(400)]
    assert stats.chisquare(np.bincount(firsts)).pvalue > 1e-3


def test_dropout():
    x = np.ones((50, 40, 3), "float32")
    y = random.dropout(x, 0.25, seed=3)
    assert np.unique(y).tolist() == pytest.approx([0.0, 1 / 0.75])
    assert np.mean(y == 0) == pytest.approx(0.25, abs=0.02)
    assert np.array_equal(y.reshape(50, 120), ops.dropout(x.reshape(50, 120), 0.25, 3))
    together = random.dropout(x, 0.5, (None, 1, 3), 4)
    assert np.array_equal(together, np.broadcast_to(together[:, :1], x.shape))
    assert len(np.unique(together)) == 2
    value, (dx,) = fastnn.gradients(lambda x: ops.sum(random.dropout(x, 0.25, seed=3)), [x])
    assert value == pytest.approx(y.sum())
    assert np.array_equal(dx, y)
    assert random.dropout(np.ones(5), 0.0, seed=1).tolist() == [1.0] * 5


class Sampling(layers.Layer):
    """Of an autoencoder that draws what it decodes."""

    def __init__(self, **options):
        super().__init__(**options)
        self.seed_generator = random.SeedGenerator(11)

    def call(self, inputs, training=None):
        noise = random.normal(ops.shape(inputs), seed=self.seed_generator)
        self.seen.append(noise)
        return inputs + 0.1 * noise

    seen: list = []  # noqa: RUF012 - for the test to look at


def test_a_layer_draws_others_in_every_step():
    utils.set_random_seed(2)
    x = np.random.default_rng(1).standard_normal((48, 4)).astype("float32")
    model = models.Sequential([layers.Input((4,)), layers.Dense(4), Sampling(), layers.Dense(1)])
    model.compile("adam", "mse")
    Sampling.seen.clear()
    losses = model.fit(x, x[:, :1], batch_size=4, epochs=3, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    drawn = {noise.tobytes() for noise in Sampling.seen if noise.shape == (4, 4)}
    assert len(drawn) >= 36


def test_a_generator_lives_in_configs():
    generator = random.SeedGenerator(5, name="mine")
    generator.next()
    again = random.SeedGenerator.from_config(generator.get_config())
    assert (again.initial_seed, again.name, again.next()) == (5, "mine", (5, 0))
    assert random.SeedGenerator().initial_seed != random.SeedGenerator().initial_seed


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: random.normal((2, -1)), ValueError, r"shape\[1\]: got -1"),
        (lambda: random.normal("2"), TypeError, r"shape\[0\]: got"),
        (lambda: random.normal((2,), stddev=-1), ValueError, "stddev: got -1"),
        (lambda: random.normal((2,), dtype="int32"), ValueError, "dtype: got 'int32'"),
        (lambda: random.normal((2,), seed=-1), ValueError, "seed: got -1"),
        (lambda: random.normal((2,), seed="1"), TypeError, "seed: got str '1', wants an integer, a SeedGenerator or"),
        (lambda: random.uniform((2,), 1.0, 0.0), ValueError, "maxval: got 0.0, wants no less than minval"),
        (lambda: random.uniform((2,), "a"), TypeError, "minval: got"),
        (lambda: random.truncated_normal((2,), np.inf), ValueError, "mean: got inf"),
        (lambda: random.randint((2,), 3, 3), ValueError, "maxval: got 3"),
        (lambda: random.randint((2,), 0, 300, "uint8"), ValueError, "maxval: got 300"),
        (lambda: random.randint((2,), 0, 2**60, "int64"), ValueError, "maxval: got"),
        (lambda: random.randint((2,), 0, 3, "float32"), ValueError, "dtype: got float32, wants integers"),
        (lambda: random.categorical(np.zeros(3), 2), ValueError, "logits: got"),
        (lambda: random.categorical(np.zeros((2, 0)), 2), ValueError, "logits: got"),
        (lambda: random.categorical(np.zeros((2, 3)), -1), ValueError, "num_samples: got -1"),
        (lambda: random.categorical(np.zeros((2, 3)), 1, "float32"), ValueError, "dtype: got float32"),
        (lambda: random.shuffle(3.0), TypeError, "x: got float"),
        (lambda: random.shuffle(np.ones(3), 1), ValueError, "axis: got 1"),
        (lambda: random.dropout([1.0], 0.5), TypeError, "inputs: got list"),
        (lambda: random.dropout(np.ones((2, 2)), 1.0), ValueError, "rate: got 1"),
        (lambda: random.dropout(np.ones((2, 2)), 0.5, (2,)), ValueError, "noise_shape: got"),
        (lambda: random.dropout(np.ones((2, 2)), 0.5, (1, 3)), ValueError, "noise_shape: got"),
        (lambda: random.SeedGenerator(-1), ValueError, "seed: got -1"),
        (lambda: random.gamma, AttributeError, "which Keras has; it has categorical, dropout"),
        (
            lambda: fastnn.program(lambda x: ops.add(x, random.normal((2,), seed=1)))(np.ones(2)),
            TypeError,
            "seed: got int 1 in a program, which would draw the same again; wants ops.random_uniform",
        ),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
