"""Bad input to the trainer: the type and the message of every refusal, and that nothing was changed by it."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct

import numpy as np
import pytest
import safetensors.numpy

import fastnn
from fastnn import (
    callbacks,
    engine,
    initializers,
    layers,
    losses,
    metrics,
    models,
    optimizers,
    regularizers,
    saving,
    utils,
)
from fastnn.errors import BackendError, DivergenceError

N, IN, CLASSES = 8, 3, 4
X = np.linspace(-1, 1, N * IN, dtype=np.float32).reshape(N, IN)
LABELS = np.arange(N) % CLASSES
ROWS = utils.to_categorical(LABELS, CLASSES)


def with_value(array, index, value):
    changed = np.array(array, dtype=np.float64 if isinstance(value, float) else None)
    changed[index] = value
    return changed


def fit(x=X, y=LABELS, loss="sparse_categorical_crossentropy", **arguments):
    """A call of fit on a good model; only what the test changes is bad."""
    return lambda model: (model.compile("sgd", loss), model.fit(x, y, **{"verbose": 0, **arguments}))


def categorical(x=X, y=ROWS, **arguments):
    return fit(x, y, "categorical_crossentropy", **arguments)


def later(call, make):
    """``call`` of an argument that cannot be made at import."""

    def run(model):
        call(make())(model)

    return run


def sparse_matrix(values):
    return pytest.importorskip("scipy.sparse").csr_matrix(values)


def broken_csr():
    matrix = sparse_matrix(np.eye(N, IN))
    matrix.indices[0] = 99
    return matrix


def masked():
    return np.ma.masked_array(X, X > 0)


def duplicate(_):
    models.Sequential([layers.Dense(2, name="same"), layers.Dense(2, name="same")])


CASES = {
    # inputs
    "x has NaN": (fit(with_value(X, (5, 1), np.nan)), ValueError, r"x: got nan in row 5, wants finite numbers"),
    "x has infinity": (fit(with_value(X, (2, 0), -np.inf)), ValueError, r"x: got -inf in row 2, wants finite"),
    "x beyond float32": (fit(with_value(X, (7, 2), 1e300)), ValueError, r"x: got 1e\+300 in row 7.*range of float32"),
    "x CSR has NaN": (
        later(fit, lambda: sparse_matrix(with_value(X, (4, 1), np.nan))),
        ValueError,
        r"x: got nan in row 4, wants finite",
    ),
    "x CSR is malformed": (later(fit, broken_csr), ValueError, r"x: got a malformed CSR matrix"),
    "x too wide": (fit(np.ones((N, 5))), ValueError, r"x: got shape \(8, 5\), wants \(n, 3\), the model's input"),
    "x has more dimensions": (fit(np.ones((N, IN, 2))), ValueError, r"x: got shape \(8, 3, 2\), wants \(n, 3\)"),
    "x of objects": (fit(np.full((N, IN), None)), TypeError, r"x: got ndarray of shape \(8, 3\) and dtype object"),
    "x of strings": (fit(np.full((N, IN), "1")), TypeError, r"x: got ndarray .* dtype <U1, wants an array of numbers"),
    "x complex": (fit(X.astype(complex)), TypeError, r"x: .*complex128, wants an array of numbers"),
    "x of dates": (fit(np.zeros((N, IN), "datetime64[s]")), TypeError, r"x: .*datetime64.*wants an array of numbers"),
    "x is masked": (later(fit, masked), TypeError, r"x: got a masked array, wants a plain array"),
    "x is ragged": (fit([[1, 2, 3], [1, 2]]), ValueError, r"x: got rows of different lengths"),
    "x is a dict": (
        fit({"x": 1}),
        ValueError,
        r"x: got nothing for 'input_layer.*', wants one entry for each input: input_l",
    ),
    "x is a generator": (fit(iter([X])), ValueError, r"y, sample_weight: got one beside batches, wants it in these"),
    "x is None": (fit(None), ValueError, r"x: got None, wants an array of samples"),
    "x is a number": (fit(3.0), ValueError, r"x: got the single number 3.0"),
    "x is empty": (fit(X[:0], LABELS[:0]), ValueError, r"x: got no samples, wants at least one"),
    # targets
    "y is None": (fit(y=None), ValueError, r"y: got None, wants the targets of x"),
    "y too short": (fit(y=LABELS[:5]), ValueError, r"y: got 5 rows, wants 8, as many as x"),
    "label too large": (
        fit(y=with_value(LABELS, 3, 4)),
        ValueError,
        r"y: got the label 4, wants class indices in \[0, 4\)",
    ),
    "label negative": (
        fit(y=with_value(LABELS, 3, -1)),
        ValueError,
        r"y: got the label -1, wants class indices in \[0, 4\)",
    ),
    "label not whole": (fit(y=with_value(LABELS, 3, 1.5)), ValueError, r"y: got 1.5, wants class indices \(whole"),
    "label NaN": (fit(y=with_value(LABELS, 3, np.nan)), ValueError, r"y: got nan in row 3, wants finite"),
    "rows for a sparse loss": (
        fit(y=ROWS),
        ValueError,
        r"y: got shape \(8, 4\), wants \(n,\).*'categorical_crossentropy'",
    ),
    "labels for a categorical loss": (
        categorical(y=LABELS),
        ValueError,
        r"y: got shape \(8,\), wants \(n, 4\), the model's output; .*'sparse_categorical_crossentropy'",
    ),
    "rows do not sum to 1": (
        categorical(y=with_value(ROWS, (2, 1), 0.5)),
        ValueError,
        r"y: row 2 sums to 1.5, wants rows",
    ),
    "rows are negative": (
        categorical(y=with_value(with_value(ROWS, (2, 1), -0.5), (2, 0), 0.5)),
        ValueError,
        r"y: got the entry -0.5, wants rows of probabilities",
    ),
    "rows too narrow": (categorical(y=ROWS[:, :3]), ValueError, r"y: got shape \(8, 3\), wants \(n, 4\)"),
    "binary target 2": (
        fit(y=ROWS * 2, loss="binary_crossentropy"),
        ValueError,
        r"y: got numbers from 0 to 2, wants numbers in \[0, 1\]",
    ),
    "y of strings": (fit(y=np.full(N, "a")), TypeError, r"y: .*dtype <U1, wants an array of numbers"),
    "y sparse": (
        later(lambda y: categorical(y=y), lambda: sparse_matrix(ROWS)),
        TypeError,
        r"y: got a sparse csr_matrix, wants a dense",
    ),
    "regression target has infinity": (
        fit(y=with_value(ROWS, (6, 0), np.inf), loss="mse"),
        ValueError,
        r"y: got inf in row 6, wants finite",
    ),
    # weights of samples and classes
    "sample weights too few": (
        fit(sample_weight=np.ones(3)),
        ValueError,
        r"sample_weight: got shape \(3,\), wants \(8,\)",
    ),
    "sample weights of outputs": (
        fit(sample_weight=np.ones((N, CLASSES))),
        ValueError,
        r"sample_weight: got shape \(8, 4\), wants \(8,\): one weight a sample$",
    ),
    "sample weight a number": (fit(sample_weight=2.0), ValueError, r"sample_weight: got the single number 2.0"),
    "validation weights too few": (
        fit(validation_data=(X, LABELS, np.ones(3))),
        ValueError,
        r"validation_data\[2\]: got shape \(3,\), wants \(8,\)",
    ),
    "sample weight NaN": (fit(sample_weight=np.full(N, np.nan)), ValueError, r"sample_weight: got nan in row 0"),
    "class weight of no class": (
        fit(class_weight={4: 1.0}),
        ValueError,
        r"class_weight: got the class 4, wants .*\[0, 4\)",
    ),
    "class weight negative": (
        fit(class_weight={1: -1.0}),
        ValueError,
        r"class_weight\[1\]: got -1.0, wants .*at least 0",
    ),
    "class weight a list": (fit(class_weight=[1, 2]), TypeError, r"class_weight: got list .*wants a mapping"),
    "class weight of a string": (
        fit(class_weight={"a": 1.0}),
        TypeError,
        r"class_weight: got str 'a', wants an integer",
    ),
    "both kinds of weights": (
        fit(class_weight={0: 1.0}, sample_weight=np.ones(N)),
        ValueError,
        r"class_weight, sample_weight: got both",
    ),
    # arguments of fit
    "batch size 0": (fit(batch_size=0), ValueError, r"batch_size: got 0, wants an integer of at least 1"),
    "batch size a float": (fit(batch_size=2.0), TypeError, r"batch_size: got float 2.0, wants an integer"),
    "threads 0": (fit(threads=0), ValueError, r"threads: got 0, wants an integer of at least 1"),
    "threads a float": (fit(threads=2.0), TypeError, r"threads: got float 2.0, wants an integer of at least 1"),
    "predict threads": (lambda m: m.predict(X, threads=0), ValueError, r"threads: got 0, wants an integer"),
    "plan threads": (lambda m: m.plan(X, threads="2"), TypeError, r"threads: got str '2', wants an integer"),
    "epochs negative": (fit(epochs=-1), ValueError, r"epochs: got -1, wants an integer of at least 0"),
    "epochs a bool": (fit(epochs=True), TypeError, r"epochs: got bool True, wants an integer"),
    "validation split 1": (fit(validation_split=1.0), ValueError, r"validation_split: got 1.0, wants .*below 1"),
    "validation split too small": (
        fit(validation_split=0.999),
        ValueError,
        r"validation_split: got 0.999, which leaves 0 of 8",
    ),
    "validation data alone": (fit(validation_data=X), TypeError, r"validation_data: got ndarray.*wants \(x, y\)"),
    "validation x bad": (
        fit(validation_data=(with_value(X, (1, 1), np.nan), LABELS)),
        ValueError,
        r"validation_data\[0\]: got nan in row 1",
    ),
    "validation y bad": (
        fit(validation_data=(X, LABELS + 9)),
        ValueError,
        r"validation_data\[1\]: got the label 12, wants class indices",
    ),
    "validation lengths": (
        fit(validation_data=(X, LABELS[:2])),
        ValueError,
        r"validation_data\[1\]: got 2 rows, wants 8",
    ),
    "shuffle a string": (fit(shuffle="batch"), TypeError, r"shuffle: got str 'batch', wants True or False"),
    "verbose a word": (fit(verbose="yes"), ValueError, r"verbose: got 'yes', wants 0, 1, 2 or 'auto'"),
    "verbose 3": (fit(verbose=3), ValueError, r"verbose: got 3, wants 0, 1, 2 or 'auto'"),
    "callback a class": (
        fit(callbacks=[callbacks.EarlyStopping]),
        TypeError,
        r"callbacks\[0\]: got type .*wants a Callback object \(with parentheses",
    ),
    "callbacks a number": (fit(callbacks=3), TypeError, r"callbacks: got int 3, wants a list of Callback objects"),
    "not compiled": (lambda m: m.fit(X, LABELS), ValueError, r"fit: the model has to be compiled with an optimizer"),
    "compiled without loss": (
        lambda m: (m.compile("sgd"), m.evaluate(X, LABELS)),
        ValueError,
        r"evaluate: the model has to be compiled with a loss",
    ),
    "predict too wide": (lambda m: m.predict(np.ones((2, 9))), ValueError, r"x: got shape \(2, 9\), wants \(n, 3\)"),
    "predict NaN": (lambda m: m.predict(X * np.nan), ValueError, r"x: got nan in row 0"),
    # compile
    "unknown optimizer": (
        lambda m: m.compile("rmsporp", "mse"),
        ValueError,
        r"optimizer: got 'rmsporp'.*did you mean 'rmsprop'\?",
    ),
    "unknown loss": (
        lambda m: m.compile("sgd", "catgorical_crossentropy"),
        ValueError,
        r"loss: got 'catgorical_crossentropy'.*did you mean 'categorical_crossentropy'\?",
    ),
    "unknown metric": (
        lambda m: m.compile("sgd", "mse", ["acuracy"]),
        ValueError,
        r"metrics\[0\]: got 'acuracy'.*did you mean 'accuracy'\?",
    ),
    "metrics a string": (
        lambda m: m.compile("sgd", "mse", "accuracy"),
        TypeError,
        r"metrics: got str 'accuracy', wants a list",
    ),
    "loss a number": (lambda m: m.compile("sgd", 3), TypeError, r"loss: got int 3, wants a name"),
    "optimizer a loss": (lambda m: m.compile(losses.MeanSquaredError()), TypeError, r"optimizer: got MeanSquaredError"),
    "unknown backend": (
        lambda m: m.compile("sgd", "mse", backend="gpu"),
        ValueError,
        r"backend: got 'gpu', wants one of",
    ),
    "metric of other targets": (
        lambda m: (m.compile("sgd", "sparse_categorical_crossentropy", ["mae"]), m.fit(X, LABELS, verbose=0)),
        ValueError,
        r"y_true: got shape \(8,\), wants \(8, 4\), the shape of y_pred",
    ),
    # optimizers
    "learning rate negative": (
        lambda _: optimizers.SGD(-0.1),
        ValueError,
        r"learning_rate: got -0.1, wants .*at least 0",
    ),
    "learning rate NaN": (
        lambda _: optimizers.Adam(np.nan),
        ValueError,
        r"learning_rate: got nan, wants a finite number",
    ),
    "learning rate a string": (lambda _: optimizers.SGD("0.1"), TypeError, r"learning_rate: got str '0.1'"),
    "learning rate set negative": (
        lambda _: setattr(optimizers.SGD(), "learning_rate", -1),
        ValueError,
        r"learning_rate: got -1.0",
    ),
    "momentum 2": (lambda _: optimizers.SGD(momentum=2), ValueError, r"momentum: got 2.0, wants .*at most 1"),
    "beta_1 is 1": (lambda _: optimizers.Adam(beta_1=1), ValueError, r"beta_1: got 1.0, wants .*below 1"),
    "epsilon 0": (lambda _: optimizers.RMSprop(epsilon=0), ValueError, r"epsilon: got 0.0, wants .*above 0"),
    "two clippings": (
        lambda _: optimizers.SGD(clipnorm=1, clipvalue=1),
        ValueError,
        r"clipnorm, clipvalue: got 2 kinds",
    ),
    "old keyword lr": (lambda _: optimizers.SGD(lr=0.1), TypeError, r"lr: got an argument .*, wants learning_rate"),
    # layers
    "no units": (lambda _: layers.Dense(0), ValueError, r"units: got 0, wants an integer of at least 1"),
    "units a float": (lambda _: layers.Dense(3.5), TypeError, r"units: got float 3.5, wants an integer"),
    "unknown activation": (
        lambda _: layers.Dense(3, activation="rleu"),
        ValueError,
        r"activation: got 'rleu'.*did you mean 'relu'\?",
    ),
    "unknown initializer": (
        lambda _: layers.Dense(3, kernel_initializer="glorot"),
        ValueError,
        r"kernel_initializer: got 'glorot', wants one of .*did you mean",
    ),
    "unknown regularizer": (
        lambda _: layers.Dense(3, kernel_regularizer="l3"),
        ValueError,
        r"kernel_regularizer: got 'l3'",
    ),
    "dropout of all": (
        lambda _: layers.Dropout(1.0),
        ValueError,
        r"rate: got 1.0, wants a finite number at least 0 and below 1",
    ),
    "dropout below 0": (lambda _: layers.Dropout(-0.5), ValueError, r"rate: got -0.5, wants .*at least 0"),
    "dropout in percent": (lambda _: layers.Dropout(50), ValueError, r"rate: got 50.0, wants .*below 1"),
    "dropout of NaN": (lambda _: layers.Dropout(np.nan), ValueError, r"rate: got nan, wants a finite number"),
    "dropout rate a string": (lambda _: layers.Dropout("0.5"), TypeError, r"rate: got str '0.5', wants a finite"),
    "dropout rate None": (lambda _: layers.Dropout(None), TypeError, r"rate: got NoneType None, wants a finite"),
    "dropout seed negative": (lambda _: layers.Dropout(0.5, seed=-1), ValueError, r"seed: got -1, wants an integer of"),
    "dropout noise_shape a number": (
        lambda _: layers.Dropout(0.5, 3),
        TypeError,
        "noise_shape: got int 3, wants a list or tuple of sizes, or None",
    ),
    "dropout noise_shape of 0": (
        lambda _: layers.Dropout(0.5, (None, 0)),
        ValueError,
        r"noise_shape\[1\]: got 0, wants an integer of at least 1",
    ),
    "dropout noise_shape that does not fit": (
        lambda _: layers.Dropout(0.5, (None, 2), name="d").build((None, 3)),
        ValueError,
        r"d: got input shape \(None, 3\), wants one that noise_shape=\(None, 2\) stretches to",
    ),
    "dropout seed a float": (
        lambda _: layers.Dropout(0.5, seed=0.5),
        TypeError,
        "seed: got float 0.5, wants an int",
    ),
    "dropout seed too large": (
        lambda _: layers.Dropout(0.5, seed=2**63),
        ValueError,
        "seed: got 9223372036854775808",
    ),
    "scale NaN": (lambda _: layers.Rescaling(np.nan), ValueError, r"scale: got nan, wants a finite number"),
    "scale infinite": (lambda _: layers.Rescaling(np.inf), ValueError, r"scale: got inf, wants a finite number"),
    "scale a string": (
        lambda _: layers.Rescaling("1/255"),
        TypeError,
        r"scale: got str '1/255', wants a finite number",
    ),
    "scale True": (lambda _: layers.Rescaling(True), TypeError, r"scale: got bool True, wants a finite number"),
    "scale a list": (lambda _: layers.Rescaling([1, 2]), TypeError, r"scale: got list \[1, 2\], wants a finite"),
    "scale missing": (lambda _: layers.Rescaling(), TypeError, r"missing .*'scale'"),
    "offset NaN": (lambda _: layers.Rescaling(1.0, np.nan), ValueError, r"offset: got nan, wants a finite number"),
    "offset None": (lambda _: layers.Rescaling(1.0, None), TypeError, r"offset: got NoneType None, wants a finite"),
    "unknown dtype": (lambda _: layers.Dense(3, dtype="float16"), ValueError, r"dtype: got 'float16', wants one of"),
    "unknown keyword": (
        lambda _: layers.Dense(3, unit=3),
        TypeError,
        r"unit: got an argument that Dense .*mean 'units'\?\)",
    ),
    "input shape a number": (
        lambda _: layers.Dense(3, input_shape=4),
        TypeError,
        r"input_shape: got int 4, wants a tuple",
    ),
    "input shape 0": (lambda _: layers.Input((0,)), ValueError, r"shape\[0\]: got 0, wants an integer of at least 1"),
    "negative penalty": (lambda _: regularizers.L2(-1), ValueError, r"l2: got -1.0, wants .*at least 0"),
    "negative deviation": (lambda _: initializers.RandomNormal(stddev=-1), ValueError, r"stddev: got -1.0"),
    "top 0": (lambda _: metrics.TopKCategoricalAccuracy(k=0), ValueError, r"k: got 0, wants an integer of at least 1"),
    "not a layer": (lambda m: m.add("dense"), TypeError, r"layer: got str 'dense', wants a layer object"),
    "second input": (lambda m: m.add(layers.Input((3,))), ValueError, r"layer: got an InputLayer on top"),
    "same names": (duplicate, ValueError, r"got a second layer of the name 'same'"),
    "mixed dtypes": (lambda m: m.add(layers.Dense(1, dtype="float64")), ValueError, r"dtype float64, wants float32"),
    # weights
    "too few weights": (lambda m: m.set_weights(m.get_weights()[:-1]), ValueError, r"weights: got 3 arrays, wants 4"),
    "weights of wrong shape": (
        lambda m: m.set_weights([w.T for w in m.get_weights()]),
        ValueError,
        r"first/kernel: got an array of shape \(5, 3\), wants \(3, 5\)",
    ),
    "weights not finite": (
        lambda m: m.set_weights([w * np.nan for w in m.get_weights()]),
        ValueError,
        r"first/kernel: got nan in row 0",
    ),
    "weights a number": (lambda m: m.set_weights(3), TypeError, r"weights: got int 3, wants a list of arrays"),
    # helpers
    "seed negative": (lambda _: utils.set_random_seed(-1), ValueError, r"seed: got -1, wants an integer of at least 0"),
    "class below 0": (lambda _: utils.to_categorical([0, -1]), ValueError, r"x: got the label -1, wants class indices"),
    "class too large": (lambda _: utils.to_categorical([5], 3), ValueError, r"x: got the label 5, wants .*\[0, 3\)"),
    "class not whole": (lambda _: utils.to_categorical([0.5]), ValueError, r"x: got 0.5, wants class indices"),
    "scheduler no function": (lambda _: callbacks.LearningRateScheduler(0.1), TypeError, r"schedule: got float 0.1"),
    "unknown hook": (
        lambda _: callbacks.LambdaCallback(on_epoch_ends=print),
        ValueError,
        r"LambdaCallback: got 'on_epoch_ends'.*did you mean 'on_epoch_end'\?",
    ),
    "unknown mode": (lambda _: callbacks.EarlyStopping(mode="lowest"), ValueError, r"mode: got 'lowest', wants one of"),
    "model without layers": (
        lambda _: models.Sequential().predict(X),
        ValueError,
        r"layers: got a model without layers, wants at least one",
    ),
    "unbuilt summary of weights": (
        lambda _: models.Sequential([layers.Dense(2)]).count_params(),
        ValueError,
        r"count_params: the model is not built",
    ),
}


@pytest.fixture
def model():
    utils.set_random_seed(0)
    return models.Sequential(
        [layers.Input((IN,)), layers.Dense(5, "relu", name="first"), layers.Dense(CLASSES, "softmax", name="last")]
    )


@pytest.mark.parametrize("case", CASES)
def test_refused_and_nothing_changed(model, case):
    call, error, message = CASES[case]
    before = model.get_weights()
    stack = list(model.layers)
    with pytest.raises(error, match=message):
        call(model)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
    assert model.layers == stack
    assert model.optimizer is None or model.optimizer.iterations == 0


def test_there_are_enough_cases():
    assert len(CASES) >= 45


def test_failed_compile_keeps_what_was_compiled(model):
    model.compile("adam", "mse", metrics=["mae"])
    optimizer, loss = model.optimizer, model.loss
    with pytest.raises(ValueError, match="metrics"):
        model.compile("sgd", "mae", metrics=["nonsense"])
    assert model.optimizer is optimizer
    assert model.loss is loss
    assert model.metrics_names == ["loss", "mae"]


@pytest.mark.parametrize("shape", [(6, 4), (5, 6), (6, 5, 2), (1, 5), (6, 5, 1, 1)])
def test_weights_of_other_steps(shape):
    model = models.Sequential([layers.Dense(2, input_shape=(5, 3))])
    model.compile("sgd", "mse")
    before, got = model.get_weights(), re.escape(str(shape))
    with pytest.raises(
        ValueError, match=rf"sample_weight: got shape {got}, wants \(6,\) or \(6, 5\): one weight a sam"
    ):
        model.fit(np.ones((6, 5, 3)), np.ones((6, 5, 2)), sample_weight=np.ones(shape), verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_unbuilt_model_stays_unbuilt():
    model = models.Sequential([layers.Dense(4, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    with pytest.raises(ValueError, match="class indices"):
        model.fit(X, LABELS + 1)
    assert not model.built
    model.fit(X, LABELS, verbose=0)
    assert model.built


@pytest.mark.skipif(fastnn.available_backends()["cuda"].available, reason="this machine has CUDA")
def test_unavailable_backend_is_named_with_its_reason(model):
    with pytest.raises(BackendError, match=r"backend 'cuda' is unavailable: .*Available: .*'cpu'"):
        model.compile("sgd", "mse", backend="cuda")
    assert model.optimizer is None


# ------------------------------------------------------------------------------------------------------ divergence


@pytest.fixture
def line():
    """y = w1 w2 x, which plain SGD with a large step throws out of any bounds."""
    model = models.Sequential([layers.Input((1,)), layers.Dense(1, name="a"), layers.Dense(1, name="b")])
    model.set_weights([[[1.0]], [0.0], [[1.0]], [0.0]])
    return model


def test_divergence_names_epoch_batch_and_rate(line):
    line.compile(optimizers.SGD(1e6), "mse")
    with pytest.raises(DivergenceError, match=r"at epoch 1, batch \d+, with learning rate 1e\+06"):
        line.fit(np.ones((20, 1)), np.zeros(20), batch_size=1, verbose=0)


def test_divergence_is_found_before_the_weights_take_it(line):
    line.compile(optimizers.SGD(1e6), "mse")
    with pytest.raises(DivergenceError, match="the weights are those of the batch before"):
        line.fit(np.ones((20, 1)), np.zeros(20), epochs=100, batch_size=1, verbose=0)
    assert all(np.isfinite(w).all() for w in line.get_weights())


def test_divergence_in_the_last_batch_shows_in_validation(line):
    line.compile(optimizers.SGD(1e30), "mse")
    with pytest.raises(DivergenceError, match=r"validation loss is (inf|nan) at epoch 1, after the last batch"):
        line.fit([[1.0]], [[0.0]], validation_data=([[1e9]], [[0.0]]), verbose=0)


@pytest.mark.parametrize("runner", ["fused", "layerwise"])
def test_divergence_in_the_last_update_of_a_fit(line, runner, monkeypatch):
    """No loss is computed with these weights any more."""
    monkeypatch.setitem(engine.RUNNERS, "fused", engine.RUNNERS[runner])
    line.compile(optimizers.SGD(1e35), "mse")
    message = r"weights are not finite at epoch 1, after the last batch, with learning rate 1e\+35 \(a/kernel: got "
    with pytest.raises(DivergenceError, match=message):
        line.fit([[1e3]], [[0.0]], verbose=0)


def test_divergence_after_the_best_epoch_is_made_good(line):
    """Early stopping has put its weights back."""
    line.compile(optimizers.SGD(0.0), "mse")
    rates = callbacks.LearningRateScheduler(lambda epoch: 1e35 * epoch)
    best = callbacks.EarlyStopping("loss", patience=5, restore_best_weights=True)
    line.fit([[1e3]], [[0.0]], epochs=2, verbose=0, callbacks=[rates, best])
    assert [float(weight.sum()) for weight in line.get_weights()] == [1, 0, 1, 0]


# ------------------------------------------------------------------------------------------------------ model files


def saved(model, path):
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X, LABELS, verbose=0)
    model.save(path)
    return path.read_bytes()


def flipped(data):
    """One bit of the last array."""
    return data[:-3] + bytes([data[-3] ^ 1]) + data[-2:]


def other_document(data, **changes):
    """The same file with another header."""
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    metadata = header["__metadata__"]
    metadata.update(changes)
    if "document" in changes:  # a file that was written like this, not damaged afterwards
        metadata["checksum"] = saving._checksum(safetensors.numpy.load(data), metadata["document"])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data[8 + size :]


def foreign(_):
    return safetensors.numpy.save({"a": np.ones(3)})


DAMAGE = {
    "truncated": (lambda data: data[: len(data) // 2], r"truncated, damaged or no model file"),
    "cut in the header": (lambda data: data[:20], r"truncated, damaged or no model file"),
    "empty": (lambda _: b"", r"truncated, damaged or no model file"),
    "text": (lambda _: b"hello, this is no model at all", r"truncated, damaged or no model file"),
    "one bit flipped": (flipped, r"whose contents fail their checksum"),
    "a zip archive": (lambda _: b"PK\x03\x04" + bytes(40), r"a zip archive \(perhaps Keras's .keras, PyTorch"),
    "HDF5": (lambda _: b"\x89HDF\r\n\x1a\n" + bytes(40), r"an HDF5 file"),
    "a pickle": (lambda _: pickle.dumps([1, 2, 3], protocol=4), r"a pickle, which fastnn never loads"),
    "an older pickle": (lambda _: pickle.dumps([1, 2, 3], protocol=2), r"a pickle, which fastnn never loads"),
    "another program's": (foreign, r"a safetensors file of another program"),
    "a newer format": (lambda data: other_document(data, format_version="99"), r"format version '99'; wants version 1"),
    "no architecture": (lambda data: other_document(data, document='{"class_name": "Sequential"}'), r"fits neither"),
    "weights alone": (lambda data: other_document(data, document='{"class_name": "weights"}'), r"holds weights alone"),
}


@pytest.mark.parametrize("case", DAMAGE)
def test_damaged_file_is_refused(model, tmp_path, case):
    damage, message = DAMAGE[case]
    path = tmp_path / "model.fastnn"
    path.write_bytes(damage(saved(model, path)))
    with pytest.raises(ValueError, match=rf"filepath: got .*model.fastnn.*{message}"):
        models.load_model(path)


def test_unknown_layer_in_a_file(model, tmp_path):
    path = tmp_path / "m"
    data = saved(model, path)
    size = struct.unpack("<Q", data[:8])[0]
    document = json.loads(data[8 : 8 + size])["__metadata__"]["document"]
    path.write_bytes(other_document(data, document=document.replace('"Dense"', '"Conv3D"')))
    with pytest.raises(ValueError, match="layers: got 'Conv3D', wants one of"):
        models.load_model(path)


def test_no_flipped_byte_goes_unnoticed(model, tmp_path):
    path = tmp_path / "m"
    data = saved(model, path)
    for place in np.random.default_rng(0).permutation(len(data))[:300]:
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x04]) + data[place + 1 :])
        with pytest.raises(ValueError, match="filepath: got"):
            models.load_model(path)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        models.load_model(tmp_path / "nothing")


@pytest.mark.parametrize(
    ("path", "error", "message"),
    [
        ("no/such/folder/m", FileNotFoundError, "filepath: cannot write the file"),
        (".", IsADirectoryError, "filepath: got a folder"),
        ("file/m", NotADirectoryError, "filepath: cannot write the file"),
        (3, TypeError, "filepath: got int 3, wants a string or a path"),
        ("", ValueError, "filepath: got ''"),
    ],
)
def test_unwritable_path(model, tmp_path, monkeypatch, path, error, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("kept")
    with pytest.raises(error, match=message):
        model.save(path)
    assert os.listdir(tmp_path) == ["file"]


def test_full_disk_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m"
    before = saved(model, path)

    def no_space(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match=r"filepath: cannot write the file \(No space left on device\)"):
        model.save(path)
    assert os.listdir(tmp_path) == ["m"]
    assert path.read_bytes() == before


def test_interrupted_write_leaves_the_old_file(model, tmp_path, monkeypatch):
    path = tmp_path / "m"
    before = saved(model, path)

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.save(path)
    assert os.listdir(tmp_path) == ["m"]
    assert path.read_bytes() == before


def test_functions_cannot_be_saved(model, tmp_path):
    def my_loss(y_true, y_pred):
        return 0.0, y_pred * 0

    model.compile("sgd", my_loss)
    with pytest.raises(ValueError, match="loss: got the function 'my_loss', which a model file cannot hold"):
        model.save(tmp_path / "m")
    model.compile("sgd", "mse", [lambda y_true, y_pred: y_pred[:, 0]])
    with pytest.raises(ValueError, match="metrics: got the function '<lambda>', which a model file cannot hold"):
        model.save(tmp_path / "m")
    assert os.listdir(tmp_path) == []


def test_overwrite_false(model, tmp_path):
    path = tmp_path / "m"
    before = saved(model, path)
    with pytest.raises(FileExistsError, match="overwrite is False"):
        model.save(path, overwrite=False)
    assert path.read_bytes() == before


def test_weights_of_another_architecture(model, tmp_path):
    path = tmp_path / "w"
    models.Sequential([layers.Dense(2, input_shape=(9,)), layers.Dense(4)]).save_weights(path)
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"first/kernel: got an array of shape \(9, 2\), wants \(3, 5\)"):
        model.load_weights(path)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))


def test_optimizer_of_another_model(model):
    optimizer = optimizers.Adam()
    other = models.Sequential([layers.Dense(4, "softmax", input_shape=(IN + 1,), name="first")])
    other.compile(optimizer, "sparse_categorical_crossentropy")
    other.fit(np.ones((N, IN + 1)), LABELS, verbose=0)
    model.compile(optimizer, "sparse_categorical_crossentropy")
    before = model.get_weights()
    with pytest.raises(ValueError, match=r"optimizer: got one that holds state of shape \(4, 4\)"):
        model.fit(X, LABELS, verbose=0)
    assert all((a == b).all() for a, b in zip(before, model.get_weights(), strict=True))
