"""Training on a device, or the host that stands in for one, against the layer-by-layer runner on the CPU."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

import fastnn
from fastnn import backends, callbacks, constraints, layers, losses, metrics, models, optimizers, regularizers, utils
from fastnn.engine import make_runner, pace
from fastnn.engine.cuda import DeviceRunner
from fastnn.engine.plan import training_flops
from fastnn.errors import BackendError, DivergenceError
from tests.cuda_host.places import host_only
from tests.fastnn.engine.test_cpu import (
    ALL_ACTIVATIONS,
    AVERAGED,
    FURTHER_LOSSES,
    FURTHER_TARGETS,
    NUMBERED,
    OPTIMIZERS,
    STACKS,
    stack_targets,
)

ROWS, FEATURES, CLASSES = 70, 12, 5

rng = np.random.default_rng(0)
X = rng.normal(size=(ROWS, FEATURES)).astype("float32")
LABELS = rng.integers(0, CLASSES, ROWS)
ROWS_OF_LABELS = np.eye(CLASSES, dtype="float32")[LABELS]
VALUES = (X[:, :1] * 0.5 + X[:, 1:2]).astype("float32")
BITS = (VALUES > 0).astype("float32")


def dense(units, activation, **options):
    return lambda: layers.Dense(units, activation, **options)


CLASSIFIER = dense(9, "relu"), dense(CLASSES, "softmax")
REGRESSION = dense(8, "tanh"), dense(1, "linear")
MODELS = {
    "classifier": (CLASSIFIER, "sparse_categorical_crossentropy", LABELS, ["accuracy"]),
    "rows of labels": (CLASSIFIER, "categorical_crossentropy", ROWS_OF_LABELS, ["accuracy", "mae"]),
    "regression": (REGRESSION, "mse", VALUES, ["mae"]),
    "bytes": ((lambda: layers.Rescaling(1 / 255), *CLASSIFIER), "sparse_categorical_crossentropy", LABELS, []),
    "line": ((dense(1, "linear"),), "mse", VALUES, []),
    "dropout": ((dense(9, "gelu"), lambda: layers.Dropout(0.3, seed=4), *CLASSIFIER[1:]),
                "sparse_categorical_crossentropy", LABELS, ["accuracy"]),
    "bits": ((dense(7, "elu"), dense(1, "sigmoid")), "binary_crossentropy", BITS, ["accuracy"]),
    "penalties": ((dense(6, "relu", kernel_regularizer=regularizers.L1L2(0.01, 0.02),
                         activity_regularizer=regularizers.L2(0.01)), dense(1, "linear")), "huber", VALUES, []),
    "learned slopes": ((dense(6, "linear"), layers.PReLU, dense(1, "linear")), "mae", VALUES, []),
}  # fmt: skip


def fitted(name, backend, optimizer="rmsprop", x=X, epochs=3, weighted=False, **options):
    """A model, and the figures of a fit."""
    stack, loss, y, metrics = MODELS[name]
    utils.set_random_seed(1)
    built = models.Sequential(stack() if callable(stack) else [each() for each in stack])
    made = optimizer() if callable(optimizer) else optimizer
    built.compile(made, loss, metrics=metrics, backend=backend)
    weights = np.linspace(0.5, 2.0, ROWS) if weighted else None
    history = built.fit(x, y, batch_size=16, epochs=epochs, verbose=0, sample_weight=weights, **options)
    return built, history.history


def assert_alike(one, other):
    """Models with their figures, to rounding."""
    assert one[1].keys() == other[1].keys()
    for name in one[1]:
        np.testing.assert_allclose(one[1][name], other[1][name], rtol=1e-4, atol=1e-6, err_msg=name)
    for a, b in zip(one[0].get_weights(), other[0].get_weights(), strict=True):
        assert type(b) is np.ndarray
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_curves_are_those_of_the_cpu(cupy, name):
    assert_alike(fitted(name, "cpu"), fitted(name, "cuda"))


@pytest.mark.parametrize("name", [*OPTIMIZERS, *AVERAGED])
def test_every_optimizer(cupy, name):
    """With all that it does beside its step."""
    make = {**OPTIMIZERS, **AVERAGED}[name]
    assert_alike(*(fitted("classifier", backend, make) for backend in ("cpu", "cuda")))


def test_rprop_on_the_whole_data(cupy):
    found = [fitted("regression", backend, lambda: optimizers.Rprop(threshold=1e-9)) for backend in ("cpu", "cuda")]
    assert_alike(*found)
    facts = found[1][0].plan(X).facts
    assert facts["steps"] == "captured as a graph, launched turn after turn"
    assert facts["launches"] == "5 a step, in the last fit"  # a step by itself ends no turn


@pytest.mark.parametrize("name", FURTHER_LOSSES)
def test_every_loss(cupy, monkeypatch, name):
    make, units, last, kind = FURTHER_LOSSES[name]
    y = FURTHER_TARGETS[kind](np.random.default_rng(6), ROWS, units)
    for weighted in (False, True):
        found = []
        for backend in ("cpu", "cuda"):
            monkeypatch.setitem(MODELS, name, ((dense(6, "tanh"), dense(units, last)), make(), y, []))
            found.append(fitted(name, backend, lambda: optimizers.SGD(0.003), weighted=weighted))
        assert_alike(*found)


def _squares(y_true, y_pred):
    """A loss of the user's own, in NumPy."""
    assert type(y_pred) is np.ndarray
    return float(np.square(y_pred - y_true).mean()), 2 * (y_pred - y_true) / y_pred.size


