"""Every layer as nodes of a graph.

An exporter takes the graph, a built layer, a tensor or a list of such, and the mask of a tensor's steps (n, t), None
where all count; it gives a tensor. A layer without one that is made of ``fastnn.ops`` is written op by op.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from typing import Any

import numpy as np

from fastnn import layers
from fastnn.engine.activations import Activation
from fastnn.engine.protocols import Array
from fastnn.layers.base import Layer, Operation
from fastnn.layers.cells import Cell
from fastnn.layers.merging import Elementwise
from fastnn.layers.normalization import LEAST_DEVIATION
from fastnn.layers.recurrent import RNN
from fastnn.models import Model
from fastnn.onnx import operators, recorded, recurrent
from fastnn.onnx.graph import Graph, Tensor
from fastnn.onnx.operators import UnsupportedError, activated, pairwise

Exporter = Callable[[Graph, Any, Any, Any], Any]


def write_model(graph: Graph, model: Model, given: list[Tensor]) -> list[Tensor]:
    """The outputs of a model for its inputs, layers named."""
    inner, wiring = model.wired()
    masks: dict[int, Tensor] = {}

    def run(place: int, call: Any, x: Any) -> Any:
        layer = inner[call.layer]
        of_each = [masks.get(value) for value in call.takes]
        mask = None if call.listed else of_each[0]
        y = write_layer(graph, layer, x, mask)
        made = _mask_of_several(graph, layer, of_each) if call.listed else _mask_behind(graph, layer, x, mask)
        if made is not None:
            masks.update(dict.fromkeys(call.gives, made))
        return y

    return wiring.forward(given, run)


def write_layer(graph: Graph, layer: Layer, given: Any, mask: Tensor | None = None) -> Any:
    """What a layer gives for a tensor or a list of such; ValueError, which names it, for what ONNX cannot say."""
    try:
        with graph.within(f"{graph.scope}/{layer.name}" if graph.scope else layer.name):
            return _exporter(layer)(graph, layer, given, mask)
    except UnsupportedError as error:
        raise ValueError(f"{layer.name}: got {error}") from error


def _write_inner(graph: Graph, operation: Operation, given: Any) -> Any:
    """What a layer or a model gives inside of another one's call."""
    if not isinstance(operation, Model):
        return write_layer(graph, operation, given)  # type: ignore[arg-type]
    made = write_model(graph, operation, given if isinstance(given, list) else [given])
    return made[0] if len(made) == 1 else tuple(made)


def _exporter(layer: Layer) -> Exporter:
    """That of the layer's class, or of the next one above it whose pass it has; else its pass is followed."""
    for kind in type(layer).__mro__:
        if kind in EXPORTERS:
            return EXPORTERS[kind]
        if {"call", "forward"} & vars(kind).keys():
            break
    if not layer._by_call and not layer.recordable:
        raise UnsupportedError(
            f"a {type(layer).__name__} with a pass in Python, wants a layer with call over fastnn.ops"
        )
    return _followed


def _followed(graph: Graph, layer: Layer, x: Any, mask: Any) -> Any:
    if layer.takes_mask and mask is not None:
        raise UnsupportedError("a mask to a layer of the user's, wants none")
    made = recorded.write(graph, lambda given: layer.forward(given, False)[0], x, _write_inner)
    return made[0] if len(made) == 1 else tuple(made)


def _mask_of_several(graph: Graph, layer: Layer, masks: Sequence[Tensor | None]) -> Tensor | None:
    """Which steps count of what a layer makes of several inputs."""
    told = [mask for mask in masks if mask is not None]
    if not told or (isinstance(layer, Elementwise) and len(told) < len(masks)):
        return None
    if not isinstance(layer, Elementwise):
        raise ValueError(f"{layer.name}: got inputs with masks, wants none for ONNX where several inputs come together")
    with graph.within(layer.name):
        return reduce(lambda a, b: a if a is b else graph.put("Or", a.shape, a.name, b.name), told)


