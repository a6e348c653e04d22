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
from struct import Struct, pack_into
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import gemm, launch, linear_steps
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import MOST_FOUND, address, apart, in_order
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

_BLOCK = (launch.THREADS,)

# Non-zeros that there may be; how many parts of ``_Entries`` kernels are given, and what writes those and others.
_MOST_STORED, _READ = np.iinfo(np.int32).max, 6
_WRITE_MATRICES, _WRITE_ENTRIES, _WRITE_SORT = (Struct(form).pack_into for form in ("2Q", "QqQQqQ", "5q8Q"))

# Non-zeros that a warp sorts at least, and the most counters of the sort. Unmeasured.
_LEAST_CHUNK, _MOST_COUNTERS = 256, 2**22

# What the kernels say of rows that they were asked for.
_MALFORMED_ROW, _NO_ROW = 1, 2


class _Entries(NamedTuple):
    """What the kernels read of a CSR matrix: where rows' non-zeros begin, ``step`` numbers apart, places and values.

    All but ``step`` and how many are ``stored`` are addresses, of arrays that are ``held``; ``fault`` is 0, or where
    the device says that they are of no use.
    """

    bounds: int
    step: int
    indices: int
    values: int
    stored: int
    fault: int
    held: tuple[Any, Any, Any]


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
    stored = _stored(s)
    if s.indptr.size != s.shape[0] + 1 or stored > _MOST_STORED:
        raise ValueError(f"{name}: {MALFORMED_CSR}")
    bounds, indices, values = _integers(s.indptr), _integers(s.indices), in_order(s.data)
    return _Entries(bounds.data.ptr, 1, indices.data.ptr, values.data.ptr, stored, 0, (bounds, indices, values))


def _integers(part: Any) -> Any:
    """Whole numbers as kernels read them."""
    return in_order(part if part.dtype == np.int32 else part.astype(np.int32))


@cache
def _kernel(source: str, entry: str, columns: int, epilogue: gemm.Epilogue, dtype: str, format_: str | None) -> Any:
    return launch.kernel(source, entry, dtype, (PRODUCT,), _before(columns, epilogue, dtype, format_))


def _before(columns: int, epilogue: gemm.Epilogue, dtype: str, format_: str | None = None) -> str:
    """What comes before the kernel of products: the format of operands, the width of a lane, and the epilogue."""
    skips = epilogue.skips_zeros or epilogue.catches_up
    defined: dict[str, Any] = {
        "LANE_COLUMNS": columns,
        "SKIPS_EMPTY": int(skips),
        "CATCHES_UP": int(epilogue.catches_up),
    }
    defined["ROUNDED(number)"] = "number" if format_ is None else f"{format_}::rounded(number)"
    macros = "".join(f"#define {name} {value}\n" for name, value in defined.items())
    formats = "" if format_ is None else launch.header("ptx.cuh")
    return formats + macros + epilogue.before(dtype) + launch.header("csr.cuh")


def _lane_columns(n: int, m: int) -> int:
    """The most with which lanes have something to do and the device has enough warps; results do not depend on it."""
    wanted = _WARPS * launch.multiprocessors()
    return next(each for each in _LANE_COLUMNS if each == 1 or (m > 16 * each and n * _warps(m, each) >= wanted))


