"""Products on the device: matrices, the linear layer and its gradients, with what follows a product in its epilogue.

``product`` computes C = f(A @ B) tile by tile in the operands' own dtype. f is an ``Epilogue``, in C++ from the
formulas: bias and activation; an activation's derivative; or an optimizer's step of the weights C by the product as
their gradient.

Tiles, and the number of splits of the sums, are chosen by shape (``_plan``). Large plain products are cuBLAS's.

Products of float32 arrays are exact to rounding, or where ``fastnn.kernels.precision`` says so, of operands rounded to
"tf32" or "bfloat16", their sums in float32: large ones on tensor cores, behind a launch that rounds and packs operands;
small ones round what they load, which saves that launch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import import_module
from itertools import product as product_of
from struct import Struct
from typing import Any, NamedTuple

import cupy

from fastnn.kernels import precision
from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, Like, at, finish, in_order, like, like_new, placing_apart, telling_apart
from fastnn.kernels.cuda.chain import COUNTERS, Chain, Chains
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, NUMBERS
from fastnn.kernels.table.row import implements

# What an epilogue takes at most: numbers of an activation, or hyper-parameters of a step with what is left of weights
# and the limit of gradients; and parts of a step's state.
STEP_NUMBERS = 2 + max(len(step.hyper) for step in STEPS.values())
_NUMBERS = max(MOST_NUMBERS, STEP_NUMBERS)
_STATES = max(len(step.states) for step in STEPS.values())

# What launches write comes first, as they write it.
_ADDRESSES = (
    *(Field(name, "const real*") for name in "ab"),
    *(Field(name, "real*") for name in ("c", "partial")),
    *(Field(name, "uint4*") for name in ("units_a", "units_b")),
    Field("counters", "int*"),
    Field("bias", "const real*"),
    Field("s", "real*"),
)
PRODUCT = Structure(
    "Product",
    *_ADDRESSES,
    Field("states", "real*", (_STATES,)),
    *(Field(name, "int64") for name in "nkm"),
    *(Field(f"{name}_{step}", "int64") for name in "abc" for step in ("row", "column")),
    *(Field(f"{name}_wide", "int") for name in "abc"),
    Field("splits", "int"),
    Field("exact", "int"),
    Field("depth", "int64"),
    Field("units", "int64"),
    Field("bias_step", "int64"),
    Field("s_row", "int64"),
    Field("s_column", "int64"),
    numbers=(Field("numbers", "real", (_NUMBERS,)),),
)

COLUMNS = Structure(
    "Columns",
    *(Field(name, "const real*") for name in ("dy", "s")),
    *(Field(name, "real*") for name in ("dz", "partial", "totals")),
    Field("counters", "int*"),
    *(Field(name, "int64") for name in ("rows", "columns", "chunks", "height", "totals_step")),
    *(Field(f"{name}_{step}", "int64") for name in ("dy", "s", "dz") for step in ("row", "column")),
    Field("numbers", "real", (MOST_NUMBERS,)),
)

# Multiply-adds from which a plain product is cuBLAS's, and the device on which a run found that: none has yet.
CUBLAS_FROM = 2**30
CUBLAS_MEASURED_ON: str | None = None

# Columns of a block of columns.cu, the rows it takes at a time, and the most chunks of rows.
_SUM_WIDTH, _SUM_HEIGHT, _SUM_CHUNKS = 32, launch.THREADS // 32, 256
# Columns up to which rows are taken in chunks: beyond them there are blocks enough.
_MOST_SPLIT_COLUMNS = _SUM_WIDTH * launch.COUNTERS


class Tile(NamedTuple):
    """Numbers of C that a block computes and that a thread does, and those at hand of each row and column.

    With a format operands are rounded to it where they are loaded.
    """

    rows: int
    columns: int
    depth: int
    thread_rows: int
    thread_columns: int
    format: str | None = None

    @property
    def threads(self) -> int:
        """Threads of a block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)

    @property
    def work(self) -> int:
        """What a step along the sums takes a block, in multiply-adds."""
        return self.rows * self.columns + READ * (self.rows + self.columns)

    @property
    def before(self) -> str:
        """The tile as the kernels know it, and the headers that they take."""
        sizes = self._asdict()
        format_ = sizes.pop("format")
        rounded = "number" if format_ is None else f"{format_}::rounded(number)"
        formats = "" if format_ is None else launch.header("ptx.cuh")
        headers = launch.header("gemm.cuh") + launch.header("simt.cuh")
        return f"{formats}#define ROUNDED(number) {rounded}\n{_sizes(**sizes)}{headers}"


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
    def work(self) -> int:
        """What a step along the sums takes a block, in multiply-adds."""
        return self.rows * self.columns + READ * (self.rows + self.columns)

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

