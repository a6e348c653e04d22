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


def test_brightness_is_added_and_cut_off():
    images = RNG.uniform(0, 255, (5, 4, 3, 2))
    y = layers.RandomBrightness((-0.5, 0.25), seed=4, dtype="float64")(images, training=True)
    added = [np.median((new - old)[(new > 0) & (new < 255)]) for new, old in zip(y, images, strict=True)]
    assert min(added) >= -0.5 * 255
    assert max(added) <= 0.25 * 255
    assert len({*np.round(added, 6)}) == 5
    for new, old, share in zip(y, images, added, strict=True):
        np.testing.assert_allclose(new, np.clip(old + share, 0, 255), atol=1e-9)


def test_contrast_is_about_the_mean_of_each_channel():
    images = RNG.uniform(0.3, 0.7, (5, 4, 3, 2))
    y = layers.RandomContrast((0.5, 0.1), (0, 1), seed=4, dtype="float64")(images, training=True)
    mean = images.mean((1, 2), keepdims=True)
    factors = ((y - mean) / (images - mean)).reshape(5, -1)
    np.testing.assert_allclose(factors, np.broadcast_to(factors[:, :1], factors.shape), rtol=1e-9)
    assert (factors > 0.5).all()
    assert (factors < 1.1).all()
    assert np.ptp(factors[:, 0]) > 0
    assert layers.RandomContrast(0.3).factor == (0.3, 0.3)
    y = layers.RandomContrast(1.0, (0.45, 0.55), seed=4)(images, training=True)
    assert (y.min(), y.max()) == (np.float32(0.45), np.float32(0.55))


def test_crops_are_parts_at_one_place_of_a_batch():
    layer, found = layers.RandomCrop(3, 2, seed=1), set()
    for _ in range(40):
        y = layer(X, training=True)
        at = [(i, j) for i in range(3) for j in range(3) if np.array_equal(y, X[:, i : i + 3, j : j + 2])]
        found |= {*at}
        assert len(at) == 1
    assert len(found) == 9
    for other in (False, True):  # images that are no larger give their middle
        assert np.array_equal(layers.RandomCrop(5, 2)(X, training=other), X[:, :, 1:3])
    wanted = layers.Resizing(3, 2, crop_to_aspect_ratio=True)(X)
    assert np.array_equal(layers.RandomCrop(3, 2)(X), wanted)
    assert layers.RandomCrop(3, 2).compute_output_shape((None, 5, 4, 2)) == (None, 3, 2, 2)


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.RandomCrop(3, 2, seed=1), (2, 5, 4, 2)),
        (lambda: layers.RandomCrop(4, 4, seed=1), (2, 3, 3, 2)),
        (lambda: layers.RandomBrightness(0.2, (-3, 3), seed=1), (2, 3, 3, 2)),
        (lambda: layers.RandomContrast(0.2, (-9, 9), seed=1), (2, 3, 3, 2)),
    ],
)
def test_gradients_by_differences(make, shape):
    x, dy = RNG.standard_normal(shape), None
    layer = make()
    y, kept = layer.forward(x, training=True)
    dy = RNG.standard_normal(y.shape)
    dx, _ = layer.backward(dy, kept)
    direction = RNG.standard_normal(shape)
    high, low = (make().forward(x + step * direction, training=True)[0] for step in (1e-6, -1e-6))
    assert (dx * direction).sum() == pytest.approx(((high - low) / 2e-6 * dy).sum(), rel=1e-6)


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
        (lambda: layers.RandomBrightness(1.5), ValueError, "factor: got -1.5"),
        (lambda: layers.RandomBrightness(0.1, (1, 0)), ValueError, r"value_range: got \(1, 0\), wants \(least, most\)"),
        (lambda: layers.RandomBrightness(0.1, name="b")(X[0]), ValueError, "b: got input shape"),
        (lambda: layers.RandomContrast(-0.1), ValueError, "factor: got -0.1"),
        (lambda: layers.RandomContrast((0.1, 0.2, 0.3)), ValueError, "factor: got tuple"),
        (lambda: layers.RandomCrop(0, 3), ValueError, "height: got 0"),
        (lambda: layers.RandomCrop(3, 3, name="c")(X[0], training=True), ValueError, "c: got input shape"),
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
