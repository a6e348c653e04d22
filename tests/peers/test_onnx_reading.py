"""What ``from_onnx`` makes of files: ``to_onnx``'s own, PyTorch's, such as Keras's exporter writes, damaged ones."""

from __future__ import annotations

import io
import warnings
from itertools import pairwise

import numpy as np
import pytest

import fastnn
from fastnn import cli, layers, models, utils
from fastnn.onnx import proto
from tests.peers.test_onnx_writing import CASES, TOLERANCE, compare, drawn, run, several, with_weights

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install -e '.[peers]'")
pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install -e '.[peers]'")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402 - behind the skip

# What is refused of the models that to_onnx writes: what mixes the batch, masks of steps that were turned, lengths;
# images of sizes that are no multiples, categories, attention.
REFUSED = (
    *("GroupNormalization", "GroupNormalization of maps", "RMSNormalization", "RandomCrop", "EinsumDense"),
    *("RNN masked", "Bidirectional turned", "TimeDistributed", "own layer", "Dot cosines", "UnitNormalization"),
    *(
        "Lambda of waves",
        "CenterCrop larger",
        "UpSampling2D bilinear",
        "Attention",
        "AdditiveAttention",
        "MultiHeadAttention",
    ),
    *(name for name in CASES if name.startswith("Resizing") and "(8, 7)" not in name),
    *(name for name in CASES if name.startswith(("CategoryEncoding", "Discretization"))),
)
# Whose weights come back with ones and zeros for those that they lack.
COMPLETED = ("BatchNormalization bare", "LayerNormalization bare", "own layer of images", "Dot")


@pytest.mark.parametrize("name", [name for name in CASES if name not in REFUSED])
def test_a_round_trip_keeps_outputs_and_the_bits_of_weights(name):
    rng = np.random.default_rng(len(name))
    model = with_weights(CASES[name], rng)
    given = drawn(model, rng)
    given = given if len(given) > 1 else given[0]
    back = fastnn.from_onnx(proto(model).SerializeToString())
    np.testing.assert_allclose(
        back.predict(given, verbose=0), model.predict(given, verbose=0), rtol=TOLERANCE, atol=TOLERANCE
    )
    if name not in COMPLETED:
        assert [weight.shape for weight in back.weights] == [weight.shape for weight in model.weights]
        for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)
    if not name.startswith(("own", "SeparableConv", "Bidirectional", "RNN", "Dot")):  # which become several layers
        names = [[layer.name for layer in each.wired()[0] if layer.weights] for each in (back, model)]
        assert names[0] == names[1]


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_named(name):
    content = proto(with_weights(CASES[name], np.random.default_rng(0))).SerializeToString()
    with pytest.raises(ValueError, match=r"^source: got \d+ bytes, whose node '.*of the operator \w+"):
        fastnn.from_onnx(content)


def _masked_branches():
    """Two sequences of words, each with padding of its own."""
    words = [layers.Input((6,), dtype="int32") for _ in range(2)]
    found = [layers.LSTM(3)(layers.Embedding(9, 4, mask_zero=True)(each)) for each in words]
    return models.Model(words, layers.Concatenate()(found))


def _nodes(made, kind):
    return [node for node in made.graph.node if node.op_type == kind]


def _attribute(node, name):
    (found,) = (each for each in node.attribute if each.name == name)
    return found


def _another_step(made):
    body = _attribute(_nodes(made, "Scan")[0], "body").g
    next(node for node in body.node if node.op_type == "Tanh").op_type = "Softsign"


def _other_directions(made):
    _attribute(_nodes(made, "Scan")[0], "scan_input_directions").ints[:] = [0, 1]


def _a_first_state(made):
    made.graph.initializer.append(numpy_helper.from_array(np.float32(1), "one"))
    _nodes(made, "Expand")[0].input[0] = "one"


def _the_others_mask(made):
    one, other = _nodes(made, "Equal")
    one.input[0], other.input[0] = other.input[0], one.input[0]


