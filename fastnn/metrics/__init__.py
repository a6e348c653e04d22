"""Metrics, under Keras's names: functions that give figures of samples, and classes that keep a figure over batches.

``compile(metrics=[...])`` takes a name, a function ``f(y_true, y_pred) -> figures``, a class or an object. "accuracy"
("acc") is the binary, categorical or sparse categorical one, by the shapes of targets and outputs.

Means average as Keras's do: over the figures of each sample, then over samples, so that all samples count alike, or by
their weights. Samples lie along the first axis of the figures. The functions of losses take the mean of the last axis,
so arrays of one axis are one sample to them, and a batch of such counts once (reshape(-1, 1) makes each number a
sample); Accuracy, BinaryAccuracy and RootMeanSquaredError keep all axes and count each number.

Their weights lie along the first axes of the figures: (n,) or (n, 1), one a sample; (n, t) or (n, t, 1), one a step;
for Accuracy, BinaryAccuracy and RootMeanSquaredError (n, k), one an output; along axes of length 1 they are repeated. A
single number weighs the batch as a whole, which then counts as one sample.

Counts, shares and areas (``metrics.confusion``), scores (``metrics.scores``) and overlaps (``metrics.overlap``) are
made of sums over all batches, kept in float64. A result of several numbers, as for several thresholds, is an array, in
logs and ``History.history`` too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastnn import absent, configurable
from fastnn.configurable import aliases, find
from fastnn.losses import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    half_sse,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    poisson,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from fastnn.metrics.accuracies import (
    Accuracy,
    BinaryAccuracy,
    CategoricalAccuracy,
    ShapedAccuracy,
    SparseCategoricalAccuracy,
    SparseTopKCategoricalAccuracy,
    TopKCategoricalAccuracy,
    binary_accuracy,
    categorical_accuracy,
    sparse_categorical_accuracy,
    sparse_top_k_categorical_accuracy,
    top_k_categorical_accuracy,
)
from fastnn.metrics.base import Mean, MeanMetricWrapper, Metric, SampleFunction, Sum
from fastnn.metrics.confusion import (
    AUC,
    FalseNegatives,
    FalsePositives,
    Precision,
    PrecisionAtRecall,
    Recall,
    RecallAtPrecision,
    SensitivityAtSpecificity,
    SpecificityAtSensitivity,
    TrueNegatives,
    TruePositives,
)
from fastnn.metrics.errors import (
    BinaryCrossentropy,
    CategoricalCrossentropy,
    CategoricalHinge,
    ConcordanceCorrelation,
    CosineSimilarity,
    HalfSSE,
    Hinge,
    KLDivergence,
    LogCoshError,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    PearsonCorrelation,
    Poisson,
    RootMeanSquaredError,
    SparseCategoricalCrossentropy,
    SquaredHinge,
    concordance_correlation,
    pearson_correlation,
)
from fastnn.metrics.overlap import BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU
from fastnn.metrics.scores import F1Score, FBetaScore, R2Score

# The functions that stand for classes when they are given to compile.
_BY_FUNCTION: dict[SampleFunction, type[Metric]] = {
    binary_accuracy: BinaryAccuracy,
    categorical_accuracy: CategoricalAccuracy,
    sparse_categorical_accuracy: SparseCategoricalAccuracy,
    top_k_categorical_accuracy: TopKCategoricalAccuracy,
    sparse_top_k_categorical_accuracy: SparseTopKCategoricalAccuracy,
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    half_sse: HalfSSE,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    log_cosh: LogCoshError,
    poisson: Poisson,
    kl_divergence: KLDivergence,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
    pearson_correlation: PearsonCorrelation,
    concordance_correlation: ConcordanceCorrelation,
    binary_crossentropy: BinaryCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
}
_CLASSES: tuple[type[Metric], ...] = (
    *_BY_FUNCTION.values(),
    *(RootMeanSquaredError, CosineSimilarity, R2Score, F1Score, FBetaScore, AUC, Precision, Recall),
    *(TruePositives, TrueNegatives, FalsePositives, FalseNegatives, PrecisionAtRecall, RecallAtPrecision),
    *(SensitivityAtSpecificity, SpecificityAtSensitivity, BinaryIoU, IoU, MeanIoU, OneHotIoU, OneHotMeanIoU),
)

NAMES: dict[str, type[Metric]] = aliases(
    _CLASSES,
    accuracy=ShapedAccuracy,
    Accuracy=ShapedAccuracy,
    acc=ShapedAccuracy,
    mse=MeanSquaredError,
    MSE=MeanSquaredError,
    mae=MeanAbsoluteError,
    MAE=MeanAbsoluteError,
    bce=BinaryCrossentropy,
    BCE=BinaryCrossentropy,
    mape=MeanAbsolutePercentageError,
    MAPE=MeanAbsolutePercentageError,
    msle=MeanSquaredLogarithmicError,
    MSLE=MeanSquaredLogarithmicError,
)
# The names in configs: "accuracy" is written as the class that it makes; some classes are for direct use alone.
CONFIG_NAMES: dict[str, type[Metric]] = {
    **NAMES,
    **{cls.__name__: cls for cls in (ShapedAccuracy, Accuracy, Mean, Sum)},
}


def get(identifier: Any, argument: str = "metrics") -> Metric:
    """The metric that ``identifier`` means; a string, such as "mse" or "AUC", becomes the metric's name."""
    if callable(identifier) and not isinstance(identifier, (type, Metric)):
        cls = _BY_FUNCTION.get(identifier)
        return MeanMetricWrapper(identifier) if cls is None else cls()
    metric = find(argument, identifier, Metric, CONFIG_NAMES if isinstance(identifier, Mapping) else NAMES)
    if isinstance(identifier, str):
        metric.name = identifier
    return metric


