"""Graphs of layers beside PyTorch's and Keras's: loss curves of graphs drawn at random, weights of Keras's files."""

from __future__ import annotations

import os

import numpy as np
import pytest

from fastnn import layers, models, optimizers, utils

torch = pytest.importorskip("torch")

ROWS, WIDTH = 48, 5
MERGING = {
    "Add": lambda *x: sum(x[1:], x[0]),
    "Multiply": lambda a, b: a * b,
    "Average": lambda *x: sum(x[1:], x[0]) / len(x),
    "Maximum": torch.maximum,
    "Minimum": torch.minimum,
    "Subtract": lambda a, b: a - b,
    "Concatenate": lambda *x: torch.cat(x, -1),
}
ACTIVATIONS = {"linear": lambda z: z, "relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


def drawn(rng):
    """A model of two inputs and two outputs, and the same function of PyTorch's tensors and the model's weights."""
    inputs = [layers.Input((int(rng.integers(2, 5)),), name=name) for name in ("a", "b")]
    steps, values = [], [*inputs]
    shared = []
    for _ in range(int(rng.integers(4, 10))):
        place = [int(rng.integers(len(values))) for _ in range(2)]
        wide = [at for at in range(len(values)) if values[at].shape[-1] == WIDTH]
        kind = rng.choice(["dense", "shared", "merge", "model"]) if len(wide) > 1 else "dense"
        activation = str(rng.choice([*ACTIVATIONS]))
        if kind == "merge":
            name = str(rng.choice([*MERGING]))
            pair = [int(at) for at in rng.choice(wide, 2)]
            layer = getattr(layers, name)()
            values.append(layer([values[at] for at in pair]))
            steps.append((name, pair, None, None))
            continue
        if kind == "shared" and shared:
            layer, activation = shared[int(rng.integers(len(shared)))]
            place = [int(rng.choice(wide))]
        else:
            layer = layers.Dense(WIDTH, activation, dtype="float64")
            if kind == "model":
                layer = models.Sequential([layer])
            place = [int(rng.choice(wide)) if kind == "shared" else place[0]]
            if values[place[0]].shape[-1] == WIDTH:
                shared.append((layer, activation))
        values.append(layer(values[place[0]]))
        steps.append(("dense", place, layer, activation))
    last = [layers.Dense(1, dtype="float64", name=name) for name in ("one", "two")]
    joined = layers.concatenate(values[1:], name="all")
    outputs = [last[0](joined), last[1](layers.Concatenate(name="some")([values[0], values[-1]]))]

    def function(arrays, weights):
        found = [*arrays]
        for name, place, layer, activation in steps:
            given = [found[at] for at in place]
            if name == "dense":
                w, b = (weights[id(parameter)] for parameter in layer.weights)
                found.append(ACTIVATIONS[activation](given[0] @ w + b))
            else:
                found.append(MERGING[name](*given))
        one, two = ([weights[id(parameter)] for parameter in layer.weights] for layer in last)
        ends = torch.cat(found[1:], -1), torch.cat([found[0], found[-1]], -1)
        return ends[0] @ one[0] + one[1], ends[1] @ two[0] + two[1]

    return models.Model(inputs, outputs), function


@pytest.mark.parametrize("seed", range(12))
def test_graphs_drawn_at_random_have_pytorchs_loss_curves(seed):
    rng = np.random.default_rng(seed)
    utils.set_random_seed(seed)
    model, function = drawn(rng)
    arrays = [rng.standard_normal((ROWS, shape[-1])) for shape in model.input_shape]
    targets = [rng.standard_normal((ROWS, 1)) for _ in range(2)]
    shares = [1.0, 0.3]
    model.compile(optimizers.SGD(0.01, momentum=0.9), "mse", loss_weights=shares)
    weights = {id(p): torch.tensor(p.numpy(), requires_grad=True) for p in model.weights}
    descent = torch.optim.SGD(weights.values(), lr=0.01, momentum=0.9)
    wanted = []
    for _ in range(8):
        total = 0.0
        for first in range(0, ROWS, 16):
            rows = slice(first, first + 16)
            found = function([torch.tensor(array[rows]) for array in arrays], weights)
            losses = [((y - torch.tensor(t[rows])) ** 2).mean() for y, t in zip(found, targets, strict=True)]
            loss = sum(share * part for share, part in zip(shares, losses, strict=True))
            descent.zero_grad()
            loss.backward()
            descent.step()
            total += loss.item() / 3
        wanted.append(total)
    got = model.fit(arrays, targets, batch_size=16, epochs=8, shuffle=False, verbose=0).history["loss"]
    assert got == pytest.approx(wanted, rel=1e-8)
    for parameter in model.weights:
        assert np.allclose(parameter.value, weights[id(parameter)].detach().numpy(), rtol=1e-6, atol=1e-9)


def built(kind):
    """One architecture in Keras, in fastnn."""
    library = kind.layers
    a, b = library.Input((3,), name="a"), library.Input((4,), name="b")
    shared = library.Dense(5, "tanh")
    inner = kind.Sequential([library.Input((5,)), library.Dense(5), library.BatchNormalization()], name="inner")
    h = library.Add()([shared(a), library.Dense(5, name="named")(b)])
    h = library.Concatenate()([inner(h), shared(a), library.PReLU()(h)])
    return kind.Model([a, b], [library.Dense(2, "softmax", name="classes")(h), library.Dense(1, name="number")(h)])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of NumPy, for what Keras does with tensors
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_weights_of_keras_files(tmp_path, suffix):
    pytest.importorskip("h5py")
    os.environ.setdefault("KERAS_BACKEND", "torch")
    keras = pytest.importorskip("keras")
    import fastnn

    theirs = built(keras)
    rng = np.random.default_rng(0)
    theirs.set_weights([rng.uniform(0.1, 1, w.shape) for w in theirs.get_weights()])
    theirs.compile("adam", "mse")
    path = tmp_path / f"model{suffix}"
    (theirs.save_weights if suffix == ".weights.h5" else theirs.save)(path)

    class Ours:
        layers, Model, Sequential = fastnn.layers, fastnn.models.Model, fastnn.models.Sequential

    ours = built(Ours)
    assert [tuple(w.shape) for w in theirs.get_weights()] == [p.shape for p in ours.weights]
    assert [layer.name for layer in theirs.layers if "input" not in layer.name][-2:] == ["classes", "number"]
    ours.load_weights(path)
    assert all(map(np.array_equal, ours.get_weights(), theirs.get_weights()))
    x = [rng.standard_normal((6, 3)).astype("float32"), rng.standard_normal((6, 4)).astype("float32")]
    for one, other in zip(ours.predict(x), theirs.predict(x, verbose=0), strict=True):
        assert np.allclose(one, other, rtol=1e-5, atol=1e-6)
    other = fastnn.Sequential([fastnn.Input((3,)), fastnn.layers.Dense(7)])
    with pytest.raises(ValueError, match=r"dense.*: got arrays of shapes .* in the file, wants \[\(3, 7\), \(7,\)\]"):
        other.load_weights(path)
    (tmp_path / "text.h5").write_text("no such thing")
    with pytest.raises(ValueError, match="wants weights as Keras 3 writes them"):
        other.load_weights(tmp_path / "text.h5")
