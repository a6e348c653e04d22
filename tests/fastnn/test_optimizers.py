"""Optimizers: three steps of each against the formulas, clipping, decay, state."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import fastnn
from fastnn import layers, ops, optimizers
from fastnn.constraints import NonNeg
from fastnn.layers import Parameter

W = np.array([[1.0, -2.0, 0.5], [0.1, 3.0, -0.7]])
GRADIENTS = [np.array([[0.3, -0.1, 0.0], [2.0, -4.0, 0.01]]) * k for k in (1.0, -0.5, 2.0)]


def sgd(w, g, s, t, rate=0.1):
    return w - rate * g


def momentum(w, g, s, t, rate=0.1):
    s["v"] = 0.9 * s.get("v", 0) - rate * g
    return w + s["v"]


def nesterov(w, g, s, t, rate=0.1):
    s["v"] = 0.9 * s.get("v", 0) - rate * g
    return w + 0.9 * s["v"] - rate * g


def rmsprop(w, g, s, t, rate=0.1):
    s["s"] = 0.8 * s.get("s", 0) + 0.2 * g**2
    return w - rate * g / np.sqrt(s["s"] + 1e-3)


def rmsprop_all(w, g, s, t, rate=0.1):
    s["s"] = 0.8 * s.get("s", 0) + 0.2 * g**2
    s["a"] = 0.8 * s.get("a", 0) + 0.2 * g
    s["v"] = 0.5 * s.get("v", 0) + rate * g / np.sqrt(s["s"] - s["a"] ** 2 + 1e-3)
    return w - s["v"]


def adam(w, g, s, t, rate=0.1, amsgrad=False):
    s["m"] = 0.7 * s.get("m", 0) + 0.3 * g
    s["v"] = 0.95 * s.get("v", 0) + 0.05 * g**2
    s["x"] = np.maximum(s.get("x", 0), s["v"])
    v = s["x"] if amsgrad else s["v"]
    return w - rate * np.sqrt(1 - 0.95**t) / (1 - 0.7**t) * s["m"] / (np.sqrt(v) + 1e-3)


def amsgrad(w, g, s, t, rate=0.1):
    return adam(w, g, s, t, rate, amsgrad=True)


def adagrad(w, g, s, t, rate=0.1):
    s["a"] = s.get("a", 0.2) + g**2
    return w - rate * g / np.sqrt(s["a"] + 1e-3)


def adadelta(w, g, s, t, rate=0.1):
    s["s"] = 0.8 * s.get("s", 0) + 0.2 * g**2
    step = g * np.sqrt(s.get("d", 0) + 1e-3) / np.sqrt(s["s"] + 1e-3)
    s["d"] = 0.8 * s.get("d", 0) + 0.2 * step**2
    return w - rate * step


def adamax(w, g, s, t, rate=0.1):
    s["m"] = 0.7 * s.get("m", 0) + 0.3 * g
    s["u"] = np.maximum(0.95 * s.get("u", 0), abs(g))
    return w - rate / (1 - 0.7**t) * s["m"] / (s["u"] + 1e-3)


def nadam(w, g, s, t, rate=0.1):
    now, then = (0.7 * (1 - 0.96**k / 2) for k in (t, t + 1))
    s["p"] = s.get("p", 1) * now
    s["m"] = 0.7 * s.get("m", 0) + 0.3 * g
    s["v"] = 0.95 * s.get("v", 0) + 0.05 * g**2
    mean = then * s["m"] / (1 - s["p"] * then) + (1 - now) * g / (1 - s["p"])
    return w - rate * mean / (np.sqrt(s["v"] / (1 - 0.95**t)) + 1e-3)


def lion(w, g, s, t, rate=0.1):
    side = np.sign(0.7 * s.get("m", 0) + 0.3 * g)
    s["m"] = 0.95 * s.get("m", 0) + 0.05 * g
    return w - rate * side


def ftrl(w, g, s, t, rate=0.1):
    before = s.get("n", 0.2)
    s["n"] = before + g**2
    s["z"] = s.get("z", 0) + g + 2 * 0.01 * w - (s["n"] ** 0.6 - before**0.6) / rate * w
    pull = s["n"] ** 0.6 / rate + 2 * 0.02 + 0.3 / rate
    return (np.clip(s["z"], -0.03, 0.03) - s["z"]) / pull


RULES = {
    "sgd": (lambda **k: optimizers.SGD(0.1, **k), sgd),
    "momentum": (lambda **k: optimizers.SGD(0.1, momentum=0.9, **k), momentum),
    "nesterov": (lambda **k: optimizers.SGD(0.1, momentum=0.9, nesterov=True, **k), nesterov),
    "rmsprop": (lambda **k: optimizers.RMSprop(0.1, rho=0.8, epsilon=1e-3, **k), rmsprop),
    "rmsprop, all": (
        lambda **k: optimizers.RMSprop(0.1, rho=0.8, momentum=0.5, epsilon=1e-3, centered=True, **k),
        rmsprop_all,
    ),
    "adam": (lambda **k: optimizers.Adam(0.1, beta_1=0.7, beta_2=0.95, epsilon=1e-3, **k), adam),
    "amsgrad": (lambda **k: optimizers.Adam(0.1, beta_1=0.7, beta_2=0.95, epsilon=1e-3, amsgrad=True, **k), amsgrad),
    "adagrad": (lambda **k: optimizers.Adagrad(0.1, 0.2, epsilon=1e-3, **k), adagrad),
    "adadelta": (lambda **k: optimizers.Adadelta(0.1, rho=0.8, epsilon=1e-3, **k), adadelta),
    "adamax": (lambda **k: optimizers.Adamax(0.1, beta_1=0.7, beta_2=0.95, epsilon=1e-3, **k), adamax),
    "nadam": (lambda **k: optimizers.Nadam(0.1, beta_1=0.7, beta_2=0.95, epsilon=1e-3, **k), nadam),
    "lion": (lambda **k: optimizers.Lion(0.1, beta_1=0.7, beta_2=0.95, **k), lion),
    "ftrl": (lambda **k: optimizers.Ftrl(0.1, -0.6, 0.2, 0.03, 0.02, 0.01, 0.3, **k), ftrl),
}


def parameter(values=W, path="a/kernel", dtype="float64"):
    return Parameter("kernel", path, np.array(values, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES)
def test_steps(rule, dtype):
    make, formula = RULES[rule]
    optimizer, weight = make(), parameter(dtype=dtype)
    wanted, state = W.copy(), {}
    for t, gradient in enumerate(GRADIENTS, start=1):
        optimizer.apply([gradient.astype(dtype)], [weight])
        wanted = formula(wanted, gradient, state, t)
        # a weight may nearly cancel: measure against the largest
        np.testing.assert_allclose(weight.value, wanted, rtol=0, atol=3e-6 if dtype == "float32" else 1e-14)
    assert optimizer.iterations == 3
    assert weight.dtype == dtype


@pytest.mark.parametrize("rule", RULES)
def test_weight_decay_comes_before_the_step(rule):
    make, formula = RULES[rule]
    optimizer, weight = make(weight_decay=0.2), parameter()
    optimizer.apply([GRADIENTS[0]], [weight])
    np.testing.assert_allclose(weight.value, formula(W * (1 - 0.2 * 0.1), GRADIENTS[0], {}, 1), rtol=1e-13)


def test_clipping():
    a, b = np.array([[3.0, 4.0]]), np.array([12.0])
    for options, wanted in [
        ({"clipvalue": 3.5}, ([3.0, 3.5], [3.5])),
        ({"clipnorm": 6.0}, ([3.0, 4.0], [6.0])),
        ({"global_clipnorm": 6.5}, ([1.5, 2.0], [6.0])),
        ({"global_clipnorm": 13.5}, ([3.0, 4.0], [12.0])),
    ]:
        weights = parameter([[0.0, 0.0]]), parameter([0.0], "a/bias")
        optimizers.SGD(1.0, **options).apply([a, b], weights)
        np.testing.assert_allclose(weights[0].value, [[-w for w in wanted[0]]])
        np.testing.assert_allclose(weights[1].value, [-w for w in wanted[1]])


@pytest.mark.parametrize(
    ("optimizer", "slots"),
    [
        (optimizers.SGD(), ()),
        (optimizers.SGD(momentum=0.5), ("velocity",)),
        (optimizers.RMSprop(), ("mean_square",)),
        (optimizers.RMSprop(momentum=0.1, centered=True), ("mean_square", "velocity", "mean")),
        (optimizers.Adam(), ("m", "v")),
        (optimizers.Adam(amsgrad=True), ("m", "v", "v_max")),
        (optimizers.Adagrad(), ("accumulator",)),
        (optimizers.Adadelta(), ("mean_square", "mean_moved")),
        (optimizers.Adamax(), ("m", "norm")),
        (optimizers.Nadam(), ("m", "v")),
        (optimizers.Lion(), ("m",)),
        (optimizers.Ftrl(), ("accumulator", "linear")),
        (optimizers.Rprop(), ("step_size", "change", "gradient")),
    ],
)
def test_state_by_parameter(optimizer, slots):
    weight = parameter(dtype="float32")
    optimizer.apply([np.ones_like(weight.value)], [weight])
    assert set(optimizer.state) == {"a/kernel"}
    assert tuple(optimizer.state["a/kernel"]) == slots
    assert all(a.shape == weight.shape and a.dtype == weight.dtype for a in optimizer.state["a/kernel"].values())


def test_defaults_are_keras_defaults():
    assert optimizers.SGD().get_config()["learning_rate"] == 0.01
    rmsprop_config = optimizers.RMSprop().get_config()
    assert {k: rmsprop_config[k] for k in ("learning_rate", "rho", "momentum", "epsilon", "centered")} == {
        "learning_rate": 0.001,
        "rho": 0.9,
        "momentum": 0.0,
        "epsilon": 1e-7,
        "centered": False,
    }
    adam_config = optimizers.Adam().get_config()
    assert {k: adam_config[k] for k in ("learning_rate", "beta_1", "beta_2", "epsilon", "amsgrad")} == {
        "learning_rate": 0.001,
        "beta_1": 0.9,
        "beta_2": 0.999,
        "epsilon": 1e-7,
        "amsgrad": False,
    }


@pytest.mark.parametrize("name", ["sgd", "rmsprop", "adam", "RMSPROP", "adamw", *optimizers.NAMES])
def test_names_and_configs(name):
    made = optimizers.get(name)
    again = optimizers.get({"class_name": type(made).__name__, "config": made.get_config()})
    assert again.get_config() == made.get_config()
    assert optimizers.get(made) is made


def test_learning_rate_can_be_set_while_training():
    optimizer, weight = optimizers.SGD(0.1), parameter()
    optimizer.learning_rate = 0.5
    optimizer.apply([GRADIENTS[0]], [weight])
    np.testing.assert_allclose(weight.value, W - 0.5 * GRADIENTS[0])


def test_layers_give_parameters_that_optimizers_take():
    layer = layers.Dense(2, kernel_initializer="ones", name="d")
    layer.build((None, 3))
    optimizers.SGD(1.0).apply([np.ones((3, 2), "float32"), np.ones(2, "float32")], layer.parameters)
    assert (layer.kernel.numpy() == 0).all()
    assert (layer.bias.numpy() == -1).all()


def test_learning_rate_is_a_number_that_can_be_assigned():
    optimizer = optimizers.SGD(0.1)
    rate = optimizer.learning_rate
    assert rate == 0.1
    assert rate * 2 == 0.2
    rate.assign(0.3)
    assert (optimizer.learning_rate, rate.value, rate.numpy()) == (0.3, 0.3, 0.3)
    assert type(optimizer.get_config()["learning_rate"]) is float
    assert pickle.loads(pickle.dumps(optimizer.learning_rate)) == copy.deepcopy(optimizer.learning_rate) == 0.3
    with pytest.raises(ValueError, match="learning_rate: got -1"):
        rate.assign(-1)
    assert optimizer.learning_rate == 0.3


def test_a_copied_optimizer_has_a_rate_of_its_own():
    optimizer = optimizers.SGD(0.1)
    copied = copy.deepcopy(optimizer)
    copied.learning_rate.assign(0.5)
    assert (optimizer.learning_rate, copied.learning_rate) == (0.1, 0.5)


@pytest.mark.parametrize("rule", RULES)
def test_parameters_step_together(monkeypatch, rule):
    """All of a dtype, to the bits that each has alone: with decay, average and constraint as well."""
    make, _ = RULES[rule]
    options = {"weight_decay": 0.1, "use_ema": True, "ema_overwrite_frequency": 2}

    def made():
        found = [parameter(), parameter([2.0, -1.0], "a/bias"), parameter(path="b/kernel", dtype="float32")]
        found[1].constraint = NonNeg()
        return found

    one, other, together = made(), made(), make(**options)
    alone = [make(**options) for _ in other]
    name, _ = together.rule
    calls, plain = [], getattr(ops, name)
    monkeypatch.setattr(ops, name, lambda w, *args, **given: (calls.append(len(w)), plain(w, *args, **given)))
    for gradient in GRADIENTS:
        gradients = [gradient, gradient[0, :2].copy(), gradient.astype("float32")]
        together.apply(gradients, one)
        assert sorted(calls) == [1, 2]
        for each, own, weight in zip(alone, gradients, other, strict=True):
            each.apply([own], [weight])
        calls.clear()
        assert [weight.value.tobytes() for weight in one] == [weight.value.tobytes() for weight in other]


@pytest.mark.parametrize("rule", RULES)
def test_a_recorded_step_is_apply(rule):
    """With decay, to the bit, numbers of the step as a program's arguments; what steps do beside that is not in it."""
    make, _ = RULES[rule]
    one, other = make(weight_decay=0.1), make(weight_decay=0.1)
    applied, stepped = parameter(), parameter()
    other.build([stepped])
    step = fastnn.program(lambda gradient, rate, number: other.step([gradient], [stepped], rate, number))
    for number, gradient in enumerate(GRADIENTS, 1):
        one.apply([gradient], [applied])
        step(gradient, float(other.learning_rate), number)
        assert stepped.value.tobytes() == applied.value.tobytes()
    assert one.recordable([applied])
    applied.constraint = NonNeg()
    assert not one.recordable([applied])
    for options in ({"clipvalue": 1.0}, {"clipnorm": 1.0}, {"global_clipnorm": 1.0}, {"use_ema": True}):
        assert not make(**options).recordable([stepped])


