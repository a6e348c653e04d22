"""From calls of ops to instructions: what a program's replay walks, and the memory that it works in.

``_LOWERED`` says how. What has no instructions, or has operands that they do not take (strided ones, packed weights),
is called as it was recorded, between two stretches of instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.cpu import elementwise, gemm, losses, optim, replay, softmax, sparse_lowering
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step
from fastnn.kernels.graph import GATHER, Block, Call, Figure, Sparse, View
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, NUMBERS, TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias as bias_of
from fastnn.kernels.table.linear_steps import states_of, step_of

# One core's nanoseconds for a calculation.
_NS_PER_CALCULATION = 5.0

# And for a byte that is gathered.
_NS_PER_BYTE = 0.1

# Activations that look at whole rows.
_OF_ROWS = tuple(name for name in ROW_CODES if name not in CODES)


class UnfitError(Exception):
    """A call has operands that no instruction takes."""


# -------------------------------------------------------------------------------------------------------- instructions


class Range(NamedTuple):
    """What an instruction touches: memory in a block, or with no block a figure."""

    block: Block | None
    low: int
    high: int

    def meets(self, other: Range) -> bool:
        """Whether both have something in common."""
        return self.block is other.block and self.low < other.high and other.low < self.high


@dataclass
class Instruction:
    """One instruction before its tasks are chosen.

    ``views`` are its operands by field, more than one for a field whose neighbours are the slots behind it. An update
    ``rests`` where it leaves weights without a gradient as they are, and of their state all but the first part, which
    it multiplies by the number at place ``rho`` of its own, if there is one.
    """

    call: int
    kind: int
    fields: Mapping[str, Any]
    views: Mapping[str, tuple[View | None, ...]]
    reads: list[Range]
    writes: list[Range]
    nanoseconds: float
    first: int = 0
    tasks: int = 1
    waits: bool = False
    rests: bool = False
    rho: int | None = None


def range_of(view: View) -> Range:
    """What an instruction touches of a view."""
    return Range(view.block, *view.bounds())


def _figure(place: int) -> Range:
    return Range(None, place, place + 1)


class Numbers(NamedTuple):
    """``size`` numbers from place ``at`` on that follow from ``figures``, whose values ``make`` is told."""

    at: int
    size: int
    figures: tuple[int, ...]
    make: Callable[[Callable[[Any], Any]], Sequence[Any]]


@dataclass
class Lowering:
    """The instructions of a graph as they are found; the lowering functions below add to it.

    Behind its ``arguments`` come blocks of ``rooms``: memory whose size is known when it runs.
    """

    dtype: np.dtype[Any]
    tasks: int
    arguments: int
    rooms: list[sparse_lowering.Room] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    varying: dict[Any, Numbers] = field(default_factory=dict)
    call: int = 0

    def add(
        self,
        kind: int,
        nanoseconds: float,
        *,
        reads: Mapping[str, View | None] | None = None,
        writes: Mapping[str, View] | None = None,
        takes: Sequence[int] = (),
        makes: Sequence[int] = (),
        **fields: Any,
    ) -> None:
        """An instruction with operands by the names of their slots, and the figures that it takes and makes."""
        read, written = reads or {}, writes or {}
        views: dict[str, tuple[View | None, ...]] = {name: (view,) for name, view in {**read, **written}.items()}
        self.instructions.append(
            Instruction(
                self.call,
                kind,
                fields,
                views,
                [range_of(view) for view in read.values() if view is not None] + [_figure(place) for place in takes],
                [range_of(view) for view in written.values()] + [_figure(place) for place in makes],
                nanoseconds,
            )
        )

    def constants(self, numbers: Sequence[float]) -> int:
        """Where these numbers stand in a turn's row."""
        self.numbers += numbers
        return len(self.numbers) - len(numbers)

    def following(
        self, key: Any, figures: Sequence[Figure], count: int, make: Callable[[Callable[[Any], Any]], Sequence[Any]]
    ) -> int:
        """Where so many numbers stand that follow from figures; those of one ``key`` are the same."""
        if key not in self.varying:
            at = self.constants([0.0] * count)
            self.varying[key] = Numbers(at, count, tuple(figure.place for figure in figures), make)
        return self.varying[key].at

    def temporary(self, shape: tuple[int, ...], dtype: Any = None) -> View:
        """Memory of a call's own."""
        kind = self.dtype if dtype is None else np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        strides = tuple(int(np.prod(shape[place + 1 :], dtype=np.int64)) * kind.itemsize for place in range(len(shape)))
        return View(Block(max(1, count) * kind.itemsize), 0, shape, strides, kind)

    def room(self, x: Sparse) -> sparse_lowering.Room:
        """Memory for a batch's non-zeros."""
        first = self.arguments + sum(len(room.blocks) for room in self.rooms)
        self.rooms.append(sparse_lowering.Room(x, Block(0, argument=first), Block(0, argument=first + 1), self.dtype))
        return self.rooms[-1]

    def zeros(self, shape: tuple[int, ...]) -> View:
        """Memory that holds zeros, in the kernels' dtype."""
        held = np.zeros(shape, self.dtype)
        block = Block(held.nbytes, address=held.__array_interface__["data"][0], owner=held)
        return View(block, 0, shape, held.strides, self.dtype)

    def plain(self, *views: Any) -> None:
        """Raise ``UnfitError`` unless all are in C order, in the kernels' dtype, and not empty."""
        for view in views:
            if not isinstance(view, View) or not view.contiguous or view.dtype != self.dtype or view.size == 0:
                raise UnfitError


