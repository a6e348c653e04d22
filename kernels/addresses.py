"""Where an array's numbers lie; and what a program asks of arrays, of NumPy's or of a device's.

NumPy's own ways to ask make a dictionary or an object, which takes as long as a small kernel. The address is the first
field behind an object's head (``PyArrayObject_fields`` of NumPy's C interface): there it is read in a tenth of that.
"""

from __future__ import annotations

import ctypes
import zlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

_HEAD = object.__basicsize__
_at = ctypes.c_ssize_t.from_address


def _asked(array: Any) -> int:
    start: int = array.__array_interface__["data"][0]
    return start


def _read(array: Any) -> int:
    return _at(id(array) + _HEAD).value


def _is_first() -> bool:
    """Whether the field is where it is looked for."""
    whole = np.zeros(3)
    return all(_read(array) == _asked(array) for array in (whole, whole[1:], np.zeros(0)))


# address(array): of its first number.
address = _read if _is_first() else _asked


class Place(Protocol):
    """An array but for its memory."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Lengths."""

    @property
    def strides(self) -> tuple[int, ...]:
        """In bytes."""

    @property
    def dtype(self) -> Any:
        """Of a number."""


class Arrays(Protocol):
    """What programs ask of arrays of one kind; each backend's ``Replay`` says which kind is its own.

    ``makes_numbers`` tells whether a number that an op gives (a loss) is one of Python's, not an array () of this kind.
    """

    name: str
    makes_numbers: bool

    def holds(self, value: Any) -> bool:
        """Whether a value is such an array."""

    def address(self, array: Any) -> int:
        """Of the first number."""

    def bounds(self, array: Any) -> tuple[int, int]:
        """The address of the first byte of an array's memory, and that behind the last."""

    def is_aligned(self, array: Any) -> bool:
        """Whether its numbers lie at multiples of their size."""

    def owner(self, array: Any) -> Any:
        """The array whose memory another one is a part of, or itself."""

    def is_lent(self, array: Any) -> bool:
        """Whether the memory of an array that is no part of another is another library's."""

    def seen(self, array: Any) -> Any:
        """What it holds, as something to compare; None where to look at it would take too long."""

    def at(self, address: int, place: Place, owner: Any) -> Any:
        """The array at an address, in memory that lives as long as its owner."""

    def rows(self, data: Any, index: Any) -> Any:
        """data[index] of rows by their numbers, int64; data may be a CSR matrix."""

    def in_order(self, array: Any) -> Any:
        """The array if it lies in C order, else a copy that does."""

    def copied(self, host: Any) -> Any:
        """An array of NumPy's as one of this kind."""

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """A new one, which holds anything."""

    def joined(self, arrays: Sequence[Any]) -> Any:
        """One behind the other, in memory of their own."""


class _At:
    """Says of an array where it lies, and keeps alive what it is a part of."""

    def __init__(self, address: int, place: Place, owner: Any) -> None:
        self.owner = owner
        self.__array_interface__ = {
            "data": (address, False),
            "shape": place.shape,
            "strides": place.strides,
            "typestr": place.dtype.str,
            "version": 3,
        }


class _OnHost:
    """NumPy's."""

    name, makes_numbers = "NumPy", True
    address = staticmethod(address)
    bounds = staticmethod(np.lib.array_utils.byte_bounds)

    def holds(self, value: Any) -> bool:
        return isinstance(value, np.ndarray)

    def is_aligned(self, array: Any) -> bool:
        aligned: bool = array.flags.aligned and all(stride % array.itemsize == 0 for stride in array.strides)
        return aligned

    def owner(self, array: Any) -> Any:
        while isinstance(array.base, np.ndarray):
            array = array.base
        return array

    def is_lent(self, array: Any) -> bool:
        return array.base is not None

    def seen(self, array: Any) -> Any:
        return zlib.crc32(array.tobytes())

    def at(self, address: int, place: Place, owner: Any) -> Any:
        return np.asarray(_At(address, place, owner))

    def rows(self, data: Any, index: Any) -> Any:
        return data[index]

    def in_order(self, array: Any) -> Any:
        return np.ascontiguousarray(array)

    def copied(self, host: Any) -> Any:
        return host

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        return np.empty(shape, dtype)

    def joined(self, arrays: Sequence[Any]) -> Any:
        return np.concatenate(arrays)


ON_HOST: Arrays = _OnHost()
