"""Argument checks: a message names the argument, what it got and what it wants; nothing is written before they pass."""

from __future__ import annotations

import difflib
import math
import operator
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NoReturn

import numpy as np

from fastnn.kernels.table import (
    DTYPES,
    MALFORMED_CSR,
    MOST_OFF,
    Choice,
    Flag,
    Integer,
    Integers,
    Op,
    Option,
    Padding,
    Real,
    Subset,
    shape_of,
)

# What others call the things that a name chooses: nearer than any spelling.
_MEANT = {
    "gpu": "cuda",
    "bf16": "bfloat16",
    **dict.fromkeys(("fp32", "f32", "single", "float"), "float32"),
    **dict.fromkeys(("fp64", "f64", "double"), "float64"),
}

_FLOATS = tuple(np.dtype(name) for name in DTYPES)


def describe(value: Any) -> str:
    """What a value is, short enough for a message."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {tuple(value.shape)} and dtype {value.dtype}"
    return f"{type(value).__name__} {_shortened(value)}"


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """``value`` if it is one of ``choices``; else a ValueError with the nearest match."""
    options = list(choices)
    if isinstance(value, str):
        if value in options:
            return value
        asked = value[:100].lower()
        near = [_MEANT[asked]] if _MEANT.get(asked) in options else difflib.get_close_matches(asked, options, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"{name}: got {_shortened(value)}, wants one of {', '.join(map(repr, options))}{hint}")
    raise TypeError(f"{name}: got {describe(value)}, wants one of {', '.join(map(repr, options))}")


def instance(name: str, value: Any, types: type | tuple[type, ...], wants: str) -> Any:
    """``value`` if it is an instance of ``types``; else a TypeError that says what is wanted."""
    if not isinstance(value, types):
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}")
    return value


def float_dtype(name: str, value: Any) -> str | None:
    """The name of the dtype in which something computes, from a name or a dtype; None stays None."""
    if value is None:
        return None
    named = value if isinstance(value, str) else getattr(value, "__name__", getattr(value, "name", value))
    return one_of(name, named, DTYPES)


def integer(name: str, value: Any, minimum: int | None = None, maximum: int | None = None) -> int:
    """``value`` as an int within the bounds; floats, bools and strings are TypeErrors."""
    wants = "an integer" if minimum is None else f"an integer of at least {minimum}"
    if maximum is not None:
        wants += f" and at most {maximum}"
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}") from None
    if (minimum is not None and number < minimum) or (maximum is not None and number > maximum):
        raise ValueError(f"{name}: got {number}, wants {wants}")
    return number


def positive_int(name: str, value: Any, minimum: int = 1) -> int:
    """``value`` as an int of at least ``minimum``."""
    return integer(name, value, minimum)


def real(
    name: str,
    value: Any,
    minimum: float = -math.inf,
    maximum: float = math.inf,
    open_low: bool = False,
    open_high: bool = False,
    infinite: bool = False,
) -> float:
    """``value`` as a float within the bounds, finite unless it may be ``infinite``.

    Bools, strings and complex numbers are TypeErrors.
    """
    wants = _interval(minimum, maximum, open_low, open_high, infinite)
    if isinstance(value, (bool, np.bool_, str, bytes, complex)) or not hasattr(value, "__float__"):
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}")
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}") from None
    low = number > minimum if open_low else number >= minimum
    high = number < maximum if open_high else number <= maximum
    if not ((infinite or math.isfinite(number)) and low and high):
        raise ValueError(f"{name}: got {number}, wants {wants}")
    return number


# Bytes of a unit of memory.
_UNITS = {f"{letter}{binary}": (1024 if binary else 1000) ** power
          for power, letter in enumerate("kmgt", 1) for binary in ("", "i")} | {"": 1}  # fmt: skip
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?) *((?:[kmgt]i?)?)b", re.IGNORECASE)


def memory(name: str, value: Any) -> int:
    """A number of bytes, above 0: ``value`` itself, or what a text such as "2GB" (2e9) or "512 MiB" says."""
    wants = 'a number of bytes above 0, or a text such as "2GB" or "512MiB"'
    if isinstance(value, str):
        found = _MEMORY.fullmatch(value.strip())
        size = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    elif isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        size = int(value)
    else:
        raise TypeError(f"{name}: got {describe(value)}, wants {wants}")
    if size <= 0:
        raise ValueError(f"{name}: got {value!r}, wants {wants}")
    return size


def _interval(minimum: float, maximum: float, open_low: bool, open_high: bool, infinite: bool) -> str:
    bounds = []
    if minimum > -math.inf:
        bounds.append(f"{'above' if open_low else 'at least'} {minimum:g}")
    if maximum < math.inf:
        bounds.append(f"{'below' if open_high else 'at most'} {maximum:g}")
    return " ".join(["a number" if infinite else "a finite number", " and ".join(bounds)]).strip()


def subset(name: str, value: Any, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Those of ``choices`` that ``value``, a list or tuple, names, in their order."""
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{name}: got {describe(value)}, wants a tuple of {', '.join(map(repr, choices))}")
    chosen = {one_of(f"{name}[{place}]", each, choices) for place, each in enumerate(value)}
    return tuple(choice for choice in choices if choice in chosen)


