"""Losses and metrics as Keras documents them, one sample at a time in float64, and the cases to compare them in.

Written apart from fastnn: the tests of losses and metrics take their wanted values from here, the comparison with Keras
itself (tests/peers) takes the cases, so that what is said here is what Keras does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

EPSILON = 1e-7


# ------------------------------------------------------------------------------------------ figures of one sample's row


def squared_error(true, pred):
    return np.mean((pred - true) ** 2)


def absolute_error(true, pred):
    return np.mean(abs(pred - true))


def half_squares(true, pred):
    return 0.5 * np.sum((pred - true) ** 2)


def bernoulli(true, pred, from_logits=False, label_smoothing=0.0):
    t = true * (1 - label_smoothing) + label_smoothing / 2
    p = np.clip(1 / (1 + np.exp(-pred)) if from_logits else pred, EPSILON, 1 - EPSILON)
    return np.mean(-t * np.log(p) - (1 - t) * np.log(1 - p))


def cross_entropy(true, pred, from_logits=False, label_smoothing=0.0):
    t = true * (1 - label_smoothing) + label_smoothing / len(true)
    p = np.exp(pred) if from_logits else pred
    return -np.sum(t * np.log(np.clip(p / np.sum(p), EPSILON, 1 - EPSILON)))


def one_hot(label, classes):
    row = np.zeros(classes)
    row[int(label)] = 1
    return row


def label_cross_entropy(label, pred, from_logits=False):
    return cross_entropy(one_hot(label, len(pred)), pred, from_logits)


def largest(true, pred):
    return float(np.argmax(true) == np.argmax(pred))


def label_largest(label, pred):
    return float(label == np.argmax(pred))


def among_largest(true, pred, k=5):
    return float(np.argmax(true) in np.argsort(-pred)[:k])


def label_among_largest(label, pred, k=5, from_sorted_ids=False):
    order = pred if from_sorted_ids else np.argsort(-pred)
    return float(label in order[:k])


def square(true, pred):
    return (pred - true) ** 2


def right_side(true, pred, threshold=0.5):
    return float(true == (pred > threshold))


# ---------------------------------------------------------------------------------------------------- figures by name


def equal(true, pred):
    return float(true == pred)


def percentage(true, pred):
    return 100 * np.mean(abs(true - pred) / np.maximum(abs(true), EPSILON))


def squared_logarithms(true, pred):
    return np.mean((np.log(np.maximum(true, EPSILON) + 1) - np.log(np.maximum(pred, EPSILON) + 1)) ** 2)


def log_cosh(true, pred):
    return np.mean(np.log(np.cosh(pred - true)))


def poisson(true, pred):
    return np.mean(pred - true * np.log(pred + EPSILON))


def divergence(true, pred):
    true, pred = np.clip(true, EPSILON, 1), np.clip(pred, EPSILON, 1)
    return sum(t * np.log(t / p) for t, p in zip(true, pred, strict=True))


def hinge(true, pred, power=1):
    return np.mean([max(0.0, 1 - (2 * t - 1) * p) ** power for t, p in zip(true, pred, strict=True)])


def squared_hinge(true, pred):
    return hinge(true, pred, 2)


def categorical_hinge(true, pred):
    return max(0.0, max((1 - true) * pred) - np.dot(true, pred) + 1)


def cosine(true, pred):
    return np.dot(true, pred) / np.sqrt(np.dot(true, true) * np.dot(pred, pred))


def minus_cosine(true, pred):
    return -cosine(true, pred)


def huber(true, pred, delta=1.0):
    return np.mean([d * d / 2 if d <= delta else delta * (d - delta / 2) for d in abs(pred - true)])


def binary_focal(
    true, pred, apply_class_balancing=False, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0
):
    p = 1 / (1 + np.exp(-pred)) if from_logits else pred
    figures = []
    for t, q in zip(true * (1 - label_smoothing) + label_smoothing / 2, p, strict=True):
        weight = t * alpha + (1 - t) * (1 - alpha) if apply_class_balancing else 1
        figures.append(weight * (t * (1 - q) + (1 - t) * q) ** gamma * -(t * np.log(q) + (1 - t) * np.log(1 - q)))
    return np.mean(figures)


def categorical_focal(true, pred, alpha=0.25, gamma=2.0, from_logits=False, label_smoothing=0.0):
    t = true * (1 - label_smoothing) + label_smoothing / len(true)
    p = np.exp(pred) if from_logits else pred
    q = np.clip(p / np.sum(p), EPSILON, 1 - EPSILON)
    return -np.sum(np.asarray(alpha) * t * (1 - q) ** gamma * np.log(q))


def pearson(true, pred):
    return cosine(true - np.mean(true), pred - np.mean(pred))


def concordance(true, pred):
    covariance = np.mean((true - np.mean(true)) * (pred - np.mean(pred)))
    return 2 * covariance / (np.var(true) + np.var(pred) + (np.mean(true) - np.mean(pred)) ** 2 + EPSILON)


@dataclass(frozen=True)
class Figure:
    """A loss or metric: its class and function, the figure of a row (or number), and what it is drawn from."""

    cls: str
    row: Callable[..., float]
    targets: str
    outputs: str
    # the function, where it is public
    function: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    # whether the figure is of a number, so that the values keep the last axis
    elementwise: bool = False
    in_keras: bool = True
    # whether a row of one number has no figure
    wide: bool = False
    loss: bool = True
    metric: bool = True

    @property
    def shapes(self) -> str:
        return {"rows": "rows", "labels": "labels"}.get(self.targets, "wide values" if self.wide else "values")

    @property
    def separable(self) -> bool:
        """Whether each output may as well be a sample."""
        return self.targets in ("values", "bits") or self.row is percentage

    def values(self, true: Any, pred: Any) -> Any:
        """The figures of all samples; Keras's shape."""
        true, pred = np.asarray(true, float), np.asarray(pred, float)
        if self.targets == "labels":
            labels = true[..., 0] if true.ndim == pred.ndim else true
            figures = np.zeros(pred.shape[:-1])
            for place in np.ndindex(figures.shape):
                figures[place] = self.row(labels[place], pred[place], **self.options)
            if self.loss:
                return figures
            # accuracies have the shape of the labels, but that a last axis of length 1 goes in the one of the largest
            figures = figures.reshape(true.shape)
            return figures[..., 0] if self.row is label_largest and true.shape[1:] and true.shape[-1] == 1 else figures
        true, pred = with_last_axes(true, pred)
        lead = pred.shape if self.elementwise else pred.shape[:-1]
        figures = np.zeros(lead)
        for place in np.ndindex(lead):
            figures[place] = self.row(true[place], pred[place], **self.options)
        return figures


