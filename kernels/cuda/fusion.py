"""Calls of a recorded step that launches do together, found as a graph is made ready for replays.

- The gradients of dense layers that only an optimizer's step reads are formed in its launch: weights and biases of all
  layers are stepped side by side (``steps.py``), their gradients are not written.
- So are those of a layer of CSR matrices, in a launch of their own, by the non-zeros of columns. Where the optimizer
  allows it exactly, rows of weights without any wait for their next one, or for the end of the run.
- What goes back to a layer's input goes on through the activation below in the same product (``gemm.derivative``).

So a step of dense layers is a product a layer forwards, one backwards but for the first layer, and one launch for all
weights. Sums may be in another order than op by op: the same to rounding, and the same bits run after run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from struct import pack
from typing import Any, NamedTuple

import cupy
import numpy as np

from fastnn.kernels import precision
from fastnn.kernels.cuda import csr, gemm, steps
from fastnn.kernels.cuda.arrays import address
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.graph import Block, Call, Figure, Graph, Range, Sparse, View, hinder, range_of, views_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE, Op
from fastnn.kernels.table.optim import chosen

# What calls are named that stand for a part of one, or for parts of several.
_SLOPE, _BACK, _STEPS = "activation's slope", "back to the input", "gradients and step"
_ROWS = {False: "gradient and step", True: "gradient and step of rows with non-zeros"}

# All memory whose address is known: blocks of it may have some in common.
_KNOWN = Block(0)


@dataclass(frozen=True, eq=False)
class Origin:
    """A call, and the number of the one that was recorded which it is of."""

    call: Call
    number: int


class Fused(NamedTuple):
    """A graph with calls that do what several did, and why others are as they were.

    For each of its calls the number of a recorded one that it is a part of.
    """

    graph: Graph
    origins: list[int]
    reasons: list[str]


def fused(graph: Graph) -> Fused:
    """The graph with as few launches as can be."""
    calls = [Origin(call, number) for number, call in enumerate(graph.calls)]
    kept, reasons = {view.block for view in graph.kept}, list[str]()
    for each in [each for each in calls if _is_step(each.call)]:
        reasons += _obstacles(calls, each)
        calls = _stepped(calls, each, kept)
    for each in [each for each in calls if each.call.op == _SLOPE]:
        calls = _sloped(calls, each, kept)
    joined = replace(graph, calls=[each.call for each in calls])
    return Fused(joined, [each.number for each in calls], [*dict.fromkeys(reasons)])


def _is_step(call: Call) -> bool:
    return call.op in TABLE and TABLE[call.op].module == "optim"


def _is_layer(call: Call) -> bool:
    """Whether it is a dense layer's way back, whose gradients are new arrays."""
    given = call.given
    if call.op != "linear_backward" or any(given[name] is not None for name in ("dx", "dw", "db")):
        return False
    return isinstance(given["x"], (View, Sparse)) and all(isinstance(given[name], View) for name in ("dy", "w", "y"))


def _ranges_of(x: View | Sparse) -> list[Range]:
    """What is read of a layer's inputs."""
    return [_range(part) for part in (x.parts if isinstance(x, Sparse) else [x])]


# --------------------------------------------------------------------------------------------- gradients and their step


def _stepped(calls: list[Origin], step: Origin, kept: Collection[Block]) -> list[Origin]:
    """With the layers whose gradients only this step reads in its launch, if that pays."""
    place, op = calls.index(step), TABLE[step.call.op]
    name, arrays = chosen(op, step.call.given)
    lists = isinstance(step.call.given["w"], (list, tuple))
    parameters = [
        tuple(each)
        for each in (zip(*(step.call.given[array] for array in arrays), strict=True) if lists else
                     [[step.call.given[array] for array in arrays]])
    ]  # fmt: skip
    if not _fit(parameters):
        return calls
    by_gradient = {parameter[1]: parameter for parameter in parameters}
    layers = [
        each
        for number, each in enumerate(calls[:place])
        if _is_layer(each.call)
        and _only_for(each, step, calls, by_gradient, kept)
        and _may_wait(each, calls[number:place])
    ]
    sources = {id(each): _source(each) for each in layers}
    layers = [each for each in layers if _pays(each.call) and _apart(each, sources[id(each)].dz, parameters)]
    if not layers:
        return calls
    gradients: list[_Stepped] = []
    for each in layers:
        gradients += _gradients(each, sources[id(each)].dz, by_gradient)
    of_rows = [each for each in layers if isinstance(each.call.given["x"], Sparse) and each.call.results[1] is not None]
    gone = {view for each in layers for view in views_of(each.call.results[1:])}
    rest = [parameter for parameter in parameters if parameter[1] not in gone]
    joined = [_together(step.call, op, name, gradients)] if gradients else []
    for each in of_rows:
        parameter = by_gradient[each.call.results[1]]
        later = gemm.waits(name) and _may_lag(step, parameter[2:], calls)
        joined.append(_by_rows(step.call, op, name, each.call.given["x"], sources[id(each)].dz, parameter, later))
    made: list[Origin] = []
    for each in calls:
        if each in layers:
            made += sources[id(each)].calls
        elif each is step:
            made += [Origin(_rest(step.call, arrays, rest), step.number)] if rest else []
            made += [Origin(call, step.number) for call in joined]
        else:
            made.append(each)
    return made


