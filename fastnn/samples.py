"""How targets, outputs and weights of samples come together: Keras's rules for shapes, shared by losses and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine.data import along, check_finite, numeric_array
from fastnn.engine.protocols import Array, Shape


def same_rank(first: Array, second: Array) -> tuple[Array, Array]:
    """Both with as many axes, if one lacks a last axis of length 1: an array of one axis gets it, others lose it."""
    if first.ndim == second.ndim + 1 and first.shape[-1] == 1:
        return (first, second[:, np.newaxis]) if second.ndim == 1 else (first[..., 0], second)
    if second.ndim == first.ndim + 1 and second.shape[-1] == 1:
        second, first = same_rank(second, first)
    return first, second


def same_shape(true: Array, pred: Array, hint: str = "") -> tuple[Array, Array]:
    """Both with as many axes; ValueError where sizes differ, which Keras would broadcast. ``hint`` ends the message."""
    given = true.shape
    true, pred = same_rank(true, pred)
    if true.shape != pred.shape:
        raise ValueError(f"y_true: got shape {given}, wants {pred.shape}, the shape of y_pred{hint}")
    return true, pred


def without_last(y: Array, axes: int) -> Array:
    """Class indices for outputs of so many axes: without the last axis where that is of length 1 and too many."""
    return y[..., 0] if y.ndim == axes and y.shape[-1] == 1 else y


def rows_of_labels(true: Array, pred: Array) -> Array:
    """Class indices, one a row of ``pred``; ValueError for other shapes."""
    labels = without_last(true, pred.ndim)
    if labels.shape != pred.shape[:-1]:
        raise ValueError(f"y_true: got shape {true.shape}, wants {pred.shape[:-1]}, one class index a row of y_pred")
    return labels


def class_labels(name: str, y: Array, shape: Shape, wanted: str | None = None) -> Array:
    """Class indices for outputs of ``shape``, as int64 of all its axes but the last.

    ValueError, which may say ``wanted`` for the shape, unless whole and in [0, classes).
    """
    labels, classes = without_last(y, len(shape)), shape[-1]
    if labels.shape != shape[:-1]:
        hint = "; for one-hot rows use the loss 'categorical_crossentropy'" if y.shape == shape else ""
        raise ValueError(f"{name}: got shape {y.shape}, wants {wanted or shape[:-1]}: one class index a sample{hint}")
    if labels.dtype.kind == "f" and labels.size and not (whole := labels == np.floor(labels)).all():
        raise ValueError(f"{name}: got {labels[~whole][0]}, wants class indices (whole numbers) in [0, {classes})")
    checks.class_indices(name, labels, classes)
    return labels.astype(np.int64, copy=False)


def weights_of(sample_weight: Any) -> Array:
    """Weights as float64, a single number as an array without axes; ValueError unless all are finite."""
    if np.isscalar(sample_weight) or getattr(sample_weight, "ndim", None) == 0:
        return np.asarray(checks.real("sample_weight", sample_weight))
    given = numeric_array("sample_weight", sample_weight)
    check_finite("sample_weight", given, np.dtype(np.float64))
    return given.astype(np.float64, copy=False)


def weighed(values: Array, sample_weight: Array) -> tuple[Array, Array]:
    """``values`` and their weights: a single number, or an array along the first axes of ``values``.

    A last axis of length 1 is added or dropped as ``same_rank`` does; along axes of length 1 weights are repeated.
    ValueError for any other shape.
    """
    values, weight = same_rank(values, sample_weight)
    lead = values.shape[: weight.ndim]
    if weight.ndim > values.ndim or any(size not in (1, n) for size, n in zip(weight.shape, lead, strict=True)):
        shapes = [values.shape[:axes] for axes in range(1, values.ndim + 1)]
        hint = "" if shapes else ": arrays of one axis are one sample (reshape(-1, 1) makes a sample of each number)"
        wants = " or ".join(["a single number", *map(str, shapes)])
        raise ValueError(f"sample_weight: got shape {sample_weight.shape}, wants {wants}{hint}")
    return values, weight


def total_weight(weight: Array, shape: Shape) -> float:
    """The sum of the weights as they were given, which is Keras's; those of samples count for each of their losses."""
    if 0 < weight.ndim < len(shape) and weight.shape == shape[: weight.ndim]:
        weight = np.broadcast_to(along(weight, shape), shape)
    return float(weight.sum(dtype=np.float64))


def require_last(axis: Any) -> None:
    """Raise unless ``axis`` is -1, the only one that losses work along."""
    if checks.integer("axis", axis) != -1:
        raise ValueError(f"axis: got {axis}, wants -1, the last one (np.moveaxis brings another one there)")


def require_no_ignored(ignore_class: Any) -> None:
    """Raise unless ``ignore_class`` is None; a weight of 0 says the same."""
    if ignore_class is not None:
        raise ValueError(
            f"ignore_class: got {ignore_class!r}, wants None: give what is to be ignored any class and the "
            "sample_weight 0"
        )
