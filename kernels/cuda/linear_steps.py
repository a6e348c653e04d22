"""Steps of a linear layer on the device: the weights are stepped in the epilogue of dW = X.T @ dZ, which nobody writes.

That asks for weights and states of the same strides, none of which shares memory with what is still to be read.
Anything else is the product, and the steps of w and b one after the other; the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

import cupy

from fastnn.kernels.cuda import epilogues, gemm, optim
from fastnn.kernels.cuda.arrays import finish, is_in_order, like, like_new, remembering
from fastnn.kernels.cuda.chain import Chain, Chains
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias, step_of
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements


class _Stepped(NamedTuple):
    """The step's name, and where among an op's arguments are w, its states, b and its states, by their names."""

    name: str
    of_w: Mapping[str, int]
    of_b: Mapping[str, int]


def _stepped(op: Op, given: Mapping[str, Any]) -> _Stepped:
    """Those of arguments like these."""
    places = {name: place for place, name in enumerate(op.signature.parameters)}
    name, (_, _, *states) = chosen(step_of(op), given)
    of_b = () if given["b"] is None else ("b", *map(of_bias, states))
    return _Stepped(name, {each: places[each] for each in ("w", *states)}, {each: places[each] for each in of_b})


def _in_place(
    kind: gemm.Kind, stepped: _Stepped, given: Mapping[str, Any], gradients: gemm.Gradients
) -> Callable[[Chain, Any], None] | None:
    """What adds gradients to a chain and the steps by them: that of w in the epilogue of the product that is its own.

    None where w and its states have not the same strides, or a bias and its states are not in C order.
    """
    w, *states = (like(given[name]) for name in stepped.of_w)
    of_b = [like(given[name]) for name in stepped.of_b]
    if any(state.strides != w.strides for state in states) or not all(map(is_in_order, of_b)):
        return None
    step_w = kind.transposed_times(
        given["x"], gradients.derivative.like, w, epilogues.update(stepped.name), states=states
    )
    (name_w, *states_w), names_b = stepped.of_w, [*stepped.of_b]

    def build(chain: Chain, which: Any) -> None:
        db = chain.room(of_b[0].shape[0] * w.itemsize) if of_b else ""
        step_w(chain, which, gradients.add(chain, which, db), name_w, states=states_w)
        if of_b:
            optim.add_to(chain, stepped.name, [[of_b[0], *of_b]], [[names_b[0], db, *names_b[1:]]])

    return build


def _by_gradients(stepped: _Stepped, arguments: Sequence[Any]) -> Callable[..., None]:
    """The steps of w and b by gradients that are written: ``step(numbers, arguments, dw, db)``."""

    def planned(places: Sequence[int]) -> Callable[..., None]:
        w, *states = (like(arguments[place]) for place in places)
        step = optim.of_one(stepped.name, [w, like_new(w.shape, w.dtype), *states])

        def run(numbers: bytes, arguments: Sequence[Any], slope: Any) -> None:
            w, *states = (arguments[place] for place in places)
            step(numbers, (w, slope, *states))

        return run

    steps = [planned([*places.values()]) for places in (stepped.of_w, stepped.of_b) if places]

    def run(numbers: bytes, arguments: Sequence[Any], *slopes: Any) -> None:
        for step, slope in zip(steps, slopes, strict=True):
            step(numbers, arguments, slope)

    return run


def _launching(
    kind: gemm.Kind, stepped: _Stepped, given: Mapping[str, Any]
) -> tuple[Chains | None, Chains, gemm.Derivative]:
    """The launches in place, if there may be, those of gradients that are written, and the derivative of both."""
    slopes = (*given["need"], *(["db"] if stepped.of_b else []))
    s = given["y"] if given["z"] is None else given["z"]
    layer = kind, given["dy"], given["x"], given["w"], s, given["activation"]
    gradients, written = gemm.Gradients(*layer, slopes), gemm.Gradients(*layer, (*slopes, "dw"))
    names, build = ("dy", "s", *given["need"]), _in_place(kind, stepped, given, gradients)
    in_place = build and kind.launches((*names, *stepped.of_w, *stepped.of_b), build)
    by_gradients = kind.launches((*names, "w", "dw", *(["db"] if stepped.of_b else [])), written.add)
    return in_place, by_gradients, gradients.derivative


def layer_step(op: Op, kind: gemm.Kind) -> Planned:
    """The op of a kind of x."""
    parameters = list(op.signature.parameters)
    pick = itemgetter(*map(parameters.index, ("dy", "x", "w", "y", "z")))

    def plan(*arguments: Any, dx: Any = None) -> Callable[..., Any]:
        given = dict(zip(parameters, arguments, strict=False))
        dy, x, w, *_ = pick(arguments)
        need, shape, dtype = given["need"], x.shape, w.dtype
        stepped = _stepped(op, given)
        hyper = hyper_of(stepped.name, op, given, optim.packing(stepped.name, dtype))
        # what dx must not lie over, beside x: what else is read, or written behind it
        touched = [parameters.index(name) for name in ("dy", "y", "z", *op.inplace) if given[name] is not None]
        places = gemm.placing_each(kind, (dx,), (shape,), dtype, x, *(arguments[at] for at in touched))

        in_place, by_gradients, derivative = _launching(kind, stepped, given)
        step, sources = _by_gradients(stepped, arguments), derivative.sources
        of_w, of_all = [*stepped.of_w.values()], [*stepped.of_w.values(), *stepped.of_b.values()]
        stepped_of = itemgetter(*of_all) if len(of_all) > 1 else lambda arguments: (arguments[of_all[0]],)
        reads_dy = derivative.activation == "linear"
        are_apart = kind.telling_apart([arguments[at] for at in of_w], x, [dy] if reads_dy else [])

        def is_simple(key: Any, arguments: Sequence[Any], of_x: tuple[Any, Any], dx: Any) -> bool:
            """Whether w can be stepped where it is, and dx written where it is."""
            (dy, x, *_), at_x = pick(arguments), (*of_x[0], *of_x[1])
            steps = [arguments[at].data.ptr for at in of_w]
            if not are_apart(steps, at_x, [dy.data.ptr] if reads_dy else []):
                return False
            return dx is None or places((dx,), at_x, x, *[arguments[at] for at in touched])[0] is dx

        told = remembering(is_simple)

        def run(*arguments: Any, dx: Any = None) -> Any:
            dy, x, w, y, z = pick(arguments)
            addresses, others, which, _held = kind.given("x", x)
            numbers, (of_dy, of_s) = hyper(*arguments), sources(dy, y if z is None else z, y)
            ahead = (*addresses, of_dy.data.ptr, of_s.data.ptr)
            steps = [array.data.ptr for array in stepped_of(arguments)]
            key = (*ahead, *others, *steps) if dx is None else (*ahead, *others, *steps, dx.data.ptr)
            if in_place is not None and told(key, arguments, (addresses, others), dx):
                slope = None
                if need:
                    slope = cupy.empty(shape, dtype) if dx is None else dx
                    ahead = (*ahead, slope.data.ptr)
                in_place((*ahead, *steps), others, which, numbers)
                return slope
            slope, at_x = None, (*addresses, *others)
            if need and dx is None:
                slope = cupy.empty(shape, dtype)
            elif need:
                (slope,) = places((dx,), at_x, x, *[arguments[at] for at in touched])
            if slope is not None:
                ahead = (*ahead, slope.data.ptr)
            if in_place is not None and are_apart(steps[: len(of_w)], at_x, [dy.data.ptr] if reads_dy else []):
                in_place((*ahead, *steps), others, which, numbers)
            else:
                made = [cupy.empty(arguments[at[0]].shape, dtype) for at in (of_w, of_all[len(of_w) :]) if at]
                by_gradients((*ahead, w.data.ptr, *[array.data.ptr for array in made]), others, which)
                step(numbers, arguments, *made)
            return None if slope is None else finish(slope, dx)

        return run

    return Planned(implements(op.name, plan))


globals().update({name: layer_step(op, gemm.DENSE) for name, op in TABLE.items() if op.module == "linear_steps"})
