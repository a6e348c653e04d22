"""A network of a given shape: its weights in one array, outputs and error over ops, their derivatives as programs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastnn import checks, differentiation, ops

Array = NDArray[Any]
Function = str | Callable[..., Any]

# Activations by R's names, as ops call them.
ACTIVATIONS = {"logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
ERRORS = ("sse", "ce")


class Network:
    """Layers of ``sizes`` units: an activation in hidden ones, and in the last one unless its output is linear.

    Each layer has a matrix (inputs + 1, units) of weights, the intercepts in its first row; all of them lie in
    ``flat``, layer by layer and row by row.
    """

    def __init__(self, sizes: Sequence[int], act_fct: Function, err_fct: Function, linear_output: bool) -> None:
        self.sizes, self.act_fct, self.err_fct, self.linear_output = tuple(sizes), act_fct, err_fct, linear_output
        self.shapes = [(inputs + 1, units) for inputs, units in pairwise(self.sizes)]
        self.flat = np.zeros(sum(rows * units for rows, units in self.shapes))

    def parts(self, flat: Array) -> list[Array]:
        """Numbers as many as there are weights, as the layers' matrices, where they lie."""
        ends = np.cumsum([rows * units for rows, units in self.shapes])
        return [part.reshape(shape) for part, shape in zip(np.split(flat, ends[:-1]), self.shapes, strict=True)]

    def operands(self, flat: Any) -> list[Any]:
        """What ``ops.linear`` takes of each layer, where it lies in ``flat``: weights without intercepts, and these."""
        sizes = [size for rows, units in self.shapes for size in (units, (rows - 1) * units)]
        parts = ops.split(flat, np.cumsum(sizes)[:-1].tolist())
        return [
            operand
            for (_, units), b, w in zip(self.shapes, parts[::2], parts[1::2], strict=True)
            for operand in (w.reshape(-1, units), b)
        ]

    def layers(self, x: Any, operands: Sequence[Any]) -> list[Any]:
        """The values of all layers' units (n, units), those of the last one behind the others."""
        values: list[Any] = []
        for place, (w, b) in enumerate(zip(operands[::2], operands[1::2], strict=True)):
            last = place == len(self.shapes) - 1
            x = self._activated(x, w, b, linear=last and self.linear_output)
            values.append(x)
        return values

    def error(self, x: Any, y: Any, operands: Sequence[Any]) -> Any:
        """The sum of errors over rows and outputs."""
        if self.err_fct == "ce" and self.act_fct == "logistic" and not self.linear_output:
            hidden = self.layers(x, operands)[-2] if len(self.shapes) > 1 else x
            logits = ops.linear(hidden, operands[-2], operands[-1])
            return _whole(ops.binary_cross_entropy(logits, y, from_logits=True), y)
        outputs = self.layers(x, operands)[-1]
        if self.err_fct == "ce":
            return _whole(ops.binary_cross_entropy(outputs, y), y)
        if self.err_fct == "sse":
            return ops.half_sse(outputs, y)[0]
        assert callable(self.err_fct)
        found = self.err_fct(outputs, y)
        found = found[0] if isinstance(found, tuple) else found
        if not hasattr(found, "shape"):
            said = f"got a function that returns {checks.describe(found)} whatever the outputs are"
            raise TypeError(f"err_fct: {said}, wants a number, or one an output, that ops of fastnn.ops make of them")
        if found.shape not in ((), outputs.shape):
            wants = f"a number, or one an output, of shape {outputs.shape}"
            raise ValueError(f"err_fct: got a function that returns an array of shape {found.shape}, wants {wants}")
        return ops.sum(found) if found.shape else found

    def slopes(self, x: Any, y: Any, flat: Any) -> tuple[Any, Any]:
        """(error, its derivatives by the weights that lie in ``flat``)."""
        error, (slopes,) = differentiation.gradients(lambda flat: self.error(x, y, self.operands(flat)), (flat,))
        return error, slopes

    def _activated(self, x: Any, w: Any, b: Any, linear: bool) -> Any:
        if linear:
            return ops.linear(x, w, b)
        if isinstance(self.act_fct, str):
            return ops.linear(x, w, b, ACTIVATIONS[self.act_fct])
        return self.act_fct(ops.linear(x, w, b))


def _whole(loss: Any, y: Any) -> Any:
    """The sum of which a loss is the mean."""
    return loss[0] * float(y.size)


def checked(name: str, function: Any, known: Sequence[str]) -> Function:
    """A function by its name or as a callable."""
    if callable(function):
        return function  # type: ignore[no-any-return]
    if not isinstance(function, str):
        raise TypeError(f"{name}: got {checks.describe(function)}, wants {' or '.join(known)}, or a function over ops")
    return checks.one_of(name, function, known)
