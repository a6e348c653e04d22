"""What becomes of a product's sums before they are written: its epilogue, in C++ from the formulas.

That is bias and activation; an activation's derivative; or an optimizer's step of the weights C by the product as their
gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from fastnn.kernels.cuda import launch
from fastnn.kernels.cuda.cpp import function
from fastnn.kernels.formulas.activations import ACTIVATIONS, MOST_NUMBERS
from fastnn.kernels.formulas.steps import STEPS
from fastnn.kernels.table import NUMBERS

# What an epilogue takes at most: numbers of an activation, or hyper-parameters of a step with what is left of weights
# and the limit of gradients; and parts of a step's state.
STEP_NUMBERS = 2 + max(len(step.hyper) for step in STEPS.values())
MOST_TAKEN = max(MOST_NUMBERS, STEP_NUMBERS)
MOST_STATES = max(len(step.states) for step in STEPS.values())


@dataclass(frozen=True, eq=False)
class Epilogue:
    """What becomes of the sums: C++ that defines ``finished(given, chosen, i, j, sum)`` for a dtype, and its numbers.

    Those are ``chosen`` there; ``taken`` is how many of them each call gives. ``skips_zeros``: it changes nothing where
    the sum is 0. ``catches_up``: there it changes states alone, and ``missed(given, chosen, i, j, steps)`` makes up for
    so many such sums later.
    """

    before: Callable[[str], str]
    numbers: tuple[float, ...] = ()
    taken: int = 0
    skips_zeros: bool = False
    catches_up: bool = False


_FINISHED = """\
FUNCTION real finished(const Product& given, const ProductNumbers& chosen, int64 i, int64 j, real sum) {{
{body}}}
"""

# Nothing: C is the product.
PLAIN = Epilogue(lambda dtype: _FINISHED.format(body="    return sum;\n"))


def taken_of(source: str, count: int) -> list[str]:
    """The first numbers of a structure, as arguments."""
    return [f"{source}.numbers[{place}]" for place in range(count)]


def numbers_of(activation: str) -> tuple[float, ...]:
    """An activation's numbers: their defaults."""
    return tuple(NUMBERS[activation].values())


def _result_of(name: str, arguments: Sequence[str]) -> str:
    """Statements that return what a function of one result makes of arguments."""
    return f"    real result;\n    {name}({', '.join(arguments)}, &result);\n    return result;\n"


@cache
def forward(activation: str, numbers: tuple[float, ...] | None = None, keeps: bool = False) -> Epilogue:
    """C = f(sum + bias), or f(sum) without one; where it ``keeps`` what f is of, that goes to s, of C's shape.

    The activation's ``numbers`` are its defaults where nothing is said.
    """
    entry = ACTIVATIONS[activation]

    def before(dtype: str) -> str:
        body = "    if (given.bias) sum += given.bias[j * given.bias_step];\n"
        body += "    given.s[i * given.s_row + j * given.s_column] = sum;\n" if keeps else ""
        body += _result_of("activate", ["sum", *taken_of("chosen", len(entry.numbers))])
        return function("activate", ("x", *entry.numbers), entry.forward, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, numbers_of(activation) if numbers is None else numbers)


def slope(activation: str, dtype: str) -> str:
    """The source of an activation's derivative: ``slope(dy, s, numbers..., &result)``."""
    entry = ACTIVATIONS[activation]
    return function("slope", ("dy", "s", *entry.numbers), entry.backward, dtype)


@cache
def derivative(activation: str, numbers: tuple[float, ...] | None = None, masked: bool = False) -> Epilogue:
    """C = sum f'(s), s of C's shape: what goes back through a layer; ``numbers`` as of ``forward``.

    One that is ``masked`` is multiplied first with a mask, the one part of a state.
    """
    count = len(ACTIVATIONS[activation].numbers)

    def before(dtype: str) -> str:
        s = "given.s[i * given.s_row + j * given.s_column]"
        dy = "sum * given.states[0][i * given.c_row + j * given.c_column]" if masked else "sum"
        body = _result_of("slope", [dy, s, *taken_of("chosen", count)])
        return slope(activation, dtype) + _FINISHED.format(body=body)

    return Epilogue(before, numbers_of(activation) if numbers is None else numbers)


# Steps without a gradient of a lazy optimizer, one by one: their bits are those of steps that nobody put off.
_MISSED = """\
FUNCTION void missed(const Product& given, const ProductNumbers& chosen, int64 i, int64 j, int64 steps) {{
    real& kept = given.states[0][i * given.c_row + j * given.c_column];
    real state = kept;
    for (real weight, next; steps > 0; steps--, state = next) {{
        update({taken}, real(0), real(0), state, &weight, &next);
        if (next == state) break;
    }}
    kept = state;
}}
"""


def waits(step: str) -> bool:
    """Whether steps of weights without a gradient change their states alone: they may be made later."""
    return STEPS[step].lazy and "rho" in STEPS[step].hyper


@cache
def update(step: str, later: bool = False, decays: bool = False, clips: bool = False) -> Epilogue:
    """C = weights, stepped by the sums as their gradient; states have C's strides, numbers are the step's own.

    Steps that may wait can be made ``later`` where there is no gradient. Where weights decay before the step, what is
    left of each comes behind the step's numbers; where every number of a gradient is clipped, the limit comes last.
    """
    entry = STEPS[step]
    hyper, states = len(entry.hyper), range(len(entry.states))

    def formula(v: Any, *values: Any) -> Any:
        return entry.update(v, values[:hyper], *values[hyper:])

    def before(dtype: str) -> str:
        names = [*(f"h{place}" for place in range(hyper)), "w", "g", *(f"s{place}" for place in states)]
        taken = taken_of("chosen", hyper)
        limit = f"chosen.numbers[{hyper + decays}]"
        weight = f"chosen.numbers[{hyper}] * given.c[at]" if decays else "given.c[at]"
        olds = [
            weight,
            f"clipped(sum, {limit})" if clips else "sum",
            *(f"given.states[{place}][at]" for place in states),
        ]
        news = ["&result", *(f"&state_{place}" for place in states)]
        lines = [
            "const int64 at = i * given.c_row + j * given.c_column;",
            f"real {', '.join(new[1:] for new in news)};",
            f"update({', '.join([*taken, *olds, *news])});",
            *(f"given.states[{place}][at] = state_{place};" for place in states),
            "return result;",
        ]
        body = "".join(f"    {line}\n" for line in lines)
        missed = _MISSED.format(taken=", ".join(taken)) if later else ""
        clipping = launch.header("clip.cuh") if clips else ""
        return clipping + function("update", names, formula, dtype) + missed + _FINISHED.format(body=body)

    taken, skips = hyper + decays + clips, entry.lazy and not waits(step) and not decays
    return Epilogue(before, taken=taken, skips_zeros=skips, catches_up=later)