# The formats of ptx.cuh by precision, and the depth of their fragments.
FORMATS = {"tf32": "Tf32", "bfloat16": "Bf16"}
_DEPTHS = {"Tf32": 8, "Bf16": 16}

TENSOR_TILES = {
    name: tuple(
        TensorTile(rows, columns, 2 * _DEPTHS[format_], warp_rows, 32, format_)
        for rows, columns, warp_rows in ((128, 128, 64), (64, 64, 32))
    )
    for name, format_ in FORMATS.items()
}

# Those of smaller products, which round what they load.
ROUNDING_TILES = {
    name: tuple(tile._replace(format=format_) for tile in TILES["float32"]) for name, format_ in FORMATS.items()
}

# The least compute capability, as CuPy writes it, that has tensor cores for these formats; and the multiply-adds from
# which a product is theirs. Unmeasured.
TENSOR_FROM, TENSOR_WORK_FROM = 80, 2**27

# Units of an operand of 16 bytes a lane: rows or columns, and bytes of a warp.
_UNIT, _UNIT_BYTES = 16, 32 * 16

# What it takes to read a number of a panel, in multiply-adds; a split's depth at least, and splits at most. Unmeasured.
READ, LEAST_DEPTH, MOST_SPLITS = 16, 128, 32


class Plan(NamedTuple):
    """The tile, how many parts the sums have, and how long each is: a multiple of the tile's depth."""

    tile: Tile | TensorTile
    splits: int
    depth: int


@lru_cache(1024)
def _plan(n: int, k: int, m: int, tiles: Sequence[Tile | TensorTile], multiprocessors: int) -> Plan:
    """The cheapest."""
    plans = (plan for tile in tiles for plan in _splits(n, k, m, tile))
    return min(plans, key=lambda plan: (_cost(n, m, plan, multiprocessors), plan.splits))


