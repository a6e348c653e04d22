"""Gradients of functions over ``fastnn.ops``: what was recorded forwards, read backwards (reverse mode).

Each op of the table says how its derivative is found: another op (``relu_backward``), its own second result (losses),
or a rule of ``_RULES``. A gradient is the sum of what comes back along every way to the result.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.adoption import adopted
from fastnn.kernels.table import TABLE, Subset
from fastnn.kernels.table.elementwise import FROM_INPUT
from fastnn.kernels.table.recurrent import GRADIENTS, RESULTS
from fastnn.tape import Followed, Held, Node, Traced, calculate, in_place_of

Array = Any

# dL/d(parent) by name, of a node and dL/d(results), None where a result was not used.
_Rule = Callable[[Node, Sequence[Any]], Mapping[str, Any]]


def gradients(f: Callable[..., Any], arguments: Sequence[Array]) -> tuple[Any, tuple[Array, ...]]:
    """(f(*arguments), its gradients by each of the arguments): of a loss, in one pass back over its ops.

    ``f`` calls functions of ``fastnn.ops`` and returns a number made of them, with + - * / between numbers, or a tuple
    whose first entry is that; the other entries come back as they are. Data that it takes from outside are constants.
    ``arguments``: float32 or float64 arrays; a gradient has the shape and dtype of its argument, zeros where nothing
    depends on it. A branch or a loop of Python is followed as it was run. Arguments may be weights of layers,
    too, which ``f`` is not given: what uses them, layers and models, is followed.

    TypeError for arguments and results that are none of these, and from within ``f`` where it does with a value that
    depends on them what cannot be followed: a NumPy expression, an op that has no derivative.

    >>> loss, (dw, db) = gradients(lambda w, b: ops.mse(ops.linear(x, w, b), t)[0], (w, b))
    >>> loss, found = gradients(lambda: ops.mse(model(x, training=True), t)[0], model.trainable_weights)
    """
    if not callable(f):
        raise TypeError(f"f: got {checks.describe(f)}, wants a function over fastnn.ops that returns a loss")
    given = _checked([*map(_value, arguments)] if isinstance(arguments, (list, tuple)) else arguments)
    result, sources = _followed(f, given, [each if isinstance(each, Held) else None for each in arguments])
    loss, *others = result if isinstance(result, tuple) else (result,)
    if not isinstance(loss, (Followed, int, float)) or (isinstance(loss, Followed) and loss.ndim):
        got = repr(loss) if isinstance(loss, Followed) else checks.describe(loss)
        raise TypeError(f"f: got a function that returns {got}, wants one that returns a number, a loss")
    slopes = _pull([(loss, 1.0)], sources) if isinstance(loss, Traced) else [None] * len(given)
    whole = tuple(_whole(slope, array) for slope, array in zip(slopes, given, strict=True))
    value, *rest = (entry.value if isinstance(entry, Traced) else entry for entry in (loss, *others))
    return ((value, *rest) if others else value), whole


def unfollowed(value: Any) -> Any:
    """What is followed for gradients, in lists, tuples and dicts too, as the arrays and numbers themselves."""
    if isinstance(value, Mapping):
        return {name: unfollowed(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [*map(unfollowed, value)]
    return value.value if isinstance(value, Traced) else value


def pullback(f: Callable[[Array], Any], x: Array, dy: Array) -> Array:
    """From dL/dy: dL/dx, for y = f(x) of ops, an array; zeros where y does not depend on x."""
    _, pull = vjp(f, (x,))
    (dx,) = pull((dy,))
    return _whole(dx, x)


def vjp(f: Callable[..., Any], arguments: Sequence[Array]) -> tuple[Any, Callable[..., list[Any]]]:
    """(y, pull) for y = f(*arguments) of ops, an array or a list or tuple of such.

    ``pull(dy)`` takes dL/d(each of y), None where nothing depends on it, and gives dL/d(each argument), None likewise;
    ``pull(dy, first)`` only those from argument ``first`` on.
    """
    result, sources = _followed(f, arguments)
    results = result if isinstance(result, (list, tuple)) else (result,)

    def pull(slopes: Sequence[Any], first: int = 0) -> list[Any]:
        pairs = zip(results, slopes, strict=True)
        given = [(y, dy) for y, dy in pairs if isinstance(y, Traced) and dy is not None]
        return [None] * first + _pull(given, sources[first:])

    values = [each.value if isinstance(each, Traced) else each for each in results]
    return (type(result)(values) if isinstance(result, (list, tuple)) else values[0]), pull


def joined(y: Any, parents: Mapping[str, Traced], pull: Callable[[Any], Mapping[str, Any]], **told: Any) -> Any:
    """Results that are followed as those of one call, whose derivatives by ``parents`` are ``pull(dL/dy)``.

    y is an array, or a tuple of such, and so is what ``pull`` gets, None where a result is not used. What else is
    ``told`` of the call stands among what it was given.
    """
    together = y if isinstance(y, tuple) else (y,)
    pulled = pull if isinstance(y, tuple) else lambda slopes: pull(slopes[0])
    node = Node("call", {"pull": pulled, **told}, together, parents)
    followed = tuple(Traced(each, node, place) for place, each in enumerate(together))
    return followed if isinstance(y, tuple) else followed[0]


def _whole(slope: Any, array: Array) -> Array:
    """A gradient by an array: zeros where nothing depends on it."""
    return calculate("zeros", x=array) if slope is None else slope


def _checked(arguments: Any) -> Sequence[Array]:
    if not isinstance(arguments, Sequence) or isinstance(arguments, str):
        raise TypeError(f"arguments: got {checks.describe(arguments)}, wants a list or tuple of arrays")
    arrays = [adopted(f"arguments[{place}]", array) for place, array in enumerate(arguments)]
    for place, array in enumerate(arrays):
        if not hasattr(array, "dtype") or not hasattr(array, "shape"):
            raise TypeError(f"arguments[{place}]: got {checks.describe(array)}, wants a NumPy or CuPy array")
        checks.floating(f"arguments[{place}]", array)
    return arrays


def _value(argument: Any) -> Any:
    return argument.value if isinstance(argument, Held) else argument


def _followed(
    f: Callable[..., Any], arguments: Sequence[Array], held: Sequence[Held | None] = ()
) -> tuple[Any, list[Traced]]:
    """(what f gives, what is followed); what is ``held`` is followed in the place that it has."""
    sources = [Traced(array) for array in arguments]
    kept = {each: source for each, source in zip(held, sources, strict=False) if each is not None}
    given = [source for place, source in enumerate(sources) if place >= len(held) or held[place] is None]
    with in_place_of(kept, kept.values()):
        return f(*given), sources


def _pull(results: Sequence[tuple[Traced, Any]], sources: Sequence[Traced]) -> list[Any]:
    """dL/d(source) of each, None where nothing depends on it, from pairs of a result and dL/d(result)."""
    slopes: dict[Any, Any] = {}
    for result, slope in results:
        place = key(result)
        slopes[place] = _sum(slopes[place], slope) if place in slopes else slope
    nodes, wanted = reached([result for result, _ in results]), {*map(key, sources)}
    for node in reversed(nodes):
        if any(key(parent) in wanted for parent in node.parents.values()):
            wanted |= {(node, place) for place in range(len(node.results))}
    for node in nodes:
        parents = {name: parent for name, parent in node.parents.items() if key(parent) in wanted}
        given = [slopes.pop((node, place), None) for place in range(len(node.results))]
        if not parents or all(slope is None for slope in given):
            continue
        derivatives = _rule(node)(replace(node, parents=parents), given)
        for name, parent in parents.items():
            if name not in derivatives:
                raise TypeError(f"{name}: got a value that gradients are wanted of, but {node.op} has none by it")
            if derivatives[name] is None:
                continue
            at = key(parent)
            slopes[at] = derivatives[name] if at not in slopes else _sum(slopes[at], derivatives[name])
    return [slopes.get(key(source)) for source in sources]


def key(traced: Traced) -> Any:
    """Equal for the same result of the same call."""
    return traced if traced.node is None else (traced.node, traced.place)


def reached(results: Sequence[Traced]) -> list[Node]:
    """The calls that results were made by, the last one first."""
    found: dict[Node, None] = {}
    waiting = [*results]
    while waiting:
        node = waiting.pop().node
        if node is not None and node not in found:
            found[node] = None
            waiting.extend(node.parents.values())
    return sorted(found, key=lambda node: node.number, reverse=True)


def _sum(a: Any, b: Any) -> Any:
    return ops.add(a, b) if hasattr(a, "shape") and a.shape else a + b


def has_derivative(op: str) -> bool:
    """Whether gradients follow calls of an op of the table."""
    return _found(op) is not None


def _rule(node: Node) -> _Rule:
    rule = _found(node.op)
    if rule is None:
        raise TypeError(f"{node.op}: got a value that gradients are wanted of, but this op has no derivative")
    return rule


def _found(op: str) -> _Rule | None:
    if op in _RULES:
        return _RULES[op]
    if f"{op}_backward" in TABLE:
        return _by_op
    returns = TABLE[op].returns
    return _by_second_result if returns[:1] == ("",) and len(returns) == 2 else None


def _by_op(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """By the op that stands beside it: it takes dy, the op's own arguments by their names, and its result as y."""
    backward = TABLE[f"{node.op}_backward"]
    if any(slope is not None for slope in slopes[1:]):
        raise TypeError(f"{node.op}: got a second result to find a gradient of, wants its first one alone")
    known = {**node.given, "dy": slopes[0], "y": node.results[0], "z": _pre_activation(node)}
    known |= zip(_KEPT.get(node.op, ()), node.results[1:], strict=False)
    taken = {name: known[name] for name in backward.signature.parameters if name in known}
    by = list(TABLE[node.op].operands)
    need = backward.options.get("need")
    if isinstance(need, Subset):
        by = [name.removeprefix("d") for name in need.values]
        taken["need"] = tuple(f"d{name}" for name in node.parents if name in by)
    results = getattr(ops, backward.name)(**taken)
    together = results if isinstance(results, tuple) else (results,)
    return dict(zip(by, together, strict=False))