def _obstacles(calls: Sequence[Origin], step: Origin) -> list[str]:
    """Why there are launches beside a step's: gradients of layers that are written, and weights that are, before it."""
    before = calls[: calls.index(step)]
    read, stepped = (_blocks_of(step.call.given[name]) for name in ("dw", "w"))
    written = [each.call.op for each in before if any(view.block in stepped for view in each.call.writes)]
    reasons = [f"weights are written by {op!r} before the step, as where they decay" for op in written[:1]]
    layers = [
        (each, blocks)
        for each in before
        if _is_layer(each.call) and (blocks := {view.block for view in views_of(each.call.results[1:])}) & read
    ]
    if layers and not _is_exact({each.call.given["dy"].dtype for each, _ in layers}):
        return [*reasons, f"gradients are products of {precision.current()}, which are written"]
    for layer, blocks in layers:
        between = [each.call.op for each in calls if each not in (layer, step) and blocks & set(each.call.touched())]
        if between:
            reasons.append(f"gradients are written for {between[0]!r}, which comes before the step")
        elif not _pays(layer.call):
            samples = layer.call.given["dy"].shape[0]
            reasons.append(f"gradients of {samples:,} samples are written, since blocks share their sums")
    return reasons


def _blocks_of(found: Any) -> set[Block]:
    """The memory of a view, or of a list of such."""
    return {view.block for view in views_of(found if isinstance(found, (list, tuple)) else [found])}


def _is_exact(dtypes: Collection[Any]) -> bool:
    """Whether products of these are of operands that are not rounded."""
    return precision.current() == "float32" or dtypes == {np.dtype(np.float64)}


def _fit(parameters: Sequence[Sequence[Any]]) -> bool:
    """Whether launches take these arrays: in C order, of one dtype, exact, and no two of what is written in common."""
    views = [view for parameter in parameters for view in parameter]
    if not all(isinstance(view, View) and view.contiguous and view.size for view in views):
        return False
    dtypes = {view.dtype for view in views}
    exact = _is_exact(dtypes)
    ranges = [*map(_range, views)]
    written = [place for place in range(len(ranges)) if place % len(parameters[0]) != 1]
    overlap = any(ranges[one].meets(ranges[other]) for one in written for other in range(len(ranges)) if other != one)
    return len(dtypes) == 1 and exact and not overlap


def _range(view: View) -> Range:
    block, low, high = range_of(view)
    assert block is not None
    return Range(_KNOWN, block.address + low, block.address + high) if block.address else Range(block, low, high)


def _touched(call: Call) -> tuple[list[Range], list[Range]]:
    """What a call reads, and what it writes."""
    return [*map(_range, call.views())], [*map(_range, (*call.writes, *views_of(call.results)))]


def _only_for(
    layer: Origin, step: Origin, calls: Sequence[Origin], by_gradient: Mapping[View, Any], kept: Collection[Block]
) -> bool:
    """Whether all gradients of a layer's weights are those that the step reads, and nobody else touches them."""
    gradients = views_of(layer.call.results[1:])
    if not gradients or not all(view in by_gradient and view.block not in kept for view in gradients):
        return False
    blocks = {view.block for view in gradients}
    return all(block.inner for block in blocks) and not any(
        blocks & set(each.call.touched()) for each in calls if each is not layer and each is not step
    )


def _may_wait(layer: Origin, until: Sequence[Origin]) -> bool:
    """Whether nobody writes what gradients are made of before the step."""
    reads = [_range(layer.call.given["dy"]), *_ranges_of(layer.call.given["x"])]
    return not any(hinder((), _touched(each.call)[1], reads, ()) for each in until)


