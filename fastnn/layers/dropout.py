"""Layers that draw numbers in training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import checks, ops
from fastnn.engine.protocols import (
    Array,
    Draw,
    DropForm,
    LayerForm,
    Shape,
    Training,
)
from fastnn.kernels.table import TABLE
from fastnn.layers.base import BatchShape
from fastnn.layers.drawing import Drawing
from fastnn.layers.images import channels_last
from fastnn.tape import constant


class Dropout(Drawing):
    """Inverted dropout: training sets a share ``rate`` of the inputs to 0 and divides the others by 1 - ``rate``.

    Evaluation and prediction leave the inputs as they are. Every step has a mask of its own, which follows from the
    seed, the optimizer's count of steps and the layer's place in the model. Without ``seed`` each fit draws one from
    the library's generator (``utils.set_random_seed``). Called by itself with ``training=True`` the layer drops too,
    other inputs in every call. ``noise_shape`` is that of the mask: 1 along axes that are dropped together, None where
    the inputs say it.
    """

    recordable = True
    supports_masking = True

    def __init__(
        self,
        rate: float,
        noise_shape: Sequence[int | None] | None = None,
        seed: int | None = None,
        **options: Any,
    ) -> None:
        self.rate = checks.option("rate", rate, TABLE["dropout"].options["rate"])
        self.noise_shape = None if noise_shape is None else _sizes("noise_shape", noise_shape)
        super().__init__(seed, **options)

    def form(self) -> LayerForm | None:
        """A share of the inputs is dropped; None that other runners know where some are dropped together."""
        return DropForm(self.rate, self.seed) if self.noise_shape is None else None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where no mask of ``noise_shape`` stretches to them."""
        shape, wanted = tuple(input_shape), self.noise_shape
        if wanted is not None and (
            len(wanted) != len(shape)
            or any(size not in (None, 1, given or size) for size, given in zip(wanted, shape, strict=True))
        ):
            raise ValueError(f"{self.name}: got input shape {shape}, wants one that noise_shape={wanted} stretches to")
        return shape

    def _together(self, shape: Shape) -> Shape | None:
        """The mask's shape for inputs of a shape; None where each number has its own."""
        if self.noise_shape is None:
            return None
        return tuple(given if size is None else size for size, given in zip(self.noise_shape, shape, strict=True))

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch; what its mask was drawn from, or what was multiplied, None where nothing was dropped."""
        if not training or self.rate == 0:
            return x, None
        draw, shape = self._draw(training), self._together(tuple(x.shape))
        if shape is None:
            return self._masked(ops.dropout, x, draw), draw
        ones = constant(1.0, x, (shape[0], math.prod(shape[1:])))
        factors = ops.dropout(ones, self.rate, *draw).reshape(shape)
        return ops.multiply(x, factors), factors

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient behind the same mask."""
        if isinstance(kept, Draw):
            return self._masked(ops.dropout_backward, dy, kept), ()
        return (dy if kept is None else ops.multiply(dy, kept)), ()

    def _masked(self, op: Any, x: Array, draw: Draw) -> Array:
        y: Array = op(_rows(x), self.rate, *draw).reshape(x.shape)
        return y

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        shape = None if self.noise_shape is None else list(self.noise_shape)
        return {"rate": self.rate, "noise_shape": shape, **super().get_config()}


def _sizes(name: str, given: Any) -> tuple[int | None, ...]:
    """Sizes of axes, None where something else says them."""
    checks.instance(name, given, (list, tuple), "a list or tuple of sizes, or None")
    return tuple(None if size is None else checks.integer(f"{name}[{i}]", size, 1) for i, size in enumerate(given))


def _rows(x: Array) -> Array:
    """A batch as a row for each sample."""
    rows: Array = x.reshape(x.shape[0], math.prod(x.shape[1:]))
    return rows