def integers(name: str, value: Any, count: int, minimum: int) -> tuple[int, ...]:
    """``value``, ``count`` integers of at least ``minimum`` or one that stands for all of them, as a tuple."""
    if not isinstance(value, (list, tuple)):
        return (integer(name, value, minimum),) * count
    if len(value) != count:
        raise ValueError(f"{name}: got {describe(value)}, wants an integer or {count} of them")
    return tuple(integer(f"{name}[{place}]", each, minimum) for place, each in enumerate(value))


def padding(name: str, value: Any, axes: int) -> Any:
    """``value`` if it is "valid" or "same"; numbers, for all axes, for each, or before and after each, as the last."""
    if isinstance(value, str):
        return one_of(name, value, ("valid", "same"))
    if isinstance(value, (list, tuple)) and len(value) == axes:
        return tuple(integers(f"{name}[{axis}]", each, 2, 0) for axis, each in enumerate(value))
    if isinstance(value, (list, tuple)):
        wants = f"'valid', 'same', an integer, or {axes} integers or pairs of such"
        raise ValueError(f"{name}: got {describe(value)}, wants {wants}")
    return (integers(name, value, 2, 0),) * axes


def option(name: str, value: Any, spec: Option) -> Any:
    """A scalar parameter of an op, checked against its row in the table."""
    return _OPTIONS[type(spec)](name, value, spec)


_OPTIONS: dict[type[Option], Callable[[str, Any, Any], Any]] = {
    Choice: lambda name, value, spec: one_of(name, value, spec.values),
    Real: lambda name, value, spec: real(
        name, value, spec.low, spec.high, spec.open_low, spec.open_high, spec.infinite
    ),
    Integer: lambda name, value, spec: integer(name, value, spec.low, spec.high),
    Integers: lambda name, value, spec: integers(name, value, spec.count, spec.low),
    Padding: lambda name, value, spec: padding(name, value, spec.axes),
    Subset: lambda name, value, spec: subset(name, value, spec.values),
    Flag: lambda name, value, spec: bool(instance(name, value, (bool, np.bool_), "True or False")),
}


def class_indices(name: str, labels: Any, classes: int) -> None:
    """Raise unless every integer of ``labels`` lies in [0, classes)."""
    if labels.size == 0:
        return
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        worst = low if low < 0 else high
        hint = "; of labels that begin at 1 subtract 1" if low == 1 and high == classes else ""
        raise ValueError(f"{name}: got the label {worst}, wants class indices in [0, {classes}){hint}")


