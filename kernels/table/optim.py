"""Optimizer steps, in place, and which formula a call asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

from fastnn.kernels.formulas.steps import STEPS, step_name
from fastnn.kernels.table.row import ELEMENTWISE, Flag, Integer, Op, Real, Rule, op, shapes, varying

_RATE = Real(low=0.0, varies=True)
_FRACTION = Real(low=0.0, high=1.0, open_high=True)
_MOMENTUM = Real(low=0.0, high=1.0)
_EPSILON = Real(low=0.0, open_low=True)
_NOT_NEGATIVE = Real(low=0.0)
_VELOCITY = Rule(
    "velocity",
    "given when momentum > 0 and None when momentum is 0",
    lambda given: (given["velocity"] is not None) == (given["momentum"] > 0),
)

# What Keras's and PyTorch's forms of a step share: all but the formula and its defaults.
_RMSPROP: dict[str, Any] = {
    "w": "...",
    "dw": "...",
    "mean_square": "...",
    "velocity": "...",
    "mean": "...",
    "returns": (),
    "inplace": ("w", "mean_square", "velocity", "mean"),
    "lists": True,
    "options": {"learning_rate": _RATE, "rho": _MOMENTUM, "momentum": _MOMENTUM, "epsilon": _EPSILON},
    "rules": (_VELOCITY,),
    "cases": ELEMENTWISE,
    "bench": shapes((1_000_000,)),
    "variants": (
        {"velocity": None, "mean": None},
        {"mean": None, "momentum": 0.5},
        {"velocity": None},
        {"momentum": 0.5, "rho": 0.8},
    ),
    "draw": {"mean_square": "squares", "mean": "small"},
}
_ADAGRAD: dict[str, Any] = {
    "w": "...",
    "dw": "...",
    "accumulator": "...",
    "returns": (),
    "inplace": ("w", "accumulator"),
    "lists": True,
    "options": {"learning_rate": _RATE, "epsilon": _EPSILON},
    "cases": ELEMENTWISE,
    "bench": shapes((1_000_000,)),
    "variants": ({}, {"learning_rate": 0.5, "epsilon": 1e-3}),
    "draw": {"accumulator": "squares"},
}


@op(
    "optim",
    w="...",
    dw="...",
    velocity="...",
    returns=(),
    inplace=("w", "velocity"),
    lists=True,
    options={"learning_rate": _RATE, "momentum": _MOMENTUM, "nesterov": Flag()},
    rules=(_VELOCITY,),
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"velocity": None}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True}),
)
def sgd_step(w, dw, velocity=None, learning_rate=0.01, momentum=0.0, nesterov=False):
    """One step of stochastic gradient descent, in place (Keras's form; Sutskever et al. 2013).

    Without momentum w -= lr * dw. With it v = momentum * v - lr * dw, then w += v, or with nesterov
    w += momentum * v - lr * dw.
    """


@op("optim", **_RMSPROP)
def rmsprop_step(
    w, dw, mean_square, velocity=None, mean=None, learning_rate=0.001, rho=0.9, momentum=0.0, epsilon=1e-7
):
    """One RMSprop step, in place (Hinton, Coursera lecture 6e; centred: Graves 2013), epsilon inside the root.

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = lr * dw / sqrt(mean_square - mean^2 + epsilon). Without momentum w -= step; with it
    velocity = momentum * velocity + step, w -= velocity.
    """


@op(
    "optim",
    w="...",
    dw="...",
    m="...",
    v="...",
    v_max="...",
    returns=(),
    inplace=("w", "m", "v", "v_max"),
    lists=True,
    options={
        "step": Integer(low=1),
        "learning_rate": _RATE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": Real(low=0.0, open_low=True, varies=True),  # as in PyTorch's form of the step
    },
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"v_max": None, "step": 1}, {"v_max": None, "step": 1000}, {"step": 7}),
    draw={"v": "squares", "v_max": "squares"},
)
def adam_step(w, dw, m, v, step, v_max=None, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """One Adam step, in place (Kingma and Ba 2015, the form of their section 2's end; AMSGrad: Reddi et al. 2018).

    step counts from 1. m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), and with ``v_max`` (AMSGrad)
    v_max = max(v_max, v) takes v's place; w -= lr * sqrt(1 - beta_2^step) / (1 - beta_1^step) * m / (sqrt(v) +
    epsilon).
    """


@op("optim", **_ADAGRAD)
def adagrad_step(w, dw, accumulator, learning_rate=0.001, epsilon=1e-7):
    """One Adagrad step, in place (Duchi, Hazan and Singer 2011), epsilon inside the root.

    accumulator += dw^2, which begins at a number above 0; w -= lr * dw / sqrt(accumulator + epsilon).
    """


@op(
    "optim",
    w="...",
    dw="...",
    mean_square="...",
    mean_moved="...",
    returns=(),
    inplace=("w", "mean_square", "mean_moved"),
    lists=True,
    options={"learning_rate": _RATE, "rho": _MOMENTUM, "epsilon": _EPSILON},
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({}, {"learning_rate": 1.0, "rho": 0.8, "epsilon": 1e-3}),
    draw={"mean_square": "squares", "mean_moved": "squares"},
)
def adadelta_step(w, dw, mean_square, mean_moved, learning_rate=0.001, rho=0.95, epsilon=1e-7):
    """One Adadelta step, in place (Zeiler 2012).

    mean_square = rho * mean_square + (1 - rho) * dw^2; step = dw * sqrt((mean_moved + epsilon) / (mean_square +
    epsilon)); mean_moved = rho * mean_moved + (1 - rho) * step^2; w -= lr * step.
    """


@op(
    "optim",
    w="...",
    dw="...",
    m="...",
    norm="...",
    returns=(),
    inplace=("w", "m", "norm"),
    lists=True,
    options={
        "step": Integer(low=1),
        "learning_rate": _RATE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": _EPSILON,
    },
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"step": 1}, {"step": 1000, "beta_2": 0.9}),
    draw={"norm": "squares"},
)
def adamax_step(w, dw, m, norm, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """One Adamax step, in place (Kingma and Ba 2015, section 7.1).

    step counts from 1. m += (1 - beta_1) * (dw - m), norm = max(beta_2 * norm, |dw|);
    w -= lr / (1 - beta_1^step) * m / (norm + epsilon).
    """


@op(
    "optim",
    w="...",
    dw="...",
    m="...",
    v="...",
    returns=(),
    inplace=("w", "m", "v"),
    lists=True,
    options={
        "step": Integer(low=1),
        "learning_rate": _RATE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": _EPSILON,
    },
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({"step": 1}, {"step": 20, "beta_1": 0.7}, {"step": 1000}),
    draw={"v": "squares"},
)
def nadam_step(w, dw, m, v, step, learning_rate=0.001, beta_1=0.9, beta_2=0.999, epsilon=1e-7):
    """One Nadam step, in place (Dozat 2016): Adam with Nesterov's momentum, which grows with the steps.

    step counts from 1. With momentum(t) = beta_1 * (1 - 0.96^t / 2) and product(t) that of the momenta up to t,
    m += (1 - beta_1) * (dw - m), v += (1 - beta_2) * (dw^2 - v), then
    mean = momentum(step + 1) * m / (1 - product(step + 1)) + (1 - momentum(step)) * dw / (1 - product(step)) and
    w -= lr * mean / (sqrt(v / (1 - beta_2^step)) + epsilon).
    """


@op(
    "optim",
    w="...",
    dw="...",
    m="...",
    returns=(),
    inplace=("w", "m"),
    lists=True,
    options={"learning_rate": _RATE, "beta_1": _MOMENTUM, "beta_2": _MOMENTUM},
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({}, {"learning_rate": 0.1, "beta_1": 0.5, "beta_2": 0.7}),
)
def lion_step(w, dw, m, learning_rate=0.001, beta_1=0.9, beta_2=0.99):
    """One Lion step, in place (Chen et al. 2023).

    w -= lr * sign(beta_1 * m + (1 - beta_1) * dw), then m = beta_2 * m + (1 - beta_2) * dw.
    """


@op(
    "optim",
    w="...",
    dw="...",
    accumulator="...",
    linear="...",
    returns=(),
    inplace=("w", "accumulator", "linear"),
    lists=True,
    options={
        "learning_rate": Real(low=0.0, open_low=True),
        "learning_rate_power": Real(high=0.0),
        "l1_regularization_strength": _NOT_NEGATIVE,
        "l2_regularization_strength": _NOT_NEGATIVE,
        "l2_shrinkage_regularization_strength": _NOT_NEGATIVE,
        "beta": _NOT_NEGATIVE,
    },
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=(
        {"learning_rate": 0.5},
        {
            "learning_rate": 0.5,
            "learning_rate_power": -0.7,
            "l1_regularization_strength": 0.2,
            "l2_regularization_strength": 0.1,
            "l2_shrinkage_regularization_strength": 0.05,
            "beta": 0.3,
        },
    ),
    draw={"accumulator": "squares"},
)
def ftrl_step(
    w,
    dw,
    accumulator,
    linear,
    learning_rate=0.001,
    learning_rate_power=-0.5,
    l1_regularization_strength=0.0,
    l2_regularization_strength=0.0,
    l2_shrinkage_regularization_strength=0.0,
    beta=0.0,
):
    """One step of Follow The Regularized Leader, in place (McMahan et al. 2013, with Keras's shrinkage).

    With p = -learning_rate_power, new = accumulator + dw^2 and sigma = (new^p - accumulator^p) / lr,
    linear += dw + 2 * l2_shrinkage * w - sigma * w, accumulator = new, and
    w = (clip(linear, -l1, l1) - linear) / (new^p / lr + 2 * l2 + beta / lr). Of w, nothing but linear remains.
    """


@op(
    "optim",
    w="...",
    dw="...",
    step_size="...",
    change="...",
    gradient="...",
    returns=(),
    inplace=("w", "step_size", "change", "gradient"),
    lists=True,
    options={
        "eta_minus": Real(low=0.0, high=1.0, open_low=True, open_high=True),
        "eta_plus": Real(low=1.0, open_low=True),
        "step_min": _NOT_NEGATIVE,
        "step_max": _NOT_NEGATIVE,
    },
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({}, {"eta_minus": 0.3, "eta_plus": 1.5, "step_min": 0.5, "step_max": 0.6}),
    draw={"step_size": "positive", "change": "small"},
)
def rprop_step(w, dw, step_size, change, gradient, eta_minus=0.5, eta_plus=1.2, step_min=1e-6, step_max=50.0):
    """One step of resilient propagation, in place, with weight backtracking (Riedmiller and Braun 1993).

    Where dw has the sign that made the change before, step_size = min(step_size * eta_plus, step_max); where it has the
    other one, step_size = max(step_size * eta_minus, step_min), the change is undone and counts as 0 in the next step.
    But for these weights, change = -sign(dw) * step_size, w += change. gradient becomes dw, to tell how large it is.
    """


@op(
    "optim",
    w="...",
    dw="...",
    velocity="...",
    returns=(),
    inplace=("w", "velocity"),
    lists=True,
    options={"learning_rate": _RATE, "momentum": _MOMENTUM, "dampening": _MOMENTUM, "nesterov": Flag()},
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=({}, {"dampening": 0.3}, {"nesterov": True}),
)
def heavy_ball_step(w, dw, velocity, learning_rate=0.01, momentum=0.9, dampening=0.0, nesterov=False):
    """One step of gradient descent with momentum, in place, the velocity without the rate (PyTorch's form).

    velocity = momentum * velocity + (1 - dampening) * dw, then w -= lr * velocity, or with nesterov
    w -= lr * (dw + momentum * velocity).
    """


@op("optim", **_RMSPROP)
def rmsprop_root_step(
    w, dw, mean_square, velocity=None, mean=None, learning_rate=0.01, rho=0.99, momentum=0.0, epsilon=1e-8
):
    """One RMSprop step, in place, epsilon added to the root and the velocity without the rate (PyTorch's form).

    mean_square = rho * mean_square + (1 - rho) * dw^2, and with ``mean`` (centred) likewise the mean of dw;
    step = dw / (sqrt(mean_square - mean^2) + epsilon). Without momentum w -= lr * step; with it
    velocity = momentum * velocity + step, w -= lr * velocity.
    """


@op("optim", **_ADAGRAD)
def adagrad_root_step(w, dw, accumulator, learning_rate=0.01, epsilon=1e-10):
    """One Adagrad step, in place, epsilon added to the root (Duchi, Hazan and Singer 2011; PyTorch's form).

    accumulator += dw^2; w -= lr * dw / (sqrt(accumulator) + epsilon).
    """


def chosen(op: Op, given: Mapping[str, Any]) -> tuple[str, list[str]]:
    """The name of the step that an op does with these arguments, and those that are its arrays: w, dw, its states."""
    states = [operand for operand in op.operands if operand not in ("w", "dw") and given[operand] is not None]
    name = step_name(op.name, states, given)
    return name, ["w", "dw", *STEPS[name].states]


def hyper_of(name: str, op: Op, given: Mapping[str, Any], made: Callable[[Sequence[float]], Any]) -> Callable[..., Any]:
    """What gives a step's hyper-parameters, ``made`` something of, from the op's arguments, like those ``given``.

    It makes it anew only where the options that vary have changed since its last call.
    """
    options = {option: given[option] for option in op.options}
    changing = [option for option, spec in op.options.items() if varying(spec)]
    places = [list(op.signature.parameters).index(option) for option in changing]
    pick = itemgetter(*places) if places else lambda arguments: ()
    last: tuple[Any, Any] = None, None

    def hyper(*arguments: Any) -> Any:
        nonlocal last
        values, numbers = last
        now = pick(arguments)
        if now != values:
            found = now if len(places) != 1 else (now,)
            numbers = made(STEPS[name].numbers({**options, **dict(zip(changing, found, strict=True))}))
            last = now, numbers  # at once, for whatever thread reads both
        return numbers

    return hyper