OWN = {
    "loss": ((dense(6, "tanh"), dense(1, "linear")), _squares, VALUES, []),
    "penalty": ((dense(6, "tanh", kernel_regularizer=regularizers.OrthogonalRegularizer(0.02)), dense(1, "linear")),
                "mse", VALUES, []),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_what_is_no_op_is_the_hosts(cupy, monkeypatch, name):
    monkeypatch.setitem(MODELS, name, OWN[name])
    assert_alike(*(fitted(name, backend) for backend in ("cpu", "cuda")))


@pytest.mark.parametrize("name", [*ALL_ACTIVATIONS, *NUMBERED])
def test_every_activation(cupy, monkeypatch, name):
    if name in ("binary_step", "sign"):
        pytest.skip("rounding decides the sides of a step")
    stack = dense(9, NUMBERED.get(name, name)), *CLASSIFIER[1:]
    monkeypatch.setitem(MODELS, name, (stack, *MODELS["classifier"][1:]))
    assert_alike(*(fitted(name, backend, lambda: optimizers.SGD(0.01)) for backend in ("cpu", "cuda")))


@pytest.mark.parametrize("name", STACKS)
def test_every_stack(cupy, monkeypatch, name):
    stack, loss, metrics = STACKS[name]
    y = stack_targets(name, ROWS, np.random.default_rng(2))
    monkeypatch.setitem(MODELS, name, (stack, loss, y, metrics))
    assert_alike(*(fitted(name, backend, lambda: optimizers.SGD(0.01), x=X[:, :10]) for backend in ("cpu", "cuda")))


def test_constraints(cupy, monkeypatch):
    stack = dense(9, "relu", kernel_constraint=constraints.MaxNorm(0.5)), *CLASSIFIER[1:]
    monkeypatch.setitem(MODELS, "constrained", (stack, *MODELS["classifier"][1:]))
    assert_alike(*(fitted("constrained", backend) for backend in ("cpu", "cuda")))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["float64", "uint8", "csr"])
def test_samples_of_any_kind(cupy, kind, weighted):
    if kind == "csr":
        x = pytest.importorskip("scipy.sparse").csr_array(np.where(np.abs(X) > 1, X, 0))
    else:
        x = (np.abs(X) * 40).astype(kind)
    assert_alike(*(fitted("classifier", backend, x=x, weighted=weighted) for backend in ("cpu", "cuda")))


@host_only
def test_bytes_become_numbers_as_a_batch_is_taken(cupy, monkeypatch):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    x = (np.abs(X) * 3).astype("uint8")
    one, other = (fitted("classifier", backend, "sgd", x=x, epochs=4) for backend in ("cpu", "cuda"))
    assert_alike(one, other)
    assert other[0].plan(x).facts["launches"] == "6 a step, in the last fit"


def test_bytes_that_a_layer_rescales(cupy):
    x = (np.abs(X) * 40).astype("uint8")
    assert_alike(*(fitted("bytes", backend, x=x) for backend in ("cpu", "cuda")))


