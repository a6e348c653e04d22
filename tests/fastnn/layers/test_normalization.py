"""Normalisation layers: formulas, gradients, moving figures through all kinds of steps, wrong arguments."""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import callbacks, engine, layers, models, optimizers, utils
from fastnn.engine import pace, recorded
from fastnn.errors import DivergenceError
from tests.support.differences import check

RNG = np.random.default_rng(4)
X = RNG.standard_normal((48, 5)).astype("float32") * 3 + 2
Y = RNG.standard_normal((48, 2)).astype("float32")


def normalised(x, axes, epsilon=1e-3):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def built(layer, shape, seed=1):
    """With weights that are neither ones nor zeros."""
    layer.build((None, *shape[1:]))
    rng = np.random.default_rng(seed)
    layer.set_weights([rng.uniform(0.5, 2, w.shape) for w in layer.get_weights()])
    return layer


@pytest.mark.parametrize("shape", [(6, 4), (5, 3, 4), (2, 3, 3, 4)])
def test_batch_normalisation(shape):
    layer = built(layers.BatchNormalization(momentum=0.75, dtype="float64"), shape)
    assert [w.name for w in layer.weights] == ["gamma", "beta", "moving_mean", "moving_variance"]
    gamma, beta, mean, variance = layer.get_weights()
    x, axes = RNG.standard_normal(shape), tuple(range(len(shape) - 1))
    np.testing.assert_allclose(layer(x), gamma * (x - mean) / np.sqrt(variance + 1e-3) + beta, rtol=1e-12)
    np.testing.assert_allclose(layer(x, training=True), gamma * normalised(x, axes) + beta, rtol=1e-9, atol=1e-12)
    moved = [0.75 * mean + 0.25 * x.mean(axes), 0.75 * variance + 0.25 * x.var(axes)]
    np.testing.assert_allclose(layer.get_weights()[2:], moved, rtol=1e-12)


