"""Layers that are written as ``call``: their gradients, weights, inner layers, and what cannot be followed."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import activations, layers, losses, models, ops, optimizers, utils
from fastnn.layers import Layer

RNG = np.random.default_rng(8)
X, T = RNG.standard_normal((64, 3)), RNG.standard_normal((64, 2))


class Linear(Layer):
    """The layer of every guide."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(shape=(input_shape[-1], self.units), initializer="glorot_uniform", name="w")
        self.b = self.add_weight(shape=(self.units,), initializer="zeros", name="b")

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b

    def get_config(self):
        return {"units": self.units, **super().get_config()}


class Block(Layer):
    """Layers inside, one of them twice, dropout, a model, a weight that stays, a build that calls the base's."""

    def __init__(self, units=4, rate=0.0, **options):
        super().__init__(**options)
        self.parts = [Linear(units, name="one"), layers.Dense(units, "tanh", name="two")]
        self.inner = models.Sequential([layers.Dense(units, "sigmoid", name="three")])
        self.drops = {"first": layers.Dropout(rate), "second": layers.Dropout(rate)}

    def build(self, input_shape):
        self.scale = self.add_weight((1,), "ones", trainable=False, name="scale")
        super().build(input_shape)

    def call(self, inputs, training=None):
        h = self.drops["first"](self.parts[1](self.parts[0](inputs)))
        h = self.drops["second"](self.parts[1](h))
        return (self.inner(h) - 0.5 * h) * self.scale / 2 + 1


class Distances(Layer):
    """Of an anchor to two others."""

    def call(self, anchor, near, far):
        return ops.sum(ops.square(anchor - near), axis=-1), ops.sum(ops.square(anchor - far), axis=-1)


class Decoder(Layer):
    """Reads one sequence while it writes another; its mask is that of what it writes."""

    supports_masking = True

    def __init__(self, units, **options):
        super().__init__(**options)
        self.reads, self.out = layers.MultiHeadAttention(2, units), layers.Dense(units)
        self.masks = []

    def call(self, inputs, encoded, training=None, mask=None):
        self.masks.append(mask)
        return self.out(inputs + self.reads(inputs, encoded))


def by_differences(layer, x, dy, step=1e-6):
    """dL/dx and dL/d(weights) of sum(dy * layer(x)), by central differences."""

    def value():
        return float((dy * layer(x)).sum())

    found = []
    for array in (x, *(p.value for p in layer.weights if p.trainable)):
        slope = np.zeros_like(array)
        for at in np.ndindex(array.shape):
            kept = array[at]
            sides = []
            for move in (step, -step):
                array[at] = kept + move
                sides.append(value())
            array[at] = kept
            slope[at] = (sides[0] - sides[1]) / (2 * step)
        found.append(slope)
    return found


@pytest.mark.parametrize("make", [lambda: Linear(2, dtype="float64"), lambda: Block(dtype="float64")])
def test_gradients_by_central_differences(make):
    utils.set_random_seed(1)
    layer, x = make(), X[:5].copy()
    if isinstance(layer, Block):
        for part in (*layer.parts, *layer.inner.layers):
            part.dtype = "float64"
    layer.build((None, 3))
    y, kept = layer.forward(x, training=True)
    dy = RNG.standard_normal(y.shape)
    dx, gradients = layer.backward(dy, kept)
    trained = [g for g, p in zip(gradients, layer.weights, strict=True) if p.trainable]
    for got, wanted in zip((dx, *trained), by_differences(layer, x, dy), strict=True):
        assert np.allclose(got, wanted, rtol=1e-6, atol=1e-8)


def test_weights_and_shapes():
    block = Block(name="b")
    assert block(X).shape == (64, 4)
    assert block.output_shape == (None, 4)
    paths = ["b/scale", "b/one/w", "b/one/b", "b/two/kernel", "b/two/bias", "b/three/kernel", "b/three/bias"]
    assert [p.path for p in block.weights] == paths
    assert [p.path for p in block.non_trainable_weights] == ["b/scale"]
    block.trainable = False
    assert not block.trainable_weights
    block.trainable = True
    assert len(block.trainable_weights) == 6
    with pytest.raises(ValueError, match=r"regularizer|initializer"):
        Layer().add_weight((2,), "no such")