def row_numbers(name: str, numbers: Any, rows: int) -> None:
    """Raise unless ``numbers`` are integers, each that of one of so many rows, counted from 0."""
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"{name}: got {describe(numbers)}, wants an array of integers")
    if numbers.size == 0 or not isinstance(numbers, np.ndarray):  # those of a device cannot be read without waiting
        return
    low, high = int(numbers.min()), int(numbers.max())
    if low < 0 or high >= rows:
        worst = low if low < 0 else high
        place = ", ".join(map(str, np.unravel_index(np.argmax(numbers == worst), numbers.shape)))
        raise IndexError(f"{name}[{place}]: got {worst}, wants row numbers in [0, {rows})")


def is_csr(value: Any) -> bool:
    """Whether ``value`` is a CSR matrix or array of SciPy's, found out without importing it."""
    return getattr(value, "format", None) == "csr" and hasattr(value, "indptr")


def csr_kind(matrix: Any) -> Any:
    """What makes a CSR matrix of the same kind, ``kind((values, indices, indptr), shape=shape)``."""
    return getattr(matrix, "bound", type(matrix))


# The kinds of devices that DLPack gives memory of CUDA's: a device's own, and what host and devices share.
_DLPACK_CUDA = (2, 13)


def is_on_device(value: Any) -> bool:
    """Whether ``value`` is an array, or a CSR matrix, in a CUDA device's memory; its numbers are not looked at.

    It says so itself, by DLPack or the CUDA array interface: arrays of CuPy, PyTorch, JAX and Numba do.
    """
    if is_csr(value):
        return is_on_device(value.data)
    if hasattr(getattr(value, "data", None), "device_id"):  # CuPy's, which ask the driver for what they export
        return True
    if hasattr(type(value), "__dlpack_device__"):
        with suppress(Exception):  # PyTorch's of no device at all, for one
            return value.__dlpack_device__()[0] in _DLPACK_CUDA
        return False
    return hasattr(value, "__cuda_array_interface__")


def of_device(value: Any) -> str:
    """A device array, for a message: whose it is."""
    return f"an array of {type(value).__module__.partition('.')[0]}'s on a CUDA device"


def csr_parts(name: str, matrix: Any) -> tuple[Any, Any, Any]:
    """(values, indices as int32, indptr as int64) of a CSR matrix, in C order: its own where they are so.

    Raises ValueError unless its rows lie one behind the other, in columns that there are. On a device they are its own,
    of whatever dtypes, and nobody waits to look at them.
    """
    if is_on_device(matrix):
        return matrix.data, matrix.indices, matrix.indptr
    rows, columns = matrix.shape
    values, indices, indptr = matrix.data, matrix.indices, matrix.indptr
    stored = min(len(values), len(indices))
    first, last = (int(indptr[0]), int(indptr[-1])) if len(indptr) == rows + 1 else (0, -1)
    whole = 0 <= first <= last <= stored and bool((indptr[1:] >= indptr[:-1]).all())
    used = indices[first:last] if whole else indices[:0]
    if not whole or (used.size and (used.min() < 0 or used.max() >= columns)):
        raise ValueError(f"{name}: {MALFORMED_CSR}")
    wanted = (values, None), (indices, np.int32), (indptr, np.int64)
    values, indices, indptr = (np.require(part, dtype, ["C", "A"]) for part, dtype in wanted)
    return values, indices, indptr


def probability_rows(name: str, rows: Any) -> None:
    """Raise unless every row of ``rows`` holds numbers in [0, 1] that sum to 1."""
    if rows.size == 0:
        return
    if not (rows.min() >= 0):
        raise ValueError(
            f"{name}: got the entry {rows.min():g}, wants rows of probabilities (no negative number, no NaN)"
        )
    sums = rows.sum(axis=1)
    off = abs(sums - 1)
    worst = int(off.argmax())
    if not off[worst] <= MOST_OFF:
        raise ValueError(f"{name}: row {worst} sums to {sums[worst]:g}, wants rows of probabilities that sum to 1")


