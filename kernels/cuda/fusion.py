"""Calls of a recorded step that launches do together, found as a graph is made ready for replays.

- The gradients of dense layers that only an optimizer's step reads are formed in its launch: weights and biases of all
  layers are stepped side by side (``steps.py``), their gradients are not written. Vectors of other layers go with them.
- So are those of a layer of CSR matrices, in a launch of their own, by the non-zeros of columns. Where the optimizer
  allows it exactly, rows of weights without any wait for their next one, or for the end of the run.
- Weights that decay do so there before their step, and gradients that are clipped number by number are clipped there.
- So are penalties on these weights added to their gradients, and to the loss.
- Gradients that are clipped by their norms are formed in one launch, with sums of their squares, and the step of all
  follows in another, in which a turn over batches can end, too (``norm_steps.py``).
- A loss goes on through the activation of the outputs (``fused_losses.py``).
- What goes back to a layer's input goes on through the activation below in the same product
  (``epilogues.derivative``), and a layer's outputs through an activation behind it whose derivative needs its inputs,
  which are kept.

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
from fastnn.kernels.cuda import csr, cublas, dropout, epilogues, fused_losses, norm_steps, steps, tiles
from fastnn.kernels.cuda.arrays import address
from fastnn.kernels.cuda.epilogues import PLAIN, Epilogue, waits
from fastnn.kernels.cuda.products import Product
from fastnn.kernels.cuda.recorded import (
    BACK,
    BY_NORM,
    CLIPPINGS,
    GRADIENTS,
    PENALTIES,
    ROWS_STEP,
    SLOPE,
    STEP,
    Origin,
    is_written,
    made_by,
    numbers_of,
    passes,
    place_of,
    slope_of,
    touched,
)
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.graph import Block, Call, Figure, Graph, Range, Sparse, View, hinder, views_of
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, TABLE, Op
from fastnn.kernels.table.optim import chosen

# What a step's launch is told of what comes before it, in the order in which it takes the numbers.
_BEFORE = ("left", "limit")


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
        calls = _stepped(calls, each, kept)
        reasons += _obstacles(calls, each)
    for each in [each for each in calls if fused_losses.is_loss(each.call)]:
        calls = fused_losses.gone_on(calls, each, kept)
    for each in [each for each in calls if (slope := slope_of(each.call)) is not None and not slope.of_rows]:
        calls = _sloped(calls, each, kept)
    for each in [each for each in calls if numbers_of(each.call, each.call.op) is not None]:
        calls = _activated(calls, each)
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
    return [place_of(part) for part in (x.parts if isinstance(x, Sparse) else [x])]


# --------------------------------------------------------------------------------------------- gradients and their step


class _Decay(NamedTuple):
    """The calls that leave a share of weights before a step, and the number that this is."""

    calls: tuple[Origin, Origin]
    left: Figure


class _Before(NamedTuple):
    """What comes between gradients and a step that its launch can do: weights' decay, penalties, a call that clips."""

    decays: Mapping[View, _Decay]
    clip: Origin | None
    penalties: Origin | None

    @classmethod
    def of(
        cls, calls: Sequence[Origin], step: Origin, parameters: Sequence[Sequence[View]], kept: Collection[Block]
    ) -> _Before:
        """What there is for a step of these; where weights decay by several shares, those by the first."""
        before, gradients = calls[: calls.index(step)], {gradient for _, gradient, *_ in parameters}
        found = {w: decay for w, *_ in parameters if (decay := _decay(calls, before, w, kept)) is not None}
        first = next(iter(found.values()), None)
        decays = {w: decay for w, decay in found.items() if first is not None and decay.left == first.left}
        clips = (each for each in reversed(before) if each.call.op in CLIPPINGS)
        clip = next((each for each in clips if gradients <= {*each.call.given["gradients"]}), None)
        return cls(decays, clip, _penalties(before if clip is None else before[: before.index(clip)], calls, step))

    @property
    def calls(self) -> list[Origin]:
        """Those that work on gradients."""
        return [each for each in (self.penalties, self.clip) if each is not None]

    @property
    def penalized(self) -> Mapping[View, tuple[float, float]]:
        """Gradients that penalties add to, and the numbers of these."""
        given = {"gradients": [], "numbers": []} if self.penalties is None else self.penalties.call.given
        return dict(zip(given["gradients"], given["numbers"], strict=True))

    @property
    def left(self) -> Figure | None:
        """The number of all that decay."""
        return next((decay.left for decay in self.decays.values()), None)

    def of_weights(self, weights: Collection[View]) -> _Before:
        """Those of some."""
        return self._replace(decays={w: decay for w, decay in self.decays.items() if w in weights})

    @property
    def by_norm(self) -> bool:
        """Whether it is norms that are clipped."""
        return self.clip is not None and self.clip.call.op in BY_NORM

    def options(self) -> dict[str, Any]:
        """What the launch of a step is told of it."""
        name = "most" if self.by_norm else "limit"
        limit = None if self.clip is None else self.clip.call.given["limit"]
        return {name: value for name, value in (("left", self.left), (name, limit)) if value is not None}

    def rest(self, gone: Collection[View]) -> Mapping[int, list[Origin]]:
        """By the id of a call what becomes of it where the launch does this, and these gradients are not written."""
        made: dict[int, list[Origin]] = {id(each): [] for decay in self.decays.values() for each in decay.calls}
        for each in self.calls:
            call, lists = each.call, [name for name in ("gradients", "weights", "numbers") if name in each.call.given]
            left = [place for place, view in enumerate(call.given["gradients"]) if view not in gone]
            some = {name: [call.given[name][place] for place in left] for name in lists}
            rest = replace(call, given={**call.given, **some}, writes=(*some["gradients"], *call.given.get("loss", ())))
            made[id(each)] = [replace(each, call=rest)] if left else []
        return made