def fitted(make, **options):
    utils.set_random_seed(2)
    model = models.Sequential([layers.Input((3,)), make(), layers.Dense(2)])
    model.compile(optimizers.Adam(0.01), "mse", **options)
    history = model.fit(X, T, batch_size=4, epochs=3, verbose=0).history["loss"]
    return model, history


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_steps_are_recorded_with_the_bits_of_op_by_op(rate):
    """Python runs in the steps before the recording, and in it; eagerly in every one."""
    calls = []

    class Counted(Block):
        def call(self, inputs, training=None):
            calls.append(bool(training))
            return super().call(inputs, training)

    model, losses_of = fitted(lambda: Counted(rate=rate))
    recorded = sum(calls)
    calls.clear()
    eager, others = fitted(lambda: Counted(rate=rate), run_eagerly=True)
    assert sum(calls) == 48 > 2 * recorded
    assert losses_of == others
    assert losses_of[-1] < losses_of[0]
    assert all(map(np.array_equal, model.get_weights(), eager.get_weights()))


def test_a_custom_layer_is_what_dense_is():
    one, other = (
        models.Sequential([layers.Input((3,)), made, layers.Dense(2)]) for made in (Linear(4), layers.Dense(4))
    )
    other.set_weights(one.get_weights())
    for model in (one, other):
        model.compile(optimizers.Adam(0.01), "mse")
    a, b = (model.fit(X, T, epochs=3, shuffle=False, verbose=0).history["loss"] for model in (one, other))
    assert a == pytest.approx(b, rel=1e-5)
    for mine, theirs in zip(one.get_weights(), other.get_weights(), strict=True):
        assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-6)


def test_in_a_graph_with_a_list_of_inputs_and_several_outputs():
    class Gate(Layer):
        def call(self, inputs):
            a, b = inputs
            gate = ops.sigmoid(a)
            return gate * b, (1 - gate) * b

    x = layers.Input((3,))
    one, other = Gate(name="gate")([layers.Dense(4)(x), layers.Dense(4)(x)])
    model = models.Model(x, layers.Dense(2)(layers.concatenate([one, layers.Lambda(ops.tanh)(other)])))
    model.compile("adam", "mse")
    history = model.fit(X, T, batch_size=8, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]
    outer = models.Model(x, [one, other])
    assert [layer.name for layer in outer.layers][-1] == "gate"
    assert all(map(np.array_equal, outer.predict(X), outer(X)))


def test_layers_inside_draw_masks_of_their_own():
    class Twice(Layer):
        def __init__(self):
            super().__init__()
            self.drops = [layers.Dropout(0.5), layers.Dropout(0.5)]

        def call(self, inputs, training=None):
            return ops.concatenate([drop(inputs, training=training) for drop in self.drops], axis=-1)

    model = models.Sequential([layers.Input((400,)), Twice()])
    one, other = np.split(model(np.ones((4, 400)), training=True), 2, axis=1)
    assert 0.3 < (one == 0).mean() < 0.7
    assert 0.3 < (one != other).mean() < 0.7
    assert (model(np.ones((4, 400))) == 1).all()


def test_lambda():
    layer = layers.Lambda(lambda x, factor: ops.relu(x) * factor, arguments={"factor": 3.0}, output_shape=(3,))
    assert np.allclose(layer(X), 3 * np.maximum(X, 0), rtol=1e-6)
    assert layer.compute_output_shape((None, 3)) == (None, 3)
    assert layers.Lambda(lambda x: x, output_shape=lambda shape: shape).compute_output_shape((None, 5)) == (None, 5)
    with pytest.raises(TypeError, match="function: got int 3, wants a function"):
        layers.Lambda(3)
    with pytest.raises(ValueError, match="which a model file cannot hold"):
        layer.get_config()


def test_what_cannot_be_followed_is_named_and_changes_nothing():
    class Numpy(Layer):
        def call(self, inputs):
            return np.exp(inputs)

    model = models.Sequential([layers.Input((3,)), layers.Dense(2), Numpy()])
    assert model.predict(X).shape == (64, 2)
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(TypeError, match=r"numpy\.exp: got an array .* followed for its gradient, wants an op"):
        model.fit(X, T, verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))
    for result in (None, 3.0, "text"):
        with pytest.raises(TypeError, match=r"l: call returned .*, wants an array made by fastnn\.ops"):
            layers.Lambda(lambda x, result=result: result, name="l")(X)