def test_what_is_not_recorded():
    class Own(optimizers.SGD):
        def apply(self, gradients, parameters):
            super().apply(gradients, parameters)

    assert optimizers.SGD().recordable([parameter()])
    assert not Own().recordable([parameter()])
    assert optimizers.Rprop().forgets  # one step of many may hide what is not finite


@pytest.mark.parametrize("rule", RULES)
def test_apply_gradients_is_apply(rule):
    make, _ = RULES[rule]
    one, other = (make(), parameter()), (make(), parameter())
    for number, gradient in enumerate(GRADIENTS, 1):
        one[0].apply([gradient], [one[1]])
        assert other[0].apply_gradients(zip([gradient.tolist()], [other[1]], strict=True)) == number
    assert (one[1].value == other[1].value).all()


@pytest.mark.parametrize("every", [None, 2])
@pytest.mark.parametrize("rule", RULES)
def test_average_of_weights(rule, every):
    """It starts as the weights behind the first step, and takes their place every so many steps, and at the end."""
    make, formula = RULES[rule]
    optimizer, weight = make(use_ema=True, ema_momentum=0.75, ema_overwrite_frequency=every), parameter()
    wanted, state, average = W.copy(), {}, None
    for t, gradient in enumerate(GRADIENTS, start=1):
        optimizer.apply([gradient], [weight])
        wanted = formula(wanted, gradient, state, t)
        average = wanted if average is None else 0.75 * average + 0.25 * wanted
        if every and t % every == 0:
            wanted = average
        np.testing.assert_allclose(weight.value, wanted, rtol=0, atol=1e-14)
        np.testing.assert_allclose(optimizer.state["a/kernel"]["average"], average, rtol=0, atol=1e-14)
    assert (weight.value != optimizer.state["a/kernel"]["average"]).any()
    untrained = parameter(path="b/kernel")
    optimizer.finalize_variable_values([weight, untrained])
    assert (weight.value == optimizer.state["a/kernel"]["average"]).all()
    assert (untrained.value == W).all()
    assert optimizer.variables[-1].name == "a_kernel_average"


