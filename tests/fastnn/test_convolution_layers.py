"""Layers of convolution: what they compute, their weights, configurations, gradients, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, models, ops, optimizers, utils

IMAGES, STEPS = (2, 6, 7, 4), (2, 9, 4)


def made(kind, *args, **options):
    utils.set_random_seed(1)
    return getattr(layers, kind)(*args, dtype="float64", **options)


# A layer, inputs, shapes of its weights, of its outputs.
LAYERS = {
    "Conv2D": (
        ("Conv2D", 5, 3),
        {"padding": "same", "strides": 2, "activation": "tanh"},
        IMAGES,
        [(3, 3, 4, 5), (5,)],
        (2, 3, 4, 5),
    ),
    "Conv2D, groups": (
        ("Conv2D", 6, (2, 3)),
        {"groups": 2, "dilation_rate": (2, 1), "activation": "gelu", "use_bias": False},
        IMAGES,
        [(2, 3, 2, 6)],
        (2, 4, 5, 6),
    ),
    "Conv1D": (("Conv1D", 3, 2), {"strides": 2}, STEPS, [(2, 4, 3), (3,)], (2, 4, 3)),
    "Conv1D, causal": (
        ("Conv1D", 3, 3),
        {"padding": "causal", "dilation_rate": 2, "activation": "softmax"},
        STEPS,
        [(3, 4, 3), (3,)],
        (2, 9, 3),
    ),
    "DepthwiseConv2D": (
        ("DepthwiseConv2D", 3),
        {"depth_multiplier": 2, "activation": "sigmoid", "padding": "same"},
        IMAGES,
        [(3, 3, 4, 2), (8,)],
        (2, 6, 7, 8),
    ),
    "SeparableConv2D": (
        ("SeparableConv2D", 5, 3),
        {"depth_multiplier": 2, "strides": 2, "activation": "elu"},
        IMAGES,
        [(3, 3, 4, 2), (1, 1, 8, 5), (5,)],
        (2, 2, 3, 5),
    ),
    "DepthwiseConv1D": (
        ("DepthwiseConv1D", 3),
        {"depth_multiplier": 2, "activation": "gelu", "padding": "same", "strides": 2},
        STEPS,
        [(3, 4, 2), (8,)],
        (2, 5, 8),
    ),
    "SeparableConv1D": (
        ("SeparableConv1D", 5, 3),
        {"depth_multiplier": 2, "dilation_rate": 2, "activation": "softmax"},
        STEPS,
        [(3, 4, 2), (1, 8, 5), (5,)],
        (2, 5, 5),
    ),
    "SeparableConv1D, no bias": (
        ("SeparableConv1D", 5, 3),
        {"use_bias": False, "strides": 3},
        STEPS,
        [(3, 4, 1), (1, 4, 5)],
        (2, 3, 5),
    ),
    "Conv2DTranspose": (
        ("Conv2DTranspose", 3, 2),
        {"strides": 3, "activation": "silu"},
        IMAGES,
        [(2, 2, 3, 4), (3,)],
        (2, 18, 21, 3),
    ),
    "Conv2DTranspose output_padding": (
        ("Conv2DTranspose", 3, 4),
        {"strides": (3, 2), "activation": "gelu", "output_padding": (2, 1)},
        IMAGES,
        [(4, 4, 3, 4), (3,)],
        (2, 21, 17, 3),
    ),
    "Conv1DTranspose": (
        ("Conv1DTranspose", 3, 2),
        {"strides": 3, "activation": "silu", "padding": "same"},
        IMAGES[:2] + IMAGES[3:],
        [(2, 3, 4), (3,)],
        (2, 18, 3),
    ),
    "Conv1DTranspose output_padding": (
        ("Conv1DTranspose", 3, 3),
        {"strides": 4, "use_bias": False, "output_padding": 2},
        IMAGES[:2] + IMAGES[3:],
        [(3, 3, 4)],
        (2, 25, 3),
    ),
}


@pytest.fixture(params=LAYERS)
def case(request):
    (kind, *args), options, inputs, weights, outputs = LAYERS[request.param]
    return made(kind, *args, **options), np.random.default_rng(0).standard_normal(inputs), weights, outputs


def test_shapes_and_weights(case):
    layer, x, weights, outputs = case
    y = layer(x)
    assert y.shape == outputs
    assert layer.compute_output_shape((None, *x.shape[1:])) == (None, *outputs[1:])
    assert layer.output_shape == (None, *outputs[1:])
    assert [weight.shape for weight in layer.weights] == weights
    assert layer.count_params() == sum(map(np.prod, weights))
    places = np.prod(outputs[1:-1]) if "transpose" not in layer.name else np.prod(x.shape[1:-1])
    assert layer.flops == 2 * places * sum(np.prod(shape) for shape in weights if len(shape) > 1)
    assert (layer.bias is None) == (layer.use_bias is False)


def test_a_configuration_makes_the_same_layer(case):
    layer, x, *_ = case
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()
    again.build((None, *x.shape[1:]))
    layer.build((None, *x.shape[1:]))
    again.set_weights(layer.get_weights())
    assert np.array_equal(again(x), layer(x))


def test_gradients_by_central_differences(case):
    layer, x, *_ = case
    layer(x)
    for parameter in layer.parameters:
        parameter.value[...] = np.random.default_rng(2).standard_normal(parameter.shape) / 3
    y, kept = layer.forward(x)
    dy = np.random.default_rng(3).standard_normal(y.shape)
    dx, gradients = layer.backward(dy, kept)
    rng = np.random.default_rng(4)
    for array, slope in [(x, dx), *zip([p.value for p in layer.parameters], gradients, strict=True)]:
        assert slope.shape == array.shape
        for _ in range(6):
            at, step = tuple(rng.integers(0, array.shape)), 1e-6
            before = array[at]
            array[at] = before + step
            high = (layer.forward(x)[0] * dy).sum()
            array[at] = before - step
            low = (layer.forward(x)[0] * dy).sum()
            array[at] = before
            assert (high - low) / (2 * step) == pytest.approx(slope[at], rel=1e-6, abs=1e-7)
    assert layer.backward(dy, kept, need_dx=False)[0] is None


def test_a_causal_output_sees_no_later_step():
    layer, x = made("Conv1D", 2, 3, padding="causal"), np.random.default_rng(0).standard_normal(STEPS)
    y, later = layer(x), x.copy()
    later[:, 5:] += 1
    assert np.array_equal(layer(later)[:, :5], y[:, :5])
    assert not np.isclose(layer(later)[:, 5:], y[:, 5:]).any()


def test_a_separable_convolution_is_its_two_parts():
    layer, x = made("SeparableConv2D", 5, 3, padding="same"), np.random.default_rng(0).standard_normal(IMAGES)
    y = layer(x)
    depthwise, pointwise, _ = layer.get_weights()
    h = ops.depthwise_conv2d(x, depthwise, padding="same")
    np.testing.assert_allclose(y, h @ pointwise[0, 0], atol=1e-12)


def small():
    utils.set_random_seed(3)
    model = models.Sequential(
        [
            layers.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.SeparableConv2D(6, 3, activation="tanh"),
            layers.Flatten(),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile(optimizer=optimizers.Adam(0.01), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def test_a_model_learns_alike_on_any_number_of_threads_and_from_a_file(tmp_path):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((96, 8, 8, 1)).astype("float32")
    t = (x[:, 2:5, 2:5].mean(axis=(1, 2, 3)) > 0).astype(int)
    found = []
    for threads in (1, 2):
        model = small()
        history = model.fit(x, t, epochs=15, batch_size=32, verbose=0, threads=threads)
        assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
        found.append(model.get_weights())
    for one, other in zip(*found, strict=True):
        assert np.array_equal(one, other)
    model.save(tmp_path / "m.safetensors")
    assert np.array_equal(models.load_model(tmp_path / "m.safetensors").predict(x), model.predict(x))


def test_spatial_axes_of_unknown_size(tmp_path):
    """Graphs for images and sequences of any size; each batch has its own."""
    utils.set_random_seed(5)
    image, words = layers.Input((None, None, 2)), layers.Input((None,), dtype="int64")
    y = layers.SeparableConv2D(4, 3, padding="same")(layers.Conv2D(3, 3, strides=2)(image))
    y = layers.Cropping2D()(layers.ZeroPadding2D((1, 2))(layers.UpSampling2D()(layers.MaxPooling2D()(y))))
    assert layers.Reshape((-1, 4))(y).shape == (None, None, 4)
    y = layers.Conv2DTranspose(4, 3, strides=2)(y)
    assert y.shape == (None, None, None, 4)
    assert layers.Flatten()(y).shape == (None, None)
    with pytest.raises(ValueError, match=r"^d: got input shape \(None, None\), wants \(None, ..., inputs\)"):
        layers.Dense(3, name="d")(layers.Flatten()(y))
    z = layers.Conv1D(4, 5, padding="causal")(layers.Embedding(20, 3)(words))
    z = layers.DepthwiseConv1D(2)(layers.AveragePooling1D()(z))
    both = layers.Concatenate()([layers.GlobalAveragePooling2D()(y), layers.GlobalMaxPooling1D()(z)])
    model = models.Model([image, words], layers.Dense(2)(both))
    model.compile("adam", "mse")
    rng = np.random.default_rng(3)

    def drawn(size):
        return [rng.random((32, size, size + 1, 2)), rng.integers(0, 20, (32, size))]

    for size in (12, 9, 12):
        assert np.isfinite(model.fit(drawn(size), rng.random((32, 2)), verbose=0).history["loss"][0])
    model.save(tmp_path / "m.safetensors")
    again, x = models.load_model(tmp_path / "m.safetensors"), drawn(10)
    assert np.array_equal(again.predict(x, verbose=0), model.predict(x, verbose=0))
    with pytest.raises(ValueError, match=r"x: got the size 1 along axis 1, wants .* at least the 3"):
        model.predict([x[0][:, :1], x[1]], verbose=0)


def test_keras_s_other_names():
    assert layers.Convolution2D is layers.Conv2D
    assert layers.Convolution1D is layers.Conv1D
    assert layers.Convolution2DTranspose is layers.Conv2DTranspose
    assert layers.SeparableConvolution1D is layers.SeparableConv1D
    assert layers.SeparableConvolution2D is layers.SeparableConv2D


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: layers.Conv2D(0, 3), ValueError, r"^filters: got 0, wants an integer of at least 1"),
        (lambda: layers.Conv2D(4, (3, 3, 3)), ValueError, r"^kernel_size: got tuple .*, wants an integer or 2 of them"),
        (lambda: layers.Conv2D(4, 3, strides=0), ValueError, r"^strides: got 0, wants an integer of at least 1"),
        (
            lambda: layers.Conv2D(4, 3, padding="causal"),
            ValueError,
            r"^padding: got 'causal', wants one of 'valid', 's",
        ),
        (lambda: layers.Conv1D(4, 3, padding="full"), ValueError, r"^padding: got 'full', wants one of .*'causal'"),
        (lambda: layers.Conv2D(4, 3, groups=3), ValueError, r"^groups: got 3, wants a divisor of the 4 filters"),
        (lambda: layers.Conv2D(4, 3, use_bias=1), TypeError, r"^use_bias: got int 1, wants True or False"),
        (
            lambda: layers.Conv2D(4, 3, data_format="channels_first"),
            ValueError,
            r"^data_format: got 'channels_first', wants 'channels_last': axes",
        ),
        (lambda: layers.Conv2D(4, 3, data_format="x"), ValueError, r"^data_format: got 'x', wants one of"),
        (
            lambda: layers.Conv2DTranspose(4, 3, output_padding=1),
            ValueError,
            r"^output_padding: got 1, wants less",
        ),
        (lambda: layers.Conv1DTranspose(4, 3, 2, output_padding=-1), ValueError, r"^output_padding: got -1"),
        (lambda: layers.DepthwiseConv2D(3, depth_multiplier=0), ValueError, r"^depth_multiplier: got 0, wants"),
        (lambda: layers.Conv2D(4, 3, kernel_initializer="gloro"), ValueError, r"^kernel_initializer: got 'gloro'"),
        (
            lambda: layers.Conv2D(4, 3, name="c").build((None, 28, 28)),
            ValueError,
            r"^c: got input shape \(None, 28, 28\), wants \(None, rows, columns, channels\)",
        ),
        (
            lambda: layers.Conv1D(4, 3, name="c").build((None, 28, 28, 1)),
            ValueError,
            r"^c: got input shape \(None, 28, 28, 1\), wants \(None, steps, channels\)",
        ),
        (
            lambda: layers.Conv2D(4, 3, groups=2, name="c").build((None, 28, 28, 3)),
            ValueError,
            r"^c: got 3 channels, wants a multiple of its 2 groups",
        ),
        (
            lambda: layers.Conv2D(4, 5, dilation_rate=2, name="c").build((None, 8, 28, 3)),
            ValueError,
            r"^c: got input shape \(None, 8, 28, 3\), wants it at least as large as the kernel, \(5, 5\) with dilation",
        ),
    ],
)
def test_what_makes_no_layer_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_a_built_layer_takes_images_of_any_size_but_no_other_channels():
    layer = made("Conv2D", 4, 3, name="c")
    layer(np.ones((1, 5, 5, 2)))
    assert layer(np.ones((1, 9, 6, 2))).shape == (1, 7, 4, 4)
    with pytest.raises(ValueError, match=r"^c: got input shape \(None, 5, 5, 3\), wants \(None, 5, 5, 2\)"):
        layer(np.ones((1, 5, 5, 3)))