def _mask_behind(graph: Graph, layer: Layer, x: Any, mask: Tensor | None) -> Tensor | None:
    """Which steps of the outputs count."""
    with graph.within(layer.name):
        if isinstance(layer, layers.Embedding):
            return _indices_above_0(graph, x) if layer.mask_zero and x.rank == 2 else None
        if isinstance(layer, layers.Masking):
            return _differing(graph, layer, x)
    if isinstance(layer, (RNN, layers.Bidirectional)):
        return mask if layer.return_sequences else None
    if mask is not None and type(layer).compute_mask is not Layer.compute_mask:
        raise ValueError(f"{layer.name}: got a mask that the layer changes in Python, wants a layer that hands it on")
    return mask if layer.supports_masking else None


def _indices_above_0(graph: Graph, x: Tensor) -> Tensor:
    numbers = graph.plain(x)
    zero = graph.constant("zero", np.zeros((), np.int64), Layer)
    (is_zero,) = graph.node("Equal", numbers.name, zero)
    return graph.put("Not", x.shape, is_zero)


def _differing(graph: Graph, layer: Any, x: Tensor) -> Tensor:
    """The steps that have a number other than the layer's."""
    steps = graph.plain(x)
    (is_value,) = graph.node("Equal", steps.name, graph.number(layer.mask_value))
    numbers = graph.put("Where", x.shape, is_value, graph.number(0.0), graph.number(1.0))
    counted = graph.reduced("ReduceMax", numbers, range(2, x.rank))
    return graph.put("Greater", x.shape[:2], counted.name, graph.number(0.0))


# -------------------------------------------------------------------------------------------------------------- layers


def _finished(graph: Graph, layer: Layer, x: Tensor) -> Tensor:
    """Behind the layer's activation."""
    return _activated(graph, layer.epilogue, x)


def _activated(graph: Graph, activation: Activation, x: Tensor) -> Tensor:
    if activation.fusable:
        return activated(graph, x, activation)
    (y,) = recorded.write(graph, activation, x, _write_inner)
    return y


def _value(layer: Any, name: str) -> Array | None:
    """A weight of the layer by its name; None where it has none such."""
    return next((parameter.value for parameter in layer.parameters if parameter.name == name), None)


def _as_it_is(graph: Graph, layer: Any, x: Any, mask: Any) -> Any:
    return x


