"""Numbers and rows by their places: taken, ordered, moved, cut out and put together, under Keras's names.

They are part of ``fastnn.ops``. What is taken has a gradient: it goes back to where it was taken from. Row numbers are
integers, in lists or arrays; negative ones count from the end, but for those of a program, which nobody sees.
"""

from __future__ import annotations

import builtins  # slice of this module is Keras's
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import backends, checks
from fastnn.discrete import argsort
from fastnn.numerics import OPS, axis_of, concatenate, expand_dims, moveaxis, one_hot, operand, split, sum  # noqa: A004
from fastnn.numerics import max as largest_of
from fastnn.tape import Followed, constant, kept, plain

Array = Any


def take(x: Any, indices: Any, axis: int | None = None) -> Array:
    """Parts of x along an axis, by their numbers; of all numbers in one dimension where there is no axis.

    An array of numbers takes the axis's place with its own axes, a single one leaves it out. IndexError for what is not
    there; NaN on a device.
    """
    given = _array("x", x)
    given = given.reshape(-1) if axis is None else given
    at = axis_of("axis", axis or 0, given.ndim)
    if isinstance(indices, int):
        place = checks.integer("indices", indices, -given.shape[at], given.shape[at] - 1)
        return given[(builtins.slice(None),) * at + (place,)]
    index = _row_numbers("indices", indices, given, given.shape[at])
    if not _floating(given):
        return np.take(given, index, at)
    first = moveaxis(given, at, 0) if at else given
    rows = OPS["gather"](first.reshape(first.shape[0], math.prod(first.shape[1:])), index.reshape(-1))
    rows = rows.reshape((math.prod(index.shape), *first.shape[1:]))
    rows = moveaxis(rows, 0, at) if at else rows
    return rows.reshape((*given.shape[:at], *index.shape, *given.shape[at + 1 :]))


def take_along_axis(x: Any, indices: Any, axis: int | None = None) -> Array:
    """Numbers of x by their places along an axis: y[i, j] = x[i, indices[i, j]] along the last one.

    ``indices`` has x's sizes but along the axis. Without an axis both are taken as one dimension. IndexError for what
    is not there; NaN on a device. A program multiplies with rows of 0 and 1 instead, of which one is 1.
    """
    given = _array("x", x)
    index = operand("indices", indices)
    index = index if hasattr(index, "shape") else np.asarray(index)
    if axis is None:
        given, index = given.reshape(-1), index.reshape(-1)
    at = axis_of("axis", axis or 0, given.ndim)
    wants = (*given.shape[:at], index.shape[at] if index.ndim == given.ndim else "n", *given.shape[at + 1 :])
    if tuple(index.shape) != wants:
        raise ValueError(f"indices: got shape {tuple(index.shape)}, wants {wants}: x has {tuple(given.shape)}")
    if not _floating(given):
        return np.take_along_axis(given, _row_numbers("indices", index, given, given.shape[at]), at)
    order = [place for place in range(given.ndim) if place != at] + [at]
    back = np.argsort(order).tolist()
    last = given if at == given.ndim - 1 else moveaxis(given, at, -1)
    if backends.recorder() is not None:
        rows = one_hot(index.transpose(*order), last.shape[-1], dtype=str(last.dtype))
        return sum(OPS["multiply"](rows, expand_dims(last, -2)), axis=-1).transpose(*back)
    places = _row_numbers("indices", index, given, last.shape[-1]).transpose(*order)
    count = math.prod(last.shape[:-1])
    starts = kept(("starts", count, last.shape[-1]), last, lambda: np.arange(count)[:, None] * last.shape[-1])
    flat = places.reshape(count, places.shape[-1]) + starts
    y = OPS["gather"](last.reshape(-1), flat.reshape(-1)).reshape(tuple(places.shape))
    return y if last is given else moveaxis(y, -1, at)


def sort(x: Any, axis: int = -1) -> Array:
    """x along an axis from its smallest number to its largest, NaN behind them; no program has it."""
    given = _array("x", x)
    return take_along_axis(given, argsort(given, axis), axis)


def top_k(x: Any, k: int, sorted: bool = True) -> tuple[Array, Array]:  # noqa: A002 - Keras's name
    """(the k largest numbers along the last axis, their places): the largest first, of equal ones the first.

    They are ``sorted`` whatever is asked for. No program has them.
    """
    given = _array("x", x)
    count = checks.integer("k", k, 1, given.shape[-1] if given.ndim else 0)
    places = argsort(-given if _floating(given) else -given.astype("float64"))[..., :count]
    return take_along_axis(given, places, -1), places.astype("int32")


