"""Recurrent layers beyond one op: states in and out, cells of one's own, dropout, both directions, programs."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, ops, utils
from fastnn.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN, TimeDistributed

RNG = np.random.default_rng(8)
LAYERS = pytest.mark.parametrize("kind", [SimpleRNN, LSTM, GRU])
# Options that no op has: the same layers step by step.
STEPPED = {
    "recurrent dropout": {"recurrent_dropout": 0.25},
    "relu": {"activation": "relu"},
    "elu": {"activation": "elu", "dropout": 0.3},
}


def sequences(n=6, t=5, f=3, dtype="float32"):
    return RNG.standard_normal((n, t, f)).astype(dtype)


def mask_of(n=6, t=5):
    mask = np.ones((n, t))
    mask[1, :2] = mask[2, 3:] = mask[3] = mask[4, 2] = 0
    return mask


def made(kind, *given, **options):
    utils.set_random_seed(3)
    return kind(4, *given, **options)


def as_steps(layer):
    """The same layer without its op."""
    layer.cell.sweep = lambda *_: None
    return layer


@LAYERS
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_steps_are_the_op(kind, masked, backwards):
    x, mask = sequences(dtype="float64"), mask_of() if masked else None
    options = {"return_sequences": True, "return_state": True, "go_backwards": backwards, "dtype": "float64"}
    one, other = made(kind, **options), as_steps(made(kind, **options))
    states = [RNG.standard_normal((6, 4)) for _ in one.state_size]
    for given in (None, states):
        for a, b in zip(one(x, given, mask), other(x, given, mask), strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)


@LAYERS
def test_the_last_states_go_on(kind):
    """Two halves of a sequence, the second from the states of the first, are the whole."""
    layer = made(kind, return_sequences=True, return_state=True)
    x = sequences(t=6)
    whole, *last = layer(x)
    first, *between = layer(x[:, :2])
    second, *ends = layer(x[:, 2:], initial_state=between)
    assert np.array_equal(whole, np.concatenate([first, second], axis=1))
    assert all(np.array_equal(a, b) for a, b in zip(last, ends, strict=True))
    assert np.array_equal(last[0], whole[:, -1])


@LAYERS
def test_a_stateful_layer_goes_on_until_it_is_reset(kind):
    layer, x = made(kind, stateful=True), sequences(t=6)
    plain = made(kind)
    plain.build((None, 6, 3))
    layer.build((None, 6, 3))
    layer.set_weights(plain.get_weights())
    layer(x[:, :2])
    assert np.array_equal(layer(x[:, 2:]), plain(x))
    layer.reset_states()
    assert np.array_equal(layer(x), plain(x))
    with pytest.raises(ValueError, match=r"got a batch of 2, wants 6 samples.* reset_state\(\) forgets them"):
        layer(x[:2])


def test_a_stateful_layer_in_a_fit():
    """Batches go on where the one before ended, also in the passes of training."""
    x, y = np.ones((8, 3, 2), "float32"), np.zeros((8, 4))
    model = models.Sequential([made(LSTM, stateful=True)])
    model.compile("sgd", "mse")
    model.optimizer.learning_rate = 0.0
    assert model.predict(x[:4], verbose=0).tolist() != model.predict(x[:4], verbose=0).tolist()
    model.layers[0].reset_state()
    first = model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"]
    assert model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"] > first
    model.layers[0].reset_state()
    assert model.fit(x, y, batch_size=4, epochs=1, shuffle=False, verbose=0).history["loss"] == first


class _Own(layers.Layer):
    """A layer of a user's around one that is stateful."""

    def __init__(self):
        super().__init__()
        self.lstm = LSTM(3, stateful=True)

    def call(self, inputs):
        return self.lstm(inputs)


STATEFUL = {
    "alone": lambda: LSTM(3, stateful=True),
    "of steps": lambda: GRU(3, stateful=True, reset_after=False, activation="elu"),
    "both ways": lambda: layers.Bidirectional(LSTM(3, stateful=True)),
    "within a layer": _Own,
}


