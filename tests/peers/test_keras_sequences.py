"""Layers for sequences against Keras's with equal weights: outputs to 1e-5, masks through stacks, weights in order."""

from __future__ import annotations

import os

import numpy as np
import pytest

import fastnn
from fastnn import layers, models, utils

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")

WORDS = 40


def words(rng, n=7, t=9):
    """Indices, some sequences padded with zeros before, behind, or all through."""
    x = rng.integers(1, WORDS, (n, t))
    x[1, :3] = x[2, 5:] = x[3] = 0
    x[4, [0, 2, 8]] = 0
    return x


def numbers(rng, n=7, t=9, f=5):
    x = rng.standard_normal((n, t, f)).astype("float32")
    x[1, :3] = x[2, 5:] = x[3] = 0
    return x


def embedded(kit, **options):
    return [kit.Embedding(WORDS, 5, **options)]


STACKS = {
    "embedding": (words, embedded),
    "mean": (words, lambda kit: [*embedded(kit), kit.GlobalAveragePooling1D()]),
    "mean, kept": (words, lambda kit: [*embedded(kit), kit.GlobalAveragePooling1D(keepdims=True)]),
    "max": (words, lambda kit: [*embedded(kit, mask_zero=True), kit.GlobalMaxPooling1D()]),
    "masking": (numbers, lambda kit: [kit.Masking(), kit.LSTM(6)]),
    "masked value": (numbers, lambda kit: [kit.Masking(mask_value=0.0), kit.GRU(6, return_sequences=True)]),
    "dense between": (
        words,
        lambda kit: [*embedded(kit, mask_zero=True), kit.Dense(4, activation="relu"), kit.SimpleRNN(3)],
    ),
    "dropout between": (words, lambda kit: [*embedded(kit, mask_zero=True), kit.Dropout(0.5), kit.GRU(3)]),
}
for _cell in ("SimpleRNN", "LSTM", "GRU"):
    for _masked in (False, True):
        for _name, _options in {
            "last": {},
            "all": {"return_sequences": True},
            "backwards": {"go_backwards": True},
            "all backwards": {"go_backwards": True, "return_sequences": True},
            "no bias": {"use_bias": False},
        }.items():
            STACKS[f"{_cell}, {_name}{', masked' * _masked}"] = (
                words,
                lambda kit, cell=_cell, masked=_masked, options=_options: [
                    *embedded(kit, mask_zero=masked),
                    getattr(kit, cell)(6, **options),
                ],
            )
    for _name, _options in {
        "relu": {"activation": "relu"},
        "hard": {
            "activation": "softsign",
            **({} if _cell == "SimpleRNN" else {"recurrent_activation": "hard_sigmoid"}),
        },
        "zeros": {"return_sequences": True, "zero_output_for_mask": True},
        "zeros backwards": {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": True},
        **(
            {"reset before": {"reset_after": False}, "no bias before": {"reset_after": False, "use_bias": False}}
            if _cell == "GRU"
            else {}
        ),
    }.items():
        STACKS[f"{_cell}, {_name}"] = (
            words,
            lambda kit, cell=_cell, options=_options: [
                *embedded(kit, mask_zero=True),
                getattr(kit, cell)(6, **options),
            ],
        )
    STACKS[f"cells of {_cell}"] = (
        words,
        lambda kit, cell=_cell: [
            *embedded(kit, mask_zero=True),
            kit.RNN([getattr(kit, f"{cell}Cell")(4), getattr(kit, f"{cell}Cell")(3)], return_sequences=True),
            kit.TimeDistributed(kit.Dense(2, activation="tanh")),
        ],
    )
    for _merge in ("concat", "sum", "ave", "mul"):
        for _sequences in (False, True):
            STACKS[f"both ways {_cell}, {_merge}, {_sequences}"] = (
                words,
                lambda kit, cell=_cell, merge=_merge, sequences=_sequences: [
                    *embedded(kit, mask_zero=True),
                    kit.Bidirectional(getattr(kit, cell)(4, return_sequences=sequences), merge_mode=merge),
                    *([kit.LSTM(3)] if sequences else []),
                ],
            )


@pytest.mark.parametrize("name", STACKS)
def test_equal_weights_give_equal_outputs(name):
    draw, make = STACKS[name]
    utils.set_random_seed(7)
    x = draw(np.random.default_rng(len(name)))
    ours, theirs = models.Sequential(make(layers)), keras.Sequential(make(keras.layers))
    ours.build(x.shape)
    theirs.build(x.shape)
    assert [w.shape for w in ours.get_weights()] == [w.shape for w in theirs.get_weights()]
    weights = [0.5 * np.random.default_rng(5).standard_normal(w.shape).astype("float32") for w in ours.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    expected = keras.ops.convert_to_numpy(theirs(x))
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=0, atol=1e-5)
    assert ours.output_shape[1:] == theirs.output_shape[1:]


def test_the_mean_over_steps_that_count():
    """Where none does Keras's is NaN, and fastnn's 0."""
    x = words(np.random.default_rng(0))
    weights = [np.random.default_rng(5).standard_normal((WORDS, 5)).astype("float32")]
    ours = models.Sequential([layers.Embedding(WORDS, 5, mask_zero=True), layers.GlobalAveragePooling1D()])
    theirs = keras.Sequential([keras.layers.Embedding(WORDS, 5, mask_zero=True), keras.layers.GlobalAveragePooling1D()])
    for model in (ours, theirs):
        model.build(x.shape)
        model.set_weights(weights)
    expected = np.nan_to_num(keras.ops.convert_to_numpy(theirs(x)))
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_training_follows_the_same_losses(cell):
    """Twelve steps of SGD on masked words, from equal weights: equal loss curves."""
    rng = np.random.default_rng(3)
    x, y = words(rng, n=48), rng.integers(0, 2, 48)
    utils.set_random_seed(1)

    def made(kit, model):
        return model(
            [
                kit.Embedding(WORDS, 5, mask_zero=True),
                getattr(kit, cell)(6, return_sequences=True),
                getattr(kit, cell)(4),
                kit.Dense(1, activation="sigmoid"),
            ]
        )

    ours, theirs = made(layers, models.Sequential), made(keras.layers, keras.Sequential)
    for model in (ours, theirs):
        model.build(x.shape)
        model.compile(optimizer="sgd", loss="binary_crossentropy")
    theirs.set_weights(ours.get_weights())
    theirs.optimizer.learning_rate = 0.5
    ours.optimizer.learning_rate = 0.5
    curves = [model.fit(x, y, epochs=4, batch_size=16, shuffle=False, verbose=0) for model in (ours, theirs)]
    np.testing.assert_allclose(*(curve.history["loss"] for curve in curves), rtol=1e-5)
    assert curves[0].history["loss"][-1] < curves[0].history["loss"][0]


def graph(kit, model, cell, masked):
    """An encoder whose states a decoder begins with; outputs of both directions apart, and all last states.

    Keras 3 loses the mask of a layer that is called with first states, unless it is told.
    """
    inputs, others = kit.Input((None,)), kit.Input((None,))
    vectors = kit.Embedding(WORDS, 5, mask_zero=masked)
    _, *states = getattr(kit, cell)(6, return_state=True)(vectors(inputs))
    told = {"initial_state": states}
    told |= {"mask": vectors.compute_mask(others)} if masked and kit is keras.layers else {}
    y, *last = getattr(kit, cell)(6, return_sequences=True, return_state=True)(vectors(others), **told)
    a, b = kit.Bidirectional(getattr(kit, cell)(3), merge_mode=None)(vectors(inputs))
    both, *ends = kit.Bidirectional(getattr(kit, cell)(3, return_state=True))(vectors(others))
    return model([inputs, others], [y, *last, a, b, both, *ends, kit.TimeDistributed(kit.Dense(2))(y)])


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_states_in_and_out(cell, masked):
    rng = np.random.default_rng(2)
    x, z = words(rng), rng.integers(1, WORDS, (7, 6))
    z[2, 4:] = z[5, 1:] = 0
    utils.set_random_seed(3)
    ours, theirs = graph(layers, models.Model, cell, masked), graph(keras.layers, keras.Model, cell, masked)
    weights = [0.5 * rng.standard_normal(w.shape).astype("float32") for w in ours.get_weights()]
    assert [w.shape for w in weights] == [w.shape for w in theirs.get_weights()]
    ours.set_weights(weights)
    theirs.set_weights(weights)
    for y, wanted in zip(ours.predict([x, z], verbose=0), theirs([x, z]), strict=True):
        np.testing.assert_allclose(y, keras.ops.convert_to_numpy(wanted), rtol=0, atol=1e-5)
    assert ours.output_shape == [tuple(shape) for shape in theirs.output_shape]


@pytest.mark.parametrize("cell", ["SimpleRNN", "LSTM", "GRU"])
def test_stateful_layers_go_on_alike(cell):
    x = numbers(np.random.default_rng(1))
    ours = models.Sequential([getattr(layers, cell)(4, stateful=True, input_shape=(9, 5))])
    theirs = keras.Sequential([keras.Input(batch_shape=(7, 9, 5)), getattr(keras.layers, cell)(4, stateful=True)])
    theirs.set_weights(ours.get_weights())
    for reset in (False, False, True):
        if reset:
            ours.layers[0].reset_states()
            theirs.layers[0].reset_states()
        wanted = keras.ops.convert_to_numpy(theirs(x))
        np.testing.assert_allclose(ours.predict(x, verbose=0), wanted, rtol=0, atol=1e-5)


def test_files_of_keras_are_read(tmp_path):
    """Into cells, both directions and steps, by the order in which these keep their weights."""
    pytest.importorskip("h5py")

    def made(kit, model):
        return model(
            [
                kit.Input((9, 5)),
                kit.Bidirectional(kit.LSTM(4, return_sequences=True)),
                kit.RNN([kit.GRUCell(3), kit.SimpleRNNCell(2)], return_sequences=True),
                kit.TimeDistributed(kit.Dense(2)),
                kit.GRU(3, reset_after=False),
            ]
        )

    ours, theirs = made(layers, models.Sequential), made(keras.layers, keras.Sequential)
    theirs.save_weights(tmp_path / "model.weights.h5")
    ours.load_weights(tmp_path / "model.weights.h5")
    x = numbers(np.random.default_rng(1))
    np.testing.assert_allclose(ours.predict(x, verbose=0), keras.ops.convert_to_numpy(theirs(x)), rtol=0, atol=1e-5)


def test_initial_weights_are_of_keras_kind():
    utils.set_random_seed(0)
    layer = layers.LSTM(8)
    layer.build((None, 5, 3))
    _, recurrent, bias = layer.get_weights()
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(8), atol=1e-5)
    assert bias.tolist() == [0] * 8 + [1] * 8 + [0] * 16
    theirs = keras.layers.LSTM(8)
    theirs.build((None, 5, 3))
    assert theirs.get_weights()[2].tolist() == bias.tolist()
    vectors = layers.Embedding(50, 20)
    vectors.build((None, 4))
    assert abs(vectors.get_weights()[0]).max() <= 0.05


