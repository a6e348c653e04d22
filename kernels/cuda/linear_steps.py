"""Steps of a linear layer on the device: the weights are stepped in the epilogue of dW = X.T @ dZ, which nobody writes.

That asks for weights and states of the same strides, none of which shares memory with what is still to be read.
Anything else is the product, and the steps of w and b one after the other; the bits are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import cupy

from fastnn.kernels.cuda import gemm, launch, optim
from fastnn.kernels.cuda.arrays import overlap
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import TABLE, Op, varying
from fastnn.kernels.table.linear_steps import of_bias, states_of, step_of
from fastnn.kernels.table.row import implements


def _fits(w: Any, states: Sequence[Any], sources: Sequence[Any]) -> bool:
    """Whether each number of w and its states can be stepped as soon as its gradient is there."""
    alike = all(state.strides == w.strides for state in states)
    apart = not any(overlap(a, b) for a, b in combinations((w, *states), 2))
    return alike and apart and not any(overlap(a, b) for a in (w, *states) for b in sources)


def _step_weights(kind: gemm.Kind, step: Op, given: Mapping[str, Any], dz: Any) -> None:
    """The step of w by X.T @ dZ."""
    (name, (_, _, *names)), x, w = optim.chosen(step, given), given["x"], given["w"]
    states = [given[each] for each in names]
    if _fits(w, states, (*kind.arrays(x), dz)):
        numbers = STEPS[name].numbers(given)
        kind.transposed_times(x, dz, w, gemm.update(name), states=states, numbers=numbers)
        return
    dw = cupy.empty(w.shape, w.dtype)
    kind.transposed_times(x, dz, dw)
    _step(step, {**given, "dw": dw})


def _step(step: Op, given: Mapping[str, Any]) -> None:
    """The optimizer's op, planned once for arrays alike."""
    arguments = [given[name] for name in step.signature.parameters]
    arrays = [None if given[name] is None else (given[name].shape, given[name].strides) for name in step.operands]
    options = [given[name] for name, spec in step.options.items() if not varying(spec)]
    key = (step.name, given["w"].dtype, *arrays, *options, *launch.surroundings())
    launch.known(_steps, key, lambda: getattr(optim, step.name).plan(*arguments))(*arguments)


# Plans of the steps of arrays that are not stepped by a product.
_steps: dict[Any, Callable[..., None]] = {}


def layer_step(op: Op, kind: gemm.Kind) -> Callable[..., Any]:
    """The op of a kind of x."""
    parameters, step = list(op.signature.parameters), step_of(op)

    def run(*arguments: Any, dx: Any = None) -> Any:
        given = dict(zip(parameters, arguments, strict=False))
        dy, x, w, y, b, z = (given[name] for name in ("dy", "x", "w", "y", "b", "z"))
        db = None if b is None else cupy.empty(b.shape, b.dtype)
        dz = gemm.derived(dy, y if z is None else z, y, given["activation"], db)
        slope = None
        if given["need"]:  # before w is another
            updated = [given[name] for name in op.inplace]
            slope, finished = gemm.placed(dx, x.shape, w.dtype, dy, *kind.arrays(x), y, z, *updated)
            gemm.multiply(dz, w.T, slope)
        _step_weights(kind, step, given, dz)
        if b is not None:
            of_b = {state: given[of_bias(state)] for state in states_of(step)}
            _step(step, {**given, **of_b, "w": b, "dw": db})
        return None if slope is None else finished()

    return implements(op.name, run)


globals().update({name: layer_step(op, gemm.DENSE) for name, op in TABLE.items() if op.module == "linear_steps"})
