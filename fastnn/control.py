"""Branches and loops under Keras's names, as Python runs them: what gradients are wanted of is followed all the way.

They are part of ``fastnn.ops``. A program has the branch and the turns of its recording; a condition on what it records
is refused by name. Structures are tuples, lists and dictionaries of arrays and numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastnn import checks
from fastnn.numerics import stack
from fastnn.tape import Traced, operand_of


def cond(pred: Any, true_fn: Callable[[], Any], false_fn: Callable[[], Any]) -> Any:
    """What one of two functions returns: ``true_fn()`` where the condition holds, else ``false_fn()``."""
    return true_fn() if _holds(pred) else false_fn()


def switch(index: Any, branches: Sequence[Callable[..., Any]], *operands: Any) -> Any:
    """What the branch of a number returns for the operands; the first for smaller numbers, the last for larger ones."""
    if not isinstance(branches, (list, tuple)) or not branches:
        raise TypeError(f"branches: got {checks.describe(branches)}, wants a list of functions, not an empty one")
    chosen = min(max(int(_value(index)), 0), len(branches) - 1)
    return branches[chosen](*operands)


def fori_loop(lower: int, upper: int, body_fun: Callable[[int, Any], Any], init_val: Any) -> Any:
    """The value that ``body_fun(i, value)`` gives in its last turn, for i from ``lower`` up to ``upper``, left out."""
    value = init_val
    for turn in range(checks.integer("lower", lower), checks.integer("upper", upper)):
        value = body_fun(turn, value)
    return value


def while_loop(
    cond: Callable[..., Any], body: Callable[..., Any], loop_vars: Any, maximum_iterations: int | None = None
) -> Any:
    """The variables after as many turns of ``body(*loop_vars)`` as ``cond(*loop_vars)`` holds before."""
    most = None if maximum_iterations is None else checks.integer("maximum_iterations", maximum_iterations, 0)
    several, turns = isinstance(loop_vars, (list, tuple)), 0
    found = tuple(loop_vars) if several else (loop_vars,)
    while (most is None or turns < most) and _holds(cond(*found)):
        made = body(*found)
        found, turns = tuple(made) if isinstance(made, (list, tuple)) else (made,), turns + 1
    return found if several else found[0]


def scan(
    f: Callable[[Any, Any], tuple[Any, Any]],
    init: Any,
    xs: Any = None,
    length: int | None = None,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """(the last carry, all y stacked) of turns (carry, y) = f(carry, x), x along the first axis of xs, or None.

    From the last x to the first in ``reverse``; y stand in the order of xs.
    """
    count = _length("xs", xs) if xs is not None else checks.integer("length", length, 0)
    if length is not None and length != count:
        raise ValueError(f"length: got {length}, wants that of xs, {count}, or None")
    carry, made = init, []
    for place in reversed(range(count)) if reverse else range(count):
        carry, y = f(carry, None if xs is None else _part(xs, place))
        made.append(y)
    return carry, _stacked(made[::-1] if reverse else made)


def map(f: Callable[[Any], Any], xs: Any) -> Any:  # noqa: A001 - Keras's name
    """What f gives for each x along the first axis of xs, stacked."""
    return _stacked([f(_part(xs, place)) for place in range(_length("xs", xs))])


def vectorized_map(function: Callable[[Any], Any], elements: Any) -> Any:
    """What ``map`` gives: one call after the other."""
    return map(function, elements)


def _value(given: Any) -> Any:
    found = operand_of(given)
    while isinstance(found, Traced):
        found = found.value
    return found


def _holds(condition: Any) -> bool:
    return bool(_value(condition))


def _leaves(structure: Any) -> list[Any]:
    if isinstance(structure, Mapping):
        structure = [*structure.values()]
    if isinstance(structure, (list, tuple)):
        return [leaf for each in structure for leaf in _leaves(each)]
    return [structure]


def _length(name: str, xs: Any) -> int:
    """How long all arrays of a structure are."""
    arrays = [operand_of(leaf) for leaf in _leaves(xs)]
    for array in arrays:
        if not getattr(array, "ndim", 0):
            raise TypeError(f"{name}: got {checks.describe(array)}, wants arrays of at least one dimension")
    sizes = {array.shape[0] for array in arrays}
    if len(sizes) != 1:
        raise ValueError(f"{name}: got arrays of lengths {sorted(sizes)}, wants arrays of one length")
    return int(sizes.pop())


def _part(xs: Any, place: int) -> Any:
    return _rebuilt([xs], lambda arrays: operand_of(arrays[0])[place])


def _stacked(made: Sequence[Any]) -> Any:
    """Structures alike as one of arrays along a new first axis; None of none."""
    return None if not made or made[0] is None else _rebuilt(made, lambda leaves: stack([*leaves]))


def _rebuilt(structures: Sequence[Any], function: Callable[[Sequence[Any]], Any]) -> Any:
    """A structure of the function of what each of several has in a place."""
    first = structures[0]
    if isinstance(first, Mapping):
        return {key: _rebuilt([each[key] for each in structures], function) for key in first}
    if isinstance(first, (list, tuple)):
        return type(first)(_rebuilt(leaves, function) for leaves in zip(*structures, strict=True))
    return function(structures)


NAMES = ("cond", "fori_loop", "map", "scan", "switch", "vectorized_map", "while_loop")
