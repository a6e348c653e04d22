"""The ops of CSR matrices on the device: products with dense ones, their gradients, rows by their numbers.

A product S @ B walks the non-zeros of a row of S, each times a strip of a row of B, and ends in the epilogues of dense
products. S.T @ B is such a product of S by its columns, which a stable counting sort finds: each number of a result is
one chain of multiply-adds in the order of the non-zeros, so that its bits repeat.

Nobody waits to hear whether a matrix is malformed: it makes NaN of the rows that are not valid, and of all of S.T @ B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from itertools import product as product_of
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import gemm, launch, linear_steps
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import address, in_order
from fastnn.kernels.cuda.scan import running_sums
from fastnn.kernels.table import DTYPES, MALFORMED_CSR, TABLE

# As that of dense products, whose epilogues read it, with S in place of A.
PRODUCT = Structure(
    "Product",
    *gemm.PRODUCT.fields,
    Field("bounds", "const int*"),
    Field("bounds_step", "int64"),
    Field("indices", "const int*"),
    Field("values", "const real*"),
    Field("stored", "int64"),
    Field("fault", "const int*"),
    Field("made", "const int64*"),
    Field("last", "int64*"),
    numbers=gemm.PRODUCT.numbers,
)
ENTRIES = Structure(
    "Entries",
    *(Field(name, "int64") for name in ("n", "k", "stored", "chunk", "chunks")),
    *(Field(name, "const int*") for name in ("indptr", "indices")),
    Field("values", "const real*"),
    *(Field(name, "int*") for name in ("starts", "rows")),
    Field("moved", "real*"),
    Field("fault", "int*"),
    Field("made", "int64*"),
)
ROWS = Structure(
    "CsrRows",
    *(Field(name, "int64") for name in ("n", "rows", "stored")),
    Field("index", "const int64*"),
    *(Field(name, "const int*") for name in ("indptr", "indices")),
    Field("values", "const real*"),
    *(Field(name, "int*") for name in ("bounds", "columns")),
    Field("copies", "real*"),
    Field("fault", "int*"),
)

# Numbers of a row of the result that a lane may have, and how many warps each multiprocessor wants. Unmeasured.
_LANE_COLUMNS, _WARPS = (4, 2, 1), 16

# Non-zeros that a warp sorts at least, and the most counters of the sort. Unmeasured.
_LEAST_CHUNK, _MOST_COUNTERS = 256, 2**22

# What the kernels say of rows that they were asked for.
_MALFORMED_ROW, _NO_ROW = 1, 2


class _Entries(NamedTuple):
    """What the kernels read of a CSR matrix: where rows' non-zeros begin, ``step`` numbers apart, places and values.

    ``fault`` is None, or where the device says that they are of no use.
    """

    bounds: Any
    step: int
    indices: Any
    values: Any
    fault: Any


class Bound(NamedTuple):
    """What makes matrices whose rows have no more than ``longest`` non-zeros, of one that has ``stored``."""

    longest: int
    stored: int

    def __call__(self, parts: tuple[Any, Any, Any], shape: tuple[int, int]) -> Bounded:
        """That of (values, indices, indptr)."""
        return Bounded(parts, shape, self)


class Bounded:
    """A CSR matrix with a ``bound`` for its rows: to gather some of them needs no look at how many non-zeros they have.

    Its values and indices may be longer than it has non-zeros.
    """

    format, ndim = "csr", 2

    def __init__(self, parts: tuple[Any, Any, Any], shape: tuple[int, int], bound: Bound) -> None:
        self.data, self.indices, self.indptr = parts
        self.shape, self.bound = shape, bound

    @property
    def dtype(self) -> Any:
        """Of the values."""
        return self.data.dtype


def bounded(values: Any, indices: Any, indptr: Any, shape: tuple[int, int], longest: int) -> Bounded:
    """A matrix of these parts; none of its rows has more non-zeros than ``longest``."""
    return Bounded((values, indices, indptr), shape, Bound(longest, values.size))


def _arrays(x: Any) -> tuple[Any, Any, Any]:
    return x.data, x.indices, x.indptr


def _stored(s: Any) -> int:
    """How many non-zeros there is memory for."""
    count: int = min(s.indices.size, s.data.size)
    return count


def _entries(name: str, s: Any) -> _Entries:
    """Those of a matrix; ValueError, by its ``name``, where the arrays' sizes cannot be those of one."""
    if s.indptr.size != s.shape[0] + 1 or _stored(s) > np.iinfo(np.int32).max:
        raise ValueError(f"{name}: {MALFORMED_CSR}")
    bounds, indices = (in_order(part.astype(np.int32, copy=False)) for part in (s.indptr, s.indices))
    return _Entries(bounds, 1, indices, in_order(s.data), None)


