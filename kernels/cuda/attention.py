"""Attention on the device: products of all heads, and between them the softmax of scores, which lie in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any, NamedTuple

import cupy

from fastnn.kernels.cuda import batched, launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, like, placing_apart
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.losses import rows_header
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.attention import FAR_BELOW, GRADIENTS
from fastnn.kernels.table.row import implements

SCORES = Structure(
    "Scores",
    *(Field(name, "int64") for name in ("n", "h", "t", "s", "causal", "mask_sample", "mask_row", "mask_column")),
    Field("mask", "const real*"),
    Field("weights", "real*"),
    Field("slopes", "real*"),
    numbers=(Field("scale", "real"),),
)


def _before(group: int) -> str:
    return f"#define GROUP {group}\n#define FAR_BELOW {FAR_BELOW}\n{rows_header('softmax')}"


def modules() -> Iterator[launch.Module]:
    """For the fewest threads that share a row, a warp and a block."""
    for group, dtype in product_of(launch.GROUPS, DTYPES):
        yield launch.Module(f"{group} {dtype}", launch.text("attention.cu", dtype, (SCORES,), _before(group)))


class _Operand(NamedTuple):
    """Matrices (samples, heads, rows, columns) by the name of their memory; strides in numbers."""

    name: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def T(self) -> _Operand:  # noqa: N802 - NumPy's name
        (n, h, rows, columns), (sample, head, row, column) = self.shape, self.strides
        return _Operand(self.name, (n, h, columns, rows), (sample, head, column, row))


def _of_heads(name: str, shape: Sequence[int], strides: Sequence[int]) -> _Operand:
    """Of an array (n, steps, h, features)."""
    (n, steps, h, features), (sample, row, head, column) = shape, strides
    return _Operand(name, (n, h, steps, features), (sample, head, row, column))


def _given(name: str, array: Any) -> _Operand:
    return _of_heads(name, array.shape, [stride // array.dtype.itemsize for stride in array.strides])


def _made(name: str, shape: Sequence[int]) -> _Operand:
    """A result, in C order."""
    return _of_heads(name, shape, [math.prod(shape[place + 1 :]) for place in range(4)])


class _Scores:
    """Scores of arrays like these, for a chain that they are added to."""

    def __init__(self, chain: Chain, query: Any, key: Any, mask: Any, scale: float, causal: bool) -> None:
        (n, t, h, _), s, self._dtype = query.shape, key.shape[1], query.dtype
        self._chain, self._shape, self._record = chain, (n, h, t, s), SCORES.record(self._dtype)
        given, self._masked = self._record[0], mask is not None
        given["n"], given["h"], given["t"], given["s"] = self._shape
        given["causal"], given["scale"] = causal, scale
        if mask is not None:
            for step, stride in zip(("sample", "row", "column"), mask.strides, strict=True):
                given[f"mask_{step}"] = stride // self._dtype.itemsize

    def room(self) -> _Operand:
        """Memory for one number each."""
        _, h, t, s = self._shape
        room = self._chain.room(math.prod(self._shape) * self._dtype.itemsize)
        return _Operand(room, self._shape, (h * t * s, t * s, s, 1))

    def multiply(self, a: _Operand, b: _Operand, y: _Operand) -> None:
        """y = a @ b."""
        sizes = (*a.shape, b.shape[3])
        if math.prod(y.shape):
            launched = batched.products(self._dtype, sizes, a.strides, b.strides, y.strides)
            self._chain.add(*launched, {"a": a.name, "b": b.name, "y": y.name})

    def finish(self, entry: str, **operands: _Operand) -> None:
        """Launch one of the kernels of scores."""
        n, h, t, s = self._shape
        group = launch.group(s)
        kernel = launch.kernel("attention.cu", entry, self._dtype.name, (SCORES,), _before(group))
        pointers = {name: each.name for name, each in operands.items()} | ({"mask": "mask"} if self._masked else {})
        self._chain.add(kernel, launch.blocks(n * h * t * group), self._record, pointers)


def _addresses(*arrays: Any) -> tuple[int, ...]:
    return tuple(0 if array is None else array.data.ptr for array in arrays)


def _attention(
    query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False, *, out: Any = None
) -> Callable[..., Any]:
    shape = (*query.shape[:3], value.shape[3])
    place = placing_apart(out, shape, query.dtype, *(each for each in (query, key, value, mask) if each is not None))
    q, k, v = (_given(name, each) for name, each in (("query", query), ("key", key), ("value", value)))
    some = math.prod(shape) * key.shape[1] > 0

    def build(chain: Chain, _: Any) -> None:
        scores = _Scores(chain, query_like, key_like, mask_like, scale, causal)
        weights = scores.room()
        scores.multiply(q, k.T, weights)
        scores.finish("weights_of", weights=weights)
        scores.multiply(weights, v, _made("y", shape))

    query_like, key_like, mask_like = like(query), like(key), like(mask)
    launches = Chains(("query", "key", "value", "mask", "y"), build)

    def run(
        query: Any, key: Any, value: Any, mask: Any = None, scale: float = 1.0, causal: bool = False, *, out: Any = None
    ) -> Any:
        y = place(out, *(each for each in (query, key, value, mask) if each is not None))
        if some:
            launches(_addresses(query, key, value, mask, y))
        else:  # the mean of no values
            y[...] = 0
        return finish(y, out)

    return run


def _attention_backward(
    dy: Any,
    query: Any,
    key: Any,
    value: Any,
    mask: Any = None,
    scale: float = 1.0,
    causal: bool = False,
    need: Sequence[str] = GRADIENTS,
) -> Callable[..., Any]:
    slopes, q, k, v = (
        _given(name, each) for name, each in (("dy", dy), ("query", query), ("key", key), ("value", value))
    )
    shapes, dtype = dict(zip(GRADIENTS, (query.shape, key.shape, value.shape), strict=True)), dy.dtype
    made = {name: _made(name, shape) for name, shape in shapes.items()}
    some = math.prod(dy.shape) * key.shape[1] > 0
    query_like, key_like, mask_like = like(query), like(key), like(mask)

    def build(chain: Chain, _: Any) -> None:
        scores = _Scores(chain, query_like, key_like, mask_like, scale, causal)
        weights, of_scores = scores.room(), scores.room()
        scores.multiply(q, k.T, weights)
        scores.finish("weights_of", weights=weights)
        if "dvalue" in need:
            scores.multiply(weights.T, slopes, made["dvalue"])
        scores.multiply(slopes, v.T, of_scores)
        scores.finish("slopes_of_scores", weights=weights, slopes=of_scores)
        if "dquery" in need:
            scores.multiply(of_scores, k, made["dquery"])
        if "dkey" in need:
            scores.multiply(of_scores.T, q, made["dkey"])

    launches = Chains(("dy", "query", "key", "value", "mask", *GRADIENTS), build)

    def run(
        dy: Any,
        query: Any,
        key: Any,
        value: Any,
        mask: Any = None,
        scale: float = 1.0,
        causal: bool = False,
        need: Sequence[str] = GRADIENTS,
    ) -> Any:
        new = cupy.empty if some else cupy.zeros
        found = {name: new(shape, dtype) if name in need else None for name, shape in shapes.items()}
        if some:
            launches(_addresses(dy, query, key, value, mask, *found.values()))
        return tuple(found.values())

    return run


attention = Planned(implements("attention", _attention))
attention_backward = Planned(implements("attention_backward", _attention_backward))
