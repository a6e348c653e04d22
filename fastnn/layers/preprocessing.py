"""Layers that prepare data: images of another size, images turned and moved at random, numbers as categories."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fastnn import checks, ops
from fastnn.configurable import undefined
from fastnn.engine.data import numeric_array
from fastnn.engine.protocols import Array, Draw, Training
from fastnn.kernels.table.sampling import FILL_MODES, INTERPOLATIONS
from fastnn.layers.base import BatchShape, Layer
from fastnn.layers.drawing import Drawing
from fastnn.layers.images import OnImages, channels_last
from fastnn.tape import constant, kept


def resizing_matrix(sizes: tuple[int, int], wanted: tuple[int, int]) -> list[float]:
    """Where the places of an image of other sizes are in one, pixels' centres at halves (``affine_sample2d``)."""
    down, across = (size / new for size, new in zip(sizes, wanted, strict=True))
    return [down, 0.0, down / 2 - 0.5, 0.0, across, across / 2 - 0.5]


class Resizing(OnImages):
    """Images of ``height`` x ``width`` places, by "bilinear" interpolation or the "nearest" place.

    ``crop_to_aspect_ratio`` cuts off what would be pressed together, in the middle. Other arguments of Keras's are not
    supported.
    """

    def __init__(
        self,
        height: int,
        width: int,
        interpolation: str = "bilinear",
        crop_to_aspect_ratio: bool = False,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        self.height, self.width = checks.positive_int("height", height), checks.positive_int("width", width)
        self.interpolation = checks.one_of("interpolation", interpolation, INTERPOLATIONS)
        self.crop_to_aspect_ratio = checks.instance("crop_to_aspect_ratio", crop_to_aspect_ratio, bool, "True or False")
        super().__init__(data_format, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The sizes that are wanted."""
        self.spatial(input_shape, lambda axis, size: size)
        return (input_shape[0], self.height, self.width, input_shape[-1])

    def _edges(self, h: int, w: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """What is cut off both axes of images, before and behind."""
        if not self.crop_to_aspect_ratio:
            return (0, 0), (0, 0)
        rows = min(h, int(w * self.height / self.width) or 1)
        columns = min(w, int(h * self.width / self.height) or 1)
        return _about(h, rows), _about(w, columns)

    def _cropped(self, image: Array) -> tuple[Array, Any]:
        """What is not cut off, and what is."""
        edges = self._edges(*image.shape[1:3])
        return (ops.crop2d(image, edges), edges) if any(map(any, edges)) else (image, None)

    def _given(self, part: Array) -> tuple[Any, ...] | None:
        """What the op takes beside images, None where these have their sizes already."""
        wanted = self.height, self.width
        if part.shape[1:3] == wanted:
            return None
        matrix = resizing_matrix(part.shape[1:3], wanted)
        return _beside(np.tile(matrix, (part.shape[0], 1)), part), *wanted, self.interpolation, "nearest"

    def image_forward(self, image: Array) -> Array:
        """What is not cut off, and of that shares of the nearest places."""
        part, _ = self._cropped(image)
        given = self._given(part)
        return part if given is None else ops.affine_sample2d(part, *given)

    def image_backward(self, dy: Array, image: Array, y: Array) -> Array:
        """To the places that a number was made of."""
        part, edges = self._cropped(image)
        given = self._given(part)
        dpart = dy if given is None else ops.affine_sample2d_backward(dy, part, *given)
        return dpart if edges is None else ops.zero_pad2d(dpart, edges)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            "height": self.height,
            "width": self.width,
            "interpolation": self.interpolation,
            "crop_to_aspect_ratio": self.crop_to_aspect_ratio,
            **super().get_config(),
        }


class CenterCrop(Resizing):
    """The middle of images, ``height`` x ``width`` places; smaller images are resized to cover it."""

    def __init__(self, height: int, width: int, data_format: str | None = None, **options: Any) -> None:
        super().__init__(height, width, data_format=data_format, crop_to_aspect_ratio=True, **options)

    def _edges(self, h: int, w: int) -> tuple[tuple[int, int], tuple[int, int]]:
        if h < self.height or w < self.width:
            return super()._edges(h, w)
        return _about(h, self.height), _about(w, self.width)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        left_out = ("interpolation", "crop_to_aspect_ratio")
        return {name: value for name, value in super().get_config().items() if name not in left_out}


def _about(size: int, kept: int) -> tuple[int, int]:
    """What is cut off before and behind so that the middle is kept."""
    before = (size - kept) // 2
    return before, size - kept - before


def _beside(numbers: Any, like: Any) -> Array:
    """These numbers where an array lies, and in its dtype: the same array again, so that programs find it."""
    host = np.asarray(numbers, like.dtype)
    array: Array = kept((host.tobytes(), host.shape, host.dtype), like, lambda: host)
    return array


def _of_images(layer: str, input_shape: BatchShape) -> BatchShape:
    """The shape of images as it is; ValueError for one of anything else."""
    if len(input_shape) != 4:
        raise ValueError(f"{layer}: got input shape {tuple(input_shape)}, wants (None, height, width, channels)")
    return tuple(input_shape)


class _Random(Drawing):
    """Images that training turns or moves, each in a way of its own; other passes leave them as they are.

    Where the places of an image come from is an affine function of two numbers that are drawn for it: ``_numbers``
    draws them, and ``_affine`` says what each of them, times 1, adds to what is there in any case.
    """

    recordable = True

    def __init__(
        self,
        fill_mode: str = "reflect",
        interpolation: str = "bilinear",
        seed: int | None = None,
        fill_value: float = 0.0,
        data_format: str | None = None,
        **options: Any,
    ) -> None:
        self.fill_mode = checks.one_of("fill_mode", fill_mode, FILL_MODES)
        self.interpolation = checks.one_of("interpolation", interpolation, INTERPOLATIONS)
        self.fill_value = checks.real("fill_value", fill_value)
        self.data_format = channels_last(data_format)
        super().__init__(seed, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they are no images."""
        return _of_images(self.name, input_shape)

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Outputs of a batch, and where their places were, None where nothing was moved."""
        if not training:
            return x, None
        n, h, w, _ = x.shape
        by, still = (_beside(numbers, x) for numbers in self._affine(h, w))
        matrices = ops.linear(self._numbers(constant(0.0, x, (n, 2)), self._draw(training)), by, still)
        given = matrices, h, w, self.interpolation, self.fill_mode, self.fill_value
        return ops.affine_sample2d(x, *given), (x, given)

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """To the places that a number was made of."""
        if kept is None or not need_dx:
            return dy, ()
        x, given = kept
        return ops.affine_sample2d_backward(dy, x, *given), ()

    def _numbers(self, like: Array, draw: Draw) -> Array:
        """Two numbers of each image (n, 2), as ``like`` is: evenly spread over [0, 1)."""
        numbers: Array = ops.random_uniform(like, *draw)
        return numbers

    def _affine(self, h: int, w: int) -> tuple[Sequence[Array], Array]:
        """What the first number adds to the matrices of images, and the second one; and what there is of itself."""
        raise undefined(self, "_affine(h, w)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        own = {name: getattr(self, name) for name in ("fill_mode", "interpolation", "fill_value", "data_format")}
        return {**own, **super().get_config()}


def _about_middle(h: int, w: int) -> tuple[Array, Array, Array, Array, Array]:
    """By what a matrix about the middle of images is made, of numbers ((a, b), (d, e)) of (rows, columns) by these.

    Those of a, b, d and e; and the middle itself, to which all of them are relative.
    """
    row, column = (h - 1) / 2, (w - 1) / 2
    a, b = (1.0, 0.0, -row, 0.0, 0.0, 0.0), (0.0, 1.0, -column, 0.0, 0.0, 0.0)
    d, e = (0.0, 0.0, 0.0, 1.0, 0.0, -row), (0.0, 0.0, 0.0, 0.0, 1.0, -column)
    return np.array(a), np.array(b), np.array(d), np.array(e), np.array((0.0, 0.0, row, 0.0, 0.0, column))


def _range(name: str, factor: Any, low: float, high: float = math.inf, in_order: bool = True) -> tuple[float, float]:
    """(least, most) of a factor: a pair, or one number for both sides of 0."""
    pair = factor if isinstance(factor, (list, tuple)) else (-factor, factor)
    if len(pair) != 2:
        raise ValueError(f"{name}: got {checks.describe(factor)}, wants a number or a pair (least, most)")
    least, most = (checks.real(name, each, minimum=low, maximum=high) for each in pair)
    if in_order and least > most:
        raise ValueError(f"{name}: got {factor}, wants (least, most)")
    return least, most


class RandomFlip(_Random):
    """Half of the images mirrored: "horizontal", "vertical", or both ways, each by itself."""

    def __init__(self, mode: str = "horizontal_and_vertical", seed: int | None = None, **options: Any) -> None:
        self.mode = checks.one_of("mode", mode, ("horizontal", "vertical", "horizontal_and_vertical"))
        super().__init__(**{"fill_mode": "nearest", "interpolation": "nearest", **options, "seed": seed})

    def _numbers(self, like: Array, draw: Draw) -> Array:
        """0 or 2, as often: what is drawn decides which axes are mirrored."""
        numbers: Array = ops.dropout(constant(1.0, like, like.shape), 0.5, *draw)
        return numbers

    def _affine(self, h: int, w: int) -> tuple[Sequence[Array], Array]:
        a, _, _, e, middle = _about_middle(h, w)
        down, across = ("vertical" in self.mode) * a, ("horizontal" in self.mode) * e
        return (down, across), middle + a + e - 2 * (down + across)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"mode": self.mode, **super().get_config()}
        return {name: value for name, value in config.items() if name not in ("fill_mode", "interpolation")}


# How often an angle is halved before its cosine and sine are found by their series; those of a turn, 2 pi, are then off
# by less than 2^-30.
_HALVED = 5


def _circle(angle: Array) -> tuple[Array, Array]:
    """(cosine, sine) of angles that are given halved so often: those of twice an angle from its own, again and again.

    Ops have no functions of angles, and an angle for each image is little to calculate.
    """
    square = ops.square(angle)
    cosine = 1.0 - square * (1.0 - square * (1.0 - square * (1 / 30)) * (1 / 12)) * 0.5
    sine = angle * (1.0 - square * (1.0 - square * (1.0 - square * (1 / 42)) * (1 / 20)) * (1 / 6))
    for _ in range(_HALVED):
        cosine, sine = cosine * cosine - sine * sine, cosine * sine * 2.0
    return cosine, sine


class RandomRotation(_Random):
    """Images turned by an angle out of ``factor``, a share of a whole turn: a number for both ways, or a pair."""

    def __init__(self, factor: Any, fill_mode: str = "reflect", **options: Any) -> None:
        self.factor = _range("factor", factor, -math.inf)
        super().__init__(fill_mode, **options)

    def _numbers(self, like: Array, draw: Draw) -> Array:
        """The cosine and the sine of an angle."""
        low, high = (2 * math.pi * share / 2**_HALVED for share in self.factor)
        angle = ops.random_uniform(like, *draw, low, high)[:, :1]
        numbers: Array = ops.concatenate(_circle(angle), axis=1)
        return numbers

    def _affine(self, h: int, w: int) -> tuple[Sequence[Array], Array]:
        a, b, d, e, middle = _about_middle(h, w)
        return (a + e, b - d), middle

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"factor": list(self.factor), **super().get_config()}


class RandomZoom(_Random):
    """Images seen from farther by a share out of ``height_factor``, nearer by a negative one; across likewise.

    Without ``width_factor`` both axes take the same share.
    """

    def __init__(
        self, height_factor: Any, width_factor: Any = None, fill_mode: str = "reflect", **options: Any
    ) -> None:
        self.height_factor = _range("height_factor", height_factor, -1.0)
        self.width_factor = None if width_factor is None else _range("width_factor", width_factor, -1.0)
        super().__init__(fill_mode, **options)

    def _affine(self, h: int, w: int) -> tuple[Sequence[Array], Array]:
        a, _, _, e, middle = _about_middle(h, w)
        if self.width_factor is None:
            a, e = a + e, 0 * e
        (low, high), (left, right) = self.height_factor, self.width_factor or (0.0, 0.0)
        return ((high - low) * a, (right - left) * e), middle + (1 + low) * a + (1 + left) * e

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        width = None if self.width_factor is None else list(self.width_factor)
        return {"height_factor": list(self.height_factor), "width_factor": width, **super().get_config()}


class RandomTranslation(_Random):
    """Images moved by a share of their height out of ``height_factor``, and of their width likewise."""

    def __init__(self, height_factor: Any, width_factor: Any, fill_mode: str = "reflect", **options: Any) -> None:
        self.height_factor = _range("height_factor", height_factor, -1.0)
        self.width_factor = _range("width_factor", width_factor, -1.0)
        super().__init__(fill_mode, **options)

    def _affine(self, h: int, w: int) -> tuple[Sequence[Array], Array]:
        down, across = np.array((0.0, 0.0, -h, 0.0, 0.0, 0.0)), np.array((0.0, 0.0, 0.0, 0.0, 0.0, -w))
        (low, high), (left, right) = self.height_factor, self.width_factor
        still = np.array((1.0, 0.0, 0.0, 0.0, 1.0, 0.0)) + low * down + left * across
        return ((high - low) * down, (right - left) * across), still

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        factors = {"height_factor": list(self.height_factor), "width_factor": list(self.width_factor)}
        return {**factors, **super().get_config()}


class _Recolored(Drawing):
    """Images whose numbers training changes by one that is drawn for each; what leaves ``value_range`` is cut off."""

    def __init__(self, value_range: Any = (0, 255), seed: int | None = None, **options: Any) -> None:
        self.value_range = _range("value_range", value_range, -math.inf)
        super().__init__(seed, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The shape of the inputs; ValueError where they are no images."""
        return _of_images(self.name, input_shape)

    def call(self, inputs: Any, training: Any = False) -> Any:
        """Images of other numbers in training; else the images."""
        if not training:
            return inputs
        numbers = ops.random_uniform(constant(0.0, inputs, (inputs.shape[0], 1)), *self._draw(training), *self._drawn())
        return ops.clip(self._changed(inputs, numbers.reshape(-1, 1, 1, 1)), *self.value_range)

    def _drawn(self) -> tuple[float, float]:
        """Between what the numbers are drawn."""
        raise undefined(self, "_drawn()")

    def _changed(self, images: Any, numbers: Any) -> Any:
        """Images by such numbers (n, 1, 1, 1)."""
        raise undefined(self, "_changed(images, numbers)")

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"value_range": list(self.value_range), **super().get_config()}


class RandomBrightness(_Recolored):
    """To images is added a share out of ``factor`` of ``value_range``: a number for both ways, or a pair in [-1, 1]."""

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **options: Any) -> None:
        self.factor = _range("factor", factor, -1.0, 1.0)
        super().__init__(value_range, seed, **options)

    def _drawn(self) -> tuple[float, float]:
        width = self.value_range[1] - self.value_range[0]
        return self.factor[0] * width, self.factor[1] * width

    def _changed(self, images: Any, numbers: Any) -> Any:
        return ops.add(images, numbers)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"factor": list(self.factor), **super().get_config()}