@host_only
@pytest.mark.parametrize("norm", [None, 0.1])
def test_steps_of_rounded_products_take_no_launches(cupy, monkeypatch, norm):
    """Sums of a bias are of what is not rounded."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    found = []
    for reasons in (False, True):
        if reasons:  # gradients by themselves
            monkeypatch.setattr("fastnn.kernels.cuda.fusion._stepped", lambda calls, *_: calls)
        utils.set_random_seed(1)
        built = models.Sequential([each() for each in CLASSIFIER])
        optimizer = optimizers.SGD(0.1, global_clipnorm=norm)
        built.compile(optimizer, "sparse_categorical_crossentropy", backend="cuda", precision="bfloat16")
        found.append((built, built.fit(X, LABELS, batch_size=16, epochs=4, verbose=0).history))
        launches = built.plan(X).facts["launches"]
        assert (launches == "6 a step, in the last fit") == (not reasons)
    assert_alike(*found)
    assert built.plan(X).precision == "bfloat16"


def test_products_of_rounded_numbers(cupy):
    """An eighth of the bits of bfloat16's errors is tf32's, and both are there."""
    wanted = np.array(fitted("classifier", "cuda")[1]["loss"])
    errors = {}
    for precision in ("tf32", "bfloat16"):
        utils.set_random_seed(1)
        built = models.Sequential([each() for each in CLASSIFIER])
        built.compile("rmsprop", "sparse_categorical_crossentropy", backend="cuda", precision=precision)
        found = built.fit(X, LABELS, batch_size=16, epochs=3, verbose=0).history["loss"]
        assert built.plan(X).precision == precision
        errors[precision] = np.abs(found / wanted - 1).max()
    assert 0 < errors["tf32"] < 2.5e-3
    assert errors["tf32"] < errors["bfloat16"] < 2e-2


def test_precisions_that_the_device_has_not(cupy, monkeypatch):
    from fastnn.kernels.cuda import tiles

    monkeypatch.setattr(tiles, "lacking", lambda device: "this one has 7.5")
    built = models.Sequential([each() for each in CLASSIFIER])
    built.compile("sgd", "mse", backend="cuda")
    with pytest.raises(BackendError, match=r"precision: got 'tf32', which cannot serve because this one has 7\.5"):
        built.compile("sgd", "mse", backend="cuda", precision="tf32")
    assert built.plan(X).precision == "float32"


def test_the_same_seed_gives_the_same_bits(cupy):
    one, other = (fitted("dropout", "cuda") for _ in range(2))
    assert one[1] == other[1]
    assert all(map(np.array_equal, one[0].get_weights(), other[0].get_weights()))


def test_evaluation_and_prediction(cupy):
    (host, _), (device, _) = (fitted("rows of labels", backend) for backend in ("cpu", "cuda"))
    np.testing.assert_allclose(host.predict(X, verbose=0), device.predict(X, verbose=0), rtol=1e-4, atol=1e-6)
    assert host.predict(X[:0], verbose=0).shape == device.predict(X[:0], verbose=0).shape
    given = {"verbose": 0, "return_dict": True}
    figures = [model.evaluate(X, ROWS_OF_LABELS, **given) for model in (host, device)]
    assert figures[0] == pytest.approx(figures[1], rel=1e-4)
    np.testing.assert_allclose(host.train_on_batch(X, ROWS_OF_LABELS), device.train_on_batch(X, ROWS_OF_LABELS), 1e-4)


def test_validation_and_early_stopping(cupy):
    stop = {"validation_split": 0.2, "epochs": 6}
    found = [
        fitted("classifier", backend, **stop, callbacks=[callbacks.EarlyStopping(patience=1)])
        for backend in ("cpu", "cuda")
    ]
    assert_alike(*found)


def test_a_model_goes_on_on_another_backend(cupy):
    (host, _), (moved, _) = fitted("classifier", "cpu"), fitted("classifier", "cuda")
    moved.compile(moved.optimizer, moved.loss, metrics=["accuracy"], backend="cpu")
    for model in (host, moved):
        utils.set_random_seed(2)
        model.fit(X, LABELS, batch_size=16, epochs=2, verbose=0)
    for a, b in zip(host.get_weights(), moved.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_callbacks_see_and_change_ordinary_arrays(cupy):
    class Halving(callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            first = self.model.weights[0]
            assert type(first.value) is np.ndarray
            first.value *= 0.5

    assert_alike(*(fitted("classifier", backend, callbacks=[Halving()]) for backend in ("cpu", "cuda")))


def test_divergence_is_told_where_it_is_and_leaves_the_weights_before_it(cupy):
    told, left = [], []
    for backend in ("cpu", "cuda"):
        kept = []
        with pytest.raises(DivergenceError) as error:
            fitted("line", backend, lambda: optimizers.SGD(1e12), epochs=20, callbacks=[_Keep(kept)])
        told.append(str(error.value).split(" at ")[1])
        left.append((kept[0], {}))
    assert told[0] == told[1]
    assert all(np.isfinite(weights).all() for weights in left[1][0].get_weights())
    assert_alike(*left)


class _Keep(callbacks.Callback):
    def __init__(self, kept):
        super().__init__()
        self._kept = kept

    def on_train_begin(self, logs=None):
        self._kept.append(self.model)


def test_an_error_leaves_ordinary_arrays(cupy):
    class Failing(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyboardInterrupt

    kept = []
    with pytest.raises(KeyboardInterrupt):
        fitted("classifier", "cuda", callbacks=[Failing(), _Keep(kept)])
    assert_alike((kept[0], {}), (fitted("classifier", "cpu", epochs=1)[0], {}))


@host_only
def test_what_cannot_be_read_back_leaves_no_array_of_the_device(cupy, monkeypatch):
    """One parameter is what it was before; all else is what it is on the device."""
    built = fitted("classifier", "cuda", epochs=1)[0]
    before = [weights.copy() for weights in built.get_weights()]
    runner, read, failing = make_runner(built._network(), built.plan(X)), cupy.ndarray.get, set()

    def get(array):
        if array.data.ptr in failing:
            raise cupy.cuda.runtime.CUDARuntimeError(700)
        return read(array)

    def write_and_fail():
        with runner._residence:
            for place, parameter in enumerate(runner.network.parameters):
                parameter.value[...] = 7
                failing.update([parameter.value.data.ptr] if place == 1 else [])

    monkeypatch.setattr(cupy.ndarray, "get", get)
    with pytest.raises(cupy.cuda.runtime.CUDARuntimeError):
        write_and_fail()
    for place, weights in enumerate(built.get_weights()):
        assert type(weights) is np.ndarray
        np.testing.assert_array_equal(weights, before[1] if place == 1 else np.full_like(weights, 7))
    assert all(type(slot) is np.ndarray for slots in built.optimizer.state.values() for slot in slots.values())


@host_only
def test_out_of_memory_leaves_the_model_as_it_was(cupy, monkeypatch):
    kept = []
    monkeypatch.setattr(cupy, "most", 300)
    with pytest.raises(MemoryError, match=r"allocating [\d,]+ bytes.*; free on .*\. A smaller batch_size") as error:
        fitted("classifier", "cuda", callbacks=[_Keep(kept)])
    assert str(error.value).count("A smaller batch_size") == 1
    utils.set_random_seed(1)
    fresh = models.Sequential([each() for each in CLASSIFIER])
    fresh.build((None, FEATURES))
    assert all(map(np.array_equal, fresh.get_weights(), kept[0].get_weights()))


@host_only
def test_steps_are_launched_and_nothing_is_read_between_them(cupy, monkeypatch):
    """How often somebody waits does not grow with the batches of an epoch."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    waits = []
    for rows in (16 * 20, 16 * 60):
        stack, loss, _, _ = MODELS["classifier"]
        x, y = np.resize(X, (rows, FEATURES)), np.resize(LABELS, rows)
        built = models.Sequential([each() for each in stack])
        built.compile("rmsprop", loss, backend="cuda")
        built.fit(x, y, batch_size=16, epochs=2, verbose=0)
        count, plain = [0], cupy._wait

        def wait(count=count, plain=plain):
            count[0] += 1
            plain()

        cupy.launched.clear()
        with monkeypatch.context() as patch:
            patch.setattr(cupy, "_wait", wait)
            built.fit(x, y, batch_size=16, epochs=1, verbose=0)
        waits.append(count[0])
        assert sum(name in ("next", "graph") for name in cupy.launched) >= rows // 16 - 4
        assert cupy.launched.count("graph") < rows // 16
    assert waits[0] == waits[1] < 100


