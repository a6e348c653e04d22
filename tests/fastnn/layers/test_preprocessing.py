"""Layers that prepare data: images moved at random, numbers as categories."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, ops, utils

RNG = np.random.default_rng(31)
X = RNG.standard_normal((6, 5, 4, 2)).astype("float32")
RANDOM = {
    "flip": layers.RandomFlip,
    "rotation": lambda **options: layers.RandomRotation(0.2, **options),
    "zoom": lambda **options: layers.RandomZoom(0.3, (-0.2, 0.1), **options),
    "translation": lambda **options: layers.RandomTranslation(0.3, (0.0, 0.2), fill_mode="wrap", **options),
}


@pytest.mark.parametrize("name", RANDOM)
def test_only_training_moves_images(name):
    utils.set_random_seed(1)
    layer = RANDOM[name]()
    assert np.array_equal(layer(X), X)
    one, other = layer(X, training=True), layer(X, training=True)
    assert one.shape == X.shape
    assert one.dtype == np.float32
    assert not np.array_equal(one, other)
    assert np.isfinite(one).all()


@pytest.mark.parametrize("name", RANDOM)
def test_seeds_and_configs(name):
    one, other = RANDOM[name](seed=5), RANDOM[name](seed=5)
    assert np.array_equal(one(X, training=True), other(X, training=True))
    again = layers.deserialize(layers.serialize(one))
    assert again.get_config() == one.get_config()
    assert np.array_equal(again(X, training=True), RANDOM[name](seed=5)(X, training=True))


@pytest.mark.parametrize("name", RANDOM)
def test_gradients_go_where_numbers_came_from(name):
    layer, x = RANDOM[name](seed=2), X.astype("float64")
    y, kept = layer.forward(x, training=True)
    dy = RNG.standard_normal(y.shape)
    dx, _ = layer.backward(dy, kept)
    again = RANDOM[name](seed=2)
    direction = RNG.standard_normal(x.shape)
    moved = again.forward(x + direction, training=True)[0]  # linear in x
    assert (dx * direction).sum() == pytest.approx((dy * (moved - y)).sum(), rel=1e-9)


def test_what_flips_are():
    y = layers.RandomFlip("horizontal", seed=3)(X, training=True)
    found = [np.array_equal(new, old[:, ::-1]) for new, old in zip(y, X, strict=True)]
    kept = [np.array_equal(new, old) for new, old in zip(y, X, strict=True)]
    assert all(one or other for one, other in zip(found, kept, strict=True))
    assert any(found)
    assert any(kept)
    y = layers.RandomFlip("vertical", seed=3)(X, training=True)
    assert all(any(np.array_equal(new, each) for each in (old, old[::-1])) for new, old in zip(y, X, strict=True))


def test_quarter_turns_and_whole_steps():
    square = X[:, :4]
    turned = layers.RandomRotation((0.25, 0.25))(square, training=True)
    assert np.allclose(turned, np.rot90(square, 1, (1, 2)), atol=1e-5)
    moved = layers.RandomTranslation((0.25, 0.25), (0.5, 0.5), fill_mode="constant", fill_value=7.0)(
        square, training=True
    )
    assert np.allclose(moved[:, 1:, 2:], square[:, :-1, :-2], atol=1e-6)
    assert np.allclose(moved[:, :1], 7.0)
    assert np.allclose(moved[:, :, :2], 7.0)


def test_augmented_training_repeats_and_predicts_without():
    def fitted():
        utils.set_random_seed(4)
        model = models.Sequential(
            [
                layers.Input((5, 4, 2)),
                layers.RandomFlip(),
                layers.RandomRotation(0.1),
                layers.Conv2D(3, 3, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(1),
            ]
        )
        model.compile("adam", "mse")
        history = model.fit(X, X.mean(axis=(1, 2, 3)), batch_size=2, epochs=3, verbose=0).history["loss"]
        return history, model.predict(X)

    (one, y), (other, again) = fitted(), fitted()
    assert one == other
    assert np.array_equal(y, again)


def test_categories():
    rows = np.array([[0, 2, 2], [1, 3, 0]])
    assert layers.CategoryEncoding(4)(rows).tolist() == [[1, 0, 1, 0], [1, 1, 0, 1]]
    assert layers.CategoryEncoding(4, "count")(rows).tolist() == [[1, 0, 2, 0], [1, 1, 0, 1]]
    assert layers.CategoryEncoding(4, "one_hot")(rows[:, :1]).tolist() == [[1, 0, 0, 0], [0, 1, 0, 0]]
    model = models.Sequential([layers.Input((3,)), layers.CategoryEncoding(4), layers.Dense(1)])
    model.compile("sgd", "mse")
    assert model.fit(rows, np.ones((2, 1)), verbose=0).history["loss"][0] > 0
    with pytest.raises(ValueError, match=r"x: got the index 3, wants integers in \[0, 3\)"):
        layers.CategoryEncoding(3)(rows)


def test_bins():
    numbers = np.array([[-1.5, 0.0, 0.5, 1.0, 3.0]])
    assert layers.Discretization([0.0, 1.0])(numbers).tolist() == [[0, 1, 1, 2, 2]]
    layer = layers.Discretization(num_bins=4)
    with pytest.raises(ValueError, match="wants adapt"):
        layer(numbers)
    layer.adapt(np.arange(100.0))
    assert np.bincount(layer(np.arange(100.0).reshape(-1, 1)).ravel()).tolist() == [25] * 4
    assert layers.deserialize(layers.serialize(layer)).bin_boundaries == layer.bin_boundaries


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: layers.Resizing(0, 3), ValueError, "height: got 0"),
        (lambda: layers.Resizing(3, 3, "cubic"), ValueError, "interpolation: got 'cubic'"),
        (lambda: layers.Resizing(3, 3, name="r")(X[0]), ValueError, r"r: got input shape \(None, 4, 2\), wants"),
        (lambda: layers.RandomFlip("diagonal"), ValueError, "mode: got 'diagonal'"),
        (lambda: layers.RandomRotation((0.2, 0.1)), ValueError, r"factor: got \(0.2, 0.1\), wants \(least, most\)"),
        (lambda: layers.RandomRotation((1, 2, 3)), ValueError, "factor: got tuple"),
        (lambda: layers.RandomZoom(0.1, fill_mode="mirror"), ValueError, "fill_mode: got 'mirror'"),
        (lambda: layers.RandomTranslation(-2, 0), ValueError, "height_factor"),
        (lambda: layers.RandomZoom(0.1, name="z")(X[0], training=True), ValueError, "z: got input shape"),
        (layers.CategoryEncoding, ValueError, "num_tokens: got None"),
        (lambda: layers.CategoryEncoding(3, "tf_idf"), ValueError, "output_mode: got 'tf_idf'"),
        (lambda: layers.Discretization([1.0, 0.0]), ValueError, r"bin_boundaries: got \[1.0, 0.0\], wants numbers in"),
        (layers.Discretization, ValueError, "got both or none"),
        (lambda: ops.affine_sample2d(X, np.zeros((6, 5), "float32"), 3, 3), ValueError, "matrices"),
    ],
)
def test_what_is_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()