def _warps(m: int, columns: int) -> int:
    return -(-m // (32 * columns))


class _Product:
    """C (n, m) = f(S @ B) of operands like some, f an epilogue and what it takes, as ``gemm.Product``.

    Their numbers are rounded to a format of ptx.cuh, if one is given. ``lag`` says how far rows of C are behind, where
    f catches up.
    """

    def __init__(
        self,
        b: Any,
        c: Any,
        epilogue: gemm.Epilogue = gemm.PLAIN,
        *,
        bias: Any = None,
        states: Sequence[Any] = (),
        format_: str | None = None,
        lag: Lag | None = None,
    ) -> None:
        dtype, (n, m) = c.dtype, c.shape
        record = _record(c, epilogue.numbers, lag)
        given = record[0]
        given["k"] = b.shape[0]
        gemm.describe_matrix(given, "b", b)
        gemm.describe_epilogue(given, bias, None, ())
        columns = _lane_columns(n, m) if lag is None else lag.columns
        self._grid = (launch.blocks(32 * n * _warps(m, columns)),)
        self._launch = None if 0 in (n, m) else _kernel("csr.cu", "product", columns, epilogue, dtype.name, format_)
        fields = record.dtype.fields
        self._copy = record.view(np.dtype((np.void, record.itemsize))).copy
        self._at = tuple(fields[name][1] for name in ("b", "bias", "bounds", "numbers"))
        self._write_states, self._char = Struct(f"{2 + len(states)}Q").pack_into, record["numbers"].dtype.char

    def __call__(
        self,
        entries: _Entries,
        b: Any,
        c: Any,
        *,
        bias: Any = None,
        states: Sequence[Any] = (),
        numbers: Sequence[float] = (),
    ) -> None:
        """Launch what computes it of these, on the current stream."""
        if self._launch is None:
            return
        at_b, at_bias, at_bounds, at_numbers = self._at
        record = self._copy()
        _WRITE_MATRICES(record, at_b, b.data.ptr, c.data.ptr)
        if bias is not None or states:
            self._write_states(record, at_bias, 0 if bias is None else bias.data.ptr, 0, *[s.data.ptr for s in states])
        _WRITE_ENTRIES(record, at_bounds, *entries[:_READ])
        if numbers:
            pack_into(f"{len(numbers)}{self._char}", record, at_numbers, *numbers)
        self._launch(self._grid, _BLOCK, (record,))


def _record(c: Any, numbers: Sequence[float], lag: Lag | None) -> Any:
    """What a kernel is given of a C like this one, an epilogue's numbers, and how far rows are behind."""
    record = PRODUCT.record(c.dtype)
    given = record[0]
    given["n"], given["m"] = c.shape
    gemm.describe_matrix(given, "c", c)
    given["numbers"][: len(numbers)] = numbers
    if lag is not None:
        given["made"], given["last"] = address(lag.made), address(lag.last)
    return record


def _times(
    name: str, x: Any, w: Any, c: Any, epilogue: gemm.Epilogue = gemm.PLAIN, **given: Any
) -> Callable[..., None]:
    """C = f(x @ w), of an x by this ``name``: of any non-zeros, as long as its shape is the same."""
    product = _Product(w, c, epilogue, **given, format_=gemm.format_of(c.dtype.name))
    return lambda x, w, c, **given: product(_entries(name, x), w, c, **given)


def _transposed_times(
    x: Any, dz: Any, c: Any, epilogue: gemm.Epilogue = gemm.PLAIN, **given: Any
) -> Callable[..., None]:
    """C = f(x.T @ dz)."""
    product = _Product(dz, c, epilogue, **given, format_=gemm.format_of(c.dtype.name))
    by_columns = _Columns(x.shape, x.dtype)
    return lambda x, dz, c, **given: product(by_columns(_entries("x", x)), dz, c, **given)


def adding_rows(dy: Any, total: Any) -> Callable[..., None]:
    """What makes, of (index, dy, total) like these, total (rows, m) = the sums of rows of dy (n, m) by their numbers.

    index is (n,); each sum is in the order of its rows, and numbers that are none of a row are left out. That is
    S.T @ dy, S with a 1 in each row, in the column of that number.
    """
    (n, _), rows, dtype = dy.shape, total.shape[0], dy.dtype
    product, by_columns = _Product(dy, total), _Columns((n, rows), dtype)

    def run(index: Any, dy: Any, total: Any) -> None:
        columns = index.astype(np.int64, copy=False).clip(-1, rows).astype(np.int32)
        held = cupy.arange(n + 1, dtype=np.int32), columns, cupy.ones((n,), dtype)
        bounds, indices, values = map(address, held)
        entries = by_columns(_Entries(bounds, 1, indices, values, n, 0, held))
        product(entries._replace(fault=0), dy, total)

    return run


class Lag:
    """How far states of rows of weights (k, m) are behind: steps ``made``, and the ``last`` one of each warp's part.

    Both are on the device, so that a captured step may be launched again and again.
    """

    def __init__(self, k: int, m: int) -> None:
        self.columns = _lane_columns(k, m)
        self.made, self.last = cupy.zeros((1,), np.int64), cupy.zeros((k * _warps(m, self.columns),), np.int64)


def step_rows(
    name: str,
    x: Any,
    dz: Any,
    w: Any,
    states: Sequence[Any],
    numbers: Sequence[float],
    lag: Lag | None = None,
    left: float | None = None,
    limit: float | None = None,
) -> None:
    """The step of this name, with these numbers, of w and its states by x.T @ dz, which nobody writes.

    With a ``lag`` rows of w whose columns of x are empty wait for their next non-zero, or for ``catch_up``; ``left``
    and ``limit`` are as for ``steps.step``.
    """
    epilogue = gemm.update(name, lag is not None, left is not None, limit is not None)
    numbers = [*numbers, *(more for more in (left, limit) if more is not None)]
    product = _Product(dz, w, epilogue, states=states, format_=gemm.format_of(w.dtype.name), lag=lag)
    product(_Columns(x.shape, x.dtype, lag)(_entries("x", x)), dz, w, states=states, numbers=numbers)


def catch_up(name: str, w: Any, states: Sequence[Any], numbers: Sequence[float], lag: Lag) -> None:
    """Make up for the steps that rows of w have missed."""
    if w.size == 0:
        return
    (n, m), record = w.shape, _record(w, numbers, lag)
    record[0]["c"] = address(w)
    record[0]["states"][: len(states)] = [*map(address, states)]
    kernel = _kernel("csr_behind.cu", "caught_up", lag.columns, gemm.update(name, True), w.dtype.name, None)
    kernel((launch.blocks(32 * n * _warps(m, lag.columns)),), _BLOCK, (record,))


class _Columns:
    """The non-zeros of matrices (n, k) by their columns, in the order of the rows; a ``lag`` counts each as a step."""

    def __init__(self, shape: tuple[int, int], dtype: Any, lag: Lag | None = None) -> None:
        (self._n, self._k), self._dtype = shape, dtype
        self._made = 0 if lag is None else address(lag.made)
        entries = ("counted", "moved")
        self._counted, self._moved = (launch.kernel("transpose.cu", entry, dtype.name, (ENTRIES,)) for entry in entries)
        record = ENTRIES.record(dtype)
        self._copy = record.view(np.dtype((np.void, record.itemsize))).copy

    def __call__(self, given: _Entries) -> _Entries:
        """Launch what finds them."""
        n, k, stored = self._n, self._k, given.stored
        chunks = max(1, min(-(-stored // _LEAST_CHUNK), _MOST_COUNTERS // max(1, k)))
        chunk, count = -(-stored // (32 * chunks)) * 32, k * chunks + 2
        starts = cupy.zeros((count + 1,), np.int32)  # the last one is the fault
        rows, moved = cupy.empty((stored,), np.int32), cupy.empty((stored,), self._dtype)
        at_starts, at_rows, at_moved = starts.data.ptr, rows.data.ptr, moved.data.ptr
        fault, record = at_starts + starts.itemsize * count, self._copy()
        places = given.bounds, given.indices, given.values, at_starts, at_rows, at_moved, fault, self._made
        _WRITE_SORT(record, 0, n, k, stored, chunk, chunks, *places)
        self._counted((launch.blocks(max(n, stored)),), _BLOCK, (record,))
        running_sums(starts, count - 1)
        self._moved((launch.blocks(32 * chunks),), _BLOCK, (record,))
        return _Entries(at_starts, chunks, at_rows, at_moved, stored, fault, (starts, rows, moved))


def _placing(out: Any, shape: tuple[int, ...], dtype: Any, x: Any, *others: Any) -> Callable[..., Any]:
    """As ``gemm.placing_product``; how long the arrays of a matrix are differs from call to call."""
    place = gemm.placing_product(out, shape, dtype, *others)

    def place_of_matrix(out: Any, x: Any, *others: Any) -> Any:
        made = place(out, *others)
        return made if made is not out or apart((out,), _arrays(x)) else cupy.empty(shape, dtype)

    return place_of_matrix


def _telling_apart(*_: Any) -> Callable[..., bool]:
    """Whether arrays that are written are apart from x and those that are read; what a loop uses is compared once."""
    found: set[Any] = set()

    def are_apart(written: Sequence[Any], x: Any, read: Sequence[Any]) -> bool:
        parts = _arrays(x)
        known = (
            *[each.data.ptr for each in (*written, *read, *parts)],
            *[(part.size, part.strides) for part in parts],
        )
        if known in found:
            return True
        if not apart(written, (*parts, *read)):
            return False
        if len(found) >= MOST_FOUND:
            found.clear()
        found.add(known)
        return True

    return are_apart


SPARSE = gemm.Kind(_arrays, _placing, _telling_apart, partial(_times, "x"), _transposed_times)

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
    given["indptr"], given["indices"], given["values"] = entries.bounds, entries.indices, entries.values
    _of_rows("lengths", record, dtype, rows)
    running_sums(bounds, rows + 1)
    bound = getattr(data, "bound", None)
    if bound is None:
        count, fault = bounds[rows:].get().tolist()
        _raise(fault, data.shape[0])
    else:
        count = rows * bound.longest
    columns, copies = cupy.empty((count,), np.int32), cupy.empty((count,), dtype)
    given["columns"], given["copies"] = address(columns), address(copies)
    if count:
        _of_rows("copied", record, dtype, 32 * rows)
    make, parts = bound or type(data), (copies, columns, bounds[: rows + 1])
    return make(parts, shape=(rows, data.shape[1]))


def _of_rows(entry: str, record: Any, dtype: Any, threads: int) -> None:
    kernel = launch.kernel("csr_rows.cu", entry, dtype.name, (ROWS,))
    kernel((launch.blocks(threads),), _BLOCK, (record,))


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
    for columns, (name, format_) in product_of(_LANE_COLUMNS, gemm.FORMATS.items()):
        text = launch.text("csr.cu", "float32", (PRODUCT,), _before(columns, gemm.PLAIN, "float32", format_))
        yield launch.Module(f"product {columns} plain {name}", text, gemm.TENSOR_FROM)
