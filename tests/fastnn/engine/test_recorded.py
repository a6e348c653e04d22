"""Recorded steps of the layer-by-layer runner: the bits of op by op, whatever changes; what is not recorded."""

from __future__ import annotations

import numpy as np
import pytest

import fastnn
from fastnn import callbacks, engine, layers, losses, models, ops, optimizers, regularizers, utils
from fastnn.engine import recorded
from fastnn.errors import DivergenceError

GENERATOR = np.random.default_rng(0)
ROWS, IN, OUT = 44, 6, 3
X = GENERATOR.standard_normal((ROWS, IN)).astype("float32")
LABELS = GENERATOR.integers(0, OUT, ROWS)
TARGETS = GENERATOR.random((ROWS, OUT)).astype("float32")
WEIGHTS = GENERATOR.uniform(0.5, 2, ROWS)
EPOCHS = 3


@pytest.fixture(autouse=True)
def layerwise(monkeypatch):
    monkeypatch.setitem(engine.RUNNERS, "fused", engine.LayerwiseRunner)


class Counting(layers.Layer):
    """The inputs without those below 0, and how often Python was asked for that."""

    def __init__(self, **options):
        super().__init__(**options)
        self.calls = 0

    def forward(self, x, training=False, activate=True):
        self.calls += 1
        y = ops.relu(x)
        return y, (x, y)

    def backward(self, dy, kept, need_dx=True):
        return ops.relu_backward(dy, *kept), ()


class Recordable(Counting):
    """The same, which may be left out."""

    recordable = True


class WithNumPy(Counting):
    """One that says so, and cannot be recorded."""

    recordable = True

    def forward(self, x, training=False, activate=True):
        self.calls += 1
        y = np.maximum(x, 0)
        return y, (x, y)


def trained(monkeypatch, build, op_by_op, y=LABELS, batch_size=10, change=None, threads=None, **options):
    """History and weights of a fit, whose batches are recorded after ``op_by_op`` of a size."""
    monkeypatch.setattr(recorded, "OP_BY_OP", op_by_op)
    utils.set_random_seed(2)
    model = build()
    listeners = []
    if change is not None:
        listeners.append(callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: change(model, batch)))
    history = model.fit(X, y, batch_size, EPOCHS, verbose=0, callbacks=listeners, threads=threads, **options).history
    return history, [weight.tobytes() for weight in model.get_weights()], model


def compiled(*stack, loss="sparse_categorical_crossentropy", optimizer="adam", metrics=("accuracy",)):
    model = models.Sequential([layers.Input((IN,)), *stack])
    model.compile(optimizer, loss, list(metrics))
    return model


STACKS = {
    "dense": lambda: compiled(layers.Dense(7, "tanh"), layers.Dense(OUT, "softmax")),
    "one layer": lambda: compiled(layers.Dense(OUT, "softmax", use_bias=False)),
    "dropout": lambda: compiled(
        layers.Dropout(0.2, seed=2**62 + 1), layers.Dense(7, "gelu"), layers.Dropout(0.5), layers.Dense(OUT, "softmax")
    ),
    "penalties": lambda: compiled(
        layers.Dense(7, "relu", kernel_regularizer="l2", bias_regularizer="l1"),
        layers.Dense(OUT, "softmax", kernel_regularizer=regularizers.L1L2(0.01, 0.02)),
    ),
    "frozen": lambda: compiled(layers.Dense(7, "relu", trainable=False), layers.Dense(OUT, "softmax")),
    "constraint": lambda: compiled(
        layers.Dense(7, "relu", kernel_constraint="max_norm"), layers.PReLU(), layers.Dense(OUT, "softmax")
    ),
    "outputs apart": lambda: compiled(layers.Dense(7, layers.activations.leaky_relu), layers.Dense(OUT), layers.ELU(2)),
}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("stack", STACKS)
def test_bits_are_those_of_op_by_op(monkeypatch, stack, weights, threads):
    """With short last batches and masks that change from step to step."""
    build = STACKS[stack]
    options = {"threads": threads, "sample_weight": weights}
    if stack == "outputs apart":
        options["y"], build = TARGETS, lambda: with_loss(STACKS[stack](), losses.Huber())
    (one, wanted, _), (other, got, _) = (trained(monkeypatch, build, n, **options) for n in (1000, 1))
    assert (got, other) == (wanted, one)