def test_what_draws_by_numpy_runs_op_by_op():
    """An array that Python makes anew in each step cannot be replayed."""

    class Noisy(Layer):
        def call(self, inputs, training=None):
            if not training:
                return inputs
            return inputs + np.random.default_rng(0).standard_normal(inputs.shape).astype("float32")

    _, history = fitted(Noisy)
    assert np.isfinite(history).all()


def test_saved_with_the_class_named(tmp_path):
    model, _ = fitted(lambda: Linear(4, name="mine"))
    path = tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="got an object of the class Linear, wants one of fastnn's own"):
        model.save(path)
    with utils.custom_object_scope({"Linear": Linear}):
        model.save(path)
    with pytest.raises(ValueError, match="Linear"):
        models.load_model(path)
    again = models.load_model(path, custom_objects={"Linear": Linear})
    assert np.array_equal(again.predict(X), model.predict(X))
    assert models.clone_model(model).layers[0].units == 4


def test_a_loss_of_ops_has_its_gradient_derived():
    def half(y_true, y_pred):
        return ops.mse(y_pred, y_true)[0] * 0.5

    def per_sample(y_true, y_pred):
        difference = y_pred - y_true
        return difference * difference

    found = []
    for loss in (half, per_sample, losses.MeanSquaredError()):
        utils.set_random_seed(0)
        model = models.Sequential([layers.Input((3,)), layers.Dense(2)])
        model.compile(optimizers.SGD(0.2 if loss is half else 0.1), loss)
        history = model.fit(X, T, batch_size=8, epochs=2, verbose=0, shuffle=False).history["loss"]
        found.append((history, model.get_weights()))
    assert np.allclose(np.array(found[0][0]) * 2, found[2][0], rtol=1e-5)
    assert np.allclose(found[1][0], found[2][0], rtol=1e-5)
    for _, weights in found[:2]:
        for one, other in zip(weights, found[2][1], strict=True):
            assert np.allclose(one, other, rtol=1e-4, atol=1e-6)


def test_a_layer_may_keep_an_activation_of_its_own_under_that_name():
    class Guided(Linear):
        def __init__(self, units, activation=None, **options):
            super().__init__(units, **options)
            self.activation = activations.get(activation)

        def call(self, inputs):
            return self.activation(super().call(inputs))

    utils.set_random_seed(5)
    x, classes = X.astype("float32"), RNG.integers(0, 2, 64)
    layer = Guided(2, "softmax")
    model = models.Sequential([layers.Input((3,)), Linear(4), Guided(4, "relu"), layer])
    rows = layer(model.layers[1](model.layers[0](x)))
    assert rows.sum(axis=1) == pytest.approx(np.ones(64), abs=1e-6)
    model.compile("sgd", "sparse_categorical_crossentropy")
    loss = model.evaluate(x, classes, verbose=0)
    assert loss == pytest.approx(-np.log(model.predict(x, verbose=0)[np.arange(64), classes]).mean(), rel=1e-5)
    assert model.fit(x, classes, epochs=1, batch_size=64, verbose=0).history["loss"][0] == pytest.approx(loss, rel=1e-5)


