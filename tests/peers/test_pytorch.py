"""The trainer against PyTorch: equal weights, equal order, 20 steps, loss curves equal to 1e-5; activations and losses.

PyTorch gives the gradients; the optimizer steps are Keras's formulas written out here in float64, because torch.optim
puts epsilon and momentum elsewhere. What it has no function for is written in its operations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from fastnn import gradients, layers, losses, models, ops, optimizers, program, regularizers, utils
from fastnn.kernels.formulas import activations as formulas
from fastnn.kernels.table import TABLE

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")
functional = torch.nn.functional

STEPS, BATCH = 20, 16


def sgd(momentum, nesterov, rate=0.05):
    def step(w, g, state, _):
        if not momentum:
            return w - rate * g
        v = state["v"] = momentum * state.get("v", 0) - rate * g
        return w + momentum * v - rate * g if nesterov else w + v

    return optimizers.SGD(rate, momentum=momentum, nesterov=nesterov), step


def rmsprop(rate=0.001, rho=0.9, epsilon=1e-7):
    def step(w, g, state, _):
        s = state["s"] = rho * state.get("s", 0) + (1 - rho) * g**2
        return w - rate * g / torch.sqrt(s + epsilon)

    return optimizers.RMSprop(rate), step


def centered_rmsprop(rate=0.002, rho=0.8, momentum=0.5, epsilon=1e-6):
    def step(w, g, state, _):
        s = state["s"] = rho * state.get("s", 0) + (1 - rho) * g**2
        a = state["a"] = rho * state.get("a", 0) + (1 - rho) * g
        v = state["v"] = momentum * state.get("v", 0) + rate * g / torch.sqrt(s - a**2 + epsilon)
        return w - v

    return optimizers.RMSprop(rate, rho=rho, momentum=momentum, epsilon=epsilon, centered=True), step


def adam(rate=0.002, b1=0.9, b2=0.999, epsilon=1e-7):
    def step(w, g, state, t):
        m = state["m"] = b1 * state.get("m", 0) + (1 - b1) * g
        v = state["v"] = b2 * state.get("v", 0) + (1 - b2) * g**2
        return w - rate * (1 - b2**t) ** 0.5 / (1 - b1**t) * m / (torch.sqrt(v) + epsilon)

    return optimizers.Adam(rate), step


OPTIMIZERS = {
    "sgd": lambda: sgd(0.0, nesterov=False),
    "momentum": lambda: sgd(0.9, nesterov=False),
    "nesterov": lambda: sgd(0.9, nesterov=True),
    "rmsprop": rmsprop,
    "centered rmsprop with momentum": centered_rmsprop,
    "adam": adam,
}


def classifier(dtype):
    model = models.Sequential(
        [
            layers.Input((20,)),
            layers.Dense(32, activation="relu", dtype=dtype),
            layers.Dense(5, activation="softmax", dtype=dtype),
        ]
    )

    def reference(x, y, w):
        logits = torch.relu(x @ w[0] + w[1]) @ w[2] + w[3]
        return torch.nn.functional.cross_entropy(logits, y)

    return model, "sparse_categorical_crossentropy", reference, "labels"


def regressor(dtype):
    model = models.Sequential(
        [
            layers.Input((20,)),
            layers.Dense(16, activation="tanh", kernel_regularizer=regularizers.L1L2(0.001, 0.01), dtype=dtype),
            layers.Dense(8, activation="sigmoid", dtype=dtype),
            layers.Dense(2, dtype=dtype),
        ]
    )

    def reference(x, y, w):
        out = torch.sigmoid(torch.tanh(x @ w[0] + w[1]) @ w[2] + w[3]) @ w[4] + w[5]
        return ((out - y) ** 2).mean() + 0.001 * w[0].abs().sum() + 0.01 * (w[0] ** 2).sum()

    return model, losses.MeanSquaredError(), reference, "values"


def deep_binary(dtype):
    hidden = [layers.Dense(12, activation="relu", dtype=dtype) for _ in range(3)]
    model = models.Sequential(
        [layers.Input((4, 5)), layers.Flatten(), *hidden, layers.Dense(1, dtype=dtype), layers.Activation("sigmoid")]
    )

    def reference(x, y, w):
        h = x.reshape(len(x), -1)
        for i in range(0, 6, 2):
            h = torch.relu(h @ w[i] + w[i + 1])
        return torch.nn.functional.binary_cross_entropy_with_logits(h @ w[6] + w[7], y)

    return model, "binary_crossentropy", reference, "bits"


ARCHITECTURES = {"softmax classifier": classifier, "regression": regressor, "deep binary": deep_binary}


def targets(kind, n, generator):
    if kind == "labels":
        return generator.integers(0, 5, n)
    return generator.normal(size=(n, 2)) if kind == "values" else generator.integers(0, 2, (n, 1)).astype(float)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_loss_curve(architecture, optimizer, dtype):
    utils.set_random_seed(3)
    generator = np.random.default_rng(5)
    model, loss, reference, kind = ARCHITECTURES[architecture](dtype)
    rule, step = OPTIMIZERS[optimizer]()
    model.compile(rule, loss, backend="cpu")
    x = generator.normal(size=(STEPS * BATCH, *model.input_shape[1:]))
    y = targets(kind, len(x), generator)

    weights = [torch.tensor(w, dtype=torch.float64, requires_grad=True) for w in model.get_weights()]
    states = [{} for _ in weights]
    ours, theirs = [], []
    for t in range(STEPS):
        rows = slice(t * BATCH, (t + 1) * BATCH)
        ours.append(model.train_on_batch(x[rows].astype(dtype), y[rows]))
        value = reference(torch.tensor(x[rows].astype(dtype)).double(), torch.tensor(y[rows]), weights)
        theirs.append(value.item())
        gradients = torch.autograd.grad(value, weights)
        with torch.no_grad():
            for w, g, state in zip(weights, gradients, states, strict=True):
                w.copy_(step(w, g, state, t + 1))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5 if dtype == "float32" else 1e-10)
    assert theirs[0] != pytest.approx(theirs[-1], rel=1e-3)  # the curve moves


def test_fit_takes_the_same_steps_as_train_on_batch():
    """One epoch of fit without shuffling is the 20 steps above."""
    utils.set_random_seed(1)
    model, loss, _, kind = classifier("float32")
    generator = np.random.default_rng(5)
    x = generator.normal(size=(STEPS * BATCH, 20)).astype("float32")
    y = targets(kind, len(x), generator)
    start = model.get_weights()
    model.compile("adam", loss, backend="cpu")
    history = model.fit(x, y, batch_size=BATCH, shuffle=False, verbose=0)
    fitted = model.get_weights()
    model.set_weights(start)
    model.compile("adam", loss, backend="cpu")
    steps = [model.train_on_batch(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    assert history.history["loss"] == [pytest.approx(np.mean(steps), rel=1e-12)]
    assert all((a == b).all() for a, b in zip(fitted, model.get_weights(), strict=True))


# ---------------------------------------------------------------------------------------------------- activations

POINTS = (0.0, 1e-8, -1e-8, 1.0, -1.0, 3.0, -3.0, 6.0, -6.0, 20.0, -20.0, 1e4, -1e4)


def bounded_relu(x, slope, most, threshold):
    return torch.where(x >= threshold, x, slope * (x - threshold)).clamp(max=most)


@dataclass(frozen=True)
class Reference:
    """What an activation is in PyTorch, its numbers besides the default ones, and where it has no derivative."""

    function: Any
    kinks: Any = lambda *numbers: ()
    numbers: tuple[tuple[float, ...], ...] = ((),)


def at(*kinks):
    return lambda *numbers: kinks


ACTIVATIONS = {
    "identity": Reference(lambda x: 1 * x),
    "relu": Reference(functional.relu, at(0)),
    "sigmoid": Reference(torch.sigmoid),
    "tanh": Reference(torch.tanh),
    "relu6": Reference(functional.relu6, at(0, 6)),
    "bounded_relu": Reference(
        bounded_relu,
        lambda slope, most, threshold: (most, threshold),
        ((0.0, math.inf, 0.0), (0.25, 5.5, 0.0), (0.1, 2.0, 1.0), (0.0, 4.0, 2.0)),
    ),
    "leaky_relu": Reference(functional.leaky_relu, at(0), ((0.2,), (0.01,), (1.5,), (0.0,))),
    "elu": Reference(functional.elu, at(0), ((1.0,), (0.5,), (2.0,))),
    "celu": Reference(functional.celu, numbers=((1.0,), (0.5,), (2.0,))),
    "selu": Reference(functional.selu, at(0)),
    "hard_sigmoid": Reference(lambda x: functional.relu6(x + 3) / 6, at(-3, 3)),  # its own's derivative is float32's
    "log_sigmoid": Reference(functional.logsigmoid),
    "hard_tanh": Reference(functional.hardtanh, at(-1, 1)),
    "softplus": Reference(lambda x: functional.softplus(x, 1, 700)),
    "softsign": Reference(functional.softsign),
    "silu": Reference(functional.silu),
    "hard_silu": Reference(functional.hardswish, at(-3, 3)),
    "gelu": Reference(functional.gelu),
    "gelu_tanh": Reference(lambda x: functional.gelu(x, approximate="tanh")),
    "mish": Reference(functional.mish),
    "exponential": Reference(torch.exp),
    "threshold": Reference(
        functional.threshold, lambda threshold, _: (threshold,), ((0.0, 0.0), (0.5, -1.0), (-3.5, 2.0))
    ),
    "soft_shrink": Reference(functional.softshrink, lambda size: (-size, size), ((0.5,), (0.25,), (2.0,))),
    "hard_shrink": Reference(functional.hardshrink, lambda size: (-size, size), ((0.5,), (0.25,), (2.0,))),
    "binary_step": Reference(lambda x: (x >= 0).double() + 0 * x, at(0)),
    "sign": Reference(torch.sign, at(0)),
}
AT_POINTS = [
    (name, numbers, x)
    for name, reference in ACTIVATIONS.items()
    for numbers in reference.numbers
    for x in POINTS
    if x not in reference.kinks(*numbers)
]


def test_every_activation_has_a_reference():
    assert list(ACTIVATIONS) == [name for name, formula in formulas.ACTIVATIONS.items() if not formula.plain]


def assert_equal(got, wanted):
    """To 1e-9; what is left of numbers of about 1 that cancel is not compared."""
    np.testing.assert_allclose(got, wanted.detach().numpy(), rtol=1e-9, atol=1e-14)


@pytest.mark.parametrize(("name", "numbers", "point"), AT_POINTS)
def test_activation(name, numbers, point):
    """Value and derivative."""
    x, dy = np.array([point, 0.9 * point]), np.array([1.5, -0.5])
    inputs = torch.tensor(x, requires_grad=True)
    wanted = ACTIVATIONS[name].function(inputs, *numbers)
    y = getattr(ops, name)(x, *numbers)
    assert_equal(y, wanted)
    dx = getattr(ops, f"{name}_backward")(dy, x, y, *numbers)
    assert_equal(dx, torch.autograd.grad(wanted, inputs, torch.tensor(dy))[0])


@pytest.mark.parametrize("scale", [1e-8, 1.0, 20.0, 1e4])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (7, 46)])
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_activation_of_rows(name, shape, scale):
    rng = np.random.default_rng(4)
    x, dy = scale * rng.normal(size=shape), rng.normal(size=shape)
    inputs = torch.tensor(x, requires_grad=True)
    wanted = getattr(torch, name)(inputs, 1)
    y = getattr(ops, name)(x)
    assert_equal(y, wanted)
    assert_equal(getattr(ops, f"{name}_backward")(dy, x, y), torch.autograd.grad(wanted, inputs, torch.tensor(dy))[0])


# ---------------------------------------------------------------------------------------------------- losses


def each(loss, **options):
    """A loss of PyTorch's of numbers, as the mean over the outputs of a row."""
    return lambda p, t: loss(p, t, reduction="none", **options).mean(-1)