@cache
def _kernel(source: str, entry: str, columns: int, epilogue: gemm.Epilogue, dtype: str) -> Any:
    return launch.kernel(source, entry, dtype, (PRODUCT,), _before(columns, epilogue, dtype))


def _before(columns: int, epilogue: gemm.Epilogue, dtype: str) -> str:
    """What comes before the kernel of products: the width of a lane, and the epilogue."""
    skips = epilogue.skips_zeros or epilogue.catches_up
    defined = {"LANE_COLUMNS": columns, "SKIPS_EMPTY": int(skips), "CATCHES_UP": int(epilogue.catches_up)}
    macros = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    return macros + epilogue.before(dtype) + launch.header("csr.cuh")


def _lane_columns(n: int, m: int) -> int:
    """The most with which lanes have something to do and the device has enough warps; results do not depend on it."""
    wanted = _WARPS * launch.multiprocessors()
    return next(each for each in _LANE_COLUMNS if each == 1 or (m > 16 * each and n * _warps(m, each) >= wanted))


def _warps(m: int, columns: int) -> int:
    return -(-m // (32 * columns))


def _multiply(
    entries: _Entries,
    b: Any,
    c: Any,
    epilogue: gemm.Epilogue,
    *,
    bias: Any = None,
    states: Sequence[Any] = (),
    numbers: Sequence[float] = (),
    lag: Lag | None = None,
) -> None:
    """C = f(S @ B), f an epilogue and what it takes; ``lag`` says how far rows are behind, where f catches up."""
    if c.size == 0:
        return
    record = _record(c, states, numbers or epilogue.numbers, lag)
    given = record[0]
    given["k"], given["b"] = b.shape[0], address(b)
    gemm.describe_matrix(given, "b", b)
    if bias is not None:
        given["bias"], given["bias_step"] = address(bias), bias.strides[0] // bias.itemsize
    given["bounds"], given["indices"], given["values"] = map(address, (entries.bounds, entries.indices, entries.values))
    given["bounds_step"], given["stored"] = entries.step, min(entries.indices.size, entries.values.size)
    given["fault"] = 0 if entries.fault is None else address(entries.fault)
    _launch_product("csr.cu", "product", record, _lane_columns(*c.shape) if lag is None else lag.columns, epilogue)


def _record(c: Any, states: Sequence[Any], numbers: Sequence[float], lag: Lag | None) -> Any:
    """What a kernel is given of C, the weights that it may be with their states, and an epilogue's numbers."""
    record = PRODUCT.record(c.dtype)
    given = record[0]
    given["n"], given["m"] = c.shape
    given["c"] = address(c)
    gemm.describe_matrix(given, "c", c)
    gemm.describe_epilogue(given, None, None, numbers)
    given["states"][: len(states)] = [*map(address, states)]
    if lag is not None:
        given["made"], given["last"] = address(lag.made), address(lag.last)
    return record


def _launch_product(source: str, entry: str, record: Any, columns: int, epilogue: gemm.Epilogue) -> None:
    n, m = int(record["n"][0]), int(record["m"][0])
    kernel = _kernel(source, entry, columns, epilogue, record["numbers"].dtype.name)
    kernel((launch.blocks(32 * n * _warps(m, columns)),), (launch.THREADS,), (record,))


def _times(name: str, x: Any, w: Any, c: Any, epilogue: gemm.Epilogue = gemm.PLAIN, **_: Any) -> Callable[..., None]:
    """C = f(x @ w), of an x by this ``name``. There is no plan: the non-zeros differ from call to call."""
    return lambda x, w, c, **given: _multiply(_entries(name, x), w, c, epilogue, **given)


def _transposed_times(x: Any, dz: Any, c: Any, epilogue: gemm.Epilogue = gemm.PLAIN, **_: Any) -> Callable[..., None]:
    """C = f(x.T @ dz)."""
    return lambda x, dz, c, **given: _multiply(_transposed(x), dz, c, epilogue, **given)


def _transposed(s: Any) -> _Entries:
    """The non-zeros of a matrix by their columns."""
    return _by_columns(_entries("x", s), *s.shape)


def add_rows(index: Any, dy: Any, total: Any) -> None:
    """Total (rows, m) = the sums of those rows of dy (n, m) whose numbers they are, index (n,), each in their order.

    That is S.T @ dy, S with a 1 in each row, in the column of that number. Numbers that are none of a row are left out.
    """
    n, rows = index.shape[0], total.shape[0]
    columns = index.astype(np.int64, copy=False).clip(-1, rows).astype(np.int32)
    ones = _Entries(cupy.arange(n + 1, dtype=np.int32), 1, columns, cupy.ones((n,), dy.dtype), None)
    _multiply(_by_columns(ones, n, rows)._replace(fault=None), dy, total, gemm.PLAIN)


class Lag:
    """How far states of rows of weights (k, m) are behind: steps ``made``, and the ``last`` one of each warp's part.

    Both are on the device, so that a captured step may be launched again and again.
    """

    def __init__(self, k: int, m: int) -> None:
        self.columns = _lane_columns(k, m)
        self.made, self.last = cupy.zeros((1,), np.int64), cupy.zeros((k * _warps(m, self.columns),), np.int64)


def step_rows(
    name: str, x: Any, dz: Any, w: Any, states: Sequence[Any], numbers: Sequence[float], lag: Lag | None
) -> None:
    """The step of this name, with these numbers, of w and its states by x.T @ dz, which nobody writes.

    With a ``lag`` rows of w whose columns of x are empty wait for their next non-zero, or for ``catch_up``.
    """
    n, k = x.shape
    entries = _by_columns(_entries("x", x), n, k, lag)
    _multiply(entries, dz, w, gemm.update(name, lag is not None), states=states, numbers=numbers, lag=lag)


def catch_up(name: str, w: Any, states: Sequence[Any], numbers: Sequence[float], lag: Lag) -> None:
    """Make up for the steps that rows of w have missed."""
    if w.size:
        _launch_product(
            "csr_behind.cu", "caught_up", _record(w, states, numbers, lag), lag.columns, gemm.update(name, True)
        )


def _by_columns(entries: _Entries, n: int, k: int, lag: Lag | None = None) -> _Entries:
    """The non-zeros of a matrix (n, k) by their columns, in the order of the rows; a ``lag`` counts it as a step."""
    stored, dtype = min(entries.indices.size, entries.values.size), entries.values.dtype
    chunks = max(1, min(-(-stored // _LEAST_CHUNK), _MOST_COUNTERS // max(1, k)))
    chunk = -(-stored // (32 * chunks)) * 32
    zeros = cupy.zeros((k * chunks + 3,), np.int32)
    starts, fault = zeros[:-1], zeros[-1:]
    found = _Entries(starts, chunks, cupy.empty((stored,), np.int32), cupy.empty((stored,), dtype), fault)
    record = ENTRIES.record(dtype)
    places = map(address, (entries.bounds, entries.indices, entries.values, starts, found.indices, found.values, fault))
    record[0] = n, k, stored, chunk, chunks, *places, 0 if lag is None else address(lag.made)
    _launch("transpose.cu", "counted", ENTRIES, record, dtype, max(n, stored))
    running_sums(starts[: k * chunks + 1])
    _launch("transpose.cu", "moved", ENTRIES, record, dtype, 32 * chunks)
    return found


def _launch(source: str, entry: str, structure: Structure, record: Any, dtype: Any, threads: int) -> None:
    kernel = launch.kernel(source, entry, dtype.name, (structure,))
    kernel((launch.blocks(threads),), (launch.THREADS,), (record,))


def _placing(out: Any, shape: tuple[int, ...], dtype: Any, *_: Any) -> Callable[..., Any]:
    """There is no plan: how long the arrays of a matrix are differs from call to call."""
    return lambda out, x, *others: gemm.placed(out, shape, dtype, *_arrays(x), *others)


def _placing_each(outs: Sequence[Any], shapes: Sequence[Any], dtype: Any, *sources: Any) -> Callable[..., list[Any]]:
    return gemm.placing_each(_placing, outs, shapes, dtype, *sources)


SPARSE = gemm.Kind(_arrays, _placing, _placing_each, partial(_times, "x"), _transposed_times)

matmul = gemm.product_op(SPARSE._replace(times=partial(_times, "a")))
linear, linear_backward = gemm.layer_op(SPARSE), gemm.layer_backward_op(SPARSE)
globals().update(
    {name: linear_steps.layer_step(op, SPARSE) for name, op in TABLE.items() if op.module == "linear_steps"}
)


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """As a matrix of the same class. Its arrays are as long as it has non-zeros: this op alone waits for the device.

    IndexError for a number that is none of a row, ValueError for a malformed matrix. Of one with a bound the arrays
    are as long as that allows: nobody waits, and what is no row, or none that is valid, is empty.
    """
    rows, dtype = index.shape[0], data.dtype
    entries, numbers = _entries("data", data), in_order(index.astype(np.int64, copy=False))
    bounds = cupy.empty((rows + 2,), np.int32)  # the last one is the fault
    bounds[rows + 1] = 0
    record = ROWS.record(dtype)
    given = record[0]
    given["n"], given["rows"], given["stored"] = rows, data.shape[0], _stored(data)
    given["index"], given["bounds"], given["fault"] = address(numbers), address(bounds), address(bounds[rows + 1 :])
    given["indptr"], given["indices"], given["values"] = map(address, (entries.bounds, entries.indices, entries.values))
    _launch("csr_rows.cu", "lengths", ROWS, record, dtype, rows)
    running_sums(bounds[: rows + 1])
    bound = getattr(data, "bound", None)
    if bound is None:
        count, fault = bounds[rows:].get().tolist()
        _raise(fault, data.shape[0])
    else:
        count = rows * bound.longest
    columns, copies = cupy.empty((count,), np.int32), cupy.empty((count,), dtype)
    given["columns"], given["copies"] = address(columns), address(copies)
    if count:
        _launch("csr_rows.cu", "copied", ROWS, record, dtype, 32 * rows)
    make, parts = bound or type(data), (copies, columns, bounds[: rows + 1])
    return make(parts, shape=(rows, data.shape[1]))


def _raise(fault: int, rows: int) -> None:
    if fault == _NO_ROW:
        raise IndexError(f"index: got a number that is none of a row, wants row numbers in [0, {rows})")
    if fault == _MALFORMED_ROW:
        raise ValueError(f"data: {MALFORMED_CSR}")


def modules() -> Iterator[launch.Module]:
    """Products of every width with an epilogue of each kind, and what sorts and copies."""
    epilogues = {"plain": gemm.PLAIN, "gelu": gemm.forward("gelu"), "amsgrad": gemm.update("amsgrad")}
    epilogues["rmsprop later"] = gemm.update("rmsprop", True)
    for dtype in DTYPES:
        for columns, (kind, epilogue) in product_of(_LANE_COLUMNS, epilogues.items()):
            for source in ("csr.cu", "csr_behind.cu") if epilogue.catches_up else ("csr.cu",):
                text = launch.text(source, dtype, (PRODUCT,), _before(columns, epilogue, dtype))
                entry = "product" if source == "csr.cu" else "caught_up"
                yield launch.Module(f"{entry} {columns} {kind} {dtype}", text)
        for source, structure in (("transpose.cu", ENTRIES), ("csr_rows.cu", ROWS)):
            yield launch.Module(f"{source.removesuffix('.cu')} {dtype}", launch.text(source, dtype, (structure,)))
