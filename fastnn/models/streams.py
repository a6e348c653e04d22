"""Data that come batch by batch: generators, iterators, objects with ``len`` and ``[...]`` such as Keras's Sequence.

The batches of an epoch are drawn and held together, so memory has to hold one epoch, and training runs as on arrays.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from fastnn import checks
from fastnn.engine.data import is_sparse, numeric_array


class Drawn(NamedTuple):
    """Inputs, targets and weights of some batches, one behind the other, and the size of the first one."""

    x: Any
    y: Any
    sample_weight: Any
    batch_size: int


def is_stream(x: Any) -> bool:
    """Whether these are batches, not samples."""
    if callable(getattr(x, "__next__", None)):
        return True
    is_data = isinstance(x, (list, tuple, str, bytes, Mapping)) or hasattr(x, "shape") or is_sparse(x)
    return not is_data and callable(getattr(x, "__getitem__", None)) and callable(getattr(x, "__len__", None))


def drawn(name: str, stream: Any, steps: Any, argument: str) -> Drawn:
    """The next ``steps`` batches of a stream; all of one that has a length, where ``steps`` is None.

    ValueError where it ends before, and where it is unknown how many are wanted.
    """
    wanted = None if steps is None else checks.positive_int(argument, steps)
    if wanted is None and not hasattr(stream, "__len__"):
        raise ValueError(f"{argument}: got None, wants how many batches of {name}, a {type(stream).__name__}, to take")
    batches = [_batch(f"{name}[{place}]", batch) for place, batch in enumerate(islice(_each(stream), wanted))]
    if not batches or len(batches) < (wanted or 0):
        raise ValueError(f"{name}: got {len(batches)} batches, wants {wanted or 'one or more'}")
    if callable(getattr(stream, "on_epoch_end", None)):
        stream.on_epoch_end()
    x, y, weight = (_joined(name, [*parts]) for parts in zip(*batches, strict=True))
    return Drawn(x, y, weight, _rows(batches[0][0]))


def _each(stream: Any) -> Iterator[Any]:
    """The batches: an iterator goes on where it was, any other begins anew."""
    if callable(getattr(stream, "__next__", None)):
        return iter(stream)
    return (stream[place] for place in range(len(stream)))


def _batch(name: str, batch: Any) -> tuple[Any, Any, Any]:
    """(x, y, sample_weight) of a batch, the last two None where they are left out."""
    if not isinstance(batch, tuple):
        return batch, None, None
    if not 1 <= len(batch) <= 3:
        raise ValueError(f"{name}: got {len(batch)} entries, wants (x, y) or (x, y, sample_weight)")
    x, y, weight = (*batch, None, None)[:3]
    return x, y, weight


def _joined(name: str, parts: list[Any]) -> Any:
    """Arrays one behind the other, in the lists, tuples or dicts that they come in."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Mapping):
        return {key: _joined(f"{name}[{key!r}]", [part[key] for part in parts]) for key in first}
    if isinstance(first, (list, tuple)) and first and all(hasattr(entry, "shape") for entry in first):
        return [_joined(f"{name}[{place}]", [part[place] for part in parts]) for place in range(len(first))]
    arrays = [numeric_array(name, part) for part in parts]
    if len({array.shape[1:] for array in arrays}) > 1:
        shapes = sorted({array.shape[1:] for array in arrays})
        raise ValueError(f"{name}: got batches of samples of shapes {shapes}, wants one shape")
    return np.concatenate(arrays)


def _rows(x: Any) -> int:
    if isinstance(x, Mapping):
        return _rows(next(iter(x.values())))
    if isinstance(x, (list, tuple)) and x and hasattr(x[0], "shape"):
        return len(x[0])
    return len(x)