def clipped(p):
    return p.clamp(1e-7, 1 - 1e-7)


def bernoulli(p, t):
    q = clipped(p)
    return -(t * q.log() + (1 - t) * (1 - q).log()).mean(-1)


def cross_entropy(p, t):
    return -(t * clipped(p / p.sum(-1, keepdim=True)).log()).sum(-1)


def of_logits(**options):
    return lambda z, t: functional.cross_entropy(z, t, reduction="none", **options)


def of_labels(loss):
    return lambda p, t: loss(p, functional.one_hot(t, p.shape[-1]).double())


def smoothed(loss, share, even):
    return lambda p, t: loss(p, t * (1 - share) + share * even)


def percentage(p, t):
    return 100 * ((p - t).abs() / t.abs().clamp(min=1e-7)).mean(-1)


def squared_logarithms(p, t):
    return ((p.clamp(min=1e-7) + 1).log() - (t.clamp(min=1e-7) + 1).log()).square().mean(-1)


def log_cosh(p, t):
    return (p - t).cosh().log().mean(-1)


def hinge(p, t, power=1):
    return (1 - t * p).clamp(min=0).pow(power).mean(-1)


def categorical_hinge(p, t):
    return (((1 - t) * p).max(-1).values - (t * p).sum(-1) + 1).clamp(min=0)


