"""Convolutions of images and sequences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from fastnn import activations, checks, configurable, constraints, initializers, ops, regularizers
from fastnn.engine.activations import LINEAR
from fastnn.engine.protocols import Array, Shape, Training
from fastnn.kernels.table import windows
from fastnn.layers.base import Activated, BatchShape, Parameter
from fastnn.layers.images import least


class _Convolution(Activated):
    """What all convolutions have: windows that move along axes, a kernel or two, a bias, an activation."""

    # Spatial axes; whether ops are those of images, to which a sequence is an image of one column; the names of the
    # kernels, in the order of the weights.
    _AXES = 2
    _BY_IMAGES = True
    _KERNELS: tuple[str, ...] = ("kernel",)

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int],
        padding: str,
        data_format: str | None,
        dilation_rate: int | Sequence[int],
        activation: Any,
        use_bias: bool,
        bias_initializer: Any,
        bias_regularizer: Any,
        bias_constraint: Any,
        **options: Any,
    ) -> None:
        self.kernel_size = checks.integers("kernel_size", kernel_size, self._AXES, 1)
        self.strides = checks.integers("strides", strides, self._AXES, 1)
        self.padding = checks.one_of(
            "padding", padding.lower() if isinstance(padding, str) else padding, self._PADDINGS
        )
        if data_format is not None:
            checks.one_of("data_format", data_format, ("channels_last", "channels_first"))
        if data_format == "channels_first":
            raise ValueError(
                "data_format: got 'channels_first', wants 'channels_last': axes (batch, ..., channels), as "
                "numpy.moveaxis(x, 1, -1) makes them"
            )
        self.dilation_rate = checks.integers("dilation_rate", dilation_rate, self._AXES, 1)
        self.activation = activation
        self.use_bias = checks.instance("use_bias", use_bias, bool, "True or False")
        self._shape_by("bias", bias_initializer, bias_regularizer, bias_constraint)
        super().__init__(**options)
        self.dtype = self.dtype or "float32"

    _PADDINGS: tuple[str, ...] = ("valid", "same")

    def _shape_by(self, name: str, initializer: Any, regularizer: Any, constraint: Any) -> None:
        """Keep what draws a weight array, what penalises it, what holds it in bounds."""
        setattr(self, f"{name}_initializer", initializers.get(initializer, f"{name}_initializer"))
        setattr(self, f"{name}_regularizer", regularizers.get(regularizer, f"{name}_regularizer"))
        setattr(self, f"{name}_constraint", constraints.get(constraint, f"{name}_constraint"))

    # ---------------------------------------------------------------------------------------------------------- weights

    @property
    def kernel(self) -> Parameter:
        """The first of the kernels."""
        return self._parameter(0)

    @property
    def bias(self) -> Parameter | None:
        """The bias, one number a map, or None without one."""
        return self._parameter(len(self._KERNELS)) if self.use_bias else None

    def _parameter(self, index: int) -> Parameter:
        if not self.built:
            raise ValueError(f"{self.name}: the layer is not built, so it has no weights yet")
        return self.parameters[index]

    def _kernel_shapes(self, channels: int) -> list[Shape]:
        """Those of the kernels, for inputs of so many channels."""
        raise NotImplementedError

    def _maps(self, channels: int) -> int:
        """Channels of the outputs."""
        raise NotImplementedError

    def parameter_shapes(self, input_shape: BatchShape) -> dict[str, Shape]:
        """Those of the kernels, and of the bias if there is one."""
        channels = input_shape[-1] or 0
        shapes = dict(zip(self._KERNELS, self._kernel_shapes(channels), strict=True))
        return {**shapes, **({"bias": (self._maps(channels),)} if self.use_bias else {})}

    def make_parameters(self, input_shape: BatchShape) -> None:
        """The weights as their initializers draw them."""
        values = []
        for name, shape in self.parameter_shapes(input_shape).items():
            argument = f"{name}_initializer"
            values.append(initializers.first_weights(getattr(self, argument), argument, shape, self.dtype))
        self._take_parameters(input_shape, values)

    def _fits(self, input_shape: BatchShape) -> bool:
        """Whether there are as many channels as the weights are for."""
        return self.input_shape is not None and input_shape[-1] == self.input_shape[-1]

    # ----------------------------------------------------------------------------------------------------------- shapes

    def _outputs(self, size: int, axis: int) -> int:
        """Outputs along a spatial axis of so many inputs."""
        given = self.kernel_size[axis], self.strides[axis], self._pad, axis, self.dilation_rate[axis]
        return windows.places(size, *given)

    @property
    def _pad(self) -> Any:
        """The padding as ops take it."""
        return self.padding

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """(None, spatial axes, maps); None for spatial axes of unknown size."""
        wanted = f"{'rows, columns' if self._AXES == 2 else 'steps'}, channels"
        if len(input_shape) != self._AXES + 2 or input_shape[-1] is None:
            raise ValueError(f"{self.name}: got input shape {tuple(input_shape)}, wants (None, {wanted})")
        *sizes, channels = input_shape[1:]
        self._check_channels(channels)
        found = [None if size is None else self._outputs(size, axis) for axis, size in enumerate(sizes)]
        if least(found) < 1:
            raise ValueError(
                f"{self.name}: got input shape {tuple(input_shape)}, wants it at least as large as the kernel, "
                f"{self.kernel_size} with dilation rate {self.dilation_rate}"
            )
        return (input_shape[0], *found, self._maps(channels))

    def _check_channels(self, channels: int) -> None:
        """Raise ValueError where inputs cannot have so many."""

    @property
    def flops(self) -> int:
        """Two operations a weight of the kernels and place of the windows."""
        if self.input_shape is None:
            return 0
        places = math.prod(size or 1 for size in self.output_shape[1:-1])
        return 2 * places * sum(math.prod(shape) for shape in self._kernel_shapes(self.input_shape[-1] or 0))

    # ----------------------------------------------------------------------------------------------------------- passes

    def _bias_value(self) -> Array | None:
        return self.parameters[-1].value if self.use_bias else None

    def _finished(self, z: Array, activate: bool) -> tuple[Array, Any]:
        """Outputs, and (z, y, activation), of an op's result that has been activated where ops can do it."""
        activation = self._activation if activate else LINEAR
        y = z if activation.in_linear else activation(z)
        return y, (z, y, activation)

    def _in_op(self, activate: bool) -> str:
        """The activation that ops do."""
        activation = self._activation if activate else LINEAR
        return activation.name if activation.in_linear else "linear"

    def _slope(self, dy: Array, kept: Any) -> tuple[Array, Any]:
        """(dL/d(the op's result), the activation that its backward op does)."""
        z, y, activation = kept
        if activation.in_linear:
            return dy, activation.name
        return activation.backward(dy, z, y), "linear"

    @property
    def _is_column(self) -> bool:
        """Whether a sequence goes through ops of images."""
        return self._BY_IMAGES and self._AXES == 1

    def _as_image(self, x: Array) -> Array:
        return x.reshape(x.shape[0], x.shape[1], 1, x.shape[2]) if self._is_column else x

    def _as_sample(self, y: Array) -> Array:
        return y.reshape(y.shape[0], y.shape[1], y.shape[3]) if self._is_column else y

    def _kernel_of_op(self, place: int = 0) -> Array:
        kernel = self.parameters[place].value
        taken: Array = kernel.reshape(kernel.shape[0], 1, *kernel.shape[1:]) if self._is_column else kernel
        return taken

    def _as_kernel(self, dw: Array, place: int = 0) -> Array:
        own: Array = dw.reshape(*self.parameters[place].shape) if self._is_column else dw
        return own

    def _options(self) -> dict[str, Any]:
        """What places the windows, as the layer has it."""
        return {"strides": self.strides, "padding": self._pad, "dilation": self.dilation_rate}

    def _options_of_op(self) -> dict[str, Any]:
        """The same as the op takes it."""
        options = self._options()
        if self._is_column:
            pad = options["padding"]
            options["padding"] = pad if isinstance(pad, str) else (*pad, (0, 0))
            options |= {name: (*options[name], 1) for name in ("strides", "dilation")}
        return options

    def _need(self, need_dx: bool) -> tuple[str, ...]:
        named = {"dx": need_dx, "dw": True, "db": self.use_bias}
        return tuple(name for name, wanted in named.items() if wanted)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config: dict[str, Any] = {
            "kernel_size": list(self.kernel_size),
            "strides": list(self.strides),
            "padding": self.padding,
            "data_format": "channels_last",
            "dilation_rate": list(self.dilation_rate),
            "activation": activations.serialize(self.activation),
            "use_bias": self.use_bias,
        }
        for name in (*self._KERNELS, "bias"):
            config |= {
                f"{name}_initializer": initializers.serialize(getattr(self, f"{name}_initializer")),
                f"{name}_regularizer": configurable.serialize(getattr(self, f"{name}_regularizer"), regularizers.NAMES),
                f"{name}_constraint": constraints.serialize(getattr(self, f"{name}_constraint")),
            }
        return {**config, **super().get_config()}