@host_only
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
@pytest.mark.parametrize("hidden", [0, 1, 2, 5])
def test_the_launches_of_a_step(cupy, monkeypatch, hidden, optimizer):
    """At most two beside two for each layer, as the plan says: batches, the loss, a product forwards and backwards."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    stack = *(dense(6 + place, "relu") for place in range(hidden)), *CLASSIFIER[1:]
    monkeypatch.setitem(MODELS, "deep", (stack, *MODELS["classifier"][1:]))
    captured, end = [], cupy.Stream.end_capture
    monkeypatch.setattr(cupy.Stream, "end_capture", lambda stream: captured.append(end(stream)) or captured[-1])
    built, _ = fitted("deep", "cuda", optimizer, epochs=4)
    turns = [graph.launches for graph in captured if "next" in graph.launches]
    step = ["product"] * (hidden + 1) + ["rows"] + ["product"] * hidden + ["steps", "next"]
    assert turns
    assert all(launches == step * (len(launches) // len(step)) for launches in turns)
    assert len(step) <= 2 + 2 * (hidden + 1)
    assert built.plan(X).facts["launches"] == f"{len(step)} a step, in the last fit"


# Layers of a stack, and its loss: a step takes two launches and two for each dense layer.
FUSED = {
    "activations of inputs": ((dense(8, "gelu"), dense(7, "swish"), dense(CLASSES, "softmax")), LABELS,
                              "sparse_categorical_crossentropy"),
    "an activation by itself": ((dense(8, "linear"), lambda: layers.Activation("mish"), dense(1, "linear")), VALUES,
                                "mse"),
    "an activation with numbers": ((dense(8, "linear"), lambda: layers.LeakyReLU(0.4), dense(1, "linear"),
                                    lambda: layers.ReLU(negative_slope=0.1)), VALUES, "mae"),
    "outputs of rows": ((dense(8, "tanh"), dense(CLASSES, "softmax")), ROWS_OF_LABELS, "mse"),
    "a softmax by itself": ((dense(8, "tanh"), dense(CLASSES, "linear"), layers.Softmax), ROWS_OF_LABELS,
                            "kl_divergence"),
    "sums": ((dense(8, "tanh"), dense(1, "softplus")), np.abs(VALUES), lambda: losses.Poisson(reduction="sum")),
    "signs of bits": ((dense(8, "tanh"), dense(1, "tanh")), BITS, "hinge"),
    "signs": ((dense(8, "tanh"), dense(1, "linear")), 2 * BITS - 1, "squared_hinge"),
    "signs of classes": ((dense(8, "tanh"), dense(CLASSES, "softmax")), ROWS_OF_LABELS, "hinge"),
    "smoothed rows": ((dense(8, "tanh"), dense(CLASSES, "softmax")), ROWS_OF_LABELS,
                      lambda: losses.CategoricalCrossentropy(label_smoothing=0.2)),
    "smoothed bits": ((dense(8, "tanh"), dense(1, "sigmoid")), BITS,
                      lambda: losses.BinaryCrossentropy(label_smoothing=0.2, reduction="sum")),
}  # fmt: skip


@host_only
@pytest.mark.parametrize("name", FUSED)
def test_what_takes_no_more_launches(cupy, monkeypatch, name):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    stack, y, loss = FUSED[name]
    monkeypatch.setitem(MODELS, "stack", (stack, loss() if callable(loss) else loss, y, []))
    one, other = (fitted("stack", backend, "sgd", epochs=4) for backend in ("cpu", "cuda"))
    assert_alike(one, other)
    assert other[0].plan(X).facts["launches"] == f"{_fewest(other[0])} a step, in the last fit"


def _fewest(built):
    return 2 + 2 * sum(isinstance(layer, layers.Dense) for layer in built.layers)


@host_only
@pytest.mark.parametrize("name", [name for name in ALL_ACTIVATIONS if name not in ("binary_step", "sign")])
def test_every_activation_of_outputs_within_these_launches(cupy, monkeypatch, name):
    """Under a loss of numbers, and under one of rows."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    for loss in ("mse", "cosine_similarity"):
        monkeypatch.setitem(
            MODELS, "outputs", ((dense(8, "tanh"), dense(CLASSES, name)), loss, ROWS_OF_LABELS, ["mae"])
        )
        one, other = (fitted("outputs", backend, lambda: optimizers.SGD(0.01), epochs=4) for backend in ("cpu", "cuda"))
        assert_alike(one, other)
        assert other[0].plan(X).facts["launches"] == "6 a step, in the last fit"