def in_top_k(targets: Any, predictions: Any, k: int) -> Array:
    """Whether the number of predictions (n, c) at targets (n,) is among the k largest of its row: (n,), of truth.

    It is where fewer than k are larger. A finite number is wanted there. What gradients are wanted of counts as its
    value, no program has it.
    """
    scores, count = _array("predictions", predictions), checks.positive_int("k", k)
    scores = getattr(scores, "value", scores)
    labels = _row_numbers("targets", targets, scores, scores.shape[-1])
    if tuple(labels.shape) != tuple(scores.shape[:-1]):
        raise ValueError(f"targets: got shape {tuple(labels.shape)}, wants {tuple(scores.shape[:-1])}")
    own = np.take_along_axis(scores, labels[..., None], -1)
    return np.isfinite(own[..., 0]) & (np.count_nonzero(scores > own, axis=-1) < count)


def roll(x: Any, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Array:
    """x moved by so many places along an axis, or several; what goes beyond the end comes in at the beginning."""
    given = _array("x", x)
    if axis is None:
        return roll(given.reshape(-1), shift, 0).reshape(tuple(given.shape))
    axes = [*axis] if isinstance(axis, (list, tuple)) else [axis]
    shifts = [*shift] if isinstance(shift, (list, tuple)) else [shift] * len(axes)
    if len(shifts) != len(axes):
        raise ValueError(f"shift: got {len(shifts)} numbers, wants one, or as many as axes: {len(axes)}")
    for each, by in zip(axes, shifts, strict=True):
        at = axis_of("axis", each, given.ndim)
        places = checks.integer("shift", by) % (given.shape[at] or 1)
        before, behind = split(given, [given.shape[at] - places], at)
        given = concatenate([behind, before], at)
    return given


def tril(x: Any, k: int = 0) -> Array:
    """Matrices (..., n, m) with zeros above a diagonal, the k-th above the main one."""
    return _triangle("tril", x, k)


def triu(x: Any, k: int = 0) -> Array:
    """Matrices (..., n, m) with zeros below a diagonal, the k-th above the main one."""
    return _triangle("triu", x, k)


def _triangle(name: str, x: Any, k: int) -> Array:
    given, diagonal_ = _array("x", x), checks.integer("k", k)
    if given.ndim < 2:
        raise ValueError(f"x: got shape {tuple(given.shape)}, wants at least two dimensions")
    if not isinstance(given, Followed):
        return getattr(np, name)(given, diagonal_)
    shape, dtype = tuple(given.shape[-2:]), given.dtype
    mask = kept((name, shape, diagonal_, dtype), given, lambda: getattr(np, name)(np.ones(shape, dtype), diagonal_))
    return OPS["multiply"](given, mask)


def diag(x: Any, k: int = 0) -> Array:
    """A matrix with the vector x on its k-th diagonal; of a matrix that diagonal."""
    given, places = _array("x", x), checks.integer("k", k)
    if given.ndim == 2:
        return diagonal(given, places)
    if given.ndim != 1:
        raise ValueError(f"x: got shape {tuple(given.shape)}, wants one or two dimensions")
    size = given.shape[0] + abs(places)
    start = max(-places, 0) * size + max(places, 0)
    numbers = kept(("diagonal", given.shape[0], size, start), given, lambda: start + np.arange(len(given)) * (size + 1))
    return segment_sum(given, numbers, size * size).reshape(size, size)


def diagonal(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Array:
    """The numbers of x's diagonal, or one so far above it, over two axes: along a last axis, a new array."""
    given, away = _array("x", x), checks.integer("offset", offset)
    if not _floating(given):
        return np.diagonal(given, away, axis1, axis2).copy()
    rows, columns = (axis_of(name, each, given.ndim) for name, each in (("axis1", axis1), ("axis2", axis2)))
    if rows == columns:
        raise ValueError(f"axis2: got {axis2}, wants another axis than axis1")
    rest = [place for place in range(given.ndim) if place not in (rows, columns)]
    n, m = given.shape[rows], given.shape[columns]
    count, start = max(min(n + min(away, 0), m - max(away, 0)), 0), max(-away, 0) * m + max(away, 0)
    flat = OPS["identity"](given.transpose(rows, columns, *rest)).reshape(n * m, *(given.shape[i] for i in rest))
    places = kept(("diagonal", count, m, start), given, lambda: start + np.arange(count) * (m + 1))
    y = take(flat, places, 0)
    return moveaxis(y, 0, -1) if rest else y


def trace(x: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    """Sum of a diagonal, as ``diagonal`` has it."""
    return sum(diagonal(x, offset, axis1, axis2), axis=-1)


def slice(inputs: Any, start_indices: Sequence[int], shape: Sequence[int]) -> Array:  # noqa: A001 - Keras's name
    """The part of an array with this shape that begins at these places; a view."""
    given = _array("inputs", inputs)
    return given[_part("shape", given, start_indices, shape)]


def slice_update(inputs: Any, start_indices: Sequence[int], updates: Any) -> Array:
    """``inputs`` with another array in the place of its part that begins at these places: a new array."""
    given, part = _array("inputs", inputs), _array("updates", updates)
    return _replaced(given, part, _part("updates", given, start_indices, part.shape))


def _replaced(given: Any, part: Any, where: Sequence[builtins.slice], at: int = 0) -> Any:
    """``given`` with a part in it, from an axis on: what lies before, the part, what lies behind."""
    if at == given.ndim:
        return part
    before, within, behind = split(given, [where[at].start, where[at].stop], at)
    return concatenate([before, _replaced(within, part, where, at + 1), behind], at)


def _part(name: str, given: Any, start_indices: Sequence[int], shape: Sequence[int]) -> tuple[builtins.slice, ...]:
    starts, sizes = [*np.asarray(start_indices).tolist()], [*np.asarray(shape).tolist()]
    for each, numbers in (("start_indices", starts), (name, sizes)):
        if len(numbers) != given.ndim:
            raise ValueError(f"{each}: got {len(numbers)} numbers, wants one for each of {given.ndim} axes")
    for axis, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        checks.integer(f"start_indices[{axis}]", start, 0, given.shape[axis])
        checks.integer(f"{name}[{axis}]", size, 0, given.shape[axis] - start)
    return tuple(builtins.slice(start, start + size) for start, size in zip(starts, sizes, strict=True))


def segment_sum(data: Any, segment_ids: Any, num_segments: int | None = None, sorted: bool = False) -> Array:  # noqa: A002
    """Sums of the rows of data (n, ...) by their segments' numbers (n,): (num_segments, ...), 0 for those of none.

    They are added in their order, be they ``sorted`` or not. Without ``num_segments`` there are as many as the largest
    number says, which a program cannot know. IndexError for one beyond; on a device its rows are left out.
    """
    given = _array("data", data)
    ids = operand("segment_ids", segment_ids)
    ids = ids if hasattr(ids, "shape") else np.asarray(ids)
    if num_segments is None and isinstance(ids, Followed):
        raise TypeError("num_segments: got None in a program, wants how many there are")
    found = num_segments if num_segments is not None else int(ids.max()) + 1 if ids.size else 0
    count = checks.integer("num_segments", found, 0)
    if not given.ndim or tuple(ids.shape) != tuple(given.shape[:1]):
        raise ValueError(f"segment_ids: got shape {tuple(ids.shape)}, wants a number a row: data has {given.shape}")
    return OPS["gather_backward"](given, constant(0.0, given, (count, *given.shape[1:])), ids)


def scatter(indices: Any, values: Any, shape: Sequence[int]) -> Array:
    """Zeros of a shape, and each of the values (n, ...) added at its place (n, d), by the first d axes.

    IndexError for a place that there is not.
    """
    given, sizes = _array("values", values), [checks.integer("shape", each, 0) for each in np.asarray(shape).tolist()]
    places = operand("indices", indices)
    places = places if hasattr(places, "shape") else np.asarray(places)
    axes = places.shape[-1] if places.ndim else 0
    wanted = (*places.shape[:-1], *sizes[axes:])
    if not 1 <= axes <= len(sizes) or tuple(given.shape) != wanted:
        raise ValueError(f"values: got shape {tuple(given.shape)}, wants {wanted}: indices has {tuple(places.shape)}")
    flat = places[..., 0]
    for axis in range(1, axes):
        _row_numbers(f"indices[..., {axis}]", places[..., axis], given, sizes[axis])
        flat = flat * sizes[axis] + places[..., axis]
    rows = given.reshape((math.prod(places.shape[:-1]), *sizes[axes:]))
    return segment_sum(rows, flat.reshape(-1), math.prod(sizes[:axes])).reshape(tuple(sizes))


def scatter_update(inputs: Any, indices: Any, updates: Any) -> Array:
    """``inputs`` with each of the updates (n, ...) in its place (n, d), by the first d axes: a new array.

    Where one place is named twice, the last update counts. Places are a list or an array of NumPy's.
    """
    given, new = _array("inputs", inputs), _array("updates", updates)
    places = operand("indices", indices)
    places = np.asarray(places) if isinstance(places, (list, tuple)) else places
    if not isinstance(places, np.ndarray) or places.ndim != 2 or not 1 <= places.shape[1] <= given.ndim:
        raise TypeError(
            f"indices: got {checks.describe(indices)}, wants places (n, d) in a list or an array of NumPy's"
        )
    axes, rest = places.shape[1], tuple(given.shape[places.shape[1] :])
    if tuple(new.shape) != (len(places), *rest):
        raise ValueError(f"updates: got shape {tuple(new.shape)}, wants {(len(places), *rest)}")
    columns = [_row_numbers(f"indices[:, {i}]", places[:, i], given, given.shape[i]) for i in range(axes)]
    count = math.prod(given.shape[:axes])
    source = np.arange(count)
    source[np.ravel_multi_index(columns, tuple(given.shape[:axes]))] = count + np.arange(len(places))
    together = concatenate([given.reshape((count, *rest)), new], 0)
    from_where = kept(("row numbers", source.tobytes(), source.shape, "int64"), given, lambda: source)
    return take(together, from_where, 0).reshape(tuple(given.shape))


def multi_hot(inputs: Any, num_classes: int, axis: int = -1, dtype: str | None = None) -> Array:
    """Rows of num_classes numbers, 1 at all the places that the last axis of inputs (..., k) tells, else 0."""
    rows = largest_of(one_hot(inputs, num_classes, dtype=dtype), axis=-2)
    at = axis_of("axis", axis, rows.ndim)
    return rows if at == rows.ndim - 1 else moveaxis(rows, -1, at)


def broadcast_to(x: Any, shape: Sequence[int]) -> Array:
    """x repeated along axes of one place, and along new ones before them, up to a shape: a new array."""
    given, sizes = _array("x", x), tuple(np.atleast_1d(shape).tolist())
    try:
        fits = np.broadcast_shapes(tuple(given.shape), sizes) == sizes
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(f"shape: got {sizes}, wants one that the shape {tuple(given.shape)} of x broadcasts to")
    return OPS["multiply"](given, constant(1.0, given, sizes))


def hstack(xs: Sequence[Any]) -> Array:
    """Arrays side by side: along the second axis, vectors along their only one."""
    arrays = _stacked(xs, 1)
    return concatenate(arrays, 0 if arrays[0].ndim == 1 else 1)


def vstack(xs: Sequence[Any]) -> Array:
    """Arrays one below the other: along the first axis, vectors as rows."""
    return concatenate(_stacked(xs, 2), 0)


def _stacked(xs: Sequence[Any], least: int) -> list[Any]:
    """Arrays of at least so many dimensions, further ones before."""
    if not isinstance(xs, (list, tuple)) or not xs:
        raise TypeError(f"xs: got {checks.describe(xs)}, wants a list or tuple of arrays, not an empty one")
    arrays = [_array(f"xs[{place}]", each) for place, each in enumerate(xs)]
    return [each.reshape((1,) * (least - each.ndim) + tuple(each.shape)) for each in arrays]


def _array(name: str, x: Any) -> Any:
    given = operand(name, x)
    if not hasattr(plain(given), "dtype"):
        raise TypeError(f"{name}: got {checks.describe(x)}, wants an array")
    return given


def _floating(x: Any) -> bool:
    """Whether ops take an array; of whole numbers and truth NumPy's functions make what is wanted."""
    return isinstance(x, Followed) or x.dtype.kind == "f"


def _row_numbers(name: str, indices: Any, beside: Any, count: int) -> Any:
    """Integers below a count, negative ones counted from the end, where the array beside them lives."""
    index = operand(name, indices)
    if not hasattr(index, "dtype"):
        listed = np.asarray(index) if np.size(index) else np.empty(np.shape(index), "int64")
        listed = _counted(name, listed, count)
        return kept(("row numbers", listed.tobytes(), listed.shape, str(listed.dtype)), beside, lambda: listed)
    return index if isinstance(index, Followed) or checks.is_on_device(index) else _counted(name, index, count)


def _counted(name: str, index: Any, count: int) -> Any:
    """NumPy's integers, checked, those below 0 counted from the end."""
    if index.dtype.kind not in "iu":
        raise TypeError(f"{name}: got {checks.describe(index)}, wants integers")
    if index.size and (index.min() < -count or index.max() >= count):
        raise IndexError(f"{name}: got {index.min()} to {index.max()}, wants numbers in [-{count}, {count})")
    return np.where(index < 0, index + count, index) if index.size and index.min() < 0 else index


NAMES = (
    "broadcast_to", "diag", "diagonal", "hstack", "in_top_k", "multi_hot", "roll", "scatter", "scatter_update",
    "segment_sum", "slice", "slice_update", "sort", "take", "take_along_axis", "top_k", "trace", "tril", "triu",
    "vstack",
)  # fmt: skip
