"""Embedding, masks, pooling over steps, recurrent layers: in stacks, in files, wrong in every way."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, utils
from fastnn.layers import GRU, LSTM, Bidirectional, Dense, Embedding, GlobalAveragePooling1D, Masking, SimpleRNN

CELLS = pytest.mark.parametrize("cell", [SimpleRNN, LSTM, GRU])


def words(n=60, t=8, count=30, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.integers(1, count, (n, t))
    x[rng.random((n, t)) < 0.3] = 0
    return x, (x.sum(axis=1) % 2).astype("int64")


def stack(behind):
    """Layers draw seeds as they are made: the library's is set before."""
    utils.set_random_seed(3)
    return models.Sequential([Embedding(30, 4, mask_zero=True), *behind(), Dense(1, activation="sigmoid")])


def trained(model, backend="auto", **options):
    x, y = words()
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"], backend=backend)
    utils.set_random_seed(4)
    history = model.fit(x, y, epochs=3, batch_size=8, verbose=0, **options)
    return model, history.history["loss"]


@CELLS
def test_what_follows_a_masked_step_does_not_depend_on_it(cell):
    x, _ = words()
    model = stack(lambda: [cell(5)])
    shorter = x[:, :6].copy()
    shorter[:, 0] = 7
    padded = np.concatenate([np.zeros((60, 3), int), shorter, np.zeros((60, 2), int)], axis=1)
    one = model.predict(padded, verbose=0)
    other = models.Sequential([*(type(layer).from_config(layer.get_config()) for layer in model.layers)])
    other.build((None, 6))
    other.set_weights(model.get_weights())
    assert np.array_equal(one, other.predict(shorter, verbose=0))


def test_a_mask_goes_through_layers_that_work_step_by_step_and_no_further():
    x, _ = words()
    mask, vectors = (x != 0).astype("float32"), np.ones((60, 8, 4), "float32")
    passing = [Dense(3), layers.Dropout(0.5), layers.Activation("relu"), layers.ReLU(), layers.Rescaling(2.0)]
    passing += [LSTM(3, return_sequences=True), Bidirectional(GRU(2, return_sequences=True))]
    assert all(layer.compute_mask(vectors, mask) is mask for layer in passing)
    ending = [layers.Flatten(), LSTM(3), Bidirectional(GRU(2)), GlobalAveragePooling1D(), layers.GlobalMaxPooling1D()]
    assert all(layer.compute_mask(vectors, mask) is None for layer in ending)
    embedding = Embedding(30, 4, mask_zero=True)
    embedding.build((None, 8))
    assert np.array_equal(embedding.compute_mask(x), mask)
    assert Embedding(30, 4).compute_mask(x) is None


def test_a_layer_of_ones_own_may_take_a_mask():
    class Counted(layers.Layer):
        takes_mask = True

        def compute_output_shape(self, input_shape):
            return (input_shape[0], 1)

        def forward(self, x, training=False, activate=True, mask=None):
            return mask.sum(axis=1, keepdims=True), None

    x, _ = words()
    model = models.Sequential([Embedding(30, 4, mask_zero=True), Counted()])
    assert np.array_equal(model.predict(x, verbose=0), (x != 0).sum(axis=1, keepdims=True))


@pytest.mark.parametrize(
    "behind",
    [
        lambda: [GlobalAveragePooling1D()],
        lambda: [layers.GlobalMaxPooling1D()],
        lambda: [SimpleRNN(5)],
        lambda: [LSTM(5, return_sequences=True), GRU(4)],
        lambda: [Bidirectional(LSTM(3, return_sequences=True)), GlobalAveragePooling1D()],
    ],
)
def test_training_is_the_plain_loops_and_the_same_by_any_number_of_threads(behind):
    _, naive = trained(stack(behind), backend="naive")
    curves = []
    for threads in (1, 2, 3):
        model, curve = trained(stack(behind), threads=threads)
        curves.append((curve, [w.tobytes() for w in model.get_weights()]))
    assert curves[0] == curves[1] == curves[2]
    np.testing.assert_allclose(curves[0][0], naive, rtol=1e-5)
    assert naive[-1] < naive[0]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adagrad"])