FIGURES = {
    "mse": Figure("MeanSquaredError", squared_error, "values", "values", "mean_squared_error"),
    "mae": Figure("MeanAbsoluteError", absolute_error, "values", "values", "mean_absolute_error"),
    "half_sse": Figure("HalfSSE", half_squares, "values", "values", "half_sse", in_keras=False),
    "bce": Figure("BinaryCrossentropy", bernoulli, "bits", "unit", "binary_crossentropy"),
    "bce smoothed logits": Figure(
        *("BinaryCrossentropy", bernoulli, "bits", "values", "binary_crossentropy"),
        {"from_logits": True, "label_smoothing": 0.2},
    ),
    "cce": Figure("CategoricalCrossentropy", cross_entropy, "rows", "unit", "categorical_crossentropy"),
    "cce smoothed logits": Figure(
        *("CategoricalCrossentropy", cross_entropy, "rows", "values", "categorical_crossentropy"),
        {"from_logits": True, "label_smoothing": 0.1},
    ),
    "scce": Figure(
        "SparseCategoricalCrossentropy", label_cross_entropy, "labels", "unit", "sparse_categorical_crossentropy"
    ),
    "scce logits": Figure(
        *("SparseCategoricalCrossentropy", label_cross_entropy, "labels", "values", "sparse_categorical_crossentropy"),
        {"from_logits": True},
    ),
    "rmse": Figure("RootMeanSquaredError", square, "values", "values", elementwise=True, loss=False),
    "binary accuracy": Figure(
        "BinaryAccuracy", right_side, "bits", "unit", "binary_accuracy", elementwise=True, loss=False
    ),
    "binary accuracy above 0.3": Figure(
        *("BinaryAccuracy", right_side, "bits", "unit", "binary_accuracy", {"threshold": 0.3}),
        elementwise=True,
        loss=False,
    ),
    "categorical accuracy": Figure("CategoricalAccuracy", largest, "rows", "unit", "categorical_accuracy", loss=False),
    "sparse accuracy": Figure(
        "SparseCategoricalAccuracy", label_largest, "labels", "unit", "sparse_categorical_accuracy", loss=False
    ),
    "top 2": Figure(
        *("TopKCategoricalAccuracy", among_largest, "rows", "unit", "top_k_categorical_accuracy", {"k": 2}), loss=False
    ),
    "sparse top 2": Figure(
        *("SparseTopKCategoricalAccuracy", label_among_largest, "labels", "unit", "sparse_top_k_categorical_accuracy"),
        {"k": 2},
        loss=False,
    ),
    "accuracy": Figure("Accuracy", equal, "bits", "bits", elementwise=True, loss=False),
    "mape": Figure("MeanAbsolutePercentageError", percentage, "unit", "values", "mean_absolute_percentage_error"),
    "msle": Figure(
        "MeanSquaredLogarithmicError", squared_logarithms, "values", "values", "mean_squared_logarithmic_error"
    ),
    "log cosh": Figure("LogCoshError", log_cosh, "values", "values", "log_cosh", loss=False),
    "log cosh loss": Figure("LogCosh", log_cosh, "values", "values", "log_cosh", metric=False),
    "huber": Figure("Huber", huber, "values", "values", "huber", metric=False),
    "huber 0.3": Figure("Huber", huber, "values", "values", "huber", {"delta": 0.3}, metric=False),
    "poisson": Figure("Poisson", poisson, "bits", "unit", "poisson"),
    "kl divergence": Figure("KLDivergence", divergence, "unit", "unit", "kl_divergence"),
    "hinge": Figure("Hinge", hinge, "bits", "values", "hinge"),
    "squared hinge": Figure("SquaredHinge", squared_hinge, "bits", "values", "squared_hinge"),
    "categorical hinge": Figure("CategoricalHinge", categorical_hinge, "rows", "values", "categorical_hinge"),
    "binary focal": Figure(
        "BinaryFocalCrossentropy", binary_focal, "bits", "unit", "binary_focal_crossentropy", metric=False
    ),
    "binary focal balanced": Figure(
        *("BinaryFocalCrossentropy", binary_focal, "bits", "values", "binary_focal_crossentropy"),
        {"apply_class_balancing": True, "alpha": 0.4, "gamma": 1.5, "from_logits": True, "label_smoothing": 0.2},
        metric=False,
    ),
    "categorical focal": Figure(
        *("CategoricalFocalCrossentropy", categorical_focal, "rows", "unit", "categorical_focal_crossentropy"),
        metric=False,
    ),
    "categorical focal by class": Figure(
        *("CategoricalFocalCrossentropy", categorical_focal, "rows", "values", "categorical_focal_crossentropy"),
        {"alpha": [0.2, 0.3, 0.5], "gamma": 1.5, "from_logits": True, "label_smoothing": 0.1},
        metric=False,
    ),
    "cosine loss": Figure("CosineSimilarity", minus_cosine, "unit", "values", "cosine_similarity", metric=False),
    "cosine": Figure("CosineSimilarity", cosine, "values", "values", loss=False),
    "pearson": Figure("PearsonCorrelation", pearson, "values", "values", "pearson_correlation", loss=False, wide=True),
    "concordance": Figure(
        *("ConcordanceCorrelation", concordance, "values", "values", "concordance_correlation"), loss=False, wide=True
    ),
}
LOSSES = [name for name, figure in FIGURES.items() if figure.loss]
METRICS = [name for name, figure in FIGURES.items() if figure.metric]