def within_unit(name: str, values: Any) -> None:
    """Raise unless every number of ``values`` lies in [0, 1]."""
    if values.size and not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"{name}: got numbers from {values.min():g} to {values.max():g}, wants numbers in [0, 1]")


def floating(name: str, array: Any) -> None:
    """Raise unless ``array`` is a float32 or float64 array."""
    if array.dtype not in _FLOATS:
        hint = f"; cast it first, {name}.astype('float32')" if array.dtype.kind in "iubf" else ""
        raise TypeError(f"{name}: got {describe(array)}, wants dtype float32 or float64{hint}")


# What the values of an operand must be, by the way its cases are drawn.
_VALUES: dict[str, Callable[[str, Any], None]] = {"labels": probability_rows, "bits": within_unit}


@dataclass(frozen=True)
class _Operand:
    """An operand's row, taken apart once: leading dimensions, whether any may follow, how to check its values."""

    name: str
    dims: tuple[str, ...]
    open_end: bool
    optional: bool
    inplace: bool
    values: Callable[[str, Any], None] | None
    row_numbers: bool
    of_bytes: bool

    @property
    def rank(self) -> int:
        return len(self.dims)


@cache
def _layout(op: Op) -> tuple[_Operand, ...]:
    rows = []
    for name, spec in op.operands.items():
        dims = spec.split("|")[-1].split()
        open_end = dims[-1] in ("...", "*")
        values = _VALUES.get(op.draw.get(name, ""))
        lead = tuple(dims[:-1] if open_end else dims)
        integers = op.draw.get(name) == "row_numbers", name in op.of_bytes
        rows.append(_Operand(name, lead, open_end, op.optional(name), name in op.inplace, values, *integers))
    return tuple(rows)


def matrix(name: str, array: Any) -> None:
    """Raise unless ``array`` is a NumPy array of float32 or float64 with two dimensions."""
    if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name}: got {describe(array)}, wants a NumPy array")
    floating(name, array)
    if array.ndim != 2:
        raise ValueError(f"{name}: got shape {array.shape}, wants two dimensions")


def depends_on_values(op: Op) -> bool:
    """Whether an op's checks look into its arrays, not at dtypes, shapes and options alone."""
    return any(each.values is not None or each.row_numbers or each.name == "targets" for each in _layout(op))


def bounds(name: str, spec: Real | Integer) -> str:
    """The condition that an option named ``name`` keeps its bounds, as a Python expression; NaN does not."""
    below = "<" if isinstance(spec, Real) and (spec.open_low or spec.low == -math.inf) else "<="
    above = "<" if isinstance(spec, Real) and (spec.open_high or spec.high == math.inf) else "<="
    high = math.inf if spec.high is None else spec.high
    return f"{spec.low} {below} {name} {above} {high}"


def operands(op: Op, given: Mapping[str, Any]) -> None:
    """Check an op's arrays against its row: one dtype, equal sizes under equal names, values, writable targets.

    The options that sizes are derived from have been checked before.
    """
    sizes: dict[str, Any] = {}
    broadcasts = "*" in op.returns
    dtype = None
    for operand in _layout(op):
        array = given[operand.name]
        if array is None and operand.optional:
            continue
        if operand.name == "targets" and (array.ndim == 1 or array.dtype.kind in "iu"):
            _class_targets(array, sizes["n"], sizes["c"])
            continue
        if operand.row_numbers:
            _bind(op, given, operand, array.shape, sizes)
            continue
        if dtype is None:
            dtype, first = _computed_in(operand, array), operand.name
        elif array.dtype != dtype:
            floating(operand.name, array)
            raise TypeError(f"{operand.name}: got dtype {array.dtype}, wants {dtype}, the dtype of {first}")
        if not broadcasts:
            _bind(op, given, operand, array.shape, sizes)
        if operand.values is not None and isinstance(array, np.ndarray):
            operand.values(operand.name, array)
        if operand.inplace:
            writable(operand.name, array)
    _row_numbers(op, given, sizes)
    if broadcasts:
        sizes["*"] = _broadcast_shape(op, given)
    _destinations(op, given, _derived(op, given, sizes), dtype)


