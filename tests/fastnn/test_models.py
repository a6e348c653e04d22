"""Sequential: building, training, evaluating, predicting, showing."""

from __future__ import annotations

import gc
import re
import tracemalloc

import numpy as np
import pytest

import fastnn
from fastnn import backends, callbacks, engine, layers, losses, models, optimizers, utils

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 3))
LABELS = (X.sum(axis=1) > 0).astype(int) + (X[:, 0] > 1)
BACKENDS = [name for name, state in backends.available_backends().items() if state.available and name != "cuda"]


def small(metrics=("accuracy",), optimizer="adam", **options):
    utils.set_random_seed(1)
    model = models.Sequential([layers.Dense(8, "relu", input_shape=(3,)), layers.Dense(3, "softmax")])
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=list(metrics), **options)
    return model


# ------------------------------------------------------------------------------------------------------ building


def test_three_ways_to_give_the_input_shape():
    for stack in (
        [layers.Dense(4, input_shape=(3,)), layers.Dense(2)],
        [layers.Input((3,)), layers.Dense(4), layers.Dense(2)],
        [layers.InputLayer(shape=(3,)), layers.Dense(4), layers.Dense(2)],
    ):
        model = models.Sequential(stack)
        assert model.built
        assert (model.input_shape, model.output_shape) == ((None, 3), (None, 2))
        assert model.count_params() == 26
        assert len(model.layers) == 2


def test_weights_wait_for_the_data():
    model = models.Sequential([layers.Dense(4), layers.Dense(2)])
    assert not model.built
    assert model.predict(X).shape == (40, 2)
    assert model.input_shape == (None, 3)
    again = models.Sequential([layers.Dense(4), layers.Dense(2)])
    again.build((None, 7))
    assert again.count_params() == 42


@pytest.mark.parametrize("name", ["input_shape", "output_shape", "inputs", "outputs"])
def test_what_is_unknown_before_the_model_is_built(name):
    for model in (models.Sequential(), models.Sequential([layers.Dense(4)])):
        assert not hasattr(model, name)
        with pytest.raises(AttributeError, match="the model is not built, so its input shape is unknown"):
            getattr(model, name)


def test_inputs_and_outputs():
    def described(tensors):
        return [(tensor.shape, tensor.dtype, tensor.name) for tensor in tensors]

    model = models.Sequential([layers.Input((3,), name="in"), layers.Dense(4, name="out", dtype="float64")])
    assert described(model.inputs) == [((None, 3), "float64", "in")]
    assert described(model.outputs) == [((None, 4), "float64", "out")]
    first = models.Sequential([layers.Dense(4, name="d", input_shape=(2,))])
    assert described(first.inputs) == [((None, 2), "float32", "d")]
    assert described(models.Sequential([layers.Input((3,), name="in")]).outputs) == [((None, 3), "float32", "in")]


def test_compute_output_shape():
    model = models.Sequential([layers.Dense(4), layers.Dense(2)])
    assert model.compute_output_shape((7, 3)) == (7, 2)
    assert model.compute_output_shape((None, 5)) == (None, 2)
    assert not model.built
    model.build((None, 3))
    with pytest.raises(ValueError, match=r"input_shape: got \(None, 5\), wants \(None, 3\)"):
        model.compute_output_shape((None, 5))
    with pytest.raises(TypeError, match="input_shape: got int 3, wants a tuple"):
        model.compute_output_shape(3)


def test_variables_are_weights_and_losses_penalties():
    model = models.Sequential(
        [
            layers.Dense(4, kernel_regularizer=fastnn.regularizers.L2(0.5), input_shape=(3,)),
            layers.Dense(2, kernel_regularizer="l2"),
        ]
    )
    model.layers[1].trainable = False
    assert model.variables == model.weights
    assert model.trainable_variables == model.layers[0].trainable_variables == model.weights[:2]
    assert model.non_trainable_variables == model.layers[1].variables == model.weights[2:]
    assert model.layers[0].non_trainable_variables == []
    kernel = model.get_weights()[0].astype("float64")
    np.testing.assert_allclose(model.losses, [0.5 * (kernel**2).sum()], rtol=1e-6)


def test_a_call_in_training_drops():
    model = models.Sequential([layers.Dropout(0.5, seed=1, input_shape=(64,)), layers.Rescaling(2.0)])
    x = np.ones((8, 64), "float32")
    assert (model(x) == 2).all()
    assert (model(x, training=False) == 2).all()
    dropped = model(x, training=True)
    assert set(np.unique(dropped)) == {0, 4}
    assert (dropped != model(x, training=True)).any()  # other masks in every call
    with pytest.raises(TypeError, match="training: got int 1, wants True, False or None"):
        model(x, training=1)


