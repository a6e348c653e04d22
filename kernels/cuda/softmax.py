"""Softmax and its logarithm on the device, row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import product as product_of
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order, written_to
from fastnn.kernels.cuda.losses import loss_op
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
    return f"#define GROUP {group}\n#define LOGARITHM {int(name == 'log_softmax')}\n"


def modules() -> Iterator[launch.Module]:
    """Both, for the fewest threads, a warp and a block."""
    for name, group, dtype in product_of(("softmax", "log_softmax"), launch.GROUPS, DTYPES):
        text = launch.text("softmax.cu", dtype, (ROWS,), _before(name, group))
        yield launch.Module(f"{name} {group} {dtype}", text)


def _compute(entry: str, name: str, sources: tuple[Any, ...], out: Any) -> Any:
    """The kernel ``entry`` of arrays (n, c), in ``out`` or a new array."""
    (n, c), dtype = sources[0].shape, sources[0].dtype
    result, finished = written_to(out, (n, c), dtype, *sources, ordered=True)
    if result.size:
        record = ROWS.record(dtype)
        kept = [in_order(source) for source in sources]
        record[0] = n, c, address(kept[0]), address(kept[-1]), address(result)
        group = launch.group(c)
        kernel = launch.kernel("softmax.cu", entry, dtype.name, (ROWS,), _before(name, group))
        kernel((launch.blocks(n * group),), (launch.THREADS,), (record,))
    return finished()


def _forward(name: str) -> Callable[..., Any]:
    def forward(x: Any, *, out: Any = None) -> Any:
        return _compute("forward", name, (x,), out)

    return implements(name, forward)


def _backward(name: str) -> Callable[..., Any]:
    def backward(dy: Any, x: Any, y: Any, *, out: Any = None) -> Any:
        return _compute("backward", name, (dy, y), out)

    return implements(f"{name}_backward", backward)


globals().update({name: _forward(name) for name in ("softmax", "log_softmax")})
globals().update({f"{name}_backward": _backward(name) for name in ("softmax", "log_softmax")})
softmax_cross_entropy = loss_op("softmax_cross_entropy")