def _penalties(before: Sequence[Origin], calls: Sequence[Origin], step: Origin) -> Origin | None:
    """The last call that adds penalties, where nobody looks at the loss until the step is made."""
    found = next((each for each in reversed(before) if each.call.op == PENALTIES), None)
    if found is None:
        return None
    loss = {view.block for view in found.call.given["loss"]}
    between = calls[calls.index(found) + 1 : calls.index(step)]
    return None if any(loss & set(each.call.touched()) for each in between) else found


def _decay(calls: Sequence[Origin], before: Sequence[Origin], w: View, kept: Collection[Block]) -> _Decay | None:
    """How weights decay before a step: scaled, written back, and then nobody's."""
    held = place_of(w)
    touching = [each for each in before if any(held.meets(one) for some in touched(each.call) for one in some)]
    if len(touching) < 2:
        return None
    scaled, back = touching[-2:]
    if (scaled.call.op, back.call.op) != ("scaled", "identity") or back.call.writes != (w,):
        return None
    given, (made,) = scaled.call.given, scaled.call.results
    is_whole = given["x"] == w and back.call.given["x"] == made and isinstance(given["factor"], Figure)
    if not is_whole or not made.block.inner or made.block in kept:
        return None
    is_nobodys = not any(made.block in each.call.touched() for each in calls if each not in (scaled, back))
    return _Decay((scaled, back), given["factor"]) if is_nobodys else None


