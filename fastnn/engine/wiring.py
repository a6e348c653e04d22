"""How the layers of a network are connected: the values that each call of a layer takes and gives, by number.

The first values are the network's inputs. A layer that is called twice is there once, with two calls. What holds for
each of several inputs or outputs is done with tuples of arrays, and for a single one with the array itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

from fastnn import ops


class Call(NamedTuple):
    """One use of a layer: its place among the layers, values by number, whether it takes a list of arrays or one."""

    layer: int
    takes: tuple[int, ...]
    gives: tuple[int, ...]
    listed: bool = False


@dataclass(frozen=True)
class Wiring:
    """Calls in an order in which they can be made, and the values that are the outputs."""

    inputs: int
    calls: tuple[Call, ...]
    outputs: tuple[int, ...]

    @cached_property
    def is_stack(self) -> bool:
        """Whether each layer takes what the one before gives, and the last one gives the only output."""
        return self == stacked(len(self.calls))

    @cached_property
    def values(self) -> int:
        """How many values there are."""
        return self.inputs + sum(len(call.gives) for call in self.calls)

    @cached_property
    def dropped(self) -> tuple[tuple[int, ...], ...]:
        """By call, the values that nobody needs behind it."""
        last: dict[int, int] = {}
        for place, call in enumerate(self.calls):
            last |= dict.fromkeys((*call.takes, *call.gives), place)
        dropped: list[list[int]] = [[] for _ in self.calls]
        for value, place in last.items():
            if value not in self.outputs:
                dropped[place].append(value)
        return tuple(map(tuple, dropped))

    def behind(self, layers: Collection[int]) -> set[int]:
        """The values that depend on what one of these layers does."""
        found: set[int] = set()
        for call in self.calls:
            if call.layer in layers or not found.isdisjoint(call.takes):
                found.update(call.gives)
        return found

    def only_outputs(self) -> dict[int, int]:
        """By place of an output that nothing else looks at, the call that gives it and nothing else."""
        taken = [value for call in self.calls for value in call.takes]
        return {
            self.outputs.index(call.gives[0]): place
            for place, call in enumerate(self.calls)
            if len(call.gives) == 1 and self.outputs.count(call.gives[0]) == 1 and call.gives[0] not in taken
        }

    def forward(self, inputs: Sequence[Any], run: Callable[[int, Call, Any], Any]) -> list[Any]:
        """The outputs: ``run(place, call, x)`` is what a call gives for x, an array or a list of such."""
        values: list[Any] = [*inputs, *[None] * (self.values - self.inputs)]
        for place, call in enumerate(self.calls):
            taken = [values[value] for value in call.takes]
            given = run(place, call, taken if call.listed else taken[0])
            for value, y in zip(call.gives, each(given), strict=True):
                values[value] = y
            for value in self.dropped[place]:
                values[value] = None
        return [values[value] for value in self.outputs]

    def backward(self, slopes: Sequence[Any], run: Callable[[int, Call, Any], Any]) -> dict[int, Any]:
        """dL/d(value) of values that no call gives, from dL/d(output), None where an output is not looked at.

        ``run(place, call, dy)`` is dL/dx of a call, a list of such, or None; it is not asked where dy is not known.
        Where several calls take a value its gradients add, those of later calls first.
        """
        found: dict[int, Any] = {}
        for value, slope in zip(self.outputs, slopes, strict=True):
            _add(found, value, slope)
        for place, call in reversed([*enumerate(self.calls)]):
            dy = [found.pop(value, None) for value in call.gives]
            dx = run(place, call, dy[0] if len(dy) == 1 else tuple(dy))
            if dx is not None:
                for value, slope in zip(call.takes, dx if call.listed else [dx], strict=True):
                    _add(found, value, slope)
        return found


@cache
def stacked(layers: int) -> Wiring:
    """The wiring of a stack: each layer takes what the one before gives."""
    return Wiring(1, tuple(Call(place, (place,), (place + 1,)) for place in range(layers)), (layers,))


def each(value: Any) -> Sequence[Any]:
    """The entries of a tuple, or what is there in its place."""
    return value if isinstance(value, tuple) else (value,)


def mapped(function: Callable[..., Any], *values: Any) -> Any:
    """The function of arrays, or of the entries of tuples of such, as a tuple."""
    if isinstance(values[0], tuple):
        return tuple(map(function, *values))
    return function(*values)


def _add(found: dict[int, Any], value: int, slope: Any) -> None:
    if slope is not None:
        found[value] = ops.add(found[value], slope) if value in found else slope