def _class_targets(targets: Any, rows: int, classes: int) -> None:
    """Raise unless ``targets`` are class indices (rows,); of a device array the values are not looked at."""
    if targets.dtype.kind not in "iu" or targets.shape != (rows,):
        wrong = ValueError if targets.dtype.kind in "iu" else TypeError
        raise wrong(
            f"targets: got {describe(targets)}, wants class indices, integers of shape ({rows},), or probabilities, "
            f"floating-point numbers of shape ({rows}, {classes})"
        )
    if isinstance(targets, np.ndarray):  # a device array's values cannot be read without waiting for the device
        class_indices("targets", targets, classes)


def _row_numbers(op: Op, given: Mapping[str, Any], sizes: Mapping[str, Any]) -> None:
    """Check operands that are numbers of rows, of which other operands say how many there are."""
    for operand in _layout(op):
        if operand.row_numbers:
            row_numbers(operand.name, given[operand.name], sizes["rows"])


@contextmanager
def element(index: int) -> Iterator[None]:
    """What errors say of an argument, inside a ``with`` block, they say of its element ``index``."""
    try:
        yield
    except (TypeError, ValueError) as error:
        name, colon, said = str(error).partition(":")
        raise type(error)(f"{name}[{index}]{colon}{said}") from None


def lists(op: Op, given: Mapping[str, Any]) -> dict[str, Sequence[Any]]:
    """Those operands of an op that are given, all of them lists or tuples of as many arrays as the first one has."""
    found = {name: given[name] for name in op.operands if given[name] is not None or not op.optional(name)}
    first = next(iter(op.operands))
    for name, arrays in found.items():
        wants = f"a list of {len(found[first])} arrays, as many as {first} has"
        if not isinstance(arrays, (list, tuple)):
            raise TypeError(f"{name}: got {describe(arrays)}, wants {wants}")
        if len(arrays) != len(found[first]):
            raise ValueError(f"{name}: got a {type(arrays).__name__} of {len(arrays)}, wants {wants}")
        for index, array in enumerate(arrays):
            if array is None:
                raise TypeError(f"{name}[{index}]: got {describe(array)}, wants a NumPy or CuPy array")
    return found


def _computed_in(operand: _Operand, array: Any) -> Any:
    """The dtype of an op's results by its first operand; raises for what is none of numbers that it takes."""
    if operand.of_bytes and array.dtype == np.uint8 and not is_csr(array):
        return np.dtype(np.float32)
    floating(operand.name, array)
    return array.dtype


def _destinations(op: Op, given: Mapping[str, Any], sizes: Mapping[str, Any], dtype: Any) -> None:
    """Raise unless what is given for results to go into can take them."""
    for name, spec in op.into.items():
        out = given[name]
        if out is None:
            continue
        shape = shape_of(spec, sizes)
        if out.shape != shape or out.dtype != dtype:
            wrong = ValueError if out.dtype == dtype else TypeError
            raise wrong(f"{name}: got {describe(out)}, wants an array of shape {shape} and dtype {dtype}")
        writable(name, out)


def _bind(op: Op, given: Mapping[str, Any], operand: _Operand, shape: tuple[int, ...], sizes: dict[str, Any]) -> None:
    """Note the sizes that an operand's dimensions name; raise where they differ from those noted before."""
    rank = operand.rank
    if len(shape) != rank and not (operand.open_end and len(shape) > rank):
        _mismatch(op, given, operand, operand.dims)
    for dim, size in zip(operand.dims, shape, strict=False):
        if sizes.setdefault(dim, size) != size:
            _mismatch(op, given, operand, operand.dims)
    if operand.open_end and sizes.setdefault("...", shape[rank:]) != shape[rank:]:
        _mismatch(op, given, operand, operand.dims)


