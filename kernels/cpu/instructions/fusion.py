"""Neighbours among instructions that one kernel does in one pass.

- The step of weights goes into the product that makes their gradient.
- A bias and an activation go into the epilogue of the product that they follow.
- The derivative of a relu goes into that of the largest numbers of windows over what it gave.
- The sums of a bias's gradient go along with the activation's derivative that is summed.

Bits stay: what is fused computes the same sums in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastnn.kernels.cpu.compiler.machine import LINE
from fastnn.kernels.cpu.instructions import sparse_fusion
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction, Lowering
from fastnn.kernels.cpu.instructions.lowering.noted import rectified
from fastnn.kernels.cpu.instructions.lowering.products import Stepped, is_whole, stepping, written_beside
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.formulas.activations import CODES
from fastnn.kernels.graph import Block, Range, View, hinder, range_of

_Stretch = list[Instruction]

# Lines of cache that each task has of a row, at least, for a pass by columns: two tasks write to none together.
_LINES_OF_TASK = 4


def fuse(stretch: _Stretch, to: Lowering, seen: Collection[Block]) -> _Stretch:
    """The instructions, fused where nobody looks at what is then not made: others do not, nor is it ``seen``."""
    for kind, join in _JOINED.items():
        for each in [each for each in stretch if each.kind == kind]:
            stretch = join(stretch, each, to, seen)
    return sparse_fusion.sorted_early(stretch)


# ------------------------------------------------------------------------------------------------------------ epilogues


def _step(stretch: _Stretch, update: Instruction, to: Lowering, seen: Collection[Block]) -> _Stretch:
    """With an update in the products of its gradient, if these are plain and one block of the sums deep."""
    products, (w,) = _products_of(stretch, update, update.views["b"][0], seen, _GRADIENTS), update.views["a"]
    if w is None or not all(each.fields["code"] < 0 and _is_whole(each) for each in products):
        return stretch
    code, numbers = update.fields["code"], update.fields["numbers"]
    stepped = Stepped(w, update.views["c"], code, numbers, {}, update.nanoseconds)
    fused = {
        id(each): stepping(to, each, stepped) if each.kind == Kind.PRODUCT else sparse_fusion.stepping(each, update)
        for each in products
    }
    return _replaced(stretch, update, fused)


# Products that may be gradients of weights.
_GRADIENTS = (Kind.PRODUCT, Kind.SPARSE_GRADIENT)


def _is_whole(gradient: Instruction) -> bool:
    return gradient.kind != Kind.PRODUCT or is_whole(gradient)


def _bias(stretch: _Stretch, sum_: Instruction, to: Lowering, seen: Collection[Block]) -> _Stretch:
    """With a sum in the epilogue of the products that make its first operand, where the second is one of their rows."""
    products = _products_of(stretch, sum_, sum_.views["a"][0], seen)
    if all(each.fields["code"] < 0 and each.fields["m"] == sum_.fields["m"] for each in products):
        bias = sum_.views["b"][0]
        plain = to.constants([0.0])
        ended = {id(each): _ending(each, sum_, CODES["identity"], plain, bias, len(products)) for each in products}
        return _replaced(stretch, sum_, ended)
    return stretch


def _activation(stretch: _Stretch, forward: Instruction, to: Lowering, seen: Collection[Block]) -> _Stretch:
    """With an activation in the epilogue of the products that make its operand, behind a bias or -0, which is none."""
    products = _products_of(stretch, forward, forward.views["a"][0], seen)
    if all(each.fields["code"] in (-1, CODES["identity"]) for each in products):
        fields, ended = forward.fields, {}
        for each in products:
            bias = each.views["d"][0] or to.holding(-0.0, (each.fields["m"],))
            ended[id(each)] = _ending(each, forward, fields["code"], fields["numbers"], bias, len(products))
        return _replaced(stretch, forward, ended)
    return stretch


def _products_of(
    stretch: _Stretch,
    user: Instruction,
    made: View | None,
    seen: Collection[Block],
    kinds: Collection[int] = (Kind.PRODUCT,),
) -> Sequence[Instruction]:
    """The products, of these kinds, that make what an instruction takes, if it can be a part of them; else none.

    Between them and it nothing may touch what it writes, nor write what else it reads, nor stop.
    """
    if made is None or made.ndim != 2 or not made.block.inner or made.block in seen:
        return []
    touching = [each for each in stretch if _touches(each, made.block)]
    products = [each for each in touching if each.kind in kinds and each.views["c"] == (made,)]
    if not products or touching != [*products, user]:
        return []
    others = [each for each in user.reads if each.block is not made.block]
    between = stretch[stretch.index(products[0]) : stretch.index(user)]
    takes_once = len(others) == len(user.reads) - 1
    return products if takes_once and _is_free(between, others, user.writes) else []


def _is_free(between: Sequence[Instruction], reads: Collection[Range], writes: Collection[Range]) -> bool:
    """Whether these reads and writes may as well come before the instructions between."""
    return not any(each.stops or hinder(each.reads, each.writes, reads, writes) for each in between)


def _touches(each: Instruction, block: Block) -> bool:
    return any(range_.block is block for range_ in (*each.reads, *each.writes))


def _meet(ones: Collection[Range], others: Collection[Range]) -> bool:
    return any(one.meets(other) for one in ones for other in others)


def _replaced(stretch: _Stretch, gone: Instruction, new: Mapping[int, Instruction]) -> _Stretch:
    """With instructions in the places of others, by these's identity, one of which takes over what is gone."""
    return [new.get(id(each), each) for each in stretch if each is not gone] if new else stretch


