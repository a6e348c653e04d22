"""Products on the device: matrices, the linear layer and its gradients, with what follows a product in its epilogue.

``product`` computes C = f(A @ B) tile by tile in the operands' own dtype. f is an ``Epilogue``, in C++ from the
formulas: bias and activation; an activation's derivative, with the sums of C's columns, which are the bias's gradient;
or an optimizer's step of the weights C by the product as their gradient.

Tiles, and the number of splits of the sums, are chosen by shape (``_plan``). Large plain products are cuBLAS's.

Products of float32 arrays are exact to rounding, or where ``fastnn.kernels.precision`` says so, of operands rounded to
"tf32" or "bfloat16", their sums in float32, on tensor cores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from itertools import product as product_of
from struct import pack_into
from typing import Any, NamedTuple

import cupy

from fastnn.kernels import precision
from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, address, finish, overlap
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, NUMBERS

# What an epilogue takes at most: numbers of an activation or hyper-parameters of a step, and parts of a step's state.
_NUMBERS = max(MOST_NUMBERS, *(len(step.hyper) for step in STEPS.values()))
_STATES = max(len(step.states) for step in STEPS.values())

# What launches write comes first, as they write it.
_ADDRESSES = (
    *(Field(name, "const real*") for name in "ab"),
    *(Field(name, "real*") for name in ("c", "partial", "totals")),
    *(Field(name, "uint4*") for name in ("units_a", "units_b")),
    *(Field(name, "const real*") for name in ("bias", "s")),
)
PRODUCT = Structure(
    "Product",
    *_ADDRESSES,
    Field("states", "real*", (_STATES,)),
    *(Field(name, "int64") for name in "nkm"),
    *(Field(f"{name}_{step}", "int64") for name in "abc" for step in ("row", "column")),
    *(Field(f"{name}_wide", "int") for name in "abc"),
    Field("splits", "int"),
    Field("depth", "int64"),
    Field("units", "int64"),
    Field("bias_step", "int64"),
    Field("s_row", "int64"),
    Field("s_column", "int64"),
    Field("numbers", "real", (_NUMBERS,)),
)

COLUMNS = Structure(
    "Columns",
    *(Field(name, "const real*") for name in ("dy", "s")),
    *(Field(name, "real*") for name in ("dz", "totals")),
    *(Field(name, "int64") for name in ("rows", "columns", "height")),
    *(Field(f"{name}_{step}", "int64") for name in ("dy", "s", "dz", "totals") for step in ("row", "column")),
    Field("numbers", "real", (MOST_NUMBERS,)),
)

# Multiply-adds from which a plain product is cuBLAS's, and the device on which a run found that: none has yet.
CUBLAS_FROM = 2**30
CUBLAS_MEASURED_ON: str | None = None

# Columns of a block of columns.cu, the rows it takes at a time, and the most chunks of rows: a second launch sums them.
_SUM_WIDTH, _SUM_HEIGHT, _SUM_CHUNKS = 32, launch.THREADS // 32, 256


class Tile(NamedTuple):
    """Numbers of C that a block computes and that a thread does, and those at hand of each row and column."""

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    @property
    def before(self) -> str:
        """The tile as the kernels know it, and the headers that they take."""
        return _sizes(**self._asdict()) + launch.header("gemm.cuh")


def _sizes(**sizes: int) -> str:
    return "".join(f"constexpr int {name.upper()} = {size};\n" for name, size in sizes.items())


class TensorTile(NamedTuple):
    """The same on tensor cores: numbers of C that a block computes and a warp does, and the numbers of a step."""

    rows: int
    columns: int
    depth: int
    warp_rows: int
    warp_columns: int
    format: str

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return 32 * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)

    @property
    def before(self) -> str:
        """The tile as the kernels know it, and the headers that they take."""
        sizes = self._asdict()
        format_ = f"typedef {sizes.pop('format')} Format;\n"
        return launch.header("ptx.cuh") + format_ + _sizes(**sizes) + launch.header("gemm.cuh")

    @property
    def unit(self) -> int:
        """Numbers of the sums that a fragment has."""
        return _DEPTHS[self.format]


# Large ones read each number of the operands less often; narrow ones are for few rows or columns.
TILES = {
    "float32": (
        Tile(128, 128, 16, 8, 8),
        Tile(64, 64, 16, 4, 4),
        Tile(32, 32, 32, 4, 4),
        Tile(128, 16, 16, 8, 4),
        Tile(16, 128, 16, 4, 8),
    ),
    "float64": (
        Tile(64, 64, 16, 4, 4),
        Tile(32, 32, 16, 4, 4),
        Tile(64, 16, 16, 4, 4),
        Tile(16, 64, 16, 4, 4),
    ),
}

# The formats of ptx.cuh, with the depth of their fragments.
_DEPTHS = {"Tf32": 8, "Bf16": 16}

TENSOR_TILES = {
    name: tuple(
        TensorTile(rows, columns, 2 * _DEPTHS[format_], warp_rows, 32, format_)
        for rows, columns, warp_rows in ((128, 128, 64), (64, 64, 32))
    )
    for name, format_ in (("tf32", "Tf32"), ("bfloat16", "Bf16"))
}

# The least compute capability, as CuPy writes it, that has tensor cores for these formats.
_TENSOR_FROM = 80

# Units of an operand of 16 bytes a lane: rows or columns, and bytes of a warp.
_UNIT, _UNIT_BYTES = 16, 32 * 16

# What it takes to read a number of a panel, in multiply-adds; a split's depth at least, and splits at most. Unmeasured.
_READ, _LEAST_DEPTH, _MOST_SPLITS = 16, 128, 32


class Plan(NamedTuple):
    """The tile, how many parts the sums have, and how long each is: a multiple of the tile's depth."""

    tile: Tile | TensorTile
    splits: int
    depth: int