def multiclass_hinge(p, t):
    margins = (p - p.gather(1, t[:, None]) + 1).clamp(min=0)
    return margins.sum(-1) - 1


def divergence(p, t):
    return functional.kl_div(p.clamp(1e-7, 1).log(), t.clamp(1e-7, 1), reduction="none").sum(-1)


def binary_focal(gamma, positive=1.0, negative=1.0, logits=False):
    def loss(p, t):
        plain = functional.binary_cross_entropy_with_logits if logits else functional.binary_cross_entropy
        q = torch.sigmoid(p) if logits else p
        wrong = t * (1 - q) + (1 - t) * q
        return ((positive * t + negative * (1 - t)) * wrong**gamma * plain(p, t, reduction="none")).mean(-1)

    return loss


def categorical_focal(gamma, alpha=1.0, logits=False):
    def loss(p, t):
        q = clipped(torch.softmax(p, 1) if logits else p / p.sum(-1, keepdim=True))
        return -(torch.tensor(alpha, dtype=t.dtype) * t * (1 - q) ** gamma * q.log()).sum(-1)

    return loss


def drawn(kind, n, c):
    rng = np.random.default_rng(sum(map(ord, kind)) + n)
    unit = rng.uniform(0.05, 0.95, (n, c))
    labels = rng.integers(0, c, n)
    return {
        "values": 4 * unit - 2,
        "unit": unit,
        "rows": unit / unit.sum(-1, keepdims=True),
        "bits": (unit > 0.5).astype(float),
        "signs": np.sign(unit - 0.5),
        "one-hot": np.eye(c)[labels],
        "labels": labels,
        "logarithms": np.log(unit / unit.sum(-1, keepdims=True)),
    }[kind]


