"""Dense layers whose product is said by an equation of axes."""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from typing import Any

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.activations import LINEAR
from fastnn.layers.base import Activated, BatchShape

_EQUATION = re.compile(r"(\.\.\.)?([a-zA-Z]+)(\.\.\.)?,([a-zA-Z]+)->(\.\.\.)?([a-zA-Z]+)(\.\.\.)?")


class EinsumDense(Activated):
    """y = activation(einsum(equation, x, kernel) + bias), with "abc,cd->abd" or "...x,xy->...y" as ``equation``.

    ``output_shape`` has the sizes of y's axes but the batch's and those in "...", None where x says them. The kernel
    has an axis for each of its letters. ``bias_axes`` are the letters of y that the bias differs along; it has no axes
    before the first of them, and length 1 along others. There is no bias without them.
    """

    def __init__(
        self,
        equation: str,
        output_shape: int | Sequence[int | None],
        activation: Any = None,
        bias_axes: str | None = None,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        found = _EQUATION.fullmatch(checks.instance("equation", equation, str, "a string"))
        parts: list[str] = [*found.groups("")] if found else [""] * 7
        before, self._x, behind, self._kernel, first, self._y, last = parts
        if found is None or (before, behind) != (first, last) or (before and behind):
            wants = "one such as 'abc,cd->abd', '...x,xy->...y' or 'ab...,bc->ac...'"
            raise ValueError(f"equation: got {equation!r}, wants {wants}")
        self.equation, self._left, self._elides = equation, bool(before), bool(before or behind)
        sizes = output_shape if isinstance(output_shape, (list, tuple)) else [output_shape]
        self.sizes = [None if size is None else checks.positive_int("output_shape", size) for size in sizes]
        self.bias_axes = bias_axes
        for argument, letters, known in (
            ("equation", self._y, self._x + self._kernel),
            ("equation", self._kernel, self._x + self._y),
            ("bias_axes", bias_axes or "", self._y),
        ):
            if not {*letters} <= {*known}:
                raise ValueError(f"{argument}: got {letters!r} in {equation!r}, wants letters of {known!r}")
        self.activation = activation
        self.kernel_initializer = initializers.get(kernel_initializer, "kernel_initializer")
        self.bias_initializer = initializers.get(bias_initializer, "bias_initializer")
        self.kernel_regularizer = regularizers.get(kernel_regularizer, "kernel_regularizer")
        self.bias_regularizer = regularizers.get(bias_regularizer, "bias_regularizer")
        self.kernel_constraint = constraints.get(kernel_constraint, "kernel_constraint")
        self.bias_constraint = constraints.get(bias_constraint, "bias_constraint")
        super().__init__(**options)

    def _letters(self, rank: int) -> tuple[str, str, str]:
        """Those of x, of the axes in its "...", and of y, for inputs of so many axes."""
        spare = [letter for letter in string.ascii_letters if letter not in self._x + self._kernel + self._y]
        elided = "".join(spare[: max(rank - len(self._x), 0)])
        if self._left:
            return elided + self._x, elided, elided + self._y
        return self._x + elided, elided, self._y + elided

    def _axes(self, input_shape: BatchShape) -> tuple[dict[str, int | None], str]:
        """The sizes of all axes by their letters, and those of y; ValueError where they do not fit."""
        shape = tuple(input_shape)
        x, elided, y = self._letters(len(shape))
        known = dict(zip(x, shape, strict=False))
        own = [letter for letter in y[1:] if letter not in elided] if elided or not self._left else [*y[1:]]
        given = dict(zip(own, self.sizes, strict=False))
        unlike = [name for name, size in given.items() if known.get(name) not in (None, size) and size is not None]
        if len(x) != len(shape) or (elided and not self._elides) or len(own) != len(self.sizes) or unlike:
            wants = f"what {self.equation!r} makes {self.sizes} of"
            raise ValueError(f"{self.name}: got input shape {shape}, wants {wants}")
        known |= {name: size for name, size in given.items() if size is not None or name not in known}
        return known, y

    def build(self, input_shape: Any) -> None:  # type: ignore[override] # the base's takes what a user's does not
        """Make the kernel and the bias."""
        known, _ = self._axes(input_shape)
        kernel = [known.get(letter) for letter in self._kernel]
        if None in kernel:
            got = f"input shape {tuple(input_shape)}"
            raise ValueError(f"{self.name}: got {got}, wants known sizes of {self._kernel!r} in {self.equation!r}")
        made = self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint
        self._add("kernel", kernel, *made)
        if self.bias_axes:
            first = min(self._y.index(letter) for letter in self.bias_axes)
            shape = [known[letter] if letter in self.bias_axes else 1 for letter in self._y[first:]]
            ones = [] if self._left else [1] * (len(input_shape) - len(self._x))
            self._add("bias", [*shape, *ones], self.bias_initializer, self.bias_regularizer, self.bias_constraint)

    def _add(self, name: str, shape: Any, initializer: Any, regularizer: Any, constraint: Any) -> None:
        self.add_weight(shape, initializer, regularizer=regularizer, constraint=constraint, name=name)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The sizes of y's axes."""
        known, y = self._axes(input_shape)
        return (input_shape[0], *(known[letter] for letter in y[1:]))

    def call(self, inputs: Any) -> Any:
        """The product, with the bias, activated."""
        x, _, y = self._letters(inputs.ndim)
        kernel, *bias = self.parameters
        z = ops.einsum(f"{x},{self._kernel}->{y}", inputs, kernel)
        z = ops.add(z, bias[0]) if bias else z
        return z if self._activation is LINEAR else self._activation(z)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {
            "equation": self.equation,
            "output_shape": self.sizes,
            "activation": activations.serialize(self.activation),
            "bias_axes": self.bias_axes,
        }
        for name in ("kernel", "bias"):
            config |= {
                f"{name}_initializer": initializers.serialize(getattr(self, f"{name}_initializer")),
                f"{name}_regularizer": configurable.serialize(getattr(self, f"{name}_regularizer"), regularizers.NAMES),
                f"{name}_constraint": constraints.serialize(getattr(self, f"{name}_constraint")),
            }
        return {**config, **super().get_config()}