@dataclass(frozen=True)
class _Source:
    """What a layer's way back is without its weights: dz, and the calls that make it and go on to the input."""

    dz: View
    calls: list[Origin]


def _source(layer: Origin) -> _Source:
    given, (dx, *_) = layer.call.given, layer.call.results
    dy, w, y, activation = (given[name] for name in ("dy", "w", "y", "activation"))
    s, dz, calls = y if given["z"] is None else given["z"], dy, []
    if activation != "linear":
        dz = View(Block(dy.size * dy.dtype.itemsize), 0, dy.shape, _strides(dy), dy.dtype)
        slope = Call(_SLOPE, {"dy": dy, "s": s, "y": y, "activation": activation}, (dz,), (), _slope)
        calls.append(Origin(slope, layer.number))
    if dx is not None:
        calls.append(Origin(Call(_BACK, {"dz": dz, "w": w}, (dx,), (), _back), layer.number))
    return _Source(dz, calls)


def _strides(view: View) -> tuple[int, ...]:
    return view.shape[1] * view.dtype.itemsize, view.dtype.itemsize


def _apart(layer: Origin, dz: View, parameters: Sequence[Sequence[View]]) -> bool:
    """Whether what its gradients are made of is none of what the step writes."""
    written = [_range(view) for parameter in parameters for place, view in enumerate(parameter) if place != 1]
    return not hinder((), written, [_range(dz), *_ranges_of(layer.call.given["x"])], ())


def _may_lag(step: Origin, states: Sequence[View], calls: Sequence[Origin]) -> bool:
    """Whether nobody but the step looks at states in a turn, and what they are multiplied with stays the same."""
    if isinstance(step.call.given["rho"], Figure) or any(view.block.inner for view in states):
        return False
    kept = [*map(_range, states)]
    return not any(hinder((), kept, *_touched(each.call)) for each in calls if each is not step)


@dataclass(frozen=True)
class _Stepped:
    """A parameter as matrices, and what its gradient is the product of: as ``steps.Gradient``."""

    parameter: Sequence[View]
    a: View
    b: View


def _gradients(layer: Origin, dz: View, by_gradient: Mapping[View, Sequence[View]]) -> list[_Stepped]:
    """Those of a layer's weights, by a dense product, and of its bias."""
    x, (_, dw, db) = layer.call.given["x"], layer.call.results
    found = [] if dw is None or isinstance(x, Sparse) else [_Stepped(by_gradient[dw], x.T, dz)]
    if db is not None:
        rows = [_as_row(view) for view in by_gradient[db]]
        found.append(_Stepped(rows, _ones(dz.shape[0], dz.dtype).T, dz))
    return found


def _as_row(view: View) -> View:
    """A vector as a matrix of one row."""
    (size,), (stride,) = view.shape, view.strides
    return replace(view, shape=(1, size), strides=(size * stride, stride))


def _ones(count: int, dtype: Any) -> View:
    held = cupy.ones((count, 1), dtype)
    return View.of(held, address(held))