def test_a_parameter_that_joins_later_averages_from_where_it_starts():
    optimizer, early, late = optimizers.SGD(1.0, use_ema=True, ema_momentum=0.5), parameter(), parameter([1.0], "b")
    optimizer.apply([GRADIENTS[0]], [early])
    optimizer.apply([GRADIENTS[0], np.ones(1)], [early, late])
    assert optimizer.state["b"]["average"] == 0.5 * 1.0 + 0.5 * 0.0


def test_weights_are_averaged_before_their_constraint():
    """As in Keras."""
    optimizer, weight = optimizers.SGD(1.0, use_ema=True), Parameter("k", "k", W.copy(), constraint=NonNeg())
    optimizer.apply([0 * W], [weight])
    assert (weight.value == np.maximum(W, 0)).all()
    assert (optimizer.state["k"]["average"] == W).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"use_ema": 1}, TypeError, "use_ema: got int 1, wants True or False"),
        ({"use_ema": True, "ema_momentum": 1.5}, ValueError, r"ema_momentum: got 1\.5"),
        ({"use_ema": True, "ema_momentum": -0.1}, ValueError, r"ema_momentum: got -0\.1"),
        ({"use_ema": True, "ema_overwrite_frequency": 0}, ValueError, "ema_overwrite_frequency: got 0"),
        ({"use_ema": True, "ema_overwrite_frequency": 2.5}, TypeError, r"ema_overwrite_frequency: got float 2\.5"),
    ],
)
def test_bad_arguments_of_the_average(arguments, error, message):
    with pytest.raises(error, match=f"^{message}"):
        optimizers.Adam(**arguments)
    with pytest.raises(TypeError, match=r"var_list\[0\]: got .*, wants a parameter"):
        optimizers.Adam(use_ema=True).finalize_variable_values([W])