def test_steps_together_are_steps_one_by_one(optimizer):
    """Recorded steps of an epoch, and steps that a callback listens to."""
    x, y = words(n=200)
    weights = []
    for listeners in ([], [fastnn.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: None)]):
        model = stack(lambda: [LSTM(4)])
        model.compile(optimizer, "binary_crossentropy")
        utils.set_random_seed(1)
        model.fit(x, y, epochs=3, batch_size=8, verbose=0, callbacks=listeners)
        weights.append(model.get_weights())
    assert all(np.array_equal(one, other) for one, other in zip(*weights, strict=True))


def test_indices_reach_the_layer_as_they_are():
    """Beyond 2^24, where neighbours are one number in float32."""
    rows = 2**24 + 4
    layer = Embedding(rows, 1, embeddings_initializer="zeros")
    model = models.Sequential([layer])
    model.build((None, 2))
    layer.embeddings.value[-4:, 0] = [1, 2, 3, 4]
    x = np.array([[rows - 3, rows - 4], [rows - 1, rows - 2]])
    wanted = [[[2], [1]], [[4], [3]]]
    assert model.predict(x, verbose=0).tolist() == wanted
    assert model.predict(x.astype("float64"), verbose=0).tolist() == wanted
    assert layer(x).tolist() == wanted


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "float32", "bool"])
def test_indices_of_any_dtype(dtype):
    x = (words()[0] % 2).astype(dtype)
    model = stack(lambda: [LSTM(3)])
    assert np.array_equal(model.predict(x, verbose=0), model.predict(x.astype("int64"), verbose=0))


def test_weights_of_samples_are_not_integers_beside_indices():
    x, y = words()
    weight = np.linspace(0.1, 1.9, 60)
    curves = []
    for backend in ("auto", "naive"):
        model = stack(lambda: [LSTM(3)])
        model.compile("sgd", "binary_crossentropy", backend=backend)
        curves.append(model.fit(x, y, sample_weight=weight, epochs=3, batch_size=4, shuffle=False, verbose=0))
    np.testing.assert_allclose(*(curve.history["loss"] for curve in curves), rtol=1e-5)
    assert curves[0].history["loss"][0] == pytest.approx(
        model.evaluate(x, y, sample_weight=weight, verbose=0), rel=0.05
    )


@pytest.mark.parametrize(
    "make",
    [
        lambda: SimpleRNN(3, activation="relu", return_sequences=True, kernel_regularizer="l2"),
        lambda: LSTM(3, unit_forget_bias=False, use_bias=False, recurrent_regularizer="l1", unroll=True),
        lambda: GRU(3, go_backwards=True, recurrent_constraint="unit_norm", seed=4),
        lambda: Bidirectional(LSTM(3, return_sequences=True), merge_mode="sum"),
        lambda: Bidirectional(GRU(2), backward_layer=SimpleRNN(2, go_backwards=True)),
        lambda: layers.GlobalMaxPooling1D(keepdims=True),
        lambda: LSTM(3, activation="relu", recurrent_activation="hard_sigmoid", dropout=0.2, recurrent_dropout=0.1),
        lambda: GRU(2, reset_after=False, zero_output_for_mask=True, return_sequences=True),
        lambda: layers.RNN([layers.LSTMCell(3), layers.GRUCell(2, dropout=0.5, seed=3)]),
        lambda: layers.TimeDistributed(Dense(2, activation="relu")),
        lambda: Bidirectional(layers.RNN(layers.SimpleRNNCell(2, "elu"), return_sequences=True), merge_mode="ave"),
    ],
)
def test_files_and_configs_hold_all(make, tmp_path):
    model = models.Sequential(
        [Embedding(30, 4, mask_zero=True, embeddings_regularizer="l2"), make(), layers.Flatten(), Dense(1)]
    )
    x, y = words()
    model.compile("rmsprop", "mse")
    model.fit(x, y, epochs=1, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = models.load_model(tmp_path / "model.safetensors")
    assert loaded.get_config() == model.get_config()
    assert np.array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))
    again = models.Sequential.from_config(model.get_config())
    assert [w.shape for w in again.get_weights()] == [w.shape for w in model.get_weights()]
    for one in (model, loaded):
        utils.set_random_seed(5)
        one.fit(x, y, epochs=1, verbose=0)
    assert all(np.array_equal(a, b) for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True))