class _OneKernel(_Convolution):
    """Convolutions that are one op, of a kernel and a bias."""

    recordable = True

    # The op, by its name.
    _OP = ""

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``backward`` needs."""
        given, kernel, options = self._as_image(x), self._kernel_of_op(), self._options_of_op()
        z = getattr(ops, self._OP)(given, kernel, self._bias_value(), self._in_op(activate), **options)
        y, kept = self._finished(z, activate)
        return self._as_sample(y), (given, kept)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of kernel and bias."""
        given, (z, *rest) = kept
        slope, activation = self._slope(self._as_image(dy), (z, *rest))
        derive = getattr(ops, f"{self._OP}_backward")
        need, options = self._need(need_dx), self._options_of_op()
        dx, dw, db = derive(slope, given, self._kernel_of_op(), z, activation, need=need, **options)
        dx, dw = None if dx is None else self._as_sample(dx), self._as_kernel(dw)
        return dx, (dw, db) if self.use_bias else (dw,)


class _Grouped(_OneKernel):
    """Convolutions to ``filters`` maps, of channels in groups."""

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        groups: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.filters = checks.positive_int("filters", filters)
        self.groups = checks.positive_int("groups", groups)
        if self.filters % self.groups:
            raise ValueError(f"groups: got {self.groups}, wants a divisor of the {self.filters} filters")
        self._shape_by("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, bias_constraint,
            activity_regularizer=activity_regularizer, **options,
        )  # fmt: skip

    def _kernel_shapes(self, channels: int) -> list[Shape]:
        return [(*self.kernel_size, channels // self.groups, self.filters)]

    def _maps(self, channels: int) -> int:
        return self.filters

    def _check_channels(self, channels: int) -> None:
        if channels % self.groups:
            raise ValueError(f"{self.name}: got {channels} channels, wants a multiple of its {self.groups} groups")

    def _options(self) -> dict[str, Any]:
        return {**super()._options(), "groups": self.groups}

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"filters": self.filters, "groups": self.groups, **super().get_config()}


class Conv2D(_Grouped):
    """y = activation(x * kernel + bias) of images (rows, columns, channels), which may be in groups.

    The kernel is (*kernel_size, channels / groups, filters), the bias (filters,). Channels come last. Unlike Keras's it
    takes strides and dilation together.
    """

    _OP = "conv2d"


class Conv1D(_Grouped):
    """y = activation(x * kernel + bias) of sequences (steps, channels); kernel (size, channels / groups, filters).

    Padding may also be "causal": an output looks at no later step than its own.
    """

    _AXES = 1
    _BY_IMAGES = False
    _OP = "conv1d"
    _PADDINGS = ("valid", "same", "causal")

    @property
    def _pad(self) -> Any:
        if self.padding != "causal":
            return self.padding
        return (((self.kernel_size[0] - 1) * self.dilation_rate[0], 0),)


class _Transposed(_Convolution):
    """Transposed convolutions, by the op of images."""

    recordable = True

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        output_padding: int | Sequence[int] | None = None,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        kernel_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        kernel_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        kernel_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.filters = checks.positive_int("filters", filters)
        self._shape_by("kernel", kernel_initializer, kernel_regularizer, kernel_constraint)
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, bias_constraint,
            activity_regularizer=activity_regularizer, **options,
        )  # fmt: skip
        more = output_padding
        self.output_padding = None if more is None else checks.integers("output_padding", more, self._AXES, 0)
        if any(one >= step for one, step in zip(self.output_padding or (), self.strides, strict=False)):
            raise ValueError(f"output_padding: got {output_padding}, wants less than the strides {self.strides}")

    def _kernel_shapes(self, channels: int) -> list[Shape]:
        return [(*self.kernel_size, self.filters, channels)]

    def _maps(self, channels: int) -> int:
        return self.filters

    def _outputs(self, size: int, axis: int) -> int:
        given = self.kernel_size[axis], self.strides[axis], self._pad, axis, self.dilation_rate[axis]
        return windows.spread(size, *given) + self._beyond[axis]

    @property
    def _pad(self) -> Any:
        """The padding by name, or with ``output_padding`` what is cut off before and behind by axis."""
        if self.output_padding is None:
            return self.padding
        return tuple((before, max(behind, 0)) for before, behind in self._cuts)

    @property
    def _beyond(self) -> tuple[int, ...]:
        """Outputs behind all that windows reach, by axis: they are the bias alone."""
        return tuple(max(-behind, 0) for _, behind in self._cuts) if self.output_padding else (0,) * self._AXES

    @property
    def _cuts(self) -> list[tuple[int, int]]:
        """Of the outputs that windows reach those that are cut off, before and behind; below 0 there are more.

        A window reaches over r numbers. With "valid" none are cut off and p are added, with "same" r - r % 2 - p are,
        of which half, or one less than that, before.
        """
        cuts = []
        for size, rate, more in zip(self.kernel_size, self.dilation_rate, self.output_padding or (), strict=True):
            reach = windows.reach(size, rate)
            around = 2 * (reach - 1) + more if self.padding == "valid" else reach + reach % 2 - 2 + more
            before = reach - 1 if self.padding == "valid" else min(around // 2 + around % 2, reach - 1)
            cuts.append((reach - 1 - before, reach - 1 - (around - before)))
        return cuts

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``backward`` needs."""
        image, kernel, options = self._as_image(x), self._kernel_of_op(), self._options_of_op()
        if not any(self._beyond):
            z = ops.conv2d_transpose(image, kernel, self._bias_value(), self._in_op(activate), **options)
            y, kept = self._finished(z, activate)
            return self._as_sample(y), (image, kept)
        z = ops.zero_pad2d(ops.conv2d_transpose(image, kernel, **options), self._edges)
        bias = self._bias_value()
        z = z if bias is None else ops.add(z, bias.reshape(1, 1, 1, -1))
        activation = self._activation if activate else LINEAR
        y = activation(z)
        return self._as_sample(y), (image, (z, y, activation))

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of kernel and bias."""
        image, (z, y, activation) = kept
        dy, kernel = dy.reshape(*y.shape), self._kernel_of_op()
        options, need = self._options_of_op(), self._need(need_dx)
        if not any(self._beyond):
            slope, name = self._slope(dy, (z, y, activation))
            dx, dw, db = ops.conv2d_transpose_backward(slope, image, kernel, z, name, need=need, **options)
        else:
            dz = activation.backward(dy, z, y)
            inner = ops.crop2d(dz, self._edges)
            need = tuple(each for each in need if each != "db")
            dx, dw, _ = ops.conv2d_transpose_backward(inner, image, kernel, inner, need=need, **options)
            db = ops.sum(dz, axis=(0, 1, 2)) if self.use_bias else None
        dx, dw = None if dx is None else self._as_sample(dx), self._as_kernel(dw)
        return dx, (dw, db) if self.use_bias else (dw,)

    @property
    def _edges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        first, second = (*self._beyond, *(0,) * (2 - self._AXES))
        return (0, first), (0, second)

    @property
    def flops(self) -> int:
        """Two operations a weight of the kernel and input."""
        if self.input_shape is None:
            return 0
        places: int = math.prod(size or 1 for size in self.input_shape[1:])
        return 2 * places * math.prod(self.kernel_size) * self.filters

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        more = self.output_padding
        return {"filters": self.filters, "output_padding": None if more is None else list(more), **super().get_config()}


class Conv2DTranspose(_Transposed):
    """Transposed convolution of images (rows, columns, channels); kernel (*kernel_size, filters, channels).

    Rows become rows * stride, with padding "valid" as many more as the kernel reaches beyond. With ``output_padding`` p
    they become (rows - 1) * stride + p and with "valid" the kernel's reach, with "same" 1 where that is odd.
    """


class Conv1DTranspose(_Transposed):
    """Transposed convolution of sequences (steps, channels); kernel (size, filters, channels).

    Steps become more as rows do in ``Conv2DTranspose``.
    """

    _AXES = 1


class _Depthwise(_OneKernel):
    """Convolutions of each channel by itself."""

    _OP = "depthwise_conv2d"

    def __init__(
        self,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        depth_multiplier: int = 1,
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.depth_multiplier = checks.positive_int("depth_multiplier", depth_multiplier)
        self._shape_by("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, bias_constraint,
            activity_regularizer=activity_regularizer, **options,
        )  # fmt: skip

    _KERNELS = ("depthwise",)

    def _kernel_shapes(self, channels: int) -> list[Shape]:
        return [(*self.kernel_size, channels, self.depth_multiplier)]

    def _maps(self, channels: int) -> int:
        return channels * self.depth_multiplier

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"depth_multiplier": self.depth_multiplier, **super().get_config()}


class DepthwiseConv2D(_Depthwise):
    """Each channel's own ``depth_multiplier`` maps; kernel (*kernel_size, channels, depth_multiplier)."""


class DepthwiseConv1D(_Depthwise):
    """Each channel's own ``depth_multiplier`` maps of sequences; kernel (size, channels, depth_multiplier)."""

    _AXES = 1


class _Separable(_Convolution):
    """A depthwise convolution and one of single places."""

    recordable = True
    _KERNELS = ("depthwise", "pointwise")

    def __init__(
        self,
        filters: int,
        kernel_size: int | Sequence[int],
        strides: int | Sequence[int] = 1,
        padding: str = "valid",
        data_format: str | None = None,
        dilation_rate: int | Sequence[int] = 1,
        depth_multiplier: int = 1,
        activation: Any = None,
        use_bias: bool = True,
        depthwise_initializer: Any = "glorot_uniform",
        pointwise_initializer: Any = "glorot_uniform",
        bias_initializer: Any = "zeros",
        depthwise_regularizer: Any = None,
        pointwise_regularizer: Any = None,
        bias_regularizer: Any = None,
        activity_regularizer: Any = None,
        depthwise_constraint: Any = None,
        pointwise_constraint: Any = None,
        bias_constraint: Any = None,
        **options: Any,
    ) -> None:
        self.filters = checks.positive_int("filters", filters)
        self.depth_multiplier = checks.positive_int("depth_multiplier", depth_multiplier)
        self._shape_by("depthwise", depthwise_initializer, depthwise_regularizer, depthwise_constraint)
        self._shape_by("pointwise", pointwise_initializer, pointwise_regularizer, pointwise_constraint)
        super().__init__(
            kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias,
            bias_initializer, bias_regularizer, bias_constraint,
            activity_regularizer=activity_regularizer, **options,
        )  # fmt: skip

    def _kernel_shapes(self, channels: int) -> list[Shape]:
        mixed = channels * self.depth_multiplier
        return [(*self.kernel_size, channels, self.depth_multiplier), (*(1,) * self._AXES, mixed, self.filters)]

    def _maps(self, channels: int) -> int:
        return self.filters

    def forward(self, x: Array, training: Training = False, activate: bool = True) -> tuple[Array, Any]:
        """Outputs of a batch, and what ``backward`` needs."""
        image = self._as_image(x)
        h = ops.depthwise_conv2d(image, self._kernel_of_op(0), **self._options_of_op())
        z = ops.conv2d(h, self._kernel_of_op(1), self._bias_value(), self._in_op(activate))
        y, kept = self._finished(z, activate)
        return self._as_sample(y), (image, h, kept)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """From dL/dy: dL/dx, and the gradients of both kernels and the bias."""
        image, h, (z, *rest) = kept
        slope, activation = self._slope(self._as_image(dy), (z, *rest))
        dh, of_places, db = ops.conv2d_backward(slope, h, self._kernel_of_op(1), z, activation, need=self._need(True))
        need, options = ("dx",) * need_dx + ("dw",), self._options_of_op()
        dx, of_windows, _ = ops.depthwise_conv2d_backward(dh, image, self._kernel_of_op(0), h, need=need, **options)
        dx, own = (
            None if dx is None else self._as_sample(dx),
            (self._as_kernel(of_windows), self._as_kernel(of_places, 1)),
        )
        return dx, (*own, db) if self.use_bias else own

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"filters": self.filters, "depth_multiplier": self.depth_multiplier, **super().get_config()}


class SeparableConv2D(_Separable):
    """Each channel's own maps, of which ``filters`` are mixed: a depthwise convolution and one of single places.

    Kernels are (*kernel_size, channels, depth_multiplier) and (1, 1, channels * depth_multiplier, filters).
    """


class SeparableConv1D(_Separable):
    """The same of sequences: kernels (size, channels, depth_multiplier), (1, channels * depth_multiplier, filters)."""

    _AXES = 1
