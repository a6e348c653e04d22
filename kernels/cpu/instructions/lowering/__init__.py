"""From calls of ops to instructions: what a program's replay walks, and the memory that it works in.

``LOWERED`` says how. What has no instructions, or has operands that they do not take (strided ones, bytes),
is called as it was recorded, between two stretches of instructions.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastnn.kernels.cpu import random
from fastnn.kernels.cpu.instructions import bags, pooled_convolution, replay
from fastnn.kernels.cpu.instructions.lowering.elementwise import (
    lower_add,
    lower_backward,
    lower_forward,
    lower_prelu,
    lower_prelu_backward,
    lower_reshape,
    lower_scaled,
    lower_zeros,
)
from fastnn.kernels.cpu.instructions.lowering.instructions import Lowering
from fastnn.kernels.cpu.instructions.lowering.losses import lower_loss, lower_penalty
from fastnn.kernels.cpu.instructions.lowering.noted import (
    NOTED,
    lower_as_run,
    lower_choice_backward,
    lower_embedding_mask,
    lower_max_pool_backward,
    lower_mean_of_rows,
    lower_noted,
    lower_pair_noted,
)
from fastnn.kernels.cpu.instructions.lowering.products import (
    lower_column_sums,
    lower_linear,
    lower_linear_backward,
    lower_linear_step,
    lower_matmul,
)
from fastnn.kernels.cpu.instructions.lowering.rows import (
    lower_dropout,
    lower_embedding,
    lower_embedding_backward,
    lower_gather,
    lower_indexed_rows,
    lower_put,
    lower_random,
    lower_scatter,
)
from fastnn.kernels.cpu.instructions.lowering.steps import lower_step
from fastnn.kernels.cpu.instructions.replay import Kind
from fastnn.kernels.cpu.simd.elementwise import ROW_CODES
from fastnn.kernels.formulas.pairs import CHOICES, PAIRS
from fastnn.kernels.graph import GATHER, PUT, Call
from fastnn.kernels.table import TABLE
from fastnn.kernels.table.losses import LOSSES

# One core's nanoseconds for a calculation.
_NS_PER_CALCULATION = 5.0


def _calculated(code: int, to: Lowering, call: Call) -> None:
    a, b, (result,) = call.given["a"], call.given["b"], call.results
    places: dict[str, Any] = {"k": a.place, "m": b.place, "figure": result.place}
    if not result.early:
        takes = [a.place, b.place]
        to.add(Kind.CALCULATION, _NS_PER_CALCULATION, takes=takes, makes=[result.place], code=code, **places)


_Lower = Callable[[Lowering, Call], None]


def _with(function: Callable[..., None], first: Any) -> _Lower:
    return lambda to, call: function(first, to, call)


# How a call becomes instructions, by its op or by what is calculated.
LOWERED: dict[str, _Lower] = {
    GATHER: lower_gather,
    PUT: lower_put,
    "matmul": lower_matmul,
    "linear": lower_linear,
    "linear_backward": lower_linear_backward,
    "column_sums": lower_column_sums,
    "add": lower_add,
    "scaled": _with(lower_scaled, replay.TIMES),
    "divided": _with(lower_scaled, replay.OVER),
    **dict.fromkeys(PAIRS.keys() - {"add"}, lower_pair_noted),
    "reshape": lower_reshape,
    "zeros": lower_zeros,
    **dict.fromkeys(("dropout", "dropout_backward"), lower_dropout),
    **dict.fromkeys(random.CODES, lower_random),
    "prelu": lower_prelu,
    "prelu_backward": lower_prelu_backward,
    "l1_l2_penalty": lower_penalty,
    "gather": lower_indexed_rows,
    "gather_backward": lower_scatter,
    "embedding": lower_embedding,
    "embedding_backward": lower_embedding_backward,
    **dict.fromkeys(NOTED, lower_noted),
    "max_pool2d_backward": lower_max_pool_backward,
    "embedding_mask": lower_embedding_mask,
    **dict.fromkeys((bags.MEAN, bags.MEAN_BACKWARD), lower_mean_of_rows),
    **dict.fromkeys((pooled_convolution.POOLED, pooled_convolution.POOLED_BACKWARD), lower_as_run),
    **dict.fromkeys((f"{name}_backward" for name in CHOICES), lower_choice_backward),
    **{name: _with(lower_forward, name) for name in ROW_CODES},
    **{f"{name}_backward": _with(lower_backward, name) for name in ROW_CODES},
    **dict.fromkeys(LOSSES, lower_loss),
    **{name: lower_step for name, op in TABLE.items() if op.module == "optim"},
    **{name: lower_linear_step for name, op in TABLE.items() if op.module == "linear_steps"},
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
