"""What a kernel is given: one structure by value, declared once for NumPy, which fills it, and for C++, which reads it.

A launch that passes many arguments converts each of them; one record is filled in place and passed as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# NumPy's kind and C++'s of a field; pointers are to the kernel's numbers, or to what they are named for.
_KINDS = {
    "int": ("i4", "int"),
    "int*": ("u8", "int*"),
    "const int*": ("u8", "const int*"),
    "int64": ("i8", "int64"),
    "real": (None, "real"),
    "real*": ("u8", "real*"),
    "const real*": ("u8", "const real*"),
    "const int64*": ("u8", "const int64*"),
    "uint64": ("u8", "uint64"),
    "unsigned": ("u4", "unsigned"),
    "char": ("i1", "char"),
    "const unsigned char*": ("u8", "const unsigned char*"),
    "double": ("f8", "double"),
    "double*": ("u8", "double*"),
    "const double*": ("u8", "const double*"),
    "uint4*": ("u8", "uint4*"),
}


class Field(NamedTuple):
    """A field of a structure; ``lengths`` of an array's."""

    name: str
    kind: str
    lengths: tuple[int, ...] = ()


class Structure:
    """A structure: ``source`` declares it in C++, ``record`` makes one for numbers of a dtype."""

    def __init__(self, name: str, *fields: Field) -> None:
        self.name, self.fields = name, fields
        self._dtypes: dict[str, Any] = {}

    @property
    def source(self) -> str:
        """The declaration."""
        lines = [
            f"    {_KINDS[field.kind][1]} {field.name}{''.join(f'[{length}]' for length in field.lengths)};"
            for field in self.fields
        ]
        return "\n".join([f"struct {self.name} {{", *lines, "};", ""])

    def record(self, dtype: Any) -> Any:
        """An array (1,) that holds one, zeros."""
        real = np.dtype(dtype).str
        if real not in self._dtypes:  # to describe a structure takes longer than a launch
            kinds = [(field.name, _KINDS[field.kind][0] or real, field.lengths) for field in self.fields]
            self._dtypes[real] = np.dtype(kinds, align=True)
        return np.zeros(1, self._dtypes[real])
