"""Operands for an op's cases: what the tests compare on and the benchmarks time. Random, seeded, never zeros."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from fastnn.kernels.naive import elementwise, pooling, softmax
from fastnn.kernels.table import ELEMENTWISE_ACTIVATIONS, Op, Sizes, shape_of
from fastnn.kernels.table.elementwise import FROM_INPUT

Rng = np.random.Generator

# Different numbers that a large x and its y = f(x) are made of, again and again: so many take plain loops a moment.
_FEW = 1 << 16


def _probabilities(rng: Rng, shape: tuple[int, ...]) -> Any:
    rows = rng.random(shape) + 0.01
    return rows / rows.sum(axis=1, keepdims=True)


# How an operand is drawn, by the name in the table's `draw`.
_DRAWS: dict[str, Callable[[Rng, tuple[int, ...]], Any]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "positive": lambda rng, shape: rng.uniform(0.25, 2.0, shape),
    "squares": lambda rng, shape: rng.uniform(0.1, 2.0, shape),
    "small": lambda rng, shape: rng.uniform(-0.1, 0.1, shape),
    "unit": lambda rng, shape: rng.uniform(0.01, 0.99, shape),
    "bits": lambda rng, shape: rng.integers(0, 2, shape),
    "mask": lambda rng, shape: rng.integers(0, 2, shape),
    "signs": lambda rng, shape: 2 * rng.integers(0, 2, shape) - 1,
    "one_hot": lambda rng, shape: np.eye(shape[1])[rng.integers(0, shape[1], shape[0])],
    "logits": lambda rng, shape: 3.0 * rng.standard_normal(shape),
    "probabilities": _probabilities,
    "rows": _probabilities,
}


def variant_name(variant: Mapping[str, Any]) -> str:
    """A variant as a test's or benchmark's name."""
    return ",".join(f"{name}={value}" for name, value in variant.items()) or "default"


def sizes_name(sizes: Sizes) -> str:
    """Sizes as a test's or benchmark's name: 128x784x512."""
    parts: list[int] = []
    for size in sizes.values():
        parts.extend(size if isinstance(size, tuple) else (size,))
    return "x".join(map(str, parts)) or "scalar"


def draw(op: Op, sizes: Sizes, variant: Mapping[str, Any], dtype: str, rng: Rng) -> dict[str, Any]:
    """Arguments of one call by name: operands of the case's sizes, options of the variant.

    In a variant, an operand set to None is left out and one set to a string is drawn in that way. Sizes may come with
    options of their own.
    """
    own = {name: sizes[name] for name in op.options if name in sizes}
    sizes = op.whole(sizes, variant)
    given: dict[str, Any] = {}
    for name, spec in op.operands.items():
        how = variant[name] if name in variant else op.draw.get(name, "normal")
        if how is None or name in given:
            continue
        shape = shape_of(spec, sizes)
        if how == "labels":
            given[name] = rng.integers(0, sizes["c"], shape)
        elif how == "row_numbers":
            given[name] = rng.integers(0, max(1, sizes["rows"]), shape)
        elif how == "largest":
            given[name] = given["x"].max(axis=1, initial=-9.0)
        elif how == "pooled":
            given[name] = _pooled(op, given, {**variant, **own}, shape).astype(dtype)
        elif how in ("forward", "activation"):
            given[name] = _output(op, how, given, variant, rng, shape).astype(dtype)
        else:
            if how in ("rows", "one_hot"):
                shape = (sizes["n"], sizes["c"])
            given[name] = np.asarray(_DRAWS[how](rng, shape)).astype(dtype)
    given.update({**own, **{name: value for name, value in variant.items() if name not in op.operands}})
    return given


def _pooled(op: Op, given: dict[str, Any], options: Mapping[str, Any], shape: tuple[int, ...]) -> Any:
    """What is pooled of x, which is some images again and again where they are large: plain loops take a moment."""
    x = given["x"]
    count = max(1, _FEW // max(1, x[:1].size))
    taken = {name: options[name] for name in op.options}
    y = getattr(pooling, op.name.removesuffix("_backward"))(x[:count], **taken)
    given["x"] = np.resize(x[:count], x.shape)
    return np.resize(y, shape)


def _output(op: Op, how: str, given: dict[str, Any], variant: Mapping[str, Any], rng: Rng, shape: Any) -> Any:
    """A plausible `y`: f(x) of the op that this is the backward of, or an activation of random numbers, its `z`."""
    if how == "forward":
        numbers = [variant.get(name, op.signature.parameters[name].default) for name in op.options]
        name = op.name.removesuffix("_backward")
        given["x"] = np.resize(_few(name, given["x"]), shape)
        return _activated(name, given["x"], *numbers)
    activation = variant.get("activation", "linear")
    z = rng.standard_normal(shape).astype(given["dy"].dtype)
    if activation in FROM_INPUT:
        given["z"] = z
    return _activated(ELEMENTWISE_ACTIVATIONS.get(activation, activation), z)


def _activated(name: str, x: Any, *numbers: float) -> Any:
    """f(x) by plain loops, which large arrays of repeated numbers are spared."""
    if not x.size:
        return np.zeros(x.shape)
    if name in softmax.FORWARD:
        rows = _few(name, x.reshape(-1, x.shape[-1])).tolist()
        return np.resize([softmax.FORWARD[name](row) for row in rows], x.shape)
    few = _few(name, x).tolist()
    return np.resize(elementwise.forward(name, few, *numbers), x.shape)


def _few(name: str, x: Any) -> Any:
    """The numbers of x that come first, whole rows where the activation takes such."""
    return x[: max(1, _FEW // x.shape[1])] if name in softmax.FORWARD else x.ravel()[:_FEW]
