"""Activations as layers hold them: an op by its name with its numbers, or a function of the user's.

Those of rows (softmax) work along the last axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from fastnn import ops
from fastnn.differentiation import pullback
from fastnn.engine.protocols import Array
from fastnn.kernels.formulas import activations as formulas
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS


@dataclass(frozen=True)
class Activation:
    """What outputs go through: the op of an activation; without ``numbers`` with its default ones."""

    name: str = "linear"
    numbers: tuple[float, ...] = ()

    @property
    def op(self) -> str:
        """The op's name."""
        return ELEMENTWISE_ACTIVATIONS.get(self.name, self.name)

    @property
    def elementwise(self) -> bool:
        """Whether numbers go through it one by one, not rows as a whole."""
        return self.name in ELEMENTWISE_ACTIVATIONS

    @property
    def needs_input(self) -> bool:
        """Whether its derivative cannot be told from its outputs."""
        return self.elementwise and formulas.ACTIVATIONS[self.op].needs == "x"

    @property
    def flat(self) -> bool:
        """Whether its derivative is 0 almost everywhere, so that nothing below it learns."""
        return self.elementwise and formulas.ACTIVATIONS[self.op].flat

    @property
    def fusable(self) -> bool:
        """Whether kernels know it."""
        return True

    @property
    def in_linear(self) -> bool:
        """Whether the op ``linear`` and its gradients do it as well, from the outputs alone."""
        return self.fusable and not self.numbers and not self.needs_input

    def __call__(self, x: Any) -> Any:
        """Outputs for an array of any shape, or what stands for one in ``fastnn.gradients``."""
        call = getattr(ops, self.op)
        if self.elementwise:
            return call(x, *self.numbers)
        return call(x.reshape(-1, x.shape[-1])).reshape(x.shape)

    def backward(self, dy: Array, x: Array, y: Array) -> Array:
        """From dL/dy: dL/dx, where y is what the activation gives for x."""
        call = getattr(ops, f"{self.op}_backward")
        if self.elementwise:
            dx: Array = call(dy, x, y, *self.numbers)
            return dx
        width = y.shape[-1]
        rows: Array = call(dy.reshape(-1, width), x.reshape(-1, width), y.reshape(-1, width))
        return rows.reshape(y.shape)


@dataclass(frozen=True)
class FunctionActivation(Activation):
    """A function of the user's over arrays: of ops, or with ``backward(dy, x, y)`` of its own."""

    function: Callable[[Any], Any] = lambda x: x

    @property
    def elementwise(self) -> bool:
        """Nobody knows."""
        return False

    @property
    def fusable(self) -> bool:
        """Kernels do not know it."""
        return False

    def __call__(self, x: Any) -> Any:
        """What the function gives, of the dtype of ``x``."""
        y = self.function(x)
        if getattr(y, "shape", None) != x.shape or y.dtype != x.dtype:
            got = f"{type(y).__name__} of shape {getattr(y, 'shape', None)} and dtype {getattr(y, 'dtype', None)}"
            raise ValueError(f"activation: {self.name!r} returned {got}, wants shape {x.shape} and dtype {x.dtype}")
        return y

    def backward(self, dy: Array, x: Array, y: Array) -> Array:
        """What the function's own ``backward`` gives, else what its ops do; TypeError where it is not made of ops."""
        given = getattr(self.function, "backward", None)
        if given is not None:
            dx: Array = given(dy, x, y)
            return dx
        try:
            found: Array = pullback(self.function, x, dy)
        except TypeError as error:
            raise TypeError(
                f"activation: got the function {self.name!r} to train through, wants one made of fastnn.ops, or an "
                f"object that is called with x and has a method backward(dy, x, y) -> dx ({error})"
            ) from error
        return found


LINEAR = Activation()