def _ending(
    product: Instruction, last: Instruction, code: int, numbers: int, bias: View | None, parts: int
) -> Instruction:
    """The product, one of so many ``parts``, with an epilogue that makes the result of the instruction ``last``."""
    (made,), result = product.views["c"], last.views["b" if last.kind == Kind.FORWARD else "c"]
    assert made is not None
    assert bias is not None
    return replace(
        product,
        fields={**product.fields, "code": code, "numbers": numbers},
        views={**product.views, "c": result, "d": (bias,)},
        reads=[*product.reads, range_of(bias)],
        writes=[*written_beside(product, made), *last.writes],
        nanoseconds=product.nanoseconds + last.nanoseconds / parts,
    )


# -------------------------------------------------------------------------------------------------------------- pooling


def _rectified(stretch: _Stretch, derivative: Instruction, to: Lowering, seen: Collection[Block]) -> _Stretch:
    """With a relu's derivative in that of the largest numbers of what it gave."""
    (slopes,), (y,) = derivative.views["a"], derivative.views["b"]
    if slopes is None or not slopes.block.inner or slopes.block in seen or derivative.fields["code"] != CODES["relu"]:
        return stretch
    touching = [each for each in stretch if _touches(each, slopes.block)]
    pool = touching[0]
    fits = pool.kind == Kind.NOTED and pool.views.get("b") == (y,) and pool.views.get("c") == (slopes,)
    if not fits or touching != [pool, derivative]:
        return stretch
    between = stretch[stretch.index(pool) : stretch.index(derivative)]
    return (
        _replaced(stretch, derivative, {id(pool): rectified(pool, derivative)})
        if _is_free(between, [], derivative.writes)
        else stretch
    )


# ----------------------------------------------------------------------------------------------------------------- sums


def _sums(stretch: _Stretch, sums: Instruction, to: Lowering, _: Collection[Block]) -> _Stretch:
    """With column sums in the pass over an activation's derivative that makes what is summed."""
    (dz,) = sums.views["a"]
    behind = stretch.index(sums)
    made = [place for place in range(behind) if _meet(stretch[place].writes, sums.reads)]
    if not made or dz is None or not _by_columns(sums, to):
        return stretch
    derivative = stretch[made[-1]]
    fits = derivative.kind == Kind.BACKWARD and derivative.views["c"] == (dz,)
    if not fits or not _is_free(stretch[made[-1] : behind], [], sums.writes):
        return stretch
    fields: dict[str, Any] = {**derivative.fields, "n": sums.fields["n"], "m": sums.fields["m"]}
    joined = replace(
        derivative,
        kind=Kind.BACKWARD_SUMS,
        fields=fields,
        views={**derivative.views, "d": sums.views["b"]},
        writes=[*derivative.writes, *sums.writes],
        nanoseconds=derivative.nanoseconds + sums.nanoseconds,
    )
    return _replaced(stretch, sums, {id(derivative): joined})


def _by_columns(sums: Instruction, to: Lowering) -> bool:
    """Whether tasks may share the columns of what is summed, rows of which lie one behind the other."""
    (dz,) = sums.views["a"]
    wide = sums.fields["m"] * to.dtype.itemsize >= _LINES_OF_TASK * LINE * to.tasks
    return wide and dz is not None and dz.contiguous


# What joins instructions of a kind with others before them, in this order: an activation comes behind a bias.
_JOINED: dict[int, Callable[[_Stretch, Instruction, Lowering, Collection[Block]], _Stretch]] = {
    Kind.UPDATE: _step,
    Kind.ADD: _bias,
    Kind.FORWARD: _activation,
    Kind.BACKWARD: _rectified,
    Kind.COLUMN_SUMS: _sums,
}