def test_parameters_without_a_gradient_stay():
    kernel, bias = parameter(), parameter([1.0], "a/bias")
    with pytest.warns(UserWarning, match="no gradients for a/bias"):
        optimizers.SGD(1.0).apply_gradients([(GRADIENTS[0], kernel), (None, bias)])
    assert (kernel.value == W - GRADIENTS[0]).all()
    assert bias.value == 1.0


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        (W, TypeError, r"grads_and_vars\[1\]: got .*, wants a pair \(gradient, parameter\)"),
        ((W, W), TypeError, r"grads_and_vars\[1\]\[1\]: got .*, wants a parameter such as layer.kernel; arrays of"),
        ((W[0], parameter()), ValueError, r"grads_and_vars\[1\]\[0\]: got shape \(3,\), wants \(2, 3\), that of a/k"),
        (("x", parameter()), TypeError, r"grads_and_vars\[1\]\[0\]: got .*, wants an array of numbers"),
    ],
)
def test_bad_pairs_change_nothing(pair, error, message):
    optimizer, weight = optimizers.Adam(), parameter()
    with pytest.raises(error, match=message):
        optimizer.apply_gradients([(W, weight), pair])
    assert (weight.value == W).all()
    assert (optimizer.iterations, optimizer.state) == (0, {})


