"""Steps of a linear layer on the device: the weights are stepped in the epilogue of dW = X.T @ dZ, which nobody writes.

That asks for weights and states of the same strides, none of which shares memory with what is still to be read.
Anything else is the product, and the steps of w and b one after the other; the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import cupy

from fastnn.kernels.cuda import gemm, launch, optim
from fastnn.kernels.cuda.arrays import finish, like_new
from fastnn.kernels.planned import Planned
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias, step_of
from fastnn.kernels.table.optim import chosen, hyper_of
from fastnn.kernels.table.row import implements


def _in_place(kind: gemm.Kind, step: Op, given: Mapping[str, Any], dz: Any) -> Callable[..., bool] | None:
    """What steps w by X.T @ dZ: of (x, w, states, dz, numbers), whether it did.

    None where arguments like these never allow it.
    """
    (name, (_, _, *names)), x, w = chosen(step, given), given["x"], given["w"]
    states = [given[each] for each in names]
    if any(state.strides != w.strides for state in states):
        return None
    times = kind.transposed_times(x, dz, w, gemm.update(name), states=states)

    are_apart = kind.telling_apart((w, *states), x, (dz,))

    def run(x: Any, w: Any, states: Sequence[Any], dz: Any, numbers: Sequence[float]) -> bool:
        if not are_apart((w, *states), x, (dz,)):
            return False
        times(x, dz, w, states=states, numbers=numbers)
        return True

    return run


def _by_parts(kind: gemm.Kind, step: Op, given: Mapping[str, Any], dz: Any) -> Callable[..., None]:
    """The product, and the step of w by it."""
    shape, dtype = given["w"].shape, given["w"].dtype
    times = kind.transposed_times(given["x"], dz, like_new(shape, dtype))
    step_w = _stepping(step, {**given, "dw": cupy.empty(shape, dtype)})

    def run(given: Mapping[str, Any], dz: Any) -> None:
        dw = cupy.empty(shape, dtype)
        times(given["x"], dz, dw)
        step_w({**given, "dw": dw})

    return run


def _stepping(step: Op, given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], None]:
    """The optimizer's op of arguments like these."""
    names = list(step.signature.parameters)
    planned = getattr(optim, step.name).plan(*(given[name] for name in names))
    return lambda given: planned(*(given[name] for name in names))


def layer_step(op: Op, kind: gemm.Kind) -> Planned:
    """The op of a kind of x."""
    parameters, step = list(op.signature.parameters), step_of(op)

    def named(arguments: Sequence[Any]) -> dict[str, Any]:
        return dict(zip(parameters, arguments, strict=False))

    def touched(given: Mapping[str, Any]) -> list[Any]:
        """What dx must not lie over: x, and what else is read or written behind it."""
        arrays = given["x"], given["dy"], given["y"], given["z"], *(given[name] for name in op.inplace)
        return [array for array in arrays if array is not None]

    def plan(*arguments: Any, dx: Any = None) -> Callable[..., Any]:
        given = dict(zip(parameters, arguments, strict=False))
        dy, x, w, y, b, z = (given[name] for name in ("dy", "x", "w", "y", "b", "z"))
        dz, derive = gemm.deriving(dy, y if z is None else z, y, given["activation"], b is not None)
        shape, dtype = x.shape, w.dtype
        of_x = gemm.multiplying(dz, w.T, like_new(shape, dtype)) if given["need"] else None
        place = None if dx is None else kind.place(dx, shape, dtype, *touched(given))
        in_place = _in_place(kind, step, given, dz)
        by_parts: dict[None, Callable[..., None]] = {}  # planned where it comes to that
        name, (_, _, *states) = chosen(step, given)
        hyper, state_places = hyper_of(name, op, given, tuple), [*map(parameters.index, states)]
        pick = itemgetter(*map(parameters.index, ("dy", "x", "w", "y", "z", "b")))
        bias_places = [parameters.index(of_bias(state)) for state in states]
        step_b = None if b is None else optim.of_one(name, [b, b, *(arguments[at] for at in bias_places)])

        def run(*arguments: Any, dx: Any = None) -> Any:
            dy, x, w, y, z, b = pick(arguments)
            db = None if b is None else cupy.empty(b.shape, dtype)
            dz = derive(dy, y if z is None else z, y, db)
            slope, numbers = None, hyper(*arguments)
            if of_x is not None:  # before w is another
                slope = cupy.empty(shape, dtype) if place is None else place(dx, *touched(named(arguments)))
                of_x(dz, w, slope)
            states = [arguments[at] for at in state_places]
            if in_place is None or not in_place(x, w, states, dz, numbers):
                given = named(arguments)
                launch.known(by_parts, None, lambda: _by_parts(kind, step, given, dz))(given, dz)
            if step_b is not None:
                step_b(numbers, (b, db, *[arguments[at] for at in bias_places]))
            return None if slope is None else finish(slope, dx)

        return run

    return Planned(implements(op.name, plan))


globals().update({name: layer_step(op, gemm.DENSE) for name, op in TABLE.items() if op.module == "linear_steps"})