@pytest.mark.parametrize(("axis", "axes"), [(-1, (3,)), (3, (3,)), ([-2, -1], (2, 3)), ([1, 2, 3], (1, 2, 3))])
def test_layer_normalisation(axis, axes):
    layer = built(layers.LayerNormalization(axis, epsilon=1e-5, dtype="float64"), (2, 3, 4, 5))
    gamma, beta = layer.get_weights()
    assert gamma.shape == tuple((2, 3, 4, 5)[axis] for axis in axes)
    x = RNG.standard_normal((2, 3, 4, 5))
    np.testing.assert_allclose(layer(x), gamma * normalised(x, axes, 1e-5) + beta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("groups", "axis", "shape"), [(2, -1, (3, 4)), (1, 2, (2, 5, 6)), (3, -1, (2, 3, 4, 6)), (-1, 1, (2, 4, 3, 5))]
)
def test_group_normalisation(groups, axis, shape):
    layer = built(layers.GroupNormalization(groups, axis, epsilon=1e-5, dtype="float64"), shape)
    gamma, beta = (np.expand_dims(w, [*range(1, len(shape) - axis % len(shape))]) for w in layer.get_weights())
    x = RNG.standard_normal(shape)
    parts = np.split(x, shape[axis] if groups == -1 else groups, axis)
    hats = np.concatenate([normalised(part, tuple(range(1, len(shape))), 1e-5) for part in parts], axis)
    np.testing.assert_allclose(layer(x), gamma * hats + beta, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("axis", [-1, 1, [2, 1], [-3, -1]])
def test_rms_normalisation(axis):
    layer = built(layers.RMSNormalization(axis, epsilon=1e-3, dtype="float64"), (2, 3, 4, 5))
    axes = tuple(sorted(each % 4 for each in (axis if isinstance(axis, list) else [axis])))
    (scale,), x = layer.get_weights(), RNG.standard_normal((2, 3, 4, 5))
    assert scale.shape == tuple(x.shape[each] for each in axes)
    wanted = x / np.sqrt(np.square(x).mean(axes, keepdims=True) + 1e-3)
    stretched = np.expand_dims(scale, [each for each in range(4) if each not in axes])
    np.testing.assert_allclose(layer(x), wanted * stretched, rtol=1e-12)


@pytest.mark.parametrize(
    ("make", "training"),
    [
        (lambda: layers.GroupNormalization(2, dtype="float64"), True),
        (lambda: layers.GroupNormalization(2, 1, dtype="float64", scale=False), True),
        (lambda: layers.RMSNormalization(dtype="float64"), True),
        (lambda: layers.RMSNormalization([1, 2], dtype="float64"), True),
        (lambda: layers.BatchNormalization(dtype="float64"), True),
        (lambda: layers.BatchNormalization(dtype="float64", scale=False), True),
        (lambda: layers.BatchNormalization(dtype="float64", center=False), False),
        (lambda: layers.LayerNormalization(dtype="float64"), True),
        (lambda: layers.LayerNormalization([1, 2], dtype="float64", center=False), True),
        (lambda: layers.Normalization(dtype="float64"), False),
        (lambda: layers.Normalization(invert=True, dtype="float64"), False),
    ],
)
def test_gradients_by_central_differences(make, training):
    check(built(make(), (3, 2, 4)), RNG.standard_normal((3, 2, 4)), training)


def test_no_derivative_by_the_inputs_where_nobody_asks():
    for layer in (layers.BatchNormalization(), layers.LayerNormalization()):
        x = RNG.standard_normal((3, 4)).astype("float32")
        _, kept = built(layer, x.shape).forward(x, training=True)
        nothing, own = layer.backward(x, kept, need_dx=False)
        assert nothing is None
        assert all(map(np.array_equal, own[:2], layer.backward(x, kept)[1][:2]))


def test_a_frozen_layer_runs_by_moving_figures():
    layer = built(layers.BatchNormalization(), (4, 3))
    before, x = layer.get_weights(), RNG.standard_normal((4, 3)).astype("float32")
    outputs = layer(x)
    layer.trainable = False
    assert np.array_equal(layer(x, training=True), outputs)
    assert all(map(np.array_equal, layer.get_weights(), before))
    assert layer.trainable_weights == []
    layer.trainable = True
    assert [w.name for w in layer.trainable_weights] == ["gamma", "beta"]
    assert not np.array_equal(layer(x, training=True), outputs)


def model_of(*stack, optimizer="sgd"):
    utils.set_random_seed(7)
    model = models.Sequential([layers.Input((5,)), *(make() for make in stack)])
    model.compile(optimizer, "mse")
    return model


STACK = (
    lambda: layers.BatchNormalization(momentum=0.8, name="first"),
    lambda: layers.Dense(4, "relu"),
    lambda: layers.BatchNormalization(name="second"),
    layers.LayerNormalization,
    lambda: layers.Dense(2),
)


@pytest.fixture
def together(monkeypatch):
    """How many steps compiled calls have made together."""
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e9)
    made, plain = [], recorded.RecordedSteps.__call__

    def counted(self, *given):
        results = plain(self, *given)
        made.append(0 if results is None else len(results[0]))
        return results

    monkeypatch.setattr(recorded.RecordedSteps, "__call__", counted)
    return made


def test_recorded_steps_move_figures_as_single_ones_do(monkeypatch, together):
    results = []
    for alone in (1000, 1):
        monkeypatch.setattr(recorded, "OP_BY_OP", alone)
        model = model_of(*STACK)
        losses = model.fit(X, Y, 8, epochs=3, verbose=0).history["loss"]
        results.append((losses, [w.tobytes() for w in model.get_weights()]))
    assert sum(together) > 0
    assert results[0] == results[1]


