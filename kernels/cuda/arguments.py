"""What a kernel is given: one structure by value, declared once for NumPy, which fills it, and for C++, which reads it.

A launch that passes many arguments converts each of them; one record is filled in place and passed as it is.

What may be other numbers when a captured launch is repeated (a learning rate, the number of a step) is a part of its
own, NAMENumbers: ``own`` by value, unless ``elsewhere`` points to it in the device's memory. ``numbers_of(given)`` is
the one that counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

# NumPy's kind and C++'s of a field; pointers are to the kernel's numbers, or to what they are named for.
_KINDS = {
    "int": ("i4", "int"),
    "int*": ("u8", "int*"),
    "const int*": ("u8", "const int*"),
    "int64": ("i8", "int64"),
    "int64*": ("u8", "int64*"),
    "real": (None, "real"),
    "real*": ("u8", "real*"),
    "const real*": ("u8", "const real*"),
    "const int64*": ("u8", "const int64*"),
    "uint64": ("u8", "uint64"),
    "unsigned": ("u4", "unsigned"),
    "unsigned*": ("u8", "unsigned*"),
    "char": ("i1", "char"),
    "unsigned char*": ("u8", "unsigned char*"),
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


class Span(NamedTuple):
    """Where in a record its numbers are, and the pointer to those elsewhere, in bytes from its start."""

    offset: int
    size: int
    pointer: int


_ELSEWHERE = """FUNCTION {0}Numbers numbers_of(const {0}& given) {{
    {0}Numbers chosen = given.own;
    if (given.elsewhere) chosen = *given.elsewhere;
    return chosen;
}}
"""


class Structure:
    """A structure: ``source`` declares it in C++, ``record`` makes one for numbers of a dtype.

    ``numbers`` are the fields that may be elsewhere.
    """

    def __init__(self, name: str, *fields: Field, numbers: Sequence[Field] = ()) -> None:
        self.name, self.fields, self.numbers = name, fields, tuple(numbers)
        self._dtypes: dict[str, Any] = {}

    @property
    def source(self) -> str:
        """The declaration."""
        if not self.numbers:
            return _declared(self.name, self.fields)
        parts = f"    {self.name}Numbers own;", f"    const {self.name}Numbers* elsewhere;"
        return (
            _declared(f"{self.name}Numbers", self.numbers)
            + _declared(self.name, self.fields, *parts)
            + _ELSEWHERE.format(self.name)
        )

    def record(self, dtype: Any) -> Any:
        """An array (1,) that holds one, zeros; numbers by their names, as if they were fields like all others."""
        real = np.dtype(dtype).str
        if real not in self._dtypes:  # to describe a structure takes longer than a launch
            self._dtypes[real] = self._described(real)
        return np.zeros(1, self._dtypes[real])

    def span(self, dtype: Any) -> Span | None:
        """Where the numbers are, if there are any."""
        if not self.numbers:
            return None
        parts, own = self._parts(np.dtype(dtype).str)
        return Span(parts.fields["own"][1], own.itemsize, parts.fields["elsewhere"][1])

    def _parts(self, real: str) -> tuple[Any, Any]:
        """The structure as C++ lays it out, and that of its numbers."""
        fields, own = _kinds(self.fields, real), np.dtype(_kinds(self.numbers, real), align=True)
        return np.dtype([*fields, ("own", own), ("elsewhere", "u8")], align=True), own

    def _described(self, real: str) -> Any:
        """NumPy's dtype of a record."""
        if not self.numbers:
            return np.dtype(_kinds(self.fields, real), align=True)
        parts, own = self._parts(real)
        inner = {name: (kind, parts.fields["own"][1] + offset) for name, (kind, offset) in own.fields.items()}
        fields = {**{name: each for name, each in parts.fields.items() if name != "own"}, **inner}
        kinds, offsets = zip(*fields.values(), strict=True)
        return np.dtype({"names": list(fields), "formats": kinds, "offsets": offsets, "itemsize": parts.itemsize})


def _kinds(fields: Sequence[Field], real: str) -> list[Any]:
    return [(field.name, _KINDS[field.kind][0] or real, field.lengths) for field in fields]


def _declared(name: str, fields: Sequence[Field], *more: str) -> str:
    lines = [
        f"    {_KINDS[field.kind][1]} {field.name}{''.join(f'[{length}]' for length in field.lengths)};"
        for field in fields
    ]
    return "\n".join([f"struct {name} {{", *lines, *more, "};", ""])
