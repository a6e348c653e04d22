"""What layers have in common that look at images, or at sequences as images of one column; channels last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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


def least(sizes: Iterable[int | None]) -> int:
    """The least of the sizes that are known; 1 where none is."""
    return min((size for size in sizes if size is not None), default=1)


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

    def spatial(self, input_shape: BatchShape, become: Callable[[int, int], int]) -> list[int | None]:
        """What (axis, size) become of the spatial axes, None of an unknown size; ValueError where there are others."""
        shape = tuple(input_shape)
        if len(shape) != self.axes + 2 or shape[-1] is None:
            raise ValueError(f"{self.name}: got input shape {shape}, wants {_AXES[self.axes]}")
        return [None if size is None else become(axis, size) for axis, size in enumerate(shape[1:-1])]

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