def test_penalties_and_constraints_reach_their_weights():
    layer = LSTM(3, recurrent_regularizer="l2", bias_constraint="non_neg", recurrent_constraint="unit_norm")
    layer.build((None, 4, 2))
    kernel, recurrent, bias = layer.parameters
    assert (kernel.regularizer, bias.regularizer, kernel.constraint) == (None, None, None)
    assert type(recurrent.regularizer).__name__ == "L2"
    assert (type(recurrent.constraint).__name__, type(bias.constraint).__name__) == ("UnitNorm", "NonNeg")


def test_bidirectional_is_both_directions():
    x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype("float32")
    both = Bidirectional(LSTM(2, return_sequences=True))
    y = both(x)
    assert y.shape == (4, 5, 4)
    first, second = LSTM(2, return_sequences=True), LSTM(2, return_sequences=True, go_backwards=True)
    for layer, weights in ((first, both.get_weights()[:3]), (second, both.get_weights()[3:])):
        layer.build((None, 5, 3))
        layer.set_weights(weights)
    assert np.array_equal(y, np.concatenate([first(x), second(x)[:, ::-1]], axis=-1))
    assert next(p.path for p in both.parameters).startswith(f"{both.name}/forward_lstm")


def test_first_vectors_may_be_given():
    table = np.arange(12.0).reshape(6, 2)
    layer = Embedding(6, 2, weights=[table])
    assert layer(np.array([[5, 0]])).tolist() == [[[10, 11], [0, 1]]]
    with pytest.raises(ValueError, match=r"embeddings: got an array of shape \(2, 6\), wants \(6, 2\)"):
        Embedding(6, 2, weights=[table.T.reshape(2, 6)]).build((None, 3))