# Layers before the last one, how many launches more a step takes, and what the plan says of that.
FURTHER = {
    "rows": ((dense(8, "softmax"),), 2, "1 linear, 1 activation's slope: softmax takes rows as a whole"),
    "dropout": ((dense(8, "gelu"), lambda: layers.Dropout(0.3, seed=3)), 1, "1 dropout: masks"),
    "dropouts": ((dense(8, "relu"), lambda: layers.Dropout(0.3), dense(7, "swish"), lambda: layers.Dropout(0.5)), 2,
                 "1 dropout, 1 dropout: masks"),
    "learned slopes": ((dense(8, "linear"), layers.PReLU), 4, "1 prelu, 3 prelu_backward: slopes that are learned"),
    "normalization": ((dense(8, "linear", use_bias=False), layers.BatchNormalization), 6,
                      "3 batch_norm, 3 batch_norm_backward: means"),
    "means of rows": ((dense(8, "linear"), layers.LayerNormalization), 4, "1 layer_norm, 3 layer_norm_backward: means"),
    "noise": ((dense(8, "tanh"), lambda: layers.GaussianNoise(0.1, seed=2)), 2, "1 random_normal: noise"),
}  # fmt: skip


@host_only
@pytest.mark.parametrize("clip", [{}, {"clipvalue": 0.02}, {"global_clipnorm": 0.1, "weight_decay": 0.1}])
@pytest.mark.parametrize("name", FURTHER)
def test_the_plan_says_what_takes_more_launches(cupy, monkeypatch, name, clip):
    """Vectors of other layers are stepped with those of dense ones."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    between, more, why = FURTHER[name]
    monkeypatch.setitem(MODELS, "stack", ((*between, *CLASSIFIER[1:]), *MODELS["classifier"][1:]))
    one, other = (
        fitted("stack", backend, lambda: optimizers.Adam(0.003, **clip), epochs=4) for backend in ("cpu", "cuda")
    )
    assert_alike(one, other)
    said = other[0].plan(X).facts["launches"]
    assert said.startswith(f"{_fewest(other[0]) + more} a step, in the last fit; {more} more than two and two for each")
    assert why in said


@host_only
def test_a_step_of_many_samples(cupy, monkeypatch):
    """Whose gradients' sums are split among blocks, in the launch that steps the weights."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    x, y, found = np.resize(X, (4096, FEATURES)), np.resize(LABELS, 4096), []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(1)
        built = models.Sequential([each() for each in CLASSIFIER])
        built.compile("sgd", "sparse_categorical_crossentropy", backend=backend)
        found.append((built, built.fit(x, y, batch_size=2048, epochs=4, verbose=0).history))
    assert_alike(*found)
    assert found[1][0].plan(x).facts["launches"] == "6 a step, in the last fit"


@host_only
def test_large_products_between_graphs(cupy, monkeypatch):
    """They are cuBLAS's, which CuPy does not capture."""
    from fastnn.kernels.cuda import cublas

    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    monkeypatch.setattr(cublas, "WORK_FROM", 16 * 9 * FEATURES)
    cupy.launched.clear()
    assert_alike(*(fitted("classifier", backend, epochs=4) for backend in ("cpu", "cuda")))
    assert {"cupy.matmul", "graph"} <= set(cupy.launched)


