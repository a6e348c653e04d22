"""The table of a model's layers that ``summary`` prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from fastnn.engine.protocols import Array
from fastnn.layers import Layer

if TYPE_CHECKING:
    from fastnn.models.base import Model


def summary(model: Model, line_length: int | None, expand_nested: bool = False, show_trainable: bool = False) -> str:
    """The table, as wide as asked for or as it needs."""
    rows = [("Layer (type)", "Output shape", "Parameters", "Connected to")]
    rows += _rows(model, expand_nested, show_trainable)
    if not any(row[3] for row in rows[1:]):  # a stack
        rows = [(*row[:3], "") for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    between = 6 if widths[3] else 4
    spare = 0 if line_length is None else line_length - sum(widths) - between
    if spare > 0:
        widths[0] += spare
    lines = [f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c:>{widths[2]}}  {d}".rstrip() for a, b, c, d in rows]
    rule = "-" * (sum(widths) + between)
    counted = {
        "Total": model.weights,
        "Trainable": model.trainable_weights,
        "Non-trainable": model.non_trainable_weights,
    }
    totals = [f"{name} parameters: {_amount([p.value for p in parameters])}" for name, parameters in counted.items()]
    if model.optimizer is not None and model.optimizer.state:
        state = [array for slots in model.optimizer.state.values() for array in slots.values()]
        totals.append(f"Optimizer state: {_amount(state)}")
    return "\n".join([f"Model {model.name!r}", rule, lines[0], rule, *lines[1:], rule, *totals])


def _rows(model: Model, expand: bool, trainable: bool, indent: str = "") -> list[tuple[str, str, str, str]]:
    """A row for each layer, below a model inside those of its own."""
    rows = []
    for layer in model.layers:
        frozen = ", frozen" if trainable and layer.weights and not layer.trainable else ""
        name = f"{indent}{layer.name} ({type(layer).__name__}{frozen})"
        rows.append((name, *_shape_and_count(layer), ", ".join(model.feeding(layer))))
        if expand and hasattr(layer, "feeding"):
            rows += _rows(layer, expand, trainable, f"{indent}  ")
    return rows


def _shape_and_count(layer: Layer) -> tuple[str, str]:
    if not layer.built:
        return "not built", "not built"
    return str(layer.output_shape), f"{layer.count_params():,}"


def _amount(arrays: Sequence[Array]) -> str:
    size = float(sum(array.nbytes for array in arrays))
    unit = 0
    while size >= 1024 and unit < 3:
        size /= 1024
        unit += 1
    digits = 0 if unit == 0 else 2
    return f"{sum(array.size for array in arrays):,} ({size:.{digits}f} {('B', 'KiB', 'MiB', 'GiB')[unit]})"
