"""Recorded steps of the layer-by-layer runner: the bits of op by op, whatever changes; what is not recorded.

One by one, and many by one call.
"""

from __future__ import annotations

import re

import numpy as np
import pytest

import fastnn
from fastnn import activations, callbacks, engine, layers, losses, models, ops, optimizers, regularizers, utils
from fastnn.engine import inputs, pace, recorded
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
    "outputs apart": lambda: compiled(layers.Dense(7, activations.leaky_relu), layers.Dense(OUT), layers.ELU(2)),
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
@pytest.mark.parametrize(("listens", "recorded_calls"), [(True, 2 * 3), (False, 2 + 1 + 1)])
def test_python_is_left_out_where_a_layer_allows_it(monkeypatch, weights, listens, recorded_calls):
    """Two batches run op by op and the next is recorded, of each size where somebody listens; the others are replayed.

    Where nobody does, a short batch is recorded at once with those before it.
    """
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    steps = -(-ROWS // 10) * EPOCHS
    change = (lambda model, batch: None) if listens else None

    def build(kind):
        return compiled(kind(), layers.Dense(OUT, "softmax"))

    results = [
        trained(monkeypatch, lambda kind=kind: build(kind), 2, sample_weight=weights, change=change)
        for kind in (Counting, Recordable, WithNumPy)
    ]
    calls = [model.layers[0].calls for _, _, model in results]
    assert calls[0] == steps
    assert calls[1] == recorded_calls
    assert calls[2] == steps + (1 if listens else 2)  # the recordings that failed
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


def test_the_librarys_layers_are_recordable():
    found = {each for each in vars(layers).values() if isinstance(each, type) and issubclass(each, layers.Layer)}
    bases = {"Layer", "Wrapper"}
    assert {each.__name__ for each in found if not each.recordable} == bases | {"Discretization"}


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


# ------------------------------------------------------------------------------------------------------ steps together


@pytest.fixture
def together(monkeypatch):
    """How many steps each call has made, of as many as there are."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    calls, plain = [], recorded.RecordedSteps.__call__

    def counting(self, *given):
        results = plain(self, *given)
        calls.append(0 if results is None else len(results[0]))
        return results

    monkeypatch.setattr(recorded.RecordedSteps, "__call__", counting)
    return calls


def state(model):
    """Iterations, weights and slots, as bytes."""
    slots = [array.tobytes() for path in model.optimizer.state.values() for array in path.values()]
    return model.optimizer.iterations, *(array.tobytes() for array in model.get_weights()), *slots


def drawn_fit(rng):
    """What builds a model, and the arguments of a fit: whether its steps can be made together."""
    activation = rng.choice(["relu", "tanh", "gelu", "selu", "sigmoid"])
    optimizer, updates = OPTIMIZERS[rng.integers(len(OPTIMIZERS))]
    classes = bool(rng.integers(2))
    loss = rng.choice(["sparse_categorical_crossentropy"] if classes else ["mse", "mae", "huber", "log_cosh"])
    metrics = [["accuracy"], []] if classes else [["mae", "r2_score"], [], [lambda y, pred: abs(y - pred).mean(axis=1)]]
    chosen, weighted = metrics[rng.integers(len(metrics))], bool(rng.integers(2))
    stack = [
        lambda: layers.Dense(9, activation, use_bias=bool(classes), kernel_regularizer="l2" if weighted else None),
        lambda: layers.Dropout(0.3),
        lambda: layers.Dense(8, "relu", trainable=not classes),
        Recordable,
    ]
    kept = [layer for layer in stack if rng.integers(2)]

    def build():
        last = layers.Dense(OUT, "softmax" if classes else "linear")
        model = models.Sequential([layers.Input((IN,)), *(layer() for layer in kept), last])
        model.compile(optimizer(), loss, chosen, ["mse"] if weighted and not classes else [])
        return model

    x = X.astype(rng.choice(["float32", "float64"]))[:: rng.choice([1, -1])]
    y = LABELS.astype(rng.choice(["int64", "uint8"])) if classes else TARGETS
    options = {"sample_weight": WEIGHTS} if weighted else {}
    if rng.integers(2):
        options["validation_split"] = 0.3
    return (
        build,
        (x, y),
        {"batch_size": int(rng.choice([1, 4, 7])), "shuffle": bool(rng.integers(2)), **options},
        updates,
    )


def decaying():
    optimizer = optimizers.AdamW(0.01, weight_decay=0.1)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


# Optimizers, and whether their updates are ops alone.
OPTIMIZERS = [
    (lambda: optimizers.SGD(0.01, momentum=0.9, nesterov=True), True),
    (lambda: optimizers.RMSprop(0.01, centered=True), True),
    (lambda: optimizers.Adam(optimizers.schedules.ExponentialDecay(0.01, 5, 0.9), amsgrad=True), True),
    (lambda: optimizers.Nadam(0.01), True),
    (lambda: optimizers.Lion(0.001), True),
    (lambda: optimizers.Ftrl(0.01), True),
    (decaying, True),
    (lambda: optimizers.SGD(0.1, global_clipnorm=0.1), False),
    (lambda: optimizers.Adam(0.01, use_ema=True), False),
    (optimizers.Rprop, False),
]


@pytest.mark.parametrize("seed", range(30))
def test_drawn_fits_have_the_bits_of_steps_one_by_one(monkeypatch, together, seed):
    """Two fits in sequence, each of some epochs."""
    results, counts = [], []
    for one_by_one in (1000, 2):
        monkeypatch.setattr(recorded, "OP_BY_OP", one_by_one)
        build, data, options, updates = drawn_fit(np.random.default_rng(seed))
        utils.set_random_seed(seed)
        model = build()
        histories = [model.fit(*data, epochs=2, verbose=0, threads=1 + seed % 2, **options).history for _ in range(2)]
        results.append((histories, state(model)))
        counts.append(sum(together))
        together.clear()
    assert results[0] == results[1]
    assert counts[0] == 0
    assert (counts[1] > 0) == updates


def test_nobody_looks_at_steps_together(monkeypatch, together):
    """The progress line is told of the last of some, whoever listens to batches of every one."""
    seen = []
    listener = callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: seen.append(batch))
    for listeners in ([], [listener]):
        monkeypatch.setattr(recorded, "OP_BY_OP", 2)
        model = compiled(layers.Dense(OUT, "softmax"))
        model.fit(X, LABELS, 10, epochs=2, verbose=0, callbacks=listeners)
        if not listeners:
            assert sum(together) > 0
            together.clear()
    assert not together
    assert seen == [*range(5), *range(5)]


def of_rate(model, epoch):
    model.optimizer.learning_rate = 0.01 / (epoch + 1)


def of_optimizer(model, epoch):
    model.optimizer.beta_1 = 0.9 - 0.1 * epoch


def of_state(model, epoch):
    for slots in model.optimizer.state.values():
        slots["m"] = slots["m"] * np.float32(0.5)


def of_decay(model, epoch):
    model.optimizer.weight_decay = 0.01 if epoch == 1 else None


def of_constraint(model, epoch):
    model.layers[0].kernel_constraint = fastnn.constraints.MaxNorm(0.5) if epoch == 1 else None


OF_EPOCHS = [*CHANGES, of_rate, of_optimizer, of_state, of_decay, of_constraint]


@pytest.mark.parametrize("change", OF_EPOCHS)
def test_changes_between_epochs(monkeypatch, together, change):
    threads = fastnn.backends.get_num_threads()
    results = []
    for one_by_one in (1000, 1):
        monkeypatch.setattr(recorded, "OP_BY_OP", one_by_one)
        utils.set_random_seed(3)
        model = compiled(
            layers.Dense(7, "relu", kernel_regularizer=regularizers.L1(0.0)),
            layers.Dropout(0.5),
            layers.Dense(OUT, "softmax"),
        )
        listener = callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs, model=model: change(model, epoch))
        try:
            history = model.fit(X, LABELS, 5, epochs=5, verbose=0, callbacks=[listener]).history
        finally:
            fastnn.backends.set_num_threads(threads)
        results.append((history, state(model)))
    assert sum(together) > 0
    assert results[0] == results[1]


def test_layers_frozen_between_fits(monkeypatch, together):
    results = []
    for one_by_one in (1000, 1):
        monkeypatch.setattr(recorded, "OP_BY_OP", one_by_one)
        utils.set_random_seed(3)
        model = compiled(layers.Dense(7, "relu"), layers.Dense(OUT, "softmax"))
        for trainable in (True, False, True):
            model.layers[0].trainable = trainable
            model.compile("adam", "sparse_categorical_crossentropy")
            model.fit(X, LABELS, 5, epochs=2, verbose=0)
        results.append(state(model))
    assert sum(together) > 0
    assert results[0] == results[1]


def diverging(monkeypatch, one_by_one, x, weights, optimizer):
    """What a fit says where it diverges, and what it leaves."""
    monkeypatch.setattr(recorded, "OP_BY_OP", one_by_one)
    utils.set_random_seed(3)
    stack = layers.Dense(4, name="first"), layers.Dense(OUT, kernel_initializer="zeros", name="last")
    model = compiled(*stack, loss="mae", optimizer=optimizer)
    model.optimizer.learning_rate = 1e-6
    with pytest.raises(DivergenceError) as error:
        model.fit(x, TARGETS, 4, epochs=3, sample_weight=weights, shuffle=False, verbose=0)
    return str(error.value), state(model)


@pytest.mark.parametrize("optimizer", ["sgd", "adam", "rmsprop", "lion"])
@pytest.mark.parametrize(
    ("size", "weight", "what"), [(3e38, 1.0, "the loss is"), (1e3, 1e38, "the gradient of .* is not finite")]
)
def test_a_batch_that_diverges_among_others(monkeypatch, together, size, weight, what, optimizer):
    """It is named, and the weights are those of the batch before."""
    x, weights = X.copy(), np.ones(ROWS)
    x[30], weights[30] = size, weight
    expected, got = (diverging(monkeypatch, n, x, weights, optimizer) for n in (1000, 1))
    assert got == expected
    assert re.match(f"{what}.* at epoch 1, batch 8", got[0])
    assert got[1][0] == 7
    assert together[0] == 0


def test_an_error_in_a_step_among_others(monkeypatch, together):
    """It is raised by that step: a rate of the schedule that is none."""

    class Schedule(optimizers.schedules.LearningRateSchedule):
        def __call__(self, step):
            return 0.01 if step < 7 else -1.0

    results = []
    for one_by_one in (1000, 1):
        monkeypatch.setattr(recorded, "OP_BY_OP", one_by_one)
        utils.set_random_seed(3)
        model = compiled(layers.Dense(OUT, "softmax"), optimizer=optimizers.SGD(Schedule()))
        with pytest.raises(ValueError, match="for step 7"):
            model.fit(X, LABELS, 4, verbose=0)
        results.append(state(model))
    assert results[0] == results[1]
    assert results[0][0] == 7


def test_sparse_and_large_data_go_one_by_one(monkeypatch, together):
    sparse = pytest.importorskip("scipy.sparse")
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    monkeypatch.setattr(inputs, "COPIED_UP_TO", 100)
    for x in (sparse.csr_array(X), X.astype("float64")):
        compiled(layers.Dense(OUT, "softmax")).fit(x, LABELS, 4, epochs=2, verbose=0)
    assert sum(together) == 0
    compiled(layers.Dense(OUT, "softmax")).fit(X, LABELS, 4, epochs=2, verbose=0)
    assert sum(together) > 0


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
