"""Where operands begin in memory: wherever the allocator has room, or inside ``spread`` at places that are chosen.

Why choose. The same call on the same numbers costs more or less by where its operands lie: on an Ice Lake the product
128x784x512 takes 0.82 ms with B at the beginning of a cache line and 1.18 ms with B 16 bytes further on, where each row
of the tile crosses a line. The allocator gives one or the other by luck. Two programs that are to be compared must
have the same places, or the comparison is one of places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np

_PAGE, _LINE = 4096, 64
# Cache lines from one operand's place in its page to the next one's: no two of a call's share sets of L1, wherever the
# first one is, because 13 has no factor in common with a page's 64 lines.
_STRIDE = 13

_first: int | None = None


@contextmanager
def spread(first: int) -> Iterator[None]:
    """Inside a ``with`` block ``place`` begins the operands of a call ``first``, ``first`` + 13, ... lines into a page.

    Each begins at the beginning of a cache line; other ``first`` give other places.
    """
    global _first  # noqa: PLW0603 - operands are made many calls further down
    _first, before = first, _first
    try:
        yield
    finally:
        _first = before


def place(operands: Mapping[str, Any]) -> dict[str, Any]:
    """The operands of a call, its arrays where ``spread`` wants them; outside ``spread`` as they are."""
    if _first is None:
        return dict(operands)
    lines = {name: _first + _STRIDE * position for position, name in enumerate(operands)}
    return {
        name: _copied_to(lines[name] * _LINE % _PAGE, value) if isinstance(value, np.ndarray) else value
        for name, value in operands.items()
    }


def _copied_to(offset: int, array: Any) -> Any:
    """A copy that begins ``offset`` bytes into a page, rows or columns in order as they are."""
    if array.ndim == 2 and not array.flags.c_contiguous:
        return _copied_to(offset, array.T).T
    room = np.empty(array.nbytes + _PAGE, np.uint8)
    begin = (offset - room.ctypes.data) % _PAGE
    copy = room[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
