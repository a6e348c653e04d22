"""Layers: outputs and gradients against NumPy, shapes, names, configs."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import initializers, layers, models, ops, optimizers, regularizers, utils
from fastnn.engine.activations import LINEAR
from fastnn.engine.protocols import Draw
from fastnn.kernels.naive import elementwise, softmax
from fastnn.kernels.table import ACTIVATIONS, ELEMENTWISE_ACTIVATIONS

GENERATOR = np.random.default_rng(0)


def plain(name, z):
    """An activation by the plain loops."""
    if name in ELEMENTWISE_ACTIVATIONS:
        return np.reshape(elementwise.forward(ELEMENTWISE_ACTIVATIONS[name], z.ravel().tolist()), z.shape)
    rows = [softmax.FORWARD[name](row) for row in z.reshape(-1, z.shape[-1]).tolist()]
    return np.reshape(rows, z.shape)


def dense(units=4, inputs=3, **options):
    layer = layers.Dense(units, bias_initializer="random_normal", dtype="float64", **options)
    layer.build((None, inputs))
    return layer


@pytest.mark.parametrize("shape", [(5, 3), (1, 3), (2, 4, 3), (2, 3, 2, 3), (0, 3)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_outputs(activation, shape):
    layer = dense(activation=activation)
    x = GENERATOR.normal(size=shape)
    wanted = plain(activation, x @ layer.kernel.value + layer.bias.value)
    got = layer(x)
    assert got.shape == (*shape[:-1], 4)
    np.testing.assert_allclose(got, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shape", [(3, 3), (2, 2, 3)])
@pytest.mark.parametrize("use_bias", [True, False])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_dense_gradients_by_central_differences(activation, use_bias, shape):
    layer = dense(activation=activation, use_bias=use_bias)
    x = GENERATOR.normal(size=shape)
    dy = GENERATOR.normal(size=(*shape[:-1], 4))
    _, kept = layer.forward(x, training=True)
    dx, gradients = layer.backward(dy, kept)
    nothing, same = layer.backward(dy, kept, need_dx=False)
    assert nothing is None
    for a, b in zip(gradients, same, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    for array, gradient in zip([x, *(p.value for p in layer.parameters)], [dx, *gradients], strict=True):
        np.testing.assert_allclose(gradient, differences(layer, x, dy, array), atol=1e-8)


def differences(layer, x, dy, array, step=1e-6):
    """Central differences of sum(dy * layer(x)) by every entry of ``array``, which is changed in place."""
    result = np.zeros_like(array)
    for index in np.ndindex(array.shape):
        kept = array[index]
        array[index] = kept + step
        up = (layer.forward(x)[0] * dy).sum()
        array[index] = kept - step
        result[index] = (up - (layer.forward(x)[0] * dy).sum()) / (2 * step)
        array[index] = kept
    return result


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 4)])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_layer(activation, shape):
    layer = layers.Activation(activation, dtype="float64")
    x = GENERATOR.normal(size=shape)
    y, kept = layer.forward(x)
    np.testing.assert_allclose(y, plain(activation, x), rtol=1e-12)
    dy = GENERATOR.normal(size=shape)
    dx, gradients = layer.backward(dy, kept)
    assert len(gradients) == 0
    np.testing.assert_allclose(dx, differences(layer, x, dy, x), atol=1e-8)
    raw, kept = layer.forward(x, activate=False)
    assert raw is x
    assert layer.backward(dy, kept)[0] is dy


@pytest.mark.parametrize(
    ("shape", "wanted"), [((5, 2, 3), (5, 6)), ((5, 4), (5, 4)), ((5,), (5, 1)), ((0, 2, 2), (0, 4))]
)
def test_flatten(shape, wanted):
    layer = layers.Flatten()
    x = GENERATOR.normal(size=shape).astype("float32")
    y, kept = layer.forward(x)
    assert y.shape == wanted
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *wanted[1:])
    back, _ = layer.backward(y, kept)
    assert (back == x).all()
    assert back.shape == shape


@pytest.mark.parametrize("shape", [(50, 40), (6, 5, 70), (0, 3), (7,)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dropout(shape, dtype):
    layer = layers.Dropout(0.4)
    x = GENERATOR.uniform(1, 2, size=shape).astype(dtype)
    y, kept = layer.forward(x, training=Draw(7, 3, 2))
    rows = ops.dropout(x.reshape(len(x), int(np.prod(shape[1:]))), 0.4, 7, step=3, stream=2)
    assert np.array_equal(y, rows.reshape(shape))
    dy = GENERATOR.uniform(1, 2, size=shape).astype(dtype)
    dx, gradients = layer.backward(dy, kept)
    assert len(gradients) == 0
    np.testing.assert_allclose(dx, np.where(y != 0, dy / 0.6, 0), rtol=1e-6)  # d(sum dy * y) / dx
    assert y.dtype == dx.dtype == dtype
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *shape[1:])


@pytest.mark.parametrize(("rate", "training"), [(0.4, False), (0.0, True), (0, Draw(1, 2, 3))])
def test_dropout_that_does_nothing(rate, training):
    layer = layers.Dropout(rate)
    x = GENERATOR.normal(size=(3, 4))
    y, kept = layer.forward(x, training)
    assert y is x
    assert layer.backward(x, kept)[0] is x


def test_dropout_called_by_itself():
    """As Keras's: nothing without ``training``, other masks in every call, the same series for the same seed."""
    x = np.ones((20, 30), "float32")
    first, second, other = layers.Dropout(0.5, seed=3), layers.Dropout(0.5, seed=3), layers.Dropout(0.5)
    assert np.array_equal(first(x), x)
    series = [[layer(x, training=True) for _ in range(3)] for layer in (first, second, other)]
    assert np.array_equal(series[0], series[1])
    masks = {y.tobytes() for row in series for y in row}
    assert len(masks) == 6
    utils.set_random_seed(8)
    again = layers.Dropout(0.5)(x, training=True)
    utils.set_random_seed(8)
    assert np.array_equal(layers.Dropout(0.5)(x, training=True), again)


