"""Where an array's numbers lie.

NumPy's own ways to ask make a dictionary or an object, which takes as long as a small kernel. The address is the first
field behind an object's head (``PyArrayObject_fields`` of NumPy's C interface): there it is read in a tenth of that.
"""

from __future__ import annotations

import ctypes
from typing import Any

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