def _stepped(calls: list[Origin], step: Origin, kept: Collection[Block]) -> list[Origin]:
    """With the layers whose gradients only this step reads in its launch."""
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
    before = _Before.of(calls, step, parameters, kept)
    own = [step, *before.calls]
    layers = [
        each
        for number, each in enumerate(calls[:place])
        if _is_layer(each.call)
        and _only_for(each, own, calls, by_gradient, kept)
        and _may_wait(each, calls[number:place])
        and not (isinstance(each.call.given["x"], Sparse) and each.call.results[1] in before.penalized)
    ]
    sources = {id(each): _source(each) for each in layers}
    layers = [each for each in layers if _is_served(each.call) and _apart(each, sources[id(each)].dz, parameters)]
    if not layers:
        return calls
    gone = {view for each in layers for view in views_of(each.call.results[1:])}
    vectors = [each for each in parameters if each[1] not in gone and _goes_with(each[1], own, calls, kept)]
    gone |= {each[1] for each in vectors}
    before = before.of_weights([by_gradient[view][0] for view in gone])
    gradients: list[_Stepped] = []
    for each in layers:
        gradients += _gradients(each, sources[id(each)].dz, by_gradient)
    gradients += map(_of_vector, vectors)
    of_rows = [each for each in layers if isinstance(each.call.given["x"], Sparse) and each.call.results[1] is not None]
    rest = [parameter for parameter in parameters if parameter[1] not in gone]
    if before.by_norm:
        assert before.clip is not None
        if rest or of_rows or gone != {*before.clip.call.given["gradients"]}:
            return calls  # a norm that has to wait for others
        joined = _by_norm(step.call, op, name, gradients, before)
    else:
        joined = [_together(step.call, op, name, gradients, before)] if gradients else []
    for each in of_rows:
        parameter = by_gradient[each.call.results[1]]
        own_before = before.of_weights(parameter[:1])
        later = waits(name) and own_before.left is None and _may_lag(step, parameter[2:], calls)
        x, dz = each.call.given["x"], sources[id(each)].dz
        joined.append(_by_rows(step.call, op, name, x, dz, parameter, own_before, later))
    changed = {**{id(each): sources[id(each)].calls for each in layers}, **before.rest(gone)}
    changed[id(step)] = [Origin(_rest(step.call, arrays, rest), step.number)] if rest else []
    changed[id(step)] += [Origin(call, step.number) for call in joined]
    return [made for each in calls for made in changed.get(id(each), [each])]


def _obstacles(calls: Sequence[Origin], step: Origin) -> list[str]:
    """Why there are launches beside a step's: gradients of layers that are written, and weights that are, before it."""
    before = [each for each in calls if each.number < step.number]
    read, stepped = (_blocks_of(step.call.given[name]) for name in ("dw", "w"))
    written = [each.call.op for each in before if any(view.block in stepped for view in each.call.writes)]
    reasons = [f"weights are written by {op!r} before the step, as where they decay" for op in written[:1]]
    layers = [
        (each, blocks)
        for each in before
        if _is_layer(each.call) and (blocks := {view.block for view in views_of(each.call.results[1:])}) & read
    ]
    for layer, blocks in layers:
        others = (each for each in calls if each is not layer and each.number != step.number)
        between = [each.call.op for each in others if blocks & set(each.call.touched())]
        if between:
            reasons.append(f"gradients are written for {between[0]!r}, which comes before the step")
        elif not _is_served(layer.call):
            samples = layer.call.given["dy"].shape[0]
            whose = "cuBLAS's" if _is_exact({layer.call.given["dy"].dtype}) else "the tensor cores'"
            reasons.append(f"gradients of {samples:,} samples are written: products as large are {whose}")
    return reasons


def _blocks_of(found: Any) -> set[Block]:
    """The memory of a view, or of a list of such."""
    return {view.block for view in views_of(found if isinstance(found, (list, tuple)) else [found])}


def _is_exact(dtypes: Collection[Any]) -> bool:
    """Whether products of these are of operands that are not rounded."""
    return precision.current() == "float32" or dtypes == {np.dtype(np.float64)}


def _fit(parameters: Sequence[Sequence[Any]]) -> bool:
    """Whether launches take these arrays: in C order, of one dtype, and no two of what is written in common."""
    views = [view for parameter in parameters for view in parameter]
    if not all(isinstance(view, View) and view.contiguous and view.size for view in views):
        return False
    dtypes = {view.dtype for view in views}
    ranges = [*map(place_of, views)]
    written = [place for place in range(len(ranges)) if place % len(parameters[0]) != 1]
    overlap = any(ranges[one].meets(ranges[other]) for one in written for other in range(len(ranges)) if other != one)
    return len(dtypes) == 1 and not overlap


def _only_for(
    layer: Origin,
    own: Collection[Origin],
    calls: Sequence[Origin],
    by_gradient: Mapping[View, Any],
    kept: Collection[Block],
) -> bool:
    """Whether all gradients of a layer's weights are those that the step reads, and nobody but its own touches them."""
    gradients = views_of(layer.call.results[1:])
    if not gradients or not all(view in by_gradient and view.block not in kept for view in gradients):
        return False
    blocks = {view.block for view in gradients}
    return all(block.inner for block in blocks) and not any(
        blocks & set(each.call.touched()) for each in calls if each is not layer and each not in own
    )


