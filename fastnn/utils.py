"""Small helpers, under Keras's names."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import absent, checks
from fastnn.configurable import custom_object_scope, register_keras_serializable, undefined
from fastnn.diagrams import plot_model
from fastnn.engine import seeds
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array
from fastnn.folders import (
    array_to_img,
    image_dataset_from_directory,
    img_to_array,
    load_img,
    save_img,
    text_dataset_from_directory,
)
from fastnn.layers import base


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


def pad_sequences(
    sequences: Any,
    maxlen: int | None = None,
    dtype: Any = "int32",
    padding: str = "pre",
    truncating: str = "pre",
    value: Any = 0.0,
) -> Array:
    """Sequences (lists, tuples, arrays) of any lengths as an array (n, maxlen, ...), shorter ones filled by ``value``.

    Without ``maxlen`` it is the length of the longest one. ``padding`` says where the filling goes, "pre" before or
    "post" behind the sequence, ``truncating`` where what is too long loses entries. Entries may be arrays themselves,
    all of one shape; ``value`` may be one that fits them. ValueError for a dtype that cannot hold ``value`` and for
    entries of different shapes.
    """
    rows = _rows("sequences", sequences)
    checks.one_of("padding", padding, _ENDS)
    checks.one_of("truncating", truncating, _ENDS)
    longest = max(map(len, rows), default=0)
    length = longest if maxlen is None else checks.integer("maxlen", maxlen, 0)
    shape = next((np.shape(row)[1:] for row in rows if len(row)), ())
    table = np.full((len(rows), length, *shape), value, _dtype_for("dtype", dtype, value))
    for index, row in enumerate(rows):
        entries = np.asarray(row)
        if not len(entries) or not length:
            continue
        if entries.shape[1:] != shape:
            raise ValueError(f"sequences[{index}]: got entries of shape {entries.shape[1:]}, wants {shape}, as before")
        kept = entries[-length:] if truncating == "pre" else entries[:length]
        place = slice(length - len(kept), None) if padding == "pre" else slice(len(kept))
        table[index, place] = kept
    return table


class PyDataset:
    """The base of data of the user's own: ``len`` tells how many batches there are, ``[i]`` makes one.

    ``on_epoch_end()`` is called after each epoch. The arguments are Keras's and change nothing: one process asks.
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False, max_queue_size: int = 10) -> None:
        self.workers, self.use_multiprocessing, self.max_queue_size = workers, use_multiprocessing, max_queue_size

    def __len__(self) -> int:
        raise undefined(self, "__len__() -> the number of batches")

    def __getitem__(self, index: int) -> Any:
        """A batch: (x, y) or (x, y, sample_weight)."""
        raise undefined(self, "__getitem__(index) -> (x, y)")

    def on_epoch_end(self) -> None:
        """Shuffle, say."""


def clear_session() -> None:
    """Let default names of layers begin anew; nothing else is kept between models."""
    base.forget_names()


class TimeSeriesWindows:
    """Batches of windows of a series, and of their targets where there are such: ``fit`` takes it as data.

    ``len`` tells how many batches there are, ``[i]`` makes one: inputs (n, sequence_length, ...), or (inputs, targets).
    """

    def __init__(self, data: Array, targets: Array | None, starts: Array, steps: Array, batch_size: int) -> None:
        self._data, self._targets = data, targets
        self._starts, self._steps, self.batch_size = starts, steps, batch_size

    def __len__(self) -> int:
        return math.ceil(len(self._starts) / self.batch_size)

    def __getitem__(self, index: int) -> Any:
        """The batch of this number, the last one counted by -1."""
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(f"index: got {index}, wants one of {len(self)} batches")
        starts = self._starts[place * self.batch_size : (place + 1) * self.batch_size]
        windows = self._data[starts[:, np.newaxis] + self._steps]
        return windows if self._targets is None else (windows, self._targets[starts])


