"""Layers that pool, resize, or look at samples in another way: outputs, gradients, shapes, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, utils
from fastnn.engine import pace, recorded
from fastnn.engine.protocols import Draw
from tests.support.differences import check

RNG = np.random.default_rng(6)
# Different numbers far apart: a difference changes no choice.
IMAGES = RNG.permutation(2 * 5 * 4 * 3).reshape(2, 5, 4, 3).astype("float64")
ROWS = RNG.permutation(2 * 7 * 3).reshape(2, 7, 3).astype("float64")

OF_IMAGES = {
    "max": layers.MaxPooling2D,
    "max same": lambda: layers.MaxPooling2D((3, 2), strides=(1, 3), padding="same"),
    "average": lambda: layers.AveragePooling2D(3, strides=1),
    "average same": lambda: layers.AveragePooling2D(2, padding="SAME"),
    "global max": layers.GlobalMaxPooling2D,
    "global max kept": lambda: layers.GlobalMaxPooling2D(keepdims=True),
    "global average": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "up": lambda: layers.UpSampling2D((2, 3)),
    "up bilinear": lambda: layers.UpSampling2D((2, 3), interpolation="bilinear"),
    "resize": lambda: layers.Resizing(3, 7),
    "resize to the nearest": lambda: layers.Resizing(9, 3, "nearest"),
    "resize a part": lambda: layers.Resizing(6, 3, crop_to_aspect_ratio=True),
    "middle": lambda: layers.CenterCrop(3, 3),
    "middle of smaller ones": lambda: layers.CenterCrop(6, 3),
    "pad": lambda: layers.ZeroPadding2D(((1, 0), (2, 3))),
    "crop": lambda: layers.Cropping2D(((1, 1), (0, 2))),
    "reshape": lambda: layers.Reshape((-1, 6)),
    "permute": lambda: layers.Permute((3, 1, 2)),
}
OF_ROWS = {
    "max": layers.MaxPooling1D,
    "average": lambda: layers.AveragePooling1D(3, strides=2, padding="same"),
    "global max": layers.GlobalMaxPooling1D,
    "global average": layers.GlobalAveragePooling1D,
    "up": lambda: layers.UpSampling1D(3),
    "pad": lambda: layers.ZeroPadding1D((0, 2)),
    "crop": layers.Cropping1D,
    "permute": lambda: layers.Permute((2, 1)),
}
CASES = [(name, make, IMAGES) for name, make in OF_IMAGES.items()] + [
    (name, make, ROWS) for name, make in OF_ROWS.items()
]
CASES += [("repeat", lambda: layers.RepeatVector(3), RNG.standard_normal((2, 4)))]


@pytest.mark.parametrize(("make", "x"), [case[1:] for case in CASES], ids=[f"{c[0]} {c[2].ndim - 1}" for c in CASES])
def test_gradients_shapes_and_configs(make, x):
    layer = make()
    check(layer, x.copy())
    assert layer.forward(x.astype("float32"))[0].dtype == np.float32
    assert layer.forward(x[:0])[0].shape == (0, *layer.output_shape[1:])
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    assert np.array_equal(again(x), layer(x))


def test_outputs():
    windows = np.lib.stride_tricks.sliding_window_view(IMAGES, (2, 2), (1, 2))[:, ::2, ::2]
    assert np.array_equal(layers.MaxPool2D(dtype="float64")(IMAGES), windows.max((-1, -2)))
    assert np.array_equal(layers.AvgPool2D(dtype="float64")(IMAGES), windows.mean((-1, -2)))
    assert np.array_equal(layers.MaxPool1D(7, dtype="float64")(ROWS), ROWS.max(1, keepdims=True))
    np.testing.assert_allclose(layers.GlobalAvgPool2D(dtype="float64")(IMAGES), IMAGES.mean((1, 2)))
    assert np.array_equal(layers.GlobalMaxPool1D(dtype="float64")(ROWS), ROWS.max(1))
    assert np.array_equal(layers.UpSampling2D()(IMAGES), IMAGES.repeat(2, 1).repeat(2, 2))
    assert np.array_equal(layers.ZeroPadding2D()(IMAGES)[:, 1:-1, 1:-1], IMAGES)
    assert np.array_equal(layers.Cropping2D((1, 0))(IMAGES), IMAGES[:, 1:-1])
    assert np.array_equal(layers.Permute((3, 1, 2))(IMAGES), IMAGES.transpose(0, 3, 1, 2))
    assert np.array_equal(layers.RepeatVector(2)(ROWS[0]), ROWS[0][:, None].repeat(2, 1))


@pytest.mark.parametrize(
    ("make", "shape", "axes"),
    [(layers.SpatialDropout2D, (40, 5, 4, 30), (1, 2)), (layers.SpatialDropout1D, (40, 6, 30), (1,))],
)
def test_spatial_dropout(make, shape, axes):
    """A channel of a sample is dropped as a whole or not at all; a share ``rate`` of them is."""
    layer, x = make(0.3), RNG.uniform(1, 2, shape)
    y, kept = layer.forward(x, training=Draw(5, 2, 1))
    dropped = (y == 0).all(axes)
    assert np.array_equal(dropped, (y == 0).any(axes))
    assert 0.2 < dropped.mean() < 0.4
    wide = np.expand_dims(dropped, axes)
    np.testing.assert_allclose(y, np.where(wide, 0, x / 0.7), rtol=1e-12)
    dx, _ = layer.backward(x, kept)
    assert np.array_equal(dx, y)
    assert np.array_equal(layer.forward(x, training=Draw(5, 2, 1))[0], y)
    assert not np.array_equal(layer.forward(x, training=Draw(5, 3, 1))[0], y)
    assert layer.forward(x)[0] is x
    own = make(0.3, seed=5)
    assert np.array_equal(own.forward(x, training=Draw(9, 2, 1))[0], y)
    assert layers.deserialize(layers.serialize(own)).get_config() == own.get_config()


@pytest.mark.parametrize("noise", [(None, 1, 4), (1, 5, 1), (None, 5, 4), [6, 1, 1]], ids=str)
def test_dropout_of_numbers_together(noise):
    """What a mask of that shape says, stretched; the gradient behind the same mask."""
    layer, x = layers.Dropout(0.5, noise, seed=3), np.full((6, 5, 4), 3.0)
    y, kept = layer.forward(x, training=True)
    assert {*np.unique(y)} == {0.0, 6.0}
    for axis, size in enumerate(noise):
        assert size != 1 or (y == y.take([0], axis)).all()
    dx, _ = layer.backward(np.ones_like(x), kept)
    assert np.array_equal(dx * 3, y)
    again = layers.deserialize(layers.serialize(layer))
    assert np.array_equal(again(x, training=True), y)
    assert np.array_equal(layer(x), x)


def test_gaussian_noise():
    """Of mean 0 and the deviation asked for; the same for the same draw, none outside of training."""
    layer, x = layers.GaussianNoise(0.5), np.full((200, 50), 3.0)
    y, kept = layer.forward(x, training=Draw(5, 2, 1))
    assert abs((y - x).mean()) < 0.02
    assert (y - x).std() == pytest.approx(0.5, rel=0.02)
    assert np.array_equal(layer.forward(x, training=Draw(5, 2, 1))[0], y)
    for other in (Draw(6, 2, 1), Draw(5, 3, 1), Draw(5, 2, 2)):
        assert not np.isin(layer.forward(x, training=other)[0], y).any()
    assert layer.backward(x, kept)[0] is x
    assert layer.forward(x)[0] is x
    assert layer.forward(x.astype("float32"), training=True)[0].dtype == np.float32
    first, second = (layers.GaussianNoise(0.5, seed=3) for _ in range(2))
    series = [[each(x, training=True) for _ in range(2)] for each in (first, second)]
    assert np.array_equal(series[0], series[1])
    assert not np.array_equal(*series[0])
    assert layers.deserialize(layers.serialize(first)).get_config() == first.get_config()
    with pytest.raises(ValueError, match="stddev: got -1"):
        layers.GaussianNoise(-1)


def test_noise_in_a_fit_follows_from_the_seed():
    x, y = RNG.standard_normal((40, 5)).astype("float32"), RNG.standard_normal((40, 2)).astype("float32")
    results = []
    for seed in (1, 1, 2):
        utils.set_random_seed(3)
        model = models.Sequential([layers.Input((5,)), layers.GaussianNoise(0.3, seed=seed), layers.Dense(2)])
        model.compile("sgd", "mse")
        model.fit(x, y, 8, epochs=2, verbose=0)
        results.append(model.get_weights()[0].tobytes())
    assert results[0] == results[1] != results[2]


STACK = (
    lambda: layers.ZeroPadding2D(1),
    lambda: layers.Dense(6, "relu"),
    lambda: layers.MaxPooling2D(3, 2, "same"),
    layers.BatchNormalization,
    lambda: layers.SpatialDropout2D(0.2, seed=3),
    layers.UpSampling2D,
    lambda: layers.AveragePooling2D(2),
    lambda: layers.Permute((2, 1, 3)),
    lambda: layers.Cropping2D(1),
    lambda: layers.Reshape((-1, 6)),
    layers.GlobalAveragePooling1D,
    lambda: layers.RepeatVector(2),
    layers.GlobalMaxPooling1D,
    lambda: layers.Dense(2),
)


def test_recorded_steps_have_the_bits_of_single_ones(monkeypatch):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    x, y = RNG.standard_normal((40, 6, 6, 3)).astype("float32"), RNG.standard_normal((40, 2)).astype("float32")
    results, made, plain = [], [], recorded.RecordedSteps.__call__

    def counted(self, *given):
        made.append(plain(self, *given))
        return made[-1]

    monkeypatch.setattr(recorded.RecordedSteps, "__call__", counted)
    for alone in (1000, 1):
        monkeypatch.setattr(recorded, "OP_BY_OP", alone)
        utils.set_random_seed(2)
        model = models.Sequential([layers.Input((6, 6, 3)), *(make() for make in STACK)])
        model.compile("adam", "mse")
        losses = model.fit(x, y, 8, epochs=3, verbose=0).history["loss"]
        results.append((losses, [w.tobytes() for w in model.get_weights()]))
    assert made
    assert all(each is not None for each in made)
    assert results[0] == results[1]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (
            lambda: layers.MaxPooling2D(3, name="p").build((None, 2, 9, 1)),
            r"^p: got input shape \(None, 2, 9, 1\)",
        ),
        (
            lambda: layers.MaxPooling2D(name="p").build((None, 9, 1)),
            r"^p: got .*wants \(None, height, width",
        ),
        (lambda: layers.MaxPooling2D(name="p").build((None, None, 1, 3)), r"^p: got .*wants at least \(2, 2\)"),
        (lambda: layers.Cropping1D(name="p").build((None, 9, None)), r"^p: got .*wants \(None, steps, channels\)"),
        (lambda: layers.AveragePooling1D(name="p").build((None, 9)), r"^p: got .*wants \(None, steps, channels\)"),
        (lambda: layers.GlobalMaxPooling2D(name="p").build((None, 9)), "^p: got input shape"),
        (lambda: layers.MaxPooling2D(padding="sane"), "padding: got 'sane'"),
        (lambda: layers.MaxPooling2D((2, 2, 2)), "pool_size: got tuple"),
        (lambda: layers.MaxPooling2D(strides=0), "strides: got 0"),
        (lambda: layers.MaxPooling2D(data_format="channels_first"), "data_format: got 'channels_first'"),
        (lambda: layers.UpSampling2D(interpolation="bicubic"), "interpolation: got 'bicubic'"),
        (lambda: layers.UpSampling2D(0), "size: got 0"),
        (lambda: layers.Cropping2D(2, name="c").build((None, 4, 9, 1)), "^c: got input shape .* something to be left"),
        (lambda: layers.ZeroPadding2D((1, 2, 3)), "padding: got tuple"),
        (lambda: layers.ZeroPadding1D(-1), "padding: got -1"),
        (lambda: layers.Reshape((3, -1, -1)), "target_shape: got"),
        (
            lambda: layers.Reshape((2, 5), name="r").build((None, 9)),
            r"^r: got input shape .* fill \(2, 5\)",
        ),
        (lambda: layers.Permute((1, 3)), "dims: got"),
        (lambda: layers.Permute((2, 1), name="p").build((None, 9)), "^p: got input shape"),
        (lambda: layers.RepeatVector(2, name="r").build((None, 9, 3)), "^r: got input shape"),
        (lambda: layers.SpatialDropout1D(0.5, name="d").build((None, 9, 3, 3)), "^d: got input shape"),
        (lambda: layers.SpatialDropout2D(1.0), "rate: got 1.0"),
    ],
)
def test_wrong_arguments(make, wanted):
    with pytest.raises(ValueError, match=wanted):
        make()


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: layers.Reshape("ab"), "target_shape: got str"),
        (lambda: layers.Permute(2), "dims: got int"),
        (lambda: layers.RepeatVector(1.5), "n: got"),
        (lambda: layers.ZeroPadding2D("same"), "padding: got str"),
        (lambda: layers.GlobalMaxPooling2D(keepdims=1), "keepdims: got"),
    ],
)
def test_arguments_of_wrong_types(make, wanted):
    with pytest.raises(TypeError, match=wanted):
        make()