# What a derivative takes of the results beside the first, by their places.
_KEPT = {"batch_norm": ("mean", "rstd")}


def _pre_activation(node: Node) -> Any:
    """Of an op with an activation, where the derivative of that needs it."""
    wants = "z" in TABLE[f"{node.op}_backward"].operands and node.given["activation"] in FROM_INPUT
    return getattr(ops, node.op)(**{**node.given, "activation": "linear"}) if wants else None


def _by_second_result(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """A loss has its derivative with it, which cannot be followed further."""
    slope, of_derivative = slopes
    if of_derivative is not None:
        raise TypeError(f"{node.op}: got its derivative to find a gradient of, wants its first result alone")
    return {next(iter(TABLE[node.op].operands)): _scaled(node.results[1], slope)}


def _scaled(array: Any, factor: Any) -> Any:
    return array if isinstance(factor, float) and factor == 1 else calculate("scaled", x=array, factor=factor)


def _of_sum(**shares: float) -> _Rule:
    """Of a sum of operands, each times its share."""

    def rule(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
        whole = {name: _unbroadcast(slopes[0], node.given[name].shape) for name in node.parents}
        return {name: _scaled(slope, shares[name]) for name, slope in whole.items()}

    return rule


def _of_elementwise_product(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """da = dy * b, db = dy * a; of those that are wanted."""
    others = {"a": "b", "b": "a"}
    return {
        name: _unbroadcast(ops.multiply(slopes[0], node.given[others[name]]), node.given[name].shape)
        for name in node.parents
    }


def _of_quotient(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """da = dy / b, db = -da * y; of those that are wanted."""
    of_a = ops.divide(slopes[0], node.given["b"])
    wanted = {"a": lambda: of_a, "b": lambda: _scaled(ops.multiply(of_a, node.results[0]), -1.0)}
    return {name: _unbroadcast(wanted[name](), node.given[name].shape) for name in node.parents}


def _of_multiple(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """Of a number times an array; the number may be what depends on the arguments."""
    wanted: dict[str, Callable[[], Any]] = {
        "x": lambda: _scaled(slopes[0], node.given["factor"]),
        "factor": lambda: ops.total(ops.multiply(slopes[0], node.given["x"]))[0],
    }
    return {name: wanted[name]() for name in node.parents}


def _of_choice(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """What has been chosen has the derivative."""
    whole = dict(
        zip("ab", getattr(ops, f"{node.op}_backward")(slopes[0], node.given["a"], node.given["b"]), strict=True)
    )
    return {name: _unbroadcast(whole[name], node.given[name].shape) for name in node.parents}


def _unbroadcast(dy: Any, shape: tuple[int, ...]) -> Any:
    """dy summed over what was broadcast from a shape: columns by an op, a single number by NumPy."""
    if shape == dy.shape:
        return calculate("scaled", x=dy, factor=1.0)  # of its own: the other operand's gradient may be dy, too
    before = (1,) * (dy.ndim - len(shape)) + shape
    stretched = [axis for axis, size in enumerate(before) if size != dy.shape[axis]]
    kept = [axis for axis in range(dy.ndim) if axis not in stretched]
    count = math.prod(before)
    if count <= 1:
        return calculate("unbroadcast", x=dy, shape=shape)
    if stretched != [*range(len(stretched))]:
        dy = ops.identity(dy.transpose(*stretched, *kept))
    return ops.column_sums(dy.reshape(-1, count)).reshape(shape)


def _of_product(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """da = dy b^T, db = a^T dy; of those that are wanted."""
    (dy,), a, b = slopes, node.given["a"], node.given["b"]
    wanted = {"a": lambda: ops.matmul(dy, b.T), "b": lambda: ops.matmul(a.T, dy)}
    return {name: wanted[name]() for name in node.parents}


def _of_batch_product(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """The same of each sample's."""
    (dy,), a, b = slopes, node.given["a"], node.given["b"]
    wanted = {
        "a": lambda: ops.batch_matmul(dy, b.transpose(0, 2, 1)),
        "b": lambda: ops.batch_matmul(a.transpose(0, 2, 1), dy),
    }
    return {name: wanted[name]() for name in node.parents}


def _of_words(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    return {"table": ops.embedding_backward(slopes[0], node.given["indices"], node.given["table"])}


def _through_time(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """Of a recurrent layer: by what it gives forwards, outputs and last states, of which any may have been used."""
    backward, names = TABLE[f"{node.op}_backward"], RESULTS[node.op]
    of_results = {f"d{name}": slope for name, slope in zip(names, slopes, strict=True)}
    for name, slope in of_results.items():
        if slope is not None and name not in backward.operands:
            raise TypeError(f"{node.op}: got {name[1:]}, which is kept for its backward pass, to find a gradient of")
    known = {**node.given, **dict(zip(names, node.results, strict=True)), **of_results}
    known["need"] = tuple(f"d{name}" for name in node.parents)
    taken = {name: known[name] for name in backward.signature.parameters}
    gradients = dict(zip(GRADIENTS[node.op], getattr(ops, backward.name)(**taken), strict=True))
    return {name: gradients[f"d{name}"] for name in node.parents}


def _of_parts(node: Node, slopes: Sequence[Any]) -> Mapping[str, Any]:
    """One behind the other, zeros for those that nothing depends on."""
    whole = [_whole(slope, part) for slope, part in zip(slopes, node.results, strict=True)]
    return {"x": ops.concatenate(whole, node.given["axis"])}


def _of_option(backward: str, option: str) -> _Rule:
    """By an op that undoes it with the same option."""
    return lambda node, slopes: {"x": getattr(ops, backward)(slopes[0], node.given[option])}


# How derivatives are found where no op says it: of sums, products, words, recurrent layers, views, and of calculations
# with numbers a and b.
_RULES: dict[str, _Rule] = {
    "add": _of_sum(a=1.0, b=1.0),
    "subtract": _of_sum(a=1.0, b=-1.0),
    "average": _of_sum(a=0.5, b=0.5),
    "multiply": _of_elementwise_product,
    "divide": _of_quotient,
    "maximum": _of_choice,
    "minimum": _of_choice,
    "matmul": _of_product,
    "batch_matmul": _of_batch_product,
    "embedding": _of_words,
    "gather_backward": lambda node, slopes: {"dy": ops.gather(slopes[0], node.given["index"])},
    **dict.fromkeys(RESULTS, _through_time),
    "call": lambda node, slopes: node.given["pull"](slopes),
    "zero_pad2d": _of_option("crop2d", "padding"),
    "crop2d": _of_option("zero_pad2d", "cropping"),
    "reshape": lambda node, slopes: {"x": slopes[0].reshape(node.given["x"].shape)},
    "identity": lambda node, slopes: {"x": slopes[0]},
    "permute": lambda node, slopes: {"x": slopes[0].transpose(*np.argsort(node.given["axes"]).tolist())},
    "split": _of_parts,
    # nothing depends on what they are like
    **dict.fromkeys(("zeros", "random_uniform", "random_normal"), lambda node, slopes: dict.fromkeys(node.parents)),
    "transpose": lambda node, slopes: {"x": slopes[0].T},
    "scaled": _of_multiple,
    "part": lambda node, slopes: {
        "x": calculate("spread", x=slopes[0], index=node.given["index"], like=node.given["x"])
    },
    "divided": lambda node, slopes: {"x": calculate("divided", x=slopes[0], factor=node.given["factor"])},
    "plus": lambda node, slopes: {"a": slopes[0], "b": slopes[0]},
    "minus": lambda node, slopes: {"a": slopes[0], "b": -slopes[0]},
    "times": lambda node, slopes: {"a": slopes[0] * node.given["b"], "b": slopes[0] * node.given["a"]},
    "over": lambda node, slopes: {
        "a": slopes[0] / node.given["b"],
        "b": -slopes[0] * node.given["a"] / (node.given["b"] * node.given["b"]),
    },
}
