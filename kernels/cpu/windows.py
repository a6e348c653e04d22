"""Windows over padded images: where a convolution, or its gradient, finds what each of its sums takes.

Both are sums over taps, places of the kernel. A convolution's output reads x from ``stride`` numbers further on than
the output before it. Its gradient by x adds up the outputs that an x went into: with stride 1 a convolution with the
kernel turned around. With another x falls into phases, of every stride-th number, each with taps of its own, and from
one number of a phase to the next it is one output further on. So one kernel serves both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from fastnn.kernels.table.windows import margins, places, reach


class Along(NamedTuple):
    """A window that moves along one axis: sizes of x, of the kernel and of y, and how it moves."""

    size: int
    window: int
    places: int
    stride: int
    dilation: int
    before: int


def along(
    x: Sequence[int], w: Sequence[int], strides: Sequence[int], padding: Any, dilation: Sequence[int]
) -> list[Along]:
    """Of each spatial axis; x (n, h, w, c), w (kh, kw, ...)."""
    return [
        Along(
            size, window, places(size, window, stride, padding, axis, apart), stride, apart,
            margins(size, window, stride, padding, axis, apart)[0],
        )
        for axis, (size, window, stride, apart) in enumerate(zip(x[1:-1], w, strides, dilation, strict=False))
    ]  # fmt: skip


class Tap(NamedTuple):
    """A place of the kernel, and where its number lies for the first of a phase's outputs."""

    source: int
    place: int


class Phase(NamedTuple):
    """So many outputs from ``first`` on, and the taps of its sum, in the order of their sources."""

    first: int
    outputs: int
    taps: tuple[Tap, ...]


class Lines(NamedTuple):
    """The outputs along an axis: phases of every ``out``-th, whose sources are ``step`` apart.

    Sources are counted from ``before`` numbers ahead of the first one; there are ``size`` numbers, and ``width`` with
    what is around them.
    """

    phases: tuple[Phase, ...]
    out: int
    step: int
    size: int
    before: int
    width: int


def forward(axis: Along) -> Lines:
    """Of a convolution: one phase."""
    taps = tuple(Tap(k * axis.dilation, k) for k in range(axis.window))
    width = (axis.places - 1) * axis.stride + reach(axis.window, axis.dilation)
    return Lines((Phase(0, axis.places, taps),), 1, axis.stride, axis.size, axis.before, width)


def backward(axis: Along) -> Lines:
    """Of the gradient by x: x[i] went by tap k into y[(i + before - k * dilation) / stride], where that is whole."""
    found = []
    for first in range(min(axis.stride, axis.size)):
        ways = ((first + axis.before - k * axis.dilation, k) for k in range(axis.window))
        taps = sorted(Tap(way // axis.stride, k) for way, k in ways if way % axis.stride == 0)
        found.append((first, -(-(axis.size - first) // axis.stride), taps))
    before = -min((tap.source for _, _, taps in found for tap in taps), default=0)
    phases = tuple(
        Phase(first, count, tuple(Tap(tap.source + before, tap.place) for tap in taps)) for first, count, taps in found
    )
    width = max((phase.outputs + phase.taps[-1].source for phase in phases if phase.taps), default=1)
    return Lines(phases, axis.stride, 1, axis.places, before, width)


def is_whole(lines: Lines) -> bool:
    """Whether all sources are there: nothing is put around them."""
    return lines.before == 0 and lines.width <= lines.size


def consecutive(taps: Sequence[Tap]) -> bool:
    """Whether each tap's source is the next one of the tap before it."""
    return all(b.source - a.source == 1 for a, b in pairwise(taps))
