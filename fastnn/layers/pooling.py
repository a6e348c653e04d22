"""Layers that pool: places of a window, or all places, become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import checks, ops
from fastnn.engine.protocols import Array, Training
from fastnn.kernels.table.windows import places
from fastnn.layers.base import BatchShape, Layer
from fastnn.layers.images import OnImages, channels_last, least


class _Pooling(OnImages):
    """A window of ``pool_size`` along each spatial axis, moved by ``strides``, which are its sizes unless given."""

    def __init__(
        self,
        pool_size: int | Sequence[int] = 2,
        strides: int | Sequence[int] | None = None,
        padding: str = "valid",
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        self.pool_size = checks.integers("pool_size", pool_size, self.axes, 1)
        self.strides = self.pool_size if strides is None else checks.integers("strides", strides, self.axes, 1)
        self.padding = checks.one_of("padding", padding.lower() if isinstance(padding, str) else padding, _PADDING)
        super().__init__(data_format, **options)

    @property
    def _window(self) -> tuple[Any, Any, str]:
        """What the ops take: of two axes."""
        beyond = (1,) * (2 - self.axes)
        return (*self.pool_size, *beyond), (*self.strides, *beyond), self.padding

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The places of the window; ValueError where it does not fit."""
        found = self.spatial(
            input_shape,
            lambda axis, size: places(size, self.pool_size[axis], self.strides[axis], self.padding, axis),
        )
        if least(found) < 1:
            wants = f"at least {self.pool_size}, the window's sizes, along its spatial axes"
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants {wants}")
        return (input_shape[0], *found, input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "pool_size": list(self.pool_size),
            "strides": list(self.strides),
            "padding": self.padding,
            **super().get_config(),
        }


_PADDING = ("valid", "same")


class MaxPooling2D(_Pooling):
    """The largest number of each place of a window, channel by channel."""

    def image_forward(self, image: Array) -> Array:
        """Largest numbers."""
        y: Array = ops.max_pool2d(image, *self._window)
        return y

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """To the first of the largest numbers."""
        dx: Array = ops.max_pool2d_backward(dy, image, y, *self._window)
        return dx


class AveragePooling2D(_Pooling):
    """The mean of each place of a window, channel by channel; what "same" puts around is no part of it."""

    def image_forward(self, image: Array) -> Array:
        """Means."""
        y: Array = ops.average_pool2d(image, *self._window)
        return y

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """To all numbers of a window."""
        dx: Array = ops.average_pool2d_backward(dy, image, *self._window)
        return dx


class MaxPooling1D(MaxPooling2D):
    """The largest number of each place of a window in a sequence, channel by channel."""

    axes = 1


class AveragePooling1D(AveragePooling2D):
    """The mean of each place of a window in a sequence, channel by channel."""

    axes = 1


class _GlobalPooling(Layer):
    """All places of a sample become one, channel by channel; ``keepdims`` leaves axes of length 1."""

    axes = 2

    def __init__(self, data_format: str | None = None, keepdims: bool = False, **options: Any) -> None:
        self.data_format = channels_last(data_format)
        self.keepdims = checks.instance("keepdims", keepdims, bool, "True or False")
        super().__init__(**options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The channels."""
        shape = tuple(input_shape)
        if len(shape) != self.axes + 2:
            wants = "(None, steps, channels)" if self.axes == 1 else "(None, height, width, channels)"
            raise ValueError(f"{self.name}: got input shape {shape}, wants {wants}")
        return (shape[0], *(1,) * (self.axes if self.keepdims else 0), shape[-1])

    def _rows(self, x: Array) -> Array:
        """The places of every sample, side by side."""
        return x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1])

    def _samples(self, y: Array) -> Array:
        """(n, c) with the axes that are kept."""
        return y.reshape(y.shape[0], *(1,) * self.axes, y.shape[1]) if self.keepdims else y

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"data_format": self.data_format, "keepdims": self.keepdims, **super().get_config()}


class GlobalMaxPooling2D(_GlobalPooling):
    """The largest number of each channel."""

    recordable = True

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and (rows, largest numbers, shape) for ``backward``."""
        rows = self._rows(x)
        y: Array = ops.global_max_pool(rows)
        return self._samples(y), (rows, y, x.shape)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, which is that of the first of the largest numbers."""
        rows, y, shape = kept
        dx: Array = ops.global_max_pool_backward(dy.reshape(*y.shape), rows, y)
        return dx.reshape(*shape), ()


class GlobalAveragePooling2D(_GlobalPooling):
    """The mean of each channel."""

    recordable = True

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and (rows, shape) for ``backward``."""
        rows = self._rows(x)
        y: Array = ops.global_average_pool(rows)
        return self._samples(y), (rows, x.shape)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, even shares."""
        rows, shape = kept
        dx: Array = ops.global_average_pool_backward(dy.reshape(shape[0], shape[-1]), rows)
        return dx.reshape(*shape), ()


class GlobalMaxPooling1D(GlobalMaxPooling2D):
    """The largest number of each channel of a sequence."""

    axes = 1


# Keras's other names.
MaxPool1D, MaxPool2D = MaxPooling1D, MaxPooling2D
AvgPool1D, AvgPool2D = AveragePooling1D, AveragePooling2D
GlobalMaxPool1D, GlobalMaxPool2D = GlobalMaxPooling1D, GlobalMaxPooling2D
GlobalAvgPool2D = GlobalAveragePooling2D