def test_add_and_pop():
    model = models.Sequential(name="mine")
    model.add(fastnn.Input((3,)))
    model.add(layers.Dense(4))
    model.add(layers.Dense(2))
    assert model.output_shape == (None, 2)
    assert model.pop().units == 2
    assert model.output_shape == (None, 4)
    assert model.name == "mine"
    with pytest.raises(IndexError, match="pop: got a model without layers"):
        models.Sequential().pop()


def test_default_names_keep_clear_of_given_ones():
    """As after loading a model in a new process, where default names count from the start."""
    probe = layers.Dense(1)
    number = int(probe.name.removeprefix("dense").removeprefix("_") or 0)
    model = models.Sequential([layers.Dense(2, name=f"dense_{number + 1}", input_shape=(3,))])
    model.add(layers.Dense(2))
    assert [layer.name for layer in model.layers] == [f"dense_{number + 1}", f"dense_{number + 2}"]


def test_get_layer():
    model = models.Sequential([layers.Dense(4, name="a"), layers.Dense(2, name="b")])
    assert model.get_layer("b") is model.get_layer(index=-1) is model.layers[1]
    with pytest.raises(ValueError, match="name: got 'c', wants one of 'a', 'b'"):
        model.get_layer("c")
    with pytest.raises(ValueError, match="index: got 2, wants one of the 2 layers"):
        model.get_layer(index=2)


def test_top_level_names():
    assert fastnn.Sequential is models.Sequential
    assert fastnn.load_model is models.load_model
    assert fastnn.Input is layers.Input


def test_set_weights_changes_outputs():
    model = small()
    weights = model.get_weights()
    model.set_weights([w * 0 for w in weights])
    np.testing.assert_allclose(model.predict(X), 1 / 3, rtol=1e-6)
    assert [w.shape for w in weights] == [(3, 8), (8,), (8, 3), (3,)]


def test_float64_model():
    model = models.Sequential([layers.Dense(4, "tanh", dtype="float64", input_shape=(3,)), layers.Activation("relu")])
    assert model.predict(X).dtype == np.float64
    want = np.maximum(np.tanh(X @ model.get_weights()[0]), 0)
    np.testing.assert_allclose(model.predict(X), want, rtol=1e-13)
    assert small().predict(X).dtype == np.float32


# ------------------------------------------------------------------------------------------------------ training


@pytest.mark.parametrize("backend", BACKENDS)
def test_training_learns(backend):
    model = small(optimizer=optimizers.Adam(0.03), backend=backend)
    history = model.fit(X, LABELS, epochs=60, batch_size=8, verbose=0).history
    assert history["accuracy"][-1] > 0.9
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert model.evaluate(X, LABELS, verbose=0)[1] > 0.9


def test_backends_agree():
    curves = [
        small(backend=name).fit(X, LABELS, epochs=3, verbose=0, shuffle=False).history["loss"] for name in BACKENDS
    ]
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], rtol=1e-5)


def test_loss_of_fit_is_the_mean_over_samples_of_the_training_passes():
    """With a learning rate of 0 training changes nothing, so fit and evaluate must agree, short last batch included."""
    model = small(optimizer=optimizers.SGD(0.0))
    history = model.fit(X, LABELS, batch_size=16, verbose=0).history
    loss, accuracy = model.evaluate(X, LABELS, batch_size=7, verbose=0)
    assert history["loss"] == [pytest.approx(loss, rel=1e-6)]
    assert history["accuracy"] == [pytest.approx(accuracy)]
    p = model.predict(X)
    assert loss == pytest.approx(-np.log(p[np.arange(40), LABELS]).mean(), rel=1e-5)


def test_short_last_batch_is_trained():
    model = small()
    model.fit(X, LABELS, batch_size=16, epochs=2, verbose=0)
    assert model.optimizer.iterations == 6


def test_every_sample_once_an_epoch_in_a_new_order():
    """The targets number the samples, and the loss notes which ones it sees."""
    seen = []

    def spy(y_true, y_pred):
        seen.append(y_true[:, 0].astype(int).tolist())
        return 0.0, np.zeros_like(y_pred)

    model = models.Sequential([layers.Dense(1, input_shape=(3,))])
    model.compile("sgd", spy)
    utils.set_random_seed(3)
    model.fit(X, np.arange(40), batch_size=16, epochs=2, verbose=0)
    first, second = sum(seen[:3], []), sum(seen[3:], [])  # noqa: RUF017
    assert sorted(first) == sorted(second) == list(range(40))
    assert first != second
    assert first != list(range(40))
    assert [len(batch) for batch in seen[:3]] == [16, 16, 8]
    seen.clear()
    model.fit(X, np.arange(40), batch_size=16, shuffle=False, verbose=0)
    assert sum(seen, []) == list(range(40))  # noqa: RUF017


