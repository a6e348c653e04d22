"""Softmax and its logarithm on the device, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product as product_of
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, like_new, placing
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.losses import loss_op, rows_header
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

ROWS = Structure(
    "Rows",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("a", "const real*"),
    Field("b", "const real*"),
    Field("y", "real*"),
)


def _before(name: str, group: int) -> str:
    return f"#define GROUP {group}\n{rows_header(name)}"


def modules() -> Iterator[launch.Module]:
    """Both, for the fewest threads, a warp and a block."""
    for name, group, dtype in product_of(("softmax", "log_softmax"), launch.GROUPS, DTYPES):
        text = launch.text("softmax.cu", dtype, (ROWS,), _before(name, group))
        yield launch.Module(f"{name} {group} {dtype}", text)


def add_to(chain: Chain, entry: str, name: str, like: Any, a: str, b: str, y: str) -> None:
    """Launch the kernel ``entry`` in a chain, on arrays by these names that are like one (n, c), in C order."""
    (n, c), dtype = like.shape, like.dtype
    record = ROWS.record(dtype)
    if n == 0 or c == 0:
        return
    group = launch.group(c)
    record[0]["n"], record[0]["c"] = n, c
    kernel = launch.kernel("softmax.cu", entry, dtype.name, (ROWS,), _before(name, group))
    chain.add(kernel, launch.blocks(n * group), record, {"a": a, "b": b, "y": y})


def _planned(entry: str, name: str, sources: tuple[Any, ...], out: Any) -> Callable[..., Any]:
    """What runs the kernel ``entry`` on arrays (n, c) like these: ``run(out, *sources)``."""
    (n, c), dtype = sources[0].shape, sources[0].dtype
    place, like = placing(out, (n, c), dtype, *sources, ordered=True), like_new((n, c), dtype)
    names = "ab"[: len(sources)]
    launches = Chains((*names, "y"), lambda chain, _: add_to(chain, entry, name, like, "a", names[-1], "y"))

    def run(out: Any, *sources: Any) -> Any:
        result, kept = place(out, *sources), [*map(in_order, sources)]
        launches(tuple([array.data.ptr for array in (*kept, result)]))
        return finish(result, out)

    return run


def _forward(name: str) -> Planned:
    def forward(x: Any, *, out: Any = None) -> Callable[..., Any]:
        run = _planned("forward", name, (x,), out)
        return lambda x, *, out=None: run(out, x)

    return Planned(implements(name, forward))


def _backward(name: str) -> Planned:
    def backward(dy: Any, x: Any, y: Any, *, out: Any = None) -> Callable[..., Any]:
        run = _planned("backward", name, (dy, y), out)
        return lambda dy, x, y, *, out=None: run(out, dy, y)

    return Planned(implements(f"{name}_backward", backward))


globals().update({name: _forward(name) for name in ("softmax", "log_softmax")})
globals().update({f"{name}_backward": _backward(name) for name in ("softmax", "log_softmax")})
softmax_cross_entropy = loss_op("softmax_cross_entropy")