class _Noise(Drawing):
    """Layers that draw a normal number for each one of the inputs in training; other passes do nothing."""

    supports_masking = True

    def _normal(self, x: Array, training: Training, mean: float, stddev: float) -> Array:
        """Normal numbers of x's shape, where x lies."""
        numbers: Array = ops.random_normal(_rows(x), *self._draw(training), mean, stddev).reshape(x.shape)
        return numbers


class GaussianNoise(_Noise):
    """Training adds normal numbers of mean 0 and standard deviation ``stddev`` to the inputs."""

    recordable = True

    def __init__(self, stddev: float, seed: int | None = None, **options: Any) -> None:
        self.stddev = checks.real("stddev", stddev, minimum=0)
        super().__init__(seed, **options)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch; nothing is kept."""
        if not training or self.stddev == 0:
            return x, None
        return ops.add(x, self._normal(x, training, 0.0, self.stddev)), None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient as it is."""
        return dy, ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"stddev": self.stddev, **super().get_config()}


class GaussianDropout(_Noise):
    """Training multiplies the inputs with normal numbers of mean 1 and variance rate / (1 - rate)."""

    recordable = True

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        self.rate = checks.option("rate", rate, TABLE["dropout"].options["rate"])
        super().__init__(seed, **options)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what they were multiplied with, None where with nothing."""
        if not training or self.rate == 0:
            return x, None
        factors = self._normal(x, training, 1.0, math.sqrt(self.rate / (1 - self.rate)))
        return ops.multiply(x, factors), factors

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient, multiplied alike."""
        return (dy if kept is None else ops.multiply(dy, kept)), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"rate": self.rate, **super().get_config()}


# What "selu" tends to below: -scale * alpha.
_SELU_FLOOR = -1.0507009873554805 * 1.6732632423543772


class AlphaDropout(Dropout):
    """Dropout for "selu": training sets a share ``rate`` of the inputs to what "selu" gives at the least.

    A line that all numbers then go through keeps mean 0 and variance 1 (Klambauer et al. 2017). Else as ``Dropout``.
    """

    recordable = True

    def form(self) -> LayerForm | None:
        """None that other runners know: they would drop to 0."""
        return None

    @property
    def _slope(self) -> float:
        """Of the line, 1 / sqrt((1 - rate) (1 + rate floor^2))."""
        return float(((1 - self.rate) * (1 + self.rate * _SELU_FLOOR**2)) ** -0.5)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``Dropout`` keeps: it drops from what is above the floor."""
        if not training or self.rate == 0:
            return x, None
        above, kept = super().forward(ops.subtract(x, _SELU_FLOOR), training)
        offset = self._slope * _SELU_FLOOR * (1 - self.rate)
        return ops.add(ops.multiply(above, self._slope * (1 - self.rate)), offset), kept

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient behind the same mask."""
        dx, own = super().backward(dy, kept, need_dx)
        return (dx if kept is None else ops.multiply(dx, self._slope * (1 - self.rate))), own


class SpatialDropout2D(Dropout):
    """Dropout of whole channels of images: a sample's channel is kept, or dropped, at all places alike."""

    axes = 2

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **options: Any) -> None:
        self.data_format = channels_last(data_format)
        super().__init__(rate, None, seed, **options)

    def form(self) -> LayerForm | None:
        """None that other runners know: they would drop single numbers."""
        return None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have other axes."""
        if len(input_shape) != self.axes + 2:
            wants = "(None, steps, channels)" if self.axes == 1 else "(None, height, width, channels)"
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants {wants}")
        return tuple(input_shape)

    def _together(self, shape: Shape) -> Shape | None:
        return (shape[0], *(1,) * self.axes, shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"data_format": self.data_format, **super().get_config()}
        return {name: value for name, value in config.items() if name != "noise_shape"}


class SpatialDropout1D(SpatialDropout2D):
    """Dropout of whole channels of sequences."""

    axes = 1

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        super().__init__(rate, None, seed, **options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "data_format"}
