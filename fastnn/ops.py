"""The functional API: each op of the table, its arguments checked once, run where its arrays live.

The functions of this module are made from ``fastnn.kernels.table``; ``ops.pyi`` beside it, made from the same table,
tells editors and type checkers.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import absent, backends, checks, tape
from fastnn.kernels.table import TABLE, Op, varying

# Plans remembered for an op, by what its arrays are like: a training loop makes the same few calls over and over.
_REMEMBERED = 256

# What of an array the checks look at and plans depend on.
_LIKENESS = ("__class__", "dtype", "shape", "strides", "flags.num")

# The public function of an op. What a call is like is compared with earlier ones by code written out for the op's own
# parameters: a loop over them would take twice as long, and be a large part of a small call.
_FUNCTION = """
def {name}({parameters}):
    try:
        known = (override() or backends.default, {likeness})
        run = remembered.get(known)
    except (AttributeError, TypeError):  # a device array, or what is no array or no option at all
        known = run = None
    if run is None or not ({kept}):
        return checked(known, {given})
    {end}
"""

# How it ends: a loss whose operands must have certain values is NaN where they have not, if its plan is remembered.
_END = "return run({call})"
_END_OF_LOSS = """loss, derivative = run({call})
    return (loss, derivative) if loss == loss else checked(None, {given})"""


def _publish(op: Op) -> Callable[..., Any]:
    """The public function of one row: check and plan, or run as a call like it was planned."""
    arrays = _arrays(op)
    changing = [name for name, spec in op.options.items() if varying(spec)]
    named = [p.name for p in op.signature.parameters.values() if p.kind is inspect.Parameter.KEYWORD_ONLY]
    remembered, by_values = backends.new_plans(), checks.depends_on_values(op)

    def checked(known: Any, given: dict[str, Any]) -> Any:
        if tape.follows(given):
            return tape.record(op.name, call, given, op.inplace, op.into)
        if not all(_is_plain(given[name]) for name in arrays) or not all(_is_number(given[name]) for name in changing):
            known = None
        backend = _home(op, arrays, given)
        checks.operands(op, given)
        for name, spec in op.options.items():
            given[name] = checks.option(name, given[name], spec)
        for rule in op.rules:
            if not rule.holds(given):
                got = checks.describe(given[rule.parameter])
                raise ValueError(f"{rule.parameter}: got {got}, wants it {rule.wants}")
        run = backends.implementation(backend, op.module, op.name)
        keywords = {name: given.pop(name) for name in named}
        if known is not None:
            planned = hasattr(run, "plan")
            if planned:
                run = run.plan(*given.values(), **keywords)
            if planned or not by_values:
                if len(remembered) >= _REMEMBERED:
                    remembered.clear()
                remembered[known] = run
        return run(*given.values(), **keywords)

    parts = _parts(op)
    parts["end"] = (_END_OF_LOSS if by_values else _END).format(**parts)
    space: dict[str, Any] = {"__name__": __name__}
    space |= {
        "override": backends.override.get,
        "backends": backends,
        "remembered": remembered,
        "checked": checked,
        "inf": math.inf,
    }
    exec(compile(_FUNCTION.format(**parts), f"<fastnn.ops.{op.name}>", "exec"), space)  # the table alone writes it
    call: Callable[..., Any] = space[op.name]
    call.__doc__ = op.doc
    call.__signature__ = op.signature  # type: ignore[attr-defined]
    return call


def _arrays(op: Op) -> tuple[str, ...]:
    """The parameters that are arrays."""
    return (*op.operands, *op.into)


def _is_plain(array: Any) -> bool:
    """Whether what is known of a call tells all about this array."""
    return array is None or type(array) is np.ndarray or hasattr(array, "packed_for")


def _is_number(option: Any) -> bool:
    """Whether an option needs no conversion: what is known of a call says of a varying one just its class."""
    return type(option) in (int, float)


def _parts(op: Op) -> dict[str, str]:
    """What the source of an op's function is made of."""
    parameters, call, likeness, kept, named = [], [], [], [], False
    for name, parameter in op.signature.parameters.items():
        required = parameter.default is inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY and not named:
            parameters.append("*")
            named = True
        parameters.append(name if required else f"{name}={parameter.default!r}")
        call.append(f"{name}={name}" if named else name)
        if name in _arrays(op):
            like = ", ".join(f"{name}.{attribute}" for attribute in _LIKENESS)
            likeness.append(like if required else f"None if {name} is None else ({like})")
        elif varying(op.options[name]):
            likeness.append(f"{name}.__class__")
            kept.append(checks.bounds(name, op.options[name]))
        else:
            likeness.append(f"{name}.__class__, {name}")
    return {
        "name": op.name,
        "parameters": ", ".join(parameters),
        "call": ", ".join(call),
        "likeness": ", ".join(likeness),
        "kept": " and ".join(kept) or "True",
        "given": "{" + ", ".join(f"{name!r}: {name}" for name in op.signature.parameters) + "}",
    }


def _home(op: Op, arrays: tuple[str, ...], given: dict[str, Any]) -> str:
    """The backend of the place where the arrays live; raises for what is no array and for arrays in two places."""
    homes: dict[str, str] = {}
    for name in arrays:
        array = given[name]
        if type(array) is np.ndarray:
            homes["host"] = name
        elif array is None and (name in op.into or op.optional(name)):
            continue
        elif name in op.packed and hasattr(array, "packed_for"):
            homes["host"] = name
            if backends.current() != array.packed_for:
                raise TypeError(f"{name}: got {array!r}, wants an array while the backend is {backends.current()!r}")
        elif hasattr(array, "__cuda_array_interface__"):
            homes["device"] = name
        elif isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray):
            given[name] = array.view(np.ndarray)
            homes["host"] = name
        else:
            raise TypeError(f"{name}: got {checks.describe(array)}, wants a NumPy or CuPy array")
    if len(homes) > 1:
        raise TypeError(
            f"{homes['device']}: got a CuPy array beside the NumPy array {homes['host']}, wants all arrays in one "
            "place (cupy.asarray or cupy.asnumpy copies; fastnn never copies between host and device by itself)"
        )
    if "device" in homes:
        return "cuda"
    chosen = backends.current()
    if chosen == "cuda":
        raise TypeError(f"{homes['host']}: got a NumPy array, wants a CuPy array while the backend is 'cuda'")
    return chosen


def pack(w: Any) -> Any:
    """Weights (in, out) laid out as the kernels read them fastest, for ``linear`` (w) and ``matmul`` (b).

    Pays where the same weights meet many batches. A copy: later changes of ``w`` do not reach it, but
    ``linear_backward`` takes it, and steps such as ``linear_rmsprop_step`` step it in place, with what they keep of it
    packed alike; ``unpack`` reads it. float32 or float64, any strides; on the "cpu" backend only. Raises TypeError and
    ValueError as the ops do.
    """
    backend = backends.current()
    if backend != "cpu":
        raise TypeError(f"w: got {checks.describe(w)}, wants the backend 'cpu' to pack it for, not {backend!r}")
    checks.matrix("w", w)
    panels = backends.implementation("cpu", "gemm", "Panels")
    return panels(w)


def unpack(packed: Any) -> Any:
    """Packed weights as a new array (in, out) in C order. Raises TypeError for what ``pack`` has not made."""
    if not hasattr(packed, "packed_for"):
        raise TypeError(f"packed: got {checks.describe(packed)}, wants what pack returned")
    return packed.array()


__all__ = sorted([*TABLE, "pack", "unpack"])
globals().update({name: _publish(op) for name, op in TABLE.items()})
absent.explain(__name__)