def timeseries_dataset_from_array(
    data: Any,
    targets: Any,
    sequence_length: int,
    sequence_stride: int = 1,
    sampling_rate: int = 1,
    batch_size: int = 128,
    shuffle: bool = False,
    seed: int | None = None,
    start_index: int | None = None,
    end_index: int | None = None,
) -> TimeSeriesWindows:
    """Windows of ``sequence_length`` rows of a series, each ``sampling_rate`` behind the one before, in batches.

    Windows begin ``sequence_stride`` rows apart, all within rows ``start_index`` to ``end_index``, which is left out.
    ``targets[i]`` is that of the window that begins with row i; None where there are none. ``shuffle`` changes the
    order once, by ``seed`` or the library's generator. ValueError where no window fits.
    """
    series = numeric_array("data", data)
    length, rows = checks.positive_int("sequence_length", sequence_length), len(series)
    stride = checks.integer("sequence_stride", sequence_stride, 1, max(1, rows - 1))
    rate = checks.integer("sampling_rate", sampling_rate, 1, max(1, rows - 1))
    first = 0 if start_index is None else checks.integer("start_index", start_index, 0, rows - 1)
    last = rows if end_index is None else checks.integer("end_index", end_index, first + 1, rows)
    labels = None if targets is None else numeric_array("targets", targets)[first:last]
    windows = last - first - (length - 1) * rate
    if labels is not None:
        windows = min(windows, len(labels))
    if windows < 1:
        got = f"{length} rows, {rate} apart, of {last - first}"
        raise ValueError(f"sequence_length: got {got}, wants a window that fits, and targets")
    starts = np.arange(0, windows, stride)
    if shuffle:
        np.random.default_rng(seeds.draw_seed() if seed is None else seed).shuffle(starts)
    steps = np.arange(length) * rate
    return TimeSeriesWindows(series[first:last], labels, starts, steps, checks.positive_int("batch_size", batch_size))


def normalize(x: Any, axis: int = -1, order: int = 2) -> Array:
    """x over its norm of an order along an axis; what has a norm of 0 stays as it is."""
    array = numeric_array("x", x)
    norm = np.linalg.norm(array, order, checks.integer("axis", axis, -array.ndim, array.ndim - 1), keepdims=True)
    divided: Array = array / np.where(norm == 0, 1, norm)
    return divided


# Ends of a sequence.
_ENDS = ("pre", "post")


def _rows(name: str, sequences: Any) -> Sequence[Any]:
    """``sequences``, each of which has a length."""
    if isinstance(sequences, (str, bytes, dict)) or not hasattr(sequences, "__len__"):
        raise TypeError(f"{name}: got {checks.describe(sequences)}, wants a list of sequences")
    for index, row in enumerate(sequences):
        if isinstance(row, (str, bytes, dict)) or not hasattr(row, "__len__"):
            raise TypeError(f"{name}[{index}]: got {checks.describe(row)}, wants a list or an array")
    rows: Sequence[Any] = sequences
    return rows


def _dtype_for(name: str, dtype: Any, value: Any) -> np.dtype[Any]:
    """``dtype``, of numbers, or of strings or objects where the filling is one."""
    try:
        kind: np.dtype[Any] = np.dtype(dtype)
    except TypeError:
        raise TypeError(f"{name}: got {checks.describe(dtype)}, wants a dtype such as 'int32'") from None
    if isinstance(value, str) and kind.kind not in "OU":
        raise ValueError(f"value: got {value!r}, wants a number for the dtype {kind}, or dtype=object")
    return kind


__all__ = [
    "PyDataset",
    "array_to_img",
    "clear_session",
    "custom_object_scope",
    "image_dataset_from_directory",
    "img_to_array",
    "load_img",
    "normalize",
    "pad_sequences",
    "plot_model",
    "register_keras_serializable",
    "save_img",
    "set_random_seed",
    "text_dataset_from_directory",
    "timeseries_dataset_from_array",
    "to_categorical",
]
absent.explain(__name__)