# --------------------------------------------------------------------------------------------------------- calls of ops


def _apart(result: View, *sources: View | None, same: bool = False) -> None:
    """Raise ``UnfitError`` where a result lies over a source, but for the ``same`` place, or a source is no array."""
    for source in sources:
        if source is not None and not isinstance(source, View):
            raise UnfitError
        if source is not None and result.overlaps(source) and not (same and _same(result, source)):
            raise UnfitError


def _same(a: View, b: View) -> bool:
    return a.block is b.block and a.offset == b.offset and a.shape == b.shape


def _add(to: Lowering, call: Call) -> None:
    a, b, (y,) = call.given["a"], call.given["b"], call.results
    to.plain(a, b, y)
    _apart(y, a, b, same=True)
    if a.shape != b.shape:
        raise UnfitError
    to.add(replay.ADD, elementwise.nanoseconds(y.size), reads={"a": a, "b": b}, writes={"c": y}, n=y.size)


def _forward(name: str, to: Lowering, call: Call) -> None:
    x, (y,) = call.given["x"], call.results
    to.plain(x, y)
    _apart(y, x, same=True)
    if name in _OF_ROWS:
        _rows(to, name, x, y)
    else:
        numbers = _numbers_of(to, name, call)
        work, code = elementwise.nanoseconds(x.size), CODES[name]
        to.add(replay.FORWARD, work, reads={"a": x}, writes={"b": y}, code=code, n=x.size, numbers=numbers)


def _rows(to: Lowering, name: str, x: View, y: View) -> None:
    (n, m), work = x.shape, softmax.nanoseconds(x.size)
    to.add(replay.FORWARD_ROWS, work, reads={"a": x}, writes={"b": y}, code=ROW_CODES[name], n=n, m=m)


def _numbers_of(to: Lowering, name: str, call: Call) -> int:
    """Where an activation's numbers stand."""
    wanted = [call.given.get(option, default) for option, default in NUMBERS[name].items()]
    return to.constants([*map(_constant, wanted), 0.0])


def _constant(value: Any) -> float:
    if isinstance(value, Figure):
        raise UnfitError
    return float(value)


