"""Graphs of layers: what they compute, how they are trained, saved and described, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fastnn import layers, losses, models, optimizers, utils
from fastnn.engine import plan
from fastnn.models import Functional, Model

RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((96, 3)), RNG.standard_normal((96, 4))
LABELS, NUMBERS = (A[:, 0] > 0).astype(int), B.sum(1, keepdims=True)


def two_by_two(**options):
    """Two inputs, a shared layer, a model inside that is called twice, a skip, two outputs."""
    utils.set_random_seed(1)
    a, b = layers.Input((3,), name="a"), layers.Input((4,), name="b")
    shared = layers.Dense(5, "tanh", name="shared")
    inner = models.Sequential([layers.Input((5,)), layers.Dense(5, "relu", name="in_inner")], name="inner")
    wide = shared(layers.Dense(3, name="narrow")(b))
    h = layers.Add(name="sum")([shared(a), wide])
    h = layers.Average(name="mean")([inner(h), h])
    classes = layers.Dense(2, "softmax", name="classes")(h)
    number = layers.Dense(1, name="number")(inner(h))
    return Model({"a": a, "b": b}, [classes, number], **options)


def compiled(model, optimizer="sgd", **options):
    model.compile(
        optimizer,
        {"classes": "sparse_categorical_crossentropy", "number": "mse"},
        {"classes": ["accuracy"], "number": "mae"},
        loss_weights={"number": 0.25},
        **options,
    )
    return model


def by_hand(model, a, b):
    """What the model of ``two_by_two`` gives, in NumPy."""
    w = {p.path: p.numpy().astype(np.float64) for p in model.weights}

    def dense(x, name, f=lambda z: z):
        return f(x @ w[f"{name}/kernel"] + w[f"{name}/bias"])

    h = dense(a, "shared", np.tanh) + dense(dense(b, "narrow"), "shared", np.tanh)
    h = (dense(h, "in_inner", lambda z: np.maximum(z, 0)) + h) / 2
    logits = dense(h, "classes")
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    return shares, dense(dense(h, "in_inner", lambda z: np.maximum(z, 0)), "number")


def test_outputs_are_those_of_the_same_maths():
    model = two_by_two(name="mine")
    assert isinstance(model, Functional)
    assert isinstance(model, Model)
    assert [layer.name for layer in model.layers[-2:]] == ["classes", "number"]
    assert (model.input_shape, model.output_shape) == ([(None, 3), (None, 4)], [(None, 2), (None, 1)])
    assert (model.input_names, model.output_names) == (["a", "b"], ["classes", "number"])
    wanted = by_hand(model, A, B)
    for given in ({"a": A, "b": B}, {"b": B, "a": A}, [A, B], (A, B)):
        for got in (model.predict(given, batch_size=32), model.predict_on_batch(given), model(given)):
            assert isinstance(got, list)
            for one, other in zip(got, wanted, strict=True):
                assert np.allclose(one, other, rtol=1e-5, atol=1e-6)
    assert [y.shape for y in model.predict([A[:0], B[:0]])] == [(0, 2), (0, 1)]


def test_training_minimises_the_weighted_sum_of_the_losses():
    """One step of SGD against central differences of the loss by hand."""
    model = compiled(two_by_two(), optimizers.SGD(0.5))
    before = {p.path: p.numpy().astype(np.float64) for p in model.weights}

    def loss():
        shares, number = by_hand(model, A, B)
        parts = -np.log(shares[np.arange(96), LABELS]).mean(), ((number - NUMBERS) ** 2).mean()
        return parts[0] + 0.25 * parts[1], *parts

    wanted, slopes = loss(), {}
    for parameter in model.weights:
        kept = parameter.value
        slope = np.zeros(parameter.shape)
        for at in np.ndindex(parameter.shape):
            sides = []
            for step in (1e-5, -1e-5):
                parameter.value = before[parameter.path].copy()
                parameter.value[at] += step
                sides.append(loss()[0])
            slope[at] = (sides[0] - sides[1]) / 2e-5
        parameter.value = kept
        slopes[parameter.path] = slope
    figures = model.train_on_batch([A, B], [LABELS, NUMBERS], return_dict=True)
    assert [*figures] == ["loss", "classes_loss", "number_loss", "classes_accuracy", "number_mae"]
    assert [*figures.values()][:3] == pytest.approx(wanted, rel=1e-5)
    for parameter in model.weights:
        step = before[parameter.path] - parameter.value
        assert np.allclose(step, 0.5 * slopes[parameter.path], rtol=1e-3, atol=1e-5), parameter.path


def test_fits_are_recorded_and_the_same_for_any_number_of_threads():
    found = []
    for threads, eager in ((1, False), (2, False), (4, False), (2, True)):
        model = compiled(two_by_two(), "adam", run_eagerly=eager)
        history = model.fit([A, B], [LABELS, NUMBERS], batch_size=8, epochs=3, verbose=0, threads=threads).history
        found.append((history, model.get_weights()))
    assert found[0][0]["loss"][-1] < found[0][0]["loss"][0]
    for history, weights in found[1:]:
        assert history == found[0][0]
        assert all(map(np.array_equal, weights, found[0][1]))
    assert "layer by layer, because it was asked for (run_eagerly)" in str(model.plan())
    assert "layer by layer, because the layers are a graph, not a stack" in str(compiled(two_by_two()).plan())


def test_figures_agree_with_evaluation_and_names():
    model = compiled(two_by_two(), optimizers.SGD(1e-9))
    data = {"x": {"a": A, "b": B}, "y": {"classes": LABELS, "number": NUMBERS}}
    validation = (data["x"], data["y"])
    history = model.fit(**data, batch_size=32, verbose=0, validation_data=validation).history
    assert [*history] == [*model.metrics_names, *(f"val_{name}" for name in model.metrics_names)]
    found = model.evaluate(**data, batch_size=32, verbose=0, return_dict=True)
    for name, value in found.items():
        assert history[name][0] == pytest.approx(value, rel=1e-4)
        assert history[f"val_{name}"][0] == pytest.approx(value, rel=1e-6)


def test_weights_of_samples_by_output():
    """A weight of 0 takes a sample out, of one output or of all."""
    ones, some = np.ones(96), (np.arange(96) % 2).astype(float)
    for weights, halves in (({"number": some}, [False, True]), ([ones, some], [False, True]), (some, [True, True])):
        model = compiled(two_by_two())
        got = model.test_on_batch([A, B], [LABELS, NUMBERS], sample_weight=weights, return_dict=True)
        rows = some > 0
        plain = compiled(two_by_two())
        whole = plain.test_on_batch([A, B], [LABELS, NUMBERS], return_dict=True)
        half = plain.test_on_batch([A[rows], B[rows]], [LABELS[rows], NUMBERS[rows]], return_dict=True)
        for name, halved in zip(("classes_loss", "number_loss"), halves, strict=True):
            assert got[name] == pytest.approx(half[name] / 2 if halved else whole[name], rel=1e-5)
    with pytest.raises(ValueError, match="class_weight: got one for a model of several outputs"):
        model.fit([A, B], [LABELS, NUMBERS], class_weight={0: 1.0}, verbose=0)


def test_an_output_without_a_loss_trains_nothing_but_may_be_judged():
    model = two_by_two()
    model.compile("sgd", {"number": "mse"}, {"classes": ["accuracy"]})
    before = model.get_layer("classes").get_weights()
    figures = model.fit([A, B], {"classes": LABELS, "number": NUMBERS}, epochs=2, batch_size=8, verbose=0).history
    assert [*figures] == ["loss", "number_loss", "classes_accuracy"]
    assert all(map(np.array_equal, before, model.get_layer("classes").get_weights()))
    model.compile("sgd", {"number": "mse"})
    model.fit([A, B], {"number": NUMBERS}, verbose=0)


def test_a_chain_of_layers_is_a_stack_to_the_engine():
    """However it was written: as a graph, or with models inside."""
    x = layers.Input((3,))
    chain = Model(x, layers.Dense(2, "softmax")(layers.Dense(4, "relu")(x)))
    inside = models.Sequential([layers.Input((3,)), models.Sequential([layers.Dense(4, "relu")]), layers.Dense(2)])
    for model in (chain, inside):
        model.compile("sgd", losses.SparseCategoricalCrossentropy(from_logits=model is inside))
        assert model.plan(A).runner == plan.cpu.RUNNER
        assert model.predict(A).shape == (96, 2)
        assert model.fit(A, LABELS, epochs=2, verbose=0).history["loss"]
        again = Model.from_config(model.get_config())
        again.set_weights(model.get_weights())
        assert np.array_equal(again.predict(A), model.predict(A))


def test_frozen_layers_stay_and_gradients_flow_past_them():
    model = compiled(two_by_two(), optimizers.SGD(0.1))
    model.get_layer("inner").trainable = False
    before = {p.path: p.numpy() for p in model.weights}
    model.fit([A, B], [LABELS, NUMBERS], batch_size=8, epochs=2, verbose=0)
    changed = {p.path for p in model.weights if not np.array_equal(p.value, before[p.path])}
    assert changed == {path for path in before if not path.startswith("in_inner")}


def test_what_layers_give_can_be_looked_at():
    model = two_by_two()
    between = Model(model.inputs, [model.get_layer("mean").output, model.outputs[1]])
    assert between.predict([A, B])[1] == pytest.approx(model.predict([A, B])[1])
    assert between.predict([A, B])[0].shape == (96, 5)
    stack = models.Sequential([layers.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)])
    hidden = Model(stack.inputs, stack.layers[0].output)
    assert np.array_equal(hidden.predict(A), stack.layers[0](A))
    assert hidden.layers[1] is stack.layers[0]
    stack.pop()
    assert stack.output.shape == (None, 4)
    with pytest.raises(AttributeError, match="shared: got 2 calls on symbolic tensors, wants one"):
        _ = model.get_layer("shared").output


def test_from_a_value_in_between():
    """A model may begin where another layer ends."""
    x = layers.Input((3,))
    h = layers.Dense(4, "relu")(x)
    top = Model(h, layers.Dense(2)(h))
    assert top.input_shape == (None, 4)
    assert top.predict(B).shape == (96, 2)
    with pytest.raises(
        ValueError, match=r"inputs: got 'dense.*', which a layer gives, wants an Input in a description"
    ):
        top.get_config()


def test_outputs_by_name():
    a = layers.Input((3,), name="a")
    model = Model(a, {"twice": layers.add([a, a]), "squared": a * a})
    found = model.predict(A)
    assert [*found] == ["twice", "squared"]
    assert np.allclose(found["twice"], 2 * A, rtol=1e-6)
    assert np.allclose(found["squared"], A * A, rtol=1e-5)


@pytest.mark.parametrize("form", ["file", "json", "clone", "config"])
def test_saved_models_are_the_same_models(form, tmp_path):
    utils.set_random_seed(0)
    model = compiled(two_by_two(), "adam")
    model.fit([A, B], [LABELS, NUMBERS], verbose=0)
    if form == "file":
        model.save(tmp_path / "model.safetensors")
        again = models.load_model(tmp_path / "model.safetensors")
    elif form == "json":
        again = models.model_from_json(model.to_json(indent=2))
    else:
        again = models.clone_model(model) if form == "clone" else Model.from_config(model.get_config())
    assert [p.path for p in again.weights] == [p.path for p in model.weights]
    assert not any(one is other for one, other in zip(again.weights, model.weights, strict=True))
    if form != "file":
        again.set_weights(model.get_weights())
    for one, other in zip(again.predict([A, B]), model.predict([A, B]), strict=True):
        assert np.array_equal(one, other)
    assert json.dumps(again.get_config()) == json.dumps(model.get_config())
    if form == "file":
        assert again.metrics_names == model.metrics_names
        for each in (model, again):
            each.fit([A, B], [LABELS, NUMBERS], verbose=0, shuffle=False)
        assert all(map(np.array_equal, model.get_weights(), again.get_weights()))
        model.save_weights(tmp_path / "weights.safetensors")
        two = two_by_two()
        two.load_weights(tmp_path / "weights.safetensors")
        assert all(map(np.array_equal, model.get_weights(), two.get_weights()))


def test_a_backup_goes_on(tmp_path):
    """The masks' seeds are kept by layer, those of models inside included."""
    from fastnn import callbacks

    def made():
        utils.set_random_seed(5)
        x = layers.Input((3,))
        drop = models.Sequential([layers.Input((8,)), layers.Dropout(0.5), layers.Dense(8, "relu")])
        h = layers.Dense(8, "relu")(x)
        model = Model(x, layers.Dense(1)(layers.add([drop(h), h])))
        model.compile("adam", "mse")
        return model

    whole = made()
    whole.fit(A, NUMBERS, epochs=4, verbose=0)
    part = made()
    part.fit(A, NUMBERS, epochs=2, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path, delete_checkpoint=False)])
    rest = made()
    rest.fit(A, NUMBERS, epochs=4, verbose=0, callbacks=[callbacks.BackupAndRestore(tmp_path)])
    assert all(map(np.array_equal, whole.get_weights(), rest.get_weights()))


