"""From calls of ops to instructions: what a program's replay walks, and the memory that it works in.

``_LOWERED`` says how. What has no instructions, or has operands that they do not take (strided ones, bytes),
is called as it was recorded, between two stretches of instructions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import import_module
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np

from fastnn.kernels.addresses import address
from fastnn.kernels.cpu import (
    bags,
    dropout,
    elementwise,
    gather,
    gemm,
    losses,
    notes,
    optim,
    pooling,
    prelu,
    random,
    replay,
    softmax,
    sparse_lowering,
)
from fastnn.kernels.cpu.gemm import Panels
from fastnn.kernels.cpu.machine import tile
from fastnn.kernels.cpu.replay import Kind
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES
from fastnn.kernels.formulas.activations import ACTIVATIONS, CODES
from fastnn.kernels.formulas.pairs import CHOICES, PAIRS
from fastnn.kernels.formulas.steps import STEP_CODES, STEPS, Step
from fastnn.kernels.graph import GATHER, PUT, Block, Call, Figure, Range, Sparse, View, range_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, NUMBERS, TABLE, Op
from fastnn.kernels.table.dropout import scale, threshold
from fastnn.kernels.table.linear_steps import of_bias as bias_of
from fastnn.kernels.table.linear_steps import states_of, step_of
from fastnn.kernels.table.losses import LOSSES
from fastnn.kernels.table.optim import chosen
from fastnn.kernels.table.random import DRAWN
from fastnn.kernels.table.random import NUMBERS as DISTRIBUTED

# One core's nanoseconds for a calculation.
_NS_PER_CALCULATION = 5.0

# Activations that look at whole rows.
_OF_ROWS = tuple(name for name in ROW_CODES if name not in CODES)


class UnfitError(Exception):
    """A call has operands that no instruction takes."""


# -------------------------------------------------------------------------------------------------------- instructions


@dataclass
class StandIns:
    """Arrays in place of views, while an op's calls of kernels are noted."""

    to: Lowering
    lies: list[tuple[int, int, View]] = field(default_factory=list)
    arrays: list[Any] = field(default_factory=list)

    def take(self, array: Any, view: View) -> Any:
        """Let an array stand for a view."""
        self.arrays.append(array)
        self.lies.append((address(array), address(array) + array.nbytes, view))
        return array

    def make(self, given: Any) -> Any:
        """What an op is given for a view; anything else as it is, but figures and CSR matrices."""
        if isinstance(given, View):
            if given.size == 0:
                raise UnfitError
            view = self.to.in_order(given)
            return self.take(np.empty(view.shape, view.dtype), view)
        if isinstance(given, (Figure, Sparse, Panels, list)):
            raise UnfitError
        return given

    def view(self, at: int) -> View | None:
        """The place that an address stands for."""
        for low, high, view in self.lies:
            if low <= at < high:
                return replace(view, offset=view.offset + at - low, shape=(), strides=())
        return None


class Noted(NamedTuple):
    """A kernel's call on arrays that stand for views."""

    note: notes.Note
    stand_ins: StandIns

    @property
    def judges(self) -> bool:
        """Whether the kernel says if its operands are right."""
        return bool(self.note.kernel.judges(self.note.dtype))

    @property
    def words(self) -> list[View | int]:
        """What an instruction has of it."""
        function, *record = self.note.kernel.noted(self.note.dtype, self.note.arguments)
        places = [self.stand_ins.view(word) for word in record]
        return [function, *(word if place is None else place for word, place in zip(record, places, strict=True))]


