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
    Training,
)
from fastnn.kernels.table import TABLE
from fastnn.layers.base import BatchShape
from fastnn.layers.drawing import Drawing
from fastnn.layers.images import channels_last
from fastnn.tape import calculate


class Dropout(Drawing):
    """Inverted dropout: training sets a share ``rate`` of the inputs to 0 and divides the others by 1 - ``rate``.

    Evaluation and prediction leave the inputs as they are. Every step has a mask of its own, which follows from the
    seed, the optimizer's count of steps and the layer's place in the model. Without ``seed`` each fit draws one from
    the library's generator (``utils.set_random_seed``). Called by itself with ``training=True`` the layer drops too,
    other inputs in every call. Keras's ``noise_shape`` is not supported.
    """

    recordable = True
    supports_masking = True

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        self.rate = checks.option("rate", rate, TABLE["dropout"].options["rate"])
        super().__init__(seed, **options)

    def form(self) -> LayerForm | None:
        """A share of the inputs is dropped."""
        return DropForm(self.rate, self.seed)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what its mask was drawn from, None where nothing was dropped."""
        if not training or self.rate == 0:
            return x, None
        draw = self._draw(training)
        return self._masked(ops.dropout, x, draw), draw

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient behind the same mask."""
        return (dy if kept is None else self._masked(ops.dropout_backward, dy, kept)), ()

    def _masked(self, op: Any, x: Array, draw: Draw) -> Array:
        y: Array = op(_rows(x), self.rate, *draw).reshape(x.shape)
        return y

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"rate": self.rate, **super().get_config()}


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


class SpatialDropout2D(Dropout):
    """Dropout of whole channels of images: a sample's channel is kept, or dropped, at all places alike."""

    recordable = True
    axes = 2

    def __init__(self, rate: float, data_format: str | None = None, seed: int | None = None, **options: Any) -> None:
        self.data_format = channels_last(data_format)
        super().__init__(rate, seed, **options)

    def form(self) -> LayerForm | None:
        """None that other runners know: they would drop single numbers."""
        return None

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they have other axes."""
        if len(input_shape) != self.axes + 2:
            wants = "(None, steps, channels)" if self.axes == 1 else "(None, height, width, channels)"
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants {wants}")
        return tuple(input_shape)

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what each channel was multiplied with, None where nothing was dropped."""
        if not training or self.rate == 0:
            return x, None
        means = ops.global_average_pool(x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]))
        ones = ops.exponential(calculate("zeros", x=means))
        factors = ops.dropout(ones, self.rate, *self._draw(training)).reshape(
            x.shape[0], *(1,) * self.axes, x.shape[-1]
        )
        return ops.multiply(x, factors), factors

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """The gradient, multiplied alike."""
        return (dy if kept is None else ops.multiply(dy, kept)), ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"data_format": self.data_format, **super().get_config()}


class SpatialDropout1D(SpatialDropout2D):
    """Dropout of whole channels of sequences."""

    axes = 1

    def __init__(self, rate: float, seed: int | None = None, **options: Any) -> None:
        super().__init__(rate, None, seed, **options)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {name: value for name, value in super().get_config().items() if name != "data_format"}