# --------------------------------------------------------------------------------------------------- shapes and weights


def with_last_axes(first: Any, second: Any) -> tuple[Any, Any]:
    """Where one array has a last axis of length 1 more than the other: vectors become columns, others lose the axis."""
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        return (first, second.reshape(-1, 1)) if second.ndim == 1 else (first.reshape(first.shape[:-1]), second)
    if second.ndim == first.ndim + 1 and second.shape[-1] == 1:
        return (first.reshape(-1, 1), second) if first.ndim == 1 else (first, second.reshape(second.shape[:-1]))
    return first, second


def repeated(weight: Any, shape: tuple[int, ...]) -> Any:
    """Weights along the first axes of ``shape``, repeated along axes where they have length 1; None if they are not."""
    if weight.ndim > len(shape) or any(w not in (1, n) for w, n in zip(weight.shape, shape, strict=False)):
        return None
    full = np.zeros(shape[: weight.ndim])
    for place in np.ndindex(full.shape):
        full[place] = weight[tuple(min(i, size - 1) for i, size in zip(place, weight.shape, strict=True))]
    return full


def tally(values: Any, weight: Any) -> tuple[float, float] | None:
    """(Sum, count) of a batch's samples for a metric; None where the weights do not fit."""
    if weight is None:
        return (float(values), 1) if values.ndim == 0 else (sum(float(np.mean(v)) for v in values), len(values))
    values, weight = with_last_axes(values, np.asarray(weight, float))
    if weight.ndim == 0:
        return float(np.mean(values) * weight), float(weight)
    full = repeated(weight, values.shape)
    if full is None:
        return None
    total = count = 0.0
    for sample, weights in zip(values, full, strict=True):
        means = [np.mean(sample[place]) for place in np.ndindex(weights.shape)]
        total += float(np.mean(np.multiply(means, weights.ravel())))
        count += float(np.mean(weights))
    return total, count