@pytest.mark.parametrize("name", STATEFUL)
def test_compiled_steps_of_a_stateful_layer_are_those_op_by_op(name):
    """Weights, losses and states, over epochs, a reset and passes of prediction in between."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((64, 5, 2)).astype("float32"), rng.standard_normal((64, 1)).astype("float32")
    found = []
    for eagerly in (False, True):
        utils.set_random_seed(3)
        model = models.Sequential([layers.Input((5, 2), batch_size=4), STATEFUL[name](), layers.Dense(1)])
        model.compile("adam", "mse", run_eagerly=eagerly)
        fit = partial(model.fit, x, y, batch_size=4, shuffle=False, verbose=0)
        losses = fit(epochs=2).history["loss"] + fit(epochs=1).history["loss"]
        predicted = model.predict(x, batch_size=4, verbose=0)
        for array in model.layers[0].carried:
            array[...] = 0
        found.append([*model.get_weights(), losses, predicted, model.predict(x, batch_size=4, verbose=0)])
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
    assert not np.array_equal(found[0][-1][:4], found[0][-2][:4])


@LAYERS
@pytest.mark.parametrize("option", [{}, *STEPPED.values()], ids=str)
def test_gradients_are_central_differences(kind, option):
    """By inputs, states and weights, through a mask, with the masks of dropout that a draw fixes."""
    layer = made(kind, return_sequences=True, return_state=True, dtype="float64", seed=5, **option)
    layer.build((None, 4, 3))
    x, mask = sequences(3, 4, dtype="float64"), mask_of(6, 5)[1:4, :4]
    arrays = [x, *(RNG.standard_normal((3, 4)) for _ in layer.state_size)]
    draw = fastnn.engine.protocols.Draw(1, 2, 3)
    y, kept = layer.forward(arrays, draw, mask=[mask, *[None] * len(layer.state_size)])
    goals = [RNG.standard_normal(each.shape) for each in y]
    dx, gradients = layer.backward(tuple(goals), kept)

    def value():
        made, _ = layer.forward(arrays, draw, mask=[mask, *[None] * len(layer.state_size)])
        return sum(float((a * b).sum()) for a, b in zip(made, goals, strict=True))

    for array, slope in zip((*arrays, *(p.value for p in layer.parameters)), (*dx, *gradients), strict=True):
        for place in RNG.integers(0, array.size, 5):
            at = np.unravel_index(place, array.shape)
            before = array[at]
            values = []
            for step in (1e-6, -1e-6):
                array[at] = before + step
                values.append(value())
            array[at] = before
            assert slope[at] == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5, abs=1e-7)


@LAYERS
@pytest.mark.parametrize("option", STEPPED.values(), ids=str)
def test_training_is_the_plain_loops_in_a_program_and_by_any_number_of_threads(kind, option):
    x, y = sequences(64), RNG.integers(0, 2, 64)

    def trained(backend, **options):
        utils.set_random_seed(3)
        model = models.Sequential([kind(4, **option), Dense(1, "sigmoid")])
        model.compile("adam", "binary_crossentropy", backend=backend)
        history = model.fit(x, y, epochs=3, batch_size=4, verbose=0, **options)
        return history.history["loss"], [w.tobytes() for w in model.get_weights()]

    listeners = [fastnn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]
    one = trained("cpu", threads=1)
    assert one == trained("cpu", threads=2) == trained("cpu", callbacks=listeners)
    np.testing.assert_allclose(one[0], trained("naive")[0], rtol=1e-5)


def test_dropout_drops_the_same_at_all_steps_and_other_numbers_in_each_call():
    layer = layers.SimpleRNN(40, "linear", dropout=0.5, use_bias=False, return_sequences=True)
    layer.build((None, 4, 40))
    layer.set_weights([np.eye(40), np.zeros((40, 40))])
    x = np.ones((3, 4, 40), "float32")
    y, again = layer(x, training=True), layer(x, training=True)
    assert set(np.unique(y)) == {0.0, 2.0}
    assert all(np.array_equal(y[:, 0], y[:, at]) for at in range(4))
    assert not np.array_equal(y, again)
    assert np.array_equal(layer(x), x)


def test_recurrent_dropout_drops_the_state():
    layer = layers.SimpleRNN(200, "linear", recurrent_dropout=0.25, use_bias=False, return_sequences=True)
    layer.build((None, 3, 200))
    layer.set_weights([np.eye(200), np.eye(200)])
    x = np.zeros((2, 3, 200), "float32")
    x[:, 0] = 1
    y = layer(x, training=True)
    kept = y[:, 1] > 0
    assert 0.6 < kept.mean() < 0.9
    np.testing.assert_allclose(y[:, 1][kept], 1 / 0.75, rtol=1e-6)
    np.testing.assert_allclose(y[:, 2], np.where(kept, (1 / 0.75) ** 2, 0), rtol=1e-6)


class Minimal(layers.Layer):
    """The cell of Keras's documentation."""

    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.units), name="kernel")
        self.recurrent_kernel = self.add_weight(shape=(self.units, self.units), name="recurrent_kernel")

    def call(self, inputs, states):
        output = ops.matmul(inputs, self.kernel) + ops.matmul(states[0], self.recurrent_kernel)
        return output, [output]

    def get_config(self):
        return {"units": self.units, **super().get_config()}


