"""Overlap of classes: of the places of a class in targets or outputs, the share where both have it.

Places are counted by both classes over all batches, in float64. Those whose target or output is no class, and those of
``ignore_class``, do not count. Weights lie along the first axes of the places, one a sample or one a place, or are a
single number; Keras rounds them down to integers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.configurable import snake_case
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.metrics.base import Metric
from fastnn.metrics.confusion import quotient, spread
from fastnn.samples import require_last, same_shape


class IoU(Metric):
    """Intersection over union of the classes ``target_class_ids``, the mean of those that occur.

    Targets and outputs are class indices, or where ``sparse_y_true`` or ``sparse_y_pred`` is False rows, of which the
    largest entry says the class; ``axis`` is -1.
    """

    direction = "up"
    _ARGUMENTS: tuple[str, ...] = (
        *("num_classes", "target_class_ids", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis"),
    )

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Iterable[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        super().__init__(dtype, name or snake_case(type(self).__name__))
        require_last(axis)
        self.axis = axis
        self.num_classes = checks.positive_int("num_classes", num_classes)
        self.target_class_ids = [
            checks.integer(f"target_class_ids[{place}]", each, 0, self.num_classes - 1)
            for place, each in enumerate(target_class_ids)
        ]
        self.ignore_class = None if ignore_class is None else checks.integer("ignore_class", ignore_class)
        self.sparse_y_true = checks.instance("sparse_y_true", sparse_y_true, bool, "True or False")
        self.sparse_y_pred = checks.instance("sparse_y_pred", sparse_y_pred, bool, "True or False")
        self.integer_targets = self.sparse_y_true
        self.reset_state()

    def reset_state(self) -> None:
        """Forget all batches."""
        self._places = np.zeros((self.num_classes, self.num_classes))

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count one batch, by its weights if it has any; an update that is refused changes nothing."""
        true, pred = self._classes(y_true, y_pred)
        weight = None if sample_weight is None else spread(sample_weight, true.shape)
        kept = (true >= 0) & (true < self.num_classes) & (pred >= 0) & (pred < self.num_classes)
        if self.ignore_class is not None:
            kept &= true != self.ignore_class
        cells = (true * self.num_classes + pred)[kept]
        sums = np.bincount(cells, None if weight is None else weight[kept], self._places.size)
        self._places = self._places + sums.reshape(self._places.shape)

    def _classes(self, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
        """The classes of targets and outputs."""
        true, pred = _classes("y_true", y_true, self.sparse_y_true), _classes("y_pred", y_pred, self.sparse_y_pred)
        return same_shape(true, pred)

    def result(self) -> float | Array:
        """The overlap since the last reset; 0 where none of the classes occurs."""
        both = np.diag(self._places)
        either = self._places.sum(axis=0) + self._places.sum(axis=1) - both
        either, both = either[self.target_class_ids], both[self.target_class_ids]
        return self._rounded(quotient(quotient(both, either).sum(), np.count_nonzero(either)))

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {**{name: getattr(self, name) for name in self._ARGUMENTS}, **super().get_config()}


def _classes(name: str, y: Any, sparse: bool) -> Array:
    """Class indices, or the places of the largest entries of rows; ValueError for indices that are no whole numbers."""
    array = numeric_array(name, y)
    if not sparse:
        return np.asarray(array.argmax(axis=-1))
    if array.dtype.kind == "f" and array.size and not (whole := array == np.floor(array)).all():
        raise ValueError(f"{name}: got {array[~whole][0]}, wants class indices (whole numbers); sparse_{name} is True")
    return array.astype(np.int64)


class MeanIoU(IoU):
    """Intersection over union, the mean of all classes that occur; arguments as those of IoU."""

    _ARGUMENTS: tuple[str, ...] = ("num_classes", "ignore_class", "sparse_y_true", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_true: bool = True,
        sparse_y_pred: bool = True,
        axis: int = -1,
    ) -> None:
        ids = range(checks.positive_int("num_classes", num_classes))
        super().__init__(num_classes, ids, name, dtype, ignore_class, sparse_y_true, sparse_y_pred, axis)


class OneHotIoU(IoU):
    """Intersection over union for targets as rows, and outputs too unless ``sparse_y_pred``; else as IoU."""

    _ARGUMENTS = ("num_classes", "target_class_ids", "ignore_class", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        target_class_ids: Iterable[int],
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, target_class_ids, name, dtype, ignore_class, False, sparse_y_pred, axis)


class OneHotMeanIoU(MeanIoU):
    """Mean intersection over union for targets as rows, and outputs too unless ``sparse_y_pred``; else as MeanIoU."""

    _ARGUMENTS = ("num_classes", "ignore_class", "sparse_y_pred", "axis")

    def __init__(
        self,
        num_classes: int,
        name: str | None = None,
        dtype: Any = None,
        ignore_class: int | None = None,
        sparse_y_pred: bool = False,
        axis: int = -1,
    ) -> None:
        super().__init__(num_classes, name, dtype, ignore_class, False, sparse_y_pred, axis)


class BinaryIoU(IoU):
    """Intersection over union of outputs of at least ``threshold``, the class 1, and of others, the class 0."""

    _ARGUMENTS = ("target_class_ids", "threshold")

    def __init__(
        self,
        target_class_ids: Iterable[int] = (0, 1),
        threshold: float = 0.5,
        name: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.threshold = checks.real("threshold", threshold)
        super().__init__(2, target_class_ids, name, dtype)
        self.integer_targets = None

    def _classes(self, y_true: Any, y_pred: Any) -> tuple[Array, Array]:
        pred = numeric_array("y_pred", y_pred)
        return same_shape(_classes("y_true", y_true, True), (pred >= self.threshold).astype(np.int64))