def test_a_call_of_its_own_has_no_activation_beside_it():
    class Halved(layers.Dense):
        def call(self, inputs):
            return ops.softmax(0.5 * ops.matmul(inputs, self.kernel))

    utils.set_random_seed(6)
    x, classes = X.astype("float32"), RNG.integers(0, 2, 64)
    model = models.Sequential([layers.Input((3,)), Halved(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    wanted = -np.log(model.predict(x, verbose=0)[np.arange(64), classes]).mean()
    assert model.fit(x, classes, batch_size=64, verbose=0).history["loss"][0] == pytest.approx(wanted, rel=1e-5)


def test_weights_that_are_single_numbers():
    class Scaled(Layer):
        def build(self, input_shape):
            self.scale = self.add_weight(initializer="ones", name="scale")

        def call(self, inputs):
            return inputs * self.scale

    x = X.astype("float32")
    model = models.Sequential([layers.Input((3,)), Scaled()])
    assert model.get_weights()[0].shape == ()
    model.compile(optimizers.SGD(0.1), "mse")
    model.fit(x, 3.0 * x, epochs=60, verbose=0)
    assert float(model.get_weights()[0]) == pytest.approx(3.0, abs=0.05)
    model.set_weights([2.0])
    assert model.predict(x, verbose=0) == pytest.approx(2 * x, abs=1e-6)


def test_gradients_through_a_call_outside_of_training():
    layer = Linear(4, dtype="float64")
    layer(X)
    dy = RNG.standard_normal((64, 4))
    found = fastnn.gradients(lambda: ops.sum(ops.multiply(layer(X), dy)), layer.trainable_weights)[1]
    for slope, wanted in zip(found, by_differences(layer, X.copy(), dy)[1:], strict=True):
        assert slope == pytest.approx(wanted, abs=1e-5)


def test_a_call_of_several_inputs():
    """Given one by one, by name, or in a list: in graphs, models, and inside of other layers, one output unused."""

    class First(Layer):
        def __init__(self, **options):
            super().__init__(**options)
            self.dense, self.distances = layers.Dense(2), Distances()

        def call(self, x):
            y = self.dense(x)
            return self.distances(y, 2 * y, far=y + x[:, :2])[0]

    utils.set_random_seed(3)
    code = layers.Dense(2)
    inputs = [layers.Input((3,)) for _ in range(3)]
    made = Distances(name="distances")
    model = models.Model(inputs, made(*map(code, inputs)))
    given = [X, X[::-1].copy(), 2 * X]
    coded = [code(x) for x in given]
    wanted = [np.square(coded[0] - other).sum(-1) for other in coded[1:]]
    for found in (
        model.predict(given, verbose=0),
        made(*coded),
        made(coded),
        made(coded[0], far=coded[2], near=coded[1]),
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)
    first = models.Sequential([layers.Input((3,)), First()])
    first.compile("sgd", "mse")
    assert np.isfinite(first.fit(X, T[:, 0], verbose=0).history["loss"][0])


@pytest.mark.parametrize("name", ["m.safetensors", "m.keras"])
def test_several_inputs_from_a_file(name, tmp_path):
    if name.endswith(".keras"):
        pytest.importorskip("h5py", reason="h5py is not installed: pip install -e '.[keras]'")
    inputs = [layers.Input((3,)) for _ in range(3)]
    model = models.Model(inputs, Distances()(*inputs))
    given = [X, X[::-1].copy(), 2 * X]
    with utils.custom_object_scope({"Distances": Distances}):
        model.save(tmp_path / name)
        again = models.load_model(tmp_path / name)
        assert np.array_equal(again.predict(given, verbose=0)[1], model.predict(given, verbose=0)[1])


def test_the_mask_of_several_inputs_is_that_of_the_first():
    words, others = layers.Input((5,), dtype="int64"), layers.Input((4,), dtype="int64")
    decoder = Decoder(6)
    y = decoder(layers.Embedding(9, 6, mask_zero=True)(words), layers.Embedding(9, 6)(others))
    model = models.Model([words, others], layers.GRU(2)(y))
    x = np.array([[3, 1, 0, 0, 0], [1, 2, 3, 4, 5]])
    decoder.masks.clear()
    model.predict([x, x[:, :4]], verbose=0)
    assert np.array_equal(decoder.masks[-1], x > 0)
    model.compile("adam", "mse")
    assert np.isfinite(model.fit([x, x[:, :4]], np.ones((2, 2)), verbose=0).history["loss"][0])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer: layer(X, X), "^d: got ndarray.*, ndarray.*, wants arrays anchor, near, far$"),
        (lambda layer: layer(X, X, X, scale=2), "^d: got .* scale=int 2, wants arrays anchor, near, far$"),
        (lambda layer: layer(), "^d: got nothing, wants arrays anchor, near, far$"),
    ],
)
def test_inputs_that_lack(call, message):
    with pytest.raises(TypeError, match=message):
        call(Distances(name="d"))
