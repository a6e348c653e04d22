"""Sums of a matrix's columns on the device, or of the dz = dy f'(s) that is written in the same pass."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as product_of
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.chain import COUNTERS, Chain, Chains
from fastnn.kernels.cuda.epilogues import numbers_of, slope, taken_of
from fastnn.kernels.cuda.products import steps_of
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.table import DTYPES

COLUMNS = Structure(
    "Columns",
    *(Field(name, "const real*") for name in ("dy", "s")),
    *(Field(name, "real*") for name in ("dz", "partial", "totals")),
    Field("counters", "int*"),
    *(Field(name, "int64") for name in ("rows", "columns", "chunks", "height", "totals_step")),
    *(Field(f"{name}_{step}", "int64") for name in ("dy", "s", "dz") for step in ("row", "column")),
    Field("numbers", "real", (MOST_NUMBERS,)),
)

# Columns of a block of columns.cu, the rows it takes at a time, and the most chunks of rows.
_WIDTH, _HEIGHT, _MOST_CHUNKS = 32, launch.THREADS // 32, 256
# Columns up to which rows are taken in chunks: beyond them there are blocks enough.
_MOST_SPLIT_COLUMNS = _WIDTH * launch.COUNTERS


def modules() -> Iterator[launch.Module]:
    """Sums of columns, and of derivatives."""
    for activation, dtype in product_of((None, "gelu"), DTYPES):
        text = launch.text("columns.cu", dtype, (COLUMNS,), _value(activation, dtype))
        yield launch.Module(f"column_sums {activation or 'plain'} {dtype}", text)


def _value(activation: str | None, dtype: str) -> str:
    """The source of what is summed: a number of a matrix, or of the dz = dy f'(s) that is written."""
    body = "    return given.dy[i * given.dy_row + j * given.dy_column];\n"
    before = ""
    if activation is not None:
        count = len(ACTIVATIONS[activation].numbers)
        places = [f"given.{name}[i * given.{name}_row + j * given.{name}_column]" for name in ("dy", "s", "dz")]
        given = ", ".join([*places[:2], *taken_of("given", count)])
        body = f"    real& dz = {places[2]};\n    slope({given}, &dz);\n    return dz;\n"
        before = slope(activation, dtype)
    shape = f"constexpr int WIDTH = {_WIDTH}, HEIGHT = {_HEIGHT};\n"
    return f"{before}{shape}FUNCTION real value(const Columns& given, int64 i, int64 j) {{\n{body}}}\n"


class ColumnSums:
    """Total (m,) = the sums of the rows of dy (n, m), of arrays like some.

    With an activation they are those of dz = dy f'(s), which is written.
    """

    def __init__(self, dy: Any, total: Any, activation: str | None = None, s: Any = None, dz: Any = None) -> None:
        (n, m), dtype = dy.shape, dy.dtype
        chunks = max(1, min(_MOST_CHUNKS, -(-n // (4 * _HEIGHT)))) if m <= _MOST_SPLIT_COLUMNS else 1
        record = COLUMNS.record(dtype)
        given = record[0]
        given["rows"], given["columns"], given["chunks"], given["height"] = n, m, chunks, -(-n // chunks)
        for name, array in (("dy", dy), ("s", s), ("dz", dz)):
            if array is not None:
                given[f"{name}_row"], given[f"{name}_column"] = steps_of(array)
        given["totals_step"] = total.strides[0] // total.itemsize
        if activation is not None:
            numbers = numbers_of(activation)
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
        chain.add(kernel, chunks * -(-columns // _WIDTH), self._record, pointers)