def serialize(metric: Metric) -> dict[str, Any] | None:
    """The metric as JSON can hold it; ValueError for one of the user's own."""
    return configurable.serialize(metric, CONFIG_NAMES)


def deserialize(config: Mapping[str, Any]) -> Metric:
    """The metric that ``serialize`` wrote as ``config``."""
    return configurable.deserialize("config", config, CONFIG_NAMES)


__all__ = [
    "AUC",
    "Accuracy",
    "BinaryAccuracy",
    "BinaryCrossentropy",
    "BinaryIoU",
    "CategoricalAccuracy",
    "CategoricalCrossentropy",
    "CategoricalHinge",
    "ConcordanceCorrelation",
    "CosineSimilarity",
    "F1Score",
    "FBetaScore",
    "FalseNegatives",
    "FalsePositives",
    "HalfSSE",
    "Hinge",
    "IoU",
    "KLDivergence",
    "LogCoshError",
    "Mean",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanIoU",
    "MeanMetricWrapper",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "Metric",
    "OneHotIoU",
    "OneHotMeanIoU",
    "PearsonCorrelation",
    "Poisson",
    "Precision",
    "PrecisionAtRecall",
    "R2Score",
    "Recall",
    "RecallAtPrecision",
    "RootMeanSquaredError",
    "SensitivityAtSpecificity",
    "SparseCategoricalAccuracy",
    "SparseCategoricalCrossentropy",
    "SparseTopKCategoricalAccuracy",
    "SpecificityAtSensitivity",
    "SquaredHinge",
    "Sum",
    "TopKCategoricalAccuracy",
    "TrueNegatives",
    "TruePositives",
    "binary_accuracy",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_accuracy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "concordance_correlation",
    "deserialize",
    "get",
    "half_sse",
    "hinge",
    "huber",
    "kl_divergence",
    "log_cosh",
    "mean_absolute_error",
    "mean_absolute_percentage_error",
    "mean_squared_error",
    "mean_squared_logarithmic_error",
    "pearson_correlation",
    "poisson",
    "serialize",
    "sparse_categorical_accuracy",
    "sparse_categorical_crossentropy",
    "sparse_top_k_categorical_accuracy",
    "squared_hinge",
    "top_k_categorical_accuracy",
]
absent.explain(__name__)
