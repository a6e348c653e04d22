"""Which steps of sequences count: a layer tells it of its outputs, and those behind it are told of their inputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fastnn.engine.protocols import Layer, Training
from fastnn.engine.wiring import Call


class Masks:
    """Those of one forward pass, by the values that they are of; None where all steps count, or nobody knows."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}

    def of(self, values: Sequence[int]) -> list[Any]:
        """Those of some values."""
        return [self._found.get(value) for value in values]

    def passed(self, layer: Layer, call: Call, x: Any, training: Training, activate: bool = True) -> tuple[Any, Any]:
        """(y, what ``backward`` needs) of a call of a layer on x; the mask of y is noted."""
        masks = [self._found.get(value) for value in call.takes]
        mask = masks if call.listed else masks[0]
        forward: Callable[..., tuple[Any, Any]] = layer.forward
        y, kept = forward(x, training, activate, **({"mask": mask} if layer.takes_mask else {}))
        made = layer.compute_mask(x, mask)
        of_each = made if isinstance(made, (list, tuple)) else [made] * len(call.gives)
        self._found |= {value: one for value, one in zip(call.gives, of_each, strict=True) if one is not None}
        return y, kept