@dataclass
class Instruction:
    """One instruction before its tasks are chosen.

    ``views`` are its operands by field, more than one for a field whose neighbours are the slots behind it. An update
    ``rests`` where it leaves weights without a gradient as they are, and of their state all but the first part, which
    it multiplies by the number at place ``rho`` of its own, if there is one. What is
    ``noted`` of a kernel's call has to stay as long as it may be run.
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
    noted: Noted | None = None

    @property
    def stops(self) -> bool:
        """Whether it stops a step where it finds what it must not take."""
        return self.kind in replay.STOPPING or (self.noted is not None and self.noted.judges)


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
    known: dict[int, Block] = field(default_factory=dict)
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

    def holding(self, number: float, shape: tuple[int, ...]) -> View:
        """Memory that holds one number again and again, in the kernels' dtype."""
        held = np.full(shape, number, self.dtype)
        return View.of(held, address(held))

    def room(self, x: Sparse) -> sparse_lowering.Room:
        """Memory for a batch's non-zeros."""
        first = self.arguments + sum(len(room.blocks) for room in self.rooms)
        self.rooms.append(sparse_lowering.Room(x, Block(0, argument=first), Block(0, argument=first + 1), self.dtype))
        return self.rooms[-1]

    def packed(self, panels: Panels) -> View:
        """The memory of packed weights, which are known by their address."""
        memory = panels.panels
        at = address(memory)
        block = self.known.setdefault(at, Block(memory.nbytes, address=at, owner=memory))
        return View(block, 0, memory.shape, memory.strides, memory.dtype)

    def in_order(self, view: Any) -> Any:
        """The view, or where its numbers do not lie in C order a copy in which they do."""
        if not isinstance(view, View) or view.contiguous:
            return view
        copy = self.temporary(view.shape)
        self.lay_out(view, copy)
        return copy

    def lay_out(self, view: View, copy: View) -> None:
        """An instruction that puts the numbers of a view into a copy in C order."""
        sizes, strides = _axes(view)
        if not view.behaved or view.dtype != self.dtype or view.size == 0 or len(sizes) > len(_SIZES):
            raise UnfitError
        fields: dict[str, Any] = dict(zip(_SIZES, sizes, strict=True)) | dict(zip(_STRIDES, strides, strict=True))
        work = elementwise.nanoseconds(view.size)
        self.add(Kind.LAY_OUT, work, reads={"a": view}, writes={"c": copy}, **fields)

    def plain(self, *views: Any) -> None:
        """Raise ``UnfitError`` unless all are in C order, in the kernels' dtype, and not empty."""
        for view in views:
            if not isinstance(view, View) or not view.contiguous or view.dtype != self.dtype or view.size == 0:
                raise UnfitError


# Fields of the sizes of what is laid out, and of its strides, the outermost first.
_SIZES, _STRIDES = ("n", "k", "m"), ("row_a", "column_a", "row_b")


