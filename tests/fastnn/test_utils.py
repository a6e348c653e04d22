"""set_random_seed, to_categorical, pad_sequences, windows of series, normalize."""

from __future__ import annotations

import random

import numpy as np
import pytest

from fastnn import layers, models, utils


def test_to_categorical():
    rows = utils.to_categorical([0, 2, 1])
    assert rows.dtype == np.float64
    assert (rows == [[1, 0, 0], [0, 0, 1], [0, 1, 0]]).all()
    assert utils.to_categorical([0, 1], 5).shape == (2, 5)


@pytest.mark.parametrize(
    ("shape", "wanted"), [((4,), (4, 3)), ((4, 1), (4, 3)), ((2, 2), (2, 2, 3)), ((1,), (1, 3)), ((0,), (0, 3))]
)
def test_to_categorical_shapes(shape, wanted):
    assert utils.to_categorical(np.full(shape, 2), 3).shape == wanted


@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "bool"])
def test_to_categorical_dtypes(dtype):
    assert (utils.to_categorical(np.array([0, 1, 1], dtype)) == [[1, 0], [0, 1], [0, 1]]).all()


def test_to_categorical_of_nothing_needs_the_number_of_classes():
    with pytest.raises(ValueError, match="num_classes: got None for an empty x"):
        utils.to_categorical([])


def test_random_seed_repeats_weights_order_and_global_generators():
    x = np.random.default_rng(0).normal(size=(40, 3))
    runs = []
    for _ in range(2):
        utils.set_random_seed(11)
        model = models.Sequential([layers.Dense(4, "tanh"), layers.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(x, x[:, 0], batch_size=7, epochs=3, verbose=0).history["loss"]
        runs.append((history, random.random(), np.random.random()))  # noqa: NPY002
    assert runs[0] == runs[1]


def test_seeds_differ():
    losses = []
    for seed in (1, 2):
        utils.set_random_seed(seed)
        layer = layers.Dense(3)
        layer.build((None, 3))
        losses.append(layer.kernel.numpy())
    assert (losses[0] != losses[1]).any()


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ({}, [[0, 0, 1], [0, 2, 3], [4, 5, 6]]),
        ({"value": -1}, [[-1, -1, 1], [-1, 2, 3], [4, 5, 6]]),
        ({"padding": "post"}, [[1, 0, 0], [2, 3, 0], [4, 5, 6]]),
        ({"maxlen": 2}, [[0, 1], [2, 3], [5, 6]]),
        ({"maxlen": 2, "truncating": "post"}, [[0, 1], [2, 3], [4, 5]]),
        ({"maxlen": 5, "padding": "post"}, [[1, 0, 0, 0, 0], [2, 3, 0, 0, 0], [4, 5, 6, 0, 0]]),
        ({"maxlen": 0}, [[], [], []]),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_pad_sequences(arguments, wanted, kind):
    table = utils.pad_sequences([kind(row) for row in ([1], [2, 3], [4, 5, 6])], **arguments)
    assert table.dtype == np.int32
    np.testing.assert_array_equal(table, np.array(wanted, np.int32).reshape(table.shape), strict=True)


def test_pad_sequences_of_nothing_and_of_empty_ones():
    assert utils.pad_sequences([]).shape == (0, 0)
    assert utils.pad_sequences([[], []], maxlen=3).tolist() == [[0, 0, 0], [0, 0, 0]]
    assert utils.pad_sequences([[], [7]]).tolist() == [[0], [7]]


def test_pad_sequences_of_arrays_floats_and_words():
    rows = utils.pad_sequences([np.ones((1, 2)), np.ones((3, 2))], dtype="float64", value=0.5, padding="post")
    assert rows.shape == (2, 3, 2)
    assert rows.sum() == 2 * 4 + 0.5 * 4
    assert utils.pad_sequences([[1.9]]).tolist() == [[1]]  # as Keras converts
    words = utils.pad_sequences([["a"], ["b", "c"]], dtype=object, value="")
    assert words.tolist() == [["", "a"], ["b", "c"]]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"sequences": "abc"}, TypeError, "sequences: got str 'abc', wants a list of sequences"),
        ({"sequences": 3}, TypeError, "sequences: got int 3"),
        ({"sequences": [[1], 2]}, TypeError, r"sequences\[1\]: got int 2, wants a list or an array"),
        ({"sequences": [[1], "ab"]}, TypeError, r"sequences\[1\]: got str 'ab'"),
        (
            {"sequences": [np.ones((1, 2)), np.ones((1, 3))]},
            ValueError,
            r"sequences\[1\]: got entries of shape \(3,\), wants \(2,\)",
        ),
        ({"padding": "front"}, ValueError, "padding: got 'front', wants one of 'pre', 'post'"),
        ({"truncating": 1}, TypeError, "truncating: got int 1"),
        ({"maxlen": -1}, ValueError, "maxlen: got -1"),
        ({"maxlen": 2.0}, TypeError, "maxlen: got float"),
        ({"dtype": "whole"}, TypeError, "dtype: got str 'whole', wants a dtype"),
        ({"value": "x"}, ValueError, "value: got 'x', wants a number for the dtype int32"),
    ],
    ids=str,
)
def test_pad_sequences_that_cannot_be(arguments, error, message):
    with pytest.raises(error, match=message):
        utils.pad_sequences(**{"sequences": [[1]], **arguments})