def half_deviance(z, t):
    return (functional.poisson_nll_loss(z, t, reduction="none") + torch.xlogy(t, t) - t).sum(-1)


@dataclass(frozen=True)
class Case:
    """A loss: its op and class with their options, the losses of rows in PyTorch, and what is drawn."""

    op: str
    cls: str
    rows: Any
    pred: str
    true: str
    of_op: Mapping[str, Any] = field(default_factory=dict)
    of_class: Mapping[str, Any] | None = None

    @property
    def options(self):
        return self.of_op if self.of_class is None else self.of_class


LOGITS = {"from_logits": True}
REGRESSION = {
    "mse": Case("mse", "MeanSquaredError", each(functional.mse_loss), "values", "unit"),
    "mae": Case("mae", "MeanAbsoluteError", each(functional.l1_loss), "values", "unit"),
    "mape": Case("mape", "MeanAbsolutePercentageError", percentage, "values", "unit"),
    "msle": Case("msle", "MeanSquaredLogarithmicError", squared_logarithms, "values", "unit"),
    "log cosh": Case("log_cosh", "LogCosh", log_cosh, "values", "unit"),
    "poisson": Case("poisson", "Poisson", each(functional.poisson_nll_loss, log_input=False, eps=1e-7), "unit", "unit"),
    "cosine": Case(
        "cosine_similarity", "CosineSimilarity", lambda p, t: -functional.cosine_similarity(p, t), "values", "unit"
    ),
    "quadratic": Case("quadratic_cost", "QuadraticCost", lambda p, t: (p - t).square().sum(-1) / 2, "values", "unit"),
    **{
        f"huber {delta}": Case(
            *("huber", "Huber", each(functional.huber_loss, delta=delta), "values", "unit"), {"delta": delta}
        )
        for delta in (0.25, 1.0, 3.0)
    },
}
CLASSIFICATION = {
    "bce": Case("binary_cross_entropy", "BinaryCrossentropy", bernoulli, "unit", "bits"),
    "bce logits": Case(
        "binary_cross_entropy",
        "BinaryCrossentropy",
        each(functional.binary_cross_entropy_with_logits),
        *("values", "bits", LOGITS),
    ),
    "cce": Case("cross_entropy", "CategoricalCrossentropy", cross_entropy, "unit", "rows"),
    "cce logits": Case("softmax_cross_entropy", "CategoricalCrossentropy", of_logits(), "values", "rows", {}, LOGITS),
    "scce": Case("cross_entropy", "SparseCategoricalCrossentropy", of_labels(cross_entropy), "unit", "labels"),
    "scce logits": Case(
        "softmax_cross_entropy", "SparseCategoricalCrossentropy", of_logits(), "values", "labels", {}, LOGITS
    ),
    "hinge": Case("hinge", "Hinge", hinge, "values", "signs"),
    "squared hinge": Case("squared_hinge", "SquaredHinge", lambda p, t: hinge(p, t, 2), "values", "signs"),
    "categorical hinge": Case("categorical_hinge", "CategoricalHinge", categorical_hinge, "values", "one-hot"),
    "multiclass hinge": Case("multiclass_hinge", "MulticlassHinge", multiclass_hinge, "values", "labels"),
    "divergence": Case("kl_divergence", "KLDivergence", divergence, "unit", "rows"),
    "likelihood": Case(
        *("nll", "NegativeLogLikelihood"),
        lambda p, t: functional.nll_loss(p, t, reduction="none"),
        *("logarithms", "labels"),
    ),
    **{
        f"binary focal {gamma}{' logits' * logits}": Case(
            *("binary_focal_cross_entropy", "BinaryFocalCrossentropy", binary_focal(gamma, logits=logits)),
            *("values" if logits else "unit", "bits", {"gamma": gamma, "from_logits": logits}),
        )
        for gamma in (0.0, 1.5, 2.0)
        for logits in (False, True)
    },
    "binary focal, weighed": Case(
        *("binary_focal_cross_entropy", "BinaryFocalCrossentropy", binary_focal(2.0, 0.3, 0.7), "unit", "bits"),
        {"positive": 0.3, "negative": 0.7},
        {"apply_class_balancing": True, "alpha": 0.3},
    ),
    **{
        f"categorical focal {gamma}{' logits' * logits}": Case(
            *("categorical_focal_cross_entropy", "CategoricalFocalCrossentropy"),
            categorical_focal(gamma, logits=logits),
            *("values" if logits else "unit", "rows", {"gamma": gamma, "from_logits": logits}),
            {"alpha": 1.0, "gamma": gamma, "from_logits": logits},
        )
        for gamma in (0.0, 1.5, 2.0)
        for logits in (False, True)
    },
}
WITHOUT_CLASS = {"half Poisson deviance": Case("half_poisson_deviance", "", half_deviance, "values", "unit")}
OP_CASES = {**REGRESSION, **CLASSIFICATION, **WITHOUT_CLASS}
# What the ops leave to the classes.
SMOOTHED = {
    "bce smoothed": Case("", "BinaryCrossentropy", smoothed(bernoulli, 0.2, 1 / 2), "unit", "bits"),
    "cce smoothed": Case("", "CategoricalCrossentropy", smoothed(cross_entropy, 0.2, 1 / 4), "unit", "one-hot"),
    "cce smoothed logits": Case(
        *("", "CategoricalCrossentropy", of_logits(label_smoothing=0.2), "values", "one-hot", LOGITS)
    ),
    "binary focal smoothed": Case(
        "", "BinaryFocalCrossentropy", smoothed(binary_focal(2.0), 0.2, 1 / 2), "unit", "bits"
    ),
    "categorical focal smoothed": Case(
        *("", "CategoricalFocalCrossentropy", smoothed(categorical_focal(2.0, 0.25), 0.2, 1 / 4), "unit", "one-hot")
    ),
}
BY_CLASS = {"alpha": [0.1, 0.2, 0.3, 0.4], "from_logits": True}
CLASS_CASES = {
    **REGRESSION,
    **CLASSIFICATION,
    **{name: replace(case, of_op={**case.of_op, "label_smoothing": 0.2}) for name, case in SMOOTHED.items()},
    "categorical focal, weighed": Case(
        *("", "CategoricalFocalCrossentropy", categorical_focal(2.0, BY_CLASS["alpha"], logits=True)),
        *("values", "rows", BY_CLASS),
    ),
}
REDUCTIONS = {
    "sum_over_batch_size": lambda values, weight: (weight * values).mean(),
    "sum": lambda values, weight: (weight * values).sum(),
    "mean_with_sample_weight": lambda values, weight: (weight * values).sum() / weight.sum(),
}