@pytest.mark.parametrize("shape", [(5, 3), (4, 2, 3), (0, 3)])
@pytest.mark.parametrize(("scale", "offset"), [(1 / 255, 0.0), (-2, 1), (0, 0.5)])
def test_rescaling(shape, scale, offset):
    layer = layers.Rescaling(scale, offset)
    x = GENERATOR.normal(size=shape)
    y, kept = layer.forward(x)
    np.testing.assert_allclose(y, scale * x + offset, rtol=1e-14)
    dy = GENERATOR.normal(size=shape)
    dx, gradients = layer.backward(dy, kept)
    assert len(gradients) == 0
    np.testing.assert_allclose(dx, differences(layer, x, dy, x), atol=1e-8)
    assert layer.forward(x.astype("float32"))[0].dtype == np.float32
    assert layer.compute_output_shape((None, *shape[1:])) == (None, *shape[1:])


def test_rescaling_of_bytes():
    """As Keras's: whatever the input's dtype, float32 comes out."""
    images = np.arange(256, dtype=np.uint8).reshape(2, 128)
    y = layers.Rescaling(1 / 127.5, offset=-1)(images)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, images / 127.5 - 1, rtol=1e-6, atol=1e-7)


def test_defaults_are_keras_defaults():
    layer = layers.Dense(50, input_shape=(100,))
    layer.build((None, 100))
    limit = np.sqrt(6 / 150)
    assert layer.kernel.shape == (100, 50)
    assert 0.99 * limit < np.abs(layer.kernel.value).max() <= limit
    assert (layer.bias.value == 0).all()
    assert layer.kernel.dtype == np.float32
    assert layer.activation == LINEAR


def test_names_count_up():
    first, second = layers.Dense(1), layers.Dense(1)
    number = int(first.name.removeprefix("dense").removeprefix("_") or 0)
    assert second.name == f"dense_{number + 1}"
    assert layers.Dense(1, name="mine").name == "mine"
    with pytest.raises(ValueError, match="name: got 'a/b'"):
        layers.Dense(1, name="a/b")


@pytest.mark.parametrize(
    "layer",
    [
        layers.Dense(3, "relu", name="d"),
        layers.Dense(
            2,
            use_bias=False,
            kernel_initializer=initializers.RandomNormal(stddev=0.3, seed=4),
            kernel_regularizer=regularizers.L1L2(0.1, 0.2),
            activity_regularizer="l2",
            input_shape=(7,),
            trainable=False,
            dtype="float64",
        ),
        layers.Activation("tanh"),
        layers.Flatten(input_shape=(2, 3)),
        layers.Dropout(0.25),
        layers.Dropout(0.5, seed=12, name="drop", input_shape=(3,)),
        layers.Rescaling(1 / 255),
        layers.Rescaling(2, offset=-1.0, name="scale", input_shape=(3, 2)),
        layers.InputLayer((4, 2), dtype="uint8", name="in"),
    ],
)
def test_config_round_trip(layer):
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


def test_frozen_layer():
    layer = dense()
    assert len(layer.trainable_weights) == 2
    layer.trainable = False
    assert layer.trainable_weights == []
    assert len(layer.non_trainable_weights) == 2
    late = layers.Dense(2, trainable=False)
    late.build((None, 3))
    assert late.trainable_weights == []


