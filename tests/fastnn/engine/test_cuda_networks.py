"""Five kinds of networks on a device, or the host that stands in, with every optimizer and loss, beside the CPU's."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from fastnn import layers, losses, models, ops, optimizers, utils
from fastnn.datasets import digits
from fastnn.engine import pace
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.losses import LOSSES as LOSS_OPS

BATCH = 32


def drawn_digits(rng):
    (x, labels), _ = digits.load_data()
    return x[:144].reshape(144, -1).astype("float32") / 16, labels[:144].astype("int64") % 7


def images(rng):
    """Bytes, of which each class is a bright band of rows under noise."""
    labels = rng.integers(0, 7, 112)
    x = rng.integers(0, 60, (112, 28, 28)).astype("uint8")
    for image, label in zip(x, labels, strict=True):
        image[3 * label : 3 * label + 3] = 220
    return x.reshape(112, -1), labels


def newswires(rng):
    """CSR, of which each topic has words of its own."""
    labels = rng.integers(0, 7, 144)
    x = np.zeros((144, 700), "float32")
    for row, label in zip(x, labels, strict=True):
        row[rng.integers(100 * label, 100 * label + 100, 9)] = 1
    return csr_matrix(x), labels


def houses(rng):
    x = rng.normal(size=(144, 13)).astype("float32")
    return x, (x[:, 0] > 0) + 2 * (x[:, 5] > 0).astype("int64")


# Samples with classes, and the layers before the last one.
NETWORKS = {
    "digits": (drawn_digits, lambda: [layers.Dense(24, "relu")]),
    "images": (images, lambda: [layers.Rescaling(1 / 255), layers.Dense(16, "relu")]),
    "newswires": (newswires, lambda: [layers.Dense(16, "relu"), layers.Dense(12, "tanh")]),
    "regression": (houses, lambda: [layers.Dense(16, "tanh"), layers.Dense(8, "softplus")]),
    "dropout": (houses, lambda: [layers.Dense(16, "gelu"), layers.Dropout(0.3, seed=3)]),
}


def of_classes(labels):
    return labels


def rows(labels):
    return np.eye(7, dtype="float32")[labels]


def values(labels):
    return (0.5 + 0.1 * labels[:, None]).astype("float32")


def bits(labels):
    return (labels[:, None] % 2).astype("float32")


def deviance(y_true, y_pred):
    return ops.half_poisson_deviance(y_pred, y_true)[0]


# Targets, the last layer's units and activation.
LOSSES = {
    "cross_entropy": (losses.CategoricalCrossentropy, rows, 7, "exponential"),
    "softmax_cross_entropy": (losses.SparseCategoricalCrossentropy, of_classes, 7, "softmax"),
    "binary_cross_entropy": (losses.BinaryCrossentropy, bits, 1, "sigmoid"),
    "binary_focal_cross_entropy": (losses.BinaryFocalCrossentropy, bits, 1, "sigmoid"),
    "categorical_focal_cross_entropy": (losses.CategoricalFocalCrossentropy, rows, 7, "softmax"),
    "mse": (losses.MeanSquaredError, values, 1, "linear"),
    "mae": (losses.MeanAbsoluteError, values, 1, "linear"),
    "mape": (losses.MeanAbsolutePercentageError, values, 1, "softplus"),
    "msle": (losses.MeanSquaredLogarithmicError, values, 1, "softplus"),
    "huber": (lambda: losses.Huber(0.3), values, 1, "tanh"),
    "log_cosh": (losses.LogCosh, values, 1, "linear"),
    "hinge": (losses.Hinge, bits, 1, "tanh"),
    "squared_hinge": (losses.SquaredHinge, bits, 1, "tanh"),
    "poisson": (losses.Poisson, values, 1, "exponential"),
    "half_poisson_deviance": (lambda: deviance, values, 1, "linear"),
    "half_sse": (losses.HalfSSE, values, 1, "linear"),
    "quadratic_cost": (losses.QuadraticCost, rows, 7, "sigmoid"),
    "kl_divergence": (losses.KLDivergence, rows, 7, "softmax"),
    "cosine_similarity": (losses.CosineSimilarity, rows, 7, "tanh"),
    "categorical_hinge": (losses.CategoricalHinge, rows, 7, "linear"),
    "multiclass_hinge": (losses.MulticlassHinge, of_classes, 7, "linear"),
    "nll": (losses.NegativeLogLikelihood, of_classes, 7, "log_softmax"),
}

OPTIMIZERS = {
    "sgd_step": lambda: optimizers.SGD(0.02, momentum=0.5),
    "rmsprop_step": lambda: optimizers.RMSprop(0.002),
    "adam_step": lambda: optimizers.Adam(0.002),
    "adagrad_step": lambda: optimizers.Adagrad(0.02),
    "adadelta_step": lambda: optimizers.Adadelta(0.3),
    "adamax_step": lambda: optimizers.Adamax(0.002),
    "nadam_step": lambda: optimizers.Nadam(0.002),
    "lion_step": lambda: optimizers.Lion(0.0005),
    "ftrl_step": lambda: optimizers.Ftrl(0.05),
    "rprop_step": lambda: optimizers.Rprop(0.001),
}

# Steps of other libraries' optimizers, which no fit takes.
OF_OTHERS = {"heavy_ball_step", "rmsprop_root_step", "adagrad_root_step", "rprop_minus_step"}

# Each loss with an optimizer and a network, each optimizer with every network in turn.
DRAWN = list(zip(LOSSES, cycle(OPTIMIZERS), cycle(NETWORKS)))
DRAWN += [("softmax_cross_entropy", optimizer, network) for optimizer, network in zip(OPTIMIZERS, cycle(NETWORKS))]


def test_every_optimizer_and_loss_of_the_table_is_drawn():
    assert set(LOSSES) == set(LOSS_OPS)
    assert set(OPTIMIZERS) | OF_OTHERS == {name for name, op in TABLE.items() if op.module in ("optim", "resilient")}
    assert {network for *_, network in DRAWN} == set(NETWORKS)
    for name, make in OPTIMIZERS.items():
        assert make().rule[0] == name


@pytest.mark.parametrize(("loss", "optimizer", "network"), DRAWN)
def test_curves_are_those_of_the_cpu(cupy, monkeypatch, loss, optimizer, network):
    monkeypatch.setattr(pace, "CALL_SECONDS", 1e4)
    make, targets, units, last = LOSSES[loss]
    data, stack = NETWORKS[network]
    x, labels = data(np.random.default_rng(4))
    y, found = targets(labels), []
    for backend in ("cpu", "cuda"):
        utils.set_random_seed(1)
        built = models.Sequential([*stack(), layers.Dense(units, last)])
        built.compile(OPTIMIZERS[optimizer](), make(), backend=backend)
        size = len(labels) if optimizer == "rprop_step" else BATCH
        curves = built.fit(x, y, batch_size=size, epochs=4, verbose=0).history["loss"]
        found.append((curves, built.predict(x, verbose=0)))
    (curves, outputs), (others, of_device) = found
    np.testing.assert_allclose(others, curves, rtol=1e-4)
    np.testing.assert_allclose(of_device, outputs, rtol=1e-3, atol=1e-4)
    facts = built.plan(x).facts
    assert facts["steps"].startswith("captured as a graph")
    assert "launches" in facts
