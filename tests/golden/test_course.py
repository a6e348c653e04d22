"""What the chapters of a course do, on made data: augmentation, a frozen base and its tuning, residual blocks."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, optimizers, utils

RNG = np.random.default_rng(3)
LABELS = RNG.integers(0, 2, 96)
# Class 1 is brighter above, class 0 below.
IMAGES = RNG.standard_normal((96, 8, 8, 3)).astype("float32") * 0.3
IMAGES[LABELS == 1, :4] += 1.0
IMAGES[LABELS == 0, 4:] += 1.0


def base():
    return models.Sequential(
        [
            layers.Input((8, 8, 3)),
            layers.Conv2D(8, 3, activation="relu", name="features"),
            layers.MaxPooling2D(2, name="pooled"),
        ],
        name="base",
    )


def compiled(model, rate=0.01):
    model.compile(optimizers.Adam(rate), "binary_crossentropy", metrics=["accuracy"])
    return model


def test_a_frozen_base_is_extended_and_then_tuned():
    utils.set_random_seed(1)
    inner = base()
    inner.trainable = False
    inputs = layers.Input((8, 8, 3))
    x = layers.RandomFlip("horizontal")(inputs)
    x = layers.RandomRotation(0.02)(x)
    x = layers.Flatten()(inner(x))
    model = compiled(models.Model(inputs, layers.Dense(1, "sigmoid")(x)))
    before = inner.get_weights()
    history = model.fit(IMAGES, LABELS, epochs=8, batch_size=16, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert all(map(np.array_equal, inner.get_weights(), before))
    inner.trainable = True
    compiled(model, 1e-4).fit(IMAGES, LABELS, epochs=1, verbose=0)
    assert not np.array_equal(inner.get_weights()[0], before[0])
    assert model.evaluate(IMAGES, LABELS, verbose=0)[1] > 0.9


def test_features_of_a_layer_within():
    utils.set_random_seed(2)
    model = base()
    features = models.Model(model.inputs, model.get_layer("features").output)
    assert features.predict(IMAGES).shape == (96, 6, 6, 8)
    assert model.predict(IMAGES) == pytest.approx(
        features.predict(IMAGES).reshape(96, 3, 2, 3, 2, 8).max(axis=(2, 4)), abs=1e-6
    )


def test_residual_blocks_with_batch_normalization():
    utils.set_random_seed(3)
    inputs = layers.Input((8, 8, 3))
    x = layers.Rescaling(0.5)(inputs)
    for filters in (4, 8):
        residual = layers.Conv2D(filters, 1, strides=2, use_bias=False)(x)
        x = layers.Activation("relu")(layers.BatchNormalization()(x))
        x = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.add([layers.MaxPooling2D(2, padding="same")(x), residual])
    outputs = layers.Dense(1, "sigmoid")(layers.Flatten()(x))
    model = compiled(models.Model(inputs, outputs))
    history = model.fit(IMAGES, LABELS, epochs=6, batch_size=16, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert history["loss"][-1] < history["loss"][0]


def test_summaries_of_models_within():
    inner = base()
    inner.trainable = False
    lines = []
    models.Sequential([layers.Input((8, 8, 3)), inner]).summary(
        print_fn=lines.append, expand_nested=True, show_trainable=True
    )
    assert "base (Sequential, frozen)" in lines[0]
    assert "  features (Conv2D, frozen)  (None, 6, 6, 8)" in lines[0]
