"""Arrays of other libraries in the host's memory: taken where they lie, through DLPack, without a copy.

Who made them need not be known, nor be imported: PyTorch and JAX are told by what their arrays offer.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fastnn import checks

# The kinds of devices that DLPack gives the host's memory, pinned memory of CUDA's too.
_HOST = (1, 3)

# Endings of the names of dtypes that nothing here computes in.
_HALVES = ("float16", "half")


def adopted(name: str, value: Any, halves: bool = False) -> Any:
    """``value``; in place of another library's array in the host's memory a NumPy array over the same.

    It is read-only where its library says so. TypeError, which begins with ``name``, where that does not hand it out:
    for a gradient that it keeps, a dtype, a layout; and for float16, unless ``halves`` are wanted, to be cast.
    """
    kind = type(value)
    if kind is np.ndarray or not hasattr(kind, "__dlpack__") or isinstance(value, np.ndarray) or not _is_hosts(value):
        return value
    if not halves and str(getattr(value, "dtype", "")).endswith(_HALVES):
        raise TypeError(f"{name}: got {checks.describe(value)}, wants dtype float32 or float64; cast it first")
    try:
        return np.from_dlpack(value)
    except Exception as error:  # whatever its library raises
        raise TypeError(f"{name}: got {checks.describe(value)} that cannot be taken: {error}") from error


def _is_hosts(value: Any) -> bool:
    if hasattr(getattr(value, "data", None), "device_id"):  # CuPy's, which ask the driver for what they export
        return False
    try:
        return value.__dlpack_device__()[0] in _HOST
    except Exception:  # PyTorch's of no device at all, for one
        return False


def adopt(given: dict[str, Any], names: Iterable[str]) -> bool:
    """Do so for those of ``given`` that have these names, and for the entries of lists; whether there were any."""
    found = False
    for name in names:
        value = given[name]
        if isinstance(value, (list, tuple)):
            taken: Any = [adopted(f"{name}[{place}]", each) for place, each in enumerate(value)]
            foreign = any(new is not old for new, old in zip(taken, value, strict=True))
        else:
            taken = adopted(name, value)
            foreign = taken is not value
        if foreign:
            given[name] = taken
            found = True
    return found
