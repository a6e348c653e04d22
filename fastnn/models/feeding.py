"""What models are given: ``x``, ``y`` and ``sample_weight``, checked against the model and each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastnn import checks
from fastnn.engine import (
    DataSet,
    index_source,
    input_source,
    numeric_array,
)
from fastnn.engine.data import DenseSource, Source, Sources, sources_of
from fastnn.engine.protocols import Array, Shape
from fastnn.layers.base import agree, refuse_symbols
from fastnn.layers.symbols import BatchShape
from fastnn.losses.base import AddedLoss
from fastnn.models.arguments import (
    by_name,
    class_weight_of,
    sample_weight_of,
)
from fastnn.models.body import Body
from fastnn.models.compiled import CompiledModel


class FedModel(CompiledModel):
    """What a model is given, checked: inputs, targets and weights as the samples that the engine takes."""

    def _source(self, name: str, x: Any) -> Source:
        """The checked input ``x``; ValueError where samples do not have the shape that the model is made for."""
        if x is None:
            raise ValueError(f"{name}: got None, wants an array of samples")
        refuse_symbols(name, x)
        if self._is_empty:
            raise ValueError("layers: got a model without layers, wants at least one (model.add)")
        if not self._knows_outputs:
            self._build_by_data(name, x)
        self._judge_as_built()
        shapes = self._bottom_shapes()
        given = x if shapes is None else self._inputs_in_order(name, x)
        if shapes is None or len(shapes) == 1:
            return self._one_source(name, given, shapes and shapes[0], 0)
        labels = self.input_names
        found = {
            label: self._one_source(f"{name}[{label!r}]", array, shape, place)
            for place, (label, array, shape) in enumerate(zip(labels, given, shapes, strict=True))
        }
        for label, source in found.items():
            rows = found[labels[0]].rows
            if source.rows != rows:
                raise ValueError(f"{name}[{label!r}]: got {source.rows} rows, wants {rows}, as many as {labels[0]!r}")
        return Sources(found)

    def _build_by_data(self, name: str, x: Any) -> None:
        """Build for what is given as ``x``: an array, or a list, tuple or dict of such."""
        if isinstance(x, Mapping):
            self.build({label: _batch_of(f"{name}[{label!r}]", array) for label, array in x.items()})
        elif isinstance(x, (list, tuple)) and x and all(hasattr(array, "shape") for array in x):
            self.build([_batch_of(f"{name}[{place}]", array) for place, array in enumerate(x)])
        else:
            self.build(_batch_of(name, x))

    def _one_source(self, name: str, x: Any, bottom: Any, place: int) -> Source:
        """The samples of one input; integers where a layer that it feeds takes row numbers."""
        layers, wiring = self.wired()
        fed = [(layers[call.layer], call.takes.index(place)) for call in wiring.calls if place in call.takes]
        counting = next(filter(None, (_indices_of(layer, argument) for layer, argument in fed)), None)
        if counting is None:
            source: Source = input_source(name, x, self.compute_dtype)
        else:
            source = index_source(name, x, *counting)
        if isinstance(source, DenseSource) and source.sample_shape == ():
            source = DenseSource(source.array[:, np.newaxis], source.dtype, source.counts)
        if bottom is not None and not agree(source.sample_shape, bottom[1:]):
            wanted = ", ".join(["n", *("any" if size is None else str(size) for size in bottom[1:])])
            raise ValueError(
                f"{name}: got shape {(source.rows, *source.sample_shape)}, wants ({wanted}), the model's input"
            )
        return source

    def _sample_shapes_out(self, source: Source) -> list[Shape]:
        """Shapes of a sample of each output."""
        shape = self._output_shape(_shape_of(source))
        return [tuple(size or 0 for size in each[1:]) for each in (shape if isinstance(shape, list) else [shape])]

    def _build_for(self, source: Source | None) -> None:
        """Make the weights, if they are not made yet, for inputs such as ``source``."""
        if not self.built:
            self.build(None if source is None else _shape_of(source))

    def _data_set(
        self,
        names: tuple[str, str, str],
        x: Any,
        y: Any,
        sample_weight: Any,
        class_weight: Mapping[int, float] | None,
        stacklevel: int = 6,
    ) -> DataSet:
        """Samples, targets and weights, checked against the model and each other; nothing of the model is changed."""
        x_name, y_name, weight_name = names
        source = self._source(x_name, x)
        if source.rows == 0:
            raise ValueError(f"{x_name}: got no samples, wants at least one")
        if y is None and (self.loss is not None or not self._may_add_losses()):
            raise ValueError(f"{y_name}: got None, wants the targets of {x_name}")
        if y is None and not self.trains_itself:
            y = np.zeros((source.rows, 1))
        if sample_weight is not None and class_weight is not None:
            raise ValueError("class_weight, sample_weight: got both, wants one of them")
        if self.trains_itself and self.loss is None:
            return self._unjudged(source, names, y, sample_weight)
        shapes = self._sample_shapes_out(source)
        self._warn_of_outputs([(None, *shape) for shape in shapes], stacklevel)
        if self._heads and self.loss is not None:
            if class_weight is not None:
                raise ValueError("class_weight: got one for a model of several outputs, wants sample_weight by output")
            return self._of_heads(source, shapes, names, y, sample_weight)
        if isinstance(y, Mapping):
            (y,) = by_name(y_name, y, self.output_names, "output")
        outputs, loss = shapes[0], self.loss or AddedLoss()
        targets = _targets(y_name, y, source, x_name)
        targets = loss.check_targets(y_name, targets, outputs, self.compute_dtype)
        weight = None
        if sample_weight is not None:
            weight = sample_weight_of(weight_name, sample_weight, (source.rows, *outputs[:-1]), self.compute_dtype)
        elif class_weight is not None:
            weight = class_weight_of(class_weight, targets, outputs[-1])
        dtype = np.int64 if loss.integer_targets else self.compute_dtype
        return DataSet(source, targets, weight, dtype, weight_dtype=self.compute_dtype)

    def _unjudged(self, source: Source, names: tuple[str, str, str], y: Any, sample_weight: Any) -> DataSet:
        """The data set of a model whose own steps know what to make of targets, if there are any."""
        x_name, y_name, weight_name = names
        targets = None if y is None else _targets(y_name, y, source, x_name)
        weight = None
        if sample_weight is not None:
            weight = sample_weight_of(weight_name, sample_weight, (source.rows,), self.compute_dtype)
        kind = self.compute_dtype if targets is None or targets.dtype.kind == "f" else targets.dtype
        return DataSet(source, targets, weight, kind, weight_dtype=self.compute_dtype)

    def _of_heads(
        self, source: Source, shapes: Sequence[Shape], names: tuple[str, str, str], y: Any, sample_weight: Any
    ) -> DataSet:
        """The data set of a model of several outputs: targets and weights of those that are judged."""
        x_name, y_name, weight_name = names
        heads = [head for head in self._heads if head.loss is not None or head.metrics or head.weighted_metrics]
        labels = self.output_names
        used = {head.name for head in heads}
        given = dict(zip(labels, by_name(y_name, y, labels, "output", used), strict=True))
        weights = dict.fromkeys(labels, sample_weight)
        if isinstance(sample_weight, (Mapping, list, tuple)):
            weights = dict(zip(labels, by_name(weight_name, sample_weight, labels, "output", set()), strict=True))
        dtype = self.compute_dtype
        targets, kinds, factors = [], [], []
        for head in heads:
            argument, shape = f"{y_name}[{head.name!r}]", shapes[head.output]
            array = _targets(argument, given[head.name], source, x_name)
            if head.loss is not None:
                array = head.loss.check_targets(argument, array, shape, dtype)
            targets.append(array)
            kinds.append(np.int64 if head.loss is not None and head.loss.integer_targets else dtype)
            weight = weights[head.name]
            if weight is not None:
                lead = (source.rows, *shape[:-1])
                weight = sample_weight_of(f"{weight_name}[{head.name!r}]", weight, lead, dtype)
            factors.append(np.ones(source.rows, dtype) if weight is None else weight)
        weighted = any(weight is not None for weight in weights.values())
        return DataSet(source, tuple(targets), tuple(factors) if weighted else None, tuple(kinds), weight_dtype=dtype)

    def _validation(self, data: DataSet, share: float, validation_data: Any) -> tuple[DataSet, DataSet | None]:
        """The training and the validation set."""
        if validation_data is not None:
            if not isinstance(validation_data, (tuple, list)) or len(validation_data) not in (2, 3):
                got = checks.describe(validation_data)
                raise TypeError(f"validation_data: got {got}, wants (x, y) or (x, y, sample_weight)")
            x, y, weight = (*validation_data, None)[:3]
            names = ("validation_data[0]", "validation_data[1]", "validation_data[2]")
            validation = self._data_set(names, x, y, weight, None)
            shapes = validation.x.sample_shape, data.x.sample_shape
            if shapes[0] != shapes[1]:
                raise ValueError(
                    f"validation_data[0]: got samples of shape {shapes[0]}, wants {shapes[1]}, as those in x"
                )
            return data, validation
        if share == 0:
            return data, None
        row = math.floor(data.rows * (1 - share))
        if row in (0, data.rows):
            raise ValueError(
                f"validation_split: got {share}, which leaves {row} of {data.rows} samples to train on, wants a share "
                "that leaves some for training and some for validation"
            )
        return data.split(row)


def _batch_of(name: str, x: Any) -> BatchShape:
    """The shape of batches of what is given as data: numbers are samples of one number."""
    shape = x.shape if hasattr(x, "shape") else numeric_array(name, x).shape
    return (None, *(shape[1:] or (1,)))


def _indices_of(layer: Any, argument: int) -> tuple[int, str] | None:
    """How many rows there are where a layer takes row numbers, and the name of who does; None where it takes others."""
    if isinstance(layer, Body):
        return layer.row_numbers.get(argument)
    return None if layer.indices is None else (layer.indices, layer.name)


def _shape_of(source: Source) -> Any:
    """Shape of a batch of a source, or a list of those of several."""
    shapes: list[BatchShape] = [(None, *each.sample_shape) for each in sources_of(source)]
    return shapes if isinstance(source, Sources) else shapes[0]


def _targets(y_name: str, y: Any, source: Source, x_name: str) -> Array:
    """Targets as an array, as many as samples."""
    targets = numeric_array(y_name, y)
    if len(targets) != source.rows:
        raise ValueError(f"{y_name}: got {len(targets)} rows, wants {source.rows}, as many as {x_name}")
    return targets