def test_a_step_of_plain_arrays_is_refused_by_name():
    with pytest.raises(TypeError, match=r"parameters\[0\]: got .*, wants a parameter .* stepped by ops.sgd_step"):
        optimizers.Adam().apply([W], [W.copy()])


def test_a_program_that_would_count_no_steps_is_told_what_does():
    """And that does: with the step's size and number for arguments of the program."""
    one, other, optimizer, beside = parameter(), parameter(), optimizers.Adam(0.1), optimizers.Adam(0.1)

    @fastnn.program
    def frozen(x):
        optimizer.apply_gradients([(ops.square(x), one)])

    with pytest.raises(
        TypeError, match=r"grads_and_vars\[0\]\[0\]: got .* in a program, wants .* calls step\(gradients"
    ):
        frozen(W)
    optimizer.build([one])

    @fastnn.program
    def step(x, rate, number):
        optimizer.step([ops.square(x)], [one], rate, number)

    for number in range(1, 4):
        step(W, 0.1, number)
        beside.apply_gradients([(ops.square(W), other)])
    assert (one.value == other.value).all()


@pytest.mark.parametrize("pairs", [[], [(None, parameter())]])
def test_a_step_without_gradients(pairs):
    with pytest.raises(ValueError, match="grads_and_vars: got no gradients, wants at least one"):
        optimizers.Adam().apply_gradients(pairs)


