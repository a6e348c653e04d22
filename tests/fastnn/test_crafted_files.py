"""Crafted model files: each gives a model that works, or the documented ValueError; quickly, and without taking memory.

Every value of a good file's description is replaced in turn by what does not belong there, every array is dropped,
renamed, reshaped and retyped, and the header is bent. The checksums are right: these files were written so.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import struct
import tracemalloc

import numpy as np
import pytest

from fastnn import layers, losses, metrics, models, optimizers, regularizers, saving, utils

IN, CLASSES, ROWS = 3, 4, 8
X = np.linspace(-1, 1, ROWS * IN, dtype="float32").reshape(ROWS, IN)
Y = utils.to_categorical(np.arange(ROWS) % CLASSES, CLASSES)

# A load may take this much, the file's own arrays (of 3 KiB) included.
MEMORY = 16 << 20


def good_model():
    utils.set_random_seed(0)
    model = models.Sequential(
        [
            layers.Input((IN,), dtype="float32"),
            layers.Rescaling(0.5, 0.1),
            layers.Dense(6, "relu", kernel_initializer="he_normal", kernel_regularizer=regularizers.L1L2(1e-4, 1e-3)),
            layers.Dropout(0.25, seed=1),
            layers.Activation("tanh"),
            layers.Flatten(),
            layers.Dense(CLASSES, "softmax", bias_initializer="ones", activity_regularizer="l2"),
        ],
        name="good",
    )
    model.compile(
        optimizers.Adam(0.01, amsgrad=True, clipnorm=1.0),
        losses.CategoricalCrossentropy(label_smoothing=0.1),
        metrics=["accuracy", metrics.TopKCategoricalAccuracy(k=2), metrics.BinaryAccuracy(threshold=0.4)],
        weighted_metrics=["mse"],
        backend="cpu",
        precision="float32",
    )
    model.fit(X, Y, verbose=0)
    return model


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """Arrays and document of a good file."""
    path = tmp_path_factory.mktemp("good") / "good.safetensors"
    good_model().save(path)
    return saving.read(path)


@pytest.fixture
def load(tmp_path):
    """Write a file as given, without asking whether it can be loaded, and load it."""
    path = tmp_path / "crafted.safetensors"

    def loaded(tensors, document):
        text = document if isinstance(document, str) else json.dumps(document)
        path.write_bytes(raw({name: (kind(array), array) for name, array in tensors.items()}, metadata(tensors, text)))
        return models.load_model(path)

    return loaded


def metadata(tensors, text):
    checksum = saving._checksum(tensors, text)
    return {"format": "fastnn-model", "format_version": "1", "checksum": checksum, "document": text}


def kind(array):
    """safetensors' name of a dtype."""
    return {"f": "F", "i": "I", "u": "U", "b": "BOOL"}[array.dtype.kind] + (
        "" if array.dtype.kind == "b" else str(8 * array.dtype.itemsize)
    )


def raw(tensors, notes):
    """The bytes of a safetensors file, whose tensors may be of any type."""
    header, data = {"__metadata__": notes}, b""
    for name, (dtype, array) in tensors.items():
        content = array.tobytes()
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    return framed(json.dumps(header).encode(), data)


def framed(header, data):
    return struct.pack("<Q", len(header)) + header + data


@contextlib.contextmanager
def little_memory():
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < MEMORY


def holds(load, *contents, watch=little_memory):
    """Load a file: True for a model that predicts, False for a ValueError; anything else fails the test."""
    refusal = None
    with watch():
        try:
            model = load(*contents)
        except ValueError as error:
            refusal = str(error)
    if refusal is not None:
        assert refusal.startswith("filepath: got ")
        assert len(refusal) < 1000
        return False
    with np.errstate(over="ignore", invalid="ignore"):  # a scale of 1e308 is a number like any other
        assert model.predict(X).shape == (ROWS, CLASSES)
        assert model.loss is None or "loss" in model.evaluate(X, Y, verbose=0, return_dict=True)
    return True


def places(document, path=()):
    """Every place in a document, as the keys that lead to it."""
    if path:
        yield path
    if isinstance(document, (dict, list)):
        for key in document if isinstance(document, dict) else range(len(document)):
            yield from places(document[key], (*path, key))


def changed(document, path, value):
    """A copy in which ``value`` stands at ``path``; it is left out there if it is ``...``."""
    copied = copy.deepcopy(document)
    parent = copied
    for key in path[:-1]:
        parent = parent[key]
    if value is ...:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return copied


