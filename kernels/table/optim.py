"""Optimizer steps, in place."""

from __future__ import annotations

from fastnn.kernels.table.row import ELEMENTWISE, Flag, Integer, Real, Rule, op, shapes

_RATE = Real(low=0.0)
_FRACTION = Real(low=0.0, high=1.0, open_high=True)
_MOMENTUM = Real(low=0.0, high=1.0)
_VELOCITY = Rule(
    "velocity",
    "given when momentum > 0 and None when momentum is 0",
    lambda given: (given["velocity"] is not None) == (given["momentum"] > 0),
)


@op(
    "optim",
    w="...",
    dw="...",
    velocity="...",
    returns=(),
    inplace=("w", "velocity"),
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


@op(
    "optim",
    w="...",
    dw="...",
    mean_square="...",
    velocity="...",
    mean="...",
    returns=(),
    inplace=("w", "mean_square", "velocity", "mean"),
    options={"learning_rate": _RATE, "rho": _MOMENTUM, "momentum": _MOMENTUM, "epsilon": Real(low=0.0, open_low=True)},
    rules=(_VELOCITY,),
    cases=ELEMENTWISE,
    bench=shapes((1_000_000,)),
    variants=(
        {"velocity": None, "mean": None},
        {"mean": None, "momentum": 0.5},
        {"velocity": None},
        {"momentum": 0.5, "rho": 0.8},
    ),
    draw={"mean_square": "squares", "mean": "small"},
)
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
    options={
        "step": Integer(low=1),
        "learning_rate": _RATE,
        "beta_1": _FRACTION,
        "beta_2": _FRACTION,
        "epsilon": Real(low=0.0, open_low=True),
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
