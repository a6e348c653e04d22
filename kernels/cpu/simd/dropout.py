"""Dropout: what masks keep that are drawn from a counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn.kernels.cpu.simd.functions import Vectors
from fastnn.kernels.cpu.simd.kernel import Nothing, Number, Pointer, Size, micro_kernel
from fastnn.kernels.cpu.simd.loops import Span
from fastnn.kernels.cpu.simd.random import RowName, RowWords


@micro_kernel
def dropout_row(
    v: Vectors,
    threshold: Size,
    which: RowName,
    count: Size,
    x: Pointer,
    scale: Number,
    y: Pointer,
) -> Nothing:
    """y = scale * x where the row's words are not below the threshold, 0 where they are; y may be x."""
    words = RowWords(v, which)
    least, factor, zero = words.v.splat(threshold), words.v.splat(scale), words.v.constant(0.0)

    def body(places: Sequence[Span], drawn: Sequence[Any]) -> None:
        for at, word in zip(places, drawn, strict=True):
            keep = v.builder.icmp_signed(">=", word, least)
            at.store(v.builder.select(keep, at.v.mul(at.load(x), factor), zero), y)

    words.for_each(count, body)
