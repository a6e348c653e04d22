"""Instructions of products of matrices: of linear layers, their gradients, and steps by these."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import permutations
from typing import Any, NamedTuple

from fastnn.kernels.cpu import gemm, optim
from fastnn.kernels.cpu.compiler.machine import tile
from fastnn.kernels.cpu.gemm import Panels
from fastnn.kernels.cpu.instructions.lowering import sparse
from fastnn.kernels.cpu.instructions.lowering.elementwise import OF_ROWS, derive, rows
from fastnn.kernels.cpu.instructions.lowering.instructions import Instruction, Lowering, UnfitError, apart
from fastnn.kernels.cpu.instructions.lowering.steps import hyper, update
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS
from fastnn.kernels.graph import Call, Range, Sparse, View, range_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias as bias_of
from fastnn.kernels.table.linear_steps import states_of, step_of
from fastnn.kernels.table.optim import chosen


def _strides(name: str, view: View) -> dict[str, Any]:
    """A matrix's strides, in numbers."""
    row, column = (stride // view.dtype.itemsize for stride in view.strides)
    return {f"row_{name}": row, f"column_{name}": column}


def _product(
    to: Lowering, a: View | Sparse, b: View | Panels, c: View, activation: str | None = None, bias: View | None = None
) -> None:
    """c = activation(a @ b + bias); a and b may have any strides, or a be a CSR matrix."""
    to.plain(c, *([] if bias is None else [bias]))
    if isinstance(a, Sparse):
        to.plain(b)
        assert isinstance(b, View)
        apart(c, b, bias)
        sparse.product(to, a, b, c, bias, activation)
        return
    packed = to.packed(b) if isinstance(b, Panels) else None
    matrices = [view for view in (a, b) if not isinstance(view, Panels)]
    apart(c, *matrices, bias)
    for view in matrices:
        if not isinstance(view, View) or not view.behaved or view.dtype != to.dtype or view.size == 0:
            raise UnfitError
    product = gemm.product_of(a, b, activation)
    if activation is not None and bias is None:
        bias = to.holding(0.0, (b.shape[1],))
    copies = to.temporary((product.copies + to.tasks * product.copies_each,)) if product.plan.copied else None
    (n, k), m, plan = a.shape, b.shape[1], product.plan
    fields: dict[str, Any] = {
        "code": product.code, "n": n, "k": k, "m": m, **_strides("a", a), "row_c": m, "column_c": 1,
        **plan._asdict(), "numbers": to.constants(list(product.numbers)),
    }  # fmt: skip
    operands: dict[str, View | None] = {"a": a, "d": bias}
    written = {"c": c}
    if isinstance(b, Panels):
        operands |= {"b": packed, "f": packed}
    else:
        fields |= _strides("b", b)
        operands["b"] = b
        written["f"] = to.temporary((to.tasks * product.panels_each,))
    if copies is None:
        ends: dict[str, Any] = {"i0": 0, "i1": n, "k0": 0, "k1": k}
        to.add(Kind.PRODUCT, product.nanoseconds, reads=operands, writes=written, **fields, **ends)
        return
    for k0 in range(0, k, plan.KC):
        for i0 in range(0, n, plan.MC):
            ends = {"i0": i0, "i1": min(n, i0 + plan.MC), "k0": k0, "k1": min(k, k0 + plan.KC)}
            work = product.nanoseconds * (ends["i1"] - i0) * (ends["k1"] - k0) / (n * k)
            # c: the slot has to hold some address of numbers
            to.add(Kind.COPY_TILES, work / 8, reads={"a": a, "c": a}, writes={"e": copies}, **fields, **ends)
            to.add(Kind.PRODUCT, work, reads={**operands, "e": copies}, writes=written, **fields, **ends)


def lower_matmul(to: Lowering, call: Call) -> None:
    """A product of matrices."""
    _product(to, call.given["a"], call.given["b"], *call.results)


def lower_linear(to: Lowering, call: Call) -> None:
    """A product with its bias and its activation."""
    x, w, b, activation = (call.given[name] for name in ("x", "w", "b", "activation"))
    (y,) = call.results
    fused = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    _product(to, x, w, y, None if b is None and fused == "identity" else fused, b)
    if activation in OF_ROWS:
        rows(to, activation, y, y)


def lower_linear_backward(to: Lowering, call: Call) -> None:
    """Those gradients of a linear layer that are wanted."""
    _gradients(to, call.given, *call.results)


def _gradients(to: Lowering, given: Mapping[str, Any], dx: View | None, dw: View | None, db: View | None) -> None:
    """Those gradients of a linear layer that have a place."""
    dy, x, w, y, z, activation = (given[name] for name in ("dy", "x", "w", "y", "z", "activation"))
    dz = dy
    if activation != "linear":
        dz = to.temporary(dy.shape)
        derive(to, ELEMENTWISE_ACTIVATIONS.get(activation, activation), dy, y if z is None else z, y, dz)
    plain_w = None if isinstance(w, Panels) else w
    for result in (dx, dw, db):
        if result is not None:
            apart(result, dy, *(x.parts if isinstance(x, Sparse) else [x]), plain_w, y, z)
    if dx is not None:
        _product(to, dz, (_unpacked(to, w) if isinstance(w, Panels) else w).T, dx)
    if db is not None:
        _sum_columns(to, dz, db)
    if dw is not None and isinstance(x, Sparse):
        to.plain(dw, dz)
        sparse.gradient(to, x, dz, dw)
    elif dw is not None:
        _product(to, x.T, dz, dw)


def _unpacked(to: Lowering, panels: Panels) -> View:
    (k, m), w = panels.shape, to.temporary(panels.shape)
    work = gemm.nanoseconds_of_packing(w.block.size)
    to.add(Kind.UNPACK, work, reads={"a": to.packed(panels)}, writes={"b": w}, k=k, m=m)
    return w


def _sum_columns(to: Lowering, x: View, total: View) -> None:
    to.plain(total)
    (n, m), work = x.shape, gemm.nanoseconds_of_sums(x.size)
    to.add(Kind.COLUMN_SUMS, work, reads={"a": x}, writes={"b": total}, n=n, m=m, **_strides("a", x))


def lower_column_sums(to: Lowering, call: Call) -> None:
    """The sums of a matrix's columns."""
    x, (y,) = call.given["x"], call.results
    if not x.behaved or x.dtype != to.dtype or x.size == 0:
        raise UnfitError
    apart(y, x)
    _sum_columns(to, x, y)


def lower_linear_step(to: Lowering, call: Call) -> None:
    """The gradients and the steps by them, which are fused where that can be."""
    step, given = step_of(TABLE[call.op]), dict(call.given)
    w, b, dx = given["w"], given["b"], call.results[0] if call.results else None
    dw, db = to.temporary(w.shape), None if b is None else to.temporary(b.shape)
    _gradients(to, given, dx, dw, db)
    if isinstance(w, Panels):
        _step_packed(to, step, {**given, "dw": dw})
    else:
        update(to, step, {**given, "dw": dw})
    if b is not None:
        of_bias = {state: given[bias_of(state)] for state in states_of(step)}
        update(to, step, {**given, **of_bias, "w": b, "dw": db})


def _step_packed(to: Lowering, step: Op, given: Mapping[str, Any]) -> None:
    """A step of weights whose states are packed as they are, in place of the gradient: as deep as a block at most."""
    name, names = chosen(step, given)
    w, *states = (to.packed(given[each]) for each in names if each != "dw")
    for one, other in permutations((w, *states), 2):
        apart(one, other)
    products = {id(each): each for each in to.instructions if each.views.get("c") == (given["dw"],)}
    if not all(map(is_whole, products.values())):
        raise UnfitError
    numbers = hyper(to, STEPS[name], step, given)
    strides = {"row_c": tile(to.dtype.itemsize).NR, "column_c": given["w"].shape[0]}
    stepped = Stepped(w, states, STEP_CODES[name], numbers, strides, optim.nanoseconds(w.size))
    to.instructions = [stepping(to, each, stepped) if id(each) in products else each for each in to.instructions]


class Stepped(NamedTuple):
    """Weights that a step is of, the parts of their state, the step's code and numbers, the weights' ``strides``."""

    w: View
    states: Sequence[View | None]
    code: int
    numbers: int
    strides: Mapping[str, int]
    nanoseconds: float


def is_whole(product: Instruction) -> bool:
    """Whether one block holds all of a product's sums."""
    return bool(product.fields["k0"] == 0 and product.fields["k"] <= product.fields["KC"])


def stepping(to: Lowering, product: Instruction, stepped: Stepped) -> Instruction:
    """A product that is a gradient, with a step by it in place of its result."""
    (gradient,), shape = product.views["c"], tile(to.dtype.itemsize)
    assert gradient is not None
    tiles, arrays = to.temporary((to.tasks * shape.MR * shape.NR,)), (stepped.w, *stepped.states)
    return replace(
        product,
        kind=Kind.STEPPED_PRODUCT,
        fields={
            **product.fields,
            **stepped.strides,
            "code": stepped.code,
            "numbers": stepped.numbers,
            "states": len(stepped.states),
            "ahead": gemm.asks_ahead(len(arrays) * gradient.size * to.dtype.itemsize),
        },
        views={**product.views, "c": (stepped.w,), "d": tuple(stepped.states), "g": (tiles,)},
        writes=[
            *written_beside(product, gradient),
            *(range_of(each) for each in (*arrays, tiles) if each is not None),
        ],
        nanoseconds=product.nanoseconds + stepped.nanoseconds,
    )


def written_beside(product: Instruction, result: View) -> list[Range]:
    """What a product writes beside its result: scratch memory."""
    return [each for each in product.writes if each.block is not result.block]