def _goes_with(gradient: View, own: Collection[Origin], calls: Sequence[Origin], kept: Collection[Block]) -> bool:
    """Whether it is a vector that somebody makes for a step and what comes before that alone."""
    others = [each for each in calls if gradient.block in each.call.touched() and each not in own]
    return gradient.ndim == 1 and len(others) == 1 and gradient.block.inner and gradient.block not in kept


def _may_wait(layer: Origin, until: Sequence[Origin]) -> bool:
    """Whether nobody writes what gradients are made of before the step."""
    reads = [place_of(layer.call.given["dy"]), *_ranges_of(layer.call.given["x"])]
    return not any(hinder((), touched(each.call)[1], reads, ()) for each in until)


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
        slope = Call(SLOPE, {"dy": dy, "s": s, "y": y, "activation": activation}, (dz,), (), _slope)
        calls.append(Origin(slope, layer.number))
    if dx is not None:
        calls.append(Origin(Call(BACK, {"dz": dz, "w": w}, (dx,), (), _back), layer.number))
    return _Source(dz, calls)


def _strides(view: View) -> tuple[int, ...]:
    return view.shape[1] * view.dtype.itemsize, view.dtype.itemsize


def _apart(layer: Origin, dz: View, parameters: Sequence[Sequence[View]]) -> bool:
    """Whether what its gradients are made of is none of what the step writes."""
    written = [place_of(view) for parameter in parameters for place, view in enumerate(parameter) if place != 1]
    return not hinder((), written, [place_of(dz), *_ranges_of(layer.call.given["x"])], ())


def _may_lag(step: Origin, states: Sequence[View], calls: Sequence[Origin]) -> bool:
    """Whether nobody but the step looks at states in a turn, and what they are multiplied with stays the same."""
    if isinstance(step.call.given["rho"], Figure) or any(view.block.inner for view in states):
        return False
    kept = [*map(place_of, states)]
    return not any(hinder((), kept, *touched(each.call)) for each in calls if each is not step)


@dataclass(frozen=True, eq=False)
class _Stepped:
    """A parameter, and what its gradient is the product of: as ``steps.Gradient``.

    Where it is written that is done in ``dw``.
    """

    parameter: Sequence[View]
    a: View
    b: View
    dw: View
    exact: bool = False

    @property
    def matrices(self) -> list[View]:
        """Weights and states, vectors as matrices of one row."""
        w, _, *states = self.parameter
        return [view if view.ndim == 2 else _as_row(view) for view in (w, *states)]


def _gradients(layer: Origin, dz: View, by_gradient: Mapping[View, Sequence[View]]) -> list[_Stepped]:
    """Those of a layer's weights, by a dense product, and of its bias."""
    x, (_, dw, db) = layer.call.given["x"], layer.call.results
    found = [] if dw is None or isinstance(x, Sparse) else [_Stepped(by_gradient[dw], x.T, dz, dw)]
    if db is not None:
        found.append(_Stepped(by_gradient[db], _ones(dz.shape[0], dz.dtype).T, dz, db, exact=True))
    return found


def _of_vector(parameter: Sequence[View]) -> _Stepped:
    """That of another layer's vector, whose gradient is written: a product of one number and the gradient."""
    made = parameter[1]
    dw = replace(made, block=Block(made.block.size))
    return _Stepped(parameter, _ones(1, made.dtype), _as_row(made), dw, exact=True)


def _as_row(view: View) -> View:
    """A vector as a matrix of one row."""
    (size,), (stride,) = view.shape, view.strides
    return replace(view, shape=(1, size), strides=(size * stride, stride))


def _ones(count: int, dtype: Any) -> View:
    held = cupy.ones((count, 1), dtype)
    return View.of(held, address(held))