def test_variables_are_the_state_and_can_be_assigned():
    optimizer, weight = optimizers.Adam(0.1), parameter()
    assert [v.path for v in optimizer.variables] == ["adam/iteration", "adam/learning_rate"]
    optimizer.apply([GRADIENTS[0]], [weight])
    iteration, rate, m, v = optimizer.variables
    assert (iteration.value, rate.value, m.path, v.name) == (1, 0.1, "adam/a_kernel_m", "a_kernel_v")
    assert (m.shape, m.dtype) == (W.shape, W.dtype)
    assert (m.numpy() == optimizer.state["a/kernel"]["m"]).all()
    m.assign(np.full(W.shape, 2.0))
    iteration.assign(7)
    rate.assign(0.25)
    assert (optimizer.state["a/kernel"]["m"] == 2).all()
    assert (optimizer.iterations, optimizer.learning_rate) == (7, 0.25)
    for variable, wrong, message in (
        (m, np.zeros(3), r"adam/a_kernel_m: got shape \(3,\), wants \(2, 3\)"),
        (m, np.full(W.shape, np.nan), "adam/a_kernel_m: got nan"),
        (iteration, -1, "iteration: got -1"),
        (rate, np.nan, "learning_rate: got nan"),
    ):
        with pytest.raises(ValueError, match=message):
            variable.assign(wrong)
    assert (np.asarray(m) == 2).all()
    assert repr(m) == "<Variable adam/a_kernel_m of shape (2, 3) and dtype float64>"


def test_parameters_spared_by_weight_decay():
    by_name, by_object = (optimizers.SGD(0.1, weight_decay=0.2) for _ in range(2))
    by_name.exclude_from_weight_decay(var_names=["bias$"])
    by_object.exclude_from_weight_decay([parameter([1.0], "a/bias")])
    for optimizer in (by_name, by_object, optimizers.get({"class_name": "SGD", "config": by_name.get_config()})):
        kernel, bias = parameter(), parameter([1.0], "a/bias")
        optimizer.apply([0 * W, np.zeros(1)], [kernel, bias])
        np.testing.assert_allclose(kernel.value, 0.98 * W, rtol=1e-15)
        assert bias.value == 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"var_names": "bias"}, TypeError, r"var_names: got .*, wants a list such as \['bias'\]"),
        ({"var_names": [3]}, TypeError, r"var_names\[0\]: got int 3, wants a string"),
        ({"var_names": ["("]}, ValueError, r"var_names\[0\]: got '\(', wants a regular expression"),
        ({"var_list": [W]}, TypeError, r"var_list\[0\]: got .*, wants a parameter"),
    ],
)
def test_bad_exclusions_change_nothing(arguments, error, message):
    optimizer = optimizers.SGD(weight_decay=0.1)
    with pytest.raises(error, match=message):
        optimizer.exclude_from_weight_decay(**arguments)
    assert optimizer.get_config() == optimizers.SGD(weight_decay=0.1).get_config()