def running(batches: Any, figure: Figure) -> float | None:
    """A metric's result after (true, pred, weight) batches; None where one of them does not fit."""
    tallies = [tally(figure.values(true, pred), weight) for true, pred, weight in batches]
    if None in tallies:
        return None
    total, count = (sum(column) for column in zip(*tallies, strict=True))
    mean = total / count if count else 0.0
    return float(np.sqrt(mean)) if figure.cls == "RootMeanSquaredError" else mean


def weigh_alike(values: Any, weight: Any) -> bool:
    """Whether these weights of a loss mean the same to Keras and fastnn.

    Keras lines up the last axes of losses and weights, and repeats the losses along axes that only the weights have.
    """
    if weight is None:
        return True
    values, weight = with_last_axes(values, np.asarray(weight, float))
    return weight.ndim in (0, values.ndim) and repeated(weight, values.shape) is not None


REDUCTIONS = ("sum_over_batch_size", "mean", "sum", "mean_with_sample_weight", None, "none")


def reduced(figure: Figure, true: Any, pred: Any, weight: Any, reduction: str | None) -> Any:
    """A loss's value; None where the weights do not fit.

    Other than in Keras, n weights make n samples of arrays of one axis, and weights of fewer axes than the losses have
    lie along their first ones, to count for all the losses of a sample.
    """
    if figure.separable and true.ndim == pred.ndim == 1 and np.size(weight) == pred.size:
        true, pred, weight = true.reshape(-1, 1), pred.reshape(-1, 1), np.ravel(weight)
    values = figure.values(true, pred)
    divisor = values.size
    if weight is not None:
        values, weight = with_last_axes(values, np.asarray(weight, float))
        full = repeated(weight, values.shape)
        if full is None:
            return None
        full = full.reshape(full.shape + (1,) * (values.ndim - full.ndim))
        if reduction == "mean_with_sample_weight":
            by_sample = 0 < weight.ndim < values.ndim and weight.shape == values.shape[: weight.ndim]
            divisor = (np.zeros(values.shape) + full).sum() if by_sample else weight.sum()
        values = values * full
    if reduction in (None, "none"):
        return values
    if values.ndim == 0:
        return float(values)
    total = sum(float(value) for value in values.ravel())
    return total if reduction == "sum" else total / divisor if divisor else 0.0


