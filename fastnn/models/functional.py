"""Graphs of layers: from symbolic inputs to symbolic outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fastnn import checks
from fastnn.configurable import deserialize, serialize
from fastnn.layers.base import Operation, agree, within
from fastnn.layers.core import InputLayer
from fastnn.layers.symbols import Node, SymbolicTensor, tensors
from fastnn.models.base import NAMES, Model
from fastnn.models.structure import Builder


class Functional(Model):
    """What leads from ``inputs`` to ``outputs``, symbolic tensors or lists, tuples or dicts of such.

    ``Model(inputs, outputs)`` makes one. A layer that was called several times is there once, and its gradients add;
    models that were called are there as layers.
    """

    _layers: Any = ()

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None) -> None:
        super().__init__(name=name)
        self._given, self._outcome = _structure("inputs", inputs), _structure("outputs", outputs)
        self._inputs, self._outputs = [*tensors(self._given)], [*tensors(self._outcome)]
        _check_inputs(self._inputs)
        self._nodes, order = _between(self._inputs, self._outputs)
        self._layers = _by_depth(self._nodes, order)
        for label, count in Counter(layer.name for layer in self._layers).items():
            if count > 1:
                raise ValueError(f"layers: got {count} layers of the name {label!r}, wants every name once")
        kinds = {layer.dtype: layer.name for layer in self._layers if layer.dtype is not None}
        if len(kinds) > 1:
            raise ValueError(f"layers: got {kinds} by dtype, wants layers of one dtype")
        self._part_paths()
        if not self.built:
            raise ValueError("outputs: got the inputs themselves, wants what a layer gives")

    def build(self, input_shape: Any = None) -> None:
        """Nothing is left to be made; ValueError where ``input_shape`` is not that of the inputs."""
        if input_shape is not None:
            self.compute_output_shape(input_shape)

    @property
    def input_names(self) -> list[str]:
        """Names of the inputs: those of a dict, or of their layers."""
        return _names(self._given, self._inputs)

    @property
    def output_names(self) -> list[str]:
        """Names of the outputs: those of a dict, or of the layers that give them, numbered where they are equal."""
        return _names(self._outcome, self._outputs)

    @property
    def inputs(self) -> list[SymbolicTensor]:
        """The inputs, one after the other."""
        return [*self._inputs]

    @property
    def outputs(self) -> list[SymbolicTensor]:
        """The outputs, one after the other."""
        return [*self._outputs]

    @property
    def input(self) -> Any:
        """The inputs as they were given."""
        return self._given

    @property
    def output(self) -> Any:
        """The outputs as they were given."""
        return self._outcome

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Shape of the outputs, a list of such where there are several; for those of the inputs likewise."""
        shapes = [tuple(shape) for shape in input_shape] if len(self._inputs) > 1 else [tuple(_single(input_shape))]
        wanted = [tensor.shape for tensor in self._inputs]
        if len(shapes) != len(wanted) or not all(agree(a[1:], b[1:]) for a, b in zip(shapes, wanted, strict=True)):
            got = shapes if len(shapes) > 1 else shapes[0]
            raise ValueError(
                f"{self.name}: got input shape {got}, wants {wanted if len(wanted) > 1 else wanted[0]}, "
                "for which the model is made"
            )
        known = {_key(tensor): shape for tensor, shape in zip(self._inputs, shapes, strict=True)}
        if any(None in shape[1:] for shape in wanted):
            known |= self._shapes_between(known)
        found = [(shapes[0][0], *known.get(_key(tensor), tensor.shape)[1:]) for tensor in self._outputs]
        return found if len(found) > 1 else found[0]

    def _shapes_between(self, known: Mapping[Any, Any]) -> dict[Any, Any]:
        """Shapes of all tensors, for those of the inputs: there are sizes that may be any."""
        found = {**known}
        for node in self._nodes:
            given = [found[_key(tensor)] for tensor in node.taken]
            made = node.operation.compute_output_shape(given if isinstance(node.given, (list, tuple)) else given[0])
            found |= {
                (id(node), place): shape for place, shape in enumerate(made if isinstance(made, list) else [made])
            }
        return found

    def expand(self, builder: Builder, takes: Sequence[int]) -> list[int]:
        """The values that the outputs are, of those that the inputs are."""
        values = {_key(tensor): value for tensor, value in zip(self._inputs, takes, strict=True)}
        for node in self._nodes:
            gives = builder.call(
                node.operation,
                [values[_key(tensor)] for tensor in node.taken],
                isinstance(node.given, (list, tuple)),
                len(node.outputs),
            )
            values |= {(id(node), place): value for place, value in enumerate(gives)}
        return [values[_key(tensor)] for tensor in self._outputs]

    @property
    def _has_several_outputs(self) -> bool:
        return len(self._outputs) > 1

    def _bottom_shape(self) -> Any:
        shapes = [tensor.shape for tensor in self._inputs]
        return shapes if len(shapes) > 1 else shapes[0]

    def _output_shape(self, shape: Any) -> Any:
        return self.compute_output_shape(shape)

    def _arranged(self, outputs: Sequence[Any]) -> Any:
        """The outputs' values in the structure in which the outputs were given."""
        if isinstance(self._outcome, SymbolicTensor):
            return outputs[0]
        if isinstance(self._outcome, Mapping):
            return dict(zip(self._outcome, outputs, strict=True))
        return [*outputs]

    # ---------------------------------------------------------------------------------------------------- show, save

    def feeding(self, layer: Operation) -> list[str]:
        """What the calls of a layer in this model were given, as ``name`` or ``name[place]``."""
        taken = [tensor for node in self._nodes if node.operation is layer for tensor in node.taken]
        several = {id(tensor): f"[{tensor.place}]" if len(tensor.node.outputs) > 1 else "" for tensor in taken}
        return [f"{tensor.node.operation.name}{several[id(tensor)]}" for tensor in taken]

    @property
    def calls(self) -> list[Node]:
        """What gives the inputs, and the calls of layers, each behind those that it needs."""
        return [*(tensor.node for tensor in self._inputs), *self._nodes]

    def get_config(self) -> dict[str, Any]:
        """The architecture, as JSON can hold it: layers, and behind each what its calls take."""
        for tensor in self._inputs:
            if not isinstance(tensor.node.operation, InputLayer):
                raise ValueError(f"inputs: got {tensor.name!r}, which a layer gives, wants an Input in a description")
        calls: dict[int, list[Any]] = {id(layer): [] for layer in self._layers}
        places: dict[int, int] = {}
        for node in self.calls:
            places[id(node)] = len(calls[id(node.operation)])
            calls[id(node.operation)].append(_referred(node.given, places))
        return {
            "name": self.name,
            "layers": [_entry(layer, calls[id(layer)]) for layer in self._layers],
            "inputs": _referred(self._given, places),
            "outputs": _referred(self._outcome, places),
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Functional:
        """A new model of the architecture that ``get_config`` gave, with new weights."""
        with within(config["name"]):
            return cls(*_connected(config["layers"], config["inputs"], config["outputs"]), config["name"])


def _structure(argument: str, given: Any) -> Any:
    """Symbolic tensors, or a list or dict of such, checked; a list of one is that one."""
    entries = given.values() if isinstance(given, Mapping) else given if isinstance(given, (list, tuple)) else [given]
    for entry in entries:
        if not isinstance(entry, SymbolicTensor):
            hint = f"the layer {entry.name!r} itself" if isinstance(entry, Operation) else checks.describe(entry)
            raise TypeError(f"{argument}: got {hint}, wants what Input gives, or a layer called on that")
    if not entries:
        raise ValueError(f"{argument}: got none, wants at least one")
    if isinstance(given, (list, tuple)):
        return given[0] if len(given) == 1 else [*given]
    return given


def _check_inputs(inputs: Sequence[SymbolicTensor]) -> None:
    for tensor, count in Counter(map(_key, inputs)).items():
        if count > 1:
            name = next(each.name for each in inputs if _key(each) == tensor)
            raise ValueError(f"inputs: got {name!r} {count} times, wants every input once")


def _key(tensor: SymbolicTensor) -> tuple[int, int]:
    return id(tensor.node), tensor.place


def _single(shape: Any) -> Any:
    """A shape, or the only one of a list."""
    return shape[0] if len(shape) == 1 and isinstance(shape[0], (list, tuple)) else shape


def _names(structure: Any, flat: Sequence[SymbolicTensor]) -> list[str]:
    if isinstance(structure, Mapping):
        return [*map(str, structure)]
    used: Counter[str] = Counter()
    names = []
    for tensor in flat:
        number = used[tensor.name]
        used[tensor.name] += 1
        names.append(f"{tensor.name}_{number}" if number else tensor.name)
    return names


def _between(inputs: Sequence[SymbolicTensor], outputs: Sequence[SymbolicTensor]) -> tuple[list[Node], list[Operation]]:
    """The calls that lead from inputs to outputs, each behind those that it needs; and layers as they are met.

    They are met from the outputs back. ValueError for an Input that is not among the inputs, an input that no output
    depends on, and a cycle.
    """
    given, met = {_key(tensor) for tensor in inputs}, dict[int, Operation]()
    done, used, found = set[int](), set[tuple[int, int]](), list[Node]()
    for output in outputs:
        open_nodes: dict[int, tuple[Node, Iterator[SymbolicTensor]]] = {}
        waiting: SymbolicTensor | None = output
        while waiting is not None or open_nodes:
            if waiting is not None:
                node = waiting.node
                if _key(waiting) not in given or isinstance(node.operation, InputLayer):
                    met.setdefault(id(node.operation), node.operation)
                if _key(waiting) in given:
                    used.add(_key(waiting))
                elif id(node) in open_nodes:
                    raise ValueError(f"outputs: got a cycle through {node.operation.name!r}, wants a graph without one")
                elif isinstance(node.operation, InputLayer):
                    raise ValueError(
                        f"inputs: got none of the name {waiting.name!r}, which the output {output.name!r} depends on"
                    )
                elif id(node) not in done:
                    open_nodes[id(node)] = node, iter(node.taken)
            if not open_nodes:
                break
            node, parents = next(reversed(open_nodes.values()))
            waiting = next(parents, None)
            if waiting is None:
                done.add(id(node))
                found.append(node)
                del open_nodes[id(node)]
    for tensor in inputs:
        if _key(tensor) not in used:
            raise ValueError(f"inputs: got {tensor.name!r}, which no output depends on, wants inputs that are used")
    return found, [*met.values()]


def _by_depth(nodes: Sequence[Node], met: Sequence[Operation]) -> list[Operation]:
    """Layers by the number of calls to the furthest output, most first, then as they were met: Keras's order."""
    inside = {id(node) for node in nodes}
    of_call: dict[int, int] = {}
    of_layer: dict[int, int] = {}
    for node in reversed(nodes):
        depth = max(of_call.get(id(node), 0), of_layer.get(id(node.operation), 0))
        of_layer[id(node.operation)] = depth
        for tensor in node.taken:
            of_call[id(tensor.node)] = max(of_call.get(id(tensor.node), 0), depth + 1)
            parent = tensor.node.operation
            if id(tensor.node) not in inside and isinstance(parent, InputLayer):
                of_layer[id(parent)] = max(of_layer.get(id(parent), 0), depth + 1)
    return sorted(met, key=lambda operation: -of_layer.get(id(operation), 0))


def _entry(layer: Any, calls: Sequence[Any]) -> dict[str, Any]:
    """What a config says of a layer: what makes it, what its calls take, and what they say beside that."""
    arguments = layer.call_arguments()
    return {**(serialize(layer, NAMES) or {}), "calls": calls, **({"arguments": arguments} if arguments else {})}


def _referred(structure: Any, places: Mapping[int, int]) -> Any:
    """A structure of tensors with [layer, which of its calls, which of what that gives] in their places."""
    if isinstance(structure, SymbolicTensor):
        return {"of": [structure.node.operation.name, places[id(structure.node)], structure.place]}
    if isinstance(structure, Mapping):
        return {"by_name": {name: _referred(each, places) for name, each in structure.items()}}
    return [_referred(each, places) for each in structure]


def _connected(entries: Sequence[Mapping[str, Any]], inputs: Any, outputs: Any) -> tuple[Any, Any]:
    """The inputs and outputs of layers that are made and called as a config says; ValueError where it has a cycle."""
    made: dict[str, Operation] = {}
    calls: dict[str, list[Any]] = {}
    arguments: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        document = {name: value for name, value in entry.items() if name not in ("calls", "arguments")}
        layer: Any = deserialize("layers", document, NAMES)
        made[layer.name], calls[layer.name] = layer, [*entry["calls"]]
        arguments[layer.name] = _call_arguments(layer, entry.get("arguments", {}))
    given: dict[tuple[str, int], Any] = {
        (name, 0): layer.output for name, layer in made.items() if isinstance(layer, InputLayer)
    }

    def resolved(structure: Any) -> Any:
        if isinstance(structure, list):
            return [resolved(each) for each in structure]
        if "by_name" in structure:
            return {name: resolved(each) for name, each in structure["by_name"].items()}
        name, call, place = structure["of"]
        found = [*tensors(given[name, call])]
        return found[checks.integer("of", place, 0, len(found) - 1)]

    left = [(name, number) for name in made for number in range(len(calls[name])) if (name, number) not in given]
    while left:
        before = len(left)
        for name, number in [*left]:
            needed = _places(calls[name][number])
            if all(place in given for place in needed) and (number == 0 or (name, number - 1) in given):
                given[name, number] = made[name](resolved(calls[name][number]), **arguments[name])
                left.remove((name, number))
        if len(left) == before:
            raise ValueError(f"layers: got a call of {left[0][0]!r} that waits for itself or for none, wants no cycle")
    return resolved(inputs), resolved(outputs)


def _call_arguments(layer: Operation, given: Any) -> Mapping[str, Any]:
    """Those that a config has of a layer's calls; ValueError for what these do not take."""
    if not isinstance(given, Mapping) or not given.keys() <= {*layer.call_options}:
        wants = f"some of {', '.join(layer.call_options)}" if layer.call_options else "none"
        raise ValueError(f"{layer.name}: got arguments {checks.describe(given)} of its calls, wants {wants}")
    return given


def _places(structure: Any) -> list[tuple[str, int]]:
    """The calls that a structure of a config refers to."""
    if isinstance(structure, list):
        return [place for each in structure for place in _places(each)]
    if "by_name" in structure:
        return [place for each in structure["by_name"].values() for place in _places(each)]
    name, call, _ = structure["of"]
    return [(name, call)]


NAMES["Functional"] = Functional
