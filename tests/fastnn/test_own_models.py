"""Models that are written as ``call``: built, trained, judged, saved; losses that they add; steps of their own."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, losses, metrics, models, ops, optimizers, regularizers, utils

RNG = np.random.default_rng(21)
X = RNG.standard_normal((96, 6)).astype("float32")
T = X[:, :2] * 0.5 + X[:, 2:4]
WORDS = RNG.integers(0, 9, (96, 5))


class Net(models.Model):
    """Two dense layers and a dropout."""

    def __init__(self, units=8, rate=0.0, **options):
        super().__init__(**options)
        self.first = layers.Dense(units, "tanh")
        self.drop = layers.Dropout(rate)
        self.stack = [layers.Dense(2)]

    def call(self, inputs, training=False):
        return self.stack[0](self.drop(self.first(inputs), training=training))


class Pair(models.Model):
    """Inputs and outputs by name, one of them words."""

    def __init__(self):
        super().__init__()
        self.words = layers.Embedding(9, 3, mask_zero=True)
        self.dense = layers.Dense(3)
        self.out = layers.Dense(2)

    def call(self, inputs):
        h = ops.mean(self.words(inputs["words"]), axis=1)
        return {"sum": self.out(h + self.dense(inputs["x"])), "plain": self.dense(inputs["x"])}


class Coder(models.Model):
    """Trained by what it adds alone."""

    def __init__(self):
        super().__init__()
        self.code = layers.Dense(2, kernel_regularizer=regularizers.L2(0.01))
        self.back = layers.Dense(6, activity_regularizer=regularizers.L2(0.1))

    def build(self, input_shape):
        self.scale = self.add_weight(shape=(input_shape[-1],), initializer="ones", name="scale")

    def call(self, x):
        z = self.code(x * self.scale)
        y = self.back(z)
        self.add_loss(ops.mean(ops.square(x - y)))
        self.add_loss(0.001 * ops.square(z))
        return y


def stack(units=8, rate=0.0):
    return models.Sequential([layers.Input((6,)), layers.Dense(units, "tanh"), layers.Dropout(rate), layers.Dense(2)])


@pytest.mark.parametrize("eager", [False, True])
def test_trains_as_the_stack_that_it_is(eager):
    utils.set_random_seed(3)
    net, same = Net(), stack()
    net.build((None, 6))
    same.set_weights(net.get_weights())
    found = []
    for model in (net, same):
        model.compile(optimizers.Adam(0.01), "mse", metrics=["mae"], run_eagerly=eager)
        history = model.fit(X, T, batch_size=8, epochs=3, shuffle=False, verbose=0, validation_data=(X, T)).history
        found.append((history, model.evaluate(X, T, verbose=0), model.predict(X)))
    for name in found[1][0]:
        assert np.allclose(found[0][0][name], found[1][0][name], rtol=1e-4)
    assert np.allclose(found[0][1], found[1][1], rtol=1e-4)
    assert np.allclose(found[0][2], found[1][2], atol=1e-5)
    assert [layer.name for layer in net.layers] == ["dense", "dropout", "dense_1"] or len(net.layers) == 3
    assert net.count_params() == same.count_params()


def test_masks_are_drawn_in_training_only():
    utils.set_random_seed(4)
    net = Net(rate=0.5)
    assert np.array_equal(net(X), net.predict(X))
    assert not np.array_equal(net(X, training=True), net(X, training=True))


def test_several_inputs_and_outputs_by_name():
    utils.set_random_seed(5)
    pair, given = Pair(), {"words": WORDS, "x": X}
    pair.compile("adam", {"sum": "mse", "plain": "mae"}, metrics={"sum": ["mae"]}, loss_weights={"plain": 0.5})
    history = pair.fit(given, {"sum": T, "plain": X[:, :3]}, epochs=2, verbose=0).history
    assert set(history) == {"loss", "sum_loss", "plain_loss", "sum_mae"}
    assert {name: y.shape for name, y in pair.predict(given).items()} == {"sum": (96, 2), "plain": (96, 3)}
    with pytest.raises(ValueError, match=r"x\['words'\]: got the index 9, wants integers in \[0, 9\)"):
        pair.predict({"words": WORDS + 9 * (WORDS == 8) - 8 * (WORDS == 8), "x": X})


def test_masks_of_steps_go_from_layer_to_layer():
    class Reader(models.Model):
        def __init__(self):
            super().__init__()
            self.words = layers.Embedding(9, 3, mask_zero=True, name="words")
            self.read = layers.LSTM(4, name="read")

        def call(self, inputs):
            return self.read(self.words(inputs))

    utils.set_random_seed(6)
    reader = Reader()
    same = models.Sequential([layers.Input((5,)), layers.Embedding(9, 3, mask_zero=True), layers.LSTM(4)])
    padded = WORDS * (np.arange(5) < 3)
    reader.build((None, 5))
    same.set_weights(reader.get_weights())
    assert np.allclose(reader.predict(padded), same.predict(padded), atol=1e-6)
    found = []
    for model in (reader, same):
        model.compile("sgd", "mse")
        found.append(model.fit(padded, np.ones((96, 4)), epochs=2, shuffle=False, verbose=0).history["loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


def test_added_losses():
    utils.set_random_seed(7)
    coder = Coder()
    coder.compile("sgd")
    y = coder(X)
    scale, (kernel, bias) = coder.scale.numpy(), (p.numpy() for p in coder.code.weights)
    z = (X * scale) @ kernel + bias
    penalties = [np.mean((X - y) ** 2), 0.001 * np.sum(z**2), 0.1 * np.sum(y**2) / len(X)]
    assert sum(coder.losses) == pytest.approx(0.01 * np.sum(kernel**2) + sum(penalties), rel=1e-4)
    assert coder.evaluate(X, verbose=0, batch_size=96) == pytest.approx(sum(coder.losses), rel=1e-4)
    history = coder.fit(X, epochs=5, batch_size=16, verbose=0).history["loss"]
    assert history[-1] < history[0]
    assert not np.array_equal(scale, coder.scale.numpy())
    assert coder.weights[0].path.endswith("/scale")


@pytest.mark.parametrize("factor", [1.0, 0.25])
def test_gradients_by_weights(factor):
    """Central differences, of a loss with what layers add, and of the penalties on weights."""
    utils.set_random_seed(8)
    coder = Coder()
    coder.build((None, 6))
    for layer in coder.layers:
        assert layer.dtype == "float32"

    def loss_of():
        y = coder(X, training=True)
        return losses.MeanSquaredError()(X, y) + factor * sum(coder.losses)

    value, found = fastnn.gradients(loss_of, coder.trainable_weights)
    assert value == pytest.approx(loss_of(), rel=1e-5)
    for parameter, gradient in zip(coder.trainable_weights, found, strict=True):
        at = np.unravel_index(np.argmax(abs(gradient)), gradient.shape)
        kept, sides = parameter.value[at], []
        for move in (1e-2, -1e-2):
            parameter.value[at] = kept + move
            sides.append(loss_of())
        parameter.value[at] = kept
        assert gradient[at] == pytest.approx((sides[0] - sides[1]) / 2e-2, rel=2e-2), parameter.path


def test_a_layer_adds_in_stacks_and_graphs():
    class Small(layers.Layer):
        def call(self, inputs):
            self.add_loss(0.5 * ops.mean(ops.square(inputs)))
            return inputs

    inputs = layers.Input((6,))
    for model in (
        models.Sequential([layers.Input((6,)), layers.Dense(3), Small(), layers.Dense(2)]),
        models.Model(inputs, layers.Dense(2)(Small()(layers.Dense(3)(inputs)))),
    ):
        model.compile("sgd", "mse")
        hidden = models.Model(model.inputs, model.layers[-2].output).predict(X)
        wanted = np.mean((model.predict(X) - T) ** 2) + 0.5 * np.mean(hidden**2)
        assert model.evaluate(X, T, verbose=0, batch_size=96) == pytest.approx(wanted, rel=1e-5)
        assert model.fit(X, T, batch_size=96, verbose=0).history["loss"][0] == pytest.approx(wanted, rel=1e-5)


# ------------------------------------------------------------------------------------------------ steps of their own


class Stepped(Net):
    """The step that every guide has."""

    steps = 0

    def train_step(self, data):
        x, y = data
        self.steps += 1
        loss, found = fastnn.gradients(lambda: self.loss(y, self(x, training=True)), self.trainable_variables)
        self.optimizer.apply(found, self.trainable_variables)
        return {"loss": loss}


class Scaled(Net):
    """Another loss."""

    def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
        return 2.0 * super().compute_loss(x, y, y_pred, sample_weight)


@pytest.mark.parametrize("kind", [Stepped, Scaled])
def test_steps_of_their_own(kind):
    utils.set_random_seed(9)
    model, same = kind(), stack()
    model.build((None, 6))
    same.set_weights(model.get_weights())
    model.compile(optimizers.SGD(0.05), "mse", metrics=["mae"])
    same.compile(optimizers.SGD(0.1 if kind is Scaled else 0.05), "mse", metrics=["mae"])
    found, wanted = (m.fit(X, T, batch_size=96, epochs=3, shuffle=False, verbose=0).history for m in (model, same))
    factor = 2.0 if kind is Scaled else 1.0
    assert np.array(found["loss"]) == pytest.approx(factor * np.array(wanted["loss"]), rel=1e-4)
    if kind is Scaled:
        assert found["mae"] == pytest.approx(wanted["mae"], rel=1e-4)
        assert model.evaluate(X, T, verbose=0)[0] == pytest.approx(2 * same.evaluate(X, T, verbose=0)[0], rel=1e-4)
    else:
        assert model.steps == 3
    assert np.allclose(model.predict(X), same.predict(X), atol=1e-5)


def test_a_graph_with_steps_of_its_own():
    class Graph(models.Model):
        def train_step(self, data):
            return {**super().train_step(data), "twice": 2.0}

    inputs = layers.Input((6,))
    model = Graph(inputs, layers.Dense(2)(inputs))
    assert isinstance(model, Graph)
    model.compile("sgd", "mse", metrics=["mae"])
    assert set(model.fit(X, T, verbose=0).history) == {"loss", "mae", "twice"}


def test_a_compute_loss_without_training():
    """A student learns what a teacher gives, which is followed, too."""

    class Distiller(models.Model):
        def __init__(self):
            super().__init__()
            self.teacher, self.student = layers.Dense(3, "softmax"), layers.Dense(3, "softmax")
            self.seen = metrics.Mean(name="seen")

        def call(self, x):
            return self.student(x)

        def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None):
            apart = losses.KLDivergence()(self.teacher(x), y_pred)
            self.seen.update_state(apart)
            return apart + ops.mean(losses.sparse_categorical_crossentropy(y, y_pred))

    utils.set_random_seed(4)
    model, labels = Distiller(), np.arange(len(X)) % 3
    model.teacher.build((None, X.shape[1]))
    model.compile(optimizers.Adam(0.01))
    history = model.fit(X, labels, epochs=8, verbose=0, validation_data=(X, labels)).history
    assert history["loss"][-1] < history["loss"][0]
    assert history["val_loss"][-1] == pytest.approx(model.evaluate(X, labels, verbose=0), rel=1e-6)


def test_a_model_of_models_without_call():
    class Outer(models.Model):
        def __init__(self, encoder, decoder, **options):
            super().__init__(**options)
            self.encoder, self.decoder = encoder, decoder
            self.seen = metrics.Mean(name="loss")

        @property
        def metrics(self):
            return [self.seen]

        def train_step(self, data):
            def loss_of():
                return ops.mean(ops.square(data - self.decoder(self.encoder(data, training=True))))

            loss, found = fastnn.gradients(loss_of, self.trainable_weights)
            self.optimizer.apply_gradients(zip(found, self.trainable_weights, strict=True))
            self.seen.update_state(loss)
            return {"loss": self.seen.result()}

    model = Outer(
        models.Sequential([layers.Input((6,)), layers.Dense(2)]),
        models.Sequential([layers.Input((2,)), layers.Dense(6)]),
    )
    model.compile("adam")
    history = model.fit(X, epochs=4, verbose=0).history["loss"]
    assert history[-1] < history[0]


def test_losses_and_metrics_of_the_users_own():
    class Squares(losses.Loss):
        def call(self, y_true, y_pred):
            return ops.mean(ops.square(y_true - y_pred), axis=-1)

    class Root(metrics.Metric):
        def __init__(self, name="root", **options):
            super().__init__(name=name, **options)
            self.total = self.add_weight(name="total", initializer="zeros")
            self.count = self.add_weight(shape=(), initializer="zeros")

        def update_state(self, y_true, y_pred, sample_weight=None):
            self.total.assign_add(ops.sum(ops.square(y_true - y_pred)))
            self.count.assign_add(y_pred.size)

        def result(self):
            return ops.sqrt(self.total / self.count)

    weights = RNG.uniform(0.5, 2, 96)
    assert Squares()(T, T + 1) == pytest.approx(1.0)
    assert Squares()(T, T + 1, weights) == pytest.approx(losses.MeanSquaredError()(T, T + 1, weights))
    for weight in (None, weights):
        found = []
        for loss in (Squares(), "mse", lambda t, p: ops.mean(ops.square(t - p), axis=-1)):
            utils.set_random_seed(10)
            model = stack()
            model.compile("adam", loss, metrics=[Root()])
            found.append(model.fit(X, T, epochs=3, batch_size=8, verbose=0, sample_weight=weight).history)
        for other in found[:1] + found[2:]:
            assert other["loss"] == pytest.approx(found[1]["loss"], rel=1e-4)
        assert np.array(found[0]["root"])[-1] > 0
        if weight is None:
            assert np.square(found[0]["root"]) == pytest.approx(found[0]["loss"], rel=1e-4)


# ------------------------------------------------------------------------------------------------ files


def test_saved_and_loaded(tmp_path):
    model = Net(5, rate=0.25, name="mine")
    model.compile("adam", "mse")
    model.fit(X, T, verbose=0)
    assert model.get_config() == {"units": 5, "rate": 0.25, "name": "mine"}
    model.save(tmp_path / "model")
    loaded = models.load_model(tmp_path / "model", custom_objects={"Net": Net})
    assert np.array_equal(loaded.predict(X), model.predict(X))
    losses_of = [m.fit(X, T, shuffle=False, batch_size=96, verbose=0).history["loss"] for m in (model, loaded)]
    assert len(losses_of[0]) == 1
    with pytest.raises(ValueError, match=r"class_name: got 'Net'"):
        models.load_model(tmp_path / "model")
    model.save_weights(tmp_path / "weights")
    other = Net(5)
    other.build((None, 6))
    other.load_weights(tmp_path / "weights")
    assert np.array_equal(other.predict(X), model.predict(X))
    copy = models.clone_model(model)
    assert isinstance(copy, Net)
    assert copy.count_params() == model.count_params()


def test_registered_models_need_no_scope(tmp_path):
    @utils.register_keras_serializable(package="tests")
    class Registered(Net):
        pass

    model = models.Sequential([layers.Input((6,)), Registered(3)])
    model.save(tmp_path / "model")
    assert np.array_equal(models.load_model(tmp_path / "model").predict(X), model.predict(X))


@pytest.mark.parametrize("kind", ["stack", "graph"])
def test_nested_models_of_equal_names(tmp_path, kind):
    def inner():
        return models.Sequential([layers.Input((6,)), layers.Dense(6, name="dense")])

    if kind == "stack":
        model = models.Sequential([layers.Input((6,)), inner(), inner(), layers.Dense(2, name="dense")])
    else:
        inputs = layers.Input((6,))
        model = models.Model(inputs, layers.Dense(2, name="dense")(layers.add([inner()(inputs), inner()(inputs)])))
    assert len({p.path for p in model.weights}) == 6
    model.compile("adam", "mse")
    model.fit(X, T, verbose=0)
    model.save(tmp_path / "model")
    loaded = models.load_model(tmp_path / "model")
    assert np.array_equal(loaded.predict(X), model.predict(X))
    one, other = (m.fit(X, T, shuffle=False, verbose=0).history["loss"] for m in (model, loaded))
    assert one == other


# ------------------------------------------------------------------------------------------------ what is refused


def refused(call, *data):
    class Bad(models.Model):
        pass

    Bad.call = call
    model = Bad(name="bad")
    model.compile("sgd", "mse")
    model.fit(*(data or (X, T)), verbose=0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda self, inputs: None, TypeError, "bad: call returned NoneType"),
        (lambda self, inputs: 1.0, TypeError, "bad: call returned float"),
        (lambda self, inputs: inputs["a"], IndexError, "only integers"),
    ],
)
def test_calls_that_give_nothing(call, error, message):
    with pytest.raises(error, match=message):
        refused(call)


def test_what_is_refused():
    class Empty(models.Model):
        pass

    with pytest.raises(ValueError, match="got a model without layers"):
        Empty().predict(X)
    net = Net(name="net")
    with pytest.raises(ValueError, match="net: got add_loss outside of its call"):
        net.add_loss(1.0)
    with pytest.raises(ValueError, match="the model is not built"):
        net.save_weights("nowhere")
    with pytest.raises(ValueError, match="compiled with an optimizer"):
        net.fit(X, T)
    net.build((None, 6))
    with pytest.raises(ValueError, match=r"x: got shape \(96, 5\), wants \(n, 6\)"):
        net.predict(X[:, :5])
    with pytest.raises(AttributeError, match="net: got a model with a call of its own, which has no symbolic inputs"):
        net.inputs  # noqa: B018

    class Odd(Net):
        def train_step(self, data):
            return 1.0

    odd = Odd(name="odd")
    odd.compile("sgd", "mse")
    with pytest.raises(TypeError, match=r"odd: train_step returned float 1\.0, wants a dict of figures by name"):
        odd.fit(X, T, verbose=0)

    class Function(models.Model):
        def __init__(self, function):
            super().__init__()
            self.function = function

        def call(self, inputs):
            return self.function(inputs)

    model = Function(lambda x: x * 2.0)
    model.build((None, 6))
    with pytest.raises(NotImplementedError, match=r"Function: wants a method get_config\(\)"):
        model.get_config()
