"""Small helpers, under Keras's names."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from fastnn import absent, checks
from fastnn.configurable import custom_object_scope, register_keras_serializable
from fastnn.engine import seeds
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array


def set_random_seed(seed: int) -> None:
    """Seed the library's generator (initial weights, shuffling, dropout), and as Keras does Python's and NumPy's."""
    number = checks.integer("seed", seed, 0)
    if number >= 2**32:
        raise ValueError(f"seed: got {number}, wants an integer below 2^32")
    seeds.reset(number)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002 - user code may draw from the global generator


def to_categorical(x: Any, num_classes: int | None = None) -> Array:
    """Class indices as one-hot rows of float64: shape (...) or (..., 1) becomes (..., num_classes).

    Without ``num_classes`` there are as many as the largest index asks for. ValueError for indices outside
    [0, num_classes) (Keras counts negative ones from the end).
    """
    labels = numeric_array("x", x)
    if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
        raise ValueError(f"x: got {labels[labels != np.floor(labels)][0]}, wants class indices (whole numbers)")
    labels = labels.astype(np.int64)
    if labels.ndim > 1 and labels.shape[-1] == 1:
        labels = labels[..., 0]
    if num_classes is None:
        if labels.size == 0:
            raise ValueError("num_classes: got None for an empty x, wants the number of classes")
        num_classes = int(labels.max()) + 1
    classes = checks.positive_int("num_classes", num_classes)
    checks.class_indices("x", labels, classes)
    rows = np.zeros((*labels.shape, classes))
    np.put_along_axis(rows, labels[..., np.newaxis], 1.0, axis=-1)
    return rows


__all__ = ["custom_object_scope", "register_keras_serializable", "set_random_seed", "to_categorical"]
absent.explain(__name__)