TEXTS = ["The cat sat, on the mat.", "The DOG sat!", "a cat; a dog", "", "it's the dog-house (again)"]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"max_tokens": 6},
        {"output_sequence_length": 3, "ngrams": 2},
        {"output_mode": "multi_hot"},
        {"output_mode": "multi_hot", "ngrams": (1, 3), "max_tokens": 9},
        {"output_mode": "count", "max_tokens": 30, "pad_to_max_tokens": True},
        {"output_mode": "tf_idf"},
        {"output_mode": "tf_idf", "max_tokens": 5, "standardize": "lower"},
        {"split": "character", "standardize": "strip_punctuation"},
    ],
    ids=str,
)
def test_texts_become_the_same_numbers(options):
    pytest.importorskip("tensorflow", reason="Keras's texts are TensorFlow's")
    ours, theirs = layers.TextVectorization(**options), keras.layers.TextVectorization(**options)
    for layer in (ours, theirs):
        layer.adapt(TEXTS)
    assert ours.get_vocabulary() == [str(word) for word in theirs.get_vocabulary()]
    given = [*TEXTS[::-1], "an unknown zebra sat"]
    wanted = keras.ops.convert_to_numpy(theirs(given))
    np.testing.assert_allclose(ours(given), wanted, rtol=1e-6)


