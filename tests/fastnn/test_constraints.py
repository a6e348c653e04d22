"""Constraints: values by hand, names, what training makes of them, refused ones."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from fastnn import constraints, layers, models, optimizers, utils

W = np.array([[3.0, 0.0, -0.3], [4.0, 0.0, 0.4]])  # columns of norm 5, 0 and 0.5


@pytest.mark.parametrize(
    ("constraint", "wanted"),
    [
        (constraints.NonNeg(), [[3, 0, 0], [4, 0, 0.4]]),
        (constraints.MaxNorm(), [[1.2, 0, -0.3], [1.6, 0, 0.4]]),
        (constraints.MaxNorm(1, axis=1), W / np.linalg.norm(W, axis=1, keepdims=True)),
        (constraints.MaxNorm(0), np.zeros((2, 3))),
        (constraints.UnitNorm(), [[0.6, 0, -0.6], [0.8, 0, 0.8]]),
        (constraints.UnitNorm(axis=[0, 1]), W / np.sqrt(25.25)),
        (constraints.UnitNorm(axis=-1), W / np.linalg.norm(W, axis=1, keepdims=True)),
        (constraints.MinMaxNorm(1, 2), [[1.2, 0, -0.6], [1.6, 0, 0.8]]),
        (constraints.MinMaxNorm(1, 2, 0.5), [[2.1, 0, -0.45], [2.8, 0, 0.6]]),
        (constraints.MinMaxNorm(), [[0.6, 0, -0.3], [0.8, 0, 0.4]]),
    ],
)
def test_value(constraint, wanted):
    for dtype in ("float32", "float64"):
        given = W.astype(dtype)
        got = constraint(given)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
        assert got.dtype == dtype
        np.testing.assert_array_equal(given, W.astype(dtype))


def test_lists_and_integers():
    assert constraints.NonNeg()([[-1, 2]]).tolist() == [[0, 2]]
    np.testing.assert_allclose(constraints.UnitNorm()([3, 4]), [0.6, 0.8], rtol=1e-6)


def test_large_weights_do_not_overflow():
    large = np.full((2, 1), 1e30, "float32")
    np.testing.assert_allclose(constraints.MaxNorm(1)(large), np.full((2, 1), np.sqrt(0.5)), rtol=1e-6)


@pytest.mark.parametrize("name", sorted(constraints.NAMES))
def test_names_and_configs(name):
    made = constraints.get(name)
    again = constraints.deserialize(constraints.serialize(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()
    assert constraints.get(made) is made
    assert constraints.get(type(made)).get_config() == made.get_config()


def test_configs_hold_every_argument():
    made = constraints.MinMaxNorm(0.5, 2, 0.25, axis=(0, 1))
    assert made.get_config() == {"min_value": 0.5, "max_value": 2, "rate": 0.25, "axis": [0, 1]}
    assert constraints.MinMaxNorm.from_config(made.get_config()).get_config() == made.get_config()
    assert constraints.max_norm(3, 1).get_config() == {"max_value": 3, "axis": 1}
    assert constraints.get(None) is constraints.serialize(None) is None


REFUSED = [
    (lambda: constraints.MaxNorm(-1), ValueError, "max_value: got -1.0, wants a finite number at least 0"),
    (lambda: constraints.MinMaxNorm(2, 1), ValueError, "max_value: got 1.0, wants a finite number at least 2"),
    (lambda: constraints.MinMaxNorm(rate=2), ValueError, "rate: got 2.0, wants"),
    (lambda: constraints.UnitNorm("0"), TypeError, "axis: got str '0', wants an integer"),
    (lambda: constraints.UnitNorm(2)(W), ValueError, r"axis: got 2, wants one of the 2 axes of weights \(2, 3\)"),
    (lambda: constraints.NonNeg()("w"), TypeError, "w: got str 'w', wants an array of numbers"),
    (lambda: constraints.get("maxnorm"), ValueError, r"constraint: got 'maxnorm', .* \(did you mean 'max_norm'\?\)"),
    (lambda: constraints.get(np.abs), TypeError, "constraint: got .*, wants a name .* or a Constraint object"),
    (lambda: layers.Dense(2, kernel_constraint=3), TypeError, "kernel_constraint: got int 3"),
    (lambda: layers.Dense(2, bias_constraint="L2"), ValueError, "bias_constraint: got 'L2', wants one of"),
    (lambda: constraints.Constraint()(W), NotImplementedError, r"Constraint: wants a method __call__\(w\)"),
]


@pytest.mark.parametrize(("call", "error", "message"), REFUSED)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call()


# ---------------------------------------------------------------------------------------------------------- training

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = (X @ [[2.0, -3.0], [1.0, 0.5], [-4.0, 2.0]]).astype("float32")


def constrained(optimizer="sgd", **options):
    utils.set_random_seed(1)
    model = models.Sequential(
        [layers.Dense(4, "tanh", input_shape=(3,), kernel_initializer="ones"), layers.Dense(2, **options)]
    )
    model.compile(optimizer, "mse")
    return model


def test_the_places_of_the_arguments_are_those_of_keras():
    names = list(inspect.signature(layers.Dense).parameters)
    assert names[names.index("activity_regularizer") :] == [
        "activity_regularizer",
        "kernel_constraint",
        "bias_constraint",
        "options",
    ]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop", "adam"])
def test_weights_keep_to_them_after_every_step(optimizer):
    model = constrained(optimizer, kernel_constraint=constraints.MaxNorm(0.5), bias_constraint="non_neg")
    model.fit(X, Y - 1, batch_size=8, epochs=3, verbose=0)
    kernel, bias = model.get_weights()[2:]
    assert 0.4 < np.linalg.norm(kernel, axis=0).max() < 0.5 + 1e-6
    assert bias.min() == 0
    free = constrained(optimizer)
    free.fit(X, Y - 1, batch_size=8, epochs=3, verbose=0)
    assert np.linalg.norm(free.get_weights()[2], axis=0).max() > 0.5
    assert free.get_weights()[3].min() < 0


def test_one_step_is_the_constraint_of_the_step_without():
    """Behind clipping, weight decay and the update."""
    stepped = []
    for constraint in (None, "unit_norm"):
        layer = layers.Dense(2, kernel_initializer=W[:, :2] + 1, kernel_constraint=constraint, dtype="float64")
        layer.build((None, 2))
        optimizer = optimizers.SGD(0.1, momentum=0.9, weight_decay=0.1, clipvalue=1.0)
        optimizer.apply_gradients([(np.array([[5.0, 1.0], [-0.5, 0.2]]), layer.kernel)])
        stepped.append(layer.kernel.numpy())
    np.testing.assert_allclose(stepped[1], constraints.UnitNorm()(stepped[0]), rtol=1e-15)


def test_the_plan_says_why_it_goes_layer_by_layer():
    model = constrained(kernel_constraint="unit_norm")
    plan = model.plan(X)
    assert plan.runner == "layerwise"
    assert f"layer by layer, because {model.layers[1].name} has a constraint on its weights" in plan.notes
    model.layers[1].trainable = False
    assert model.plan(X).runner == "fused"


def test_frozen_and_initial_weights_stay_as_they_are():
    model = constrained(kernel_initializer="ones", kernel_constraint="unit_norm")
    assert (model.get_weights()[2] == 1).all()
    model.layers[1].trainable = False
    model.fit(X, Y, verbose=0)
    assert (model.get_weights()[2] == 1).all()


def test_models_with_them_are_saved_and_loaded(tmp_path):
    model = constrained(kernel_constraint=constraints.MaxNorm(0.5, axis=1), bias_constraint="NonNeg")
    model.fit(X, Y, verbose=0)
    model.save(tmp_path / "model.safetensors")
    loaded = models.load_model(tmp_path / "model.safetensors")
    assert loaded.layers[1].kernel_constraint.get_config() == {"max_value": 0.5, "axis": 1}
    for one in (model, loaded):
        one.fit(X, Y, verbose=0, shuffle=False)
    for a, b in zip(model.get_weights(), loaded.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    again = models.Sequential.from_config(model.get_config())
    assert type(again.layers[1].bias_constraint) is constraints.NonNeg


class Halved(constraints.Constraint):
    def __call__(self, w):
        return w / 2


def test_constraints_of_ones_own():
    model = constrained(optimizers.SGD(0.0), kernel_constraint=Halved(), kernel_initializer="ones")
    model.train_on_batch(X, Y)
    assert (model.get_weights()[2] == 0.5).all()
    with pytest.raises(ValueError, match="got an object of the class Halved, wants one of fastnn's own"):
        model.get_config()
    parameter = layers.Parameter("kernel", "own/kernel", np.ones((2, 2)), constraint=lambda w: w.sum())
    with pytest.raises(ValueError, match=r"own/kernel: got shape \(\) from its constraint, function, wants \(2, 2\)"):
        constraints.enforce(parameter)
    assert (parameter.value == 1).all()