def _derived(op: Op, given: Mapping[str, Any], sizes: Mapping[str, Any]) -> Mapping[str, Any]:
    """``sizes`` with what is derived from them and from options; raise where an operand has other sizes than those."""
    if not op.derived:
        return sizes
    whole = dict(op.whole({name: size for name, size in sizes.items() if name not in op.derived}, given))
    for operand in _layout(op):
        if given[operand.name] is not None:
            found = zip(operand.dims, given[operand.name].shape, strict=False)
            if any(whole[dim] != size for dim, size in found):
                _mismatch(op, given, operand, operand.dims, whole)
    return whole


def _mismatch(
    op: Op, given: Mapping[str, Any], operand: _Operand, dims: tuple[str, ...], whole: Mapping[str, Any] | None = None
) -> NoReturn:
    """Say which shape an operand wants, with the sizes that the operands before it have fixed.

    With ``whole`` sizes it is one that is derived which the operand does not have.
    """
    known: dict[str, Any] = {}
    origin: dict[str, str] = {}
    for other in _layout(op):
        if other is operand:
            break
        if given[other.name] is not None:
            shape = given[other.name].shape
            pairs = [*zip(other.dims, shape, strict=False), *([("...", shape[other.rank :])] if other.open_end else [])]
            for dim, size in pairs:
                if dim not in known:
                    known[dim], origin[dim] = size, f"{other.name} of shape {shape}"
    derived = {} if whole is None else {dim: whole[dim] for dim in op.derived}
    for dim, size in derived.items():
        known[dim] = size
        options = ", ".join(f"{name}={given[name]!r}" for name in op.options if op.shapes(name))
        first = next(other.name for other in _layout(op) if other is not operand)
        origin[dim] = f"{first} of shape {tuple(given[first].shape)} with {options}"
    known = {**(whole or {}), **known}
    wanted = [str(known.get(dim, dim)) for dim in dims]
    if operand.open_end and dims == operand.dims:
        wanted += [str(size) for size in known.get("...", ("...",))]
    sources = dict.fromkeys(origin[dim] for dim in (*dims, *(("...",) if operand.open_end else ())) if dim in origin)
    match = f" to match {' and '.join(sources)}" if sources else ""
    text = f"({', '.join(wanted)}{',' * (len(wanted) == 1)})"
    raise ValueError(f"{operand.name}: got shape {tuple(given[operand.name].shape)}, wants shape {text}{match}")


def _broadcast_shape(op: Op, given: Mapping[str, Any]) -> tuple[int, ...]:
    arrays = {name: given[name] for name in op.operands}
    try:
        return tuple(np.broadcast_shapes(*(array.shape for array in arrays.values())))
    except ValueError:
        got = " and ".join(f"{name} of shape {tuple(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"{', '.join(arrays)}: got {got}, wants shapes that broadcast together") from None


def not_locked(name: str, array: Any) -> None:
    """Raise if a device array is said to be read-only, by the CUDA array interface: CuPy's arrays cannot say it."""
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is not None and interface["data"][1]:
        raise _read_only(name)


def _read_only(name: str) -> ValueError:
    return ValueError(f"{name}: got a read-only array, wants one that can be written to")


def writable(name: str, array: Any) -> None:
    """Raise unless ``array`` may be written to and no two of its elements share memory; packed weights may."""
    if hasattr(array, "packed_for"):
        return
    if isinstance(array, np.ndarray) and not array.flags.writeable:
        raise _read_only(name)
    if (
        0 in array.strides
        and array.size
        and any(step == 0 and n > 1 for step, n in zip(array.strides, array.shape, strict=True))
    ):
        raise ValueError(f"{name}: got a broadcast array whose elements share memory, wants one of its own")
