"""The ``call`` of a model of the user's own as one layer, which the engine runs as any other."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from fastnn.configurable import undefined
from fastnn.engine.protocols import Array, Training
from fastnn.layers import Layer, calling

if TYPE_CHECKING:
    from fastnn.models.structure import ModelStructure


class Body(Layer):
    """What ``model.call`` gives; its parameters are the model's own, then those of its layers.

    It is built for one shape, or for several, in a list, which ``names`` may say the names of; and so are outputs.
    """

    def __init__(self, model: ModelStructure) -> None:
        super().__init__(name=model.name)
        self.of = model
        self.names: list[str] | None = None
        self.output_names: list[str] | None = None
        self.outputs: Any = None
        self.row_numbers: Mapping[int, tuple[int, str]] = {}
        self._options: frozenset[str] | None = None

    def call(self, inputs: Any, training: Training = False) -> Any:
        """What the model's call returns; the entries of a dict, and their names are noted."""
        if self._options is None:
            if not callable(getattr(self.of, "call", None)):
                raise undefined(self.of, "call(inputs), or wants inputs and outputs")
            self._options = frozenset(inspect.signature(self.of.call).parameters)  # type: ignore[attr-defined]
        given = inputs if self.names is None else dict(zip(self.names, inputs, strict=True))
        options = {"training": training} if "training" in self._options else {}
        found = self.of.call(given, **options)  # type: ignore[attr-defined]
        if isinstance(found, Mapping):
            self.output_names = [*map(str, found)]
            return tuple(found.values())
        return found

    def _make(self, shape: Any, values: Sequence[Array] | None) -> None:
        self.of.make_own(shape)
        if not self.of.trains_itself or hasattr(self.of, "call"):
            self.outputs, self.row_numbers = calling.tried(self, shape)
        self._gather()

    def _gather(self) -> None:
        """Count the parameters of the model's layers among those of the body, all under paths of their own."""
        own = {id(parameter) for parameter in self.parameters}
        for layer in self.of.layers:
            for parameter in layer.weights:
                if id(parameter) not in own:
                    own.add(id(parameter))
                    self.parameters.append(parameter)
        counts = Counter(parameter.path for parameter in self.parameters)
        for layer in self.of.layers:
            for parameter in layer.weights:
                if counts[parameter.path] > 1:
                    parameter.path = f"{layer.name}/{parameter.path}"
        used: Counter[str] = Counter()
        for parameter in self.parameters:
            used[parameter.path] += 1
            if used[parameter.path] > 1:
                parameter.path = f"{parameter.path}_{used[parameter.path] - 1}"

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Found by a call on zeros."""
        return self.outputs if self.built else calling.output_shape(self, input_shape)