# ---------------------------------------------------------------------------------------------------- cases

# (targets, outputs) by n samples, t steps and k outputs or classes
SHAPES = {
    "values": {
        "vectors": ("n", "n"),
        "vector and column": ("n", "n 1"),
        "column and vector": ("n 1", "n"),
        "columns": ("n 1", "n 1"),
        "rows": ("n k", "n k"),
        "sequences": ("n t k", "n t k"),
        "steps and sequences of one": ("n t", "n t 1"),
        "sequences of one": ("n t 1", "n t 1"),
    },
    "wide values": {"rows": ("n k", "n k"), "sequences": ("n t k", "n t k")},
    "rows": {"row": ("k", "k"), "rows": ("n k", "n k"), "sequences": ("n t k", "n t k")},
    "labels": {
        "label and row": ("1", "k"),
        "labels and rows": ("n", "n k"),
        "column and rows": ("n 1", "n k"),
        "steps and sequences": ("n t", "n t k"),
        "steps of one and sequences": ("n t 1", "n t k"),
    },
}
WEIGHTS = (*(None, "", "n", "1", "n 1", "1 1", "n k", "1 k", "n t", "1 t", "n t 1", "1 t 1", "n t k", "n n"),)
# numbers of samples of the batches, t, k: all different; and all alike, where a transposed reading would go unnoticed
SIZES = {"5 and 1": ((5, 1), 2, 3), "3 and 3": ((3, 3), 3, 3)}


def shape(text: str, n: int, t: int, k: int) -> tuple[int, ...]:
    return tuple({"n": n, "t": t, "k": k, "1": 1}[letter] for letter in text.split())


def drawn(kind: str, size: tuple[int, ...], classes: int, rng: Any) -> Any:
    if kind == "bits":
        return rng.integers(0, 2, size).astype(float)
    if kind == "labels":
        return rng.integers(0, classes, size)
    if kind == "rows":
        return np.eye(classes)[rng.integers(0, classes, size[:-1])]
    # far enough apart for float32, and from thresholds
    step = rng.permutation(int(np.prod(size))).reshape(size) + 0.25
    unit = step / max(step.size, 1)
    return unit if kind == "unit" else 4 * unit - 2


def batches(name: str, shapes: str, weights: str | None, sizes: str) -> list[tuple[Any, Any, Any]]:
    """(true, pred, weight) of each batch of a case, the same in every call."""
    figure = FIGURES[name]
    rng = np.random.default_rng(sum(map(ord, f"{name}{shapes}{weights}{sizes}")))
    counts, t, k = SIZES[sizes]
    drawn_batches = []
    for n in counts:
        of_true, of_pred = (shape(text, n, t, k) for text in SHAPES[figure.shapes][shapes])
        pred = drawn(figure.outputs, of_pred, k, rng)
        true = drawn(figure.targets, of_true, k, rng)
        if figure.targets == "values":
            true = rng.permutation(true.ravel()).reshape(of_true) * 0.5
        weight = None if weights is None else rng.integers(1, 5, shape(weights, n, t, k)) / 2
        drawn_batches.append((true, pred, float(weight) if weights == "" else weight))
    return drawn_batches


def cases(names: Iterable[str]) -> list[tuple[str, str]]:
    """(figure, shapes) of all cases."""
    return [(name, shapes) for name in names for shapes in SHAPES[FIGURES[name].shapes]]