def test_summary_says_what_layers_are_connected_to(capsys):
    two_by_two(name="mine").summary()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Model 'mine'"
    assert lines[2].split() == ["Layer", "(type)", "Output", "shape", "Parameters", "Connected", "to"]
    rows = {line.split()[0]: line for line in lines[4:13]}
    assert rows["shared"].endswith("20  a, narrow")
    assert rows["inner"].endswith("30  sum, mean")
    assert rows["sum"].endswith("0  shared, shared")
    assert rows["a"].endswith("0")


def test_signs_between_symbolic_tensors_are_layers():
    a, b = layers.Input((3,)), layers.Input((3,))
    found = Model([a, b], [a + b, a - b, a * b]).predict([A, 2 * A])
    assert [np.allclose(y, wanted, rtol=1e-5) for y, wanted in zip(found, (3 * A, -A, 2 * A * A), strict=True)]
    with pytest.raises(TypeError, match="does not support ufuncs"):
        np.add(a, np.ones(3))


def test_signs_between_arrays_and_symbolic_tensors_are_layers():
    a = layers.Input((3,))
    left, right = Model(a, a + np.arange(3.0)), Model(a, np.arange(3.0) * a)
    assert left.predict(A) == pytest.approx(A + np.arange(3), rel=1e-5)
    assert right.predict(A) == pytest.approx(A * np.arange(3), rel=1e-5)