def test_validation_split_takes_the_last_samples_before_shuffling():
    model = small(optimizer=optimizers.SGD(0.0))
    history = model.fit(X, LABELS, validation_split=0.25, verbose=0).history
    assert history["val_loss"] == [pytest.approx(model.evaluate(X[30:], LABELS[30:], verbose=0)[0], rel=1e-6)]
    assert history["loss"] == [pytest.approx(model.evaluate(X[:30], LABELS[:30], verbose=0)[0], rel=1e-6)]


def test_validation_frequency():
    history = small().fit(X, LABELS, epochs=5, validation_split=0.2, validation_freq=2, verbose=0).history
    assert len(history["loss"]) == 5
    assert len(history["val_loss"]) == 2


def test_sample_weights_scale_losses():
    model = small(optimizer=optimizers.SGD(0.0))
    weight = GENERATOR.uniform(0, 2, 40)
    p = model.predict(X)
    wanted = (-np.log(p[np.arange(40), LABELS]) * weight).mean()
    assert model.evaluate(X, LABELS, sample_weight=weight, verbose=0)[0] == pytest.approx(wanted, rel=1e-5)
    assert model.fit(X, LABELS, sample_weight=weight, verbose=0).history["loss"] == [pytest.approx(wanted, rel=1e-5)]


@pytest.mark.parametrize("loss", ["sparse_categorical_crossentropy", "categorical_crossentropy"])
def test_class_weights_are_sample_weights(loss):
    y = LABELS if loss.startswith("sparse") else utils.to_categorical(LABELS, 3)
    weights = {0: 0.5, 2: 3.0}
    by_sample = np.array([weights.get(label, 1.0) for label in LABELS])
    results = []
    for options in ({"class_weight": weights}, {"sample_weight": by_sample}):
        model = small()
        model.compile("adam", loss)
        results.append(model.fit(X, y, epochs=2, verbose=0, shuffle=False, **options).history["loss"])
    assert results[0] == results[1]


def test_train_on_batch_is_one_step_and_reports_this_batch():
    model = small()
    before = model.evaluate(X, LABELS, verbose=0, batch_size=40)
    assert model.train_on_batch(X, LABELS) == pytest.approx(before)
    assert model.optimizer.iterations == 1
    after = model.test_on_batch(X, LABELS, return_dict=True)
    assert after["loss"] < before[0]
    assert model.train_on_batch(X, LABELS, return_dict=True) == pytest.approx(after)


def test_evaluate_without_metrics_is_a_number():
    model = small(metrics=())
    assert isinstance(model.evaluate(X, LABELS, verbose=0), float)
    assert isinstance(model.train_on_batch(X, LABELS), float)
    assert set(model.evaluate(X, LABELS, verbose=0, return_dict=True)) == {"loss"}


def averages(model):
    return [model.optimizer.state[parameter.path]["average"] for parameter in model.weights]


def test_a_fit_ends_with_the_average_of_weights():
    """Callbacks see it at the end; ``train_on_batch`` leaves the weights alone, and so does a fit of no epochs."""
    model, seen = small(optimizer=optimizers.Adam(0.1, use_ema=True, ema_momentum=0.5)), []
    keep = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(model.get_weights()),
        on_train_end=lambda logs: seen.append(model.get_weights()),
    )
    model.fit(X, LABELS, epochs=1, verbose=0, callbacks=[keep])
    trained, ended = seen
    assert all((a != b).any() for a, b in zip(trained, averages(model), strict=True))
    assert all((a == b).all() for a, b in zip(ended, averages(model), strict=True))
    model.train_on_batch(X, LABELS)
    model.fit(X, LABELS, epochs=0, verbose=0)
    assert all((a != b).any() for a, b in zip(model.get_weights(), averages(model), strict=True))


