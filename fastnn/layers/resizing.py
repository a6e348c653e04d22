"""Layers that make images and sequences larger or smaller."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastnn import checks, ops
from fastnn.engine.protocols import Array
from fastnn.kernels.table.sampling import INTERPOLATIONS
from fastnn.layers.base import BatchShape
from fastnn.layers.images import OnImages, least
from fastnn.layers.preprocessing import Resizing

Pair = tuple[int, int]


class UpSampling2D(OnImages):
    """Images size[0] x size[1] times as large, by the "nearest" place's numbers or "bilinear" ``interpolation``."""

    def __init__(
        self,
        size: int | Sequence[int] = 2,
        data_format: str | None = None,
        interpolation: str = "nearest",
        **options: Any,
    ) -> None:
        self.size = checks.integers("size", size, self.axes, 1)
        self.interpolation = checks.one_of("interpolation", interpolation, INTERPOLATIONS)
        self._resizing: Resizing | None = None
        super().__init__(data_format, **options)

    @property
    def _times(self) -> tuple[int, ...]:
        return (*self.size, *(1,) * (2 - self.axes))

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Spatial axes so many times as long."""
        sizes = self.spatial(input_shape, lambda axis, size: size * self.size[axis])
        return (input_shape[0], *sizes, input_shape[-1])

    def image_forward(self, image: Array) -> Array:
        """Copies."""
        if self.interpolation == "bilinear":
            return self._by_shares(image).image_forward(image)
        y: Array = ops.upsample2d(image, self._times)
        return y

    def _by_shares(self, image: Array) -> Resizing:
        """What makes images such as these as large."""
        height, width = (size * times for size, times in zip(image.shape[1:3], self._times, strict=True))
        if self._resizing is None or (self._resizing.height, self._resizing.width) != (height, width):
            self._resizing = Resizing(height, width, name=self.name)
        return self._resizing

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """Sums over the copies."""
        if self.interpolation == "bilinear":
            return self._by_shares(image).image_backward(dy, image, y)
        dx: Array = ops.upsample2d_backward(dy, image, self._times)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"size": list(self.size), "interpolation": self.interpolation, **super().get_config()}


class UpSampling1D(UpSampling2D):
    """Every step of a sequence ``size`` times."""

    axes = 1

    def __init__(self, size: int = 2, **options: Any) -> None:
        super().__init__(size, **options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {**super().get_config(), "size": self.size[0]}
        return {name: value for name, value in config.items() if name not in ("interpolation", "data_format")}


def _around(name: str, value: Any, axes: int) -> tuple[Pair, ...]:
    """Numbers before and behind each of two axes, as Keras takes them; nothing around an axis that there is not."""
    if axes == 1:
        before, after = checks.integers(name, value, 2, 0)
        return (before, after), (0, 0)
    if isinstance(value, str):
        raise TypeError(f"{name}: got {checks.describe(value)}, wants an integer, two of them, or two pairs")
    found: tuple[Pair, ...] = checks.padding(name, value, 2)
    return found


class ZeroPadding2D(OnImages):
    """Zeros around images: ``padding`` is a number, (rows, columns), or ((top, bottom), (left, right))."""

    def __init__(self, padding: Any = 1, data_format: str | None = None, **options: Any) -> None:
        self.padding = _around("padding", padding, self.axes)
        super().__init__(data_format, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Spatial axes with what is put around them."""
        sizes = self.spatial(input_shape, lambda axis, size: size + sum(self.padding[axis]))
        return (input_shape[0], *sizes, input_shape[-1])

    def image_forward(self, image: Array) -> Array:
        """Zeros around."""
        y: Array = ops.zero_pad2d(image, self.padding)
        return y

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """What is in the midst."""
        dx: Array = ops.crop2d(dy, self.padding)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"padding": _listed(self.padding, self.axes), **super().get_config()}


class Cropping2D(OnImages):
    """Images without their edges: ``cropping`` is a number, (rows, columns), or ((top, bottom), (left, right))."""

    def __init__(self, cropping: Any = ((0, 0), (0, 0)), data_format: str | None = None, **options: Any) -> None:
        self.cropping = _around("cropping", cropping, self.axes)
        super().__init__(data_format, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """Spatial axes without what is cut off; ValueError where nothing is left."""
        sizes = self.spatial(input_shape, lambda axis, size: size - sum(self.cropping[axis]))
        if least(sizes) < 1:
            got = f"input shape {tuple(input_shape)} with cropping={_listed(self.cropping, self.axes)}"
            raise ValueError(f"{self.name}: got {got}, wants something to be left along every axis")
        return (input_shape[0], *sizes, input_shape[-1])

    def image_forward(self, image: Array) -> Array:
        """What is left."""
        y: Array = ops.crop2d(image, self.cropping)
        return y

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """Zeros for what was cut off."""
        dx: Array = ops.zero_pad2d(dy, self.cropping)
        return dx

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"cropping": _listed(self.cropping, self.axes), **super().get_config()}


def _listed(pairs: Sequence[Pair], axes: int) -> list[Any]:
    """As the constructors take them, in lists."""
    return list(pairs[0]) if axes == 1 else [list(pair) for pair in pairs]


class ZeroPadding1D(ZeroPadding2D):
    """Zeros around a sequence: ``padding`` at either end, or (before, behind)."""

    axes = 1


class Cropping1D(Cropping2D):
    """A sequence without its ends: ``cropping`` at either end, or (before, behind)."""

    axes = 1

    def __init__(self, cropping: Any = (1, 1), **options: Any) -> None:
        super().__init__(cropping, **options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "data_format"}