ENTRIES = {
    "StringLookup": [["b", "a", "b"], ["c", "c", "d"], ["a", "b", "e"], ["b", "b", "b"]],
    "IntegerLookup": [[7, 40, 7], [-3, -3, 5], [40, 7, 11], [7, 7, 7]],
}


@pytest.mark.parametrize("name", ENTRIES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"num_oov_indices": 0},
        *({"output_mode": mode} for mode in ("one_hot", "multi_hot", "count", "tf_idf")),
        {"output_mode": "tf_idf", "num_oov_indices": 0},
        *(
            {"output_mode": mode, "max_tokens": 4, "pad_to_max_tokens": pad}
            for mode in ("one_hot", "multi_hot", "count", "tf_idf")
            for pad in (False, True)
        ),
        {"output_mode": "tf_idf", "max_tokens": 9, "pad_to_max_tokens": True},
    ],
    ids=str,
)
def test_lookups_give_the_same_rows(options, name):
    pytest.importorskip("tensorflow", reason="Keras's lookups are TensorFlow's")
    data = np.array(ENTRIES[name])
    ours, theirs = (getattr(library, name)(**options) for library in (layers, keras.layers))
    for layer in (ours, theirs):
        layer.adapt(data)
    assert ours.get_vocabulary() == [*theirs.get_vocabulary()]
    known = options.get("num_oov_indices") == 0
    given = data if known else np.array([["b", "zz", "c"], ["a", "a", "q"]] if data.dtype.kind == "U" else [[7, 1, -3]])
    single = options.get("output_mode") == "one_hot"
    for batch in (given[:, :1], given[0]) if single else (given, given[0]):
        np.testing.assert_allclose(ours(batch), keras.ops.convert_to_numpy(theirs(batch)), rtol=1e-6)
    entries = data[0, :2].tolist()
    weights = {"idf_weights": [0.5, 2.0]} if options.get("output_mode") == "tf_idf" else {}
    told = {key: value for key, value in options.items() if key not in ("max_tokens", "pad_to_max_tokens")}
    ours, theirs = (getattr(library, name)(vocabulary=entries, **told, **weights) for library in (layers, keras.layers))
    batch = data[:1, 1:2] if single else data[:1, :2]
    np.testing.assert_allclose(ours(batch), keras.ops.convert_to_numpy(theirs(batch)), rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_masks_of_outputs_weigh_losses_and_metrics(reduction, weighted):
    """Equal weights, two epochs of training: equal histories."""
    rng = np.random.default_rng(4)
    x = np.array([[1, 2, 0, 0], [3, 1, 2, 0], [2, 2, 2, 2], [4, 0, 0, 0]])
    y, weight = rng.random((4, 4, 2)).astype("float32"), rng.random((4, 4)) if weighted else None
    found = []
    for library in (fastnn, keras):
        words = library.Input((4,))
        h = library.layers.Embedding(5, 3, mask_zero=True)(words)
        h = library.layers.LSTM(3, return_sequences=True)(h)
        model = library.Model(words, library.layers.Dense(2)(h))
        drawn = np.random.default_rng(1)
        model.set_weights([drawn.random(w.shape).astype("float32") for w in model.get_weights()])
        loss = library.losses.MeanSquaredError(reduction=reduction)
        model.compile(library.optimizers.SGD(0.1), loss, metrics=["mae"], weighted_metrics=["mse"])
        found.append(model.fit(x, y, sample_weight=weight, epochs=2, batch_size=4, shuffle=False, verbose=0).history)
    for name in ("loss", "mae", "mse"):
        np.testing.assert_allclose(found[0][name], found[1][name], rtol=1e-5)
