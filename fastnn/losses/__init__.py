"""Losses, under Keras's names.

The functions give one loss a sample: what they say of the last axis, so (n, k) gives (n,), (n, t, k) gives (n, t), and
arrays of one axis are one sample. The classes reduce that to the loss of a batch and know its derivative, which is what
training needs. ``compile`` takes a name, a function of this module, a class or an object. A function of one's own,
``f(y_true, y_pred)``, is made of ``fastnn.ops`` and returns a number, or one a sample, whose mean is meant: its
derivative is found. Or it returns ``(loss, gradient)``, the gradient of the shape of ``y_pred``.

Where one array lacks a last axis of length 1 that the other one has, the two are brought together as in Keras: (n,)
gets it, an array of more axes loses it. Sizes that still differ are an error (Keras broadcasts).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastnn import absent, configurable
from fastnn.configurable import aliases, find
from fastnn.losses.base import FunctionLoss, Loss
from fastnn.losses.classification import (
    BinaryCrossentropy,
    BinaryFocalCrossentropy,
    CategoricalCrossentropy,
    CategoricalFocalCrossentropy,
    CategoricalHinge,
    Hinge,
    KLDivergence,
    MulticlassHinge,
    NegativeLogLikelihood,
    SparseCategoricalCrossentropy,
    SquaredHinge,
)
from fastnn.losses.functions import (
    binary_crossentropy,
    binary_focal_crossentropy,
    categorical_crossentropy,
    categorical_focal_crossentropy,
    categorical_hinge,
    cosine_similarity,
    half_sse,
    hinge,
    huber,
    kl_divergence,
    log_cosh,
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_squared_error,
    mean_squared_logarithmic_error,
    multiclass_hinge,
    negative_log_likelihood,
    poisson,
    quadratic_cost,
    sparse_categorical_crossentropy,
    squared_hinge,
)
from fastnn.losses.overlap import Dice, Tversky, dice, tversky
from fastnn.losses.regression import (
    CosineSimilarity,
    HalfSSE,
    Huber,
    LogCosh,
    MeanAbsoluteError,
    MeanAbsolutePercentageError,
    MeanSquaredError,
    MeanSquaredLogarithmicError,
    Poisson,
    QuadraticCost,
)

# The functions that stand for classes when they are given to compile.
_BY_FUNCTION: dict[Callable[..., Any], type[Loss]] = {
    mean_squared_error: MeanSquaredError,
    mean_absolute_error: MeanAbsoluteError,
    mean_absolute_percentage_error: MeanAbsolutePercentageError,
    mean_squared_logarithmic_error: MeanSquaredLogarithmicError,
    half_sse: HalfSSE,
    quadratic_cost: QuadraticCost,
    huber: Huber,
    log_cosh: LogCosh,
    poisson: Poisson,
    cosine_similarity: CosineSimilarity,
    binary_crossentropy: BinaryCrossentropy,
    binary_focal_crossentropy: BinaryFocalCrossentropy,
    categorical_crossentropy: CategoricalCrossentropy,
    categorical_focal_crossentropy: CategoricalFocalCrossentropy,
    sparse_categorical_crossentropy: SparseCategoricalCrossentropy,
    hinge: Hinge,
    squared_hinge: SquaredHinge,
    categorical_hinge: CategoricalHinge,
    multiclass_hinge: MulticlassHinge,
    kl_divergence: KLDivergence,
    dice: Dice,
    tversky: Tversky,
    negative_log_likelihood: NegativeLogLikelihood,
}

NAMES = aliases(
    _BY_FUNCTION.values(),
    mse=MeanSquaredError,
    MSE=MeanSquaredError,
    mae=MeanAbsoluteError,
    MAE=MeanAbsoluteError,
    mape=MeanAbsolutePercentageError,
    MAPE=MeanAbsolutePercentageError,
    msle=MeanSquaredLogarithmicError,
    MSLE=MeanSquaredLogarithmicError,
    bce=BinaryCrossentropy,
    BCE=BinaryCrossentropy,
    kld=KLDivergence,
    KLD=KLDivergence,
    kl_divergence=KLDivergence,
    kullback_leibler_divergence=KLDivergence,
    logcosh=LogCosh,
    nll=NegativeLogLikelihood,
)


def get(identifier: Any, argument: str = "loss") -> Loss:
    """The loss that ``identifier`` means: a name, a function, a class, an object or a config."""
    if callable(identifier) and not isinstance(identifier, (type, Loss)):
        cls = _BY_FUNCTION.get(identifier)
        return FunctionLoss(identifier) if cls is None else cls()
    return find(argument, identifier, Loss, NAMES)


def serialize(loss: Loss) -> dict[str, Any] | None:
    """A loss as JSON can hold it, for ``deserialize``; ValueError for a function of one's own."""
    return configurable.serialize(get(loss), NAMES)


def deserialize(config: Mapping[str, Any] | str) -> Loss:
    """The loss that ``serialize`` wrote as ``config``, or that a name means."""
    return get(config, "config")


__all__ = [
    "BinaryCrossentropy",
    "BinaryFocalCrossentropy",
    "CategoricalCrossentropy",
    "CategoricalFocalCrossentropy",
    "CategoricalHinge",
    "CosineSimilarity",
    "Dice",
    "HalfSSE",
    "Hinge",
    "Huber",
    "KLDivergence",
    "LogCosh",
    "Loss",
    "MeanAbsoluteError",
    "MeanAbsolutePercentageError",
    "MeanSquaredError",
    "MeanSquaredLogarithmicError",
    "MulticlassHinge",
    "NegativeLogLikelihood",
    "Poisson",
    "QuadraticCost",
    "SparseCategoricalCrossentropy",
    "SquaredHinge",
    "Tversky",
    "binary_crossentropy",
    "binary_focal_crossentropy",
    "categorical_crossentropy",
    "categorical_focal_crossentropy",
    "categorical_hinge",
    "cosine_similarity",
    "deserialize",
    "dice",
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
    "multiclass_hinge",
    "negative_log_likelihood",
    "poisson",
    "quadratic_cost",
    "serialize",
    "sparse_categorical_crossentropy",
    "squared_hinge",
    "tversky",
]
absent.explain(__name__)