VALUES = {
    "nothing": ...,
    "null": None,
    "true": True,
    "-1": -1,
    "0": 0,
    "2^63": 2**63,
    "10^400": 10**400,
    "1e308": 1e308,
    "NaN": float("nan"),
    "Infinity": float("inf"),
    "no text": "",
    "long text": "x" * 100_000,
    "half a surrogate": "\ud800",
    "no items": [],
    "no entries": {},
    "a billion": [10**9],
    "many items": list(range(300)),
    "a foreign key": {"self": 1},
}


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("value", VALUES)
def test_every_value_of_the_description(good, load, value, every):
    """All of them in the slow tests; else a third, which for each value begins at another place."""
    tensors, document = good
    chosen = list(places(document))[[*VALUES].index(value) % every :: every]
    # counting what is allocated makes a load five times as long
    watch = little_memory if value in ("2^63", "10^400", "1e308", "a billion") else contextlib.nullcontext
    held = [holds(load, tensors, changed(document, path, VALUES[value]), watch=watch) for path in chosen]
    assert len(held) > 100 // every
    assert held.count(False) > 50 // every


@pytest.mark.parametrize("depth", [31, 100, 900, 10_000])
def test_nesting(good, load, depth):
    tensors, document = good
    for path in list(places(document))[::5]:
        text = json.dumps(changed(document, path, "HERE")).replace('"HERE"', "[" * depth + "]" * depth)
        assert not holds(load, tensors, text)


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", '"Sequential"', "{", "nothing", "NaN", '{"class_name": 1e999}', "[" * 10**6]
)
def test_a_description_that_is_none(good, load, text):
    with pytest.raises(ValueError, match="whose description cannot be read"):
        load(good[0], text)


def test_a_layer_more_or_less_or_twice(good, load):
    tensors, document = good
    stack = document["config"]["layers"]
    for number, layer in enumerate(stack):
        for chosen in (
            [*stack[:number], *stack[number + 1 :]],
            [*stack, layer],
            [layer, *stack],
            [layer],
            [layer] * 50,
        ):
            config = {**document["config"], "layers": chosen}
            holds(load, tensors, {**document, "config": config})


DEFORMED = {
    "dropped": lambda array: None,
    "renamed": lambda array: None,
    "an axis more": lambda array: array[np.newaxis],
    "flat": lambda array: np.append(array.ravel(), array.dtype.type(0)),
    "transposed": lambda array: np.zeros((*array.shape[::-1], 1)[: array.ndim + (array.ndim < 2)], array.dtype),
    "empty": lambda array: array[:0],
    "a single number": lambda array: np.array(1, array.dtype),
    "float64": lambda array: array.astype("float64"),
    "int64": lambda array: array.astype("int64"),
    "bool": lambda array: array.astype("bool"),
    "float16": lambda array: array.astype("float16"),
}


@pytest.mark.parametrize("deformed", DEFORMED)
def test_every_array(good, load, deformed):
    tensors, document = good
    for name, array in tensors.items():
        bent = dict(tensors)
        del bent[name]
        other = DEFORMED[deformed](array)
        if deformed == "renamed":
            bent[f"{name}s"] = array
        elif other is not None:
            bent[name] = other
        assert not holds(load, bent, document), name


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite(good, load, value):
    tensors, document = good
    (name,) = [name for name in tensors if name.startswith("weights/0000/")]
    bad = tensors[name].copy()
    bad[1, 2] = value
    with pytest.raises(ValueError, match=r"dense.*/kernel: got -?(nan|inf) in row 1, wants finite numbers"):
        load({**tensors, name: bad}, document)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "BF16", "U8", "I8"])
def test_types_that_numpy_or_a_model_does_not_have(good, tmp_path, dtype):
    tensors, document = good
    path, content = tmp_path / "m", np.zeros(4, "uint16" if dtype == "BF16" else "uint8")
    ours = {name: (kind(array), array) for name, array in tensors.items()} | {"a": (dtype, content)}
    path.write_bytes(raw(ours, metadata(tensors, json.dumps(document))))
    with pytest.raises(ValueError, match=f"which holds a tensor of type {dtype} and 1 axes, 'a'"):
        models.load_model(path)
    path.write_bytes(raw({"a": (dtype, content)}, {"format": "pt"}))
    with pytest.raises(ValueError, match="a safetensors file of another program"):
        models.load_model(path)


def test_more_axes_than_numpy_has(good, tmp_path):
    tensors, document = good
    path, text = tmp_path / "m", json.dumps(document)
    for axes in (33, 65, 1000):
        header = {"__metadata__": metadata(tensors, text), "a": {"dtype": "F32", "shape": [1] * axes}}
        header["a"]["data_offsets"] = [0, 4]
        path.write_bytes(framed(json.dumps(header).encode(), bytes(4)))
        with pytest.raises(ValueError, match=f"and {axes} axes, 'a'"):
            models.load_model(path)