def diverging(monkeypatch, alone):
    monkeypatch.setattr(recorded, "OP_BY_OP", alone)
    x = X.copy()
    x[30] = 3e38
    model = model_of(*STACK, optimizer=optimizers.SGD(1e-6))
    with pytest.raises(DivergenceError) as error:
        model.fit(x, Y, 4, shuffle=False, verbose=0)
    return str(error.value), [w.tobytes() for w in model.get_weights()], model


def test_moving_figures_are_those_of_the_batch_before_a_diverging_one(monkeypatch, together):
    """Whether steps are made together or one by one; no infinite number is left in them."""
    expected, got = diverging(monkeypatch, 1000), diverging(monkeypatch, 1)
    assert got[:2] == expected[:2]
    assert "batch 8" in got[0]
    assert together[0] == 0
    assert all(np.isfinite(w).all() for w in got[2].get_weights())
    assert not np.array_equal(got[2].layers[0].get_weights()[2], np.zeros(5))


def test_freezing_is_seen_by_recorded_steps(monkeypatch):
    """Between epochs, of a layer without weights that are trained: nothing else tells."""
    monkeypatch.setattr(recorded, "OP_BY_OP", 1)
    middle = layers.BatchNormalization(center=False, scale=False)
    model = model_of(lambda: layers.Dense(5), lambda: middle, lambda: layers.Dense(2))
    runner = engine.LayerwiseRunner(model._network(), "cpu")
    data = engine.DataSet(engine.input_source("x", X, np.dtype("float32")), Y, None, "float32")
    for trainable in (True, False, True):
        middle.trainable = trainable
        before = [w.tobytes() for w in middle.get_weights()]
        runner.train_epoch(data, 8)
        assert ([w.tobytes() for w in middle.get_weights()] == before) != trainable


def test_saved_and_loaded(tmp_path):
    model = model_of(*STACK)
    model.fit(X, Y, 8, epochs=2, verbose=0, callbacks=[callbacks.ModelCheckpoint(tmp_path / "best.safetensors")])
    model.save(tmp_path / "m.safetensors")
    again = models.load_model(tmp_path / "m.safetensors")
    assert np.array_equal(again.predict(X, verbose=0), model.predict(X, verbose=0))
    assert [w.path for w in again.weights] == [w.path for w in model.weights]
    assert [w.trainable for w in again.weights] == [w.trainable for w in model.weights]


def test_normalization_adapts():
    layer = layers.Normalization()
    layer.adapt(X)
    np.testing.assert_allclose(layer(X), (X - X.mean(0)) / X.std(0), atol=1e-5)
    images = RNG.standard_normal((6, 3, 4)).astype("float32")
    for axis, axes in ((None, (0, 1, 2)), ((1, 2), 0), (-1, (0, 1))):
        layer = layers.Normalization(axis)
        layer.adapt(images)
        wanted = (images - images.mean(axes, keepdims=True)) / images.std(axes, keepdims=True)
        np.testing.assert_allclose(layer(images), wanted, atol=1e-5)
        inverse = layers.Normalization(axis, mean=layer.get_weights()[0], variance=layer.get_weights()[1], invert=True)
        np.testing.assert_allclose(inverse(wanted), images, atol=1e-5)
    layer = layers.Normalization()
    layer.adapt(np.full((4, 2), 7))
    assert (layer(np.full((4, 2), 7)) == 0).all()
    layer.adapt(X[:, :2], batch_size=4, steps=2)
    np.testing.assert_allclose(layer.get_weights()[0], X[:8, :2].mean(0), rtol=1e-6)


def test_normalization_by_given_figures():
    layer = layers.Normalization(mean=[3.0], variance=[4.0])
    assert (layer(np.array([[5.0, 1.0]])) == [[1.0, -1.0]]).all()
    model = models.Sequential([layers.Input((5,)), layers.Normalization(mean=2, variance=9), layers.Dense(2)])
    model.compile("sgd", "mse")
    model.fit(X, Y, 8, epochs=2, verbose=0)
    assert [w.numpy().tolist() for w in model.layers[0].weights] == [[2.0] * 5, [9.0] * 5]


