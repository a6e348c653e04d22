"""The trainer against PyTorch: equal weights, equal order, 20 steps, loss curves equal to 1e-5.

PyTorch gives the gradients; the optimizer steps are Keras's formulas written out here in float64, because torch.optim
puts epsilon and momentum elsewhere.
"""

from __future__ import annotations

import numpy as np
import pytest

from fastnn import layers, losses, models, optimizers, regularizers, utils

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install '.[peers]'")

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