def test_frozen_layers_stay():
    model = small(optimizer="sgd")
    first, second = model.layers
    first.trainable = False
    before = model.get_weights()
    model.fit(X, LABELS, verbose=0)
    after = model.get_weights()
    assert (before[0] == after[0]).all()
    assert (before[2] != after[2]).any()
    first.trainable, second.trainable = True, False
    model.fit(X, LABELS, verbose=0)
    assert (model.get_weights()[0] != after[0]).any()
    assert (model.get_weights()[2] == after[2]).all()
    model.trainable = False
    frozen = model.get_weights()
    model.fit(X, LABELS, verbose=0)
    assert all((a == b).all() for a, b in zip(frozen, model.get_weights(), strict=True))


def test_softmax_as_a_layer_of_its_own_trains_the_same():
    results = []
    for apart in (False, True):
        utils.set_random_seed(5)
        last = [layers.Dense(3), layers.Activation("softmax")] if apart else [layers.Dense(3, "softmax")]
        model = models.Sequential([layers.Dense(4, "tanh", input_shape=(3,)), *last])
        model.compile("adam", "sparse_categorical_crossentropy")
        assert model.plan().fused_loss
        results.append(model.fit(X, LABELS, epochs=3, verbose=0).history["loss"])
    assert results[0] == results[1]


def test_unfused_loss_trains_the_same():
    """A penalty of 0 on the outputs forbids the fusion: the same curve through probabilities."""
    curves = []
    for penalty in (None, fastnn.regularizers.L2(0.0)):
        utils.set_random_seed(5)
        last = layers.Dense(3, "softmax", activity_regularizer=penalty, dtype="float64")
        model = models.Sequential([layers.Dense(4, "tanh", input_shape=(3,), dtype="float64"), last])
        model.compile("adam", "sparse_categorical_crossentropy")
        assert model.plan().fused_loss == (penalty is None)
        curves.append(model.fit(X, LABELS, epochs=3, verbose=0).history["loss"])
    np.testing.assert_allclose(curves[0], curves[1], rtol=1e-10)


def test_loss_stays_finite_where_probabilities_round_to_0():
    model = models.Sequential([layers.Dense(2, "softmax", input_shape=(1,), kernel_initializer="zeros")])
    model.set_weights([[[200.0, -200.0]], [0.0, 0.0]])
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert model.evaluate([[1.0]], [1], verbose=0) == pytest.approx(400)


# ------------------------------------------------------------------------------------------------------ inputs


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int8", "int64", "bool"])
def test_input_dtypes(dtype):
    x = GENERATOR.integers(0, 2, (20, 3)).astype(dtype)
    got, wanted = small(), small()
    curve = got.fit(x, LABELS[:20], epochs=2, verbose=0, shuffle=False).history["loss"]
    assert curve == wanted.fit(x.astype("float32"), LABELS[:20], epochs=2, verbose=0, shuffle=False).history["loss"]
    assert (got.predict(x) == wanted.predict(x.astype("float32"))).all()


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "coo_array"])
def test_sparse_input_is_the_dense_one(kind):
    sparse = pytest.importorskip("scipy.sparse")
    x = GENERATOR.normal(size=(40, 3)) * (GENERATOR.random((40, 3)) < 0.3)
    results = []
    for data in (x, getattr(sparse, kind)(x)):
        model = small()
        history = model.fit(data, LABELS, epochs=2, batch_size=16, validation_split=0.2, verbose=0).history
        results.append((history, model.predict(data).tolist(), model.evaluate(data, LABELS, verbose=0)))
    assert results[0] == results[1]


def test_lists_views_and_subclasses():
    model = small()
    wanted = model.predict(X)
    strided = np.zeros((40, 6))[:, ::2]
    strided[:] = X
    for data in (X.tolist(), np.asfortranarray(X), strided, X[::-1][::-1]):
        assert (model.predict(data) == wanted).all()
    read_only = X.copy()
    read_only.flags.writeable = False
    model.fit(read_only, LABELS.tolist(), verbose=0)


def test_one_feature_may_come_as_a_vector():
    model = models.Sequential([layers.Dense(1, input_shape=(1,))])
    model.compile("sgd", "mse")
    model.fit(np.arange(5.0) / 5, np.arange(5.0), verbose=0)
    assert model.predict([1.0, 2.0]).shape == (2, 1)


@pytest.mark.parametrize("shape", [(40,), (40, 1)])
def test_binary_and_sparse_targets_of_either_shape(shape):
    y = LABELS.reshape(shape)
    assert small().fit(X, y, verbose=0).history["accuracy"][0] <= 1
    model = models.Sequential([layers.Dense(1, "sigmoid", input_shape=(3,))])
    model.compile("sgd", "binary_crossentropy", metrics=["accuracy"])
    model.fit(X, y > 0, verbose=0)