@host_only
@pytest.mark.parametrize("clip", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_clipping_is_captured_and_the_plan_says_what_it_takes(cupy, monkeypatch, clip):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    one, other = (
        fitted("classifier", backend, lambda: optimizers.SGD(0.05, **{clip: 0.02}), epochs=4)
        for backend in ("cpu", "cuda")
    )
    assert_alike(one, other)
    facts = other[0].plan(X).facts
    assert facts["steps"] == "captured as a graph, launched turn after turn"
    assert facts["launches"] == "6 a step, in the last fit"
    changed = fitted("classifier", "cuda", lambda: optimizers.SGD(0.05, **{clip: 0.2}), epochs=4)
    assert changed[1]["loss"] != other[1]["loss"]


def sparing_biases():
    optimizer = optimizers.RMSprop(0.01, weight_decay=0.5, clipvalue=0.02)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


BEFORE_STEPS = {
    "decay": lambda: optimizers.Adam(0.05, weight_decay=0.1),
    "decay of some": sparing_biases,
    "clipping": lambda: optimizers.SGD(0.05, clipvalue=0.02),
    "clipping by norm": lambda: optimizers.AdamW(0.05, weight_decay=0.1, global_clipnorm=0.1),
}


@host_only
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("optimizer", BEFORE_STEPS)
def test_what_comes_before_a_step_takes_no_launches(cupy, monkeypatch, optimizer, sparse):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    x = csr_matrix(np.where(X > 1, X, np.float32(0))) if sparse else X
    one, other = (fitted("classifier", backend, BEFORE_STEPS[optimizer], x=x, epochs=4) for backend in ("cpu", "cuda"))
    assert_alike(one, other)
    launches, _, why = other[0].plan(x).facts["launches"].partition(" a step, in the last fit")
    if "norm" in optimizer and sparse:
        assert why.endswith("; gradients are written for 'clip by global norm', which comes before the step")
    else:
        assert launches == ("13" if sparse else "6")
        assert ("3 linear, 4 gradient and step: rows of CSR matrices are copied" in why) == sparse
        assert bool(why) == sparse


PENALIZED = {
    "alone": lambda: "sgd",
    "decay and clipping": lambda: optimizers.Adam(0.01, weight_decay=0.5, clipvalue=0.02),
    "norms": lambda: optimizers.RMSprop(0.01, weight_decay=0.5, clipnorm=0.1),
}


@host_only
@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("optimizer", PENALIZED)
def test_penalties_on_weights_take_no_launches(cupy, monkeypatch, optimizer, many):
    """Neither their gradients nor what they add to the loss, also where sums of many samples are split."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    (x, y), found = (np.resize(array, (4096 if many else ROWS, array.shape[1])) for array in (X, VALUES)), []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(1)
        both = {"kernel_regularizer": regularizers.L1L2(0.02, 0.03), "bias_regularizer": regularizers.L2(0.1)}
        built = models.Sequential([layers.Dense(40, "tanh", **both), layers.Dense(1, kernel_regularizer="l2")])
        built.compile(PENALIZED[optimizer](), "mse", backend=backend)
        found.append((built, built.fit(x, y, batch_size=2048 if many else 16, epochs=4, verbose=0).history))
    assert_alike(*found)
    assert found[1][0].plan(x).facts["launches"] == "6 a step, in the last fit"


@host_only
@pytest.mark.parametrize("clip", ["clipvalue", "clipnorm", "global_clipnorm"])
def test_gradients_that_are_not_finite_are_not_clipped_to_ones_that_are(cupy, monkeypatch, clip):
    """The loss is, and its steps are captured."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    x = np.where(np.arange(ROWS)[:, None] == 60, np.float32(3e38), X)
    utils.set_random_seed(1)
    built = models.Sequential([layers.Dense(1, kernel_initializer="zeros")])
    built.compile(optimizers.SGD(0.01, **{clip: 0.5}), "mse", backend="cuda")
    y = np.where(np.arange(ROWS)[:, None] == 60, np.float32(1e3), VALUES)
    with pytest.raises(DivergenceError, match="epoch 1, batch 4"):
        built.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert all(np.isfinite(weights).all() for weights in built.get_weights())


@host_only
def test_a_gradient_that_is_not_finite_is_found_before_signs_hide_it(cupy, monkeypatch):
    """Of one batch's, whose loss is: the next one's takes its place in the state."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    x, y = X.copy(), VALUES.copy()
    x[:, 0] = 0  # whose weight is 0 until then
    x[20, 0], y[20] = 3e38, 1e3
    built = models.Sequential([layers.Dense(1, kernel_initializer="zeros")])
    built.compile(optimizers.Rprop(1e-3), "mse", backend="cuda")
    with pytest.raises(DivergenceError, match="epoch 1, batch 2"):
        built.fit(x, y, batch_size=16, epochs=2, shuffle=False, verbose=0)
    assert all(np.isfinite(weights).all() for weights in built.get_weights())


def test_the_plan_says_what_runs(cupy):
    built = fitted("classifier", "cuda", epochs=1)[0]
    plan = built.plan(X)
    assert (plan.runner, plan.backend) == ("device", "cuda")
    assert plan.facts["steps"] == "captured as a graph, launched turn after turn"
    assert fastnn.backends.state("cuda").reason == plan.facts["device"]


FIGURES_ONLY = {
    "none": lambda folder: [],
    "of figures": lambda folder: [
        callbacks.EarlyStopping("loss"),
        callbacks.ReduceLROnPlateau("loss"),
        callbacks.CSVLogger(folder / "log.csv"),
        callbacks.TerminateOnNaN(),
    ],
}


@host_only
@pytest.mark.parametrize("listeners", FIGURES_ONLY)
def test_weights_stay_on_the_device_where_nobody_looks(cupy, monkeypatch, tmp_path, listeners):
    """Sent once and read once a fit, in the validation too."""
    built = fitted("classifier", "cuda", epochs=1)[0]
    found = []
    for epochs in (1, 3):
        moved, read, write = [], cupy.ndarray.get, cupy.ndarray.set

        def get(array, moved=moved, read=read):
            moved.append(("there", array.shape))
            return read(array)

        def put(array, host, moved=moved, write=write):
            moved.append(("here", array.shape))
            write(array, host)

        with monkeypatch.context() as patch:
            patch.setattr(cupy.ndarray, "get", get)
            patch.setattr(cupy.ndarray, "set", put)
            built.fit(X, LABELS, 16, epochs, verbose=0, callbacks=FIGURES_ONLY[listeners](tmp_path),
                      validation_data=(X, LABELS))  # fmt: skip
        found.append(tuple(moved.count((place, (FEATURES, 9))) for place in ("here", "there")))
        assert all(type(weights) is np.ndarray for weights in (each.value for each in built.weights))
    assert found == [(2, 2), (2, 2)]  # weights and mean squares


class _Watching(callbacks.EarlyStopping):
    """Derived from one that looks at figures only, it looks at weights at the end of every epoch."""

    def __init__(self):
        super().__init__("loss", patience=9)
        self.held, self.seen = None, []

    def on_epoch_begin(self, epoch, logs=None):
        self.held = self.held if epoch else self.model.layers[0].kernel.value

    def on_epoch_end(self, epoch, logs=None):
        assert self.model.layers[0].kernel.value is self.held
        self.seen.append([self.held.copy(), *self.model.get_weights(), *self.model.optimizer.variables[-1:]])


SEEING = {
    "derived": _Watching,
    "best weights": lambda: callbacks.EarlyStopping("loss", restore_best_weights=True, patience=9),
    "lambda": lambda: callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None),
}


@pytest.mark.parametrize("kind", SEEING)
def test_who_may_look_at_weights_sees_those_of_now_in_ordinary_arrays(cupy, kind):
    found = [fitted("classifier", place, callbacks=[SEEING[kind]()]) for place in ("cpu", "cuda")]
    assert_alike(*found)
    watching = [_Watching(), _Watching()]
    for (built, _), each in zip(found, watching, strict=True):
        utils.set_random_seed(3)
        built.fit(X, LABELS, 16, 3, verbose=0, callbacks=[each], validation_split=0.2)
    for seen, wanted in zip(watching[1].seen, watching[0].seen, strict=True):
        for a, b in zip(seen, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_files_of_an_epoch_hold_its_weights(cupy, tmp_path):
    """Saved behind each epoch; a fit that goes on from a backup ends as one that was never interrupted."""
    save = callbacks.ModelCheckpoint(tmp_path / "{epoch}.safetensors")
    built, _ = fitted("classifier", "cuda", epochs=2, callbacks=[save])
    one, _ = fitted("classifier", "cuda", epochs=1)
    for a, b in zip(models.load_model(tmp_path / "1.safetensors").get_weights(), one.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(models.load_model(tmp_path / "2.safetensors").get_weights(), built.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_an_interrupt_while_weights_stay_brings_them_back(cupy, monkeypatch, error):
    """Behind some steps of the second epoch."""
    built, calls = fitted("classifier", "cuda", epochs=1)[0], []
    plain = DeviceRunner._train_some

    def some(self, samples, step, most):
        made = plain(self, samples, step, min(most, 1))
        calls.append(made)
        if len(calls) == 7:
            raise error
        return made

    monkeypatch.setattr(DeviceRunner, "_train_some", some)
    before = built.optimizer.iterations
    with pytest.raises(error):
        built.fit(X, LABELS, 16, 3, verbose=0)
    assert built.optimizer.iterations == before + 7
    held = [*(each.value for each in built.weights), *(a for s in built.optimizer.state.values() for a in s.values())]
    assert all(type(array) is np.ndarray for array in held)
    built.fit(X, LABELS, 16, 1, verbose=0)


WORDS = np.where(rng.random((ROWS, 6)) < 0.3, 0, rng.integers(1, 40, (ROWS, 6)))
SEQUENCES = {
    "mean": [layers.GlobalAveragePooling1D],
    "max": [layers.GlobalMaxPooling1D],
    "simple": [lambda: layers.SimpleRNN(5)],
    "deep": [lambda: layers.LSTM(5, return_sequences=True), lambda: layers.GRU(4, go_backwards=True)],
    "both ways": [lambda: layers.Bidirectional(layers.LSTM(3, return_sequences=True)), lambda: layers.GRU(3)],
}


@pytest.mark.parametrize("dtype", ["int32", "uint8"])
@pytest.mark.parametrize("behind", SEQUENCES)
def test_words_masks_and_recurrent_layers(cupy, behind, dtype):
    found = []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(1)
        stack = [
            layers.Embedding(40, 4, mask_zero=True),
            *(make() for make in SEQUENCES[behind]),
            dense(1, "sigmoid")(),
        ]
        built = models.Sequential(stack)
        built.compile("adam", "binary_crossentropy", metrics=["accuracy"], backend=backend)
        history = built.fit(WORDS.astype(dtype), BITS, batch_size=16, epochs=3, verbose=0)
        found.append((built, history.history))
    assert_alike(*found)
    one, other = (built.predict(WORDS, verbose=0) for built, _ in found)
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


def test_masks_of_outputs_weigh_losses_and_metrics(cupy):
    words = rng.integers(1, 9, (10, 5))
    words[2:, 3:] = 0
    y, found = rng.normal(size=(10, 5, 2)).astype("float32"), []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(4)
        stack = [layers.Embedding(9, 3, mask_zero=True), layers.LSTM(3, return_sequences=True), layers.Dense(2)]
        model = models.Sequential([layers.Input((5,)), *stack])
        model.compile("sgd", "mse", metrics=["mae", "accuracy"], backend=backend)
        history = model.fit(words, y, batch_size=4, epochs=2, verbose=0).history
        found.append([*history.values(), model.evaluate(words, y, batch_size=4, verbose=0)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


# Metrics of every kind: what the device finds, what the host counts, weighted and not.
JUDGED = {
    "classes": (CLASSIFIER, "sparse_categorical_crossentropy", LABELS,
                ["accuracy", metrics.SparseTopKCategoricalAccuracy(2), lambda y, pred: abs(pred).mean(axis=1)],
                ["accuracy", metrics.SparseCategoricalAccuracy()]),
    "rows": (CLASSIFIER, "categorical_crossentropy", ROWS_OF_LABELS,
             ["accuracy", metrics.TopKCategoricalAccuracy(2), "mse"], ["accuracy", metrics.AUC()]),
    "bits": ((dense(7, "elu"), dense(1, "sigmoid")), "binary_crossentropy", BITS,
             ["accuracy", metrics.BinaryAccuracy(threshold=0.4), metrics.Precision()], ["accuracy"]),
    "outputs apart": (CLASSIFIER, "mse", ROWS_OF_LABELS, ["accuracy"], []),
    "penalty on outputs": ((dense(6, "relu", activity_regularizer=regularizers.L2(0.1)), dense(CLASSES, "softmax")),
                           "sparse_categorical_crossentropy", LABELS, ["accuracy"], []),
    "own loss": OWN["loss"] + ([],),
}  # fmt: skip


@pytest.mark.parametrize("size", [1, 16, 30, 100])
@pytest.mark.parametrize("name", JUDGED)
def test_evaluations_and_predictions_are_those_of_the_cpu(cupy, name, size):
    stack, loss, y, plain, weighted = JUDGED[name]
    found = []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(1)
        built = models.Sequential([each() for each in stack])
        built.compile("sgd", loss, metrics=list(plain), weighted_metrics=list(weighted), backend=backend)
        weights = None if name == "own loss" else np.linspace(0.5, 2.0, ROWS)
        history = built.fit(X, y, batch_size=16, verbose=0, sample_weight=weights, epochs=3).history
        figures = built.evaluate(X, y, batch_size=size, verbose=0, sample_weight=weights, return_dict=True)
        found.append((history, figures, built.predict(X, batch_size=size, verbose=0)))
    (curves, figures, outputs), (others, of_device, of_device_too) = found
    for key, values in curves.items():
        np.testing.assert_allclose(others[key], values, rtol=1e-4, atol=1e-6, err_msg=key)
    for key, value in figures.items():
        assert of_device[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key
    np.testing.assert_allclose(of_device_too, outputs, rtol=1e-4, atol=1e-6)


@host_only
@pytest.mark.parametrize("what", ["evaluate", "predict"])
@pytest.mark.parametrize("limit", [None, 4 * 16 * (FEATURES * 4 + 8)])
def test_nothing_is_read_batch_by_batch(cupy, monkeypatch, what, limit):
    """Nor are scores, where the metrics are what the device finds."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    stack, loss, _, _ = MODELS["classifier"]
    built = models.Sequential([each() for each in stack])
    built.compile("rmsprop", loss, ["accuracy"], backend="cuda", memory_limit=limit)
    waits = []
    for rows in (16 * 20, 16 * 60):
        x, y = np.resize(X, (rows, FEATURES)), np.resize(LABELS, rows)
        read, plain = [], cupy.ndarray.get

        def get(array, read=read, plain=plain):
            read.append(array.nbytes)
            return plain(array)

        with monkeypatch.context() as patch:
            patch.setattr(cupy.ndarray, "get", get)
            built.evaluate(x, y, 16, verbose=0) if what == "evaluate" else built.predict(x, 16, verbose=0)
        waits.append(len(read))
        assert what == "predict" or max(read[:-4]) <= 8 * rows
    assert (waits[0] == waits[1]) == (limit is None)
    assert waits[1] < 60 / (1 if limit is None else 0.5)


def test_callbacks_listen_to_batches_of_evaluations(cupy):
    seen = []
    listener = callbacks.LambdaCallback(
        on_test_batch_end=lambda batch, logs: seen.append((batch, logs["loss"])),
        on_predict_batch_end=lambda batch, logs: seen.append((batch, None)),
    )
    built, _ = fitted("classifier", "cuda", epochs=1)
    loss, _ = built.evaluate(X, LABELS, 16, verbose=0, callbacks=[listener])
    built.predict(X, 16, verbose=0, callbacks=[listener])
    assert [batch for batch, _ in seen] == [*range(5), *range(5)]
    assert seen[4][1] == loss


@host_only
def test_auto_is_the_device_for_large_steps_alone(cupy, monkeypatch):
    """Those that are captured; the validation is there too. An explicit choice stays."""

    def backend_of(backend="auto", optimizer="sgd", size=16):
        built = models.Sequential([each() for each in CLASSIFIER])
        built.compile(optimizer, "sparse_categorical_crossentropy", backend=backend)
        built.build((None, FEATURES))
        return built, built.plan(X, size).backend

    step_flop = 16 * training_flops(backend_of()[0].layers)
    assert backend_of()[1] == "cpu"
    monkeypatch.setattr(backends, "CUDA_FROM", step_flop)
    backends._tell_of_device.cache_clear()
    with pytest.warns(UserWarning, match="backend 'auto' is 'cuda'"):
        built, chosen = backend_of()
    assert chosen == "cuda"
    assert "chosen by 'auto', for" in str(built.plan(X, 16))
    assert backend_of(size=15)[1] == "cpu"
    assert backend_of("cpu")[1] == "cpu"
    assert backend_of(optimizer=optimizers.SGD(use_ema=True))[1] == "cpu"
    seen = []
    plain = DeviceRunner.evaluate
    monkeypatch.setattr(DeviceRunner, "evaluate", lambda *given: seen.append(1) or plain(*given))
    built.fit(X, LABELS, 16, verbose=0, validation_data=(X[:5], LABELS[:5]), validation_batch_size=5)
    assert seen == [1]