def _cost(n: int, m: int, plan: Plan, multiprocessors: int) -> float:
    """Blocks in turn on the multiprocessors, each as long as its multiply-adds and what it reads take."""
    tile, splits, depth = plan
    blocks = -(-n // tile.rows) * -(-m // tile.columns) * splits
    turns = -(-blocks // multiprocessors)
    sums = 0.0 if splits == 1 else READ * n * m * splits / multiprocessors
    return turns * tile.work * max(depth, 1) + sums


def _splits(n: int, k: int, m: int, tile: Tile | TensorTile) -> list[Plan]:
    """A tile with 1, 2, 4 and more splits of the sums, all of one depth but for the last; each tile has its counter."""
    plans = [Plan(tile, 1, -(-k // tile.depth) * tile.depth)]
    if -(-n // tile.rows) * -(-m // tile.columns) > launch.COUNTERS:
        return plans
    while plans[-1].depth >= 2 * LEAST_DEPTH and plans[-1].splits < MOST_SPLITS:
        depth = -(-k // (2 * plans[-1].splits * tile.depth)) * tile.depth
        plans.append(Plan(tile, -(-k // depth), depth))
    return plans


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What becomes of the sums: C++ that defines ``finished(given, chosen, i, j, sum)`` for a dtype, and its numbers.

    Those are ``chosen`` there; ``taken`` is how many of them each call gives. ``skips_zeros``: it changes nothing where
    the sum is 0. ``catches_up``: there it changes states alone, and ``missed(given, chosen, i, j, steps)`` makes up for
    so many such sums later.
    """

    before: Callable[[str], str]
    numbers: tuple[float, ...] = ()
    taken: int = 0
    skips_zeros: bool = False
    catches_up: bool = False


_FINISHED = """\
FUNCTION real finished(const Product& given, const ProductNumbers& chosen, int64 i, int64 j, real sum) {{
{body}}}
"""

# Nothing: C is the product.
PLAIN = Epilogue(lambda dtype: _FINISHED.format(body="    return sum;\n"))


def _taken(source: str, count: int) -> list[str]:
    """The first numbers of a structure, as arguments."""
    return [f"{source}.numbers[{place}]" for place in range(count)]


def _numbers_of(activation: str) -> tuple[float, ...]:
    """An activation's numbers: their defaults."""
    return tuple(NUMBERS[activation].values())


def _result_of(name: str, arguments: Sequence[str]) -> str:
    """Statements that return what a function of one result makes of arguments."""
    return f"    real result;\n    {name}({', '.join(arguments)}, &result);\n    return result;\n"


@cache
def forward(activation: str, numbers: tuple[float, ...] | None = None, keeps: bool = False) -> Epilogue:
    """C = f(sum + bias), or f(sum) without one; where it ``keeps`` what f is of, that goes to s, of C's shape.

    An activation's ``numbers`` are its defaults where nothing is said.
    """
    entry = ACTIVATIONS[activation]

    def before(dtype: str) -> str:
        body = "    if (given.bias) sum += given.bias[j * given.bias_step];\n"
        body += "    given.s[i * given.s_row + j * given.s_column] = sum;\n" if keeps else ""
        body += _result_of("activate", ["sum", *_taken("chosen", len(entry.numbers))])
        return function("activate", ("x", *entry.numbers), entry.forward, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, _numbers_of(activation) if numbers is None else numbers)


def _slope(activation: str, dtype: str) -> str:
    """The source of an activation's derivative: ``slope(dy, s, numbers..., &result)``."""
    entry = ACTIVATIONS[activation]
    return function("slope", ("dy", "s", *entry.numbers), entry.backward, dtype)


@cache
def derivative(activation: str, numbers: tuple[float, ...] | None = None) -> Epilogue:
    """C = sum f'(s), s of C's shape: what goes back through a layer; with the activation's ``numbers`` as above."""
    count = len(ACTIVATIONS[activation].numbers)

    def before(dtype: str) -> str:
        s = "given.s[i * given.s_row + j * given.s_column]"
        body = _result_of("slope", ["sum", s, *_taken("chosen", count)])
        return _slope(activation, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, _numbers_of(activation) if numbers is None else numbers)


# Steps without a gradient of a lazy optimizer, one by one: their bits are those of steps that nobody put off.
_MISSED = """\
FUNCTION void missed(const Product& given, const ProductNumbers& chosen, int64 i, int64 j, int64 steps) {{
    real& kept = given.states[0][i * given.c_row + j * given.c_column];
    real state = kept;
    for (real weight, next; steps > 0; steps--, state = next) {{
        update({taken}, real(0), real(0), state, &weight, &next);
        if (next == state) break;
    }}
    kept = state;
}}
"""


def waits(step: str) -> bool:
    """Whether steps of weights without a gradient change their states alone: they may be made later."""
    return STEPS[step].lazy and "rho" in STEPS[step].hyper


@cache
def update(step: str, later: bool = False, decays: bool = False, clips: bool = False) -> Epilogue:
    """C = weights, stepped by the sums as their gradient; states have C's strides, numbers are the step's own.

    Steps that may wait can be made ``later`` where there is no gradient. Where weights decay before the step, what is
    left of each comes behind the step's numbers; where every number of a gradient is clipped, the limit comes last.
    """
    entry = STEPS[step]
    hyper, states = len(entry.hyper), range(len(entry.states))

    def formula(v: Any, *values: Any) -> Any:
        return entry.update(v, values[:hyper], *values[hyper:])

    def before(dtype: str) -> str:
        names = [*(f"h{place}" for place in range(hyper)), "w", "g", *(f"s{place}" for place in states)]
        taken = _taken("chosen", hyper)
        limit = f"chosen.numbers[{hyper + decays}]"
        weight = f"chosen.numbers[{hyper}] * given.c[at]" if decays else "given.c[at]"
        olds = [
            weight,
            f"clipped(sum, {limit})" if clips else "sum",
            *(f"given.states[{place}][at]" for place in states),
        ]
        news = ["&result", *(f"&state_{place}" for place in states)]
        lines = [
            "const int64 at = i * given.c_row + j * given.c_column;",
            f"real {', '.join(new[1:] for new in news)};",
            f"update({', '.join([*taken, *olds, *news])});",
            *(f"given.states[{place}][at] = state_{place};" for place in states),
            "return result;",
        ]
        body = "".join(f"    {line}\n" for line in lines)
        missed = _MISSED.format(taken=", ".join(taken)) if later else ""
        clipping = launch.header("clip.cuh") if clips else ""
        return clipping + function("update", names, formula, dtype) + missed + _FINISHED.format(body=body)

    taken, skips = hyper + decays + clips, entry.lazy and not waits(step) and not decays
    return Epilogue(before, taken=taken, skips_zeros=skips, catches_up=later)


def source_of(tile: Tile | TensorTile) -> str:
    """The file with a tile's kernels."""
    return "gemm.cu" if isinstance(tile, Tile) else "tensor.cu"


def before(tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> str:
    """What comes before the kernels of products: the epilogue and the tile."""
    return epilogue.before(dtype) + tile.before


@cache
def _kernel(entry: str, tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> Any:
    return launch.kernel(source_of(tile), entry, dtype, (PRODUCT,), before(tile, epilogue, dtype))


@cache
def _has_tensor_cores(device: int) -> bool:
    return int(cupy.cuda.Device(device).compute_capability) >= TENSOR_FROM


def format_of(dtype: str) -> str | None:
    """The format that products of this dtype round their operands to now; RuntimeError where the device has it not."""
    return tiles_for(dtype, precision.current(), 0)[0].format


def tiles_for(dtype: str, wanted: str, work: int) -> Sequence[Tile | TensorTile]:
    """Those of products of so many multiply-adds, for a dtype and a precision; RuntimeError where there are none."""
    if dtype != "float32" or wanted == "float32":
        return TILES[dtype]
    device = cupy.cuda.runtime.getDevice()
    if not _has_tensor_cores(device):
        found = cupy.cuda.Device(device).compute_capability
        raise RuntimeError(f"precision: got {wanted!r}, wants a device of compute capability 8.0 or later, not {found}")
    return TENSOR_TILES[wanted] if work >= TENSOR_WORK_FROM else ROUNDING_TILES[wanted]


def modules() -> Iterator[launch.Module]:
    """Every tile, with an epilogue of each kind or, where it rounds, with one; sums of columns, and of derivatives."""
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
            yield launch.Module(label, text, TENSOR_FROM if name in TENSOR_TILES else 75)
    for name, tiles in ROUNDING_TILES.items():
        for tile in tiles:
            text = launch.text("gemm.cu", "float32", (PRODUCT,), before(tile, derivative("gelu"), "float32"))
            label = f"product {tile.rows}x{tile.columns}x{tile.depth} gelu_backward rounding to {name}"
            yield launch.Module(label, text, TENSOR_FROM)
    for activation, dtype in product_of((None, "gelu"), TILES):
        text = launch.text("columns.cu", dtype, (COLUMNS,), _value(activation, dtype))
        yield launch.Module(f"column_sums {activation or 'plain'} {dtype}", text)


def steps_of(array: Any) -> tuple[int, int]:
    """Distances of rows and of columns, in numbers."""
    row, column = array.strides
    return row // array.itemsize, column // array.itemsize


def is_wide(array: Any) -> bool:
    """Whether packs of 16 bytes can be read of a matrix along its rows or its columns, if it begins where one may."""
    row, column = array.strides
    other = row if column == array.itemsize else column
    return other % WIDE == 0 and array.itemsize in (row, column)


def describe_matrix(given: Any, name: str, array: Any) -> None:
    """The distances of an operand's rows and columns."""
    given[f"{name}_row"], given[f"{name}_column"] = steps_of(array)


def describe_epilogue(given: Any, bias: Any, s: Any, numbers: Sequence[float]) -> None:
    """What an epilogue takes beside addresses."""
    if bias is not None:
        given["bias_step"] = bias.strides[0] // bias.itemsize
    if s is not None:
        given["s_row"], given["s_column"] = steps_of(s)
    given["numbers"][: len(numbers)] = numbers


def product(a: Any, b: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> None:
    """A ``Product`` of these operands, made once for all that are like them."""
    likes = [like(given.get(name)) for name in ("bias", "s")]
    key = (like(a), like(b), like(c), *likes, len(given.get("states", ())), epilogue, *launch.surroundings())
    taken = {name: given[name] for name in ("bias", "s", "states") if name in given}
    launch.known(_products, key, lambda: Product(a, b, c, epilogue, **taken))(a, b, c, **given)


def packing(dtype: Any, count: int) -> Callable[..., bytes]:
    """What makes, of so many numbers, bytes as kernels of this dtype take them."""
    return Struct(f"{count}{dtype.char}").pack


class Product:
    """C (n, m) = f(A (n, k) @ B (k, m)) of operands like some, f an epilogue and what it takes; cuBLAS's where it pays.

    C shares no memory with a, b and bias. ``bias`` is (m,) or None, s is (n, m), ``states`` have the shape and strides
    of c.
    """

    def __init__(
        self,
        a: Any,
        b: Any,
        c: Any,
        epilogue: Epilogue = PLAIN,
        *,
        bias: Any = None,
        s: Any = None,
        states: Sequence[Any] = (),
    ) -> None:
        self._likes, self._epilogue = tuple(like(each) for each in (a, b, c, bias, s)), epilogue
        self._pack = packing(c.dtype, epilogue.taken)
        of_states = [f"state {number}" for number in range(len(states))]
        names = {"a": "a", "b": "b", "c": "c", "bias": "" if bias is None else "bias", "s": "" if s is None else "s"}

        def build(chain: Chain, _: Any) -> None:
            self.add(chain, **names, states=of_states)

        self._launches = Chains([*filter(None, names.values()), *of_states], build)

    def __call__(
        self,
        a: Any,
        b: Any,
        c: Any,
        *,
        bias: Any = None,
        s: Any = None,
        states: Sequence[Any] = (),
        numbers: Sequence[float] = (),
    ) -> None:
        """Launch what computes it of these, on the current stream; nothing but their addresses is looked at.

        ``numbers`` are those that the epilogue takes in each call.
        """
        addresses = [a.data.ptr, b.data.ptr, c.data.ptr]
        if bias is not None:
            addresses.append(bias.data.ptr)
        if s is not None:
            addresses.append(s.data.ptr)
        if states:
            addresses += [state.data.ptr for state in states]
        self._launches(tuple(addresses), numbers=self._pack(*numbers))

    def add(
        self, chain: Chain, a: str, b: str, c: str, bias: str = "", s: str = "", states: Sequence[str] = ()
    ) -> None:
        """Launch it in a chain, on arrays by these names."""
        like_a, like_b, like_c, *_ = self._likes
        (n, k), m, dtype = like_a.shape, like_b.shape[1], like_c.dtype
        if 0 in like_c.shape:
            return
        if n * k * m >= CUBLAS_FROM and self._epilogue is PLAIN and precision.current() == "float32":
            record = MATRICES.record(dtype)
            chain.add(_Cublas(like_a, like_b, like_c), 1, record, {"a": a, "b": b, "c": c}, threads=1)
            return
        tiles = tiles_for(dtype.name, precision.current(), n * k * m)
        tile, splits, depth = _plan(n, k, m, tiles, launch.multiprocessors())
        record = self._record([chain.is_aligned(each) for each in (a, b, c)])
        given = record[0]
        given["splits"], given["depth"] = splits, depth
        down, across = -(-n // tile.rows), -(-m // tile.columns)
        pointers = {"a": a, "b": b, "c": c, "bias": bias, "s": s, "states": states}
        if splits > 1:
            pointers["partial"] = chain.room(splits * down * across * tile.rows * tile.columns * dtype.itemsize)
            pointers["counters"] = COUNTERS
        if isinstance(tile, TensorTile):
            steps = -(-k // tile.depth) * (tile.depth // tile.unit)
            of_a, of_b = (-(-size // _UNIT) * steps for size in (n, m))
            given["units"] = steps
            if steps:
                rooms = chain.within((of_a + of_b) * _UNIT_BYTES, 0, of_a * _UNIT_BYTES)
                pointers["units_a"], pointers["units_b"] = rooms
                packed = _kernel("packed", tile, self._epilogue, dtype.name)
                chain.add(packed, launch.blocks((of_a + of_b) * 32), record, pointers)
        numbers = ("numbers", self._epilogue.taken * dtype.itemsize) if self._epilogue.taken else None
        kernel = _kernel("product", tile, self._epilogue, dtype.name)
        chain.add(kernel, down * across * splits, record, pointers, numbers, tile.threads)

    def _record(self, aligned: Sequence[bool]) -> Any:
        """What kernels are given of operands that begin where packs may, or do not: all but addresses and splits."""
        a, b, c, bias, s = self._likes
        record = PRODUCT.record(c.dtype)
        given = record[0]
        (given["n"], given["k"]), given["m"] = a.shape, b.shape[1]
        for name, matrix, is_aligned in zip("abc", (a, b, c), aligned, strict=True):
            describe_matrix(given, name, matrix)
            given[f"{name}_wide"] = is_aligned and is_wide(matrix)
        given["c_wide"] &= c.strides[1] == c.itemsize
        describe_epilogue(given, bias, s, self._epilogue.numbers)
        return record


# What cuBLAS's product is given, as if it were a kernel.
MATRICES = Structure("Matrices", *(Field(name, "real*") for name in "abc"))


class _Cublas:
    """The product of matrices like these, to be called as kernels are."""

    _read = Struct("3Q").unpack

    def __init__(self, *likes: Like) -> None:
        self._likes = likes

    def function(self, grid: Any, block: Any, arguments: tuple[Any]) -> None:
        """Compute it of what the record points to."""
        a, b, c = map(at, self._read(arguments[0].tobytes()), self._likes)
        cupy.matmul(a, b, out=c)

    __call__ = function


# Those made by ``product``, by what their operands are like.
_products: dict[Any, Product] = {}


def _value(activation: str | None, dtype: str) -> str:
    """The source of what is summed: a number of a matrix, or of the dz = dy f'(s) that is written."""
    body = "    return given.dy[i * given.dy_row + j * given.dy_column];\n"
    before = ""
    if activation is not None:
        count = len(ACTIVATIONS[activation].numbers)
        places = [f"given.{name}[i * given.{name}_row + j * given.{name}_column]" for name in ("dy", "s", "dz")]
        given = ", ".join([*places[:2], *_taken("given", count)])
        body = f"    real& dz = {places[2]};\n    slope({given}, &dz);\n    return dz;\n"
        before = _slope(activation, dtype)
    shape = f"constexpr int WIDTH = {_SUM_WIDTH}, HEIGHT = {_SUM_HEIGHT};\n"
    return f"{before}{shape}FUNCTION real value(const Columns& given, int64 i, int64 j) {{\n{body}}}\n"


class ColumnSums:
    """Total (m,) = the sums of the rows of dy (n, m), of arrays like some.

    With an activation they are those of dz = dy f'(s), which is written.
    """

    def __init__(self, dy: Any, total: Any, activation: str | None = None, s: Any = None, dz: Any = None) -> None:
        (n, m), dtype = dy.shape, dy.dtype
        chunks = max(1, min(_SUM_CHUNKS, -(-n // (4 * _SUM_HEIGHT)))) if m <= _MOST_SPLIT_COLUMNS else 1
        record = COLUMNS.record(dtype)
        given = record[0]
        given["rows"], given["columns"], given["chunks"], given["height"] = n, m, chunks, -(-n // chunks)
        for name, array in (("dy", dy), ("s", s), ("dz", dz)):
            if array is not None:
                given[f"{name}_row"], given[f"{name}_column"] = steps_of(array)
        given["totals_step"] = total.strides[0] // total.itemsize
        if activation is not None:
            numbers = _numbers_of(activation)
            given["numbers"][: len(numbers)] = numbers
        self._record, self._activation = record, activation
        self._launches = Chains(
            ["dy", "total", *(["s", "dz"] if activation else [])],
            lambda chain, _: self.add(chain, "dy", "total", *(["s", "dz"] if activation else [])),
        )

    def __call__(self, *arrays: Any) -> None:
        """Launch what sums these: dy, total, and of an activation s and dz."""
        self._launches(tuple([array.data.ptr for array in arrays]))

    def add(self, chain: Chain, dy: str, total: str, s: str = "", dz: str = "") -> None:
        """Launch it in a chain, on arrays by these names."""
        given, dtype = self._record[0], self._record.dtype.fields["numbers"][0].base
        columns, chunks = int(given["columns"]), int(given["chunks"])
        if columns == 0:
            return
        pointers = {"dy": dy, "s": s, "dz": dz, "totals": total}
        if chunks > 1:
            pointers["partial"] = chain.room(chunks * columns * dtype.itemsize)
            pointers["counters"] = COUNTERS
        before = _value(self._activation, dtype.name)
        kernel = launch.kernel("columns.cu", "column_sums", dtype.name, (COLUMNS,), before)
        chain.add(kernel, chunks * -(-columns // _SUM_WIDTH), self._record, pointers)


def placing_each(
    kind: Kind, outs: Sequence[Any], shapes: Sequence[Any], dtype: Any, x: Any, *others: Any
) -> Callable[..., list[Any]]:
    """``places(outs, x, *others)`` of results of these shapes, each as the kind places it; of no shape there is none.

    All at once where they are over memory of their own.
    """
    each = [
        None if shape is None else kind.place(out, shape, dtype, x, *others)
        for shape, out in zip(shapes, outs, strict=True)
    ]
    given = [out for out in outs if out is not None]
    ordered = all(out.flags.c_contiguous for out in given)
    are_apart = kind.telling_apart(given, x, others) if ordered else None

    def places(outs: Sequence[Any], x: Any, *others: Any) -> list[Any]:
        if are_apart is None or not are_apart(_addresses(outs), x, _addresses(others)):
            return [place and place(out, x, *others) for place, out in zip(each, outs, strict=True)]
        return [
            cupy.empty(shape, dtype) if out is None and shape is not None else out
            for out, shape in zip(outs, shapes, strict=True)
        ]

    return places


def _addresses(arrays: Sequence[Any]) -> list[int]:
    """Those of the arrays that there are."""
    return [array.data.ptr for array in arrays if array is not None]


def _telling_apart(written: Sequence[Any], x: Any, read: Sequence[Any]) -> Callable[..., bool]:
    """``telling_apart`` of the addresses of arrays, a dense x and the addresses of other arrays."""
    are_apart = telling_apart(written, (x, *read))
    return lambda written, x, read: are_apart(*written, x.data.ptr, *read)


# What adds a product C = f(S @ B) to a chain: of it, the kind of launches, and the names of B, C and what f takes.
Adds = Callable[..., None]


class Kind(NamedTuple):
    """What a layer's x may be, dense or sparse: its arrays, and the products C = f(x @ w) and C = f(x.T @ dz).

    Both are planned as ``Product`` and give what adds them to a chain, which has x by the names ``named`` and
    ``others``. ``given(name, x)`` are the addresses and integers of these, the kind of launches that x takes, and what
    is held until they are made. ``place`` plans where a result goes (``placing_apart``), and ``telling_apart``
    whether arrays that are written share no memory, with one another or with x and others that are read: of the
    addresses of the ones, x, and those of the others.
    """

    named: tuple[str, ...]
    others: tuple[str, ...]
    given: Callable[[str, Any], tuple[Sequence[int], Sequence[int], Any, Any]]
    place: Callable[..., Callable[..., Any]]
    telling_apart: Callable[..., Callable[..., bool]]
    times: Callable[..., Adds]
    transposed_times: Callable[..., Adds]

    def launches(self, names: Sequence[str], build: Callable[[Chain, Any], Any]) -> Chains:
        """Those of x and of arrays by these names."""
        return Chains((*self.named, *names), build, self.others)


def _times(x: Any, w: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> Adds:
    product = Product(x, w, c, epilogue, **given)
    return lambda chain, _, *names, **named: product.add(chain, "x", *names, **named)


def _transposed_times(x: Any, dz: Any, c: Any, epilogue: Epilogue = PLAIN, **given: Any) -> Adds:
    return _times(x.T, dz, c, epilogue, **given)


DENSE = Kind(
    ("x",),
    (),
    lambda _, x: ((x.data.ptr,), (), None, None),
    placing_apart,
    _telling_apart,
    _times,
    _transposed_times,
)


def product_op(kind: Kind) -> Planned:
    """``matmul`` of a kind of a."""

    def matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
        shape, dtype = (a.shape[0], b.shape[1]), b.dtype
        times, place = kind.times(a, b, like_new(shape, dtype)), kind.place(out, shape, dtype, a, b)
        launches = kind.launches(("b", "y"), lambda chain, which: times(chain, which, "b", "y"))
        given = kind.given

        def run(a: Any, b: Any, *, out: Any = None) -> Any:
            y = place(out, a, b)
            addresses, others, which, _held = given("a", a)
            launches((*addresses, b.data.ptr, y.data.ptr), others, which)
            return finish(y, out)

        return run

    return Planned(implements("matmul", matmul))


def _softmax() -> Any:
    """Its module, which takes part in losses, too."""
    return import_module("fastnn.kernels.cuda.softmax")


def layer_op(kind: Kind) -> Planned:
    """``linear`` of a kind of x: bias and elementwise activation are the product's epilogue; of rows, it follows."""

    def linear(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Callable[..., Any]:
        shape, dtype = (x.shape[0], w.shape[1]), w.dtype
        fused, is_of_rows = (
            ELEMENTWISE_ACTIVATIONS.get(activation, "identity"),
            activation not in ELEMENTWISE_ACTIVATIONS,
        )
        is_plain, sources = b is None and fused == "identity", (x, w) if b is None else (x, w, b)
        times = kind.times(x, w, like_new(shape, dtype), PLAIN if is_plain else forward(fused), bias=b)
        place, given = kind.place(out, shape, dtype, *sources), kind.given
        bias = [] if b is None else ["b"]

        def build(chain: Chain, which: Any) -> None:
            times(chain, which, "w", "y", bias="".join(bias))
            if is_of_rows:
                _softmax().add_to(chain, "forward", activation, like_new(shape, dtype), "y", "y", "y")

        launches = kind.launches(("w", "y", *bias), build)

        def run(x: Any, w: Any, b: Any = None, activation: str = "linear", *, out: Any = None) -> Any:
            addresses, others, which, _held = given("x", x)
            if b is None:
                y = place(out, x, w)
                launches((*addresses, w.data.ptr, y.data.ptr), others, which)
            else:
                y = place(out, x, w, b)
                launches((*addresses, w.data.ptr, y.data.ptr, b.data.ptr), others, which)
            return finish(y, out)

        return run

    return Planned(implements("linear", linear))


class Derivative:
    """dz = dy f'(s) of arrays like some, with the sums of its columns: what goes back through an activation.

    In a chain it is made of what has the names "dy" and "s", which ``sources`` gives; ``like`` says what dz is like.
    """

    def __init__(self, dy: Any, s: Any, activation: str) -> None:
        self.activation, self._sources = activation, (like(dy), like(s))
        self._is_of_rows = activation not in ELEMENTWISE_ACTIVATIONS
        self.like: Like = like(dy) if activation == "linear" else like_new(dy.shape, dy.dtype)

    def sources(self, dy: Any, s: Any, y: Any) -> tuple[Any, Any]:
        """The arrays that it reads; s is y where the derivative is told by that."""
        return (in_order(dy), in_order(y)) if self._is_of_rows else (dy, s)

    def add(self, chain: Chain, total: str = "") -> str:
        """Make it in a chain, and in ``total`` the sums of its columns; what dz is called there."""
        (dy, s), made = self._sources, self.like
        sums = like_new(made.shape[1:], made.dtype)
        if self.activation == "linear":
            if total:
                ColumnSums(dy, sums).add(chain, "dy", total)
            return "dy"
        dz: str = chain.room(math.prod(made.shape) * made.itemsize)
        if not self._is_of_rows:
            found = ColumnSums(dy, sums, ELEMENTWISE_ACTIVATIONS[self.activation], s, made)
            found.add(chain, "dy", total or chain.room(made.shape[1] * made.itemsize), "s", dz)
            return dz
        _softmax().add_to(chain, "backward", self.activation, made, "dy", "s", dz)
        if total:
            ColumnSums(made, sums).add(chain, dz, total)
        return dz


class Gradients:
    """A layer's gradients by x, w and b, those that are ``wanted`` of "dx", "dw" and "db": links of a chain.

    dz with its columns' sums in one pass, then two products, of arrays like these.
    """

    def __init__(self, kind: Kind, dy: Any, x: Any, w: Any, s: Any, activation: str, wanted: Sequence[str]) -> None:
        self._wanted, self.derivative = wanted, Derivative(dy, s, activation)
        dz, dtype = self.derivative.like, dy.dtype
        self._of_x = Product(dz, w.T, like_new(x.shape, dtype)) if "dx" in wanted else None
        self._of_w = kind.transposed_times(x, dz, like_new(w.shape, dtype)) if "dw" in wanted else None

    def add(self, chain: Chain, which: Any, db: str = "db") -> str:
        """Make them in a chain, where they have their names, but maybe db; what dz is called there."""
        dz = self.derivative.add(chain, db if "db" in self._wanted else "")
        if self._of_x is not None:
            self._of_x.add(chain, dz, "w", "dx")
        if self._of_w is not None:
            self._of_w(chain, which, dz, "dw")
        return dz


def layer_backward_op(kind: Kind) -> Planned:
    """``linear_backward`` of a kind of x: an array that shares memory with an operand is written last of all."""

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
    ) -> Callable[..., tuple[Any, Any, Any]]:
        shapes, dtype = {"dx": x.shape, "dw": w.shape, "db": w.shape[1:]}, dy.dtype
        wanted = [shape if name in need else None for name, shape in shapes.items()]
        places = placing_each(kind, (dx, dw, db), wanted, dtype, x, dy, w, y, *(() if z is None else (z,)))
        gradients = Gradients(kind, dy, x, w, y if z is None else z, activation, need)
        names = [name for name in shapes if name in need]
        launches, given = kind.launches(("dy", "s", "w", *names), gradients.add), kind.given
        sources = gradients.derivative.sources

        def run(
            dy: Any, x: Any, w: Any, y: Any, activation: str = "linear", z: Any = None, need: Any = (),
            *, dx: Any = None, dw: Any = None, db: Any = None,
        ) -> tuple[Any, Any, Any]:  # fmt: skip
            if dx is dw is db is None:
                made = [shape and cupy.empty(shape, dtype) for shape in wanted]
            else:
                made = places((dx, dw, db), x, dy, w, y, *(() if z is None else (z,)))
            addresses, others, which, _held = given("x", x)
            of_dz = sources(dy, y if z is None else z, y)
            arrays = (*of_dz, w, *[array for array in made if array is not None])
            launches((*addresses, *[array.data.ptr for array in arrays]), others, which)
            made_x, made_w, made_b = made
            return finish(made_x, dx), finish(made_w, dw), finish(made_b, db)

        return run

    return Planned(implements("linear_backward", linear_backward))


matmul, linear, linear_backward = product_op(DENSE), layer_op(DENSE), layer_backward_op(DENSE)


@Planned
def column_sums(x: Any, *, out: Any = None) -> Callable[..., Any]:
    """The sums of the rows of x."""
    shape, dtype = x.shape[1:], x.dtype
    sums, place = ColumnSums(x, like_new(shape, dtype)), placing_apart(out, shape, dtype, x)

    def run(x: Any, *, out: Any = None) -> Any:
        total = place(out, x)
        sums(x, total)
        return finish(total, out)

    return run