class RandomContrast(_Recolored):
    """(x - mean) * c + mean of each channel of an image, c out of [1 - lower, 1 + upper].

    ``factor`` is (lower, upper), or one number for both, in [0, 1].
    """

    def __init__(self, factor: Any, value_range: Any = (0, 255), seed: int | None = None, **options: Any) -> None:
        pair = factor if isinstance(factor, (list, tuple)) else (factor, factor)
        self.factor = _range("factor", pair, 0.0, 1.0, in_order=False)
        super().__init__(value_range, seed, **options)

    def _drawn(self) -> tuple[float, float]:
        return 1 - self.factor[0], 1 + self.factor[1]

    def _changed(self, images: Any, numbers: Any) -> Any:
        mean = ops.mean(images, axis=(1, 2), keepdims=True)
        return ops.add(ops.multiply(ops.subtract(images, mean), numbers), mean)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"factor": list(self.factor), **super().get_config()}


class RandomCrop(_Random):
    """In training a part of ``height`` x ``width`` places, at the same random place of all images of a batch.

    Other passes, and images that are not larger both ways, give the largest part in the middle that has these
    proportions, resized where it is of another size.
    """

    recordable = True

    def __init__(
        self, height: int, width: int, seed: int | None = None, data_format: str | None = None, **options: Any
    ) -> None:
        self._middle = Resizing(height, width, crop_to_aspect_ratio=True, name="middle")
        self.height, self.width = self._middle.height, self._middle.width
        super().__init__("nearest", "nearest", seed, data_format=data_format, **options)

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """The sizes that are wanted."""
        n, *_, channels = super().compute_output_shape(input_shape)
        return n, self.height, self.width, channels

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Parts of a batch, and the images with where these are, None where they are in the middle."""
        n, h, w, _ = x.shape
        if not (training and h > self.height and w > self.width):
            y, kept = self._middle.forward(x)
            return y, (kept, None)
        drawn = ops.random_uniform(constant(0.0, x, (1, 2)), *self._draw(training))
        first = [self._first(drawn[:, :1], h - self.height), self._first(drawn[:, 1:], w - self.width)]
        down, across = np.array(((0.0, 0.0, 1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)))
        still = _beside((1.0, 0.0, 0.0, 0.0, 1.0, 0.0), x)
        matrix = ops.linear(ops.concatenate(first, axis=1), _beside((down, across), x), still)
        matrices = ops.multiply(constant(1.0, x, (n, 1)), matrix)
        given = matrices, self.height, self.width, self.interpolation, self.fill_mode, self.fill_value
        return ops.affine_sample2d(x, *given), (x, given)

    def _first(self, number: Array, most: int) -> Array:
        """A number (1, 1) in [0, 1) as one of 0, 1, ..., most, as often: how many of their bounds it reaches."""
        bounds = _beside(np.arange(1, most + 1)[None] / (most + 1), number)
        found: Array = ops.sum(ops.binary_step(ops.subtract(number, bounds)), axis=1, keepdims=True)
        return found

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """To the places that were taken."""
        inputs, given = kept
        return self._middle.backward(dy, inputs, need_dx) if given is None else super().backward(dy, kept, need_dx)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        config = {"height": self.height, "width": self.width, **super().get_config()}
        return {
            name: value for name, value in config.items() if name not in ("fill_mode", "interpolation", "fill_value")
        }


# How categories are rows of numbers.
_ENCODINGS = ("multi_hot", "one_hot", "count")


def _encoded_shape(shape: BatchShape, size: int, mode: str) -> BatchShape:
    """A row for each sample; of "one_hot" one for each number, in place of an axis of one place."""
    if mode == "one_hot":
        return (*(shape[:-1] if len(shape) > 1 and shape[-1] == 1 else shape), size)
    return (*shape[:-1], size) if len(shape) > 1 else (*shape, size)


def _encoded(x: Array, size: int, mode: str, dtype: str | None) -> Array:
    """Categories in [0, size) as such rows, in a dtype."""
    rows: Array = ops.one_hot(x, size, dtype=str(np.dtype(dtype or "float32")))
    if mode == "one_hot":
        return rows.reshape(_encoded_shape(tuple(x.shape), size, mode))
    if len(x.shape) == 1:
        return rows
    found: Array = ops.max(rows, axis=-2) if mode == "multi_hot" else ops.sum(rows, axis=-2)
    return found


class Discretization(Layer):
    """Numbers as the bins that they are in: ``bin_boundaries`` are in order, each the beginning of a bin.

    Or ``adapt(data)`` finds those of ``num_bins`` bins that as many of the data are in, exactly: Keras's ``epsilon``,
    by which they may be wrong, has no effect. ``output_mode`` is "int", or as that of ``CategoryEncoding``.
    """

    def __init__(
        self,
        bin_boundaries: Any = None,
        num_bins: int | None = None,
        epsilon: float = 0.01,
        output_mode: str = "int",
        **options: Any,
    ) -> None:
        if (bin_boundaries is None) == (num_bins is None):
            raise ValueError("bin_boundaries, num_bins: got both or none, wants one of them")
        self.num_bins = None if num_bins is None else checks.positive_int("num_bins", num_bins)
        self.bin_boundaries = None if bin_boundaries is None else _in_order("bin_boundaries", bin_boundaries)
        self.epsilon = checks.real("epsilon", epsilon, minimum=0)
        self.output_mode = checks.one_of("output_mode", output_mode, ("int", *_ENCODINGS))
        super().__init__(**options)

    @property
    def _bins(self) -> int:
        if self.bin_boundaries is None:
            raise ValueError(f"{self.name}: got no data to adapt to, wants adapt(data) before it is called")
        return len(self.bin_boundaries) + 1

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """That of the numbers; of other modes than "int" rows of as many places as there are bins."""
        return input_shape if self.output_mode == "int" else _encoded_shape(input_shape, self._bins, self.output_mode)

    def adapt(self, data: Any, batch_size: int | None = None, steps: int | None = None) -> None:
        """Take the boundaries that part the data into bins of as many."""
        if self.num_bins is None:
            raise ValueError(f"{self.name}: got bin_boundaries and data to adapt to, wants one of them")
        shares = np.arange(1, self.num_bins) / self.num_bins
        self.bin_boundaries = np.quantile(numeric_array("data", data).astype(np.float64), shares).tolist()

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Bins as int64, or the rows that encode them; nothing is kept."""
        size = self._bins
        found = np.digitize(x, self.bin_boundaries or [])
        return found if self.output_mode == "int" else _encoded(found, size, self.output_mode, self.dtype), None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """None: bins have no derivative."""
        return None, ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        given = self.num_bins if self.bin_boundaries is None else None
        own = {"epsilon": self.epsilon, "output_mode": self.output_mode}
        return {"bin_boundaries": self.bin_boundaries, "num_bins": given, **own, **super().get_config()}


