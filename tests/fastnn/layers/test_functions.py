"""Functions of ``fastnn.ops`` and signs in graphs of layers, and layers with a call where sizes are unknown."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, ops, utils

RNG = np.random.default_rng(12)
X = RNG.standard_normal((6, 5)).astype("float32")
A = RNG.standard_normal((6, 3, 4)).astype("float32")

# What is made of a symbolic tensor (or an array) x, and the same by NumPy.
MADE = {
    "relu": (ops.relu, lambda x: np.maximum(x, 0), X),
    "named": (lambda x: ops.leaky_relu(x, negative_slope=0.5), lambda x: np.where(x > 0, x, 0.5 * x), X),
    "twice": (lambda x: x * 2, lambda x: x * 2, X),
    "left": (lambda x: 1 - x, lambda x: 1 - x, X),
    "signs": (lambda x: -x / 4.0 + x**2 - 3.0 * x, lambda x: -x / 4 + x**2 - 3 * x, X),
    "reciprocal": (lambda x: 2.0 / (ops.exp(x) + 1.0), lambda x: 2 / (np.exp(x) + 1), X),
    "part": (lambda x: x[:, 1:4:2], lambda x: x[:, 1:4:2], X),
    "step": (lambda x: x[:, 0, :], lambda x: x[:, 0, :], A),
    "ends": (lambda x: x[..., -2:], lambda x: x[..., -2:], A),
    "itself": (lambda x: ops.concatenate([x, x * 3.0, x], axis=-1), lambda x: np.concatenate([x, 3 * x, x], -1), X),
    "mean": (lambda x: ops.mean(x, axis=1), lambda x: x.mean(axis=1), A),
    "turned": (lambda x: ops.transpose(x, (0, 2, 1)), lambda x: x.transpose(0, 2, 1), A),
    "flat": (lambda x: ops.reshape(x, (-1, ops.shape(x)[1] * 4)), lambda x: x.reshape(-1, 12), A),
    "waves": (
        lambda x: ops.sin(x) * ops.cos(x) + ops.log1p(ops.square(x)),
        lambda x: np.sin(2 * x) / 2 + np.log1p(x * x),
        X,
    ),
    "taken": (lambda x: ops.take(x, [2, 0], axis=1), lambda x: x[:, [2, 0]], A),
    "largest": (lambda x: ops.top_k(x, 2)[0], lambda x: -np.sort(-x, -1)[:, :2], X),
    "running": (lambda x: ops.cumsum(ops.roll(x, 1, axis=1), axis=1), lambda x: np.roll(x, 1, 1).cumsum(1), A),
    "beside an array": (lambda x: x + np.ones((1, 5), "float32"), lambda x: x + 1, X),
}


@pytest.mark.parametrize("name", MADE)
def test_what_is_made_of_symbols_is_what_is_made_of_arrays(name):
    made, numpy, x = MADE[name]
    inputs = layers.Input(x.shape[1:])
    model = models.Model(inputs, made(inputs))
    assert model.output.shape[1:] == numpy(x).shape[1:]
    assert model.predict(x, verbose=0) == pytest.approx(numpy(x), abs=1e-6)
    assert model(x) == pytest.approx(made(x), abs=1e-6)


def test_they_are_trained_through_and_live_in_files(tmp_path):
    utils.set_random_seed(2)
    inputs = layers.Input((5,), name="given")
    x = layers.Dense(4)(inputs)
    x = ops.concatenate([ops.tanh(x), inputs * 0.5], axis=1)[:, 1:]
    model = models.Model(inputs, layers.Dense(1)(1.0 - x))
    model.compile("adam", "mse")
    losses = model.fit(X, X[:, :1], epochs=100, batch_size=6, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    path = tmp_path / "model.safetensors"
    model.save(path)
    again = models.load_model(path)
    assert [layer.name for layer in again.layers] == [layer.name for layer in model.layers]
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert len(models.clone_model(model).layers) == len(model.layers)


def test_names_count_up_by_function():
    first, second = ops.relu(layers.Input((3,))), ops.relu(layers.Input((3,)))
    assert (first.name + "_").startswith("relu_")
    assert first.name != second.name


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda x: ops.matmul(x, x), ValueError, r"matmul|b: got|k"),
        (lambda x: ops.concatenate([x, layers.Input((2, 2))], axis=1), ValueError, r"xs\[1\]: got shape"),
        (lambda x: x + "1", TypeError, r"b: got str"),
        (np.sin, TypeError, "sin|ufunc"),
        (lambda x: layers.Function("rellu", {"x": x}), ValueError, "op: got 'rellu'"),
        (lambda x: layers.Function("relu", [x]), TypeError, "arguments: got list"),
    ],
)
def test_what_does_not_fit_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make(layers.Input((5,)))


def test_an_array_as_an_argument_is_not_written(tmp_path):
    inputs = layers.Input((5,))
    model = models.Model(inputs, layers.Dense(1)(inputs + np.ones((1, 5), "float32")))
    with pytest.raises(ValueError, match=r"add.*: got ndarray .* a model file cannot hold"):
        model.save(tmp_path / "model.safetensors")


class Positions(layers.Layer):
    """Words and where they stand, as in any course on texts."""

    def __init__(self, length, words, size, **options):
        super().__init__(**options)
        self.of_words = layers.Embedding(words, size)
        self.of_places = layers.Embedding(length, size)

    def call(self, inputs):
        places = ops.arange(0, ops.shape(inputs)[-1], 1)
        return self.of_words(inputs) + self.of_places(places)

    def compute_mask(self, inputs, mask=None):
        return ops.not_equal(inputs, 0)


def test_row_numbers_reach_an_embedding_inside_of_a_layer():
    utils.set_random_seed(4)
    words = RNG.integers(1, 9, (16, 6))
    words[:, 4:] = 0
    inputs = layers.Input((6,), dtype="int64")
    layer = Positions(6, 9, 3)
    model = models.Model(inputs, layers.Dense(1)(layers.GlobalAveragePooling1D()(layer(inputs))))
    table, places = (weights.numpy() for weights in layer.weights)
    wanted = (table[words] + places)[:, :4].mean(axis=1) @ model.layers[-1].kernel.value
    assert model.predict(words, verbose=0) == pytest.approx(wanted, abs=1e-6)
    model.compile("adam", "mse")
    losses = model.fit(words, wanted + 1.0, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    with pytest.raises((ValueError, IndexError), match="9"):
        model.predict(np.full((1, 6), 9), verbose=0)


class Mixed(layers.Layer):
    """Layers and a model within, over sequences of any length."""

    def __init__(self, **options):
        super().__init__(**options)
        self.inner = models.Sequential([layers.Dense(8, "relu"), layers.Dense(4)])
        self.norm = layers.LayerNormalization()

    def call(self, inputs):
        return self.norm(inputs + self.inner(inputs))


def test_a_layer_with_a_call_takes_sequences_of_any_length():
    utils.set_random_seed(5)
    inputs = layers.Input((None, 4))
    x = Mixed()(inputs)
    assert x.shape == (None, None, 4)
    model = models.Model(inputs, layers.GlobalMaxPooling1D()(x))
    for steps in (3, 7, 12):
        rows = RNG.standard_normal((2, steps, 4)).astype("float32")
        assert model.predict(rows, verbose=0) == pytest.approx(model.layers[1](rows).max(axis=1), abs=1e-6)


def test_one_that_needs_known_sizes_says_so():
    class Flat(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[1] * 4, 2))

        def call(self, inputs):
            return ops.matmul(ops.reshape(inputs, (-1, inputs.shape[1] * 4)), self.w)

    with pytest.raises((TypeError, ValueError), match=r"None|known sizes"):
        Flat(name="flat")(layers.Input((None, 4)))


def test_a_stack_of_layers_with_a_build_is_built_by_data():
    class Own(layers.Layer):
        def build(self, input_shape):
            self.w = self.add_weight((input_shape[-1], 2))

        def call(self, inputs):
            return ops.matmul(inputs, self.w)

    utils.set_random_seed(6)
    model = models.Sequential([Own(), Own()])
    assert model(X).shape == (6, 2)
    model.compile("sgd", "mse")
    model.fit(X, X[:, :2], verbose=0)
