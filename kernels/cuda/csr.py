"""The ops of CSR matrices on the device: products with dense ones, their gradients, rows by their numbers.

A product S @ B walks the non-zeros of a row of S, each times a strip of a row of B, and ends in the epilogues of dense
products. S.T @ B is such a product of S by its columns, which a stable counting sort finds: each number of a result is
one chain of multiply-adds in the order of the non-zeros, so that its bits repeat.

Nobody waits to hear whether a matrix is malformed: it makes NaN of the rows that are not valid, and of all of S.T @ B.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, partial
from itertools import product as product_of
from types import MappingProxyType
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels.cuda import epilogues, gemm, launch, linear_steps, products, scan
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import (
    address,
    apart,
    in_order,
    like,
    placing_apart,
    reach_of,
    remembering,
    telling_apart,
)
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.cuda.epilogues import PLAIN, Epilogue
from fastnn.kernels.cuda.products import describe_epilogue, describe_matrix, packing
from fastnn.kernels.cuda.tiles import FORMATS, TENSOR_FROM, format_of
from fastnn.kernels.table import DTYPES, MALFORMED_CSR, TABLE

# As that of dense products, whose epilogues read it, with S in place of A.
PRODUCT = Structure(
    "Product",
    *products.PRODUCT.fields,
    Field("bounds", "const int*"),
    Field("bounds_step", "int64"),
    Field("indices", "const int*"),
    Field("values", "const real*"),
    Field("stored", "int64"),
    Field("fault", "const int*"),
    Field("made", "const int64*"),
    Field("last", "int64*"),
    numbers=products.PRODUCT.numbers,
)
ENTRIES = Structure(
    "Entries",
    *(Field(name, "int64") for name in ("n", "k", "stored", "chunk", "chunks")),
    *(Field(name, "const int*") for name in ("indptr", "indices")),
    Field("values", "const real*"),
    Field("index", "const int64*"),
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

# Non-zeros that there may be.
_INT32, _INT64 = np.dtype(np.int32), np.dtype(np.int64)
_MOST_STORED = np.iinfo(_INT32).max

# Non-zeros that a warp sorts at least, and the most counters of the sort. Unmeasured.
_LEAST_CHUNK, _MOST_COUNTERS = 256, 2**22

# What the kernels say of rows that they were asked for.
_MALFORMED_ROW, _NO_ROW = 1, 2


class _Entries(NamedTuple):
    """The names in a chain of what kernels read of a CSR matrix: where rows' non-zeros begin, places and values.

    ``step`` is how many numbers apart the rows' bounds are; ``fault`` is where the device says that they are of no use.
    """

    bounds: str = "bounds"
    indices: str = "indices"
    values: str = "values"
    fault: str = ""
    step: int = 1


# Those of an operand; ``_given`` says what they are.
_OPERAND = _Entries()
_OTHERS = (*_OPERAND[:3], "stored")
# The same by the fields of ``ENTRIES``.
_READ = {"indptr": _OPERAND.bounds, "indices": _OPERAND.indices, "values": _OPERAND.values}


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


def _given(name: str, s: Any) -> tuple[Sequence[int], Sequence[int], Any, Any]:
    """What ``_OTHERS`` are of a matrix, and its size; ValueError, by its ``name``, where its arrays cannot be its own.

    The size is that of the arrays, which is another in each call, or a little more: one of few.
    """
    values, indices = s.data, s.indices
    stored = min(indices.size, values.size)
    if s.indptr.size != s.shape[0] + 1 or stored > _MOST_STORED:
        raise ValueError(f"{name}: {MALFORMED_CSR}")
    bounds, indices, values = held = _integers(s.indptr), _integers(indices), in_order(values)
    places = bounds.data.ptr, indices.data.ptr, values.data.ptr, stored
    return (), places, _rounded(stored), held


def _rounded(stored: int) -> int:
    """A number that begins with these four bits, no less and hardly more: launches are prepared for such."""
    last = 1 << max(0, stored.bit_length() - 4)
    return -(-stored // last) * last


def _integers(part: Any) -> Any:
    """Whole numbers as kernels read them."""
    return in_order(part if part.dtype == _INT32 else part.astype(_INT32))


@cache
def _kernel(source: str, entry: str, columns: int, epilogue: Epilogue, dtype: str, format_: str | None) -> Any:
    return launch.kernel(source, entry, dtype, (PRODUCT,), _before(columns, epilogue, dtype, format_))


def _before(columns: int, epilogue: Epilogue, dtype: str, format_: str | None = None) -> str:
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
    """C (n, m) = f(S @ B) of operands like some, f an epilogue and what it takes, as ``Product``.

    Their numbers are rounded to a format of ptx.cuh, if one is given. ``lag`` says how far rows of C are behind, where
    f catches up.
    """

    def __init__(
        self,
        b: Any,
        c: Any,
        epilogue: Epilogue = PLAIN,
        *,
        bias: Any = None,
        states: Sequence[Any] = (),
        format_: str | None = None,
        lag: Lag | None = None,
    ) -> None:
        self._c, self._epilogue, self._record = like(c), epilogue, _record(c, epilogue.numbers, lag)
        given, (n, m), dtype = self._record[0], c.shape, c.dtype.name
        given["k"] = b.shape[0]
        describe_matrix(given, "b", b)
        describe_epilogue(given, bias, None, ())
        columns = _lane_columns(n, m) if lag is None else lag.columns
        self._blocks = launch.blocks(32 * n * _warps(m, columns))
        self._kernel = partial(_kernel, "csr.cu", "product", columns, epilogue, dtype, format_)

    def add(self, chain: Chain, entries: _Entries, b: str, c: str, bias: str = "", states: Sequence[str] = ()) -> None:
        """Launch it in a chain, on arrays by these names."""
        if 0 in self._c.shape:
            return
        record, taken = self._record.copy(), self._epilogue.taken
        record[0]["bounds_step"] = entries.step
        pointers = {"b": b, "c": c, "bias": bias, "states": states, **entries._asdict(), "stored": "stored"}
        del pointers["step"]
        numbers = ("numbers", taken * self._c.itemsize) if taken else None
        chain.add(self._kernel(), self._blocks, record, pointers, numbers)


def _record(c: Any, numbers: Sequence[float], lag: Lag | None) -> Any:
    """What a kernel is given of a C like this one, an epilogue's numbers, and how far rows are behind."""
    record = PRODUCT.record(c.dtype)
    given = record[0]
    given["n"], given["m"] = c.shape
    describe_matrix(given, "c", c)
    given["numbers"][: len(numbers)] = numbers
    if lag is not None:
        given["made"], given["last"] = address(lag.made), address(lag.last)
    return record


