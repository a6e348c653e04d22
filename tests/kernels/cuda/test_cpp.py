"""Every formula as C++, compiled for the host, against the plain loops."""

from __future__ import annotations

import ctypes
import math
import shutil
import subprocess
from itertools import product

import numpy as np
import pytest

from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS
from fastnn.kernels.formulas.losses import LOSSES
from fastnn.kernels.formulas.penalties import l1_l2
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.naive import elementwise, losses, optim
from fastnn.kernels.table import NUMBERS, TABLE

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")

DTYPES = ("float32", "float64")
SPECIAL = (0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 30.0, -30.0, 200.0, -200.0, math.inf, -math.inf, math.nan)


def step_formula(step):
    """A step as a formula of single values: hyper-parameters, weight, gradient, states."""
    count = len(step.hyper)
    return lambda v, *values: step.update(v, values[:count], *values[count:])


# name: (parameters, formula, number of results)
FORMULAS = {
    **{f"{name}_forward": (("x", *entry.numbers), entry.forward, 1) for name, entry in ACTIVATIONS.items()},
    **{f"{name}_backward": (("dy", "s", *entry.numbers), entry.backward, 1) for name, entry in ACTIVATIONS.items()},
    **{f"{name}_loss": (("p", "t", *entry.numbers), entry.formula, 2) for name, entry in LOSSES.items()},
    "l1_l2": (("l1", "l2", "x"), l1_l2, 2),
    "flush": (("x",), lambda v, x: v.flush(x), 1),
    **{
        f"{name}_step": (
            (*(f"h_{n}" for n in step.hyper), "w", "g", *(f"s_{n}" for n in step.states)),
            step_formula(step),
            1 + len(step.states),
        )
        for name, step in STEPS.items()
    },
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """All formulas of both dtypes as functions of floats, from one shared library."""
    folder = tmp_path_factory.mktemp("cpp")
    parts = ["#include <math.h>\n", '#define FUNCTION extern "C"\n']
    for (name, (parameters, formula, _)), dtype in product(FORMULAS.items(), DTYPES):
        parts.append(function(f"{name}_{dtype}", parameters, formula, dtype))
    (folder / "formulas.cpp").write_text("".join(parts))
    flags = ["-O2", "-ffp-contract=off", "-Wall", "-Werror", "-shared", "-fPIC"]
    subprocess.run(["g++", *flags, "-o", folder / "formulas.so", folder / "formulas.cpp"], check=True)
    library = ctypes.CDLL(str(folder / "formulas.so"))

    def call(name, dtype, *arguments):
        parameters, _, results = FORMULAS[name]
        real = ctypes.c_float if dtype == "float32" else ctypes.c_double
        function_ = library[f"{name}_{dtype}"]
        function_.argtypes, function_.restype = [real] * len(parameters) + [ctypes.POINTER(real)] * results, None
        out = [real() for _ in range(results)]
        function_(*arguments, *map(ctypes.byref, out))
        return [number.value for number in out]

    return call


def close(found, wanted, dtype, size=1.0, ulps=4):
    """Equal up to some ULP of the larger of the wanted number and ``size``; NaN to NaN, inf to inf."""
    kind = np.dtype(dtype).type
    with np.errstate(over="ignore"):
        wanted = float(kind(wanted))
    if not math.isfinite(wanted) or not math.isfinite(found):
        return found == wanted or (math.isnan(found) and math.isnan(wanted))
    return abs(found - wanted) <= ulps * float(np.finfo(dtype).eps) * max(abs(wanted), size)


def rounded(dtype, *numbers):
    return [float(np.dtype(dtype).type(number)) for number in numbers]


def numbers(count, scale=2.0):
    return (scale * np.random.default_rng(5).standard_normal(count)).tolist()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(compiled, name, dtype):
    """Of numbers of all kinds, and of their derivative, from what it needs."""
    given = tuple(NUMBERS[name].values())
    for x in rounded(dtype, *SPECIAL, *numbers(50)):
        (wanted,) = elementwise.forward(name, [x]) if math.isfinite(x) else of_limits(name, x)
        (y,) = compiled(f"{name}_forward", dtype, x, *given)
        assert close(y, wanted, dtype, size=0.0 if abs(x) < 2 else 1.0, ulps=8), (x, y, wanted)
        for dy in rounded(dtype, 0.75, -2.0, 0.0):
            if math.isfinite(y) and math.isfinite(x):
                s = x if ACTIVATIONS[name].needs == "x" else y
                (dx,) = compiled(f"{name}_backward", dtype, dy, s, *given)
                (wanted,) = elementwise.backward(name, [dy], [x], [y])
                assert close(dx, wanted, dtype, ulps=16), (dy, x, y, dx)


# What has no limit far out.
PERIODIC = "sin", "cos"


def of_limits(name, x):
    """What an activation gives for infinity and NaN: NaN, or what it gives far out, where that is its limit."""
    far = 1e30 if x > 0 else -1e30
    if math.isnan(x) or name in PERIODIC:
        return [math.nan]
    (near,), (y,) = (elementwise.forward(name, [each]) for each in (math.copysign(1e15, x), far))
    return [math.copysign(math.inf, y) if abs(y) > 1.5 * abs(near) else y]


NUMBERS_OF_LOSSES = {"delta": 0.5, "gamma": 1.5, "positive": 0.25, "negative": 0.75}
# Predictions and targets of losses that are not for any: probabilities, signs, what a logarithm is taken of.
PREDICTIONS = dict.fromkeys(("bernoulli", "bernoulli_focal", "divergence"), (0.0, 1.0, 1e-9, 0.3, 0.999))
PREDICTIONS |= dict.fromkeys(("squared_logarithmic", "poisson"), (0.0, 1e-9, 0.3, 40.0))
TARGETS = dict.fromkeys(("hinge", "squared_hinge"), (1.0, -1.0))
TARGETS |= {name: (0.0, 1.0, 0.25) for name in LOSSES if name.startswith(("bernoulli", "divergence", "squared_log"))}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOSSES)
def test_losses(compiled, name, dtype):
    predictions = PREDICTIONS.get(name, (0.0, 40.0, -40.0, *numbers(20)))
    given = rounded(dtype, *(NUMBERS_OF_LOSSES[number] for number in LOSSES[name].numbers))
    for p, t in product(rounded(dtype, *predictions), rounded(dtype, *TARGETS.get(name, (0.0, 1.0, *numbers(5))))):
        loss, slope = compiled(f"{name}_loss", dtype, p, t, *given)
        wanted, wanted_slope = losses.LOSSES[name](p, t, *given)
        # 1 - 1e-7 is 1 - 1.19e-7 in float32, and its distance from 1 goes through a logarithm: log(1.19) is 1% of it;
        # powers lose digits with the logarithm that they are made of
        ulps = 1.5e5 if name.startswith("bernoulli") and dtype == "float32" and p == 1 else 64
        assert close(loss, wanted, dtype, ulps=ulps), (p, t, loss, wanted)
        assert close(slope, wanted_slope, dtype, ulps=ulps), (p, t, slope, wanted_slope)