MERGING = {
    layers.Add: lambda *x: sum(x),
    layers.Multiply: lambda *x: np.prod(x, axis=0),
    layers.Average: lambda *x: np.mean(x, axis=0),
    layers.Maximum: lambda *x: np.maximum.reduce(x),
    layers.Minimum: lambda *x: np.minimum.reduce(x),
    layers.Subtract: lambda x, y: x - y,
}


@pytest.mark.parametrize("cls", MERGING, ids=lambda cls: cls.__name__)
def test_merging_layers(cls):
    """Values, and gradients by central differences, in float64; a size of 1 stretches."""
    count = 2 if cls is layers.Subtract else 3
    shapes = [(4, 2, 3), (4, 2, 3), (4, 2, 3)][:count]
    stretched = [(4, 2, 3), (4, 1, 3), (4, 2, 1)][:count]
    for sizes in (shapes, stretched):
        arrays = [RNG.standard_normal(size) for size in sizes]
        layer = cls(dtype="float64")
        assert layer.compute_output_shape([(None, *size[1:]) for size in sizes]) == (None, 2, 3)
        wanted = MERGING[cls](*np.broadcast_arrays(*arrays))
        assert np.allclose(layer(arrays), wanted, rtol=1e-14)
        dy = RNG.standard_normal((4, 2, 3))
        _, kept = layer.forward(arrays, training=True)
        dx, gradients = layer.backward(dy, kept)
        assert not gradients
        for place, array in enumerate(arrays):
            for at in [(0,) * 3, tuple(size - 1 for size in array.shape)]:
                sides = []
                for step in (1e-6, -1e-6):
                    moved = [each.copy() for each in arrays]
                    moved[place][at] += step
                    sides.append(float((dy * MERGING[cls](*np.broadcast_arrays(*moved))).sum()))
                assert dx[place][at] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-7)
    function = getattr(layers, cls.__name__.lower())
    inputs = [layers.Input((3,)) for _ in range(count)]
    assert function(inputs, name="merged").name == "merged"