@pytest.mark.parametrize("kind", list(optimizers.NAMES.values()))
def test_older_arguments_are_answered_with_what_there_is(kind):
    name = kind.__name__
    with pytest.raises(TypeError, match=f"^lr: got an argument that {name} does not have, wants learning_rate$"):
        kind(lr=0.1)
    with pytest.raises(TypeError, match=r"^decay: .*, wants a schedule as learning_rate, such as optimizers.schedules"):
        kind(0.1, decay=1e-6)
    with pytest.raises(TypeError, match=r"^loss_scale_factor: .*, wants one of learning_rate, .*weight_decay, .*name$"):
        kind(loss_scale_factor=2.0)
    optimizer = kind(0.1)
    assert not hasattr(optimizer, "lr")
    with pytest.raises(AttributeError, match=f"^{name} has no lr to set; the step size is learning_rate"):
        optimizer.lr = 0.5
    assert optimizer.learning_rate == 0.1


def test_adamw_is_adam_with_decay():
    one, other = parameter(), parameter()
    optimizers.AdamW(0.1, 0.25).apply([GRADIENTS[0]], [one])
    optimizers.Adam(0.1, weight_decay=0.25).apply([GRADIENTS[0]], [other])
    assert (one.value == other.value).all()
    assert optimizers.AdamW().weight_decay == 0.004
    with pytest.raises(TypeError, match="weight_decay: got NoneType None"):
        optimizers.AdamW(weight_decay=None)


def test_rprop_grows_shrinks_and_takes_back():
    """The rule by hand: one sign, one turn after which the change before does not count, limits of the step size."""
    optimizer, weight = optimizers.Rprop(0.1, step_max=0.13, step_min=0.04), parameter([1.0])
    seen = []
    for gradient in (2.0, 3.0, 0.5, -1.0, -7.0, -1e-30, 0.0, 1.0):
        optimizer.apply([np.array([gradient])], [weight])
        seen.append(float(weight.value[0]))
    moves = [-0.1, -0.12, -0.13, 0.13, 0.065, 0.078, 0.0, -0.078]
    np.testing.assert_allclose(seen, 1 + np.cumsum(moves), rtol=1e-14)
    assert optimizer.state["a/kernel"]["gradient"] == 1.0


def test_rprop_has_converged_below_its_threshold():
    kernel, bias = parameter(), parameter([1.0], "a/bias")
    optimizer = optimizers.Rprop(threshold=0.5)
    assert not optimizer.converged
    for gradients, converged in (([0 * W, [0.5]], False), ([0 * W - 0.49, [0.1]], True), ([W, [0.0]], False)):
        optimizer.apply([np.asarray(gradient, "float64") for gradient in gradients], [kernel, bias])
        assert optimizer.converged is converged
    assert not optimizers.SGD().converged


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: optimizers.Rprop(eta_minus=1.5), ValueError, r"eta_minus: got 1\.5"),
        (lambda: optimizers.Rprop(eta_plus=1.0), ValueError, r"eta_plus: got 1\.0"),
        (lambda: optimizers.Rprop(step_min=2.0, step_max=1.0), ValueError, r"step_max: got 1\.0"),
        (lambda: optimizers.Rprop(threshold=-1), ValueError, "threshold: got -1"),
        (
            lambda: optimizers.Rprop(optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)),
            TypeError,
            "learning_rate: got .*, wants a number: that of the first step",
        ),
        (lambda: optimizers.Lion(beta_1=0.0), ValueError, r"beta_1: got 0\.0"),
        (lambda: optimizers.Ftrl(learning_rate_power=0.1), ValueError, r"learning_rate_power: got 0\.1"),
        (lambda: optimizers.Adagrad(initial_accumulator_value=-1), ValueError, "initial_accumulator_value: got -1"),
        (
            lambda: optimizers.Ftrl(optimizers.schedules.PolynomialDecay(0.1, 2, 0.0)).rates(0, 5),
            ValueError,
            "learning_rate: got 0, wants a finite number above 0 for Ftrl",
        ),
    ],
)
def test_bad_numbers_of_rules(make, error, message):
    with pytest.raises(error, match=f"^{message}"):
        make()


@pytest.mark.parametrize("name", optimizers.NAMES)
def test_optimizers_are_serialized(name):
    made = optimizers.NAMES[name](name="mine")
    again = optimizers.deserialize(optimizers.serialize(made))
    assert type(again) is type(made)
    assert again.get_config() == made.get_config()
    assert name in optimizers.__all__
