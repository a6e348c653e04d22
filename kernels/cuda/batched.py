"""Products of many matrices on the device: blocks share tiles of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product as product_of
from typing import Any, NamedTuple

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import finish, placing_apart
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import DTYPES
from fastnn.kernels.table.row import implements

# Distances of operands in numbers: their matrices may be views, transposed ones say.
_STEPS = ("sample", "head", "row", "column")

# Sizes of the products, of which there are one for each head of each sample.
_SIZES = ("samples", "heads", "n", "k", "m")

PRODUCTS = Structure(
    "Products",
    *(Field(name, "int64") for name in _SIZES),
    *(Field(f"{operand}_{step}", "int64") for operand in "aby" for step in _STEPS),
    Field("a", "const real*"),
    Field("b", "const real*"),
    Field("y", "real*"),
)

# Rows and columns of a tile for each thread of a column and of a row of a block, and how many these are.
_EACH, _SIDE = (1, 4), 16


def _before(rows: int, columns: int) -> str:
    return f"#define EACH_ROWS {rows}\n#define EACH_COLUMNS {columns}\n"


def modules() -> Iterator[launch.Module]:
    """For matrices that are narrow or not, tall or not."""
    for rows, columns, dtype in product_of(_EACH, _EACH, DTYPES):
        text = launch.text("batched.cu", dtype, (PRODUCTS,), _before(rows, columns))
        yield launch.Module(f"{rows} {columns} {dtype}", text)


class Launched(NamedTuple):
    """A kernel on so many blocks, and its record, all but the addresses of a, b and y."""

    kernel: Any
    blocks: int
    record: Any


# Of an operand (samples, heads, rows, columns), in numbers.
Strides = Sequence[int]


def products(dtype: Any, sizes: Sequence[int], a: Strides, b: Strides, y: Strides) -> Launched:
    """y = a @ b, of ``sizes`` (samples, heads, n, k, m) which are no 0 but for k."""
    record = PRODUCTS.record(dtype)
    for name, size in zip(_SIZES, sizes, strict=True):
        record[0][name] = size
    for operand, strides in (("a", a), ("b", b), ("y", y)):
        for step, stride in zip(_STEPS, strides, strict=True):
            record[0][f"{operand}_{step}"] = stride
    samples, heads, n, _, m = sizes
    rows, columns = (_EACH[size > _SIDE] for size in (n, m))
    tiles = samples * heads * -(-n // (_SIDE * rows)) * -(-m // (_SIDE * columns))
    kernel = launch.kernel("batched.cu", "batch_matmul", dtype.name, (PRODUCTS,), _before(rows, columns))
    return Launched(kernel, launch.blocks(tiles * launch.THREADS), record)


def _batch_matmul(a: Any, b: Any, *, out: Any = None) -> Callable[..., Any]:
    (s, n, k), m, dtype = a.shape, b.shape[2], a.dtype
    place = placing_apart(out, (s, n, m), dtype, a, b)
    left, right = ([array.strides[0] // dtype.itemsize, 0, *(each // dtype.itemsize for each in array.strides[1:])]
                   for array in (a, b))  # fmt: skip
    launched = products(dtype, (s, 1, n, k, m), left, right, (n * m, 0, m, 1)) if s * n * m else None
    multiply = None if launched is None else launch.Launch(*launched, "a", 3)

    def run(a: Any, b: Any, *, out: Any = None) -> Any:
        y = place(out, a, b)
        if multiply is not None:
            multiply(a.data.ptr, b.data.ptr, y.data.ptr)
        return finish(y, out)

    return run


batch_matmul = Planned(implements("batch_matmul", _batch_matmul))
