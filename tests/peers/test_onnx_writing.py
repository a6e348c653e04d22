"""What ``to_onnx`` writes, against onnxruntime and the operators' own reference: every layer, to 1e-5."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import fastnn
from fastnn import activations, layers, models, ops, utils
from fastnn.kernels.table import ACTIVATIONS
from fastnn.onnx import OPSETS, proto

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[peers]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[peers]'")
from onnx.reference import ReferenceEvaluator  # noqa: E402 - behind the skip

TOLERANCE = 1e-5
IMAGE, SEQUENCE, ROW = (8, 7, 6), (9, 4), (5,)


def of(shape, *inner, dtype=None):
    """A stack on samples of a shape."""
    return lambda: models.Sequential([layers.Input(shape, dtype=dtype), *(layer() for layer in inner)])


def graph_of(shape, make):
    """What is made of a symbolic tensor of a shape."""

    def model():
        inputs = layers.Input(shape)
        return models.Model(inputs, make(inputs))

    return model


def merging(kind, *shapes, **options):
    def make():
        given = [layers.Input(shape) for shape in shapes]
        return models.Model(given, kind(**options)(given))

    return make


def words(*inner, **options):
    """Behind words, of which some are padding before, in the midst and behind."""
    return lambda: models.Sequential(
        [layers.Embedding(20, 4, input_length=9, **options), *(layer() for layer in inner)]
    )


class Squared(layers.Layer):
    """It has a weight, an inner layer, a reshape that depends on the batch, and numbers."""

    def build(self, input_shape):
        self.scale = self.add_weight((input_shape[-1],), "ones", name="scale")
        self.inner = layers.Dense(3, activation="tanh")

    def call(self, inputs):
        h = ops.multiply(inputs, inputs) * 0.5 + self.scale
        rows = h.reshape(-1, inputs.shape[-1])
        y = self.inner(rows).reshape(inputs.shape[0], -1)
        return ops.concatenate([y, ops.relu(y) - 1.0], axis=1)


class Convolved(layers.Layer):
    """With most ops that work on images."""

    def build(self, input_shape):
        self.kernel = self.add_weight((3, 3, input_shape[-1], 4), name="kernel")
        self.block = models.Sequential([layers.Conv2D(4, 1, activation="relu"), layers.BatchNormalization()])

    def call(self, x):
        h = ops.conv2d(x, self.kernel, padding="same", activation="silu")
        h = ops.add(h, self.block(h))
        h = ops.max_pool2d(ops.zero_pad2d(h, ((1, 1), (0, 0))), (2, 2), (2, 2))
        h = ops.permute(ops.upsample2d(h, (2, 1)), (0, 3, 1, 2))
        return ops.softmax(ops.layer_norm(h.reshape(h.shape[0], -1)))


def recurrent_cases():
    for name in ("SimpleRNN", "LSTM", "GRU"):
        kind = getattr(layers, name)
        for options in (
            {},
            {"return_sequences": True},
            {"go_backwards": True},
            {"go_backwards": True, "return_sequences": True},
            {"use_bias": False},
        ):
            label = ", ".join(options)
            yield f"{name} {label}", of(SEQUENCE, partial(kind, 3, **options))
            yield f"{name} {label} masked", words(partial(kind, 3, **options), mask_zero=True)
    for activation in ("relu", "sigmoid", "linear"):
        yield f"SimpleRNN {activation}", of(SEQUENCE, partial(layers.SimpleRNN, 3, activation))
        yield f"SimpleRNN {activation} masked", words(partial(layers.SimpleRNN, 3, activation), mask_zero=True)
    for mode in ("concat", "sum", "ave", "mul"):
        for steps in (False, True):
            inner = partial(layers.LSTM, 3, return_sequences=steps)
            both = [lambda inner=inner, mode=mode: layers.Bidirectional(inner(), mode)]
            yield f"Bidirectional {mode} {steps}", of(SEQUENCE, *both)
            yield f"Bidirectional {mode} {steps} masked", words(*both, mask_zero=True)
    cells = layers.LSTMCell, layers.GRUCell
    yield "RNN", of(SEQUENCE, lambda: layers.RNN([cell(3) for cell in cells], return_sequences=True))
    yield "RNN masked", words(lambda: layers.RNN([cell(3) for cell in cells], go_backwards=True), mask_zero=True)
    yield "TimeDistributed", of((4, *IMAGE), lambda: layers.TimeDistributed(layers.Conv2D(2, 3, activation="relu")))
    zeros = {"return_sequences": True, "zero_output_for_mask": True, "go_backwards": True}
    yield "LSTM zeros masked", words(partial(layers.LSTM, 3, **zeros), mask_zero=True)
    turned = partial(layers.GRU, 3, return_sequences=True, go_backwards=True)
    yield "Bidirectional turned", of(SEQUENCE, lambda: layers.Bidirectional(turned()))


L = layers
CASES = {
    "InputLayer": of(ROW, partial(L.Dense, 2)),
    "Dense": of(ROW, partial(L.Dense, 4), partial(L.Dense, 3, use_bias=False)),
    "Dense of steps": of(SEQUENCE, partial(L.Dense, 4, "relu"), partial(L.Dense, 4, "softmax", use_bias=False)),
    **{f"Activation {name}": of(ROW, partial(L.Activation, name)) for name in ACTIVATIONS},
    "Activation of maps": of(IMAGE, partial(L.Conv2D, 3, 2), partial(L.Activation, "log_softmax")),
    "Activation with numbers": of(ROW, lambda: L.Activation(partial(activations.leaky_relu, negative_slope=0.1))),
    "Activation celu": of(ROW, lambda: L.Activation(partial(activations.celu, alpha=0.3))),
    "Activation threshold": of(ROW, lambda: L.Activation(partial(activations.threshold, threshold=0.2))),
    "Activation own": of(ROW, partial(L.Dense, 4, lambda x: ops.multiply(x, ops.tanh(x)))),
    "ReLU": of(ROW, L.ReLU),
    "ReLU bounded": of(ROW, partial(L.ReLU, max_value=0.5)),
    "ReLU numbers": of(ROW, partial(L.ReLU, max_value=0.7, negative_slope=0.2, threshold=0.3)),
    "LeakyReLU": of(ROW, L.LeakyReLU),
    "ELU": of(ROW, partial(L.ELU, 0.7)),
    "PReLU": of(ROW, L.PReLU),
    "PReLU of maps": of(IMAGE, partial(L.Conv2D, 3, 2), L.PReLU, partial(L.PReLU, shared_axes=(1, 2))),
    "PReLU of images": of(IMAGE, partial(L.PReLU, shared_axes=2)),
    "Softmax": of(ROW, L.Softmax),
    "Softmax axis": of(IMAGE, partial(L.Softmax, axis=1)),
    "Softmax of maps": of(IMAGE, partial(L.Conv2D, 3, 2), partial(L.Softmax, axis=-1), partial(L.Softmax, axis=2)),
    "Flatten": of(IMAGE, L.Flatten),
    "Flatten maps": of(IMAGE, partial(L.Conv2D, 3, 2), L.Flatten, partial(L.Dense, 2)),
    "Dropout": of(ROW, partial(L.Dense, 3), partial(L.Dropout, 0.5)),
    "GaussianNoise": of(ROW, partial(L.GaussianNoise, 0.5), partial(L.Dense, 3)),
    "SpatialDropout1D": of(SEQUENCE, partial(L.SpatialDropout1D, 0.5), L.Flatten),
    "SpatialDropout2D": of(IMAGE, partial(L.SpatialDropout2D, 0.5), L.Flatten),
    "Rescaling": of(ROW, partial(L.Rescaling, 1 / 255, 0.3)),
    "Rescaling bytes": of(IMAGE, partial(L.Rescaling, 1 / 255), partial(L.Conv2D, 2, 2), dtype="uint8"),
    "Reshape": of(IMAGE, partial(L.Reshape, (6, -1))),
    "Permute": of(IMAGE, partial(L.Permute, (3, 1, 2)), partial(L.Conv2D, 2, 3)),
    "RepeatVector": of(ROW, partial(L.RepeatVector, 3)),
    "BatchNormalization": of(ROW, L.BatchNormalization),
    "BatchNormalization bare": of(SEQUENCE, partial(L.BatchNormalization, center=False, scale=False, epsilon=0.1)),
    "BatchNormalization of maps": of(IMAGE, partial(L.Conv2D, 3, 2), L.BatchNormalization),
    "LayerNormalization": of(SEQUENCE, L.LayerNormalization),
    "LayerNormalization axes": of(IMAGE, partial(L.LayerNormalization, axis=(-2, -1), center=False)),
    "LayerNormalization bare": of(ROW, partial(L.LayerNormalization, scale=False)),
    "Normalization": of(ROW, L.Normalization),
    "Normalization least": of(ROW, partial(L.Normalization, mean=[1, 2, 3, 4, 5], variance=[1, 2, 3, 4, 5])),
    "Normalization maps": of(IMAGE, partial(L.Conv2D, 2, 2), partial(L.Normalization, mean=[1, 2], variance=[3, 4])),
    "Normalization inverted": of(ROW, partial(L.Normalization, axis=None, mean=2.0, variance=3.0, invert=True)),
    "Add": merging(L.Add, ROW, ROW, ROW),
    "Add stretched": merging(L.Add, IMAGE, (1, 7, 1)),
    "Subtract": merging(L.Subtract, SEQUENCE, SEQUENCE),
    "Multiply": merging(L.Multiply, ROW, (1,)),
    "Average": merging(L.Average, ROW, ROW, ROW),
    "Maximum": merging(L.Maximum, ROW, ROW),
    "Minimum": merging(L.Minimum, ROW, ROW),
    "Concatenate": merging(L.Concatenate, ROW, (3,)),
    "Concatenate axis": merging(L.Concatenate, SEQUENCE, (2, 4), axis=1),
    "Dot": merging(L.Dot, ROW, ROW, axes=1),
    "Dot cosines": merging(L.Dot, SEQUENCE, SEQUENCE, axes=2, normalize=True),
    "UnitNormalization": of(SEQUENCE, L.UnitNormalization),
    "Identity": of(ROW, L.Identity, partial(L.Dense, 3)),
    "ActivityRegularization": of(ROW, partial(L.ActivityRegularization, 0.1), partial(L.Dense, 3)),
    "AlphaDropout": of(ROW, partial(L.AlphaDropout, 0.5), partial(L.Dense, 3)),
    "GroupNormalization": of(IMAGE, partial(L.GroupNormalization, 3), partial(L.GroupNormalization, 4, 1)),
    "GroupNormalization of maps": of(IMAGE, partial(L.Conv2D, 4, 2), partial(L.GroupNormalization, -1, scale=False)),
    "RMSNormalization": of(IMAGE, L.RMSNormalization, partial(L.RMSNormalization, [1, 2])),
    "GaussianDropout": of(ROW, partial(L.GaussianDropout, 0.5), partial(L.Dense, 3)),
    "Conv1DTranspose": of(SEQUENCE, partial(L.Conv1DTranspose, 3, 2, strides=2)),
    "Conv2DTranspose output padding": of(
        IMAGE, partial(L.Conv2DTranspose, 3, 4, strides=3, padding="same", output_padding=1)
    ),
    "BatchNormalization axis": of(IMAGE, partial(L.BatchNormalization, axis=1)),
    "LayerNormalization apart": of(IMAGE, partial(L.LayerNormalization, axis=[1, 3])),
    **{
        f"{kind.__name__} {options}": of(shape, partial(kind, **options))
        for kind, shape in (
            (L.MaxPooling2D, IMAGE), (L.AveragePooling2D, IMAGE),
            (L.MaxPooling1D, SEQUENCE), (L.AveragePooling1D, SEQUENCE),
        )
        for options in ({}, {"padding": "same", "strides": 2, "pool_size": 3}, {"pool_size": 3, "strides": 1})
    },
    **{
        f"{kind.__name__} {keeps}": of(shape, partial(kind, keepdims=keeps))
        for kinds, shape in (
            ((L.GlobalMaxPooling2D, L.GlobalAveragePooling2D), IMAGE),
            ((L.GlobalMaxPooling1D, L.GlobalAveragePooling1D), SEQUENCE),
        )
        for kind in kinds
        for keeps in (False, True)
    },
    "GlobalAveragePooling2D of maps": of(
        IMAGE, partial(L.Conv2D, 3, 2), partial(L.GlobalAveragePooling2D, keepdims=True)
    ),
    "GlobalAveragePooling1D masked": words(L.GlobalAveragePooling1D, mask_zero=True),
    "GlobalMaxPooling1D masked": words(L.GlobalMaxPooling1D, mask_zero=True),
    "UpSampling2D": of(IMAGE, partial(L.UpSampling2D, (2, 3))),
    "UpSampling2D bilinear": of(
        IMAGE, partial(L.Conv2D, 3, 2), partial(L.UpSampling2D, (2, 3), interpolation="bilinear")
    ),
    **{
        f"Resizing {kind} {sizes} {cut}": of(
            IMAGE, partial(L.Resizing, *sizes, interpolation=kind, crop_to_aspect_ratio=cut), partial(L.Conv2D, 2, 2)
        )
        for kind in ("bilinear", "nearest")
        for sizes in ((16, 14), (5, 3), (8, 7))
        for cut in (False, True)
    },
    "CenterCrop": of(IMAGE, partial(L.Conv2D, 2, 2), partial(L.CenterCrop, 4, 3)),
    "CenterCrop larger": of(IMAGE, partial(L.CenterCrop, 10, 4)),
    **{
        f"{kind.__name__}": of(IMAGE, partial(kind, 0.2), partial(L.Conv2D, 2, 2))
        for kind in (L.RandomRotation, L.RandomZoom)
    },
    "RandomTranslation": of(IMAGE, partial(L.RandomTranslation, 0.2, 0.1)),
    "RandomBrightness": of(IMAGE, partial(L.RandomBrightness, 0.2), partial(L.Conv2D, 2, 2)),
    "RandomContrast": of(IMAGE, partial(L.RandomContrast, 0.2), partial(L.Conv2D, 2, 2)),
    "RandomCrop": of(IMAGE, partial(L.RandomCrop, 4, 3), partial(L.Conv2D, 2, 2)),
    "RandomFlip": of(IMAGE, L.RandomFlip, partial(L.Conv2D, 2, 2)),
    "Discretization": of(ROW, partial(L.Discretization, [-0.7, 0.0, 0.1, 0.5])),
    **{
        f"Discretization {mode}": of(
            ROW, partial(L.Discretization, [-0.7, 0.1, 0.5], output_mode=mode), partial(L.Dense, 2)
        )
        for mode in ("one_hot", "multi_hot", "count")
    },
    "Discretization embedded": of(
        ROW, partial(L.Discretization, [-0.7, 0.1, 0.5]), partial(L.Embedding, 4, 3), partial(L.Dense, 2)
    ),
    **{
        f"CategoryEncoding {mode} {shape}": of(shape, partial(L.CategoryEncoding, 6, mode), partial(L.Dense, 2))
        for mode in ("one_hot", "multi_hot", "count")
        for shape in ((1,), (4,))
    },
    "UpSampling1D": of(SEQUENCE, partial(L.UpSampling1D, 3)),
    "ZeroPadding2D": of(IMAGE, partial(L.ZeroPadding2D, ((1, 2), (0, 3)))),
    "ZeroPadding2D of maps": of(IMAGE, partial(L.Conv2D, 2, 2), partial(L.ZeroPadding2D, ((1, 2), (0, 3)))),
    "ZeroPadding1D": of(SEQUENCE, partial(L.ZeroPadding1D, (1, 2))),
    "Cropping2D": of(IMAGE, partial(L.Cropping2D, ((1, 2), (0, 3)))),
    "Cropping2D of maps": of(IMAGE, partial(L.Conv2D, 2, 2), partial(L.Cropping2D, ((1, 0), (0, 3)))),
    "Cropping2D of nothing": of(IMAGE, L.Cropping2D),
    "Cropping1D": of(SEQUENCE, partial(L.Cropping1D, (1, 2))),
    **{
        f"{kind.__name__} {options}": of(IMAGE, partial(kind, *first, 3, **options))
        for kind, first in (
            (L.Conv2D, (4,)), (L.DepthwiseConv2D, ()), (L.SeparableConv2D, (4,)), (L.Conv2DTranspose, (4,)),
        )
        for options in (
            {"activation": "relu"},
            {"padding": "same", "use_bias": False},
            {"padding": "same", "strides": 2},
            {"dilation_rate": 2, "padding": "same"},
        )
    },
    "Conv2D groups": of(IMAGE, partial(L.Conv2D, 4, (2, 3), groups=2, strides=(3, 1))),
    "DepthwiseConv2D multiplied": of(IMAGE, partial(L.DepthwiseConv2D, 2, depth_multiplier=3, activation="gelu")),
    "SeparableConv2D multiplied": of(IMAGE, partial(L.SeparableConv2D, 3, 2, depth_multiplier=2, activation="selu")),
    "Conv2DTranspose strides": of(IMAGE, partial(L.Conv2DTranspose, 3, 2, strides=3)),
    "Conv2DTranspose same strides": of(IMAGE, partial(L.Conv2DTranspose, 3, (2, 5), strides=(3, 2), padding="same")),
    **{
        f"Conv1D {options}": of(SEQUENCE, partial(L.Conv1D, 4, 3, **options))
        for options in (
            {}, {"padding": "causal", "dilation_rate": 2}, {"padding": "causal", "groups": 4},
            {"padding": "same", "strides": 2, "groups": 2},
        )
    },
    **{
        f"{kind.__name__} {options}": of(SEQUENCE, partial(kind, *first, 3, **options))
        for kind, first in ((L.DepthwiseConv1D, ()), (L.SeparableConv1D, (4,)))
        for options in ({"activation": "relu"}, {"padding": "same", "strides": 2}, {"dilation_rate": 2})
    },
    "Embedding": words(),
    "Embedding masked": words(partial(L.Dense, 3), mask_zero=True),
    "Masking": of(SEQUENCE, L.Masking, partial(L.LSTM, 3)),
    "Masking between": of(SEQUENCE, L.Masking, partial(L.Dense, 3, "relu"), partial(L.GRU, 3)),
    **dict(recurrent_cases()),
    "Lambda": of(IMAGE, lambda: L.Lambda(lambda x: ops.global_average_pool(x.reshape(x.shape[0], -1, x.shape[3])))),
    "Function": graph_of(ROW, lambda x: ops.concatenate([ops.tanh(x), 1.0 - x / 3.0], axis=1)),
    "Attention": graph_of(SEQUENCE, lambda x: L.Attention(use_scale=True)([x, x])),
    "AdditiveAttention": graph_of(SEQUENCE, lambda x: L.AdditiveAttention()([x, x])),
    "MultiHeadAttention": graph_of(SEQUENCE, lambda x: L.MultiHeadAttention(2, 3)(x, x, use_causal_mask=True)),
    "own layer": of(SEQUENCE, Squared, partial(L.Dense, 2)),
    "own layer of images": of(IMAGE, Convolved),
}  # fmt: skip

# No layers, or none that computes; each is exercised by those above.
NO_LAYERS = {
    "Layer": "the base",
    "Wrapper": "the base of layers around others",
    "Parameter": "a weight",
    **dict.fromkeys(("TextVectorization", "StringLookup", "IntegerLookup"), "before a model, of texts"),
    **dict.fromkeys(("SimpleRNNCell", "LSTMCell", "GRUCell", "StackedRNNCells"), "a step of a layer"),
}


def drawn(model, rng, rows=5):
    """Data for the inputs."""
    given = []
    for tensor in model.inputs:
        shape = (rows, *tensor.shape[1:])
        first = model.wired()[0][0]
        if first.indices is not None:
            x = rng.integers(1, first.indices, shape)
            x[1, :3] = x[2, 5:] = x[3] = x[4, 4:5] = 0
        elif str(getattr(tensor.node.operation, "data_dtype", None)) == "uint8":
            x = rng.integers(0, 256, shape).astype(np.uint8)
        else:
            x = rng.standard_normal(shape).astype(model.compute_dtype)
            if isinstance(first, layers.Masking):
                x[1, :3] = x[2, 5:] = x[3] = x[4, 4] = 0
        given.append(x)
    return given


def with_weights(make, rng):
    """A model with weights that are not their first ones: zeros would hide a bias that is left out."""
    utils.set_random_seed(1)
    model = make()
    if not model.built:
        model.build(model.input_shape)
    drawn_weights = [rng.uniform(0.1, 0.9, w.shape) for w in model.weights]
    for weight, parameter in zip(drawn_weights, model.weights, strict=True):
        if not parameter.name.endswith("variance"):
            np.negative(weight, out=weight, where=rng.random(weight.shape) < 0.5)
    model.set_weights(drawn_weights)
    return model


def run(content, given):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [node.name for node in session.get_inputs()]
    return session.run(None, dict(zip(names, given, strict=True)))


def compare(found, expected, tolerance=TOLERANCE):
    expected = expected if isinstance(expected, list) else [expected]
    assert len(found) == len(expected)
    for y, wanted in zip(found, expected, strict=True):
        assert y.dtype == wanted.dtype
        np.testing.assert_allclose(y, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", CASES)
def test_onnxruntime_computes_what_predict_does(name):
    rng = np.random.default_rng(len(name))
    model = with_weights(CASES[name], rng)
    given = drawn(model, rng)
    written = proto(model)
    onnx.checker.check_model(written, full_check=True)
    expected = model.predict(given if len(given) > 1 else given[0], verbose=0)
    compare(run(written.SerializeToString(), given), expected)


def test_bins_are_those_of_numbers_next_to_a_boundary():
    """Of boundaries that float32 does not have."""
    model = of((1,), partial(L.Discretization, [0.1, 0.3, 0.7]))()
    rounded = np.float32([0.1, 0.3, 0.7])
    x = np.concatenate([np.nextafter(rounded, np.float32(to)) for to in (-1, 2)] + [rounded])
    (found,) = run(proto(model).SerializeToString(), [x[:, None]])
    np.testing.assert_array_equal(found, model.predict(x[:, None], verbose=0))


def test_every_public_layer_has_a_case():
    kinds = {getattr(layers, name) for name in layers.__all__ if isinstance(getattr(layers, name), type)}
    wanted = {kind.__name__ for kind in kinds} - NO_LAYERS.keys()
    assert wanted <= {name.split(" ")[0] for name in CASES}


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_gives_the_same(opset):
    rng = np.random.default_rng(3)
    kinds = [
        L.LayerNormalization,
        partial(L.Conv2D, 3, 2, activation="gelu"),
        partial(L.Conv2D, 3, 2, activation="mish"),
    ]
    kinds += [partial(L.Activation, "gelu_tanh"), partial(L.ZeroPadding2D, 1), L.GlobalAveragePooling2D]
    kinds += [
        partial(L.RepeatVector, 4),
        partial(L.LSTM, 3, return_sequences=True),
        partial(L.Bidirectional, L.GRU(2), "sum"),
    ]
    model = with_weights(of(IMAGE, *kinds), rng)
    (x,) = drawn(model, rng)
    written = proto(model, opset=opset)
    assert [each.version for each in written.opset_import] == [opset]
    assert written.ir_version <= 9  # what onnxruntime 1.17 reads
    onnx.checker.check_model(written, full_check=True)
    compare(run(written.SerializeToString(), [x]), model.predict(x, verbose=0))


@pytest.mark.parametrize(
    "make",
    [
        of(IMAGE, partial(L.Conv2D, 3, 2, dtype="float64"), partial(L.BatchNormalization, dtype="float64"), L.Flatten),
        of(SEQUENCE, partial(L.LSTM, 3, dtype="float64"), partial(L.LayerNormalization, dtype="float64")),
        of(ROW, *(partial(L.Dense, 4, name, dtype="float64") for name in ("gelu", "celu", "hard_sigmoid", "softplus"))),
    ],
)
def test_float64_by_the_operators_reference(make):
    """onnxruntime has no float64 convolution."""
    rng = np.random.default_rng(0)
    model = with_weights(make, rng)
    (x,) = drawn(model, rng)
    written = proto(model)
    onnx.checker.check_model(written, full_check=True)
    compare(ReferenceEvaluator(written).run(None, {written.graph.input[0].name: x}), model.predict(x, verbose=0), 1e-6)


def several():
    """Inputs, outputs, a layer that is shared, a model inside, another one in that."""
    a, b = layers.Input(IMAGE, name="a"), layers.Input((6, 5, 2), name="b")
    shared = layers.Conv2D(4, 3, activation="relu", name="shared")
    block = models.Sequential([layers.Input((6, 5, 4)), layers.BatchNormalization(), layers.Conv2D(2, 1)], name="block")
    first = block(shared(a))
    nested = models.Model(block.input, layers.add([block.output, block.output]), name="nested")
    second = layers.multiply([first, b, nested(shared(a))])
    pooled = layers.GlobalAveragePooling2D()(second)
    return models.Model([a, b], {"maps": second, "row": layers.Dense(3, name="row")(pooled)})


def test_graphs_with_several_inputs_and_outputs():
    rng = np.random.default_rng(0)
    model = with_weights(several, rng)
    given = drawn(model, rng)
    written = proto(model)
    onnx.checker.check_model(written, full_check=True)
    assert [each.name for each in written.graph.input] == ["a", "b"]
    assert [each.name for each in written.graph.output] == ["maps", "row"]
    assert [name for name in names_of(written) if name.startswith("shared/")] == ["shared/kernel", "shared/bias"]
    assert len(names_of(written)) == len(set(names_of(written)))
    expected = model.predict(given, verbose=0)
    compare(run(written.SerializeToString(), given), [expected["maps"], expected["row"]])


def names_of(written):
    return [each.name for each in written.graph.initializer]


def test_nothing_is_written_that_nobody_takes():
    """Here a mask, and the zero that indices are compared with."""
    written = proto(CASES["Embedding masked"]())
    assert names_of(written) == [name for name in names_of(written) if any(name in n.input for n in written.graph.node)]
    assert "Equal" not in kinds_of(written)


def kinds_of(written):
    return [node.op_type for node in written.graph.node]


def test_what_lies_between_convolutions_is_not_transposed():
    model = of(
        IMAGE, partial(L.Conv2D, 3, 2, activation="relu"), L.BatchNormalization, L.MaxPooling2D,
        partial(L.Dropout, 0.5), partial(L.ZeroPadding2D, 1), partial(L.Conv2D, 3, 2), L.GlobalAveragePooling2D,
        partial(L.Dense, 2),
    )()  # fmt: skip
    assert kinds_of(proto(model)).count("Transpose") == 1


def test_transposes_that_undo_each_other_are_none():
    model = of(IMAGE, partial(L.Permute, (3, 1, 2)), partial(L.Permute, (2, 3, 1)), partial(L.Dense, 2))()
    assert "Transpose" not in kinds_of(proto(model))


@pytest.mark.parametrize("rows", [0, 1, 33])
def test_the_batch_is_free(rows):
    rng = np.random.default_rng(0)
    kinds = partial(L.Conv2D, 2, 3), L.Flatten, partial(L.Dense, 4), partial(L.Reshape, (2, 2)), partial(L.Dense, 3)
    model = with_weights(of(IMAGE, *kinds), rng)
    (x,) = drawn(model, rng)
    x = np.repeat(x, 7, axis=0)[:rows]
    written = proto(model)
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    expected = model.predict(x, verbose=0) if rows else np.zeros((0, 2, 3), "float32")
    compare(run(written.SerializeToString(), [x]), expected)


def test_a_file(tmp_path):
    model = with_weights(CASES["Dense"], np.random.default_rng(0))
    path = tmp_path / "model.onnx"
    fastnn.to_onnx(model, path)
    read = onnx.load(path)
    assert (read.producer_name, read.producer_version) == ("fastnn", fastnn.__version__)
    assert read.graph.name == model.name
    assert {each.key: each.value for each in read.metadata_props} == {"model": model.name, "class": "Sequential"}
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


class InPython(layers.Layer):
    def forward(self, x, training=False, activate=True):
        return np.sqrt(abs(x)), None


class ByNumpy(layers.Layer):
    def call(self, inputs):
        return np.sqrt(inputs)


class ByRows(layers.Layer):
    def call(self, inputs):
        return ops.add(inputs, np.ones((inputs.shape[0], 5), "float32"))


def _pooled_over_the_batch(x):
    return ops.max_pool2d(x.reshape(1, x.shape[0], 5, 1), (1, 1), (1, 1)).reshape(x.shape[0], 5)


def _dropped(x):
    return ops.dropout(x, 0.5, 1, 0, 0)


class WithMask(layers.Layer):
    takes_mask = True

    def call(self, inputs, mask=None):
        return inputs

    def forward(self, x, training=False, activate=True, mask=None):
        return x, None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (of(ROW, partial(InPython, name="mine")), "^mine: got a InPython with a pass in Python, wants a layer with"),
        (of(ROW, partial(ByNumpy, name="roots")), "^roots: got a call that cannot be followed"),
        (of(ROW, partial(ByRows, name="rows")), "^rows: got b of the op add that depends on the number of rows"),
        (of(ROW, lambda: L.Lambda(_dropped, name="drops")), "^drops: got the op dropout, wants"),
        (of(ROW, lambda: L.Lambda(_pooled_over_the_batch, name="pooled")), "^pooled: got an image of shape"),
        (words(partial(WithMask, name="masked"), mask_zero=True), "^masked: got"),
    ],
)  # fmt: skip
def test_what_onnx_cannot_say_is_refused_by_the_layers_name(make, message, tmp_path):
    path = tmp_path / "model.onnx"
    path.write_bytes(b"before")
    model = make()
    model.build(model.input_shape)
    with pytest.raises(ValueError, match=message):
        fastnn.to_onnx(model, path)
    assert path.read_bytes() == b"before"


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"model": "model"}, TypeError, "^model: got str 'model'"),
        (
            {"model": models.Sequential([layers.Dense(3)], name="bare")},
            ValueError,
            "^model: got 'bare', which is not built",
        ),
        ({"path": 3}, TypeError, "^path: got int 3"),
        ({"path": ""}, ValueError, "^path: got ''"),
        ({"path": "missing/model.onnx"}, OSError, "path: cannot write the file"),
        ({"opset": 12}, ValueError, "^opset: got 12, wants 13 to 20"),
        ({"opset": 21}, ValueError, "^opset: got 21, wants 13 to 20"),
        ({"opset": "17"}, TypeError, "^opset: got str '17'"),
    ],
)
def test_wrong_arguments(change, error, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = {"model": CASES["Dense"](), "path": "model.onnx", "opset": 17, **change}
    with pytest.raises(error, match=message):
        fastnn.to_onnx(given["model"], given["path"], opset=given["opset"])
    assert [*tmp_path.iterdir()] == []


def test_a_model_of_two_gigabytes_is_refused(monkeypatch):
    model = CASES["Dense"]()
    monkeypatch.setattr("fastnn.onnx.packages.LARGEST", 100)
    with pytest.raises(ValueError, match=r"^model: got .* GB of weights, wants less than 2\.15"):
        proto(model)
