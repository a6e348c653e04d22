"""The functional API: each op of the table, its arguments checked once, run where its arrays live.

The functions of this module are made from ``fastnn.kernels.table``; ``ops.pyi`` beside it, made from the same table,
tells editors and type checkers.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from fastnn import backends, checks
from fastnn.kernels.table import TABLE, Op

_REQUIRED = inspect.Parameter.empty

# Calls remembered for an op, by the dtypes and shapes of its arrays: a training loop makes the same few over and over.
_REMEMBERED = 256


def _publish(op: Op) -> Callable[..., Any]:
    """The public function of one row: bind, check, dispatch."""
    parameters = op.signature.parameters
    names = tuple(parameters)
    defaults = tuple(p.default for p in parameters.values())
    positional = sum(p.kind is not inspect.Parameter.KEYWORD_ONLY for p in parameters.values())
    required = [p.name for p in parameters.values() if p.default is _REQUIRED]
    arrays = (*op.operands, "out") if "out" in parameters else tuple(op.operands)
    remembers = checks.depends_on_shapes_only(op)
    remembered: set[Any] = set()

    def call(*args: Any, **kwargs: Any) -> Any:
        known = _shape_of_call(args, kwargs) if remembers else None
        if known in remembered:
            return backends.implementation(known[0], op.module, op.name)(*args, **kwargs)
        result = checked(args, kwargs)
        if known is not None:
            if len(remembered) >= _REMEMBERED:
                remembered.clear()
            remembered.add(known)
        return result

    def checked(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        given = dict(zip(names, defaults, strict=True))
        given.update(zip(names, args, strict=False))
        given.update(kwargs)
        fits = len(required) <= len(args) <= positional and len(given) == len(names)
        if not fits or (kwargs and not kwargs.keys().isdisjoint(names[: len(args)])):
            op.signature.bind(*args, **kwargs)  # raises the TypeError that Python itself would, if any
        backend = _home(op, arrays, given)
        checks.operands(op, given)
        for name, spec in op.options.items():
            given[name] = checks.option(name, given[name], spec)
        for rule in op.rules:
            if not rule.holds(given):
                got = checks.describe(given[rule.parameter])
                raise ValueError(f"{rule.parameter}: got {got}, wants it {rule.wants}")
        return backends.implementation(backend, op.module, op.name)(**given)

    call.__name__ = call.__qualname__ = op.name
    call.__doc__ = op.doc
    call.__module__ = __name__
    call.__signature__ = op.signature  # type: ignore[attr-defined]
    return call


def _shape_of_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The backend and all that the checks look at in a call on NumPy arrays; None if it holds anything else."""
    backend = backends.current()
    if backend == "cuda":
        return None
    key: list[Any] = [backend, len(args), *kwargs]
    for value in (*args, *kwargs.values()):
        kind = type(value)
        if kind is np.ndarray:
            key += (value.dtype, value.shape, value.strides, value.flags.writeable)
        elif kind is str or kind is bool or value is None:
            key.append(value)
        elif hasattr(kind, "packed_for"):
            key += (kind, value.dtype, value.shape)
        else:
            return None
    return tuple(key)


def _home(op: Op, arrays: tuple[str, ...], given: dict[str, Any]) -> str:
    """The backend of the place where the arrays live; raises for what is no array and for arrays in two places."""
    homes: dict[str, str] = {}
    for name in arrays:
        array = given[name]
        if type(array) is np.ndarray:
            homes["host"] = name
        elif array is None and (name == "out" or op.optional(name)):
            continue
        elif name in op.packed and hasattr(array, "packed_for"):
            homes["host"] = name
            if backends.current() != array.packed_for:
                raise TypeError(f"{name}: got {array!r}, wants an array while the backend is {backends.current()!r}")
        elif hasattr(array, "__cuda_array_interface__"):
            homes["device"] = name
        elif isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray):
            given[name] = array.view(np.ndarray)
            homes["host"] = name
        else:
            raise TypeError(f"{name}: got {checks.describe(array)}, wants a NumPy or CuPy array")
    if len(homes) > 1:
        raise TypeError(
            f"{homes['device']}: got a CuPy array beside the NumPy array {homes['host']}, wants all arrays in one "
            "place (cupy.asarray or cupy.asnumpy copies; fastnn never copies between host and device by itself)"
        )
    if "device" in homes:
        return "cuda"
    chosen = backends.current()
    if chosen == "cuda":
        raise TypeError(f"{homes['host']}: got a NumPy array, wants a CuPy array while the backend is 'cuda'")
    return chosen


def pack(w: Any) -> Any:
    """Weights (in, out) laid out as the kernels read them fastest, for ``linear`` (w) and ``matmul`` (b).

    Pays where the same weights meet many batches. A copy: later changes of ``w`` do not reach it. float32 or float64,
    any strides; on the "cpu" backend only. Raises TypeError and ValueError as the ops do.
    """
    backend = backends.current()
    if backend != "cpu":
        raise TypeError(f"w: got {checks.describe(w)}, wants the backend 'cpu' to pack it for, not {backend!r}")
    checks.matrix("w", w)
    panels = backends.implementation("cpu", "gemm", "Panels")
    return panels(w)


__all__ = sorted([*TABLE, "pack"])
globals().update({name: _publish(op) for name, op in TABLE.items()})