def test_weights_in_and_out():
    layer = dense()
    weights = layer.get_weights()
    weights[0][:] = 9
    assert not (layer.kernel.value == 9).any()  # copies
    layer.set_weights(weights)
    assert (layer.kernel.value == 9).all()
    assert layer.count_params() == 16
    assert (np.asarray(layer.kernel) == 9).all()
    layer.bias.assign([1, 2, 3, 4])
    assert (layer.bias.numpy() == [1, 2, 3, 4]).all()
    assert "dense" in repr(layer.kernel)


def test_unbuilt_layer_says_so():
    layer = layers.Dense(3)
    for ask, error in (
        (lambda: layer.kernel, ValueError),
        (layer.count_params, ValueError),
        (lambda: layer.output_shape, AttributeError),
    ):
        with pytest.raises(error, match="the layer is not built"):
            ask()
    assert not hasattr(layer, "output_shape")


def test_layer_built_for_one_width_refuses_another():
    with pytest.raises(ValueError, match=r"got input shape \(None, 5\), wants \(None, 3\)"):
        dense().build((None, 5))


def test_initializer_of_the_wrong_shape():
    class Wrong(initializers.Initializer):
        def __call__(self, shape, dtype="float32"):
            return np.zeros(3)

    with pytest.raises(ValueError, match=r"kernel_initializer: got an array of shape \(3,\) from it, wants \(5, 2\)"):
        layers.Dense(2, kernel_initializer=Wrong()).build((None, 5))


@pytest.mark.parametrize("make", [lambda: dense(activation="relu"), lambda: layers.Activation("relu")])
def test_activation_can_be_changed_once_built(make):
    x, layer = np.array([[-1.0, 2.0, -3.0]]), make()
    plain = layer(x)
    layer.activation = None
    assert layer.activation == LINEAR
    assert (np.maximum(layer(x), 0) == plain).all()
    assert (layer(x) < 0).any()
    layer.activation = ops.tanh
    assert layer.get_config()["activation"] == "tanh"
    with pytest.raises(ValueError, match="activation: got 'rleu', wants"):
        layer.activation = "rleu"
    assert layer.activation.name == "tanh"


def test_activation_may_be_an_op():
    assert layers.Dense(2, activation=ops.relu).activation.name == "relu"
    assert layers.Activation(ops.identity).activation == LINEAR
    with pytest.raises(TypeError, match="activation: got"):
        layers.Dense(2, activation=3)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [({"input_shape": (3, 2)}, (None, 3, 2)), ({"input_dim": 5}, (None, 5)), ({"input_shape": [4]}, (None, 4))],
)
def test_input_shape_of_the_first_layer(options, wanted):
    assert models.Sequential([layers.Dense(2, **options)]).input_shape == wanted


def test_input_shape_and_input_dim_together():
    with pytest.raises(ValueError, match="input_shape, input_dim: got both"):
        layers.Dense(2, input_shape=(3,), input_dim=3)


def test_input_layer():
    layer = layers.InputLayer(shape=(28, 28), batch_size=10, dtype="uint8")
    assert layer.output_shape == (None, 28, 28)
    x = np.ones((2, 28, 28), "float32")
    assert layer.forward(x)[0] is x
    with pytest.raises(ValueError, match="shape: got None"):
        layers.Input()
    with pytest.raises(TypeError, match="dtype: got"):
        layers.Input((3,), dtype="object")


class Doubled(layers.Layer):
    """A layer of the user's own, for predictions."""

    def forward(self, x, training=False, activate=True):
        return 2 * x, None

    def call(self, inputs):
        return self.forward(inputs)[0]


class Scaled(layers.Layer):
    """A layer of the user's own, with a weight a feature."""

    def make_parameters(self, input_shape):
        self.parameters = [layers.Parameter("scale", f"{self.name}/scale", np.ones(input_shape[-1], "float32"))]

    def forward(self, x, training=False, activate=True):
        return x * self.parameters[0].value, x

    def backward(self, dy, kept, need_dx=True):
        return (dy * self.parameters[0].value if need_dx else None), [(dy * kept).sum(axis=0)]


def test_a_layer_of_the_users_own_predicts_and_trains_layer_by_layer():
    x = np.random.default_rng(0).standard_normal((64, 3)).astype("float32")
    assert (Doubled()(x) == 2 * x).all()
    model = models.Sequential([layers.Input((3,)), Doubled(), Scaled(), layers.Dense(1)])
    model.compile(optimizers.SGD(0.1), "mse")
    assert "is a layer of the user's own" in str(model.plan())
    before, y = model.get_weights(), x @ np.array([[1.0], [-2.0], [0.5]], "float32")
    losses = model.fit(x, y, epochs=20, verbose=0).history["loss"]
    assert losses[-1] < 0.1 * losses[0]
    assert not any(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))


