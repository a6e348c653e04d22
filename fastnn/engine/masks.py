"""Which steps of sequences count: a layer tells it of its outputs, and the next one is told of its inputs."""

from __future__ import annotations

from typing import Any

from fastnn.engine.protocols import Array, Layer, Training


def passed(
    layer: Layer, x: Array, mask: Array | None, training: Training, activate: bool = True
) -> tuple[Array, Any, Array | None]:
    """(y, what ``backward`` needs, y's mask) of a forward pass on x, whose mask is None where all steps count."""
    given = {"mask": mask} if layer.takes_mask else {}
    y, kept = layer.forward(x, training, activate, **given)
    return y, kept, layer.compute_mask(x, mask)
