"""Schedules of the learning rate: against formulas written step by step, in optimizers, in training, in files."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

from fastnn import callbacks, layers, models, optimizers
from fastnn.layers import Parameter
from fastnn.optimizers import schedules

# --- formulas, a step at a time ---------------------------------------------------------------------------------------


def exponential(step, rate, steps, decay, staircase=False):
    return rate * math.pow(decay, step // steps if staircase else step / steps)


def inverse(step, rate, steps, decay, staircase=False):
    return rate / (1 + decay * (step // steps if staircase else step / steps))


def piecewise(step, boundaries, values):
    for boundary, value in zip(boundaries, values, strict=False):
        if step <= boundary:
            return value
    return values[-1]


def polynomial(step, rate, steps, end=0.0001, power=1.0, cycle=False):
    if cycle:
        whole = steps
        while whole < step:
            whole += steps
        steps = whole
    return (rate - end) * math.pow(1 - min(step, steps) / steps, power) + end


def cosine(step, rate, steps, alpha=0.0, target=None, warm=0):
    if target is not None:
        if step < warm:
            return rate + (target - rate) * step / warm
        step, rate = step - warm, target
    return rate * (alpha + (1 - alpha) * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps)))


def restarts(step, rate, steps, t_mul=2.0, m_mul=1.0, alpha=0.0):
    begin, height = 0.0, 1.0
    while step >= begin + steps:
        begin, steps, height = begin + steps, steps * t_mul, height * m_mul
    return rate * (alpha + (1 - alpha) * height * 0.5 * (1 + math.cos(math.pi * (step - begin) / steps)))


MADE = {
    "exponential": (schedules.ExponentialDecay(0.1, 10, 0.5), lambda step: exponential(step, 0.1, 10, 0.5)),
    "exponential stairs": (
        schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True),
        lambda step: exponential(step, 0.1, 10, 0.5, True),
    ),
    "inverse": (schedules.InverseTimeDecay(0.1, 10, 0.5), lambda step: inverse(step, 0.1, 10, 0.5)),
    "inverse stairs": (
        schedules.InverseTimeDecay(0.1, 7, 2.0, staircase=True),
        lambda step: inverse(step, 0.1, 7, 2.0, True),
    ),
    "piecewise": (
        schedules.PiecewiseConstantDecay([5, 20], [1.0, 0.5, 0.1]),
        lambda step: piecewise(step, [5, 20], [1.0, 0.5, 0.1]),
    ),
    "one piece": (schedules.PiecewiseConstantDecay([], [0.5]), lambda step: 0.5),
    "polynomial": (schedules.PolynomialDecay(0.1, 30), lambda step: polynomial(step, 0.1, 30)),
    "polynomial up": (
        schedules.PolynomialDecay(0.1, 30, end_learning_rate=0.2, power=2.0),
        lambda step: polynomial(step, 0.1, 30, 0.2, 2.0),
    ),
    "polynomial cycle": (
        schedules.PolynomialDecay(0.1, 8, 0.01, 0.5, cycle=True),
        lambda step: polynomial(step, 0.1, 8, 0.01, 0.5, True),
    ),
    "cosine": (schedules.CosineDecay(0.1, 30, 0.25), lambda step: cosine(step, 0.1, 30, 0.25)),
    "cosine, warmed up": (
        schedules.CosineDecay(0.01, 30, 0.1, warmup_target=0.5, warmup_steps=7),
        lambda step: cosine(step, 0.01, 30, 0.1, 0.5, 7),
    ),
    "cosine, warm at once": (
        schedules.CosineDecay(0.01, 30, warmup_target=0.5),
        lambda step: cosine(step, 0.01, 30, target=0.5),
    ),
    "cosine, steps without a target": (
        schedules.CosineDecay(0.1, 30, warmup_steps=7),
        lambda step: cosine(step, 0.1, 30),
    ),
    "restarts": (schedules.CosineDecayRestarts(0.1, 5), lambda step: restarts(step, 0.1, 5)),
    "restarts, thrice as long": (
        schedules.CosineDecayRestarts(0.1, 4, 3.0, 0.5, 0.1),
        lambda step: restarts(step, 0.1, 4, 3.0, 0.5, 0.1),
    ),
    "restarts, equally long": (
        schedules.CosineDecayRestarts(0.1, 6, t_mul=1.0, m_mul=0.9),
        lambda step: restarts(step, 0.1, 6, 1.0, 0.9),
    ),
}


@pytest.mark.parametrize("name", MADE)
def test_values(name):
    """The same of a number, of an array of any shape and in a row; at every place where a formula bends."""
    schedule, formula = MADE[name]
    wanted = [formula(step) for step in range(400)]
    np.testing.assert_allclose([schedule(step) for step in range(400)], wanted, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(schedule(np.arange(400).reshape(8, 50)), np.reshape(wanted, (8, 50)), rtol=1e-12)
    np.testing.assert_array_equal(schedule.rates(17, 30), schedule(np.arange(17, 47)))
    assert type(schedule(3)) is np.float64
    assert schedule(np.array([3], np.int32)).dtype == schedule.rates(0, 0).dtype == np.float64


@pytest.mark.parametrize("steps", [1, 3, 7, 10, 1000])
@pytest.mark.parametrize("t_mul", [1.0, 1.5, 2.0, 3.0, 10.0])
def test_every_restart_is_where_the_lengths_add_up_to(t_mul, steps):
    """At the beginning of a cosine the rate is the whole one, however the logarithm is rounded."""
    schedule, begin, length = schedules.CosineDecayRestarts(1.0, steps, t_mul), 0.0, float(steps)
    for _ in range(12):
        assert schedule(begin) == pytest.approx(1.0)
        begin, length = begin + length, length * t_mul


@pytest.mark.parametrize("name", MADE)
def test_configs(name):
    schedule, _ = MADE[name]
    written = json.loads(json.dumps(schedules.serialize(schedule)))
    again = schedules.deserialize(written)
    assert type(again) is type(schedule)
    assert again.get_config() == schedule.get_config()
    assert schedule.get_config()["name"] == schedule.name


class Halving(schedules.LearningRateSchedule):
    """A schedule of the user's own, as Keras's documentation writes them."""

    def __init__(self, first):
        self.first = first

    def __call__(self, step):
        return self.first / 2**step

    def get_config(self):
        return {"first": self.first}


def test_a_schedule_of_ones_own():
    optimizer = optimizers.SGD(Halving(0.8))
    np.testing.assert_array_equal(optimizer.rates(1, 3), [0.4, 0.2, 0.1])
    with pytest.raises(ValueError, match="class Halving, wants one of fastnn's own"):
        schedules.serialize(Halving(0.8))
    written = {"class_name": "Halving", "config": {"first": 0.8}}
    assert schedules.deserialize(written, {"Halving": Halving}).first == 0.8
    with pytest.raises(ValueError, match=r"config: got 'Halving', wants one of .*'ExponentialDecay'"):
        schedules.deserialize(written)
    with pytest.raises(NotImplementedError, match=r"wants a method __call__\(step\)"):
        schedules.LearningRateSchedule()(0)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: schedules.ExponentialDecay(-0.1, 10, 0.5), ValueError, "initial_learning_rate: got -0.1"),
        (lambda: schedules.ExponentialDecay("0.1", 10, 0.5), TypeError, "initial_learning_rate: got str"),
        (lambda: schedules.ExponentialDecay(0.1, 0, 0.5), ValueError, "decay_steps: got 0.0, wants .* above 0"),
        (lambda: schedules.ExponentialDecay(0.1, 10, -1), ValueError, "decay_rate: got -1"),
        (lambda: schedules.InverseTimeDecay(0.1, 10, 0.5, staircase=1), TypeError, "staircase: got int 1"),
        (lambda: schedules.PiecewiseConstantDecay([1, 2], [1.0, 0.5]), ValueError, "values: got 2 .*, wants 3"),
        (
            lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 1, 1]),
            ValueError,
            "boundaries: got .*, wants steps that",
        ),
        (lambda: schedules.PiecewiseConstantDecay([1], [1, math.nan]), ValueError, r"values\[1\]: got nan"),
        (lambda: schedules.PiecewiseConstantDecay("1", [1, 2]), TypeError, "boundaries: got str '1', wants a list"),
        (lambda: schedules.PolynomialDecay(0.1, 10, power=-1), ValueError, "power: got -1"),
        (lambda: schedules.PolynomialDecay(0.1, 10, cycle=None), TypeError, "cycle: got NoneType"),
        (lambda: schedules.CosineDecay(0.1, 10, alpha=-0.1), ValueError, "alpha: got -0.1"),
        (lambda: schedules.CosineDecay(0.1, 10, warmup_target=-1), ValueError, "warmup_target: got -1"),
        (lambda: schedules.CosineDecay(0.1, 10, warmup_steps=-1), ValueError, "warmup_steps: got -1"),
        (lambda: schedules.CosineDecayRestarts(0.1, 10, t_mul=0.5), ValueError, "t_mul: got 0.5, wants .* at least 1"),
        (lambda: schedules.CosineDecayRestarts(0.1, 10, name=3), TypeError, "name: got int 3, wants a string"),
        (lambda: MADE["cosine"][0](-1), ValueError, "step: got -1"),
        (lambda: MADE["cosine"][0](np.array([3, -1])), ValueError, "step: got -1, wants steps that count from 0"),
        (lambda: MADE["cosine"][0]("3"), TypeError, "step: got str '3'"),
        (
            lambda: optimizers.SGD(schedules.CosineDecay),
            TypeError,
            "learning_rate: got the class CosineDecay, wants an",
        ),
        (lambda: schedules.serialize(0.1), TypeError, "learning_rate_schedule: got float 0.1, wants a schedule"),
    ],
)
def test_bad_arguments_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()


# --- in an optimizer --------------------------------------------------------------------------------------------------

RATES = [0.5, 0.5, 0.25, 0.25, 0.25, 0.125]


def stairs():
    return schedules.PiecewiseConstantDecay([1, 4], [0.5, 0.25, 0.125])


def test_step_i_is_made_with_the_rate_of_i_and_decays_by_it():
    optimizer = optimizers.SGD(stairs(), weight_decay=0.1)
    weight = Parameter("kernel", "a/kernel", np.array([1.0, -2.0]))
    wanted = weight.value.copy()
    for number, rate in enumerate(RATES):
        assert (optimizer.iterations, optimizer.learning_rate) == (number, rate)
        optimizer.apply([np.array([0.3, 0.4])], [weight])
        wanted = wanted * (1 - 0.1 * rate) - rate * np.array([0.3, 0.4])
        np.testing.assert_allclose(weight.value, wanted, rtol=1e-14)
    np.testing.assert_array_equal(optimizer.rates(0, 6), RATES)
    np.testing.assert_array_equal(optimizers.SGD(0.3).rates(7, 3), [0.3, 0.3, 0.3])


def test_a_scheduled_rate_cannot_be_set_but_the_schedule_can():
    optimizer = optimizers.Adam(stairs())
    assert [variable.name for variable in optimizer.variables] == ["iteration"]
    for assign in (optimizer.learning_rate.assign, lambda rate: setattr(optimizer, "learning_rate", rate)):
        with pytest.raises(TypeError, match=r"learning_rate: got 0.1 while PiecewiseConstantDecay is in use, wants"):
            assign(0.1)
    optimizer.learning_rate = schedules.CosineDecay(0.1, 10)
    assert optimizer.learning_rate == 0.1
    plain = optimizers.SGD(0.1)
    plain.learning_rate = stairs()
    assert plain.learning_rate == 0.5


# Rprop has a step size of its own for every weight.
FOLLOWING = [kind for kind in optimizers.NAMES.values() if kind is not optimizers.Rprop]


@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_scheduled_optimizer_is_made_again_from_its_config(kind):
    optimizer = kind(stairs())
    again = kind.from_config(json.loads(json.dumps(optimizer.get_config())))
    np.testing.assert_array_equal(again.rates(0, 6), RATES)
    assert again.get_config() == optimizer.get_config() == copy.deepcopy(optimizer).get_config()
    with pytest.raises(ValueError, match="learning_rate: got 'Cosine', wants one of"):
        kind.from_config({"learning_rate": {"class_name": "Cosine", "config": {}}})


def test_a_rate_that_is_none_stops_the_step_before_it():
    optimizer = optimizers.SGD(schedules.ExponentialDecay(1e300, 1, 1e10))
    weight = Parameter("kernel", "a/kernel", np.zeros(2))
    optimizer.apply([np.zeros(2)], [weight])
    with pytest.raises(ValueError, match="learning_rate: got inf from ExponentialDecay for step 1, wants a finite"):
        optimizer.apply([np.ones(2)], [weight])
    assert (optimizer.iterations, *weight.value) == (1, 0, 0)
    with pytest.raises(ValueError, match="learning_rate: got -1 from LearningRateSchedule"):
        optimizers.SGD(type("LearningRateSchedule", (Halving,), {"__call__": lambda self, step: -1.0})(1)).rates(0, 2)


# --- in training ------------------------------------------------------------------------------------------------------


def made(optimizer):
    model = models.Sequential([layers.Input((4,)), layers.Dense(3, name="d", kernel_initializer="ones")])
    model.compile(optimizer=optimizer, loss="mse")
    return model


X = np.random.default_rng(1).normal(size=(24, 4)).astype("float32")
Y = np.random.default_rng(2).normal(size=(24, 3)).astype("float32")


@pytest.mark.parametrize("kind", FOLLOWING)
def test_a_fit_follows_the_schedule(kind):
    """As one that is told the rate of every step by a callback; both in compiled calls."""
    schedule = schedules.CosineDecay(0.001, 10, 0.1, warmup_target=0.02, warmup_steps=4)
    told = kind(0.001)
    tell = callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: told.learning_rate.assign(schedule(told.iterations))
    )
    followed, steered = made(kind(schedule)), made(told)
    assert followed.plan(X, batch_size=8).runner == "fused"
    seen = []
    look = callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(float(followed.optimizer.learning_rate))
    )
    histories = [
        model.fit(X, Y, batch_size=8, epochs=5, verbose=0, shuffle=False, callbacks=[callback]).history
        for model, callback in ((followed, look), (steered, tell))
    ]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=1e-5)
    np.testing.assert_allclose(followed.get_weights()[0], steered.get_weights()[0], rtol=1e-4)
    np.testing.assert_allclose(seen, [schedule(step) for step in (3, 6, 9, 12, 15)])


def test_training_goes_on_along_the_schedule_of_a_file(tmp_path):
    whole, half = made(optimizers.Adam(stairs())), made(optimizers.Adam(stairs()))
    options = {"batch_size": 8, "verbose": 0, "shuffle": False}
    whole.fit(X, Y, epochs=2, **options)
    half.fit(X, Y, epochs=1, **options)
    half.save(tmp_path / "half.safetensors")
    again = models.load_model(tmp_path / "half.safetensors")
    assert again.optimizer.learning_rate == RATES[3]
    again.fit(X, Y, epochs=1, **options)
    for one, other in zip(whole.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_model_with_a_schedule_of_ones_own_is_not_saved(tmp_path):
    model = made(optimizers.SGD(Halving(0.1)))
    model.fit(X, Y, verbose=0)
    with pytest.raises(ValueError, match="class Halving, wants one of fastnn's own"):
        model.save(tmp_path / "model.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_scheduler_of_epochs_is_refused_before_training():
    model = made(optimizers.SGD(stairs()))
    with pytest.raises(
        TypeError, match="LearningRateScheduler: got an optimizer whose learning rate follows Piecewise"
    ):
        model.fit(X, Y, verbose=0, callbacks=[callbacks.LearningRateScheduler(lambda epoch: 0.1)])
    assert model.optimizer.iterations == 0