def _pays(layer: Call) -> bool:
    """Whether its gradients are best formed there: cuBLAS does not, and of many samples sums are split among blocks.

    Of CSR matrices there is no other way; the bias is as that of all layers.
    """
    x, dy = layer.given["x"], layer.given["dy"]
    dense = [view for view in (x, dy) if isinstance(view, View)]
    shape = x.shape[1] if len(dense) == 2 else 1, *dy.shape
    most = max(*shape, *(abs(stride) // view.dtype.itemsize for view in dense for stride in view.strides))
    return math.prod(shape) < gemm.CUBLAS_FROM and most <= steps.MOST and steps.pays(shape, dy.dtype.name)


def _rest(call: Call, arrays: Sequence[str], parameters: Sequence[Sequence[View]]) -> Call:
    """A step of fewer parameters."""
    lists = {array: list(column) for array, column in zip(arrays, zip(*parameters, strict=True), strict=True)}
    written = tuple(view for name, column in lists.items() if name != "dw" for view in column)
    return replace(call, given={**call.given, **lists}, writes=written)


def _together(call: Call, op: Op, name: str, gradients: Sequence[_Stepped]) -> Call:
    """The step of parameters by products that are their gradients."""
    columns = {
        "a": [each.a for each in gradients],
        "b": [each.b for each in gradients],
        "c": [each.parameter[0] for each in gradients],
        "states": [view for each in gradients for view in each.parameter[2:]],
    }
    options = {option: call.given[option] for option in op.options}
    written = (*columns["c"], *columns["states"])
    return Call(_STEPS, {**columns, **options}, (), written, _StepsRun(name, gradients[0].b.dtype.char))


def _by_rows(call: Call, op: Op, name: str, x: Sparse, dz: View, parameter: Sequence[View], later: bool) -> Call:
    """The step of weights by the product of a CSR matrix that is their gradient."""
    w, _, *states = parameter
    char = w.dtype.char
    options = {option: call.given[option] for option in op.options}
    run = LazyRun(name, char, options, csr.Lag(*w.shape)) if later else _RowsRun(name, char)
    return Call(_ROWS[later], {"x": x, "dz": dz, "w": w, "states": states, **options}, (), (w, *states), run)


class _Run:
    """What makes the call of a step; ``numbers`` tells without launches what numbers each of them has."""

    def __init__(self, name: str, char: str) -> None:
        self._name, self._char = name, char

    def numbers(self, options: Mapping[str, Any]) -> bytes:
        """The step's hyper-parameters as launches are given them."""
        numbers = STEPS[self._name].numbers(options)
        return pack(f"{len(numbers)}{self._char}", *numbers)


class _RowsRun(_Run):
    """That by a CSR matrix."""

    _lag: csr.Lag | None = None

    def __call__(self, x: Any, dz: Any, w: Any, states: Any, **options: Any) -> None:
        csr.step_rows(self._name, x, dz, w, states, STEPS[self._name].numbers(options), self._lag)


class LazyRun(_RowsRun):
    """The same where rows without non-zeros wait."""

    def __init__(self, name: str, char: str, options: Collection[str], lag: csr.Lag) -> None:
        super().__init__(name, char)
        self._lag: csr.Lag = lag
        self.takes_behind = ("w", "states", *options)

    def behind(self, w: Any, states: Any, **options: Any) -> None:
        """Behind a run, or behind all turns of one, make up for what these have missed."""
        csr.catch_up(self._name, w, states, STEPS[self._name].numbers(options), self._lag)


class _StepsRun(_Run):
    """That of many products."""

    def __call__(self, a: Any, b: Any, c: Any, states: Any, **options: Any) -> None:
        each = len(STEPS[self._name].states)
        parts = [states[place * each : (place + 1) * each] for place in range(len(c))]
        gradients = [steps.Gradient(*given) for given in zip(a, b, c, parts, strict=True)]
        steps.step(self._name, gradients, STEPS[self._name].numbers(options))


def _slope(dy: Any, s: Any, y: Any, activation: str) -> Any:
    """dz = dy f'(s)."""
    elementwise = ELEMENTWISE_ACTIVATIONS.get(activation)
    module = import_module(f"fastnn.kernels.cuda.{'softmax' if elementwise is None else 'elementwise'}")
    back: Callable[..., Any] = getattr(module, f"{activation if elementwise is None else elementwise}_backward")
    return back(dy, s, y)


def _back(dz: Any, w: Any, s: Any = None, epilogue: gemm.Epilogue = gemm.PLAIN) -> Any:
    """f(dz @ w.T)."""
    made, others = cupy.empty((dz.shape[0], w.shape[0]), dz.dtype), {} if s is None else {"s": s}
    gemm.Product(dz, w.T, made, epilogue, **others)(dz, w.T, made, **others)
    return made


# ---------------------------------------------------------------------------------------------------------- derivatives


def _sloped(calls: list[Origin], slope: Origin, kept: Collection[Block]) -> list[Origin]:
    """With an activation's slope in the epilogue of the product that makes what it is multiplied with."""
    given = slope.call.given
    dy, activation = given["dy"], ELEMENTWISE_ACTIVATIONS.get(given["activation"])
    made = next((each for each in calls if each.call.op == _BACK and each.call.results == (dy,)), None)
    if activation is None or made is None or not dy.block.inner or dy.block in kept:
        return calls
    if math.prod((*dy.shape, made.call.given["w"].shape[1])) >= gemm.CUBLAS_FROM:
        return calls
    touching = [each for each in calls if dy.block in each.call.touched()]
    between = calls[calls.index(made) : calls.index(slope)]
    s = given["s"]
    if touching != [made, slope] or any(hinder((), _touched(each.call)[1], [_range(s)], ()) for each in between):
        return calls
    run = partial(_back, epilogue=gemm.derivative(activation))
    joined = Origin(Call(_BACK, {**made.call.given, "s": s}, slope.call.results, (), run), made.number)
    return [joined if each is made else each for each in calls if each is not slope]