def test_images_through_flatten():
    model = models.Sequential([layers.Flatten(input_shape=(4, 5)), layers.Dense(2, "softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    images = GENERATOR.integers(0, 256, (12, 4, 5)).astype("uint8")
    model.fit(images, np.arange(12) % 2, verbose=0)
    assert model.predict(images).shape == (12, 2)
    assert model.output_shape == (None, 2)


def dropping(rate=0.5, **options):
    utils.set_random_seed(6)
    model = models.Sequential(
        [layers.Input((4,)), layers.Dense(64, "relu"), layers.Dropout(rate, **options), layers.Dense(2)]
    )
    model.compile(optimizers.SGD(0.01), "mse")
    return model


def test_dropout_in_training_only():
    """With a rate of 0 or without training the layer is not there; with a rate and training it is."""
    x, y = GENERATOR.normal(size=(40, 4)), GENERATOR.normal(size=(40, 2))
    plain, with_dropout = dropping(0.0), dropping()
    assert np.array_equal(plain.predict(x, verbose=0), with_dropout.predict(x, verbose=0))
    assert plain.evaluate(x, y, verbose=0) == with_dropout.evaluate(x, y, verbose=0)
    losses_ = [m.fit(x, y, shuffle=False, verbose=0).history["loss"] for m in (plain, with_dropout)]
    assert losses_[0] != losses_[1]


def test_dropout_follows_the_seed():
    x, y = GENERATOR.normal(size=(40, 4)), GENERATOR.normal(size=(40, 2))
    curves = []
    for seed, own in ((1, None), (1, None), (2, None), (1, 5), (2, 5)):
        model = dropping(seed=own)
        utils.set_random_seed(seed)
        curves.append(model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"])
    assert curves[0] == curves[1]
    assert curves[0] != curves[2]
    assert curves[3] == curves[4]
    assert curves[3] != curves[0]


def test_dropout_differs_from_epoch_to_epoch_and_fit_to_fit():
    """With a learning rate of 0 only the masks can change the loss."""
    model = dropping()
    model.optimizer.learning_rate = 0.0
    x, y = GENERATOR.normal(size=(40, 4)), GENERATOR.normal(size=(40, 2))
    curve = [loss for _ in range(2) for loss in model.fit(x, y, epochs=3, shuffle=False, verbose=0).history["loss"]]
    curve += [model.train_on_batch(x, y) for _ in range(3)]
    assert len(set(curve)) == 9


def test_summary_of_dropout(capsys):
    model = dropping(name="drop")
    model.summary()
    assert "drop (Dropout)" in capsys.readouterr().out
    assert model.count_params() == dropping(0.0).count_params()


@pytest.mark.parametrize("dtype", ["uint8", "float64", "int32"])
def test_rescaled_images_are_images_divided_beforehand(dtype):
    """The same predictions, figures and training, from Rescaling(1 / 255) and from x / 255."""
    images, labels = GENERATOR.integers(0, 256, (50, 4, 5)), GENERATOR.integers(0, 3, 50)
    results = []
    for rescaling, x in ([layers.Rescaling(1 / 255)], images.astype(dtype)), ([], (images / 255).astype("float32")):
        utils.set_random_seed(1)
        model = models.Sequential(
            [layers.Input((4, 5)), *rescaling, layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(3, "softmax")]
        )
        model.compile("rmsprop", "sparse_categorical_crossentropy", ["accuracy"])
        assert model.plan(x).runner == "fused"
        curve = model.fit(x, labels, epochs=3, batch_size=16, verbose=0).history["loss"]
        results.append([curve, model.evaluate(x, labels, verbose=0), model.predict(x, verbose=0)])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)


def test_sequences_of_vectors():
    """Dense works along the last axis, and so do softmax and its loss."""
    x = GENERATOR.normal(size=(10, 4, 3))
    model = models.Sequential([layers.Dense(6, "tanh", input_shape=(4, 3)), layers.Dense(2, "softmax")])
    model.compile(optimizers.Adam(0.05), "sparse_categorical_crossentropy", metrics=["accuracy"])
    y = (x[..., 0] > 0).astype(int)
    history = model.fit(x, y, epochs=40, verbose=0).history
    assert model.predict(x).shape == (10, 4, 2)
    assert history["accuracy"][-1] > 0.9


# ----------------------------------------------------------------------------------------------------- weights of steps

STEPS_X = GENERATOR.normal(size=(12, 5, 3))
STEPS_Y = (STEPS_X[..., 0] > 0).astype(int) + (STEPS_X[..., 1] > 1)
STEP_WEIGHTS = {
    "steps": GENERATOR.integers(0, 4, (12, 5)) / 2,
    "steps, a last axis": GENERATOR.integers(0, 4, (12, 5, 1)) / 2,
    "samples": GENERATOR.integers(0, 4, 12) / 2,
    "samples, a last axis": GENERATOR.integers(0, 4, (12, 1)) / 2,
}


def of_steps(input_shape, backend="auto", reduction="sum_over_batch_size"):
    utils.set_random_seed(4)
    model = models.Sequential(
        [
            layers.Dense(6, "tanh", input_shape=input_shape, dtype="float64"),
            layers.Dense(3, "softmax", dtype="float64"),
        ]
    )
    model.compile(
        optimizers.SGD(0.5),
        losses.SparseCategoricalCrossentropy(reduction=reduction),
        metrics=["accuracy"],
        weighted_metrics=["accuracy", "sparse_categorical_crossentropy"],
        backend=backend,
    )
    return model


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
@pytest.mark.parametrize("kind", ["steps", "steps, a last axis"])
def test_weights_of_steps_train_as_weights_of_samples(kind, reduction, backend):
    """Layers along the last axis take n sequences of t steps as they take n t samples: so do weights."""
    weight, results = STEP_WEIGHTS[kind], []
    x, y = STEPS_X.reshape(60, 3), STEPS_Y.reshape(60)
    for model, data in (
        (of_steps((5, 3), backend, reduction), (STEPS_X, STEPS_Y, weight)),
        (of_steps((3,), backend, reduction), (x, y, weight.reshape(60))),
    ):
        size = len(data[0]) // 3
        history = model.fit(*data[:2], size, 3, 0, sample_weight=data[2], shuffle=False, validation_data=data).history
        evaluated = model.evaluate(*data[:2], size, 0, data[2])
        on_batch = [*model.test_on_batch(*data), *model.train_on_batch(*data)]
        results.append([*history.values(), evaluated, on_batch, *model.get_weights()])
        assert len(set(history["loss"])) == 3
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", STEP_WEIGHTS)
def test_weights_of_steps_in_loss_and_metrics(kind):
    """What the model reports is what the loss and the metrics give for its predictions."""
    model, weight = of_steps((5, 3)), STEP_WEIGHTS[kind]
    prediction = model.predict(STEPS_X)
    figures = model.evaluate(STEPS_X, STEPS_Y, 5, 0, weight, return_dict=True)
    metric, cross_entropy = fastnn.metrics.SparseCategoricalAccuracy(), fastnn.metrics.SparseCategoricalCrossentropy()
    assert figures["loss"] == pytest.approx(model.loss(STEPS_Y, prediction, weight), rel=1e-12)
    assert figures["accuracy"] == pytest.approx(metric(STEPS_Y, prediction), rel=1e-12)
    metric.reset_state()
    assert figures["weighted_accuracy"] == pytest.approx(metric(STEPS_Y, prediction, weight), rel=1e-12)
    assert figures["sparse_categorical_crossentropy"] == pytest.approx(
        cross_entropy(STEPS_Y, prediction, weight), rel=1e-12
    )


def test_weights_of_samples_of_sequences_are_those_of_all_their_steps():
    weights = STEP_WEIGHTS["samples"], np.repeat(STEP_WEIGHTS["samples"][:, None], 5, axis=1)
    one, other = (of_steps((5, 3)).fit(STEPS_X, STEPS_Y, 4, 3, 0, sample_weight=w).history for w in weights)
    for name, values in one.items():
        np.testing.assert_allclose(values, other[name], rtol=1e-12)


# ------------------------------------------------------------------------------------------------------ predicting


@pytest.mark.parametrize("batch_size", [1, 7, 40, 1000, None])
def test_predict_in_batches(batch_size):
    model = small()
    np.testing.assert_allclose(model.predict(X, batch_size=batch_size), model(X), rtol=1e-6)


def test_predict_of_nothing_is_empty():
    assert small().predict(X[:0]).shape == (0, 3)


@pytest.mark.parametrize("backend", ["cpu", "naive"])
def test_no_rows_give_no_outputs(backend):
    """From the call, too, whatever the layers."""
    stack = [layers.Flatten(), layers.Rescaling(0.5), layers.Dropout(0.5), layers.Dense(5, "relu")]
    model = models.Sequential([layers.Input((2, 3)), *stack, layers.Dense(3), layers.Activation("softmax")])
    model.compile("sgd", "mse", backend=backend)
    for none in (np.zeros((0, 2, 3), "float32"), np.zeros((0, 2, 3), "uint8")):
        for outputs in (model(none), model(none, training=True), model.predict_on_batch(none), model.predict(none)):
            assert outputs.shape == (0, 3)
            assert outputs.dtype == np.float32
    unbuilt = models.Sequential([layers.Dense(4)])
    assert unbuilt(np.zeros((0, 2))).shape == (0, 4)
    assert unbuilt(np.ones((5, 2))).shape == (5, 4)


def grown(model, x, calls):
    """Bytes that are held after so many predictions more than before them, tracemalloc's own left out."""
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.take_snapshot()
    for _ in range(calls):
        model.predict(x)
    gc.collect()
    after = tracemalloc.take_snapshot()
    tracemalloc.stop()
    without = [tracemalloc.Filter(inclusive=False, filename_pattern=tracemalloc.__file__)]
    changes = after.filter_traces(without).compare_to(before.filter_traces(without), "filename")
    return sum(row.size_diff for row in changes)


def test_predictions_leak_nothing():
    """Not one object, of 16 bytes or more, a call: in one round of three, for what leaks does so in each.

    The interpreter keeps dead tuples of each length for reuse, up to 2000, and fills its lists of them in one round.
    """
    model = small()
    x = X[:1].astype("float32")
    grown(model, x, 200)
    assert any(grown(model, x, 1000) < 10_000 for _ in range(3))


# ------------------------------------------------------------------------------------------------------ threads


class Threads(callbacks.Callback):
    """Notes the number of threads that is in use at every call."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def note(self, *_, **__):
        self.seen.add(fastnn.get_num_threads())

    on_train_begin = on_epoch_end = on_train_end = on_test_begin = on_test_end = on_predict_begin = note
    on_predict_end = note


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
def test_threads_of_one_call(call):
    usual, notes, model = fastnn.get_num_threads(), Threads(), small()
    targets = () if call == "predict" else (LABELS,)
    getattr(model, call)(X, *targets, verbose=0, callbacks=[notes], threads=usual + 2)
    assert notes.seen == {usual + 2}
    assert fastnn.get_num_threads() == usual
    getattr(model, call)(X, *targets, verbose=0, callbacks=[notes])
    assert notes.seen == {usual, usual + 2}


def test_threads_are_as_before_after_an_error():
    class Fail(callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise KeyError

    usual, model = fastnn.get_num_threads(), small()
    with pytest.raises(KeyError):
        model.fit(X, LABELS, verbose=0, callbacks=[Fail()], threads=usual + 1)
    assert fastnn.get_num_threads() == usual


@pytest.mark.parametrize("optimizer", ["sgd", optimizers.SGD(clipnorm=1.0)], ids=["fused", "layerwise"])
def test_plan_shows_threads(optimizer):
    model = small(optimizer=optimizer)
    assert re.search(r"^threads: +7$", str(model.plan(X, threads=7)), re.MULTILINE)
    assert re.search(rf"^threads: +{fastnn.get_num_threads()}$", str(model.plan(X)), re.MULTILINE)


# ------------------------------------------------------------------------------------------------------ showing


def test_summary():
    lines = []
    model = small()
    model.summary(print_fn=lines.append)
    text = "\n".join(lines)
    first, second = model.layers
    assert f"{first.name} (Dense)" in text
    assert "(None, 8)" in text
    assert "Total parameters: 59 (236 B)" in text
    assert "Non-trainable parameters: 0" in text
    model.fit(X, LABELS, verbose=0)
    second.trainable = False
    lines.clear()
    model.summary(line_length=100, print_fn=lines.append)
    assert "Non-trainable parameters: 27" in lines[0]
    assert "Optimizer state: 118" in lines[0]
    assert max(map(len, lines[0].splitlines())) == 100


def test_summary_of_an_unbuilt_model(capsys):
    models.Sequential([layers.Dense(4)]).summary()
    assert "not built" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ plan


def test_plan():
    model = small()
    plan = model.plan(X.astype("uint8"), batch_size=16)
    assert (plan.runner, plan.dtype, plan.batch_size, plan.rows, plan.steps_per_epoch) == (
        "fused",
        "float32",
        16,
        40,
        3,
    )
    assert plan.parameters == plan.trainable_parameters == 59
    # forward 2 * (3 * 8 + 8 * 3); weights' gradients as much; inputs' gradient of the second layer alone
    assert plan.flop_per_sample == 2 * (24 + 24) * 2 + 2 * 24
    assert plan.flop_per_epoch == 40 * plan.flop_per_sample
    text = str(plan)
    for part in ("fused", "uint8 array, converted to float32", "3 an epoch", "59", "logits"):
        assert part in text


def test_plan_without_data_and_for_sparse_data():
    sparse = pytest.importorskip("scipy.sparse")
    model = small(backend="naive")
    assert model.plan().rows is None
    assert "asked for" in str(model.plan())
    plan = model.plan(sparse.csr_array(np.eye(40, 3)))
    assert plan.density == pytest.approx(3 / 120)
    assert "2.50%" in str(plan)
    assert "CSR" in plan.input


def test_auto_follows_use_backend():
    model = small()
    with backends.use_backend("naive"):
        assert model.plan().backend == "naive"


def test_json_round_trip():
    model = models.Sequential([layers.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)], name="mine")
    again = models.model_from_json(model.to_json(indent=1))
    assert again.get_config() == model.get_config()
    assert (again.name, again.count_params()) == ("mine", 26)


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"class_name": "Functional", "config": {}}', "[" * 99999])
def test_json_of_something_else(text):
    with pytest.raises(ValueError, match=r"json_string: got .*, wants what to_json gave"):
        models.model_from_json(text)


def test_config_round_trip():
    model = small()
    again = models.Sequential.from_config(model.get_config())
    assert again.get_config() == model.get_config()
    again.set_weights(model.get_weights())
    assert (again.predict(X) == model.predict(X)).all()


def test_what_trains_layer_by_layer_is_evaluated_in_compiled_calls(monkeypatch):
    """Figures, of validations too, and outputs are those that come layer by layer."""
    x = np.random.default_rng(3).normal(size=(600, 3)).astype("float32")
    y = (x.sum(axis=1) > 0).astype(int)

    def wrong(y_true, y_pred):
        return y_pred.argmax(axis=-1) != y_true.reshape(-1)

    model = small([wrong, fastnn.metrics.MeanIoU(3, sparse_y_pred=False)])
    model.layers[0].kernel.constraint = fastnn.constraints.MaxNorm(5)  # which the kernels cannot keep
    assert model.plan(x).runner == "layerwise"
    assert type(model._runner(model._source("x", x), 32, training=True)) is engine.LayerwiseRunner
    assert type(model._runner(model._source("x", x), 32)) is engine.FusedRunner
    history = model.fit(x, y, epochs=2, verbose=0, validation_data=(x, y)).history
    fused = [model.evaluate(x, y, verbose=0), model.predict(x)]
    runner = dict.fromkeys(engine.RUNNERS, engine.LayerwiseRunner)
    monkeypatch.setattr("fastnn.engine.RUNNERS", runner)
    layerwise = [model.evaluate(x, y, verbose=0), model.predict(x)]
    for one, other in zip(fused, layerwise, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    names = [name for name in history if name.startswith("val_")]
    np.testing.assert_allclose([history[name][-1] for name in names], fused[0], rtol=1e-6)


@pytest.mark.parametrize("method", ["fit", "evaluate", "train_on_batch", "test_on_batch"])
def test_a_warning_points_at_the_caller(method):
    model = models.Sequential([layers.Dense(1)])
    model.compile("sgd", "categorical_crossentropy")
    with pytest.warns(SyntaxWarning, match="binary_crossentropy") as caught:
        getattr(model, method)(X, np.ones((len(X), 1), "float32"))
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize(
    ("loss", "activation"), [("sparse_categorical_crossentropy", "softmax"), ("binary_crossentropy", "sigmoid")]
)
def test_outputs_that_are_no_probabilities_are_told_of_before_they_are_trained(loss, activation):
    """Of dense layers without an activation; what another layer computes may be probabilities."""
    y = np.zeros((len(X), 1), "int64")
    wanted = f"loss: {loss} is one of probabilities, and 'last' has no activation: activation='{activation}' makes"
    raw, right = models.Sequential([layers.Dense(1 if "binary" in loss else 2, name="last")]), models.Sequential()
    raw.compile("sgd", loss)
    with pytest.warns(UserWarning, match=wanted) as caught:
        raw.fit(X, y, verbose=0)
    assert [warning.filename for warning in caught] == [__file__]
    right.add(layers.Dense(1 if "binary" in loss else 2))
    right.add(layers.Activation(activation))
    right.compile("sgd", loss)
    right.fit(X, y, verbose=0)


def test_layers_one_by_one_are_no_list():
    with pytest.raises(TypeError, match="layers: got layers one by one, wants a list of them"):
        models.Sequential(layers.Dense(1), layers.Dense(1))