A_, B_, WIDE = layers.Input((3,), name="a"), layers.Input((4,), name="b"), layers.Input((3, 1), name="wide")

REFUSED = {
    "shapes": (
        lambda: layers.Add(name="m")([A_, B_]),
        r"m: got inputs of shapes \(None, 3\), \(None, 4\), wants equal",
    ),
    "axes": (lambda: layers.add([A_, WIDE], name="m"), r"m: got inputs of shapes .*, wants as many axes in each"),
    "no list": (lambda: layers.Add(name="m")(A_), r"m: got one input of shape \(None, 3\), wants a list of inputs"),
    "three": (lambda: layers.Subtract(name="m")([A_] * 3), "m: got 3 inputs, wants a list of 2 inputs"),
    "kernel": (
        lambda: (dense := layers.Dense(2, name="d"), dense(A_), dense(B_)),
        r"d: got input shape \(None, 4\), wants \(None, 3\)",
    ),
    "disconnected": (lambda: Model([A_, B_], layers.Dense(2)(A_)), r"inputs: got 'b', which no output depends on"),
    "missing": (
        lambda: Model(A_, layers.subtract([A_, layers.Dense(3)(B_)], name="m")),
        "inputs: got none of the name 'b', which the output 'm' depends on",
    ),
    "twice": (lambda: Model([A_, A_], layers.Dense(2)(A_)), "inputs: got 'a' 2 times, wants every input once"),
    "names": (
        lambda: Model(A_, layers.Dense(2, name="d")(layers.Dense(2, name="d")(A_))),
        "layers: got 2 layers of the name 'd', wants every name once",
    ),
    "dtypes": (
        lambda: Model(A_, layers.Dense(2, dtype="float64")(layers.Dense(2)(A_))),
        "layers: got .* by dtype, wants layers of one dtype",
    ),
    "nothing": (lambda: Model([], []), "inputs: got none, wants at least one"),
    "itself": (lambda: (s := models.Sequential(name="s"), s.add(s)), "layer: got the model 's' itself"),
    "loss": (
        lambda: two_by_two().compile("sgd", {"classes": "mse", "numbr": "mse"}),
        "loss: got 'numbr', wants one entry for each output: classes, number",
    ),
    "losses": (lambda: two_by_two().compile("sgd", ["mse"]), "loss: got 1 entries, wants 2, one for each output"),
    "input": (
        lambda: compiled(two_by_two()).fit({"a": A}, [LABELS, NUMBERS]),
        "x: got nothing for 'b', wants one entry for each input: a, b",
    ),
    "rows": (
        lambda: compiled(two_by_two()).fit([A, B[1:]], [LABELS, NUMBERS]),
        r"x\['b'\]: got 95 rows, wants 96, as many as 'a'",
    ),
    "sample": (
        lambda: compiled(two_by_two()).fit([A, A], [LABELS, NUMBERS]),
        r"x\['b'\]: got shape \(96, 3\), wants \(n, 4\), the model's input",
    ),
    "target": (
        lambda: compiled(two_by_two()).fit([A, B], {"classes": LABELS}),
        "y: got nothing for 'number', wants one entry for each output",
    ),
    "labels": (
        lambda: compiled(two_by_two()).fit([A, B], [LABELS + 5, NUMBERS]),
        r"y\['classes'\]: got .*wants class indices|y\['classes'\]: .*\[0, 2\)",
    ),
    "cycle": (
        lambda: Model.from_config(CYCLE),
        "layers: got a call of 'one' that waits for itself or for none, wants no cycle",
    ),
}
CYCLE = Model(A_, layers.Add(name="two")([A_, layers.Add(name="one")([A_])])).get_config()
CYCLE["layers"][1]["calls"] = [[{"of": ["two", 0, 0]}]]


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_by_name(case):
    call, message = REFUSED[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_what_is_no_symbolic_tensor_is_refused():
    for given in (layers.Dense(2, name="d"), np.ones((2, 3)), None):
        with pytest.raises(TypeError, match=r"outputs: got .*, wants what Input gives, or a layer called on that"):
            Model(A_, given)
    with pytest.raises(TypeError, match="inputs, outputs: got none, wants symbolic tensors"):
        Model()
    with pytest.raises(TypeError, match=r"x: got ndarray.*, wants a list or dict of 2 inputs: a, b"):
        two_by_two().predict(A)