@lru_cache(1024)
def _plan(n: int, k: int, m: int, tiles: Sequence[Tile | TensorTile], multiprocessors: int) -> Plan:
    """The cheapest: blocks in turn on the multiprocessors, each as long as its multiply-adds and what it reads take."""

    def cost(plan: Plan) -> tuple[float, int]:
        tile, splits, depth = plan
        blocks = -(-n // tile.rows) * -(-m // tile.columns) * splits
        turns = -(-blocks // multiprocessors)
        size = tile.rows * tile.columns + _READ * (tile.rows + tile.columns)
        sums = 0 if splits == 1 else _READ * n * m * splits / multiprocessors
        return turns * size * max(depth, 1) + sums, splits

    return min((plan for tile in tiles for plan in _splits(k, tile)), key=cost)


def _splits(k: int, tile: Tile | TensorTile) -> list[Plan]:
    """A tile with 1, 2, 4 and more splits of the sums, all of one depth but for the last."""
    plans = [Plan(tile, 1, -(-k // tile.depth) * tile.depth)]
    while plans[-1].depth >= 2 * _LEAST_DEPTH and plans[-1].splits < _MOST_SPLITS:
        depth = -(-k // (2 * plans[-1].splits * tile.depth)) * tile.depth
        plans.append(Plan(tile, -(-k // depth), depth))
    return plans


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What becomes of the sums: C++ that defines ``finished(given, i, j, sum)`` for a dtype, and the numbers it takes.

    ``sums_columns``: tiles add up what they write of each column, too, but those on tensor cores. ``skips_zeros``: it
    changes nothing where the sum is 0.
    """

    before: Callable[[str], str]
    numbers: tuple[float, ...] = ()
    sums_columns: bool = False
    skips_zeros: bool = False


_FINISHED = "FUNCTION real finished(const Product& given, int64 i, int64 j, real sum) {{\n{body}}}\n"

# Nothing: C is the product.
PLAIN = Epilogue(lambda dtype: _FINISHED.format(body="    return sum;\n"))


def _given(count: int) -> list[str]:
    """The first numbers of the structure, as arguments."""
    return [f"given.numbers[{place}]" for place in range(count)]


def _numbers_of(activation: str) -> tuple[float, ...]:
    """An activation's numbers: their defaults."""
    return tuple(NUMBERS[activation].values())


def _result_of(name: str, arguments: Sequence[str]) -> str:
    """Statements that return what a function of one result makes of arguments."""
    return f"    real result;\n    {name}({', '.join(arguments)}, &result);\n    return result;\n"


@cache
def forward(activation: str) -> Epilogue:
    """C = f(sum + bias), or f(sum) without one."""
    entry = ACTIVATIONS[activation]

    def before(dtype: str) -> str:
        body = "    if (given.bias) sum += given.bias[j * given.bias_step];\n"
        body += _result_of("activate", ["sum", *_given(len(entry.numbers))])
        return function("activate", ("x", *entry.numbers), entry.forward, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, _numbers_of(activation))


def _slope(activation: str, dtype: str) -> str:
    """The source of an activation's derivative: ``slope(dy, s, numbers..., &result)``."""
    entry = ACTIVATIONS[activation]
    return function("slope", ("dy", "s", *entry.numbers), entry.backward, dtype)


@cache
def derivative(activation: str) -> Epilogue:
    """C = sum f'(s), s of C's shape, and the sums of its columns: what goes back through a layer, and its bias."""
    count = len(ACTIVATIONS[activation].numbers)

    def before(dtype: str) -> str:
        s = "given.s[i * given.s_row + j * given.s_column]"
        return _slope(activation, dtype) + _FINISHED.format(body=_result_of("slope", ["sum", s, *_given(count)]))

    return Epilogue(before, _numbers_of(activation), sums_columns=True)


@cache
def update(step: str) -> Epilogue:
    """C = weights, stepped by the sums as their gradient; states have C's strides, numbers are the step's own."""
    entry = STEPS[step]
    hyper, states = len(entry.hyper), range(len(entry.states))

    def formula(v: Any, *values: Any) -> Any:
        return entry.update(v, values[:hyper], *values[hyper:])

    def before(dtype: str) -> str:
        names = [*(f"h{place}" for place in range(hyper)), "w", "g", *(f"s{place}" for place in states)]
        olds = ["given.c[at]", "sum", *(f"given.states[{place}][at]" for place in states)]
        news = ["&result", *(f"&state_{place}" for place in states)]
        lines = [
            "const int64 at = i * given.c_row + j * given.c_column;",
            f"real {', '.join(new[1:] for new in news)};",
            f"update({', '.join([*_given(hyper), *olds, *news])});",
            *(f"given.states[{place}][at] = state_{place};" for place in states),
            "return result;",
        ]
        body = "".join(f"    {line}\n" for line in lines)
        return function("update", names, formula, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, skips_zeros=entry.lazy and "rho" not in entry.hyper)


def source_of(tile: Tile | TensorTile) -> str:
    """The file with a tile's kernels."""
    return "gemm.cu" if isinstance(tile, Tile) else "tensor.cu"


def before(tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> str:
    """What comes before the kernels of products: the epilogue and the tile."""
    return f"#define SUMS_COLUMNS {int(epilogue.sums_columns)}\n{epilogue.before(dtype)}{tile.before}"


@cache
def _kernel(entry: str, tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> Any:
    return launch.kernel(source_of(tile), entry, dtype, (PRODUCT,), before(tile, epilogue, dtype))


@cache
def _has_tensor_cores(device: int) -> bool:
    return int(cupy.cuda.Device(device).compute_capability) >= _TENSOR_FROM


def _tiles(dtype: str, wanted: str) -> Sequence[Tile | TensorTile]:
    """The tiles for a dtype and a precision; RuntimeError where the device has none."""
    if dtype != "float32" or wanted == "float32":
        return TILES[dtype]
    device = cupy.cuda.runtime.getDevice()
    if not _has_tensor_cores(device):
        found = cupy.cuda.Device(device).compute_capability
        raise RuntimeError(f"precision: got {wanted!r}, wants a device of compute capability 8.0 or later, not {found}")
    return TENSOR_TILES[wanted]


def modules() -> Iterator[launch.Module]:
    """Every tile, with an epilogue of each kind; sums of columns, with and without a derivative."""
    epilogues = {
        "plain": PLAIN,
        "gelu": forward("gelu"),
        "gelu_backward": derivative("gelu"),
        "amsgrad": update("amsgrad"),
    }
    of_precision: dict[str, Sequence[Tile | TensorTile]] = {**TILES, **TENSOR_TILES}
    for name, tiles in of_precision.items():
        dtype = name if name in TILES else "float32"
        for tile, (kind, epilogue) in product_of(tiles, epilogues.items()):
            text = launch.text(source_of(tile), dtype, (PRODUCT,), before(tile, epilogue, dtype))
            label = f"product {tile.rows}x{tile.columns}x{tile.depth} {kind} {name}"
            yield launch.Module(label, text, _TENSOR_FROM if name in TENSOR_TILES else 75)
    for activation, dtype in product_of((None, "gelu"), TILES):
        text = launch.text("columns.cu", dtype, (COLUMNS,), _value(activation, dtype))
        yield launch.Module(f"column_sums {activation or 'plain'} {dtype}", text)


def _steps(array: Any) -> tuple[int, int]:
    """Distances of rows and of columns, in numbers."""
    row, column = array.strides
    return row // array.itemsize, column // array.itemsize


def _is_wide(array: Any) -> bool:
    """Whether packs of 16 bytes can be read of a matrix, along its rows or its columns."""
    row, column = array.strides
    other = row if column == array.itemsize else column
    return address(array) % WIDE == 0 and other % WIDE == 0 and array.itemsize in (row, column)


def product(
    a: Any,
    b: Any,
    c: Any,
    epilogue: Epilogue = PLAIN,
    *,
    bias: Any = None,
    s: Any = None,
    states: Sequence[Any] = (),
    numbers: Sequence[float] = (),
    totals: Any = None,
) -> None:
    """C (n, m) = f(A (n, k) @ B (k, m)), f an epilogue and what it takes.

    C shares no memory with a, b and bias. ``bias`` is (m,) or None, s is (n, m), ``states`` have the shape and strides
    of c; ``totals`` (m,) takes the sums of c's columns where the epilogue makes them; ``numbers`` stand in for its own.
    """
    if not c.size:
        if totals is not None:
            sum_columns(c, totals)
        return
    alike = [(each.shape, each.strides, each.data.ptr % WIDE == 0) for each in (a, b, c)]
    others = [None if each is None else each.strides for each in (bias, s)]
    key = (*alike, *others, len(states), c.dtype, epilogue, *launch.surroundings())
    made = launch.known(_products, key, lambda: _Product(a, b, c, epilogue, bias, s, states))
    made(a, b, c, bias, s, states, numbers, totals)


def _describe(given: Any, a: Any, b: Any, c: Any) -> None:
    """Sizes, and where the operands lie."""
    (given["n"], given["k"]), given["m"] = a.shape, b.shape[1]
    for name, array in zip("abc", (a, b, c), strict=True):
        describe_matrix(given, name, array)
        given[f"{name}_wide"] = _is_wide(array)
    given["c_wide"] &= c.strides[1] == c.itemsize


def describe_matrix(given: Any, name: str, array: Any) -> None:
    """Where an operand lies."""
    given[name] = address(array)
    given[f"{name}_row"], given[f"{name}_column"] = _steps(array)


def describe_epilogue(given: Any, bias: Any, s: Any, states: Sequence[Any], numbers: Sequence[float]) -> None:
    """What an epilogue takes."""
    if bias is not None:
        given["bias"], given["bias_step"] = address(bias), bias.strides[0] // bias.itemsize
    if s is not None:
        given["s"] = address(s)
        given["s_row"], given["s_column"] = _steps(s)
    given["states"][: len(states)] = [address(state) for state in states]
    given["numbers"][: len(numbers)] = numbers


class _Product:
    """The launches of a product of operands like some: all but addresses, and the numbers of a step."""

    def __init__(self, a: Any, b: Any, c: Any, epilogue: Epilogue, bias: Any, s: Any, states: Sequence[Any]) -> None:
        (n, k), m, dtype = a.shape, b.shape[1], c.dtype
        tiles = _tiles(dtype.name, precision.current())
        tile, splits, depth = _plan(n, k, m, tiles, launch.multiprocessors())
        record = PRODUCT.record(dtype)
        given = record[0]
        _describe(given, a, b, c)
        describe_epilogue(given, bias, s, states, epilogue.numbers)
        given["splits"], given["depth"] = splits, depth
        down, across = -(-n // tile.rows), -(-m // tile.columns)
        grids = {"product": (down * across * splits, tile.threads)}
        self._units = (0, 0)
        if isinstance(tile, TensorTile):
            steps = -(-k // tile.depth) * (tile.depth // tile.unit)
            of_a, of_b = (-(-size // _UNIT) * steps for size in (n, m))
            given["units"], self._units = steps, (of_a * _UNIT_BYTES, of_b * _UNIT_BYTES)
            if steps:
                grids = {"packed": (launch.blocks((of_a + of_b) * 32), launch.THREADS), **grids}
        if splits > 1:
            grids["summed"] = launch.blocks(n * m), launch.THREADS
        self._launches = [
            (_kernel(entry, tile, epilogue, dtype.name), (blocks,), (threads,))
            for entry, (blocks, threads) in grids.items()
        ]
        self._partial = (splits, n, m) if splits > 1 else None
        # of each tile's numbers, which are what the columns' sums are the sums of then
        self._sums = (down, m) if splits == 1 and epilogue.sums_columns and isinstance(tile, Tile) else None
        self._template = launch.Template(record, "a", len(_ADDRESSES) + _STATES)
        self._numbers, self._char = record.dtype.fields["numbers"][1], dtype.char

    def __call__(
        self, a: Any, b: Any, c: Any, bias: Any, s: Any, states: Sequence[Any], numbers: Sequence[float], totals: Any
    ) -> None:
        """Launch them on these, on the current stream, whose memory is not another's before they have used it."""
        record, dtype = self._template.copy(), c.dtype
        if numbers:
            pack_into(f"{len(numbers)}{self._char}", record, self._numbers, *numbers)
        partial = None if self._partial is None else cupy.empty(self._partial, dtype)
        sums = None if self._sums is None else cupy.empty(self._sums, dtype)
        of_a, of_b = self._units
        units = cupy.empty((of_a + of_b,), "uint8") if of_a else None
        at_units = 0 if units is None else units.data.ptr
        at = [0 if each is None else each.data.ptr for each in (a, b, c, partial, sums, bias, s, *states)]
        none = [0] * (_STATES - len(states))
        self._template.filled((*at[:5], at_units, at_units + of_a, *at[5:], *none), record)
        for kernel, grid, block in self._launches:
            kernel(grid, block, (record,))
        if totals is not None:
            sum_columns(c if sums is None else sums, totals)


# Those made, by what their operands are like.
_products: dict[Any, _Product] = {}


def _value(activation: str | None, dtype: str) -> str:
    """The source of what is summed: a number of a matrix, or of the dz = dy f'(s) that is written."""
    body = "    return given.dy[i * given.dy_row + j * given.dy_column];\n"
    before = ""
    if activation is not None:
        count = len(ACTIVATIONS[activation].numbers)
        places = [f"given.{name}[i * given.{name}_row + j * given.{name}_column]" for name in ("dy", "s", "dz")]
        given = ", ".join([*places[:2], *_given(count)])
        body = f"    real& dz = {places[2]};\n    slope({given}, &dz);\n    return dz;\n"
        before = _slope(activation, dtype)
    return f"{before}FUNCTION real value(const Columns& given, int64 i, int64 j) {{\n{body}}}\n"


def sum_columns(dy: Any, total: Any, activation: str | None = None, s: Any = None, dz: Any = None) -> None:
    """Total (m,) = the sums of the rows of dy (n, m); or of dz = dy f'(s), which is written, with an activation."""
    if dy.shape[1] == 0:
        return
    strides = [None if each is None else each.strides for each in (dy, s, dz, total)]
    key = dy.shape, *strides, dy.dtype, activation
    chunks, launch_ = launch.known(_columns, key, lambda: _columns_launch(dy, s, dz, total, activation))
    sums = total if chunks == 1 else cupy.empty((chunks, dy.shape[1]), dy.dtype)
    launch_(*(0 if each is None else each.data.ptr for each in (dy, s, dz, sums)))
    if chunks > 1:
        sum_columns(sums, total)


def _columns_launch(dy: Any, s: Any, dz: Any, total: Any, activation: str | None) -> tuple[int, launch.Launch]:
    """Into how many sums of each column of arrays like these, and what sums them up."""
    (n, m), record = dy.shape, COLUMNS.record(dy.dtype)
    chunks = max(1, min(_SUM_CHUNKS, -(-n // (4 * _SUM_HEIGHT))))
    given = record[0]
    given["rows"], given["columns"], given["height"] = n, m, -(-n // chunks)
    for name, array in (("dy", dy), ("s", s), ("dz", dz)):
        if array is not None:
            given[f"{name}_row"], given[f"{name}_column"] = _steps(array)
    given["totals_row"], given["totals_column"] = (m, 1) if chunks > 1 else (0, total.strides[0] // total.itemsize)
    if activation is not None:
        numbers = _numbers_of(activation)
        given["numbers"][: len(numbers)] = numbers
    kernel = launch.kernel("columns.cu", "column_sums", dy.dtype.name, (COLUMNS,), _value(activation, dy.dtype.name))
    return chunks, launch.Launch(kernel, chunks * -(-m // _SUM_WIDTH), record, "dy", 4)


_columns: dict[Any, tuple[int, launch.Launch]] = {}


def placed(out: Any, shape: tuple[int, ...], dtype: Any, *sources: Any) -> tuple[Any, Callable[[], Any]]:
    """The array to compute in, and what makes ``out`` of it, which is to share no memory with a source.

    A product's operand is read after some of the result is written, wherever both begin.
    """
    shares = out is not None and any(source is not None and overlap(out, source) for source in sources)
    made = cupy.empty(shape, dtype) if out is None or shares else out
    return made, lambda: finish(made, out)


def multiply(a: Any, b: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> None:
    """``product``, by cuBLAS where that is large, plain and exact."""
    size = a.shape[0] * a.shape[1] * b.shape[1]
    is_plain = epilogue is PLAIN and c.flags.c_contiguous
    if size >= CUBLAS_FROM and is_plain and precision.current() == "float32":
        cupy.matmul(a, b, out=c)
    else:
        product(a, b, c, epilogue, **given)


class Kind(NamedTuple):
    """What a layer's x may be, dense or sparse: its arrays, and the products C = f(x @ w) and C = f(x.T @ dz).

    Both are called as ``multiply``: with x, the other operand, C, an epilogue and what that takes.
    """

    arrays: Callable[[Any], tuple[Any, ...]]
    times: Callable[..., None]
    transposed_times: Callable[..., None]


def _transposed_times(x: Any, dz: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> None:
    multiply(x.T, dz, c, epilogue, **given)


DENSE = Kind(lambda x: (x,), multiply, _transposed_times)


def product_op(kind: Kind) -> Callable[..., Any]:
    """``matmul`` of a kind of a."""

    def matmul(a: Any, b: Any, *, out: Any = None) -> Any:
        c, finished = placed(out, (a.shape[0], b.shape[1]), b.dtype, *kind.arrays(a), b)
        kind.times(a, b, c)
        return finished()

    return matmul


def _of_rows(name: str) -> Callable[..., Any]:
    """An op of softmax's."""
    found: Callable[..., Any] = getattr(import_module("fastnn.kernels.cuda.softmax"), name)
    return found


def layer_op(kind: Kind) -> Callable[..., Any]:
    """``linear`` of a kind of x: bias and elementwise activation are the product's epilogue; of rows, it follows."""

    def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
        y, finished = placed(out, (x.shape[0], w.shape[1]), w.dtype, *kind.arrays(x), w, b)
        fused = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
        if b is None and fused == "identity":
            kind.times(x, w, y)
        else:
            kind.times(x, w, y, forward(fused), bias=b)
        if activation not in ELEMENTWISE_ACTIVATIONS:
            _of_rows(activation)(y, out=y)
        return finished()

    return linear


def layer_backward_op(kind: Kind) -> Callable[..., Any]:
    """``linear_backward`` of a kind of x: dz with its columns' sums in one pass, then two products.

    An array that shares memory with an operand is written last of all.
    """

    def linear_backward(
        dy: Any,
        x: Any,
        w: Any,
        y: Any,
        activation: str = "linear",
        z: Any = None,
        need: Sequence[str] = ("dx", "dw", "db"),
        *,
        dx: Any = None,
        dw: Any = None,
        db: Any = None,
    ) -> tuple[Any, Any, Any]:
        sources = dy, *kind.arrays(x), w, y, z
        into = {"dx": (dx, x.shape), "dw": (dw, w.shape), "db": (db, w.shape[1:])}
        places = {name: placed(*into[name], dy.dtype, *sources) for name in need}
        dz = derived(dy, y if z is None else z, y, activation, places["db"][0] if "db" in need else None)
        if "dx" in need:
            multiply(dz, w.T, places["dx"][0])
        if "dw" in need:
            kind.transposed_times(x, dz, places["dw"][0])
        found = {name: finished() for name, (_, finished) in places.items()}
        return found.get("dx"), found.get("dw"), found.get("db")

    return linear_backward


def derived(dy: Any, s: Any, y: Any, activation: str, total: Any) -> Any:
    """dz = dy f'(s), and the sums of its columns in ``total`` where that is wanted."""
    dz = dy
    if activation in ELEMENTWISE_ACTIVATIONS and activation != "linear":
        dz = cupy.empty(dy.shape, dy.dtype)
        total = cupy.empty(dy.shape[1:], dy.dtype) if total is None else total
        sum_columns(dy, total, ELEMENTWISE_ACTIVATIONS[activation], s, dz)
        return dz
    if activation != "linear":
        dz = _of_rows(f"{activation}_backward")(dy, s, y)
    if total is not None:
        sum_columns(dz, total)
    return dz


matmul, linear, linear_backward = product_op(DENSE), layer_op(DENSE), layer_backward_op(DENSE)


def column_sums(x: Any, *, out: Any = None) -> Any:
    """The sums of the rows of x."""
    total, finished = placed(out, x.shape[1:], x.dtype, x)
    sum_columns(x, total)
    return finished()
