"""The layer-by-layer runner: gradients of whole networks by central differences, on every backend."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import backends, initializers, layers, losses, ops, optimizers, regularizers, utils
from fastnn.engine import DataSet, LayerwiseRunner, Network, input_source, seeds
from fastnn.engine.data import Batch

BACKENDS = [name for name, state in backends.available_backends().items() if state.available and name != "cuda"]
GENERATOR = np.random.default_rng(0)
N, IN, OUT = 4, 3, 2
PENALTY = regularizers.L1L2(0.01, 0.02)

STACKS = {
    "linear": lambda: [layers.Dense(OUT, dtype="float64")],
    "two layers": lambda: [layers.Dense(4, "tanh", dtype="float64"), layers.Dense(OUT, "sigmoid", dtype="float64")],
    "penalties": lambda: [
        layers.Dense(4, "sigmoid", kernel_regularizer=PENALTY, bias_regularizer="l2", dtype="float64"),
        layers.Activation("tanh", activity_regularizer=PENALTY),
        layers.Dense(OUT, "softmax", activity_regularizer=regularizers.L2(0.3), dtype="float64"),
    ],
    "softmax layer": lambda: [
        layers.Dense(4, "relu", dtype="float64"),
        layers.Dense(OUT),
        layers.Activation("softmax"),
    ],
    "flatten last": lambda: [layers.Dense(OUT, "tanh", use_bias=False, dtype="float64"), layers.Flatten()],
}
LOSSES = {
    "mse": losses.MeanSquaredError(),
    "half_sse": losses.HalfSSE(),
    "mae": losses.MeanAbsoluteError(),
    "binary": losses.BinaryCrossentropy(label_smoothing=0.1),
    "categorical": losses.CategoricalCrossentropy(reduction="sum"),
    "sparse": losses.SparseCategoricalCrossentropy(),
}
# A cross-entropy of outputs that are no probabilities is constant where it is clipped.
PROBABILITIES = {"binary": {"two layers", "penalties", "softmax layer"}, "categorical": {"penalties", "softmax layer"}}
PROBABILITIES["sparse"] = PROBABILITIES["categorical"]
PAIRS = [(stack, loss) for stack in STACKS for loss in LOSSES if stack in PROBABILITIES.get(loss, STACKS)]


def network(stack, loss):
    utils.set_random_seed(4)
    made = STACKS[stack]()
    shape = (None, IN)
    for layer in made:
        if isinstance(layer, layers.Dense):
            layer.dtype = "float64"
            layer.bias_initializer = initializers.RandomNormal(stddev=0.5)
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return Network(made, np.dtype("float64"), loss=LOSSES[loss])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("stack", "loss"), PAIRS)
def test_gradients_of_the_whole_loss(stack, loss, backend):
    net = network(stack, loss)
    labels = GENERATOR.integers(0, OUT, N)
    y = labels if LOSSES[loss].integer_targets else np.eye(OUT)[labels]
    batch = Batch(GENERATOR.normal(size=(N, IN)), y, GENERATOR.uniform(0.5, 2, N), N)
    runner = LayerwiseRunner(net, backend)
    with backends.use_backend(backend):
        value, _, gradients = runner.gradients(batch)
        for parameter, gradient in zip(net.parameters, gradients, strict=True):
            for index in np.ndindex(parameter.shape):
                kept = parameter.value[index]
                sides = []
                for step in (1e-6, -1e-6):
                    parameter.value[index] = kept + step
                    sides.append(runner.gradients(batch)[0])
                parameter.value[index] = kept
                assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-8)
    data = DataSet(input_source("x", batch.x, net.dtype), batch.y, batch.sample_weight, batch.y.dtype)
    assert runner.evaluate(data, N)["loss"] == pytest.approx(value, rel=1e-13)


def dropping(rate=0.5, seeds=(None, 3)):
    """A dropout on the inputs and one behind the first layer."""
    utils.set_random_seed(4)
    made = [
        layers.Dropout(rate, seed=seeds[0]),
        layers.Dense(4, "tanh", dtype="float64"),
        layers.Dropout(rate, seed=seeds[1]),
        layers.Dense(OUT, dtype="float64"),
    ]
    shape = (None, IN)
    for layer in made:
        layer.build(shape)
        shape = layer.compute_output_shape(shape)
    return Network(made, np.dtype("float64"), losses.MeanSquaredError(), optimizers.SGD(0.1))


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_behind_dropout(backend):
    """The masks of a step stay the same until its update is made, so the loss can be differentiated."""
    net = dropping()
    batch = Batch(GENERATOR.normal(size=(N, IN)), GENERATOR.normal(size=(N, OUT)), None, N)
    runner = LayerwiseRunner(net, backend)
    with backends.use_backend(backend):
        _, _, gradients = runner.gradients(batch)
        for parameter, gradient in zip(net.parameters, gradients, strict=True):
            for index in np.ndindex(parameter.shape):
                kept = parameter.value[index]
                sides = []
                for step in (1e-6, -1e-6):
                    parameter.value[index] = kept + step
                    sides.append(runner.gradients(batch)[0])
                parameter.value[index] = kept
                assert gradient[index] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5, abs=1e-8)


def drawn(monkeypatch, runner, rows=10, epochs=2):
    """What the layers of a training run draw their masks from, call by call."""
    draws = []

    def spy(x, rate, seed, step, stream):
        draws.append((seed, step, stream))
        return x

    monkeypatch.setattr(ops, "dropout", spy)
    data = DataSet(input_source("x", np.ones((rows, IN)), runner.network.dtype), np.ones((rows, OUT)), None, "f8")
    for epoch in range(epochs):
        runner.train_epoch(data, 4, None, epoch)
    runner.evaluate(data, 4)
    runner.predict(data.x, 4)
    return draws


def test_masks_of_steps_epochs_layers_and_fits(monkeypatch):
    """Each has its own; evaluation and prediction have none."""
    first, second = (LayerwiseRunner(dropping(), "cpu") for _ in range(2))
    draws = drawn(monkeypatch, first)
    assert [step for _, step, _ in draws] == [step for step in range(6) for _ in range(2)]
    assert len(set(draws)) == 12
    assert {(seed, stream) for seed, _, stream in draws} == {(first.mask_seeds[0], 0), (3, 2)}
    utils.set_random_seed(1)
    assert drawn(monkeypatch, second)[0][0] != first.mask_seeds[0]
    third = LayerwiseRunner(dropping(), "cpu")
    utils.set_random_seed(1)
    drawn(monkeypatch, third)
    assert third.mask_seeds == second.mask_seeds


def test_no_seed_is_drawn_where_none_is_needed(monkeypatch):
    for net in (dropping(seeds=(1, 2)), dropping(rate=0.0)):
        before = seeds.generator().bit_generator.state
        drawn(monkeypatch, LayerwiseRunner(net, "cpu"))
        assert seeds.generator().bit_generator.state == before


def test_fusion():
    assert network("softmax layer", "categorical").fused_loss is not None
    assert network("two layers", "binary").fused_loss is not None
    assert network("penalties", "sparse").fused_loss is None  # the penalty needs the probabilities
    assert network("flatten last", "mse").fused_loss is None
    assert Network([], np.dtype("float32")).fused_loss is None


def test_no_gradient_flows_below_the_first_layer_that_learns(monkeypatch):
    net = network("two layers", "mse")
    first, second = net.layers
    asked = []
    for layer in (first, second):
        plain = layer.backward

        def spy(dy, kept, need_dx=True, *, plain=plain, name=layer.name):
            asked.append((name, need_dx))
            return plain(dy, kept, need_dx)

        monkeypatch.setattr(layer, "backward", spy)
    batch = Batch(np.ones((N, IN)), np.ones((N, OUT)), None, N)
    LayerwiseRunner(net, "naive").gradients(batch)
    assert asked == [(second.name, True), (first.name, False)]
    asked.clear()
    first.trainable = False
    _, _, gradients = LayerwiseRunner(net, "naive").gradients(batch)
    assert asked == [(second.name, False)]
    assert len(gradients) == 2


def test_a_network_without_a_loss_cannot_be_trained():
    net = Network(network("linear", "mse").layers, np.dtype("float64"))
    data = DataSet(input_source("x", np.ones((2, IN)), net.dtype), np.ones((2, OUT)), None, net.dtype)
    with pytest.raises(RuntimeError, match="without an optimizer"):
        LayerwiseRunner(net, "naive").train_epoch(data, 2)
    with pytest.raises(RuntimeError, match="without a loss"):
        LayerwiseRunner(net, "naive").evaluate(data, 2)