@pytest.mark.parametrize("stacked", [False, True])
def test_a_cell_of_ones_own(stacked, tmp_path):
    utils.set_random_seed(2)
    rnn = layers.RNN([Minimal(4), Minimal(3)] if stacked else Minimal(4), return_sequences=True)
    model = models.Sequential([layers.Masking(), rnn, TimeDistributed(Dense(2))])
    x = sequences(40)
    y = x[:, :, :2].cumsum(axis=1)
    model.compile("adam", "mse")
    losses = model.fit(x, y, epochs=40, batch_size=8, verbose=0).history["loss"]
    assert losses[-1] < 0.7 * losses[0]
    linear = layers.RNN([layers.SimpleRNNCell(4, None, False), layers.SimpleRNNCell(3, None, False)][: 1 + stacked])
    linear.build((None, 5, 3))
    linear.set_weights(rnn.get_weights())
    np.testing.assert_allclose(linear(x), rnn(x)[:, -1], rtol=1e-5, atol=1e-6)
    with utils.custom_object_scope({"Minimal": Minimal}):
        model.save(tmp_path / "model.safetensors")
        loaded = models.load_model(tmp_path / "model.safetensors")
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


def test_a_cell_that_begins_elsewhere_and_an_own_step_of_a_known_cell():
    class Ahead(Minimal):
        def get_initial_state(self, batch_size):
            return [np.ones((batch_size, self.units), "float32")]

    class Negative(layers.SimpleRNNCell):
        def call(self, inputs, states, training=False):
            y, states = super().call(inputs, states, training)
            return -y, states

    x = sequences()
    ahead = layers.RNN(Ahead(4))
    assert np.array_equal(ahead(x), ahead(x, initial_state=np.ones((6, 4), "float32")))
    negative, plain = layers.RNN(Negative(4)), layers.RNN(layers.SimpleRNNCell(4))
    plain.build(x.shape)
    negative.build(x.shape)
    plain.set_weights(negative.get_weights())
    np.testing.assert_allclose(negative(x), -plain(x), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("merge", ["concat", "sum", "ave", "mul", None])
@pytest.mark.parametrize("all_steps", [False, True])
def test_bidirectional_with_states_and_layers_of_two_kinds(merge, all_steps):
    utils.set_random_seed(1)
    options = {"return_sequences": all_steps, "return_state": True}
    both = Bidirectional(GRU(3, **options), merge, backward_layer=SimpleRNN(3, go_backwards=True, **options))
    x, mask = sequences(), mask_of()
    states = [RNG.standard_normal((6, 3)).astype("float32") for _ in range(2)]
    found = both(x, initial_state=states, mask=mask)
    a, h = both.forward_layer(x, initial_state=states[:1], mask=mask)
    b, g = both.backward_layer(x, initial_state=states[1:], mask=mask)
    b = b[:, ::-1] if all_steps else b
    wanted = {"concat": np.concatenate([a, b], -1), "sum": a + b, "ave": (a + b) / 2, "mul": a * b}
    outputs = [a, b] if merge is None else [wanted[merge]]
    assert [y.shape for y in found] == [tuple(s) for s in both.compute_output_shape([x.shape, (6, 3), (6, 3)])]
    for y, z in zip(found, [*outputs, h, g], strict=True):
        np.testing.assert_allclose(y, z, rtol=1e-6)
    if all_steps and merge is not None:
        assert not found[0][3].any()


@pytest.mark.parametrize("option", [{}, {"recurrent_dropout": 0.2}], ids=str)
def test_bidirectional_steps_are_recorded(option):
    x, y = sequences(80), RNG.integers(0, 2, 80)
    utils.set_random_seed(3)
    model = models.Sequential([Bidirectional(LSTM(3, return_sequences=True, **option)), GRU(2), Dense(1, "sigmoid")])
    assert all(layer.recordable for layer in model.layers)
    model.compile("rmsprop", "binary_crossentropy")
    replays = []
    original = fastnn.programs.Program.repeat
    fastnn.programs.Program.repeat = lambda self, *args, **kwargs: replays.append(1) or original(self, *args, **kwargs)
    try:
        model.fit(x, y, epochs=3, batch_size=4, verbose=0)
    finally:
        fastnn.programs.Program.repeat = original
    assert replays


def test_time_distributed_is_the_layer_at_every_step():
    x = RNG.standard_normal((4, 5, 6, 6, 2)).astype("float32")
    inner = layers.Conv2D(3, 3, strides=2)
    layer = TimeDistributed(inner)
    y = layer(x)
    assert y.shape == layer.compute_output_shape(x.shape) == (4, 5, 2, 2, 3)
    for at in range(5):
        np.testing.assert_allclose(y[:, at], inner(x[:, at]), rtol=1e-5, atol=1e-6)
    assert [w.path for w in layer.weights] == [f"{layer.name}/{inner.name}/{name}" for name in ("kernel", "bias")]


def test_an_encoder_and_a_decoder_learn_to_reverse():
    """As in Keras's courses: the encoder's states are the decoder's first ones; then they are models of their own."""
    utils.set_random_seed(5)
    rng = np.random.default_rng(0)
    words = rng.integers(1, 6, (600, 4))
    answers, told = words[:, ::-1], np.concatenate([np.zeros((600, 1), int), words[:, :0:-1]], axis=1)
    encoder_inputs, decoder_inputs = layers.Input((None,)), layers.Input((None,))
    vectors = layers.Embedding(6, 8)
    _, h, c = LSTM(24, return_state=True)(vectors(encoder_inputs))
    decoder = LSTM(24, return_sequences=True, return_state=True)
    y, _, _ = decoder(vectors(decoder_inputs), initial_state=[h, c])
    dense = Dense(6, activation="softmax")
    model = models.Model([encoder_inputs, decoder_inputs], dense(y))
    model.compile(fastnn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit([words, told], answers, epochs=25, batch_size=32, verbose=0)
    assert model.evaluate([words, told], answers, verbose=0)[1] > 0.95

    encoder = models.Model(encoder_inputs, [h, c])
    given = [layers.Input((24,)), layers.Input((24,))]
    z, *after = decoder(vectors(decoder_inputs), initial_state=given)
    stepping = models.Model([decoder_inputs, *given], [dense(z), *after])
    states, word, said = encoder.predict(words[:50], verbose=0), np.zeros((50, 1), int), []
    for _ in range(4):
        shares, *states = stepping.predict([word, *states], verbose=0)
        word = shares.argmax(axis=-1)
        said.append(word)
    assert (np.concatenate(said, axis=1) == answers[:50]).mean() > 0.9
    again = type(model).from_config(model.get_config())
    again.set_weights(model.get_weights())
    assert np.array_equal(again.predict([words, told], verbose=0), model.predict([words, told], verbose=0))


def test_sizes_that_may_be_any():
    """Sequences of several lengths, by one model: in a graph, in a stack, in a file."""
    x = layers.Input((None, 3))
    graph = models.Model(x, Dense(2)(LSTM(4, return_sequences=True)(x)))
    stack = models.Sequential([LSTM(4, return_sequences=True, input_shape=(None, 3)), Dense(2)])
    stack.set_weights(graph.get_weights())
    assert graph.output_shape == stack.output_shape == (None, None, 2)
    stack.compile("sgd", "mse")
    for t in (3, 7):
        given = sequences(6, t)
        y = graph.predict(given, verbose=0)
        assert y.shape == (6, t, 2)
        assert np.array_equal(stack.predict(given, verbose=0), y)
        stack.fit(given, np.zeros((6, t, 2)), epochs=1, verbose=0)
        graph.set_weights(stack.get_weights())
    assert graph.predict(sequences(0), verbose=0).shape == (0, 5, 2)
    again = models.Sequential.from_config(stack.get_config())
    assert again.input_shape == (None, None, 3)
    stack.summary()


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (
            lambda: models.Sequential([LSTM(3, return_state=True, input_shape=(4, 2)), Dense(2)]),
            "got 'lstm.*' of sever",
        ),
        (
            lambda: models.Sequential([LSTM(3, input_shape=(None, 2))]).predict(np.ones((4, 5, 3))),
            r"got shape \(4, 5, 3\), wants \(n, any, 2\)",
        ),
        (
            lambda: LSTM(2)(layers.Input((5, None))),
            r"got input shape \(None, 5, None\), wants \(None, steps, features\)",
        ),
        (lambda: Dense(2)(layers.Input((None,))), "None"),
        (lambda: layers.Conv1D(2, 3)(layers.Input((4, None))), r"wants \(None, steps, channels\)"),
    ],
)
def test_shapes_that_are_refused(call, wanted):
    with pytest.raises(ValueError, match=wanted):
        call()