def _times(x: Any, w: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> gemm.Adds:
    """C = f(x @ w) of any non-zeros, as long as the shape of x is the same."""
    product = _Product(w, c, epilogue, **given, format_=format_of(c.dtype.name))
    return lambda chain, _, *names, **named: product.add(chain, _OPERAND, *names, **named)


def _transposed_times(x: Any, dz: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> gemm.Adds:
    """C = f(x.T @ dz)."""
    product = _Product(dz, c, epilogue, **given, format_=format_of(c.dtype.name))
    shape, dtype = x.shape, x.dtype

    def add(chain: Chain, size: int, *names: str, **named: Any) -> None:
        product.add(chain, _by_columns(chain, shape, dtype, size), *names, **named)

    return add


def adding_rows(dy: Any, total: Any) -> Callable[..., None]:
    """What makes, of (index, dy, total) like these, total (rows, m) = the sums of rows of dy (n, m) by their numbers.

    index is (n,); each sum is in the order of its rows, and numbers that are none of a row are left out. That is
    S.T @ dy, S with a 1 in each row, in the column of that number.
    """
    (n, _), rows, product = dy.shape, total.shape[0], _Product(dy, total)

    def build(chain: Chain, _: Any) -> None:
        columns = _by_columns(chain, (n, rows), dy.dtype, n, {"index": "index"})
        product.add(chain, columns._replace(fault=""), "dy", "total")

    launches = Chains(("dy", "total"), build, ("index", "stored"))

    def run(index: Any, dy: Any, total: Any) -> None:
        numbers = in_order(index if index.dtype == _INT64 else index.astype(_INT64))
        launches((dy.data.ptr, total.data.ptr), (numbers.data.ptr, n))

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
    epilogue = epilogues.update(name, lag is not None, left is not None, limit is not None)
    numbers = [*numbers, *(more for more in (left, limit) if more is not None)]
    product = _Product(dz, w, epilogue, states=states, format_=format_of(w.dtype.name), lag=lag)
    of_states = [f"state {number}" for number in range(len(states))]
    _, others, size, _held = _given("x", x)
    chain = Chain(("dz", "w", *of_states), _OTHERS)
    product.add(chain, _by_columns(chain, x.shape, x.dtype, size, lag=lag), "dz", "w", states=of_states)
    packed = packing(w.dtype, len(numbers))(*numbers)
    chain.made()([*map(address, (dz, w, *states))], others, packed)


def catch_up(name: str, w: Any, states: Sequence[Any], numbers: Sequence[float], lag: Lag) -> None:
    """Make up for the steps that rows of w have missed."""
    if w.size == 0:
        return
    (n, m), record = w.shape, _record(w, numbers, lag)
    record[0]["c"] = address(w)
    record[0]["states"][: len(states)] = [*map(address, states)]
    kernel = _kernel("csr_behind.cu", "caught_up", lag.columns, epilogues.update(name, True), w.dtype.name, None)
    kernel((launch.blocks(32 * n * _warps(m, lag.columns)),), launch.BLOCK, (record,))


def _by_columns(
    chain: Chain,
    shape: tuple[int, int],
    dtype: Any,
    size: int,
    read: Mapping[str, str] = MappingProxyType(_READ),
    lag: Lag | None = None,
) -> _Entries:
    """Find in a chain the non-zeros of a matrix (n, k) by its columns, in the order of the rows.

    There are no more than ``size``, in what is ``read``: names by the fields of ``ENTRIES``. With a ``lag`` that counts
    as a step.
    """
    n, k = shape
    chunks = max(1, min(-(-size // _LEAST_CHUNK), _MOST_COUNTERS // max(1, k)))
    chunk, count = -(-size // (32 * chunks)) * 32, k * chunks + 2
    starts, fault = chain.within(4 * (count + 1), 0, 4 * count, zeros=True)
    rows, moved = chain.room(4 * size), chain.room(dtype.itemsize * size)
    record = ENTRIES.record(dtype)
    given = record[0]
    given["n"], given["k"], given["chunk"], given["chunks"] = n, k, chunk, chunks
    given["made"] = 0 if lag is None else address(lag.made)
    pointers = {**read, "stored": "stored", "starts": starts, "rows": rows, "moved": moved, "fault": fault}
    counted, move = (launch.kernel("transpose.cu", entry, dtype.name, (ENTRIES,)) for entry in ("counted", "moved"))
    chain.add(counted, launch.blocks(max(n, size)), record, pointers)
    scan.add_to(chain, count - 1, starts)
    chain.add(move, launch.blocks(32 * chunks), record, pointers)
    return _Entries(starts, rows, moved, fault, chunks)


def _placing(out: Any, shape: tuple[int, ...], dtype: Any, x: Any, *others: Any) -> Callable[..., Any]:
    """As ``placing_apart``; how long the arrays of a matrix are differs from call to call."""
    place = placing_apart(out, shape, dtype, *others)

    def place_of_matrix(out: Any, x: Any, *others: Any) -> Any:
        made = place(out, *others)
        return made if made is not out or apart((out,), _arrays(x)) else cupy.empty(shape, dtype)

    return place_of_matrix


def _telling_apart(written: Sequence[Any], x: Any, read: Sequence[Any]) -> Callable[..., bool]:
    """As that of a dense x; how long the arrays of a matrix are differs from call to call."""
    are_apart, reaches = telling_apart(written, read), [*map(reach_of, written)]
    rows, itemsize = x.shape[0], x.dtype.itemsize

    def holds(_: Any, written: Sequence[int], at_x: Sequence[int], read: Sequence[int]) -> bool:
        *starts, stored = at_x
        sizes = _INT32.itemsize * (rows + 1), _INT32.itemsize * stored, itemsize * stored
        spans = [(start, start + size) for start, size in zip(starts, sizes, strict=True)]
        ours = [(start + low, start + high) for start, (low, high) in zip(written, reaches, strict=True)]
        return are_apart(*written, *read) and all(
            end <= low or high <= begin for begin, end in spans for low, high in ours
        )

    told = remembering(holds)
    return lambda written, at_x, read: told((*written, *at_x, *read), written, at_x, read)


SPARSE = gemm.Kind((), _OTHERS, _given, _placing, _telling_apart, _times, _transposed_times)

matmul, linear, linear_backward = gemm.product_op(SPARSE), gemm.layer_op(SPARSE), gemm.layer_backward_op(SPARSE)
globals().update(
    {name: linear_steps.layer_step(op, SPARSE) for name, op in TABLE.items() if op.module == "linear_steps"}
)


class _Gathering:
    """What gathers so many rows of matrices of this shape and dtype: their lengths and where each begins, then copies.

    In between somebody may hear how many non-zeros there are, and of a fault.
    """

    def __init__(self, n: int, shape: tuple[int, int], dtype: Any) -> None:
        self._n, self._shape, self._dtype = n, shape, dtype
        self._find = Chains(("index", "begins", "fault"), self._add_lengths, _OTHERS)
        self._copy = Chains(("index", "begins", "columns", "copies"), self._add_copies, _OTHERS)

    def _add(self, chain: Chain, entry: str, threads: int, **written: str) -> None:
        record = ROWS.record(self._dtype)
        record[0]["n"], record[0]["rows"] = self._n, self._shape[0]
        pointers = {**_READ, "stored": "stored", "index": "index", "bounds": "begins", **written}
        kernel = launch.kernel("csr_rows.cu", entry, self._dtype.name, (ROWS,))
        chain.add(kernel, launch.blocks(threads), record, pointers)

    def _add_lengths(self, chain: Chain, _: Any) -> None:
        self._add(chain, "lengths", self._n, fault="fault")
        scan.add_to(chain, self._n + 1, "begins")

    def _add_copies(self, chain: Chain, _: Any) -> None:
        self._add(chain, "copied", 32 * self._n, columns="columns", copies="copies")

    def __call__(self, data: Any, index: Any) -> Any:
        """Those of data with the numbers of index (n,)."""
        n, bound = self._n, getattr(data, "bound", None)
        numbers = in_order(index if index.dtype == _INT64 else index.astype(_INT64))
        bounds = cupy.zeros((n + 2,), _INT32)  # the last one is the fault
        _, others, _, _held = _given("data", data)
        at_index, at_bounds = numbers.data.ptr, bounds.data.ptr
        self._find((at_index, at_bounds, at_bounds + _INT32.itemsize * (n + 1)), others)
        if bound is None:
            count, fault = bounds[n:].get().tolist()
            _raise(fault, self._shape[0])
        else:
            count = n * bound.longest
        columns, copies = cupy.empty((count,), _INT32), cupy.empty((count,), self._dtype)
        if count:
            self._copy((at_index, at_bounds, columns.data.ptr, copies.data.ptr), others)
        return (bound or type(data))((copies, columns, bounds[: n + 1]), shape=(n, self._shape[1]))


# Those made by ``gather``, by what their operands are like.
_gatherings: dict[Any, _Gathering] = {}


def gather(data: Any, index: Any, scale: float = 1 / 255, offset: float = 0.0, *, out: Any = None) -> Any:
    """As a matrix of the same class. Its arrays are as long as it has non-zeros: this op alone waits for the device.

    IndexError for a number that is none of a row, ValueError for a malformed matrix. Of one with a bound the arrays
    are as long as that allows: nobody waits, and what is no row, or none that is valid, is empty.
    """
    described = index.shape[0], data.shape, data.dtype
    key = (*described, launch.surroundings()[0])
    return launch.known(_gatherings, key, lambda: _Gathering(*described))(data, index)


def _raise(fault: int, rows: int) -> None:
    if fault == _NO_ROW:
        raise IndexError(f"index: got a number that is none of a row, wants row numbers in [0, {rows})")
    if fault == _MALFORMED_ROW:
        raise ValueError(f"data: {MALFORMED_CSR}")


def modules() -> Iterator[launch.Module]:
    """Products of every width with an epilogue of each kind, and what sorts and copies."""
    of_kinds = {"plain": PLAIN, "gelu": epilogues.forward("gelu"), "amsgrad": epilogues.update("amsgrad")}
    of_kinds["rmsprop later"] = epilogues.update("rmsprop", True)
    for dtype in DTYPES:
        for columns, (kind, epilogue) in product_of(_LANE_COLUMNS, of_kinds.items()):
            for source in ("csr.cu", "csr_behind.cu") if epilogue.catches_up else ("csr.cu",):
                text = launch.text(source, dtype, (PRODUCT,), _before(columns, epilogue, dtype))
                entry = "product" if source == "csr.cu" else "caught_up"
                yield launch.Module(f"{entry} {columns} {kind} {dtype}", text)
        for source, structure in (("transpose.cu", ENTRIES), ("csr_rows.cu", ROWS)):
            yield launch.Module(f"{source.removesuffix('.cu')} {dtype}", launch.text(source, dtype, (structure,)))
    for columns, (name, format_) in product_of(_LANE_COLUMNS, FORMATS.items()):
        text = launch.text("csr.cu", "float32", (PRODUCT,), _before(columns, PLAIN, "float32", format_))
        yield launch.Module(f"product {columns} plain {name}", text, TENSOR_FROM)
