"""set_random_seed and to_categorical."""

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