def _is_served(layer: Call) -> bool:
    """Whether its gradients are formed there: large products, which are cuBLAS's or the tensor cores', are not.

    Of CSR matrices there is no other way; the bias is as that of all layers.
    """
    x, dy = layer.given["x"], layer.given["dy"]
    dense = [view for view in (x, dy) if isinstance(view, View)]
    shape = x.shape[1] if len(dense) == 2 else 1, *dy.shape
    most: int = max(*shape, *(abs(stride) // view.dtype.itemsize for view in dense for stride in view.strides))
    largest = cublas.WORK_FROM if _is_exact({dy.dtype}) else tiles.TENSOR_WORK_FROM
    return math.prod(shape) < largest and most <= steps.MOST


def _rest(call: Call, arrays: Sequence[str], parameters: Sequence[Sequence[View]]) -> Call:
    """A step of fewer parameters."""
    lists = {array: list(column) for array, column in zip(arrays, zip(*parameters, strict=True), strict=True)}
    written = tuple(view for name, column in lists.items() if name != "dw" for view in column)
    return replace(call, given={**call.given, **lists}, writes=written)


def _together(call: Call, op: Op, name: str, gradients: Sequence[_Stepped], before: _Before) -> Call:
    """The step of parameters by products that are their gradients."""
    columns = {
        "a": [each.a for each in gradients],
        "b": [each.b for each in gradients],
        "c": [each.matrices[0] for each in gradients],
        "states": [view for each in gradients for view in each.matrices[1:]],
    }
    options = {option: call.given[option] for option in op.options}
    options |= before.options()
    written = (*columns["c"], *columns["states"])
    decays = [each.parameter[0] in before.decays for each in gradients]
    penalties = _Penalized.of(before, gradients)
    run = _StepsRun(name, gradients[0].b.dtype.char, decays, penalties, [each.exact for each in gradients])
    return Call(STEP, {**columns, **options, **penalties.given}, (), (*written, *penalties.loss), run)


class _Penalized(NamedTuple):
    """What penalties add to gradients: the numbers of each, of all their share, and the loss that they add to."""

    numbers: Sequence[tuple[float, float]]
    share: float
    loss: Sequence[View]

    @classmethod
    def of(cls, before: _Before, gradients: Sequence[_Stepped]) -> _Penalized:
        """That of some gradients."""
        known, call = before.penalized, before.penalties
        numbers = [known.get(each.parameter[1], (0.0, 0.0)) for each in gradients]
        if call is None or known.keys().isdisjoint(each.parameter[1] for each in gradients):
            return cls(numbers, 0.0, ())
        return cls(numbers, call.call.given["share"], call.call.given["loss"])

    @property
    def given(self) -> dict[str, View]:
        """What a call is given of it."""
        return {"loss": self.loss[0]} if self.loss else {}

    def of_launch(self, loss: Any) -> steps.Penalties | None:
        """What a launch is told of it."""
        return None if loss is None else steps.Penalties(loss, self.share)


def _by_norm(call: Call, op: Op, name: str, gradients: Sequence[_Stepped], before: _Before) -> list[Call]:
    """The products, and the step by them when their norms are known."""
    assert before.clip is not None
    w, _, *states = ([*column] for column in zip(*(each.parameter for each in gradients), strict=True))
    dw = [each.dw for each in gradients]
    shapes = [(each.a.shape[0], each.b.shape[0], each.b.shape[1]) for each in gradients]
    tiles = steps.squares_of(shapes, w[0].dtype.name)
    squares = View(Block(8 * tiles[-1]), 0, (tiles[-1],), (8,), np.dtype(np.float64))
    products = {"a": [each.a for each in gradients], "b": [each.b for each in gradients]}
    penalties = _Penalized.of(before, gradients)
    products |= {"w": [each.matrices[0] for each in gradients]} if penalties.loss else {}
    exact = [each.exact for each in gradients]
    run_products = partial(_formed, shapes=[view.shape for view in dw], penalties=penalties, exact=exact)
    formed = Call(GRADIENTS, {**products, **penalties.given}, (*dw, squares), (*penalties.loss,), run_products)
    decays, together = [view in before.decays for view in w], BY_NORM[before.clip.call.op]
    run = NormRun(name, w[0].dtype.char, decays, tiles, together)
    options = {option: call.given[option] for option in op.options} | before.options()
    kept = [view for column in states for view in column]
    arrays = {"w": w, "dw": dw, "states": kept, "squares": squares}
    return [formed, Call(call.op, {**arrays, **options}, (), (*w, *kept), run)]


def _formed(
    a: Any,
    b: Any,
    shapes: Sequence[tuple[int, ...]],
    penalties: _Penalized,
    exact: Sequence[bool],
    w: Any = None,
    loss: Any = None,
) -> tuple[Any, ...]:
    """The products in new arrays, and sums of their squares."""
    made = [cupy.empty(shape, one.dtype) for shape, one in zip(shapes, a, strict=True)]
    places = [dw if dw.ndim == 2 else dw.reshape(1, -1) for dw in made]
    weights = [()] * len(made) if w is None else [(each,) for each in w]
    none = [False] * len(made)
    parts = zip(a, b, places, weights, none, penalties.numbers, exact, strict=True)
    products = [steps.Gradient(*each) for each in parts]
    return (*made, steps.gradients(products, penalties.of_launch(loss)))


def _by_rows(
    call: Call, op: Op, name: str, x: Sparse, dz: View, parameter: Sequence[View], before: _Before, later: bool
) -> Call:
    """The step of weights by the product of a CSR matrix that is their gradient."""
    w, _, *states = parameter
    char = w.dtype.char
    options = {option: call.given[option] for option in op.options}
    run = LazyRun(name, char, options, csr.Lag(*w.shape)) if later else _RowsRun(name, char)
    options |= before.options()
    return Call(ROWS_STEP[later], {"x": x, "dz": dz, "w": w, "states": states, **options}, (), (w, *states), run)


class _Run:
    """What makes the call of a step; ``numbers`` tells without launches what numbers each of them has."""

    def __init__(self, name: str, char: str) -> None:
        self._name, self._char = name, char

    def numbers(self, options: Mapping[str, Any]) -> bytes:
        """The step's hyper-parameters as launches are given them."""
        more = [options[name] for name in _BEFORE if name in options]
        numbers = [*STEPS[self._name].numbers(options), *more]
        return pack(f"{len(numbers)}{self._char}", *numbers)

    def _arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The same as arguments of what launches it."""
        before = {name: options[name] for name in _BEFORE if name in options}
        return {"numbers": STEPS[self._name].numbers(options), **before}


class _RowsRun(_Run):
    """That by a CSR matrix."""

    _lag: csr.Lag | None = None

    def __call__(self, x: Any, dz: Any, w: Any, states: Any, **options: Any) -> None:
        csr.step_rows(self._name, x, dz, w, states, lag=self._lag, **self._arguments(options))


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

    def __init__(
        self, name: str, char: str, decays: Sequence[bool], penalties: _Penalized, exact: Sequence[bool]
    ) -> None:
        super().__init__(name, char)
        self._decays, self._penalties, self._exact = decays, penalties, exact

    def __call__(self, a: Any, b: Any, c: Any, states: Any, loss: Any = None, **options: Any) -> None:
        each = len(STEPS[self._name].states)
        parts = [states[place * each : (place + 1) * each] for place in range(len(c))]
        columns = a, b, c, parts, self._decays, self._penalties.numbers, self._exact
        gradients = [steps.Gradient(*given) for given in zip(*columns, strict=True)]
        penalties = self._penalties.of_launch(loss)
        steps.step(self._name, gradients, **self._arguments(options), penalties=penalties)


# What describes the end of a turn, and says how many threads have something to do there.
Turn = Callable[[Any], int]


class NormRun(_Run):
    """That by gradients that are clipped by their norms; ``turn`` may describe what else its launch does."""

    def __init__(self, name: str, char: str, decays: Sequence[bool], tiles: Sequence[int], together: bool) -> None:
        super().__init__(name, char)
        self._how: dict[str, Any] = {"decays": decays, "tiles": tiles, "together": together}

    def __call__(
        self, w: Any, dw: Any, states: Any, squares: Any, most: float, turn: Turn | None = None, **options: Any
    ) -> None:
        """Launch it."""
        columns = [states[first : first + len(w)] for first in range(0, len(states), len(w))]
        parameters = [*zip(w, dw, *columns, strict=True)]
        given = self._arguments(options)
        norm_steps.step(self._name, parameters, squares, limit=most, turn=turn, **self._how, **given)


def _slope(dy: Any, s: Any, y: Any, activation: str) -> Any:
    """dz = dy f'(s)."""
    elementwise = ELEMENTWISE_ACTIVATIONS.get(activation)
    module = import_module(f"fastnn.kernels.cuda.{'softmax' if elementwise is None else 'elementwise'}")
    back: Callable[..., Any] = getattr(module, f"{activation if elementwise is None else elementwise}_backward")
    return back(dy, s, y)


def _back(dz: Any, w: Any, s: Any = None, mask: Any = None, epilogue: Epilogue = PLAIN) -> Any:
    """f(dz @ w.T)."""
    made = cupy.empty((dz.shape[0], w.shape[0]), dz.dtype)
    others = ({} if s is None else {"s": s}) | ({} if mask is None else {"states": (mask,)})
    Product(dz, w.T, made, epilogue, **others)(dz, w.T, made, **others)
    return made


# ---------------------------------------------------------------------------------------------------------- derivatives


def _sloped(calls: list[Origin], slope: Origin, kept: Collection[Block]) -> list[Origin]:
    """With an activation's slope in the epilogue of the product that makes what it is multiplied with.

    Also where a mask comes in between: with that, which the launch that draws it leaves for this one.
    """
    found = slope_of(slope.call)
    assert found is not None
    dy, drop = found.dy, made_by(calls, "dropout_backward", found.dy)
    if drop is not None:
        if not passes(calls, dy, kept, drop, slope):
            return calls
        dy = drop.call.given["dy"]
    behind = slope if drop is None else drop
    made = made_by(calls, BACK, dy)
    if made is None or "s" in made.call.given or not passes(calls, dy, kept, made, behind):
        return calls
    if math.prod((*dy.shape, made.call.given["w"].shape[1])) >= cublas.WORK_FROM:
        return calls
    between = calls[calls.index(made) : calls.index(slope)]
    if is_written(found.s, between):
        return calls
    given, changed = {**made.call.given, "s": found.s}, {id(slope): list[Origin]()}
    if drop is not None:
        drawn = _drawn(calls, drop)
        if drawn is None:
            return calls
        result = drawn.call.results[0]
        given["mask"] = mask = replace(result, block=Block(result.block.size))
        both = replace(drawn.call, results=(result, mask), run=dropout.masked)
        changed |= {id(drop): [], id(drawn): [replace(drawn, call=both)]}
    run = partial(_back, epilogue=epilogues.derivative(found.activation, found.numbers, drop is not None))
    changed[id(made)] = [replace(made, call=Call(BACK, given, slope.call.results, (), run))]
    return [one for each in calls for one in changed.get(id(each), [each])]


def _drawn(calls: Sequence[Origin], back: Origin) -> Origin | None:
    """The call that has drawn the mask of a derivative: that of the same counters, in a new array in C order."""
    same = {name: value for name, value in back.call.given.items() if name != "dy"}
    for each in calls[: calls.index(back)]:
        given = each.call.given
        if each.call.op == "dropout" and all(given[name] == value for name, value in same.items()):
            (y,) = each.call.results
            is_like = (y.shape, y.dtype) == (back.call.results[0].shape, back.call.results[0].dtype)
            return each if y.block.inner and y.contiguous and is_like else None
    return None


def _activated(calls: list[Origin], activation: Origin) -> list[Origin]:
    """With an activation in the epilogue of the layer that makes what it is of, which is written, too."""
    name, z = activation.call.op, activation.call.given["x"]
    layer = made_by(calls, "linear", z)
    if layer is None or layer.call.given["activation"] != "linear" or not isinstance(layer.call.given["x"], View):
        return calls
    between = calls[calls.index(layer) + 1 : calls.index(activation)]
    if is_written(z, between):
        return calls
    given = {operand: layer.call.given[operand] for operand in ("x", "w", "b")}
    epilogue = epilogues.forward(ELEMENTWISE_ACTIVATIONS[name], numbers_of(activation.call, name), True)
    run = partial(_both, epilogue=epilogue)
    both = replace(layer, call=Call("linear", given, (z, *activation.call.results), (), run))
    return [both if each is layer else each for each in calls if each is not activation]


def _both(x: Any, w: Any, b: Any, epilogue: Epilogue) -> tuple[Any, Any]:
    """z = x @ w + b and f(z)."""
    z, y = (cupy.empty((x.shape[0], w.shape[1]), x.dtype) for _ in range(2))
    Product(x, w, y, epilogue, bias=b, s=z)(x, w, y, bias=b, s=z)
    return z, y
