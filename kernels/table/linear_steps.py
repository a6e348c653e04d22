"""Steps of a linear layer: an optimizer's op with the layer's gradients formed on the way, a row for each of these."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

from fastnn.kernels.table.elementwise import ACTIVATIONS
from fastnn.kernels.table.gemm import Z_WHERE_NEEDED, not_packed
from fastnn.kernels.table.row import TABLE, Choice, Op, Rule, Subset, grid, op

# Around tiles, and nothing; no more than these: the products have their cases, and so have the steps.
_CASES = grid(n=(0, 33, 5), **{"in": (3, 14, 17), "out": (2, 33, 3)})

# Before the name of the optimizer's op.
_PREFIX = "linear_"


def step_of(row: Op) -> Op:
    """The optimizer's op that a row of this room is made of."""
    return TABLE[row.name.removeprefix(_PREFIX)]


def of_bias(state: str) -> str:
    """The operand that is the bias's part of a state."""
    return f"{state}_b"


def states_of(step: Op) -> tuple[str, ...]:
    """The operands of an optimizer's op that are states."""
    return tuple(name for name in step.operands if name not in ("w", "dw"))


def _rule(state: str) -> Rule:
    name = of_bias(state)
    return Rule(
        name,
        f"given where b and {state} are, and None for all others",
        lambda given: (given[name] is not None) == (given["b"] is not None and given[state] is not None),
    )


def _packed_alike(state: str) -> Rule:
    return Rule(
        state,
        "packed where w is, and as an array where w is one",
        lambda given: given[state] is None or hasattr(given[state], "packed_for") == hasattr(given["w"], "packed_for"),
    )


def _signature(step: Op) -> inspect.Signature:
    """dy, x, w, y, what the step must be given, the bias, all other states, the layer's options, the step's, dx."""
    given = [p for name, p in step.signature.parameters.items() if name not in ("w", "dw")]
    required = [p.name for p in given if p.default is inspect.Parameter.empty]
    defaults: dict[str, Any] = {"b": None}
    for state in states_of(step):
        defaults |= dict.fromkeys([of_bias(state)] if state in required else [state, of_bias(state)])
    defaults |= {"activation": "linear", "z": None, "need": ("dx",)}
    defaults |= {p.name: p.default for p in given if p.name not in (*required, *defaults)}
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    return inspect.Signature(
        [
            *(inspect.Parameter(name, kind) for name in ("dy", "x", "w", "y", *required)),
            *(inspect.Parameter(name, kind, default=default) for name, default in defaults.items()),
            inspect.Parameter("dx", inspect.Parameter.KEYWORD_ONLY, default=None),
        ]
    )


_DOC = """``linear_backward``, then ``{step}`` of w and of b, in place, without dw in memory.

dy, x, y, z and activation are those of ``linear_backward``; w is (in, out) and b (out,) or None. {states}Each tile of
dw = x.T @ dz goes straight into the step. The result is dx (n, in), from w as it was before the step; None where
``need`` is empty, for a first layer needs none. An array given as dx is written into. All other parameters, and what
the step does, are those of ``{step}``. x may be a CSR matrix or array of SciPy's. Packed weights are stepped where they
lie, what is kept of them packed alike.
"""

_STATES = "What ``{step}`` keeps of w is in {of_w}, what it keeps of b in {of_b}. "


def _doc(step: Op) -> str:
    states = states_of(step)
    said = _STATES.format(step=step.name, of_w=", ".join(states), of_b=", ".join(map(of_bias, states)))
    first, *paragraphs = _DOC.format(step=step.name, states=said).split("\n\n")
    return "\n\n".join([first, *(textwrap.fill(" ".join(each.split()), 116) for each in paragraphs)])


def _variants(step: Op) -> list[Mapping[str, Any]]:
    """All of the step's after relu; its first one without a bias, and after an activation that needs z."""
    states = states_of(step)
    left_out = [
        {**variant, **{of_bias(name): None for name in states if variant.get(name, ...) is None}}
        for variant in step.variants
    ]
    plain = {"b": None, **{of_bias(name): None for name in states}, "z": None, "need": ()}
    return [
        *({**variant, "z": None, "activation": "relu"} for variant in left_out),
        {**left_out[0], **plain},
        {**left_out[0], "activation": "gelu"},
    ]


def _enter(step: Op) -> None:
    states = states_of(step)

    def stub() -> None:
        """Stand for the op: its name, signature and docstring follow from the step's."""

    stub.__name__, stub.__doc__ = f"{_PREFIX}{step.name}", _doc(step)
    stub.__signature__ = _signature(step)  # type: ignore[attr-defined]
    biases = tuple(map(of_bias, states))
    of_states: Mapping[str, Any] = {**dict.fromkeys(states, "in out"), "b": "out", **dict.fromkeys(biases, "out")}
    enter = op(
        "linear_steps",
        dy="n out",
        x="n in",
        w="in out",
        y="n out",
        **of_states,
        z="n out",
        returns=("n in",),
        into=("dx",),
        inplace=("w", *states, "b", *biases),
        packed=("w", *states),
        sparse=("x",),
        options={"activation": Choice(ACTIVATIONS), "need": Subset(("dx",)), **step.options},
        rules=(Z_WHERE_NEEDED, not_packed("x", "w"), *step.rules, *map(_rule, states), *map(_packed_alike, states)),
        flops=lambda n, out, **size: 4 * n * size["in"] * out,
        cases=_CASES,
        variants=_variants(step),
        draw={"y": "activation", **step.draw, **{of_bias(name): how for name, how in step.draw.items()}},
    )
    enter(stub)


for _step in [row for row in TABLE.values() if row.module == "optim"]:
    _enter(_step)