def test_shapes_of_stacks():
    assert Embedding(9, 4, input_length=7).sample_shape == (7,)
    assert models.Sequential([Embedding(9, 4, input_length=7)]).output_shape == (None, 7, 4)
    assert models.Sequential([Masking(input_shape=(5, 3)), GRU(2)]).output_shape == (None, 2)
    assert Embedding(9, 4)(np.zeros((2, 3, 5), int)).shape == (2, 3, 5, 4)
    layer = LSTM(4)
    layer.build((None, 10, 3))
    assert layer.flops == 2 * 10 * 16 * (3 + 4)
    assert layer.count_params() == 16 * (3 + 4 + 1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Embedding(0, 4), "input_dim: got 0, wants an integer of at least 1"),
        (lambda: Embedding(4, 2.0), "output_dim: got float"),
        (lambda: Embedding(4, 2, mask_zero=1), "mask_zero: got int 1, wants True or False"),
        (lambda: Embedding(4, 2, "uniformly"), "embeddings_initializer: got 'uniformly'"),
        (lambda: Embedding(4, 2, input_length=0), "input_length: got 0"),
        (lambda: LSTM(0), "units: got 0"),
        (lambda: LSTM(3, activation="rely"), "activation: got 'rely'"),
        (lambda: GRU(3, recurrent_activation=3), "recurrent_activation: got int 3"),
        (lambda: GRU(3, reset_after=0), "reset_after: got int 0, wants True or False"),
        (lambda: LSTM(3, dropout=1.0), r"dropout: got 1\.0, wants a finite number"),
        (lambda: LSTM(3, recurrent_dropout=1.5), r"recurrent_dropout: got 1\.5, wants a finite number"),
        (lambda: LSTM(3, return_state=1), "return_state: got int 1, wants True or False"),
        (lambda: LSTM(3, steps=2), "steps: got an argument that LSTM does not have, wants one of units, act"),
        (lambda: LSTM(3).reset_state(), "got stateful=False, wants a layer that keeps its states"),
        (lambda: LSTM(3)(np.ones((2, 3, 4)), initial_state=[np.ones((2, 3))]), "got initial states of shapes"),
        (lambda: LSTM(3)(np.ones((2, 3, 4)), mask=np.ones((2, 4))), r"mask: got shape \(2, 4\), wants \(2, 3\)"),
        (lambda: LSTM(3)(layers.Input((3, 4)), initial_state=np.ones((2, 3))), "symbolic tensors and others"),
        (lambda: layers.RNN(Dense(3)), "cell: got Dense .*, wants a cell"),
        (lambda: layers.RNN([]), r"cells: got list \[\], wants a list of cells"),
        (lambda: layers.StackedRNNCells([layers.GRUCell(3), 4]), r"cells\[1\]: got int 4, wants a cell"),
        (lambda: layers.GRUCell(3).kernel, "the cell is not built"),
        (lambda: layers.TimeDistributed(3), "layer: got int 3, wants a layer"),
        (lambda: layers.TimeDistributed(Dense(3)).build((None, 4)), r"wants \(None, steps, ..., features\)"),
        (lambda: LSTM(3, return_sequences="all"), "return_sequences: got str 'all', wants True or False"),
        (lambda: LSTM(3, kernel_initializer="glorot"), "kernel_initializer: got 'glorot'"),
        (lambda: LSTM(3).build((None, 5)), r"lstm.*: got input shape \(None, 5\), wants \(None, steps, features\)"),
        (lambda: GlobalAveragePooling1D().build((None, 5)), r"got input shape \(None, 5\), wants \(None, steps, feat"),
        (
            lambda: GlobalAveragePooling1D("channels_first"),
            "data_format: got 'channels_first', wants one of 'channels_l",
        ),
        (lambda: Masking("0"), "mask_value: got str '0'"),
        (lambda: Masking().build((None, 5)), r"got input shape \(None, 5\), wants \(None, steps, ..., features\)"),
        (lambda: Bidirectional(Dense(3)), "layer: got Dense .*, wants a recurrent layer"),
        (lambda: Bidirectional(LSTM(3), merge_mode="max"), "merge_mode: got 'max', wants one of 'concat'"),
        (
            lambda: Bidirectional(LSTM(3), "sum", backward_layer=LSTM(4, go_backwards=True)),
            "backward_layer: got outputs 4 wide, wants 3 to merge by sum",
        ),
        (lambda: Bidirectional(LSTM(3), backward_layer=LSTM(3)), "backward_layer: got go_backwards False, wants the o"),
        (lambda: Embedding(4, 2, name="first")(np.array([[1, 4]])), r"x: got the index 4, wants integers in \[0, 4\)"),
        (
            lambda: models.Sequential([Dense(4), Embedding(4, 2)]).predict(np.ones((3, 2))),
            "embedding.* has to be the f",
        ),
    ],
)
def test_what_cannot_be(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            np.full((4, 3), 30),
            r"x: got the index 30, wants integers in \[0, 30\), the input_dim of the layer 'embedding",
        ),
        (np.full((4, 3), -1), "x: got the index -1"),
        (np.full((4, 3), 0.5), r"x: got 0\.5, wants integers"),
        (np.full((4, 3), np.nan), "x: got nan, wants integers"),
        (np.full((4, 3), "a"), "x: got ndarray .*, wants an array of numbers"),
        ([[1, 2], [3]], "x: got rows of different lengths"),
        ({"a": 1}, "x: got dict .*, wants an array of integers, as the layer 'embedding.*' does"),
    ],
    ids=str,
)
@pytest.mark.parametrize("use", ["predict", "fit"])
def test_what_are_no_indices(x, message, use):
    model = stack(lambda: [LSTM(3)])
    model.compile("sgd", "binary_crossentropy")
    with pytest.raises((TypeError, ValueError), match=message):
        model.predict(x) if use == "predict" else model.fit(x, np.zeros(len(x)), verbose=0)
