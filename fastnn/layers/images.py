"""What layers have in common that look at images, or at sequences as images of one column; channels last."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import checks
from fastnn.engine.protocols import Array, Training
from fastnn.layers.base import BatchShape, Layer

# What samples look like to a layer of so many spatial axes.
_AXES = {1: "(None, steps, channels)", 2: "(None, height, width, channels)"}


def channels_last(data_format: Any) -> str:
    """``data_format`` where it is Keras's default, or None; ValueError for channels first."""
    if data_format is not None:
        checks.one_of("data_format", data_format, ("channels_last",))
    return "channels_last"


class OnImages(Layer):
    """A layer of ``axes`` spatial axes, one or two, whose pass is ``image_forward`` and ``image_backward``."""

    recordable = True
    axes = 2

    def __init__(self, data_format: str | None = None, **options: Any) -> None:
        self.data_format = channels_last(data_format)
        super().__init__(**options)

    def image_forward(self, image: Array) -> Array:
        """Outputs for images (n, h, w, c), w = 1 of sequences."""
        raise NotImplementedError

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """dL/d(image) from dL/dy."""
        raise NotImplementedError

    def spatial(self, input_shape: BatchShape) -> list[int]:
        """The sizes of the spatial axes; ValueError where there are other axes."""
        shape = tuple(input_shape)
        if len(shape) != self.axes + 2 or None in shape[1:]:
            raise ValueError(f"{self.name}: got input shape {shape}, wants {_AXES[self.axes]}")
        return [size or 0 for size in shape[1:-1]]

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and inputs and outputs as images."""
        image = x.reshape(x.shape[0], x.shape[1], 1, x.shape[2]) if self.axes == 1 else x
        y = self.image_forward(image)
        return self._as_samples(y), (image, y)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx."""
        image, y = kept
        return self._as_samples(self.image_backward(dy.reshape(*y.shape), image, y)), ()

    def _as_samples(self, image: Array) -> Array:
        """Images of one column as sequences."""
        return image if self.axes == 2 else image.reshape(image.shape[0], image.shape[1], image.shape[3])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"data_format": self.data_format, **super().get_config()}