def test_headers_that_are_bent(good, tmp_path):
    """Lengths that are not its own, other JSON, and other bytes in its place."""
    tensors, document = good
    path = tmp_path / "m"
    whole = raw(
        {name: (kind(array), array) for name, array in tensors.items()}, metadata(tensors, json.dumps(document))
    )
    length = struct.unpack("<Q", whole[:8])[0]
    header, data = whole[8 : 8 + length], whole[8 + length :]
    files = [
        struct.pack("<Q", wrong) + header + data for wrong in (0, 1, length - 1, length + 1, 10**8, 2**63, 2**64 - 1)
    ]
    files += [
        framed(b"", data),
        framed(b"{}", data),
        framed(b"[]", b""),
        framed(b"[" * 10**6, b""),
        framed(b"\xff", b""),
    ]
    generator = np.random.default_rng(0)
    for place, byte in zip(generator.integers(0, length, 200), generator.integers(0, 256, 200), strict=True):
        bent = header[:place] + bytes([byte]) + header[place + 1 :]
        if bent != header and not (header[place : place + 1].isspace() and bytes([byte]).isspace()):
            files.append(framed(bent, data))
    for content in files:
        path.write_bytes(content)
        assert not holds(models.load_model, path)


# ---------------------------------------------------------------------------------------------------- one by one


def test_shapes_are_compared_before_memory_is_taken(good, load):
    """37 GiB, for a file of 3 KiB."""
    tensors, document = good
    for path in (("config", "input_shape"), ("config", "layers", 0, "config", "shape")):
        document = changed(document, path, [10**9])
    assert not holds(load, tensors, document)
    with pytest.raises(ValueError, match=r"weights/0000/.*shape \(3, 6\).*wants an array of shape \(1000000000, 6\)"):
        load(tensors, document)
    units = changed(good[1], ("config", "layers", 2, "config", "units"), 10**12)
    assert not holds(load, tensors, units)


@pytest.mark.parametrize("missing", ["v", "m", "v_max", "m v v_max"])
def test_a_slot_of_the_optimizer_is_missing(good, load, missing):
    tensors, document = good
    left = {
        name: array
        for name, array in tensors.items()
        if "/kernel/" not in name or name.rsplit("/")[-1] not in missing.split()
    }
    assert len(left) < len(tensors)
    with pytest.raises(ValueError, match=r"optimizer/dense.*/kernel/(m|v|v_max): got no such array, wants an array of"):
        load(left, document)


@pytest.mark.parametrize(
    ("entry", "value", "message"),
    [
        ("backend", 3, "backend: got int 3, wants one of 'auto', 'cuda', 'cpu', 'naive'"),
        ("backend", "gpu", "backend: got 'gpu', wants one of"),
        ("backend", None, "backend: got NoneType None, wants one of"),
        ("precision", "float16", "precision: got 'float16', wants one of 'float32', 'tf32', 'bfloat16', 'auto'"),
        ("precision", [], r"precision: got list \[\], wants one of"),
        ("iterations", 2**63, "iterations: got 9223372036854775808, wants an integer of at least 0 and at most"),
        ("iterations", -1, "iterations: got -1, wants an integer of at least 0"),
        ("iterations", 1.5, "iterations: got float 1.5, wants an integer"),
        ("state", ["dense/nothing"], "state: got 'dense/nothing', wants one of"),
        ("state", None, "state: got NoneType None, wants a list"),
        ("metrics", {}, "metrics: got dict {}, wants a list"),
    ],
)
def test_how_the_model_was_compiled(good, load, entry, value, message):
    tensors, document = good
    with pytest.raises(ValueError, match=message):
        load(tensors, changed(document, ("compile", entry), value))


def test_an_array_that_nobody_asks_for(good, load):
    tensors, document = good
    for name in ("weights/0004/dense/kernel", "something", next(iter(tensors)) + "/m"):
        with pytest.raises(ValueError, match="got an array of which the description says nothing"):
            load({**tensors, name: np.ones(3, "float32")}, document)


def test_a_file_of_version_0_1(good, load):
    """It does not name the parameters with state, and may hold the state of another model's parameters too."""
    tensors, document = good
    compiled = {name: value for name, value in document["compile"].items() if name != "state"}
    old = {**document, "compile": compiled}
    model = load({**tensors, "optimizer/another/kernel/m": np.ones(3, "float32")}, old)
    assert len(model.optimizer.state) == 4
    model.fit(X, Y, verbose=0)
    name = next(name for name in tensors if name.endswith("kernel/v"))
    with pytest.raises(ValueError, match="kernel/v: got no such array"):
        load({key: array for key, array in tensors.items() if key != name}, old)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ValueError, match=r"which is a FIFO; wants a file that fastnn's"):
        models.load_model(tmp_path / "fifo")
    with pytest.raises(IsADirectoryError):
        models.load_model(tmp_path)


def test_weights_in_the_order_of_saving(tmp_path, good):
    """The numbers in the names have more than four digits from the ten thousandth on."""
    from fastnn import serialization

    names = [f"weights/{number:04d}/{'zyx'[number % 3]}" for number in (0, 2, 10, 9_999, 10_000, 10_001, 123_456)]
    assert serialization.weights({name: name for name in reversed(names)}) == names