def weights(weighed, n):
    return np.random.default_rng(n).uniform(0.2, 2, n) if weighed else None


def expected(case, pred, true, weight, reduce):
    """Value and derivative."""
    inputs = torch.tensor(pred, requires_grad=True)
    weight = torch.ones(len(pred), dtype=torch.float64) if weight is None else torch.tensor(weight)
    value = reduce(case.rows(inputs, torch.tensor(true)), weight)
    return value, torch.autograd.grad(value, inputs)[0]


def test_every_loss_has_a_reference():
    classes = {case.cls for case in CLASS_CASES.values()} | {"HalfSSE", "Dice", "Tversky"}  # PyTorch has none of these
    assert classes == {cls.__name__ for cls in losses.NAMES.values()}
    ours = {case.op for case in OP_CASES.values()} | {"half_sse", "l1_l2_penalty", "total"}
    assert ours == {op.name for op in TABLE.values() if op.module == "losses"} | {"softmax_cross_entropy"}


@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", OP_CASES)
def test_loss_op(name, weighed, n):
    case, weight = OP_CASES[name], weights(weighed, n)
    pred, true = drawn(case.pred, n, 4), drawn(case.true, n, 4)
    got = getattr(ops, case.op)(pred, true, weight, **case.of_op)
    wanted = expected(case, pred, true, weight, REDUCTIONS["sum_over_batch_size"])
    for one, other in zip(got, wanted, strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("weighed", [False, True])
@pytest.mark.parametrize("name", CLASS_CASES)
def test_loss(name, weighed, reduction):
    """Its value in a call and in training, and its derivative."""
    case, weight = CLASS_CASES[name], weights(weighed, 6)
    pred, true = drawn(case.pred, 6, 4), drawn(case.true, 6, 4)
    loss = getattr(losses, case.cls)(**case.options, reduction=reduction)
    value, gradient = expected(case, pred, true, weight, REDUCTIONS[reduction])
    assert_equal(loss(true, pred, weight), value)
    for one, other in zip(loss.value_and_gradient(true, pred, weight), (value, gradient), strict=True):
        assert_equal(one, other)


@pytest.mark.parametrize("weighed", [False, True])
def test_half_the_sum_of_squares(weighed):
    pred, true, weight = drawn("values", 6, 4), drawn("unit", 6, 4), weights(weighed, 6)
    case = OP_CASES["quadratic"]
    for got in (losses.HalfSSE().value_and_gradient(true, pred, weight), ops.half_sse(pred, true, weight)):
        for one, other in zip(got, expected(case, pred, true, weight, REDUCTIONS["sum"]), strict=True):
            assert_equal(one, other)


SMOOTH = [name for name in ACTIVATIONS if not ACTIVATIONS[name].kinks(*ACTIVATIONS[name].numbers[0])]


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_drawn_functions(seed):
    """Layers with skips between them, all weights of one size so that they may meet again, by autograd too.

    Op by op, as a program records them, and as it replays them.
    """
    generator = np.random.default_rng(seed)
    n, size, depth = generator.integers(1, 9), generator.integers(1, 7), generator.integers(1, 7)
    weights = [generator.standard_normal((size, size)) / size for _ in range(generator.integers(1, depth + 1))]
    bias, x = generator.standard_normal(size), generator.standard_normal((n, size))
    kinds = [generator.choice([*SMOOTH, "softmax", "log_softmax"]) for _ in range(depth)]
    chosen = [(generator.integers(len(weights)), generator.integers(depth + 1)) for _ in range(depth)]
    case, shares = OP_CASES["mse"], generator.random(2)
    true = generator.standard_normal((n, size))

    def ours(bias, *weights):
        made = [x]
        for kind, (weight, skip) in zip(kinds, chosen, strict=True):
            if kind in ("softmax", "log_softmax"):
                y = getattr(ops, kind)(ops.linear(made[-1], weights[weight], bias))
            elif skip % 2:
                y = ops.linear(made[-1], weights[weight], bias, activation="linear" if kind == "identity" else kind)
            else:
                y = getattr(ops, kind)(ops.add(ops.matmul(made[-1], weights[weight]), bias))
            made.append(ops.add(y, made[skip % len(made)]))
        return shares[0] * ops.mse(made[-1], true)[0] + ops.l1_l2_penalty(weights[0], l2=shares[1])[0] / 2

    def theirs(bias, *weights):
        made = [torch.tensor(x)]
        for kind, (weight, skip) in zip(kinds, chosen, strict=True):
            z = made[-1] @ weights[weight] + bias
            y = getattr(torch, kind)(z, -1) if "softmax" in kind else ACTIVATIONS[kind].function(z)
            made.append(y + made[skip % len(made)])
        wanted = case.rows(made[-1], torch.tensor(true)).mean()
        return shares[0] * wanted + shares[1] * weights[0].square().sum() / 2

    inputs = [torch.tensor(array, requires_grad=True) for array in (bias, *weights)]
    wanted = theirs(*inputs)
    step = program(lambda *given: gradients(ours, given))
    for found in (gradients(ours, [bias, *weights]), step(bias, *weights), step(bias, *weights)):
        assert_gradients(found, wanted, inputs)


def assert_gradients(found, wanted, inputs):
    """A value and its gradients are autograd's."""
    value, slopes = found
    assert_equal(value, wanted)
    others = torch.autograd.grad(wanted, inputs, allow_unused=True, retain_graph=True)
    for slope, other in zip(slopes, others, strict=True):
        if other is None:
            assert not slope.any()
        else:
            np.testing.assert_allclose(slope, other.numpy(), rtol=1e-9, atol=1e-12)


def dropped(x, step):
    return x * torch.tensor(ops.dropout(np.ones(x.shape), 0.3, 5, step))


# By name, ours and PyTorch's: functions of an array, weights, a bias, row numbers, and a number of the step.
PARTS = {
    "linear": (lambda v, w, b, r, k: ops.linear(v, w, b, "tanh"), lambda v, w, b, r, k: torch.tanh(v @ w + b)),
    "biased": (
        lambda v, w, b, r, k: ops.softplus(ops.add(ops.matmul(v, w), b)),
        lambda v, w, b, r, k: functional.softplus(v @ w + b),
    ),
    "sum": (lambda v, w, b, r, k: ops.add(ops.sigmoid(v), b), lambda v, w, b, r, k: torch.sigmoid(v) + b),
    "prelu": (lambda v, w, b, r, k: ops.prelu(v, b), lambda v, w, b, r, k: torch.where(v > 0, v, b * v)),
    "dropout": (lambda v, w, b, r, k: ops.dropout(v, 0.3, 5, k), lambda v, w, b, r, k: dropped(v, k)),
    "gather": (lambda v, w, b, r, k: ops.gather(v, r), lambda v, w, b, r, k: v[r]),
    "skip": (lambda v, w, b, r, k: ops.add(v, ops.gelu(v)), lambda v, w, b, r, k: v + functional.gelu(v)),
    "softmax": (lambda v, w, b, r, k: ops.softmax(v), lambda v, w, b, r, k: torch.softmax(v, 1)),
}


@pytest.mark.parametrize("seed", range(40))
def test_gradients_of_drawn_programs(seed):
    """Whose data, row numbers and step change from call to call, as replays of one recording."""
    generator = np.random.default_rng(1000 + seed)
    n, size = generator.integers(1, 40), generator.integers(1, 40)
    parts = [PARTS[name] for name in generator.choice(list(PARTS), generator.integers(1, 8))]

    def loss_of(v, t, w, b, rows, step):
        for part, _ in parts:
            v = part(v, w, b, rows, step)
        return ops.mse(v, t)[0] + ops.l1_l2_penalty(w, 0.01, 0.1)[0]

    @program
    def ours(x, t, w, b, rows, step):
        return gradients(lambda x, w, b: loss_of(x, t, w, b, rows, step), (x, w, b))

    for step in range(3):
        x, t = generator.standard_normal((2, n, size))
        w, b, rows = generator.standard_normal((size, size)) / size, generator.random(size), generator.integers(0, n, n)
        inputs = [torch.tensor(array, requires_grad=True) for array in (x, w, b)]
        v, weights, bias = inputs
        for _, part in parts:
            v = part(v, weights, bias, rows, step)
        wanted = (v - torch.tensor(t)).square().mean() + 0.01 * weights.abs().sum() + 0.1 * weights.square().sum()
        assert_gradients(ours(x, t, w, b, rows, step), wanted, inputs)
