"""Optimizers, 20 steps on equal gradients: against Keras in its float32, against torch.optim in float64.

The average of weights is Keras's in float64.
"""

from __future__ import annotations

import inspect
import os

import numpy as np
import pytest

from fastnn import optimizers
from fastnn.layers import Parameter

os.environ.setdefault("KERAS_BACKEND", "torch")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
keras = pytest.importorskip("keras", minversion="3.15", reason="Keras is not installed: pip install '.[peers]'")
torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")

GENERATOR = np.random.default_rng(0)
W, GRADIENTS = GENERATOR.normal(size=(5, 4)), GENERATOR.normal(size=(20, 5, 4))

# (name, options) of optimizers of Keras.
IN_KERAS = [
    ("SGD", {}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    ("RMSprop", {"momentum": 0.5, "rho": 0.8}),
    ("RMSprop", {"centered": True, "epsilon": 1e-3}),
    ("Adam", {"clipnorm": 1.0}),
    ("Adam", {"amsgrad": True}),
    ("AdamW", {}),
    ("AdamW", {"learning_rate": 0.01, "weight_decay": 0.5}),
    ("Adagrad", {}),
    ("Adagrad", {"learning_rate": 0.5, "initial_accumulator_value": 0.0}),
    ("Adadelta", {"learning_rate": 1.0}),
    ("Adamax", {"learning_rate": 0.01, "beta_1": 0.5}),
    ("Nadam", {"learning_rate": 0.01, "beta_1": 0.8}),
    ("Lion", {"weight_decay": 0.2}),
    ("Ftrl", {}),
    ("Ftrl", {"learning_rate": 0.1, "l1_regularization_strength": 0.1, "l2_regularization_strength": 0.2}),
    ("Ftrl", {"learning_rate_power": -0.7, "l2_shrinkage_regularization_strength": 0.05, "beta": 0.3}),
]


@pytest.mark.parametrize(("name", "options"), IN_KERAS)
def test_steps_of_keras(name, options):
    rule, other = (getattr(library, name)(**options) for library in (optimizers, keras.optimizers))
    weight, variable = Parameter("kernel", "a/kernel", W.astype("float32")), keras.Variable(W.astype("float32"))
    for gradient in GRADIENTS.astype("float32"):
        rule.apply([gradient], [weight])
        other.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    np.testing.assert_allclose(weight.value, keras.ops.convert_to_numpy(variable.value), rtol=1e-5, atol=2e-6)
    assert abs(weight.value - W).max() > 1e-3


@pytest.mark.parametrize("name", sorted({name for name, _ in IN_KERAS}))
def test_arguments_and_configs_of_keras(name):
    """Their order and defaults, of those that fastnn has; behind them comes what all optimizers share."""
    ours, theirs = (getattr(library, name) for library in (optimizers, keras.optimizers))
    found, named = (inspect.signature(made).parameters.values() for made in (ours, theirs))
    own = [(each.name, each.default) for each in found if each.kind != each.VAR_KEYWORD]
    assert own == [(each.name, each.default) for each in named][: len(own)]
    config, wanted = ours().get_config(), theirs().get_config()
    assert {key: config[key] for key in config if key != "name"} == {
        key: wanted[key] if key != "learning_rate" else pytest.approx(wanted[key]) for key in config if key != "name"
    }


@pytest.fixture
def float64_of_keras():
    before = keras.config.floatx()
    keras.config.set_floatx("float64")
    yield
    keras.config.set_floatx(before)


def state_of_keras(other, variable):
    return [keras.ops.convert_to_numpy(kept).copy() for kept in (variable, other._model_variables_moving_average[0])]


@pytest.mark.usefixtures("float64_of_keras")
@pytest.mark.parametrize("averaged", [{}, {"ema_momentum": 0.8}, {"ema_overwrite_frequency": 7}, {"ema_momentum": 0.0}])
@pytest.mark.parametrize(("name", "options"), IN_KERAS)
def test_averages_of_keras(name, options, averaged):
    """Behind every one of 20 steps, and at the end; the norm that Keras clips by is rounded to float32."""
    arguments = {**options, "use_ema": True, **averaged}
    rule, other = (getattr(library, name)(**arguments) for library in (optimizers, keras.optimizers))
    weight, variable = Parameter("kernel", "a/kernel", W.copy()), keras.Variable(W, dtype="float64")
    for gradient in GRADIENTS:
        rule.apply([gradient], [weight])
        other.apply([keras.ops.convert_to_tensor(gradient)], [variable])
        for got, wanted in zip(
            (weight.value, rule.state["a/kernel"]["average"]), state_of_keras(other, variable), strict=True
        ):
            np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-9)
    rule.finalize_variable_values([weight])
    other.finalize_variable_values([variable])
    np.testing.assert_allclose(weight.value, state_of_keras(other, variable)[0], rtol=0, atol=1e-9)
    assert abs(weight.value - W).max() > 1e-4