def derive(to: Lowering, name: str, dy: View, x: View, y: View, dx: View, numbers: int | None = None) -> None:
    """dx from dy, by an activation's input or output."""
    to.plain(dy, dx)
    _apart(dx, dy, x, y, same=True)
    if name in _OF_ROWS:
        to.plain(y)
        n, m = y.shape
        sizes: dict[str, Any] = {"code": ROW_CODES[name], "n": n, "m": m}
        to.add(replay.BACKWARD_ROWS, softmax.nanoseconds(y.size), reads={"a": dy, "b": y}, writes={"c": dx}, **sizes)
    else:
        s = x if ACTIVATIONS[name].needs == "x" else y
        to.plain(s)
        at = to.constants([*NUMBERS[name].values(), 0.0]) if numbers is None else numbers
        sizes = {"code": CODES[name], "n": dy.size, "numbers": at}
        to.add(replay.BACKWARD, elementwise.nanoseconds(dy.size), reads={"a": dy, "b": s}, writes={"c": dx}, **sizes)


def _backward(name: str, to: Lowering, call: Call) -> None:
    dy, x, y, (dx,) = call.given["dy"], call.given["x"], call.given["y"], call.results
    derive(to, name, dy, x, y, dx, None if name in _OF_ROWS else _numbers_of(to, name, call))