def _a_mask_that_is_none(made):
    node = _nodes(made, "Not")[0]
    node.op_type = "Identity"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_another_step, "a body that is none of the cells"),
        (_other_directions, "directions that differ"),
        (_a_first_state, "a first state, wants zeros"),
        (_the_others_mask, "a mask that does not come with its inputs"),
        (_a_mask_that_is_none, "of the operator Equal"),
    ],
)
def test_scans_that_are_no_recurrent_layer_are_refused(change, message):
    made = proto(with_weights(_masked_branches, np.random.default_rng(0)))
    fastnn.from_onnx(made.SerializeToString())
    change(made)
    with pytest.raises(ValueError, match=f"^source: got .*{message}"):
        fastnn.from_onnx(made.SerializeToString())


def test_what_comes_back_masks_and_learns():
    """Embedding, mask, recurrent layers either way: as one layer each, which train on as the first model does."""
    utils.set_random_seed(4)
    model = models.Sequential(
        [
            layers.Embedding(20, 4, input_length=9, mask_zero=True),
            layers.Bidirectional(layers.GRU(3, return_sequences=True), "sum"),
            layers.LSTM(3, return_sequences=True, go_backwards=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(2, "softmax"),
        ]
    )
    back = fastnn.from_onnx(proto(model).SerializeToString())
    kinds = [type(layer).__name__ for layer in back.layers]
    assert kinds == ["InputLayer", "Embedding", "Bidirectional", "LSTM", "GlobalAveragePooling1D", "Dense"]
    x, y = np.random.default_rng(0).integers(0, 20, (40, 9)), np.arange(40) % 2
    losses = []
    for each in (model, back):
        each.compile("sgd", "sparse_categorical_crossentropy")
        losses.append(each.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)


def test_layers_that_were_shared_are_shared():
    rng = np.random.default_rng(0)
    model = with_weights(several, rng)
    given = drawn(model, rng)
    back = fastnn.from_onnx(proto(model).SerializeToString())
    assert back.count_params() == model.count_params()
    for ours, theirs in zip(back.predict(given, verbose=0), model.predict(given, verbose=0).values(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=TOLERANCE, atol=TOLERANCE)


def test_layers_that_share_weights_but_no_activation():
    x = layers.Input((4,))
    shared = layers.Dense(4, name="shared")
    model = models.Model(x, layers.add([layers.Activation("tanh")(shared(x)), shared(shared(x))]))
    rows = np.random.default_rng(0).standard_normal((3, 4)).astype("float32")
    back = fastnn.from_onnx(proto(model).SerializeToString())
    assert len(back.weights) == 2
    np.testing.assert_allclose(back.predict(rows, verbose=0), model.predict(rows, verbose=0), atol=TOLERANCE)


def test_what_is_read_can_be_trained_on(tmp_path):
    """Fused: the layers have their activations again; and saved, and written again."""
    utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((256, 6)).astype("float32"), rng.integers(0, 3, 256)
    model = models.Sequential([layers.Input((6,)), layers.Dense(16, "gelu"), layers.Dense(3, "softmax")])
    fastnn.to_onnx(model, tmp_path / "model.onnx")
    back = fastnn.from_onnx(tmp_path / "model.onnx")
    assert [layer.activation.name for layer in back.layers[1:]] == ["gelu", "softmax"]
    curves = []
    for each in (model, back):
        each.compile("sgd", "sparse_categorical_crossentropy")
        curves.append(each.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*curves, rtol=1e-6)
    assert curves[0][-1] < curves[0][0]
    back.save(tmp_path / "model.safetensors")
    again = models.load_model(tmp_path / "model.safetensors")
    compare(run(proto(again).SerializeToString(), [x]), model.predict(x, verbose=0))


def test_the_command_converts_either_way(tmp_path, capsys):
    """What the model file has beside the model, how it was compiled say, an ONNX file has not."""
    model = with_weights(CASES["Dense"], np.random.default_rng(0))
    paths = [tmp_path / name for name in ("first.safetensors", "other.ONNX", "last.safetensors")]
    model.save(paths[0])
    assert [cli.main(["convert", str(a), str(b)]) for a, b in pairwise(paths)] == [0, 0]
    assert capsys.readouterr().out == f"{paths[1]}: 2 layers, 36 parameters\n{paths[2]}: 3 layers, 36 parameters\n"
    for ours, theirs in zip(models.load_model(paths[2]).get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert cli.main(["convert", str(paths[0]), str(paths[1]), "--opset", "20"]) == 0
    assert onnx.load(paths[1]).opset_import[0].version == 20
    paths[1].write_bytes(b"no model")
    assert cli.main(["convert", str(paths[1]), str(paths[2])]) == 2
    assert "damaged or no ONNX file" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------------- PyTorch


def torch_models():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[peers]'")
    nn = torch.nn

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
            self.norm = nn.BatchNorm2d(8)

        def forward(self, x):
            return torch.relu(x + self.norm(self.second(torch.relu(self.first(x)))))

    class Viewed(nn.Module):
        def forward(self, x):
            return x.view(x.size(0), -1)

    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    names = "LeakyReLU ELU SELU CELU Hardswish Mish Softplus LogSigmoid Hardsigmoid Softsign ReLU6 Hardtanh SiLU GELU"
    spread = nn.ConvTranspose2d(4, 3, 3, stride=2, padding=1, output_padding=1)
    return torch, {
        "mlp": (nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 3), nn.Softmax(-1)), (6,)),
        "activations": (nn.Sequential(*(getattr(nn, name)() for name in names.split()), nn.Linear(6, 3)), (6,)),
        "slopes": (nn.Sequential(nn.Linear(6, 4), nn.PReLU(4), nn.Linear(4, 4), nn.GELU("tanh")), (6,)),
        "residual": (
            nn.Sequential(
                nn.Conv2d(3, 8, 7, 2, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(3, 2, 1),
                Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
            ),
            (3, 32, 32),
        ),
        "viewed": (nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), Viewed(), nn.Linear(144, 3)), (1, 8, 8)),
        "spread": (
            nn.Sequential(nn.Conv2d(2, 4, 3, 2, 1), spread, nn.ReLU(), nn.ConvTranspose2d(3, 2, 4, 2, 1)),
            (2, 8, 8),
        ),
        "depthwise": (
            nn.Sequential(
                nn.Conv2d(4, 8, 3, groups=4), nn.ReLU6(), nn.AvgPool2d(2), nn.ZeroPad2d((1, 2, 0, 1)),
                nn.Upsample(scale_factor=2), Mean(), nn.Linear(8, 2),
            ),
            (4, 9, 9),
        ),
        "sequences": (
            nn.Sequential(
                nn.Conv1d(3, 4, 3, padding=2, dilation=2), nn.BatchNorm1d(4), nn.ReLU(), nn.MaxPool1d(2),
                nn.AvgPool1d(3, 1, 1), nn.Flatten(), nn.Linear(20, 2), nn.BatchNorm1d(2),
            ),
            (3, 10),
        ),
        "normalised": (nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.ReLU(), nn.LayerNorm([4, 8])), (4, 6)),
        "words": (nn.Sequential(nn.Embedding(20, 6), nn.LayerNorm(6), nn.Linear(6, 4)), None),
    }  # fmt: skip