def _axes(view: View) -> tuple[list[int], list[int]]:
    """Sizes and strides, in numbers, of as few axes as a view's numbers lie along; at least as many as are named."""
    sizes, strides = [1] * len(_SIZES), [0] * len(_SIZES)
    for size, stride in zip(view.shape, view.strides, strict=True):
        if size != 1 and sizes[-1] != 1 and strides[-1] != stride * size:
            sizes, strides = [*sizes, size], [*strides, stride]
        elif size != 1:
            sizes[-1], strides[-1] = sizes[-1] * size, stride
    while len(sizes) > len(_SIZES) and sizes[0] == 1:
        sizes, strides = sizes[1:], strides[1:]
    return sizes, [stride // view.dtype.itemsize for stride in strides]


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
    a, b, (y,) = *_pair(to, call), call.results
    to.plain(a, b, y)
    _apart(y, a, b, same=True)
    plain = elementwise.addends(a, b)
    assert plain is not None
    whole, part = (b, a) if plain.swapped else (a, b)
    work, reads = elementwise.nanoseconds(y.size), {"a": whole, "b": part}
    to.add(Kind.ADD, work, reads=reads, writes={"c": y}, n=y.size, m=plain.period)


def _pair(to: Lowering, call: Call) -> tuple[Any, Any]:
    """Both operands in C order: as they are, or where one is stretched as large as the result."""
    a, b = call.given["a"], call.given["b"]
    if not (isinstance(a, View) and isinstance(b, View)):
        raise UnfitError
    if elementwise.addends(a, b) is None:
        shape = np.broadcast_shapes(a.shape, b.shape)
        a, b = _stretched(a, shape), _stretched(b, shape)
    return to.in_order(a), to.in_order(b)


def _choice_backward(to: Lowering, call: Call) -> None:
    """Of operands as large as dy."""
    shape = call.results[0].shape
    given = {name: to.in_order(_stretched(call.given[name], shape)) for name in ("dy", "a", "b")}
    _noted(to, replace(call, given=given))


def _stretched(view: View, shape: tuple[int, ...]) -> View:
    """A view as NumPy broadcasts it to a shape."""
    added = len(shape) - view.ndim
    strides = [0] * added + [
        stride if old == new else 0 for old, new, stride in zip(view.shape, shape[added:], view.strides, strict=True)
    ]
    return replace(view, shape=shape, strides=tuple(strides))


def _pair_noted(to: Lowering, call: Call) -> None:
    """What is made of pairs of numbers."""
    a, b = _pair(to, call)
    _noted(to, replace(call, given={**call.given, "a": a, "b": b}))


def _forward(name: str, to: Lowering, call: Call) -> None:
    x, (y,) = call.given["x"], call.results
    if name == "identity" and isinstance(x, View) and not x.contiguous and y.contiguous and not y.overlaps(x):
        to.lay_out(x, y)
        return
    x = to.in_order(x)
    to.plain(x, y)
    _apart(y, x, same=True)
    if name in _OF_ROWS:
        _rows(to, name, x, y)
    else:
        numbers = _numbers_of(to, name, call)
        work, code = elementwise.nanoseconds(x.size), CODES[name]
        to.add(Kind.FORWARD, work, reads={"a": x}, writes={"b": y}, code=code, n=x.size, numbers=numbers)


def _rows(to: Lowering, name: str, x: View, y: View) -> None:
    (n, m), work = x.shape, softmax.nanoseconds(x.size)
    to.add(Kind.FORWARD_ROWS, work, reads={"a": x}, writes={"b": y}, code=ROW_CODES[name], n=n, m=m)


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
    dy, x, y = (to.in_order(each) for each in (dy, x, y))
    to.plain(dy, dx)
    _apart(dx, dy, x, y, same=True)
    if name in _OF_ROWS:
        to.plain(y)
        n, m = y.shape
        sizes: dict[str, Any] = {"code": ROW_CODES[name], "n": n, "m": m}
        to.add(Kind.BACKWARD_ROWS, softmax.nanoseconds(y.size), reads={"a": dy, "b": y}, writes={"c": dx}, **sizes)
    else:
        s = x if ACTIVATIONS[name].needs == "x" else y
        to.plain(s)
        at = to.constants([*NUMBERS[name].values(), 0.0]) if numbers is None else numbers
        sizes = {"code": CODES[name], "n": dy.size, "numbers": at}
        to.add(Kind.BACKWARD, elementwise.nanoseconds(dy.size), reads={"a": dy, "b": s}, writes={"c": dx}, **sizes)


def _backward(name: str, to: Lowering, call: Call) -> None:
    dy, x, y, (dx,) = call.given["dy"], call.given["x"], call.given["y"], call.results
    derive(to, name, dy, x, y, dx, None if name in _OF_ROWS else _numbers_of(to, name, call))


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
        _apart(c, b, bias)
        sparse_lowering.product(to, a, b, c, bias, activation)
        return
    packed = to.packed(b) if isinstance(b, Panels) else None
    matrices = [view for view in (a, b) if not isinstance(view, Panels)]
    _apart(c, *matrices, bias)
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
    plain_w = None if isinstance(w, Panels) else w
    for result in (dx, dw, db):
        if result is not None:
            _apart(result, dy, *(x.parts if isinstance(x, Sparse) else [x]), plain_w, y, z)
    if dx is not None:
        _product(to, dz, (_unpacked(to, w) if isinstance(w, Panels) else w).T, dx)
    if db is not None:
        _sum_columns(to, dz, db)
    if dw is not None and isinstance(x, Sparse):
        to.plain(dw, dz)
        sparse_lowering.gradient(to, x, dz, dw)
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


def _column_sums(to: Lowering, call: Call) -> None:
    x, (y,) = call.given["x"], call.results
    if not x.behaved or x.dtype != to.dtype or x.size == 0:
        raise UnfitError
    _apart(y, x)
    _sum_columns(to, x, y)


def _linear_step(to: Lowering, call: Call) -> None:
    """The gradients and the steps by them, which are fused where that can be."""
    step, given = step_of(TABLE[call.op]), dict(call.given)
    w, b, dx = given["w"], given["b"], call.results[0] if call.results else None
    dw, db = to.temporary(w.shape), None if b is None else to.temporary(b.shape)
    _gradients(to, given, dx, dw, db)
    if isinstance(w, Panels):
        _step_packed(to, step, {**given, "dw": dw})
    else:
        _update(to, step, {**given, "dw": dw})
    if b is not None:
        of_bias = {state: given[bias_of(state)] for state in states_of(step)}
        _update(to, step, {**given, **of_bias, "w": b, "dw": db})


def _step_packed(to: Lowering, step: Op, given: Mapping[str, Any]) -> None:
    """A step of weights whose states are packed as they are, in place of the gradient: as deep as a block at most."""
    name, names = chosen(step, given)
    w, *states = (to.packed(given[each]) for each in names if each != "dw")
    for one, other in permutations((w, *states), 2):
        _apart(one, other)
    products = {id(each): each for each in to.instructions if each.views.get("c") == (given["dw"],)}
    if not all(map(is_whole, products.values())):
        raise UnfitError
    numbers = _hyper(to, STEPS[name], step, given)
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


def _scaled(code: int, to: Lowering, call: Call) -> None:
    x, factor, (y,) = to.in_order(call.given["x"]), call.given["factor"], call.results
    to.plain(x, y)
    _apart(y, x, same=True)
    if not isinstance(factor, Figure):
        raise UnfitError
    sizes: dict[str, Any] = {"n": x.size, "figure": factor.place, "code": code}
    to.add(
        Kind.SCALE,
        elementwise.nanoseconds(x.size),
        reads={"a": x},
        writes={"b": y},
        takes=[factor.place],
        **sizes,
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
        Kind.LOSS, losses.nanoseconds(pred.size), reads={"a": pred, **goal, "d": weights},
        writes={"e": dpred, "f": sums}, code=code, n=pred.size, m=unit, wanted=wanted, divisor=divisor,
        numbers=to.constants(numbers),
    )  # fmt: skip
    _total(to, sums, divisor, loss)


def _total(to: Lowering, sums: View, divisor: float, figure: Figure) -> None:
    """figure = the sum of sums / divisor."""
    fields: dict[str, Any] = {"n": sums.size, "divisor": divisor, "figure": figure.place}
    to.add(Kind.TOTAL, float(sums.size), reads={"a": sums}, makes=[figure.place], **fields)


def _penalty(to: Lowering, call: Call) -> None:
    w, (value, dw) = call.given["w"], call.results
    to.plain(w, dw)
    options = {name: call.given[name] for name in TABLE[call.op].options}
    numbers = _numbers_by(to, call.op, options, len(options), lambda given: [*map(given, options.values())])
    sums, work = to.temporary((losses.units_of(w.size),), np.float64), losses.nanoseconds(w.size)
    to.add(Kind.PENALTY, work, reads={"a": w}, writes={"e": dw, "f": sums}, n=w.size, numbers=numbers)
    _total(to, sums, 1.0, value)


def _step(to: Lowering, call: Call) -> None:
    """A step of one parameter, or of all in lists of them."""
    op, lists = TABLE[call.op], [name for name, value in call.given.items() if isinstance(value, (list, tuple))]
    for each in zip(*(call.given[name] for name in lists), strict=True) if lists else [()]:
        _update(to, op, {**call.given, **dict(zip(lists, each, strict=True))})


def _update(to: Lowering, op: Op, given: Mapping[str, Any]) -> None:
    name, names = chosen(op, given)
    arrays = [given[operand] for operand in names]
    to.plain(*arrays)
    for written, other in permutations(arrays, 2):
        _apart(written, other)
    w, dw, *states = arrays
    sizes: dict[str, Any] = {"code": STEP_CODES[name], "n": w.size, "numbers": _hyper(to, STEPS[name], op, given)}
    to.add(Kind.UPDATE, optim.nanoseconds(w.size), reads={"b": dw}, writes={"a": w}, **sizes)
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

    return _numbers_by(to, id(step), options, len(step.hyper), make)


def _numbers_by(
    to: Lowering,
    key: Any,
    options: Mapping[str, Any],
    count: int,
    make: Callable[[Callable[[Any], Any]], Sequence[Any]],
) -> int:
    """Where so many numbers stand that follow from options; of one ``key`` they follow in one way."""
    figures = [option for option in options.values() if isinstance(option, Figure)]
    if figures:
        return to.following((key, *options.items()), figures, count, make)
    return to.constants([*make(lambda option: option), 0.0])


def _dropout(to: Lowering, call: Call) -> None:
    x, (y,) = call.given[next(iter(TABLE[call.op].operands))], call.results
    to.plain(x, y)
    _apart(y, x, same=True)
    rate, (n, m) = _constant(call.given["rate"]), x.shape
    fields: dict[str, Any] = {"n": n, "m": m, "threshold": threshold(rate), **_drawn(call)}
    numbers = to.constants([scale(rate)])
    to.add(Kind.DROPOUT, dropout.nanoseconds(x.size), reads={"a": x}, writes={"b": y}, numbers=numbers, **fields)


def _random(to: Lowering, call: Call) -> None:
    (y,) = call.results
    to.plain(y)
    own = (_constant(call.given[name]) for name in TABLE[call.op].options if name not in DRAWN)
    (n, m), numbers = y.shape, to.constants(DISTRIBUTED[call.op](*own))
    fields: dict[str, Any] = {"n": n, "m": m, "code": random.CODES[call.op], **_drawn(call)}
    to.add(Kind.RANDOM, random.nanoseconds(call.op, y.size), writes={"b": y}, numbers=numbers, **fields)


def _drawn(call: Call) -> dict[str, int]:
    """What random words follow from."""
    return {name: _integer(call.given[name]) for name in DRAWN}


def _integer(value: Any) -> int:
    """An integer as an instruction has it: of a figure, ~ its place."""
    return ~value.place if isinstance(value, Figure) else int(value)


def _prelu(to: Lowering, call: Call) -> None:
    x, alpha, (y,) = call.given["x"], call.given["alpha"], call.results
    to.plain(x, alpha, y)
    _apart(y, x, same=True)
    _apart(y, alpha)
    n, m = prelu.rows_of(x)
    to.add(Kind.PRELU, prelu.nanoseconds(x.size), reads={"a": x, "b": alpha}, writes={"c": y}, n=n, m=m)


def _prelu_backward(to: Lowering, call: Call) -> None:
    dy, x, alpha, (dx, dalpha) = (*(call.given[name] for name in ("dy", "x", "alpha")), call.results)
    to.plain(dy, x, alpha, dx, dalpha)
    (n, m), reads, writes = prelu.rows_of(x), {"a": dy, "b": x, "e": alpha}, {"c": dx, "d": dalpha}
    to.add(Kind.PRELU_BACKWARD, prelu.nanoseconds(x.size), reads=reads, writes=writes, n=n, m=m)


def _indexed_rows(to: Lowering, call: Call) -> None:
    data, index, (y,) = call.given["data"], call.given["index"], call.results
    _by_index(to, Kind.INDEXED_ROWS, data, index, y, data.shape[0])


def _scatter(to: Lowering, call: Call) -> None:
    dy, index, (y,) = call.given["dy"], call.given["index"], call.results
    _by_index(to, Kind.SCATTER, dy, index, y, y.shape[0])


def _embedding(to: Lowering, call: Call) -> None:
    indices, table, (y,) = call.given["indices"], call.given["table"], call.results
    _by_index(to, Kind.INDEXED_ROWS, table, indices, y, table.shape[0])


def _embedding_backward(to: Lowering, call: Call) -> None:
    dy, indices, (y,) = call.given["dy"], call.given["indices"], call.results
    _by_index(to, Kind.SCATTER, dy, indices, y, y.shape[0])


def _by_index(to: Lowering, kind: int, a: View, index: View, c: View, rows: int) -> None:
    """c from a, both rows of numbers; a number of the index is that of one of so many ``rows``, of a or of c."""
    to.plain(a, c)
    if not index.contiguous or index.dtype != np.int64 or index.size == 0:
        raise UnfitError
    _apart(c, a, index)
    sizes: dict[str, Any] = {"n": index.size, "k": rows, "m": (a if kind == Kind.SCATTER else c).size // index.size}
    moved = c.size if kind == Kind.INDEXED_ROWS else a.size + c.size
    work = moved * to.dtype.itemsize * gather.NS_PER_BYTE
    to.add(kind, work, reads={"a": a, "b": index}, writes={"c": c}, **sizes)


def _zeros(to: Lowering, call: Call) -> None:
    (y,) = call.results
    to.plain(y)
    zeros, work = to.holding(0.0, y.shape), elementwise.nanoseconds(y.size)
    fields: dict[str, Any] = {"code": CODES["identity"], "n": y.size, "numbers": to.constants([0.0])}
    to.add(Kind.FORWARD, work, reads={"a": zeros}, writes={"b": y}, **fields)


def _gather(to: Lowering, call: Call) -> None:
    data, (rows,) = call.given["data"], call.results
    if not data.contiguous or not rows.contiguous or rows.size == 0:
        raise UnfitError
    n, m = rows.shape[0], rows.strides[0]
    to.add(Kind.GATHER, n * m * gather.NS_PER_BYTE, reads={"a": data}, writes={"b": rows}, n=n, m=m)


def _put(to: Lowering, call: Call) -> None:
    x, into, turn = (call.given[name] for name in ("x", "into", "turn"))
    if not x.contiguous or x.size == 0:
        raise UnfitError
    n, figure = x.size * x.dtype.itemsize, turn.place
    to.add(Kind.PUT, n * gather.NS_PER_BYTE, reads={"a": x}, writes={"b": into}, takes=[figure], n=n, figure=figure)


def _calculated(code: int, to: Lowering, call: Call) -> None:
    a, b, (result,) = call.given["a"], call.given["b"], call.results
    places: dict[str, Any] = {"k": a.place, "m": b.place, "figure": result.place}
    if not result.early:
        takes = [a.place, b.place]
        to.add(Kind.CALCULATION, _NS_PER_CALCULATION, takes=takes, makes=[result.place], code=code, **places)


_Lower = Callable[[Lowering, Call], None]


def _with(function: Callable[..., None], first: Any) -> _Lower:
    return lambda to, call: function(first, to, call)


# ----------------------------------------------------------------------------------------------------- calls of kernels

_OF_KERNELS = ("convolution", "depthwise", "joining", "pooling", "recurrent", "resilient", "resizing", "sampling")

# Ops whose kernels do all the work: of arrays in C order they calculate nothing in Python.
NOTED = (
    *(op.name for op in TABLE.values() if op.module in _OF_KERNELS),
    "batch_norm", "batch_norm_backward", "batch_norm_inference", "batch_norm_inference_backward",
    "layer_norm", "layer_norm_backward",
    "sequence_mean", "sequence_mean_backward", "sequence_max", "sequence_max_backward",
    "mask_steps", "mask_steps_backward", "step_mask",
)  # fmt: skip


def _noted(to: Lowering, call: Call) -> None:
    """The calls of kernels that an op makes on arrays like these, each with the addresses that they will have."""
    op = TABLE[call.op]
    implementation = getattr(import_module(f"fastnn.kernels.cpu.{op.module}"), op.name)

    def run(**given: Any) -> Any:
        bound = op.signature.bind(**given)
        return implementation(*bound.args, **bound.kwargs)

    sources = [call.given[name] for name in op.operands if name not in op.inplace]
    _note_all(to, replace(call, given=_derived(to, call)), sources, run)


def _note_all(to: Lowering, call: Call, sources: Sequence[Any], run: Callable[..., Any]) -> None:
    """The same of what ``run`` makes of a call's arguments; no result may lie over ``sources``."""
    stand_ins = StandIns(to)
    written = [view for view in (*call.results, *call.writes) if view is not None]
    if not all(isinstance(view, View) and view.contiguous and view.size for view in written):
        raise UnfitError
    for view in written:
        _apart(view, *(source for source in sources if isinstance(source, View)))
    given = {name: stand_ins.make(value) for name, value in call.given.items()}
    with notes.taking() as noted:
        results = run(**given)
    arrays = () if not call.results else results if isinstance(results, tuple) else (results,)
    for view, array in zip(call.results, arrays, strict=True):
        if view is not None and (array is None or array.shape != view.shape or not array.flags.carray):
            raise UnfitError
        if view is not None and stand_ins.view(address(array)) is None:
            stand_ins.take(array, view)
    for scratch in noted.scratch:
        stand_ins.take(scratch, to.temporary(scratch.shape, scratch.dtype))
        written.append(stand_ins.lies[-1][2])
    for note in noted.calls:
        _note(to, note, stand_ins, written)


def _derived(to: Lowering, call: Call) -> Mapping[str, Any]:
    """What a call is given, with the derivative of its activation by an instruction of its own."""
    activation = ELEMENTWISE_ACTIVATIONS.get(call.given.get("activation", "linear"))
    if not {"dy", "z"} <= call.given.keys() or activation in (None, "identity"):
        return call.given
    dy, y, z = (call.given[name] for name in ("dy", "y", "z"))
    dz = to.temporary(dy.shape)
    derive(to, activation, dy, y if z is None else z, y, dz)
    return {**call.given, "dy": dz, "z": None, "activation": "linear"}


def _note(to: Lowering, note: notes.Note, stand_ins: StandIns, written: Sequence[View]) -> None:
    """An instruction of a kernel's call; it writes to the views of those given that it takes.

    Memory that an op has made for itself is its own; what of it may be written to is.
    """
    reads: list[Range] = []
    writes: list[Range] = []
    for array in note.arguments:
        if not isinstance(array, np.ndarray) or array.size == 0:
            continue
        at = address(array)
        view = stand_ins.view(at)
        if view is None and array.dtype.kind != "f":  # a table, which is only read
            continue
        if view is None:
            block = Block(array.nbytes, address=at, owner=array)
            writes.append(Range(block, 0, array.nbytes))
            continue
        touched = Range(view.block, view.offset, view.offset + array.nbytes)
        (writes if any(touched.meets(range_of(each)) for each in written) else reads).append(touched)
    made = Instruction(to.call, Kind.NOTED, {}, {}, reads, writes, note.nanoseconds)
    made.noted = Noted(note, stand_ins)
    to.instructions.append(made)


def _mean_of_rows(to: Lowering, call: Call) -> None:
    """Means of words' vectors, or the gradient of such."""
    _of_words(to, call, lambda: _note_all(to, call, list(call.given.values()), call.run))
    to.instructions[-1].views = {"b": (call.given["indices"],), "c": call.results}


def _embedding_mask(to: Lowering, call: Call) -> None:
    _of_words(to, call, lambda: _noted(to, call))


def _of_words(to: Lowering, call: Call, lower: Callable[[], None]) -> None:
    """What is done with words by their numbers, where these need no copy as other integers."""
    indices = call.given["indices"]
    if not indices.contiguous or indices.dtype != np.int64:
        raise UnfitError
    lower()


def _max_pool_backward(to: Lowering, call: Call) -> None:
    """Which a relu's derivative may become a part of."""
    _noted(to, call)
    to.instructions[-1].views = {"b": (call.given["x"],), "c": call.results}


def rectified(pool: Instruction, derivative: Instruction) -> Instruction:
    """The derivative of largest numbers with that of the relu whose results these are."""
    assert pool.noted is not None
    (made,), (result,), (note, stand_ins) = pool.views["c"], derivative.views["c"], pool.noted
    assert result is not None
    lies = [(low, high, result if view is made else view) for low, high, view in stand_ins.lies]
    return replace(
        pool,
        views={},
        noted=Noted(pooling.of_relu(note), replace(stand_ins, lies=lies)),
        writes=derivative.writes,
        reads=[*pool.reads, *(each for each in derivative.reads if made is None or each.block is not made.block)],
    )


# How a call becomes instructions, by its op or by what is calculated.
LOWERED: dict[str, _Lower] = {
    GATHER: _gather,
    PUT: _put,
    "matmul": _matmul,
    "linear": _linear,
    "linear_backward": _linear_backward,
    "column_sums": _column_sums,
    "add": _add,
    "scaled": _with(_scaled, replay.TIMES),
    "divided": _with(_scaled, replay.OVER),
    **dict.fromkeys(PAIRS.keys() - {"add"}, _pair_noted),
    "zeros": _zeros,
    **dict.fromkeys(("dropout", "dropout_backward"), _dropout),
    **dict.fromkeys(random.CODES, _random),
    "prelu": _prelu,
    "prelu_backward": _prelu_backward,
    "l1_l2_penalty": _penalty,
    "gather": _indexed_rows,
    "gather_backward": _scatter,
    "embedding": _embedding,
    "embedding_backward": _embedding_backward,
    **dict.fromkeys(NOTED, _noted),
    "max_pool2d_backward": _max_pool_backward,
    "embedding_mask": _embedding_mask,
    **dict.fromkeys((bags.MEAN, bags.MEAN_BACKWARD), _mean_of_rows),
    **dict.fromkeys((f"{name}_backward" for name in CHOICES), _choice_backward),
    **{name: _with(_forward, name) for name in ROW_CODES},
    **{f"{name}_backward": _with(_backward, name) for name in ROW_CODES},
    **dict.fromkeys(LOSSES, _loss),
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