@pytest.mark.parametrize(
    ("make", "wanted"),
    [
        (lambda: layers.BatchNormalization(momentum=1.5), "momentum: got 1.5"),
        (lambda: layers.BatchNormalization(epsilon=0), "epsilon: got 0, wants a number above 0"),
        (lambda: layers.BatchNormalization(synchronized=True), "synchronized: got True"),
        (
            lambda: layers.BatchNormalization(3, name="bn").build((None, 3, 4)),
            r"^bn: got input shape \(None, 3, 4\)",
        ),
        (lambda: layers.BatchNormalization(name="bn").build((None,)), r"^bn: got input shape \(None,\)"),
        (lambda: built(layers.BatchNormalization(name="bn"), (2, 3))(np.ones((2, 4))), "^bn: got input shape"),
        (lambda: layers.GroupNormalization(0), "groups: got 0, wants an integer of at least 1, or -1"),
        (lambda: layers.GroupNormalization(axis=3, name="gn").build((None, 3, 4)), "^gn: got input shape .* axis=3"),
        (
            lambda: layers.GroupNormalization(3, name="gn").build((None, 3, 4)),
            "^gn: got 4 channels, wants a multiple of its 3 groups",
        ),
        (lambda: layers.RMSNormalization(0), "axis: got int 0"),
        (lambda: layers.RMSNormalization(epsilon=-1), "epsilon: got -1"),
        (lambda: layers.RMSNormalization(3, name="rn").build((None, 3, 4)), "^rn: got input shape .* axis=3, wants"),
        (lambda: built(layers.RMSNormalization(name="rn"), (2, 3))(np.ones((2, 4))), "^rn: got input shape"),
        (lambda: layers.LayerNormalization(0), "axis: got int 0"),
        (lambda: layers.LayerNormalization([]), "axis: got a? ?list"),
        (lambda: layers.LayerNormalization(3, name="ln").build((None, 3, 4)), "^ln: got input shape .* axis=3, wants"),
        (lambda: layers.LayerNormalization([1, 5], name="ln").build((None, 3, 4)), "^ln: got input shape"),
        (lambda: layers.Normalization(mean=1.0), "mean: got it without variance"),
        (lambda: layers.Normalization(mean=1.0, variance=-1.0), "variance: got -1"),
        (
            lambda: layers.Normalization(mean=[1, 2], variance=[1, 2], name="n").build((None, 3)),
            "^n: got mean",
        ),
        (lambda: layers.Normalization(mean=1.0, variance=1.0, name="n").adapt(X), "^n: got data to adapt to"),
        (lambda: layers.Normalization().adapt(X[:0]), r"data: got an array of shape \(0, 5\)"),
        (lambda: layers.Normalization().adapt([[np.nan]]), "data: got"),
    ],
)
def test_wrong_arguments(make, wanted):
    with pytest.raises(ValueError, match=wanted):
        make()


@pytest.mark.parametrize(
    "layer",
    [
        layers.BatchNormalization(momentum=0.5, gamma_regularizer="l2", moving_mean_initializer="ones", name="b"),
        layers.LayerNormalization([1, 2], scale=False, beta_constraint="non_neg"),
        layers.GroupNormalization(4, 1, gamma_regularizer="l2", center=False),
        layers.RMSNormalization([1, 2], 1e-4),
        layers.Normalization(axis=None),
        layers.Normalization(mean=[1.0, 2.0], variance=[1.0, 4.0], invert=True),
    ],
)
def test_config_round_trip(layer):
    again = layers.deserialize(layers.serialize(layer))
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("options", [{"renorm": True}, {"renorm_clipping": {"rmax": 3.0}}])
def test_renormalisation_is_refused(options):
    with pytest.raises(ValueError, match="renorm: got True, wants False: batches are normalised by their own figures"):
        layers.BatchNormalization(**options)