@pytest.mark.parametrize("arguments", [{"ema_momentum": 1.1}, {"ema_momentum": -1}, {"ema_overwrite_frequency": -1}])
def test_bad_averages_of_keras(arguments):
    for library in (optimizers, keras.optimizers):
        with pytest.raises(ValueError, match=next(iter(arguments))):
            library.SGD(use_ema=True, **arguments)


# name: (fastnn's, torch's), epsilon so small that it does not matter where it is added.
TINY = {"epsilon": 1e-30}, {"eps": 1e-30}
IN_TORCH = {
    "sgd": (optimizers.SGD(0.05), lambda p: torch.optim.SGD(p, 0.05)),
    "momentum": (optimizers.SGD(0.05, 0.9), lambda p: torch.optim.SGD(p, 0.05, 0.9)),
    "nesterov": (optimizers.SGD(0.05, 0.9, nesterov=True), lambda p: torch.optim.SGD(p, 0.05, 0.9, nesterov=True)),
    "rmsprop": (
        optimizers.RMSprop(0.01, 0.8, **TINY[0]),
        lambda p: torch.optim.RMSprop(p, 0.01, 0.8, **TINY[1]),
    ),
    "rmsprop, all": (
        optimizers.RMSprop(0.01, 0.8, 0.5, centered=True, **TINY[0]),
        lambda p: torch.optim.RMSprop(p, 0.01, 0.8, momentum=0.5, centered=True, **TINY[1]),
    ),
    "adagrad": (
        optimizers.Adagrad(0.05, 0.3, **TINY[0]),
        lambda p: torch.optim.Adagrad(p, 0.05, initial_accumulator_value=0.3, **TINY[1]),
    ),
    "adadelta": (
        optimizers.Adadelta(0.5, 0.8, epsilon=1e-3),
        lambda p: torch.optim.Adadelta(p, 0.5, 0.8, eps=1e-3),
    ),
    "adam": (optimizers.Adam(0.01, 0.8, 0.9, **TINY[0]), lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9), **TINY[1])),
    "amsgrad": (
        optimizers.Adam(0.01, 0.8, 0.9, amsgrad=True, **TINY[0]),
        lambda p: torch.optim.Adam(p, 0.01, (0.8, 0.9), amsgrad=True, **TINY[1]),
    ),
    "adamw": (
        optimizers.AdamW(0.01, 0.3, 0.8, 0.9, **TINY[0]),
        lambda p: torch.optim.AdamW(p, 0.01, (0.8, 0.9), weight_decay=0.3, **TINY[1]),
    ),
    "adamax": (
        optimizers.Adamax(0.01, 0.8, 0.9, **TINY[0]),
        lambda p: torch.optim.Adamax(p, 0.01, (0.8, 0.9), **TINY[1]),
    ),
    "nadam": (
        optimizers.Nadam(0.01, 0.8, 0.9, epsilon=1e-3),
        lambda p: torch.optim.NAdam(p, 0.01, (0.8, 0.9), 1e-3, momentum_decay=1.0),
    ),
}


def steps_of_torch(make, gradients):
    weight = torch.tensor(W, requires_grad=True)
    rule = make([weight])
    for gradient in gradients:
        weight.grad = torch.tensor(gradient)
        rule.step()
    return weight.detach().numpy()


def steps_of_ours(rule, gradients):
    weight = Parameter("kernel", "a/kernel", W.copy())
    for gradient in gradients:
        rule.apply([gradient], [weight])
    return weight.value


@pytest.mark.parametrize("name", IN_TORCH)
def test_steps_of_torch(name):
    rule, make = IN_TORCH[name]
    np.testing.assert_allclose(steps_of_ours(rule, GRADIENTS), steps_of_torch(make, GRADIENTS), rtol=0, atol=1e-9)


def test_rprop_of_torch_while_no_gradient_turns():
    """Where one does, PyTorch leaves the weight where it is; here the change before is taken back."""
    same = abs(GRADIENTS) * np.sign(W)
    wanted = steps_of_torch(lambda p: torch.optim.Rprop(p, 0.01, (0.5, 1.3), (1e-6, 0.2)), same)
    rule = optimizers.Rprop(0.01, eta_plus=1.3, step_max=0.2)
    np.testing.assert_allclose(steps_of_ours(rule, same), wanted, rtol=0, atol=1e-9)
