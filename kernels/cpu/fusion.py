"""Neighbours among instructions that one kernel does in one pass: a weights' gradient and the step by it.

Bits stay: what is fused computes the same sums in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from fastnn.kernels.cpu import gemm, replay, sparse_fusion
from fastnn.kernels.cpu.lowering import Instruction, Lowering, Range, range_of
from fastnn.kernels.cpu.machine import tile
from fastnn.kernels.graph import Block


def fuse(stretch: list[Instruction], to: Lowering, seen: Collection[Block]) -> list[Instruction]:
    """The instructions with steps fused into the products that they step by, unless these are ``seen`` elsewhere."""
    for update in [each for each in stretch if each.kind == replay.UPDATE]:
        products = _products_of(stretch, update, seen)
        if products:
            stepping = {id(each): _STEPPED[each.kind](each, update, to) for each in products}
            stretch = [stepping.get(id(each), each) for each in stretch if each is not update]
    return sparse_fusion.sorted_early(stretch)


def _products_of(stretch: list[Instruction], update: Instruction, seen: Collection[Block]) -> list[Instruction]:
    """The products that make the gradient of an update, if it can be a part of them; else none."""
    (gradient,) = update.views["b"]
    if gradient is None or gradient.ndim != 2 or not gradient.block.inner or gradient.block in seen:
        return []
    touching = [each for each in stretch if _touches(each, gradient.block)]
    products = [each for each in touching if each.kind in _STEPPED and each.views["c"] == (gradient,)]
    if not products or touching != [*products, update]:
        return []
    between = stretch[stretch.index(products[0]) : stretch.index(update)]
    free = all(each.kind != replay.LOSS and not _meet([*each.reads, *each.writes], update.writes) for each in between)
    whole = all(
        each.kind != replay.PRODUCT or (each.fields["k0"] == 0 and each.fields["k1"] <= each.fields["KC"])
        for each in products
    )
    plain = all(each.fields["code"] < 0 for each in products)
    return products if free and whole and plain else []


def _touches(each: Instruction, block: Block) -> bool:
    return any(range_.block is block for range_ in (*each.reads, *each.writes))


def _meet(ones: Collection[Range], others: Collection[Range]) -> bool:
    return any(one.meets(other) for one in ones for other in others)


def _stepping(product: Instruction, update: Instruction, to: Lowering) -> Instruction:
    """The product with the update in place of its result."""
    gradient = product.views["c"][0]
    states, shape = update.views["c"], tile(to.dtype.itemsize)
    assert gradient is not None
    tiles = to.temporary((to.tasks * shape.MR * shape.NR,))
    return replace(
        product,
        kind=replay.STEP_PRODUCT,
        fields={
            **product.fields,
            "code": update.fields["code"],
            "numbers": update.fields["numbers"],
            "states": len(states),
            "ahead": gemm.asks_ahead((1 + len(states)) * gradient.size * to.dtype.itemsize),
        },
        views={**product.views, "c": update.views["a"], "d": states, "g": (tiles,)},
        writes=[
            *(each for each in product.writes if each.block is not gradient.block),
            *update.writes,
            range_of(tiles),
        ],
        nanoseconds=product.nanoseconds + update.nanoseconds,
    )


# Products that may be gradients, by kind: what makes steps of them.
_STEPPED: dict[int, Callable[[Instruction, Instruction, Lowering], Instruction]] = {
    replay.PRODUCT: _stepping,
    replay.SPARSE_GRADIENT: lambda gradient, update, to: sparse_fusion.stepping(gradient, update),
}
