"""Products on the device, tile by tile, with what follows a product in its epilogue.

``product`` computes C = f(A @ B) in the operands' own dtype, f an ``Epilogue``. Tiles, and the number of splits of the
sums, are chosen by shape (``tiles.plan``). Large plain products are cuBLAS's.

Products of float32 arrays are exact to rounding, or where ``fastnn.kernels.precision`` says so, of operands rounded to
"tf32" or "bfloat16", their sums in float32: large ones on tensor cores, behind a launch that rounds and packs operands;
small ones round what they load, which saves that launch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import product as product_of
from struct import Struct
from typing import Any

from fastnn.kernels import precision
from fastnn.kernels.cuda import cublas, launch, tiles
from fastnn.kernels.cuda.arguments import Field, Structure
from fastnn.kernels.cuda.arrays import WIDE, like
from fastnn.kernels.cuda.chain import COUNTERS, Chain, Chains
from fastnn.kernels.cuda.epilogues import MOST_STATES, MOST_TAKEN, PLAIN, Epilogue, derivative, forward, update
from fastnn.kernels.cuda.tiles import ROUNDING_TILES, TENSOR_FROM, TENSOR_TILES, TILES, Plan, TensorTile, Tile

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
    Field("states", "real*", (MOST_STATES,)),
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
    numbers=(Field("numbers", "real", (MOST_TAKEN,)),),
)

# Units of an operand of 16 bytes a lane: rows or columns, and bytes of a warp.
_UNIT, _UNIT_BYTES = 16, 32 * 16


def source_of(tile: Tile | TensorTile) -> str:
    """The file with a tile's kernels."""
    return "gemm.cu" if isinstance(tile, Tile) else "tensor.cu"


def before(tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> str:
    """What comes before the kernels of products: the epilogue and the tile."""
    return epilogue.before(dtype) + tile.before


@cache
def _kernel(entry: str, tile: Tile | TensorTile, epilogue: Epilogue, dtype: str) -> Any:
    return launch.kernel(source_of(tile), entry, dtype, (PRODUCT,), before(tile, epilogue, dtype))


def modules() -> Iterator[launch.Module]:
    """Every tile, with an epilogue of each kind or, where it rounds, with one."""
    epilogues = {
        "plain": PLAIN,
        "gelu": forward("gelu"),
        "gelu_backward": derivative("gelu"),
        "amsgrad": update("amsgrad"),
    }
    of_precision: dict[str, Sequence[Tile | TensorTile]] = {**TILES, **TENSOR_TILES}
    for name, each in of_precision.items():
        dtype, least = (name, launch.LEAST) if name in TILES else ("float32", TENSOR_FROM)
        for tile, (kind, epilogue) in product_of(each, epilogues.items()):
            yield _module(tile, epilogue, dtype, f"{kind} {name}", least)
    for name, rounding in ROUNDING_TILES.items():
        for tile in rounding:
            yield _module(tile, epilogues["gelu_backward"], "float32", f"gelu_backward rounding to {name}", TENSOR_FROM)


def _module(tile: Tile | TensorTile, epilogue: Epilogue, dtype: str, label: str, least: int) -> launch.Module:
    text = launch.text(source_of(tile), dtype, (PRODUCT,), before(tile, epilogue, dtype))
    return launch.Module(f"product {tile.rows}x{tile.columns}x{tile.depth} {label}", text, least)


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
        (n, k), m = like_a.shape, like_b.shape[1]
        if 0 in like_c.shape:
            return
        if self._epilogue is PLAIN and cublas.takes(n * k * m):
            cublas.add_to(chain, (like_a, like_b, like_c), a, b, c)
            return
        chosen = tiles.tiles_for(like_c.dtype.name, precision.current(), n * k * m)
        plan = tiles.plan(n, k, m, chosen, launch.multiprocessors())
        record = self._record([chain.is_aligned(each) for each in (a, b, c)])
        pointers = {"a": a, "b": b, "c": c, "bias": bias, "s": s, "states": states}
        record[0]["splits"], record[0]["depth"] = plan.splits, plan.depth
        if isinstance(plan.tile, TensorTile):
            self._add_packed(chain, plan.tile, record, pointers)
        self._add_tiles(chain, plan, record, pointers)

    def _add_packed(self, chain: Chain, tile: TensorTile, record: Any, pointers: dict[str, Any]) -> None:
        """Round the operands, and pack them as tensor cores take them."""
        given = record[0]
        steps = -(-int(given["k"]) // tile.depth) * (tile.depth // tile.unit)
        of_a, of_b = (-(-int(given[size]) // _UNIT) * steps for size in "nm")
        given["units"] = steps
        if steps:
            rooms = chain.within((of_a + of_b) * _UNIT_BYTES, 0, of_a * _UNIT_BYTES)
            pointers["units_a"], pointers["units_b"] = rooms
            kernel = _kernel("packed", tile, self._epilogue, self._likes[2].dtype.name)
            chain.add(kernel, launch.blocks((of_a + of_b) * 32), record, pointers)

    def _add_tiles(self, chain: Chain, plan: Plan, record: Any, pointers: dict[str, Any]) -> None:
        """Compute every tile; where the sums are split, the last block of a tile to come adds up all of them."""
        (tile, splits, _), given, dtype = plan, record[0], self._likes[2].dtype
        count = -(-int(given["n"]) // tile.rows) * -(-int(given["m"]) // tile.columns)
        if splits > 1:
            pointers["partial"] = chain.room(splits * count * tile.rows * tile.columns * dtype.itemsize)
            pointers["counters"] = COUNTERS
        numbers = ("numbers", self._epilogue.taken * dtype.itemsize) if self._epilogue.taken else None
        kernel = _kernel("product", tile, self._epilogue, dtype.name)
        chain.add(kernel, count * splits, record, pointers, numbers, tile.threads)

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


# Those made by ``product``, by what their operands are like.
_products: dict[Any, Product] = {}