def _strides(name: str, view: View) -> dict[str, Any]:
    """A matrix's strides, in numbers."""
    row, column = (stride // view.dtype.itemsize for stride in view.strides)
    return {f"row_{name}": row, f"column_{name}": column}


def _product(
    to: Lowering, a: View | Sparse, b: View, c: View, activation: str | None = None, bias: View | None = None
) -> None:
    """c = activation(a @ b + bias); a and b may have any strides, or a be a CSR matrix."""
    to.plain(c, *([] if bias is None else [bias]))
    if isinstance(a, Sparse):
        to.plain(b)
        _apart(c, b, bias)
        sparse_lowering.product(to, a, b, c, bias, activation)
        return
    _apart(c, a, b, bias)
    for view in (a, b):
        if not isinstance(view, View) or not view.behaved or view.dtype != to.dtype or view.size == 0:
            raise UnfitError
    product = gemm.product_of(a, b, activation)
    if activation is not None and bias is None:
        bias = to.zeros((b.shape[1],))
    copies = to.temporary((product.copies + to.tasks * product.copies_each,)) if product.plan.copied else None
    panels = to.temporary((to.tasks * product.panels_each,))
    (n, k), m, plan = a.shape, b.shape[1], product.plan
    fields: dict[str, Any] = {
        "code": product.code, "n": n, "k": k, "m": m, **_strides("a", a), **_strides("b", b), "row_c": m,
        **plan._asdict(), "numbers": to.constants(list(product.numbers)),
    }  # fmt: skip
    operands = {"a": a, "b": b, "d": bias}
    if copies is None:
        ends: dict[str, Any] = {"i0": 0, "i1": n, "k0": 0, "k1": k}
        to.add(replay.PRODUCT, product.nanoseconds, reads=operands, writes={"c": c, "f": panels}, **fields, **ends)
        return
    for k0 in range(0, k, plan.KC):
        for i0 in range(0, n, plan.MC):
            ends = {"i0": i0, "i1": min(n, i0 + plan.MC), "k0": k0, "k1": min(k, k0 + plan.KC)}
            work = product.nanoseconds * (ends["i1"] - i0) * (ends["k1"] - k0) / (n * k)
            # c: the slot has to hold some address of numbers
            to.add(replay.COPY_TILES, work / 8, reads={"a": a, "c": a}, writes={"e": copies}, **fields, **ends)
            to.add(
                replay.PRODUCT, work, reads={**operands, "e": copies}, writes={"c": c, "f": panels}, **fields, **ends
            )  # fmt: skip


def _matmul(to: Lowering, call: Call) -> None:
    _product(to, call.given["a"], call.given["b"], *call.results)


def _linear(to: Lowering, call: Call) -> None:
    x, w, b, activation = (call.given[name] for name in ("x", "w", "b", "activation"))
    (y,) = call.results
    fused = ELEMENTWISE_ACTIVATIONS.get(activation, "identity")
    _product(to, x, w, y, None if b is None and fused == "identity" else fused, b)
    if activation in _OF_ROWS:
        _rows(to, activation, y, y)


def _linear_backward(to: Lowering, call: Call) -> None:
    _gradients(to, call.given, *call.results)


def _gradients(to: Lowering, given: Mapping[str, Any], dx: View | None, dw: View | None, db: View | None) -> None:
    """Those gradients of a linear layer that have a place."""
    dy, x, w, y, z, activation = (given[name] for name in ("dy", "x", "w", "y", "z", "activation"))
    dz = dy
    if activation != "linear":
        dz = to.temporary(dy.shape)
        derive(to, ELEMENTWISE_ACTIVATIONS.get(activation, activation), dy, y if z is None else z, y, dz)
    for result in (dx, dw, db):
        if result is not None:
            _apart(result, dy, *(x.parts if isinstance(x, Sparse) else [x]), w, y, z)
    if dx is not None:
        _product(to, dz, w.T, dx)
    if db is not None:
        to.plain(db)
        (n, m), work = dz.shape, dz.size / 4.0
        to.add(replay.COLUMN_SUMS, work, reads={"a": dz}, writes={"b": db}, n=n, m=m, **_strides("a", dz))
    if dw is not None and isinstance(x, Sparse):
        to.plain(dw, dz)
        sparse_lowering.gradient(to, x, dz, dw)
    elif dw is not None:
        _product(to, x.T, dz, dw)


def _linear_step(to: Lowering, call: Call) -> None:
    """The gradients and the steps by them, which are fused where that can be."""
    step, given = step_of(TABLE[call.op]), dict(call.given)
    w, b, dx = given["w"], given["b"], call.results[0] if call.results else None
    to.plain(w)
    dw, db = to.temporary(w.shape), None if b is None else to.temporary(b.shape)
    _gradients(to, given, dx, dw, db)
    _update(to, step, {**given, "dw": dw})
    if b is not None:
        of_bias = {state: given[bias_of(state)] for state in states_of(step)}
        _update(to, step, {**given, **of_bias, "w": b, "dw": db})


def _scaled(to: Lowering, call: Call) -> None:
    x, factor, (y,) = call.given["x"], call.given["factor"], call.results
    to.plain(x, y)
    _apart(y, x, same=True)
    if not isinstance(factor, Figure):
        raise UnfitError
    sizes: dict[str, Any] = {"n": x.size, "figure": factor.place}
    to.add(
        replay.SCALE, elementwise.nanoseconds(x.size), reads={"a": x}, writes={"b": y}, takes=[factor.place], **sizes
    )


def _loss(to: Lowering, call: Call) -> None:
    op = TABLE[call.op]
    pred, target = (call.given[name] for name in list(op.operands)[:2])
    weights = call.given["sample_weight"]
    options = [call.given[name] for name in op.options]
    loss, dpred = call.results
    to.plain(pred, dpred)
    for view in (target, weights):
        if view is not None and not view.contiguous:
            raise UnfitError
    labelled = target.ndim < pred.ndim
    if target.dtype != (np.int64 if labelled else to.dtype) or any(isinstance(option, Figure) for option in options):
        raise UnfitError
    code, unit, wanted, numbers, divisor = losses.described(call.op, pred, target, weights, options)
    units = -(-pred.size // unit)
    sums = to.temporary((units,), np.float64)
    goal = {"c": target} if labelled else {"b": target}
    to.add(
        replay.LOSS, losses.nanoseconds(pred.size), reads={"a": pred, **goal, "d": weights},
        writes={"e": dpred, "f": sums}, code=code, n=pred.size, m=unit, wanted=wanted, divisor=divisor,
        numbers=to.constants(numbers),
    )  # fmt: skip
    total: dict[str, Any] = {"n": units, "divisor": divisor, "figure": loss.place}
    to.add(replay.TOTAL, float(units), reads={"a": sums}, makes=[loss.place], **total)


def _step(to: Lowering, call: Call) -> None:
    """A step of one parameter, or of all in lists of them."""
    op, lists = TABLE[call.op], [name for name, value in call.given.items() if isinstance(value, (list, tuple))]
    for each in zip(*(call.given[name] for name in lists), strict=True) if lists else [()]:
        _update(to, op, {**call.given, **dict(zip(lists, each, strict=True))})


def _update(to: Lowering, op: Op, given: Mapping[str, Any]) -> None:
    name, names = optim.chosen(op, given)
    arrays = [given[operand] for operand in names]
    to.plain(*arrays)
    for written, other in permutations(arrays, 2):
        _apart(written, other)
    w, dw, *states = arrays
    sizes: dict[str, Any] = {"code": STEP_CODES[name], "n": w.size, "numbers": _hyper(to, STEPS[name], op, given)}
    to.add(replay.UPDATE, optim.nanoseconds(w.size), reads={"b": dw}, writes={"a": w}, **sizes)
    made = to.instructions[-1]
    made.views = {**made.views, "c": tuple(states)}
    made.rests, made.rho = _rest(to, STEPS[name], given)
    made.writes += [range_of(state) for state in states]


def _rest(to: Lowering, step: Step, given: Mapping[str, Any]) -> tuple[bool, int | None]:
    """Whether weights without a gradient rest, and where rho is among the step's numbers, if it is.

    The same at every turn; and no state, a 0 among them, may turn the step into what is no number.
    """
    same = all(not isinstance(given[name], Figure) for name in ("rho", "epsilon") if name in step.hyper)
    finite = "epsilon" not in step.hyper or (same and to.dtype.type(given["epsilon"]) > 0)
    return step.lazy and same and finite, step.hyper.index("rho") if "rho" in step.hyper else None


def _hyper(to: Lowering, step: Step, op: Op, given: Mapping[str, Any]) -> int:
    """Where a step's hyper-parameters stand."""
    options = {name: given[name] for name in op.options}

    def make(value: Callable[[Any], Any]) -> Sequence[Any]:
        return step.numbers({name: value(option) for name, option in options.items()})

    figures = [option for option in options.values() if isinstance(option, Figure)]
    if figures:
        return to.following((id(step), *options.items()), figures, len(step.hyper), make)
    return to.constants([*make(lambda option: option), 0.0])


def _gather(to: Lowering, call: Call) -> None:
    data, (rows,) = call.given["data"], call.results
    if not data.contiguous or not rows.contiguous or rows.size == 0:
        raise UnfitError
    n, m = rows.shape[0], rows.strides[0]
    to.add(replay.GATHER, n * m * _NS_PER_BYTE, reads={"a": data}, writes={"b": rows}, n=n, m=m)


def _calculated(code: int, to: Lowering, call: Call) -> None:
    a, b, (result,) = call.given["a"], call.given["b"], call.results
    places: dict[str, Any] = {"k": a.place, "m": b.place, "figure": result.place}
    if not result.early:
        takes = [a.place, b.place]
        to.add(replay.CALCULATION, _NS_PER_CALCULATION, takes=takes, makes=[result.place], code=code, **places)


_Lower = Callable[[Lowering, Call], None]


def _with(function: Callable[..., None], first: Any) -> _Lower:
    return lambda to, call: function(first, to, call)


# How a call becomes instructions, by its op or by what is calculated.
LOWERED: dict[str, _Lower] = {
    GATHER: _gather,
    "matmul": _matmul,
    "linear": _linear,
    "linear_backward": _linear_backward,
    "add": _add,
    "scaled": _scaled,
    **{name: _with(_forward, name) for name in ROW_CODES},
    **{f"{name}_backward": _with(_backward, name) for name in ROW_CODES},
    **dict.fromkeys(losses.LOSSES, _loss),
    **{name: _step for name, op in TABLE.items() if op.module == "optim"},
    **{name: _linear_step for name, op in TABLE.items() if op.module == "linear_steps"},
    **{
        name: _with(_calculated, code)
        for name, code in {
            "plus": replay.PLUS,
            "minus": replay.MINUS,
            "times": replay.TIMES,
            "over": replay.OVER,
        }.items()
    },
}
