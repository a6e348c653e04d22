"""Where operands begin in memory: where the allocator has room, or inside ``spread`` or ``together`` at chosen places.

Why choose. The same call on the same numbers costs more or less by where its operands lie: on an Ice Lake the product
128x784x512 takes 0.82 ms with B at the beginning of a cache line and 1.18 ms with B 16 bytes further on, where each row
of the tile crosses a line. The allocator gives one or the other by luck. Two programs that are to be compared must
have the same places, or the comparison is one of places. Fresh large arrays are the hard case: all of them begin at the
same place of a page (16 bytes into one, from NumPy), and where their rows do too, they fight for the same sets of L1.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np

_PAGE, _LINE = 4096, 64
# Cache lines from one operand's place in its page to the next one's: no two of a call's share sets of L1, wherever the
# first one is, because 13 has no factor in common with a page's 64 lines.
_STRIDE = 13

# How many bytes into a page an operand begins, by its position in the call; None is wherever the allocator has room.
_offset: Callable[[int], int] | None = None


@contextmanager
def _placed(offset: Callable[[int], int]) -> Iterator[None]:
    global _offset  # noqa: PLW0603 - operands are made many calls further down
    _offset, before = offset, _offset
    try:
        yield
    finally:
        _offset = before


def spread(first: int) -> AbstractContextManager[None]:
    """Inside a ``with`` block ``place`` begins the operands of a call ``first``, ``first`` + 13, ... lines into a page.

    Each begins at the beginning of a cache line; other ``first`` give other places.
    """
    return _placed(lambda position: (first + _STRIDE * position) * _LINE % _PAGE)


def together(offset: int) -> AbstractContextManager[None]:
    """Inside a ``with`` block ``place`` begins all operands of a call ``offset`` bytes into a page."""
    return _placed(lambda _: offset)


def place(operands: Mapping[str, Any]) -> dict[str, Any]:
    """The operands of a call, its arrays where the ``with`` block around wants them; outside of one as they are."""
    if _offset is None:
        return dict(operands)
    return {
        name: _copied_to(_offset(position), value) if isinstance(value, np.ndarray) else value
        for position, (name, value) in enumerate(operands.items())
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