SERIES = np.arange(40.0).reshape(20, 2)


def test_windows_of_a_series():
    made = utils.timeseries_dataset_from_array(SERIES, SERIES[5:, 0], 3, sampling_rate=2, batch_size=4)
    assert len(made) == 4
    x, y = made[0]
    assert x.shape == (4, 3, 2)
    assert np.array_equal(x[1], SERIES[[1, 3, 5]])
    assert np.array_equal(y, SERIES[5:9, 0])
    assert made[-1][0].shape[0] == len(SERIES[5:]) - 12
    assert sum(len(labels) for _, labels in made) == 15
    alone = utils.timeseries_dataset_from_array(SERIES, None, 4, sequence_stride=4, start_index=2, end_index=14)
    assert np.array_equal(alone[0], SERIES[2:14].reshape(3, 4, 2))
    with pytest.raises(IndexError, match="index: got 1, wants one of 1 batches"):
        alone[1]


def test_windows_in_another_order():
    orders = [
        utils.timeseries_dataset_from_array(SERIES, None, 1, shuffle=True, seed=seed, batch_size=20)[0]
        for seed in (3, 3, 4)
    ]
    assert np.array_equal(orders[0], orders[1])
    assert not np.array_equal(orders[0], orders[2])
    assert np.array_equal(np.sort(orders[0][:, 0, 0]), SERIES[:, 0])


def test_windows_train_a_model():
    windows = utils.timeseries_dataset_from_array(SERIES / 40, SERIES[3:, :1] / 40, 3, batch_size=5)
    model = models.Sequential([layers.Input((3, 2)), layers.Flatten(), layers.Dense(1)])
    model.compile("adam", "mse")
    history = model.fit(windows, epochs=2, validation_data=windows, verbose=0).history
    assert history["loss"][1] < history["loss"][0]
    assert "val_loss" in history


def test_normalize():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    assert utils.normalize(x).tolist() == [[0.6, 0.8], [0, 0]]
    assert utils.normalize(x, axis=0, order=1).tolist() == [[1, 1], [0, 0]]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sequence_length": 30}, "sequence_length: got 30 rows, 1 apart, of 20, wants a window that fits"),
        ({"sequence_length": 0}, "sequence_length: got 0"),
        ({"sequence_stride": 0}, "sequence_stride: got 0"),
        ({"sampling_rate": 20}, "sampling_rate: got 20"),
        ({"start_index": 20}, "start_index: got 20"),
        ({"start_index": 5, "end_index": 5}, "end_index: got 5"),
        ({"batch_size": 0}, "batch_size: got 0"),
    ],
)
def test_windows_that_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        utils.timeseries_dataset_from_array(SERIES, None, **{"sequence_length": 3, **given})