@pytest.mark.parametrize("dtype", DTYPES)
def test_denormal_numbers_are_flushed(compiled, dtype):
    smallest = float(np.finfo(dtype).smallest_normal)
    for x in rounded(dtype, 0.0, smallest, 1.0, math.inf):
        for sign in (1.0, -1.0):
            assert compiled("flush", dtype, sign * x) == [sign * x]
            assert compiled("flush", dtype, sign * smallest / 2) == [0.0]
    assert math.isnan(compiled("flush", dtype, math.nan)[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_penalty(compiled, dtype):
    for l1, l2, x in product(rounded(dtype, 0.0, 0.1), rounded(dtype, 0.0, 0.3), rounded(dtype, 0.0, *numbers(10))):
        penalty, slope = compiled("l1_l2", dtype, l1, l2, x)
        wanted, wanted_slope = losses.l1_l2_penalty(np.array([x]), l1, l2)
        assert close(penalty, wanted, dtype)
        assert close(slope, float(wanted_slope[0]), dtype)


# Options of the ops that make the steps; the third step of those that count.
OPTIONS = {
    "learning_rate": 0.01,
    "momentum": 0.9,
    "rho": 0.8,
    "epsilon": 1e-3,
    "beta_1": 0.7,
    "beta_2": 0.95,
    "step": 3,
    "learning_rate_power": -0.7,
    "l1_regularization_strength": 0.2,
    "l2_regularization_strength": 0.1,
    "l2_shrinkage_regularization_strength": 0.05,
    "beta": 0.3,
    "dampening": 0.3,
    "eta_minus": 0.5,
    "eta_plus": 1.2,
    "step_min": 1e-3,
    "step_max": 1.5,
}


def options_of(step):
    """What the op takes for this step."""
    return {name: OPTIONS.get(name, False) for name in TABLE[step.op].options} | step.flags


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEPS)
def test_steps(compiled, name, dtype):
    step = STEPS[name]
    options = options_of(step)
    op, hyper = getattr(optim, step.op), step.numbers(options)
    rng, positive = np.random.default_rng(1), ("mean_square", "v", "v_max", "accumulator", "norm", "velocity")
    for w, g in zip(numbers(20), numbers(20, 0.5), strict=True):
        # a mean square stays above the squared mean
        states = {state: 1.0 + rng.random() if state in positive else 0.1 for state in step.states}
        found = compiled(f"{name}_step", dtype, *rounded(dtype, *hyper, w, g, *states.values()))
        arrays = {state: np.array(rounded(dtype, value)) for state, value in states.items()}
        weight = np.array(rounded(dtype, w))
        op(weight, np.array(rounded(dtype, g)), **arrays, **options)
        ulps = 256 if name == "ftrl" else 16  # a difference of powers is divided by a small rate
        for mine, its in zip(found, (weight, *arrays.values()), strict=True):
            assert close(mine, float(its[0]), dtype, ulps=ulps), (name, w, g, mine, its)