def exported(torch, module, x, opset, is_free):
    """What PyTorch's exporter writes that needs no other package."""
    file = io.BytesIO()
    axes = {"x": {0: "n"}} if is_free else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, dynamo=False, opset_version=opset, input_names=["x"], dynamic_axes=axes)
    return file.getvalue()


TORCH = (
    *("mlp", "activations", "slopes", "residual", "viewed"),
    *("spread", "depthwise", "sequences", "normalised", "words"),
)


@pytest.mark.parametrize("name", TORCH)
@pytest.mark.parametrize(("opset", "is_free"), [(13, True), (17, False), (17, True), (20, True)])
def test_pytorch_models(name, opset, is_free):
    torch, listed = torch_models()
    torch.manual_seed(0)
    module, shape = listed[name]
    module.eval()
    x = torch.randn(3, *shape) if shape else torch.randint(0, 20, (3, 7))
    model = fastnn.from_onnx(exported(torch, module, x, opset, is_free))
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(model.predict(x.numpy(), verbose=0), expected, rtol=TOLERANCE, atol=TOLERANCE)
    assert model.input_shape == (None, *x.shape[1:])  # channels first, as the file's


@pytest.mark.parametrize("cell", ["RNN", "LSTM", "GRU"])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("is_free", [False, True])
def test_pytorch_recurrent_models(cell, both, is_free):
    """Two layers, and of their outputs the last step."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install -e '.[peers]'")

    class Last(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.cells = getattr(torch.nn, cell)(4, 6, num_layers=2, batch_first=True, bidirectional=both)
            self.linear = torch.nn.Linear(12 if both else 6, 3)

        def forward(self, x):
            return self.linear(self.cells(x)[0][:, -1])

    torch.manual_seed(0)
    module, x = Last().eval(), torch.randn(3, 5, 4)
    content = exported(torch, module, x, 17, is_free)
    model = fastnn.from_onnx(content)
    kind = "Bidirectional" if both else {"RNN": "SimpleRNN"}.get(cell, cell)
    assert [type(layer).__name__ for layer in model.layers[1:3]] == [kind, kind]
    expected = module(x).detach().numpy()
    np.testing.assert_allclose(model.predict(x.numpy(), verbose=0), expected, rtol=TOLERANCE, atol=TOLERANCE)


# -------------------------------------------------------------------------------------------- Keras's, TensorFlow's way


def made(nodes, shape, constants, opset=15):
    """A file's bytes: nodes over the input "x", the last one's result being the output, of a shape that it has not."""
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *shape])]
    output = helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, None)
    arrays = [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, "graph", inputs, [output], arrays)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8).SerializeToString()


def node(kind, takes, gives, **attributes):
    return helper.make_node(kind, takes, [gives], name=f"model/{gives}/{kind}", **attributes)


def f32(rng, *shape):
    return rng.standard_normal(shape).astype("float32")


def test_channels_last_between_transposes_needs_no_permute():
    """As a Keras model reaches ONNX: the image transposed, convolved, transposed back, flattened, multiplied."""
    rng = np.random.default_rng(0)
    constants = {"k": f32(rng, 4, 3, 3, 3), "b": f32(rng, 4), "w": f32(rng, 144, 5), "c": f32(rng, 5)}
    constants["shape"] = np.array([-1, 144], np.int64)
    content = made(
        [
            node("Transpose", ["x"], "first", perm=[0, 3, 1, 2]),
            node("Conv", ["first", "k", "b"], "conv", auto_pad="SAME_UPPER", strides=[2, 2]),
            node("Relu", ["conv"], "relu"),
            node("Transpose", ["relu"], "last", perm=[0, 2, 3, 1]),
            node("Reshape", ["last", "shape"], "flat"),
            node("MatMul", ["flat", "w"], "product"),
            node("Add", ["product", "c"], "dense"),
            node("Softmax", ["dense"], "softmax", axis=1),
        ],
        (12, 12, 3),
        constants,
    )
    model = fastnn.from_onnx(content)
    assert [type(layer).__name__ for layer in model.layers] == ["InputLayer", "Conv2D", "Flatten", "Dense"]
    assert [layer.name for layer in model.layers] == ["x", "model_conv", "model_flat", "model_dense"]
    assert model.layers[1].padding == "same"
    x = f32(rng, 3, 12, 12, 3)
    compare(run(content, [x]), model.predict(x, verbose=0))


def test_a_pattern_whose_parts_others_take_is_none():
    """x * sigmoid(x), and sigmoid(x) once more."""
    nodes = [node("Sigmoid", ["x"], "s"), node("Mul", ["x", "s"], "m"), node("Add", ["m", "s"], "y")]
    content = made(nodes, (2,), {})
    x = f32(np.random.default_rng(0), 3, 2)
    model = fastnn.from_onnx(content)
    assert [type(layer).__name__ for layer in model.layers[1:]] == ["Activation", "Multiply", "Add"]
    compare(run(content, [x]), model.predict(x, verbose=0))


def test_an_activation_stays_apart_from_what_others_take_too():
    """Here the product is taken as it is under another name, too."""
    constants = {"w": np.float32([[1, -2], [3, 4]])}
    nodes = [
        node("MatMul", ["x", "w"], "product"),
        node("Identity", ["product"], "same"),
        node("Relu", ["same"], "relu"),
        node("Add", ["product", "relu"], "y"),
    ]
    content = made(nodes, (2,), constants)
    x = f32(np.random.default_rng(0), 3, 2)
    compare(run(content, [x]), fastnn.from_onnx(content).predict(x, verbose=0))


@pytest.mark.parametrize(
    ("nodes", "shape", "constants"),
    [
        ([node("Mul", ["x", "s"], "m"), node("Add", ["m", "o"], "y")], (4,), {"s": np.float32(3), "o": np.float32(2)}),
        ([node("Div", ["x", "s"], "y")], (4,), {"s": np.float32([1, 2, 3, 4])}),
        ([node("Sub", ["x", "s"], "y")], (2, 4), {"s": np.float32([1, 2, 3, 4])}),
        ([node("Mul", ["x", "s"], "y")], (4,), {"s": np.float32([1, -2, 0, 4])}),
        ([node("Mul", ["s", "x"], "y")], (2, 3), {"s": np.float32([[[1], [2]]])}),
        ([node("Mul", ["x", "s"], "y")], (4, 3, 3), {"s": np.float32([1, -2, 0, 4]).reshape(4, 1, 1)}),
        (
            [node("Mul", ["x", "s"], "m"), node("Add", ["m", "o"], "y")],
            (2,),
            {"s": np.float32([3, -1]), "o": np.float32([2, 1])},
        ),
        ([node("Sub", ["s", "x"], "y")], (2, 4), {"s": np.float32([2])}),
        ([node("Add", ["s", "x"], "y")], (2, 3), {"s": np.float32([[[1], [2]]])}),
        ([node("Clip", ["x", "a", "b"], "y")], (4,), {"a": np.float32(0), "b": np.float32(0.5)}),
        ([node("Gemm", ["x", "w"], "y", alpha=2.0)], (4,), {"w": np.ones((4, 3), "float32")}),
        (
            [node("Gemm", ["x", "w", "c"], "y", transB=1, beta=3.0)],
            (4,),
            {"w": np.ones((3, 4), "float32"), "c": np.float32([5])},
        ),
        ([node("Pad", ["x", "p"], "y")], (3, 5, 5), {"p": np.int64([0, 0, 1, 2, 0, 0, 0, 3])}),
        ([node("Pad", ["x", "p"], "y")], (3, 5, 5), {"p": np.int64([0, 1, 0, 2, 0, 2, 0, 3])}),
        (
            [node("Slice", ["x", "a", "b", "i"], "y")],
            (3, 5),
            {"a": np.int64([1]), "b": np.int64([-1]), "i": np.int64([2])},
        ),
        ([node("ReduceMax", ["x"], "y", axes=[1], keepdims=0)], (3, 5), {}),
        ([node("ReduceMean", ["x"], "y", axes=[-1])], (3, 5), {}),
        ([node("Squeeze", ["x", "a"], "y")], (1, 5), {"a": np.int64([1])}),
        ([node("Transpose", ["x"], "t", perm=[0, 2, 1]), node("Softmax", ["t"], "y", axis=1)], (3, 5), {}),
        ([node("AveragePool", ["x"], "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0], count_include_pad=1)], (3, 5, 5), {}),
        ([node("MaxPool", ["x"], "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], (3, 4, 4), {}),
        ([node("Concat", ["x", "x"], "t", axis=1), node("GlobalMaxPool", ["t"], "y")], (3, 5, 5), {}),
        ([node("Max", ["x", "x"], "y")], (3,), {}),
        (
            [node("Cast", ["x"], "c", to=1), node("Dropout", ["c"], "d"), node("Identity", ["d"], "y")],
            (3,),
            {},
        ),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)  # fmt: skip
def test_single_operators(nodes, shape, constants):
    content = made(nodes, shape, constants)
    x = f32(np.random.default_rng(1), 3, *shape)
    compare(run(content, [x]), fastnn.from_onnx(content).predict(x, verbose=0))


GATES = {"w": np.ones((1, 6, 4), "float32"), "r": np.ones((1, 6, 2), "float32"), "h": np.ones((1, 1, 2), "float32")}
GATES["n"] = np.int32([3])
AFTER = {"linear_before_reset": 1}


@pytest.mark.parametrize(
    ("nodes", "shape", "constants", "message"),
    [
        ([node("Sin", ["x"], "y")], (4,), {}, "whose node 'model/y/Sin' is of the operator Sin; understood are Add, "),
        ([node("Transpose", ["x"], "y", perm=[1, 0])], (4,), {}, "the batch as axis 1, wants it as axis 0"),
        ([node("MatMul", ["x", "x"], "y")], (4,), {}, "has a matrix 'x' that depends on the inputs, wants a constant"),
        ([node("Div", ["x", "x"], "y")], (4,), {}, "two values that depend on the inputs"),
        ([node("Div", ["x", "s"], "y")], (2,), {"s": np.float32([-1, 2])}, "a constant below 0 to multiply with"),
        ([node("Gemm", ["x", "w"], "y", transA=1)], (4,), {"w": np.ones((4, 3), "float32")}, "transA 1, wants 0"),
        ([node("Reshape", ["x", "s"], "y")], (4,), {"s": np.int64([-1, 2])}, "wants the batch first, as it is"),
        ([node("MaxPool", ["x"], "y", kernel_shape=[2, 2], pads=[1, 1, 0, 0])], (3, 5, 5), {}, "inputs of at least 0"),
        ([node("MaxPool", ["x"], "y", kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1)], (3, 5, 5), {}, "ceil_mode 1"),
        ([node("Conv", ["x", "k"], "y")], (1, 4, 4, 4), {"k": np.ones((1, 1, 2, 2, 2), "float32")}, "3 spatial axes"),
        ([node("Flatten", ["x"], "y", axis=2)], (3, 4), {}, "axis 2, wants 1"),
        ([node("Clip", ["x", "a"], "y")], (4,), {"a": np.float32(-3)}, "bounds -3.0 and None"),
        ([node("HardSigmoid", ["x"], "y")], (4,), {}, "alpha None, wants 0.166667"),
        ([node("Gather", ["x", "i"], "y", axis=1)], (4,), {"i": np.int64(0)}, "wants one step of sequences"),
        ([node("Resize", ["x", "", "s"], "y", mode="linear")], (1, 4, 4), {"s": np.ones(4, "float32")}, "mode lin"),
        ([node("Pad", ["x", "p"], "y", mode="reflect")], (4, 4), {"p": np.int64([0, 1, 0, 0, 0, 0])}, "wants zeros"),
        ([node("Relu", ["x"], "y")], ("t", 4), {}, "wants a fixed size along axis 1"),
        ([node("GRU", ["x", "w", "r"], "y", hidden_size=2)], (3, 4), GATES, "linear_before_reset 0, wants 1"),
        ([node("GRU", ["x", "w", "r"], "y", hidden_size=2, layout=1)], (3, 4), GATES, "layout, clip or input_forget"),
        ([node("GRU", ["x", "w", "r", "", "", "h"], "y", hidden_size=2, **AFTER)], (3, 4), GATES, "a first state"),
        ([node("GRU", ["x", "w", "r", "", "n"], "y", hidden_size=2, **AFTER)], (3, 4), GATES, "lengths of sequences"),
        ([node("GRU", ["x", "w", "r"], "y", hidden_size=2, **AFTER)], (3, 4), GATES, "the batch as axis 0"),
        ([node("Identity", ["c"], "y")], (4,), {"c": np.ones(3, "float32")}, "whose output 'y' is a constant"),
    ],
    ids=lambda value: value[-1].op_type if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_not_understood_is_refused_by_the_nodes_name(nodes, shape, constants, message, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(made(nodes, shape, constants))
    with pytest.raises(ValueError, match=f"^source: got '.*other.onnx', .*{message}"):
        fastnn.from_onnx(path)


# ----------------------------------------------------------------------------------------------------------- bad files


@pytest.fixture(scope="module")
def content():
    return proto(with_weights(CASES["Conv2D groups"], np.random.default_rng(0))).SerializeToString()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_truncated_files(content, share, tmp_path):
    path = tmp_path / "cut.onnx"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"^source: got '.*cut.onnx', which is damaged or no ONNX file"):
        fastnn.from_onnx(path)


def test_damaged_files_are_refused_or_read(content):
    """Any flipped byte: an error of the right type, or a model."""
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(content), 200):
        damaged = bytearray(content)
        damaged[place] ^= 0xFF
        try:
            fastnn.from_onnx(bytes(damaged))
        except ValueError as error:
            assert str(error).startswith("source: got ")  # noqa: PT017


@pytest.mark.parametrize("data", [b"PK\x03\x04 a zip archive", b"no model at all", bytes(1000)])
def test_files_of_another_kind(data, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"^source: got '.*other.onnx', which is damaged or no ONNX file"):
        fastnn.from_onnx(path)


def test_no_files(tmp_path):
    with pytest.raises(FileNotFoundError):
        fastnn.from_onnx(tmp_path / "missing.onnx")
    with pytest.raises(IsADirectoryError):
        fastnn.from_onnx(tmp_path)
    with pytest.raises(TypeError, match=r"^source: got int 3"):
        fastnn.from_onnx(3)
    with pytest.raises(ValueError, match=r"^source: got ''"):
        fastnn.from_onnx("")


@pytest.mark.parametrize("opset", [8, 1000])
def test_other_opsets(opset):
    changed = onnx.load_from_string(made([node("Relu", ["x"], "y")], (4,), {}, opset=15))
    changed.opset_import[0].version = opset
    with pytest.raises(ValueError, match=r"^source: got .*opset"):
        fastnn.from_onnx(changed.SerializeToString())


def test_external_data(tmp_path):
    """Read from beside the file; nothing is read from elsewhere."""
    model = with_weights(CASES["Dense"], np.random.default_rng(0))
    written = proto(model)
    onnx.save(written, tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    back = fastnn.from_onnx(tmp_path / "model.onnx")
    for ours, theirs in zip(back.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    with pytest.raises(ValueError, match=r"^source: got .* bytes, whose weights lie in another file"):
        fastnn.from_onnx((tmp_path / "model.onnx").read_bytes())
    (tmp_path / "weights").unlink()
    with pytest.raises((ValueError, FileNotFoundError), match="weights"):
        fastnn.from_onnx(tmp_path / "model.onnx")


def test_without_the_package(monkeypatch):
    monkeypatch.setattr("fastnn.onnx.packages.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"ONNX files need onnx, which is not installed: pip install \"\.\[onnx\]\""):
        fastnn.from_onnx(b"")
    with pytest.raises(ImportError, match="ONNX files need onnx"):
        proto(CASES["Dense"]())