def _dense(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return _finished(graph, layer, operators.linear(graph, x, _value(layer, "kernel"), _value(layer, "bias")))


def _convolving(emit: operators.Emitter, kernel: str = "kernel") -> Exporter:
    def export(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
        return _finished(graph, layer, emit(graph, x, _value(layer, kernel), _value(layer, "bias"), **layer._options()))

    return export


def _transposed(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    if any(layer._beyond):
        raise UnsupportedError(f"output_padding={layer.output_padding} behind all windows, wants less or None")
    options = {"strides": layer.strides, "padding": layer._pad, "dilation": layer.dilation_rate}
    y = operators.transposed_convolution(graph, x, _value(layer, "kernel"), _value(layer, "bias"), **options)
    return _finished(graph, layer, y)


def _separable(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    maps = operators.depthwise(graph, x, _value(layer, "depthwise"), **layer._options())
    return _finished(
        graph, layer, operators.convolution(graph, maps, _value(layer, "pointwise"), _value(layer, "bias"))
    )


def _pooling(op: str) -> Exporter:
    return lambda graph, layer, x, mask: operators.emitter(op)(graph, x, layer.pool_size, layer.strides, layer.padding)


def _global(kind: str) -> Exporter:
    return lambda graph, layer, x, mask: graph.reduced(kind, x, range(1, x.rank - 1), layer.keepdims)


def _mean_of_steps(graph: Graph, layer: Any, x: Tensor, mask: Tensor | None) -> Tensor:
    mean = operators.sequence_mean(graph, x, mask)
    shape = (x.shape[0], 1, x.shape[2])
    return graph.put("Unsqueeze", shape, mean.name, graph.integers(1)) if layer.keepdims else mean


def _softmax(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return graph.like(x, "Softmax", axis=x.place(layer.axis))


def _prelu(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.prelu(graph, x, _value(layer, "alpha"))


def _rescaling(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    scaled = x if layer.scale == 1 else graph.like(x, "Mul", graph.number(layer.scale))
    return scaled if layer.offset == 0 else graph.like(scaled, "Add", graph.number(layer.offset))


def _flatten(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return graph.put("Flatten", layer.compute_output_shape(x.shape), graph.plain(x).name, axis=1)


def _reshape(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return graph.reshaped(x, layer.compute_output_shape(x.shape))


def _permute(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.permuted(graph, x, (0, *layer.dims))


def _repeat_vector(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    step = graph.put("Unsqueeze", (x.shape[0], 1, x.shape[1]), graph.plain(x).name, graph.integers(1))
    return graph.put("Expand", (x.shape[0], layer.n, x.shape[1]), step.name, graph.integers(1, layer.n, 1))


def _merging(kind: str) -> Exporter:
    """One after the other, from the left."""
    return lambda graph, layer, x, mask: reduce(lambda a, b: pairwise(kind)(graph, a, b), x)


def _average(graph: Graph, layer: Any, x: Any, mask: Any) -> Tensor:
    return graph.like(_merging("Add")(graph, layer, x, mask), "Div", graph.number(float(len(x))))


def _concatenate(graph: Graph, layer: Any, x: Any, mask: Any) -> Tensor:
    return operators.concatenated(graph, x, layer.axis % x[0].rank)


def _with_axes_last(export: Exporter) -> Exporter:
    """Of a layer that normalises along some axes: they are brought to the end and back."""

    def exported(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Any:
        order = layer.order(x.rank)
        if order == [*range(x.rank)]:
            return export(graph, layer, x, mask)
        y = export(graph, layer, operators.permuted(graph, x, order), mask)
        return operators.permuted(graph, y, [order.index(axis) for axis in range(x.rank)])

    return exported


def _batch_normalization(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    figures = {name: _value(layer, name) for name in ("moving_mean", "moving_variance", "gamma", "beta")}
    return operators.batch_norm(graph, x, **figures, epsilon=layer.epsilon, momentum=layer.momentum)


def _layer_normalization(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    axes = 1 if isinstance(layer.axis, int) else len(layer.axis)
    return operators.layer_norm_along(graph, x, axes, _value(layer, "gamma"), _value(layer, "beta"), layer.epsilon)


def _normalization(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    mean, variance = (operators.of_sample(graph, x, parameter.value, parameter.name) for parameter in layer.parameters)
    (root,) = graph.node("Sqrt", variance)
    (deviation,) = graph.node("Max", root, graph.number(LEAST_DEVIATION))
    if layer.invert:
        return graph.like(graph.like(x, "Mul", deviation), "Add", mean)
    return graph.like(graph.like(x, "Sub", mean), "Div", deviation)


def _upsampling(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    if layer.interpolation == "nearest":
        return operators.upsampled(graph, x, layer.size)
    return operators.resized(graph, x, *layer.compute_output_shape(x.shape)[1:3])


def _resizing(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    """Of the nearest places those that the layer itself takes: what it makes of an image of their numbers."""
    height, width = x.shape[1] or 0, x.shape[2] or 0
    if layer.interpolation == "nearest":
        numbers = np.arange(height * width, dtype=graph.dtype).reshape(1, height, width, 1)
        taken = np.asarray(layer.image_forward(numbers), np.int64)[0, :, :, 0]
        return operators.picked(graph, operators.picked(graph, x, 1, taken[:, 0] // width), 2, taken[0] % width)
    part = operators.cropped(graph, x, layer._edges(height, width))
    wanted = layer.height, layer.width
    return part if part.shape[1:3] == wanted else operators.resized(graph, part, *wanted)


def _discretization(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    bins = operators.binned(graph, x, layer.bin_boundaries)
    if layer.output_mode == "int":
        return bins
    return operators.encoded(graph, bins, len(layer.bin_boundaries) + 1, layer.output_mode)


def _category_encoding(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.encoded(graph, x, layer.num_tokens, layer.output_mode)


def _zero_padding(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.padded(graph, x, layer.padding)


def _cropping(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.cropped(graph, x, layer.cropping)


def _embedding(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return operators.embedding(graph, x, _value(layer, "embeddings"))


def _masking(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    counted = _differing(graph, layer, x)
    last = graph.integers(*range(2, x.rank))
    (stretched,) = graph.node("Unsqueeze", counted.name, last)
    return graph.put("Where", x.shape, stretched, graph.plain(x).name, graph.number(0.0))


def _cells(layer: Any) -> list[Any]:
    """The cells of a recurrent layer, one above the other."""
    return [*layer.cell.cells] if isinstance(layer.cell, layers.StackedRNNCells) else [layer.cell]


def _by_op(layer: Any) -> bool:
    """Whether a recurrent layer is one of the ops, or some in a row, from zeros on, and gives no states."""
    alike = all(isinstance(cell, Cell) and cell.swept(False) for cell in _cells(layer))
    return alike and not (layer.return_state or layer.stateful)


def _cell_weights(cell: Any) -> recurrent.Weights:
    return recurrent.Weights(*(_value(cell, name) for name in recurrent.Weights._fields))  # type: ignore[arg-type]


def _both_outputs(graph: Graph, layer: Any, x: Tensor, mask: Any) -> recurrent.Outputs:
    """All outputs in the order of the inputs' steps, and the last ones."""
    for cell in _cells(layer):
        given = _cell_weights(cell), mask, layer.go_backwards, cell.activation.name
        found = recurrent.run(graph, cell.op, x, *given)
        x = found.steps
    if mask is None or not layer.zero_output_for_mask:
        return found
    (counted,) = graph.node("Unsqueeze", mask.name, graph.integers(2))
    steps = graph.plain(found.steps)
    return found._replace(steps=graph.put("Where", steps.shape, counted, steps.name, graph.number(0.0)))


def _recurrent(graph: Graph, layer: Any, x: Any, mask: Any) -> Any:
    if not _by_op(layer) or isinstance(x, list):
        return _followed(graph, layer, x, mask)
    found = _both_outputs(graph, layer, x, mask)
    if not layer.return_sequences:
        return found.last
    return recurrent.turned(graph, found.steps) if layer.go_backwards else found.steps


def _bidirectional(graph: Graph, layer: Any, x: Any, mask: Any) -> Any:
    if not all(map(_by_op, layer.wrapped)) or isinstance(x, list):
        return _followed(graph, layer, x, mask)
    if mask is None and _is_one_operator(layer):
        cells = [inner.cell for inner in layer.wrapped]
        weights = [*map(_cell_weights, cells)]
        both = recurrent.run_both(graph, cells[0].op, x, weights, cells[0].activation.name)
        return both.steps if layer.return_sequences else both.last
    found = []
    for inner in layer.wrapped:
        with graph.within(f"{graph.scope}/{inner.name}"):
            outputs = _both_outputs(graph, inner, x, mask)
        found.append(outputs.steps if layer.return_sequences else outputs.last)
    turns = layer.return_sequences and layer.forward_layer.go_backwards
    merged = _merged_ways(graph, layer.merge_mode, found)
    made = [recurrent.turned(graph, y) if turns else y for y in merged]
    return made[0] if len(made) == 1 else tuple(made)


def _merged_ways(graph: Graph, mode: str | None, found: list[Tensor]) -> list[Tensor]:
    """The outputs of both ways as one, or where there is no ``mode`` as they are."""
    if mode is None:
        return found
    if mode == "concat":
        return [operators.concatenated(graph, found, found[0].rank - 1)]
    y = pairwise("Mul" if mode == "mul" else "Add")(graph, *found)
    return [graph.like(y, "Mul", graph.number(0.5)) if mode == "ave" else y]


def _is_one_operator(layer: Any) -> bool:
    """Whether ONNX's own operators go both ways as the layer does."""
    ways = [_cells(inner) for inner in layer.wrapped]
    alike = {(cell.op, cell.use_bias, cell.units, cell.activation.name) for cells in ways for cell in cells}
    first = ways[0][0]
    has = recurrent.has_operator(first.op, first.activation.name)
    single = len(ways[0]) == len(ways[1]) == len(alike) == 1
    return layer.merge_mode == "concat" and single and has and not layer.forward_layer.go_backwards


def _activation(graph: Graph, layer: Any, x: Tensor, mask: Any) -> Tensor:
    return _finished(graph, layer, x)


EXPORTERS: Mapping[type[Any], Exporter] = {
    **dict.fromkeys((layers.InputLayer, layers.Identity, layers.ActivityRegularization), _as_it_is),
    **dict.fromkeys((layers.Dropout, layers.AlphaDropout, layers.GaussianNoise, layers.GaussianDropout), _as_it_is),
    **dict.fromkeys((layers.SpatialDropout1D, layers.SpatialDropout2D), _as_it_is),
    **dict.fromkeys((layers.RandomFlip, layers.RandomRotation), _as_it_is),
    **dict.fromkeys((layers.RandomTranslation, layers.RandomZoom), _as_it_is),
    **dict.fromkeys((layers.RandomBrightness, layers.RandomContrast), _as_it_is),
    layers.RandomCrop: lambda graph, layer, x, mask: _resizing(graph, layer._middle, x, mask),
    **dict.fromkeys((layers.Activation, layers.ReLU, layers.LeakyReLU, layers.ELU), _activation),
    layers.Dense: _dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D), _convolving(operators.convolution)),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _convolving(operators.depthwise, "depthwise")),
    **dict.fromkeys((layers.Conv1DTranspose, layers.Conv2DTranspose), _transposed),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable),
    **dict.fromkeys((layers.MaxPooling1D, layers.MaxPooling2D), _pooling("max_pool2d")),
    **dict.fromkeys((layers.AveragePooling1D, layers.AveragePooling2D), _pooling("average_pool2d")),
    **dict.fromkeys((layers.GlobalMaxPooling1D, layers.GlobalMaxPooling2D), _global("ReduceMax")),
    layers.GlobalAveragePooling2D: _global("ReduceMean"),
    layers.GlobalAveragePooling1D: _mean_of_steps,
    layers.Softmax: _softmax,
    layers.PReLU: _prelu,
    layers.Rescaling: _rescaling,
    layers.Flatten: _flatten,
    layers.Reshape: _reshape,
    layers.Permute: _permute,
    layers.RepeatVector: _repeat_vector,
    layers.Add: _merging("Add"),
    layers.Subtract: _merging("Sub"),
    layers.Multiply: _merging("Mul"),
    layers.Maximum: _merging("Max"),
    layers.Minimum: _merging("Min"),
    layers.Average: _average,
    layers.Concatenate: _concatenate,
    layers.BatchNormalization: _with_axes_last(_batch_normalization),
    layers.LayerNormalization: _with_axes_last(_layer_normalization),
    layers.Normalization: _normalization,
    **dict.fromkeys((layers.UpSampling1D, layers.UpSampling2D), _upsampling),
    **dict.fromkeys((layers.ZeroPadding1D, layers.ZeroPadding2D), _zero_padding),
    **dict.fromkeys((layers.Cropping1D, layers.Cropping2D), _cropping),
    **dict.fromkeys((layers.Resizing, layers.CenterCrop), _resizing),
    layers.Discretization: _discretization,
    layers.CategoryEncoding: _category_encoding,
    layers.Embedding: _embedding,
    layers.Masking: _masking,
    **dict.fromkeys((layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU), _recurrent),
    layers.Bidirectional: _bidirectional,
}
