"""Steps of a linear layer: its gradients, then the optimizer's step of the weights and of the bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels.naive import gemm, optim
from fastnn.kernels.table import TABLE, Op
from fastnn.kernels.table.linear_steps import of_bias, states_of, step_of
from fastnn.kernels.table.row import implements


def _layer_step(op: Op) -> Callable[..., Any]:
    step = step_of(op)
    parameters, states = list(op.signature.parameters), states_of(step)
    function = getattr(optim, step.name)

    def run(*arguments: Any, dx: Any = None) -> Any:
        given = dict(zip(parameters, arguments, strict=False))
        operands = {name: given[name] for name in ("dy", "x", "w", "y", "activation", "z")}
        slope, dw, db = gemm.linear_backward(**operands, need=(*given["need"], "dw", "db"), dx=dx)
        options = {name: given[name] for name in step.options}
        function(w=given["w"], dw=dw, **{name: given[name] for name in states}, **options)
        if given["b"] is not None:
            function(w=given["b"], dw=db, **{name: given[of_bias(name)] for name in states}, **options)
        return slope

    return implements(op.name, run)


globals().update({name: _layer_step(op) for name, op in TABLE.items() if op.module == "linear_steps"})