def test_a_layer_without_backward_says_so_when_a_gradient_is_to_flow_through_it():
    model = models.Sequential([layers.Input((3,)), layers.Dense(2), Doubled()])
    model.compile("sgd", "mse")
    before = model.get_weights()
    with pytest.raises(NotImplementedError, match=r"^Doubled: got a layer without backward to train with, wants one"):
        model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert all(np.array_equal(one, other) for one, other in zip(before, model.get_weights(), strict=True))
    with pytest.raises(NotImplementedError, match=r"^Layer: wants a method call\(inputs\) over"):
        layers.Layer()(np.ones((2, 3)))


def test_what_a_subclass_does_is_what_runs():
    class Negated(layers.Dense):
        def forward(self, x, training=False, activate=True):
            y, kept = super().forward(x, training, activate)
            return -y, kept

        def backward(self, dy, kept, need_dx=True):
            return super().backward(-dy, kept, need_dx)

    class Named(layers.Dense):
        """No other passes: the kernels' form will do."""

    x = np.ones((300, 3), "float32")
    model = models.Sequential([layers.Input((3,)), Negated(2, kernel_initializer="ones")])
    assert (model.predict(x, verbose=0) == -3).all()
    model.compile("sgd", "mse")
    assert model.plan(x).runner == "layerwise"
    other = models.Sequential([layers.Input((3,)), Named(2)])
    other.compile("sgd", "mse")
    assert other.plan(x).runner == "fused"


def test_a_layer_in_the_place_of_what_it_gives_is_refused():
    model = models.Sequential([layers.Dense(3)])
    for call in (layers.Dense(3), layers.Flatten(), model, model.predict):
        for given in (layers.Dense(4, name="d"), models.Sequential(name="d")):
            with pytest.raises(TypeError, match=r"^x: got the layer 'd' itself, wants an array of samples, or what a"):
                call(given)


@pytest.mark.parametrize("cls", sorted({*layers.NAMES.values()}, key=lambda cls: cls.__name__))
def test_layers_are_serialized(cls):
    needed = {
        "Dense": (3, "elu"),
        "Activation": ("mish",),
        "InputLayer": ((4,),),
        "Dropout": (0.5,),
        "Rescaling": (2.0,),
        "Embedding": (9, 2),
        "Permute": ((2, 1),),
        "RepeatVector": (3,),
        "Reshape": ((2, -1),),
        **dict.fromkeys(["SpatialDropout1D", "SpatialDropout2D"], (0.5,)),
        **dict.fromkeys(["SimpleRNN", "LSTM", "GRU", "SimpleRNNCell", "LSTMCell", "GRUCell"], (3,)),
        "StackedRNNCells": ([layers.GRUCell(2)],),
        "RNN": (layers.LSTMCell(2),),
        "TimeDistributed": (layers.Dense(2),),
        "Bidirectional": (layers.LSTM(2),),
        **dict.fromkeys(["Conv1D", "Conv1DTranspose", "Conv2D", "Conv2DTranspose"], (2, 3)),
        **dict.fromkeys(["SeparableConv1D", "SeparableConv2D"], (2, 3)),
        **dict.fromkeys(["DepthwiseConv1D", "DepthwiseConv2D"], (3,)),
        "Dot": (1,),
        **dict.fromkeys(["AlphaDropout", "GaussianNoise", "GaussianDropout"], (0.1,)),
        **dict.fromkeys(["Resizing", "CenterCrop", "RandomCrop"], (4, 5)),
        **dict.fromkeys(["RandomRotation", "RandomZoom", "RandomBrightness", "RandomContrast"], (0.1,)),
        "RandomTranslation": (0.1, 0.2),
        "CategoryEncoding": (3,),
        "Discretization": ([0.0, 1.0],),
        "MultiHeadAttention": (2, 3),
        "Function": ("relu", {"x": {"input": 0}}),
    }
    layer = cls(*needed.get(cls.__name__, ()), name="mine")
    again = layers.deserialize(layers.serialize(layer))
    assert type(again) is cls
    assert again.get_config() == layer.get_config()


def test_what_is_no_layer_of_the_library():
    with pytest.raises(ValueError, match="got an object of the class Mine, wants one of fastnn's own"):
        layers.serialize(type("Mine", (layers.Flatten,), {})())
    with pytest.raises(ValueError, match=r"config: got 'Dens', wants one of .* \(did you mean 'dense'\?\)"):
        layers.deserialize({"class_name": "Dens", "config": {}})
