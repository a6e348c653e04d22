"""Layers that pool, normalise, resize and reshape against Keras's with equal weights: outputs, shapes, arguments."""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest

from fastnn import layers

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install -e '.[peers]'")

RNG = np.random.default_rng(0)
IMAGES, ROWS, VECTORS = (
    RNG.standard_normal(shape).astype("float32") * 2 + 1 for shape in ((3, 7, 6, 5), (3, 8, 5), (6, 5))
)
CASES = [
    *(("MaxPooling2D", {}, IMAGES), ("MaxPooling2D", {"pool_size": (3, 2), "strides": 2, "padding": "same"}, IMAGES)),
    *(("AveragePooling2D", {"pool_size": 3, "strides": (1, 2)}, IMAGES),),
    # where there is something to pad, Keras on PyTorch repeats the edges; on TensorFlow and JAX it leaves them out
    *(("AveragePooling2D", {"pool_size": (1, 3), "strides": (2, 3), "padding": "same"}, IMAGES),),
    *(
        ("MaxPooling1D", {"pool_size": 3, "padding": "same"}, ROWS),
        ("AveragePooling1D", {"pool_size": 2, "strides": 1}, ROWS),
    ),
    *((f"Global{kind}Pooling2D", {"keepdims": keep}, IMAGES) for kind in ("Max", "Average") for keep in (False, True)),
    *((f"Global{kind}Pooling1D", {}, ROWS) for kind in ("Max", "Average")),
    *(("UpSampling2D", {"size": (2, 3)}, IMAGES), ("UpSampling1D", {}, ROWS)),
    *(("ZeroPadding2D", {"padding": value}, IMAGES) for value in (1, (1, 2), ((1, 2), (0, 3)))),
    *(("ZeroPadding1D", {"padding": value}, ROWS) for value in (2, (0, 1))),
    *(("Cropping2D", {"cropping": value}, IMAGES) for value in (1, (0, 2), ((1, 2), (0, 3)))),
    *(("Cropping1D", {}, ROWS), ("Cropping1D", {"cropping": (0, 3)}, ROWS)),
    *(("Reshape", {"target_shape": (-1, 6)}, IMAGES), ("Permute", {"dims": (3, 1, 2)}, IMAGES)),
    ("RepeatVector", {"n": 3}, VECTORS),
    *(("BatchNormalization", {"momentum": 0.5, "epsilon": 0.1}, x) for x in (IMAGES, VECTORS)),
    ("BatchNormalization", {"center": False, "scale": False}, ROWS),
    *(("BatchNormalization", {"axis": axis}, IMAGES) for axis in (1, 2, -2)),
    *(("LayerNormalization", {"axis": axis}, IMAGES) for axis in (-1, [2, 3], [1, 3], [1, 2, 3])),
    *(("UnitNormalization", {"axis": axis}, IMAGES) for axis in (-1, 2, [1, 3])),
    *(
        (
            "Conv2DTranspose",
            {"filters": 3, "kernel_size": size, "strides": 3, "padding": pad, "output_padding": more},
            x,
        )
        for x, size in ((IMAGES, (2, 4)), (IMAGES, 3), (IMAGES, (5, 1)))
        for pad in ("valid", "same")
        for more in (None, 0, 1, 2)
    ),
    *(
        ("Conv1DTranspose", {"filters": 3, "kernel_size": size, "strides": 2, "padding": pad}, ROWS)
        for size in (3, 4)
        for pad in ("valid", "same")
    ),
    *(("GroupNormalization", {"groups": groups}, x) for groups in (1, 5, -1) for x in (IMAGES, ROWS, VECTORS)),
    *(("GroupNormalization", {"groups": 2, "axis": 2, "scale": False}, IMAGES),),
    *(("RMSNormalization", {"axis": axis}, IMAGES) for axis in (-1, [2, 3])),  # Keras on PyTorch refuses others
    ("LayerNormalization", {"scale": False, "epsilon": 1e-5}, ROWS),
    ("Normalization", {"mean": 1.0, "variance": 4.0}, VECTORS),
    ("Normalization", {"mean": 1.0, "variance": 4.0, "invert": True}, VECTORS),
]


def pair(name, options, x):
    """Both layers, built for x, with equal weights that are neither ones nor zeros."""
    ours, theirs = getattr(layers, name)(**options), getattr(keras.layers, name)(**options)
    ours.build((None, *x.shape[1:]))
    theirs.build((None, *x.shape[1:]))
    assert [w.shape for w in ours.weights if name != "Normalization"] == [tuple(w.shape) for w in theirs.weights]
    if theirs.weights:
        assert [w.name for w in ours.weights] == [w.name for w in theirs.weights]
        assert [w.trainable for w in ours.weights] == [w.trainable for w in theirs.weights]
        weights = [RNG.uniform(0.5, 2, w.shape).astype("float32") for w in ours.weights]
        ours.set_weights(weights)
        theirs.set_weights(weights)
    return ours, theirs


@pytest.mark.parametrize(("name", "options", "x"), CASES, ids=[f"{c[0]} {c[1]} {c[2].ndim}" for c in CASES])
def test_outputs(name, options, x):
    ours, theirs = pair(name, options, x)
    for training in (False, True):
        wanted = keras.ops.convert_to_numpy(theirs(x, training=training) if "Batch" in name else theirs(x))
        np.testing.assert_allclose(ours(x, training=training), wanted, rtol=1e-5, atol=1e-5)
        assert ours.compute_output_shape((None, *x.shape[1:])) == tuple(
            theirs.compute_output_shape((None, *x.shape[1:]))
        )
    if name == "BatchNormalization":
        for one, other in zip(ours.get_weights(), theirs.get_weights(), strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("axis", [-1, None])
def test_normalization_adapts(axis):
    ours, theirs = layers.Normalization(axis), keras.layers.Normalization(axis)
    ours.adapt(VECTORS)
    theirs.adapt(VECTORS)
    np.testing.assert_allclose(ours(VECTORS), keras.ops.convert_to_numpy(theirs(VECTORS)), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name",
    sorted(
        {case[0] for case in CASES}
        | {
            "AlphaDropout",
            "RandomBrightness",
            "RandomContrast",
            "RandomCrop",
            "SpatialDropout1D",
            "SpatialDropout2D",
            "DepthwiseConv1D",
            "SeparableConv1D",
        }
    ),
)
def test_arguments(name):
    """Names, order and defaults; without those of masks' and devices' that fastnn has not."""
    ours, theirs = (
        {
            key: parameter.default
            for key, parameter in inspect.signature(getattr(library, name).__init__).parameters.items()
            if key not in ("self", "name", "dtype", "kwargs", "options")
        }
        for library in (layers, keras.layers)
    )
    assert list(ours) == list(theirs)
    for key, default in theirs.items():
        if key in ours and default is not inspect.Parameter.empty and key not in ("data_format",):
            same = ours[key] == default or np.array_equal(np.ravel(ours[key]), np.unique(np.ravel(default)))
            assert same, (key, ours[key], default)
