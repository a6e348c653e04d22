"""What compiled code reads of NumPy's array objects: where their numbers lie, and whether they are as was planned.

To ask many arrays in Python takes longer than an optimizer's step on small layers. The fields are those that
``PyArrayObject_fields`` of NumPy's C interface gives to all code that is compiled with it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from fastnn.kernels.cpu.compiler.parts import compiled_in
from fastnn.kernels.cpu.simd.kernel import pointer


class _Fields(ctypes.Structure):
    """What lies behind the head that all objects have."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("nd", ctypes.c_int32),
        ("dimensions", ctypes.c_void_p),
        ("strides", ctypes.c_void_p),
        ("base", ctypes.c_void_p),
        ("descr", ctypes.c_void_p),
        ("flags", ctypes.c_int32),
    )


# Bytes from where an object lies, which is its id, to its type and an array's fields.
_HEAD = object.__basicsize__
_FOUND = ("data", "nd", "dimensions", "descr", "flags")
LAYOUT = np.array(
    [_HEAD - ctypes.sizeof(ctypes.c_void_p), *(_HEAD + getattr(_Fields, name).offset for name in _FOUND)], np.int64
)

# Flags that an array in C order has that is aligned; one that is writeable, too.
READ, WRITTEN = 0x101, 0x501


@cache
def are_known() -> bool:
    """Whether the fields of an array are where they are looked for."""
    if ctypes.sizeof(ctypes.c_void_p) != np.dtype(np.int64).itemsize:
        return False
    array = np.zeros((2, 3), np.float32)
    kind = ctypes.c_void_p.from_address(id(array) + int(LAYOUT[0])).value
    fields = _Fields.from_address(id(array) + _HEAD)
    found = kind, fields.data, fields.nd, fields.descr, fields.flags
    address = array.__array_interface__["data"][0]
    if found != (id(np.ndarray), address, array.ndim, id(array.dtype), array.flags.num):
        return False
    return tuple((ctypes.c_ssize_t * array.ndim).from_address(fields.dimensions)) == array.shape


def likeness(arrays: Sequence[Any]) -> tuple[Any, Any]:
    """What ``addresses`` compares with: (ids of their class and dtype, the shapes with their lengths) of arrays."""
    kinds = np.array([id(np.ndarray), id(np.dtype(arrays[0].dtype.char))])
    return kinds, np.array([size for array in arrays for size in (array.ndim, *array.shape)], np.int64)


@compiled_in
def _word(like, place):
    """The 64-bit integer at a place in memory."""
    return pointer(like, place)[0]


@compiled_in
def _is_alike(found, kinds, shapes, at, flags, layout):
    """Whether an object is an array of these kinds, of the shape that begins at ``at``, with these flags."""
    if _word(layout, found + layout[0]) != kinds[0]:
        return False
    if _word(layout, found + layout[4]) != kinds[1] or _word(layout, found + layout[5]) & flags != flags:
        return False
    if _word(layout, found + layout[2]) & 0xFFFFFFFF != shapes[at]:  # of 32 bits, as the flags are
        return False
    sizes = pointer(layout, _word(layout, found + layout[3]))
    others = 0
    for i in range(shapes[at]):
        others += sizes[i] != shapes[at + 1 + i]
    return others == 0


@compiled_in
def addresses(objects, flags, kinds, shapes, layout):
    """Replace ids of arrays by the addresses of their numbers; False if one of them is not as was planned.

    There are as many arrays of each of the ``shapes`` as there are ``flags``, which are those that each must have.
    """
    at = 0
    for first in range(0, objects.size, flags.size):
        for i in range(flags.size):
            if not _is_alike(objects[first + i], kinds, shapes, at, flags[i], layout):
                return False
            objects[first + i] = _word(layout, objects[first + i] + layout[1])
        at += 1 + shapes[at]
    return True
