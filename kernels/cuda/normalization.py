"""Normalisation of columns and rows on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any

import cupy

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, in_order, placing
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

# Rows that a thread sums up before the parts are.
_CHUNK = 128

_GRADIENTS = ("dx", "dgamma", "dbeta")

# What kernels read, and what they write; null where there is none.
_READ = ("x", "dy", "gamma", "beta", "mean", "rstd", "variance")
_WRITTEN = (
    *("moving_mean", "moving_variance", "made_mean", "made_rstd"),
    *("parts", "shift", "slant", "y", "dgamma", "dbeta"),
)

COLUMNS = Structure(
    "Columns",
    Field("n", "int64"),
    Field("c", "int64"),
    Field("moved", "int64"),
    Field("of_rows", "int64"),
    *(Field(name, "const real*") for name in _READ),
    *(Field(name, "real*") for name in _WRITTEN),
    numbers=(Field("momentum", "double"), Field("epsilon", "double")),
)


def _before(group: int) -> str:
    return f"#define CHUNK {_CHUNK}\n#define GROUP {group}\n"


def modules() -> Iterator[launch.Module]:
    """For the fewest threads that share a row, a warp and a block."""
    for group, dtype in product_of(launch.GROUPS, DTYPES):
        yield launch.Module(f"{group} {dtype}", launch.text("normalization.cu", dtype, (COLUMNS,), _before(group)))


class _Kernels:
    """Kernels of arrays like x, for a chain."""

    def __init__(self, x: Any, epsilon: float, momentum: float = 0.0, **flags: int) -> None:
        (n, c), self._dtype, self._record = x.shape, x.dtype, COLUMNS.record(x.dtype)
        given, self._group = self._record[0], launch.group(c)
        given["n"], given["c"], given["epsilon"], given["momentum"] = n, c, epsilon, momentum
        for name, flag in flags.items():
            given[name] = flag
        by_row, by_column = launch.blocks(n * self._group), launch.blocks(c)
        self._blocks = {"layer_norm": by_row, "layer_slope": by_row}
        self._blocks |= {"join_moments": by_column, "join_slopes": by_column}
        self._shape = n, c

    def parts(self, chain: Chain) -> str:
        """A room for the figures of chunks."""
        n, c = self._shape
        return chain.room(-(-n // _CHUNK) * 2 * c * self._dtype.itemsize)

    def add(self, chain: Chain, *entries: str, **pointers: str) -> None:
        """Launch these one after the other, on arrays by the names of what kernels read and write."""
        n, c = self._shape
        for entry in entries:
            if c and (n or entry.startswith("join")):
                before = _before(self._group)
                kernel = launch.kernel("normalization.cu", entry, self._dtype.name, (COLUMNS,), before)
                chain.add(kernel, self._blocks.get(entry, launch.blocks(n * c)), self._record, pointers)


def _there(**arrays: Any) -> dict[str, str]:
    """The names of those that are there, as the pointers to what has the same names in a chain."""
    return {name: name for name, array in arrays.items() if array is not None}


def _addresses(*arrays: Any) -> list[int]:
    """Those of the arrays that are there."""
    return [array.data.ptr for array in arrays if array is not None]


def _those(*arrays: Any) -> list[Any]:
    """The arrays that are there."""
    return [array for array in arrays if array is not None]


def _ordered(array: Any) -> Any:
    return None if array is None else in_order(array)


def _batch_norm(
    x: Any,
    gamma: Any = None,
    beta: Any = None,
    moving_mean: Any = None,
    moving_variance: Any = None,
    momentum: float = 0.99,
    epsilon: float = 1e-3,
) -> Callable[..., tuple[Any, Any, Any]]:
    """Figures of chunks, of columns, then numbers. Moving ones that lie apart are copied there and back."""
    kernels, (n, c), dtype = _Kernels(x, epsilon, momentum), x.shape, x.dtype
    columns, moving = _there(gamma=gamma, beta=beta), _there(moving_mean=moving_mean, moving_variance=moving_variance)

    def build(chain: Chain, _: Any) -> None:
        figures = {"made_mean": "mean", "made_rstd": "rstd", "parts": kernels.parts(chain), **moving}
        kernels.add(chain, "moments", "join_moments", x="x", **figures)
        kernels.add(chain, "normalize", x="x", mean="mean", rstd="rstd", y="y", **columns)

    launches = Chains(("x", *columns, *moving, "y", "mean", "rstd"), build)

    def run(
        x: Any, gamma: Any = None, beta: Any = None, moving_mean: Any = None, moving_variance: Any = None, *_: Any
    ) -> tuple[Any, Any, Any]:
        y, mean, rstd = cupy.empty((n, c), dtype), cupy.empty((c,), dtype), cupy.empty((c,), dtype)
        numbers, scale, shift, given = in_order(x), _ordered(gamma), _ordered(beta), (moving_mean, moving_variance)
        moving = [*map(_ordered, given)]
        launches(_addresses(numbers, scale, shift, *moving, y, mean, rstd))
        for each, new in zip(given, moving, strict=True):
            if each is not None and new.data.ptr != each.data.ptr:
                each[...] = new
        return y, mean, rstd

    return run


def _batch_norm_inference(
    x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *,
    out: Any = None,
) -> Callable[..., Any]:  # fmt: skip
    """Number by number."""
    columns, kernels = _there(gamma=gamma, beta=beta), _Kernels(x, epsilon)
    place = placing(out, x.shape, x.dtype, x, *_those(moving_mean, moving_variance, gamma, beta), ordered=True)

    def build(chain: Chain, _: Any) -> None:
        kernels.add(chain, "normalize", x="x", mean="mean", variance="variance", y="y", **columns)

    launches = Chains(("x", "mean", "variance", *columns, "y"), build)

    def run(
        x: Any, moving_mean: Any, moving_variance: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None
    ) -> Any:
        read = _those(x, moving_mean, moving_variance, gamma, beta)
        y, kept = place(out, *read), [*map(in_order, read)]
        launches(_addresses(*kept, y))
        return finish(y, out)

    return run


def _gradients(need: Sequence[str], *found: Any) -> tuple[Any, ...]:
    """Those that are needed."""
    return tuple(each if name in need else None for name, each in zip(_GRADIENTS, found, strict=True))


def _columns_backward(
    x: Any, epsilon: float, need: Sequence[str], moved: bool, **read: Any
) -> Callable[..., tuple[Any, ...]]:
    """What gives the gradients of columns like x: ``run(dy, x, *read)``, of which some may be None."""
    (n, c), dtype, kernels = x.shape, x.dtype, _Kernels(x, epsilon, moved=int(moved))
    there, slope = _there(**read), {"y": "y"} if "dx" in need else {}
    entries = "slopes", "join_slopes", *(["slope"] if slope else [])

    def build(chain: Chain, _: Any) -> None:
        shift, slant = (chain.room(c * dtype.itemsize) for _ in range(2))
        made = {"shift": shift, "slant": slant, "parts": kernels.parts(chain), "dgamma": "dgamma", "dbeta": "dbeta"}
        kernels.add(chain, *entries, x="x", dy="dy", **there, **made, **slope)

    launches = Chains(("x", "dy", *there, *slope, "dgamma", "dbeta"), build)

    def run(dy: Any, x: Any, *read: Any) -> tuple[Any, ...]:
        dx = cupy.empty((n, c), dtype) if "dx" in need else None
        dgamma, dbeta = cupy.empty((c,), dtype), cupy.empty((c,), dtype)
        kept = [in_order(each) for each in (x, dy, *read) if each is not None]
        launches(_addresses(*kept, dx, dgamma, dbeta))
        return _gradients(need, dx, dgamma, dbeta)

    return run


def _batch_norm_backward(
    dy: Any, x: Any, mean: Any, rstd: Any, gamma: Any = None, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """Sums of chunks, of columns, then numbers."""
    compute = _columns_backward(x, 0.0, need, moved=True, mean=mean, rstd=rstd, gamma=gamma)
    return lambda dy, x, mean, rstd, gamma=None, *_, **__: compute(dy, x, mean, rstd, gamma)


def _batch_norm_inference_backward(
    dy: Any,
    x: Any,
    moving_mean: Any,
    moving_variance: Any,
    gamma: Any = None,
    epsilon: float = 1e-3,
    need: Sequence[str] = _GRADIENTS,
) -> Callable[..., tuple[Any, ...]]:
    """The same where the figures do not depend on x."""
    read = {"mean": moving_mean, "variance": moving_variance, "gamma": gamma}
    compute = _columns_backward(x, epsilon, need, moved=False, **read)

    def run(dy: Any, x: Any, mean: Any, variance: Any, gamma: Any = None, *_: Any, **__: Any) -> tuple[Any, ...]:
        return compute(dy, x, mean, variance, gamma)

    return run


def _layer_norm(
    x: Any, gamma: Any = None, beta: Any = None, epsilon: float = 1e-3, *, out: Any = None
) -> Callable[..., Any]:
    """Row by row."""
    columns, kernels = _there(gamma=gamma, beta=beta), _Kernels(x, epsilon)
    place = placing(out, x.shape, x.dtype, *_those(x, gamma, beta), ordered=True)

    def build(chain: Chain, _: Any) -> None:
        kernels.add(chain, "layer_norm", x="x", y="y", **columns)

    launches = Chains(("x", *columns, "y"), build)

    def run(x: Any, gamma: Any = None, beta: Any = None, *_: Any, out: Any = None) -> Any:
        read = _those(x, gamma, beta)
        y, kept = place(out, *read), [*map(in_order, read)]
        launches(_addresses(*kept, y))
        return finish(y, out)

    return run


def _layer_norm_backward(
    dy: Any, x: Any, gamma: Any = None, epsilon: float = 1e-3, need: Sequence[str] = _GRADIENTS
) -> Callable[..., tuple[Any, ...]]:
    """Rows, with their figures, then sums of chunks and of columns."""
    (n, c), dtype, kernels = x.shape, x.dtype, _Kernels(x, epsilon, of_rows=1)
    scale, slope = _there(gamma=gamma), {"y": "y"} if "dx" in need else {}
    entries = "layer_slope", "layer_weights", "join_slopes"

    def build(chain: Chain, _: Any) -> None:
        mean, rstd = (chain.room(n * dtype.itemsize) for _ in range(2))
        figures = {"made_mean": mean, "made_rstd": rstd, "parts": kernels.parts(chain)}
        made = {"dgamma": "dgamma", "dbeta": "dbeta", **slope}
        kernels.add(chain, *entries, x="x", dy="dy", **scale, **figures, **made)

    launches = Chains(("x", "dy", *scale, *slope, "dgamma", "dbeta"), build)

    def run(dy: Any, x: Any, gamma: Any = None, *_: Any, **__: Any) -> tuple[Any, ...]:
        dx = cupy.empty((n, c), dtype) if "dx" in need else None
        dgamma, dbeta = cupy.empty((c,), dtype), cupy.empty((c,), dtype)
        kept = [*map(in_order, _those(x, dy, gamma))]
        launches(_addresses(*kept, dx, dgamma, dbeta))
        return _gradients(need, dx, dgamma, dbeta)

    return run


batch_norm = Planned(implements("batch_norm", _batch_norm))
batch_norm_backward = Planned(implements("batch_norm_backward", _batch_norm_backward))
batch_norm_inference = Planned(implements("batch_norm_inference", _batch_norm_inference))
batch_norm_inference_backward = Planned(implements("batch_norm_inference_backward", _batch_norm_inference_backward))
layer_norm, layer_norm_backward = (
    Planned(implements("layer_norm", _layer_norm)),
    Planned(implements("layer_norm_backward", _layer_norm_backward)),
)