def _in_order(name: str, boundaries: Any) -> list[float]:
    found = [checks.real(f"{name}[{place}]", each) for place, each in enumerate(boundaries)]
    if found != sorted(found):
        raise ValueError(f"{name}: got {found}, wants numbers in order")
    return found


class CategoryEncoding(Layer):
    """Categories, integers in [0, num_tokens), as rows of numbers: "multi_hot", "one_hot" or "count" of each sample."""

    recordable = True

    def __init__(self, num_tokens: int | None = None, output_mode: str = "multi_hot", **options: Any) -> None:
        if num_tokens is None:
            raise ValueError("num_tokens: got None, wants the number of categories")
        self.num_tokens = checks.positive_int("num_tokens", num_tokens)
        self.output_mode = checks.one_of("output_mode", output_mode, _ENCODINGS)
        super().__init__(**options)

    @property
    def indices(self) -> int:
        """How many categories there are."""
        return self.num_tokens

    def compute_output_shape(self, input_shape: BatchShape) -> BatchShape:
        """A row for each sample; of "one_hot" one for each number, in place of an axis of one place."""
        return _encoded_shape(input_shape, self.num_tokens, self.output_mode)

    def forward(
        self, x: Array, training: Training = False, activate: bool = True, mask: Any = None
    ) -> tuple[Array, Any]:
        """Rows; nothing is kept."""
        return _encoded(x, self.num_tokens, self.output_mode, self.dtype), None

    def backward(self, dy: Array, kept: Any, need_dx: bool = True) -> tuple[Array | None, Sequence[Array]]:
        """None: categories have no derivative."""
        return None, ()

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"num_tokens": self.num_tokens, "output_mode": self.output_mode, **super().get_config()}