def with_loss(model, loss):
    model.compile("rmsprop", loss, ["mae"])
    return model


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["plain", "weighted"])
def test_python_is_left_out_where_a_layer_allows_it(monkeypatch, weights):
    """Of each size two batches run op by op and one is recorded; the others are replayed."""
    steps = -(-ROWS // 10) * EPOCHS

    def build(kind):
        return compiled(kind(), layers.Dense(OUT, "softmax"))

    results = [
        trained(monkeypatch, lambda kind=kind: build(kind), 2, sample_weight=weights)
        for kind in (Counting, Recordable, WithNumPy)
    ]
    calls = [model.layers[0].calls for _, _, model in results]
    assert calls[0] == steps
    assert calls[1] == 2 * 3
    assert calls[2] == steps + 1  # the recording that failed
    assert results[0][:2] == results[1][:2] == results[2][:2]


class Failing(Recordable):
    """Fails in Python that a replay leaves out, or of a batch op by op."""

    def forward(self, x, training=False, activate=True):
        if training and self.calls >= 1:
            self.calls += 1
            raise TypeError("a mistake of its own")
        return super().forward(x, training, activate)


def test_errors_are_the_users_own(monkeypatch):
    with pytest.raises(TypeError, match="a mistake of its own"):
        trained(monkeypatch, lambda: compiled(Failing(), layers.Dense(OUT, "softmax")), 1)


def test_subclasses_say_so_themselves():
    class Own(layers.Dense):
        def forward(self, x, training=False, activate=True):
            return super().forward(x, training, activate)

    assert layers.Dense(1).recordable
    assert not Own(1).recordable
    assert not Counting().recordable


@pytest.mark.parametrize(
    ("stack", "loss", "recordable"),
    [
        ([layers.Dense(OUT, "softmax")], "sparse_categorical_crossentropy", True),
        ([layers.Dense(OUT, ops.tanh)], "mse", True),
        ([layers.Dense(OUT, lambda x: ops.tanh(x))], "mse", False),  # noqa: PLW0108 - a function of the user's
        ([layers.Dense(OUT)], lambda y_true, y_pred: ops.mse(y_pred, y_true), False),
        ([layers.Dense(OUT, kernel_regularizer="l1")], "mse", True),
        ([layers.Dense(OUT, kernel_regularizer="orthogonal_regularizer")], "mse", False),
        ([layers.Dense(OUT, activity_regularizer="orthogonal_regularizer")], "mse", False),
    ],
)
def test_what_is_recorded(stack, loss, recordable):
    assert recorded.is_recordable(compiled(*stack, loss=loss, metrics=())._network()) == recordable


def replace_weights(model, batch):
    model.layers[0].kernel.value = model.layers[0].kernel.value * np.float32(0.5)


def change_rate(model, batch):
    model.layers[1].rate = 0.1 * (batch % 4)


def change_penalty(model, batch):
    model.layers[0].kernel_regularizer.l1 = 0.1 * (batch // 3)


def change_activation(model, batch):
    model.layers[0].activation = "tanh" if batch % 4 < 2 else "relu"


def change_learning_rate(model, batch):
    model.optimizer.learning_rate = 0.01 / (batch + 1)


def change_threads(model, batch):
    fastnn.backends.set_num_threads(1 + batch % 2)


CHANGES = [replace_weights, change_rate, change_penalty, change_activation, change_learning_rate, change_threads]


@pytest.mark.parametrize("change", CHANGES)
def test_changes_between_steps(monkeypatch, change):
    threads = fastnn.backends.get_num_threads()

    def build():
        return compiled(
            layers.Dense(7, "relu", kernel_regularizer=regularizers.L1(0.0)),
            layers.Dropout(0.5),
            layers.Dense(OUT, "softmax"),
        )

    try:
        results = [trained(monkeypatch, build, n, batch_size=3, change=change)[:2] for n in (1000, 1)]
    finally:
        fastnn.backends.set_num_threads(threads)
    assert results[0] == results[1]


def change_loss(model, batch):
    model.loss.delta = 0.1 + 0.2 * (batch // 3)


def test_numbers_of_the_loss_may_change(monkeypatch):
    def build():
        return compiled(layers.Dense(OUT), loss=losses.Huber(), metrics=())

    results = [trained(monkeypatch, build, n, y=TARGETS, batch_size=3, change=change_loss)[:2] for n in (1000, 1)]
    assert results[0] == results[1]
    assert results[0] != trained(monkeypatch, build, 1, y=TARGETS, batch_size=3)[:2]


def test_a_metric_may_keep_scores(monkeypatch):
    kept = []

    def keeping(y_true, y_pred):
        kept.append(y_pred)
        return np.zeros(len(y_pred))

    def build():
        return compiled(layers.Dense(OUT), loss="mse", metrics=[keeping])

    for n in (1000, 1):
        trained(monkeypatch, build, n, y=TARGETS)
    half = len(kept) // 2
    assert [scores.tobytes() for scores in kept[:half]] == [scores.tobytes() for scores in kept[half:]]


def test_wrong_labels_are_named(monkeypatch):
    """By the op whose batch has them, replayed or not."""
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    model = compiled(layers.Dense(OUT, "softmax"))
    runner = engine.LayerwiseRunner(model._network(), "cpu")
    batch = engine.Batch(X, LABELS, None, ROWS)
    for _ in range(4):
        runner.gradients(batch)
    wrong = batch._replace(y=np.full_like(LABELS, OUT))
    with pytest.raises(ValueError, match="targets: got"):
        runner.gradients(wrong)
    assert np.isfinite(runner.gradients(batch)[0])


def test_diverged_batches_are_not_trained_on(monkeypatch):
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    model = compiled(layers.Dense(OUT), loss="mse", optimizer=optimizers.SGD(1e-3), metrics=())
    runner = engine.LayerwiseRunner(model._network(), "cpu")
    data = engine.DataSet(engine.input_source("x", X, np.dtype("float32")), TARGETS, None, "float32")
    runner.train_epoch(data, 4)
    kernel = model.layers[-1].kernel
    kernel.value[0, 0] = 1e38
    kept = kernel.numpy()
    with pytest.raises(DivergenceError, match="the loss is"):
        runner.train_epoch(data, 4)
    assert kernel.value.tobytes() == kept.tobytes()
